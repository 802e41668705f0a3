"""The pose as pictures of DWPose's convention, which published pose-controlled models were trained on; differentiable.

Body limbs as capsules in 0.6 of their colours with the 18 joints in full colours, hands as thin limbs whose hue runs
over the fingers with blue joints, the face as white points, on black. Each shape has a soft edge and is laid over those
before it, so that the gradient of a video's loss reaches the joints. Sizes are those of a picture whose shorter side
is 512 pixels.

Memory does not grow with the shapes nor, but for the pictures themselves, with the frames: frames are drawn one after
the other, and the backward pass draws each of them again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from signer_jax.pose import skeleton
from signer_jax.pose.draw import BODY_COLOURS, BODY_LIMBS, HAND_LIMBS
from signer_jax.types import Array

_SHADE = 0.6  # of the body's limbs
_SIDE = 512
_BODY, _HAND_LIMB, _HAND_JOINT, _FACE = 4.0, 1.0, 4.0, 3.0  # half widths, pixels of that picture
_TINY = 1e-6


@dataclass(frozen=True)
class Shapes:
    """What is drawn, in order: capsules between two joints, and discs, which are capsules from a joint to itself."""

    ends: np.ndarray  # [n, 2] positions among the joints
    widths: np.ndarray  # [n] half widths in pixels of a picture whose shorter side is `_SIDE`
    colours: np.ndarray  # [n, 3] in 0…1


def shapes(joints: Sequence[str], *, face: bool) -> Shapes:
    """Those of DWPose whose joints are among `joints` (names of `pose.skeleton`)."""
    where = {name: i for i, name in enumerate(joints)}
    rows: list[tuple[int, int, float, tuple[float, ...]]] = []

    def add(a: str, b: str, width: float, colour: Sequence[float], shade: float = 1.0) -> None:
        if a in where and b in where:
            rows.append((where[a], where[b], width, tuple(shade * channel / 255 for channel in colour)))

    for a, b, colour in BODY_LIMBS:
        add(a, b, _BODY, colour, _SHADE)
    for name, colour in zip(skeleton.BODY, BODY_COLOURS, strict=True):
        add(name, name, _BODY, colour)
    for side, names in (("left", skeleton.LEFT_HAND), ("right", skeleton.RIGHT_HAND)):
        for a, b, colour in HAND_LIMBS[side]:
            add(a, b, _HAND_LIMB, colour)
        for name in names:
            add(name, name, _HAND_JOINT, (0, 0, 255))
    for name in skeleton.FACE if face else ():
        add(name, name, _FACE, (255, 255, 255))
    ends = np.array([row[:2] for row in rows], np.int32).reshape(-1, 2)
    widths, colours = np.array([row[2] for row in rows], np.float32), np.array([row[3] for row in rows], np.float32)
    return Shapes(ends, widths, colours.reshape(-1, 3))


def plain(groups: Sequence[tuple[np.ndarray, float]]) -> Shapes:
    """Limbs in white: (`[n, 2]` positions among the joints, half width in shoulder widths) of each group."""
    widths = np.concatenate([np.full(len(limbs), half * _SIDE / skeleton.VIEW_SIDE) for limbs, half in groups])
    return Shapes(np.concatenate([limbs for limbs, _ in groups]), widths, np.ones((len(widths), 3), np.float32))


def draw(
    coordinates: Float[Array, "b t j 2"],
    confidence: Float[Array, "b t j"],
    drawn: Shapes,
    size: tuple[int, int],
    *,
    threshold: float,
    softness: float,
) -> Float[jax.Array, "b t y x 3"]:
    """Pictures in 0…1 of `size` (height, width), of poses in normalised units.

    A shape is drawn where the confidence of its joints is above `threshold`, as a whole: the gradient goes to the
    coordinates. `softness`: pixels over which an edge fades.
    """
    height, width = size
    points = skeleton.to_pixels(jnp.asarray(coordinates, jnp.float32), height, width)
    seen = jnp.asarray(confidence) > threshold
    rows = _in_groups(drawn, min(size))

    def frame(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        points, seen = inputs

        def shape(picture: jax.Array, row: tuple) -> tuple[jax.Array, None]:
            ends, half, colour = row
            shown = seen[ends[0]] & seen[ends[1]] & (half > 0)
            opacity = _capsule(points[ends[0]], points[ends[1]], half, size, softness) * shown
            return picture + opacity[..., None] * (colour - picture), None

        def group(picture: jax.Array, rows: tuple) -> tuple[jax.Array, None]:
            return jax.lax.scan(shape, picture, rows)

        return jax.lax.scan(jax.checkpoint(group), jnp.zeros((height, width, 3)), rows)[0]

    # All clips' first frames, then their second ones: a batch that is split among devices stays so.
    every = jax.lax.map(jax.checkpoint(jax.vmap(frame)), (jnp.moveaxis(points, 1, 0), jnp.moveaxis(seen, 1, 0)))
    return jnp.moveaxis(every, 0, 1)


def _in_groups(drawn: Shapes, side: int) -> tuple[Any, Any, Any]:
    """The shapes in about as many groups as a group has shapes, those that fill up the last of width 0."""
    count = len(drawn.widths)
    each = max(1, math.isqrt(count))
    groups = max(1, -(-count // each))
    fill = groups * each - count
    ends = np.pad(drawn.ends, ((0, fill), (0, 0))).reshape(groups, each, 2)
    widths = np.pad(drawn.widths * (side / _SIDE), (0, fill)).astype(np.float32).reshape(groups, each)
    return ends, widths, np.pad(drawn.colours, ((0, fill), (0, 0))).reshape(groups, each, 3)


def _capsule(
    a: Float[jax.Array, "2"], b: Float[jax.Array, "2"], half: jax.Array, size: tuple[int, int], softness: float
) -> Float[jax.Array, "y x"]:
    """How much of each pixel a capsule covers: 1 within, 1/2 at its edge."""
    y = jnp.arange(size[0], dtype=jnp.float32)[:, None] + 0.5
    x = jnp.arange(size[1], dtype=jnp.float32)[None, :] + 0.5
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = jnp.clip(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy + _TINY), 0.0, 1.0)
    distance = jnp.sqrt((x - a[0] - along * dx) ** 2 + (y - a[1] - along * dy) ** 2 + _TINY)
    return jax.nn.sigmoid((half - distance) / softness)
