"""Filters that need no training: what a learned stabiliser must be compared with (numpy, offline).

Each joint is filtered over time where it is shown (confidence > 0), and left as it came elsewhere.
"""

import numpy as np
from scipy.signal import savgol_filter

from signer_jax.types import Pose


def binomial(pose: Pose) -> Pose:
    """(1, 2, 1) / 4 over time, of the neighbours that are shown; the first and the last frame are repeated."""
    shown = np.pad(pose.confidence > 0, ((1, 1), (0, 0)), mode="edge")[..., None]
    padded = np.where(shown, np.pad(pose.coordinates, ((1, 1), (0, 0), (0, 0)), mode="edge"), 0.0)
    total, weight = (x[:-2] + 2.0 * x[1:-1] + x[2:] for x in (padded, shown.astype(np.float64)))
    return _replace(pose, total / np.maximum(weight, 1.0))


def savitzky_golay(pose: Pose, window: int = 7, order: int = 2) -> Pose:
    """The value of the polynomial of `order` that fits the `window` (odd) frames around each frame best.

    Savitzky and Golay 1964, as `scipy.signal.savgol_filter`; a joint shown for fewer frames on end is left as it came.
    """
    filtered = pose.coordinates.astype(np.float64)
    shown = pose.confidence > 0
    # Joints that are shown in the same frames are filtered together.
    patterns, group = np.unique(shown, axis=1, return_inverse=True)
    for k, pattern in enumerate(patterns.T):
        joints = np.flatnonzero(group.reshape(-1) == k)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], pattern.astype(int), [0]])))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if end - start >= window:
                stretch = filtered[start:end, joints]
                filtered[start:end, joints] = savgol_filter(stretch, window, order, axis=0)
    return _replace(pose, filtered)


def _replace(pose: Pose, filtered: np.ndarray) -> Pose:
    coordinates = np.where(pose.confidence[..., None] > 0, filtered, pose.coordinates)
    return Pose(coordinates.astype(np.float32), pose.confidence, pose.fps)
