"""How well a recording shows a sign: what the variants of a gloss are ranked by, where nothing else prefers one.

It is told of what was detected, at the video's own rate: cleaning and resampling make a bad recording look like a good
one. It cannot tell whether the recording shows the right sign, nor all of it (`entries.ranked` compares the lengths).
"""

import numpy as np
from jaxtyping import Bool

from signer_jax.pose import skeleton
from signer_jax.types import Pose

_SHAKING = 12.5  # shoulder widths a second²: at this jitter a recording counts half
_HANDS = [[skeleton.INDEX[name] for name in hand] for hand in (skeleton.LEFT_HAND, skeleton.RIGHT_HAND)]
_ARMS = [skeleton.INDEX[f"{side}_{joint}"] for side in ("left", "right") for joint in ("shoulder", "elbow", "wrist")]


def quality(pose: Pose) -> float:
    """Confidence · shown · (1 − frozen) / (1 + jitter / 12.5 shoulder widths a second²), 0 to 1."""
    return confidence(pose) * shown(pose) * (1 - frozen(pose)) / (1 + jitter(pose) / _SHAKING)


def confidence(pose: Pose) -> float:
    """The mean confidence of what is seen of arms and hands; 0 where nothing is."""
    values = pose.confidence[:, [*_ARMS, *_HANDS[0], *_HANDS[1]]]
    seen = values > 0
    return min(1.0, float(values.sum() / seen.sum())) if seen.any() else 0.0


def shown(pose: Pose) -> float:
    """The share of frames that show the hand that is shown more often, whole, as their neighbours do: a hand that
    blinks shows no movement. A second hand that rests out of the picture is no fault, and nothing says whether it
    should have signed.
    """
    whole = [np.asarray((pose.confidence[:, hand] > 0).all(axis=1)) for hand in _HANDS]
    return max(float(_with_neighbours(seen).mean()) for seen in whole)


def _with_neighbours(seen: Bool[np.ndarray, " t"]) -> Bool[np.ndarray, " t"]:
    around = np.concatenate([seen[:1], seen, seen[-1:]])
    return around[:-2] & seen & around[2:]


def frozen(pose: Pose) -> float:
    """The share of frames in which arms and hands are the frame before, to the last bit: no detector gives that for two
    frames of a film.
    """
    parts = pose.coordinates[:, [*_ARMS, *_HANDS[0], *_HANDS[1]]]
    return float((parts[1:] == parts[:-1]).all(axis=(1, 2)).mean()) if len(pose) > 1 else 0.0


def jitter(pose: Pose) -> float:
    """How much the fingers shake against their wrist, in shoulder widths a second²: of each hand the median over frames
    of the mean second difference of what is seen in three frames on end, weighted by these frames. A detector's noise
    is in every frame, a change of the hand's shape in few; a movement of the whole hand does not count. 0 where nothing
    can be said.
    """
    hands = [_shaking(pose, hand) for hand in _HANDS]
    frames = sum(count for count, _ in hands)
    return sum(count * shaking for count, shaking in hands) / frames * pose.fps**2 if frames else 0.0


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
