"""Spelled words: each letter is reached and held, the hand stays up, and what was recorded twice is shown twice."""

import numpy as np
import pytest

from signer_jax.pose import skeleton
from signer_jax.pose.letters import core, spell, way_seconds
from signer_jax.pose.prior import Prior
from signer_jax.pose.sources.lexicon import read_lexicon
from signer_jax.stations.perform import join
from signer_jax.types import Pose

FPS = 25.0
RIGHT = [skeleton.INDEX[name] for name in skeleton.RIGHT_HAND]
LEFT = [skeleton.INDEX[name] for name in skeleton.LEFT_HAND]
WRIST = skeleton.INDEX["right_wrist"]
TIPS = [skeleton.INDEX[f"right_hand_{finger}_4"] for finger in skeleton.FINGERS]


def _letter(seed: int, hold: int = 14, x: float = -0.8, travel: float = 0.0) -> Pose:
    """A hand that rises for four frames, holds its shape (or travels) and sinks for four, as in a lexicon."""
    rng = np.random.default_rng(seed)
    place = np.zeros((8 + hold, 128, 3), np.float32)
    place[:, RIGHT, :2] = rng.uniform(-0.2, 0.2, (21, 2))
    place[:, RIGHT[0], :2] = 0
    way = np.array([0.6, 0.35, 0.15, 0.05])
    place[:, [WRIST, *RIGHT], 1] += np.concatenate([way, np.zeros(hold), way[::-1]])[:, None]
    move = travel * np.sin(np.linspace(0, np.pi, hold))
    place[:, [WRIST, *RIGHT], 0] += x + np.concatenate([np.zeros(4), move, np.zeros(4)])[:, None]
    confidence = np.ones(place.shape[:2], np.float32)
    confidence[:, [skeleton.INDEX["left_elbow"], skeleton.INDEX["left_wrist"], *LEFT]] = 0
    return Pose(place * (confidence[..., None] > 0), confidence, FPS)


def _acceleration(pose: Pose, joints: list[int]) -> np.ndarray:
    """The joints' mean, shoulder widths a frame squared, `[t]`, 0 at both ends."""
    step = np.diff(pose.coordinates[:, joints, :2], 2, axis=0)
    return np.pad(np.linalg.norm(step, axis=-1).mean(1), 1)


def _ratio(pose: Pose, spans: np.ndarray, joints: list[int]) -> float:
    """Acceleration at the letters' seams, two frames on each side, over that inside of them."""
    acceleration = _acceleration(pose, joints)
    last, first = spans[:-1, 1] - 1, spans[1:, 0]
    inside = np.concatenate([acceleration[start + 2 : end - 2] for start, end in spans]).mean()
    return float(acceleration[[*last, *(last + 1), *(first - 1), *first]].mean() / inside)


def test_a_letters_core_has_neither_rise_nor_sink():
    still, moving = _letter(1), _letter(2, travel=0.4)
    assert np.ptp(core(still).coordinates[:, WRIST, 1]) < 1e-6 and len(core(still)) == round(0.32 * FPS)
    assert 14 <= len(core(moving)) <= 16  # what moves within a letter is kept whole
    short = still.slice(6, 11)
    np.testing.assert_array_equal(core(short).coordinates, short.coordinates)


def test_a_start_that_is_no_rise_is_kept():
    falling = _letter(3)
    falling.coordinates[:4, [WRIST, *RIGHT], 1] *= -1  # from above
    np.testing.assert_array_equal(core(falling).coordinates[0], falling.coordinates[0])


def test_a_ways_time_by_hand():
    a, b = core(_letter(1)), core(_letter(1, x=-0.2))
    assert way_seconds(a, a) == 0.24 and way_seconds(a, b) == pytest.approx(1.875 * 0.6 / 3)
    assert way_seconds(a, core(_letter(1, x=0.8))) == 0.48


def test_a_word_holds_each_letter_and_keeps_the_hand_up():
    letters = [_letter(seed) for seed in (1, 2, 3)]
    pose, spans = spell(letters)
    assert spans[0, 0] == 0 and spans[-1, 1] == len(pose) and (spans[1:, 0] == spans[:-1, 1]).all()
    assert pose.coordinates[:, WRIST, 1].max() < 0.05  # each letter alone comes from .6
    for letter, (start, end) in zip(letters, spans, strict=True):
        off = np.abs(pose.coordinates[start:end, RIGHT] - letter.coordinates[10, RIGHT]).max((1, 2))
        assert (off < 1e-5).sum() >= 8
    for joints in ([WRIST], RIGHT, TIPS):
        assert _acceleration(pose, joints).max() < 5.8 * 0.7 / 6**2  # of a minimum-jerk way of .7 in six frames
    apart, _ = join(letters, 0.25)
    assert _acceleration(pose, [WRIST]).max() < _acceleration(apart, [WRIST]).max() / 4


def test_a_letter_that_is_recorded_once_is_shown_twice():
    once, other = _letter(1), _letter(2)
    pose, spans = spell([once, once, other, other])
    first, second, third, fourth = (pose.coordinates[(start + end) // 2, WRIST, 0] for start, end in spans)
    assert (
        second == pytest.approx(first - 0.2) and third == pytest.approx(first) and fourth == pytest.approx(first - 0.2)
    )
    assert np.ptp(pose.coordinates[:, LEFT], axis=0).max() < 1e-6  # the other arm rests


@pytest.mark.parametrize("word", ["ADA", "HELLO", "JAZZ", "WORLD", "QUICK"])
def test_real_letters_meet_without_a_jerk(samples, tmp_path, word):
    signs, problems = read_lexicon(samples / "lexicon" / "fingerspelling")
    prior = Prior.build(signs, tmp_path / "prior", FPS, problems=problems)
    letters = [prior.pose(entry) for entry in prior.fingerspell(word, "ase")]
    pose, spans = join(letters, 0.25, words=[0] * len(word))
    before, places = join(letters, 0.25)
    for joints in ([WRIST], RIGHT, TIPS):
        assert _ratio(pose, spans, joints) < 1.3
        # Also where a held letter ends and the way begins, which the letters' own movement is the measure of.
        own = np.concatenate([_acceleration(before, joints)[start + 2 : end - 2] for start, end in places]).mean()
        assert np.median(_acceleration(pose, joints)[spans[0, 0] : spans[-1, 1]]) < own
    for letter, (start, end) in zip(letters, spans, strict=True):
        kept = core(letter)
        off = pose.coordinates[start:end, RIGHT] - pose.coordinates[start:end, RIGHT[:1]]
        shape = kept.coordinates[:, RIGHT] - kept.coordinates[:, RIGHT[:1]]
        near = np.linalg.norm(off[:, None] - shape[None], axis=-1)[..., :2].mean(-1).min(1)
        assert (near < 0.02).sum() >= 8  # the hand's shape is reached in full, for a third of a second
