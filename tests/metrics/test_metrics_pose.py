"""Pose scores against the textbook recursion and numbers worked out by hand."""

import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.metrics.pose import (
    aligned_errors,
    hand_error,
    hand_pose_error,
    jerk,
    lacking,
    mean_error,
    mpjpe,
    segment_dtw,
    still,
    without_blinks,
)
from signer_jax.pose import skeleton, warping
from signer_jax.pose.warping import (
    MISSING,
    dtw,
    dtw_of_frames,
    frame_cost,
    hand_index,
    joint_weights,
    nearest_candidate,
    warp,
)
from signer_jax.types import Pose

JOINTS = skeleton.SUBSETS["upper_50"]


def line(*values, fps=25.0):
    """One joint on a line."""
    return Pose(np.array(values, np.float32).reshape(-1, 1, 1), np.ones((len(values), 1), np.float32), fps)


def random_pose(seed, frames, joints=50):
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=(frames, joints, 2)).cumsum(axis=0) * 0.1
    return Pose(walk.astype(np.float32), np.ones((frames, joints), np.float32), 25.0)


def warp_by_the_book(cost):
    t, u = cost.shape
    total = np.full((t + 1, u + 1), np.inf)
    total[0, 0] = 0
    for i in range(t):
        for j in range(u):
            total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return total[t, u]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (9, 13), (30, 8)])
def test_warp_is_the_textbook_recursion(shape):
    cost = np.random.default_rng(sum(shape)).uniform(size=shape)
    np.testing.assert_allclose(warp(cost), warp_by_the_book(cost), rtol=1e-12)


def test_warp_of_a_stack():
    costs = np.random.default_rng(0).uniform(size=(5, 6, 9))
    np.testing.assert_allclose(warp(costs), [warp_by_the_book(cost) for cost in costs], rtol=1e-12)


@pytest.mark.parametrize("shape", [(8, 1, 1), (8, 1, 5), (9, 6, 1), (8, 6, 9), (11, 9, 6), (16, 7, 7)])
def test_warp_of_many_goes_by_diagonals_and_is_the_same(shape):
    costs = np.random.default_rng(sum(shape)).uniform(size=shape)
    np.testing.assert_allclose(warp(costs), [warp_by_the_book(cost) for cost in costs], rtol=1e-12)


def test_pairs_of_vectors_are_warped_by_distances_or_by_squares():
    rng = np.random.default_rng(0)
    ours, theirs = (rng.normal(5, 1, (19, frames, 3)) for frames in (6, 8))
    apart = np.linalg.norm(ours[:, :, None] - theirs[:, None], axis=-1)
    distances = [warp_by_the_book(cost) for cost in apart]
    squares = [np.sqrt(warp_by_the_book(cost**2)) for cost in apart]
    np.testing.assert_allclose(dtw_of_frames(ours, theirs, squared=False), distances, rtol=1e-9)
    np.testing.assert_allclose(dtw_of_frames(ours, theirs, squared=True), squares, rtol=1e-9)
    for scale in (1.0, 1000.0):  # pixels
        assert not dtw_of_frames(scale * ours + 500, scale * ours + 500, squared=False).any()
    assert dtw_of_frames(ours[:0], theirs[:0], squared=True).shape == (0,)
    with pytest.raises(SignerError, match=r"\[19, 6, 3\] against \[18, 8, 3\]; pairs of sequences are"):
        dtw_of_frames(ours, theirs[1:], squared=True)
    for bad in (ours[:, :0], np.where(np.arange(3) == 1, np.nan, ours)):
        with pytest.raises(SignerError, match="without frames or with values that are not finite; leave them out"):
            dtw_of_frames(bad, theirs, squared=False)


@pytest.mark.parametrize("most", [4_000_000, 100])
def test_several_sequences_against_several_at_once(monkeypatch, most):
    """Each pair's distance is its own, whatever else is compared; the joints of all frames are compared once."""
    monkeypatch.setattr(warping, "_MOST_COSTS", most)
    ours = [random_pose(k, t) for k, t in enumerate((40, 1, 75, 9))]
    theirs = [random_pose(9 + k, u) for k, u in enumerate((33, 70, 2))]
    for pose in (ours[2], theirs[0], theirs[2]):  # joints that are not always shown
        pose.confidence[1:, 3:20] = 0
    weights = joint_weights(JOINTS, 3.0)
    expected = [[warp_by_the_book(cost(a, b, weights)) / len(b) for b in theirs] for a in ours]
    compared = []
    monkeypatch.setattr(warping, "frame_cost", lambda *args, **named: compared.append(1) or frame_cost(*args, **named))
    np.testing.assert_allclose(warping.dtw_each(ours, theirs, weights=weights), expected, rtol=1e-12)
    assert len(compared) == 1 or most == 100
    assert (warping.dtw_each([ours[0].slice(0, 0)], theirs) == MISSING).all()
    with pytest.raises(SignerError, match="no frames"):
        warping.dtw_each(ours, [theirs[0], theirs[1].slice(0, 0)])
    with pytest.raises(SignerError, match="same skeleton"):
        warping.dtw_each(ours, [random_pose(0, 3, joints=6)])


def cost(a, b, weights):
    return frame_cost(
        a.coordinates, b.coordinates, hypothesis_confidence=a.confidence, reference_confidence=b.confidence,
        weights=weights,
    )  # fmt: skip


@pytest.mark.parametrize(("t", "u"), [(40, 90), (90, 40), (120, 3), (3, 120), (70, 70)])
def test_long_files_are_warped_within_a_band(monkeypatch, t, u):
    weights = np.stack([np.ones(50), joint_weights(JOINTS, 3.0)])
    long, short = random_pose(0, t), random_pose(1, u)
    exact = warping.dtw_by_weights(long, short, weights)
    np.testing.assert_allclose(exact, [dtw(long, short, weights=each) for each in weights], rtol=1e-12)
    monkeypatch.setattr(warping, "_EXACT", 100)
    monkeypatch.setattr(warping, "_BAND", 200)  # everywhere: the blocks join to the whole
    np.testing.assert_allclose(warping.dtw_by_weights(long, short, weights), exact, rtol=1e-9)
    monkeypatch.setattr(warping, "_BAND", 8)
    banded = warping.dtw_by_weights(long, short, weights)
    assert np.isfinite(banded).all() and (banded >= exact - 1e-12).all()
    # A path that stays near the straight line is found: every third frame stands for a moment.
    slow = Pose(np.repeat(long.coordinates, 2, 0), np.repeat(long.confidence, 2, 0), 25.0)
    assert warping.dtw_by_weights(slow, long, weights) == pytest.approx([0, 0], abs=1e-9)


def test_the_band_keeps_the_memory_small(monkeypatch):
    """As 60,000 frames beside 60,000 would, in small: no block is wider than the band and a block's own length."""
    monkeypatch.setattr(warping, "_EXACT", 100)
    monkeypatch.setattr(warping, "_BAND", 20)
    shapes, watched = [], []
    real = warping.frame_cost
    monkeypatch.setattr(warping, "frame_cost", lambda a, b, **k: shapes.append((len(a), len(b))) or real(a, b, **k))
    pose = random_pose(0, 400)
    watch = lambda blocks: watched.extend(blocks) or blocks  # noqa: E731
    assert warping.dtw_by_weights(pose, pose, np.ones((1, 50)), watch=watch) == pytest.approx([0], abs=1e-9)
    assert watched == list(range(0, 400, 5)) and max(a * b for a, b in shapes) <= 5 * (2 * 20 + 5 + 1)


def test_dtw_by_hand():
    # 0 1 2 against 0 2 2: 0-0, 1 to the nearer of the two (both 1 away), 2-2, 2-2 -> 1 over 3 reference frames.
    assert dtw(line(0, 1, 2), line(0, 2, 2)) == pytest.approx(1 / 3)
    # Repeating frames is free: only the order counts.
    assert dtw(line(0, 0, 1, 1, 1, 5), line(0, 1, 5, 5)) == 0
    assert dtw(line(3), line(0, 0)) == pytest.approx(6 / 2)


def test_frame_cost_is_the_weighted_mean_joint_distance():
    ours, theirs = random_pose(1, 4, 6), random_pose(2, 5, 6)
    weights = np.array([0, 1, 2, 1, 5, 1.0])
    expected = np.zeros((4, 5))
    for i in range(4):
        for k in range(5):
            distance = np.linalg.norm(ours.coordinates[i] - theirs.coordinates[k], axis=-1)
            expected[i, k] = (distance * weights).sum() / weights.sum()
    np.testing.assert_allclose(frame_cost(ours.coordinates, theirs.coordinates, weights=weights), expected, rtol=1e-6)


def test_missing_joints_are_not_scored_in_the_reference_and_cost_in_the_hypothesis():
    ours, theirs = np.zeros((2, 2, 2)), np.full((3, 2, 2), 3.0)
    theirs[:, :, 1] = 4.0  # every joint is 5 away
    ours[0, 1] = theirs[1, 0] = np.nan
    cost = frame_cost(
        ours,
        theirs,
        hypothesis_confidence=np.array([[1, 0], [1, 1.0]]),
        reference_confidence=np.array([[1, 1], [0, 1], [0, 0.0]]),
    )
    np.testing.assert_allclose(cost, [[(5 + MISSING) / 2, MISSING, 0], [5, 5, 0]])


def test_dtw_refuses_what_does_not_fit():
    with pytest.raises(SignerError, match="50 joints"):
        dtw(random_pose(0, 3), random_pose(0, 3, joints=6))
    with pytest.raises(SignerError, match="no frames"):
        dtw(line(1), line(1).slice(0, 0))
    assert dtw(line(1).slice(0, 0), line(1)) == MISSING


def test_hand_weights_decide_between_candidates():
    target = random_pose(0, 8)
    hands = hand_index(JOINTS)
    assert len(hands) == 42 and all("hand" in JOINTS[i] for i in hands)
    arms = np.setdiff1d(np.arange(50), hands)
    good_hands, good_arms = target.coordinates.copy(), target.coordinates.copy()
    good_hands[:, arms] += 0.5  # 8 joints off by √0.5
    good_arms[:, hands] += 0.05  # 42 joints off by √0.005
    candidates = [None, *(Pose(c, target.confidence, 25.0) for c in (good_arms, good_hands))]
    # Evenly weighted: 42·0.05 < 8·0.5; with hands ten times: 420·0.05 > 8·0.5.
    assert nearest_candidate(candidates, target, weights=joint_weights(JOINTS, 1.0)) == 1
    assert nearest_candidate(candidates, target, weights=joint_weights(JOINTS, 10.0)) == 2
    assert nearest_candidate([None, None], target) == -1
    assert nearest_candidate(candidates, target.slice(0, 0)) == -1


def test_segment_dtw_takes_the_nearest_variant_and_punishes_the_average():
    first, second = random_pose(3, 20), random_pose(4, 30)
    spans, second_spans = np.array([[0, 10], [12, 20]]), np.array([[0, 10], [20, 28]])
    references = [(first, spans), (second, second_spans)]
    np.testing.assert_allclose(segment_dtw(second, second_spans, references), [0, 0], atol=1e-7)
    # One gloss of one signer, one of the other: each is right.
    mixed = np.concatenate([first.coordinates[:12], second.coordinates[20:28]])
    mixed_pose = Pose(mixed, np.ones((20, 50), np.float32), 25.0)
    np.testing.assert_allclose(segment_dtw(mixed_pose, spans, references), [0, 0], atol=1e-7)
    average = (first.coordinates[12:20] + second.coordinates[20:28]) / 2
    average_pose = Pose(np.concatenate([first.coordinates[:12], average]), np.ones((20, 50), np.float32), 25.0)
    distances = segment_dtw(average_pose, spans, references)
    assert distances[0] == pytest.approx(0, abs=1e-7) and distances[1] > 0.1
    empty = [(first, np.array([[0, 0], [12, 20]]))]
    assert np.isnan(segment_dtw(average_pose, spans, empty)[0])
    with pytest.raises(SignerError, match="2 glosses, a reference 1"):
        segment_dtw(first, spans, [(first, spans[:1])])


def test_hand_error_by_hand():
    hands = np.array([1, 2])
    reference = Pose(np.zeros((2, 3, 2)), np.array([[1, 1.0, 0.5], [1, 0, 0.25]]), 25.0)
    ours = np.zeros((2, 3, 2))
    ours[:, 0] = 99  # not a hand
    ours[0, 1] = (3, 4)
    ours[0, 2] = (0, 2)
    ours[1] = np.nan
    hypothesis = Pose(ours, np.array([[1, 1, 1], [1, 1, 0.0]]), 25.0)
    expected = (1.0 * 5 + 0.5 * 2 + 0.25 * MISSING) / 1.75
    assert hand_error(hypothesis, reference, hands) == pytest.approx(expected)
    assert hand_pose_error(hypothesis, reference, hands, 260) == pytest.approx(expected * 100)
    assert np.isnan(hand_error(hypothesis, Pose(reference.coordinates, np.zeros((2, 3)), 25.0), hands))
    with pytest.raises(SignerError, match="1 frames against 2"):
        hand_error(hypothesis.slice(0, 1), reference, hands)


def test_jerk_is_the_third_derivative():
    time = np.arange(8) / 10.0
    assert jerk(line(*(time**3), fps=10.0)) == pytest.approx(6.0, rel=1e-3)
    assert jerk(line(*(time**2), fps=10.0), order=2) == pytest.approx(2.0, rel=1e-3)
    assert np.isnan(jerk(line(0, 1, 2)))


def test_jerk_skips_missing_joints():
    pose = line(0, 0, 0, 0, 50, 0, 0, 0, 0)
    shown = pose.confidence.copy()
    shown[4] = 0
    assert jerk(Pose(pose.coordinates, shown, 25.0)) == 0
    assert jerk(pose) > 0


def test_long_sequences_are_warped_in_parts(monkeypatch):
    from signer_jax.pose import warping

    rng = np.random.default_rng(0)
    ours, theirs = (
        Pose(rng.normal(size=(t, 128, 3)).astype(np.float32), (rng.random((t, 128)) > 0.2).astype(np.float32), 25.0)
        for t in (37, 29)
    )
    whole = dtw(ours, theirs)
    monkeypatch.setattr(warping, "_MOST_COSTS", 29 * 5)
    assert dtw(ours, theirs) == pytest.approx(whole, rel=1e-12)


def test_mean_joint_errors_are_over_what_both_show():
    theirs, ours = random_pose(0, 6, 3), random_pose(0, 6, 3)
    ours.coordinates[:, 1] += (3, 4)
    assert mpjpe(ours, theirs) == pytest.approx(5 / 3)
    ours.coordinates[2, 2], ours.confidence[2, 2] = np.nan, 0
    theirs.coordinates[3, 0], theirs.confidence[3, 0] = np.nan, 0
    assert mpjpe(ours, theirs) == pytest.approx(5 * 6 / 16)
    assert np.isnan(mpjpe(Pose(ours.coordinates, np.zeros((6, 3)), 25.0), theirs))
    with pytest.raises(SignerError, match="5 frames against 6"):
        mpjpe(ours.slice(0, 5), theirs)


def test_aligned_errors_by_hand():
    # 0 1 2 against 0 2 2: 0-0, 1-2, 2-2; of equally cheap paths the one with fewer pairs.
    assert mean_error(aligned_errors(line(0, 1, 2), line(0, 2, 2))) == pytest.approx(1 / 3)
    assert mean_error(aligned_errors(line(0, 0, 1, 5), line(0, 1, 5, 5))) == 0
    assert aligned_errors(line(1).slice(0, 0), line(1)).shape == (0, 1)
    assert np.isnan(mean_error(aligned_errors(line(1), line(1).slice(0, 0))))
    unseen = Pose(line(1, 2).coordinates, np.zeros((2, 1)), 25.0)
    assert np.isnan(mean_error(aligned_errors(unseen, line(1, 2))))


def test_what_is_lacking_is_counted_joint_by_joint():
    theirs, ours = random_pose(0, 4, 3), random_pose(1, 8, 3)
    theirs.confidence[:2, 0] = 0  # shown half the time
    ours.confidence[2:, 0] = 0  # a quarter of it
    ours.confidence[:, 1] = 0
    assert lacking(ours, theirs) == pytest.approx((0.25 + 1) / 2.5)
    assert lacking(theirs, theirs) == 0
    assert np.isnan(lacking(ours, Pose(theirs.coordinates, np.zeros((4, 3)), 25.0)))


def test_who_stands_still_is_the_mean_of_what_is_shown():
    pose = line(1, 2, 6, 50)
    pose.confidence[3] = 0
    assert still(pose).coordinates.item() == 3 and still(pose).confidence.item() == 1
    # Held as long as the reference or once: the same in a DTW.
    held = line(3, 3, 3)
    assert dtw(still(pose), line(1, 2, 6)) == dtw(held, line(1, 2, 6)) == pytest.approx(2)


def test_a_joint_that_blinks_is_on_the_line():
    pose = line(0, 9, 9, 6, 9, 9, 9, 9, 9, 9, 0, 9)
    for frame in (1, 2, 4, 5, 6, 7, 8, 9, 11):
        pose.confidence[frame] = 0
        pose.coordinates[frame] = np.nan
    pose.confidence[3] = 0.5
    found = without_blinks(pose)
    assert found.coordinates[:4].ravel().tolist() == [0, 2, 4, 6]
    assert found.confidence.ravel().tolist() == [1, 0.5, 0.5, 0.5, 0, 0, 0, 0, 0, 0, 1, 0]  # six frames are .24 s
    assert (without_blinks(pose, longest=1.0).confidence[:11] > 0).all()
    assert np.isnan(pose.coordinates[1]).all() and len(without_blinks(pose.slice(0, 0))) == 0
