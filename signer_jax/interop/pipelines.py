"""A renderer in the layout of its variant as a folder that a pipeline class of diffusers loads.

What diffusers has no place for (the control branch, SLUL's features beside the text) goes into one more file beside it,
`signer_jax.safetensors`, under this project's own names.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flax.traverse_util import unflatten_dict

from signer_jax import storage
from signer_jax.errors import SignerError
from signer_jax.interop import shards, state_dict, wan
from signer_jax.interop.importing import INDEX, SETTINGS
from signer_jax.interop.model_config import plain_inside, read_json
from signer_jax.renderer.vae import VideoVAE
from signer_jax.renderer.variants import Variant
from signer_jax.renderer.video_transformer import VideoTransformer

OURS = "signer_jax"  # the stem of our file
_ENCODERS = ("text_encoder", "tokenizer", "image_encoder", "image_processor")
_SCHEDULER = {
    "_class_name": "UniPCMultistepScheduler", "_diffusers_version": wan.WRITTEN_FOR, "num_train_timesteps": 1000,
    "prediction_type": "flow_prediction", "use_flow_sigmas": True, "solver_order": 2, "solver_type": "bh2",
    "predict_x0": True, "lower_order_final": True, "final_sigmas_type": "zero",
}  # fmt: skip


def pipeline_class(variant: Variant) -> str | None:
    """The class of diffusers' that runs a variant; None where it has none (Fun-Control)."""
    if variant.face is not None:
        return "WanAnimatePipeline"
    if variant.pose == "channels":
        return None
    return "WanImageToVideoPipeline" if "image" in variant.streams else "WanPipeline"


def write_transformer(
    folder: Path, place: str, module: VideoTransformer, params: Mapping, kind: str, watch: shards.Watch | None
) -> dict[str, Any]:
    """Writes a transformer into its `place` in a pipeline's folder; returns what of `params` no published one has."""
    config, tensors, beside = wan.theirs(module, params)
    (folder / place).mkdir()
    state_dict.write_into(folder / place, config, state_dict.entries_of(tensors, kind, place), wan.STEM, watch)
    return beside


def write_vae(folder: Path, module: VideoVAE, params: Mapping, kind: str, watch: shards.Watch | None) -> None:
    config, tensors = wan.vae_theirs(module, params)
    (folder / "vae").mkdir()
    state_dict.write_into(folder / "vae", config, state_dict.entries_of(tensors, kind, "vae"), wan.STEM, watch)


def write_rest(folder: Path, rest: Mapping[str, Any], about: Mapping[str, str], kind: str) -> None:
    """Our file, with what says how it is read in its header."""
    shards.write(folder, OURS, state_dict.entries_of(rest, kind, OURS), about={"format": "pt", **about})


def read_rest(path: str | Path) -> dict:
    """The renderer's parameters of `signer_jax.safetensors`, a tree; numpy float32."""
    return unflatten_dict(state_dict.read_file(Path(path) / f"{OURS}.safetensors"), sep="/")


def copy_encoders(folder: Path, kept: Path, kind: str | None, watch: shards.Watch | None) -> list[str]:
    """Copies text and image encoder, tokenizer and the like where a run keeps them; returns their names."""
    done = []
    for name in ("text_encoder", "image_encoder"):
        if (kept / name).is_dir():
            (folder / name).mkdir()
            entries = [tensor.entry(kind) for tensor in state_dict.read_tensors(kept / name).values()]
            state_dict.write_into(folder / name, state_dict.read_config(kept / name), entries, "model", watch)
            done.append(name)
    for name, files in SETTINGS.items():
        there = [kept / name / file for file in files if (kept / name / file).exists()]
        if there and name != "scheduler":
            (folder / name).mkdir()
            for file in there:
                (folder / name / file.name).write_bytes(plain_inside(file, "restore it").read_bytes())
            done.append(name)
    return done


def _class_in(scheduler: Path) -> str:
    """The class that a scheduler's config names. Raises `SignerError` where it names none."""
    found = read_json(scheduler, "give the scheduler's own")
    name = found.get("_class_name")
    if not isinstance(name, str):
        raise SignerError(f"{scheduler}: names no class (_class_name); give the scheduler's own")
    return name


def write_index(folder: Path, variant: Variant, shift: float, there: list[str]) -> str:
    """Writes `model_index.json`, and a scheduler where the folder has none; returns the line of Python that loads it.

    `there` are the components beside transformers, VAE and scheduler; one that is there keeps its class and values, the
    shift among them. Raises `SignerError` where diffusers has no
    pipeline for the variant.
    """
    name = pipeline_class(variant)
    if name is None:
        raise SignerError(f"{folder}: diffusers has no pipeline for this variant")
    kind = wan.class_of(variant.face is not None)
    scheduler_file = folder / "scheduler" / SETTINGS["scheduler"][0]
    if not scheduler_file.exists():
        scheduler_file.parent.mkdir(exist_ok=True)
        scheduler_file.write_text(json.dumps(_SCHEDULER | {"flow_shift": shift}, indent=2) + "\n")
    components: dict[str, Any] = {
        "scheduler": ["diffusers", _class_in(scheduler_file)],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", kind],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    if name != "WanAnimatePipeline":
        components["transformer_2"] = ["diffusers", kind] if variant.experts else [None, None]
    if name != "WanPipeline":
        components["image_encoder"] = ["transformers", "CLIPVisionModel"]
        components["image_processor"] = ["transformers", "CLIPImageProcessor"]
    needs_clip = variant.clip_dim is not None
    missing = [part for part in _ENCODERS if part in components and part not in there]
    index: dict[str, Any] = {"_class_name": name, "_diffusers_version": wan.WRITTEN_FOR}
    if name != "WanAnimatePipeline":
        index |= {"boundary_ratio": variant.boundary, "expand_timesteps": variant.time == "token"}
    index |= {part: [None, None] if part in missing else value for part, value in components.items()}
    (folder / INDEX).write_text(storage.to_json(index), encoding="utf-8")
    return _code(name, missing, clip=needs_clip)


def code_of(folder: Path, index: Mapping[str, Any], *, clip: bool) -> str | None:
    """The line of Python that loads a pipeline's folder by the index that it has; None where the index names no class
    of Wan's, or what the folder has not. `clip`: a CLIP belongs to it.
    """
    name = index.get("_class_name")
    if not isinstance(name, str) or not re.fullmatch(r"Wan\w*Pipeline", name, re.ASCII):
        return None

    def there(part: str) -> bool:
        entry = index.get(part)
        return isinstance(entry, list) and any(entry) and (folder / part).is_dir()

    if not all(map(there, ("scheduler", "transformer", "vae"))):
        return None
    parts = _ENCODERS if name != "WanPipeline" else _ENCODERS[:2]
    return _code(name, [part for part in parts if not there(part)], clip=clip)


def _code(name: str, missing: Sequence[str], *, clip: bool) -> str:
    # What a pipeline must be given, and may be None; where no CLIP belongs to it, diffusers asks for none.
    given = [part for part in missing if clip or not part.startswith("image")]
    return f"diffusers.{name}.from_pretrained(FOLDER{''.join(f', {part}=None' for part in given)})"
