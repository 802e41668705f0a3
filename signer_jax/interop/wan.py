"""Wan's transformers as published for diffusers (`WanTransformer3DModel`): read into ours, written back.

The VAE's functions live in `wan_vae` and are exported from here too.

The table pairs our parameter paths with their tensor names; reading and writing walk the same table.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from signer_jax.errors import SignerError
from signer_jax.interop import model_config, state_dict
from signer_jax.interop.wan_vae import load_vae, save_vae
from signer_jax.renderer.video_transformer import VideoTransformer

__all__ = ["load_transformer", "load_vae", "save_transformer", "save_vae"]

_WRITTEN_FOR = "0.42.1"  # the diffusers version whose config keys are written
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


@dataclass(frozen=True)
class _Rule:
    """How one of their tensors becomes one of ours, and back."""

    read: Callable[[np.ndarray], np.ndarray]
    write: Callable[[np.ndarray], np.ndarray]


_SAME = _Rule(lambda x: x, lambda x: x)
_TRANSPOSED = _Rule(lambda x: x.T, lambda x: x.T)
_LEADING_ONE = _Rule(lambda x: x[0], lambda x: x[None])


def _patch_rule(in_channels: int, patch: tuple[int, int, int]) -> _Rule:
    """Their strided convolution [d, c, t, y, x] is our dense layer over flattened patches [t·y·x·c, d]."""
    return _Rule(
        lambda x: x.transpose(2, 3, 4, 1, 0).reshape(-1, x.shape[0]),
        lambda x: x.reshape(*patch, in_channels, -1).transpose(4, 3, 0, 1, 2),
    )


def _dense(ours: str, theirs: str) -> dict[str, tuple[str, _Rule]]:
    return {f"{ours}/kernel": (f"{theirs}.weight", _TRANSPOSED), f"{ours}/bias": (f"{theirs}.bias", _SAME)}


def _layer_norm(ours: str, theirs: str) -> dict[str, tuple[str, _Rule]]:
    return {f"{ours}/scale": (f"{theirs}.weight", _SAME), f"{ours}/bias": (f"{theirs}.bias", _SAME)}


def _table(module: VideoTransformer) -> dict[str, tuple[str, _Rule]]:
    """Our path -> (their name, rule). Under `layers/` ours is stacked, and their `{}` is the number of the layer."""
    embedder = "condition_embedder"
    table = {
        "patch_embedding/kernel": ("patch_embedding.weight", _patch_rule(module.in_channels, module.patch)),
        "patch_embedding/bias": ("patch_embedding.bias", _SAME),
        **_dense("time_in", f"{embedder}.time_embedder.linear_1"),
        **_dense("time_out", f"{embedder}.time_embedder.linear_2"),
        **_dense("time_modulation", f"{embedder}.time_proj"),
        **_dense("text_in", f"{embedder}.text_embedder.linear_1"),
        **_dense("text_out", f"{embedder}.text_embedder.linear_2"),
        "modulation": ("scale_shift_table", _LEADING_ONE),
        **_dense("patch_projection", "proj_out"),
        "layers/modulation": ("blocks.{}.scale_shift_table", _LEADING_ONE),
        **_layer_norm("layers/cross_norm", "blocks.{}.norm2"),
        **_dense("layers/wi", "blocks.{}.ffn.net.0.proj"),
        **_dense("layers/wo", "blocks.{}.ffn.net.2"),
    }
    for ours, theirs in (("layers/self_attention", "blocks.{}.attn1"), ("layers/cross_attention", "blocks.{}.attn2")):
        for name, letter in (("query", "q"), ("key", "k"), ("value", "v")):
            table |= _dense(f"{ours}/{name}", f"{theirs}.to_{letter}")
        table |= _dense(f"{ours}/out", f"{theirs}.to_out.0")
        table[f"{ours}/query_norm/scale"] = (f"{theirs}.norm_q.weight", _SAME)
        table[f"{ours}/key_norm/scale"] = (f"{theirs}.norm_k.weight", _SAME)
    if module.image_dim is not None:
        image, cross = f"{embedder}.image_embedder", "layers/cross_attention"
        table |= {
            **_layer_norm("image_norm_in", f"{image}.norm1"),
            **_dense("image_in", f"{image}.ff.net.0.proj"),
            **_dense("image_out", f"{image}.ff.net.2"),
            **_layer_norm("image_norm_out", f"{image}.norm2"),
            **_dense(f"{cross}/image_key", "blocks.{}.attn2.add_k_proj"),
            **_dense(f"{cross}/image_value", "blocks.{}.attn2.add_v_proj"),
            f"{cross}/image_key_norm/scale": ("blocks.{}.attn2.norm_added_k.weight", _SAME),
        }
    return table


def _module(config: Mapping, path: str | Path) -> VideoTransformer:
    config = model_config.check(path, config, _CONFIG, "a WanTransformer3DModel")
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
    )
    if config.get("pos_embed_seq_len") is not None:
        raise SignerError(f"{path}: a first-and-last-frame model (pos_embed_seq_len) is not supported; take an I2V one")
    if not config.get("cross_attn_norm", True):
        raise SignerError(f"{path}: cross_attn_norm false is not supported; published Wan transformers have it true")
    if config.get("added_kv_proj_dim") != (None if module.image_dim is None else dim):
        raise SignerError(f"{path}: added_kv_proj_dim must be {dim} with image_dim and null without; mend config.json")
    return module


def load_transformer(path: str | Path) -> tuple[VideoTransformer, dict]:
    """The module and its parameters from a folder that diffusers' `save_pretrained` wrote.

    The parameters are float32 numpy arrays: 14 billion do not fit one device, so the caller places them. Change how
    the module runs with `module.clone(dtype=..., remat=...)`. Raises `SignerError` for another class, for a
    configuration that no published T2V, I2V or TI2V model has, and for missing or unknown tensors.
    """
    config = state_dict.read_config(path)
    if config.get("_class_name", "WanTransformer3DModel") != "WanTransformer3DModel":
        raise SignerError(f"{path}: holds a {str(config['_class_name'])[:80]}, not a WanTransformer3DModel; give one")
    module = _module(config, path)
    table = _table(module)
    tensors = state_dict.read_tensors(path)
    names = {theirs.format(i) for theirs, _ in table.values() for i in range(module.layers)}
    # Some conversions of the image models carry a query norm that the forward pass never uses.
    state_dict.check_names(names, set(tensors), path, optional=("norm_added_q.weight",))
    flat = {}
    for ours, (theirs, rule) in table.items():
        if ours.startswith("layers/"):
            flat[ours] = np.stack([rule.read(tensors.pop(theirs.format(i))) for i in range(module.layers)])
        else:
            flat[ours] = np.ascontiguousarray(rule.read(tensors.pop(theirs)))
    _check_shapes(module, flat, path)
    return module, unflatten_dict(flat, sep="/")


def save_transformer(path: str | Path, module: VideoTransformer, params: Mapping) -> None:
    """Writes a folder that diffusers' `WanTransformer3DModel.from_pretrained` loads (one safetensors file, float32)."""
    flat = flatten_dict(dict(params), sep="/")
    tensors: dict[str, np.ndarray] = {}
    for ours, (theirs, rule) in _table(module).items():
        value = np.asarray(flat[ours], np.float32)
        if ours.startswith("layers/"):
            tensors |= {theirs.format(i): rule.write(layer) for i, layer in enumerate(value)}
        else:
            tensors[theirs] = rule.write(value)
    config = {
        "_class_name": "WanTransformer3DModel",
        "_diffusers_version": _WRITTEN_FOR,
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
    state_dict.write(path, config, tensors, name="diffusion_pytorch_model")


def _check_shapes(module: VideoTransformer, flat: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Raises `SignerError` unless the tensors have the shapes that the module of this config initialises."""
    b, s, (t, y, x) = 1, 1, module.patch
    image = None if module.image_dim is None else jax.ShapeDtypeStruct((b, s, module.image_dim), jnp.float32)
    init = functools.partial(
        jax.eval_shape,
        lambda image: module.init(
            jax.random.key(0),
            jnp.zeros((b, t, y, x, module.in_channels)),
            jnp.zeros(b),
            jnp.zeros((b, s, module.text_dim)),
            image=image,
        ),
        image,
    )
    shapes = model_config.shapes(path, init)["params"]
    for name, expected in flatten_dict(shapes, sep="/").items():
        if flat[name].shape != expected.shape:
            raise SignerError(
                f"{path}: {name} has shape {flat[name].shape}, config.json says {expected.shape}; are they one model?"
            )
