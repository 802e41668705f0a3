"""`signer convert` as a user runs it: every ending, what it says that it dropped, and mistakes in one line."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from fuzz import files

from signer_jax.cli.convert import read
from signer_jax.cli.main import main
from signer_jax.pose.formats import pose_file
from signer_jax.types import Pose


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
    assert (out[-1] == "dropped: nothing") == (target == "b.pose")
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
    assert out == ["each: 2 sequences, 8 frames", "dropped: texts; glosses"]
    assert sorted(path.name for path in (folder / "each").iterdir()) == ["a-2.pose", "a.pose", "manifest.json"]
    assert "b.pose: holds one sequence where the input has several" in fails(capsys, "a.skels", "b.pose", "--fps", "25")
    assert (
        "two sequences are named 'a'" in fails(capsys, "a.skels", "b.pkl", "--fps", "25")
        and not (folder / "b.pkl").exists()
    )
    (folder / "a.files").write_text("one\ntwo\n")
    out = says(capsys, "a.skels", "b.pkl", "--fps", "25")
    assert pickle.loads((folder / "b.pkl").read_bytes()).keys() == {"one", "two"} and len(out) == 2


def test_names_out_of_a_file_stay_in_the_folder(folder, capsys):
    (folder / "a.files").write_text("../../evil\n../../EVIL\n")
    says(capsys, "a.skels", "each", "--fps", "25")
    assert {path.name for path in (folder / "each").iterdir()} == {"evil.pose", "EVIL-2.pose", "manifest.json"}


def test_texts_are_lost_where_there_is_no_place_for_them(folder, capsys):
    for target in ("b.pose", "c.json"):
        assert "texts; glosses" in says(capsys, "prompt2sign-2025.skels", target, *SIZE)[-1]


def test_what_was_read_otherwise_is_told(folder, capsys):
    out = says(capsys, "own.npz", "b.npy", "--fps", "25")
    assert out[1] == "read: 1 of 1 frames show several people: one was followed"
    (folder / "two.pose").write_bytes(files.pose_bytes(0.2, people=2))
    assert says(capsys, "two.pose", "d.pose")[1:] == ["read: 2 people: the first was taken", "dropped: nothing"]
    odd = files.pose_bytes(0.2).replace(b"NOSE", b"KNEE")
    (folder / "odd.pose").write_bytes(odd)
    assert says(capsys, "odd.pose", "d.pose")[1] == (
        "read: 1 of the file's 9 points, which the 128 joints lack, were left out"
    )
    pose_file.write(folder / "c.pose", files.pose(3, 300))
    out = says(capsys, "c.pose", "d.pose", "--fps", "50")
    assert out[1] == "read: the file says 25 frames a second; --fps 50 was taken instead"
    assert pose_file.read(folder / "d.pose").fps == 50


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
