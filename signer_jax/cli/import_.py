"""`signer import`: published weights into a folder of ours, looked at on the way."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signer_jax.cli.common import command, distinct, inside_one_another, table
from signer_jax.errors import one_line

if TYPE_CHECKING:
    from signer_jax.interop.importing import Found

# The shipped config of a variant; `wan:VARIANT` is the others'.
CONFIGS = {
    "wan2.1-t2v-1.3b": "wan_t2v_1_3b", "wan2.1-t2v-14b": "wan_t2v_14b", "wan2.2-t2v-a14b": "wan_a14b",
    "wan2.2-ti2v-5b": "wan_ti2v_5b", "wan2.2-animate-14b": "wan_animate_14b",
}  # fmt: skip
TYPES = {"float32": "F32", "bfloat16": "BF16"}


def add(commands: Any) -> None:
    parser = command(
        commands, "import", "Copy published weights into a folder that configs can name, checked on the way.",
        "signer import wan Wan2.1-T2V-1.3B-Diffusers --out weights/wan\n"
        "         signer import t5 flan-t5-base --out weights/t5", run,
    )  # fmt: skip
    parser.add_argument("kind", choices=("wan", "t5"), help="wan: a diffusers pipeline, or one of its models; t5: SLUL")
    parser.add_argument(
        "src",
        help="the folder that diffusers, transformers or t5x saved, or that was downloaded",
    )
    parser.add_argument("--out", required=True, help="the new folder")
    parser.add_argument(
        "--dtype",
        choices=tuple(TYPES),
        help="the type of the numbers there; the autoencoder keeps its own, and norms and the like are float32",
    )


def run(arguments: argparse.Namespace) -> None:
    distinct({"SRC": arguments.src}, {"--out": arguments.out})
    inside_one_another({"SRC": arguments.src, "--out": arguments.out})

    from signer_jax import storage
    from signer_jax.interop import importing
    from signer_jax.progress import progress

    found = (importing.look_at_wan if arguments.kind == "wan" else importing.look_at_t5)(arguments.src)
    kind = TYPES[arguments.dtype] if arguments.dtype else None
    size = importing.written_size(found, kind)
    storage.check_room(arguments.out, size)
    with progress((), "copied", total=size, unit="B", unit_scale=True) as bar:
        importing.copy(found, arguments.out, kind=kind, watch=bar.update)
    print("\n".join(map(one_line, said(found, arguments.out, arguments.dtype))))


def said(found: "Found", out: str, dtype: str | None) -> list[str]:
    """What was found, in lines: the kind, a table of its models, what was left out, and the next command."""
    from signer_jax import storage
    from signer_jax.interop import importing, shards

    variants = importing.variants_of(found)
    pipeline = str(found.index.get("_class_name", "no model_index.json")) if found.whole else "one model"
    laid_out = f", laid out as {variants[0]}" if variants else ""
    other = f" (or {', '.join(variants[1:])})" if len(variants) > 1 else ""
    lines = [f"{out}: {pipeline}{laid_out}{other}"]
    rows: list[tuple[str, ...]] = []
    for part in found.parts:
        known = importing.published(found, part)
        shown = f"{known:,}" if known else "-"
        kinds = {entry.kind for entry in importing.entries_of(part, TYPES[dtype] if dtype else None)}
        stored = ", ".join(sorted(str(shards.TYPES[kind]) for kind in kinds))
        rows.append((part.name, part.kind, f"{part.parameters:,}", shown, stored, storage.gigabytes(part.size)))
    lines += table(rows, ("part", "class", "parameters", "published", "stored as", "read")).splitlines()
    if found.left_out:
        more = f" and {len(found.left_out) - 5} more" if len(found.left_out) > 5 else ""
        lines.append(f"left out: {', '.join(found.left_out[:5])}{more}")
    return [*lines, *found.notes, f"next: {next_command(found, out)}"]


def next_command(found: "Found", out: str) -> str:
    """What names the folder in a run."""
    from signer_jax.interop import importing

    names = {part.name for part in found.parts}
    if names == {"t5"}:
        vocabulary = importing.vocabulary_of(Path(out)) or importing.SPIECE
        given = {"slul.init": out, "tokenizer.path": str(vocabulary), "tokenizer.mask": "<extra_id_0>"}
        return f"signer train --config CONFIG --workdir DIR{_flags(given)}"
    variants = importing.variants_of(found)
    given = {}
    config = CONFIGS.get(variants[0], f"wan:{variants[0]}") if variants else "CONFIG"
    if variants:
        given["renderer.init"] = out
    if "vae" in names:
        given["vae.init"] = f"{out}/vae" if found.whole else out
    for name in ("text_encoder", "image_encoder"):
        if name in names:
            given[f"renderer.{name}"] = f"{out}/{name}" if found.whole else out
    return f"signer train --config {config} --workdir DIR{_flags(given)}"


def _flags(given: dict[str, str]) -> str:
    import shlex

    return "".join(f" --config.{name}={shlex.quote(value)}" for name, value in given.items())
