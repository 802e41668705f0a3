"""Lexicon folders: one written here, with every tolerance and fault, and the real ones."""

import os
from pathlib import Path

import numpy as np
import pytest
from fuzz import memory

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.entries import NO_PRIORITY
from signer_jax.pose.formats import pose_file
from signer_jax.pose.prior import Prior
from signer_jax.pose.sources.common import Cut
from signer_jax.pose.sources.lexicon import milliseconds, read_lexicon
from signer_jax.types import Pose

DATA = os.environ.get("SIGNER_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="SIGNER_DATA is unset: no real samples")
HEADER = "path,spoken_language,signed_language,start,end,words,glosses,priority\n"


def _sign(frames: int = 40) -> Pose:
    """A person of 200 pixels' shoulder width whose hands never rest; the nose's x counts the frames."""
    rng = np.random.default_rng(0)
    place = rng.uniform(-0.2, 0.2, (1, 128, 3)).astype(np.float32).repeat(frames, 0)
    for name, x in (("right_shoulder", -0.5), ("left_shoulder", 0.5), ("right_wrist", -0.6), ("left_wrist", 0.6)):
        place[:, skeleton.INDEX[name]] = (x, 0, 0)
    place[:, skeleton.INDEX["nose"], 0] = np.arange(frames) / 100
    return Pose(place * 200 + 300, np.ones((frames, 128), np.float32), 20.0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ase").mkdir()
    for name in ("one", "two"):
        pose_file.write(tmp_path / "ase" / f"{name}.pose", _sign())
    (tmp_path / "ase" / "bad.pose").write_bytes(b"no pose")
    return tmp_path


def _read(folder: Path, rows: str):
    (folder / "index.csv").write_text(HEADER + rows, encoding="utf-8")
    signs, problems = read_lexicon(folder)
    return list(signs), problems


def _frames(pose: Pose) -> list[int]:
    return np.rint(pose.coordinates[:, skeleton.INDEX["nose"], 0] * 100).astype(int).tolist()


def test_whole_files_cuts_and_seconds(folder):
    signs, problems = _read(
        folder,
        "ase/one.pose,en,ase,0,0,house,HOUSE,1\n"
        "ase/one.pose,en,ase,500,1500,house,HOUSE,0\n"
        "ase/two.pose,en,ase,0.5,1.5,home,,\n"
        "ase/two.pose,en,ase,0,9999,home,HOME,\n",
    )
    assert problems == []
    assert [(e.gloss, e.language, e.variant, e.priority) for e, _ in signs] == [
        ("HOUSE", "ase", 0, 1), ("HOUSE", "ase", 1, 0), ("home", "ase", 0, NO_PRIORITY),
        ("HOME", "ase", 0, NO_PRIORITY),
    ]  # fmt: skip
    assert [_frames(pose) for _, pose in signs] == [
        list(range(40)), list(range(10, 30)), list(range(10, 30)), list(range(40)),
    ]  # fmt: skip
    for _, pose in signs:
        shoulders = pose.coordinates[:, [skeleton.INDEX["right_shoulder"], skeleton.INDEX["left_shoulder"]], :2]
        np.testing.assert_allclose(shoulders, [[[-0.5, 0], [0.5, 0]]] * len(pose), atol=1e-5)


def test_faults_are_reported_by_row(folder):
    signs, problems = _read(
        folder,
        "ase/none.pose,en,ase,0,0,a,A,0\n"
        "ase/bad.pose,en,ase,0,0,b,B,0\n"
        "ase/one.pose,en,ase,zero,0,c,C,0\n"
        "ase/one.pose,en,ase,5000,9000,d,D,0\n"
        "../one.pose,en,ase,0,0,e,E,0\n"
        "ase/one.pose,en,ase,0,0,,,0\n"
        "ase/one.pose,en,ase,0,0,g,G,0\n",
    )
    assert [entry.gloss for entry, _ in signs] == ["G"]
    assert [problem.split(":")[0] for problem in problems] == [
        "row 2 (ase A)", "row 3 (ase B)", "row 4 (ase C)", "row 5 (ase D)", "row 6 (ase E)", "row 7 (ase )",
    ]  # fmt: skip
    for problem, part in zip(
        problems, ("missing", "no .pose file but text", "zero", "frames", "folder", "no gloss"), strict=True
    ):
        assert part in problem and "\n" not in problem


def test_no_row_ends_the_reading(folder):
    (folder / "loop.pose").symlink_to("loop.pose")
    os.mkfifo(folder / "pipe.pose")
    long = "x" * 200_000
    one = "ase/one.pose,en,ase"
    faults = {
        f"{one},nan,0,a,A,0": "not finite", f"{one},0,inf,a,A,0": "not finite", f"{one},-5,0,a,A,0": "negative",
        f"{one},500,400,a,A,0": "not after", f"{one},0,0,a,A,1e300": "priority", f"{one},0,0,a,A,nan": "finite",
        f"{one},0,0,a,A,1.5": "whole number", f"{one},0,0,a,A\0B,0": "control", f"{one},0,0,a,{long},0": "200000",
        f"{long}.pose,en,ase,0,0,a,A,0": "200005", f"{'y' * 300}.pose,en,ase,0,0,a,A,0": "cannot be followed",
        "loop.pose,en,ase,0,0,a,A,0": "cannot be followed", "pipe.pose,en,ase,0,0,a,A,0": "no regular file",
        "ase,en,ase,0,0,a,A,0": "a folder", f"{one},0,0,a,<rest>,0": "reserved", f"{one},0,0,a,b,A,0": "9 cells",
        f'{one},0,0,a,"A\nB",0': "line break",
    }  # fmt: skip
    signs, problems = _read(folder, "\n".join([*faults, "ase/one.pose,en,ase,0,0,g,G,0", "ase/two.pose,en,ase"]) + "\n")
    assert [entry.gloss for entry, _ in signs] == ["G"]
    assert len(problems) == len(faults) + 1  # the last row is cut before its gloss
    for i, (problem, words) in enumerate(zip(problems, faults.values(), strict=False)):
        assert problem.startswith(f"row {i + 2}") and words in problem
        assert problem.isprintable() and len(problem) < 300


def test_rest_poses_alone_are_no_lexicon(folder, tmp_path):
    (folder / "index.csv").write_text(HEADER + "ase/one.pose,en,ase,0,0,a,<rest>,0\n")
    signs, problems = read_lexicon(folder)
    with pytest.raises(SignerError, match="no sign"):
        Prior.build(signs, tmp_path / "prior", 25.0, problems=problems)


def test_rest_is_trimmed_but_not_what_a_row_cuts(folder):
    """Ten frames of rest on either side of a sign: whole files lose them, once and for all."""
    pose = _sign(40)
    resting = [
        skeleton.INDEX[name] for name in (*skeleton.LEFT_HAND, *skeleton.RIGHT_HAND, "left_wrist", "right_wrist")
    ]
    for frames in (slice(0, 10), slice(30, 40)):
        pose.coordinates[frames, resting, 1] = 300 + 200 * 1.4
    pose_file.write(folder / "ase" / "rest.pose", pose)
    times = ("0,0", "0,2000", "0,9000", "250,1750", "0,1900", "10,2000", "10,9000", "250,9000", "10,0")
    (folder / "index.csv").write_text(HEADER + "".join(f"ase/rest.pose,en,ase,{time},a,A,0\n" for time in times))
    own = [30, 38, 40, 40, 35, 40]
    for trimmed, lengths, taken in ((True, [20, 20, 20, *own], (3, 60)), (False, [40, 40, 40, *own], (0, 0))):
        cut = Cut()
        signs, problems = read_lexicon(folder, trimmed=trimmed, cut=cut)
        assert [len(pose) for _, pose in signs] == lengths and problems == [] and (cut.signs, cut.frames) == taken
        assert cut.beyond == [
            f"row {row} (ase A): end 9000 ms lies beyond the 40 frames of ase/rest.pose; clipped to {left} frames"
            for row, left in ((4, 40), (8, 40), (9, 35))
        ]


def _again(folder: Path, fps: float | None) -> dict[str, Pose]:
    """A lexicon's signs by file, written over its files; at `fps` through a database."""
    signs, problems = read_lexicon(folder)
    if fps is not None:
        prior = Prior.build(signs, folder / "prior", fps)
        signs = ((entry, prior.pose(entry)) for entry in prior.entries)
    found = {entry.source: pose for entry, pose in signs}
    assert problems == []
    for name, pose in found.items():
        pose_file.write(folder / name, pose)
    return found


def _assert_trimmed_once(folder: Path, files: int, fps: float | None) -> None:
    rows = "".join(f"{i}.pose,en,ase,0,0,a,G{i},0\n" for i in range(files))
    (folder / "index.csv").write_text(HEADER + rows)
    before = {f"{i}.pose": len(pose_file.read(folder / f"{i}.pose")) for i in range(files)}
    first, second, third = (_again(folder, fps) for _ in range(3))
    assert len(first) == files and any(len(first[name]) < 0.9 * before[name] for name in first)
    for name in first:
        assert len(first[name]) == len(second[name]) == len(third[name]), name


def _nodding(rng: np.random.Generator) -> Pose:
    """Somebody who leans back and forth, whose hands rise and sink: what scale and height are changes with a cut."""
    frames = 60
    time = np.arange(frames)
    lift = np.interp(time, np.sort(rng.choice(frames, 4, replace=False)), [0, 1, 1, 0])
    place = np.zeros((frames, 128, 3), np.float32)
    for name, x in (("right_shoulder", -0.5), ("left_shoulder", 0.5)):
        place[:, skeleton.INDEX[name], 0] = x
    for side, x in (("right", -0.4), ("left", 0.4)):
        arm = skeleton.positions(skeleton.PARTS[f"{side}_arm"], skeleton.JOINTS)
        place[:, arm, 0] = x
        place[:, arm, 1] = (1.4 - lift * rng.uniform(0.4, 1.6) + rng.normal(0, 0.02, frames))[:, None]
    scale = 1 + rng.uniform(0, 0.3) * lift + rng.normal(0, 0.01, frames)
    place = place * scale[:, None, None]
    place[..., 1] += (rng.uniform(-0.3, 0.3) * lift + rng.normal(0, 0.01, frames))[:, None]
    return Pose((place * 200 + 300).astype(np.float32), np.ones((frames, 128), np.float32), 30.0)


@pytest.mark.parametrize("fps", [None, 25.0])
def test_trimming_through_files_is_final(tmp_path, fps):
    rng = np.random.default_rng(5)
    for i in range(30):
        pose_file.write(tmp_path / f"{i}.pose", _nodding(rng))
    _assert_trimmed_once(tmp_path, 30, fps)


@pytest.mark.parametrize("fps", [None, 25.0])
def test_trimming_real_files_is_final(samples, tmp_path, fps):
    files = sorted(samples.rglob("*.pose"))
    for i, file in enumerate(files):
        pose_file.write(tmp_path / f"{i}.pose", pose_file.read(file))
    _assert_trimmed_once(tmp_path, len(files), fps)


def test_a_sign_that_trimming_would_leave_without_shoulders_or_frames_stays(folder):
    """What is trimmed can be read again."""
    for name, frames, shown in (("short", slice(19, 21), True), ("unseen", slice(15, 25), False)):
        pose = _sign(40)
        hands = [skeleton.INDEX[joint] for joint in (*skeleton.LEFT_HAND, *skeleton.RIGHT_HAND)]
        pose.coordinates[:, hands, 1] = 300 + 200 * 1.4
        pose.coordinates[frames, skeleton.INDEX["right_hand_wrist_root"], 1] = 300
        if not shown:
            pose.confidence[frames, skeleton.INDEX["left_shoulder"]] = 0
        pose_file.write(folder / "ase" / f"{name}.pose", pose)
        signs, problems = _read(folder, f"ase/{name}.pose,en,ase,0,0,a,A,0\n")
        assert [len(pose) for _, pose in signs] == [40] and problems == [], name


def test_an_empty_priority_comes_last(folder, tmp_path):
    (folder / "index.csv").write_text(
        HEADER + "".join(f"ase/one.pose,en,ase,{start},0,a,A,{p}\n" for start, p in ((0, ""), (100, 3), (200, 1)))
    )
    signs, problems = read_lexicon(folder)
    prior = Prior.build(signs, tmp_path / "prior", 20.0, problems=problems)
    assert [entry.priority for entry in prior.variants("A")] == [1, 3, NO_PRIORITY]


def test_a_file_is_read_once(folder, monkeypatch):
    reads = []
    read = pose_file.read
    monkeypatch.setattr(pose_file, "read", lambda path: reads.append(Path(path).name) or read(path))
    rows = [
        f"ase/{name}.pose,en,ase,{100 * i},{100 * i + 500},a,A,0\n" for i in range(5) for name in ("one", "two", "bad")
    ]
    signs, problems = _read(folder, "".join(rows))
    assert len(signs) == 10 and len(problems) == 5 and sorted(reads) == ["bad.pose", "one.pose", "two.pose"]
    assert [_frames(pose)[0] for entry, pose in signs[::2]] == [0, 2, 4, 6, 8]


def test_shoulders_on_nearly_one_point_are_no_measure():
    pose = _sign()
    pose.coordinates[:, skeleton.INDEX["left_shoulder"]] = pose.coordinates[:, skeleton.INDEX["right_shoulder"]] + 1e-4
    with pytest.raises(SignerError, match="both shoulders lie on one point"):
        skeleton.normalise(pose)


def test_milliseconds_by_hand():
    assert milliseconds(0, 2720) == (0, 2720)
    assert milliseconds(1.5, 2.72) == (1500, 2720)
    assert milliseconds(4000, 5200) == (4000, 5200)
    assert milliseconds(0, 0) == (0, 0)


def test_a_folder_without_a_readable_index(tmp_path):
    with pytest.raises(SignerError, match=r"index\.csv"):
        read_lexicon(tmp_path)
    (tmp_path / "index.csv").write_text("path,gloss\na,b\n")
    with pytest.raises(SignerError, match="lacks the column 'signed_language'"):
        read_lexicon(tmp_path)


@needs_data
def test_real_fingerspelling(tmp_path):
    source = Path(DATA) / "lexicon" / "fingerspelling"
    signs, problems = read_lexicon(source)
    prior = Prior.build(signs, tmp_path / "prior", 25.0, problems=problems)
    assert set("ABCDEFGHIJKLMNOPQRSTUVWXYZ") == set(prior.glosses("ase"))
    info = prior.info()
    rows = len((source / "index.csv").read_text(encoding="utf-8").split("\n")[1:-1])
    assert info["entries"] + len(info["problems"]) == rows == 626
    assert all("is missing" in problem for problem in info["problems"])
    letters = prior.fingerspell("hello", "ase")
    assert [entry.gloss for entry in letters] == list("HELLO")
    hand = skeleton.INDEX["right_hand_index_4"]
    for entry in prior.variants("A", "ase") + letters:
        pose = prior.pose(entry)
        assert 10 <= len(pose) <= 40 and (pose.confidence[:, hand] > 0).all()
        assert pose.coordinates[:, hand, 1].max() < 0.6  # no frame of the hand lying down


@needs_data
def test_real_version_01_files():
    signs, problems = read_lexicon(Path(DATA) / "lexicon" / "sgg-small")
    signs = list(signs)
    assert problems == [] and [entry.gloss for entry, _ in signs] == ["Kleine", "Kinder", "Essen", "Pizza"]
    for entry, pose in signs:
        raw = pose_file.read(Path(DATA) / "lexicon" / "sgg-small" / entry.source)
        assert 0.4 * len(raw) < len(pose) < 0.8 * len(raw)  # rest at both ends is cut


def test_a_wide_table_keeps_only_the_columns_that_are_read():
    from signer_jax.pose.sources.lexicon import _READ, _rows

    header = ["path", "signed_language", "glosses", *(f"x{i}" for i in range(2000))]
    (_, first), (_, second) = _rows("\n".join([",".join(header), "a.pose,ase,A", "b.pose,ase"]))
    assert set(first) == set(second) == {"path", "signed_language", "glosses"} <= _READ
    assert second["glosses"] == ""


def test_a_column_may_name_the_signer(folder):
    rows = "path,signed_language,glosses,signer\nase/one.pose,ase,A,ann\nase/two.pose,ase,A\n"
    (folder / "index.csv").write_text(rows)
    signs, _ = read_lexicon(folder)
    assert [(entry.signer, entry.variant) for entry, _ in signs] == [("ann", 0), ("", 1)]


def test_a_row_has_the_number_that_a_spreadsheet_shows(tmp_path):
    (tmp_path / "index.csv").write_text(HEADER + '\n"a\n.pose",en,ase,0,0,a,A,1\n\nb.pose,en,ase,0,0,a,B,1\n')
    signs, problems = read_lexicon(tmp_path)
    assert not list(signs)
    assert [problem.partition(":")[0] for problem in problems] == ["row 3", "row 5 (ase B)"]


def test_short_rows_take_little_and_too_many_are_refused(tmp_path):
    (tmp_path / "index.csv").write_text(HEADER + "a\n" * 200_000)
    assert memory.grown(lambda: [*read_lexicon(tmp_path)[0]]) < 60 << 20  # lists of rows took 200
    (tmp_path / "index.csv").write_text(HEADER + "a\n" * 200_001)
    with pytest.raises(SignerError, match=r"index\.csv: has 200001 rows, 200000 at most; divide it"):
        read_lexicon(tmp_path)


def test_an_index_lies_in_its_folder(tmp_path):
    (tmp_path / "elsewhere.csv").write_text(HEADER)
    (tmp_path / "lexicon").mkdir()
    (tmp_path / "lexicon" / "index.csv").symlink_to("../elsewhere.csv")
    with pytest.raises(SignerError, match="is a link out of its folder; give the folder that it leads to"):
        read_lexicon(tmp_path / "lexicon")
    (tmp_path / "link").symlink_to(tmp_path)  # the folder's own path may be one
    (tmp_path / "index.csv").write_text(HEADER)
    assert not list(read_lexicon(tmp_path / "link")[0])
