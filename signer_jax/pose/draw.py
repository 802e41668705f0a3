"""Skeleton pictures for people, in the colours of OpenPose and DWPose on black.

Conventions (DWPose's): body limbs as capsules in 0.6 of their colour with full-colour joints, hands as thin limbs whose
hue runs over the fingers with blue joints, the face as white points; joints at or below the threshold are not drawn.
"""

import colorsys
from collections.abc import Iterable, Iterator
from itertools import pairwise, repeat

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from signer_jax.pose import skeleton
from signer_jax.types import Pose

Colour = tuple[int, int, int]
_LIMB_SHADE = 0.6
_OVERSAMPLING = 3  # drawn larger and averaged down: smooth edges at small sizes
_FACE_COLOUR: Colour = (255, 255, 255)
_HAND_JOINT_COLOUR: Colour = (0, 0, 255)
# Half widths in shoulder widths.
_BODY_WIDTH, _BODY_JOINT, _HAND_WIDTH, _HAND_JOINT, _FACE_JOINT = 0.022, 0.024, 0.009, 0.011, 0.008


def _hue(share: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(share, 1.0, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


_BODY_PAIRS = (
    ("neck", "right_shoulder"), ("neck", "left_shoulder"), ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("neck", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"), ("neck", "left_hip"),
    ("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("neck", "nose"), ("nose", "right_eye"),
    ("right_eye", "right_ear"), ("nose", "left_eye"), ("left_eye", "left_ear"),
)  # fmt: skip
# 18 hues, one a body joint in DWPose order; a limb takes the hue of its place in the list above.
BODY_COLOURS: tuple[Colour, ...] = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255),
    (255, 0, 170), (255, 0, 85),
)  # fmt: skip
BODY_LIMBS = tuple((a, b, BODY_COLOURS[i]) for i, (a, b) in enumerate(_BODY_PAIRS))


def _hand_limbs(side: str) -> tuple[tuple[str, str, Colour], ...]:
    limbs = []
    for finger in skeleton.FINGERS:
        chain = [f"{side}_hand_wrist_root", *(f"{side}_hand_{finger}_{i}" for i in range(1, 5))]
        limbs += list(pairwise(chain))
    return tuple((a, b, _hue(i / len(limbs))) for i, (a, b) in enumerate(limbs))


HAND_LIMBS = {side: _hand_limbs(side) for side in ("left", "right")}
# A stroke joins two joints, has round ends and half a width in shoulder widths; of a joint with itself it is a dot.
Stroke = tuple[int, int, Colour, float]


def _limbs(limbs: Iterable[tuple[str, str, Colour]], half_width: float, shade: float) -> Iterator[Stroke]:
    for a, b, (red, green, blue) in limbs:
        colour = (round(red * shade), round(green * shade), round(blue * shade))
        yield skeleton.INDEX[a], skeleton.INDEX[b], colour, half_width


def _dots(names: Iterable[str], colours: Iterable[Colour], half_width: float) -> Iterator[Stroke]:
    for name, colour in zip(names, colours, strict=False):
        yield skeleton.INDEX[name], skeleton.INDEX[name], colour, half_width


# All that is drawn of a frame, in this order: also what a page draws in the browser (`viewing/poses.py`).
STROKES: tuple[Stroke, ...] = (
    *_limbs(BODY_LIMBS, _BODY_WIDTH, _LIMB_SHADE),
    *_dots(skeleton.BODY, BODY_COLOURS, _BODY_JOINT),
    *_dots(skeleton.FACE, repeat(_FACE_COLOUR), _FACE_JOINT),
    *_limbs(HAND_LIMBS["left"], _HAND_WIDTH, 1.0),
    *_dots(skeleton.LEFT_HAND, repeat(_HAND_JOINT_COLOUR), _HAND_JOINT),
    *_limbs(HAND_LIMBS["right"], _HAND_WIDTH, 1.0),
    *_dots(skeleton.RIGHT_HAND, repeat(_HAND_JOINT_COLOUR), _HAND_JOINT),
)


def draw(pose: Pose, size: int | tuple[int, int], *, threshold: float = 0.3) -> UInt8[np.ndarray, "t h w 3"]:
    """Pictures of a normalised pose on the canonical joints, in the view of `skeleton.to_pixels`.

    `size` is a square's side or (height, width). Joints whose confidence is at or below `threshold` are left out (0.3
    is DWPose's; WAN notes, "Pose drawing").
    """
    size = (size, size) if isinstance(size, int) else size
    pixels = skeleton.to_pixels(pose.coordinates[..., :2].astype(np.float32), *size)
    frames = [_draw_frame(points, seen > threshold, size) for points, seen in zip(pixels, pose.confidence, strict=True)]
    return np.stack(frames) if frames else np.zeros((0, *size, 3), np.uint8)


def _draw_frame(points: np.ndarray, seen: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    image = Image.new("RGB", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    canvas = ImageDraw.Draw(image)
    points = points * _OVERSAMPLING
    unit = min(size) * _OVERSAMPLING / skeleton.VIEW_SIDE

    for i, j, colour, half_width in STROKES:
        if not (seen[i] and seen[j]):
            continue
        if i != j:
            thick = max(1, round(2 * half_width * unit))
            canvas.line([*points[i].tolist(), *points[j].tolist()], fill=colour, width=thick)
        radius = max(half_width * unit, 0.5)
        for x, y in points[[i, j] if i != j else [i]].tolist():
            canvas.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))
