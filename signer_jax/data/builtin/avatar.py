"""A capsule-shaded avatar: 3D poses to RGB video, in several appearances.

Orthographic view (`skeleton.to_pixels`). Every shape is drawn from its signed distance, which gives both the analytic
coverage of its edge pixels and the surface normal for Lambert shading. Shapes are painted from back to front: trunk,
head, upper arms, the deeper arm with its hand, the other one; the capsules of a hand are sorted by depth.
All frames are drawn together, each shape only within its own bounding box.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from signer_jax.errors import SignerError, closest
from signer_jax.pose.skeleton import INDEX, VIEW_SIDE, VIEW_TOP, to_pixels, view

_LIGHT = (-0.42, -0.58, -0.70)
_CHUNK_PIXELS = 400_000  # frames are drawn in chunks of about this many pixels, so that memory stays small


@dataclass(frozen=True)
class Appearance:
    """Colours (RGB 0…255), and how the hair and the sleeves are cut."""

    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    shirt: tuple[int, int, int]
    background: tuple[int, int, int]
    long_hair: bool
    long_sleeves: bool


APPEARANCES: dict[str, Appearance] = {
    "teal": Appearance((232, 183, 148), (70, 42, 26), (20, 108, 116), (214, 222, 228), True, False),
    "navy": Appearance((198, 138, 98), (28, 22, 22), (34, 44, 92), (226, 214, 190), False, True),
    "rust": Appearance((243, 205, 172), (24, 22, 30), (158, 66, 36), (184, 204, 186), False, False),
    "plum": Appearance((132, 86, 60), (20, 14, 14), (206, 196, 214), (92, 78, 120), True, True),
    "olive": Appearance((218, 160, 122), (96, 66, 40), (92, 104, 48), (204, 196, 208), False, True),  # the guest's
}


class _Canvas:
    """Frames being painted: `[t, height, width, 3]` float32 in 0…255, and the scale of the view."""

    def __init__(self, frames: int, size: tuple[int, int], background: np.ndarray) -> None:
        self.size, self.scale = size, view(*size)[0]
        self.pixels = np.repeat(background[None], frames, 0)
        self.at = np.arange(frames)[:, None, None]

    def window(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Boxes of one size around `low`…`high` (`[t, 2]` pixels), moved inside the picture.

        Returns row and column indices `[t, h, 1]`, `[t, 1, w]`, and the pixel centres x `[t, 1, w]` and y `[t, h, 1]`.
        """
        start = np.floor(low).astype(int) - 1
        sides = np.array(self.size[::-1])
        extent = np.minimum((np.ceil(high).astype(int) + 2 - start).max(0), sides)
        start = np.clip(start, 0, sides - extent)
        rows = start[:, 1, None, None] + np.arange(extent[1])[None, :, None]
        columns = start[:, 0, None, None] + np.arange(extent[0])[None, None, :]
        return rows, columns, (columns + 0.5).astype(np.float32), (rows + 0.5).astype(np.float32)


def _blend(patch: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    """Paints `colour` (`[..., 3]`) over the patch where `cover` (`[...]`) says, in place."""
    patch += _threefold(cover) * (colour - patch)


def _threefold(values: np.ndarray) -> np.ndarray:
    """`[..., 3]`: a number for each colour, all the same; numpy is slow over three that one is held against."""
    return values[..., None].repeat(3, axis=-1)


def _light(nx: np.ndarray, ny: np.ndarray, flatness: float = 1.0) -> np.ndarray:
    """Lambert's cosine law with a fill light, from the two visible components of the surface normal."""
    nx, ny = nx * flatness, ny * flatness
    nz = np.sqrt(np.maximum(1.0 - nx * nx - ny * ny, 0.0))
    return 0.42 + 0.64 * np.maximum(nx * _LIGHT[0] + ny * _LIGHT[1] - nz * _LIGHT[2], 0.0)


def _capsule_field(
    x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray, ra: np.ndarray, rb: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance to capsules `a`-`b` (`[t, 2]`, radii `[t]`), the normal (x, y), and the share along the axis."""
    axis = b - a
    ax, ay = a[:, 0, None, None], a[:, 1, None, None]
    ux, uy = axis[:, 0, None, None], axis[:, 1, None, None]
    dx, dy = x - ax, y - ay
    along = np.clip((dx * ux + dy * uy) / np.maximum(ux * ux + uy * uy, 1e-6), 0.0, 1.0)
    dx, dy = dx - along * ux, dy - along * uy
    radius = ra[:, None, None] + along * (rb - ra)[:, None, None]
    distance = np.sqrt(dx * dx + dy * dy)
    return distance - radius, dx / radius, dy / radius, along


def _coverage(distance: np.ndarray) -> np.ndarray:
    """How much of a pixel lies inside an edge that is `distance` pixels away."""
    return np.clip(0.5 - distance, 0.0, 1.0)


def _capsule(
    canvas: _Canvas, a: np.ndarray, b: np.ndarray, ra: float, rb: float, colour: np.ndarray, *, flatness: float = 1.0,
    alpha: float = 1.0, until: float = 1.0, cuff: np.ndarray | None = None,
) -> None:  # fmt: skip
    """One shaded capsule a frame; `a`, `b` `[t, 2]` and radii in pixels. Beyond `until` of its length it is `cuff`."""
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    low, high = np.minimum(a, b) - max(ra, rb), np.maximum(a, b) + max(ra, rb)
    rows, columns, x, y = canvas.window(low, high)
    ones = np.ones(len(a), np.float32)
    distance, nx, ny, along = _capsule_field(x, y, a, b, ra * ones, rb * ones)
    patch = canvas.pixels[canvas.at, rows, columns]
    tint = colour if cuff is None else np.where((along > until)[..., None], cuff, colour)
    _blend(patch, alpha * _coverage(distance), tint * _threefold(_light(nx, ny, flatness)))
    canvas.pixels[canvas.at, rows, columns] = patch


def _ellipse(
    canvas: _Canvas, centre: np.ndarray, axis: np.ndarray, radii: np.ndarray, colour: np.ndarray, *,
    flatness: float = 0.9, lit: bool = True, above: tuple[float, float] | None = None,
) -> None:  # fmt: skip
    """A shaded ellipse a frame. `axis` `[t, 2]` is its upright unit direction, `radii` `[t, 2]` across and upright.

    With `above = (height, bend)` only the part over the line upright = height + bend·across² is painted (hair).
    """
    centre, axis, radii = (np.asarray(array, np.float32) for array in (centre, axis, radii))
    reach = radii.max(1, keepdims=True)
    rows, columns, x, y = canvas.window(centre - reach, centre + reach)
    dx, dy = x - centre[:, 0, None, None], y - centre[:, 1, None, None]
    ux, uy = axis[:, 0, None, None], axis[:, 1, None, None]
    across = (dx * -uy + dy * ux) / radii[:, 0, None, None]
    upright = (dx * ux + dy * uy) / radii[:, 1, None, None]
    length = np.sqrt(across**2 + upright**2)
    cover = _coverage((length - 1.0) * radii.min(1)[:, None, None])
    if above is not None:
        line = upright - above[0] - above[1] * across**2
        cover = cover * np.clip(0.5 + line * radii[:, 1, None, None], 0.0, 1.0)
    shade = _light(dx / reach[:, :, None], dy / reach[:, :, None], flatness)[..., None] if lit else 1.0
    patch = canvas.pixels[canvas.at, rows, columns]
    _blend(patch, cover, colour * shade)
    canvas.pixels[canvas.at, rows, columns] = patch


def _background(size: tuple[int, int], look: Appearance) -> np.ndarray:
    """A soft gradient, lighter behind the head: `[height, width, 3]`, round whatever the aspect."""
    side = min(size)
    y, x = ((np.mgrid[: size[0], : size[1]][i] + 0.5 - (size[i] - side) / 2) / side for i in range(2))
    glow = 1.06 - 0.30 * np.sqrt((x - 0.5) ** 2 + (y - 0.35) ** 2)
    return (np.array(look.background, np.float32) * glow[..., None]).clip(0, 255).astype(np.float32)


def _trunk(size: tuple[int, int], joints: np.ndarray, look: Appearance) -> tuple[np.ndarray, np.ndarray]:
    """The shirt's coverage `[y, x]` and colour, from the clip's median shoulders and hips (they hardly move)."""
    middle = np.median(joints, axis=0)
    right, left = middle[INDEX["right_shoulder"]], middle[INDEX["left_shoulder"]]
    hips = abs(middle[INDEX["left_hip"], 0] - middle[INDEX["right_hip"], 0]) / 2 + 0.12
    side = min(size)
    scale = VIEW_SIDE / side
    y, x = ((np.mgrid[: size[0], : size[1]][i] + 0.5 - (size[i] - side) / 2) * scale for i in range(2))
    x, y = x - VIEW_SIDE / 2 - (right[0] + left[0]) / 2, y - VIEW_TOP - (right[1] + left[1]) / 2
    half = abs(left[0] - right[0]) / 2
    share = np.clip(y / 1.2, 0, 1)
    width = half + 0.06 - (half + 0.06 - hips) * share - 0.05 * np.sin(np.pi * share)
    top = -0.16 + 0.10 * (np.abs(x) / half) ** 2.2
    distance = np.maximum(np.abs(x) - width, top - y) / scale
    shade = _light(x / width, np.clip(-0.35 + 0.3 * y, -0.5, 0.2), 0.85)
    return _coverage(distance), np.array(look.shirt, np.float32) * shade[..., None]


def _head(canvas: _Canvas, joints: np.ndarray, look: Appearance, behind: bool) -> None:
    """Neck, head, hair and face, from the points of the face; `behind` paints only what hangs behind the shoulders."""
    s = canvas.scale
    skin, hair = np.array(look.skin, np.float32), np.array(look.hair, np.float32)
    pixel = to_pixels(joints[..., :2], *canvas.size)
    face = pixel[:, INDEX["face_0"] : INDEX["face_0"] + 68]
    ears = (pixel[:, INDEX["right_ear"]], pixel[:, INDEX["left_ear"]])
    middle = (ears[0] + ears[1]) / 2
    chin = face[:, 8]
    up = middle - chin
    size = np.linalg.norm(up, axis=1, keepdims=True)
    up = up / np.maximum(size, 1e-6)
    centre = chin + up * size * 1.0
    wide = np.full((len(up), 1), 0.225 * s)
    ones = np.ones(len(up))
    if behind:
        _ellipse(canvas, centre + 0.02 * s * up, up, np.concatenate([wide * 1.32, wide * 1.62], 1), hair * 0.9)
        for ear in ears:
            _capsule(canvas, ear, ear - up * 0.36 * s, 0.10 * s, 0.085 * s, hair * 0.9)
        return
    neck = pixel[:, INDEX["neck"]]
    _capsule(canvas, middle, neck - (0, 0.03 * s), 0.105 * s, 0.125 * s, skin * 0.86, flatness=0.8)
    for ear in ears:
        _ellipse(canvas, ear, up, np.stack([0.04 * s * ones, 0.065 * s * ones], 1), skin * 0.92)
    _ellipse(canvas, centre, up, np.concatenate([wide, np.maximum(size * 1.04, 0.26 * s)], 1), skin, flatness=0.75)
    cap = np.concatenate([wide * 1.1, np.maximum(size * 1.2, 0.3 * s)], 1)
    _ellipse(canvas, centre + 0.015 * s * up, up, cap, hair, above=(0.50, -0.42 if look.long_hair else -0.22))
    for first in (36, 42):
        eye = face[:, first : first + 6].mean(1)
        white = np.stack([0.043 * s * ones, 0.027 * s * ones], 1)
        _ellipse(canvas, eye, up, white, np.array((246, 244, 240), np.float32), lit=False)
        _ellipse(canvas, eye, up, np.full((len(up), 2), 0.024 * s), np.array((34, 24, 22), np.float32), lit=False)
    for first in (17, 22):
        for i in range(first, first + 4, 2):
            _capsule(canvas, face[:, i], face[:, i + 2], 0.014 * s, 0.014 * s, hair * 0.8 + 10, flatness=0.3, alpha=0.9)
    _capsule(canvas, face[:, 28], face[:, 30], 0.018 * s, 0.034 * s, skin * 1.03, flatness=0.9, alpha=0.75)
    lips = np.array((168, 72, 70), np.float32) * 0.6 + skin * 0.3
    mouth = (face[:, 60] + face[:, 64] + face[:, 62] + face[:, 66]) / 4
    gape = np.linalg.norm(face[:, 66] - face[:, 62], axis=1)
    half = np.linalg.norm(face[:, 54] - face[:, 48], axis=1) / 2
    _ellipse(canvas, mouth, up, np.stack([half, gape / 2 + 0.022 * s], 1), lips, lit=False)
    inner = np.stack([half * 0.74, np.maximum(gape / 2, 0.004 * s)], 1)
    _ellipse(canvas, mouth, up, inner, np.array((58, 16, 20), np.float32), lit=False)


# Capsules of a hand (positions among its 21 joints) and their radii in shoulder widths: the palm with the thumb's base,
# then the fingers' bones.
_PALM = [(0, 5), (0, 9), (0, 13), (0, 17), (5, 17), (0, 1), (1, 2)]
_FINGERS = [(joint, joint + 1) for joint in range(2, 20) if joint % 4]
_BONES = np.array(_PALM + _FINGERS)
_RADII = np.array([0.050] * 6 + [0.046] + [0.036] * len(_FINGERS), np.float32)
_HULL = np.array([(0, 9), (5, 17), (2, 4), (5, 8), (9, 12), (13, 16), (17, 20)])  # a coarse hand: what casts the shadow


def _hand(canvas: _Canvas, joints: np.ndarray, first: np.ndarray, skin: np.ndarray) -> None:
    """A hand (its 21 joints from `first[t]` on): a contact shadow, then its capsules by depth."""
    s, row = canvas.scale, np.arange(len(joints))
    points = joints[row[:, None], first[:, None] + np.arange(21)]  # [t, 21, 3]
    pixel = to_pixels(points[..., :2], *canvas.size)
    low, high = pixel.min(1) - 0.11 * s, pixel.max(1) + 0.11 * s
    rows, columns, x, y = canvas.window(low, high)
    wide = np.full(len(joints), 0.075 * s, np.float32)
    near = np.full((1, 1, 1), np.inf, np.float32)
    for i, j in _HULL:
        distance = _capsule_field(x, y, pixel[:, i], pixel[:, j], wide, wide)[0]
        near = np.minimum(near, distance)
    patch = canvas.pixels[canvas.at, rows, columns]
    canvas.pixels[canvas.at, rows, columns] = patch * (1 - 0.45 * np.clip(0.2 - near / (0.06 * s), 0, 1))[..., None]
    depth = points[:, _BONES, 2].mean(2) - _RADII  # of the surface that faces the viewer
    order = np.argsort(-depth, axis=1, kind="stable")
    for rank in range(len(_BONES)):
        chosen = order[:, rank]
        a, b = pixel[row, _BONES[chosen, 0]], pixel[row, _BONES[chosen, 1]]
        radius = _RADII[chosen] * np.float32(s)
        palm = (chosen < len(_PALM))[:, None, None]
        rows, columns, x, y = canvas.window(np.minimum(a, b) - radius[:, None], np.maximum(a, b) + radius[:, None])
        distance, nx, ny, _ = _capsule_field(x, y, a, b, radius, radius * np.float32(0.94))
        # Fingers are round and end in a dark contour, which keeps them apart; a palm's capsules blend.
        flatness = np.where(palm, np.float32(0.45), np.float32(0.98))
        rim = np.clip(-distance / (0.5 * radius[:, None, None]), 0, 1)
        rim = np.where(palm, np.float32(1), 0.62 + 0.38 * rim)
        patch = canvas.pixels[canvas.at, rows, columns]
        _blend(patch, _coverage(distance), skin * _threefold(_light(nx * flatness, ny * flatness) * rim))
        canvas.pixels[canvas.at, rows, columns] = patch


def _paint(joints: np.ndarray, look: Appearance, size: tuple[int, int], back: np.ndarray, trunk: tuple) -> np.ndarray:
    canvas = _Canvas(len(joints), size, back)
    s = canvas.scale
    skin, shirt = np.array(look.skin, np.float32), np.array(look.shirt, np.float32)
    pixel = to_pixels(joints[..., :2], *size).astype(np.float32)
    if look.long_hair:  # behind the shoulders
        _head(canvas, joints, look, behind=True)
    _blend(canvas.pixels, trunk[0][None], trunk[1])
    _head(canvas, joints, look, behind=False)
    for side in ("right", "left"):
        shoulder, elbow = pixel[:, INDEX[f"{side}_shoulder"]], pixel[:, INDEX[f"{side}_elbow"]]
        cuff = None if look.long_sleeves else skin * 0.95
        _capsule(canvas, shoulder + (0, 0.03 * s), elbow, 0.125 * s, 0.098 * s, shirt, until=0.72, cuff=cuff)
    starts = np.array([INDEX["right_hand_wrist_root"], INDEX["left_hand_wrist_root"]])
    depths = np.stack([joints[:, start : start + 21, 2].mean(1) for start in starts], 1)
    order = np.argsort(-depths, axis=1, kind="stable")  # the deeper arm first
    elbows = pixel[:, [INDEX["right_elbow"], INDEX["left_elbow"]]]
    wrists = pixel[:, [INDEX["right_wrist"], INDEX["left_wrist"]]]
    rows = np.arange(len(joints))
    for rank in range(2):
        which = order[:, rank]
        sleeve, cuff = (shirt, skin) if look.long_sleeves else (skin * 0.97, None)
        _capsule(canvas, elbows[rows, which], wrists[rows, which], 0.098 * s, 0.062 * s, sleeve, until=0.86, cuff=cuff)
        _hand(canvas, joints, starts[which], np.minimum(skin * np.float32(1.1), 255))
    return np.clip(canvas.pixels + 0.5, 0, 255).astype(np.uint8)


def render(
    joints: Float[np.ndarray, "t 128 3"], appearance: str, size: tuple[int, int]
) -> UInt8[np.ndarray, "t y x 3"]:
    """The video of a 3D pose on the full skeleton (all arms, hands and faces present), of `size` (height, width).

    Raises `SignerError` for an unknown appearance or a pose of another shape.
    """
    if appearance not in APPEARANCES:
        hint = closest(appearance, APPEARANCES)
        raise SignerError(f"appearance {appearance!r}: unknown{hint}; one of {', '.join(APPEARANCES)}")
    if joints.ndim != 3 or joints.shape[1:] != (len(INDEX), 3):
        raise SignerError(f"avatar: a pose of shape {joints.shape}, but it draws [frames, {len(INDEX)}, 3] only")
    look = APPEARANCES[appearance]
    joints = np.asarray(joints, np.float32)
    back = _background(size, look)
    if not len(joints):
        return np.zeros((0, *size, 3), np.uint8)
    cover, shirt = _trunk(size, joints, look)
    trunk = (cover.astype(np.float32), shirt.astype(np.float32))
    chunk = max(1, _CHUNK_PIXELS // (size[0] * size[1]))
    parts = [_paint(joints[i : i + chunk], look, size, back, trunk) for i in range(0, len(joints), chunk)]
    return np.concatenate(parts)
