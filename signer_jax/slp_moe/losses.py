"""Losses of SLP-MoE and the stabiliser (PAPER 2.3): arrays in, one value an example out, float32.

The paper writes sums over time; here each is a mean over the frames and joints that exist (per joint: the squared
Euclidean length over the coordinates), so that a clip's loss does not grow with its length or its number of joints. The
paper's value is this one times the number of valid frames and joints. `confidence` `[b, t, j]` is 0 where a joint is
missing; `frame_mask` `[b, t]` marks real frames. An example with nothing to compare has loss 0.
"""

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from signer_jax.masked import masked_mean
from signer_jax.types import Array


def _masked(confidence: Array, frame_mask: Array | None) -> Float[Array, "b t j"]:
    confidence = confidence.astype(jnp.float32)
    return confidence if frame_mask is None else confidence * frame_mask.astype(jnp.float32)[..., None]


def moe_loss(weights: Float[Array, "b n e"], chosen: Int[Array, "b n"]) -> Float[Array, " b"]:
    """L_MoE = -log Σ_k w_k 1[k = y], the mean over the glosses whose y is known (`chosen` >= 0).

    y must name a candidate that exists; where it does not, the weight is 0 and the term a constant 87 (-log of the
    smallest normal float32), which shows.
    """
    known = chosen >= 0
    picked = jnp.take_along_axis(weights.astype(jnp.float32), jnp.maximum(chosen, 0)[..., None], axis=-1)[..., 0]
    value = -jnp.log(jnp.maximum(picked, jnp.finfo(jnp.float32).tiny))
    return masked_mean(value, known, axis=1)


def negative_entropy(weights: Float[Array, "b n e"], gloss_mask: Bool[Array, "b n"]) -> Float[Array, " b"]:
    """L_ent = Σ_k w_k log w_k (0 log 0 = 0), the mean over the glosses of `gloss_mask`; -log e where gates are even."""
    weights = weights.astype(jnp.float32)
    some = weights > 0
    value = jnp.where(some, weights * jnp.log(jnp.where(some, weights, 1.0)), 0.0).sum(axis=-1)
    return masked_mean(value, gloss_mask, axis=1)


def _difference_penalty(pose: Array, confidence: Array, frame_mask: Array | None, order: int) -> Float[Array, " b"]:
    """Mean squared length of the `order`-th difference over time, where all its frames show the joint."""
    difference = pose.astype(jnp.float32)
    valid = (_masked(confidence, frame_mask) > 0).astype(jnp.float32)
    # Coordinates of a missing joint may be anything, infinite too: they must not reach the product with a zero weight.
    difference = jnp.where(valid[..., None] > 0, difference, 0.0)
    for _ in range(order):
        difference = difference[:, 1:] - difference[:, :-1]
        valid = valid[:, 1:] * valid[:, :-1]
    return masked_mean(jnp.square(difference).sum(axis=-1), valid, axis=(1, 2))


def smoothness(
    pose: Float[Array, "b t j c"],
    confidence: Float[Array, "b t j"],
    *,
    order: int,
    frame_mask: Bool[Array, "b t"] | None = None,
) -> Float[Array, " b"]:
    """L_smooth, order 2: mean ‖p̂_{t+1} - 2 p̂_t + p̂_{t-1}‖² (the paper's); order 3: the third difference (jerk).

    Squared shoulder widths a frame^order. Every frame and joint whose whole stencil is shown counts the same.
    """
    if order not in (2, 3):
        raise ValueError(f"smoothness: order is {order}, it must be 2 or 3")
    return _difference_penalty(pose, confidence, frame_mask, order)


def velocity_loss(
    pose: Float[Array, "b t j c"],
    confidence: Float[Array, "b t j"],
    *,
    frame_mask: Bool[Array, "b t"] | None = None,
) -> Float[Array, " b"]:
    """L_vel = mean ‖p̂_t - p̂_{t-1}‖² over the frames and joints shown in both; squared shoulder widths a frame."""
    return _difference_penalty(pose, confidence, frame_mask, 1)


def pose_reconstruction(
    pose: Float[Array, "b t j c"],
    target: Float[Array, "b t j c"],
    confidence: Float[Array, "b t j"],
    *,
    frame_mask: Bool[Array, "b t"] | None = None,
) -> Float[Array, " b"]:
    """Mean ‖p̂ - p*‖² over frames and joints, weighted by `confidence` (the ground truth's); squared shoulder widths."""
    weight = _masked(confidence, frame_mask)
    error = pose.astype(jnp.float32) - target.astype(jnp.float32)
    # Masked before the square: where a missing joint's coordinates are not finite, the gradient must not be either.
    error = jnp.where(weight[..., None] > 0, error, 0.0)
    return masked_mean(jnp.square(error).sum(axis=-1), weight, axis=(1, 2))


def hand_loss(
    pose: Float[Array, "b t j c"],
    target: Float[Array, "b t j c"],
    confidence: Float[Array, "b t j"],
    hand_index: Int[Array, " hand_joints"],
    *,
    frame_mask: Bool[Array, "b t"] | None = None,
) -> Float[Array, " b"]:
    """L_hand = mean ‖Ĥ_t - H*_t‖² over the joints of `hand_index` (the 42 hand joints), weighted by `confidence`.

    `confidence` is the detection confidence of the ground truth. Multiply it by `pose`'s own presence beforehand where
    the pose can lack joints that the target has: the loss cannot move a joint that is not there.
    """
    return pose_reconstruction(
        pose[:, :, hand_index], target[:, :, hand_index], confidence[:, :, hand_index], frame_mask=frame_mask
    )
