"""The formulas that rank recordings, by hand."""

import numpy as np
import pytest

from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file
from signer_jax.pose.prior import Entry, Prior
from signer_jax.pose.quality import confidence, frozen, jitter, quality, shown
from signer_jax.pose.sources.common import Cut, as_sign
from signer_jax.types import Pose

RIGHT = [skeleton.INDEX[name] for name in skeleton.RIGHT_HAND]
LEFT = [skeleton.INDEX[name] for name in skeleton.LEFT_HAND]


def still(frames: int = 12) -> Pose:
    place = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 128, 3)).astype(np.float32).repeat(frames, 0)
    return Pose(place, np.ones((frames, 128), np.float32), 25.0)


def test_a_perfect_recording_is_1_and_nobody_is_0():
    moving = still()
    moving.coordinates[:, :, 0] += np.arange(12, dtype=np.float32)[:, None]
    assert quality(moving) == pytest.approx(1, abs=1e-4) and quality(still(1)) == 1.0
    assert quality(still()) == 0.0 and frozen(still()) == 1.0 and frozen(moving) == 0.0
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
    assert shown(pose) == 1.0
    pose.confidence[:3, RIGHT[4]] = 0  # a finger's joint
    assert shown(pose) == pytest.approx(8 / 12)  # the fourth frame's neighbour does not show it
    pose.confidence[::3, RIGHT] = 0
    assert shown(pose) == pytest.approx(1 / 12)  # the last frame has no other neighbour


def test_noise_of_the_fingers_is_jitter_and_movement_is_none():
    pose = still()
    pose.coordinates[:, RIGHT, 0] += np.linspace(0, 3, 12, dtype=np.float32)[:, None] ** 2  # the whole hand speeds up
    assert jitter(pose) == pytest.approx(0, abs=1e-3)
    pose.coordinates[1::2, RIGHT[1:], 1] += 0.01  # each other frame: second differences of 0.02
    assert jitter(pose) == pytest.approx(0.01 * 25**2, abs=1e-2)  # the left hand is as still, and as much to be seen
    pose.confidence[:, LEFT] = 0
    assert jitter(pose) == pytest.approx(12.5, abs=1e-2) and quality(pose) == pytest.approx(0.5, abs=1e-3)
    assert jitter(Pose(pose.coordinates, pose.confidence, 50.0)) == pytest.approx(50, abs=0.1)  # a second
    changes = still()
    changes.coordinates[6:, RIGHT[1:], 1] += 0.5  # the hand's shape, once
    assert jitter(changes) == 0.0


def harmed(pose: Pose) -> dict[str, Pose]:
    """A picture that stands still, a hand that blinks every third frame, and halves of a recording."""
    x, confidence, frames = pose.coordinates, pose.confidence, len(pose)
    blinking = confidence.copy()
    blinking[np.ix_(range(0, frames, 3), [*LEFT, *RIGHT])] = 0
    middle = slice(frames // 2, frames // 2 + 1)
    return {
        "frozen": Pose(x[middle].repeat(frames, 0), confidence[middle].repeat(frames, 0), pose.fps),
        "blinking": Pose(x, blinking, pose.fps),
        "first half": pose.slice(0, frames // 2),
        "second half": pose.slice(frames // 2, frames),
    }


@pytest.mark.parametrize(("what", "least"), [
    ("frozen", 26), ("blinking", 26), ("first half", 26), ("second half", 24),
])  # fmt: skip
def test_what_is_harmed_comes_after_the_real_sign(samples, tmp_path, what, least):
    signs = []
    for file in sorted((samples / "lexicon" / "fingerspelling" / "ase").glob("*.pose")):
        real = pose_file.read(file)
        for source, pose in ((what, harmed(real)[what]), ("real", real)):
            sign, worth = as_sign(pose, False, Cut())
            signs.append((Entry(file.stem, "ase", source=source, quality=worth), sign))
    prior = Prior.build(signs, tmp_path / "p", 12.5)  # at half the rate a harm is hardly to be seen
    first = [prior.variants(gloss)[0].source for gloss in prior.glosses()]
    assert len(first) == 26 and first.count("real") >= least
