"""ControlNeXt-style control: a light branch over the pose picture, injected once by cross normalisation.

Facts from the ControlNeXt paper (arXiv 2408.06070) and its public model; there is no official form for video
transformers. Here the branch ends on the transformer's token grid and is added right after the patch embedding.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from signer_jax.dense import Dense
from signer_jax.errors import SignerError
from signer_jax.renderer.schedule import timestep_embedding

_EPS = 1e-5


def fold_time(video: Float[jax.Array, "b t y x c"], ratio: int) -> Float[jax.Array, "b k y x ratio*c"]:
    """Lays the frames that one latent frame covers side by side in the channels; t = ratio·(k − 1) + 1.

    As in the VAE, latent 0 covers frame 0 alone (here repeated `ratio` times) and latent k ≥ 1 the frames
    ratio·(k − 1) + 1 … ratio·k. Raises `SignerError` for another number of frames.
    """
    b, t, y, x, c = video.shape
    if (t - 1) % ratio:
        raise SignerError(f"control video: {t} frames do not fold by {ratio}; give {ratio}·k + 1 frames")
    first = jnp.repeat(video[:, :1], ratio - 1, axis=1)
    groups = jnp.concatenate([first, video], axis=1).reshape(b, -1, ratio, y, x, c)
    return jnp.moveaxis(groups, 2, 4).reshape(b, -1, y, x, ratio * c)


def cross_normalise(
    x: Float[jax.Array, "b t h w d"], control: Float[jax.Array, "b t h w d"], scale: Float[jax.Array, "b"]
) -> Float[jax.Array, "b t h w d"]:
    """x + ĉ·scale, where ĉ is the control brought to the mean and deviation of x (ControlNeXt, cross normalisation).

    ĉ = (c − μ_c) σ_x / σ_c + μ_x; the statistics are per frame over channels and space, in float32. Epsilon stands
    under the square roots, so that a constant control (an empty picture) has finite gradients.
    """
    axes = (2, 3, 4)
    features, c = x.astype(jnp.float32), control.astype(jnp.float32)
    deviation = jnp.sqrt(features.var(axes, keepdims=True) + _EPS)
    normal = (c - c.mean(axes, keepdims=True)) * jax.lax.rsqrt(c.var(axes, keepdims=True) + _EPS)
    matched = normal * deviation + features.mean(axes, keepdims=True)
    return (features + matched * scale.astype(jnp.float32)[:, None, None, None, None]).astype(x.dtype)


class ResidualBlock(nn.Module):
    """GroupNorm-SiLU-conv twice, the timestep added between them; a 1×1 shortcut where the width changes."""

    width: int
    groups: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[jax.Array, "n y x c"], time: Float[jax.Array, "n k"]) -> Float[jax.Array, "n y x w"]:
        h = nn.silu(nn.GroupNorm(self.groups, dtype=self.dtype, name="norm_in")(x))
        h = nn.Conv(self.width, (3, 3), padding=1, dtype=self.dtype, name="conv_in")(h)
        h = h + Dense(self.width, dtype=self.dtype, name="time")(nn.silu(time))[:, None, None]
        h = nn.silu(nn.GroupNorm(self.groups, dtype=self.dtype, name="norm_out")(h))
        h = nn.Conv(self.width, (3, 3), padding=1, dtype=self.dtype, name="conv_out")(h)
        if x.shape[-1] != self.width:
            x = nn.Conv(self.width, (1, 1), dtype=self.dtype, name="shortcut")(x)
        return x + h


class ControlBranch(nn.Module):
    """Pose pictures to control features on the token grid, frame by frame.

    `fold` x `fold` pixels are laid into channels first (1: none), so that a picture drawn finely is cheap to read. Then
    a stem of three 3×3 convolutions (the first with `strides[0]`), then a stage for each further entry: a
    time-conditioned residual block and, where its stride is above 1, a strided convolution; then a residual middle
    and a 1×1 convolution to `dim`. ControlNeXt's own size is channels (64, 128, 256), strides (2, 2, 2), groups 8,
    freq_dim 128, time_dim 256. The picture over `fold` and the product of the strides must be the token grid.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    dim: int
    groups: int
    freq_dim: int
    time_dim: int
    fold: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, control: Float[jax.Array, "b t y x c"], timestep: Float[jax.Array, "b"]
    ) -> Float[jax.Array, "b t h w dim"]:
        """`control` has one frame a latent frame (see `fold_time`); `timestep` is 1000 σ, `[b]` or per frame `[b, t]`.

        Raises `SignerError` where channels and strides differ in number or the picture does not divide by the strides.
        """
        if len(self.channels) != len(self.strides) or len(self.channels) < 2:
            raise SignerError(
                f"control branch: channels {self.channels} and strides {self.strides} must be equally many, two or more"
            )
        b, t, y, x, c = control.shape
        fold, down = self.fold, self.fold * math.prod(self.strides)
        if y % down or x % down:
            raise SignerError(
                f"control branch: a {y}x{x} picture does not divide by {down} (fold times strides); resize it"
            )

        frequencies = timestep_embedding(jnp.broadcast_to(timestep.reshape(b, -1), (b, t)), self.freq_dim)
        time = nn.silu(Dense(self.time_dim, name="time_in")(frequencies))
        time = Dense(self.time_dim, name="time_out")(time).reshape(b * t, self.time_dim)

        # Frames are independent: a larger batch of pictures.
        h = control.reshape(b * t, y // fold, fold, x // fold, fold, c).swapaxes(2, 3).astype(self.dtype)
        h = h.reshape(b * t, y // fold, x // fold, fold * fold * c)
        first, second = self.channels[:2]
        for i, (width, stride) in enumerate(((first, self.strides[0]), (first, 1), (second, 1))):
            h = nn.Conv(width, (3, 3), stride, padding=1, dtype=self.dtype, name=f"stem_{i}")(h)
            h = nn.relu(nn.GroupNorm(self.groups, dtype=self.dtype, name=f"stem_norm_{i}")(h))
        for i, (width, stride) in enumerate(zip(self.channels[1:], self.strides[1:], strict=True)):
            h = ResidualBlock(width, self.groups, self.dtype, name=f"block_{i}")(h, time)
            if stride > 1:
                h = nn.Conv(width, (3, 3), stride, padding=1, dtype=self.dtype, name=f"down_{i}")(h)

        width = self.channels[-1]
        middle = nn.Conv(width, (3, 3), padding=1, dtype=self.dtype, name="middle_in")(h)
        middle = nn.GroupNorm(self.groups, dtype=self.dtype, name="middle_norm_in")(nn.relu(middle))
        middle = nn.Conv(width, (3, 3), padding=1, dtype=self.dtype, name="middle_out")(middle)
        h = h + nn.GroupNorm(self.groups, dtype=self.dtype, name="middle_norm_out")(middle)
        h = nn.Conv(self.dim, (1, 1), dtype=self.dtype, name="out")(h)
        return h.reshape(b, t, y // down, x // down, self.dim)
