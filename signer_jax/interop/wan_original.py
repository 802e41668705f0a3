"""Wan's own form of a transformer, in which Wan-AI and VideoX-Fun publish: its names of layers, its config's keys.

The layers are those of diffusers' `WanTransformer3DModel`, one by one; Animate's face is in `wan_animate`. Text
encoder, autoencoder and CLIP are pickles there (`.pth`), which are not read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signer_jax.errors import SignerError
from signer_jax.interop import model_config, wan_animate
from signer_jax.interop.foreign import ORIGINAL
from signer_jax.interop.names import Row, Tensor
from signer_jax.renderer.variants import FaceBranch

# VideoX-Fun's others are called as diffusers' class is.
CLASSES = ("WanModel", "WanAnimateModel", "Wan2_2Transformer3DModel", "Wan2_2Transformer3DModel_Animate")
EXPERTS = ("high_noise_model", "low_noise_model")  # their folders in a model of two
UNREAD = ("ref_conv.weight", "ref_conv.bias")  # `left_out`
_IMAGE = "img_emb.proj.0.weight"
_ATTENTION = {
    "q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k",
}  # fmt: skip
_BLOCK = {
    "modulation": "scale_shift_table", "norm3": "norm2", "ffn.0": "ffn.net.0.proj", "ffn.2": "ffn.net.2",
    **{f"self_attn.{own}": f"attn1.{theirs}" for own, theirs in _ATTENTION.items()},
    **{f"cross_attn.{own}": f"attn2.{theirs}" for own, theirs in _ATTENTION.items()},
    "cross_attn.k_img": "attn2.add_k_proj", "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
}  # fmt: skip
_EMBEDDER = "condition_embedder"
# Each layer's name there -> in diffusers.
LAYERS = {
    "patch_embedding": "patch_embedding",
    "time_embedding.0": f"{_EMBEDDER}.time_embedder.linear_1",
    "time_embedding.2": f"{_EMBEDDER}.time_embedder.linear_2",
    "time_projection.1": f"{_EMBEDDER}.time_proj",
    "text_embedding.0": f"{_EMBEDDER}.text_embedder.linear_1",
    "text_embedding.2": f"{_EMBEDDER}.text_embedder.linear_2",
    "img_emb.proj.0": f"{_EMBEDDER}.image_embedder.norm1",
    "img_emb.proj.1": f"{_EMBEDDER}.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": f"{_EMBEDDER}.image_embedder.ff.net.2",
    "img_emb.proj.4": f"{_EMBEDDER}.image_embedder.norm2",
    "head.modulation": "scale_shift_table",
    "head.head": "proj_out",
    **{f"blocks.{{}}.{own}": f"blocks.{{}}.{theirs}" for own, theirs in _BLOCK.items()},
}
_OWN = {theirs: own for own, theirs in LAYERS.items()}
_WIDTH = 1 << 20
_CONFIG = {
    "dim": model_config.whole(4096 * 4096),
    "num_heads": model_config.whole(4096),
    "in_dim": model_config.whole(_WIDTH),
    "out_dim": model_config.whole(_WIDTH),
    "ffn_dim": model_config.whole(_WIDTH),
    "num_layers": model_config.whole(1_000),
    "eps": model_config.number(1e-12, 0.1, optional=True),
    "text_dim": model_config.whole(_WIDTH, optional=True),
    "freq_dim": model_config.whole(_WIDTH, least=2, optional=True),
    "cross_attn_norm": model_config.flag(),
    "qk_norm": model_config.flag(),
}
_SILENT = {"eps": 1e-6, "text_dim": 4096, "freq_dim": 256, "patch_size": [1, 2, 2]}  # what configs leave out


def holds(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these tensors have Wan's own names."""
    return any(name in tensors for name in ("head.head.weight", "time_projection.1.weight", "head.modulation"))


def renamed(rows: Sequence[Row], face: FaceBranch | None) -> list[Row]:
    """Rows of diffusers' names with Wan's own in their place; of Animate those of what `wan_animate.unpacked` gives."""
    own = _OWN if face is None else _OWN | wan_animate.own_names(face)
    return [row._replace(theirs=_own(row.theirs, own)) for row in rows]


def _own(name: str, own: Mapping[str, str]) -> str:
    if name in own:
        return own[name]
    layer, _, leaf = name.rpartition(".")
    return f"{own[layer]}.{leaf}"


def config_of(path: str | Path, config: Mapping, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config as diffusers' class has it. Raises `SignerError` for a model that has no place in it."""
    if any(name.startswith("control_adapter.") for name in tensors):
        raise SignerError(f"{path}: a camera control (control_adapter) is not supported; take the Fun-Control model")
    if "img_emb.emb_pos" in tensors:
        raise SignerError(f"{path}: a first-and-last-frame model (img_emb.emb_pos) is not supported; take an I2V one")
    known = model_config.check(path, config, _CONFIG, "Wan's transformer in its own form")
    if known["dim"] % known["num_heads"]:
        raise SignerError(
            f"{Path(path) / 'config.json'}: dim {known['dim']} is no multiple of num_heads {known['num_heads']}; "
            "download it again"
        )
    if not known.get("qk_norm", True):
        raise SignerError(f"{path}: qk_norm false is not supported; published Wan transformers have it true")
    image = tensors[_IMAGE].shape[0] if _IMAGE in tensors and tensors[_IMAGE].shape else None
    return {
        "num_attention_heads": known["num_heads"],
        "attention_head_dim": known["dim"] // known["num_heads"],
        "in_channels": known["in_dim"],
        "out_channels": known["out_dim"],
        "image_dim": image,
        "added_kv_proj_dim": None if image is None else known["dim"],
        **{key: known[key] for key in ("ffn_dim", "num_layers")},
        "cross_attn_norm": known.get("cross_attn_norm", True),
        **{key: silent if config.get(key) is None else config[key] for key, silent in _SILENT.items()},
        **wan_animate.own_config(path, tensors, known["num_layers"]),
    }


def check_not(path: str | Path, config: Mapping) -> None:
    """Raises `SignerError` where the folder of such a transformer is given for a model that is a pickle beside it."""
    if config.get("_class_name") in CLASSES or {"dim", "in_dim"} <= config.keys():
        raise SignerError(f"{path}: holds Wan's transformer alone; each .pth beside it is {ORIGINAL}")


def left_out(tensors: Mapping[str, Tensor]) -> str:
    """What is said of tensors that are not read, or ""."""
    if not any(name in tensors for name in UNREAD):
        return ""
    return (
        "ref_conv is left out: it puts a whole reference picture in front of the video, for which Fun-Control has no "
        "place here; the first frame's picture, the control and CLIP's tokens, if any, are taken as without it"
    )
