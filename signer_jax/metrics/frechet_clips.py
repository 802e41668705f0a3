"""Fréchet distances between two sets of videos: of I3D's logits it is FVD, of our own features it is named otherwise.

Unterthiner et al. 2018: `frechet.frechet_distance` of features of clips of 16 frames. How a video is cut into clips is
no part of the definition and changes the figure: here each video is cut, at its own rate, from its first frame to its
end, clip behind clip, and what is left over there, or a video shorter than a clip, has no part in it.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, UInt8

from signer_jax.metrics.frechet import Sets, cell_features

Clip: TypeAlias = UInt8[np.ndarray, "t h w 3"]
ClipFeatures: TypeAlias = Callable[[UInt8[np.ndarray, "n t h w 3"]], Float[np.ndarray, "n d"]]
LENGTH = 16  # frames of a clip, where its features do not say another number


class ClipSets(Sets):
    """`Sets` whose features are of clips of `length` frames, `[n, t, h, w, 3]` -> `[n, d]`. The floor's clips are the
    still picture, as many as the references have.
    """

    def __init__(self, features: ClipFeatures, length: int = LENGTH) -> None:
        super().__init__(lambda frames: features(frames[None]), length, whole=True)


def clip_features(clips: UInt8[np.ndarray, "n t h w 3"]) -> Float[np.ndarray, "n d"]:
    """The project's own, which need no weights: of each of the 112 `cell_features` its mean over the clip's frames, its
    standard deviation, and its mean change from frame to frame: 336 numbers, which see layout and how much it moves.
    """
    rows = []
    for clip in clips:
        cells = cell_features(clip)
        change = np.abs(np.diff(cells, axis=0)).sum(axis=0) / max(1, len(cells) - 1)
        rows.append(np.concatenate([cells.mean(axis=0), cells.std(axis=0), change]))
    return np.stack(rows)


def resized(clip: Clip, height: int, width: int) -> Float[np.ndarray, "t y x 3"]:
    """Bilinear, 0 to 255: row y is read at y h / `height` of the h rows, column x likewise, so that the first row and
    column stay what they are and the last is read again beyond the edge; nothing is smoothed beforehand. So does
    `tf.image.resize_bilinear` of TensorFlow 1, which FVD's own program calls
    (google-research/frechet_video_distance); half a pixel's shift, as in today's libraries, gives other figures.
    """
    down, across = (_linear(side, size) for side, size in zip(clip.shape[1:3], (height, width), strict=True))
    return np.stack([np.einsum("yh,hwc,xw->yxc", down, frame, across, optimize=True) for frame in clip])


def _linear(side: int, size: int) -> Float[np.ndarray, "size side"]:
    rows = np.arange(size)
    place = rows * side / size
    first = np.floor(place).astype(int)
    weights = np.zeros((size, side), np.float32)
    np.add.at(weights, (rows, first), 1 - (place - first))
    np.add.at(weights, (rows, np.minimum(first + 1, side - 1)), place - first)
    return weights
