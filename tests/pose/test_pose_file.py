"""The .pose reader and writer: round trip, layouts written here point by point, damage, real files."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from pose_format import Pose as PoseFile
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file
from signer_jax.types import Pose

DATA = os.environ.get("SIGNER_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="SIGNER_DATA is unset: no real samples")
SIDES = ("right", "left")
BODY_178 = [f"{side}_{part}" for part in ("SHOULDER", "ELBOW", "WRIST", "HIP") for side in ("LEFT", "RIGHT")]


def _pose(axes: int = 3, frames: int = 5) -> Pose:
    rng = np.random.default_rng(0)
    coordinates = rng.normal(0, 300, (frames, 128, axes)).astype(np.float32)
    confidence = rng.uniform(0.1, 1, (frames, 128)).astype(np.float32)
    confidence[1, 40:60] = 0
    return Pose(coordinates * (confidence[..., None] > 0), confidence, 24.0)


def _save(path: Path, components: dict[str, list[str]], data: np.ndarray, confidence: np.ndarray) -> None:
    """A v0.2 file with the given components; data [t, people, points, c]."""
    point_format = "XYZ"[: data.shape[-1]] + "C"
    parts = [PoseHeaderComponent(name, points, [], [(0, 0, 0)], point_format) for name, points in components.items()]
    header = PoseHeader(0.2, PoseHeaderDimensions(100, 100, 0), parts)
    with path.open("wb") as file:
        PoseFile(header, NumPyPoseBody(25.0, data.astype(np.float32), confidence.astype(np.float32))).write(file)


def _line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("axes", [2, 3])
def test_round_trip_is_exact(tmp_path, axes):
    pose = _pose(axes)
    pose_file.write(tmp_path / "a.pose", pose)
    back = pose_file.read(tmp_path / "a.pose")
    assert back.fps == pose.fps and back.coordinates.dtype == np.float32
    np.testing.assert_array_equal(back.coordinates[..., :axes], pose.coordinates)
    np.testing.assert_array_equal(back.confidence, pose.confidence)
    assert (back.coordinates[..., axes:] == 0).all()
    assert [file.name for file in tmp_path.iterdir()] == ["a.pose"]


def test_the_library_opens_what_is_written(tmp_path):
    pose = _pose()
    pose_file.write(tmp_path / "a.pose", pose, size=(640, 480))
    opened = PoseFile.read((tmp_path / "a.pose").read_bytes())
    assert round(opened.header.version, 3) == 0.2
    assert (opened.header.dimensions.width, opened.header.dimensions.height) == (640, 480)
    names = [point for component in opened.header.components for point in component.points]
    assert names == list(skeleton.JOINTS)
    assert all(len(c.limbs) == len(c.colors) for c in opened.header.components if c.limbs)
    np.testing.assert_array_equal(opened.body.data.filled(0)[:, 0], pose.coordinates)


@pytest.mark.parametrize("frames", [0, 3])
@pytest.mark.parametrize("axes", [2, 3])
def test_the_bytes_are_those_that_the_formats_library_writes(tmp_path, axes, frames):
    pose = _pose(axes).slice(0, frames)
    pose_file.write(tmp_path / "ours.pose", pose, size=(640, 480))
    header = PoseHeader(0.2, PoseHeaderDimensions(640, 480, 0), pose_file._components("XYZ"[:axes] + "C"))
    coordinates = pose.coordinates + np.float32(0)  # without a zero below zero
    with (tmp_path / "theirs.pose").open("wb") as file:
        PoseFile(header, NumPyPoseBody(pose.fps, coordinates[:, None], pose.confidence[:, None])).write(file)
    assert (tmp_path / "ours.pose").read_bytes() == (tmp_path / "theirs.pose").read_bytes()


def test_holistic_178_by_names(tmp_path):
    # Components and points in an unusual order, and two people: names decide, the first person is taken.
    ibug = {*pose_file.MESH_OF_IBUG[:27], *pose_file.MESH_OF_IBUG[36:], 234, 454}  # without the nose
    mesh = [str(i) for i in sorted(ibug, reverse=True)]
    hand = list(pose_file._HOLISTIC_HAND)
    components = {
        "RIGHT_HAND_LANDMARKS": hand, "FACE_LANDMARKS": mesh, "POSE_LANDMARKS": BODY_178, "LEFT_HAND_LANDMARKS": hand,
    }  # fmt: skip
    points = [(component, point) for component, names in components.items() for point in names]
    data = np.zeros((2, 2, len(points), 3))
    data[:, 0] = np.arange(len(points) * 3).reshape(-1, 3) + 1
    data[:, 1] = -5
    confidence = np.full(data.shape[:3], 0.9)
    confidence[1, 0, points.index(("RIGHT_HAND_LANDMARKS", "WRIST"))] = 0
    _save(tmp_path / "a.pose", components, data, confidence)
    pose = pose_file.read(tmp_path / "a.pose")

    def at(component, point):
        return data[0, 0, points.index((component, point))]

    def joint(name):
        return pose.coordinates[0, skeleton.INDEX[name]]

    np.testing.assert_allclose(joint("left_elbow"), at("POSE_LANDMARKS", "LEFT_ELBOW"))
    shoulders = [at("POSE_LANDMARKS", f"{side}_SHOULDER") for side in ("LEFT", "RIGHT")]
    np.testing.assert_allclose(joint("neck"), np.mean(shoulders, 0))
    np.testing.assert_allclose(joint("left_hand_index_4"), at("LEFT_HAND_LANDMARKS", "INDEX_FINGER_TIP"))
    np.testing.assert_allclose(joint("right_hand_pinky_1"), at("RIGHT_HAND_LANDMARKS", "PINKY_MCP"))
    np.testing.assert_allclose(joint("face_8"), at("FACE_LANDMARKS", "152"))
    np.testing.assert_allclose(joint("right_ear"), at("FACE_LANDMARKS", "234"))
    between = (joint("right_eye") + joint("left_eye")) / 2
    np.testing.assert_allclose(joint("nose"), between + 0.55 * (at("FACE_LANDMARKS", "0") - between), rtol=1e-5)
    assert pose.confidence[1, skeleton.INDEX["right_hand_wrist_root"]] == 0
    assert (pose.coordinates[1, skeleton.INDEX["right_hand_wrist_root"]] == 0).all()
    assert (pose.confidence[:, [skeleton.INDEX[f"face_{i}"] for i in range(27, 36)]] == 0).all()
    assert pose.confidence[0, skeleton.INDEX["right_knee"]] == 0


def test_depth_is_in_pixels_as_the_rest(tmp_path):
    """MediaPipe's z is in widths of the picture, here 100 pixels; poses that were moved since stay as they are."""
    data = np.random.default_rng(0).uniform(1, 90, (2, 1, 8, 3))
    data[..., 2] /= -100
    for name, given, expected in (("raw", data, data * [1, 1, 100]), ("moved", data + 50, data + 50)):
        _save(tmp_path / f"{name}.pose", {"POSE_LANDMARKS": BODY_178}, given, np.ones((2, 1, 8)))
        pose, has = pose_file.read_with_layout(tmp_path / f"{name}.pose")
        left = skeleton.INDEX["left_elbow"]
        np.testing.assert_allclose(pose.coordinates[:, left], expected[:, 0, 2], rtol=1e-5)
        shown = {skeleton.JOINTS[i] for i in np.flatnonzero(has)}
        sides = {f"{side}_{part}" for side in SIDES for part in ("shoulder", "elbow", "wrist", "hip")}
        assert shown == {"neck", *sides}
    # Ours are what they are.
    pose = _pose()
    pose_file.write(tmp_path / "ours.pose", Pose(pose.coordinates / 300, pose.confidence, 24.0), size=(640, 480))
    np.testing.assert_array_equal(pose_file.read(tmp_path / "ours.pose").coordinates, pose.coordinates / 300)


def test_non_finite_points_are_missing(tmp_path):
    data = np.ones((1, 1, 8, 3))
    data[0, 0, 0, 1] = np.nan
    _save(tmp_path / "a.pose", {"POSE_LANDMARKS": BODY_178}, data, np.ones((1, 1, 8)))
    pose = pose_file.read(tmp_path / "a.pose")
    assert pose.confidence[0, skeleton.INDEX["left_shoulder"]] == 0 and np.isfinite(pose.coordinates).all()
    assert pose.confidence[0, skeleton.INDEX["right_shoulder"]] == 1
    assert pose.confidence[0, skeleton.INDEX["neck"]] == 0  # one shoulder has no middle


@pytest.mark.parametrize(("name", "data", "says"), [
    ("a.json", b'{"people":[{"pose_keypoints_2d":[1,2,0.5]}]}', "OpenPose's JSON.*signer convert FOLDER OUT.pose"),
    ("b.json", b'{"person_0": {"body_keypoints": [[0.5, 0.4]]}}', r"DWPose results \(json\); `signer convert IN"),
    ("c.json", b'[1, 2]', "JSON; give a .pose file"),
    ("a.skels", b"-0.02429 -0.17005 0.00118 0.00000 0 0 0.16 0.08 -5e-05 0.2 0.1\n", r"\.skels.*convert IN\.skels"),
    ("a.mp4", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2", "a video; compare videos with `signer score video`"),
    ("a.txt", b"Ein Text\nwie jeder\n", "text; compare texts with `signer score text`"),
    ("a.pose", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    ("b.pose", b"<!DOCTYPE html><html>404</html>", "a web page"),
])  # fmt: skip
def test_other_formats_are_named(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SignerError, match=rf"{name}: no \.pose file but .*{says}") as error:
        pose_file.read(tmp_path / name)
    _line(error)


def test_numpy_files_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", num_persons=1, person_0=np.zeros(3))
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(SignerError, match=r"no \.pose file but DWPose results \(npz\)"):
        pose_file.read(tmp_path / "a.npz")
    with pytest.raises(SignerError, match=r"no \.pose file but numpy's \.npy; give a \.pose file"):
        pose_file.read(tmp_path / "a.npy")


def test_unknown_layout(tmp_path):
    _save(tmp_path / "a.pose", {"TENTACLES": ["a", "b"]}, np.ones((1, 1, 2, 2)), np.ones((1, 1, 2)))
    with pytest.raises(SignerError) as error:
        pose_file.read(tmp_path / "a.pose")
    assert "TENTACLES (2)" in _line(error) and "a.pose" in _line(error)


def test_missing_file(tmp_path):
    with pytest.raises(SignerError) as error:
        pose_file.read(tmp_path / "none.pose")
    assert "none.pose" in _line(error)


def test_every_cut_is_noticed(tmp_path):
    pose_file.write(tmp_path / "a.pose", _pose())
    whole = (tmp_path / "a.pose").read_bytes()
    for length in (0, 3, 9, 200, len(whole) // 2, len(whole) - 4, len(whole) - 1):
        (tmp_path / "b.pose").write_bytes(whole[:length])
        with pytest.raises(SignerError) as error:
            pose_file.read(tmp_path / "b.pose")
        assert "not a whole .pose file" in _line(error)


def test_a_cut_version_01_is_noticed(tmp_path):
    # v0.1 counts frames by the bytes left: cut in the middle it would read confidences as coordinates.
    pose = _pose()
    pose_file.write(tmp_path / "a.pose", pose)
    whole = (tmp_path / "a.pose").read_bytes()
    numbers = pose.coordinates.size + pose.confidence.size
    header = whole[4 : len(whole) - 4 * numbers - struct.calcsize("<fIH")]
    old = struct.pack("<f", 0.1) + header + struct.pack("<HHH", 24, 5, 1) + whole[len(whole) - 4 * numbers :]
    (tmp_path / "old.pose").write_bytes(old)
    np.testing.assert_array_equal(pose_file.read(tmp_path / "old.pose").coordinates, pose.coordinates)
    row = 4 * numbers // 5
    for changed in (old[:-40], old[:-row], old + old[-row:], old + b"\0"):  # whole frames fewer or more: too
        (tmp_path / "cut.pose").write_bytes(changed)
        with pytest.raises(SignerError, match="not a whole"):
            pose_file.read(tmp_path / "cut.pose")


def _bytes(version: float, components: dict[str, list[str]], body: bytes, form: str = "XYC") -> bytes:
    def text(name: str) -> bytes:
        return struct.pack("<H", len(name)) + name.encode()

    parts = [
        text(name) + text(form) + struct.pack("<HHH", len(points), 0, 0) + b"".join(map(text, points))
        for name, points in components.items()
    ]
    return struct.pack("<fHHHH", version, 100, 100, 0, len(components)) + b"".join(parts) + body


SHOULDERS = {"pose_keypoints_2d": ["RShoulder", "LShoulder"]}


def _message(tmp_path: Path, data: bytes) -> str:
    (tmp_path / "a.pose").write_bytes(data)
    with pytest.raises(SignerError, match=r"a\.pose") as error:
        pose_file.read(tmp_path / "a.pose")
    return _line(error)


def test_version_00_takes_the_first_person_and_frames_without_one(tmp_path):
    first, second = np.array([[1, 2, 0.5], [3, 4, 1]], "<f4"), np.full((2, 3), 9, "<f4")
    people = struct.pack("<HHHh", 24, 2, 2, 7) + first.tobytes() + struct.pack("<h", 8) + second.tobytes()
    whole = _bytes(0.0, SHOULDERS, people + struct.pack("<H", 0))
    (tmp_path / "a.pose").write_bytes(whole)
    pose = pose_file.read(tmp_path / "a.pose")
    where = [skeleton.INDEX["right_shoulder"], skeleton.INDEX["left_shoulder"]]
    np.testing.assert_array_equal(pose.coordinates[0, where, :2], first[:, :2])
    np.testing.assert_array_equal(pose.confidence[:, where], [[0.5, 1], [0, 0]])
    assert pose.fps == 24
    for cut in range(len(whole) - 1, 0, -7):
        assert "not a whole" in _message(tmp_path, whole[:cut])
    assert "bytes follow" in _message(tmp_path, whole + b"\0\0")


def test_what_a_file_claims_costs_no_memory(tmp_path):
    import tracemalloc

    points = [str(i) for i in range(4000)]
    person = struct.pack("<Hh", 1, 0) + bytes(4 * 3 * len(points))
    empty = _bytes(0.0, {"a": points}, struct.pack("<HH", 24, 65535) + person + bytes(2 * 65534))
    claims = _bytes(0.2, {"a": points}, struct.pack("<fIH", 25, 2**32 - 1, 65535) + bytes(999))
    for data in (empty, claims):
        (tmp_path / "a.pose").write_bytes(data)
        tracemalloc.start()
        with pytest.raises(SignerError, match="not a whole"):
            pose_file.read(tmp_path / "a.pose")
        assert tracemalloc.get_traced_memory()[1] < 20 * len(data)
        tracemalloc.stop()


def test_version_02_has_exactly_the_bytes_of_its_frames(tmp_path):
    pose_file.write(tmp_path / "a.pose", _pose())
    whole = (tmp_path / "a.pose").read_bytes()
    assert "bytes of values" in _message(tmp_path, whole + bytes(4 * 128 * 4))


@pytest.mark.parametrize("fps", [float("nan"), float("inf"), -25.0, 0.0, 0.001, 1e9])
def test_impossible_frame_rates_are_refused(tmp_path, fps):
    values = np.ones((3, 1, 2, 3), "<f4").tobytes()
    assert "frames a second" in _message(tmp_path, _bytes(0.2, SHOULDERS, struct.pack("<fIH", fps, 3, 1) + values))


def test_impossible_coordinates_are_refused_by_name(tmp_path):
    pose = _pose()
    pose.coordinates[3, skeleton.INDEX["left_elbow"], 1] = -2e6
    pose_file.write(tmp_path / "a.pose", pose)
    line = _message(tmp_path, (tmp_path / "a.pose").read_bytes())
    assert "'left_elbow' of 'BODY'" in line and "frame 3" in line


def test_names_that_occur_twice_are_refused(tmp_path):
    values = struct.pack("<fIH", 25, 1, 1) + np.ones((4, 3), "<f4").tobytes()
    assert "'a' occurs twice" in _message(tmp_path, _bytes(0.2, {"x": ["a", "b", "c", "a"]}, values))
    one = _bytes(0.2, {"x": ["a", "b"], "y": ["a", "b"]}, values)
    (tmp_path / "a.pose").write_bytes(one)
    with pytest.raises(SignerError, match="unknown pose layout"):  # in two components they are two points
        pose_file.read(tmp_path / "a.pose")
    assert "component 'x' occurs twice" in _message(tmp_path, one.replace(b"\x01\0y", b"\x01\0x"))


def test_a_point_at_the_corner_is_missing(tmp_path):
    data = np.ones((1, 1, 8, 3))
    data[0, 0, 2, :2], data[0, 0, 3, 0] = 0, 0
    _save(tmp_path / "a.pose", {"POSE_LANDMARKS": BODY_178}, data, np.ones((1, 1, 8)))
    pose = pose_file.read(tmp_path / "a.pose")
    assert pose.confidence[0, skeleton.INDEX["left_elbow"]] == 0
    assert pose.confidence[0, skeleton.INDEX["right_elbow"]] == 1  # on the edge only
    ours = _pose()
    ours.coordinates[:, skeleton.INDEX["neck"]] = 0  # where it lies in a normalised pose
    pose_file.write(tmp_path / "b.pose", ours)
    np.testing.assert_array_equal(pose_file.read(tmp_path / "b.pose").confidence, ours.confidence)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.pose")
    with pytest.raises(SignerError, match="no regular file"):
        pose_file.read(tmp_path / "a.pose")


@needs_data
def test_values_are_those_of_the_formats_library():
    from signer_jax.pose.formats import pose_layout

    files = sorted(Path(DATA).rglob("*.pose"))
    assert len(files) >= 70
    for file in files:
        ours, theirs = pose_layout.parse(file.read_bytes()), PoseFile.read(file.read_bytes())
        np.testing.assert_array_equal(ours.values, np.asarray(theirs.body.data.data, np.float32)[:, 0])
        np.testing.assert_array_equal(ours.confidence, np.asarray(theirs.body.confidence, np.float32)[:, 0])
        assert ours.fps == theirs.body.fps


@pytest.mark.parametrize("version", [0.0, 0.1, 0.2])
def test_a_copy_of_what_is_damaged_is_whole_or_one_line(tmp_path, version):
    """Of 100 harmed files each is refused, and nothing stands there, or its copy has what it has."""
    from fuzz import files

    from signer_jax.pose.formats import pose_layout

    rng = np.random.default_rng(0)
    whole = files.pose_bytes(version, 3, people=2)
    refused = 0
    for _ in range(100):
        data = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.2 else whole)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        (tmp_path / "a.pose").write_bytes(data)
        (tmp_path / "b.pose").unlink(missing_ok=True)
        try:
            pose_file.copy(tmp_path / "a.pose", tmp_path / "b.pose")
        except SignerError as error:
            assert "\n" not in str(error) and not (tmp_path / "b.pose").exists()
            refused += 1
            continue
        ours, theirs = (pose_layout.parse((tmp_path / f"{name}.pose").read_bytes()) for name in "ba")
        assert ours.names == theirs.names and ours.fps == theirs.fps and ours.version == 0.2
        for one, other in zip(pose_layout.everybody(ours), pose_layout.everybody(theirs), strict=True):
            np.testing.assert_array_equal(one, other)
    assert 20 < refused < 80


def test_random_bytes_are_refused(tmp_path):
    (tmp_path / "a.pose").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(SignerError) as error:
        pose_file.read(tmp_path / "a.pose")
    _line(error)


def test_write_refuses_a_subset_and_a_missing_folder(tmp_path):
    with pytest.raises(SignerError, match="128 joints"):
        pose_file.write(tmp_path / "a.pose", Pose(np.zeros((1, 50, 3)), np.zeros((1, 50)), 25.0))
    (tmp_path / "file").write_text("")
    with pytest.raises(SignerError, match="cannot be written"):
        pose_file.write(tmp_path / "file" / "a.pose", _pose())


@needs_data
@pytest.mark.parametrize(
    ("name", "frames", "fps", "whole_face"),
    [
        ("pose/holistic-v0.1.pose", 170, 24, False),
        ("pose/openpose-137.pose", 93, 24, True),
        ("pose/asl-variants/colin-1-HOUSE.pose", 93, 30.10, True),
        ("autsl/signer0_sample1000.pose", 43, 30, True),
        ("stitching/train_1_original.pose", 70, 25, False),
    ],
)
def test_real_layouts_show_a_person(name, frames, fps, whole_face):
    raw = pose_file.read(Path(DATA) / name)
    assert len(raw) == frames and raw.fps == pytest.approx(fps, abs=0.01)
    pose, _, _ = skeleton.normalise(raw)
    middle = {}
    for i, joint in enumerate(skeleton.JOINTS):
        seen = pose.confidence[:, i] > 0
        middle[joint] = np.median(pose.coordinates[seen, i, :2], 0) if seen.any() else None
    assert middle["right_shoulder"][0] < 0 < middle["left_shoulder"][0]  # the signer's right is on the picture's left
    assert middle["right_eye"][0] < middle["nose"][0] < middle["left_eye"][0]
    assert middle["right_ear"][0] < middle["right_eye"][0] and middle["left_eye"][0] < middle["left_ear"][0]
    assert middle["nose"][1] < middle["face_8"][1] < 0.1  # y down: nose above chin above shoulders
    for brow, eye in (("face_19", "face_37"), ("face_24", "face_44")):
        assert middle[brow][1] < middle[eye][1] < middle["face_48"][1]
    assert middle["face_36"][0] < middle["face_39"][0] < middle["face_42"][0] < middle["face_45"][0]
    assert middle["face_51"][1] < middle["face_57"][1]
    assert (middle["face_30"] is not None) == whole_face
    for side in SIDES:
        if middle[f"{side}_hand_wrist_root"] is not None and middle[f"{side}_wrist"] is not None:
            seen = (
                pose.confidence[:, [skeleton.INDEX[f"{side}_hand_wrist_root"], skeleton.INDEX[f"{side}_wrist"]]] > 0
            ).all(1)
            root, wrist = (
                pose.coordinates[seen, skeleton.INDEX[f"{side}_{p}"], :2] for p in ("hand_wrist_root", "wrist")
            )
            assert np.median(np.linalg.norm(root - wrist, axis=-1)) < 0.2


@pytest.mark.parametrize("repeated", [False, True])
def test_sixty_thousand_names_are_looked_through_at_once(repeated):
    """Which name occurs twice was found in time that grows with their square: minutes for these."""
    from signer_jax.pose.formats.pose_layout import Broken, twice

    names = [f"p{i}" for i in range(60000)]
    if repeated:
        with pytest.raises(Broken, match="the point 'p59999' occurs twice"):
            twice([*names, "p59999"], "point")
    else:
        twice(names, "point")


def test_more_points_than_any_layout_has_are_not_named(tmp_path):
    """A layout of a million took fifteen times its bytes."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value)) + value.encode()

    names = b"".join(text(f"{i:x}") for i in range(60_000))
    parts = [text(f"c{k}") + text("XYC") + struct.pack("<HHH", 60_000, 0, 0) + names for k in range(2)]
    values = struct.pack("<fIH", 25.0, 1, 1) + bytes(12 * 120_000)
    (tmp_path / "a.pose").write_bytes(struct.pack("<fHHHH", 0.2, 640, 480, 0, 2) + b"".join(parts) + values)
    with pytest.raises(SignerError, match="names more than 100000 points"):
        pose_file.read(tmp_path / "a.pose")


@pytest.mark.parametrize("form", ["YXC", "XZC", "XYYC", "ABC"])
def test_axes_of_another_order_are_refused(tmp_path, form):
    pose_file.write(tmp_path / "a.pose", Pose(np.ones((2, 128, len(form) - 1)), np.ones((2, 128)), 25.0))
    data = (tmp_path / "a.pose").read_bytes()
    known = "XYZC" if len(form) == 4 else "XYC"
    assert data.count(known.encode()) == 4
    (tmp_path / "a.pose").write_bytes(data.replace(known.encode(), form.encode()))
    with pytest.raises(SignerError, match="has the point format"):
        pose_file.read(tmp_path / "a.pose")
