"""`signer prepare`: items cut by real times, what is left out, workers and kills, a run on the set where it lies."""

import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import ROOT, TINY
from PIL import Image

from signer_jax.cli.main import main
from signer_jax.cli.prepare import DATASETS
from signer_jax.data import shards, streams, video
from signer_jax.data.datasets.item import Item, Left
from signer_jax.data.prepared import layout, reading, timing, work
from signer_jax.data.prepared.taking import CUT, DISAGREE, NOBODY, RATE, SEVERAL, TURNED, VARIABLE, How, LeftOut, take
from signer_jax.data.shards import Shard
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file
from signer_jax.types import Pose

HEIGHT, WIDTH = 48, 64


def level(picture: np.ndarray) -> float:
    return float(picture[:8, :8].mean())


def film(path: Path, stamps, *, size=(HEIGHT, WIDTH), corner=None) -> Path:
    """An mp4 with frames at these times in milliseconds; frame i has the grey level 6 i in its upper left."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10", "g": "5"})
        stream.height, stream.width, stream.pix_fmt, stream.time_base = *size, "yuv420p", Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, stamp in enumerate(stamps):
            picture = np.full((*size, 3), 128, np.uint8)
            picture[:8, :8] = min(6 * i, 255) if corner is None else corner
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(stamp), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def even(frames: int, fps: float = 25) -> list[float]:
    return [i * 1000 / fps for i in range(frames)]


def posed(path: Path, frames: int, fps: float = 25, seen: bool = True) -> Path:
    """A `.pose` file in pixels: shoulders 12 pixels apart around the middle, a nose that goes down a pixel a frame."""
    coordinates = np.zeros((frames, len(skeleton.JOINTS), 3), np.float32)
    coordinates[..., :2] = (WIDTH / 2, HEIGHT / 2)
    coordinates[:, skeleton.INDEX["right_shoulder"], 0] -= 6
    coordinates[:, skeleton.INDEX["left_shoulder"], 0] += 6
    coordinates[:, skeleton.INDEX["nose"], 1] = np.arange(frames)
    confidence = np.full(coordinates.shape[:2], 1.0 if seen else 0.0, np.float32)
    if not seen:
        confidence[:, skeleton.INDEX["nose"]] = 1
    pose_file.write(path, Pose(coordinates, confidence, fps), size=(WIDTH, HEIGHT))
    return path


def levels(data: bytes) -> list[float]:
    return [level(frame) for _, frame in video.frames_of("x", data)]


# ---- One item --------------------------------------------------------------------------------------------------------


def test_a_whole_video_keeps_its_own_bytes(tmp_path):
    file = film(tmp_path / "a.mp4", even(12))
    taken = take(Item("a", "train", "hello", video=file, pose=posed(tmp_path / "a.pose", 12)), How())
    assert taken.video == file.read_bytes() and taken.mended == ()
    assert (taken.size, taken.video_fps, taken.seconds) == ((HEIGHT, WIDTH), 25, pytest.approx(12 / 25))
    assert taken.pose is not None and len(taken.pose) == 12 and taken.scale == pytest.approx(12)
    np.testing.assert_allclose(taken.centre, (WIDTH / 2, HEIGHT / 2))


def test_a_part_of_a_video_is_cut_by_its_times(tmp_path):
    file = film(tmp_path / "a.mp4", even(40))
    item = Item("a", "train", video=file, pose=posed(tmp_path / "a.pose", 40), seconds=(0.4, 0.8))
    taken = take(item, How())
    assert taken.video is not None and taken.pose is not None
    np.testing.assert_allclose(levels(taken.video), 6 * np.arange(10, 20), atol=4)
    noses = taken.pose.coordinates[:, skeleton.INDEX["nose"], 1]
    np.testing.assert_allclose(noses, (np.arange(10, 20) - HEIGHT / 2) / 12, atol=1e-5)


def test_frames_are_counted_from_0_and_a_cut_pose_is_not_cut_again(tmp_path):
    file = film(tmp_path / "a.mp4", even(40))
    item = Item("a", "train", video=file, pose=posed(tmp_path / "a.pose", 10), frames=(10, 20), pose_is_cut=True)
    taken = take(item, How())
    assert taken.video is not None and taken.pose is not None
    np.testing.assert_allclose(levels(taken.video), 6 * np.arange(10, 20), atol=4)
    np.testing.assert_allclose(
        taken.pose.coordinates[:, skeleton.INDEX["nose"], 1], (np.arange(10) - HEIGHT / 2) / 12, atol=1e-5
    )


def test_a_variable_rate_is_brought_to_one_by_the_frames_times(tmp_path):
    gaps = [40] * 10 + [120] * 10 + [40] * 10  # what a telephone does in the dark
    stamps = np.concatenate([[0], np.cumsum(gaps)])
    file = film(tmp_path / "a.mp4", stamps)
    taken = take(Item("a", "train", video=file, pose=posed(tmp_path / "a.pose", len(stamps))), How())
    assert VARIABLE in taken.mended and taken.video_fps == pytest.approx(25)
    assert taken.video is not None and taken.pose is not None
    wanted = np.arange(len(taken.pose)) / 25
    shown = np.abs(stamps[None] / 1000 - wanted[:, None]).argmin(1)
    assert len(taken.pose) == len(levels(taken.video)) == pytest.approx(stamps[-1] / 40 + 1, abs=1)
    np.testing.assert_allclose(levels(taken.video), 6 * shown, atol=5)
    noses = taken.pose.coordinates[:, skeleton.INDEX["nose"], 1] * 12 + HEIGHT / 2
    np.testing.assert_allclose(noses, np.interp(wanted, stamps / 1000, np.arange(len(stamps))), atol=0.1)


def test_a_turned_video_comes_upright(tmp_path):
    file = film(tmp_path / "a.mp4", even(8), corner=255)
    data = bytearray(file.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the matrix: x' = -y, y' = x, a quarter turn with the clock
    quarter = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter)
    file.write_bytes(data)
    taken = take(Item("a", "train", video=file), How())
    assert taken.size == (WIDTH, HEIGHT) and taken.mended == (TURNED,) and taken.video is not None
    _, frame = next(video.frames_of("x", taken.video))
    assert frame[:8, -8:].mean() > 240 and frame[:8, :8].mean() < 140
    np.testing.assert_array_less(200, next(video.frames(file))[2:6, -6:-2])  # of whoever reads videos


def test_odd_sizes_become_even_and_a_size_is_cut_around_the_signer(tmp_path):
    file, pose = film(tmp_path / "a.mkv", even(8), size=(46, 62)), posed(tmp_path / "a.pose", 8)
    taken = take(Item("a", "train", video=film(tmp_path / "b.mp4", even(8)), pose=pose), How(size=(31, 21)))
    assert taken.size == (32, 22) and taken.video is not None
    unit, x, y = skeleton.view(31, 21)
    assert taken.scale == pytest.approx(unit)
    np.testing.assert_allclose(taken.centre, (x, y), rtol=1e-6)
    assert next(video.frames_of("x", taken.video))[1].shape == (32, 22, 3)
    assert take(Item("a", "train", video=file), How(fps=10)).video_fps == 10


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"seconds": (9.0, 10.0)}, "begins beyond its end"),
        ({"seconds": (0.6, 0.4)}, "end before start"),
        ({"seconds": (0.2, 0.24)}, "too short"),
        ({"pose": 60}, DISAGREE),
        ({"pose": "nobody"}, NOBODY),
        ({"pose": "broken"}, "pose cannot be read"),
        ({"video": "cut"}, "video is damaged or cut short"),
        ({"video": None}, "no text, pose or video"),
        ({"text": "a" + "\u0301" * 40}, "text is damaged"),
    ],
)
def test_what_cannot_be_kept_says_why(fields, reason, tmp_path):
    made = {"video": film(tmp_path / "a.mp4", even(20)), **fields}
    if made["video"] == "cut":
        made["video"] = tmp_path / "a.mp4"
        made["video"].write_bytes(made["video"].read_bytes()[:-200])
    if isinstance(made.get("pose"), int):
        made["pose"] = posed(tmp_path / "a.pose", made["pose"])
    elif made.get("pose") == "nobody":
        made["pose"] = posed(tmp_path / "a.pose", 20, seen=False)
    elif "pose" in made:
        made["pose"] = tmp_path / "a.pose"
        made["pose"].write_bytes(posed(tmp_path / "b.pose", 20).read_bytes()[:-9])
    with pytest.raises(LeftOut) as left:
        take(Item("a", "train", **made), How())
    assert left.value.reason == reason


def test_what_is_kept_otherwise_than_it_came_says_so(tmp_path):
    file = film(tmp_path / "a.mp4", even(20))
    taken = take(Item("a", "train", video=file, seconds=(0.4, 5.0)), How())
    assert taken.mended == (CUT,) and taken.seconds == pytest.approx(0.4)
    wrong = take(Item("a", "train", video=file, pose=posed(tmp_path / "a.pose", 20, fps=50)), How())
    assert wrong.mended == (RATE,) and wrong.pose is not None and wrong.pose.fps == 25
    half = take(Item("a", "train", video=file, pose=posed(tmp_path / "b.pose", 10, fps=12.5)), How())
    assert half.pose is not None and len(half.pose) == pytest.approx(20, abs=1)


def test_a_folder_of_frames_is_a_video_at_the_datasets_rate(tmp_path):
    for i in range(12):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 6 * i, np.uint8)).save(tmp_path / f"images{i:04d}.png")
    taken = take(Item("a", "train", video=tmp_path, fps=25, frames=(2, 10)), How())
    assert taken.video is not None and taken.video_fps == 25
    np.testing.assert_allclose(levels(taken.video), 6 * np.arange(2, 10), atol=4)
    with pytest.raises(LeftOut, match="no frame rate"):
        take(Item("a", "train", video=tmp_path), How())


def test_frames_by_their_times_by_hand():
    stamps = np.array([0, 0.1, 0.2, 0.6])
    assert timing.nearest(stamps, np.array([0, 0.04, 0.06, 0.3, 0.5, 0.9])).tolist() == [0, 0, 1, 2, 3, 3]
    assert timing.constant_rate(np.arange(5) / 24, 24.0) == 24
    assert timing.constant_rate(stamps, 10.0) == 0
    pose = Pose(np.arange(4.0, dtype=np.float32).reshape(4, 1, 1), np.ones((4, 1), np.float32), 10)
    found = timing.at_times(pose, stamps, np.array([0.05, 0.2, 0.4]), 5.0)
    np.testing.assert_allclose(found.coordinates.ravel(), [0.5, 2, 2.5])


# ---- Workers ---------------------------------------------------------------------------------------------------------


def source(folder: Path, count: int = 7) -> Path:
    folder.mkdir()
    for i in range(count):
        film(folder / f"{i}.mp4", even(8 + i))
        posed(folder / f"{i}.pose", 8 + i)
    (folder / "6.mp4").write_bytes((folder / "6.mp4").read_bytes()[:-99])
    return folder


def items_of(folder: Path, split: str):
    """Seven clips in train of which one is cut short, two texts and something without a file in dev."""
    if split == "dev":
        yield Item("t0", "dev", "Good morning!", language="ase", spoken="en", glosses=("GOOD", "MORNING"),
                   glosses_by="human", signer="a")  # fmt: skip
        yield Left("t1", "dev", "no video file", "table.csv, line 3")
        yield Item("t2", "dev", "see you", language="ase", spoken="en")
        return
    for i in range(7):
        yield Item(f"c{i}", "train", f"good  morning {'x' * i}", language="ase", spoken="en", glosses=("GOOD",),
                   glosses_by="human", signer="ab"[i % 2], video=folder / f"{i}.mp4", pose=folder / f"{i}.pose",
                   came_from=f"row {i}")  # fmt: skip


def job(folder: Path, out: Path, per_part: int = 2) -> work.Job:
    return work.Job("own", folder, out, How(), ("train", "dev"), lambda split: items_of(folder, split), per_part)


def contents(out: Path) -> dict[str, str]:
    """Checksums of all of a set's files."""
    return {
        str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(out.rglob("*")) if file.is_file()
    }  # fmt: skip


def all_records(out: Path) -> set[bytes]:
    found = sorted((out / layout.PARTS).glob("*.arrayrecord"))
    shards = [Shard(file, bytes, "") for file in found]
    return {shard[i] for shard in shards for i in range(len(shard))}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("prepare")
    assert work.work(job(source(folder / "source"), folder / "one"))
    return folder / "source", folder / "one"


def test_three_workers_make_the_records_of_one(made, tmp_path):
    folder, one = made
    ended = [work.work(job(folder, tmp_path / "three"), worker, 3) for worker in (2, 0, 1)]
    assert ended == [False, False, True]
    assert all_records(tmp_path / "three") == all_records(one)
    several, alone = (json.loads((out / "report.json").read_text()) for out in (tmp_path / "three", one))
    for name in ("counts", "filters", "leakage", "gloss_coverage", "frame_rates", "lengths"):
        assert several[name] == alone[name], name
    with pytest.raises(SignerError, match="was begun with workers 3, not 2"):
        work.work(job(folder, tmp_path / "three"), 0, 2)


def test_the_set_is_not_put_together_before_all_are_done(made, tmp_path):
    folder, _ = made
    work.work(job(folder, tmp_path / "out"), 1, 2)
    with pytest.raises(SignerError, match="worker 0 of 2 is not done; .* --shard 0/2"):
        work.merge(tmp_path / "out", wait=True)
    with pytest.raises(SignerError, match="no prepared set here"):
        layout.PreparedSet(tmp_path / "out")


def test_again_keeps_what_is_whole_and_mends_what_is_not(made, tmp_path):
    folder, one = made
    out = tmp_path / "out"
    work.work(job(folder, out))
    before = contents(out)
    part = sorted((out / layout.PARTS).glob("train*motion*"))[0]
    kept = sorted((out / layout.PARTS).glob("train*motion*"))[1]
    written = kept.stat().st_mtime_ns
    part.write_bytes(part.read_bytes()[:-1] + b"\0\0")
    work.work(job(folder, out))
    assert contents(out) == before and kept.stat().st_mtime_ns == written
    assert all_records(out) == all_records(one)


def test_a_worker_that_begins_again_is_not_done(made, tmp_path, monkeypatch):
    folder, one = made
    out = tmp_path / "out"
    assert [work.work(job(folder, out), worker, 2) for worker in (0, 1)] == [False, True]
    before = contents(out)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(work, "_whole", stop)
        with pytest.raises(KeyboardInterrupt):
            work.work(job(folder, out), 1, 2)
    assert not work.merge(out, wait=False)
    with pytest.raises(SignerError, match="worker 1 of 2 is not done"):
        work.merge(out, wait=True)
    with pytest.raises(SignerError, match=r"index\.json is missing"):
        layout.PreparedSet(out)
    table = out / layout.PARTS / "train-0000of0002-00000.json"
    table.unlink()  # as worker 0 does that makes a part anew
    assert not work.work(job(folder, out), 1, 2)
    with pytest.raises(SignerError, match=r"00000\.json: is missing"):
        work.merge(out, wait=True)
    assert work.work(job(folder, out), 0, 2) and contents(out) == before and all_records(out) == all_records(one)


def test_of_workers_that_begin_at_once_and_differ_one_is_refused(made, tmp_path, monkeypatch):
    out, to_json = tmp_path / "out", work.storage.to_json
    other = replace(job(made[0], out), how=How(fps=10))

    def meanwhile(about):
        monkeypatch.setattr(work.storage, "to_json", to_json)
        work.claim(other, 1)
        return to_json(about)

    monkeypatch.setattr(work.storage, "to_json", meanwhile)
    with pytest.raises(SignerError, match="was begun with how .*'fps': 10"):
        work.claim(job(made[0], out), 1)
    assert work.about_of(out)["how"]["fps"] == 10


KILLED = """
import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from data import test_prepare
from signer_jax.data.prepared import work
take = work.take
def slowly(item, how):
    print(item.name, flush=True)
    if item.name == "c3": sys.stdin.read()
    return take(item, how)
work.take = slowly
work.work(test_prepare.job(Path({folder!r}), Path({out!r})))
"""


def test_a_killed_worker_goes_on_to_the_same_bytes(made, tmp_path):
    folder, one = made
    out = tmp_path / "out"
    script = KILLED.format(tests=str(ROOT / "tests"), folder=str(folder), out=str(out))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env=environment) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "c3":
                break
        process.send_signal(signal.SIGKILL)
    first = out / layout.PARTS / "train-0000of0001-00000.motion.arrayrecord"
    written = first.stat().st_mtime_ns
    assert not (out / "index.json").exists() and list((out / layout.PARTS).glob(".*.partial"))
    work.work(job(folder, out))
    assert first.stat().st_mtime_ns == written and not list((out / layout.PARTS).glob(".*.partial"))
    changed = {name for name, what in contents(out).items() if contents(one)[name] != what}
    assert not changed and contents(out).keys() == contents(one).keys()


def test_nothing_is_dropped_in_silence(made):
    _, one = made
    report = json.loads((one / "report.json").read_text())
    assert report["counts"]["train"] == {
        "items": 7, "left_out": 1, "kept": 6, "texts": 6, "glossed": 6, "poses": 6, "videos": 6, "signs": 6
    }  # fmt: skip
    left = {(row["name"], row["split"], row["reason"], row["where"]) for row in report["left_out"]}
    assert left == {
        ("c6", "train", "video is damaged or cut short", "row 6"), ("t1", "dev", "no video file", "table.csv, line 3")
    }  # fmt: skip
    chain = [(row["before"], row["left_out"], row["after"]) for row in report["filters"]]
    assert chain[0] == (10, 1, 9) and chain[-1][2] == 8
    assert all(one[2] == other[0] for one, other in pairwise(chain))
    shared = {row["what"]: (row["shared"], row["examples"]) for row in report["leakage"]}
    assert shared["the same sentence"] == (1, ["c0 / t0"]) and shared["the same signer"][0] == 1
    page = (one / "report.html").read_text()
    assert page.count("<img ") == 6 and "no video file" in page and "c6" in page


def test_a_record_says_where_it_came_from(made):
    folder, one = made
    file = one / layout.PARTS / "train-0000of0001-00000.motion.arrayrecord"
    from signer_jax.data.shards import unpack

    tree = Shard(file, unpack, "")[0]
    assert tree["came_from"] == {
        "row": "row 0", "video": "0.mp4", "pose": "0.pose",
        "video_sha256": hashlib.sha256((folder / "0.mp4").read_bytes()).hexdigest(),
        "pose_sha256": hashlib.sha256((folder / "0.pose").read_bytes()).hexdigest(),
    }  # fmt: skip
    assert tree["video"] == (folder / "0.mp4").read_bytes() and tree["dataset"] == "own"


def test_what_no_record_holds_is_left_out(made, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MOST_BYTES", 26_000)
    folder, _ = made
    work.work(job(folder, tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    left = {row["name"]: row["reason"] for row in report["left_out"] if row["split"] == "train"}
    assert left["c5"] == "too large" and report["counts"]["train"]["kept"] == 7 - len(left)


def test_an_other_folder_is_left_alone(made, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SignerError, match="exists and is no prepared set"):
        work.work(job(made[0], tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


# ---- A run's corpus --------------------------------------------------------------------------------------------------


def test_a_run_reads_a_set_where_it_is(made, tmp_path):
    _, one = made
    reading.write(tmp_path / "data", str(one), fps=12.5, size=(24, 24))
    assert sum(file.stat().st_size for file in (tmp_path / "data").iterdir()) < 10_000
    corpus = reading.opened(tmp_path / "data")
    assert corpus.about["languages"] == {"ase": "en"} and corpus.about["glosses"] == {"ase": ["GOOD"]}
    assert [corpus.count("train", kind) for kind in ("text", "pose", "video")] == [6, 6, 6]
    assert [len(corpus.texts("dev")), corpus.texts("dev")[0].name] == [1, "t0"]  # of the other no gloss is known
    motions = corpus.motions("train")
    assert len(motions) == 6 and corpus.listed("train")[2] == (5, True, "a")
    sample, shown = motions.filmed(2)
    assert sample.name == "c2" and shown.shape == (5, 24, 24, 3) and sample.video is shown
    assert sample.pose is not None and len(sample.pose) == 5 and sample.pose.fps == 12.5
    assert sample.spans is not None and sample.spans.tolist() == [[0, 5]]
    assert motions[2].video is None
    assert reading.trains(str(one)) == {"sentences": True, "poses": True, "videos": True}


def test_a_run_on_several_sets_and_on_one_that_changed(made, tmp_path):
    folder, one = made
    other = tmp_path / "other"
    work.work(job(folder, other, per_part=3))
    with pytest.raises(SignerError, match="names a set twice"):
        reading.sets_of(f"{one},{one}")
    reading.write(tmp_path / "data", f"{one}, {other}", fps=0, size=(16, 16))
    corpus = reading.opened(tmp_path / "data")
    assert corpus.about["fps"] == 25 and corpus.about["signers"] == ["own/a", "own/b"]
    assert len(corpus.motions("train")) == 12 and corpus.motions("train")[6].name == "c0"
    (other / "index.json").write_text((other / "index.json").read_text().replace("own", "our"))
    with pytest.raises(SignerError, match="another than the run began with"):
        reading.opened(tmp_path / "data")


def test_a_motions_text_is_read_without_its_video(made, tmp_path, monkeypatch):
    folder, _ = made

    def items(split: str):
        for name, text, pose in (
            ("a", "text alone", None),
            ("b", "", "0.pose"),
            ("c", "of c", "1.pose"),
            ("d", "", None),
        ):
            yield Item(name, "train", text, language="ase", spoken="en", glosses=("D",) if name == "d" else None,
                       pose=pose and folder / pose)  # fmt: skip
        yield Item("e", "train", "of e", language="ase", spoken="en", video=folder / "2.mp4")

    work.work(work.Job("own", folder, tmp_path / "set", How(), ("train",), items, 2))
    reading.write(tmp_path / "data", str(tmp_path / "set"), fps=0, size=(16, 16))
    corpus = reading.opened(tmp_path / "data")
    found = corpus.motions("train")
    expected = [found[i].text for i in range(len(found))]
    monkeypatch.setattr(layout, "read_motion", lambda record: pytest.fail("a motion is read"))
    assert list(corpus.captions("train")) == expected == ["", "of c", "of e"]


def test_a_set_that_is_moved_is_the_same_corpus(made, tmp_path):
    _, one = made
    shutil.copytree(one, tmp_path / "moved to a longer name")
    corpora = []
    for k, (place, fps) in enumerate(((one, 12.5), (tmp_path / "moved to a longer name", 12.5), (one, 10.0))):
        reading.write(tmp_path / str(k), str(place), fps=fps, size=(24, 24))
        corpora.append(reading.opened(tmp_path / str(k)))
    first, moved, other = (corpus.hash() for corpus in corpora)
    assert first == moved != other


def test_a_sentence_has_a_text(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    about = {"language": "ase", "spoken": "en", "glosses": ("BOOK",), "glosses_by": "human"}
    signs = [Item(f"s{i}", "train", pose=posed(folder / f"{i}.pose", 8), **about) for i in range(2)]
    for name, items in (("signs", signs), ("both", [*signs, Item("t", "train", "a book", **about)])):
        work.work(work.Job("own", folder, tmp_path / name, How(), ("train",), lambda split, items=items: items))
    assert reading.trains(str(tmp_path / "signs")) == {"sentences": False, "poses": True, "videos": False}
    assert reading.trains(str(tmp_path / "both")) == {"sentences": True, "poses": True, "videos": False}
    assert layout.PreparedSet(tmp_path / "both").counts["train"]["texts"] == 1
    reading.write(tmp_path / "data", str(tmp_path / "both"), fps=25, size=(16, 16))
    corpus = reading.opened(tmp_path / "data")
    assert [corpus.texts("train")[i].text for i in range(len(corpus.texts("train")))] == ["a book"]
    assert [corpus.count("train", kind) for kind in ("text", "pose")] == [1, 2]


def test_several_rates_need_one(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    items = [Item(f"{fps}", "train", video=film(folder / f"{fps}.mp4", even(8, fps))) for fps in (20, 25)]
    work.work(work.Job("own", folder, tmp_path / "set", How(), ("train",), lambda split: items))
    with pytest.raises(SignerError, match=r"config.data.fps 0: .* several rates \(20, 25\)"):
        reading.write(tmp_path / "data", str(tmp_path / "set"), fps=0, size=(16, 16))


# ---- The command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A folder of one's own: a table, eight clips in train and dev, poses of OpenPose for one of them."""
    folder = tmp_path_factory.mktemp("own") / "source"
    folder.mkdir()
    rows = ["name,split,video,pose,text,gloss,language,spoken,signer"]
    for i in range(8):
        film(folder / f"ä {i}.mp4", even(20 + i, 24), size=(32, 32))
        split, frames = ("dev" if i == 7 else "train"), f"{i}.pose"
        if i == 3:
            frames = "json"
            (folder / "json").mkdir()
            keypoints = np.array([[16.0 + j % 5, 8 + j % 7, 0.9] for j in range(25)])
            keypoints[[2, 5], 0] = (10, 22)
            nobody: dict[str, list] = {"people": []}
            someone = {"pose_keypoints_2d": keypoints.ravel().tolist(), "face_keypoints_2d": [0.0] * 210,
                       "hand_left_keypoints_2d": [0.0] * 63, "hand_right_keypoints_2d": [0.0] * 63}  # fmt: skip
            for frame in range(23):
                shown = nobody if frame == 5 else {"people": [someone] * (2 if frame == 7 else 1)}
                (folder / "json" / f"x_{frame:012d}_keypoints.json").write_text(json.dumps(shown))
        else:
            posed(folder / frames, 20 + i, 24)
        rows.append(f"c{i},{split},ä {i}.mp4,{frames},text number {i},TEXT NUMBER,ase,en,{'ab'[i % 2]}")
    rows += ["", "gone,train,gone.mp4,,no file,NO FILE,ase,en,a"]
    (folder / "samples.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def prepared(own, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("set") / "own"
    assert main(["prepare", "folder", "--source", str(own), "--out", str(out), "--size", "32x32"]) == 0
    return out


def test_the_command_prepares_a_folder_of_ones_own(prepared, capsys):
    report = json.loads((prepared / "report.json").read_text())
    assert report["counts"]["train"] | {"left_out": 1, "kept": 7, "poses": 7} == report["counts"]["train"]
    assert [row["name"] for row in report["left_out"]] == ["gone"]
    assert report["kept_otherwise"] == {SEVERAL: ["c3"]}
    assert report["sizes"] == {"32x32": 8} and report["gloss_coverage"]["dev"]["seen_in_training"] == 1


def test_without_a_shard_the_workers_parts_are_put_together(own, tmp_path, capsys):
    words = ["prepare", "folder", "--source", str(own), "--out", str(tmp_path / "set"), "--video", "none"]
    assert main([*words, "--shard", "0/2"]) == 0 and "worker 0 of 2 is done" in capsys.readouterr().out
    assert main(words) == 2 and "worker 1 of 2 is not done" in capsys.readouterr().err
    assert main([*words, "--shard", "1/2"]) == 0 and "report.html" in capsys.readouterr().out
    before = contents(tmp_path / "set")
    assert main(words) == 0 and contents(tmp_path / "set") == before
    assert not any(count["videos"] for count in layout.PreparedSet(tmp_path / "set").counts.values())


def test_poses_without_a_rate_need_one(own, tmp_path, capsys):
    words = ["prepare", "folder", "--source", str(tmp_path / "source"), "--out"]
    shutil.copytree(own / "json", tmp_path / "source" / "json")
    (tmp_path / "source" / "samples.csv").write_text("name,pose,text\nc,json,hello\n")
    assert main([*words, str(tmp_path / "a")]) == 2
    said = capsys.readouterr()
    assert "report.html" in said.out and re.search(r"\nsigner: .*/a: nothing is kept, of 1 items; .*\n$", said.err)
    assert main([*words, str(tmp_path / "b"), "--pose-fps", "24"]) == 0
    assert "signer:" not in capsys.readouterr().err
    counts = [layout.PreparedSet(tmp_path / name).counts["train"]["poses"] for name in "ab"]
    assert counts == [0, 1]


def test_less_than_half_is_said(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    words = ["prepare", "folder", "--source", str(tmp_path / "source"), "--out"]
    for rows, said in (
        (["a,,hello", "b,gone.mp4,two"], False),
        (["a,,hello", "b,gone.mp4,two", "c,c.mp4,three"], True),
    ):
        (tmp_path / "source" / "samples.csv").write_text("\n".join(["name,video,text", *rows]) + "\n")
        assert main([*words, str(tmp_path / f"{said}")]) == 0
        assert ("less than half is kept, 1 of 3 items" in capsys.readouterr().err) == said


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_has_a_reader(name):
    reader = importlib.import_module(f"signer_jax.data.datasets.{name}")
    assert callable(reader.splits) and callable(reader.items)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["foldr"], r"unknown dataset \(did you mean 'folder'"),
        (["folder", "--shard", "2/2"], "give which of how many, from 0"),
        (["folder", "--size", "32"], "give height x width in pixels"),
        (["folder", "--fps", "0.1"], "is no frame rate"),
        (["folder", "--out", "SOURCE/set"], "lies in --source"),
        (["wlasl"], "give the folder"),
    ],
)
def test_what_cannot_be_prepared_is_refused(words, what, own, tmp_path, capsys):
    words = [word.replace("SOURCE", str(own)) for word in words]
    assert main(["prepare", "--source", str(own), "--out", str(tmp_path / "set"), *words]) == 2
    assert re.search(what, capsys.readouterr().err) and not (tmp_path / "set").exists()


def test_a_run_trains_on_a_prepared_set(prepared, tmp_path):
    words = ["train", "--config", str(TINY), "--workdir", str(tmp_path / "run"), "--config.data.corpus=prepared",
             f"--config.data.source={prepared}", "--config.data.fps=12", "--config.evaluate.split=",
             "--config.stages=slul,vae", "--config.tokenizer.vocab_size=40"]  # fmt: skip
    for _ in range(2):  # the second finds the corpus as it was
        assert main([*words, "--config.train.vae.steps=1", "--config.train.slul.steps=1"]) == 0
    data = sorted(file.name for file in (tmp_path / "run" / "data").iterdir())
    assert data == ["corpus.json", "manifest.json"]


def test_each_example_comes_once_an_epoch_over_any_number_of_processes(prepared, tmp_path):
    reading.write(tmp_path / "data", str(prepared), fps=0, size=(32, 32))
    records = reading.opened(tmp_path / "data").motions("train")
    assert len(records) == 7

    def epoch(processes: int, batch: int = 7) -> list[list[int]]:
        found = []
        for process in range(processes):
            rows = tuple(range(process, batch, processes))
            steps = streams.iterate(records, lambda sample, rng: {"i": np.array(int(sample.name[1:]))},
                                    streams.Reading(batch, 3, 0, 1, rows), "clips")  # fmt: skip
            found.append([next(steps)["i"].tolist() for _ in range(3)])
        return [sorted(i for one in found for i in one[step]) for step in range(3)]

    assert epoch(1) == epoch(2) == epoch(4) == [list(range(7))] * 3
