"""`signer convert` as a user runs it: every ending, what it says that it dropped, and mistakes in one line."""

import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from fuzz import files
from pose_format import Pose as PoseFile

from signer_jax.cli.convert import read
from signer_jax.cli.main import main
from signer_jax.pose.formats import pose_file
from signer_jax.types import Pose

DATA = os.environ.get("SIGNER_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="SIGNER_DATA is unset: no real samples")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A clip in each format, of which the .skels has two sequences."""
    files.make_convertible(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def says(capsys, *arguments: str) -> list[str]:
    assert main(["convert", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def fails(capsys, *arguments: str) -> str:
    assert main(["convert", *arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out and captured.err.count("\n") == 1
    return captured.err.removeprefix("signer: ").strip()


SIZE = ("--fps", "25", "--size", "480x640")


def poses(place: Path) -> list[Pose]:
    return [clip.pose for clip in read(place, 25.0)]


@pytest.mark.parametrize("source", ["openpose", "a.json", "a.npz", "a.npy", "own.npz"])
@pytest.mark.parametrize("target", ["b.pose", "b.npz", "npy", "b", "b.skels", "b.pkl"])
def test_one_clip_into_every_format(folder, capsys, source, target):
    out = says(capsys, source, target, *SIZE)
    frames = len(poses(folder / source)[0])
    assert out[0] == f"{target}: 1 sequence, {frames} frames" and out[-1].startswith("dropped: ")
    (found,) = poses(folder / target)
    assert len(found) == frames and np.isfinite(found.coordinates).all()
    assert (out[-1] == "dropped: nothing") == (target == "b.pose" and source != "own.npz")
    assert ("joints of the face" in out[-1]) == (target in ("b.skels", "b.pkl"))


def test_there_and_back_is_the_same(folder, capsys):
    """What each pair of formats can hold comes back to the bit."""
    for first, back in (("b.npz", "c.json"), ("json", "c.npy")):
        says(capsys, "a.json", first, "--fps", "25")
        says(capsys, first, back, "--fps", "25")
        np.testing.assert_array_equal(poses(folder / back)[0].coordinates, poses(folder / "a.json")[0].coordinates)
    says(capsys, "openpose", "b.pose", *SIZE)
    says(capsys, "b.pose", "op")
    says(capsys, "op", "c.pose", *SIZE)
    assert (folder / "b.pose").read_bytes() == (folder / "c.pose").read_bytes()
    says(capsys, "a.skels", "b.skels", "--fps", "25")
    assert (folder / "a.skels").read_text() == (folder / "b.skels").read_text()


def test_several_sequences_go_to_a_folder(folder, capsys):
    out = says(capsys, "a.skels", "each", "--fps", "25")
    assert out == ["each: 2 sequences, 8 frames", "dropped: texts; glosses; names, as they stand"]
    assert sorted(path.name for path in (folder / "each").iterdir()) == ["a-2.pose", "a.pose", "manifest.json"]
    assert "b.pose: holds one sequence where the input has several" in fails(capsys, "a.skels", "b.pose", "--fps", "25")
    assert (
        "two sequences are named 'a'" in fails(capsys, "a.skels", "b.pkl", "--fps", "25")
        and not (folder / "b.pkl").exists()
    )
    (folder / "a.files").write_text("one\ntwo\n")
    out = says(capsys, "a.skels", "b.pkl", "--fps", "25")
    assert pickle.loads((folder / "b.pkl").read_bytes()).keys() == {"one", "two"} and len(out) == 2


def test_a_slash_says_that_a_name_with_a_dot_is_a_folders(folder, capsys):
    for target in ("my.clip/", "my.pose/", "my.pt/"):
        assert says(capsys, "a.json", target, *SIZE)[0].startswith(f"{target[:-1]}: 1 sequence, ")
        assert sorted((folder / target).glob("*_keypoints.json"))
    assert says(capsys, "a.skels", "my.clips/", "--fps", "25")[0] == "my.clips: 2 sequences, 8 frames"
    again = says(capsys, "a.skels", "my.clips", "--fps", "25")  # it is there, and is a folder
    assert again[0] == "my.clips: 2 sequences, 8 frames" and (folder / "my.clips/a-2.pose").is_file()
    line = fails(capsys, "a.json", "other.clip", *SIZE)
    assert line.startswith("other.clip: no poses are written as '.clip'") and line.endswith("of a folder, other.clip/")


@pytest.mark.parametrize("kind", ["json", "npz", "npy"])
def test_dwposes_clip_has_its_own_folders_name(folder, capsys, monkeypatch, kind):
    """`CLIP/results_dwpose/npz`, as Prompt2Sign's tools name it, wherever one stands."""
    (folder / "hello/results_dwpose").mkdir(parents=True)
    says(capsys, "a.json", place := f"hello/results_dwpose/{kind}", *SIZE)
    assert fails(capsys, place, "b.pose", "--fps", "25").startswith("hello: its coordinates are shares of the picture")
    says(capsys, place, "b.pkl", *SIZE)
    assert [*pickle.loads((folder / "b.pkl").read_bytes())] == ["hello"]
    monkeypatch.chdir(folder / "hello/results_dwpose")
    assert [clip.name for clip in read(Path(kind), 25.0)] == ["hello"]


def test_sequences_of_skels_become_openposes_by_a_pose_of_each(folder, capsys):
    """As docs/files.md says."""
    says(capsys, "a.skels", "poses", "--fps", "25")
    says(capsys, "poses/a.pose", "a-json", "--size", "480x640")
    (found,) = poses(folder / "a-json")
    middle = np.median(found.coordinates[found.confidence > 0], axis=0)  # of the signer, in the picture's pixels
    assert len(found) == len(poses(folder / "a.skels")[0]) and (middle > 100).all() and (middle < (540, 380)).all()


def test_names_out_of_a_file_stay_in_the_folder(folder, capsys):
    (folder / "a.files").write_text("../../evil\n../../EVIL\n")
    says(capsys, "a.skels", "each", "--fps", "25")
    assert {path.name for path in (folder / "each").iterdir()} == {"evil.pose", "EVIL-2.pose", "manifest.json"}


def test_texts_are_lost_where_there_is_no_place_for_them(folder, capsys):
    for target in ("b.pose", "c.json"):
        assert "texts; glosses" in says(capsys, "prompt2sign-2025.skels", target, *SIZE)[-1]


def test_what_was_read_otherwise_is_told(folder, capsys):
    out = says(capsys, "own.npz", "b.npy", "--fps", "25", "--canonical")
    assert out[1].endswith("; 1 of 1 frames show several people: one was followed; the frame rate of 25")
    assert says(capsys, "own.npz", "c.npy")[1:] == ["dropped: nothing"]
    two = files.pose_bytes(0.2, people=2).replace(b"NOSE", b"KNEE")
    (folder / "two.pose").write_bytes(two)
    lost = "1 of the file's 9 points, which the 128 joints lack; the header's limbs and colours"
    lost += "; 2 people: the first was taken"
    assert says(capsys, "two.pose", "d.pose", "--canonical")[1:] == [f"dropped: {lost}"]
    for target in ("d.npz", "d.json", "json", "each"):
        out = says(capsys, "two.pose", target)
        assert out[-1].startswith(f"dropped: {lost}; depth") and len(out) == 2
    pose_file.write(folder / "c.pose", files.pose(3, 300))
    for more in ([], ["--canonical"]):
        out = says(capsys, "c.pose", "e.pose", "--fps", "50", "--force", *more)
        assert out[1:] == ["read: the file says 25 frames a second; --fps 50 was taken instead", "dropped: nothing"]
        assert pose_file.read(folder / "e.pose").fps == 50


def test_from_pose_to_pose_keeps_what_the_file_has(folder, capsys):
    """Points that the 128 joints lack, all people, axes, limbs, colours; also of a layout that is not known."""
    for name, data in (
        ("known", files.pose_bytes(0.2, people=2)),
        ("unknown", files.pose_bytes(0.2).replace(b"POSE_LANDMARKS", b"KNEE_LANDMARKS")),
    ):
        (folder / f"{name}.pose").write_bytes(data)
        assert says(capsys, f"{name}.pose", f"{name}2.pose")[1:] == ["dropped: nothing"]
        assert (folder / f"{name}2.pose").read_bytes() == data
    (folder / "old.pose").write_bytes(files.pose_bytes(0.1, people=2))
    assert says(capsys, "old.pose", "new.pose")[1:] == ["dropped: nothing"]
    assert (folder / "new.pose").read_bytes() == (folder / "known.pose").read_bytes()
    (folder / "older.pose").write_bytes(files.pose_bytes(0.0, people=2))
    assert says(capsys, "older.pose", "newer.pose")[1:] == ["dropped: the people's numbers"]
    assert (folder / "newer.pose").read_bytes() == (folder / "known.pose").read_bytes()
    out = says(capsys, "known.pose", "other.pose", "--fps", "30", "--size", "100x200")
    assert out[1:] == [
        "read: the file says 25 frames a second; --fps 30 was taken instead",
        "read: the file says a picture of 480x640; --size 100x200 was taken", "dropped: nothing",
    ]  # fmt: skip
    ours, theirs = (PoseFile.read((folder / f"{name}.pose").read_bytes()) for name in ("other", "known"))
    np.testing.assert_array_equal(ours.body.data.data, theirs.body.data.data)
    assert ours.body.fps == 30 and (ours.header.dimensions.width, ours.header.dimensions.height) == (200, 100)
    far = files.pose_bytes(0.2, people=2)
    values = np.frombuffer(far, "<f4", offset=len(far) % 4).copy()
    values[-1 - 2 * 2 * 9] = 1e9  # the second person's, the last frame's last
    (folder / "far.pose").write_bytes(far[: len(far) % 4] + values.tobytes())
    assert "'THUMB_CMC' of 'LEFT_HAND_LANDMARKS'" in (line := fails(capsys, "far.pose", "g.pose")) and "beyond" in line


def test_people_who_would_take_many_times_the_file_are_refused(folder, capsys):
    """Version 0.0 has as many people a frame as it likes: one frame of many would be as many of every frame."""
    points = [f"p{i}" for i in range(1000)]
    names = b"".join(struct.pack("<H", len(point)) + point.encode() for point in points)
    head = struct.pack("<fHHHH", 0.0, 10, 10, 0, 1) + b"\1\0x\3\0XYC" + struct.pack("<HHH", 1000, 0, 0) + names
    person = b"\0\0" + np.ones((1000, 3), "<f4").tobytes()
    frames = struct.pack("<H", 100) + 100 * person + 299 * (struct.pack("<H", 1) + person)
    (folder / "wide.pose").write_bytes(head + struct.pack("<HH", 25, 300) + frames)
    assert "300 frames of 100 people would take 343 MB; cut it" in fails(capsys, "wide.pose", "b.pose")


@needs_data
@pytest.mark.parametrize("name", [
    "pose/holistic-v0.1.pose", "pose/openpose-137.pose", "autsl/signer0_sample1000.pose",
    "stitching/train_1_original.pose",
])  # fmt: skip
def test_real_layouts_come_back_whole(folder, capsys, name):
    given = Path(DATA) / name
    assert says(capsys, str(given), "b.pose")[1:] == ["dropped: nothing"]
    ours, theirs = PoseFile.read((folder / "b.pose").read_bytes()), PoseFile.read(given.read_bytes())
    assert round(ours.header.version, 3) == 0.2 and ours.body.fps == theirs.body.fps
    for one, other in zip(ours.header.components, theirs.header.components, strict=True):
        assert (one.name, one.points, one.format) == (other.name, other.points, other.format)
        np.testing.assert_array_equal(one.limbs, other.limbs)
        np.testing.assert_array_equal(one.colors, other.colors)
    np.testing.assert_array_equal(ours.body.data.data, theirs.body.data.data)
    np.testing.assert_array_equal(ours.body.confidence, theirs.body.confidence)
    if "137" not in name:
        assert "which the 128 joints lack" in says(capsys, str(given), "c.pose", "--canonical")[-1]


@needs_data
def test_all_137_points_go_from_pose_to_openposes_json(folder, capsys):
    given = Path(DATA) / "pose/openpose-137.pose"
    dropped = "dropped: the header's limbs and colours; the frame rate of 24; the picture's size"
    assert says(capsys, str(given), "op")[1:] == [dropped]
    body = PoseFile.read(given.read_bytes()).body
    frames = [json.loads(file.read_text())["people"][0] for file in sorted((folder / "op").glob("*_keypoints.json"))]
    parts = ("pose", "face", "hand_left", "hand_right")
    written = np.array([[v for part in parts for v in frame[f"{part}_keypoints_2d"]] for frame in frames], np.float32)
    written = written.reshape(len(frames), 137, 3)
    seen = np.asarray(body.confidence)[:, 0] > 0
    np.testing.assert_array_equal(written[seen][:, :2], np.asarray(body.data.data, np.float32)[:, 0][seen])
    assert says(capsys, "op", "op2", "--fps", "24")[1:] == ["dropped: the frame rate of 24"]
    for file in sorted((folder / "op").glob("*_keypoints.json")):
        assert (folder / "op2" / file.name).read_bytes() == file.read_bytes()
    assert says(capsys, "op", "back.pose", "--fps", "24", "--size", "1000x1000")[1:] == ["dropped: nothing"]
    again = PoseFile.read((folder / "back.pose").read_bytes())
    np.testing.assert_array_equal(again.body.data.data, body.data.data)
    np.testing.assert_array_equal(again.body.confidence, body.confidence)
    assert [(one.name, one.points) for one in again.header.components] == [
        (one.name, one.points) for one in PoseFile.read(given.read_bytes()).header.components
    ]


@pytest.mark.parametrize("target", ["b.pose", "b.npz", "b.json", "b.skels", "b.pkl"])
def test_what_stands_at_the_outputs_name_is_kept(folder, capsys, target):
    (folder / target).write_text("precious")
    line = fails(capsys, "a.json", target, *SIZE)
    assert line == f"OUT {target}: is there already and would be replaced; give another name, or --force"
    assert (folder / target).read_text() == "precious"
    says(capsys, "a.json", target, *SIZE, "--force")
    assert len(poses(folder / target)) == 1


@pytest.mark.parametrize(("arguments", "says"), [
    (["openpose", "b.pose"], "OpenPose's JSON says nothing of the frame rate; give it with --fps"),
    (["a.json", "b.pose", "--fps", "25"], "give the picture's size with --size HxW"),
    (["a.json", "b.pose", "--fps", "0"], "--fps 0: is no frame rate; give 1 to 1000"),
    (["a.json", "b.pose", "--fps", "nan"], "is no frame rate"),
    (["a.json", "b.pose", "--fps", "25", "--size", "480"], "--size 480: is no height and width in pixels"),
    (["a.json", "b.mp4", "--fps", "25"], "no poses are written as '.mp4'"),
    (["a.json", "b.pt", "--fps", "25"], ".pt is torch's and only read"),
    (["nothing.pose", "b.pose"], "nothing.pose: no such file"),
    (["a.text", "b.pose"], "a.text: no poses are known by this ending"),
    (["a.json", "a.json", "--fps", "25"], "OUT a.json: is IN too and would replace it"),
    (["openpose", "openpose/b.pose", "--fps", "25"], "OUT openpose/b.pose: "),
    (["a.json", "mine", *SIZE], "mine: exists and is no folder of OpenPose's JSON of signer_jax"),
    (["a.pkl", "taken.skels"], "taken.skels: taken.text stands there already and would be replaced"),
])  # fmt: skip
def test_mistakes_are_one_line_and_nothing_is_written(folder, capsys, arguments, says):
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("important")
    (folder / "taken.text").write_text("important")
    before = sorted(folder.rglob("*"))
    assert says in fails(capsys, *arguments)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("target", ["each", "b.skels", "b.pkl"])
def test_a_fault_in_the_middle_leaves_nothing(folder, capsys, target):
    lines = (folder / "a.skels").read_text().splitlines()
    (folder / "a.skels").write_text(f"{lines[0]}\n{lines[1][:-200]}\n")
    before = sorted(folder.rglob("*"))
    assert "a.skels: line 2" in fails(capsys, "a.skels", target, "--fps", "25")
    assert sorted(folder.rglob("*")) == before


def test_a_hostile_file_is_one_line(folder, capsys):
    class Hostile:
        def __reduce__(self):
            return os.system, ("touch never",)

    (folder / "b.pkl").write_bytes(pickle.dumps({"a": Hostile()}))
    assert "its pickle would run 'posix system'" in fails(capsys, "b.pkl", "b.pose")
    assert not (folder / "never").exists()


def test_another_tool_reads_what_is_written(folder, capsys):
    """numpy and Python, as the projects that made these formats read them."""
    says(capsys, "openpose", "npz", *SIZE)
    frame = np.load(folder / "npz" / "00000001.npz", allow_pickle=True)
    assert int(frame["num_persons"]) == 1 and frame["person_0"].item()["face_keypoints"].shape == (68, 2)
    says(capsys, "a.json", "op", *SIZE)
    people = json.loads((folder / "op" / "a_000000000000_keypoints.json").read_text())["people"]
    assert [len(people[0][f"{part}_keypoints_2d"]) for part in ("pose", "face", "hand_left")] == [75, 210, 63]
