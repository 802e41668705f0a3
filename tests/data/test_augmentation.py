"""Examples changed at random: pose and picture by one draw, so that the drawn pose is the changed drawing."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from signer_jax import configuration
from signer_jax.data import augmentation, streams
from signer_jax.data.windows import Limits, MotionWindows
from signer_jax.pose import skeleton
from signer_jax.pose.rasterise import rasterise
from signer_jax.slp_moe.experts import candidate_features
from signer_jax.types import Pose, Sample
from signer_jax.validation import read

OFF = read(configuration.load("default")).data.augment
JOINTS = skeleton.SUBSETS["signing_74"]
MIRROR = augmentation.mirror_permutation(JOINTS)
NONE = augmentation.drawn(np.random.default_rng(0), OFF)
ALL = replace(OFF, mirror=0.5, speed=0.3, turn=10.0, grow=0.2, shift=0.1)


def signer(frames: int = 1) -> np.ndarray:
    """Joints of somebody whose right hand is up; a frame further, all have moved on."""
    rng = np.random.default_rng(1)
    points = np.zeros((len(JOINTS), 2))
    for place, middle in {"right_hand": (-0.5, -0.3), "left_hand": (0.45, 0.7), "face": (0.1, -0.6)}.items():
        joints = [i for i, name in enumerate(JOINTS) if name.startswith(place)]
        points[joints] = middle + rng.uniform(-0.2, 0.2, (len(joints), 2))
    for name, place in {"right_shoulder": (-0.5, 0), "left_shoulder": (0.5, 0), "right_elbow": (-0.8, 0.5),
                        "left_elbow": (0.7, 0.6), "right_wrist": (-0.5, -0.2), "left_wrist": (0.45, 0.6),
                        "nose": (0.1, -0.5), "right_eye": (0.0, -0.6), "left_eye": (0.2, -0.6),
                        "right_ear": (-0.1, -0.55), "left_ear": (0.3, -0.55)}.items():  # fmt: skip
        points[JOINTS.index(name)] = place
    return (points + np.linspace(0, 0.2, frames)[:, None, None] * [1.0, 0.5]).astype(np.float32)


def picture(points: np.ndarray, size: tuple[int, int], width: float = 1.0) -> np.ndarray:
    """The right arm and hand red, the left ones green, all else blue: what the joints' names make of a pose. Lines are
    `width` times as wide as usual.
    """
    groups = [(name, limbs, width * half) for name, limbs, half in skeleton.limb_groups(JOINTS)]
    drawn = np.asarray(rasterise(points[None], np.ones((1, len(JOINTS)), np.float32), groups, size, softness=1.0))[0]
    channel = np.array([0 if name.startswith("right") else 1 if name.startswith("left") else 2 for name, *_ in groups])
    return np.stack([255 * drawn[..., channel == k].max(axis=-1) for k in range(3)], axis=-1).round().astype(np.uint8)


def change(**values) -> augmentation.Change:
    angle, size = np.deg2rad(values.pop("turn", 0.0)), values.pop("grow", 1.0)
    matrix = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return NONE._replace(matrix=matrix, **{name: np.array(v) if name == "shift" else v for name, v in values.items()})


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (160, 96)])
@pytest.mark.parametrize(
    "made",
    [
        change(mirrored=True),
        change(turn=12.0),
        change(shift=[0.2, -0.1]),
        change(grow=1.2),
        change(mirrored=True, turn=-8.0, grow=0.9, shift=[-0.1, 0.15]),
    ],
    ids=["mirrored", "turned", "shifted", "grown", "all"],
)
def test_the_changed_pose_draws_the_changed_picture(made, size):
    points, seen = signer()[0], np.ones(len(JOINTS), np.float32)
    drawn = picture(points, size)
    moved, _ = augmentation.on_points(points, seen, made, MIRROR)
    wanted = picture(moved, size, np.sqrt(np.linalg.det(made.matrix)))
    found = augmentation.on_pictures(drawn[None], made)[0]
    if made.mirrored:  # the colours are the joints' names, and the red hand in the mirror is a left one
        found = found[..., [1, 0, 2]]
    off, before = (np.abs(one.astype(float) - wanted).mean() / wanted.mean() for one in (found, drawn))
    assert off < 0.13 < 0.4 < before


def test_a_mirror_swaps_the_sides_and_twice_is_as_before():
    full = augmentation.mirror_permutation(skeleton.JOINTS)
    for joints in skeleton.SUBSETS.values():
        mirror = augmentation.mirror_permutation(joints)
        np.testing.assert_array_equal(mirror[mirror], np.arange(len(joints)))
    pairs = {"left_wrist": "right_wrist", "nose": "nose", "left_hand_ring_2": "right_hand_ring_2",
             "face_8": "face_8", "face_0": "face_16", "face_17": "face_26", "face_30": "face_30", "face_31": "face_35",
             "face_36": "face_45", "face_37": "face_44", "face_41": "face_46", "face_48": "face_54",
             "face_51": "face_51", "face_57": "face_57", "face_58": "face_56", "face_60": "face_64",
             "face_67": "face_65"}  # fmt: skip
    assert {name: skeleton.JOINTS[full[skeleton.INDEX[name]]] for name in pairs} == pairs
    pose, seen = signer(3), np.random.default_rng(0).integers(0, 2, (3, len(JOINTS))).astype(np.float32)
    pose *= seen[..., None]
    once = augmentation.on_points(pose, seen, change(mirrored=True), MIRROR)
    twice = augmentation.on_points(*once, change(mirrored=True), MIRROR)
    np.testing.assert_array_equal(twice[0], pose)
    np.testing.assert_array_equal(twice[1], seen)
    assert (once[0][..., JOINTS.index("left_wrist"), 0] == -pose[..., JOINTS.index("right_wrist"), 0]).all()


def test_nothing_is_changed_where_all_is_off():
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 12, 3)).astype(np.uint8)
    np.testing.assert_array_equal(augmentation.on_pictures(frames, NONE), frames)
    np.testing.assert_array_equal(augmentation.at_speed(frames, 1, 4, NONE), frames[[1, 2, 2, 2]])
    points, _ = augmentation.on_points(signer(4), np.ones((4, len(JOINTS))), NONE, MIRROR)
    np.testing.assert_array_equal(points, signer(4))
    assert augmentation.frames_needed(7, NONE) == 7
    assert not augmentation.is_on(OFF) and augmentation.is_on(replace(OFF, shift=0.1))


def test_what_is_not_seen_stays_nowhere():
    seen = np.ones(len(JOINTS), np.float32)
    seen[3] = 0
    points, kept = augmentation.on_points(signer()[0] * seen[:, None], seen, change(shift=[1.0, 1.0]), MIRROR)
    assert not points[3].any() and not kept[3] and points[4].any()


def test_a_speed_passes_over_pose_and_pictures_alike():
    """Frame i shows i: at twice and at two thirds of the speed."""
    video = np.arange(12, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    for speed, wanted in ((2.0, [1, 3, 5, 7]), (2 / 3, [1, 1 + 2 / 3, 1 + 4 / 3, 3])):
        made = change(speed=speed)
        needed = augmentation.frames_needed(4, made)
        frames = 1 + np.arange(needed, dtype=np.float32)
        window = {
            "pose": frames[:, None, None] * np.ones((needed, len(JOINTS), 2), np.float32),
            "confidence": np.ones((needed, len(JOINTS)), np.float32),
            "frame_gloss": frames[:, None], "valid": frames <= 3, "last": np.array(2, np.int32),
        }  # fmt: skip
        window["candidates"], window["candidate_confidence"] = window["pose"][None] * 2, window["confidence"][None]
        found = augmentation.on_window(window, made, 4, MIRROR)
        np.testing.assert_allclose(found["pose"][:, 0, 0], wanted, atol=1e-6)
        np.testing.assert_allclose(found["candidates"][0, :, 5, 1], 2 * np.array(wanted), atol=1e-6)
        shown = augmentation.at_speed(video, 1, 4, made)[:, 0, 0, 0]
        assert (np.abs(shown - np.array(wanted)) <= 0.5).all()
        np.testing.assert_array_equal(found["frame_gloss"][:, 0], np.round(wanted))
        np.testing.assert_array_equal(found["valid"], np.round(wanted) <= 3)
        assert found["last"] == (1 if speed == 2 else 3) and found["pose"].shape == (4, len(JOINTS), 2)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_candidates_features_are_those_of_the_changed_candidate(dims):
    made = change(mirrored=True, turn=20.0, grow=1.3, shift=[0.2, 0.1])
    points = np.concatenate([signer(6), np.random.default_rng(2).normal(size=(6, len(JOINTS), 1))], axis=2)[..., :dims]
    seen = np.ones((6, len(JOINTS)), np.float32)
    seen[:, 4], seen[2, 6] = 0, 0
    points = (points * seen[..., None]).astype(np.float32)
    features = candidate_features(Pose(points, seen, 16.0))[None, None]
    wanted = candidate_features(Pose(*augmentation.on_points(points, seen, made, MIRROR), 16.0))
    np.testing.assert_allclose(augmentation.on_features(features, made, MIRROR, dims)[0, 0], wanted, atol=1e-5)


def test_colours_by_hand():
    frames = np.array([[[[100, 100, 100], [200, 100, 0]]]], np.uint8)
    brighter, plain, grey = (
        augmentation.on_pictures(frames, NONE._replace(colours=np.array(factors)))[0, 0]
        for factors in ((1.5, 1, 1), (1, 0, 1), (1, 1, 0))
    )
    np.testing.assert_array_equal(brighter, [[150, 150, 150], [255, 150, 0]])
    assert (plain[0] == plain[0, 0]).all() and abs(int(plain[0, 0]) - (100 + 118.5) / 2) <= 1
    np.testing.assert_array_equal(grey, [[100] * 3, [118] * 3])


def test_signs_that_may_not_be_mirrored_are_not():
    asked = replace(OFF, mirror=1.0, not_mirrored=("LINKS", "scho\u0308n"))
    assert augmentation.may_mirror(["RECHTS"], asked) and augmentation.may_mirror([], asked)
    assert not augmentation.may_mirror(["HAUS", "LINKS"], asked) and not augmentation.may_mirror(["sch\u00f6n"], asked)
    rng = np.random.default_rng(0)
    assert augmentation.drawn(rng, asked).mirrored and not augmentation.drawn(rng, asked, may_mirror=False).mirrored


class Motions:
    """Motions of which the second has a gloss that may not be mirrored."""

    def __init__(self):
        pose = np.zeros((9, len(skeleton.JOINTS), 3), np.float32)
        pose[:, skeleton.INDEX["right_wrist"], 0] = -1
        self.pose = Pose(pose, np.ones(pose.shape[:2], np.float32), 16.0)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return Sample(f"s{index}", "", "ase", ("HOUSE", "LEFT")[index : index + 1], pose=self.pose)

    def posed(self, sample, index):
        return sample.pose


def poses(augment, rows=None):
    windows = MotionWindows(Motions(), skeleton.subset("signing_74"), 2, Limits(4, 4, 2))
    return streams.pose_batches(windows, 4, streams.Reading(4, 3, 1, 2, rows), augment=augment)


GREY = np.array([0.299, 0.587, 0.114], np.float32)


def test_colours_take_little_more_than_the_clip():
    frames = np.random.default_rng(0).integers(0, 255, (60, 64, 64, 3)).astype(np.uint8)
    colours = np.array([1.1, 0.8, 1.2], np.float32)
    values = frames.astype(np.float32) * colours[0]
    mean = (values @ GREY).mean()
    values = (values - mean) * colours[1] + mean
    grey = (values @ GREY)[..., None]
    tracemalloc.start()
    made = augmentation.on_pictures(frames, NONE._replace(colours=colours))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1.5 * frames.nbytes
    wanted = np.clip(np.rint((values - grey) * colours[2] + grey), 0, 255).astype(np.int64)
    assert np.abs(made - wanted).max() <= 1 and (made != wanted).mean() < 1e-3  # a sum in another order


def test_a_stream_draws_anew_each_epoch_and_goes_on_exactly():
    found = poses(ALL)
    seen = [next(found)["pose"] for _ in range(4)]
    assert len({one.tobytes() for batch in seen for one in batch}) == 16
    first = poses(ALL)
    next(first)
    other = poses(ALL, rows=(1, 3))
    other.set_state(first.get_state())
    np.testing.assert_array_equal(next(other)["pose"], seen[1][[1, 3]])
    plain = poses(None)
    assert {one.tobytes() for batch in (next(plain)["pose"] for _ in range(3)) for one in batch} == {
        seen_once.tobytes() for seen_once in next(poses(None))["pose"]
    }  # nine frames that stand still


def test_a_stream_mirrors_only_what_may_be():
    found = poses(replace(OFF, mirror=1.0, not_mirrored=("LEFT",)))
    right = JOINTS.index("right_wrist")
    wrists = np.concatenate([next(found)["pose"][:, 0, right, 0] for _ in range(2)])
    assert sorted(wrists) == [-1] * 4 + [0] * 4  # in the mirrored ones the left wrist has moved, to +1
