"""How2Sign clips: the view's geometry on a clip made here, the split, and a real clip."""

import os
from pathlib import Path

import numpy as np
import pytest

from signer_jax.data import framing, video
from signer_jax.data.corpora import how2sign_clips
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file
from signer_jax.types import Pose

DATA = os.environ.get("SIGNER_DATA")
SHOULDERS = {"right_shoulder": (60.0, 50.0), "left_shoulder": (100.0, 50.0)}
HEIGHT, WIDTH, FRAMES = 96, 160, 8


def _make(folder: Path, names: list[str]) -> None:
    """Clips of a bright dot that moves over black, tracked by the right wrist."""
    clips = folder / "sentence_level" / "train" / "rgb_front"
    (clips / "raw_videos").mkdir(parents=True)
    (clips / "features" / "holistic_pose").mkdir(parents=True)
    coordinates = np.zeros((FRAMES, 128, 3), np.float32)
    pictures = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for t in range(FRAMES):
        x, y = 60 + 5 * t, 60
        pictures[t, y - 3 : y + 4, x - 3 : x + 4] = 255
        coordinates[t, skeleton.INDEX["right_wrist"], :2] = (x + 0.5, y + 0.5)
    for name, place in SHOULDERS.items():
        coordinates[:, skeleton.INDEX[name], :2] = place
    confidence = (np.abs(coordinates).sum(-1) > 0).astype(np.float32)
    for name in names:
        video.write(clips / "raw_videos" / f"{name}.mp4", pictures, 24.0)
        pose_file.write(clips / "features" / "holistic_pose" / f"{name}.pose", Pose(coordinates, confidence, 24.0))


def _centre(picture: np.ndarray) -> np.ndarray:
    light = picture.astype(float).mean(-1)
    light[light < 60] = 0
    y, x = np.mgrid[: light.shape[0], : light.shape[1]] + 0.5
    return np.array([(x * light).sum(), (y * light).sum()]) / light.sum()


def _names(numbers: range, signer: str = "_ab_c_video") -> list[str]:
    return [f"{signer}_{i}-8-rgb_front" for i in numbers]


def test_pose_lands_on_the_pixels(tmp_path):
    _make(tmp_path, _names(range(1)))
    (sample,) = how2sign_clips.samples(tmp_path, "train", size=(52, 52))
    assert sample.video.shape == (FRAMES, 52, 52, 3) and sample.pose.coordinates.shape == (FRAMES, 128, 3)
    assert (sample.signer, sample.language, sample.text, sample.glosses) == ("_ab_c_video", "ase", "", ())
    assert sample.pose.fps == 24
    places = skeleton.to_pixels(sample.pose.coordinates[:, skeleton.INDEX["right_wrist"], :2], 52)
    for picture, place in zip(sample.video, places, strict=True):
        np.testing.assert_allclose(_centre(picture), place, atol=0.3)


@pytest.mark.parametrize("size", [(52, 104), (104, 52), (52, 88)])
def test_a_rectangle_shows_more_and_stretches_nothing(tmp_path, size):
    """Its middle square is the square's picture, and the pose lands on its pixels."""
    _make(tmp_path, _names(range(1)))
    (sample,) = how2sign_clips.samples(tmp_path, "train", size=size)
    (square,) = how2sign_clips.samples(tmp_path, "train", size=(52, 52))
    assert sample.video.shape == (FRAMES, *size, 3)
    top, left = ((side - 52) // 2 for side in size)
    np.testing.assert_allclose(sample.video[:, top : top + 52, left : left + 52].astype(int), square.video, atol=1)
    places = skeleton.to_pixels(sample.pose.coordinates[:, skeleton.INDEX["right_wrist"], :2], *size)
    for picture, place in zip(sample.video, places, strict=True):
        np.testing.assert_allclose(_centre(picture), place, atol=0.3)


def test_another_frame_rate_keeps_them_together(tmp_path):
    _make(tmp_path, _names(range(1)))
    (sample,) = how2sign_clips.samples(tmp_path, "train", size=(52, 52), fps=12.0)
    assert len(sample.video) == len(sample.pose) == 4 and sample.pose.fps == 12
    places = skeleton.to_pixels(sample.pose.coordinates[:, skeleton.INDEX["right_wrist"], :2], 52)
    moved = 5 * 52 / (skeleton.VIEW_SIDE * 40)  # what the dot moves in a frame: the nearest one was taken
    for picture, place in zip(sample.video, places, strict=True):
        assert np.abs(_centre(picture) - place).max() < moved / 2 + 0.3


def test_area_weights_by_hand():
    np.testing.assert_allclose(framing.area_weights(1, 4, 2, 6), [[0, 0.5, 0.5, 0, 0, 0], [0, 0, 0, 0.5, 0.5, 0]])
    np.testing.assert_allclose(framing.area_weights(0.5, 3, 2, 3), [[1 / 3, 2 / 3, 0], [0, 0, 1]])
    # Outside on both ends: the edge pixels are repeated.
    np.testing.assert_allclose(framing.area_weights(-2, 6, 3, 2), [[1, 0], [0.5, 0.5], [0, 1]])
    np.testing.assert_allclose(framing.area_weights(-3.3, 17.1, 7, 9).sum(1), 1, rtol=1e-6)


def test_the_splits_go_by_the_clips_numbers(tmp_path):
    _make(tmp_path, _names(range(7, 13)) + _names(range(4), "other_video"))
    names = {split: [clip.name for clip in how2sign_clips.clips(tmp_path, split)] for split in how2sign_clips.SPLITS}
    assert names["dev"] == ["_ab_c_video_11-8-rgb_front"]  # 7 8 (9) 10 [11] 12: numbers, not text
    assert names["test"] == ["_ab_c_video_9-8-rgb_front", "other_video_2-8-rgb_front"]
    assert len(set(names["train"])) == 7 and not set(names["train"]) & {*names["dev"], *names["test"]}


def test_a_part_of_a_clip_is_of_its_video_and_tables_are_not_read(tmp_path):
    names = [f"_ab_c_video_{part}-8-rgb_front" for part in ("0_1", "0_0", "10", "2")]
    _make(tmp_path, names)
    (tmp_path / "how2sign_realigned_train.csv").write_text("no table\n")
    assert [clip.name for clip in how2sign_clips.clips(tmp_path, "test")] == [names[3]]  # 0_0 0_1 [2] 10
    found = how2sign_clips.clips(tmp_path, "train")
    assert [clip.name for clip in found] == [names[1], names[0], names[2]]
    assert {clip.recording for clip in found} == {"_ab_c_video"}


def test_faults_are_named_at_once(tmp_path):
    with pytest.raises(SignerError, match="raw_videos"):
        how2sign_clips.samples(tmp_path, "train", size=(16, 16))
    _make(tmp_path, _names(range(2)))
    with pytest.raises(SignerError, match="unknown split 'val'"):
        how2sign_clips.samples(tmp_path, "val", size=(16, 16))
    for pose in tmp_path.rglob("*.pose"):
        pose.rename(pose.with_name(pose.name.replace("_ab_c", "_xy_z")))
    with pytest.raises(
        SignerError, match=r"more than half of its 4 clips .*first: clip _ab_c_video_0-8-rgb_front lacks its po"
    ):
        how2sign_clips.samples(tmp_path, "train", size=(16, 16))


def test_a_bad_clip_is_left_out_and_named(tmp_path, capsys):
    """And moves no other one to another split."""
    _make(tmp_path, _names(range(10)))
    before = {split: [clip.name for clip in how2sign_clips.clips(tmp_path, split)] for split in how2sign_clips.SPLITS}
    poses = sorted(tmp_path.rglob("*.pose"))
    poses[0].unlink()  # the first of train
    poses[3].write_bytes(poses[3].read_bytes()[:-9])  # another one
    assert capsys.readouterr().err == ""
    names = [sample.name for sample in how2sign_clips.samples(tmp_path, "train", size=(16, 16))]
    assert names == [name for name in before["train"] if name not in (poses[0].stem, poses[3].stem)] and len(names) == 4
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4 and all(line.startswith("signer: ") for line in said)
    assert f"left out: clip {poses[0].stem} lacks its pose" in said[0] and "1 of 10 clips left out" in said[1]
    assert f"left out: {poses[3]}: not a whole .pose file" in said[2] and "1 of 5 clips left out" in said[3]
    for split in ("dev", "test"):
        assert [clip.name for clip in how2sign_clips.clips(tmp_path, split)] == before[split]


def test_no_more_frames_are_held_than_the_pose_has(tmp_path, monkeypatch):
    _make(tmp_path, _names(range(1)))
    file = next(tmp_path.rglob("*.pose"))
    pose = pose_file.read(file)
    pose_file.write(file, pose.slice(0, 3))
    decoded, frames = [], video.frames
    monkeypatch.setattr(video, "frames", lambda path: (decoded.append(1) or frame for frame in frames(path)))
    (sample,) = how2sign_clips.samples(tmp_path, "train", size=(16, 16))
    assert len(sample.video) == len(sample.pose) == len(decoded) == 3


def test_a_pose_that_does_not_fit_its_video_is_named(tmp_path):
    _make(tmp_path, _names(range(1)))
    file = next(tmp_path.rglob("*.pose"))
    pose = pose_file.read(file)
    pose_file.write(file, Pose(pose.coordinates, pose.confidence, 48.0))
    with pytest.raises(SignerError, match=r"0-8-rgb_front\.pose: has 48 frames a second, its video 24"):
        list(how2sign_clips.samples(tmp_path, "train", size=(16, 16)))
    pose_file.write(file, Pose(pose.coordinates, np.zeros_like(pose.confidence), 24.0))
    with pytest.raises(SignerError, match=r"0-8-rgb_front\.pose: .*both shoulders"):
        list(how2sign_clips.samples(tmp_path, "train", size=(16, 16)))


@pytest.mark.skipif(not DATA, reason="SIGNER_DATA is unset: no real samples")
def test_a_real_clip():
    source = Path(DATA) / "how2sign"
    assert [len(how2sign_clips.clips(source, split)) for split in ("train", "dev", "test")] == [19, 6, 6]
    sample = next(how2sign_clips.samples(source, "dev", size=(64, 64)))
    assert len(sample.video) == len(sample.pose) > 24 and sample.pose.fps == 24
    assert sample.signer == "_20g7MG8K1U" and sample.pose.coordinates.dtype == np.float32
    # Skin at the nose, the green screen in the corner.
    places = skeleton.to_pixels(sample.pose.coordinates[:, skeleton.INDEX["nose"], :2], 64).astype(int)
    skin = sample.video[np.arange(len(places)), places[:, 1], places[:, 0]].astype(int)
    corner = sample.video[:, 1, 1].astype(int)
    assert (skin[:, 0] > skin[:, 1]).mean() > 0.95 and (corner[:, 1] > corner[:, 0]).all()
