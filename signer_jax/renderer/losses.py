"""The renderer's loss, and the extra weight of the hands."""

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


def hand_weight(
    hands: Float[jax.Array, "b t y x"], *, time_ratio: int, space_ratio: int, gain: float
) -> Float[jax.Array, "b k h w 1"]:
    """Weights over the latents, `gain` where a hand is (mask 1) and 1 elsewhere (ControlNeXt: hands weigh more).

    A latent covers `time_ratio` frames (see `fold_time`) and a square of `space_ratio` pixels; it counts as a hand as
    much as its strongest pixel does. Raises `SignerError` unless t = time_ratio·k + 1.
    """
    mask = fold_time(hands[..., None], time_ratio).max(-1)  # [b, k, y, x]
    b, k, y, x = mask.shape
    mask = mask.reshape(b, k, y // space_ratio, space_ratio, x // space_ratio, space_ratio).max((3, 5))
    return 1.0 + (gain - 1.0) * mask[..., None]
