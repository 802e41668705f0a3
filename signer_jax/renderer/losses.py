"""The renderer's loss, and the extra weight of hands and face."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from signer_jax.masked import masked_mean
from signer_jax.renderer.control import fold_time


def flow_matching(
    prediction: Float[jax.Array, "b t h w c"],
    target: Float[jax.Array, "b t h w c"],
    weight: Float[jax.Array, "b t h w 1"] | None = None,
) -> Float[jax.Array, "b"]:
    """Weighted mean squared error of the velocity, Σ w (v̂ − v)² / Σ w for each example, in float32.

    `weight` broadcasts over the latents; an example whose weights are all zero costs 0.
    """
    error = jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32))
    weight = jnp.ones(()) if weight is None else weight
    return masked_mean(error, weight, axis=tuple(range(1, error.ndim)))


def covered(drawn: Float[jax.Array, "b t y x"], *, time_ratio: int, space_ratio: int) -> Float[jax.Array, "b k h w 1"]:
    """How much of each latent what is `drawn` (0…1 a pixel) covers.

    A latent covers `time_ratio` frames (see `fold_time`) and a square of `space_ratio` pixels; it counts as covered as
    much as its strongest pixel is. Raises `SignerError` unless t = time_ratio·k + 1.
    """
    mask = fold_time(drawn[..., None], time_ratio).max(-1)  # [b, k, y, x]
    b, k, y, x = mask.shape
    mask = mask.reshape(b, k, y // space_ratio, space_ratio, x // space_ratio, space_ratio).max((3, 5))
    return mask[..., None]


def hand_weight(hands: Float[jax.Array, "b k h w 1"], gain: float) -> Float[jax.Array, "b k h w 1"]:
    """Weights over the latents: `gain` where hands cover one, 1 elsewhere (ControlNeXt: hands weigh more)."""
    return 1.0 + (gain - 1.0) * hands


def hand_and_face_weight(
    hands: Float[jax.Array, "b k h w 1"], faces: Float[jax.Array, "b k h w 1"], *, hand: float, face: float
) -> Float[jax.Array, "b k h w 1"]:
    """`hand_weight`, and `face` where a face is that no hand covers: a hand before the face weighs as hands do."""
    return hand_weight(hands, hand) + (face - 1.0) * faces * (1.0 - hands)
