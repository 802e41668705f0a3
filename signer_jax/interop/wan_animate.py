"""What diffusers' `WanAnimateTransformer3DModel` has beside Wan's: its config's keys, the face's tensors.

And the same of Wan's own form (`wan_original`), whose names are those of `wan/modules/animate` in
github.com/Wan-Video/Wan2.2: keys and values of an adapter are one tensor there, and a config says no sizes of the face.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from signer_jax.errors import SignerError
from signer_jax.interop import model_config
from signer_jax.interop.names import Row, Tensor, Turn, layer
from signer_jax.interop.state_dict import FileTensor
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


# ---- Wan's own form --------------------------------------------------------------------------------------------------

BLURS = ("conv2.0.kernel", "skip.0.kernel")  # endings of filters that never change, which are stored there
_NET, _ADAPTER = "motion_encoder.enc.net_app.convs", "face_adapter.fuser_blocks"
_PACKED = "linear1_kv"
_KEYS, _VALUES = f"{_PACKED} (keys)", f"{_PACKED} (values)"  # as `unpacked` calls its halves
_OWN = {
    "motion_encoder.motion_synthesis_weight": "motion_encoder.dec.direction.weight",
    "motion_encoder.conv_in.weight": f"{_NET}.0.0.weight",
    "motion_encoder.conv_in.act_fn.bias": f"{_NET}.0.1.bias",
    **{f"face_encoder.{name}": f"face_encoder.{name}.conv" for name in ("conv1_local", "conv2", "conv3")},
    "face_encoder.out_proj": "face_encoder.out_proj",
    "face_encoder.padding_tokens": "face_encoder.padding_tokens",
    **{
        f"face_adapter.{{}}.{theirs}": f"{_ADAPTER}.{{}}.{own}"
        for theirs, own in {
            "to_q": "linear1_q", "to_k": _KEYS, "to_v": _VALUES, "to_out": "linear2", "norm_q": "q_norm",
            "norm_k": "k_norm",
        }.items()
    },
    "pose_patch_embedding": "pose_patch_embedding",
}  # fmt: skip
_BLOCK = {
    "conv1.weight": "conv1.0.weight", "conv1.act_fn.bias": "conv1.1.bias", "conv2.weight": "conv2.1.weight",
    "conv2.act_fn.bias": "conv2.2.bias", "conv_skip.weight": "skip.1.weight",
}  # fmt: skip


def own_names(face: FaceBranch) -> dict[str, str]:
    """Each layer's or tensor's name in diffusers -> there."""
    names, blocks = dict(_OWN), len(face.channels) - 1
    for i in range(blocks):
        names |= {f"motion_encoder.res_blocks.{i}.{theirs}": f"{_NET}.{i + 1}.{own}" for theirs, own in _BLOCK.items()}
    names["motion_encoder.conv_out.weight"] = f"{_NET}.{blocks + 1}.weight"
    names |= {f"motion_encoder.motion_network.{i}": f"motion_encoder.enc.fc.{i}" for i in range(face.motion_blocks)}
    return names


def unpacked(tensors: Mapping[str, FileTensor]) -> dict[str, FileTensor]:
    """The tensors with keys and values apart, and an activation's bias `[1, c, 1, 1]` as `[c]`: places in the same
    files, of which nothing is read.
    """
    found: dict[str, FileTensor] = {}
    for name, tensor in tensors.items():
        rows, *rest = tensor.shape or (0,)
        if name.startswith(_ADAPTER) and f".{_PACKED}." in name and rows % 2 == 0:
            first = replace(tensor, shape=(rows // 2, *rest))
            found[name.replace(_PACKED, _KEYS)] = first
            found[name.replace(_PACKED, _VALUES)] = replace(first, offset=tensor.offset + first.entry().size)
        elif name.startswith(_NET) and name.endswith(".bias") and len(rest) == 3 and (rows, *rest[1:]) == (1, 1, 1):
            found[name] = replace(tensor, shape=(rest[0],))
        else:
            found[name] = tensor
    return found


def own_config(path: str | Path, tensors: Mapping[str, Tensor], layers: int) -> dict[str, Any]:
    """The face's keys of diffusers' config, by the shapes of the tensors (`unpacked`); none of a model without a face.

    Raises `SignerError` where one that says a size is missing.
    """
    if not any(name.startswith(("face_", "motion_encoder.")) for name in tensors):
        return {}

    def size(name: str, axis: int = 0) -> int:
        shape = tensors[name].shape if name in tensors else ()
        if len(shape) <= axis:
            raise SignerError(f"{path}: lacks {name!r}, which says a size of its face branch; download it again")
        return shape[axis]

    def count(name: str, first: int) -> int:
        there = first
        while name.format(there) in tensors:
            there += 1
        return there - first

    blocks = count(f"{_NET}.{{}}.conv2.1.weight", 1)
    channels = [size(f"{_NET}.0.0.weight"), *(size(f"{_NET}.{i + 1}.conv2.1.weight") for i in range(blocks))]
    side, hidden = 4 << blocks, size("face_encoder.conv2.conv.weight")
    size(f"{_ADAPTER}.0.linear1_q.weight")
    directions = "motion_encoder.dec.direction.weight"
    return {
        "_class_name": CLASS,
        "motion_encoder_channel_sizes": {str(side >> i): width for i, width in enumerate(channels)},
        "motion_encoder_size": side,
        "motion_style_dim": size(f"{_NET}.{blocks + 1}.weight"),
        "motion_dim": size(directions, 1),
        "motion_encoder_dim": size(directions),
        "face_encoder_hidden_dim": hidden,
        "face_encoder_num_heads": size("face_encoder.conv1_local.conv.weight") // max(hidden, 1),
        "inject_face_latents_blocks": layers // count(f"{_ADAPTER}.{{}}.linear1_q.weight", 0),
    }
