"""From noise to latents: Euler steps along the predicted velocity, with classifier-free guidance."""

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Float

Condition = TypeVar("Condition")  # any pytree of arrays whose first axis is the batch
Latents: TypeAlias = Float[jax.Array, "n t h w c"]


def sample(
    velocity: Callable[[Latents, Float[jax.Array, "n"], Condition], Latents],
    noise: Float[jax.Array, "b t h w c"],
    sigmas: Float[jax.Array, "steps+1"],
    *,
    guidance: float,
    condition: Condition,
    null_condition: Condition | None = None,
) -> Float[jax.Array, "b t h w c"]:
    """Solves dx/dσ = v(x, σ) from `noise` at `sigmas[0]` to `sigmas[-1]`, one Euler step a pair of levels.

    With `guidance` g ≠ 1 the velocity is v_null + g (v_cond − v_null), and the two come from one call on a doubled
    batch: n = 2b, the conditional half first. With g = 1 only the conditional half runs: n = b.

    Args:
      velocity: `velocity(x [n, ...], sigma [n], condition)`; it receives the conditions of all n rows.
      guidance: a Python number, since it decides what is compiled.
      condition, null_condition: pytrees of the same structure, every leaf `[b, ...]`: text, image, control, its scale.

    Raises:
      ValueError: guidance is not 1 and there is no `null_condition`.
    """
    if guidance == 1.0:
        conditions = condition
    elif null_condition is None:
        raise ValueError(f"sample: guidance {guidance} needs a null_condition to be guided away from")
    else:
        conditions = jax.tree.map(lambda c, n: jnp.concatenate([c, n]), condition, null_condition)

    def guided(x: jax.Array, sigma: jax.Array) -> jax.Array:
        if guidance == 1.0:
            return velocity(x, jnp.full(x.shape[0], sigma), conditions)
        v = velocity(jnp.concatenate([x, x]), jnp.full(2 * x.shape[0], sigma), conditions)
        conditional, null = jnp.split(v, 2)
        return null + guidance * (conditional - null)

    def step(x: jax.Array, levels: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        sigma, next_sigma = levels
        return (x + (next_sigma - sigma) * guided(x, sigma)).astype(x.dtype), None

    return jax.lax.scan(step, noise, (sigmas[:-1], sigmas[1:]))[0]


def colour(
    noise: Float[jax.Array, "b t h w z"], factor: Float[jax.Array, "z z"] | Float[jax.Array, "b z z"]
) -> Float[jax.Array, "b t h w z"]:
    """White noise to noise with the covariance F Fᵀ over the channels: every place's ε becomes F ε."""
    return jnp.einsum("bthwz,byz->bthwy", noise, jnp.broadcast_to(factor, (len(noise), *factor.shape[-2:])))


def shared_noise(
    rng: jax.Array, shape: tuple[int, int, int, int, int], *, shared: bool
) -> Float[jax.Array, "b t h w c"]:
    """Standard normal noise `[b, t, h, w, c]`; with `shared`, every frame of a clip has the same noise.

    One noise tensor for all frames takes the flicker of static pixels down to that of real video (WAN "Measured").
    """
    if not shared:
        return jax.random.normal(rng, shape)
    b, _, *rest = shape
    return jnp.broadcast_to(jax.random.normal(rng, (b, 1, *rest)), shape)
