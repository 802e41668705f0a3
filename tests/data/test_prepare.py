"""`signer prepare`: items cut by real times, what is left out, workers and kills, a run on the set where it lies."""

import csv
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY
from filmed import even, film, posed
from PIL import Image

from signer_jax.cli.main import main
from signer_jax.cli.prepare import DATASETS
from signer_jax.data import shards, streams, windows
from signer_jax.data.datasets.item import Item, Left
from signer_jax.data.prepared import claim, layout, leakage, looking, reading, sharing, taking, work
from signer_jax.data.prepared.taking import ASSUMED, FILLED, HOLES, SEVERAL, How
from signer_jax.data.shards import Shard
from signer_jax.errors import SignerError
from signer_jax.pose.formats import pose_file
from signer_jax.types import Pose

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


def in_order(out: Path) -> list[bytes]:
    """The records of texts, then those of motions, in the index's order of the parts."""
    parts = [name for names in layout.PreparedSet(out).index["parts"].values() for name in names]
    files = [out / layout.PARTS / f"{name}.{kind}.arrayrecord" for kind in (layout.TEXT, layout.MOTION)
             for name in parts]  # fmt: skip
    shards = [Shard(file, bytes, "") for file in files if file.exists()]
    return [shard[i] for shard in shards for i in range(len(shard))]


def test_a_set_has_its_datasets_order_however_many_make_it(made, tmp_path):
    folder, one = made
    for worker in (2, 0, 1):
        work.work(job(folder, tmp_path / "three"), worker, 3)
    assert in_order(tmp_path / "three") == in_order(one)


def test_a_worker_reads_the_files_of_its_own_share_alone(tmp_path, monkeypatch):
    """The other's are no videos any more, and it does not see that; a whole video is looked through once."""
    looked: list[str] = []
    facts = taking.video.facts
    monkeypatch.setattr(taking.video, "facts", lambda path: looked.append(path.name) or facts(path))
    (tmp_path / "source").mkdir()
    films = [film(tmp_path / "source" / f"{name}.mp4", even(30)) for name in "ab"]

    def items(split: str):
        for i in range(6):
            yield Item(f"c{i}", split, video=films[i // 3], seconds=(i % 3 * 0.2, i % 3 * 0.2 + 0.2))

    films[1].write_bytes(b"none")
    work.work(work.Job("own", tmp_path / "source", tmp_path / "out", How(), ("train",), items), 0, 2)
    table = layout.table_of(tmp_path / "out", "train-0000of0002-00000")
    assert [row["name"] for row in table["kept"]] == ["c0", "c1", "c2"] and not table["left"]
    assert looked == ["a.mp4"]


def test_a_set_that_was_begun_by_turns_is_gone_on_with_so(made, tmp_path):
    """As before there were ranges: a worker that is done keeps what it has, and nothing is lost or doubled."""
    folder, one = made
    out = tmp_path / "out"
    work.claim(job(folder, out), 2)
    about = json.loads((out / "about.json").read_text())
    assert about.pop("shares") == "ranges"
    (out / "about.json").write_text(json.dumps(about))
    assert not work.work(job(folder, out), 0, 2)
    before = written(out)
    names = [row["name"] for i in range(2) for row in layout.table_of(out, f"train-0000of0002-{i:05d}")["kept"]]
    assert names == ["c0", "c2", "c4"]  # and c6, which is cut short
    assert work.work(job(folder, out), 1, 2) and all_records(out) == all_records(one)
    assert not work.work(job(folder, tmp_path / "new"), 0, 2)
    done = [json.loads((at / layout.PARTS / "done-0000of0002.json").read_text())["listed"]["train"]
            for at in (out, tmp_path / "new")]  # fmt: skip
    assert done[0]["items"] == done[1]["items"] and done[0] != done[1]  # an older program's worker is no part of it
    assert before.items() <= written(out).items()


def test_a_list_that_is_too_long_to_be_held_is_walked_to_the_shares_end(made, tmp_path, monkeypatch):
    folder, one = made
    monkeypatch.setattr(sharing, "_HELD", 3)
    came: list[str] = []

    def items(split: str):
        for item in items_of(folder, split):
            came.append(item.name)
            yield item

    ended = [work.work(replace(job(folder, tmp_path / "out"), items=items), worker, 3) for worker in range(3)]
    assert ended == [False, False, True] and in_order(tmp_path / "out") == in_order(one)
    whole, dev = [f"c{i}" for i in range(7)], ["t0", "t1", "t2"]
    assert came == [*whole, *dev, *whole[:2], *whole, *dev, *whole[:4], *whole, *dev, *whole]

    for lacks, line in (("c4", "'c5' is another item"), ("c6", "1 items are gone")):
        listing = sharing.counted(items_of(folder, "train"), folder, sharing.RANGES, "")

        def others(lacks: str = lacks):
            return (item for item in items_of(folder, "train") if item.name != lacks)

        own = partial(sharing.own, listing, others, folder)
        assert [item.name for item in own(sharing.share(7, 0, 2, sharing.RANGES))] == ["c0", "c1", "c2"]
        with pytest.raises(SignerError, match=f"^{folder}: changed while it was read, {line}; start again"):
            list(own(sharing.share(7, 1, 2, sharing.RANGES)))


def test_counting_says_so_where_it_takes_long(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sharing, "_PATIENCE", 0.1)

    def items(split: str):
        for i in range(2):
            time.sleep(0.6)
            yield Item(f"c{i}", split, "see you")

    work.work(work.Job("own", tmp_path, tmp_path.with_name(f"{tmp_path.name}-out"), How(), ("train",), items), 1, 2)
    assert re.search(r"prepare 1/2: counting train: [12]item", capsys.readouterr().err)


def test_the_set_is_not_put_together_before_all_are_done(made, tmp_path):
    folder, _ = made
    work.work(job(folder, tmp_path / "out"), 1, 2)
    with pytest.raises(SignerError, match="worker 0 of 2 is not done; .* --shard 0/2"):
        work.merge(tmp_path / "out", wait=True)
    with pytest.raises(SignerError, match="no prepared set here"):
        layout.PreparedSet(tmp_path / "out")


def test_a_kill_costs_less_where_an_item_takes_long(tmp_path, monkeypatch):
    texts = [Item(f"t{i}", "train", "hello") for i in range(70)]
    own = work.Job("own", tmp_path, tmp_path / "set", How(size=(16, 16)), ("train",), lambda split: texts)
    taken = iter(range(69))
    take = work.take

    def killed(*given):
        if next(taken, None) is None:
            raise KeyboardInterrupt
        return take(*given)

    monkeypatch.setattr(work, "take", killed)
    with pytest.raises(KeyboardInterrupt):
        work.work(own)
    assert len(list((own.out / layout.PARTS).glob("*.json"))) == 69 // 32
    monkeypatch.setattr(work, "take", take)
    assert work.work(own) and contents(own.out)
    many = replace(own, out=tmp_path / "many", how=How())
    assert work.work(many) and len(list((many.out / layout.PARTS).glob("train*.json"))) == 1
    assert claim.usual_part(How(fps=25)) == claim.usual_part(How(poses="dwpose", poses_by="dwpose (…)")) == 32
    assert claim.usual_part(How(size=(16, 16), video="none")) == 256


def test_parts_are_as_large_as_they_were_begun_where_nobody_says_it(tmp_path, capsys):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "samples.csv").write_text("text\n" + "hello\n" * 7)
    words = ["prepare", "folder", "--source", str(folder), "--out", str(tmp_path / "set"), "--size", "16x16"]
    assert main([*words, "--per-part", "3"]) == 0
    before = contents(tmp_path / "set")
    assert sum(name.startswith("parts/train") and name.endswith(".json") for name in before) == 3
    assert main(words) == 0 and contents(tmp_path / "set") == before
    assert main([*words, "--per-part", "4"]) == 2
    assert "was begun with per_part 3, not 4" in capsys.readouterr().err


def test_the_estimate_is_of_what_takes_the_time(tmp_path, capsys):
    """Rows that the dataset leaves out, and texts beside clips, pass at once."""
    file = posed(tmp_path / "a.pose", 8)

    def items(split: str):
        yield from (Item(f"c{i}", split, pose=file) for i in range(3))
        yield from (Left(f"l{i}", split, "no video file", "") for i in range(40))
        yield from (Item(f"t{i}", split, "hello") for i in range(20))

    own = work.Job("own", tmp_path, tmp_path / "set", How(), ("train",), items, 16)
    assert work.work(own)
    said = capsys.readouterr().err
    assert " 3/3 [" in said and "/63 [" not in said and "clip" in said
    assert work.work(own)  # all are kept
    assert " 3/3 [" in capsys.readouterr().err
    texts = replace(own, out=tmp_path / "texts", items=lambda split: [*items(split)][3:])
    assert work.work(texts) and " 20/20 [" in capsys.readouterr().err
    none = replace(own, out=tmp_path / "none", items=lambda split: [*items(split)][3:43])
    assert work.work(none) and " 40/40 [" in capsys.readouterr().err


def test_workers_that_found_other_samples_make_no_set(tmp_path, capsys):
    """A file that came between their starts moves others to another worker."""
    (tmp_path / "source").mkdir()
    words = ["prepare", "folder", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "set"), "--shard"]
    for name in "bcde":
        posed(tmp_path / "source" / f"{name}.pose", 8)
    assert main([*words, "0/2"]) == 0
    posed(tmp_path / "source" / "a.pose", 8)
    assert main([*words, "1/2"]) == 2
    assert "(worker 0 found 4 samples in train, worker 1 5, or others)" in capsys.readouterr().err
    with pytest.raises(SignerError, match=r"index\.json is missing|no prepared set here"):
        layout.PreparedSet(tmp_path / "set")
    assert main([*words, "0/2"]) == 0
    assert layout.PreparedSet(tmp_path / "set").counts["train"]["kept"] == 5


def test_a_set_of_many_parts_is_opened(made, tmp_path, monkeypatch):
    out = tmp_path / "set"
    shutil.copytree(made[1], out)
    manifest = json.loads((out / "manifest.json").read_text())
    for i in range(20_000):
        name = f"{layout.PARTS}/train-0000of0032-{i:05d}.motion.arrayrecord"
        (out / name).touch()
        manifest["files"][name] = 0
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1))
    assert layout.PreparedSet(out).counts["train"]["kept"] == 6
    monkeypatch.setattr(work, "MANIFEST", 100)
    with pytest.raises(SignerError, match=r"manifest\.json is too long to be read again .* larger number"):
        work.merge(out, wait=True)


def test_a_report_has_the_first_of_each_kind_and_csvs_have_all(tmp_path):
    def items(split: str):
        yield Item("a", split, "one")
        yield from (Left(f"b{i}", split, "no video file", f"line {i}", 'a "detail", or two') for i in range(5000))

    out = tmp_path / "set"
    work.work(work.Job("own", tmp_path / "source", out, How(), ("train", "dev"), items))
    report = json.loads((out / "report.json").read_text())
    assert len(report["left_out"]) == 1000 and report["counted"]["left_out"] == {"no video file": 10_000}
    rows = list(csv.DictReader((out / "left_out.csv").read_text().splitlines()))
    assert len(rows) == 10_000 and rows[-1] == {
        "split": "dev", "name": "b4999", "reason": "no video file", "where": "line 4999",
        "detail": 'a "detail", or two', "by": "named",
    }  # fmt: skip
    assert "9980 more are in left_out.csv." in (out / "report.html").read_text()
    assert ["no video file", 10_000, "b0"] in looking._left_out(looking.figures(layout.PreparedSet(out)))[0][2]


def test_the_same_bytes_twice_in_a_split_are_told(tmp_path):
    (tmp_path / "source").mkdir()
    pose = posed(tmp_path / "source" / "x.pose", 12)
    for name in "yz":
        shutil.copy(pose, tmp_path / "source" / f"{name}.pose")
    rows = ["x,x.pose,,", "y,y.pose,,", "z,z.pose,0,0.24", "w,z.pose,0.24,"]
    (tmp_path / "source" / "samples.csv").write_text("\n".join(["name,pose,start,end", *rows]) + "\n")
    assert main(["prepare", "folder", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "set")]) == 0
    report = json.loads((tmp_path / "set" / "report.json").read_text())
    what = "same part of the same files as another sample of its split: kept twice"
    assert report["kept_otherwise"] == {what: ["y"]} and report["details"] == {what: {"y": "x"}}


def test_two_samples_of_a_split_have_no_name_in_common(tmp_path):
    def items(split: str):
        return [Item("a", split, "one"), Item("a" if split == "dev" else "b", split, "two")]

    for splits, out in ((("train", "test"), "a"), (("dev",), "b")):
        one = work.Job("own", tmp_path, tmp_path.with_name(f"{tmp_path.name}-{out}"), How(), splits, items)
        if out == "b":
            with pytest.raises(SignerError, match="dev has two samples named a"):
                work.work(one)
        else:
            work.work(one)
            assert json.loads((one.out / "report.json").read_text())["named_twice"] == ["a", "b"]


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


def written(out: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in sorted((out / layout.PARTS).glob("*.arrayrecord"))}


def test_a_source_that_was_copied_again_makes_nothing_anew(made, tmp_path, monkeypatch):
    """Other times of the files, another place, and another way to write it."""
    out, copied = tmp_path / "out", tmp_path / "elsewhere" / "copy"
    work.work(job(made[0], out))
    before = written(out)
    shutil.copytree(made[0], copied, copy_function=shutil.copy)
    for file in copied.iterdir():
        os.utime(file, ns=(0, 10**9))
    work.work(job(copied, out))
    monkeypatch.chdir(copied)
    work.work(job(Path("."), out))
    assert written(out) == before
    report = json.loads((out / "report.json").read_text())
    assert report["counts"]["train"]["kept"] == 6
    data = bytearray((copied / "3.pose").read_bytes())
    data[-1] ^= 1  # of the same size
    (copied / "3.pose").write_bytes(data)
    work.work(job(copied, out))
    assert {name for name, time in written(out).items() if before[name] != time} == {
        "train-0000of0001-00001.motion.arrayrecord", "train-0000of0001-00001.text.arrayrecord"
    }  # fmt: skip


def test_workers_may_have_the_source_at_different_places(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "other", copy_function=shutil.copy)
    assert not work.work(job(made[0], tmp_path / "out"), 0, 2)
    assert work.work(job(tmp_path / "other", tmp_path / "out"), 1, 2)
    assert all_records(tmp_path / "out") == all_records(made[1])


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
    with pytest.raises(SignerError, match=r"was begun with how: fps 10, not 0\.0; go on"):
        work.claim(job(made[0], out), 1)
    assert work.about_of(out)["how"]["fps"] == 10


def test_a_run_that_makes_glosses_may_lie_elsewhere_and_be_no_other(made, tmp_path):
    def own(glosses: str) -> work.Job:
        return replace(job(made[0], tmp_path / "out"), how=How(glosses=glosses))

    sums = ["0" * 64, "1" * 64]
    first = f"slul (runs/a, parameters {sums[0]})"
    claim.claim(own(first), 1)
    for folder in ("runs/a/", "/mnt/b (copy, parameters 2)", "gs://bucket/a"):
        assert claim.claim(own(f"slul ({folder}, parameters {sums[0]})"), 1)["how"]["glosses"] == first
    for other in (f"slul (runs/a, parameters {sums[1]})", f"teacher (runs/a, parameters {sums[0]})", "rules"):
        with pytest.raises(SignerError, match=r"was begun with how: glosses 'slul \(runs/a, parameters 0+\)', not '"):
            claim.claim(own(other), 1)


def test_a_set_that_was_begun_before_there_were_more_choices_is_gone_on_with(made, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(made[1], out)
    about = work.about_of(out)
    for name in ("glosses_for", "language", "spoken", "clean"):
        del about["how"][name]
    (out / "about.json").write_text(json.dumps(about))
    for name in ("index.json", "report.html"):
        (out / name).unlink()
    assert work.work(job(made[0], out))
    assert "of all splits" in (out / "report.html").read_text()


KILLED = """
import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from data import test_prepare
from signer_jax.data.prepared import work
take = work.take
def slowly(item, how, estimator=None):
    print(item.name, flush=True)
    if item.name == "c3": sys.stdin.read()
    return take(item, how, estimator)
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
        "items": 7, "left_out": 1, "kept": 6, "texts": 6, "glossed": 6, "sentences": 6, "poses": 6, "videos": 6,
        "posed_videos": 6, "signs": 6, "prompts": 0,
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


def test_what_was_left_out_is_looked_at_again_where_somebody_mended_it(tmp_path):
    frames = tmp_path / "source" / "frames"
    frames.mkdir(parents=True)
    for i in range(8):
        Image.fromarray(np.full((32, 32, 3), i, np.uint8)).save(frames / f"{i}.png")
    whole = (frames / "0.png").read_bytes()
    (frames / "0.png").write_bytes(whole[:-40])
    times = frames.stat().st_atime_ns, frames.stat().st_mtime_ns
    own = work.Job("own", frames.parent, tmp_path / "set", How(), ("train",),
                   lambda split: [Item("a", "train", video=frames, fps=25)])  # fmt: skip
    assert work.work(own) and layout.PreparedSet(own.out).counts["train"]["kept"] == 0
    (frames / "0.png").write_bytes(whole)
    os.utime(frames, ns=times)  # as rsync leaves it
    assert work.work(own) and layout.PreparedSet(own.out).counts["train"]["kept"] == 1


def test_glosses_are_counted_by_language_and_videos_known_by_what_they_are(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    file = film(folder / "a.mp4", even(8))
    copy = shutil.copy(file, folder / "b.mp4")
    other = film(folder / "c.mp4", even(9))
    parted, composed = "STRASSE-A\u0308", "STRASSE-\u00c4"

    def items(split: str):
        about = {"language": "gsg", "spoken": "de", "glosses_by": "human"}
        if split == "train":
            yield Item("a", split, "e\u0301", glosses=(parted, "ICH"), video=file, **about)
            yield Item(
                "w", split, glosses=("ICH",), glosses_by="human", video=other, recording="broadcast", language="ase"
            )
        else:
            yield Item("b", split, "\u00e9", glosses=(composed,), video=Path(copy), **about)
            yield Item("x", split, glosses=("ICH",), video=other, recording="broadcast", seconds=(0, 0.3), **about)
            yield Item("y", split, glosses=("NEU",))

    work.work(work.Job("own", folder, tmp_path / "set", How(), ("train", "dev"), items))
    report = json.loads((tmp_path / "set" / "report.json").read_text())
    coverage = report["gloss_coverage"].items()
    seen = {language: one["seen_in_training"] for language, of in coverage for one in of.get("dev", {}).values()}
    assert seen == {"gsg": 1, "": 0} and report["gloss_coverage"]["ase"]["train"]["human"]["glosses"] == 1
    shared = {row["what"]: (row["shared"], sorted(row["examples"])) for row in report["leakage"]}
    assert shared == {
        "the same sentence": (1, ["a / b"]), "the same signer": (None, []), "the same video": (2, ["a / b", "w / x"])
    }  # fmt: skip
    assert report["counts"]["train"]["glossed"] == 2 and report["counts"]["train"]["sentences"] == 1
    reading.write(tmp_path / "data", str(tmp_path / "set"), fps=25, size=(16, 16))
    assert reading.opened(tmp_path / "data").about["glosses"] == {"ase": ["ICH"], "gsg": ["ICH", composed]}


def test_what_nobody_says_of_two_splits_is_not_said_to_be_different(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    files = [posed(folder / f"{i}.pose", 8 + i) for i in range(4)]

    def items(train: dict, dev: dict, more: tuple[Item, ...] = ()) -> dict[str, tuple[int | None, bool]]:
        made = [Item("a", "train", pose=files[0], **train), Item("b", "dev", pose=files[1], **dev), *more]
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        work.work(
            work.Job("own", folder, out, How(), ("train", "dev"), lambda split: [i for i in made if i.split == split])
        )
        report = json.loads((out / "report.json").read_text())
        return {row["what"]: (row["shared"], row.get("at_least", False)) for row in report["leakage"]}

    sentence, signer, film = "the same sentence", "the same signer", "the same video"
    named, other = {"recording": "v", "signer": "1", "text": "one"}, {"recording": "w", "signer": "2", "text": "two"}
    assert items(named, other) == {sentence: (0, False), signer: (0, False), film: (0, False)}
    assert items(named, {}) == {sentence: (None, False), signer: (None, False), film: (None, False)}
    unsaid = Item("c", "dev", pose=files[2])
    assert items(named, other, (unsaid,)) == {sentence: (None, False), signer: (None, False), film: (None, False)}
    assert items(named, named, (unsaid,)) == {sentence: (1, True), signer: (1, True), film: (1, True)}
    assert items({}, {})[film] == (None, False)  # the bytes of two files, which may be of one recording
    assert leakage.count_of({"shared": None, "no_file": True}) == "no file in common; recordings not known"


def test_two_cuts_of_a_recording_are_known_where_somebody_names_it(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for i in (0, 20):
        posed(folder / f"rec7_{i}.pose", 8 + i)
    words = ["prepare", "folder", "--source", str(folder), "--out"]

    def film(name: str, *columns: str) -> dict:
        rows = [f"pose,split{''.join(columns[:1])}", *(f"rec7_{i}.pose,{split}{''.join(columns[1:])}"
                for i, split in ((0, "train"), (20, "test")))]  # fmt: skip
        (folder / "samples.csv").write_text("\n".join(rows) + "\n")
        assert main([*words, str(tmp_path / name)]) == 0
        report = json.loads((tmp_path / name / "report.json").read_text())
        return next(row for row in report["leakage"] if row["what"] == "the same video")

    unknown = film("unnamed")
    assert unknown["shared"] is None and leakage.count_of(unknown) == "no file in common; recordings not known"
    assert "no file in common; recordings not known" in (tmp_path / "unnamed/report.html").read_text()
    named = film("named", ",recording", ",rec7")
    assert (named["shared"], named["examples"]) == (1, ["rec7_0 / rec7_20"]) and "at_least" not in named


def test_leaks_of_how2sign_are_found_with_a_table_and_without(tmp_path, capsys):
    place = tmp_path / "source/sentence_level/{}/rgb_front/raw_videos"
    for split, name in (("train", "_20g7MG8K1U_0-8-rgb_front"), ("val", "_20g7MG8K1U_1-8-rgb_front")):
        Path(str(place).format(split)).mkdir(parents=True)
        posed(Path(str(place).format(split)) / f"{name}.pose", 8 if split == "val" else 9)
    header = "VIDEO_ID\tVIDEO_NAME\tSENTENCE_ID\tSENTENCE_NAME\tSTART_REALIGNED\tEND_REALIGNED\tSENTENCE\n"
    for k, table in enumerate(("", "x\t_20g7MG8K1U-8-rgb_front\tx\t_20g7MG8K1U_1-8-rgb_front\t1\t2\tHello.\n")):
        if table:
            (tmp_path / "source/how2sign_realigned_val.csv").write_text(header + table)
        assert main(["prepare", "how2sign", "--source", str(tmp_path / "source"), "--out", str(tmp_path / f"{k}")]) == 0
        shared = {
            row["what"]: row["shared"] for row in json.loads((tmp_path / f"{k}/report.json").read_text())["leakage"]
        }
        assert shared["the same video"] == 1 and shared["the same signer"] == 1


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


def test_a_video_without_a_pose_is_left_out_beside_others_that_have_one(made, tmp_path, capsys):
    folder, one = made
    bare = [Item(f"v{i}", "train", language="ase", signer="c", video=folder / f"{i}.mp4") for i in range(3)]
    work.work(work.Job("bare", folder, tmp_path / "bare", How(), ("train",), lambda split: bare))
    reading.write(tmp_path / "alone", str(tmp_path / "bare"), fps=25, size=(16, 16))
    assert len(reading.opened(tmp_path / "alone").motions("train")) == 3 and "left out" not in capsys.readouterr().err
    reading.write(tmp_path / "data", f"{tmp_path / 'bare'},{one}", fps=25, size=(16, 16))
    assert "3 of 9 motions of 'train' have a video and no pose: left out of this run" in capsys.readouterr().err
    corpus = reading.opened(tmp_path / "data")
    assert corpus.about["unposed"] == {"train": 3} and corpus.about["signers"] == ["own/a", "own/b"]
    motions, listed = corpus.motions("train"), corpus.listed("train")
    assert [motions[i].name for i in range(len(motions))] == [f"c{i}" for i in range(6)]
    assert [(len(motions.filmed(i)[1]), True) for i in range(6)] == [(frames, video) for frames, video, _ in listed]
    limits = windows.Limits(8, 8, 8)
    poses = streams.pose_batches(
        windows.MotionWindows(motions, np.arange(8), 2, limits), 4, streams.Reading(3, 0, 0, 1, (0, 1, 2))
    )
    assert next(poses)["pose"].shape == (3, 4, 8, 2)


def test_a_runs_list_does_not_grow_with_its_sets(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    file, sizes = film(folder / "a.mp4", even(8)), []
    for count in (1, 40):
        items = [Item(f"{i}", "train", video=file) for i in range(count)]
        own = work.Job("own", folder, tmp_path / f"{count}", How(), ("train",),
                       lambda split, items=items: items)  # fmt: skip
        work.work(own)
        reading.write(tmp_path / f"data{count}", str(own.out), fps=25, size=(16, 16))
        sizes.append((tmp_path / f"data{count}" / "corpus.json").stat().st_size)
        assert len(reading.opened(tmp_path / f"data{count}").motions("train")) == count
    assert sizes[1] - sizes[0] < 20


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
        # Of sets with poses a video without one is left out of a run.
        yield Item("e", "train", "of e", language="ase", spoken="en", video=folder / "2.mp4")
        for name, text, pose in (
            ("a", "text alone", None),
            ("b", "", "0.pose"),
            ("c", "of c", "1.pose"),
            ("d", "", None),
        ):
            yield Item(name, "train", text, language="ase", spoken="en", glosses=("D",) if name == "d" else None,
                       pose=pose and folder / pose)  # fmt: skip

    work.work(work.Job("own", folder, tmp_path / "set", How(), ("train",), items, 2))
    reading.write(tmp_path / "data", str(tmp_path / "set"), fps=0, size=(16, 16))
    corpus = reading.opened(tmp_path / "data")
    found = corpus.motions("train")
    expected = [found[i].text for i in range(len(found))]
    monkeypatch.setattr(layout, "read_motion", lambda record: pytest.fail("a motion is read"))
    assert list(corpus.captions("train")) == expected == ["", "of c"]


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
        film(folder / f"ä {i}.mp4", even(20 + i, 24))
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
    assert report["kept_otherwise"] == {HOLES: ["c3"], SEVERAL: ["c3"]}
    assert (
        report["sizes"] == {"32x32": 8} and report["gloss_coverage"]["ase"]["dev"]["unknown"]["seen_in_training"] == 1
    )


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
    err = capsys.readouterr().err
    assert "is kept" not in err and "1 of 1 texts have no language, so that no run learns glosses of them" in err
    counts = [layout.PreparedSet(tmp_path / name).counts["train"]["poses"] for name in "ab"]
    assert counts == [0, 1]
    assert json.loads((tmp_path / "b" / "report.json").read_text())["kept_otherwise"][ASSUMED] == ["c"]


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


def test_what_cleaning_did_to_each_sample_is_in_the_csv(tmp_path):
    coordinates = np.zeros((12, 128, 3), np.float32)
    coordinates[..., :2] = np.arange(128)[:, None]
    confidence = np.ones((12, 128), np.float32)
    confidence[4:6, -21:] = 0
    (tmp_path / "source").mkdir()
    pose_file.write(tmp_path / "source/a.pose", Pose(coordinates, confidence, 25), size=(200, 200))
    words = ["prepare", "folder", "--source", str(tmp_path / "source"), "--out"]
    assert main([*words, str(tmp_path / "all")]) == 0 and main([*words, str(tmp_path / "none"), "--clean", "none"]) == 0
    texts = [(tmp_path / out / "kept_otherwise.csv").read_text() for out in ("all", "none")]
    rows = [list(csv.DictReader(text.splitlines())) for text in texts]
    assert [(row["what"], row["name"], row["detail"]) for row in rows[0]] == [(FILLED, "a", "42 of 1494")]
    assert rows[1] == []


def test_columns_that_are_not_read_are_told(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/samples.csv").write_text("name,text,sentence,langauge,\na,hello,what,ase,\n")
    assert main(["prepare", "folder", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "set")]) == 0
    told = (
        "columns that are not read: 'sentence', 'langauge' (did you mean 'language'?), one without a name; known: name"
    )
    assert told in capsys.readouterr().err
    report = json.loads((tmp_path / "set/report.json").read_text())
    assert len(report["remarks"]) == 3 and told in report["remarks"][0]
    assert "langauge" in (tmp_path / "set/report.html").read_text()


def test_languages_are_given_where_the_dataset_names_none(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/train.text").write_text("The dog runs.\nShe saw it.\n")
    words = ["prepare", "prompt2sign", "--source", str(tmp_path / "source"), "--glosses", "rules", "--out"]
    assert main([*words, str(tmp_path / "without")]) == 0
    err = capsys.readouterr().err
    assert "2 of 2 texts have no language, so that no run learns glosses of them; name it with --language" in err
    assert "2 of 2 texts have no glosses, and --glosses rules made none; rules are of English texts: name" in err
    assert reading.trains(str(tmp_path / "without"))["sentences"] is False
    assert main([*words, str(tmp_path / "with"), "--language", "ASL", "--spoken", "en"]) == 0
    assert "signer:" not in capsys.readouterr().err
    reading.write(tmp_path / "data", str(tmp_path / "with"), fps=25, size=(16, 16))
    about = reading.opened(tmp_path / "data").about
    assert about["languages"] == {"ase": "en"} and about["glosses"] == {"ase": ["dog", "it", "run", "see", "she"]}
    assert main([*words, str(tmp_path / "with"), "--language", "gsg"]) == 2  # begun with another


def test_a_language_that_is_named_stays(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/samples.csv").write_text("name,text,gloss,language,spoken\na,eins,EINS,gsg,de\nb,one,ONE,,\n")
    words = [
        "--source",
        str(tmp_path / "source"),
        "--out",
        str(tmp_path / "set"),
        "--language",
        "ase",
        "--spoken",
        "en",
    ]
    assert main(["prepare", "folder", *words]) == 0
    ((_, table),) = layout.PreparedSet(tmp_path / "set").tables("train")
    assert [(row["language"], row["spoken"]) for row in table["kept"]] == [("gsg", "de"), ("ase", "en")]


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
        (["folder", "--pose-size", "0x5"], "--pose-size 0x5: give height x width in pixels"),
        (["folder", "--fps", "0.1"], "is no frame rate"),
        (["folder", "--language", "english"], "--language english: is no sign language; give its IANA code"),
        (["folder", "--language", "en"], "--language en: is no sign language"),
        (["folder", "--spoken", "English"], "--spoken English: is no language's code; give IANA's"),
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

    def shown(processes: int, batch: int = 4) -> list[int]:
        """What seven batches show, in the order of all processes' rows: four times the set."""
        parts = []
        for process in range(processes):
            rows = tuple(range(process, batch, processes))
            parts.append(streams.iterate(records, lambda sample, rng: {"i": np.array(int(sample.name[1:]))},
                                         streams.Reading(batch, 3, 0, 1, rows), "clips"))  # fmt: skip
        steps = [np.stack([next(part)["i"] for part in parts], 1).reshape(-1).tolist() for _ in range(7)]
        return [i for step in steps for i in step]

    order = shown(1)
    assert [sorted(order[k : k + 7]) for k in range(0, 28, 7)] == [list(range(7))] * 4
    assert order[:7] != order[7:14] and shown(2) == shown(4) == order
