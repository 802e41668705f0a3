"""Wan's video autoencoder (2.1 and 2.2) from and to the folders that diffusers' AutoencoderKLWan saves."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from signer_jax.errors import SignerError
from signer_jax.interop import model_config, wan_original
from signer_jax.interop.names import Described, Place, Row, Theirs, Turn, layer, shapes_of, theirs_of
from signer_jax.interop.state_dict import read_config, read_tensors, write
from signer_jax.renderer.vae import VideoVAE

_CLASS = "AutoencoderKLWan"
# config.json's name -> our field; the original's spelling of "temporal" is theirs.
_FIELDS = {
    "base_dim": "base_dim",
    "z_dim": "z_dim",
    "dim_mult": "dim_mult",
    "num_res_blocks": "num_res_blocks",
    "temperal_downsample": "temporal_downsample",
    "latents_mean": "latents_mean",
    "latents_std": "latents_std",
}
# Later additions to the config: published 2.1 folders lack them, with these meanings.
_LATER_FIELDS = {
    "decoder_base_dim": None,
    "is_residual": False,
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": None,
}
_WIDTH = 1 << 16
_CONFIG = {
    "base_dim": model_config.whole(_WIDTH),
    "z_dim": model_config.whole(1024),
    "dim_mult": model_config.several(int, 1, 8, 1, 64),
    "num_res_blocks": model_config.whole(100),
    "temperal_downsample": model_config.several(bool, 0, 7),
    "latents_mean": model_config.several(float, 1, 1024, -1e6, 1e6),
    "latents_std": model_config.several(float, 1, 1024, 1e-4, 1e6),
    "decoder_base_dim": model_config.whole(_WIDTH, optional=True),
    "is_residual": model_config.flag(),
    "in_channels": model_config.whole(_WIDTH, optional=True),
    "out_channels": model_config.whole(_WIDTH, optional=True),
    "patch_size": model_config.whole(64, optional=True),
}


# [o, c, t, y, x] <-> [t, y, x, c, o]
_CONV3D = Turn(lambda a: a.transpose(2, 3, 4, 1, 0), lambda a: a.transpose(4, 3, 0, 1, 2))
# [o, c, y, x] <-> [1, y, x, c, o]
_CONV2D = Turn(lambda a: a.transpose(2, 3, 1, 0)[None], lambda a: a[0].transpose(3, 2, 0, 1))
# [o, c, 1, 1] <-> [c, o]
_DENSE = Turn(lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None])
_GAMMA = Turn(lambda a: a.reshape(-1), lambda a: a[:, None, None, None])
_FRAME_GAMMA = Turn(lambda a: a.reshape(-1), lambda a: a[:, None, None])

_Rows = list[Row]


def _resnet(ours: str, theirs: str, shortcut: bool) -> _Rows:
    rows = [Row(f"{ours}/norm{i}/scale", f"{theirs}.norm{i}.gamma", _GAMMA) for i in (1, 2)]
    rows += [row for i in (1, 2) for row in layer(f"{ours}/conv{i}", f"{theirs}.conv{i}", _CONV3D)]
    return rows + (layer(f"{ours}/shortcut", f"{theirs}.conv_shortcut", _CONV3D) if shortcut else [])


def _resample(ours: str, theirs: str, temporal: bool) -> _Rows:
    rows = layer(f"{ours}/conv", f"{theirs}.resample.1", _CONV2D)
    return rows + (layer(f"{ours}/time_conv", f"{theirs}.time_conv", _CONV3D) if temporal else [])


def _ends(side: str) -> _Rows:
    """What encoder and decoder share: the first and last convolutions and the middle."""
    middle = f"{side}.mid_block"
    return [
        *layer(f"{side}/conv_in", f"{side}.conv_in", _CONV3D),
        *_resnet(f"{side}/middle/resnet_0", f"{middle}.resnets.0", False),
        Row(f"{side}/middle/attention/norm/scale", f"{middle}.attentions.0.norm.gamma", _FRAME_GAMMA),
        *layer(f"{side}/middle/attention/qkv", f"{middle}.attentions.0.to_qkv", _DENSE),
        *layer(f"{side}/middle/attention/out", f"{middle}.attentions.0.proj", _DENSE),
        *_resnet(f"{side}/middle/resnet_1", f"{middle}.resnets.1", False),
        Row(f"{side}/norm_out/scale", f"{side}.norm_out.gamma", _GAMMA),
        *layer(f"{side}/conv_out", f"{side}.conv_out", _CONV3D),
    ]


def _encoder(module: VideoVAE) -> _Rows:
    rows, last = _ends("encoder"), len(module.dim_mult) - 1
    before, flat = 1, 0  # 2.1 counts blocks and resamplers of all levels in one list
    for level, mult in enumerate(module.dim_mult):
        ours, theirs = f"encoder/down_{level}", f"encoder.down_blocks.{level}"
        for i in range(module.num_res_blocks):
            name = f"{theirs}.resnets.{i}" if module.is_residual else f"encoder.down_blocks.{flat}"
            rows += _resnet(f"{ours}/resnet_{i}", name, shortcut=i == 0 and before != mult)
            flat += 1
        if level < last:
            name = f"{theirs}.downsampler" if module.is_residual else f"encoder.down_blocks.{flat}"
            rows += _resample(f"{ours}/downsample", name, module.temporal_downsample[level])
            flat += 1
        before = mult
    return rows


def _decoder(module: VideoVAE) -> _Rows:
    rows, last, base = _ends("decoder"), len(module.dim_mult) - 1, module.decoder_base_dim
    before = base * module.dim_mult[-1]
    temporal = module.temporal_downsample[::-1]
    for level, mult in enumerate(reversed(module.dim_mult)):
        ours, theirs = f"decoder/up_{level}", f"decoder.up_blocks.{level}"
        for i in range(module.num_res_blocks + 1):
            rows += _resnet(f"{ours}/resnet_{i}", f"{theirs}.resnets.{i}", i == 0 and before != base * mult)
        if level < last:
            name = f"{theirs}.upsampler" if module.is_residual else f"{theirs}.upsamplers.0"
            rows += _resample(f"{ours}/upsample", name, temporal[level])
        before = base * mult if module.is_residual else base * mult // 2
    return rows


def name_table(module: VideoVAE) -> _Rows:
    """Every parameter."""
    return [
        *_encoder(module),
        *_decoder(module),
        *layer("quant_conv", "quant_conv", _CONV3D),
        *layer("post_quant_conv", "post_quant_conv", _CONV3D),
    ]


def load_vae(path: str | Path, place: Place | None = None) -> tuple[VideoVAE, dict]:
    """The module and its float32 params, from the folder that AutoencoderKLWan.save_pretrained wrote.

    They are on the host, or where `place` has them. Raises `SignerError` where the folder is no such model, or tensors
    lack, are unknown or have another shape.
    """
    return describe_vae(path).load(place)


def describe_vae(path: str | Path) -> Described:
    """The autoencoder of a folder, before its tensors are read; raises as `load_vae` does."""
    config = read_config(path)
    wan_original.check_not(path, config)
    if (found := config.get("_class_name", _CLASS)) != _CLASS:
        raise SignerError(f"{path}: holds a {str(found)[:80]}, not an {_CLASS}; give one")
    module = _module(config, path)
    init = shapes_of(module, _small_video(module))
    return Described(path, module, name_table(module), read_tensors(path), init)


def save_vae(path: str | Path, module: VideoVAE, params: Mapping) -> None:
    """Writes the folder that AutoencoderKLWan.from_pretrained and `load_vae` read."""
    config, tensors = vae_theirs(module, params)
    write(path, config, tensors, name="diffusion_pytorch_model")


def vae_theirs(module: VideoVAE, params: Mapping) -> tuple[dict, dict[str, Theirs]]:
    """The config and the tensors of diffusers' class."""
    config = {theirs: getattr(module, ours) for theirs, ours in _FIELDS.items()}
    config |= {name: getattr(module, name) for name in _LATER_FIELDS}
    config |= {
        "_class_name": _CLASS,
        "attn_scales": [],
        "dropout": 0.0,
        "scale_factor_spatial": module.spatial_ratio,
        "scale_factor_temporal": module.temporal_ratio,
    }
    return config, theirs_of(name_table(module), params)


def _module(config: Mapping, path: str | Path) -> VideoVAE:
    if config.get("attn_scales"):
        raise SignerError(f"{path}: attn_scales is not supported (no published Wan VAE uses it); give one without")
    config = model_config.check(path, config, _CONFIG, "an AutoencoderKLWan")
    for name, length in (
        ("temperal_downsample", len(config["dim_mult"]) - 1),
        ("latents_mean", config["z_dim"]),
        ("latents_std", config["z_dim"]),
    ):
        if len(config[name]) != length:
            raise SignerError(
                f"{Path(path) / 'config.json'}: {name} has {len(config[name])} items where {length} belong; "
                "download it again"
            )
    fields = {ours: _hashable(config[theirs]) for theirs, ours in _FIELDS.items()}
    fields |= {name: config.get(name, default) for name, default in _LATER_FIELDS.items()}
    fields["decoder_base_dim"] = fields["decoder_base_dim"] or fields["base_dim"]
    return VideoVAE(**fields)


def _hashable(value):
    return tuple(value) if isinstance(value, list) else value


def _small_video(module: VideoVAE) -> jax.ShapeDtypeStruct:
    channels = module.in_channels // (module.patch_size or 1) ** 2
    return jax.ShapeDtypeStruct((1, 1, module.spatial_ratio, module.spatial_ratio, channels), np.float32)
