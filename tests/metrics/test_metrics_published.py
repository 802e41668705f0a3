"""Pose scores beside the definitions of others, computed with their libraries; and what missing joints do to them."""

import numpy as np
import pytest
from dtaidistance import dtw_ndim
from fastdtw import dtw as library_dtw
from fastdtw import fastdtw
from pose_format import Pose as PoseFile
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions, PoseNormalizationInfo
from scipy.spatial.distance import euclidean

from signer_jax.errors import SignerError
from signer_jax.metrics import published
from signer_jax.metrics.pose_scores import pose_report
from signer_jax.pose import skeleton
from signer_jax.types import Pose

JOINTS = len(skeleton.JOINTS)


def signing(seed, frames, lost=0.0, axes=2, joints=JOINTS):
    """A signer in shoulder widths whose joints drift about their places; a share of them is lost at random."""
    places = np.random.default_rng(7).normal(0, 0.6, (joints, axes))
    rng = np.random.default_rng(seed)
    way = rng.normal(0, 0.02, (frames, joints, axes)).cumsum(axis=0)
    confidence = (rng.random((frames, joints)) >= lost).astype(np.float32)
    values = np.where(confidence[..., None] > 0, places + way, 0)
    return Pose(values.astype(np.float32), confidence, 25.0)


def pairs():
    return [
        (signing(1, 23), signing(2, 31)),
        (signing(3, 40, 0.1), signing(4, 25, 0.1)),
        (signing(5, 1), signing(6, 9)),
    ]


@pytest.mark.parametrize("pair", pairs())
def test_progressive_transformers_dtw_is_the_l1_of_whole_frames(pair):
    ours, theirs = pair
    flat = [published.filled(pose).reshape(len(pose), -1) for pose in pair]
    best, _ = library_dtw(*flat, dist=lambda x, y: np.abs(x - y).sum())
    assert published.progressive_transformers_dtw(ours, theirs) == pytest.approx(best / len(theirs))


def test_progressive_transformers_dtw_by_hand():
    ours, theirs = (
        Pose(np.array(x, float)[:, None], np.ones((2, 1)), 25.0) for x in ([[0, 0], [1, 1]], [[0, 0], [3, 4]])
    )
    assert published.progressive_transformers_dtw(ours, theirs) == pytest.approx(2.5)


@pytest.mark.parametrize("pair", pairs())
def test_the_challenges_dtw_mje(pair):
    """By the library's path at 12.5 frames a second, as its evaluation has it."""
    ours, theirs = (published.filled(pose)[::2] for pose in pair)
    _, path = fastdtw(ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1), dist=euclidean)
    a, b = (list(side) for side in zip(*path, strict=True))
    expected = np.linalg.norm(ours[a] - theirs[b], axis=2).mean()
    assert published.slrtp_errors(*pair).mean() == pytest.approx(expected)


def test_frames_are_taken_at_the_challenges_rate():
    assert [published.every(fps) for fps in (25, 12.5, 24, 30, 50, 5)] == [2, 1, 2, 2, 4, 1]


@pytest.mark.parametrize("pair", pairs())
def test_ndtw_mje_is_ham2poses(pair):
    """Their distance of two points, and an exact warping of each joint's way."""

    def masked(a, b):
        if np.isnan(b).any():
            return 0.0
        return euclidean((0, 0), b) / 2 if np.isnan(a).any() else euclidean(a, b)

    ours, theirs = (pose.coordinates.astype(float) for pose in pair)
    for pose, values in zip(pair, (ours, theirs), strict=True):
        values[pose.confidence == 0] = np.nan
    some = [0, 50, 127]
    found = published.ndtw_mje(*(skeleton.on_joints(pose, np.array(some), 2) for pose in pair))
    each = [library_dtw_of(ours[:, joint], theirs[:, joint], masked) for joint in some]
    assert found == pytest.approx(np.mean(each), rel=1e-6)


def library_dtw_of(a, b, distance):
    """fastdtw's exact form wants numbers without NaN, so the points go by their places."""
    places = [np.arange(len(x), dtype=float)[:, None] for x in (a, b)]
    return library_dtw(*places, dist=lambda i, k: distance(a[int(i[0])], b[int(k[0])]))[0]


@pytest.mark.parametrize("pair", pairs())
@pytest.mark.parametrize("axes", [2, 3])
def test_ndtw_p_is_dtaidistances(pair, axes):
    ours, theirs = (published.filled(pose, 10.0) for pose in pair)
    expected = []
    for joint in range(0, JOINTS, 16):
        a, b = (np.pad(x[:, joint], ((0, 0), (0, 1))) for x in (ours, theirs))
        for pose, way in zip(pair, (a, b), strict=True):
            way[pose.confidence[:, joint] == 0] = 10.0
        expected.append(dtw_ndim.distance(a, b))
    some = np.arange(0, JOINTS, 16)
    poses = [skeleton.on_joints(pose, some, 2) for pose in pair]
    if axes == 3:  # with the depth that poses in two dimensions are given
        poses = [Pose(np.pad(p.coordinates, ((0, 0), (0, 0), (0, 1))), p.confidence, p.fps) for p in poses]
    assert published.ndtw_p(*poses) == pytest.approx(np.mean(expected), rel=1e-6)


def test_the_mean_shoulders_are_pose_formats():
    pose = signing(0, 12, lost=0.1, axes=3)
    shoulders = [skeleton.INDEX[name] for name in ("right_shoulder", "left_shoulder")]
    pose.confidence[:, shoulders] = 1
    points = PoseHeaderComponent("A", list(skeleton.JOINTS), [], [], "XYZC")
    body = NumPyPoseBody(25.0, pose.coordinates[:, None].copy(), pose.confidence[:, None].copy())
    file = PoseFile(PoseHeader(0.2, PoseHeaderDimensions(9, 9, 9), [points]), body)
    file.normalize(PoseNormalizationInfo(*shoulders))
    shown = pose.confidence > 0
    found = published.about_mean_shoulders(pose).coordinates[shown]
    np.testing.assert_allclose(found, file.body.data[:, 0].data[shown], rtol=1e-4, atol=1e-5)
    # Whatever was done to all of it before, and by the frames that show both shoulders.
    moved = Pose(pose.coordinates * 7 + 3, pose.confidence.copy(), 25.0)
    np.testing.assert_allclose(published.about_mean_shoulders(moved).coordinates[shown], found, rtol=1e-4, atol=1e-5)
    moved.coordinates[3, shoulders[0]], moved.confidence[3, shoulders[0]] = 1e6, 0
    assert np.abs(published.about_mean_shoulders(moved).coordinates[moved.confidence > 0]).max() < 9
    nobody = Pose(pose.coordinates, np.zeros_like(pose.confidence), 25.0)
    assert published.about_mean_shoulders(nobody) is nobody


def test_trimming_by_hand():
    frames = 40
    pose = Pose(np.zeros((frames, JOINTS, 2), np.float32), np.ones((frames, JOINTS), np.float32), 25.0)
    pose.coordinates[:, :, 0] = np.arange(frames)[:, None]
    for side in ("left", "right"):
        pose.coordinates[:, skeleton.INDEX[f"{side}_wrist"], 1] = 1.0  # y goes down: below the elbow
    assert published.trimmed(pose) is pose
    pose.coordinates[12:20, skeleton.INDEX["left_wrist"], 1] = -1.0
    assert published.trimmed(pose).coordinates[:, 0, 0].tolist() == list(range(7, 25))
    pose.confidence[:9, skeleton.INDEX["left_wrist"]] = 0  # not before it is seen
    assert published.trimmed(pose).coordinates[0, 0, 0] == 9
    pose.coordinates[33:, skeleton.INDEX["right_wrist"], 1] = -1.0
    assert published.trimmed(pose).coordinates[:, 0, 0].tolist() == list(range(9, 40))


def test_the_wrists_ways():
    pose = Pose(np.zeros((4, JOINTS, 2), np.float32), np.ones((4, JOINTS), np.float32), 25.0)
    pose.coordinates[:, skeleton.INDEX["left_wrist"]] = [[0, 0], [3, 4], [99, 99], [3, 5]]
    pose.confidence[2, skeleton.INDEX["left_wrist"]] = 0
    pose.confidence[1:, skeleton.INDEX["right_wrist"]] = 0
    left, right = published.wrist_ways(pose)
    assert left == pytest.approx(6) and np.isnan(right)


@pytest.mark.parametrize(
    "score",
    [published.progressive_transformers_dtw, published.ndtw_mje, published.ndtw_p,
     lambda a, b: published.slrtp_errors(a, b).sum() or np.nan],
)  # fmt: skip
def test_nothing_is_not_scored_and_other_joints_are_refused(score):
    pose, none = signing(0, 4), signing(0, 4).slice(0, 0)
    assert all(np.isnan(score(*pair)) for pair in ((pose, none), (none, pose), (none, none)))
    assert np.isnan(score(signing(0, 4, joints=0), signing(1, 5, joints=0)))
    with pytest.raises(SignerError, match="same skeleton"):
        score(pose, signing(0, 4, joints=3))


def test_two_per_cent_of_missing_joints_rule_what_is_filled_and_nothing_else():
    """Of a good hypothesis: what we report moves by little, what is as published becomes another figure."""
    theirs = signing(1, 60)
    rng = np.random.default_rng(0)
    good = Pose(theirs.coordinates + rng.normal(0, 0.03, theirs.coordinates.shape), theirs.confidence, 25.0)
    lost = [
        Pose(np.where(kept[..., None], pose.coordinates, 0), kept.astype(np.float32), 25.0)
        for pose in (good, theirs)
        for kept in (rng.random(pose.confidence.shape) >= 0.02,)
    ]
    every = np.arange(JOINTS)
    whole, harmed = pose_report(good, theirs, every), pose_report(*lost, every)
    change = {name: harmed.scores[name].value / one.value - 1 for name, one in whole.scores.items() if one.value}
    ours = ("dtw", "dtw_hand_weighted", "dtw_mje", "dtw_mje_hands", "mpjpe", "hand_error")
    filled = ("dtw_mje_slrtp", "dtw_pt", "ndtw_p")
    assert all(abs(change[name]) < 0.02 for name in ours), change
    assert all(change[name] > 0.5 for name in filled) and change["ndtw_p"] > 10, change
    assert all("fill:0" in whole.signatures[name] or "fill:10" in whole.signatures[name] for name in filled)
    assert harmed.scores["lacking"].value < 0.02  # both lack as much, but for chance
    # A hand that is left out for good costs in ours, and is told.
    hand = skeleton.positions(skeleton.RIGHT_HAND, skeleton.JOINTS)
    left_out = Pose(good.coordinates, good.confidence.copy(), 25.0)
    left_out.confidence[:, hand] = 0
    without = pose_report(left_out, theirs, every).scores
    assert without["dtw"].value > 3 * whole.scores["dtw"].value
    assert without["lacking"].value == pytest.approx(len(hand) / JOINTS)
