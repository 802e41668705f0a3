"""The flow between data (σ = 0) and noise (σ = 1): schedules, noise levels for training, targets (PAPER "Renderer").

x_σ = (1 − σ) x0 + σ ε, and the transformer predicts the velocity dx/dσ = ε − x0.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

CLEAN_END = 0.1  # noise levels below this count as the clean end of the schedule


def shift_sigma(sigma: Float[jax.Array, "..."], shift: float) -> Float[jax.Array, "..."]:
    """σ' = sσ / (1 + (s − 1)σ): s > 1 spends more steps at high noise, as larger pictures need (Wan: 3 to 12)."""
    return shift * sigma / (1.0 + (shift - 1.0) * sigma)


def sigmas(steps: int, shift: float) -> Float[jax.Array, "steps+1"]:
    """Noise levels of a sampler with `steps` steps, from 1 down to 0."""
    return shift_sigma(jnp.linspace(1.0, 0.0, steps + 1), shift)


def sample_sigma(
    rng: jax.Array, b: int, *, mean: float, std: float, clean_share: float, shift: float
) -> Float[jax.Array, "b"]:
    """Noise levels for training: shifted logit-normal, except that a share `clean_share` is uniform in [0, 0.1].

    logit(σ) ~ N(mean, std²), then shifted. The clean end is where hands and faces get their details, and a
    logit-normal hardly visits it. The share is of the result, so it is not shifted.
    """
    normal_rng, share_rng, clean_rng = jax.random.split(rng, 3)
    noisy = shift_sigma(jax.nn.sigmoid(mean + std * jax.random.normal(normal_rng, (b,))), shift)
    clean = CLEAN_END * jax.random.uniform(clean_rng, (b,))
    return jnp.where(jax.random.uniform(share_rng, (b,)) < clean_share, clean, noisy)


def sample_sigma_uniform(rng: jax.Array, b: int, *, shift: float) -> Float[jax.Array, "b"]:
    """Noise levels for training: uniform in [0, 1), then shifted."""
    return shift_sigma(jax.random.uniform(rng, (b,)), shift)


def _per_example(sigma: Float[jax.Array, "b"], like: Float[jax.Array, "b ..."]) -> Float[jax.Array, "b ..."]:
    return sigma.reshape(sigma.shape + (1,) * (like.ndim - sigma.ndim))


def interpolate(
    x0: Float[jax.Array, "b ..."], noise: Float[jax.Array, "b ..."], sigma: Float[jax.Array, "b"]
) -> Float[jax.Array, "b ..."]:
    """x_σ = (1 − σ) x0 + σ ε."""
    sigma = _per_example(sigma, x0)
    return (1.0 - sigma) * x0 + sigma * noise


def velocity(x0: Float[jax.Array, "b ..."], noise: Float[jax.Array, "b ..."]) -> Float[jax.Array, "b ..."]:
    """The target ε − x0: the slope of `interpolate` in σ."""
    return noise - x0


def predict_x0(
    x: Float[jax.Array, "b ..."], sigma: Float[jax.Array, "b"], v: Float[jax.Array, "b ..."]
) -> Float[jax.Array, "b ..."]:
    """The clean latents that a velocity at noise level σ points to: x − σ v."""
    return x - _per_example(sigma, x) * v


def timestep(sigma: Float[jax.Array, "..."]) -> Float[jax.Array, "..."]:
    """What the transformer and the control branch are told of the noise level: 1000 σ, unrounded."""
    return 1000.0 * sigma


def timestep_embedding(timestep: Float[jax.Array, "..."], dim: int) -> Float[jax.Array, "... dim"]:
    """cos then sin of timestep · 10000^(−2i/dim), float32; `dim` even (diffusers: flip_sin_to_cos, no shift)."""
    half = dim // 2
    frequencies = np.exp(np.float32(-np.log(1e4)) * np.arange(half, dtype=np.float32) / np.float32(half))
    angles = timestep.astype(jnp.float32)[..., None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
