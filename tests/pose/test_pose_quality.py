"""The formulas that rank recordings, by hand."""

import numpy as np
import pytest

from signer_jax.pose import skeleton
from signer_jax.pose.quality import confidence, jitter, missing_hands, quality
from signer_jax.types import Pose

RIGHT = [skeleton.INDEX[name] for name in skeleton.RIGHT_HAND]
LEFT = [skeleton.INDEX[name] for name in skeleton.LEFT_HAND]


def still(frames: int = 12) -> Pose:
    place = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 128, 3)).astype(np.float32).repeat(frames, 0)
    return Pose(place, np.ones((frames, 128), np.float32), 25.0)


def test_a_perfect_recording_is_1_and_nobody_is_0():
    assert quality(still()) == 1.0 == quality(still(1))
    nobody = still()
    nobody.confidence[:] = 0
    assert quality(nobody) == 0.0 and jitter(nobody) == 0.0


def test_confidence_is_of_what_is_seen():
    pose = still()
    pose.confidence[:, RIGHT] = 0.5
    pose.confidence[:, LEFT] = 0
    pose.confidence[:, : skeleton.INDEX["right_shoulder"]] = 0  # the head counts for nothing
    assert confidence(pose) == pytest.approx((21 * 0.5 + 6) / 27)


def test_a_hand_that_is_never_seen_is_no_fault_one_that_blinks_is():
    pose = still()
    pose.confidence[:, LEFT] = 0
    assert missing_hands(pose) == 0.0
    pose.confidence[:3, RIGHT[4]] = 0  # a finger's joint
    assert missing_hands(pose) == pytest.approx(3 / 12)


def test_noise_of_the_fingers_is_jitter_and_movement_is_none():
    pose = still()
    pose.coordinates[:, RIGHT, 0] += np.linspace(0, 3, 12, dtype=np.float32)[:, None] ** 2  # the whole hand speeds up
    assert jitter(pose) == pytest.approx(0, abs=1e-5)
    pose.coordinates[1::2, RIGHT[1:], 1] += 0.01  # each other frame: second differences of 0.02
    assert jitter(pose) == pytest.approx(0.01, abs=1e-5)  # the left hand is as still, and as much to be seen
    pose.confidence[:, LEFT] = 0
    assert jitter(pose) == pytest.approx(0.02, abs=1e-5) and quality(pose) == pytest.approx(0.5, abs=1e-3)
    changes = still()
    changes.coordinates[6:, RIGHT[1:], 1] += 0.5  # the hand's shape, once
    assert jitter(changes) == 0.0
