"""Pictures of the face, cut out of a video around the pose's face points: what Wan-Animate's face branch is given.

The box is that of the public preprocessing: around the 68 points, its area 1.3 times theirs, of the added height three
quarters above (the forehead has no points) and a quarter below, within the frame.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from signer_jax.pose import skeleton
from signer_jax.types import Pose

_AREA = 1.3
_FACE = skeleton.positions(skeleton.FACE, skeleton.JOINTS)


def face_boxes(pose: Pose, height: int, width: int) -> Int[np.ndarray, "t 4"]:
    """Left, top, right, bottom of the face in each frame's pixels; of a frame that shows none, the nearest one's.

    Zeros where no frame shows a face. `pose` is on all 128 joints, normalised.
    """
    points = skeleton.to_pixels(pose.coordinates[:, _FACE, :2], height, width)
    seen = pose.confidence[:, _FACE] > 0
    boxes = np.zeros((len(pose), 4), np.int64)
    found = []
    for frame in np.flatnonzero(seen.sum(axis=1) > 1):
        box = _box(points[frame][seen[frame]], height, width)
        if box[2] > box[0] and box[3] > box[1]:
            boxes[frame] = box
            found.append(frame)
    if not found:
        return boxes
    at = np.array(found)
    return boxes[at[np.abs(at[None] - np.arange(len(pose))[:, None]).argmin(axis=1)]]


def _box(points: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    aside, above = (math.sqrt(_AREA) - 1.0) * (right - left) / 2, (math.sqrt(_AREA) - 1.0) * (bottom - top) / 4
    return (
        int(max(left - aside, 0)), int(max(top - 3 * above, 0)),
        int(min(right + aside, width)), int(min(bottom + above, height)),
    )  # fmt: skip


def face_video(video: UInt8[np.ndarray, "t y x 3"], pose: Pose, size: int) -> UInt8[np.ndarray, "t size size 3"]:
    """The face of each frame, resized to a square of `size`; black, which says nothing, where no frame shows one."""
    return squares(face_crops(video, pose), size)


def face_crops(video: UInt8[np.ndarray, "t y x 3"], pose: Pose) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """The face of each frame as it was filmed, of no pixels where no frame shows one."""
    boxes = face_boxes(pose, *video.shape[1:3])
    return [frame[top:bottom, left:right] for frame, (left, top, right, bottom) in zip(video, boxes, strict=True)]


def squares(faces: Sequence[UInt8[np.ndarray, "_ _ 3"]], size: int) -> UInt8[np.ndarray, "t size size 3"]:
    """Each face resized to a square of `size`; black where it has no pixels."""
    resized = np.zeros((len(faces), size, size, 3), np.uint8)
    for i, face in enumerate(faces):
        if face.size:
            resized[i] = np.asarray(Image.fromarray(face).resize((size, size), Image.Resampling.BILINEAR))
    return resized
