"""Clips of any length and shape in a few sizes: which bucket each is for, what is cut off, which fit none, and in what
order batches come.

All of it is plain functions of lists. A bucket is frames × height × width, one compilation of the step each. A clip
keeps its aspect: it is resized until it covers its bucket, and the middle is kept. A batch is of one bucket. Batch k is
a pure function of k, so that a resumed run goes on with the very next one whoever reads.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.ranges import nearest

_FORM = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})x([1-9]\d{0,4})")


class Bucket(NamedTuple):
    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return "x".join(map(str, self))


class Clip(NamedTuple):
    """A clip's size as it lies there."""

    frames: int
    height: int
    width: int


class Placed(NamedTuple):
    """A clip in its bucket: resized to `height` × `width`, then the bucket's size from (`top`, `left`)."""

    clip: int
    bucket: int
    height: int
    width: int
    top: int
    left: int


@dataclass(frozen=True)
class Plan:
    """Where the clips go. Every clip is in `placed` once or in one list of `left_over`, by its place among all."""

    buckets: tuple[Bucket, ...]
    placed: tuple[Placed, ...]
    left_over: dict[str, tuple[int, ...]]  # why -> which

    def members(self, bucket: int) -> tuple[int, ...]:
        """The rows of `placed` of a bucket."""
        return tuple(i for i, one in enumerate(self.placed) if one.bucket == bucket)


def read(texts: Iterable[str], *, temporal: int, spatial: int, where: str) -> tuple[Bucket, ...]:
    """Buckets from texts such as `81x480x832`, for models whose latents are `temporal` frames and `spatial` pixels.

    Raises `SignerError` for another form, frames that are not a multiple of `temporal` and one more, or sides that are
    no multiple of `spatial` (it names the nearest that are), and one that is named twice.
    """
    buckets: list[Bucket] = []
    for text in texts:
        match = _FORM.fullmatch(text)
        if match is None:
            raise SignerError(f"{where}: {text!r} is no FRAMESxHEIGHTxWIDTH such as 81x480x832")
        bucket = Bucket(*map(int, match.groups()))
        if (bucket.frames - 1) % temporal:
            raise SignerError(
                f"{where}: {text} has {bucket.frames} frames; take 1 more than a multiple of {temporal}: "
                f"{nearest(bucket.frames, temporal, 1)}"
            )
        for side in (bucket.height, bucket.width):
            if side % spatial:
                raise SignerError(
                    f"{where}: {text} has a side of {side} pixels; take a multiple of {spatial}: "
                    f"{nearest(side, spatial)}"
                )
        if bucket in buckets:
            raise SignerError(f"{where}: {text} is named twice; name each bucket once")
        buckets.append(bucket)
    return tuple(buckets)


def plan(clips: Sequence[Clip], buckets: Sequence[Bucket], *, crop: float, enlarge: float) -> Plan:
    """A bucket for each clip: of those that it fits the one that cuts off least, of these the one with most pixels.

    A clip fits where it has the bucket's frames, is enlarged at most `enlarge` times to cover it, and loses at most the
    share `crop` of its area.
    """
    placed: list[Placed] = []
    left_over: dict[str, list[int]] = {}
    for i, clip in enumerate(clips):
        fits = [(_cut_off(clip, bucket), k) for k, bucket in enumerate(buckets) if _fits(clip, bucket, crop, enlarge)]
        if not fits:
            left_over.setdefault(_reason(clip, buckets, enlarge), []).append(i)
            continue
        _, k = min(fits, key=lambda fit: (round(fit[0], 2), -_pixels(buckets[fit[1]]), fit[1]))
        placed.append(_place(i, clip, k, buckets[k]))
    return Plan(tuple(buckets), tuple(placed), {why: tuple(which) for why, which in left_over.items()})


def _pixels(bucket: Bucket) -> int:
    return bucket.frames * bucket.height * bucket.width


def _scale(clip: Clip, bucket: Bucket) -> float:
    """How much a clip must grow to cover a bucket."""
    return max(bucket.height / clip.height, bucket.width / clip.width)


def _cut_off(clip: Clip, bucket: Bucket) -> float:
    """The share of the clip's area that does not come into the bucket."""
    return 1.0 - bucket.height * bucket.width / (_scale(clip, bucket) ** 2 * clip.height * clip.width)


def _fits(clip: Clip, bucket: Bucket, crop: float, enlarge: float) -> bool:
    long_enough = min(clip) > 0 and clip.frames >= bucket.frames
    return long_enough and _scale(clip, bucket) <= enlarge and _cut_off(clip, bucket) <= crop + 1e-9


def _reason(clip: Clip, buckets: Sequence[Bucket], enlarge: float) -> str:
    """Why a clip fits none, of the kinds that `told` counts."""
    if min(clip) < 1:
        return "are empty"
    long_enough = [bucket for bucket in buckets if clip.frames >= bucket.frames]
    if not long_enough:
        return f"are shorter than {min(bucket.frames for bucket in buckets)} frames"
    if all(_scale(clip, bucket) > enlarge for bucket in long_enough):
        return f"would be enlarged more than {enlarge:g} times"
    return "would lose too much at their sides"


def _place(i: int, clip: Clip, k: int, bucket: Bucket) -> Placed:
    scale = _scale(clip, bucket)
    height, width = (max(round(side * scale), least) for side, least in zip(clip[1:], bucket[1:], strict=True))
    return Placed(i, k, height, width, (height - bucket.height) // 2, (width - bucket.width) // 2)


def told(plan: Plan, batch: int, where: str, rows: Plan | None = None) -> list[str]:
    """What is to be known before training: clips a bucket, and a line for each reason why clips are left out.

    `rows`: the plan of the windows that batches are of (`windows`), where they are not of whole clips. Raises
    `SignerError` where no clip is left.
    """
    total = len(plan.placed) + sum(map(len, plan.left_over.values()))
    lines = [
        f"{len(which)} of {total} training clips {why} and are in no bucket of {where} (the first is clip {which[0]})"
        for why, which in sorted(plan.left_over.items())
    ]
    if not plan.placed:
        reason = f": {lines[0]}" if lines else ""
        raise SignerError(f"{where}: no training clip fits a bucket{reason}; add smaller or shorter ones")
    what, counts = "", list[int]()
    for what, one in ({"clips": plan} if rows is None else {"clips": plan, "windows": rows}).items():
        counts = [len(one.members(k)) for k in range(len(plan.buckets))]
        each = (f"{bucket} {count}" for bucket, count in zip(plan.buckets, counts, strict=True))
        lines.append(f"training {what} a bucket: {', '.join(each)}")
    if few := [str(b) for b, n in zip(plan.buckets, counts, strict=True) if 0 < n < batch]:
        lines.append(f"{', '.join(few)}: fewer {what} than a batch of {batch}, so that a batch shows one several times")
    return lines


def fitted(frames: UInt8[np.ndarray, "t h w 3"], placed: Placed, bucket: Bucket) -> UInt8[np.ndarray, "t y x 3"]:
    """Frames of a clip as its bucket has them: resized, the middle kept."""
    if frames.shape[1:3] != (placed.height, placed.width):
        size = (placed.width, placed.height)
        frames = np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.LANCZOS)) for one in frames])
    return frames[:, placed.top : placed.top + bucket.height, placed.left : placed.left + bucket.width]


def seen(placed: Placed, clip: Clip, bucket: Bucket) -> Float[np.ndarray, "2 2"]:
    """How a pose goes with its frames into a bucket: scale and shift of x and y, float32.

    A pose times the scale plus the shift lies in the view of the bucket's size (`skeleton.to_pixels`) where the pose
    lies in the clip's frames, resized and cut as they are.
    """
    there, *origin = skeleton.view(clip.height, clip.width)
    here, *middle = skeleton.view(bucket.height, bucket.width)
    grown = np.array([placed.width / clip.width, placed.height / clip.height])
    cut = np.array([placed.left, placed.top])
    return np.stack([there * grown / here, (origin * grown - cut - middle) / here]).astype(np.float32)


def check_aspects(
    clips: Iterable[Clip], buckets: Sequence[Bucket], *, crop: float, enlarge: float, spatial: int, where: str,
    other: str = "",
) -> None:  # fmt: skip
    """Raises `SignerError` for a bucket whose height and width no clip fits, with the nearest that one does, and what
    `other` says.
    """
    sizes = {Clip(1, clip.height, clip.width) for clip in clips if min(clip) > 0}
    for bucket in buckets:
        if not sizes or any(_fits(size, bucket._replace(frames=1), crop, enlarge) for size in sizes):
            continue
        sides = range(spatial, spatial + max(max(bucket), *(max(size) for size in sizes)), spatial)
        others = (Bucket(1, height, width) for height in sides for width in sides)
        fitting = [one for one in others if any(_fits(size, one, crop, enlarge) for size in sizes)]
        listed = ", ".join(f"{size.height}x{size.width}" for size in sorted(sizes)[:3])
        if not fitting:
            raise SignerError(
                f"{where}: {bucket} is larger than what training clips of {listed} give, and so is every other; "
                "raise config.data.enlarge or config.data.crop"
            )
        near = min(fitting, key=lambda one: (_apart(one, bucket), one))
        raise SignerError(
            f"{where}: {bucket} fits no training clip (height x width {listed}; at most {crop:g} of it may be cut off, "
            f"config.data.crop, and it may grow {enlarge:g} times, config.data.enlarge); the nearest that fits is "
            f"{near._replace(frames=bucket.frames)}{other}"
        )


def _apart(one: Bucket, other: Bucket) -> float:
    """How many times two buckets' sides differ, as a logarithm."""
    return abs(math.log(one.height / other.height)) + abs(math.log(one.width / other.width))


def starts(frames: int, length: int, stride: int) -> list[int]:
    """First frames of windows that leave none of a clip out: one every `stride`, and the last that ends with it."""
    last = frames - length
    return [] if last < 0 else sorted({*range(0, last + 1, stride), last})


# ---- The order of batches --------------------------------------------------------------------------------------------


def bucket_at(step: int, counts: tuple[int, ...], batch: int, seed: int) -> tuple[int, int]:
    """The bucket of batch `step`, and how many batches of that bucket came before; `counts` are the clips of each.

    Epoch after epoch: in each a bucket has as many batches as its clips fill, with those that filled none in the epoch
    before, and the batches of all buckets come in random order. So after e epochs every clip has come e times, but for
    less than a batch of each bucket, which comes first in the next (of a bucket of less than a batch, once it fills
    one).
    """
    first = step * batch // sum(counts)  # no later epoch has begun before
    epoch = bisect_right(
        range(first + batch * len(counts) + 1), step, key=lambda e: _begun(first + e + 1, counts, batch)
    )
    epoch += first
    order, before = _epoch(counts, batch, seed, epoch)
    place = step - _begun(epoch, counts, batch)
    bucket = int(order[place])
    return bucket, epoch * counts[bucket] // batch + int(before[place])


@lru_cache(maxsize=64)
def rows_at(step: int, counts: tuple[int, ...], batch: int, seed: int) -> tuple[int, tuple[int, ...]]:
    """The bucket of batch `step` and which of its clips: every one once before any comes again, in an order of its own
    each time."""
    bucket, before = bucket_at(step, counts, batch, seed)
    count = counts[bucket]
    places = (divmod(before * batch + row, count) for row in range(batch))
    return bucket, tuple(int(_shuffled(count, seed, bucket, epoch)[i]) for epoch, i in places)


def _begun(epoch: int, counts: tuple[int, ...], batch: int) -> int:
    """How many batches come before an epoch."""
    return sum(epoch * count // batch for count in counts)


@lru_cache(maxsize=4)
def _epoch(counts: tuple[int, ...], batch: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The buckets of an epoch's batches, and how often each came before in it."""
    each = [(epoch + 1) * count // batch - epoch * count // batch for count in counts]
    order = np.repeat(np.arange(len(counts)), each)
    np.random.default_rng((seed, 0, epoch)).shuffle(order)
    before = np.empty_like(order)
    for bucket, count in enumerate(each):
        before[order == bucket] = np.arange(count)
    return order, before


@lru_cache(maxsize=64)
def _shuffled(count: int, seed: int, bucket: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, 1, bucket, epoch)).permutation(count)


def windows(plan: Plan, clips: Sequence[Clip], stride: int) -> tuple[Plan, tuple[int, ...]]:
    """A plan whose `placed` are windows instead of clips, bucket by bucket, and the first frame of each.

    A clip has one every `stride` frames and the one that ends with it (`starts`).
    """
    rows = [
        (plan.placed[row], start)
        for k, bucket in enumerate(plan.buckets)
        for row in plan.members(k)
        for start in starts(clips[plan.placed[row].clip].frames, bucket.frames, stride)
    ]
    return replace(plan, placed=tuple(one for one, _ in rows)), tuple(start for _, start in rows)


class Visits:
    """All examples of an endless training as a random-access source: number step·batch + row is a row of `placed`."""

    def __init__(self, plan: Plan, batch: int, seed: int):
        self.members = tuple(plan.members(k) for k in range(len(plan.buckets)))
        self.counts = tuple(map(len, self.members))
        self.batch, self.seed = batch, seed

    def __len__(self) -> int:
        return 1 << 60

    def __getitem__(self, index) -> int:
        step, row = divmod(int(index), self.batch)
        bucket, rows = rows_at(step, self.counts, self.batch, self.seed)
        return self.members[bucket][rows[row]]

    def __repr__(self) -> str:
        return f"Visits(counts={self.counts}, batch={self.batch}, seed={self.seed})"
