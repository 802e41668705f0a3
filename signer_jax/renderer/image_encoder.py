"""CLIP's vision tower as image-to-video Wan uses it: a picture to the states of its last block but one.

Source: "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020); OpenCLIP's ViT-H/14
in Wan 2.1 (I2V, FLF2V), read as diffusers' pipelines do (`pipeline_wan_i2v.py`: `hidden_states[-2]`). The last block,
the final norm and the projection have no part in that and are not here. Matmuls run in `dtype`, norms and softmax in
float32.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float, UInt8
from PIL import Image

from signer_jax.dense import Dense
from signer_jax.matmul import dense_dot
from signer_jax.renderer.attention import attention

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures, red, green, blue in 0…1
DEVIATION = (0.26862954, 0.26130258, 0.27577711)

_dense = partial(Dense, dot_general=dense_dot)
_norm = partial(nn.LayerNorm, dtype=jnp.float32, use_fast_variance=False)


def preprocess(picture: UInt8[np.ndarray, "h w 3"], size: int = 224) -> Float[np.ndarray, "size size 3"]:
    """The picture as CLIP sees it, float32: bicubic to `size` on its shorter side, the middle square, normalised.

    Equals transformers' CLIPImageProcessor with its own settings, which published pipelines have. What a long picture
    has outside of its middle square is not seen (Wan's own code squeezes the whole picture into the square instead).
    """
    h, w, _ = picture.shape
    # The longer side is cut off to whole pixels.
    height, width = (size, int(size * w / h)) if h <= w else (int(size * h / w), size)
    resized = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
    top, left = (height - size) // 2, (width - size) // 2
    middle = resized[top : top + size, left : left + size].astype(np.float32) / 255
    return (middle - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)


def quick_gelu(x: Float[jax.Array, "*b"]) -> Float[jax.Array, "*b"]:
    """x · sigmoid(1.702 x): OpenAI's CLIP; OpenCLIP, and so Wan, has the exact GELU."""
    return x * nn.sigmoid(1.702 * x)


_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": partial(nn.gelu, approximate=False),
    "quick_gelu": quick_gelu,
}


class Block(nn.Module):
    """Self-attention and feed-forward, each normed before and added after. Returns a pair, as `nn.scan` wants."""

    heads: int
    ffn_dim: int
    activation: str
    eps: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[jax.Array, "b l d"]) -> tuple[Float[jax.Array, "b l d"], None]:
        dim = x.shape[-1]
        dense = partial(_dense, dtype=self.dtype)

        def split(y: jax.Array) -> jax.Array:  # [b, l, d] -> [b, l, h, d / h]
            return y.reshape(*y.shape[:2], self.heads, dim // self.heads)

        normed = _norm(self.eps, name="attention_norm")(x).astype(self.dtype)
        query, key, value = (split(dense(dim, name=name)(normed)) for name in ("query", "key", "value"))
        x = x + dense(dim, name="out")(attention(query, key, value).reshape(x.shape))
        normed = _norm(self.eps, name="mlp_norm")(x).astype(self.dtype)
        hidden = _ACTIVATIONS[self.activation](dense(self.ffn_dim, name="wi")(normed))
        return x + dense(dim, name="wo")(hidden), None


class ImageEncoder(nn.Module):
    """`layers` blocks over a class token and the patches of a square picture; ViT-H/14 with 31 of its 32 in Wan."""

    dim: int
    heads: int
    ffn_dim: int
    layers: int
    image_size: int
    patch: int
    activation: str
    eps: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, pictures: Float[jax.Array, "b h w 3"]) -> Float[jax.Array, "b l d"]:
        """States `[b, 1 + (h / patch)², d]` of `preprocess`ed pictures: the class token, then the patches in rows."""
        b, side = pictures.shape[0], self.image_size // self.patch
        small = nn.initializers.normal(self.dim**-0.5)
        x = pictures.astype(self.dtype).reshape(b, side, self.patch, side, self.patch, 3)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(b, side * side, -1)
        x = _dense(self.dim, use_bias=False, dtype=self.dtype, name="patch_embedding")(x)
        first = self.param("class_embedding", small, (self.dim,))
        x = jnp.concatenate([jnp.broadcast_to(first.astype(self.dtype), (b, 1, self.dim)), x], axis=1)
        x = x + self.param("position_embedding", small, (1 + side * side, self.dim)).astype(self.dtype)
        x = _norm(self.eps, name="norm")(x).astype(self.dtype)
        scanned = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.layers)
        x, _ = scanned(self.heads, self.ffn_dim, self.activation, self.eps, self.dtype, name="layers")(x)
        return x
