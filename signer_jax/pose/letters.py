"""Words spelled with a lexicon's letters: the hand stays up, holds each letter, and goes to the next in one movement.

A lexicon records a letter alone: the hand rises, holds it (about half a second in the 26 ASL letters at hand), sinks.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from signer_jax.pose import skeleton, stitching
from signer_jax.pose.curves import PEAK
from signer_jax.types import Pose

_SLOW = 1.0  # shoulder widths a second: a hand that is slower holds a letter, or turns within one
_STILL = 0.1  # shoulder widths: a hand that stays so near to its middle frame does not move within its letter
_RISE = 0.05  # shoulder widths that a hand must climb to come from the rest
_SETTLING = 0.12  # seconds that fingers go on after the hand has come up
_HOLD = 0.32  # seconds that a letter is held at most
_LEAST, _MOST = 0.24, 0.48  # seconds from one letter to the next
_PEAK_SPEED = 3.0  # shoulder widths a second: how fast fingers, and the hand, go there at most
_SLIDE = 0.2  # shoulder widths that the hand goes aside to show a letter again
_HANDS = [[skeleton.INDEX[name] for name in hand] for hand in (skeleton.LEFT_HAND, skeleton.RIGHT_HAND)]
_FINGERS = [joint for hand in _HANDS for joint in hand]
_SIDE = {"left": 1, "right": -1}  # where the signer's left and right lie, along x


def spell(letters: Sequence[Pose]) -> tuple[Pose, Int[np.ndarray, "n 2"]]:
    """One pose of a word from its letters as a lexicon has them, all at one frame rate, and the frames of each letter.

    Of each letter its `core` is kept. The next is reached by a transition as between signs, as long as the hand's and
    the fingers' way needs; a letter's frames reach to the middle of the ways around it, as in a spelled word's
    annotation. The same recording twice on end is shown again beside the first.
    """
    cores = [core(letter) for letter in letters]
    aside = 0
    for i, (before, after) in enumerate(pairwise(letters)):
        same = np.array_equal(before.coordinates, after.coordinates) and _is_still(cores[i + 1])
        aside = aside + 1 if same else 0
        cores[i + 1] = _shifted(cores[i + 1], aside * _SLIDE)
    fps = letters[0].fps
    spans, total = stitching.timeline(cores, [way_seconds(*pair) for pair in pairwise(cores)], fps)
    middles = [(end + start) // 2 for end, start in zip(spans[:-1, 1], spans[1:, 0], strict=True)]
    edges = np.array([0, *middles, total], np.int32)
    return stitching.stitch(cores, spans, total, fps=fps), np.stack([edges[:-1], edges[1:]], axis=1)


def core(letter: Pose) -> Pose:
    """A letter without the hand's rise before it and sink after it, and, where it does not move, held for a moment.

    A letter whose hand starts low or fast for another reason keeps that start, and its end likewise.
    """
    last = len(letter) - _rise(Pose(letter.coordinates[::-1], letter.confidence[::-1], letter.fps))
    kept = letter.slice(_rise(letter), last)
    if not len(kept):
        return letter
    hold = max(2, round(_HOLD * letter.fps))
    if len(kept) > hold and _is_still(kept):
        first = (len(kept) - hold) // 2
        return kept.slice(first, first + hold)
    return kept


def _rise(letter: Pose) -> int:
    """How many frames a letter begins with in which its hand comes up from the rest and settles."""
    if len(letter) < 2:
        return 0
    roots = [hand[0] for hand in _HANDS]
    seen = (letter.confidence[1:, roots] > 0) & (letter.confidence[:-1, roots] > 0)
    climb = -np.diff(letter.coordinates[:, roots, 1], axis=0) * seen * letter.fps
    settled = int((np.append(_speed(letter), 0) < _SLOW).argmax())
    climbed = int(np.flatnonzero(climb[:settled].max(axis=1, initial=0) >= _SLOW).max(initial=-1)) + 1
    # A letter that moves at once does not settle before it is over.
    first = settled if settled - climbed <= _SETTLING * letter.fps else climbed
    up = letter.coordinates[0, roots, 1] - letter.coordinates[first, roots, 1]
    known = (letter.confidence[[0, first]][:, roots] > 0).all(axis=0)
    return first if (up * known).max() > _RISE else 0


def way_seconds(before: Pose, after: Pose) -> float:
    """How long the hand takes from one letter to the next, by the joint that has the longest way."""
    seen = (before.confidence[-1, _FINGERS] > 0) & (after.confidence[0, _FINGERS] > 0)
    step = (after.coordinates[0, _FINGERS] - before.coordinates[-1, _FINGERS])[seen, :2]
    way = float(np.linalg.norm(step, axis=-1).max(initial=0))
    return min(max(_LEAST, PEAK * way / _PEAK_SPEED), _MOST)


def _speed(pose: Pose) -> Float[np.ndarray, " t-1"]:
    """Of the faster hand, the mean of its joints that are seen before and after, shoulder widths a second."""
    seen = (pose.confidence[1:] > 0) & (pose.confidence[:-1] > 0)
    step = np.linalg.norm(np.diff(pose.coordinates[..., :2], axis=0), axis=-1) * seen
    speeds = [step[:, hand].sum(1) / np.maximum(seen[:, hand].sum(1), 1) for hand in _HANDS]
    return np.maximum(*speeds) * pose.fps


def _is_still(pose: Pose) -> bool:
    seen = (pose.confidence[:, _FINGERS] > 0).all(axis=0)
    places = pose.coordinates[:, _FINGERS, :2][:, seen]
    off = np.linalg.norm(places - places[len(pose) // 2], axis=-1)
    return not off.size or float(off.mean(axis=1).max()) < _STILL


def _shifted(pose: Pose, aside: float) -> Pose:
    """The raised arms moved to the side of the one that spells: the right one, where that is raised."""
    if not aside:
        return pose
    middle = len(pose) // 2
    raised = [
        side for side, hand in zip(("left", "right"), _HANDS, strict=True)
        if pose.confidence[middle, hand[0]] > 0 and stitching.is_raised(pose.coordinates[middle, hand[0], 1])
    ]  # fmt: skip
    coordinates = pose.coordinates.copy()
    for side in raised:
        elbow, *others = skeleton.positions(skeleton.PARTS[f"{side}_arm"], skeleton.JOINTS)
        coordinates[:, others, 0] += _SIDE[raised[-1]] * aside
        coordinates[:, elbow, 0] += _SIDE[raised[-1]] * aside / 2
    return Pose(coordinates * (pose.confidence[..., None] > 0), pose.confidence, pose.fps)
