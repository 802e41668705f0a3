"""Reference pictures: never from the clip itself, and one typical frame that stands for a signer."""

from dataclasses import replace

import numpy as np
import pytest

from signer_jax.renderer.references import ReferenceBank, latent_frame_times


def bank(motion=(0, 0, 1, 1)) -> ReferenceBank:
    """Frames 0, 1, 2, … of two clips; joint 0 is at 0, 1, 2, 9 and joint 1 is never seen."""
    m = len(motion)
    pose = np.zeros((m, 2, 2), np.float32)
    pose[:, 0] = np.array([0.0, 1.0, 2.0, 9.0])[:m, None]
    confidence = np.tile(np.array([1.0, 0.0], np.float32), (m, 1))
    latents = np.arange(m, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 3), np.float32)
    return ReferenceBank(latents, pose, confidence, np.array(motion))


def test_a_reference_comes_from_any_other_clip_and_never_from_the_clip_itself():
    rng = np.random.default_rng(0)
    for motion, others in ((0, {2.0, 3.0}), (1, {0.0, 1.0})):
        assert {float(bank().any_but(motion, rng, dropout=0.0)[0, 0, 0]) for _ in range(50)} == others


def test_a_signer_with_a_single_clip_gives_no_picture():
    picture = bank(motion=(5, 5, 5)).any_but(5, np.random.default_rng(0), dropout=0.0)
    assert picture.shape == (2, 2, 3) and not picture.any()


def test_a_share_of_the_examples_has_no_picture():
    rng = np.random.default_rng(0)
    blank = [not bank(motion=(0, 1, 1)).any_but(0, rng, dropout=0.3).any() for _ in range(400)]
    assert 0.2 < np.mean(blank) < 0.4


def test_who_was_trained_without_a_picture_is_signed_without_one():
    """In training a signer with a single clip has no reference; the same in signing."""
    for motion in ((5,), (5, 5, 5)):
        assert bank(motion).typical().shape == (2, 2, 3) and not bank(motion).typical().any()


def test_the_typical_frame_is_nearest_to_the_median_pose():
    # The median of 0, 1, 2, 9 is 1.5 (the mean would be 3): frames 1 and 2 are equally near, the first is taken.
    assert (bank().typical() == 1).all()
    assert (bank(motion=(0, 0, 1)).typical() == 1).all()


@pytest.mark.parametrize(("frames", "ratio", "times"), [(5, 1, [0, 1, 2, 3, 4]), (9, 4, [0, 2, 6]), (1, 4, [0])])
def test_latent_frames_stand_in_the_middle_of_what_they_cover(frames, ratio, times):
    np.testing.assert_array_equal(latent_frame_times(frames, ratio), times)


def test_a_signer_with_one_clip_is_shown_with_its_farthest_frame():
    one = replace(bank(motion=(5, 5, 5)), frame=np.array([0, 40, 80]))
    rng = np.random.default_rng(0)
    assert [one.place_but(5, rng, dropout=0.0, window=(start, 9)) for start in (0, 30, 76)] == [2, 2, 0]
    assert one.place_but(5, rng, dropout=0.0) is None and one.place_but(5, rng, dropout=1.0, window=(0, 9)) is None
    assert one.of(np.array([True, False, True])).place_but(5, rng, dropout=0.0, window=(76, 5)) == 0
    # A window over all the frames that are kept holds each of them: no picture rather than one of what is to be shown.
    four = replace(bank(motion=(5,) * 4), frame=np.array([0, 27, 54, 80]))
    assert [four.place_but(5, rng, dropout=0.0, window=window) for window in ((0, 81), (0, 200))] == [None, None]
    assert [four.place_but(5, rng, dropout=0.0, window=window) for window in ((0, 80), (1, 81))] == [3, 0]
    assert replace(four.of(slice(1)), frame=np.zeros(1, int)).place_but(5, rng, dropout=0.0, window=(0, 1)) is None
    two = replace(bank(motion=(5, 5, 6)), frame=np.array([0, 40, 80]))
    assert two.place_but(5, rng, dropout=0.0, window=(70, 20)) == 2  # another clip's comes first
