"""Prompt2Sign's parallel files and clips in miniature: three normalisations, blank lines, faults of real copies."""

import json
import os
from pathlib import Path

import numpy as np
import passing_faults
import pytest

from signer_jax.cli.main import main
from signer_jax.data.datasets import prompt2sign
from signer_jax.data.datasets.item import Item, Left
from signer_jax.data.prepared import poses
from signer_jax.data.prepared.taking import ASSUMED, SIZED, USUAL, How, LeftOut, take
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton

DATA = os.environ.get("SIGNER_DATA")
FORMS = {"progressive": 151, "prompt2sign-v1": 151, "prompt2sign-2025": 385}


def skels(form: str, frames: int, digits: int = 5) -> str:
    """A line of random joints with the form's counter."""
    values = np.random.default_rng(frames).normal(size=(frames, FORMS[form])) / (9 if form == "prompt2sign-v1" else 3)
    if form == "prompt2sign-v1":
        values[:, 3:5] = 0.016  # missing
        values[:, -1] = np.arange(1, frames + 1) / frames
    else:
        values[:, 3:6] = 0.0  # the origin
        values[:, -1] = np.arange(frames) / (frames if form == "progressive" else max(1, frames - 1))
    return " ".join(f"{value:.{digits}f}" for value in values.reshape(-1))


def make(folder: Path, split: str = "train", end: str = "\n", **lists: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for ending, lines in lists.items():
        (folder / f"{split}.{ending}").write_bytes("".join(line + end for line in lines).encode())


def clip(folder: Path, kind: str = "npz", frames: int = 2, video: bytes | None = b"x") -> Path:
    (folder / "results_dwpose" / kind).mkdir(parents=True)
    for k in range(frames):
        (folder / "results_dwpose" / kind / f"{k + 1:08d}.{kind}").write_bytes(b"x")
    if video is not None:
        (folder / "crop_original_video.mp4").write_bytes(video)
    return folder


def found(folder: Path, split: str = "train") -> tuple[list[Item], list[Left]]:
    got = list(prompt2sign.items(folder, split))
    return [one for one in got if isinstance(one, Item)], [one for one in got if isinstance(one, Left)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("frames", [4, 300])
def test_a_normalisation_is_told_by_its_numbers(tmp_path, form, frames):
    make(tmp_path, skels=[skels(form, frames)], text=["ein text"])
    (one,), left = found(tmp_path)
    assert one.came_from == "train.text, line 1" and not left
    assert poses.read(one, 25.0).layout.partition(" ")[0] == form


def test_what_is_in_no_form_is_left_out_where_it_is_taken(tmp_path):
    lines = [skels("prompt2sign-v1", 4), " ".join(["0.5"] * 300), "a b c", skels("prompt2sign-v1", 4).rsplit(" ", 4)[0]]
    make(tmp_path, skels=lines, text=["a", "b", "c", "d"], files=["1", "2", "3", "4"])
    items, left = found(tmp_path)
    assert len(items) == 4 and not left and take(items[0], How(pose_fps=25)).pose_layout == "prompt2sign-v1"
    for one in items[1:]:
        with pytest.raises(LeftOut, match="pose cannot be read"):
            take(one, How(pose_fps=25))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_belong_together_and_a_blank_one_is_a_clip_without_poses(tmp_path, end):
    line = skels("prompt2sign-2025", 4)
    lists = {"skels": [line, "", line], "text": ['one "two"', "three", "four"], "files": ["c/1", "c/2", "c/3"]}
    make(tmp_path / "ASL_part", "dev", end, **lists, gloss=["ONE TWO", "", "FOUR"])
    assert prompt2sign.splits(tmp_path) == ["dev"]
    (one, three), (two,) = found(tmp_path, "dev")
    assert (one.name, one.text, one.glosses, one.glosses_by) == ("ASL_part/c/1", 'one "two"', ("ONE", "TWO"), "unknown")
    assert (one.pose, one.line, three.line) == (tmp_path / "ASL_part" / "dev.skels", 0, 2)
    assert (one.language, one.spoken, one.video) == ("ase", "en", None)
    assert (two.name, two.reason, two.where) == ("ASL_part/c/2", "no poses", "dev.text, line 2")


def test_each_part_has_its_languages(tmp_path):
    parts = {"ASL_part": "ase en", "GSL": "gsg de", "DSGS": "sgg de", "LSF-CH": "ssr fr", "LIS-CH": "slf it",
             "lsa": "aed es", "KSL_part": "kvk ko", "TSL": "tsm tr", "mine": " "}  # fmt: skip
    for part in parts:
        make(tmp_path / part, text=["hallo"], gloss=["HALLO"])
    items, left = found(tmp_path)
    assert {one.name.split("/")[0]: f"{one.language} {one.spoken}" for one in items} == parts and not left
    assert {one.name.split("/")[0]: one.glosses_by for one in items}["GSL"] == "human"
    assert found(tmp_path / "KSL_part")[0][0].language == "kvk"


def test_files_of_other_lengths_are_refused_before_the_first_line(tmp_path):
    line = skels("prompt2sign-v1", 2)
    make(tmp_path, skels=[line, line], text=["a", "b", "c"])
    with pytest.raises(SignerError, match=r"train\.skels: has 2 lines, train\.text 3, and they belong together"):
        prompt2sign.items(tmp_path, "train")
    make(tmp_path, skels=[line, line, ""], text=["a", "b", "c", "", ""])  # blank ones at an end move nothing
    items, left = found(tmp_path)
    assert [one.line for one in items] == [0, 1] and [one.reason for one in left] == ["no poses"]


def test_faults_of_lines(tmp_path):
    line = skels("prompt2sign-v1", 2)
    texts = ["a", "", "b\x1b[2J", "c", "d", "e"]
    make(tmp_path, skels=[line] * 6, text=texts, files=["1", "2", "3", "1", "", "6"])
    (tmp_path / "train.text").write_bytes((tmp_path / "train.text").read_bytes().replace(b"e\n", b"\xff\n"))
    items, left = found(tmp_path)
    assert [one.name for one in items] == ["1"]
    assert [one.reason for one in left] == ["no text", "control character", "named twice", "no name", "no UTF-8"]
    assert all(one.name.isprintable() for one in left)


def test_clips_of_the_tools_of_2025(tmp_path):
    results = tmp_path / "how2sign_test_results"
    one = clip(results / "one")
    clip(one.with_name("two"), "json", video=None)
    clip(one.with_name("three"), "npy", frames=0)
    clip(one.with_name("four"), video=b"")
    (one / "results_dwpose" / "json").mkdir()
    assert prompt2sign.splits(tmp_path) == ["test"]
    items, left = found(tmp_path, "test")
    assert {item.name: item.pose and item.pose.name for item in items} == {"one": "npz", "two": "json"}
    assert [item.video for item in items] == [one / "crop_original_video.mp4", None]
    assert {one.name: one.reason for one in left} == {"three": "empty folder of poses", "four": "empty video file"}
    assert prompt2sign.splits(clip(tmp_path / "other" / "b").parent) == ["train"]


def test_lines_name_their_clips_where_there_are_no_skels(tmp_path):
    make(tmp_path, "how2sign_train", text=["a", "b", "c", "d"], files=["x/one", "gone", "../../out", "two"])
    for name in ("one", "two", "three"):
        clip(tmp_path / "how2sign_train_results" / name)
    items, left = found(tmp_path)
    assert [(one.name, one.text, one.pose.parent.parent.name) for one in items] == [
        ("x/one", "a", "one"), ("two", "d", "two")
    ]  # fmt: skip
    assert [(one.name, one.reason) for one in left] == [
        ("gone", "no poses"), ("../../out", "path out of the folder"), ("three", "in no line of the texts")
    ]  # fmt: skip


def test_a_clip_is_of_its_own_split_and_of_one_line(tmp_path):
    make(tmp_path, text=["a", "b", "c"], files=["x/0001", "y/0001", "0002"])
    make(tmp_path, "val", text=["d"], files=["x/0001"])
    train = clip(tmp_path / "train_results" / "0001", "npz")
    dev, _ = (clip(tmp_path / "dev_results" / name, "npz") for name in ("0001", "0002"))
    items, left = found(tmp_path)
    assert [(one.text, one.pose.parent.parent) for one in items] == [("a", train)]
    assert [(one.name, one.reason, one.detail) for one in left] == [
        ("y/0001", "clip of another line", "train_results/0001"), ("0002", "no poses", "")
    ]  # fmt: skip
    assert [(one.text, one.pose.parent.parent) for one in found(tmp_path, "dev")[0]] == [("d", dev)]
    passing_faults.check_each(
        lambda: [found(tmp_path, split) for split in prompt2sign.splits(tmp_path)], tmp_path
    )  # also of two levels of folders


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(SignerError, match=r"has no train.skels, train.text \(or dev, test\) and no clip"):
        prompt2sign.splits(tmp_path)
    make(tmp_path, text=["a"])
    with pytest.raises(SignerError, match="has no split 'dev'; it has train"):
        prompt2sign.items(tmp_path, "dev")


@pytest.mark.parametrize("form", FORMS)
def test_each_normalisation_is_prepared(tmp_path, form):
    """Of 2025's, shares of a picture, where somebody says how large that is."""
    make(tmp_path / "source" / "ASL_part", text=["one two"], skels=[skels(form, 30)], files=["a"])
    words = ["prepare", "prompt2sign", "--source", str(tmp_path / "source"), "--pose-fps", "24", "--clean", "none"]
    words.append("--out")
    shares = form == "prompt2sign-2025"
    assert main([*words, str(tmp_path / "a")]) == (2 if shares else 0)
    assert main([*words, str(tmp_path / "b"), "--pose-size", "20x30"]) == 0
    report = json.loads((tmp_path / "b" / "report.json").read_text())
    assert report["counts"]["train"]["poses"] == 1 and report["how"]["pose_size"] == [20, 30]
    assert report["kept_otherwise"] == {ASSUMED: ["ASL_part/a"]} | ({SIZED: ["ASL_part/a"]} if shares else {})
    assert main([*words, str(tmp_path / "b"), "--pose-size", "30x20"]) == 2  # begun with another


def test_a_part_has_its_own_rate_and_the_flag_overrules_it(tmp_path):
    for i, part in enumerate(("ASL_part", "GSL_part", "KSL_part")):
        make(tmp_path / "source" / part, text=["one two"], skels=[skels("progressive", 30 + i)], files=["a"])
    words = ["prepare", "prompt2sign", "--source", str(tmp_path / "source"), "--clean", "none", "--out"]
    for out, more in (("own", []), ("all", ["--pose-fps", "30"])):
        assert main([*words, str(tmp_path / out), *more]) == 0
    own, every = (json.loads((tmp_path / out / "report.json").read_text()) for out in ("own", "all"))
    assert own["frame_rates"] == {"pose 24": 1, "pose 25": 1} and every["frame_rates"] == {"pose 30": 3}
    assert own["kept_otherwise"] == {USUAL: ["ASL_part/a", "GSL_part/a"]}
    assert [(row["name"], row["reason"]) for row in own["left_out"]] == [("KSL_part/a", "no frame rate")]
    assert list(every["kept_otherwise"]) == [ASSUMED]


def test_a_clips_video_is_told_by_its_name(tmp_path):
    names = ["train/-g0ePqbvVTM_5-8-rgb_front", "11August_2010_Wednesday_tagesschau-22", "a-2", "0001"]
    make(tmp_path / "ASL_part", skels=[skels("progressive", 4)] * 4, files=names)
    assert [one.recording for one in found(tmp_path)[0]] == [
        "ASL_part/-g0ePqbvVTM", "ASL_part/11August_2010_Wednesday_tagesschau", "", ""
    ]  # fmt: skip


def test_the_size_of_a_picture_is_height_and_width(tmp_path):
    values = np.zeros((4, 385))
    values[:, -1] = np.arange(4) / 3
    values[:, 36:54], values[:, :36] = np.arange(18), 0.5
    values[:, [4, 10]] = 0.4, 0.6  # both shoulders
    values[:, 1] = 0.9  # the nose
    line = " ".join(f"{value:.5f}" for value in values.reshape(-1))
    make(tmp_path, skels=[line])
    ((item,), _) = found(tmp_path)
    pose = take(item, How(pose_fps=24, pose_size=(100, 300))).pose
    assert pose is not None
    np.testing.assert_allclose(pose.coordinates[0, skeleton.INDEX["nose"], :2], [0, 40 / 60], atol=1e-5)


@pytest.mark.skipif(not DATA, reason="SIGNER_DATA is unset: no real samples")
def test_real_files():
    for split in ("train", "dev"):
        items, left = found(Path(DATA) / "skels", split)
        assert len(items) == 5 and not left and [one.line for one in items] == list(range(5))
        assert all(one.glosses and poses.read(one, 25.0).layout.startswith("progressive") for one in items)
    items, left = found(Path(DATA) / "dwpose")
    assert [(one.name, one.pose.name) for one in items] == [("human_signer", "json"), ("wlasl_01214", "npz")]
    assert not left and all(one.video for one in items)
