"""The curve of a joint from one sign to the next: a quintic, the minimum-jerk movement where both signs are at rest.

Works on numpy's and on JAX's arrays alike, inside `jax.jit` too. Frames are the unit of time: velocities are a frame.
"""

from functools import cache

import numpy as np
from jaxtyping import Float

from signer_jax.types import Array

PEAK_SPEED = 6.0  # shoulder widths a second, about 2 m/s: how fast a hand moves between two signs at most
PEAK = 1.875  # the peak speed of a minimum-jerk movement over its mean speed (Flash and Hogan 1985)
TAIL = 5  # frames at a sign's edge from which its velocity and acceleration are measured
# What an edge velocity, kept up, may cover in a transition: times the transition's distance, or shoulder widths where
# it is a human speed. A fifth of it is how far the hand overshoots.
_OVERSHOOT, _HUMAN_OVERSHOOT = 1.5, 1.2


@cache
def parabola(frames: int, at_end: bool) -> Float[np.ndarray, "2 tail"]:
    """From values at `frames` times, the last or first of them 0, to the factors of time and time² that fit best."""
    time = np.arange(frames, dtype=np.float64) - (frames - 1 if at_end else 0)
    factors = np.zeros((2, TAIL), np.float32)
    fit = np.linalg.pinv(np.stack([time**k for k in range(min(3, frames))], axis=1))
    factors[: len(fit) - 1, :frames] = fit[1:]
    return factors


def length(vectors: Float[Array, "*n c"]) -> Float[Array, "*n 1"]:
    """In the plane, since a detector's depth is a guess; for two numbers ten times as quick as numpy's `norm`."""
    x, y = vectors[..., 0], vectors[..., 1]
    return (x * x + y * y)[..., None] ** 0.5


def tangents(
    velocity: Float[Array, "*n j c"],
    acceleration: Float[Array, "*n j c"],
    distance: Float[Array, "*n j 1"],
    steps: Float[Array, "*n 1 1"],
    fps: float,
) -> tuple[Float[Array, "*n j c"], Float[Array, "*n j c"]]:
    """An edge's velocity and acceleration over a transition of `steps` frames, held to what a human hand could mean.

    A velocity that no hand has is the detector's error, and may cover no more than the `distance` asks for.
    """
    xp = velocity.__array_namespace__()
    human = length(velocity) * fps <= PEAK_SPEED
    reach = xp.maximum(distance * _OVERSHOOT, xp.where(human, _HUMAN_OVERSHOOT, 0.0))
    return _clamped(velocity * steps, reach), _clamped(acceleration * steps**2, 2 * reach)


def quintic(
    u: Float[Array, "*t 1 1"],
    before: tuple[Array, Array, Array],
    after: tuple[Array, Array, Array],
) -> Float[Array, "*t j c"]:
    """The quintic Hermite curve at the shares `u` of its time: each side is place, velocity and acceleration there.

    Each factor is 1 in one of the three at one end and 0 in the others. With velocities and accelerations of 0 it is
    Flash and Hogan's 10u³ - 15u⁴ + 6u⁵.
    """
    (p0, m0, a0), (p1, m1, a1) = before, after
    u2, u3, u4, u5 = u**2, u**3, u**4, u**5
    return (
        (1 - 10 * u3 + 15 * u4 - 6 * u5) * p0
        + (u - 6 * u3 + 8 * u4 - 3 * u5) * m0
        + (u2 - 3 * u3 + 3 * u4 - u5) / 2 * a0
        + (u3 - 2 * u4 + u5) / 2 * a1
        + (-4 * u3 + 7 * u4 - 3 * u5) * m1
        + (10 * u3 - 15 * u4 + 6 * u5) * p1
    )


def _clamped(tangent: Array, reach: Array) -> Array:
    """Depth is held by itself: it is no measure of the others."""
    xp = tangent.__array_namespace__()
    plane, depth = tangent[..., :2], tangent[..., 2:]
    held = xp.minimum(1.0, reach / xp.maximum(length(plane), 1e-9))
    plane = plane * held.repeat(plane.shape[-1], axis=-1)  # numpy is slow over two numbers that one is held against
    return xp.concatenate([plane, xp.clip(depth, -reach, reach)], axis=-1)
