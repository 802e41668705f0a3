"""The filters that a stabiliser is compared with."""

import numpy as np
import pytest
from scipy.signal import savgol_filter

from signer_jax.pose.filters import binomial, penalised, savitzky_golay
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


@pytest.mark.parametrize("order", [2, 3])
def test_penalised_is_the_solution_of_the_whole_system(order):
    pose, weight = walk(frames=14), 0.7
    confidence = pose.confidence * np.random.default_rng(1).uniform(0.2, 1, pose.confidence.shape).astype(np.float32)
    pose = Pose(pose.coordinates, confidence, pose.fps)
    ours = penalised(pose, weight, order).coordinates
    for joint, start, end in ((4, 0, 14), (1, 3, 14), (0, 0, 4), (0, 6, 14)):
        D = np.diff(np.eye(end - start), order, axis=0)
        W = np.diag(confidence[start:end, joint].astype(float))
        by_hand = np.linalg.solve(W + weight * D.T @ D, W @ pose.coordinates[start:end, joint])
        np.testing.assert_allclose(ours[start:end, joint], by_hand, atol=1e-6)
    np.testing.assert_array_equal(ours[:, 2], pose.coordinates[:, 2])  # never two frames on end
    assert np.isnan(ours[:3, 1]).all()
    np.testing.assert_allclose(penalised(pose, 0.0, order).coordinates, pose.coordinates, atol=1e-6)


@pytest.mark.parametrize("other", [binomial, savitzky_golay])
def test_nothing_that_is_as_smooth_moves_a_pose_less_than_penalised(other):
    """The other filter's roughness is met by bisection of the weight; then it has moved the pose farther."""
    pose = walk(frames=60, joints=3, gaps=False)
    rough = lambda one: np.square(np.diff(one.coordinates.astype(float), 2, axis=0)).sum()  # noqa: E731
    moved = lambda one: np.square(one.coordinates.astype(float) - pose.coordinates).sum()  # noqa: E731
    theirs, low, high = other(pose), 1e-3, 1e3
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if rough(penalised(pose, middle)) > rough(theirs) else (low, middle)
    ours = penalised(pose, high)
    assert rough(ours) <= rough(theirs) * (1 + 1e-9)
    assert moved(ours) < 0.95 * moved(theirs)


def test_the_more_confident_a_joint_is_the_less_penalised_moves_it():
    pose = walk(frames=40, joints=1, gaps=False)
    moves = []
    for confidence in (0.1, 0.5, 1.0):
        one = Pose(pose.coordinates, pose.confidence * np.float32(confidence), pose.fps)
        moves.append(np.linalg.norm(penalised(one, 0.1).coordinates - pose.coordinates))
    assert moves[0] > 1.1 * moves[1] and moves[1] > 1.1 * moves[2]
