"""Cleaning, on hands with known faults."""

import numpy as np
import pytest

from signer_jax.pose import skeleton
from signer_jax.pose.clean import clean, drop_duplicated_hands, fill_gaps, gaps, remove_spikes
from signer_jax.types import Pose

LEFT = [skeleton.INDEX[name] for name in skeleton.LEFT_HAND]
RIGHT = [skeleton.INDEX[name] for name in skeleton.RIGHT_HAND]
TIP = skeleton.INDEX["right_hand_index_4"]


def _pose(frames: int = 9) -> Pose:
    """Both hands move steadily beside their wrists."""
    coordinates = np.zeros((frames, 128, 3), np.float32)
    t = np.arange(frames, dtype=np.float32)[:, None]
    for hand, wrist, x in ((LEFT, "left_wrist", 0.5), (RIGHT, "right_wrist", -0.5)):
        shape = np.linspace(0, 0.2, len(hand), dtype=np.float32)
        coordinates[:, hand, 0] = x + shape + 0.02 * t
        coordinates[:, hand, 1] = 0.4 - shape - 0.03 * t
        coordinates[:, skeleton.INDEX[wrist]] = coordinates[:, hand[0]]
    return Pose(coordinates, np.ones((frames, 128), np.float32), 25.0)


def _without(pose: Pose, frames: slice, joints: list[int]) -> Pose:
    confidence = pose.confidence.copy()
    confidence[frames, joints] = 0
    return Pose(pose.coordinates * (confidence[..., None] > 0), confidence, pose.fps)


def test_a_clean_pose_is_left_alone():
    pose = _pose()
    np.testing.assert_array_equal(clean(pose).coordinates, pose.coordinates)
    np.testing.assert_array_equal(clean(pose).confidence, pose.confidence)


def test_gaps_by_hand():
    assert gaps(np.array([0, 1, 1, 0, 0, 1, 0], bool)) == [(0, 1), (3, 5), (6, 7)]
    assert gaps(np.ones(3, bool)) == []


@pytest.mark.parametrize("length", [1, 2])
def test_short_gaps_are_filled_on_the_line(length):
    pose = _pose()
    filled = fill_gaps(_without(pose, slice(3, 3 + length), RIGHT))
    np.testing.assert_allclose(filled.coordinates, pose.coordinates, atol=1e-6)
    assert (filled.confidence[:, RIGHT] == 1).all()


def test_long_gaps_and_ends_stay_missing():
    broken = _without(_without(_pose(), slice(2, 5), RIGHT), slice(0, 1), LEFT)
    kept = clean(broken)
    assert (kept.confidence[2:5, RIGHT] == 0).all() and (kept.coordinates[2:5, RIGHT] == 0).all()
    assert (kept.confidence[0, LEFT] == 0).all()


def test_a_spike_is_removed_and_its_neighbours_stay():
    pose = _pose()
    coordinates = pose.coordinates.copy()
    coordinates[4, TIP, :2] += [0.3, -0.2]
    mended = remove_spikes(Pose(coordinates, pose.confidence, 25.0))
    np.testing.assert_allclose(mended.coordinates, pose.coordinates, atol=1e-6)


def test_a_fast_movement_is_no_spike():
    pose = _pose()
    coordinates = pose.coordinates.copy()
    coordinates[4:, TIP, 0] += 0.5  # a jump that stays
    mended = remove_spikes(Pose(coordinates, pose.confidence, 25.0))
    np.testing.assert_array_equal(mended.coordinates, coordinates)


def test_the_stray_twin_is_dropped_then_filled():
    pose = _pose()
    coordinates = pose.coordinates.copy()
    coordinates[4, LEFT] = coordinates[4, RIGHT]
    twin = Pose(coordinates, pose.confidence, 25.0)
    dropped = drop_duplicated_hands(twin)
    assert (dropped.confidence[4, LEFT] == 0).all() and (dropped.confidence[4, RIGHT] == 1).all()
    np.testing.assert_allclose(clean(twin).coordinates, pose.coordinates, atol=1e-6)


def test_pressed_palms_stay():
    pose = _pose()
    coordinates = pose.coordinates.copy()
    coordinates[:, LEFT] = coordinates[:, RIGHT] + 0.01
    coordinates[:, skeleton.INDEX["left_wrist"]] = coordinates[:, LEFT[0]]  # this arm is there too
    assert (drop_duplicated_hands(Pose(coordinates, pose.confidence, 25.0)).confidence == 1).all()
