"""What diffusers' `WanAnimateTransformer3DModel` has beside Wan's: its config's keys, the face's tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from signer_jax.errors import SignerError
from signer_jax.interop import model_config
from signer_jax.interop.names import Row, Turn, layer
from signer_jax.renderer.variants import FaceBranch
from signer_jax.renderer.video_transformer import VideoTransformer

CLASS = "WanAnimateTransformer3DModel"

_WIDTH = 1 << 20
_CONFIG = {
    "latent_channels": model_config.whole(_WIDTH, optional=True),
    "motion_encoder_size": model_config.whole(4096, least=4),
    "motion_style_dim": model_config.whole(_WIDTH),
    "motion_dim": model_config.whole(_WIDTH),
    "motion_encoder_dim": model_config.whole(_WIDTH),
    "face_encoder_hidden_dim": model_config.whole(_WIDTH),
    "face_encoder_num_heads": model_config.whole(4096),
    "inject_face_latents_blocks": model_config.whole(1000),
    "motion_encoder_batch_size": model_config.whole(_WIDTH, optional=True),
}
_MOTION_BLOCKS = 5  # fixed in the original
_CHANNELS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}  # where none are given
_SIZES = model_config.whole(_WIDTH)

_PICTURES = Turn(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))  # [out, in, y, x]
_TIMES = Turn(lambda a: a.transpose(2, 1, 0), lambda a: a.transpose(2, 1, 0))  # [out, in, t]
_VECTOR = Turn(lambda a: a.reshape(-1), lambda a: a.reshape(1, 1, 1, -1))


def face_branch(config: Mapping, path: str | Path) -> FaceBranch:
    """The branch that a config describes. Raises `SignerError` for one that the original does not build."""
    given = config.get("motion_encoder_channel_sizes")
    config = model_config.check(path, config, _CONFIG, f"a {CLASS}")
    size = config["motion_encoder_size"]
    if size & (size - 1):
        raise SignerError(f"{path}: motion_encoder_size is {size}, it must be a power of two; mend config.json")
    sizes = [size >> i for i in range(size.bit_length() - 2)]
    table = {str(side): channels for side, channels in _CHANNELS.items()} if given is None else given
    if not isinstance(table, dict) or not all(_SIZES.fits(table.get(str(side))) for side in sizes):
        raise SignerError(
            f"{path}: motion_encoder_channel_sizes must give channels for {', '.join(map(str, sizes))} pixels; mend "
            "config.json"
        )
    return FaceBranch(
        channels=tuple(table[str(side)] for side in sizes),
        style_dim=config["motion_style_dim"],
        motion_dim=config["motion_dim"],
        motion_blocks=_MOTION_BLOCKS,
        motion_out=config["motion_encoder_dim"],
        hidden=config["face_encoder_hidden_dim"],
        heads=config["face_encoder_num_heads"],
        every=config["inject_face_latents_blocks"],
        batch=config.get("motion_encoder_batch_size", 8),
    )


def check(module: VideoTransformer, path: str | Path) -> None:
    """Raises `SignerError` unless the sizes go together as the original has them."""
    face, z = module.face, module.out_channels
    assert face is not None
    if module.in_channels != 2 * z + 4:
        raise SignerError(f"{path}: in_channels is {module.in_channels}, it must be 2 * {z} + 4; mend config.json")
    if module.layers % face.every:
        raise SignerError(
            f"{path}: num_layers {module.layers} is no multiple of inject_face_latents_blocks {face.every}; mend "
            "config.json"
        )
    if face.motion_dim > face.motion_out:
        raise SignerError(
            f"{path}: motion_dim {face.motion_dim} is more than motion_encoder_dim {face.motion_out}: there are no so "
            "many orthogonal directions; mend config.json"
        )


def config_of(module: VideoTransformer) -> dict[str, Any]:
    """The keys of `config.json` that Wan's transformer does not have, or has otherwise."""
    face = module.face
    assert face is not None
    return {
        "_class_name": CLASS,
        "latent_channels": module.out_channels,
        "motion_encoder_channel_sizes": {str(face.size >> i): width for i, width in enumerate(face.channels)},
        "motion_encoder_size": face.size,
        "motion_style_dim": face.style_dim,
        "motion_dim": face.motion_dim,
        "motion_encoder_dim": face.motion_out,
        "face_encoder_hidden_dim": face.hidden,
        "face_encoder_num_heads": face.heads,
        "inject_face_latents_blocks": face.every,
        "motion_encoder_batch_size": face.batch,
    }


def groups(module: VideoTransformer) -> np.ndarray:
    """The layers' numbers, a row a group."""
    assert module.face is not None
    return np.arange(module.layers).reshape(-1, module.face.every)


def rows(face: FaceBranch) -> list[Row]:
    """The names of the motion encoder, the encoder in time and the adapters."""
    motion, theirs = "motion_encoder", "motion_encoder"
    table = [Row(f"{motion}/directions", f"{theirs}.motion_synthesis_weight")]
    motion = f"{motion}/weights"
    table += _active(f"{motion}/conv_in", f"{theirs}.conv_in")
    for i in range(len(face.channels) - 1):
        block, name = f"{motion}/block_{i}", f"{theirs}.res_blocks.{i}"
        table += [*_active(f"{block}_conv1", f"{name}.conv1"), *_active(f"{block}_conv2", f"{name}.conv2")]
        table.append(Row(f"{block}_skip/kernel", f"{name}.conv_skip.weight", _PICTURES))
    table.append(Row(f"{motion}/conv_out/kernel", f"{theirs}.conv_out.weight", _PICTURES))
    for i in range(face.motion_blocks):
        table += layer(f"{motion}/linear_{i}", f"{theirs}.motion_network.{i}")
    for ours, name in (("conv_in", "conv1_local"), ("down_0", "conv2"), ("down_1", "conv3")):
        table += layer(f"face_encoder/{ours}", f"face_encoder.{name}", _TIMES)
    table += layer("face_encoder/out", "face_encoder.out_proj")
    table.append(Row("face_encoder/token", "face_encoder.padding_tokens", _VECTOR))
    adapter, name = "layers/face_attention", "face_adapter.{}"
    for ours, part in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("out", "to_out")):
        table += layer(f"{adapter}/{ours}", f"{name}.{part}")
    table.append(Row(f"{adapter}/query_norm/scale", f"{name}.norm_q.weight"))
    table.append(Row(f"{adapter}/key_norm/scale", f"{name}.norm_k.weight"))
    return table


def _active(ours: str, theirs: str) -> list[Row]:
    """A convolution with an activation, which holds its bias."""
    return [Row(f"{ours}/kernel", f"{theirs}.weight", _PICTURES), Row(f"{ours}/bias", f"{theirs}.act_fn.bias")]
