"""Every pair of formats: from a kind to itself nothing is changed, and what another cannot hold is told, each thing."""

import gzip
import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from pose_format import Pose as PoseFile

from signer_jax import pickles
from signer_jax.cli.convert import read
from signer_jax.cli.main import main
from signer_jax.pose.formats import dwpose, pose_file
from signer_jax.pose.formats.clip import not_in_float32
from signer_jax.pose.formats.openpose_137 import OpenPose_Components

DATA = os.environ.get("SIGNER_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="SIGNER_DATA is unset: no real samples")
PARTS = {"pose": 25, "face": 70, "hand_left": 21, "hand_right": 21}


def says(capsys, *arguments) -> str:
    """What is dropped."""
    assert main(["convert", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()[-1].removeprefix("dropped: ")


# ---- What each format can hold, in one file --------------------------------------------------------------------------


def openpose(folder: Path, rng: np.random.Generator, first: int = 0, digits: int | None = None) -> Path:
    """Two people, the second more sure; one frame of nobody; one point without confidence; long decimals; fields."""
    folder.mkdir()
    for number in range(first, first + 5):
        people = []
        for k in range(2):
            points = {
                f"{part}_keypoints_2d": np.concatenate(
                    [rng.uniform(1, 900, (n, 2)) + [1000 * k, 0], rng.uniform(0.1, 0.5, (n, 1)) * (1 + 3 * k)], axis=1
                )
                for part, n in PARTS.items()
            }
            points["face_keypoints_2d"][5, 2] = 0
            values = {name: part.ravel().tolist() for name, part in points.items()}
            if digits is not None:
                values = {name: [float(f"{v:.{digits}g}") for v in part] for name, part in values.items()}
            people.append({"person_id": [k + 3], **values, "pose_keypoints_3d": []})
        frame = {"version": 1.3, "people": people if number != first + 2 else [], "part_candidates": [{"0": [1.5]}]}
        (folder / f"a_{number:012d}_keypoints.json").write_text(json.dumps(frame))
    return folder


def whole_body(rng: np.random.Generator, frames: int = 5) -> list[dict]:
    """DWPose's frames of two people: scores above 1, a joint that was taken away, odd scores of a body, fields."""
    made = []
    for _ in range(frames):
        frame: dict = {"num_persons": 2, "seconds": 0.1}
        for k in range(2):
            person = {}
            for part, n in (("body", 18), ("face", 68), ("left_hand", 21), ("right_hand", 21)):
                person[f"{part}_keypoints"] = rng.uniform(0.1, 0.9, (n, 2)).tolist()
                person[f"{part}_scores"] = rng.uniform(0.2, 1.2 + k, n).tolist()
            person["face_scores"][7] = 0.0
            person["left_hand_keypoints"][3] = [-1.0, -1.0]
            frame[f"person_{k}"] = person | {"box": [1, 2, 3.5], "note": "größer"}
        made.append(frame)
    return made


def arrays_of(value):
    """As the detector's own script saves it."""
    if isinstance(value, dict):
        return {name: arrays_of(item) for name, item in value.items()}
    return np.array(value) if isinstance(value, list) else value


def lists_of(value):
    if isinstance(value, dict):
        return {name: lists_of(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [lists_of(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def frames_in(place: Path) -> list[dict]:
    """What lies in DWPose's files, by this project's reader of bytes alone."""
    if place.is_dir():
        files = [path for path in sorted(place.iterdir()) if path.name != "manifest.json"]
        return [frame for file in files for frame in frames_in(file)]
    return lists_of(dwpose._frames(dwpose._value(place)))


def skels_2025(rng: np.random.Generator, frames: int = 4) -> str:
    body = [[*rng.uniform(0.1, 0.9, 36), *range(17), -1] for _ in range(frames)]
    others = [[*rng.uniform(0.1, 0.9, 84), *rng.uniform(0.2, 1.4, 42), *rng.uniform(0.1, 0.9, 136),
               *rng.uniform(0.2, 1.4, 68), t / (frames - 1)] for t in range(frames)]  # fmt: skip
    return " ".join(f"{v:.5f}" for b, o in zip(body, others, strict=True) for v in (*b, *o))


def dictionary(rng: np.random.Generator) -> dict:
    poses = rng.normal(size=(4, 178, 3))
    entry = {"text": "es  regnet\nheute", "gloss": "REGEN", "speaker": "Signer01", "poses_3d": poses}
    return {"a/1": {"name": "otherwise", **entry, "weather": ["rain", 0.5]}}


def pose_of_any_layout(seed: int, people: int) -> bytes:
    """Version 0.0, whose people have numbers; points of OpenPose's names and one more of its own."""
    names = [f"p{i}" for i in range(3)]
    body = list(OpenPose_Components[0].points)
    head = struct.pack("<fHHHH", 0.0, 640, 480, 7, 2)
    for component, points in (("pose_keypoints_2d", body), ("OTHERS", names)):
        head += struct.pack("<H", len(component)) + component.encode() + b"\3\0XYC"
        head += struct.pack("<HHH", len(points), 1, 1)
        head += b"".join(struct.pack("<H", len(point)) + point.encode() for point in points)
        head += struct.pack("<HHHHH", 0, 1, 255, 128, 0)
    rng = np.random.default_rng(seed)
    data = head + struct.pack("<HH", 25, 3)
    for _ in range(3):
        data += struct.pack("<H", people)
        for k in range(people):
            values = rng.uniform(20, 400, (28, 3)).astype("<f4")
            values[:, 2] = rng.uniform(0.1, 1, 28)
            values[4, 2] = 0
            data += struct.pack("<h", 5 + k) + values.tobytes()
    return data


def make_all(folder: Path) -> None:
    rng = np.random.default_rng(7)
    openpose(folder / "openpose", rng)
    (folder / "a.json").write_text(json.dumps(whole_body(rng)))
    (folder / "a.skels").write_text(skels_2025(rng) + "\n \n" + skels_2025(rng, 5) + "\n")
    for ending, line in ((".text", "ein  Satz"), (".gloss", "SATZ"), (".files", "dev/x")):
        (folder / f"a{ending}").write_text(f"{line}\n\n{line}2\n")
    (folder / "one.skels").write_text(skels_2025(rng) + "\n")
    for ending in (".text", ".gloss", ".files"):
        (folder / f"one{ending}").write_text("dev/x\n")
    (folder / "a.pkl").write_bytes(pickle.dumps(dictionary(rng)))
    (folder / "a.pose").write_bytes(pose_of_any_layout(1, 2))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_all(tmp_path)
    return tmp_path


# ---- From a kind to itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["json", "npz", "npy", "b.json", "b.npz", "b.npy"])
@pytest.mark.parametrize("second", ["json", "npz", "npy", "c.json", "c.npz", "c.npy"])
def test_dwpose_to_dwpose_keeps_every_number_name_and_person(folder, capsys, first, second):
    given = json.loads((folder / "a.json").read_text())
    assert says(capsys, "a.json", first) == "nothing"
    assert frames_in(folder / first) == given
    if first != second:
        assert says(capsys, first, second) == "nothing"
        assert frames_in(folder / second) == given
    assert np.array(given[0]["person_0"]["face_keypoints"]).dtype == np.float64


@pytest.mark.parametrize("target", ["b.json", "b.npz", "b.npy", "json", "npz", "npy"])
def test_what_another_project_saved_keeps_its_types(folder, capsys, target):
    """The detector's own arrays, float32 and float64, in one .npz, and frames by name in one .npy."""
    rng = np.random.default_rng(0)
    own = {
        "bodies": rng.uniform(size=(36, 2)).astype(np.float32), "body_scores": np.tile(np.arange(18.0), (2, 1)),
        "hands": rng.uniform(size=(4, 21, 2)), "hands_scores": rng.uniform(size=(4, 21)),
        "faces": rng.uniform(size=(2, 68, 2)), "faces_scores": rng.uniform(size=(2, 68)), "score": 0.1 + 0.2,
    }  # fmt: skip
    np.savez(folder / "own.npz", **own)
    assert says(capsys, "own.npz", target) == "nothing"
    assert frames_in(folder / target) == [lists_of(own)]
    if target == "b.npz":
        assert (folder / target).read_bytes() == (folder / "own.npz").read_bytes()
    named = {f"frame{i}": arrays_of(frame) for i, frame in enumerate(whole_body(rng, 3))}
    np.save(folder / "named.npy", np.array(named, object), allow_pickle=True)
    out = f"n/{target}" if "." in target else target
    (folder / "n").mkdir(exist_ok=True)
    lost = "nothing" if "." in target else "the frames' names"
    assert says(capsys, "named.npy", out, *(["--force"] if (folder / out).exists() else [])) == lost
    assert frames_in(folder / out) == lists_of(list(named.values()))


def test_what_json_has_no_place_for_is_told(folder, capsys):
    frame = arrays_of(whole_body(np.random.default_rng(0), 1)[0]) | {"raw": b"\1\2"}
    np.save(folder / "b.npy", np.array(frame, object), allow_pickle=True)
    assert says(capsys, "b.npy", "c.json") == "raw (bytes, which JSON has none of)"
    assert says(capsys, "b.npy", "c.npz") == "nothing"
    twice = [0.5]
    for _ in range(40):  # a pickle of a few hundred bytes whose parts are named twice each
        twice = [twice, twice]
    np.save(folder / "wide.npy", np.array(frame | {"raw": twice}, object), allow_pickle=True)
    assert main(["convert", "wide.npy", "d.json"]) == 2
    assert "does not fit into .json (it has too many values, each as often as it is named)" in capsys.readouterr().err
    assert not (folder / "d.json").exists()


def test_openposes_json_is_copied_byte_by_byte(folder, capsys):
    (folder / "openpose" / "notes.txt").write_text("mine")
    assert says(capsys, "openpose", "b") == "files that are no frames: 1"
    assert says(capsys, "b", "c", "--fps", "25") == "the frame rate of 25"
    for file in (folder / "openpose").glob("*_keypoints.json"):
        assert (folder / "c" / file.name).read_bytes() == file.read_bytes()
    one = "a_000000000000_keypoints.json"
    assert says(capsys, f"openpose/{one}", "d_000000000003_keypoints.json") == "nothing"
    assert (folder / "d_000000000003_keypoints.json").read_bytes() == (folder / "openpose" / one).read_bytes()
    says(capsys, "openpose", "all.pose", "--fps", "25")
    for many in (["a.json", "--fps", "25", "--size", "480x640"], ["openpose"], ["all.pose"]):
        assert main(["convert", many[0], "e_keypoints.json", *many[1:]]) == 2
        assert "is named as one frame of OpenPose's JSON, which is a folder" in capsys.readouterr().err
        assert not (folder / "e_keypoints.json").exists()


def test_openposes_json_to_pose_and_back_keeps_all_people_and_points(folder, capsys):
    """Six digits, as OpenPose prints them, come back as they were; the person who is followed stands first."""
    rng = np.random.default_rng(3)
    openpose(folder / "six", rng, digits=6)
    lost = says(capsys, "six", "b.pose", "--fps", "25")
    assert lost == "fields beside those of the format (part_candidates, person_id)"
    file = PoseFile.read((folder / "b.pose").read_bytes())
    assert (file.header.dimensions.width, file.header.dimensions.height) == (1000, 1000), "which is taken for unsaid"
    assert file.body.data.shape == (5, 2, 137, 2) and float(np.asarray(file.body.confidence).max()) > 1
    ours, theirs = (next(iter(read(folder / name, 25.0))) for name in ("b.pose", "six"))
    np.testing.assert_array_equal(ours.pose.coordinates[..., :2], theirs.pose.coordinates)
    np.testing.assert_array_equal(ours.pose.confidence, theirs.pose.confidence)
    np.testing.assert_array_equal(ours.sure, theirs.sure)
    says(capsys, "b.pose", "back")
    for number, given in enumerate(sorted((folder / "six").glob("*_keypoints.json"))):
        people = json.loads((folder / "back" / f"b_{number:012d}_keypoints.json").read_text())["people"]
        expected = json.loads(given.read_text())["people"][::-1]  # the second is the surer one
        assert len(people) == len(expected)
        for one, other in zip(people, expected, strict=True):
            for part in PARTS:
                assert one[f"{part}_keypoints_2d"] == other[f"{part}_keypoints_2d"]
    says(capsys, "back", "again.pose", "--fps", "25")
    assert (folder / "again.pose").read_bytes() == (folder / "b.pose").read_bytes()
    assert "the 128 joints lack" in says(capsys, "six", "c.pose", "--fps", "25", "--canonical")


def test_openposes_smaller_bodies_and_faces_have_their_places_in_a_pose(folder, capsys):
    """COCO's 18 points and iBUG's 68, of frames that are numbered from 1."""
    one = {
        "pose_keypoints_2d": [v for i in range(18) for v in (i + 1.0, 100.0 + i, 0.5)],
        "face_keypoints_2d": [v for i in range(68) for v in (i + 1.0, 200.0 + i, 0.75)],
        "hand_left_keypoints_2d": [], "hand_right_keypoints_2d": [],
    }  # fmt: skip
    (folder / "coco").mkdir()
    for number in (1, 2):
        name = f"a_{number:012d}_keypoints.json"
        (folder / "coco" / name).write_text(json.dumps({"people": [one]}))
    assert main(["convert", "coco", "b.pose", "--fps", "25"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "b.pose: 1 sequence, 2 frames", "read: frames are numbered from 1: the first is that of number 1",
        "dropped: nothing",
    ]  # fmt: skip
    body = PoseFile.read((folder / "b.pose").read_bytes()).body
    xy, sure = np.asarray(body.data.data)[1, 0], np.asarray(body.confidence)[1, 0]
    names = OpenPose_Components[0].points
    # COCO's 8 is the right hip, where BODY_25 has the middle of the hips; 14 and 17 are the right eye and the left ear.
    for place, point in ((7, "LWrist"), (8, "RHip"), (13, "LAnkle"), (14, "REye"), (17, "LEar")):
        assert xy[names.index(point)].tolist() == [place + 1, 100 + place] and sure[names.index(point)] == 0.5
    assert not sure[[names.index("MidHip"), names.index("LHeel")]].any()
    assert xy[25 + 67].tolist() == [68, 267] and not sure[25 + 68 :].any()


def test_skels_are_copied_byte_by_byte_with_what_lies_beside(folder, capsys):
    """Blank lines, scores above 1, white space and all."""
    assert says(capsys, "a.skels", "b.skels") == "nothing"
    for ending in (".skels", ".text", ".gloss", ".files"):
        assert (folder / f"b{ending}").read_bytes() == (folder / f"a{ending}").read_bytes()
    (folder / "c.skels").write_bytes((folder / "a.skels").read_bytes())
    assert says(capsys, "c.skels", "b.skels", "--force") == "nothing"
    lines = (folder / "c.skels").read_bytes().count(b"\n")
    assert (folder / "b.text").read_bytes() == b"\n" * lines, "of another file, and as many as there are lines"


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_dictionary_keeps_every_field_and_type(folder, capsys, dtype):
    given = dictionary(np.random.default_rng(1))
    given["a/1"]["poses_3d"] = given["a/1"]["poses_3d"].astype(dtype)
    given["b"] = given["a/1"] | {"gloss": ["REGEN"], "poses_3d": given["a/1"]["poses_3d"].reshape(4, -1)}
    (folder / "b.pkl").write_bytes(pickle.dumps(given))
    for source, target in (("b.pkl", "c.gz"), ("c.gz", "d.pickle")):
        assert says(capsys, source, target) == "nothing"
        data = (folder / target).read_bytes()
        found = pickles.read(gzip.decompress(data) if target.endswith(".gz") else data, 1 << 24)
        assert list(found) == list(given)
        for key, entry in given.items():
            assert lists_of(found[key]) == lists_of(entry)
            assert found[key]["poses_3d"].dtype == dtype
    assert says(capsys, "b.pkl", "e.pkl", "--fps", "30") == "the frame rate of 30"


# ---- From one kind to another: whatever is not there is told ---------------------------------------------------------

# What the sources of `make_all` have, and by which words it is told as dropped.
THINGS = {
    "openpose": {
        "people": "several people", "fields": "fields beside those of the format (part_candidates, person_id)",
        "points": "the middle of the hips, the feet and the pupils", "hidden": "points of confidence 0 lie",
        "digits": "digits that float32",
    },
    "a.json": {
        "people": "several people", "fields": "fields beside those of the format (box, note, seconds)",
        "hidden": "points of confidence 0 lie", "digits": "digits that float32",
        "body": "scores of the body that are not the joints' numbers",
    },
    "one.skels": {"text": "texts", "gloss": "glosses"},
    "a.pkl": {
        "text": "texts", "gloss": "glosses", "speaker": "signers' names", "face": "the face",
        "fields": "fields beside those of the format (weather)", "digits": "digits that float32",
        "name": "a name that is not the sentence's key", "units": "place and scale of the file's own units",
    },
    "a.pose": {
        "people": "2 people: the first was taken", "points": "points, which the 128 joints lack",
        "hidden": "points of confidence 0 lie", "drawn": "limbs and colours", "depth": "the header's depth of 7",
        "numbers": "the people's numbers", "size": "the picture's size",
    },
}  # fmt: skip
HOLDS = {
    "b.pose": {
        "openpose": {"people", "points", "hidden"}, "a.pkl": {"units"},
        "a.pose": {"people", "points", "hidden", "drawn", "depth", "size"},
    },
    "b": {"openpose": set(THINGS["openpose"])},
    "b.npz": {"a.json": set(THINGS["a.json"])},
    "b.skels": {"one.skels": {"text", "gloss"}, "a.pkl": {"text", "gloss"}},
    "b.pkl": {"a.pkl": set(THINGS["a.pkl"]), "one.skels": {"text", "gloss"}},
}  # fmt: skip


@pytest.mark.parametrize("source", THINGS)
@pytest.mark.parametrize("target", HOLDS)
def test_whatever_a_target_cannot_hold_is_told(folder, capsys, source, target):
    if source in ("one.skels", "a.pkl") and target == "b":
        target = "b.json"  # of several sequences a folder is one of .pose
    size = [] if source == "a.pose" else ["--size", "480x640"]
    dropped = says(capsys, source, target, "--fps", "25", *size).split("; ")
    held = HOLDS.get("b" if target == "b.json" else target, {}).get(source, set())
    for thing, words in THINGS[source].items():
        if not (thing == "size" and target in ("b.skels", "b.pkl")):  # "where in the picture", in their words
            told = words in dropped if thing in ("text", "gloss") else any(words in line for line in dropped)
            assert told == (thing not in held), (thing, dropped)


@pytest.mark.parametrize("source", ["openpose", "a.json", "one.skels", "a.pose"])
def test_scores_above_one_stay_where_the_target_has_them(folder, capsys, source):
    (given,) = read(folder / source, 25.0)
    sized = [] if source == "a.pose" else ["--size", "480x640"]
    for target in ("b.pose", "b.npz", "op")[: 2 if source == "one.skels" else 3]:
        says(capsys, source, target, "--fps", "25", *sized)
        (found,) = read(folder / target, 25.0)
        hands = slice(18, None)  # a body's scores are no confidences in DWPose's
        np.testing.assert_array_equal(found.sure[:, hands], given.sure[:, hands])
    assert (source == "a.pose") == (given.scores is None)


def test_five_decimals_of_skels_are_five_in_dwposes_json(folder, capsys):
    """Both have DWPose's points in shares of the picture."""
    dropped = "where 4 points of confidence 0 lie; texts; glosses; the frame rate of 25; the sequence's name"
    assert says(capsys, "one.skels", "b.json", "--fps", "25") == dropped
    values = np.array((folder / "one.skels").read_text().split(), np.float64).reshape(-1, 385)
    for frame, line in zip(frames_in(folder / "b.json"), values, strict=True):
        person = frame["person_0"]
        body = line[:36].reshape(18, 2)
        body[17] = -1  # not found, by its score
        assert person["body_keypoints"] == body.tolist() and person["body_scores"] == line[36:54].tolist()
        hands = [*person["left_hand_keypoints"], *person["right_hand_keypoints"]]
        assert hands == line[54:138].reshape(42, 2).tolist()
        assert person["left_hand_scores"] + person["right_hand_scores"] == line[138:180].tolist()
        assert person["face_keypoints"] == line[180:316].reshape(68, 2).tolist()
        assert person["face_scores"] == line[316:384].tolist()


def test_digits_that_come_back_are_not_called_lost():
    rng = np.random.default_rng(0)
    six = [float(f"{v:.6g}") for v in rng.lognormal(0, 6, 2000)]
    assert not_in_float32(np.array([*six, 0, -0.5, 1e-30, 16777217 - 1, np.nan, np.inf])) == 0
    assert not_in_float32(np.array([0.5234704260965662, 16777217, 1 / 3, -1e60])) == 4
    values = rng.normal(size=500)
    expected = sum(float(str(np.float32(v))) != v for v in values)
    assert not_in_float32(values) == expected > 400
    assert not_in_float32(np.array([0x7FA00000, 0x3F000000], "<u4").view("<f4")) == 0  # a NaN that signals


# ---- Real samples ----------------------------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("target", ["b.json", "b.npz", "npy", "json"])
def test_the_real_clip_of_dwpose_loses_nothing(tmp_path, monkeypatch, capsys, target):
    monkeypatch.chdir(tmp_path)
    given = Path(DATA) / "dwpose/human_signer/results_dwpose/json"
    assert says(capsys, given, target) == "nothing"
    assert frames_in(tmp_path / target) == frames_in(given)


@needs_data
def test_a_real_clip_of_openpose_goes_to_pose_and_back(tmp_path, monkeypatch, capsys):
    """Each number as it is printed, people and points beyond the 128 joints too."""
    monkeypatch.chdir(tmp_path)
    given = min((Path(DATA) / "how2sign/sentence_level/val/rgb_front/features/openpose_output/json").iterdir())
    assert says(capsys, given, "b.pose", "--fps", "24", "--size", "720x1280") == "nothing"
    says(capsys, "b.pose", "back")
    for number, file in enumerate(sorted(given.glob("*_keypoints.json"))):
        back = json.loads((tmp_path / "back" / f"b_{number:012d}_keypoints.json").read_text())
        assert back == json.loads(file.read_text())
    file = PoseFile.read((tmp_path / "b.pose").read_bytes())
    assert (file.header.dimensions.width, file.header.dimensions.height, file.body.fps) == (1280, 720, 24)
    assert pose_file.read(tmp_path / "b.pose").coordinates.shape[1] == 128
