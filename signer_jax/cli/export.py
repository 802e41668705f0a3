"""`signer export`: what a run trained, in the form of other libraries."""

import argparse
from pathlib import Path
from typing import Any

from signer_jax.cli.common import command, distinct, inside_one_another
from signer_jax.cli.import_ import TYPES
from signer_jax.errors import SignerError, one_line


def add(commands: Any) -> None:
    parser = command(
        commands, "export", "Write a run's weights so that diffusers, transformers or PEFT load them.",
        "signer export wan runs/wan --out exported\n"
        "         signer export lora runs/wan --out my-lora", run,
    )  # fmt: skip
    parser.add_argument(
        "kind", choices=("wan", "t5", "lora"),
        help="wan: the renderer as a diffusers pipeline; t5: SLUL; lora: adapters, for diffusers and PEFT",
    )  # fmt: skip
    parser.add_argument("dir", help="a trained run, or a folder that signer import made")
    parser.add_argument("--out", required=True, help="the new folder")
    parser.add_argument(
        "--dtype", choices=tuple(TYPES), help="the type of the numbers there (float32; autoencoder and adapters always)"
    )


def run(arguments: argparse.Namespace) -> None:
    distinct({"DIR": arguments.dir}, {"--out": arguments.out})
    inside_one_another({"DIR": arguments.dir, "--out": arguments.out})
    path, out = Path(arguments.dir), Path(arguments.out)

    from signer_jax import export, storage
    from signer_jax.interop.importing import KIND
    from signer_jax.progress import progress

    storage.check_is_folder(path, arguments.dir)
    type_ = TYPES[arguments.dtype or "float32"]
    with progress((), "written", unit="B", unit_scale=True) as bar:
        if storage.is_run(path):
            lines = {
                "wan": lambda: export.export_wan(path, out, type_, bar.update),
                "t5": lambda: export.export_t5(path, out, type_, bar.update),
                "lora": lambda: export.export_lora(path, out),
            }[arguments.kind]()
        elif storage.kind_of(path) != KIND:
            raise SignerError(
                f"{path}: is neither a trained run nor a folder that signer import made; give one of them"
            )
        elif arguments.kind == "lora":
            raise SignerError(f"{path}: weights that were imported have no adapters; give a run that trained some")
        else:
            kept_type = TYPES[arguments.dtype] if arguments.dtype else None
            lines = export.of_imported(arguments.kind, path, out, kept_type, bar.update)
    print("\n".join(map(one_line, lines)))
