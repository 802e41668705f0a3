"""The differentiable step from a pose to a control picture: soft capsules, one channel a limb group.

End-to-end training needs the gradient of the video loss with respect to the joints (PAPER, "Renderer and the whole
objective": "a soft skeleton rasteriser"). A limb's intensity at a pixel is

    a = min(confidence of its two ends) * sigmoid((half width - distance to the limb) / softness)     (in pixels)

and the limbs of a group are joined by the soft union 1 - prod(1 - a).

Memory grows with the pictures themselves and nothing else: limbs are drawn one after the other, large pictures some
frames at a time, and the backward pass draws each of them again.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from signer_jax.pose import skeleton
from signer_jax.types import Array

SOFTNESS = 0.5  # pixels over which a limb's edge fades
_TINY = 1e-6  # square pixels: keeps the distance differentiable on the limb itself and on limbs of no length
_PIXELS = 1 << 21  # of all frames that are drawn at once, but for a single larger one
_OPAQUE = 1 - 1e-6  # the backward pass divides by 1 - a

LimbGroup = tuple[str, np.ndarray, float]


def rasterise(
    coordinates: Float[Array, "*b j 2"],
    confidence: Float[Array, "*b j"],
    groups: Sequence[LimbGroup],
    size: int | tuple[int, int],
    *,
    softness: float = SOFTNESS,
) -> Float[Array, "*b y x g"]:
    """Control pictures in 0…1, `[..., height, width, groups]` float32, of poses in normalised units.

    `size` is a square's side or (height, width). `groups` are `skeleton.limb_groups(joints)` for the joints of
    `coordinates`; the view is that of `skeleton.to_pixels`. `softness` is in pixels. Gradients with respect to
    coordinates and confidence are finite everywhere, also for limbs of no length and for missing joints, which draw
    nothing. Reverse mode only.
    """
    batch, joints = coordinates.shape[:-2], coordinates.shape[-2]
    pairs = np.concatenate([limbs for _, limbs, _ in groups])  # [limbs, 2]
    owners = tuple(i for i, (_, limbs, _) in enumerate(groups) for _ in limbs)
    height, width = (size, size) if isinstance(size, int) else size
    side = min(height, width)
    widths = tuple(half * side / skeleton.VIEW_SIDE for _, limbs, half in groups for _ in limbs)
    pixels = skeleton.to_pixels(jnp.asarray(coordinates, jnp.float32), height, width)
    weights = jnp.asarray(confidence, jnp.float32)
    drawing = _Drawing(owners, widths, len(groups), (height, width), softness)

    def draw(part: tuple[jax.Array, jax.Array]) -> jax.Array:
        pixels, weights = (a.reshape(-1, *a.shape[2:]) for a in part)
        ends = jnp.concatenate([pixels[:, pairs[:, 0]], pixels[:, pairs[:, 1]]], -1).swapaxes(0, 1)  # [limbs, n, 4]
        seen = jnp.minimum(weights[:, pairs[:, 0]], weights[:, pairs[:, 1]]).T  # [limbs, n]
        drawn = jnp.moveaxis(_union(ends, seen, drawing), 0, -1)  # [n, y, x, g]
        return drawn.reshape(*part[0].shape[:2], *drawn.shape[1:])

    # Whole clips side by side, each some frames at a time: a batch that is split among devices stays so.
    clips, frames = (-1, batch[-1]) if batch else (1, 1)
    pixels, weights = pixels.reshape(clips, frames, joints, 2), weights.reshape(clips, frames, joints)
    clips, most = len(pixels), max(1, _PIXELS // (height * width * max(1, len(pixels))))
    if frames <= most:
        drawn = draw((pixels, weights))
    else:
        once = max(n for n in range(1, most + 1) if frames % n == 0)
        each = tuple(jnp.moveaxis(a.reshape(clips, -1, once, *a.shape[2:]), 1, 0) for a in (pixels, weights))
        drawn = jnp.moveaxis(jax.lax.map(jax.checkpoint(draw), each), 0, 1)
    return drawn.reshape(*batch, height, width, len(groups))


class _Drawing(NamedTuple):
    """What is static about a drawing; widths and softness in pixels."""

    owners: tuple[int, ...]  # the group of each limb
    widths: tuple[float, ...]  # the half width of each limb
    groups: int
    size: tuple[int, int]  # height, width
    softness: float


def _offsets(ends: Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where along each limb (0…1) the point nearest to each pixel lies, and the vector from it: each `[n, y, x]`."""
    # One array an axis: a trailing axis of two would cost XLA's CPU code its vectors.
    ax, ay, bx, by = (ends[:, i, None, None] for i in range(4))
    y, x = (jnp.arange(side, dtype=jnp.float32) + 0.5 for side in size)
    x, y = x[None, None, :], y[None, :, None]
    dx, dy = bx - ax, by - ay
    along = jnp.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + _TINY), 0, 1)
    return along, x - ax - along * dx, y - ay - along * dy


def _intensity(
    rx: Array, ry: Array, seen: Array, width: Array, softness: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    distance = jnp.sqrt(rx * rx + ry * ry + _TINY)
    edge = jax.nn.sigmoid((width - distance) / softness)
    return jnp.minimum(seen[:, None, None] * edge, _OPAQUE), edge, distance


# The gradient is written out: limb by limb it draws again, so that memory does not grow with the number of limbs, and
# it takes a third of the time of the automatic one on CPU. `along` minimises the distance: its derivative drops out.
@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _union(ends: Array, seen: Array, drawing: _Drawing) -> jax.Array:
    return _union_forward(ends, seen, drawing)[0]


def _union_forward(ends: Array, seen: Array, drawing: _Drawing) -> tuple[jax.Array, tuple]:
    owners, widths, groups, size, softness = drawing

    def limb(clear: jax.Array, inputs: tuple) -> tuple[jax.Array, None]:
        ends, seen, owner, width = inputs
        _, rx, ry = _offsets(ends, size)
        intensity, _, _ = _intensity(rx, ry, seen, width, softness)
        return clear.at[owner].multiply(1 - intensity), None

    limbs = (ends, seen, jnp.array(owners), jnp.array(widths, jnp.float32))
    clear, _ = jax.lax.scan(limb, jnp.ones((groups, ends.shape[1], *size), jnp.float32), limbs)
    return 1 - clear, (ends, seen, clear)


def _union_backward(drawing: _Drawing, residuals: tuple, cotangent: Array) -> tuple[jax.Array, jax.Array]:
    owners, widths, _, size, softness = drawing
    ends, seen, clear = residuals
    weighted = cotangent * clear

    def limb(_: None, inputs: tuple) -> tuple[None, tuple[jax.Array, jax.Array]]:
        ends, seen, owner, width = inputs
        along, rx, ry = _offsets(ends, size)
        intensity, edge, distance = _intensity(rx, ry, seen, width, softness)
        to_intensity = weighted[owner] / (1 - intensity)
        pull = to_intensity * seen[:, None, None] * edge * (1 - edge) / (softness * distance)
        forces = (pull * rx * (1 - along), pull * ry * (1 - along), pull * rx * along, pull * ry * along)
        return None, (jnp.stack([force.sum((1, 2)) for force in forces], -1), (to_intensity * edge).sum((1, 2)))

    limbs = (ends, seen, jnp.array(owners), jnp.array(widths, jnp.float32))
    return jax.lax.scan(limb, None, limbs)[1]


_union.defvjp(_union_forward, _union_backward)
