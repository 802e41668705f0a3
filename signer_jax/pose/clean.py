"""Mends what hand detectors get wrong, on normalised poses: duplicated hands, one-frame spikes, short gaps.

The thresholds follow the measurements on real MediaPipe clips (WAN notes, last section). On 31 How2Sign clips (4,377
frames) they find one hand detected twice in 1.0% of the frames and one-frame jumps in 0.7% of the hand joints; 78% of
the gaps are one or two frames long. Exchanged hands (each nearer to the other's wrist) did not occur there, so nothing
is done about them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from signer_jax.pose import skeleton
from signer_jax.types import Pose

LONGEST_GAP = 2  # frames: longer gaps are hands that rest out of the picture
_SPIKE = 0.1  # shoulder widths off the mean of the neighbouring frames
_SAME_HAND = 0.08  # mean distance of the two hands' joints, shoulder widths
_STRAY = 0.25  # distance of a hand from its own arm's wrist, shoulder widths
_SIDES = (("left_wrist", skeleton.LEFT_HAND), ("right_wrist", skeleton.RIGHT_HAND))
_HANDS = [[skeleton.INDEX[name] for name in names] for _, names in _SIDES]
_WRISTS = [skeleton.INDEX[name] for name, _ in _SIDES]
_ELBOWS = [skeleton.INDEX[f"{side}_elbow"] for side in ("left", "right")]


class Cleaned(NamedTuple):
    """A cleaned pose, and of how many joints, each in a frame, it is no longer what was measured."""

    pose: Pose
    dropped: int
    filled: int
    moved: int


def clean(pose: Pose) -> Pose:
    """The pose with duplicated hands dropped, short hand gaps filled and finger spikes removed, in that order."""
    return cleaned(pose).pose


def cleaned(pose: Pose) -> Cleaned:
    """As `clean`, with what each of its steps did."""
    once = drop_duplicated_hands(pose)
    whole = fill_gaps(once)
    smooth = remove_spikes(whole)
    seen = [one.confidence > 0 for one in (pose, once, whole)]
    moved = (smooth.coordinates != whole.coordinates).any(-1)
    return Cleaned(smooth, int((seen[0] & ~seen[1]).sum()), int((~seen[1] & seen[2]).sum()), int(moved.sum()))


def drop_duplicated_hands(pose: Pose) -> Pose:
    """Where both hands lie on one another and one of them is far from its own arm, that one is dropped.

    Pressed palms stay: both of them are near their wrists.
    """
    xy, confidence = pose.coordinates[..., :2], pose.confidence.copy()
    left, right = _HANDS
    between = np.linalg.norm(xy[:, left] - xy[:, right], axis=-1).mean(1)
    known = (confidence[:, [left[0], right[0], *_WRISTS]] > 0).all(1)
    off = [np.linalg.norm(xy[:, hand[0]] - xy[:, wrist], axis=-1) for hand, wrist in zip(_HANDS, _WRISTS, strict=True)]
    for hand, own, other in ((left, off[0], off[1]), (right, off[1], off[0])):
        stray = known & (between < _SAME_HAND) & (own > _STRAY) & (own > 2 * other)
        confidence[np.ix_(stray, hand)] = 0
    return _masked(pose.coordinates, confidence, pose.fps)


def fill_gaps(pose: Pose, longest: int = LONGEST_GAP) -> Pose:
    """Fills gaps of at most `longest` frames in each hand joint by a straight line between the frames around.

    The filled frames get the lower confidence of the two. Longer gaps, and those at the clip's ends, stay missing.
    """
    coordinates, confidence = pose.coordinates.copy(), pose.confidence.copy()
    for joint in (joint for hand in _HANDS for joint in hand):
        for start, end in gaps(pose.confidence[:, joint] > 0):
            if start == 0 or end == len(pose) or end - start > longest:
                continue
            share = (np.arange(start, end) - start + 1)[:, None] / (end - start + 1)
            before, after = coordinates[start - 1, joint], coordinates[end, joint]
            coordinates[start:end, joint] = before + share * (after - before)
            confidence[start:end, joint] = min(confidence[start - 1, joint], confidence[end, joint])
    return Pose(coordinates, confidence, pose.fps)


def bridge(pose: Pose, lengths: Sequence[int]) -> Pose:
    """Isolated signs of so many frames, on end, whose arms and hands do not blink: every gap between two frames of a
    sign that show a joint is filled.

    A hand's joints move with the arm's wrist, where that is shown, from their place on the one side to that on the
    other. The filled frames get the lower confidence of the two. What is missing at a sign's end stays missing.
    """
    coordinates, confidence = pose.coordinates.copy(), pose.confidence.copy()
    for elbow, wrist, hand in zip(_ELBOWS, _WRISTS, _HANDS, strict=True):
        _fill(coordinates, confidence, [elbow, wrist], None, lengths)
        _fill(coordinates, confidence, hand, wrist, lengths)  # by the wrist as it was filled
    return Pose(coordinates, confidence, pose.fps)


def _fill(
    coordinates: np.ndarray, confidence: np.ndarray, joints: list[int], carrier: int | None, lengths: Sequence[int]
) -> None:
    """Fills, in place, the gaps of these joints, which one may carry."""
    seen = confidence[:, joints] > 0
    if seen.all():
        return
    before, after = seen_around(seen, lengths)
    frame, which = np.nonzero(~seen & (before >= 0) & (after >= 0))
    before, after, joint = before[frame, which], after[frame, which], np.array(joints)[which]
    share = ((frame - before) / (after - before)).astype(np.float32)[:, None]
    own = [coordinates[edge, joint] for edge in (before, after)]
    carried: np.ndarray | float = 0.0
    if carrier is not None:
        lost = np.concatenate([[0], np.cumsum(confidence[:, carrier] <= 0)])
        shown = (lost[after + 1] == lost[before])[:, None]
        carried = coordinates[frame, carrier] * shown
        own = [place - coordinates[edge, carrier] * shown for place, edge in zip(own, (before, after), strict=True)]
    coordinates[frame, joint] = carried + own[0] + share * (own[1] - own[0])
    confidence[frame, joint] = np.minimum(confidence[before, joint], confidence[after, joint])


def seen_around(
    seen: Bool[np.ndarray, "t j"], lengths: Sequence[int]
) -> tuple[Int[np.ndarray, "t j"], Int[np.ndarray, "t j"]]:
    """For each frame the last one up to it and the first one from it on that shows each joint; -1 where its sign, of
    those that lie on end, has none there.
    """
    ends = np.repeat(np.cumsum(lengths), lengths)[:, None]
    starts = ends - np.repeat(lengths, lengths)[:, None]
    time = np.arange(len(seen))[:, None]
    before = np.maximum.accumulate(np.where(seen, time, -1))
    after = np.minimum.accumulate(np.where(seen, time, len(seen))[::-1])[::-1]
    return np.where(before < starts, -1, before), np.where(after < ends, after, -1)


def remove_spikes(pose: Pose) -> Pose:
    """Replaces finger joints that jump away from their hand for one frame by the mean of the frames around."""
    coordinates = pose.coordinates.copy()
    for hand in _HANDS:
        shape = pose.coordinates[:, hand] - pose.coordinates[:, hand[:1]]  # [t, 21, c], relative to the wrist
        seen = pose.confidence[:, hand] > 0
        known = seen[:-2] & seen[1:-1] & seen[2:]
        middle = (shape[:-2] + shape[2:]) / 2
        off = np.linalg.norm((shape[1:-1] - middle)[..., :2], axis=-1)
        moved = np.linalg.norm((shape[2:] - shape[:-2])[..., :2], axis=-1)
        spike = known & (off > _SPIKE) & (moved < off / 2)
        mended = shape.copy()
        mended[1:-1][spike] = middle[spike]
        coordinates[:, hand] = np.where(mended == shape, coordinates[:, hand], coordinates[:, hand[:1]] + mended)
    return Pose(coordinates, pose.confidence, pose.fps)


def gaps(seen: Bool[np.ndarray, " t"]) -> list[tuple[int, int]]:
    """The runs of frames (first, last excluded) where `seen` is False."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], seen, [True]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _masked(coordinates: Float[np.ndarray, "t j c"], confidence: Float[np.ndarray, "t j"], fps: float) -> Pose:
    return Pose(coordinates * (confidence[..., None] > 0), confidence, fps)
