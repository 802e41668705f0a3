"""Prepared sets in a bucket, of a real server of objects: made there, gone on with after a kill, read by ranges."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY
from filmed import even, film, posed
from PIL import Image

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # which asks Google for credentials
pytest.importorskip("gcsfs", reason="needs the [gcs] extra")
import fsspec
import object_server
import s3_server

from signer_jax import configuration, mirror, object_store, storage
from signer_jax.cli.main import main
from signer_jax.data import far_shards, shards
from signer_jax.data.datasets import finding
from signer_jax.data.prepared import layout, reading
from signer_jax.errors import SignerError, Trouble

SET = "gs://bucket/sets/own"
HEAD = "name,pose,video,text,gloss,glosses_by,language,spoken,signer,split"


S3 = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def google() -> Iterator[object_server.Server]:
    with object_server.serving("bucket") as running:
        yield running


@pytest.fixture(scope="module")
def amazon() -> Iterator[s3_server.Server]:
    with s3_server.serving("bucket") as running:
        yield running


@pytest.fixture
def bucket(google, tmp_path, monkeypatch) -> dict:
    """The objects of the bucket, by name, of which a test finds none; this machine's cache is a new folder."""
    for name in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):
        monkeypatch.setenv(name, google.url)
    return emptied(google, "gcs", tmp_path, monkeypatch)


def emptied(server, protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setenv("SIGNER_CACHE", str(tmp_path / "cache"))
    object_store._store.cache_clear()
    fsspec.get_filesystem_class(protocol).clear_instance_cache()
    server.buckets["bucket"].clear()
    return server.buckets["bucket"]


@pytest.fixture(params=["gs", "s3"])
def place(request, tmp_path, monkeypatch) -> tuple[str, dict]:
    """A set's URL in a bucket of each kind, and that bucket's objects."""
    if request.param == "gs":
        return SET, request.getfixturevalue("bucket")
    pytest.importorskip("s3fs", reason="needs the [s3] extra")
    server = request.getfixturevalue("amazon")
    for name, value in {**S3, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    return SET.replace("gs:", "s3:"), emptied(server, "s3", tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Eight sentences with pose and video, and one text."""
    folder = tmp_path_factory.mktemp("source")
    rows = [f"c{i},c{i}.pose,c{i}.mp4,Word{i} here,SIGN{i},human,ase,en,{i % 2},train" for i in range(8)]
    for i in range(8):
        posed(folder / f"c{i}.pose", 10 + i)
        film(folder / f"c{i}.mp4", even(10 + i), size=(32, 32))
    (folder / "samples.csv").write_text("\n".join([HEAD, *rows, "t,,,Words alone,WORD,human,ase,en,1,dev"]) + "\n")
    return folder


def prepare(source: Path, out: str | Path, *more: str) -> int:
    return main(["prepare", "folder", "--source", str(source), "--out", str(out), "--per-part", "3", *more])


def corpus(folder: Path, of: str | Path) -> reading.PreparedCorpus:
    reading.write(folder, str(of), fps=25, size=(16, 16))
    found = reading.opened(folder)
    assert isinstance(found, reading.PreparedCorpus)
    return found


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str = "other") -> None:
    """Another machine."""
    monkeypatch.setenv("SIGNER_CACHE", str(tmp_path / name))


def kept(cache: Path) -> list[Path]:
    return sorted(file for file in cache.glob("*/ranges/*") if file.suffix != ".have")


def filled(file: Path) -> int:
    return file.stat().st_blocks * 512


def test_a_set_is_the_same_there_as_here_and_is_read_where_it_is(place, source, tmp_path, monkeypatch, capsys):
    url, bucket = place
    assert prepare(source, tmp_path / "here") == 0
    assert prepare(source, url) == 0
    there = {name.removeprefix("sets/own/"): data for name, (data, _) in bucket.items()}
    here = {str(file.relative_to(tmp_path / "here")): file.read_bytes() for file in (tmp_path / "here").rglob("*.*")}
    assert there == here
    assert not list((tmp_path / "cache").rglob(f"*{layout.MOTION}.arrayrecord"))  # they lie in the bucket alone
    # ---- Another machine reads it, its large files by ranges ---------------------------------------------------------
    elsewhere(monkeypatch, tmp_path)
    capsys.readouterr()
    far, near = corpus(tmp_path / "far", url), corpus(tmp_path / "near", tmp_path / "here")
    said = capsys.readouterr().err
    assert re.search(rf"{url}: 0.\d\d GB of poses and videos are read there; what was read is kept in", said)
    assert far.hash() == near.hash() and far.about["sets"][0]["folder"] == url
    ours, theirs = far.motions("train"), near.motions("train")
    asked: list[str] = []
    real = far_shards.bytes_of
    monkeypatch.setattr(far_shards, "bytes_of", lambda path, *where: asked.append(path) or real(path, *where))
    assert list(far.glosses("train")) == [theirs[i].glosses for i in range(8)]
    assert list(far.captions("train")) == [theirs[i].text for i in range(8)] and not asked  # they are the texts'
    sample, video = ours.filmed(5)
    other, its = theirs.filmed(5)
    assert sample.name == other.name and np.array_equal(video, its)
    assert len(asked) == 3  # the file's end, its index, the record
    assert ours.filmed(5)[0].name == sample.name and len(asked) == 3
    assert [ours[i].name for i in range(8)] == [theirs[i].name for i in range(8)]
    assert [far.texts("dev")[0].text, near.texts("dev")[0].text] == ["Words alone"] * 2
    # ---- A second process of the machine finds what was read ---------------------------------------------------------
    before = len(asked)
    again = reading.opened(tmp_path / "far").motions("train")
    assert [again.filmed(i)[0].name for i in range(8)] == [theirs[i].name for i in range(8)] and len(asked) == before


def test_a_killed_worker_is_gone_on_with_by_another_machine(place, source, tmp_path, monkeypatch):
    url, bucket = place
    code = (
        "import os, signal\n"
        "from signer_jax import mirror\n"
        "from signer_jax.cli.main import main\n"
        "send = mirror._send\n"
        "def killed(file, place, inside):\n"
        "    tag = send(file, place, inside)\n"
        "    if place.object(inside).endswith('00001.motion.arrayrecord'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"  # the second part's table is not there yet
        "    return tag\n"
        "mirror._send = killed\n"
        f"main(['prepare', 'folder', '--source', {str(source)!r}, '--out', {url!r}, '--per-part', '3'])\n"
    )
    environment = {
        **os.environ,
        "SIGNER_CACHE": str(tmp_path / "gone"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    ended = subprocess.run([sys.executable, "-c", code], env=environment, timeout=120, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    first = "sets/own/parts/train-0000of0001-00000.motion.arrayrecord"
    before = bucket[first]
    assert "sets/own/parts/train-0000of0001-00001.json" not in bucket and "sets/own/index.json" not in bucket
    with pytest.raises(SignerError, match="no prepared set here"):
        layout.PreparedSet(mirror.set_of(url))
    elsewhere(monkeypatch, tmp_path)
    assert prepare(source, url) == 0
    assert bucket[first] is before  # it was whole
    assert prepare(source, tmp_path / "here") == 0
    for name, (data, _) in bucket.items():
        assert data == (tmp_path / "here" / name.removeprefix("sets/own/")).read_bytes(), name


def test_two_machines_make_one_set_of_two_shares(place, source, tmp_path, monkeypatch, capsys):
    url, _ = place
    assert prepare(source, url, "--shard", "1/2") == 0
    assert "worker 1 of 2 is done" in capsys.readouterr().out
    elsewhere(monkeypatch, tmp_path)
    assert prepare(source, url, "--shard", "0/2") == 0
    assert layout.PreparedSet(mirror.set_of(url)).counts["train"]["kept"] == 8
    assert prepare(source, url, "--shard", "0/3") == 2
    assert "was begun with workers 2, not 3" in capsys.readouterr().err


def test_a_worker_copies_its_own_share_and_the_last_one_the_rest(place, source, tmp_path, monkeypatch):
    """And of the records, which the bucket has, nothing."""
    url, _ = place
    copies: dict[str, list[str]] = {}
    real = mirror._copy
    for worker in (0, 1, 1, 2):  # the second is run twice, on two machines
        elsewhere(monkeypatch, tmp_path, machine := f"{worker}-{len(copies)}")
        asked = copies.setdefault(machine, [])
        monkeypatch.setattr(
            mirror,
            "_copy",
            lambda of, name, *how, asked=asked, **more: (asked.append(name), real(of, name, *how, **more)),
        )
        assert prepare(source, url, "--shard", f"{worker}/3") == 0
    first, second, again, last = (
        [Path(name).name for name in one if name.startswith("parts/")] for one in copies.values()
    )
    assert first == [] and second == ["done-0000of0003.json"]
    assert sorted(again)[0] == "done-0000of0003.json"
    assert {"done-0001of0003.json", "train-0001of0003-00000.json"} <= set(again)
    assert not any("-0000of0003-" in name for name in again)
    assert {f"train-000{k}of0003-00000.json" for k in (0, 1)} <= set(last)
    assert not any(name.endswith(".arrayrecord") for one in copies.values() for name in one)
    assert layout.PreparedSet(mirror.set_of(url)).counts["train"]["kept"] == 8


def test_of_workers_that_begin_at_once_and_differ_one_counts(place, source, tmp_path, monkeypatch, capsys):
    """The second looks, finds nothing, and is late: the first one's words are there by then."""
    url, bucket = place
    monkeypatch.setenv("SIGNER_CACHE", str(tmp_path / "late"))
    late = mirror.set_of(url) / "about.json"
    elsewhere(monkeypatch, tmp_path)
    assert prepare(source, url, "--shard", "0/2") == 0
    before = bucket["sets/own/about.json"]
    monkeypatch.setenv("SIGNER_CACHE", str(tmp_path / "late"))
    mirror.begin(late, b"{}")
    assert bucket["sets/own/about.json"] is before and late.read_bytes() == before[0]
    late.unlink()
    assert prepare(source, url, "--shard", "0/3") == 2
    assert "was begun with workers 2, not 3" in capsys.readouterr().err


def test_what_the_disk_has_no_room_for_is_read_and_not_kept(bucket, source, tmp_path, monkeypatch, capsys):
    assert prepare(source, SET) == 0
    elsewhere(monkeypatch, tmp_path)
    found = corpus(tmp_path / "run", SET).motions("train")
    assert found.filmed(0)[0].name == "c0"
    files = kept(tmp_path / "other")
    before = [filled(file) for file in files]
    monkeypatch.setattr(far_shards, "_SPARE", 1)  # all of the disk is to be left free
    monkeypatch.setattr(far_shards, "_KEPT", far_shards._Kept())
    assert [found.filmed(i)[0].name for i in range(8)] == [f"c{i}" for i in range(8)]
    assert [filled(file) for file in files] == before
    assert not list((tmp_path / "other").rglob("*.partial"))
    assert capsys.readouterr().err.count("a tenth of that disk alone is free; records that are not here yet are") == 1


def test_what_is_kept_has_a_limit_in_bytes(bucket, source, tmp_path, monkeypatch, capsys):
    """Of all sets of the machine together; what is beyond it is read and not kept."""
    assert prepare(source, SET) == 0
    elsewhere(monkeypatch, tmp_path)
    found = corpus(tmp_path / "run", SET).motions("train")
    assert found.filmed(0)[0].name == "c0"
    taken = sum(filled(file) for file in (tmp_path / "other").glob("*/ranges/*"))
    assert taken
    monkeypatch.setenv("SIGNER_CACHE_BYTES", str(taken))
    monkeypatch.setattr(far_shards, "_KEPT", far_shards._Kept())
    assert [found.filmed(i)[0].name for i in range(8)] == [f"c{i}" for i in range(8)]
    said = f"all that is kept has reached the {taken / 1e9:g} GB of SIGNER_CACHE_BYTES; records that are not here yet"
    assert capsys.readouterr().err.count(said) == 1
    assert sum(filled(file) for file in (tmp_path / "other").glob("*/ranges/*")) == taken
    monkeypatch.setenv("SIGNER_CACHE_BYTES", "2e9")
    again = corpus(tmp_path / "again", SET).motions("train")
    said = f"less than 2 GB (SIGNER_CACHE_BYTES), of which {taken / 1e9:.2f} are taken"
    assert said in capsys.readouterr().err
    assert [again.filmed(i)[0].name for i in range(8)] == [f"c{i}" for i in range(8)]
    assert sum(filled(file) for file in (tmp_path / "other").glob("*/ranges/*")) > taken
    monkeypatch.setenv("SIGNER_CACHE_BYTES", "much")
    with pytest.raises(SignerError, match="SIGNER_CACHE_BYTES much: is no number of bytes; give one, such as 200e9"):
        corpus(tmp_path / "third", SET)


def test_what_is_kept_is_added_up_seldom_where_that_takes_long(tmp_path, monkeypatch):
    """By one thread; what is added meanwhile counts."""
    monkeypatch.setenv("SIGNER_CACHE_BYTES", "100")
    known, looked, now = far_shards._Kept(), [], [0.0]
    monkeypatch.setattr(far_shards.time, "monotonic", lambda: now[0])

    def slow() -> int:
        looked.append(now[0])
        now[0] += 3
        if len(looked) == 2:
            assert known.grows(tmp_path, 20)  # another thread's
        else:
            assert not known.grows(tmp_path, 1)  # nothing is known yet
        return 50

    monkeypatch.setattr(far_shards, "_taken", slow)
    assert known.grows(tmp_path, 10) and looked == [0]
    now[0] = 62
    assert known.grows(tmp_path, 5) and looked == [0]
    now[0] = 64
    assert known.grows(tmp_path, 30) and looked == [0, 64] and not known.grows(tmp_path, 1)  # 50 + 20 + 30


def test_a_set_that_is_made_anew_is_not_read_from_what_was_kept(bucket, source, tmp_path, monkeypatch):
    assert prepare(source, SET) == 0
    elsewhere(monkeypatch, tmp_path)
    corpus(tmp_path / "run", SET).motions("train")[0]
    with (source / "samples.csv").open("a") as file:
        file.write("new,c0.pose,c0.mp4,Another one,SIGN0,human,ase,en,1,train\n")
    try:
        elsewhere(monkeypatch, tmp_path, "third")
        assert prepare(source, SET) == 0
        elsewhere(monkeypatch, tmp_path)
        with pytest.raises(SignerError, match="is another than the run began with"):
            reading.opened(tmp_path / "run")
        found = corpus(tmp_path / "anew", SET).motions("train")
        assert [found[i].name for i in range(9)] == [*(f"c{i}" for i in range(8)), "new"]
    finally:
        lines = (source / "samples.csv").read_text().splitlines()
        (source / "samples.csv").write_text("\n".join(lines[:-1]) + "\n")


# ---- A file alone ----------------------------------------------------------------------------------------------------

FILE = "s/own.motion.arrayrecord"


def records_of(name: str, at: str, tmp_path: Path, count: int = 6) -> bytes:
    """Puts a file of large records of this name into the bucket."""
    rng = np.random.default_rng(0)
    with shards.new_shard(tmp_path / "made.arrayrecord") as write:
        for i in range(count):
            write(shards.pack({"name": f"{name}{i}", "noise": rng.integers(0, 255, 50_000).astype(np.uint8)}))
    object_store.store(at).put_file(str(tmp_path / "made.arrayrecord"), f"{at}://bucket/{FILE}")
    return (tmp_path / "made.arrayrecord").read_bytes()


def far(at: str, size: int | None = None, count: int = 6) -> far_shards.FarShard:
    place = mirror.place_of(mirror.set_of(f"{at}://bucket/s") / "own.motion.arrayrecord")
    return far_shards.FarShard(place.path(), place, count, shards.unpack, "remake it", size)


def names(shard: far_shards.FarShard, which=range(6)) -> list[str]:
    return [shard[i]["name"] for i in which]


ALL = [f"old{i}" for i in range(6)]


def test_a_file_that_is_another_one_by_now_is_not_read_with_the_first(place, tmp_path):
    at = place[0][:2]
    size = len(records_of("old", at, tmp_path))
    shard = far(at)
    assert shard[0]["name"] == "old0"
    assert len(records_of("new", at, tmp_path)) == size  # as long: its size alone tells nothing
    assert shard[0]["name"] == "old0"
    with pytest.raises(Trouble, match=rf"{at}://bucket/{FILE}: was made anew while it was read; start again"):
        shard[1]
    assert far(at)[1]["name"] == "new1"
    with pytest.raises(Trouble, match=rf"has {size} bytes where {size - 1} are listed: it was made anew; start again"):
        far(at, size - 1)[0]


def test_passing_faults_give_nothing_up_that_was_kept(bucket, tmp_path, monkeypatch):
    records_of("old", "gs", tmp_path)
    shard = far("gs")
    assert names(shard, range(5)) == ALL[:5]
    before = filled(kept(tmp_path / "cache")[0])
    # ---- A range that is cut short, too many files, too little memory ------------------------------------------------
    real = far_shards.bytes_of
    monkeypatch.setattr(far_shards, "bytes_of", lambda *where: real(*where)[:-10])
    with pytest.raises(Trouble, match=r"\d+ of \d+ bytes came; try again"):
        shard[5]
    for fault, said in ((MemoryError(), "takes more memory than there is"), (OSError(errno.EMFILE, "x"), "many files")):

        def reader(*_, fault=fault):
            raise fault

        with monkeypatch.context() as faulty:
            faulty.setattr(shard, "_reader", reader)
            shard.close()
            with pytest.raises(Trouble, match=said):
                shard[1]
    assert filled(kept(tmp_path / "cache")[0]) == before and names(shard, range(5)) == ALL[:5]  # fetches none
    # ---- What is damaged here is one record --------------------------------------------------------------------------
    here = shard._here
    with here.path.open("r+b") as file:
        file.seek(here.places[2] + 100)
        file.write(bytes(1000))
    asked: list[int] = []
    monkeypatch.setattr(far_shards, "bytes_of", lambda *where: asked.append(where[1]) or real(*where))
    shard = far("gs")
    with pytest.raises(SignerError, match="record 2 is damaged"):
        shard[2]
    assert names(shard) == ALL and asked == [here.places[2], here.places[5]]


def test_what_one_process_takes_away_another_makes_anew(bucket, tmp_path):
    records_of("old", "gs", tmp_path)
    one, other = far("gs"), far("gs")
    assert names(one, (0, 1)) == names(other, (0, 1)) == ALL[:2]
    for gone in ("*", "*.have", "*[!e]", "*"):
        for file in (tmp_path / "cache").glob(f"*/ranges/{gone}"):
            file.unlink()
        assert names(one, (1, 2, 3)) == ALL[1:4]
        assert names(other, (3, 0, 2)) == [ALL[3], ALL[0], ALL[2]]


@pytest.mark.parametrize("first", [0, 3])
def test_a_full_quota_ends_nothing(bucket, tmp_path, monkeypatch, first):
    """Records that came before it stay, those after it are read from memory, as is the index where it came before."""
    records_of("old", "gs", tmp_path)
    shard = far("gs")
    assert names(shard, range(first)) == ALL[:first]
    real = os.pwrite

    def full(descriptor: int, data: bytes, start: int) -> int:
        if "ranges" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return real(descriptor, data, start)

    monkeypatch.setattr(os, "pwrite", full)
    assert names(shard) == names(shard) == ALL
    monkeypatch.setattr(os, "pwrite", real)
    assert names(shard) == names(far("gs")) == ALL and not list((tmp_path / "cache").rglob("*.partial"))


READER = """
import sys
sys.path.insert(0, {tests!r} + "/data")
from test_sets_in_a_bucket import far, names
print(names(far("gs", count=16), [(7 * i + {first}) % 16 for i in range(16)]))
"""


@pytest.mark.slow
def test_processes_of_a_machine_read_one_file_side_by_side(bucket, tmp_path):
    records_of("old", "gs", tmp_path, 16)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    running = [
        subprocess.Popen([sys.executable, "-c", READER.format(tests=str(ROOT / "tests"), first=first)],
                         env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)
        for first in (0, 1, 2)
    ]  # fmt: skip
    for first, process in enumerate(running):
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0 and said.strip() == str([f"old{(7 * i + first) % 16}" for i in range(16)])
    assert len(kept(tmp_path / "cache")) == 1
    assert names(far("gs", count=16), range(16)) == [f"old{i}" for i in range(16)]


def test_harmed_bytes_and_a_lost_network_are_told_apart(bucket, source, tmp_path, monkeypatch):
    assert prepare(source, SET) == 0
    elsewhere(monkeypatch, tmp_path)
    run = corpus(tmp_path / "run", SET)
    name = "sets/own/parts/train-0000of0001-00000.motion.arrayrecord"
    data, about = bucket[name]
    bucket[name] = (data[:400] + bytes(64) + data[464:], about)
    found = run.motions("train")
    with pytest.raises(SignerError, match="is damaged"):
        [found[i] for i in range(3)]
    bucket[name] = data, about
    assert found[0].name == "c0"  # what was fetched of it is gone
    del bucket["sets/own/parts/train-0000of0001-00001.motion.arrayrecord"]
    with pytest.raises(Trouble, match="the bucket cannot be reached"):
        found[3]
    with pytest.raises(SignerError, match="is missing"):
        layout.PreparedSet(mirror.path_of(SET))


def test_a_set_in_the_run_itself_is_refused(bucket, source, tmp_path, capsys):
    assert prepare(source, "gs://bucket/run/sets") == 0
    assert main(["train", "--config", str(ROOT / "configs" / "default.py"), "--workdir", "gs://bucket/run",
                 "--config.data.corpus=prepared", "--config.data.source=gs://bucket/run/sets"]) == 2  # fmt: skip
    assert "lies inside --workdir" in capsys.readouterr().err
    assert not storage.is_run(mirror.path_of("gs://bucket/run"))


def test_what_is_no_set_is_refused_before_anything_is_copied_or_dropped(bucket, source, tmp_path, capsys):
    """Nor is what a run has here and not there: its mirror is the same folder."""
    gs = object_store.store(SET)
    for name in ("config.json", "a.mp4", "videos/b.mp4"):
        gs.pipe_file(f"gs://bucket/run/{name}", bytes(1000))
    assert main(["data", "gs://bucket/run", "--out", str(tmp_path / "p.html")]) == 2
    assert "gs://bucket/run: no prepared set here" in capsys.readouterr().err
    assert prepare(source, "gs://bucket/run") == 2
    assert "exists and is no prepared set" in capsys.readouterr().err
    assert not list((tmp_path / "cache").rglob("*.mp4")) and not list((tmp_path / "cache").rglob("config.json"))
    mirror.path_of("gs://bucket/run")  # as `signer train` opens it
    run = next((tmp_path / "cache").glob("run-*/run"))
    for name in ("tensorboard/events", ".lock", "stopped"):  # of which the bucket knows nothing yet
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("not sent yet")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for command in (["data", "gs://bucket/run", "--out", str(tmp_path / "p.html")],
                    ["train", "--config", str(TINY), "--workdir", str(tmp_path / "w"), "--config.data.corpus=prepared",
                     "--config.data.source=gs://bucket/run"]):  # fmt: skip
        assert main(command) == 2
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}


def put_raw(source: Path, url: str) -> str:
    """A dataset's files in a bucket."""
    into = object_store.store(url)
    for file in source.iterdir():
        into.pipe_file(f"{url}/raw/{file.name}", file.read_bytes())
    return f"{url}/raw"


def test_a_worker_fetches_what_its_share_reads(place, source, tmp_path, monkeypatch, capsys):
    raw = put_raw(source, place[0].replace("sets/own", "theirs"))
    assert prepare(source, tmp_path / "near", "--shard", "0/2") == 0
    assert prepare(source, tmp_path / "near", "--shard", "1/2") == 0
    there = {file.name: file.read_bytes() for file in source.iterdir()}
    for worker, own in ((0, "0123"), (1, "4567")):
        elsewhere(monkeypatch, tmp_path, f"machine{worker}")
        capsys.readouterr()
        assert prepare(raw, tmp_path / "far", "--shard", f"{worker}/2") == 0
        assert re.search(rf"{raw}: 16 files are copied when they are read, of 0\.\d\d GB", capsys.readouterr().err)
        here = {file.name: file for file in (tmp_path / f"machine{worker}").glob("*/run/raw/*")}
        assert here.keys() == there.keys()
        whole = {name for name, file in here.items() if file.read_bytes() == there[name]}
        assert whole == {"samples.csv", *(f"c{i}.{kind}" for i in own for kind in ("pose", "mp4"))}
        assert all(filled(file) == 0 for name, file in here.items() if name not in whole)
    far, near = ([*(tmp_path / name / layout.PARTS).glob("*.arrayrecord")] for name in ("far", "near"))
    assert len(near) > 3
    assert {file.name: file.read_bytes() for file in far} == {file.name: file.read_bytes() for file in near}
    # ---- Again, on a third machine: the objects are the same, so nothing but the table is fetched --------------------
    elsewhere(monkeypatch, tmp_path, "third")
    before = {file.name: file.stat().st_mtime_ns for file in far}
    assert prepare(raw, tmp_path / "far", "--shard", "0/2") == 0
    assert {file.name: file.stat().st_mtime_ns for file in far} == before
    assert [file.name for file in (tmp_path / "third").glob("*/run/raw/*") if filled(file)] == ["samples.csv"]
    assert prepare(raw, f"{raw}/set") == 2 and "lies in --source" in capsys.readouterr().err


def test_what_the_sources_bucket_lost_stays_in_the_sets(place, source, tmp_path, monkeypatch, capsys):
    """Another machine is at it, which has nothing here."""
    url, objects = place
    raw = put_raw(source, url.replace("sets/own", "theirs"))
    assert prepare(raw, url) == 0
    motions = {name: data for name, (data, _) in objects.items() if name.endswith(".motion.arrayrecord")}
    object_store.store(url).rm_file(f"{raw}/c4.mp4")
    elsewhere(monkeypatch, tmp_path)
    capsys.readouterr()
    assert prepare(raw, url) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"signer: {url}: the set has 1 sample that the source no longer gives (c4): their parts")
    assert motions == {name: data for name, (data, _) in objects.items() if name.endswith(".motion.arrayrecord")}
    assert len(corpus(tmp_path / "all", url).motions("train")) == 8
    elsewhere(monkeypatch, tmp_path, "third")
    assert prepare(raw, url, "--forget") == 0 and len(corpus(tmp_path / "less", url).motions("train")) == 7
    table = object_store.store(url).cat_file(f"{raw}/samples.csv").decode().splitlines()
    object_store.store(url).pipe_file(f"{raw}/samples.csv", "\n".join([*table[:4], table[-1]]).encode())
    elsewhere(monkeypatch, tmp_path, "fourth")
    assert prepare(raw, url) == 2 and "nothing was changed" in capsys.readouterr().err
    assert prepare(raw, url, "--forget") == 0 and len(corpus(tmp_path / "few", url).motions("train")) == 3
    assert [name.rpartition("/")[2][:5] for name in objects if name.endswith(".motion.arrayrecord")] == ["train"]


def test_folders_of_pictures_are_fetched_by_who_takes_them(bucket, tmp_path):
    for name in "ab":
        (tmp_path / "source" / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((48, 64, 3), 30 * i, np.uint8)).save(tmp_path / "source" / name / f"{i}.png")
    (tmp_path / "source" / "b" / "@eaDir").mkdir()  # as a storage's thumbnails lie
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "source" / "b" / "@eaDir" / "0.png")
    (tmp_path / "source" / "samples.csv").write_text("name,video,text,fps\na,a,one,25\nb,b,two,25\n")
    for file in (tmp_path / "source").rglob("*.*"):
        where = f"gs://bucket/frames/{file.relative_to(tmp_path / 'source').as_posix()}"
        object_store.store(SET).pipe_file(where, file.read_bytes())
    assert prepare(tmp_path / "source", tmp_path / "near", "--shard", "1/2") == 0
    assert prepare("gs://bucket/frames", tmp_path / "far", "--shard", "1/2") == 0
    far, near = (layout.table_of(tmp_path / name, "train-0001of0002-00000") for name in ("far", "near"))
    assert {**far, "times": ""} == {**near, "times": ""} and [row["name"] for row in far["kept"]] == ["b"]
    fetched = {file.parent.name for file in (tmp_path / "cache").glob("*/run/frames/*/*.png") if filled(file)}
    assert fetched == {"b"}


def test_what_changed_in_the_bucket_is_not_taken_for_what_was_listed(place, source, tmp_path):
    raw = put_raw(source, place[0].replace("sets/own", "theirs"))
    into = object_store.store(raw)

    def opened() -> Path:
        return mirror.copied(raw, "--source", finding.is_media)

    first, second = (opened() / name for name in ("c0.mp4", "c1.mp4"))
    size = first.stat().st_size
    into.pipe_file(f"{raw}/c0.mp4", b"x" * size)
    into.rm_file(f"{raw}/c1.mp4")
    for file in (first, second):
        with pytest.raises(SignerError, match=f"^{raw}/{file.name}: is another one by now, or gone; start again"):
            mirror.arrive([file])
    opened()
    assert not second.exists()
    mirror.arrive([first, source / "c0.mp4"])
    assert first.read_bytes() == b"x" * size
    into.pipe_file(f"{raw}/c0.mp4", b"y" * size)  # of what is here already
    opened()
    assert filled(first) == 0
    assert mirror.copied(raw, "config.data.source") == first.parent  # who wants all has all
    assert first.read_bytes() == b"y" * size
    assert (first.parent / "c2.pose").read_bytes() == (source / "c2.pose").read_bytes()
    opened()
    assert first.read_bytes() == b"y" * size  # and it stays


def test_what_is_only_read_may_lie_in_either(place, source, tmp_path, monkeypatch, capsys):
    """A source, which is copied once, and what a config names: of a file of ours that was replaced the newer one."""
    url = place[0].replace("sets/own", "theirs")
    into = object_store.store(url)
    put_raw(source, url)
    assert prepare(f"{url}/raw", tmp_path / "far") == 0
    assert capsys.readouterr().err.count(f"{url}/raw: copied to this machine (0.00 GB)") == 1
    assert prepare(source, tmp_path / "near") == 0
    far, near = ([*(tmp_path / name / layout.PARTS).glob("*.arrayrecord")] for name in ("far", "near"))
    assert len(near) > 3
    assert {file.name: file.read_bytes() for file in far} == {file.name: file.read_bytes() for file in near}
    hidden = f".{'0' * 31}1"
    into.pipe_file(f"{url}/vae/manifest.json", json.dumps({"files": {"a": 3}, "at": f"{hidden}/"}).encode())
    into.pipe_file(f"{url}/vae/{hidden}/a", b"new")
    into.pipe_file(f"{url}/vae/a", b"old")
    assert (mirror.copied(f"{url}/vae", "config.vae.init") / "a").read_bytes() == b"new"
    assert mirror.copied(f"{url}/vae/a", "x").read_bytes() == b"new"
    with pytest.raises(SignerError, match=f"^config.vae.init {url}/none: nothing is there"):
        mirror.copied(f"{url}/none", "config.vae.init")
    assert configuration.load(TINY, [f"--config.vae.init={url}/vae"]).vae.init == f"{url}/vae"
    assert main(["gloss", "hello", "--workdir", url.replace("gs:", "s3:")]) == 2  # a run lies in Google's alone
    assert "s3:// is no path of this machine's file system" in capsys.readouterr().err


def test_a_set_takes_away_what_the_bucket_lost_and_leaves_what_it_never_had(bucket, source, tmp_path):
    assert prepare(source, SET) == 0
    folder = layout.PreparedSet(mirror.set_of(SET)).directory
    (folder / "mine.txt").write_text("a note of somebody's")
    gone = folder / layout.PARTS / "more.json"
    object_store.store(SET).pipe_file(f"{SET}/parts/more.json", b"{}")
    layout.PreparedSet(mirror.set_of(SET))
    assert gone.exists()
    object_store.store(SET).rm_file(f"{SET}/parts/more.json")
    layout.PreparedSet(mirror.set_of(SET))
    assert not gone.exists() and (folder / "mine.txt").exists()


@pytest.mark.slow
def test_a_run_on_it_trains_as_on_the_same_set_here(bucket, source, tmp_path, monkeypatch, capsys):
    assert prepare(source, SET) == 0 and prepare(source, tmp_path / "here") == 0
    sums = []
    for name, place in (("near", str(tmp_path / "here")), ("far", SET)):
        elsewhere(monkeypatch, tmp_path, name)
        assert main(["train", "--config", str(TINY), "--workdir", str(tmp_path / "runs" / name),
                     "--config.data.corpus=prepared", f"--config.data.source={place}", "--config.stages=slul,vae",
                     "--config.evaluate.split=", "--config.data.fps=25"]) == 0  # fmt: skip
        sums.append(json.loads((tmp_path / "runs" / name / "result.json").read_text())["params_sha256"])
    assert sums[0] == sums[1]
    assert main(["data", SET, "--out", str(tmp_path / "page.html"), "--samples", "1"]) == 0
    assert (tmp_path / "page.html").stat().st_size > 1000
