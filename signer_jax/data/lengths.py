"""Sentences of like length in one batch, so that little of it is padding: the lengths of batches, and their order.

A bucket is source tokens × gloss tokens, one compilation of the step each. The endless order of the examples is cut
into groups of some batches; within a group the short ones come together, and its batches come in random order. So what
comes how often is the order's own: every example once an epoch, sets by their weights.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from signer_jax.errors import SignerError

_FORM = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_TOGETHER = 32  # batches of a group: few of them hold two buckets' sentences, and batches stay random


class Bucket(NamedTuple):
    source: int
    target: int

    def __str__(self) -> str:
        return "x".join(map(str, self))


def read(texts: Sequence[str], most: Bucket, where: str) -> tuple[Bucket, ...]:
    """Buckets from texts such as `12x8`, and `most`, which takes what is longer.

    Raises `SignerError` for another form, and where one is not longer than the one before it, or longer than `most`.
    """
    buckets: list[Bucket] = []
    for text in texts:
        match = _FORM.fullmatch(text)
        if match is None:
            raise SignerError(f"{where}: {text!r} is no SOURCExTARGET in tokens, such as 12x8")
        bucket = Bucket(*map(int, match.groups()))
        if bucket.source > most.source or bucket.target > most.target or bucket == most:
            raise SignerError(
                f"{where}: {text} is not shorter than config.data.max_source x max_target, {most}, which is a bucket "
                "anyway; name shorter ones"
            )
        if buckets and (bucket == buckets[-1] or min(np.subtract(bucket, buckets[-1])) < 0):
            raise SignerError(f"{where}: {text} does not hold what {buckets[-1]} does; name them from short to long")
        buckets.append(bucket)
    return (*buckets, most)


def shortest(lengths: Int[np.ndarray, "n 2"], buckets: Sequence[Bucket]) -> Int[np.ndarray, " n"]:
    """The first bucket that holds each sentence, by its source and gloss tokens; the last of those that none does."""
    fits = np.all(lengths[:, None] <= np.array(buckets), axis=2)
    return np.where(fits.any(axis=1), fits.argmax(axis=1), len(buckets) - 1)


class Alike:
    """Examples of an endless order in batches of one bucket, as a random-access source: (example, bucket).

    Number k·B + r is row r of batch k, whose bucket is that of its longest example. A group is no longer than an epoch,
    so that a batch of a small corpus does not show one example several times.
    """

    def __init__(self, order: Any, bucket_of: Int[np.ndarray, " n"], batch: int, seed: int):
        self.order, self.bucket_of, self.batch, self.seed = order, bucket_of, batch, seed
        self.together = max(1, min(_TOGETHER, len(bucket_of) // batch))
        self.group = lru_cache(maxsize=4)(self._group)

    def __len__(self) -> int:
        size = self.together * self.batch
        return len(self.order) // size * size

    def __getitem__(self, index) -> tuple[int, int]:
        group, place = divmod(int(index), self.together * self.batch)
        batch, row = divmod(place, self.batch)
        rows, buckets = self.group(group)
        return int(rows[batch, row]), int(buckets[batch])

    def _group(self, k: int) -> tuple[Int[np.ndarray, "k b"], Int[np.ndarray, " k"]]:
        size = self.together * self.batch
        rows = np.array([self.order[i] for i in range(k * size, (k + 1) * size)])
        rows = rows[np.argsort(self.bucket_of[rows], kind="stable")].reshape(self.together, self.batch)
        rows = rows[np.random.default_rng((self.seed, 2, k)).permutation(self.together)]
        return rows, self.bucket_of[rows].max(axis=1)

    def __repr__(self) -> str:
        return f"Alike({len(self.bucket_of)}, batch={self.batch}, together={self.together})"


def padding(lengths: Int[np.ndarray, "n 2"], buckets: Sequence[Bucket], order: Alike) -> float:
    """The share of the tokens of an epoch's batches that stands for nothing."""
    batches = max(1, len(lengths) // order.batch)
    shown = [order[i] for i in range(batches * order.batch)]
    room = sum(sum(buckets[bucket]) for _, bucket in shown)
    kept = np.minimum(lengths[[row for row, _ in shown]], buckets[-1]).sum()
    return 1 - float(kept) / room
