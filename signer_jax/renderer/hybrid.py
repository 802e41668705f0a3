"""A convolutional U around the video transformer: for small pictures that learn from scratch.

A transformer on the latents alone leaves its patches to fit each other by luck, and carries every detail of the pose
picture through its tokens. Here the pose picture, the noisy latents and the reference meet at the full latent
resolution; the stem halves it level by level, the transformer works on the smallest, and the head climbs back and sees
at each level what the stem saw (a U-Net, Ronneberger et al. 2015, with the transformer for its bottom). The transformer
itself is unchanged: it takes the stem's features for latents, and gives features back.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from signer_jax.dense import Dense
from signer_jax.renderer.convolution import Convolution
from signer_jax.renderer.schedule import timestep_embedding
from signer_jax.renderer.vae import RMSNorm

_STRETCH = 0.1


def fold_space(picture: Float[jax.Array, "b t y x c"], size: int) -> Float[jax.Array, "b t h w k"]:
    """Lays `size` × `size` pixels side by side in the channels, ordered (y, x, c); `size` must divide y and x."""
    b, t, y, x, c = picture.shape
    folded = picture.reshape(b, t, y // size, size, x // size, size, c).swapaxes(3, 4)
    return folded.reshape(b, t, y // size, x // size, size * size * c)


def unfold_space(x: Float[jax.Array, "b t h w k"], size: int) -> Float[jax.Array, "b t y x c"]:
    """The inverse of `fold_space`: channels, ordered (y, x, c), become `size` × `size` pixels."""
    b, t, h, w, k = x.shape
    unfolded = x.reshape(b, t, h, w, size, size, k // size**2).swapaxes(3, 4)
    return unfolded.reshape(b, t, h * size, w * size, k // size**2)


class TimedBlock(nn.Module):
    """Norm, SiLU, 3×3 convolution, twice, frame by frame; the noise level scales and shifts what lies between."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[jax.Array, "b t h w c"], time: Float[jax.Array, "b k"]) -> jax.Array:
        modulation = Dense(2 * self.features, kernel_init=nn.initializers.zeros, name="time")(time)
        scale, shift = jnp.split(modulation[:, None, None, None], 2, axis=-1)
        y = nn.silu(RMSNorm(name="norm1")(x))
        y = Convolution(self.features, (1, 3, 3), dtype=self.dtype, name="conv1")(y)
        y = nn.silu(RMSNorm(name="norm2")(y) * (1 + scale) + shift).astype(self.dtype)
        # Zero at the start: the block is then the identity, and depth costs nothing.
        zero = nn.initializers.zeros
        return x + Convolution(self.features, (1, 3, 3), dtype=self.dtype, kernel_init=zero, name="conv2")(y)


def _time(sigma_step: jax.Array, freq_dim: int, features: int) -> Float[jax.Array, "b k"]:
    return nn.silu(Dense(features, name="time_in")(timestep_embedding(sigma_step, freq_dim)))


class Stem(nn.Module):
    """A guess of the latents from the noisy ones, the reference's and the pose picture, to features of every level."""

    features: tuple[int, ...]  # channels a level, the first at the latents' grid, each further one at half of it
    blocks: int  # a level
    freq_dim: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        guess: Float[jax.Array, "b t h w z"],
        reference: Float[jax.Array, "b h w z"],
        picture: Float[jax.Array, "b t y x g"],
        timestep: Float[jax.Array, "b"],
    ) -> list[Float[jax.Array, "b t h2 w2 f"]]:
        """The levels' features, the finest first; the last are the transformer's.

        `picture` has one frame a latent frame and a side that the latents' divides; `timestep` is 1000 σ. The latents'
        side must be a multiple of 2^(levels - 1).
        """
        time = _time(timestep, self.freq_dim, self.features[0])
        folded = fold_space(picture.astype(self.dtype), picture.shape[2] // guess.shape[2])
        # One linear map of all three; the reference's share is the same for every frame and is computed once.
        moving = jnp.concatenate([guess.astype(self.dtype), folded], axis=-1)
        x = Dense(self.features[0], dtype=self.dtype, name="embedding")(moving)
        x = x + Dense(self.features[0], dtype=self.dtype, name="reference")(reference)[:, None]
        levels: list[jax.Array] = []
        for level, features in enumerate(self.features):
            if level:
                x = Dense(features, dtype=self.dtype, name=f"down_{level}")(fold_space(x, 2))
            for i in range(self.blocks):
                x = TimedBlock(features, self.dtype, name=f"block_{level}_{i}")(x, time)
            levels.append(x)
        return levels


class Head(nn.Module):
    """The transformer's features, and the stem's of every level, to latents."""

    features: tuple[int, ...]  # as the stem's
    blocks: int  # a level but the last, whose blocks are the transformer's
    freq_dim: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        deep: Float[jax.Array, "b t h2 w2 f"],
        levels: list[Float[jax.Array, "b t h2 w2 f"]],
        guess: Float[jax.Array, "b t h w z"],
        reference: Float[jax.Array, "b h w z"],
        timestep: Float[jax.Array, "b"],
    ) -> Float[jax.Array, "b t h w z"]:
        """The clean latents, float32: of what stands still a share of the reference, of the rest new ones.

        At the start half the reference and half the mean.
        """
        time = _time(timestep, self.freq_dim, self.features[0])
        x = levels[-1] + Dense(self.features[-1], dtype=self.dtype, name="merge")(deep.astype(self.dtype))
        for level in reversed(range(len(self.features) - 1)):
            features = self.features[level]
            x = unfold_space(Dense(4 * features, dtype=self.dtype, name=f"up_{level}")(x), 2)
            x = Dense(features, dtype=self.dtype, name=f"skip_{level}")(jnp.concatenate([x, levels[level]], axis=-1))
            for i in range(self.blocks):
                x = TimedBlock(features, self.dtype, name=f"block_{level}_{i}")(x, time)
        x = nn.silu(RMSNorm(name="norm_out")(x))
        z, zero = guess.shape[-1], nn.initializers.zeros
        out = Convolution(z + 1, (1, 3, 3), dtype=self.dtype, kernel_init=zero, name="conv_out")(x).astype(jnp.float32)
        made = out[..., :z] + Dense(z, use_bias=False, kernel_init=zero, name="straight")(guess)
        # Stretched beyond 0 and 1 and cut (Louizos et al. 2018), so that a share can be whole: nothing then flickers.
        share = jnp.clip((1 + 2 * _STRETCH) * nn.sigmoid(out[..., z:]) - _STRETCH, 0.0, 1.0)
        return share * reference[:, None] + (1 - share) * made
