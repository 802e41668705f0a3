"""How a sampler steps from one noise level to the next: Euler, UniPC and DPM-Solver++ (2M) along dx/dσ = v(x, σ).

The levels are known before anything is compiled, so all that a solver knows of them is a table of numbers, a row a
step, made in float64. A step is then a few weighted sums of arrays, the same program for every row: `lax.scan` runs
over the table and carries what a multistep solver remembers.

With λ = log((1 − σ) / σ) and the clean prediction m = x − σ v, x solves dx/dλ in closed form but for m, which is
interpolated over the steps. Sources: UniPC (Zhao et al. 2023; order 2, B(h) = e^h − 1, "bh2"), DPM-Solver++ (Lu et al.
2022; order 2, midpoint). Both drop to order 1 in the first and in the last step, which ends at σ = 0.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

Name: TypeAlias = Literal["euler", "unipc", "dpm++"]
NAMES: tuple[Name, ...] = ("euler", "unipc", "dpm++")

# λ is infinite at σ = 1, where sampling begins; the original starts this much below it, rounded to float32: the second
# step's weights depend on that.
_BELOW_ONE = 1e-6
# Columns of a multistep solver's table after σ: the weights of its sums.
_CORRECTED = ("x", "before", "clean", "clean_1", "clean_2")
_PREDICTED = ("corrected", "clean", "clean_1")


class State(NamedTuple):
    """Where a solver stands; a pytree of arrays shaped like the latents. `memory` is empty for Euler."""

    x: jax.Array  # at the level of the next row
    memory: tuple[jax.Array, ...] = ()  # the corrected x of the level before, and the two clean predictions before


class Solver(NamedTuple):
    """`table` has a row for each step; its first column is the step's noise level σ."""

    table: Float[np.ndarray, "steps k"]
    start: Callable[[jax.Array], State]
    advance: Callable[[State, jax.Array, Float[jax.Array, "k"]], State]  # (state, v, row) -> the next state


def solver(name: Name, sigmas: Float[np.ndarray, "steps+1"]) -> Solver:
    """The solver of a name for these noise levels, from `sigmas[0]` ≤ 1 down to `sigmas[-1]`, usually 0.

    Raises `ValueError` for an unknown name, or levels that do not go down within [0, 1].
    """
    levels = np.asarray(sigmas, np.float64)
    if levels.ndim != 1 or len(levels) < 2 or not (np.diff(levels) < 0).all() or levels[0] > 1 or levels[-1] < 0:
        raise ValueError(f"solver: noise levels must go down from at most 1 to at least 0, at least two: {levels}")
    if name == "euler":
        table = np.stack([levels[:-1], np.diff(levels)], axis=1)
        return Solver(table.astype(np.float32), State, _euler)
    if name not in NAMES:
        raise ValueError(f"solver: {name!r} is none of {', '.join(NAMES)}")
    rows = _unipc(levels) if name == "unipc" else _dpm(levels)
    table = np.concatenate([levels[:-1, None], rows], axis=1)
    return Solver(table.astype(np.float32), lambda x: State(x, (jnp.zeros_like(x),) * 3), _multistep)


def _euler(state: State, v: jax.Array, row: jax.Array) -> State:
    return State((state.x + row[1] * v).astype(state.x.dtype))


def _multistep(state: State, v: jax.Array, row: jax.Array) -> State:
    """Corrects x by what the model says at the level that it was predicted for, then predicts the next one."""
    x, (before, clean_1, clean_2) = state
    clean = x - jnp.minimum(row[0], 1.0 - _BELOW_ONE) * v
    end = 1 + len(_CORRECTED)
    corrected = _weighted(row[1:end], (x, before, clean, clean_1, clean_2))
    predicted = _weighted(row[end:], (corrected, clean, clean_1))
    memory = corrected.astype(x.dtype), clean.astype(x.dtype), clean_1
    return State(predicted.astype(x.dtype), memory)


def _weighted(weights: jax.Array, arrays: tuple[jax.Array, ...]) -> jax.Array:
    return sum(weights[i] * array for i, array in enumerate(arrays))  # type: ignore[return-value]


def _log_ratio(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(levels a little below 1, their λ = log((1 − σ) / σ)); infinite at σ = 0."""
    levels = np.minimum(np.float32(levels), np.float32(1.0 - _BELOW_ONE)).astype(np.float64)
    with np.errstate(divide="ignore"):
        return levels, np.log1p(-levels) - np.log(levels)


def _orders(steps: int) -> np.ndarray:
    """2, but 1 in the first and in the last step."""
    return np.minimum(2, np.minimum(np.arange(steps) + 1, steps - np.arange(steps)))


def _unipc(levels: np.ndarray) -> np.ndarray:
    """A row a step: the corrector's weights (`_CORRECTED`), then the predictor's (`_PREDICTED`)."""
    steps = len(levels) - 1
    levels, ratio = _log_ratio(levels)
    orders = _orders(steps)
    rows = np.zeros((steps, len(_CORRECTED) + len(_PREDICTED)))
    rows[0, 0] = 1.0  # nothing to correct yet
    for i in range(steps):
        if i > 0:
            rows[i, 1:5] = _corrector(levels, ratio, i, orders[i - 1])
        h, alpha = ratio[i + 1] - ratio[i], 1.0 - levels[i + 1]
        gain = -np.expm1(-h)  # 1 − e^−h
        slope = 0.5 * alpha * gain * h / (ratio[i - 1] - ratio[i]) if orders[i] == 2 else 0.0
        rows[i, 5:] = levels[i + 1] / levels[i], alpha * gain - slope, slope
    return rows


def _corrector(levels: np.ndarray, ratio: np.ndarray, i: int, order: int) -> tuple[float, float, float, float]:
    """Weights of (x before, clean here, clean one before, clean two before) for x at level i."""
    h, alpha = ratio[i] - ratio[i - 1], 1.0 - levels[i]
    gain = -np.expm1(-h)
    phi_2 = gain / h - 1.0  # h φ2 with the sign of predicting clean latents, over −h
    if order == 1:
        far, near, distance = 0.0, 0.5, 1.0
    else:
        phi_3 = phi_2 / -h - 0.5
        distance = (ratio[i - 2] - ratio[i - 1]) / h
        far, near = np.linalg.solve([[1.0, 1.0], [distance, 1.0]], [phi_2 / -gain, 2.0 * phi_3 / -gain])
    # x = σ/σ' x' + α (1 − e^−h) (m₁ + far (m₂ − m₁) / distance + near (m − m₁))
    scale = alpha * gain
    return levels[i] / levels[i - 1], scale * near, scale * (1 - near - far / distance), scale * far / distance


def _dpm(levels: np.ndarray) -> np.ndarray:
    """A row a step, as `_unipc`, without a correction."""
    steps = len(levels) - 1
    levels, ratio = _log_ratio(levels)
    rows = np.zeros((steps, len(_CORRECTED) + len(_PREDICTED)))
    rows[:, 0] = 1.0
    for i in range(steps):
        h, alpha = ratio[i + 1] - ratio[i], 1.0 - levels[i + 1]
        gain = -np.expm1(-h)
        slope = 0.5 * alpha * gain * h / (ratio[i] - ratio[i - 1]) if 0 < i < steps - 1 else 0.0
        rows[i, 5:] = levels[i + 1] / levels[i], alpha * gain + slope, -slope
    return rows
