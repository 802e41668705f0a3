"""The flow between data (σ = 0) and noise (σ = 1): one schedule for training and sampling, and the targets.

x_σ = (1 − σ) x0 + σ ε, and the renderer predicts the velocity dx/dσ = ε − x0 (PAPER "Renderer").
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Bool, Float

from signer_jax.renderer import solvers


def shift_sigma(sigma: Any, shift: float) -> Any:
    """σ' = sσ / (1 + (s − 1)σ) of a number or an array: s > 1 spends more steps at high noise, as larger pictures need
    (Wan: 3 to 12).
    """
    return shift * sigma / (1.0 + (shift - 1.0) * sigma)


def unshift_sigma(sigma: Any, shift: float) -> Any:
    """The u whose `shift_sigma` is σ."""
    return shift_sigma(sigma, 1.0 / shift)


def high_noise(sigma: Any, boundary: float) -> Any:
    """Which shifted levels belong to the first of two experts: σ ≥ boundary; the others to the second.

    Half-open and compared in float32, in which the levels are, so that every level has one expert in training and in
    sampling. A boundary laid on levels before the shift would move from .875 to .988.
    """
    return sigma >= np.float32(boundary)


@dataclass(frozen=True)
class NoiseSchedule:
    """The noise levels of a run: σ = `shift_sigma`(u), u in [0, 1], for training and for sampling alike.

    With `times` "shifted-uniform" training draws u evenly, so that the sampler's levels, even steps in u, are the
    quantiles of what training sees but for a share `noise_share` of the training levels, which is exactly 1, where
    every sampling begins and a draw never falls. With "logit-normal" u is the logistic function of a normal number of
    mean `mean` and deviation `std` (Esser et al. 2024): more levels in the middle, or at an end.

    Sampling begins with noise times `temperature`. With 1 it visits what training saw; below it leaves that on purpose,
    for what is likelier: less of the noise is left where too few steps do not take it out.
    """

    shift: float
    steps: int
    noise_share: float
    times: Literal["shifted-uniform", "logit-normal"] = "shifted-uniform"
    mean: float = 0.0
    std: float = 1.0
    solver: solvers.Name = "euler"
    temperature: float = 1.0

    def draw(self, rng: jax.Array, b: int, *, between: tuple[float, float] = (0.0, 1.0)) -> Float[jax.Array, "b"]:
        """Noise levels of `b` training examples, stratified: one in each b-th of the draws, in ascending order.

        `between` (low, high): only shifted levels σ with low ≤ σ < high, in the shares that they have among all; what
        one of two experts trains on (`high_noise`). The upper end 1 is part of it.
        """
        low, high = (self._share_below(end) for end in between)
        share = low + (high - low) * (jnp.arange(b) + jax.random.uniform(rng, (b,))) / b
        share = jnp.minimum(share / (1.0 - self.noise_share), 1.0)
        u = jax.nn.sigmoid(self.mean + self.std * ndtri(share)) if self.times == "logit-normal" else share
        sigma = shift_sigma(u, self.shift)
        # Rounding must not carry a level over the boundary.
        below = np.nextafter(np.float32(between[1]), np.float32(0)) if between[1] < 1 else np.float32(1)
        return jnp.clip(sigma, np.float32(between[0]), below)

    def draw_side(self, rng: jax.Array, b: int, boundary: float) -> tuple[Float[jax.Array, "b"], Bool[jax.Array, ""]]:
        """`draw` for two experts: all levels of a batch on one side of the boundary, and whether that is the upper one.

        A batch's side is drawn by its share of the levels, so that over batches they are distributed as without it.
        """
        side, levels = jax.random.split(rng)
        high = jax.random.uniform(side) >= self._share_below(boundary)
        above, below = (self.draw(levels, b, between=part) for part in ((boundary, 1.0), (0.0, boundary)))
        return jnp.where(high, above, below), high

    def _share_below(self, sigma: float) -> float:
        """The share of the training levels below σ; all of them for 1."""
        if not 0.0 < sigma < 1.0:
            return float(sigma >= 1.0)
        u = unshift_sigma(sigma, self.shift)
        if self.times == "logit-normal":
            u = NormalDist(self.mean, self.std).cdf(math.log(u / (1.0 - u)))
        return float(u) * (1.0 - self.noise_share)

    def levels(self) -> Float[np.ndarray, "steps+1"]:
        """The sampler's noise levels, from 1 down to 0; plain numbers, known before anything is compiled."""
        return shift_sigma(np.linspace(1.0, 0.0, self.steps + 1), self.shift).astype(np.float32)


def velocity_weight(sigma: Float[jax.Array, "b"], floor: float) -> Float[jax.Array, "b"]:
    """min(1, (σ / floor)²): what the velocity's squared error counts at a noise level.

    A network that gives x0 has the velocity's error of its own over σ: near σ = 0 that would drown every other level.
    Down to `floor` the loss is the velocity's, below it the clean latents' over `floor` (a truncated weight, as in
    min-SNR, Hang et al. 2023); 0 weighs all levels alike.
    """
    return jnp.minimum(1.0, jnp.square(sigma / floor)) if floor else jnp.ones_like(sigma)


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


def velocity_to(
    x0: Float[jax.Array, "b ..."], x: Float[jax.Array, "b ..."], sigma: Float[jax.Array, "b"]
) -> Float[jax.Array, "b ..."]:
    """The velocity at x_σ whose clean latents are `x0`, the inverse of `predict_x0`: (x − x0) / σ; σ above 0."""
    return (x - x0) / _per_example(jnp.maximum(sigma, 1e-4), x)


def linear_guess(x: Float[jax.Array, "b ..."], sigma: Float[jax.Array, "b"]) -> Float[jax.Array, "b ..."]:
    """The best guess of x0 that is linear in x_σ, for data and noise of variance 1: (1 − σ) / ((1 − σ)² + σ²) x_σ.

    What a network that gives x0 is told of x_σ: nothing at σ = 1, where x_σ says nothing of x0 and could only leak.
    """
    return x * _per_example((1.0 - sigma) / ((1.0 - sigma) ** 2 + sigma**2), x)


def timestep(sigma: Float[jax.Array, "..."]) -> Float[jax.Array, "..."]:
    """What the transformer and the control branch are told of the noise level: 1000 σ, unrounded."""
    return 1000.0 * sigma


def timestep_embedding(timestep: Float[jax.Array, "..."], dim: int) -> Float[jax.Array, "... dim"]:
    """cos then sin of timestep · 10000^(−2i/dim), float32; `dim` even (diffusers: flip_sin_to_cos, no shift)."""
    half = dim // 2
    frequencies = np.exp(np.float32(-np.log(1e4)) * np.arange(half, dtype=np.float32) / np.float32(half))
    angles = timestep.astype(jnp.float32)[..., None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
