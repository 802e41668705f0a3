"""Frames by their real times: which of a video's are shown when, and poses brought to other times."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from signer_jax.types import Pose

_EVEN = 0.25  # of a frame: what a constant rate's stamps are off by at most, which containers round
_MOST_RATE = 120.0  # frames a second of what has no constant rate
_TIE = 1e-9  # seconds that two distances are apart by rounding
_Frame = TypeVar("_Frame")


def constant_rate(stamps: Float[np.ndarray, " t"], fps: float) -> float:
    """The rate of evenly spaced frames, 0 where they are not even: `fps`, which a file names, a whole number, or what
    the stamps give, whichever lies nearest to them.
    """
    if len(stamps) < 2:
        return fps
    rate = (len(stamps) - 1) / float(stamps[-1] - stamps[0]) if stamps[-1] > stamps[0] else 0.0
    if not rate:
        return 0.0
    off = {
        one: np.abs((stamps - stamps[0]) * one - np.arange(len(stamps))).max().round(4)
        for one in (fps, float(max(round(rate), 1)), rate)
    }
    best = min(off, key=lambda one: off[one])
    return best if off[best] <= _EVEN else 0.0


def usual_rate(stamps: Float[np.ndarray, " t"], fps: float) -> float:
    """The rate for a video without a constant one: that of the gap that half of the gaps are no longer than."""
    gap = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0
    return min(1 / gap, _MOST_RATE) if gap > 0 else min(fps, _MOST_RATE)


def total(stamps: Float[np.ndarray, " t"], rate: float) -> float:
    """Seconds from the first frame to the end of the last."""
    return float(stamps[-1]) + 1 / rate


def count(seconds: float, fps: float) -> int:
    """How many frames a stretch has at a rate, at least one."""
    return max(1, round(seconds * fps))


def grid(start: float, end: float, fps: float) -> Float[np.ndarray, " n"]:
    """The times of the frames that a stretch has at a rate, the first at its start."""
    return start + np.arange(count(end - start, fps)) / fps


def nearest(stamps: Float[np.ndarray, " t"], wanted: Float[np.ndarray, " n"]) -> np.ndarray:
    """Of each wanted time the frame that is shown nearest to it, `[n]`; the earlier of two."""
    after = np.clip(np.searchsorted(stamps, wanted), 1, max(len(stamps) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(stamps) - 1)
    return np.where(wanted - stamps[before] <= stamps[after] - wanted + _TIE, before, after)


def shown_at(frames: Iterable[tuple[float, _Frame]], wanted: Float[np.ndarray, " n"]) -> Iterator[tuple[int, _Frame]]:
    """As `nearest`, of frames that come one by one with their times, both ascending: those that are nearest to one of
    the wanted times or more, each with of how many. The last one stands for what lies behind it.
    """
    done = 0
    before: tuple[float, _Frame] | None = None
    for time, frame in frames:
        end = done
        while before and end < len(wanted) and wanted[end] - before[0] <= time - wanted[end] + _TIE:
            end += 1
        if before and end > done:
            yield end - done, before[1]
        done, before = end, (time, frame)
    if before and done < len(wanted):
        yield len(wanted) - done, before[1]


def at_times(pose: Pose, stamps: Float[np.ndarray, " t"], wanted: Float[np.ndarray, " n"], fps: float) -> Pose:
    """The pose at these times: a frame that is there within a hundredth of one, else linear between two.

    A joint that is missing in one of the two is where the nearer frame has it, or missing.
    """
    last = len(stamps) - 1
    after = np.clip(np.searchsorted(stamps, wanted), min(1, last), last)
    before = np.maximum(after - 1, 0)
    gap = stamps[after] - stamps[before]
    share = np.clip((wanted - stamps[before]) / np.where(gap > 0, gap, 1), 0, 1)
    share[np.abs(share - share.round()) < 1e-2] = share.round()[np.abs(share - share.round()) < 1e-2]
    low, high = pose.confidence[before], pose.confidence[after]
    both = (low > 0) & (high > 0)
    part = np.where(both, share[:, None], (share > 0.5)[:, None]).astype(np.float32)
    first, second = pose.coordinates[before], pose.coordinates[after]
    coordinates = np.where(part[..., None] == 0, first, first + part[..., None] * (second - first))
    coordinates = np.where(part[..., None] == 1, second, coordinates)
    confidence = np.where(both, np.where(part == 0, low, np.where(part == 1, high, np.minimum(low, high))),
                          np.where(part > 0.5, high, low))  # fmt: skip
    return Pose((coordinates * (confidence[..., None] > 0)).astype(np.float32), confidence.astype(np.float32), fps)
