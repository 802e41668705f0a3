"""OpenPose's JSON, DWPose, .skels and SLRTP: joints, units and what is missing by hand; round trips; real samples."""

import gzip
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats import dwpose, openpose_json, skels, slrtp
from signer_jax.pose.formats.clip import Clip
from signer_jax.types import Pose

DATA = os.environ.get("SIGNER_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="SIGNER_DATA is unset: no real samples")
I = skeleton.INDEX


def clip(frames: int = 3, axes: int = 2, unit: str = clips.PIXELS, scale: float = 300) -> Clip:
    rng = np.random.default_rng(0)
    xy = rng.normal(0, 1, (frames, 128, axes)).astype(np.float32) * np.float32(scale)
    confidence = rng.uniform(0.1, 1, (frames, 128)).astype(np.float32)
    confidence[1, 30:50] = 0
    if frames > 2:
        confidence[2] = 0
    return Clip("a clip", Pose(xy * (confidence[..., None] > 0), confidence, 24.0), unit, (480, 640))


def same(found: Pose, pose: Pose) -> None:
    np.testing.assert_array_equal(found.coordinates, pose.coordinates)
    np.testing.assert_array_equal(found.confidence, pose.confidence)


# ---- OpenPose --------------------------------------------------------------------------------------------------------


def openpose_person(shift: float = 0.0, confidence: float = 0.5) -> dict:
    """Every point i of a part at (i + shift, 100 + i)."""
    parts = {"pose": 25, "face": 70, "hand_left": 21, "hand_right": 21}
    return {
        f"{part}_keypoints_2d": [v for i in range(n) for v in (i + shift + 1, 100 + i, confidence)]
        for part, n in parts.items()
    }


def openpose_folder(folder: Path, frames: list[list[dict]], name: str = "x", first: int = 0) -> Path:
    folder.mkdir()
    for i, people in enumerate(frames, start=first):
        (folder / f"{name}_{i:012d}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": people}))
    return folder


def test_openpose_joints_by_hand(tmp_path):
    one = openpose_person()
    one["pose_keypoints_2d"][3 * 9 : 3 * 10] = [0, 0, 0]  # the right hip
    one["face_keypoints_2d"][2] = 1.06
    found = openpose_json.read(openpose_folder(tmp_path / "x", [[one]]), 24.0)
    pose = found.pose
    assert found.unit == clips.PIXELS and pose.fps == 24 and pose.coordinates.shape == (1, 128, 2)
    # BODY_25: 8 is the middle of the hips, 10 the right knee, 15 the right eye, 18 the left ear.
    assert pose.coordinates[0, I["right_knee"]].tolist() == [11, 110]
    assert pose.coordinates[0, I["right_eye"]].tolist() == [16, 115]
    assert pose.coordinates[0, I["left_ear"]].tolist() == [19, 118]
    assert pose.coordinates[0, I["face_67"]].tolist() == [68, 167]
    assert pose.coordinates[0, I["left_hand_pinky_4"]].tolist() == [21, 120]
    assert pose.confidence[0, I["right_hip"]] == 0 and (pose.coordinates[0, I["right_hip"]] == 0).all()
    assert pose.confidence[0, I["face_0"]] == 1


def test_several_people_nobody_and_files_that_are_missing(tmp_path):
    """A file's number is its frame's place: those before the first file are missing, too."""
    weak, strong = openpose_person(500, 0.2), openpose_person(0, 0.9)
    folder = openpose_folder(tmp_path / "x", [[weak, strong], [], [strong], [strong]], first=3)
    next(iter(sorted(folder.glob("*_000000000005_*")))).unlink()
    found = openpose_json.read(folder, 25.0)
    assert len(found.pose) == 7 and found.pose.coordinates[3, 0, 0] == 1
    assert (found.pose.confidence.sum(1) > 0).tolist() == [False, False, False, True, False, False, True]
    assert found.beyond is not None and not found.lost
    assert found.beyond.said == "the middle of the hips, the feet and the pupils, which the 128 joints lack"
    assert found.beyond.points[3, 0].tolist() == [9, 108, np.float32(0.9)] and not found.beyond.points[0].any()
    assert found.remarks == (
        "4 of 7 frames have no file: confidence 0",
        "1 of 7 frames show several people: one was followed",
        "1 of 7 frames show nobody: confidence 0",
    )


@pytest.mark.parametrize(("first", "of", "frames"), [
    (0, 0, 5), (0, 9, 5), (1, 0, 5), (1, 5, 5), (1, 6, 6), (1, 4, 5), (2, 0, 7), (2, 7, 7),
])  # fmt: skip
def test_openposes_frames_that_are_numbered_from_1(tmp_path, first, of, frames):
    """Without a video from 1 where that is the first number; beside one by how many frames it has."""
    found = openpose_json.read(openpose_folder(tmp_path / "x", [[openpose_person()]] * 5, first=first), 25.0, of)
    assert len(found.pose) == frames and not found.pose.confidence[: frames - 5].any()
    from_one = [remark for remark in found.remarks if getattr(remark, "kind", "") == clips.COUNTED]
    assert from_one == ([openpose_json.FROM_ONE] if first == 1 and frames == 5 else [])


def test_one_of_two_people_is_followed(tmp_path):
    """Whoever is the more confident of a frame, which may change at each."""
    one, other = ([openpose_person(shift, sure) for sure in (0.8, 0.9)] for shift in (0, 500))
    frames = [[one[1], other[0]], [other[1], one[0]], [], [other[1], one[0]], [one[0], other[1]]]
    found = openpose_json.read(openpose_folder(tmp_path / "x", frames), 25.0)
    assert found.pose.coordinates[:, 0, 0].tolist() == [1, 1, 0, 1, 1]
    one = openpose_person()
    one["face_keypoints_2d"][:2] = [1e38, 1e38]
    with pytest.raises(SignerError, match="beyond 1e"):
        openpose_json.read(openpose_folder(tmp_path / "far", [[one, one], [one, one]]), 25.0)
    one, other = ([dwpose_person(shift, sure) for sure in (0.8, 0.9)] for shift in (0.0, 2.0))
    for person in one + other:  # who is no line
        person["face_keypoints"][0][1] = 0.9
    pairs = [(one[1], other[0]), (other[1], one[0]), (one[0], other[1])]
    frames = [{"num_persons": 2, "person_0": first, "person_1": second} for first, second in pairs]
    (tmp_path / "json").mkdir()
    for i, frame in enumerate(frames, start=2):
        (tmp_path / "json" / f"{i:08d}.json").write_text(json.dumps(frame))
    (tmp_path / "all.json").write_text(json.dumps(frames))
    folder, file = dwpose.read(tmp_path / "json", 25.0), dwpose.read(tmp_path / "all.json", 25.0)
    np.testing.assert_allclose(file.pose.coordinates[:, 0, 0], 0.01)
    np.testing.assert_array_equal(folder.pose.coordinates[1:], file.pose.coordinates)
    assert not folder.pose.confidence[0].any()  # DWPose counts from 1
    for i in (0, 1):
        (tmp_path / "json" / f"{i:08d}.json").write_text('{"num_persons": 0}')
    assert len(dwpose.read(tmp_path / "json", 25.0).pose) == 5  # unless there is a 0
    (tmp_path / "json" / "3.json").write_text('{"num_persons": 0}')
    with pytest.raises(SignerError, match="has two files of frame 3"):
        dwpose.read(tmp_path / "json", 25.0)


def test_openpose_round_trip_is_exact(tmp_path):
    given = clip()
    said = openpose_json.write(tmp_path / "out", given)
    same(openpose_json.read(tmp_path / "out", 24.0).pose, given.pose)
    assert said == ["the frame rate of 24", "the picture's size"]
    deep = clip(axes=3)
    assert openpose_json.write(tmp_path / "deep", deep) == ["depth", *said]


def test_what_the_joints_lack_comes_back_in_openposes_json(tmp_path):
    """Feet, the middle of the hips and pupils of whoever is followed; and what no target holds is told as lost."""
    one, other = openpose_person(), openpose_person(500, 0.2)
    one["pose_keypoints_2d"][3 * 8 : 3 * 9] = [0, 0, 0.7]  # not found, whatever it says
    bare = {**other, "face_keypoints_2d": one["face_keypoints_2d"][: 3 * 68], "pose_keypoints_2d": []}
    folder = openpose_folder(tmp_path / "x", [[other, one], [one], [], [bare]])
    found = openpose_json.read(folder, 25.0)
    said = openpose_json.write(tmp_path / "y", found)
    several = "1 of 4 frames show several people: one was followed"
    assert said == ["confidences of 2 points at x = y = 0", several, "the frame rate of 25"]
    frames = [json.loads(file.read_text())["people"] for file in sorted((tmp_path / "y").glob("x_*"))]
    one["pose_keypoints_2d"][3 * 8 : 3 * 9] = [0, 0, 0]
    parts = [f"{part}_keypoints_2d" for part in ("pose", "face", "hand_left", "hand_right")]
    for shown in frames[:2]:
        assert [shown[0][part] for part in parts] == [one[part] for part in parts]
    assert not frames[2] and frames[3][0]["face_keypoints_2d"][3 * 68 :] == [0] * 6
    for kind in ("npz", "json"):
        told = dwpose.write(tmp_path / f"z.{kind}", replace(found, size=(480, 640)), kind)
        assert told[:3] == [openpose_json.LEFT_OUT, *said[:2]]
    one["pose_keypoints_3d"] = [1, 2, 3, 0.5]
    one["hand_left_keypoints_2d"][2::3] = [1.25] * 21
    one |= {"person_id": [7], "gaze": 0.5, "nothing": []}
    found = openpose_json.read(openpose_folder(tmp_path / "deep", [[one]]), 25.0)
    assert found.lost == ("fields beside those of the format (gaze, person_id, pose_keypoints_3d)",)
    assert openpose_json.write(tmp_path / "deeper", found)[:1] == list(found.lost)
    (file,) = (tmp_path / "deeper").glob("*_keypoints.json")
    assert json.loads(file.read_text())["people"][0]["hand_left_keypoints_2d"] == one["hand_left_keypoints_2d"]


@pytest.mark.parametrize(("name", "data", "says"), [
    ("a_000000000000_keypoints.json", '{"people": [{"pose_keypoints_2d": [1, 2]}]}', "not a whole frame"),
    ("a_000000000000_keypoints.json", '{"people": [{"pose_keypoints_2d": [' + "1e9," * 74 + "1]}]}", "beyond 1e"),
    ("a_000000000000_keypoints.json", '{"people": []}', "no frame shows anybody"),
    ("a_000000000000_keypoints.json", '{"people": [', "not a whole frame"),
    ("a_keypoints.json", "{}", "holds no file such as"),
])  # fmt: skip
def test_openpose_faults_are_one_line(tmp_path, name, data, says):
    (tmp_path / name).write_text(data)
    with pytest.raises(SignerError, match=says):
        openpose_json.read(tmp_path, 25.0)
    (tmp_path / "b_000000000001_keypoints.json").write_text("{}")
    (tmp_path / "a_000000000009_keypoints.json").write_text("{}")
    with pytest.raises(SignerError, match="frames of several clips"):
        openpose_json.read(tmp_path, 25.0)


def test_no_frame_rate_is_one_line(tmp_path):
    folder = openpose_folder(tmp_path / "x", [[openpose_person()]])
    with pytest.raises(SignerError, match=r"says nothing of the frame rate; give it with --fps"):
        openpose_json.read(folder, None)


# ---- DWPose ----------------------------------------------------------------------------------------------------------


def dwpose_person(shift: float = 0.0, score: float = 0.5) -> dict:
    parts = {"body": 18, "face": 68, "left_hand": 21, "right_hand": 21}
    person = {}
    for part, n in parts.items():
        person[f"{part}_keypoints"] = [[(i + 1) / 100 + shift, 0.5] for i in range(n)]
        person[f"{part}_scores"] = [float(i) for i in range(n)] if part == "body" else [score] * n
    person["body_scores"][9] = -1.0
    person["face_scores"][0] = 1.08
    return person


def test_dwpose_scores_of_a_body_are_indices(tmp_path):
    frame = {"num_persons": 2, "person_0": dwpose_person(0.2, 0.3), "person_1": dwpose_person(0.0, 0.9)}
    (tmp_path / "00000001.json").write_text(json.dumps(frame))
    found = dwpose.read(tmp_path, 25.0)
    pose = found.pose
    assert found.unit == clips.SHARES and found.remarks[0].startswith("1 of 1 frames show several people")
    assert pose.confidence[0, I["nose"]] == 1 and pose.confidence[0, I["left_ear"]] == 1
    assert pose.confidence[0, I["right_knee"]] == 0 and (pose.coordinates[0, I["right_knee"]] == 0).all()
    assert pose.confidence[0, I["face_0"]] == 1 and pose.confidence[0, I["face_1"]] == np.float32(0.9)
    np.testing.assert_array_equal(pose.coordinates[0, I["right_hand_thumb_1"]], np.float32([0.02, 0.5]))


def test_the_three_files_of_dwpose_say_the_same(tmp_path):
    """As `np.savez` and `np.save` write them, and the detector's own arrays of two people."""
    arrays = {name: np.array(values) for name, values in dwpose_person().items()}
    for kind in dwpose.KINDS:
        (tmp_path / kind).mkdir()
    (tmp_path / "json" / "00000001.json").write_text(json.dumps({"num_persons": 1, "person_0": dwpose_person()}))
    np.savez(tmp_path / "npz" / "00000001.npz", num_persons=1, person_0=arrays)
    np.save(tmp_path / "npy" / "00000001.npy", {"num_persons": 1, "person_0": arrays})
    poses = [dwpose.read(tmp_path / kind, 25.0).pose for kind in dwpose.KINDS]
    for pose in poses[1:]:
        same(pose, poses[0])
    two = [dwpose_person(0.3, 0.1), dwpose_person()]

    def of(part: str) -> list:
        return [person[f"{part}"] for person in two]

    packed = tmp_path / "own.npz"
    np.savez_compressed(
        packed, bodies=np.concatenate(of("body_keypoints")), body_scores=np.array(of("body_scores")),
        hands=np.array([*of("left_hand_keypoints"), *of("right_hand_keypoints")]),
        hands_scores=np.array([*of("left_hand_scores"), *of("right_hand_scores")]),
        faces=np.array(of("face_keypoints")), faces_scores=np.array(of("face_scores")),
    )  # fmt: skip
    same(dwpose.read(packed, 25.0).pose, poses[0])


@pytest.mark.parametrize("kind", dwpose.KINDS)
@pytest.mark.parametrize("frames", [1, 3])
def test_dwpose_round_trip_is_exact(tmp_path, kind, frames):
    given = clip(max(frames, 2), unit=clips.SHARES, scale=1)
    given.pose.confidence[:, :18] = given.pose.confidence[:, :18] > 0.2
    given.pose.coordinates[given.pose.confidence == 0] = 0
    for place in (tmp_path / kind, tmp_path / f"x.{kind}"):
        assert dwpose.write(place, given, kind) == ["the frame rate of 24", "the picture's size"]
        same(dwpose.read(place, 24.0).pose, given.pose)


def test_confidences_of_a_body_are_told_as_lost(tmp_path):
    said = dwpose.write(tmp_path / "x.json", clip(unit=clips.SHARES, scale=1), "json")
    assert said[0].startswith("confidences of the body")


def test_a_hostile_npy_is_one_line(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.system, ("touch never",)

    np.save(tmp_path / "a.npy", np.array({"num_persons": Bomb()}, object), allow_pickle=True)
    with pytest.raises(SignerError, match=r"a\.npy: no whole DWPose results \(its pickle would run 'posix system'"):
        dwpose.read(tmp_path / "a.npy", 25.0)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bodies.npy", bytes(1 << 28))
    with pytest.raises(SignerError, match="unpacks to more than 32 MB"):
        dwpose.read(tmp_path / "a.npz", 25.0)


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("harm", [False, True])
def test_a_zip_that_is_packed_otherwise_is_one_line(tmp_path, packing, harm):
    for name, member in (("a.npz", "bodies.npy"), ("a.pt", "dev/data.pkl")):
        with zipfile.ZipFile(tmp_path / name, "w", packing) as archive:
            archive.writestr(member, bytes(10_000))
        if harm:  # behind the member's header and lzma's own
            data = bytearray((tmp_path / name).read_bytes())
            data[30 + len(member) + 9 : 30 + len(member) + 14] = b"\xff" * 5
            (tmp_path / name).write_bytes(data)
    said = "packed otherwise than by deflate"
    with pytest.raises(SignerError, match=rf"a\.npz: no whole DWPose results \('bodies\.npy' is {said}\); "):
        dwpose.read(tmp_path / "a.npz", 25.0)
    with pytest.raises(SignerError, match=rf"a\.pt: no whole SLRTP dictionary \('dev/data\.pkl' is {said}\); "):
        list(slrtp.read(tmp_path / "a.pt"))


# ---- .skels ----------------------------------------------------------------------------------------------------------


def skels_line(frames: int, layout: str, *, right: float = -0.2, decimals: int = 5) -> str:
    """Joint i of frame f at (i / 100, 0.1, f / 100) but for the shoulders, which lie apart by twice `right`."""
    words = []
    for f in range(frames):
        values = [(i / 100, 0.1, (f + 1) / 100) for i in range(50)]
        values[1], values[2], values[5] = (0, 0, 0), (right, 0.1, 0), (-right, 0.1, 0)
        counter = (f + 1) / frames if layout == skels.V1 else f / frames
        words += [f"{v:.{decimals}f}" for xyz in values for v in xyz] + [f"{counter:.5f}"]
    return " ".join(words)


def read_skels(path: Path, text: str) -> list[Clip]:
    path.write_text(text)
    return list(skels.read(path, 25.0))


def test_progressive_joints_and_scale(tmp_path):
    (found,) = read_skels(tmp_path / "a.skels", skels_line(3, skels.PROGRESSIVE) + "\n")
    pose = found.pose
    assert found.layout == skels.PROGRESSIVE and found.name == "a-1"
    assert pose.confidence[:, I["neck"]].all() and (pose.coordinates[:, I["neck"]] == 0).all()  # its place
    np.testing.assert_allclose(pose.coordinates[2, I["right_elbow"]], [0.09, 0.3, -0.09], atol=1e-6)
    np.testing.assert_allclose(pose.coordinates[0, I["left_hand_wrist_root"]], [0.24, 0.3, -0.03], atol=1e-6)
    np.testing.assert_allclose(pose.coordinates[0, I["right_hand_pinky_4"]], [1.47, 0.3, -0.03], atol=1e-6)
    assert pose.confidence[0, I["face_0"]] == 0 and pose.confidence[0, I["right_eye"]] == 0


def test_sides_are_those_of_a_signer_who_is_seen_from_the_front(tmp_path):
    (found,) = read_skels(tmp_path / "a.skels", skels_line(3, skels.PROGRESSIVE, right=0.2) + "\n")
    np.testing.assert_allclose(found.pose.coordinates[0, I["left_shoulder"]], [0.6, 0.3, 0], atol=1e-6)
    np.testing.assert_allclose(found.pose.coordinates[0, I["right_hand_wrist_root"]], [0.24, 0.3, -0.03], atol=1e-6)


def test_version_1_has_its_own_scale_counter_and_gaps(tmp_path):
    line = skels_line(2, skels.V1).split(" ")
    line[12:15] = ["0.01600"] * 3  # the right wrist of the first frame
    (found,) = read_skels(tmp_path / "a.skels", " ".join(line))
    assert found.layout == skels.V1
    assert found.pose.confidence[:, I["right_wrist"]].tolist() == [0, 1]
    assert (found.pose.coordinates[0, I["right_wrist"]] == 0).all()
    np.testing.assert_allclose(found.pose.coordinates[1, I["right_wrist"]], [0.36, 0.9, 0.18], atol=1e-6)


def skels_2025(frames: int) -> str:
    words = []
    for f in range(frames):
        body = [(i + 1) / 100 for i in range(34)] + [-1.0, -1.0]
        scores = [float(i) for i in range(17)] + [-1.0]
        hands, faces = [(i + 1) / 1000 for i in range(84)], [(i + 1) / 1000 for i in range(136)]
        values = [*body, *scores, *hands, *([0.25] * 21), *([0.75] * 21), *faces, *([0.5] * 67), 1.5]
        words += [f"{v:.5f}" for v in [*values, f / max(frames - 1, 1)]]
    return " ".join(words)


def test_version_2025_joints_scores_and_blank_lines(tmp_path):
    first, second = read_skels(tmp_path / "a.skels", f"{skels_2025(3)}\n\n{skels_2025(1)}\n \n")
    assert not first.lost and not first.remarks and first.scores is not None and first.sure.max() == 1.5
    assert second.lost == ("2 blank lines, the first line 2: sequences without poses",)
    pose = first.pose
    assert first.unit == clips.SHARES and second.name == "a-3" and len(pose) == 3
    assert pose.confidence[0, I["left_ear"]] == 0 and pose.confidence[0, I["right_ear"]] == 1
    np.testing.assert_allclose(pose.coordinates[0, I["neck"]], [0.03, 0.04])
    np.testing.assert_allclose(pose.coordinates[0, I["right_hand_wrist_root"]], [0.043, 0.044])
    assert pose.confidence[0, I["left_hand_wrist_root"]] == 0.25
    assert pose.confidence[0, I["right_hand_wrist_root"]] == 0.75
    assert pose.confidence[0, I["face_67"]] == 1


@pytest.mark.parametrize("text", [
    skels_line(3, skels.PROGRESSIVE), skels_line(3, skels.PROGRESSIVE, right=0.2), skels_line(4, skels.V1),
    skels_line(4, skels.V1, right=0.1), skels_2025(3).replace("1.50000", "1.00000"),
], ids=["progressive", "progressive, other side", "version 1", "version 1, other side", "2025"])  # fmt: skip
def test_skels_round_trip_to_their_decimals(tmp_path, text):
    (tmp_path / "a.files").write_text("dev/x\n")
    (tmp_path / "a.gloss").write_text("HOUSE OLD\n")
    count, said = skels.write(tmp_path / "b.skels", iter(read_skels(tmp_path / "a.skels", text + "\n")))
    again = (tmp_path / "b.skels").read_text()
    size = 385 if len(text.split()) % 385 == 0 else 151
    expected, found = text.split(), again.split()
    assert count == 1 and said[-1] == "the frame rate of 25"
    for i, (a, b) in enumerate(zip(expected, found, strict=True)):
        assert a == b or (i % size == size - 1 and abs(float(a) - float(b)) < 1e-4) or float(a) == float(b) == 0, i
    assert (tmp_path / "b.gloss").read_text() == "HOUSE OLD\n" and (tmp_path / "b.files").read_text() == "dev/x\n"


@pytest.mark.parametrize("harm", [
    lambda line: line[:-9], lambda line: " ".join(line.split()[:302]), lambda line: line.replace("0.1", "a.1", 1),
    lambda line: " ".join(line.split()[:-1]), lambda line: "",
], ids=["a number", "a frame", "a letter", "a counter", "all"])  # fmt: skip
def test_a_cut_line_is_one_line(tmp_path, harm):
    with pytest.raises(SignerError, match=r"a\.skels: .*download or extract it again"):
        read_skels(tmp_path / "a.skels", harm(skels_line(3, skels.PROGRESSIVE)))


# ---- SLRTP -----------------------------------------------------------------------------------------------------------


def sentences(dtype=np.float32) -> dict:
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(4, 178, 3)).astype(dtype)
    poses[1, 2] = 0
    entry = {"text": "es regnet", "gloss": "REGEN", "speaker": "Signer01"}
    return {name: {"name": name, **entry, "poses_3d": poses + i} for i, name in enumerate(("a/1", "b"))}


def test_slrtp_joints_by_hand(tmp_path):
    given = sentences()
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(given))
    (tmp_path / "a.gz").write_bytes(gzip.compress(pickle.dumps(given)))
    first, second = slrtp.read(tmp_path / "a.pkl")
    same(next(slrtp.read(tmp_path / "a.gz")).pose, first.pose)
    points, pose = given["a/1"]["poses_3d"], first.pose
    assert (first.name, first.text, first.gloss, first.speaker, pose.fps) == (
        "a/1", "es regnet", "REGEN", "Signer01", 25.0,
    )  # fmt: skip
    for joint, place in (("right_shoulder", 0), ("left_elbow", 4), ("left_hip", 7), ("right_hand_wrist_root", 8),
                         ("left_hand_wrist_root", 29), ("left_hand_pinky_4", 49)):  # fmt: skip
        np.testing.assert_array_equal(pose.coordinates[0, I[joint]], points[0, place])
    np.testing.assert_allclose(pose.coordinates[0, I["neck"]], (points[0, 0] + points[0, 3]) / 2, rtol=1e-6)
    assert pose.confidence[1, I["right_wrist"]] == 0 and not pose.confidence[:, I["face_0"]].any()
    assert second.name == "b" and second.beyond is not None and second.beyond.said == slrtp.FACE
    np.testing.assert_array_equal(second.beyond.points, given["b"]["poses_3d"][:, 50:])


@pytest.mark.parametrize("ending", [".pkl", ".gz"])
def test_slrtp_round_trip_is_exact(tmp_path, ending):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(sentences()))
    count, said = slrtp.write(tmp_path / f"b{ending}", slrtp.read(tmp_path / "a.pkl"))
    assert (count, said) == (2, [])
    written = (tmp_path / f"b{ending}").read_bytes()
    kept = pickle.loads(gzip.decompress(written) if ending == ".gz" else written)
    for name, entry in sentences().items():  # the face too, which has no place on the body
        np.testing.assert_array_equal(kept[name]["poses_3d"], entry["poses_3d"])
    for ours, theirs in zip(slrtp.read(tmp_path / f"b{ending}"), slrtp.read(tmp_path / "a.pkl"), strict=True):
        same(ours.pose, theirs.pose)
        assert (ours.name, ours.text, ours.gloss, ours.speaker) == (theirs.name, theirs.text, theirs.gloss, "Signer01")


def test_what_a_dictionary_holds_beside_the_formats_fields_is_told(tmp_path):
    given = sentences()
    given["b"] |= {"gloss": ["REGEN"], "weather": "rain"}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(given))
    lost = ["a gloss that is no text", "fields beside those of the format (weather)"]
    assert slrtp.write(tmp_path / "b.pkl", slrtp.read(tmp_path / "a.pkl")) == (2, lost)
    _, said = skels.write(tmp_path / "b.skels", slrtp.read(tmp_path / "a.pkl"))
    assert said[0] == slrtp.FACE and {*lost, "signers' names"} <= set(said)


def test_slrtp_holds_no_two_sequences_of_one_name(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(sentences()))
    with pytest.raises(SignerError, match=r"b\.pkl: two sequences are named 'a/1'; give each a name of its own"):
        slrtp.write(tmp_path / "b.pkl", [*slrtp.read(tmp_path / "a.pkl"), *slrtp.read(tmp_path / "a.pkl")])
    assert not (tmp_path / "b.pkl").exists()


@pytest.mark.parametrize("value", [
    {}, [1], {"a": 1}, {"a": {"poses_3d": np.zeros((3, 17, 3))}}, {"a": {"poses_3d": np.zeros((0, 178, 3))}},
    {"a": {"poses_3d": np.zeros((3, 178, 3))}}, {"a": {"poses_3d": [1.0]}},
    {"a": {"poses_3d": np.full((3, 178, 3), 1e30)}},
], ids=range(8))  # fmt: skip
def test_what_is_no_dictionary_is_one_line(tmp_path, value):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(SignerError, match=r"a\.pkl: .*; "):
        list(slrtp.read(tmp_path / "a.pkl"))


def test_a_hostile_dictionary_is_one_line(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"cos\nsystem\n(S'touch never'\ntR.")
    with pytest.raises(SignerError, match=r"a\.pkl: no whole SLRTP dictionary \(its pickle would run 'os system'"):
        list(slrtp.read(tmp_path / "a.pkl"))
    (tmp_path / "b.gz").write_bytes(gzip.compress(bytes(1 << 27)))
    with pytest.raises(SignerError, match="unpacks to more than 64 MB"):
        list(slrtp.read(tmp_path / "b.gz"))


def test_what_torch_saves_is_read_without_torch(tmp_path):
    """The zip of `torch.save`, written here by hand: a pickle whose tensors lie in files of their own."""
    values = np.random.default_rng(0).normal(size=(2, 178, 3)).astype("<f4")
    packed = (
        b"\x80\x02}X\x01\x00\x00\x00a}X\x08\x00\x00\x00poses_3dctorch._utils\n_rebuild_tensor_v2\n"
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuM\x2c\x04tQ"
        b"K\x00K\x02K\xb2K\x03\x87M\x16\x02K\x03K\x01\x87\x89ccollections\nOrderedDict\n)RtRss."
    )
    with zipfile.ZipFile(tmp_path / "dev.pt", "w") as archive:
        archive.writestr("dev/data.pkl", packed)
        archive.writestr("dev/data/0", values.tobytes())
        archive.writestr("dev/version", "3\n")
    (found,) = slrtp.read(tmp_path / "dev.pt")
    np.testing.assert_array_equal(found.pose.coordinates[:, I["left_elbow"]], values[:, 4])


# ---- Real samples ----------------------------------------------------------------------------------------------------


@needs_data
def test_the_three_real_copies_of_a_clip_are_one():
    folder = Path(DATA) / "dwpose/human_signer/results_dwpose"
    poses = [dwpose.read(folder / kind, 25.0).pose for kind in dwpose.KINDS]
    assert len(poses[0]) == 135 and poses[0].coordinates.max() < 1
    for pose in poses[1:]:
        same(pose, poses[0])


@needs_data
def test_real_clips_are_whole_people():
    wlasl = dwpose.read(Path(DATA) / "dwpose/wlasl_01214/results_dwpose/npz", 25.0).pose
    folder = next((Path(DATA) / "how2sign/sentence_level/val/rgb_front/features/openpose_output/json").iterdir())
    for pose in (wlasl, openpose_json.read(folder, 24.0).pose):
        assert (pose.confidence[:, [I["nose"], I["neck"], I["left_shoulder"], I["right_shoulder"]]] > 0).all()
        assert (pose.coordinates[:, I["right_shoulder"], 0] < pose.coordinates[:, I["left_shoulder"], 0]).all()
        for side in ("left", "right"):  # a hand lies at its own wrist
            away = np.linalg.norm(
                pose.coordinates[:, I[f"{side}_wrist"]] - pose.coordinates[:, I[f"{side}_hand_wrist_root"]], axis=-1
            )
            width = np.abs(pose.coordinates[:, I["left_shoulder"], 0] - pose.coordinates[:, I["right_shoulder"], 0])
            assert np.median(away / width) < 0.3


@needs_data
@pytest.mark.parametrize("split", ["train", "dev"])
def test_real_skels_come_back_byte_by_byte(tmp_path, split):
    folder = Path(DATA) / "skels"
    skels.write(tmp_path / f"{split}.skels", skels.read(folder / f"{split}.skels", 25.0))
    for ending in (".skels", ".files", ".text", ".gloss"):
        theirs = (folder / f"{split}{ending}").read_text(encoding="utf-8").strip().splitlines()
        ours = (tmp_path / f"{split}{ending}").read_text(encoding="utf-8").splitlines()
        assert [line.strip() for line in ours] == [line.strip() for line in theirs]
