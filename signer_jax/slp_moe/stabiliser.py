"""The stabiliser: a residual temporal convolution network over the blended pose, P̂ = refine(P_pose) (PAPER 2.3)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from signer_jax.types import Array


def extend_edges(states: Float[Array, "b t d"], lengths: Int[Array, " b"], reach: int) -> Float[Array, "b padded_t d"]:
    """`reach` more frames on both sides; each frame outside an example repeats its first or last real frame.

    The clip's end is where its padding begins, so that a clip's result does not depend on how far its batch is padded.
    """
    t = states.shape[1]
    frames = jnp.arange(-reach, t + reach)
    last = jnp.maximum(lengths, 1)[:, None] - 1
    return jnp.take_along_axis(states, jnp.clip(frames[None], 0, last)[..., None], axis=1)


class StabiliserBlock(nn.Module):
    """h + Dense(gelu(Conv over time(LayerNorm(h)))); the norm in float32."""

    hidden: int
    kernel: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, states: Float[Array, "b t d"], lengths: Int[Array, " b"]) -> Float[Array, "b t d"]:
        inner = nn.LayerNorm(dtype=jnp.float32, name="norm")(states).astype(self.dtype)
        inner = extend_edges(inner, lengths, self.kernel // 2)
        inner = nn.Conv(self.hidden, (self.kernel,), padding="VALID", dtype=self.dtype, name="conv")(inner)
        return states + nn.Dense(self.hidden, dtype=self.dtype, name="out")(nn.gelu(inner))


class Stabiliser(nn.Module):
    """Refines `[b, t, j, c]` over time; starts as the identity (its output layer is zero).

    `kernel` is odd and counts frames; `layers` blocks see layers·(kernel-1)/2 frames to either side. A missing joint
    (confidence 0) is left as it came and influences no other; nothing here makes it appear.
    """

    hidden: int
    layers: int
    kernel: int
    dtype: jnp.dtype = jnp.float32
    scan_unroll: int = 1
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        pose: Float[Array, "b t j c"],
        confidence: Float[Array, "b t j"],
        frame_mask: Bool[Array, "b t"] | None = None,
    ) -> Float[Array, "b t j c"]:
        """The refined pose, float32, same units. `frame_mask` marks real frames; padding comes last."""
        if self.kernel % 2 == 0:
            raise ValueError(f"Stabiliser: kernel is {self.kernel}, it must be odd")
        b, t, j, c = pose.shape
        lengths = jnp.full(b, t) if frame_mask is None else frame_mask.astype(jnp.int32).sum(axis=1)
        pose, confidence = pose.astype(jnp.float32), confidence.astype(jnp.float32)
        shown = (confidence > 0)[..., None]

        inputs = jnp.concatenate([jnp.where(shown, pose, 0.0).reshape(b, t, j * c), confidence], axis=-1)
        states = nn.Dense(self.hidden, dtype=self.dtype, name="embed")(inputs.astype(self.dtype))
        block = nn.remat(StabiliserBlock, prevent_cse=False) if self.remat else StabiliserBlock
        states, _ = nn.scan(
            lambda layer, carry, lengths: (layer(carry, lengths), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.layers,
            unroll=self.scan_unroll,
        )(block(self.hidden, self.kernel, self.dtype, name="layers"), states, lengths)
        states = nn.LayerNorm(dtype=jnp.float32, name="norm")(states)
        change = nn.Dense(j * c, dtype=jnp.float32, kernel_init=nn.initializers.zeros, name="out")(states)
        return jnp.where(shown, pose + change.reshape(b, t, j, c), pose)
