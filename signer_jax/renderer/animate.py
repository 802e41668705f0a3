"""Wan-Animate's face branch: a face video to motion tokens, which some of the blocks attend to.

Facts from the public WanAnimateTransformer3DModel. A motion encoder gives each picture of the face a vector (a
weighted sum of a few orthogonal directions, as in LIA), a causal encoder in time gives each latent frame some tokens of
them, and an adapter after the first of every few blocks lets a latent frame's tokens attend to its own face tokens.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from signer_jax.dense import Dense
from signer_jax.errors import SignerError
from signer_jax.layout import constrain, ways
from signer_jax.matmul import dense_dot
from signer_jax.renderer.attention import frame_attention
from signer_jax.renderer.variants import FaceBranch

_TAPS = (0.125, 0.375, 0.375, 0.125)  # of the blur before every halving, in each direction
_SLOPE, _GAIN = 0.2, math.sqrt(2)
_WIDTH = 3  # of the convolutions in time

_plain_norm = partial(nn.LayerNorm, dtype=jnp.float32, use_bias=False, use_scale=False, use_fast_variance=False)


def leaky(x: jax.Array) -> jax.Array:
    """√2 · leaky ReLU: keeps the variance of normal inputs (StyleGAN 2)."""
    return nn.leaky_relu(x, _SLOPE) * _GAIN


def blur(x: Float[jax.Array, "n y x c"], pad: int) -> Float[jax.Array, "n y2 x2 c"]:
    """A binomial filter of four taps in both directions, over `pad` pixels of zeros on every side."""
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    for axis in (1, 2):
        length = x.shape[axis] - len(_TAPS) + 1
        shifted = [jax.lax.slice_in_dim(x, i, i + length, axis=axis) for i in range(len(_TAPS))]
        x = sum((tap * part for tap, part in zip(_TAPS, shifted, strict=True)), jnp.zeros_like(shifted[0]))
    return x


class ScaledConv(nn.Module):
    """A convolution whose weights are stored with variance 1 and scaled by 1/√fan_in where they are used."""

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[jax.Array, "n y x c"]) -> Float[jax.Array, "n y2 x2 features"]:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape) / math.sqrt(math.prod(shape[:3]))
        padding = [(self.padding, self.padding)] * 2
        x = jax.lax.conv_general_dilated(
            x.astype(self.dtype), kernel.astype(self.dtype), (self.stride,) * 2, padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return x + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype) if self.bias else x


class ScaledDense(nn.Module):
    """The same of a linear layer."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[jax.Array, "n c"]) -> Float[jax.Array, "n features"]:
        kernel = self.param("kernel", nn.initializers.normal(1.0), (x.shape[-1], self.features))
        kernel = (kernel / math.sqrt(x.shape[-1])).astype(self.dtype)
        return x @ kernel + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)


class MotionWeights(nn.Module):
    """Pictures to the weights of the directions of motion; a step of a scan over batches of pictures."""

    branch: FaceBranch
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, carry: None, x: Float[jax.Array, "n y x 3"]) -> tuple[None, Float[jax.Array, "n m"]]:
        branch, conv = self.branch, partial(ScaledConv, dtype=self.dtype)
        x = leaky(conv(branch.channels[0], 1, name="conv_in")(x))
        for i, (width, features) in enumerate(zip(branch.channels, branch.channels[1:], strict=False)):
            h = leaky(conv(width, 3, padding=1, name=f"block_{i}_conv1")(x))
            h = leaky(conv(features, 3, stride=2, name=f"block_{i}_conv2")(blur(h, 2)))
            skip = conv(features, 1, stride=2, bias=False, name=f"block_{i}_skip")(blur(x, 1))
            x = (h + skip) / math.sqrt(2)
        x = conv(branch.style_dim, 4, bias=False, name="conv_out")(x)[:, 0, 0]
        for i in range(branch.motion_blocks):  # nothing between them, as in the original
            features = branch.motion_dim if i == branch.motion_blocks - 1 else branch.style_dim
            x = ScaledDense(features, self.dtype, name=f"linear_{i}")(x)
        return None, x


class MotionEncoder(nn.Module):
    """Pictures of a face, in [-1, 1], to a vector each: Σ weight · direction, the directions orthogonal."""

    branch: FaceBranch
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, pictures: Float[jax.Array, "n y x 3"]) -> Float[jax.Array, "n motion_out"]:
        """Raises `SignerError` for pictures of another size."""
        branch, n = self.branch, len(pictures)
        if pictures.shape[1:] != (branch.size, branch.size, 3):
            raise SignerError(
                f"face video: pictures of {pictures.shape[2]}x{pictures.shape[1]}, this model takes faces of "
                f"{branch.size}x{branch.size}; cut out and resize the face"
            )
        batch = min(branch.batch, n)
        batches = -(-n // batch)
        rows = jnp.pad(pictures, ((0, batches * batch - n), (0, 0), (0, 0), (0, 0)))
        scan = nn.scan(nn.remat(MotionWeights), variable_broadcast="params", split_rngs={"params": False})
        weights = scan(branch, self.dtype, name="weights")(None, rows.reshape(batches, batch, *rows.shape[1:]))[1]
        weights = weights.reshape(batches * batch, -1)[:n].astype(jnp.float32)
        directions = self.param("directions", nn.initializers.normal(1.0), (branch.motion_out, branch.motion_dim))
        # In float32, however a frozen branch lies in memory: there is no QR in bfloat16.
        return (weights @ jnp.linalg.qr(directions.astype(jnp.float32) + 1e-8)[0].T).astype(self.dtype)


class FaceEncoder(nn.Module):
    """Vectors of a video's frames to tokens of its latent frames, in time alone and causally; 4 frames to a latent."""

    branch: FaceBranch
    dim: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, motion: Float[jax.Array, "b t c"]) -> Float[jax.Array, "b k n dim"]:
        """n = heads + 1 tokens: the last one is learned, the same everywhere."""
        b, heads, hidden = len(motion), self.branch.heads, self.branch.hidden

        def conv(x: jax.Array, features: int, stride: int, name: str) -> jax.Array:
            x = jnp.pad(x, ((0, 0), (_WIDTH - 1, 0), (0, 0)), mode="edge")
            return nn.Conv(features, (_WIDTH,), stride, padding="VALID", dtype=self.dtype, name=name)(x)

        def normed(x: jax.Array) -> jax.Array:
            return nn.silu(_plain_norm(1e-6)(x)).astype(self.dtype)

        x = conv(motion.astype(self.dtype), heads * hidden, 1, "conv_in")
        x = x.reshape(b, -1, heads, hidden).swapaxes(1, 2).reshape(b * heads, -1, hidden)
        for name in ("down_0", "down_1"):
            x = conv(normed(x), hidden, 2, name)
        x = Dense(self.dim, dtype=self.dtype, name="out")(normed(x))
        x = x.reshape(b, heads, -1, self.dim).swapaxes(1, 2)
        learned = self.param("token", nn.initializers.zeros, (self.dim,)).astype(self.dtype)
        return jnp.concatenate([x, jnp.broadcast_to(learned, (*x.shape[:2], 1, self.dim))], axis=2)


class FaceAttention(nn.Module):
    """The tokens of each latent frame attend to the face tokens of the same frame; what is to be added to them.

    `tokens` are a frame's; those after the last frame's only fill the length up, where a mesh splits it.
    """

    heads: int
    eps: float
    dtype: jnp.dtype
    attend: Callable[..., jax.Array]
    tokens: int

    @nn.compact
    def __call__(self, x: Float[jax.Array, "b l d"], face: Float[jax.Array, "b k n d"]) -> Float[jax.Array, "b l d"]:
        b, frames, _, dim = face.shape
        dense = partial(Dense, dim, dtype=self.dtype, dot_general=dense_dot)

        def split(y: jax.Array) -> jax.Array:  # [..., d] -> [..., h, d / h]
            return y.reshape(*y.shape[:-1], self.heads, dim // self.heads)

        def normed(y: jax.Array, name: str) -> jax.Array:  # each head for itself, unlike the blocks' own attention
            return nn.RMSNorm(self.eps, dtype=jnp.float32, name=name)(split(y)).astype(self.dtype)

        context = _plain_norm(self.eps)(face).astype(self.dtype)
        query = normed(dense(name="query")(_plain_norm(self.eps)(x).astype(self.dtype)), "query_norm")
        key, value = normed(dense(name="key")(context), "key_norm"), split(dense(name="value")(context))
        if ways("tokens") > 1:
            attended = frame_attention(query, key, value, tokens=self.tokens)
        else:
            attended = self.attend(*(y.reshape(b * frames, -1, *y.shape[-2:]) for y in (query, key, value)))
        return constrain(dense(name="out")(attended.reshape(x.shape)), "batch", "tokens", "embed")
