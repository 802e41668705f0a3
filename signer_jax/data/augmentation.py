"""Training examples changed at random: mirrored, at another speed, turned and moved a little, in other colours.

One draw (`Change`) changes pose and picture, so that the pose still lies on its frames (`skeleton.view`). It is of the
example's own generator, a function of seed, epoch and example: a resumed run draws the same.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from signer_jax.data import timing
from signer_jax.pose import skeleton
from signer_jax.settings import Augment
from signer_jax.types import Pose

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class Change(NamedTuple):
    """What happens to an example, in this order."""

    speed: float  # frames that pass in one
    mirrored: bool
    matrix: np.ndarray  # [2, 2] of x and y, around the middle between the shoulders
    shift: np.ndarray  # [2], shoulder widths
    colours: np.ndarray  # [3]: factors of brightness, contrast and saturation


def is_on(c: Augment) -> bool:
    return any((c.mirror, c.speed, c.turn, c.grow, c.shift, c.colour))


def drawn(rng: np.random.Generator, c: Augment, *, may_mirror: bool = True) -> Change:
    """As many numbers are drawn whatever is on."""
    mirror, speed, turn, grow, *others = rng.uniform(-1, 1, 9)
    angle, size = np.deg2rad(turn * c.turn), (1 + c.grow) ** grow
    return Change(
        speed=float((1 + c.speed) ** speed),
        mirrored=bool(may_mirror and (mirror + 1) / 2 < c.mirror),
        matrix=size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]),
        shift=np.array(others[:2]) * c.shift,
        colours=1 + np.array(others[2:]) * c.colour,
    )


def may_mirror(glosses: Iterable[str], c: Augment) -> bool:
    """Whether none of the glosses is one of `not_mirrored`, however its letters are composed."""
    composed = [{unicodedata.normalize("NFC", gloss) for gloss in some} for some in (glosses, c.not_mirrored)]
    return not composed[0] & composed[1]


# ---- Poses -----------------------------------------------------------------------------------------------------------

# iBUG-68, points whose numbers and their counterparts' have one sum: jaw, brows, the nose's wings, eyes and their lower
# lids, outer and inner lips. The others lie in the middle.
_FACE = {
    i: total - i
    for points, total in (
        (range(17), 16), (range(17, 27), 43), (range(31, 36), 66), ((36, 37, 38, 39, 42, 43, 44, 45), 81),
        ((40, 41, 46, 47), 87), (range(48, 55), 102), (range(55, 60), 114), (range(60, 65), 124), (range(65, 68), 132),
    )
    for i in points
}  # fmt: skip


def mirrored_joint(name: str) -> str:
    """The joint that is seen in a mirror where this one is."""
    side, _, rest = name.partition("_")
    if side == "face":
        return f"face_{_FACE.get(int(rest), int(rest))}"
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)


def mirror_permutation(joints: Sequence[str]) -> Int[np.ndarray, " j"]:
    """For each joint the place of the one that takes its name in a mirror; `joints` have both of each pair."""
    return np.array([list(joints).index(mirrored_joint(name)) for name in joints])


def on_points(
    points: Float[np.ndarray, "*b j c"], seen: Float[np.ndarray, "*b j"], change: Change, mirror: Int[np.ndarray, " j"]
) -> tuple[Float[np.ndarray, "*b j c"], Float[np.ndarray, "*b j"]]:
    """Coordinates of joints and their confidence; what is not seen stays 0. `mirror`: `mirror_permutation`."""
    points = np.array(points, np.float32)
    if change.mirrored:
        points, seen = points[..., mirror, :], seen[..., mirror]
        points[..., 0] *= -1
    size = np.sqrt(np.linalg.det(change.matrix))
    plane = points[..., :2] @ change.matrix.T + change.shift
    moved = np.concatenate([plane, points[..., 2:] * size], axis=-1)
    return (moved * (seen[..., None] > 0)).astype(np.float32), seen


def frames_needed(length: int, change: Change) -> int:
    """So many frames of an example give `length` at its speed."""
    return int(np.ceil((length - 1) * change.speed - 1e-6)) + 1


def on_window(
    window: dict[str, np.ndarray], change: Change, length: int, mirror: Int[np.ndarray, " j"]
) -> dict[str, np.ndarray]:
    """`MotionWindows.window` of `frames_needed` frames, changed, `length` of them: truth and candidates alike.

    Between two frames poses are linear; whose gloss a frame is, and whether it is valid, is as of the nearest.
    """
    found = dict(window)
    have = np.arange(len(window["pose"]), dtype=np.float64)
    wanted = np.minimum(np.arange(length) * change.speed, have[-1])
    nearest = timing.nearest(have, wanted)
    for points, seen in (("pose", "confidence"), ("candidates", "candidate_confidence")):
        if points in window:
            # All that is not frames counts as joints: [e t j c] -> [t (e j) c].
            places, there = np.moveaxis(window[points], -3, 0), np.moveaxis(window[seen], -2, 0)
            pose = Pose(places.reshape(len(have), -1, places.shape[-1]), there.reshape(len(have), -1), 1.0)
            pose = timing.at_times(pose, have, wanted, 1.0)
            places = np.moveaxis(pose.coordinates.reshape(length, *places.shape[1:]), 0, -3)
            there = np.moveaxis(pose.confidence.reshape(length, *there.shape[1:]), 0, -2)
            found[points], found[seen] = on_points(places, there, change, mirror)
    if "candidate_features" in window:
        dims = window["pose"].shape[-1]
        found["candidate_features"] = on_features(window["candidate_features"], change, mirror, dims)
    found |= {name: window[name][nearest] for name in ("frame_gloss", "valid") if name in window}
    found["last"] = np.array(min(length - 1, int(window["last"] / change.speed)), np.int32)
    return found


def on_features(
    features: Float[np.ndarray, "n e f"], change: Change, mirror: Int[np.ndarray, " j"], dims: int
) -> Float[np.ndarray, "n e f"]:
    """`experts.candidate_features`: three places of each joint, zeros of one that is missing, and its speed.

    They are of a sign at its own length, whatever the speed at which it is performed.
    """
    joints = len(mirror)
    places = features[..., : 3 * joints * dims].reshape(*features.shape[:-1], 3, joints, dims)
    seen = np.broadcast_to((places != 0).any(axis=(-3, -1))[..., None, :], places.shape[:-1])
    moved, _ = on_points(places, seen, change, mirror)
    speeds = features[..., 3 * joints * dims :] * np.sqrt(np.linalg.det(change.matrix))
    if change.mirrored:
        speeds = speeds[..., mirror]
    return np.concatenate([moved.reshape(*features.shape[:-1], -1), speeds], axis=-1).astype(np.float32)


# ---- Pictures --------------------------------------------------------------------------------------------------------


def at_speed(video: UInt8[np.ndarray, "t h w 3"], start: int, length: int, change: Change) -> np.ndarray:
    """`length` frames from `start` at the changed speed, each the nearest, the last one repeated past the end."""
    places = np.floor(start + np.arange(length) * change.speed + 0.5).astype(int)
    return video[np.minimum(places, len(video) - 1)]


def on_pictures(frames: UInt8[np.ndarray, "t h w 3"], change: Change) -> UInt8[np.ndarray, "t h w 3"]:
    """Frames in the view of their size (`skeleton.view`), their edges drawn out over what comes into it."""
    frames = moved(frames, change)
    return coloured(frames, change.colours, grey(frames)) if recoloured(change) else frames


def moved(frames: UInt8[np.ndarray, "t h w 3"], change: Change) -> UInt8[np.ndarray, "t h w 3"]:
    """`on_pictures` but for colours, of each frame alone."""
    if change.mirrored:
        frames = frames[:, :, ::-1]
    if not (np.array_equal(change.matrix, np.eye(2)) and not change.shift.any()):
        frames = _warped(frames, change)
    return np.ascontiguousarray(frames)


def recoloured(change: Change) -> bool:
    """Whether colours are changed, which is done around the grey of the whole clip."""
    return bool((change.colours != 1).any())


def grey(frames: UInt8[np.ndarray, "t h w 3"]) -> np.float32:
    """The mean grey of a clip, 0 to 255."""
    return np.float32(np.mean([(one.mean(axis=(0, 1), dtype=np.float64) @ _GREY) for one in frames]))


def _warped(frames: np.ndarray, change: Change) -> np.ndarray:
    height, width = frames.shape[1:3]
    scale, *origin = skeleton.view(height, width)
    back = np.linalg.inv(change.matrix)  # from a place in the new picture to where it is in the old one
    constant = np.array(origin) - back @ (np.array(origin) + scale * change.shift)
    corners = np.array([(x, y) for x in (0, width) for y in (0, height)]) @ back.T + constant
    edge = int(np.ceil(max(0, -corners.min(), (corners - (width, height)).max()))) + 1
    constant = constant + edge
    rows = (*back[0], constant[0], *back[1], constant[1])
    padded = np.pad(frames, ((0, 0), (edge, edge), (edge, edge), (0, 0)), mode="edge")
    return np.stack([
        np.asarray(Image.fromarray(one).transform(
            (width, height), Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR
        )) for one in padded
    ])  # fmt: skip


def coloured(
    frames: UInt8[np.ndarray, "t h w 3"], colours: Float[np.ndarray, " 3"], around: np.float32
) -> UInt8[np.ndarray, "t h w 3"]:
    """Brighter, then with more contrast around the clip's mean grey `around` (`grey`), then more saturated; frame by
    frame, since a clip takes four times its bytes as numbers.
    """
    brightness, contrast, saturation = colours.astype(np.float32)
    mean = around * brightness
    made = np.empty_like(frames)
    for one, into in zip(frames, made, strict=True):
        values = (one * brightness - mean) * contrast + mean
        of_each = (values @ _GREY)[..., None]
        into[...] = np.clip(np.rint((values - of_each) * saturation + of_each), 0, 255)
    return made
