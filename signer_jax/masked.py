"""The one masked mean: pooling states, scores and losses over what exists."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from signer_jax.types import Array


def masked_mean(values: Array, weight: Array, axis: int | tuple[int, ...]) -> Float[jax.Array, "..."]:
    """Σ weight·values / Σ weight over `axis`, float32; 0 where the weights are all 0.

    `weight` (boolean, or numbers from 0) broadcasts to `values`. What has no weight may be anything, infinite too: it
    reaches neither the mean nor its gradient.
    """
    weight = jnp.broadcast_to(weight.astype(jnp.float32), values.shape)
    total = weight.sum(axis)
    kept = jnp.where(weight > 0, values.astype(jnp.float32), 0.0)
    return (kept * weight).sum(axis) / jnp.where(total > 0, total, 1.0)
