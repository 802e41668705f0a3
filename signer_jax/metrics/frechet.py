"""Fréchet distances between two sets of pictures: of Inception's features it is FID, of our own it is named otherwise.

Heusel et al. 2017: the distance of two normal distributions with the features' means and covariances,
|μ - ν|² + tr(A + B - 2 (A B)^½) (Dowson and Landau 1982). Estimated from few pictures it is too large, and from fewer
than the features have dimensions much so: compare only figures of as many pictures.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, UInt8

from signer_jax.metrics.video import absolute_change

Features: TypeAlias = Callable[[UInt8[np.ndarray, "n h w 3"]], Float[np.ndarray, "n d"]]
CELLS, ORIENTATIONS = 4, 4  # of `cell_features`, across and down
_SEEN = 128  # pixels


class Moments:
    """Number, mean and scatter of features that come some at a time, in float64 (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: np.ndarray = np.zeros(0)
        self.scatter: np.ndarray = np.zeros((0, 0))

    def add(self, features: Float[np.ndarray, "n d"], times: int = 1) -> None:
        """Each of them `times` times. One that is not finite makes the mean and the scatter NaN, and leaves the rest
        as it is: what has no mean has no distance.
        """
        added = Moments()
        if count := len(features) * times:
            features = np.asarray(features, np.float64)
            if not np.isfinite(features).all():
                features = np.full_like(features, np.nan)
            added.count, added.mean = count, features.mean(axis=0)
            added.scatter = (features - added.mean).T @ (features - added.mean) * times
        self.join(added)

    def join(self, other: "Moments") -> None:
        """Those of other features beside these."""
        if not self.count or not other.count:
            if other.count:
                self.count, self.mean, self.scatter = other.count, other.mean, other.scatter
            return
        total, shift = self.count + other.count, other.mean - self.mean
        self.scatter = self.scatter + other.scatter + np.outer(shift, shift) * (self.count * other.count / total)
        self.mean = self.mean + shift * (other.count / total)
        self.count = total

    @property
    def finite(self) -> bool:
        """Whether all of the features were."""
        return bool(np.isfinite(self.mean).all())

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Of at least two features (n - 1 below the line)."""
        return self.scatter / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared Fréchet distance; NaN where a side has fewer than two features, or one that is not finite.

    tr (A B)^½ is the sum of the roots of the eigenvalues of A^½ B A^½, which is symmetric: no root of it is complex.
    """
    if min(a.count, b.count) < 2 or not (a.finite and b.finite):
        return float("nan")
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    both = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b.covariance @ root), 0)).sum()
    distance = np.square(a.mean - b.mean).sum() + np.trace(a.covariance) + np.trace(b.covariance) - 2 * both
    return max(0.0, float(distance))


class Side:
    """One side's pictures by some features. A video is `add`ed picture by picture, all of it, and then taken as a whole
    by `close`, or left out by `drop`; no more than `batch` pictures of it are held.

    Features are taken of `batch` pictures at a time; `whole`: what is left over at a video's end has no part.
    `of_changes`: of what changes from each picture to the next.
    """

    def __init__(self, features: Features, batch: int, *, of_changes: bool, whole: bool) -> None:
        self.features, self.batch, self.of_changes, self.whole = features, batch, of_changes, whole
        self.moments, self.begun = Moments(), Moments()
        self.waiting: list[np.ndarray] = []
        self.before: np.ndarray | None = None

    def add(self, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        if self.of_changes:
            before, self.before = self.before, picture
            if before is None:
                return
            picture = absolute_change(before, picture)
        self.waiting.append(picture)
        if len(self.waiting) >= self.batch:
            self._extract()

    def close(self) -> int:
        """How many features the video had."""
        if self.waiting and not self.whole:
            self._extract()
        count = self.begun.count
        self.moments.join(self.begun)
        self.drop()
        return count

    def drop(self) -> None:
        """What was added since the last video was closed."""
        self.begun, self.before = Moments(), None
        self.waiting.clear()

    def _extract(self) -> None:
        self.begun.add(self.features(np.stack(self.waiting)))
        self.waiting.clear()


class Sets:
    """Hypotheses' and references' pictures, and what the floor shows in the references' place: a still picture.

    Nothing pairs the pictures of the two sides: each side is of whole videos, at their own rates and lengths.
    """

    def __init__(self, features: Features, batch: int = 1, *, of_changes: bool = False, whole: bool = False) -> None:
        self.ours, self.theirs = (Side(features, batch, of_changes=of_changes, whole=whole) for _ in range(2))
        self.floor = Moments()

    def close(self, still: UInt8[np.ndarray, "h w 3"]) -> None:
        """A pair of videos is there; the floor shows `still` for as long as the reference goes on."""
        self.ours.close()
        if times := self.theirs.close():
            shown = np.zeros_like(still) if self.theirs.of_changes else still
            held = (self.theirs.batch if self.theirs.whole else 1, *still.shape)
            self.floor.add(self.theirs.features(np.broadcast_to(shown, held)), times)

    def drop(self) -> None:
        """What was added since the last pair was closed."""
        self.ours.drop()
        self.theirs.drop()

    @property
    def finite(self) -> bool:
        return self.ours.moments.finite and self.theirs.moments.finite and self.floor.finite

    def distances(self) -> tuple[float, float]:
        """Of the hypotheses and of the floor to the references."""
        theirs = self.theirs.moments
        return frechet_distance(self.ours.moments, theirs), frechet_distance(self.floor, theirs)


def cell_features(pictures: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """The project's own, which need no weights: of each of 4 x 4 cells the mean colour, and the mean strength of edges
    in four orientations, in shares of white: 112 numbers. They see layout, colours and sharpness, not what a hand does.

    Large pictures are made smaller by whole numbers, to less than twice `_SEEN` pixels of the shorter side.
    """
    x = _smaller(pictures) / np.float32(255)
    grey = x.mean(axis=-1)
    down, across = (np.diff(grey, axis=axis, append=grey.take([-1], axis=axis)) for axis in (1, 2))
    strength = np.hypot(down, across)
    turn = (np.arctan2(down, across) / np.pi * ORIENTATIONS + 0.5).astype(int) % ORIENTATIONS
    edges = [np.where(turn == k, strength, 0) for k in range(ORIENTATIONS)]
    planes = np.concatenate([x, np.stack(edges, axis=-1)], axis=-1)
    rows, columns = (np.linspace(0, side, CELLS + 1).astype(int) for side in planes.shape[1:3])
    sums = np.add.reduceat(np.add.reduceat(planes, rows[:-1], axis=1, dtype=np.float64), columns[:-1], axis=2)
    area = np.outer(np.diff(rows), np.diff(columns))[None, :, :, None]
    return (sums / area).reshape(len(pictures), -1)


def _smaller(pictures: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w 3"]:
    """The means of squares; what is left over at the right and below is left out."""
    n, h, w, c = pictures.shape
    factor = max(1, min(h, w) // _SEEN)
    if factor == 1:
        return pictures.astype(np.float32)
    whole = pictures[:, : h // factor * factor, : w // factor * factor]
    rows = whole.reshape(n, h // factor, factor, -1).sum(axis=2, dtype=np.uint32)
    return rows.reshape(n, h // factor, w // factor, factor, c).sum(axis=3).astype(np.float32) / factor**2
