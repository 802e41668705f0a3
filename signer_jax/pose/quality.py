"""How well a recording shows a sign: what the variants of a gloss are ranked by, where nothing else prefers one."""

import numpy as np

from signer_jax.pose import skeleton
from signer_jax.types import Pose

_SHAKING = 0.02  # shoulder widths a frame²: at this jitter a recording counts half
_HANDS = [[skeleton.INDEX[name] for name in hand] for hand in (skeleton.LEFT_HAND, skeleton.RIGHT_HAND)]
_ARMS = [skeleton.INDEX[f"{side}_{joint}"] for side in ("left", "right") for joint in ("shoulder", "elbow", "wrist")]


def quality(pose: Pose) -> float:
    """Confidence · (1 − missing hands) / (1 + jitter / 0.02 shoulder widths a frame²), 0 to 1.

    The frames are the pose's own: compare poses of one frame rate, as those of a database are.
    """
    return confidence(pose) * (1 - missing_hands(pose)) / (1 + jitter(pose) / _SHAKING)


def confidence(pose: Pose) -> float:
    """The mean confidence of what is seen of arms and hands; 0 where nothing is."""
    values = pose.confidence[:, [*_ARMS, *_HANDS[0], *_HANDS[1]]]
    seen = values > 0
    return min(1.0, float(values.sum() / seen.sum())) if seen.any() else 0.0


def missing_hands(pose: Pose) -> float:
    """The share of frames that do not show the hand that is shown more often, whole: a second hand that rests out of
    the picture is no fault, and nothing says whether it should have signed.
    """
    return 1.0 - max(float((pose.confidence[:, hand] > 0).all(axis=1).mean()) for hand in _HANDS)


def jitter(pose: Pose) -> float:
    """How much the fingers shake against their wrist, in shoulder widths a frame²: of each hand the median over frames
    of the mean second difference of what is seen in three frames on end, weighted by these frames. A detector's noise
    is in every frame, a change of the hand's shape in few; a movement of the whole hand does not count. 0 where nothing
    can be said.
    """
    hands = [_shaking(pose, hand) for hand in _HANDS]
    frames = sum(count for count, _ in hands)
    return sum(count * shaking for count, shaking in hands) / frames if frames else 0.0


def _shaking(pose: Pose, hand: list[int]) -> tuple[int, float]:
    """In how many frames it can be said, and how much."""
    shape = pose.coordinates[:, hand[1:], :2] - pose.coordinates[:, hand[:1], :2]
    seen = (pose.confidence[:, hand[1:]] > 0) & (pose.confidence[:, hand[:1]] > 0)
    known = seen[:-2] & seen[1:-1] & seen[2:]
    frames = known.any(axis=1)
    if not frames.any():
        return 0, 0.0
    second = np.linalg.norm(shape[2:] - 2 * shape[1:-1] + shape[:-2], axis=-1) * known
    return int(frames.sum()), float(np.median(second[frames].sum(axis=1) / known[frames].sum(axis=1)))
