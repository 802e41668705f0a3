"""What a run trained, or a folder that was imported, handed on in the form of diffusers, transformers and PEFT.

Each function writes a folder of ours, whole or not at all, and returns the lines that say what is in it.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from signer_jax import mirror, outside, storage
from signer_jax import model as models
from signer_jax import workdir as folders
from signer_jax.errors import SignerError
from signer_jax.interop import importing, kept, lora, pipelines, state_dict, t5, wan
from signer_jax.interop.later import Read, later
from signer_jax.interop.names import Described, held_as
from signer_jax.interop.shards import TYPES, Watch
from signer_jax.model import Model
from signer_jax.opened import described
from signer_jax.renderer.latents import LatentStore
from signer_jax.renderer.variants import VARIANTS
from signer_jax.settings import Settings
from signer_jax.slul.byte_pieces import says_bytes
from signer_jax.slul.t5 import T5
from signer_jax.training.checkpoints import read_params, read_sizes
from signer_jax.training.held import Weights
from signer_jax.training.there import latest_step

KIND = "set of exported weights"
_TOGETHER = 1 << 26  # bytes that are read at a time, but for a single array that has more: groups lie beside each other
# Adapters of the models that other libraries have: of the control branch there are none elsewhere.
_ADAPTER = re.compile(r"(renderer/transformer|slul)/.*/lora_[ab]$")


def of_imported(kind: str, path: Path, out: Path, type_: str | None, watch: Watch | None = None) -> list[str]:
    """A folder that was imported, once more; with the index that a pipeline of diffusers needs, where it has none.

    Raises `SignerError` where it holds nothing of the asked kind.
    """
    found = (importing.look_at_wan if kind == "wan" else importing.look_at_t5)(path)
    variants = importing.variants_of(found)
    lines: list[str] = []
    also = None
    if kind == "wan" and found.whole and not found.index and variants and found.part("vae"):
        variant, there = VARIANTS[variants[0]], [part.name for part in found.parts]
        there += [name for name in importing.SETTINGS if (path / name).is_dir()]
        if pipelines.pipeline_class(variant):
            also = partial(_indexed, variant=variant, there=there, out=out, lines=lines)
    elif found.index and (part := found.part("transformer")):
        code = pipelines.code_of(path, found.index, clip=part.model.module.image_dim is not None)
        lines += [f"load it with {code.replace('FOLDER', _quoted(out))}"] if code else []
    importing.copy(found, out, kind=type_, watch=watch, also=also)
    return [f"{out}: {', '.join(part.kind for part in found.parts)}, as they were imported", *lines]


def _indexed(folder: Path, *, variant: Any, there: list[str], out: Path, lines: list[str]) -> None:
    if "scheduler" not in there:
        small = f" (at 720p; {variant.shift_480p:g} at 480p)" if variant.shift_480p is not None else ""
        lines.append(f"no scheduler was there: it is written with the published flow_shift, {variant.shift:g}{small}")
    lines.append(
        f"load it with {pipelines.write_index(folder, variant, variant.shift, there)}".replace("FOLDER", _quoted(out))
    )


# ---- The video model -------------------------------------------------------------------------------------------------


def export_wan(workdir: Path, out: Path, type_: str = "F32", watch: Watch | None = None) -> list[str]:
    """A run's renderer as a pipeline of diffusers. Raises `SignerError` where it has none, or one of its own kind."""
    variant = _published_variant(workdir)
    weights = described(workdir)
    _check_place(out, weights.shapes["renderer"], type_, float32=weights.shapes["vae"], encoders=workdir / kept.NAME)
    settings, model = weights.settings, weights.model
    module, vae = model.renderer.transformer, _with_constants(settings, model, workdir)
    lines = []
    with storage.new_folder(out, KIND) as folder:
        # Some arrays of one model are in memory at a time, a published one has 57 GB; all are of the same checkpoints.
        rest: dict[str, Any] = {}
        read = _reader(weights, "renderer", "vae")
        for place, name in zip(wan.PIPELINE, variant.experts or ("",), strict=False):
            at = f"transformer/{name}/" if name else "transformer/"
            beside = pipelines.write_transformer(
                folder, place, module, _later(weights, read, f"renderer/{at}"), type_, watch
            )
            rest |= {at + path: value for path, value in beside.items()}
        rest |= flatten_dict(_later(weights, read, "renderer/", but="renderer/transformer/"), sep="/")
        # In float32, which it encodes in, whatever the others' type.
        pipelines.write_vae(folder, vae, _later(weights, read, "vae/"), "F32", watch)
        there = pipelines.copy_encoders(folder, workdir / kept.NAME, None, watch)
        parts = [*wan.PIPELINE[: max(1, len(variant.experts))], "vae", *there]
        lines.append(f"{out}: {settings.renderer.variant}, {', '.join(parts)}")
        if pipelines.pipeline_class(variant):
            code = pipelines.write_index(folder, variant, settings.renderer.shift, there)
            lines.append(f"load it with {code.replace('FOLDER', _quoted(out))}")
        else:
            lines.append("diffusers has no pipeline for it: load transformer and vae by their classes")
        if rest:
            about = {
                "made_by": storage.MADE_BY, "variant": settings.renderer.variant,
                "renderer": json.dumps(asdict(settings.renderer)),
            }  # fmt: skip
            pipelines.write_rest(folder, rest, about, type_)
            lines.append(_said_of(rest))
    return lines


def _reader(weights: Weights, *parts: str) -> Read:
    """Reads a run's parameters of these parts, in float32, adapters merged: all of the same checkpoints."""
    kinds = weights.whole(parts)
    read = weights.reader(kinds, weights.settings.stages, merged=kinds)
    return lambda paths: flatten_dict(read({path: kinds[path] for path in paths}), sep="/")


def _later(weights: Weights, read: Read, prefix: str, but: str = "\0") -> dict[str, Any]:
    """A part of a run's parameters: those whose paths begin so. Each is read when it is written."""
    shapes = {
        path: leaf.shape for path, leaf in sorted(flatten_dict(weights.shapes, sep="/").items())
        if path.startswith(prefix) and not path.startswith(but)
    }  # fmt: skip
    found = later(shapes, read, together=_TOGETHER)
    return unflatten_dict({path.removeprefix(prefix): value for path, value in found.items()}, sep="/")


def _published_variant(workdir: Path) -> Any:
    """The variant of a run. Raises `SignerError` where it is none of the published ones."""
    settings = folders.load_settings(workdir)
    if not any("renderer" in models.TRAINED[stage] for stage in settings.stages):
        raise SignerError(
            f"{workdir}: this run has no renderer (stages {settings.stages}), so there is no Wan to export; t5 exports "
            "its SLUL"
        )
    name = settings.renderer.variant
    if VARIANTS[name].sizes is None:
        raise SignerError(
            f"{workdir}: its renderer is this project's own (config.renderer.variant {name!r}), which no class of "
            "diffusers has; train one of the published variants"
        )
    return VARIANTS[name]


def _check_place(out: Path, shapes: Any, type_: str, *, float32: Any = None, encoders: Path | None = None) -> None:
    """Raises `SignerError` where the name is taken or the disk too full, before gigabytes of weights are read.

    Written are parameters of these shapes in `type_`, others in float32, and copies of the `encoders` of a folder.
    """
    storage.check_replaceable(out, KIND)
    numbers = sum(
        leaf.size * held_as(path, TYPES[type_]).itemsize for path, leaf in flatten_dict(shapes, sep="/").items()
    )
    plain = sum(leaf.size * 4 for leaf in jax.tree.leaves(float32))
    folders = [encoders / name for name in ("text_encoder", "image_encoder")] if encoders else []
    copied = sum(file.stat().st_size for folder in folders for file in folder.glob("*.safetensors"))
    storage.check_room(out, numbers + plain + copied)


def _with_constants(settings: Settings, model: Model, workdir: Path) -> Any:
    """The autoencoder, its config's constants being those that the transformer's latents were normalised by."""
    if models.latent_constants(model, settings) is not None:
        return model.vae
    store = LatentStore.open(workdir / "latents")
    return model.vae.clone(latents_mean=tuple(map(float, store.mean)), latents_std=tuple(map(float, store.std)))


def _said_of(rest: Mapping[str, Any]) -> str:
    groups = {
        "the control branch": lambda name: name.startswith(("control/", "stem/", "head/")),
        "SLUL's features beside the text": lambda name: "semantics" in name,
    }
    counts = {what: sum(math.prod(v.shape) for n, v in rest.items() if has(n)) for what, has in groups.items()}
    others = sum(math.prod(v.shape) for v in rest.values()) - sum(counts.values())
    counts |= {"others": others}
    told = " and ".join(f"{what} ({count:,} parameters)" for what, count in counts.items() if count)
    return f"diffusers has no place for {told}: in {pipelines.OURS}.safetensors beside; its output is without them"


# ---- SLUL ------------------------------------------------------------------------------------------------------------


def export_t5(workdir: Path, out: Path, type_: str = "F32", watch: Watch | None = None) -> list[str]:
    """A run's SLUL as a T5 of transformers, with its vocabulary. Raises `SignerError` where the run has none."""
    settings = folders.load_settings(workdir)
    if not any("slul" in models.TRAINED[stage] for stage in settings.stages):
        raise SignerError(f"{workdir}: this run has no SLUL (stages {settings.stages}), so there is no T5 to export")
    weights = described(workdir)
    _check_place(out, weights.shapes["slul"], type_)
    settings = weights.settings
    vocabulary = Path(settings.tokenizer.path) if settings.tokenizer.path else workdir / "tokenizer.model"
    config, tensors = t5.theirs(weights.model.slul, _later(weights, _reader(weights, "slul"), "slul/"))
    with storage.new_folder(out, KIND) as folder:
        state_dict.write_into(folder, config, state_dict.entries_of(tensors, type_), "model", watch)
        data = outside.plain_file(vocabulary, "restore it").read_bytes()
        file = importing.BYTES if says_bytes(data) else importing.SPIECE
        (folder / file).write_bytes(data)
    name = config["architectures"][0]
    return [f"{out}: {name}, {file}", f"load it with transformers.{name}.from_pretrained({_quoted(out)})"]


# ---- Adapters --------------------------------------------------------------------------------------------------------


def export_lora(workdir: Path, out: Path) -> list[str]:
    """A run's adapters, for diffusers' `load_lora_weights` and for PEFT, each read back before the folder is there.

    Raises `SignerError` where the run trained none, or none on published weights.
    """
    settings = folders.load_settings(workdir)
    storage.check_replaceable(out, KIND)
    trees, others = _adapters(settings, workdir)
    settings = kept.local(settings, workdir)
    if not trees:
        raise SignerError(
            f"{workdir}: no stage of this run trained adapters; train with --config.train.STAGE.trains=lora"
        )
    bases = {"renderer": settings.renderer.init, "slul": settings.slul.init}
    if not any(bases[part] for part in trees):
        part = next(iter(trees))
        raise SignerError(
            f"{workdir}: its adapters lie on weights that it trained itself (config.{part}.init is empty), so there is "
            "nothing to load them onto; export the whole model"
        )
    scale, lines = settings.lora.alpha / settings.lora.rank, []
    with storage.new_folder(out, KIND) as folder:
        for where, module, shapes, adapters in _placed(settings, trees):
            inside, shown = folder / where, out / where
            inside.mkdir(exist_ok=True)
            peft = inside / "peft"
            if not isinstance(module, T5):
                lora.write_diffusers(inside, module, adapters, scale)
                lora.check_written(inside / lora.DIFFUSERS_FILE, module, shapes, adapters, scale)
                second = ", load_into_transformer_2=True" if where == wan.PIPELINE[1] else ""
                lines.append(f"diffusers: pipeline.load_lora_weights({_quoted(shown)}{second})")
            else:
                peft = inside
            peft.mkdir(exist_ok=True)
            lora.write_peft(peft, module, adapters, scale)
            layers = lora.check_written(peft / lora.PEFT_FILE, module, shapes, adapters, scale)
            rank = max(v.shape[-1] for n, v in flatten_dict(adapters, sep="/").items() if n.endswith("/lora_a"))
            lines.append(f"PEFT: PeftModel.from_pretrained(model, {_quoted(out / peft.relative_to(folder))})")
            what = "T5" if isinstance(module, T5) else where or wan.PIPELINE[0]
            lines.insert(
                0, f"{shown}: {layers} layers of the {what}, rank {rank}, alpha / rank {scale:g}; read back whole"
            )
    if others:
        lines.append(
            f"beside the adapters the run trained {others:,} parameters, which no LoRA holds; export wan has them"
        )
    return lines


def _adapters(settings: Settings, workdir: Path) -> tuple[dict[str, dict], int]:
    """By part (`renderer`, `slul`) all stages' adapters as one tree, and how many more of those parts' parameters the
    run trained, in whatever stage: the adapters of one lie on what another made of the published weights.
    """
    found: dict[str, list[dict]] = {}
    others: dict[str, int] = {}
    adapting = [stage for stage in settings.stages if "lora" in settings.stage(stage).trains]
    for stage in settings.stages if adapting else ():
        directory = mirror.checkpoints(workdir) / stage
        step, steps = latest_step(directory), settings.stage(stage).steps
        if step != steps:
            raise SignerError(
                f"{workdir}: stage {stage!r} stands at step {step or 0} of {steps}; train it to its end first"
            )
        others |= {name: size for name, size in read_sizes(directory).items() if not _ADAPTER.match(name)}
        for part, tree in read_params(directory).items() if stage in adapting else ():
            flat = flatten_dict(tree, sep="/")
            if adapters := {name: value for name, value in flat.items() if _ADAPTER.match(f"{part}/{name}")}:
                found.setdefault(part, []).append(unflatten_dict(adapters, sep="/"))
    counted = sum(size for name, size in others.items() if name.partition("/")[0] in found)
    return {part: lora.combined(trees) for part, trees in found.items()}, counted


def _placed(settings: Settings, trees: Mapping[str, dict]) -> list[tuple[str, Any, dict, dict]]:
    """For each model of the export its folder there, our module, the shapes of its parameters and its adapters."""
    placed = []
    if "renderer" in trees and settings.renderer.init:
        experts = VARIANTS[settings.renderer.variant].experts
        parts = wan.folders_of(settings.renderer.init, experts)
        tree = trees["renderer"]["transformer"]
        for name, path, place in zip(experts or ("",), parts, wan.PIPELINE, strict=False):
            if not name or name in tree:
                described = wan.describe_transformer(path)
                placed.append(
                    (place if name else "", described.module, _shapes(described), tree[name] if name else tree)
                )
    if "slul" in trees and settings.slul.init:
        described = t5.describe(settings.slul.init)
        placed.append(("slul", described.module, _shapes(described), trees["slul"]))
    return placed


def _shapes(described: Described) -> dict:
    return described.init()["params"]


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)
