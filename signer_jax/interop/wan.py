"""Wan's transformers as published for diffusers: read into ours, written back.

`WanTransformer3DModel` and `WanAnimateTransformer3DModel` (whose face branch is in `wan_animate`). Wan's own form of
both (`wan_original`) is read too. The VAE's functions live in `wan_vae` and are exported from here too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from signer_jax.errors import SignerError
from signer_jax.interop import model_config, names, state_dict, wan_animate, wan_original
from signer_jax.interop.names import LEADING_ONE, Row, Turn, layer, layer_norm, stacked_at
from signer_jax.interop.wan_vae import describe_vae, load_vae, save_vae, vae_theirs
from signer_jax.renderer.variants import VARIANTS
from signer_jax.renderer.video_transformer import VideoTransformer

__all__ = [
    "describe_experts", "describe_transformer", "describe_vae", "load_experts", "load_transformer", "load_vae",
    "save_transformer", "save_vae", "vae_theirs",
]  # fmt: skip

PIPELINE = ("transformer", "transformer_2")  # their folders in a pipeline's
STEM = "diffusion_pytorch_model"  # of the weights' files
_CLASS = "WanTransformer3DModel"
WRITTEN_FOR = "0.42.1"  # the diffusers version whose config keys are written
_WIDTH = 1 << 20
_CONFIG = {
    "num_attention_heads": model_config.whole(4096),
    "attention_head_dim": model_config.whole(4096),
    "in_channels": model_config.whole(_WIDTH),
    "out_channels": model_config.whole(_WIDTH, optional=True),
    "ffn_dim": model_config.whole(_WIDTH),
    "num_layers": model_config.whole(1_000),
    "text_dim": model_config.whole(_WIDTH),
    "freq_dim": model_config.whole(_WIDTH, least=2),
    "patch_size": model_config.several(int, 3, 3, 1, 64),
    "image_dim": model_config.whole(_WIDTH, optional=True),
    "eps": model_config.number(1e-12, 0.1),
    "pos_embed_seq_len": model_config.whole(_WIDTH, optional=True),
    "cross_attn_norm": model_config.flag(),
    "added_kv_proj_dim": model_config.whole(4096 * 4096, optional=True),
}


def _patch_turn(in_channels: int, patch: tuple[int, int, int]) -> Turn:
    """Their strided convolution [d, c, t, y, x] is our dense layer over flattened patches [t·y·x·c, d]."""
    return Turn(
        lambda x: x.transpose(2, 3, 4, 1, 0).reshape(-1, x.shape[0]),
        lambda x: x.reshape(*patch, in_channels, -1).transpose(4, 3, 0, 1, 2),
    )


def table_of(module: VideoTransformer) -> list[Row]:
    embedder = "condition_embedder"
    rows = [
        *layer("patch_embedding", "patch_embedding", _patch_turn(module.in_channels, module.patch)),
        *layer("time_in", f"{embedder}.time_embedder.linear_1"),
        *layer("time_out", f"{embedder}.time_embedder.linear_2"),
        *layer("time_modulation", f"{embedder}.time_proj"),
        *layer("text_in", f"{embedder}.text_embedder.linear_1"),
        *layer("text_out", f"{embedder}.text_embedder.linear_2"),
        Row("modulation", "scale_shift_table", LEADING_ONE),
        *layer("patch_projection", "proj_out"),
    ]
    if module.image_dim is not None:
        image = f"{embedder}.image_embedder"
        rows += [
            *layer_norm("image_norm_in", f"{image}.norm1"),
            *layer("image_in", f"{image}.ff.net.0.proj"),
            *layer("image_out", f"{image}.ff.net.2"),
            *layer_norm("image_norm_out", f"{image}.norm2"),
        ]
    if module.face is None:
        return rows + _block_rows("layers", module)
    rows += layer("pose_patch_embedding", "pose_patch_embedding", _patch_turn(module.out_channels, module.patch))
    groups = wan_animate.groups(module)
    rows += stacked_at(_block_rows("layers/first", module), groups[:, 0])
    if module.face.every > 1:
        rows += stacked_at(_block_rows("layers/rest", module), groups[:, 1:])
    return rows + wan_animate.rows(module.face)


def _block_rows(block: str, module: VideoTransformer) -> list[Row]:
    rows = [
        Row(f"{block}/modulation", "blocks.{}.scale_shift_table", LEADING_ONE),
        *layer_norm(f"{block}/cross_norm", "blocks.{}.norm2"),
        *layer(f"{block}/wi", "blocks.{}.ffn.net.0.proj"),
        *layer(f"{block}/wo", "blocks.{}.ffn.net.2"),
    ]
    for ours, theirs in (("self_attention", "blocks.{}.attn1"), ("cross_attention", "blocks.{}.attn2")):
        ours = f"{block}/{ours}"
        for name, letter in (("query", "q"), ("key", "k"), ("value", "v")):
            rows += layer(f"{ours}/{name}", f"{theirs}.to_{letter}")
        rows += layer(f"{ours}/out", f"{theirs}.to_out.0")
        rows.append(Row(f"{ours}/query_norm/scale", f"{theirs}.norm_q.weight"))
        rows.append(Row(f"{ours}/key_norm/scale", f"{theirs}.norm_k.weight"))
    if module.image_dim is not None:
        cross = f"{block}/cross_attention"
        rows += [
            *layer(f"{cross}/image_key", "blocks.{}.attn2.add_k_proj"),
            *layer(f"{cross}/image_value", "blocks.{}.attn2.add_v_proj"),
            Row(f"{cross}/image_key_norm/scale", "blocks.{}.attn2.norm_added_k.weight"),
        ]
    return rows


def _module(config: Mapping, path: str | Path) -> VideoTransformer:
    animate = config.get("_class_name") == wan_animate.CLASS
    face = wan_animate.face_branch(config, path) if animate else None
    config = model_config.check(path, config, _CONFIG, f"a {wan_animate.CLASS if animate else _CLASS}")
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    module = VideoTransformer(
        in_channels=config["in_channels"],
        out_channels=config.get("out_channels", config["in_channels"]),
        dim=dim,
        heads=config["num_attention_heads"],
        ffn_dim=config["ffn_dim"],
        layers=config["num_layers"],
        text_dim=config["text_dim"],
        freq_dim=config["freq_dim"],
        patch=tuple(config["patch_size"]),
        image_dim=config.get("image_dim"),
        eps=config["eps"],
        face=face,
    )
    if face is not None:
        wan_animate.check(module, path)
    if config.get("pos_embed_seq_len") is not None:
        raise SignerError(f"{path}: a first-and-last-frame model (pos_embed_seq_len) is not supported; take an I2V one")
    if not config.get("cross_attn_norm", True):
        raise SignerError(f"{path}: cross_attn_norm false is not supported; published Wan transformers have it true")
    if config.get("added_kv_proj_dim") != (None if module.image_dim is None else dim):
        raise SignerError(f"{path}: added_kv_proj_dim must be {dim} with image_dim and null without; mend config.json")
    return module


def load_transformer(path: str | Path, place: names.Place | None = None) -> tuple[VideoTransformer, dict]:
    """The module and its parameters from a folder that diffusers' `save_pretrained` wrote, or of Wan's own form.

    The parameters are float32, on the host or where `place` has them (`names.to_ours`). Change how the module runs with
    `module.clone(dtype=..., remat=...)`. Raises `SignerError` for another class, for a configuration that no published
    T2V, I2V or TI2V model has, and for missing or unknown tensors.
    """
    return describe_transformer(path).load(place)


def describe_transformer(path: str | Path) -> names.Described:
    """The transformer of a folder, before its tensors are read; raises as `load_transformer` does."""
    config = state_dict.read_config(path)
    if (found := config.get("_class_name", _CLASS)) not in (_CLASS, wan_animate.CLASS, *wan_original.CLASSES):
        raise SignerError(f"{path}: holds a {str(found)[:80]}, not a {_CLASS}; give one")
    tensors = state_dict.read_tensors(path)
    if original := wan_original.holds(tensors):
        tensors = wan_animate.unpacked(tensors)
        config = wan_original.config_of(path, config, tensors)
    module = _module(config, path)
    table = table_of(module)
    # Some conversions of the image models carry a query norm that the forward pass never uses.
    optional: tuple[str, ...] = ("norm_added_q.weight",)
    if original:
        table = wan_original.renamed(table, module.face)
        optional = (*wan_original.UNREAD, *wan_animate.BLURS)
    return names.Described(path, module, table, tensors, _init(module), optional)


def in_diffusers_form(described: names.Described) -> tuple[dict[str, Any], dict[str, state_dict.FileTensor]]:
    """The config and the tensors of a transformer in a folder, by diffusers' names and with them.

    Those of a folder in diffusers' form are as they are there.
    """
    tensors: dict[str, Any] = dict(described.tensors)
    if not wan_original.holds(tensors):
        return state_dict.read_config(described.path), tensors
    rows = table_of(described.module)
    named = {
        row.theirs.format(i): tensors[own.theirs.format(i)]
        for row, own in zip(rows, wan_original.renamed(rows, described.module.face), strict=True)
        for i in range(described.module.layers if "{}" in row.theirs else 1)
        if own.theirs.format(i) in tensors  # an adapter belongs to several layers
    }
    return config_of(described.module), {name: replace(tensor, name=name) for name, tensor in named.items()}


def load_experts(
    path: str | Path, experts: Sequence[str], place: names.Place | None = None
) -> tuple[VideoTransformer, dict]:
    """The transformer of a folder, or of a pipeline's folder that holds it; of `experts` one each, by their names.

    A pipeline has its models in folders: `transformer`, and of two experts the one for less noise in `transformer_2`
    (Wan's own form: `high_noise_model` and `low_noise_model`).
    Raises `SignerError` where one is missing or the two are of different sizes; see `load_transformer`.
    """
    found = describe_experts(path, experts)
    if not experts:
        return found[""].load(place)
    params = {name: described.load(names.inside(place, name))[1] for name, described in found.items()}
    return next(iter(found.values())).module, params


def describe_experts(path: str | Path, experts: Sequence[str]) -> dict[str, names.Described]:
    """What `load_experts` reads, before it is read, by the experts' names, or "" where there are none; raises alike."""
    folders = folders_of(path, experts)
    found = {name: describe_transformer(folder) for name, folder in zip(experts or ("",), folders, strict=True)}
    if len({described.module for described in found.values()}) > 1:
        raise SignerError(f"{path}: its {' and '.join(PIPELINE)} have different sizes; take both from one model")
    return found


def folders_of(path: str | Path, experts: Sequence[str]) -> list[Path]:
    """The folders of the transformers that `load_experts` reads.

    Raises `SignerError` where one is missing, or there are two where one is asked for: half of a model is none.
    """
    folder = Path(path)
    both = PIPELINE if not all((folder / part).is_dir() for part in wan_original.EXPERTS) else wan_original.EXPERTS
    if not experts:
        inside = folder / both[0]
        if not inside.is_dir() or (folder / "config.json").exists():
            return [folder]
        if (folder / both[1]).is_dir():
            raise SignerError(
                f"{folder}: holds a model of two experts ({' and '.join(both)}), and config.renderer.variant is of "
                f"one; choose the variant that it is, {' or '.join(n for n, v in VARIANTS.items() if v.experts)}"
            )
        return [inside]
    for part in both:
        if not (folder / part).is_dir():
            raise SignerError(
                f"{folder}: holds no folder {part!r}; a model of two experts needs the whole pipeline's folder, with "
                f"{' and '.join(both)} in it"
            )
    return [folder / part for part in both]


def save_transformer(path: str | Path, module: VideoTransformer, params: Mapping) -> None:
    """Writes a folder that diffusers loads by the class's `from_pretrained` (safetensors, float32).

    Raises `SignerError` for a model whose output depends on SLUL's features: diffusers has no place for them.
    """
    config, tensors, rest = theirs(module, params)
    if any(np.any(np.asarray(value)) for name, value in rest.items() if name.endswith("semantics_gate")):
        raise SignerError(
            f"{path}: this model reads SLUL's features beside its text (a semantics_gate is not 0), which diffusers "
            "has no place for; keep it in this project's own form, or train it without SLUL"
        )
    state_dict.write(path, config, tensors, name=STEM)


def class_of(face: bool) -> str:
    """diffusers' class of a transformer with a face branch, or without one."""
    return wan_animate.CLASS if face else _CLASS


def theirs(module: VideoTransformer, params: Mapping) -> tuple[dict, dict[str, names.Theirs], dict[str, Any]]:
    """The config and the tensors of diffusers' class, and what of `params` has no place there, by its path."""
    table = table_of(module)
    placed = {row.ours for row in table}
    rest = {name: value for name, value in flatten_dict(dict(params), sep="/").items() if name not in placed}
    return config_of(module), names.theirs_of(table, params), rest


def config_of(module: VideoTransformer) -> dict[str, Any]:
    """The config of diffusers' class."""
    config = {
        "_class_name": _CLASS,
        "_diffusers_version": WRITTEN_FOR,
        "patch_size": list(module.patch),
        "num_attention_heads": module.heads,
        "attention_head_dim": module.dim // module.heads,
        "in_channels": module.in_channels,
        "out_channels": module.out_channels,
        "text_dim": module.text_dim,
        "freq_dim": module.freq_dim,
        "ffn_dim": module.ffn_dim,
        "num_layers": module.layers,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": module.eps,
        "image_dim": module.image_dim,
        "added_kv_proj_dim": None if module.image_dim is None else module.dim,
        "rope_max_seq_len": 1024,
        "pos_embed_seq_len": None,
    }
    return config if module.face is None else config | wan_animate.config_of(module)


def _init(module: VideoTransformer) -> Callable[[], Any]:
    b, s, (t, y, x) = 1, 1, module.patch
    frames = t if module.face is None else 2 * t

    def shape(*sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((b, *sizes), jnp.float32)

    options: dict[str, Any] = {}
    if module.image_dim is not None:
        options["image"] = shape(s, module.image_dim)
    if module.face is not None:
        options["pose"] = shape(frames - 1, y, x, module.out_channels)
    inputs = (shape(frames, y, x, module.in_channels), shape(), shape(s, module.text_dim))
    return names.shapes_of(module, *inputs, **options)
