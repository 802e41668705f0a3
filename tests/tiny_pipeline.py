"""Folders as they are published, of the variants' classes at the smallest sizes, written by this project's writers."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from renderer import tiny_wan

from signer_jax.interop import clip, names, state_dict, t5
from signer_jax.renderer.image_encoder import ImageEncoder
from signer_jax.renderer.variants import find
from signer_jax.slul.t5 import T5
from signer_jax.slul.tokenizer import Tokenizer

TEXTS = ["tomorrow i will open the door", "the house is old", "my name is anna", "rain in the north"]
PIECES = 120
UMT5 = T5(
    vocab_size=PIECES + 100, d_model=tiny_wan.TEXT, d_kv=4, d_ff=10, heads=2, encoder_layers=2, decoder_layers=2,
    relative_buckets=12, relative_max_distance=20, activation="gated-gelu", tie_embeddings=True,
    relative_bias_every_layer=True, dropout=0.0,
)  # fmt: skip
TOWER = {
    "architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model", "hidden_size": tiny_wan.CLIP,
    "intermediate_size": 10, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 8, "patch_size": 4,
    "hidden_act": "gelu", "layer_norm_eps": 1e-5, "num_channels": 3,
}  # fmt: skip


def spiece(folder: Path) -> Path:
    """A small T5 vocabulary."""
    Tokenizer.train(TEXTS * 3, folder / "spiece.model", PIECES, ["ase"], glosses=[["HOUSE"], ["IX-1"]])
    return folder / "spiece.model"


def write_text_encoder(pipeline: Path) -> None:
    ids = jnp.ones((1, 1), jnp.int32)
    shapes = jax.eval_shape(lambda: UMT5.init(jax.random.key(0), ids, ids))["params"]
    t5.save_encoder(pipeline / "text_encoder", UMT5, tiny_wan.random(shapes, 3))
    (pipeline / "tokenizer").mkdir()
    spiece(pipeline / "tokenizer")
    (pipeline / "tokenizer" / "tokenizer_config.json").write_text('{"extra_ids": 100}')


def write_image_encoder(pipeline: Path) -> None:
    tower = ImageEncoder(tiny_wan.CLIP, 2, 10, 3, 8, 4, "gelu", 1e-5)
    shapes = jax.eval_shape(lambda: tower.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))["params"]
    tensors = names.to_theirs(clip.table_of(tower), tiny_wan.random(shapes, 4))
    width = tiny_wan.CLIP
    tensors |= {"post_layernorm.weight": np.ones(width), "post_layernorm.bias": np.ones(width)}
    folder = pipeline / "image_encoder"
    state_dict.write(folder, TOWER, {f"vision_model.{name}": array for name, array in tensors.items()})
    (pipeline / "image_processor").mkdir()
    (pipeline / "image_processor" / "preprocessor_config.json").write_text('{"size": 8}')


def write(pipeline: Path, variant: str, *, encoders: bool = True) -> Path:
    """A pipeline's folder of a variant, with the files that loaders of diffusers look for."""
    record = find(variant)
    pipeline.mkdir(parents=True, exist_ok=True)
    tiny_wan.write_transformer(pipeline, variant)
    tiny_wan.write_vae(pipeline / "vae")
    if encoders:
        write_text_encoder(pipeline)
        if record.clip_dim:
            write_image_encoder(pipeline)
    (pipeline / "scheduler").mkdir()
    (pipeline / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "UniPCMultistepScheduler"}')
    kind = "WanAnimateTransformer3DModel" if record.face else "WanTransformer3DModel"
    index = {
        "_class_name": "WanAnimatePipeline" if record.face else "WanPipeline",
        "boundary_ratio": record.boundary,
        "expand_timesteps": record.time == "token",
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "transformer": ["diffusers", kind],
        "transformer_2": ["diffusers", kind] if record.experts else [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (pipeline / "model_index.json").write_text(json.dumps(index))
    return pipeline
