"""The filters that a stabiliser is compared with."""

import numpy as np
import pytest
from scipy.signal import savgol_filter

from signer_jax.pose.filters import binomial, savitzky_golay
from signer_jax.slp_moe import stabiliser
from signer_jax.types import Pose


def walk(frames=12, joints=5, gaps=True):
    rng = np.random.default_rng(0)
    confidence = np.ones((frames, joints), np.float32)
    if gaps:
        confidence[4:6, 0] = confidence[:3, 1] = confidence[::2, 2] = confidence[:, 3] = 0
    coordinates = rng.normal(size=(frames, joints, 2)).astype(np.float32)
    return Pose(np.where(confidence[..., None] > 0, coordinates, np.nan).astype(np.float32), confidence, 16.0)


def test_binomial_is_what_the_stabiliser_starts_as():
    pose = walk()
    taps = np.tile(np.array([0.25, 0.5, 0.25], np.float32)[:, None], (1, 5))
    shown = (pose.confidence > 0)[..., None]
    theirs = stabiliser.low_pass(pose.coordinates[None], shown[None], np.array([len(pose)]), taps)[0]
    ours = binomial(pose).coordinates
    np.testing.assert_allclose(ours[shown[..., 0]], np.asarray(theirs)[shown[..., 0]], atol=1e-6)
    assert np.isnan(ours[~shown[..., 0]]).all()  # what is missing is left as it came


@pytest.mark.parametrize("window", [5, 7])
def test_savitzky_golay_filters_the_stretches_that_are_shown(window):
    pose = walk()
    ours = savitzky_golay(pose, window=window).coordinates
    x = pose.coordinates.astype(float)
    np.testing.assert_allclose(ours[:, 4], savgol_filter(x[:, 4], window, 2, axis=0), atol=1e-6)
    np.testing.assert_allclose(ours[3:, 1], savgol_filter(x[3:, 1], window, 2, axis=0), atol=1e-6)
    if window == 5:
        np.testing.assert_array_equal(ours[:4, 0], pose.coordinates[:4, 0])  # four frames are too few
        np.testing.assert_allclose(ours[6:, 0], savgol_filter(x[6:, 0], window, 2, axis=0), atol=1e-6)
    np.testing.assert_array_equal(ours[:, 2], pose.coordinates[:, 2])  # never two frames on end


def test_savitzky_golay_keeps_a_parabola():
    t = np.arange(9.0)
    pose = Pose(np.stack([t**2, 3 - t], -1)[:, None].astype(np.float32), np.ones((9, 1), np.float32), 16.0)
    np.testing.assert_allclose(savitzky_golay(pose).coordinates, pose.coordinates, atol=1e-4)
