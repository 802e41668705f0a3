"""Stitching: spans, resampling, smooth transitions, missing joints, trimming."""

import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.clean import bridge, clean, gaps
from signer_jax.pose.formats import pose_file
from signer_jax.pose.stitching import (
    resample,
    steady,
    steady_all,
    stitch,
    stitch_each,
    timeline,
    transition_seconds,
    trim,
)
from signer_jax.stations.perform import join
from signer_jax.types import Pose

LEFT = [skeleton.INDEX[name] for name in skeleton.LEFT_HAND]
RIGHT = [skeleton.INDEX[name] for name in skeleton.RIGHT_HAND]
WRISTS = [skeleton.INDEX["left_wrist"], skeleton.INDEX["right_wrist"]]
ELBOWS = [skeleton.INDEX["left_elbow"], skeleton.INDEX["right_elbow"]]


def _pose(frames: int, x: float, speed: float = 0.0, fps: float = 10.0) -> Pose:
    coordinates = np.zeros((frames, 128, 2), np.float32)
    coordinates[..., 0] = x + speed * np.arange(frames)[:, None]
    coordinates[..., 1] = np.linspace(0, 1, 128)
    return Pose(coordinates, np.ones((frames, 128), np.float32), fps)


def _without(pose: Pose, joints: list[int], frames: slice = slice(None)) -> Pose:
    confidence = pose.confidence.copy()
    confidence[frames, joints] = 0
    return Pose(pose.coordinates * (confidence[..., None] > 0), confidence, pose.fps)


def test_timeline_by_hand():
    spans, total = timeline([_pose(10, 0), _pose(15, 0, fps=30)], 0.2, 20.0)
    assert spans.tolist() == [[0, 20], [24, 34]] and total == 34
    assert timeline([], 0.2, 20.0)[1] == 0


def test_chosen_joints_are_stitched_or_refused():
    spans, deep = np.array([[0, 10], [14, 24]]), np.random.default_rng(0).normal(size=(2, 10, 128, 3))
    segments = [Pose(one.astype(np.float32), np.ones((10, 128), np.float32), 10.0) for one in deep]
    whole = stitch(segments, spans, 24, fps=10.0)
    joints = np.array([LEFT[3], 0, WRISTS[0]])
    some, confidence = stitch_each([segments], spans, 24, fps=10.0, rests=[None], joints=joints, dims=2)
    np.testing.assert_allclose(some[0], whole.coordinates[:, joints, :2], atol=1e-6)
    assert confidence.shape == (1, 24, 3)
    plane, _ = stitch_each([segments], spans, 24, fps=10.0, rests=[None], dims=2)
    np.testing.assert_array_equal(plane[0], whole.coordinates[..., :2])
    # Indices into the canonical skeleton are none into another.
    fewer = [skeleton.on_joints(segment, np.arange(50), 3) for segment in segments]
    with pytest.raises(SignerError, match="canonical joints alone, these have 50; choose") as error:
        stitch_each([fewer], spans, 24, fps=10.0, rests=[None], joints=joints)
    assert "\n" not in str(error.value)
    assert stitch(fewer, spans, 24, fps=10.0).coordinates.shape == (24, 50, 3)


def test_resample_is_linear_and_keeps_the_ends():
    pose = _pose(5, 0, speed=1)
    longer = resample(pose, 9, fps=20.0)
    np.testing.assert_allclose(longer.coordinates[:, 0, 0], np.arange(9) / 2)
    assert longer.fps == 20.0
    np.testing.assert_array_equal(resample(pose, 5).coordinates, pose.coordinates)
    assert resample(pose, 1).coordinates[0, 0, 0] == 2
    with pytest.raises(SignerError):
        resample(pose.slice(0, 0), 3)


@pytest.mark.parametrize(("frames", "wanted"), [(7, 5), (5, 23), (1, 4), (2, 1), (90, 61)])
def test_resample_counts_as_linspace_does(frames, wanted):
    places = np.linspace(0, frames - 1, wanted) if wanted > 1 else np.array([(frames - 1) / 2])
    before = np.floor(places).astype(int)
    share = (places - before).astype(np.float32)
    values = np.random.default_rng(0).normal(size=frames).astype(np.float32)
    pose = _pose(frames, 0)
    pose.coordinates[:, 5, 0] = values
    by_hand = values[before] * (1 - share) + values[np.minimum(before + 1, frames - 1)] * share
    np.testing.assert_array_equal(resample(pose, wanted).coordinates[:, 5, 0], by_hand)


def test_resample_never_moves_towards_a_missing_joint():
    pose = resample(_without(_pose(3, 5.0), RIGHT, slice(1, 2)), 9)
    seen = pose.confidence[:, RIGHT[0]] > 0
    assert seen.tolist() == [True, True, False, False, False, False, True, True, True]
    np.testing.assert_allclose(pose.coordinates[seen][:, RIGHT, 0], 5.0)
    assert (pose.coordinates[~seen][:, RIGHT] == 0).all()


def test_segments_stay_and_transitions_are_smooth():
    first, second = _pose(6, 0.0, speed=0.05), _pose(6, 1.0, speed=0.05)
    out = stitch([first, second], np.array([[2, 8], [13, 19]]), 22, fps=10.0)
    assert len(out) == 22 and out.fps == 10.0
    np.testing.assert_array_equal(out.coordinates[2:8], first.coordinates)
    np.testing.assert_array_equal(out.coordinates[13:19], second.coordinates)
    np.testing.assert_array_equal(out.coordinates[:2], first.coordinates[:1].repeat(2, 0))  # held
    np.testing.assert_array_equal(out.coordinates[19:], second.coordinates[-1:].repeat(3, 0))
    x = out.coordinates[7:14, 0, 0]
    assert (np.diff(x) > 0).all()
    straight = np.linspace(x[0], x[-1], 7)
    assert np.abs(np.diff(x, 2)).max() < 0.1 and not np.allclose(x, straight, atol=1e-3)
    assert np.diff(x)[0] < np.diff(straight)[0]  # leaves at the sign's own, slower speed


def test_a_fast_edge_does_not_overshoot_far():
    first, second = _pose(6, 0.0, speed=1.0), _pose(6, 5.1, speed=0.0)  # 0.1 apart, racing
    x = stitch([first, second], np.array([[0, 6], [16, 22]]), 22, fps=10.0).coordinates[:, 0, 0]
    assert np.abs(x[6:16] - 5.05).max() < 0.1


def test_a_joint_that_one_side_lacks_follows_its_wrist_and_fades():
    first, second = _pose(4, 2.0), _without(_pose(4, 4.0), RIGHT)
    out = stitch([first, second], np.array([[0, 4], [9, 13]]), 13, fps=10.0)
    gap = slice(4, 9)
    confidence = out.confidence[gap, RIGHT[3]]
    assert (np.diff(confidence) <= 0).all() and confidence[0] > 0 and (confidence[2:] == 0).all()
    seen = out.confidence[:, RIGHT[3]] > 0
    own = out.coordinates[seen][:, RIGHT[3]] - out.coordinates[seen][:, WRISTS[1]]
    np.testing.assert_allclose(own, own[:1].repeat(len(own), 0), atol=1e-5)
    assert (out.coordinates[~seen][:, RIGHT] == 0).all()


def test_a_joint_that_no_side_has_stays_missing():
    first, second = (_without(_pose(4, x), LEFT) for x in (1.0, 2.0))
    out = stitch([first, second], np.array([[0, 4], [7, 11]]), 11, fps=10.0)
    assert (out.confidence[:, LEFT] == 0).all() and (out.coordinates[:, LEFT] == 0).all()


def test_rest_before_and_after():
    rest = _pose(1, -3.0)
    x = stitch([_pose(4, 1.0)], np.array([[10, 14]]), 24, fps=10.0, rest=rest).coordinates[:, 0, 0]
    np.testing.assert_array_equal(x[:6], -3)
    np.testing.assert_array_equal(x[10:14], 1)
    np.testing.assert_array_equal(x[18:], -3)
    assert (np.diff(x[5:11]) > 0).all() and (np.diff(x[13:19]) < 0).all()


@pytest.mark.parametrize(
    ("spans", "total"), [([[0, 4], [3, 8]], 8), ([[0, 4], [5, 9]], 8), ([[-1, 3], [4, 8]], 8), ([[0, 0], [1, 8]], 8)]
)
def test_impossible_spans_are_refused(spans, total):
    with pytest.raises(SignerError, match="spans"):
        stitch([_pose(4, 0), _pose(4, 0)], np.array(spans), total, fps=10.0)


def test_nothing_to_stitch_is_refused():
    with pytest.raises(SignerError, match="no sign"):
        stitch([], np.zeros((0, 2)), 4, fps=10.0)


def _rising(heights: list[float]) -> Pose:
    coordinates = np.zeros((len(heights), 128, 2), np.float32)
    coordinates[:, [*LEFT, WRISTS[0]], 1] = 1.3  # rests all the time
    coordinates[:, [*RIGHT, WRISTS[1]], 1] = -np.array(heights)[:, None]
    return Pose(coordinates, np.ones(coordinates.shape[:2], np.float32), 25.0)


def test_trim_cuts_rest_rise_and_sink():
    pose = _rising([-1.3, -1.3, -1.0, -0.5, 0.1, 0.0, 0.1, -0.4, -1.1, -1.3])
    cut = trim(pose)
    np.testing.assert_array_equal(cut.coordinates, pose.coordinates[3:8])


def test_trim_leaves_an_edge_that_is_nearly_high_enough():
    """Half of the way to .1 is -.6: what lies just below it was a sign's edge before it was measured anew."""
    assert len(trim(_rising([-0.62, -0.5, 0.1, -0.5, -0.63]))) == 5
    assert len(trim(_rising([-0.62, -0.7, -0.5, 0.1, -0.5, -0.63]))) == 4
    assert len(trim(_rising([-1.2, -0.62, -0.5, 0.1, -0.5, -0.63, -1.2]))) == 3


def test_trim_keeps_a_sign_at_one_height():
    pose = _rising([-0.2, -0.1, -0.2, -0.3])
    assert len(trim(pose)) == 4


def test_trim_cuts_frames_without_hands():
    pose = _without(_rising([-0.2] * 6), [*LEFT, *RIGHT], slice(0, 2))
    pose = _without(pose, [*LEFT, *RIGHT], slice(5, 6))
    np.testing.assert_array_equal(trim(pose).confidence, pose.confidence[2:5])
    nothing = _without(_rising([-0.2] * 3), [*LEFT, *RIGHT, *WRISTS])
    assert len(trim(nothing)) == 3


SHOULDERS = [skeleton.INDEX["left_shoulder"], skeleton.INDEX["right_shoulder"]]
LEFT_ARM = [skeleton.INDEX["left_elbow"], WRISTS[0], *LEFT]


def _sign(frames: int, phase: float, fps: float = 25.0) -> Pose:
    """Hands that circle in front of the chest, a round in 1.2 seconds."""
    coordinates = np.zeros((frames, 128, 2), np.float32)
    coordinates[:, SHOULDERS] = [[0.5, 0], [-0.5, 0]]
    angle = 2 * np.pi * np.arange(frames) / fps / 1.2 + phase
    circle = 0.4 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, None]
    coordinates[:, LEFT_ARM] = circle + [0.4, 0.3]
    coordinates[:, [*RIGHT, WRISTS[1]]] = circle + [-0.4, 0.3]
    return Pose(coordinates, np.ones((frames, 128), np.float32), fps)


def _acceleration(pose: Pose, joint: int) -> np.ndarray:
    """Its length at each frame but the first and last."""
    x = pose.coordinates[:, joint]
    return np.linalg.norm(x[2:] - 2 * x[1:-1] + x[:-2], axis=-1)


@pytest.mark.parametrize("phase", [1.0, 2.0, 3.0, 4.0])
def test_velocity_and_acceleration_meet_at_the_seams(phase):
    first, second = _sign(20, 0), _sign(20, phase)
    out = stitch([first, second], np.array([[0, 20], [32, 52]]), 52, fps=25.0)
    acceleration = _acceleration(out, WRISTS[1])
    inside = np.concatenate([acceleration[:17], acceleration[33:]]).mean()
    assert acceleration[[18, 31]].max() < 2 * inside  # at the last and at the first frame of the signs
    assert acceleration.max() < 3 * inside


def test_an_arm_that_a_sign_does_not_show_rests_instead_of_vanishing():
    spelled = _without(_sign(10, 0), LEFT_ARM)
    spans = np.array([[0, 10], [18, 28], [36, 46]])
    out = stitch([spelled, _sign(10, 1), spelled], spans, 46, fps=25.0)
    assert (out.confidence[:, LEFT_ARM] > 0).all()
    shoulder = out.coordinates[:10, SHOULDERS[0]]
    assert (out.coordinates[:10, WRISTS[0], 1] - shoulder[:, 1] > 1).all()  # below the chest
    assert _acceleration(out, WRISTS[0]).max() < 0.2
    # As the signer's own rest pose has it, where there is one.
    rest = _sign(1, 0)
    rest.coordinates[0, LEFT_ARM] = [0.9, 1.4]
    out = stitch([spelled], np.array([[3, 13]]), 16, fps=25.0, rest=rest)
    np.testing.assert_allclose(out.coordinates[:, LEFT_ARM], np.broadcast_to([0.9, 1.4], (16, 23, 2)), atol=1e-5)


def test_gaps_inside_a_sign_are_bridged_and_its_ends_hold():
    sign = _without(_without(_sign(30, 0), LEFT, slice(10, 19)), LEFT, slice(26, 30))
    out = stitch([sign], np.array([[0, 30]]), 30, fps=25.0)
    assert (out.confidence[:, LEFT] > 0).all()
    # The hand moves with its wrist, from which it is nowhere off.
    np.testing.assert_allclose(out.coordinates[:26, LEFT[3]], out.coordinates[:26, WRISTS[0]], atol=1e-5)


def test_signs_on_end_are_steadied_each_by_itself():
    one = _without(_without(_sign(30, 0), LEFT, slice(10, 19)), LEFT, slice(26, 30))
    other = _without(_without(_sign(20, 9), LEFT, slice(0, 5)), [*RIGHT, WRISTS[1]])  # its gap meets that of the first
    unseen = _without(_sign(12, 3), [*LEFT, *WRISTS])
    signs = [one, other, unseen, _sign(5, 0)]
    rests = [None, _pose(1, 0.5), None, None]
    for i, done in enumerate(steady_all(signs, rests)):
        alone = steady(signs[i], rests[i])
        np.testing.assert_array_equal(done.coordinates, alone.coordinates)
        np.testing.assert_array_equal(done.confidence, alone.confidence)
        assert len(done) == len(signs[i]) and (done.confidence[:, [*WRISTS, *LEFT]] > 0).all()
    first, second = steady_all(signs, rests)[:2]
    np.testing.assert_array_equal(first.coordinates[26:, LEFT], first.coordinates[[25] * 4][:, LEFT])
    np.testing.assert_array_equal(second.coordinates[:5, LEFT], other.coordinates[[5] * 5][:, LEFT])


def _bridged_one_by_one(pose: Pose) -> Pose:
    """What `bridge` of one sign is, gap by gap."""
    coordinates, confidence = pose.coordinates.copy(), pose.confidence.copy()
    for wrist, elbow, hand in zip(WRISTS, ELBOWS, (LEFT, RIGHT), strict=True):
        for joint in (elbow, wrist, *(one for one in hand if one != wrist)):
            for start, end in gaps(pose.confidence[:, joint] > 0):
                if start > 0 and end < len(pose):
                    around = slice(start - 1, end + 1)
                    carried = joint in hand and (confidence[around, wrist] > 0).all()
                    by = coordinates[around, wrist] if carried else 0 * coordinates[around, wrist]
                    own = coordinates[around, joint] - by
                    share = np.linspace(0, 1, end - start + 2)[:, None]
                    coordinates[around, joint] = by + own[0] + share * (own[-1] - own[0])
                    confidence[start:end, joint] = min(confidence[start - 1, joint], confidence[end, joint])
    return Pose(coordinates, confidence, pose.fps)


def test_signs_are_bridged_as_gap_by_gap():
    """Holes anywhere: wrists too, so that some hands are carried and some are not, and joints that are never seen."""
    rng, signs = np.random.default_rng(0), []
    for frames in (1, 2, 7, 30):
        sign = _sign(frames, frames)
        hidden = rng.random((4, *sign.confidence.shape)) < np.array([0.05, 0.3, 0.7, 0.95])[:, None, None]
        moved = sign.coordinates + rng.normal(0, 0.1, sign.coordinates.shape).astype(np.float32)
        confidence = rng.uniform(0.1, 1, sign.confidence.shape).astype(np.float32)
        signs += [Pose(moved, np.where(one, 0, confidence).astype(np.float32), sign.fps) for one in hidden]
    bridged, end = bridge(Pose.joined(signs), [len(sign) for sign in signs]), 0
    for sign in signs:
        alone, done = _bridged_one_by_one(sign), bridged.slice(end, end := end + len(sign))
        np.testing.assert_allclose(done.coordinates, alone.coordinates, atol=1e-6)
        np.testing.assert_array_equal(done.confidence, alone.confidence)


def test_a_far_way_takes_a_human_time():
    near, far = _pose(3, 0.0), _pose(3, 3.2)
    assert transition_seconds(near, near, least=0.25) == 0.25
    assert transition_seconds(near, far, least=0.25) == pytest.approx(1.875 * 3.2 / 6.0)
    unseen = _without(far, WRISTS)
    assert transition_seconds(near, unseen, least=0.25) == 0.25
    assert timeline([near, far, near], [0.3, 0.5], 10.0)[0].tolist() == [[0, 3], [6, 9], [14, 17]]


@pytest.mark.parametrize("heights", [
    [-1.2, -1.1, -0.7, -0.1, 0.2, 0.1, -0.1, -0.3, -0.5, -0.5, -0.5, -1.2],
    [-1.3, -0.9, -0.5, -0.5, -0.75, -0.75, -1.0, -1.3],
    [-1.4, -1.2, 0.3, -1.3, 0.1, -0.6, -0.7],
    [-0.7, -0.3, 0.0, 0.0, -0.1],
])  # fmt: skip
def test_trimming_what_is_trimmed_changes_nothing(heights):
    pose = _rising(heights)
    once = trim(pose)
    assert 2 < len(once) < len(pose)
    assert len(trim(once)) == len(once)


def test_a_house_a(samples):
    """Real letters that show one arm, around a real sign of two: nothing pops or jerks, and trimming is final."""
    files = [samples / "pose/asl-variants/colin-1-HOUSE.pose", samples / "pose/asl-variants/colin-SAD.pose"]
    letter = next(iter(sorted((samples / "lexicon/fingerspelling/ase").glob("*.pose"))))
    signs = []
    for file in (letter, *files):
        sign = trim(clean(skeleton.normalise(pose_file.read(file))[0]))
        assert len(trim(sign)) == len(sign)
        signs.append(resample(sign, round(len(sign) / sign.fps * 25), fps=25.0))
    letter, house, sad = signs
    assert not letter.confidence[:, WRISTS[0]].any()  # its other arm is out of the picture
    for segments in ([letter, house, letter], [sad, house, sad]):
        pose, spans = join(segments, 0.25)
        assert (pose.confidence[:, [*WRISTS, *LEFT, *RIGHT]] > 0).all()
        for wrist in WRISTS:
            acceleration = np.pad(_acceleration(pose, wrist), 1)
            inside = np.concatenate([acceleration[start + 2 : end - 2] for start, end in spans]).mean()
            last, first = spans[:-1, 1] - 1, spans[1:, 0]  # frames of the signs at the seams
            assert acceleration[[*last, *(last + 1), *(first - 1), *first]].mean() < 2 * inside
