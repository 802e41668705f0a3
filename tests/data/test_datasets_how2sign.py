"""How2Sign's layouts in miniature: clips, whole videos, OpenPose and .pose, with the faults of real copies."""

import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from signer_jax.data.datasets import how2sign
from signer_jax.data.datasets.item import Item, Left
from signer_jax.errors import SignerError

DATA = os.environ.get("SIGNER_DATA")
HEADER = "VIDEO_ID\tVIDEO_NAME\tSENTENCE_ID\tSENTENCE_NAME\tSTART_REALIGNED\tEND_REALIGNED\tSENTENCE"
FRONT = "sentence_level/{}/rgb_front"


def row(name: str, start="1.5", end="3.25", text='He said "hi".', video="ab-5-rgb_front") -> str:
    return f"ab\t{video}\tab_0\t{name}\t{start}\t{end}\t{text}"


def write(path: Path, content: bytes | str = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(folder: Path, *rows: str, split: str = "val", end: str = "\r\n", header: str = HEADER) -> Path:
    place = f"sentence_level/{split}/text/en/raw_text/re_aligned/how2sign_realigned_{split}.csv"
    return write(folder / place, "\ufeff" + end.join([header, *rows]) + end)


def clip(folder: Path, name: str, split: str = "val", content: bytes = b"x") -> Path:
    return write(folder / FRONT.format(split) / "raw_videos" / f"{name}.mp4", content)


def openpose(folder: Path, name: str, split: str = "val", frames: int = 2) -> Path:
    place = folder / FRONT.format(split) / "features/openpose_output/json" / name
    place.mkdir(parents=True)
    for k in range(frames):
        write(place / f"{name}_{k:012d}_keypoints.json", "{}")
    return place


def found(folder: Path, split: str = "dev") -> tuple[dict[str, Item], list[Left]]:
    got = list(how2sign.items(folder, split))
    items = [one for one in got if isinstance(one, Item)]
    assert len({one.name for one in items}) == len(items)
    return {one.name: one for one in items}, [one for one in got if isinstance(one, Left)]


def test_a_clip_is_whole_and_its_text_is_as_it_stands(tmp_path):
    table(tmp_path, row("ab_0-5-rgb_front", text='"""Quoted," it\'s said""'))
    video = clip(tmp_path, "ab_0-5-rgb_front")
    pose = openpose(tmp_path, "ab_0-5-rgb_front")
    assert how2sign.splits(tmp_path) == ["dev"]
    items, left = found(tmp_path)
    one = items["ab_0-5-rgb_front"]
    assert (one.video, one.pose, one.seconds, one.pose_seconds) == (video, pose, None, None) and not left
    assert one.text == '"""Quoted," it\'s said""' and one.glosses is None and one.glosses_by == ""
    assert (one.split, one.language, one.spoken, one.signer) == ("dev", "ase", "en", "5")
    assert one.came_from == "how2sign_realigned_val.csv, line 2"


def test_clips_by_their_names_alone(tmp_path):
    """Whatever tables and OpenPose's json say."""
    table(tmp_path, row("ab_0-5-rgb_front"))
    video = clip(tmp_path, "abcdefghijk_3-5-rgb_front")
    openpose(tmp_path, "abcdefghijk_3-5-rgb_front")
    clip(tmp_path, "abcdefghijk_4-5-rgb_front", content=b"")
    pose = write(tmp_path / FRONT.format("val") / "features/holistic_pose/other.pose")
    one, left, other = how2sign.clips(tmp_path, "dev")
    assert (one.video, one.pose, one.text, one.recording) == (video, None, "", "abcdefghijk")
    assert (left.name, left.reason) == ("abcdefghijk_4-5-rgb_front", "empty video file")
    assert (other.name, other.video, other.pose, other.recording) == ("other", None, pose, "")
    assert list(how2sign.clips(tmp_path, "train")) == []
    names = [f"abcdefghijk{rest}" for rest in ("_3-5-rgb_front", "_0_12-5-rgb_side", "_7", "-5-rgb_front")] + ["x_1"]
    assert [how2sign.clip_of(name) for name in names] == [(3,), (0, 12), (7,), (), ()]
    with pytest.raises(SignerError, match="is no folder; give the one that holds the dataset"):
        how2sign.clips(tmp_path / "none", "train")


def test_a_whole_video_is_cut_by_the_aligned_times(tmp_path):
    table(tmp_path, row("ab_0-5-rgb_front"), row("ab_1-5-rgb_front", "3", "9000"), row("ab_2-5-rgb_front", "4", ""))
    whole = write(tmp_path / "video_level/val/rgb_front/raw_videos/ab-5-rgb_front.mp4")
    items, left = found(tmp_path)
    assert not left and {one.video for one in items.values()} == {whole}
    assert {one.recording for one in items.values()} == {"ab-5-rgb_front"}
    # An end beyond the video's is for who decodes it to judge.
    assert [one.seconds for one in items.values()] == [(1.5, 3.25), (3.0, 9000.0), (4.0, None)]


def test_poses_in_a_whole_video_lie_where_the_times_that_cut_them_say(tmp_path):
    names = [f"ab_{i}-5-rgb_front" for i in range(4)]
    table(tmp_path, *map(row, names))
    write(tmp_path / "video_level/val/rgb_front/raw_videos/ab-5-rgb_front.mp4")
    for name in names[:3]:
        openpose(tmp_path, name)
    items, left = found(tmp_path)
    assert list(items) == [names[3]] and {one.reason for one in left} == {"no times of the poses"} and len(left) == 3
    cut = [row(names[0], "1.25", "3"), row(names[1], "x", "3"), row(names[2], "2", "")]
    write(tmp_path / "how2sign_val.csv", "\n".join([HEADER.replace("_REALIGNED", ""), *cut]) + "\n")
    items, left = found(tmp_path)
    assert [one.name for one in left] == [names[1]]
    assert [(one.seconds, one.pose_seconds) for one in items.values()] == [
        ((1.5, 3.25), (1.25, 3.0)), ((1.5, 3.25), (2.0, None)), ((1.5, 3.25), None)
    ]  # fmt: skip
    next(tmp_path.glob("sentence_level/val/text/en/raw_text/re_aligned/*.csv")).unlink()  # then the others cut the text
    assert {(one.seconds, one.pose_seconds) for one in found(tmp_path)[0].values()} == {
        ((1.25, 3.0), (1.25, 3.0)), ((2.0, None), (2.0, None))
    }  # fmt: skip


def test_a_clip_and_its_text_have_other_times(tmp_path):
    names = [f"ab_{i}-5-rgb_front" for i in range(5)]
    table(tmp_path, *map(row, names))  # from 1.5 to 3.25
    for name in names:
        clip(tmp_path, name)
    assert {(one.seconds, one.lasts) for one in found(tmp_path)[0].values()} == {(None, 1.75)}
    cut = [row(names[0], "1", "4"), row(names[1], "2", "3"), row(names[2], "1", "2.5"), row(names[3], "3.25", "4")]
    write(tmp_path / "how2sign_val.csv", "\n".join([HEADER.replace("_REALIGNED", ""), *cut]) + "\n")
    items, left = found(tmp_path)
    assert [(one.name, one.reason) for one in left] == [(names[3], "clip of other times than its text")]
    assert {name: one.seconds for name, one in items.items()} == {
        names[0]: (0.5, 2.25), names[1]: None, names[2]: (0.5, None), names[4]: None
    }  # fmt: skip
    next(tmp_path.glob("sentence_level/val/text/en/raw_text/re_aligned/*.csv")).unlink()
    assert {one.seconds for one in found(tmp_path)[0].values()} == {None}


def test_poses_beside_and_none_of_a_clip(tmp_path):
    names = [f"ab_{i}-5-rgb_front" for i in range(4)]
    table(tmp_path, *map(row, names))
    clip(tmp_path, names[0])
    beside = write(tmp_path / FRONT.format("val") / "raw_videos" / f"{names[0]}.pose")
    other = write(tmp_path / FRONT.format("val") / "features/holistic_pose" / f"{names[1]}.pose")
    clip(tmp_path, names[2])
    items, left = found(tmp_path)
    assert [items[name].pose for name in names[:3]] == [beside, other, None] and items[names[1]].video is None
    assert [(one.name, one.reason, one.where) for one in left] == [
        (names[3], "no video and no pose", "how2sign_realigned_val.csv, line 5")
    ]


def test_every_row_with_a_fault_is_left_out_and_named(tmp_path):
    bad = {
        row("ab_1", start="9"): "end before start",
        row("ab_2", end="1.5"): "end before start",
        row("ab_3", end="soon"): "start or end is no number",
        row("ab_4", start="-1"): "start or end is no time",
        row("ab_5", start="nan"): "start or end is no time",
        row("ab_6", text=" "): "no text",
        row("", text="who"): "no name",
        row("ab_0"): "named twice",
        row("../../secret"): "path out of the folder",
        row("/etc/passwd"): "path out of the folder",
        row("c:\\ab"): "path out of the folder",
        row("out"): "path out of the folder",
        row("empty"): "empty video file",
        row("ab_8", text="a\x1b[2J"): "control character",
        "ab\tx": "row cut short",
        row("ab_9") + "\tmore": "too many cells",
        row("a" + "\u0301\u0323" * 40_000): "more than 30 marks on a letter",
        row("gone"): "no video and no pose",
    }
    table(tmp_path, row("ab_0"), "", *bad, row("ab_10"))
    for name in ("ab_0", "ab_10", *(f"ab_{i}" for i in range(1, 10))):
        clip(tmp_path, name)
    write(tmp_path / "secret.mp4")
    clip(tmp_path, "empty", content=b"")
    (tmp_path / FRONT.format("val") / "raw_videos" / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    items, left = found(tmp_path)
    assert list(items) == ["ab_0", "ab_10"]
    of_rows = [one for one in left if one.reason != "in no row of the table"]
    assert [one.reason for one in of_rows] == list(bad.values())
    assert [one.where for one in of_rows] == [f"how2sign_realigned_val.csv, line {4 + i}" for i in range(len(bad))]
    assert len(items) + len(of_rows) == len(bad) + 2
    assert all("\n" not in one.detail + one.name and one.name.isprintable() for one in left)


def test_a_damaged_pose_is_told_and_not_passed_over(tmp_path):
    table(tmp_path, row("ab_0"), row("ab_1"))
    clip(tmp_path, "ab_0")
    clip(tmp_path, "ab_1")
    openpose(tmp_path, "ab_0", frames=0)
    write(tmp_path / FRONT.format("val") / "features/holistic_pose/ab_1.pose", b"")
    items, left = found(tmp_path)
    assert not items and [one.reason for one in left] == ["empty folder of poses", "empty pose file"]


def test_what_no_row_names_is_told(tmp_path):
    table(tmp_path, row("ab_0"))
    clip(tmp_path, "ab_0")
    clip(tmp_path, "ab_1")
    openpose(tmp_path, "ab_2")
    write(tmp_path / FRONT.format("val") / "raw_videos/notes.txt")
    assert [(one.name, one.reason) for one in found(tmp_path)[1]] == [
        ("ab_1", "in no row of the table"), ("ab_2", "in no row of the table")
    ]  # fmt: skip


def test_names_are_found_in_either_form_of_unicode(tmp_path):
    composed, parted = (unicodedata.normalize(form, "äb_ñ-2-rgb_front") for form in ("NFC", "NFD"))
    table(tmp_path, row(composed), row(parted), end="\n")
    clip(tmp_path, parted)
    items, left = found(tmp_path)
    assert list(items) == [composed] and items[composed].video.is_file() and items[composed].signer == "2"
    assert [one.reason for one in left] == ["named twice"]


def test_clips_without_a_table_and_texts_without_clips(tmp_path):
    clip(tmp_path, "ab_0-8-rgb_front", "train")
    clip(tmp_path, "ab_1-8-rgb_front", "train", b"")
    openpose(tmp_path, "ab_2-8-rgb_front", "train")
    table(tmp_path, row("ab_9-1-rgb_front"), split="test")
    assert how2sign.splits(tmp_path) == ["train", "test"]
    items, left = found(tmp_path, "train")
    assert [(one.name, one.text, one.spoken, one.signer) for one in items.values()] == [
        ("ab_0-8-rgb_front", "", "", "8"), ("ab_2-8-rgb_front", "", "", "8")
    ]  # fmt: skip
    assert [(one.name, one.reason) for one in left] == [("ab_1-8-rgb_front", "empty video file")]
    items, left = found(tmp_path, "test")
    assert [one.video for one in items.values()] == [None] and not left


def test_a_recording_is_known_by_the_video_that_was_signed(tmp_path):
    names = ["_20g7MG8K1U_0-8-rgb_front", "_20g7MG8K1U_10_11-8-rgb_side", "_20g7MG8K1U_2", "a clip", "short_1"]
    for name in names:
        clip(tmp_path, name, "train")
    recordings = {one.name: one.recording for one in found(tmp_path, "train")[0].values()}
    assert [recordings[name] for name in names] == ["_20g7MG8K1U"] * 3 + ["", ""]


def test_the_table_that_is_not_re_aligned_is_read_where_there_is_no_other(tmp_path):
    place = tmp_path / "how2sign_val.csv"
    write(place, HEADER.replace("_REALIGNED", "") + "\n" + row("ab_0") + "\n")
    assert list(found(tmp_path)[0]) == ["ab_0"]
    table(tmp_path, row("ab_1"))
    assert list(found(tmp_path)[0]) == ["ab_1"]


def test_another_folder_and_another_table_are_refused(tmp_path):
    def refused(says: str, split: str = "dev") -> None:
        with pytest.raises(SignerError, match=says) as error:
            how2sign.items(tmp_path, split)
        assert "\n" not in str(error.value)

    refused("has no how2sign_realigned_train.csv .* give the folder that holds them")
    with pytest.raises(SignerError, match="is no folder"):
        how2sign.splits(tmp_path / "gone")
    table(tmp_path, row("ab_0"))
    refused(r"has no split 'val'; it has dev", "val")
    refused(r"has no split 'dve' \(did you mean 'dev'\?\)", "dve")
    table(tmp_path, row("ab_0"), header=HEADER.replace("SENTENCE_NAME", "NAME"))
    refused("lacks the column 'SENTENCE_NAME'")
    table(tmp_path)
    refused("holds no row")


@pytest.mark.skipif(not DATA, reason="SIGNER_DATA is unset: no real samples")
def test_real_files():
    source = Path(DATA) / "how2sign"
    assert how2sign.splits(source) == ["train", "dev"]
    items, left = found(source, "train")
    assert len(items) == 31 and not left and all(one.video and one.pose for one in items.values())
    assert Counter(one.signer for one in items.values()) == {"8": 21, "5": 10}
    items, left = found(source)
    assert len(items) == 4 and all(one.pose.is_dir() and one.text for one in items.values())
    assert Counter(one.reason for one in left) == {"no video and no pose": 1737}
    quoted = [line for line in (source / "how2sign_realigned_val.csv").read_text().splitlines() if '"' in line]
    assert len(quoted) == 8
