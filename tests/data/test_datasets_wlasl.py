"""WLASL's json and subsets beside some of their videos, in miniature, with the faults of real copies."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from signer_jax.data.datasets import wlasl
from signer_jax.data.datasets.item import Item, Left
from signer_jax.errors import SignerError

DATA = os.environ.get("SIGNER_DATA")


def sign(video_id="00001", split="train", start=1, end=-1, url="http://asl.org/a.mp4", **more) -> dict:
    return {
        "video_id": video_id, "split": split, "frame_start": start, "frame_end": end, "url": url, "fps": 25,
        "signer_id": 9, "instance_id": 0, "variation_id": 0, "bbox": [0, 0, 9, 9], "source": "asl", **more,
    }  # fmt: skip


def make(folder: Path, glosses: object, videos=(), raw=()) -> Path:
    (folder / "WLASL_v0.3.json").write_text(json.dumps(glosses), encoding="utf-8")
    for place, names in (("videos", videos), ("raw_videos_mp4", raw)):
        (folder / place).mkdir(exist_ok=True)
        for name in names:
            (folder / place / f"{name}.mp4").write_bytes(b"x")
    return folder


def found(folder: Path, split: str = "train", **given) -> tuple[list[Item], list[Left]]:
    got = list(wlasl.items(folder, split, **given))
    return [one for one in got if isinstance(one, Item)], [one for one in got if isinstance(one, Left)]


def test_a_sign_is_its_gloss_and_the_video_that_was_cut_out(tmp_path):
    youtube = sign("2", start=5122, end=5181, url="https://www.youtube.com/watch?v=PPmQd2zWdP0")
    make(tmp_path, [{"gloss": "thank you", "instances": [sign("1"), youtube]}], videos="12")
    assert wlasl.splits(tmp_path) == ["train", "dev", "test"]
    (one, two), left = found(tmp_path)
    assert (one.name, one.glosses, one.glosses_by, one.signer) == ("1", ("thank you",), "human", "9") and not left
    assert (one.text, one.language, one.video) == ("", "ase", tmp_path / "videos" / "1.mp4")
    assert (one.frames, one.fps, two.frames, two.fps) == (None, None, None, None)
    assert two.video == tmp_path / "videos" / "2.mp4"


def test_frames_of_a_video_that_is_not_cut_count_from_one_and_end_included(tmp_path):
    signs = [
        sign("1", start=1, end=40), sign("2", start=11, end=-1), sign("3", start=7, end=7),
        sign("4", start=5122, end=5181, url="https://youtu.be/PPmQd2zWdP0", fps="?"),
    ]  # fmt: skip
    make(tmp_path, [{"gloss": "book", "instances": signs}], videos="12", raw=["3", "PPmQd2zWdP0"])
    items, left = found(tmp_path)
    assert [one.frames for one in items] == [(0, 40), (10, None), (6, 7), (5121, 5181)] and not left
    assert [one.fps for one in items] == [25.0, 25.0, 25.0, None]
    assert items[3].video == tmp_path / "raw_videos_mp4" / "PPmQd2zWdP0.mp4"


def test_what_cannot_be_given_is_left_out_and_named(tmp_path):
    bad = {
        "no video file": sign("gone"), "empty video file": sign("empty"), "named twice": sign("1"),
        "end before start": sign("2", start=9, end=8), "path out of the folder": sign("../1"),
        "unreadable entry": sign(7), "control character?": sign("a\x07"),
    }  # fmt: skip
    frames = [sign("3", start=0), sign("4", end=0), sign("5", end="9"), sign("6", end=None)]
    splits = [sign("8", split="?"), sign("9", split=None)]
    instances = [sign("1"), *bad.values(), *frames, *splits, "no object", sign("10", split="val")]
    make(
        tmp_path, [{"gloss": "a", "instances": instances}, 5, {"gloss": 3, "instances": []}], videos=[*"1234568", "10"]
    )
    (tmp_path / "videos" / "empty.mp4").write_bytes(b"")
    (tmp_path / "1.mp4").write_bytes(b"x")
    items, left = found(tmp_path)
    assert [one.name for one in items] == ["1"]
    assert Counter(one.reason for one in left) == {
        "no video file": 1, "empty video file": 1, "named twice": 1, "end before start": 1, "path out of the folder": 1,
        "start or end is no frame": 4, "unknown split": 2, "unreadable entry": 5,
    }  # fmt: skip
    assert all(one.where.startswith("WLASL_v0.3.json, entry ") and one.name.isprintable() for one in left)
    assert len(items) + len(left) == len(instances) - 1 + 2
    assert [one.name for one in found(tmp_path, "dev")[0]] == ["10"] and found(tmp_path, "test") == ([], [])


@pytest.mark.parametrize("subset", [None, 1])
@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ({"video_id": ["1"]}, "unreadable entry"), ({"video_id": {}}, "unreadable entry"),
        ({"url": "https://youtu.be/\ud800bcdefghijk"}, "unreadable entry"),
        ({"frame_end": 10**400}, "start or end is no frame"), ({"frame_start": 10**400}, "start or end is no frame"),
    ],
)  # fmt: skip
def test_no_value_of_a_field_ends_the_reader(field, reason, subset, tmp_path):
    make(tmp_path, [{"gloss": "a", "instances": [sign("1") | field, sign("2")]}], videos="12")
    (tmp_path / "nslt_1.json").write_text('{"1": {"subset": "train"}, "2": {"subset": "train"}}')
    items, left = found(tmp_path, subset=subset)
    assert [one.name for one in items] == ["2"]
    assert reason in {one.reason for one in left}


def test_subsets_choose_and_add(tmp_path):
    make(tmp_path, [{"gloss": "book", "instances": [sign("1"), sign("2")]}], videos="1234")
    (tmp_path / "nslt_1.json").write_text('{"1": {"subset": "train", "action": [0, 1, 9]}}')
    more = {"1": {"subset": "train", "action": [0, 1, 9]}, "3": {"subset": "train", "action": [1, 1, 9]},
            "4": {"subset": "val", "action": [7, 1, 9]}, "5": {"subset": "train", "action": []}}  # fmt: skip
    (tmp_path / "nslt_2.json").write_text(json.dumps(more))
    (tmp_path / "wlasl_class_list.txt").write_text("0\tbook\r\n1\tthank you\r\n\r\nnonsense\r\n")
    items, left = found(tmp_path)
    assert [(one.name, one.glosses) for one in items] == [("1", ("book",)), ("2", ("book",)), ("3", ("thank you",))]
    assert items[2].came_from == "nslt_2.json, 3" and [(one.name, one.reason) for one in left] == [("5", "no gloss")]
    assert [(one.name, one.reason) for one in found(tmp_path, "dev")[1]] == [("4", "no gloss")]
    assert [one.name for one in found(tmp_path, subset=1)[0]] == ["1"]
    assert [one.name for one in found(tmp_path, subset=2)[0]] == ["1", "3"]
    with pytest.raises(SignerError, match=r"has no nslt_300.json \(subsets here: 1, 2\)"):
        wlasl.items(tmp_path, "train", subset=300)
    (tmp_path / "WLASL_v0.3.json").unlink()
    assert [one.name for one in found(tmp_path)[0]] == ["1", "3"]


def test_another_folder_and_another_json_are_refused(tmp_path):
    def refused(says: str) -> None:
        with pytest.raises(SignerError, match=says) as error:
            wlasl.items(tmp_path, "train")
        assert "\n" not in str(error.value)

    refused("has no WLASL_v0.3.json and no nslt_2000.json")
    (tmp_path / "WLASL_v0.3.json").write_text('[{"gloss": "a", ')
    refused("has no folder videos; put the videos there")
    (tmp_path / "videos").mkdir()
    refused(r"WLASL_v0.3.json: is no JSON \(.*\); download it again")
    (tmp_path / "WLASL_v0.3.json").write_text("{}")
    refused("holds no list")
    (tmp_path / "WLASL_v0.3.json").write_text("[" * 100_000)
    refused("is nested too deeply")
    (tmp_path / "WLASL_v0.3.json").write_text("[]")
    (tmp_path / "nslt_1.json").write_text('{"1": {}}')
    (tmp_path / "wlasl_class_list.txt").mkdir()
    refused("wlasl_class_list.txt: is a folder; download it again")


@pytest.mark.skipif(not DATA, reason="SIGNER_DATA is unset: no real samples")
def test_real_files():
    items, left = found(Path(DATA) / "wlasl", "test")
    assert [(one.name, one.glosses) for one in items] == [("30173", ("interesting",))]
    assert Counter(one.reason for one in left) == {"no video file": 2878}
