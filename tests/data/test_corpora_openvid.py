"""OpenVid's table beside its videos, made here: what a run reads, at which size and rate, what is left out and told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from signer_jax import configuration
from signer_jax.data import records, video
from signer_jax.data.corpora import openvid
from signer_jax.data.datasets import openvid as dataset
from signer_jax.data.datasets.item import Item
from signer_jax.data.prepare import advice, prepare
from signer_jax.data.windows import Limits, MotionWindows
from signer_jax.errors import SignerError
from signer_jax.validation import read

HEADER = "video,caption,aesthetic score,frame,fps,seconds"
SIZE = (32, 48)


def make(folder: Path, *rows: str, table: str = "OpenVidHD.csv", videos: tuple[str, ...] = ("a.mp4", "b.mp4")) -> None:
    """The videos are of 10 frames of 48 x 64 pixels (height x width), 25 a second: grey, a level lighter each."""
    (folder / "video").mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(videos):
        levels = 20 * np.arange(10) + 10 * k
        frames = np.broadcast_to(levels[:, None, None, None], (10, 48, 64, 3)).astype(np.uint8)
        video.write(folder / "video" / name, frames, 25.0)
    rows = rows or ("a.mp4,a dog runs,5.1,10,25,0.4", '"b.mp4","one, ""two""\nlines",4,10,25,0.4')
    (folder / table).write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


def samples(folder: Path, *sizes: tuple[int, int], fps: float = 12.5, crop: float = 0.25, enlarge: float = 1.0):
    return list(openvid.samples(folder, sizes=sizes or [SIZE], fps=fps, crop=crop, enlarge=enlarge))


def test_a_video_has_its_caption_the_runs_size_and_its_rate(tmp_path, capsys):
    make(tmp_path)
    first, second = samples(tmp_path)
    assert (first.name, first.text, first.signer, first.language) == ("a.mp4", "a dog runs", "a.mp4", "")
    assert second.text == 'one, "two" lines' and second.pose is None and second.glosses == ()
    assert first.video.shape == (5, *SIZE, 3) and first.video.dtype == np.uint8
    whole = video.read(tmp_path / "video" / "a.mp4")[0]
    np.testing.assert_allclose(first.video.mean((1, 2, 3)), whole[::2].mean((1, 2, 3)), atol=0.6)
    assert capsys.readouterr().err == ""


def test_more_videos_than_a_corpus_can_list_are_refused_before_the_first_is_read(tmp_path, monkeypatch):
    make(tmp_path)
    read = []
    monkeypatch.setattr(openvid, "_fitted", lambda *args: read.append(args))
    rows = (Item(f"{k:0200}.mp4", "train", "a thing") for k in range(160_000))
    monkeypatch.setattr(dataset, "items", lambda source, split: rows)
    with pytest.raises(SignerError, match="list of its 160000 videos is too long .*; divide the table") as error:
        samples(tmp_path)
    assert not read and "\n" not in str(error.value)


def test_the_frames_of_another_rate_by_hand():
    timed = [(0.0, "a"), (0.1, "b"), (0.2, "c"), (0.5, "d")]
    assert list(openvid.at_rate(timed, 10.0, 10.0)) == ["a", "b", "c", "c", "c", "d"]
    assert list(openvid.at_rate(timed, 10.0, 20.0)) == list("aabbccccccdd")
    assert list(openvid.at_rate(timed, 10.0, 5.0)) == ["a", "c", "c"]
    assert list(openvid.at_rate([], 10.0, 5.0)) == []


def test_the_middle_is_kept_and_nothing_is_stretched(tmp_path):
    """A dot in the middle of a wide video is round in a square."""
    make(tmp_path)
    y, x = np.mgrid[:64, :96]
    dot = (np.hypot(y - 31.5, x - 47.5) < 16)[None, ..., None] * np.full((3, 1, 1, 3), 255)
    video.write(tmp_path / "video" / "a.mp4", dot.astype(np.uint8), 12.5)
    seen = samples(tmp_path, (32, 32), crop=0.4)[0].video[0, ..., 0] > 128
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert (len(rows), len(columns)) == (16, 16) and (rows[0], columns[0]) == (8, 8)


def test_every_row_and_file_that_is_not_read_is_told(tmp_path, capsys):
    good = [f"a{i}.mp4,a thing,1,1,1,1" for i in range(12)]
    bad = [
        "/etc/passwd,outside,1,1,1,1", "../b.mp4,outside,1,1,1,1", ".hidden,outside,1,1,1,1", "x\\y.mp4,w,1,1,1,1",
        "a0.mp4,again,1,1,1,1", "b.mp4,,1,1,1,1", "b.mp4,cut,1", "b.mp4,be\x07ll,1,1,1,1", "out.mp4,a link,1,1,1,1",
        'c.mp4,"a quote"s end,1,1,1,1',
    ]  # fmt: skip
    make(tmp_path, *good, *bad, "gone.mp4,absent,1,1,1,1", videos=tuple(f"a{i}.mp4" for i in range(12)))
    (tmp_path / "video" / "b.mp4").write_bytes((tmp_path / "video" / "a0.mp4").read_bytes())
    (tmp_path / "outside.mp4").write_bytes((tmp_path / "video" / "a0.mp4").read_bytes())
    (tmp_path / "video" / "out.mp4").symlink_to(tmp_path / "outside.mp4")
    for spare in ("more.mp4", "most.mp4"):
        (tmp_path / "video" / spare).write_bytes((tmp_path / "video" / "a0.mp4").read_bytes())
    assert openvid.names(tmp_path) == [f"a{i}.mp4" for i in range(12)]
    said = capsys.readouterr().err
    assert all(line.startswith("signer: ") for line in said.splitlines())
    assert "OpenVidHD.csv, line 14, /etc/passwd: path out of the folder" in said
    assert "line 18, a0.mp4: named twice" in said and "10 of 23 rows left out" in said
    assert "1 of 23 rows name a video that is not in video/ (the first: gone.mp4)" in said
    assert "2 files in video/ are in no row of the table (the first: more.mp4)" in said


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"a.mp4,,1,1,1,1", ", a.mp4: no text"),
        (b"a.mp4,cut,1", ": row cut short (3 cells where the header has 6)"),
        (b"a.mp4,be\x07ll,1,1,1,1", ", a.mp4: control character (in caption)"),
        (b"a.mp4,\xff,1,1,1,1", ", a.mp4: no UTF-8 (in caption)"),
        (b'a.mp4,"a"b,1,1,1,1', ": unreadable row (is no csv"),
        (b"dir/a.mp4,x,1,1,1,1", ", dir/a.mp4: path out of the folder"),
        (b"out.mp4,x,1,1,1,1", ", out.mp4: path out of the folder ("),
        (b"empty.mp4,x,1,1,1,1", ", empty.mp4: empty video file (empty.mp4)"),
    ],
)
def test_a_bad_row_is_named(tmp_path, capsys, row, why):
    make(tmp_path)
    (tmp_path / "video" / "out.mp4").symlink_to("/etc/hostname")
    (tmp_path / "video" / "empty.mp4").touch()
    table = tmp_path / "OpenVidHD.csv"
    table.write_bytes(f"{HEADER}\n".encode() + row + b"\nb.mp4,good,1,1,1,1\n")
    assert openvid.names(tmp_path) == ["b.mp4"]
    assert f"left out: OpenVidHD.csv, line 2{why}" in capsys.readouterr().err.splitlines()[0]


def test_the_tables_places_and_faults(tmp_path):
    def refused(says: str) -> None:
        with pytest.raises(SignerError, match=says) as error:
            samples(tmp_path)
        assert "\n" not in str(error.value)

    refused("has no csv; give the folder that holds OpenVidHD.csv and video/")
    make(tmp_path, table="mine.csv")
    assert len(samples(tmp_path)) == 2
    (tmp_path / "other.csv").write_text("a\n")
    refused(r"has several tables \(mine.csv, other.csv\)")
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "mine.csv").rename(tmp_path / "data" / "train" / "OpenVid-1M.csv")
    assert len(samples(tmp_path)) == 2
    table = tmp_path / "OpenVidHD.csv"
    for text, says in (
        ("", r"has no header \(it is empty\); download it again"),
        ("name,caption\n", r"lacks the column 'video' \(it has name, caption\)"),
        (HEADER + "\n", "holds no row"), (HEADER + "\nz.mp4,x,1,1,1,1\n", "none of its 1 rows names a video that is"),
        (HEADER + "\n" + "a.mp4,,1,1,1,1\n" * 3, "more than half of its 3 rows cannot be read"),
        (HEADER + '\na.mp4,"open', "more than half of its 1 rows .*unexpected end of data"),
    ):  # fmt: skip
        table.write_text(text)
        refused(says)
    make(tmp_path)
    (tmp_path / "video").rename(tmp_path / "videos")
    refused("has no folder video; extract the archives there")


def test_a_video_that_cannot_be_read_or_does_not_fit_is_left_out(tmp_path, capsys, monkeypatch):
    rows = [f"{name}.mp4,x,1,1,1,1" for name in "abcd"]
    make(tmp_path, *rows, videos=("a.mp4", "b.mp4", "c.mp4", "d.mp4"))
    (tmp_path / "video" / "b.mp4").write_bytes(b"no video")
    tall = np.zeros((4, 64, 32, 3), np.uint8)
    video.write(tmp_path / "video" / "c.mp4", tall, 25.0)
    assert [one.name for one in samples(tmp_path, (24, 32))] == ["a.mp4", "d.mp4"]
    said = capsys.readouterr().err
    assert "c.mp4: its frames of 32x64 would lose too much at their sides at config.data.size 24,32" in said
    assert "raise config.data.crop" in said and "2 of 4 videos left out" in said and "b.mp4" in said
    with pytest.raises(SignerError, match="would be enlarged more than 1 times .* raise config.data.enlarge"):
        samples(tmp_path, (96, 128))
    monkeypatch.setattr(openvid, "_ENOUGH", 3 * 24 * 32 * 3)
    with pytest.raises(SignerError, match="takes more than .* cut it into clips"):
        samples(tmp_path, (24, 32))


def several(folder: Path) -> dict[str, np.ndarray]:
    """Videos of aspects of their own beside their table: wide, tall, square, and one that is much too wide."""
    sides = {"wide.mp4": (48, 64), "tall.mp4": (64, 48), "square.mp4": (48, 48), "line.mp4": (16, 96)}
    make(folder, *(f"{name},a thing,1,1,1,1" for name in sides), videos=())
    rng = np.random.default_rng(0)
    for name, (height, width) in sides.items():
        coarse = rng.integers(0, 255, (6, height // 16, width // 16, 3)).astype(np.uint8)
        video.write(folder / "video" / name, coarse.repeat(16, axis=1).repeat(16, axis=2), 12.5)
    return {name: video.read(folder / "video" / name)[0] for name in sides}


def test_a_video_is_brought_to_the_size_that_cuts_off_least(tmp_path, capsys):
    """Nothing is stretched: what comes is the video, resized by one number, its middle."""
    whole = several(tmp_path)
    found = {one.name: one.video for one in samples(tmp_path, (24, 32), (32, 24), (16, 16))}
    assert {name: frames.shape[1:3] for name, frames in found.items()} == {
        "wide.mp4": (24, 32), "tall.mp4": (32, 24), "square.mp4": (16, 16)
    }  # fmt: skip
    for name, frames in found.items():
        size = frames.shape[2], frames.shape[1]
        direct = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.LANCZOS)) for one in whole[name]]
        np.testing.assert_array_equal(frames, direct)
        assert whole[name].shape[1] * size[0] == whole[name].shape[2] * size[1]
    said = capsys.readouterr().err
    assert "line.mp4: its frames of 96x16 would lose too much at their sides at config.data.size 24,32" in said
    assert "24,32 and config.data.other_sizes; raise config.data.crop" in said and "1 of 4 videos left out" in said
    # Of one size alone the others are cut to it, or left out.
    assert [one.name for one in samples(tmp_path, (24, 32), crop=0.3)] == ["wide.mp4", "square.mp4"]


def settings_of(folder: Path, *overrides: str):
    given = ("data.corpus=openvid", f"data.source={folder}", "data.size=24,32", "data.fps=12.5", "stages=vae")
    return read(configuration.load("default", [f"--config.{one}" for one in (*given, *overrides)]))


def test_a_prepared_corpus_has_captions_beside_videos_and_no_poses(tmp_path):
    make(tmp_path / "source")
    corpus = prepare(settings_of(tmp_path / "source").data, 0, tmp_path / "run" / "data")
    assert corpus.listed("train") == [(5, True, "a.mp4"), (5, True, "b.mp4")]
    assert [corpus.count("train", kind) for kind in ("text", "pose", "video")] == [0, 0, 2]
    assert corpus.about["fps"] == 12.5 and corpus.listed("dev") == [] and len(corpus.texts("test")) == 0
    motions = corpus.motions("train")
    assert motions[0].text == "a dog runs" and motions.video(0).shape == (5, 24, 32, 3)
    window = MotionWindows(motions, np.arange(7), 2, Limits(4, 4, 2)).window(0, 1, 3)
    assert window["pose"].shape == (3, 7, 2) and not window["pose"].any() and not window["confidence"].any()


def test_a_corpus_of_several_sizes_says_which_each_video_has(tmp_path):
    several(tmp_path / "source")
    data = settings_of(tmp_path / "source", "data.other_sizes=32x24,16x16").data
    corpus = prepare(data, 0, tmp_path / "run" / "data")
    assert corpus.size == (24, 32) and corpus.sizes == [(24, 32), (32, 24), (16, 16)]
    assert corpus.sizes_of("train") == corpus.sizes and corpus.sizes_of("dev") == []
    assert corpus.listed("train") == [(6, True, f"{name}.mp4") for name in ("wide", "tall", "square")]
    motions = corpus.motions("train")
    assert [motions.video(i).shape[1:3] for i in range(3)] == corpus.sizes
    other = records.Records(corpus.directory / "train.motion.arrayrecord", corpus.sizes[::-1])
    with pytest.raises(SignerError, match="its video is 32x24, corpus.json's size 16x16"):
        other.video(0)
    one = prepare(settings_of(tmp_path / "source").data, 0, tmp_path / "one" / "data")  # as ever
    assert "sizes" not in one.about and all(len(row) == 3 for row in one.about["motions"]["train"])
    with pytest.raises(
        SignerError, match="config.data.other_sizes 32x24: the videos of builtin all have config.data.size"
    ):
        prepare(replace(data, corpus="builtin", source="", other_sizes=("32x24",)), 0, tmp_path / "two" / "data")
    with pytest.raises(SignerError, match="config.data.other_sizes is .*each HEIGHTxWIDTH such as 832x480"):
        settings_of(tmp_path / "source", "data.other_sizes=32,")


def test_a_corpus_with_poses_still_misses_one(tmp_path):
    """Of a corpus that lists poses, a motion without one is damaged, as ever."""
    make(tmp_path / "source")
    corpus = prepare(settings_of(tmp_path / "source").data, 0, tmp_path / "run" / "data")
    other = records.Records(corpus.directory / "train.motion.arrayrecord", corpus.sizes_of("train"))
    with pytest.raises(SignerError, match="it has no pose, though corpus.json lists one"):
        other.posed(other[0], 0)


def test_a_rate_must_be_named(tmp_path):
    make(tmp_path / "source")
    with pytest.raises(SignerError, match="config.data.fps 0: videos of openvid have rates of their own"):
        prepare(settings_of(tmp_path / "source", "data.fps=0").data, 0, tmp_path / "run" / "data")


def test_several_processes_are_told_to_prepare_a_large_corpus_before(tmp_path):
    given = [f"--config.{name}=there" for name in ("vae.init", "renderer.init", "renderer.text_encoder", "data.source")]
    data = read(configuration.load("wan_general", given)).data
    told = advice(data, tmp_path / "data", 16)
    assert told.startswith("config.data.corpus 'openvid': the first of 16 processes prepares it alone")
    assert "`signer prepare openvid --source … --out DIR --shard I/N`" in told
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "there").touch()
    builtin = read(configuration.load("demo")).data
    assert (
        not advice(data, tmp_path / "data", 16) and not advice(data, tmp_path, 1) and not advice(builtin, tmp_path, 2)
    )
