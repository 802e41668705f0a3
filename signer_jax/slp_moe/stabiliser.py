"""The stabiliser: P̂ = refine(P_pose) (PAPER 2.3): a learned low-pass filter a joint, and what a network adds to it.

A network alone has to learn first that neighbouring frames agree; the filter starts from it.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from signer_jax.dense import Dense
from signer_jax.matmul import conv_over_time
from signer_jax.types import Array

FIRST_TAPS = np.log(np.array([1.0, 2.0, 1.0], np.float32))
# The network's share at the start (LayerScale, arXiv 2103.17239): its first, random steps must not cost what the filter
# has won.
FIRST_SCALE = 0.1


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
        inner = nn.Conv(
            self.hidden, (self.kernel,), padding="VALID", dtype=self.dtype, conv_general_dilated=conv_over_time,
            name="conv",
        )(inner)  # fmt: skip
        return states + Dense(self.hidden, dtype=self.dtype, name="out")(nn.gelu(inner))


def low_pass(
    pose: Float[Array, "b t j c"], shown: Bool[Array, "b t j 1"], lengths: Int[Array, " b"], taps: Float[Array, "k j"]
) -> Float[Array, "b t j c"]:
    """Each joint's average over k neighbouring frames that show it, weighted by `taps` (positive, k odd)."""
    b, t, j, c = pose.shape
    k = len(taps)
    seen = extend_edges(shown.astype(jnp.float32).reshape(b, t, j), lengths, k // 2)
    values = extend_edges(jnp.where(shown, pose, 0.0).reshape(b, t, j * c), lengths, k // 2).reshape(b, -1, j, c)
    frames = [slice(i, i + t) for i in range(k)]
    total = sum(tap[:, None] * values[:, at] for tap, at in zip(taps, frames, strict=True))
    weight = sum(tap * seen[:, at] for tap, at in zip(taps, frames, strict=True))
    return total / jnp.maximum(jnp.asarray(weight), 1e-6)[..., None]


def restrained(
    change: Float[Array, "b t j c"], confidence: Float[Array, "b t j"], reach: float
) -> Float[Array, "b t j c"]:
    """The change of each joint, made no longer than `reach` over its confidence: who is seen surely is moved least."""
    most = reach / jnp.maximum(confidence, 1e-3)[..., None]
    square = jnp.square(change).sum(axis=-1, keepdims=True)
    beyond = square > jnp.square(most)
    # The root of 0 has no gradient, so it is taken of what is beyond alone.
    return change * jnp.where(beyond, most / jnp.sqrt(jnp.where(beyond, square, 1.0)), 1.0)


class Stabiliser(nn.Module):
    """Refines `[b, t, j, c]` over time; starts as the binomial filter (1, 2, 1) / 4 (its output layer is zero).

    No joint moves farther than `reach` (shoulder widths; 0: any way) over its confidence. `kernel` is odd and counts
    frames; `layers` blocks see layers·(kernel-1)/2 frames to either side. A missing joint (confidence 0) is left as it
    came and influences no other; nothing here makes it appear.
    """

    hidden: int
    layers: int
    kernel: int
    dtype: jnp.dtype = jnp.float32
    scan_unroll: int = 1
    remat: bool = False
    reach: float = 0.0

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
        states = Dense(self.hidden, dtype=self.dtype, name="embed")(inputs.astype(self.dtype))
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
        change = Dense(j * c, dtype=jnp.float32, kernel_init=nn.initializers.zeros, name="out")(states)
        change = change * self.param("scale", nn.initializers.constant(FIRST_SCALE), (j * c,))
        taps = self.param("taps", lambda _, joints: jnp.tile(FIRST_TAPS[:, None], (1, joints)), j)  # logits [3, j]
        filtered = low_pass(pose, shown, lengths, jnp.asarray(nn.softmax(taps, axis=0)))
        stable = filtered + change.reshape(b, t, j, c)
        if self.reach:
            stable = pose + restrained(jnp.where(shown, stable - pose, 0.0), confidence, self.reach)
        return jnp.where(shown, stable, pose)
