"""Filters that need no training: what a learned stabiliser must be compared with (numpy, offline).

Each joint is filtered over time where it is shown (confidence > 0), and left as it came elsewhere.
"""

import numpy as np
from scipy.linalg import solveh_banded

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
    from scipy.signal import savgol_filter  # loads a third of scipy, which every training would wait for

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


def penalised(pose: Pose, weight: float, order: int = 2) -> Pose:
    """The exact minimiser of Σ c_t ‖p̂_t - p_t‖² + `weight` Σ ‖Δ^order p̂‖², each joint by itself, c its confidence.

    The smoother of Whittaker (1923) and Eilers (2003); a joint's frames without a gap are one banded system, and fewer
    than order + 1 of them stay as they came. Being the minimiser it moves nothing more than it must: whatever is as
    smooth (by the sum of squared differences) has moved at least as far, where it is confident.
    """
    filtered = pose.coordinates.astype(np.float64)
    stencil = np.diff(np.eye(order + 1), order, axis=0)[0]
    for joint, confidence in enumerate(pose.confidence.astype(np.float64).T):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], (confidence > 0).astype(int), [0]])))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            frames = end - start
            if frames <= order:
                continue
            bands = np.zeros((order + 1, frames))  # the upper ones: row order - k is the k-th off the diagonal
            bands[order] = confidence[start:end]
            for k in range(order + 1):
                for i in range(order + 1 - k):  # of difference d, frame d + i meets frame d + i + k
                    bands[order - k, i + k : frames - order + i + k] += weight * stencil[i] * stencil[i + k]
            right = confidence[start:end, None] * filtered[start:end, joint]
            filtered[start:end, joint] = solveh_banded(bands, right)
    return _replace(pose, filtered)


def _replace(pose: Pose, filtered: np.ndarray) -> Pose:
    coordinates = np.where(pose.confidence[..., None] > 0, filtered, pose.coordinates)
    return Pose(coordinates.astype(np.float32), pose.confidence, pose.fps)
