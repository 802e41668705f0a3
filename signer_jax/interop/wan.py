"""Wan's transformers as published for diffusers (`WanTransformer3DModel`): read into ours, written back.

The VAE's functions live in `wan_vae` and are exported from here too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from signer_jax.errors import SignerError
from signer_jax.interop import model_config, names, state_dict
from signer_jax.interop.names import LEADING_ONE, Row, Turn, layer, layer_norm
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


def _patch_turn(in_channels: int, patch: tuple[int, int, int]) -> Turn:
    """Their strided convolution [d, c, t, y, x] is our dense layer over flattened patches [t·y·x·c, d]."""
    return Turn(
        lambda x: x.transpose(2, 3, 4, 1, 0).reshape(-1, x.shape[0]),
        lambda x: x.reshape(*patch, in_channels, -1).transpose(4, 3, 0, 1, 2),
    )


def _table(module: VideoTransformer) -> list[Row]:
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
        Row("layers/modulation", "blocks.{}.scale_shift_table", LEADING_ONE),
        *layer_norm("layers/cross_norm", "blocks.{}.norm2"),
        *layer("layers/wi", "blocks.{}.ffn.net.0.proj"),
        *layer("layers/wo", "blocks.{}.ffn.net.2"),
    ]
    for ours, theirs in (("layers/self_attention", "blocks.{}.attn1"), ("layers/cross_attention", "blocks.{}.attn2")):
        for name, letter in (("query", "q"), ("key", "k"), ("value", "v")):
            rows += layer(f"{ours}/{name}", f"{theirs}.to_{letter}")
        rows += layer(f"{ours}/out", f"{theirs}.to_out.0")
        rows.append(Row(f"{ours}/query_norm/scale", f"{theirs}.norm_q.weight"))
        rows.append(Row(f"{ours}/key_norm/scale", f"{theirs}.norm_k.weight"))
    if module.image_dim is not None:
        image, cross = f"{embedder}.image_embedder", "layers/cross_attention"
        rows += [
            *layer_norm("image_norm_in", f"{image}.norm1"),
            *layer("image_in", f"{image}.ff.net.0.proj"),
            *layer("image_out", f"{image}.ff.net.2"),
            *layer_norm("image_norm_out", f"{image}.norm2"),
            *layer(f"{cross}/image_key", "blocks.{}.attn2.add_k_proj"),
            *layer(f"{cross}/image_value", "blocks.{}.attn2.add_v_proj"),
            Row(f"{cross}/image_key_norm/scale", "blocks.{}.attn2.norm_added_k.weight"),
        ]
    return rows


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
    # Some conversions of the image models carry a query norm that the forward pass never uses.
    optional = ("norm_added_q.weight",)
    return module, names.to_ours(path, _table(module), state_dict.read_tensors(path), _init(module), optional)


def save_transformer(path: str | Path, module: VideoTransformer, params: Mapping) -> None:
    """Writes a folder that diffusers' `WanTransformer3DModel.from_pretrained` loads (one safetensors file, float32)."""
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
    tensors = names.to_theirs(_table(module), params)
    state_dict.write(path, config, tensors, name="diffusion_pytorch_model")


def _init(module: VideoTransformer) -> Callable[[], Any]:
    b, s, (t, y, x) = 1, 1, module.patch
    image = None if module.image_dim is None else jax.ShapeDtypeStruct((b, s, module.image_dim), jnp.float32)
    latents = jax.ShapeDtypeStruct((b, t, y, x, module.in_channels), jnp.float32)
    text = jax.ShapeDtypeStruct((b, s, module.text_dim), jnp.float32)
    step = jax.ShapeDtypeStruct((b,), jnp.float32)
    return lambda: jax.eval_shape(
        lambda *inputs: module.init(jax.random.key(0), *inputs[:3], image=inputs[3]), latents, step, text, image
    )
