"""CLIP's vision tower as transformers saves it (`CLIPVisionModel`, with or without its projection): read into ours.

It is frozen wherever it is used, so it is not written back.
"""

from pathlib import Path

import jax
import jax.numpy as jnp

from signer_jax.errors import SignerError
from signer_jax.interop import model_config, names, state_dict, wan_original
from signer_jax.interop.names import Row, Turn, layer, layer_norm
from signer_jax.renderer.image_encoder import ImageEncoder

_MODEL = "CLIP's vision tower (a diffusers pipeline's image_encoder)"
_WIDTH = 1 << 20
_MODEL_TYPE = {"model_type": model_config.text("clip_vision_model")}
# What CLIPVisionConfig assumes where a config is silent, and what each value may be.
_CONFIG = {
    "hidden_size": (768, model_config.whole(_WIDTH, optional=True)),
    "intermediate_size": (3072, model_config.whole(_WIDTH, optional=True)),
    "num_hidden_layers": (12, model_config.whole(1_000, least=2, optional=True)),
    "num_attention_heads": (12, model_config.whole(4096, optional=True)),
    "num_channels": (3, model_config.whole(3, least=3, optional=True)),
    "image_size": (224, model_config.whole(8192, optional=True)),
    "patch_size": (32, model_config.whole(8192, optional=True)),
    "hidden_act": ("quick_gelu", model_config.Kind(str, choices=("gelu", "quick_gelu"), optional=True)),
    "layer_norm_eps": (1e-5, model_config.number(1e-12, 0.1, optional=True)),
}
# What stands behind the states that are read.
_IGNORED = ("post_layernorm.weight", "post_layernorm.bias", "visual_projection.weight")
PREFIX = "vision_model."  # published files have it before every name; a CLIPVisionModel of transformers 5 does not


def table_of(module: ImageEncoder) -> list[Row]:
    p = module.patch
    patches = Turn(  # a strided convolution [d, c, y, x], and a dense layer over flattened patches [y·x·c, d]
        lambda a: a.transpose(2, 3, 1, 0).reshape(-1, a.shape[0]),
        lambda a: a.reshape(p, p, 3, -1).transpose(3, 2, 0, 1),
    )
    rows = [
        Row("class_embedding", "embeddings.class_embedding"),
        Row("position_embedding", "embeddings.position_embedding.weight"),
        Row("patch_embedding/kernel", "embeddings.patch_embedding.weight", patches),
        *layer_norm("norm", "pre_layrnorm"),  # the original's spelling
        *layer_norm("layers/attention_norm", "encoder.layers.{}.layer_norm1"),
        *layer_norm("layers/mlp_norm", "encoder.layers.{}.layer_norm2"),
        *layer("layers/wi", "encoder.layers.{}.mlp.fc1"),
        *layer("layers/wo", "encoder.layers.{}.mlp.fc2"),
    ]
    for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "out_proj")):
        rows += layer(f"layers/{ours}", f"encoder.layers.{{}}.self_attn.{theirs}")
    return rows


def load(
    path: str | Path, *, width: int | None = None, dtype: jnp.dtype = jnp.float32, place: names.Place | None = None
) -> tuple[ImageEncoder, dict]:
    """The module and its parameters (float32; numpy, or where `place` says) from a folder that CLIPVisionModel or
    CLIPVisionModelWithProjection saved, such as a diffusers pipeline's `image_encoder/`.

    The last block is left out: the states that are read come before it. `width` is the width that the video transformer
    takes (its `image_dim`). Raises `SignerError` where the folder holds another class, one of another width (before its
    tensors are read), or lacks tensors.
    """
    return describe(path, width=width, dtype=dtype).load(place)


def describe(path: str | Path, *, width: int | None = None, dtype: jnp.dtype = jnp.float32) -> names.Described:
    """The tower of a folder, before its tensors are read; raises as `load` does."""
    if width is not None:
        check_width(path, width)
    config, file = _read_config(path), Path(path) / "config.json"
    for whole, part in (("hidden_size", "num_attention_heads"), ("image_size", "patch_size")):
        if config[whole] % config[part]:
            raise SignerError(
                f"{file}: {whole} {config[whole]} is no multiple of {part} {config[part]}; download it again"
            )
    last = config["num_hidden_layers"] - 1
    module = ImageEncoder(
        dim=config["hidden_size"],
        heads=config["num_attention_heads"],
        ffn_dim=config["intermediate_size"],
        layers=last,
        image_size=config["image_size"],
        patch=config["patch_size"],
        activation=config["hidden_act"],
        eps=config["layer_norm_eps"],
        dtype=dtype,
    )
    tensors = {name.removeprefix(PREFIX): array for name, array in state_dict.read_tensors(path).items()}
    # Not read, but a file without it is not what its config says.
    unread = {row.theirs.format(last) for row in table_of(module) if "{}" in row.theirs}
    names.check_names(unread, unread & tensors.keys(), path)
    for name in unread:
        del tensors[name]
    pictures = jax.ShapeDtypeStruct((1, module.image_size, module.image_size, 3), jnp.float32)
    init = names.shapes_of(module, pictures)
    return names.Described(path, module, table_of(module), tensors, init, _IGNORED)


def check_width(path: str | Path, width: int) -> None:
    """Raises `SignerError` unless the folder's config is of a tower whose states have this width; reads no tensor."""
    config = _read_config(path)
    if config["hidden_size"] != width:
        raise SignerError(
            f"{Path(path) / 'config.json'}: hidden_size is {config['hidden_size']}, so its states have that width; the "
            f"video transformer takes pictures of width {width}; give the image_encoder of the same pipeline"
        )


def _read_config(path: str | Path) -> dict:
    config = state_dict.read_config(path)
    wan_original.check_not(path, config)
    model_config.check(path, config, _MODEL_TYPE, _MODEL)
    table = {key: kind for key, (_, kind) in _CONFIG.items()}
    return {key: silent for key, (silent, _) in _CONFIG.items()} | model_config.check(path, config, table, _MODEL)
