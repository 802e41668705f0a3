"""Runs in a bucket, of a real server of objects (`object_server.py`): what lies where, and what hinders it."""

import asyncio
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from conftest import QUICK, ROOT, TINY

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # which asks Google for credentials
pytest.importorskip("gcsfs", reason="needs the [gcs] extra")
import fsspec
import object_server
from tiny_pipeline import spiece

from signer_jax import bucket_lock, configuration, machine_lock, mirror, object_store, storage
from signer_jax.cli.main import main
from signer_jax.data import prepare
from signer_jax.errors import SignerError, Trouble
from signer_jax.interop import kept
from signer_jax.training import compiled_step, preemption
from signer_jax.training.checkpoints import Checkpoints
from signer_jax.training.damage import Damaged
from signer_jax.training.there import set_aside
from signer_jax.validation import read
from signer_jax.workdir import _trained


@pytest.fixture(scope="module")
def server() -> Iterator[object_server.Server]:
    with object_server.serving("bucket") as running:
        yield running


@pytest.fixture
def bucket(server: object_server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The objects of the bucket, by name, of which a test finds none; this machine's cache is a new folder."""
    for name in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):
        monkeypatch.setenv(name, server.url)
    monkeypatch.setenv("SIGNER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SIGNER_RUN", raising=False)
    object_store._store.cache_clear()
    fsspec.get_filesystem_class("gcs").clear_instance_cache()
    server.buckets["bucket"].clear()
    return server.buckets["bucket"]


RUN = "gs://bucket/runs/one"


def test_the_launcher_for_slurm_sees_what_is_saved(bucket):
    (code,) = re.findall(r"python -c '(.*)'", (ROOT / "launch" / "slurm.sh").read_text())
    for place in ("checkpoints/slul/20/commit_success.txt", "checkpoints/slul/30/state", "published/a"):
        object_store.store().pipe_file(f"{RUN}/{place}", b"x")
    words = [sys.executable, "-c", code, f"{RUN}/checkpoints/*/*/commit_success.txt"]
    run = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert run.stdout == "bucket/runs/one/checkpoints/slul/20/commit_success.txt\n", run.stderr


def on_another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str = "other") -> Path:
    monkeypatch.setenv("SIGNER_CACHE", str(tmp_path / name))
    return mirror.path_of(RUN)


def make(folder: Path, **files: str) -> Path:
    with storage.new_folder(folder, "kind") as partial:
        for name, text in files.items():
            (partial / name).write_text(text)
    return folder


def names(bucket: dict) -> set[str]:
    """As they are called in the run, in whatever hidden folder they lie."""
    return {re.sub(r"/\.[0-9a-f]{32}/", "/", name.removeprefix("runs/one/")) for name in bucket}


# ---- What is written and read ------------------------------------------------------------------------------------
def test_what_one_machine_writes_another_reads(bucket, tmp_path, monkeypatch, capsys):
    here = mirror.path_of(RUN)
    storage.write_file(here / "config.json", "{}")
    make(here / "data", a="one", b="two")
    assert names(bucket) == {"config.json", "data/a", "data/b", "data/manifest.json"}
    assert bucket["runs/one/data/a"][0] == b"one"
    there = on_another_machine(monkeypatch, tmp_path)
    assert (there / "config.json").read_text() == "{}"
    assert os.listdir(there / "data") == ["manifest.json"]  # the rest when it is opened
    storage.check_folder(there / "data", "kind", "mend")
    assert (there / "data" / "b").read_text() == "two"
    assert capsys.readouterr().err.count(f"{RUN}/data: copied to this machine") == 1
    storage.check_folder(there / "data", "kind", "mend")
    assert "copied" not in capsys.readouterr().err


def test_the_bucket_is_what_counts(bucket, tmp_path, monkeypatch):
    """What another machine wrote anew, of the same sizes too, or took away, is not read from a copy of before."""
    here = mirror.path_of(RUN)
    storage.write_file(here / "config.json", "[1]")
    make(here / "data", a="one", b="two")
    there = on_another_machine(monkeypatch, tmp_path)
    storage.check_folder(there / "data", "kind", "mend")
    storage.write_file(there / "config.json", "[2]")
    make(there / "data", a="ONE", c="three")
    assert names(bucket) == {"config.json", "data/a", "data/c", "data/manifest.json"}
    monkeypatch.setenv("SIGNER_CACHE", str(tmp_path / "cache"))
    assert mirror.path_of(RUN) == here
    assert (here / "config.json").read_text() == "[2]"
    storage.check_folder(here / "data", "kind", "mend")
    assert (here / "data" / "a").read_text() == "ONE" and not (here / "data" / "b").exists()
    bucket.clear()
    mirror.path_of(RUN)
    assert not (here / "config.json").exists() and not (here / "data" / "a").exists()


def test_what_is_discarded_is_gone_there_too(bucket):
    here = mirror.path_of(RUN)
    storage.write_file(here / "tokenizer.model", "pieces")
    make(here / "data", a="one")
    storage.discard(here / "data")
    storage.discard(here / "tokenizer.model")
    assert not bucket


@pytest.mark.parametrize("by", ["who writes", "who reads"])
def test_a_folder_is_left_whole_while_its_note_is_written(by, bucket, tmp_path, monkeypatch):
    """Which comes after the manifest: another process would take it for that of a folder of before."""
    here = mirror.path_of(RUN)
    if by == "who reads":
        make(here / "data", a="one")
        here = on_another_machine(monkeypatch, tmp_path)
        shutil.rmtree(here / "data")
        mirror.place_of(here / "data").note(storage.MANIFEST).unlink()
    note, replace, others = mirror.place_of(here / "data").note(storage.MANIFEST), mirror.replace, []

    def meanwhile(file: Path, data: bytes) -> None:
        if file == note and not others:
            others.append(threading.Thread(target=storage.recover, args=[here / "data"]))
            (here / "data" / "mark").write_text("")
            others[0].start()
            others[0].join(0.3)
        replace(file, data)

    monkeypatch.setattr(mirror, "replace", meanwhile)
    if by == "who reads":
        storage.recover(here / "data")
    else:
        make(here / "data", a="one")
    others[0].join()
    assert (here / "data" / "mark").exists()
    storage.check_folder(here / "data", "kind", "mend")


def test_a_folder_without_a_manifest_there_is_none(bucket, tmp_path, monkeypatch):
    """What is left of a machine that went while it wrote is made anew, and no other machine takes it for whole."""
    make(mirror.path_of(RUN) / "data", a="one")
    del bucket["runs/one/data/manifest.json"]
    there = on_another_machine(monkeypatch, tmp_path)
    with pytest.raises(SignerError, match="no kind here"):
        storage.check_folder(there / "data", "kind", "mend")
    make(there / "data", a="anew")
    assert bucket["runs/one/data/a"][0] == b"anew" and "runs/one/data/manifest.json" in bucket


def test_what_does_not_reach_the_bucket_gets_no_name_here(bucket, server, monkeypatch):
    here = mirror.path_of(RUN)
    make(here / "data", a="one")
    put = type(object_store.store()).put_file

    def failing(self, file, where, **options):
        if where.endswith("/b"):
            raise ValueError("the network\nis gone")
        return put(self, file, where, **options)

    monkeypatch.setattr(object_store.store(), "put_file", failing.__get__(object_store.store()))
    said = r"^gs://bucket/runs/one/data/\.[0-9a-f]{32}/b: the bucket cannot be reached \(the network is"
    with pytest.raises(Trouble, match=said):
        make(here / "data", a="ONE", b="two")
    assert (here / "data" / "a").read_text() == "one"
    mirror.path_of(RUN)  # what counts is the bucket, which has the old one
    assert (here / "data" / "a").read_text() == "one"
    assert [name for name in os.listdir(here) if name.endswith(".partial")] == []


class Killed(BaseException):
    pass


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_folder_that_is_replaced_is_whole_whenever_that_is_cut_short(when, bucket, tmp_path, monkeypatch):
    """At each thing that is asked of the bucket: others find the old folder or the new one, and replace it."""
    monkeypatch.setattr(mirror, "_AT_ONCE", 1)
    left = [0]

    def dying(do):
        def done(*given, **options):
            left[0] -= 1
            if not left[0] and when == "before":
                raise Killed
            answer = do(*given, **options)
            if not left[0]:
                raise Killed
            return answer

        return done

    for name in ("put_file", "rm_file", "cat_file", "info", "find"):
        monkeypatch.setattr(object_store.store(), name, dying(getattr(object_store.store(), name)))
    old, new, found = {"a": "one", "b": "two"}, {"a": "ONE", "c": "three"}, []
    for k in range(1, 100):
        bucket.clear()
        make(on_another_machine(monkeypatch, tmp_path, f"old{k}") / "data", **old)
        make(on_another_machine(monkeypatch, tmp_path, f"old{k}") / "data", **old)  # lies in a hidden folder
        here = on_another_machine(monkeypatch, tmp_path, f"dying{k}")
        storage.recover(here / "data")
        left[0] = k
        with suppress(Killed):
            make(here / "data", **new)
        killed, left[0] = left[0] <= 0, 0
        there = on_another_machine(monkeypatch, tmp_path, f"reading{k}")
        storage.check_folder(there / "data", "kind", "mend")
        found.append({name: (there / "data" / name).read_text() for name in os.listdir(there / "data")})
        manifest = found[-1].pop("manifest.json")
        assert manifest == (make(tmp_path / f"plain{k}", **found[-1]) / "manifest.json").read_text()
        make(there / "data", **new)
        assert len(bucket) == 3 and names(bucket) == {"data/a", "data/c", "data/manifest.json"}
        if not killed:
            break
    assert found[0] == old and found[-2:] == [new, new] and all(one in (old, new) for one in found) and k > 5
    storage.discard(there / "data")
    assert not bucket


def test_a_short_file_there_is_damage(bucket, tmp_path, monkeypatch):
    make(mirror.path_of(RUN) / "data", a="one")
    bucket["runs/one/data/a"] = (b"on", object_server.described("bucket", "runs/one/data/a", b"on"))
    there = on_another_machine(monkeypatch, tmp_path)
    with pytest.raises(SignerError, match=r"the kind is damaged \(a is missing\)"):
        storage.check_folder(there / "data", "kind", "mend")


def test_no_room_is_said_before_anything_is_copied(bucket, tmp_path, monkeypatch):
    make(mirror.path_of(RUN) / "data", a="one")
    there = on_another_machine(monkeypatch, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(SignerError, match=r"0\.00 GB are to be copied to .*; name a folder with more room by SIGNER"):
        storage.check_folder(there / "data", "kind", "mend")
    assert os.listdir(there / "data") == ["manifest.json"]


def test_a_users_own_folder_run_is_no_mirror(tmp_path):
    (tmp_path / "bucket").write_text("gs://bucket/runs/one")
    (tmp_path / "run").mkdir()
    assert mirror.place_of(tmp_path / "run" / "config.json") is None


# ---- The lock ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("differs", ["host", "cache"])
def test_one_machine_alone_holds_a_run(differs, bucket, tmp_path, monkeypatch):
    here = mirror.path_of(RUN)
    with bucket_lock.locked(here / ".lock", "process 1 on first"):
        assert json.loads(bucket["runs/one/.lock"][0])["holder"] == "process 1 on first"
        there = here
        if differs == "host":
            monkeypatch.setattr(bucket_lock.socket, "gethostname", lambda: "second")
        else:
            there = on_another_machine(monkeypatch, tmp_path)
        with (
            pytest.raises(Trouble, match=rf"^{RUN}: in use by process 1 on first; .*: gcloud storage rm {RUN}/\.lock$"),
            bucket_lock.locked(there / ".lock", "process 2 on second"),
        ):
            pass
        assert "runs/one/.lock" in bucket
    assert not bucket


def test_a_machine_takes_its_own_lock_over(bucket):
    """Of a process that ended without a word: the mirror's lock ended with it."""
    here = mirror.path_of(RUN)
    left = {"holder": "process 1", "host": bucket_lock.socket.gethostname(), "mirror": str(here.parent), "id": "gone"}
    object_store.store().pipe_file(f"{RUN}/.lock", json.dumps(left).encode())
    with bucket_lock.locked(here / ".lock", "process 2"):
        assert json.loads(bucket["runs/one/.lock"][0])["holder"] == "process 2"
    assert not bucket


@pytest.mark.parametrize("launch", ["run1-ab", "run1-cd", ""])
def test_a_launch_takes_its_own_lock_over(launch, bucket, tmp_path, monkeypatch, capsys):
    """A slice that is asked for anew has other host names; no other launch does, nor what nobody launched."""
    monkeypatch.setenv("SIGNER_RUN", launch and "run1-ab")
    with bucket_lock.locked(mirror.path_of(RUN) / ".lock", "process 1 on first"):
        left = bucket["runs/one/.lock"]
    bucket["runs/one/.lock"] = left
    monkeypatch.setattr(bucket_lock.socket, "gethostname", lambda: "second")
    monkeypatch.setenv("SIGNER_RUN", launch)
    lock = bucket_lock.locked(mirror.path_of(RUN) / ".lock", "process 1 on second")
    if launch != "run1-ab":
        with pytest.raises(Trouble, match=rf"^{RUN}: in use by process 1 on first; "), lock:
            pass
        return
    with lock:
        assert json.loads(bucket["runs/one/.lock"][0])["holder"] == "process 1 on second"
    assert not bucket
    assert capsys.readouterr().err == (
        f"signer: {RUN}: was held by process 1 on first, of this launch too; its lock is taken over\n"
    )


@pytest.mark.parametrize(
    ("before", "now", "taken"),
    [
        ("slurm-c-7@0", "slurm-c-7@1", True),
        ("slurm-c-7@9", "slurm-c-7@10", True),
        ("slurm-c-7@0", "slurm-c-7@0", False),  # two starts in one salloc
        ("slurm-c-7@1", "slurm-c-7@0", False),  # the node that did not answer is there again
        ("slurm-c-7@0", "slurm-c-8@1", False),
        ("slurm-c-7", "slurm-c-7@1", False),
    ],
)
def test_of_numbered_starts_a_later_one_takes_over(before, now, taken, bucket, monkeypatch, capsys):
    """The earlier one, if it still lives, saves no checkpoint any more."""
    here = mirror.path_of(RUN)
    monkeypatch.setenv("SIGNER_RUN", before)
    with bucket_lock.locked(here / ".lock", "process 1 on first"):
        bucket_lock.check()
        mine = dict(bucket_lock._held)
        monkeypatch.setattr(bucket_lock.socket, "gethostname", lambda: "second")
        monkeypatch.setenv("SIGNER_RUN", now)
        later = bucket_lock.locked(here / ".lock", "process 1 on second")
        if not taken:
            with pytest.raises(Trouble, match=rf"^{RUN}: in use by process 1 on first; "), later:
                pass
            bucket_lock.check()
            return
        with later:
            bucket_lock.check()
            bucket_lock._held.update(mine)
            with pytest.raises(Trouble, match=rf"^{RUN}/\.lock: the lock of this run is held by process 1 on second"):
                bucket_lock.check()
            with (
                Checkpoints(mirror.checkpoints(here) / "slul", 1) as checkpoints,
                pytest.raises(Trouble, match="nothing more is saved here"),
            ):
                checkpoints.save(1, None, None)
        bucket.clear()
        bucket_lock._held.update(mine)
        with pytest.raises(Trouble, match="the lock of this run has been removed, so"):
            bucket_lock.check()
    assert not bucket_lock._held and "its lock is taken over" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_lock_is_gone_before_a_process_ends_at_once(number, bucket, monkeypatch):
    notice, ended = preemption.Notice(), []
    notice.asked = True  # before
    monkeypatch.setattr(os, "_exit", lambda code: ended.append((code, dict(bucket))))
    with bucket_lock.locked(mirror.path_of(RUN) / ".lock", "process 1"):
        assert bucket
        notice.hear(number)
    assert ended == [(75 if number == signal.SIGTERM else 130, {})]


def test_a_process_that_ends_at_once_waits_for_no_network(bucket, monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(bucket_lock, "_lock", lambda _: answered.wait() and {})
    with bucket_lock.locked(mirror.path_of(RUN) / ".lock", "process 1"):
        bucket_lock.let_go(0.05)
        assert "runs/one/.lock" in bucket
        answered.set()


def test_who_lost_a_lock_leaves_the_next_ones(bucket):
    here = mirror.path_of(RUN)
    with bucket_lock.locked(here / ".lock", "process 1"):
        object_store.store().pipe_file(f"{RUN}/.lock", b'{"id": "another"}')
    assert json.loads(bucket["runs/one/.lock"][0]) == {"id": "another"}


# ---- What others made ------------------------------------------------------------------------------------------------
def put(bucket: dict, folder: Path, at: str) -> str:
    for file in folder.rglob("*"):
        if file.is_file():
            name = f"{at}/{file.relative_to(folder).as_posix()}"
            bucket[name] = (file.read_bytes(), object_server.described("bucket", name, file.read_bytes()))
    return f"gs://bucket/{at}"


def test_a_copy_of_what_others_made_is_the_buckets(bucket, tmp_path, capsys):
    (tmp_path / "theirs" / "b").mkdir(parents=True)
    (tmp_path / "theirs" / "a").write_text("one")
    (tmp_path / "theirs" / "b" / "c").write_text("two")
    url = put(bucket, tmp_path / "theirs", "weights/t5")
    copy = mirror.copied(url, "config.slul.init")
    assert (copy / "a").read_text() == "one" and (copy / "b" / "c").read_text() == "two" and copy.name == "t5"
    assert f"signer: {url}: copied to this machine (" in capsys.readouterr().err
    assert mirror.copied(url, "config.slul.init") == copy and not capsys.readouterr().err
    (tmp_path / "theirs" / "a").write_text("ONE")
    put(bucket, tmp_path / "theirs", "weights/t5")
    del bucket["weights/t5/b/c"]
    mirror.copied(url, "config.slul.init")
    assert (copy / "a").read_text() == "ONE" and not (copy / "b" / "c").exists()
    assert mirror.copied(f"{url}/a", "x").read_text() == "ONE"  # a file alone
    with pytest.raises(SignerError, match=r"^config.vae.init gs://bucket/weights/none: nothing is there; give what"):
        mirror.copied("gs://bucket/weights/none", "config.vae.init")


@pytest.mark.parametrize("cut_short", [False, True])
def test_a_copy_of_a_folder_that_was_replaced_is_plain(cut_short, bucket, tmp_path, monkeypatch, capsys):
    """Whole, of a part of it, of a file, and of what it lies in; also where the older one could not be taken away."""
    here = mirror.path_of(RUN)

    def published(weights: str, more: str) -> None:
        with storage.new_folder(here / "published", "kind") as partial:
            (partial / "vae").mkdir()
            (partial / "vae" / "weights").write_text(weights)
            (partial / f"{more}.model").write_text(more)

    if cut_short:
        monkeypatch.setattr(mirror, "_take_away", lambda *_: None)
    published("one", "spiece")
    published("ONE", "pieces")
    make(here / "data", a="two")
    assert len(bucket) == 5 + 2 * cut_short
    url, wanted = f"{RUN}/published", {"vae/weights": "ONE", "pieces.model": "pieces"}
    copies = {
        at: mirror.copied(f"{url}{at}", "config.vae.init") for at in ("", "/vae", "/vae/weights", "/pieces.model")
    }
    assert {*mirror.sizes(copies[""])} == {copies[""] / name for name in ("manifest.json", *wanted)}
    assert all((copies[""] / name).read_text() == text for name, text in wanted.items())
    assert (copies[""] / "manifest.json").read_bytes() == (here / "published" / "manifest.json").read_bytes()
    assert os.listdir(copies["/vae"]) == ["weights"] and (copies["/vae"] / "weights").read_text() == "ONE"
    assert [copies[at].read_text() for at in ("/vae/weights", "/pieces.model")] == ["ONE", "pieces"]
    whole = mirror.copied(RUN, "x")
    assert {file.relative_to(whole).as_posix() for file in mirror.sizes(whole)} == {
        "data/a", "data/manifest.json", "published/manifest.json", *(f"published/{name}" for name in wanted)
    }  # fmt: skip
    capsys.readouterr()
    assert mirror.copied(url, "x") == copies[""] and mirror.copied(RUN, "x") == whole
    assert not capsys.readouterr().err  # nothing is copied again
    with pytest.raises(SignerError, match=r"^x gs://bucket/runs/one/published/text_encoder: nothing is there"):
        mirror.copied(f"{url}/text_encoder", "x")


def test_a_compiled_step_is_taken_from_a_bucket(bucket, tmp_path):
    (tmp_path / "theirs").mkdir()
    step = compiled_step.Saved({"jax": "1"}, "slul", {}, b"program")
    compiled_step.write(tmp_path / "theirs" / "a.step", [step])
    url = put(bucket, tmp_path / "theirs", "steps") + "/a.step"
    compiled_step.check(url, ["slul", "pose"])
    assert compiled_step.read(url, "slul") == step and compiled_step.read(url, "pose") is None
    with pytest.raises(SignerError, match=r"^config.compiled gs://bucket/steps/b.step: nothing is there"):
        compiled_step.check("gs://bucket/steps/b.step", ["slul"])


def test_of_two_processes_here_one_copies_and_the_other_finds_it(bucket, tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a").write_text("one")
    url = put(bucket, tmp_path / "theirs", "weights/t5")
    code = "\n".join([
        "from signer_jax import mirror, object_store", f"object_store.look({url!r}, '')", "print('up', flush=True)",
        f"mirror.copied({url!r}, '')",
    ])  # fmt: skip
    got, others = type(object_store.store()).get_file, []

    def meanwhile(self, where, file, **options):
        got(self, where, file, **options)
        other = subprocess.Popen(
            [sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        others.append(other)
        assert other.stdout.readline() == "up\n"
        with suppress(subprocess.TimeoutExpired):
            other.wait(timeout=0.7)

    monkeypatch.setattr(object_store.store(), "get_file", meanwhile.__get__(object_store.store()))
    copy = mirror.copied(url, "config.slul.init")
    (other,) = others
    assert "copied" not in other.communicate(timeout=60)[1] and other.returncode == 0
    assert os.listdir(copy) == ["a"] and (copy / "a").read_text() == "one"


def test_a_download_of_anothers_is_left_where_it_is(bucket, tmp_path):
    """Where no lock holds between the two; but for one that was left a day ago."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a").write_text("one")
    url = put(bucket, tmp_path / "theirs", "weights/t5")
    copy = mirror.copied(url, "x")
    for name in (".new.partial", ".old.partial"):
        (copy / name).write_text("")
    os.utime(copy / ".old.partial", (1, 1))
    mirror.copied(url, "x")
    assert {*os.listdir(copy)} == {"a", ".new.partial"}


def test_a_lock_of_this_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine_lock, "_SOON", 0.0)
    file, order = tmp_path / "lock", []

    def other() -> None:
        with machine_lock.held(file):
            order.append("other")

    thread = threading.Thread(target=other)
    with machine_lock.held(file), machine_lock.held(file):
        thread.start()
        with file.open("ab") as again, pytest.raises(BlockingIOError):
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        order.append("first")
    thread.join()
    assert order == ["first", "other"] and not capsys.readouterr().err
    with file.open("ab") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        thread = threading.Thread(target=other)
        thread.start()
        while not (said := capsys.readouterr().err):
            time.sleep(0.01)
    thread.join()
    assert said == f"signer: {tmp_path}: another process of this machine copies to it; this one waits for that\n"


def test_weights_of_a_bucket_are_kept_in_the_run(bucket, tmp_path):
    """Until then they are a copy; the run's note names them as its config does."""
    spiece(tmp_path)
    url = f"{put(bucket, tmp_path / 'none', 'weights')}/spiece.model"
    data = (tmp_path / "spiece.model").read_bytes()
    bucket["weights/spiece.model"] = (data, object_server.described("bucket", "weights/spiece.model", data))
    config = configuration.load(TINY, [f"--config.tokenizer.path={url}"])
    settings, workdir = read(config), mirror.path_of(RUN)
    assert Path(kept.local(settings, workdir).tokenizer.path).read_bytes() == data
    kept.keep(settings, workdir)
    del bucket["weights/spiece.model"]
    assert kept.local(settings, workdir).tokenizer.path == str(workdir / "published" / "slul" / "spiece.model")
    assert json.loads(bucket["runs/one/published/kept.json"][0]) == {"tokenizer.path": url}
    assert bucket["runs/one/published/slul/spiece.model"][0] == data


def test_a_corpus_in_a_bucket_is_copied_where_it_is_prepared(bucket, tmp_path):
    rows = ["name\tsigner\tgloss\ttext", "a\tone\tREGEN\tes regnet"]
    (tmp_path / "theirs").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "theirs" / f"phoenix14t.{split}.tsv").write_text("\n".join(rows) + "\n")
    url = put(bucket, tmp_path / "theirs", "corpora/phoenix")
    config = configuration.load("phoenix14t", [f"--config.data.source={url}"])
    data = read(config).data
    prepare.check(data, tmp_path / "run" / "data")
    assert not list(tmp_path.glob("cache/*/run/phoenix/*"))  # each process looks; one copies
    corpus = prepare.prepare(data, 0, tmp_path / "run" / "data")
    assert corpus.texts("train")[0].text == "es regnet"
    url = put(bucket, tmp_path / "theirs", "runs/one/theirs")
    with pytest.raises(SignerError, match=rf"^config.data.source {url}: lies inside --workdir"):
        prepare.check(replace(data, source=url), mirror.path_of(RUN) / "data")


# ---- What is refused ---------------------------------------------------------------------------------------------
def fails(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    assert main(arguments) in (1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_bucket_that_is_not_there_is_one_line(bucket, capsys):
    said = fails(capsys, "train", "--config", str(TINY), "--workdir", "gs://nowhere/run")
    assert said.startswith("signer: gs://nowhere/run/.signer_jax.lock: the bucket cannot be reached (")


def test_a_network_that_is_not_there_is_one_line(bucket, capsys, monkeypatch, caplog):
    sleep = asyncio.sleep
    monkeypatch.setattr("gcsfs.retry.asyncio.sleep", lambda _: sleep(0))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    said = fails(capsys, "gloss", "hello", "--workdir", RUN)
    assert said.startswith(f"signer: {RUN}: the bucket cannot be reached (Cannot connect to host 127.0.0.1:1")
    assert not [record for record in caplog.records if record.name.startswith("gcsfs")]


ASKS = {
    "trained": lambda run, _: _trained(run),
    "sizes": lambda _, stage: mirror.sizes(stage),
    "aside": lambda _, stage: set_aside(Damaged(stage / "2", "is damaged")),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_a_network_that_goes_in_mid_run_is_one_line(ask, bucket, monkeypatch):
    def gone(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("the network\nis gone")

    run = mirror.path_of(RUN)
    folder = mirror.checkpoints(run)
    monkeypatch.setattr(object_store.store(), "find", gone)
    for name in ("glob", "exists", "rename"):
        monkeypatch.setattr(type(folder), name, gone)
    with pytest.raises(Trouble, match=rf"^{folder}.*: the bucket cannot be reached \(the network is gone\); check"):
        ask(run, folder / "slul")


def test_a_folder_that_holds_no_run_is_named_as_it_was_given(bucket, capsys):
    said = fails(capsys, "gloss", "hello", "--workdir", RUN)
    assert said.startswith(f"signer: {RUN}: holds no run (no config.json)")
    assert not bucket


@pytest.mark.parametrize("url", ["gs://bucket", "gs://", "gs://bucket/a/../b", "gs://bucket/*", "gs://bucket/a#1"])
def test_a_url_that_is_no_folder_of_a_bucket(url, bucket, capsys):
    said = fails(capsys, "gloss", "hello", "--workdir", url)
    assert said == f"signer: --workdir {url}: is no place in a bucket; give gs://BUCKET/FOLDER"


def test_without_gcsfs_it_is_said_what_to_install(bucket, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert fails(capsys, "gloss", "hello", "--workdir", RUN) == (
        "signer: gs://: gcsfs is not installed; pip install 'signer-jax[gcs]'"
    )


def test_a_cache_that_cannot_be_written_is_one_line(bucket, capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SIGNER_CACHE", str(tmp_path / "file"))
    said = fails(capsys, "gloss", "hello", "--workdir", RUN)
    assert said.startswith(f"signer: SIGNER_CACHE {tmp_path}/file/") and said.endswith("by SIGNER_CACHE")


# ---- Whole runs --------------------------------------------------------------------------------------------------
def signer(cache: Path, *arguments: str | Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "signer_jax", *map(str, arguments)]
    environment = {**os.environ, "XLA_FLAGS": QUICK, "JAX_PLATFORMS": "cpu", "SIGNER_CACHE": str(cache)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    return output


TRAIN = ["train", "--config", TINY, "--config.stages=slul,pose", "--config.checkpoint_every=1",
         "--config.evaluate.split=", "--config.train.pose.steps=8"]  # fmt: skip


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_on_another_machine(bucket, tmp_path):
    finished(signer(tmp_path / "no", *TRAIN, "--workdir", tmp_path / "local"))
    local = json.loads((tmp_path / "local" / "result.json").read_text())
    deadline = time.monotonic() + 600
    with signer(tmp_path / "first", *TRAIN, "--workdir", RUN) as process:
        while "runs/one/checkpoints/pose/2/commit_success.txt" not in bucket and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[0][-3000:]
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert "runs/one/result.json" not in bucket and "runs/one/.signer_jax.lock" in bucket
    shutil.rmtree(tmp_path / "first")  # a machine of the same name, with an empty disk
    finished(signer(tmp_path / "first", *TRAIN, "--workdir", RUN))
    result = json.loads(bucket["runs/one/result.json"][0])
    assert result["params_sha256"] == local["params_sha256"]
    assert "runs/one/.signer_jax.lock" not in bucket
    assert sum(name.startswith("runs/one/tensorboard/events") for name in bucket) >= 1
    # ---- What reads it, on a third ----
    json_file, video = tmp_path / "figures.json", tmp_path / "signed.mp4"
    finished(signer(tmp_path / "third", "evaluate", "--workdir", RUN, "--json", json_file))
    assert json.loads(json_file.read_text())["params_sha256"] == local["params_sha256"]
    finished(signer(tmp_path / "third", "sign", "the mother sees the house", "--workdir", RUN, "--out", video))
    assert video.stat().st_size > 1000
    # ---- Damage there is told from another machine's ----
    lacks = [name for name in bucket if "/checkpoints/slul/4/state/" in name and name.endswith("manifest.ocdbt")]
    for name in lacks:
        del bucket[name]
    output, _ = signer(tmp_path / "third", "gloss", "the mother", "--workdir", RUN).communicate(timeout=300)
    assert f"{RUN}/checkpoints/slul/4: this checkpoint is damaged (" in output


@pytest.mark.slow
def test_processes_of_several_machines_train_one_run(bucket, tmp_path):
    """Each has a cache of its own, as the hosts of a TPU pod; what they train, and the latents that they share out, are
    those of two processes on one file system.
    """
    extra = ["--config.stages=vae,renderer", "--config.mesh.data=2"]

    def run(workdir: str | Path, port: int, *caches: Path) -> None:
        os.environ.update(SIGNER_COORDINATOR=f"127.0.0.1:{port}", SIGNER_PROCESSES="2")
        processes = []
        for k, cache in enumerate(caches):
            os.environ["SIGNER_PROCESS"] = str(k)
            processes.append(signer(cache, *TRAIN, *extra, "--workdir", workdir))
        try:
            said = [process.communicate(timeout=600)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        told = "\n".join(f"process {k}:\n{output[-3000:]}" for k, output in enumerate(said))
        assert [process.returncode for process in processes] == [0, 0], told

    try:
        run(tmp_path / "local", 29517, tmp_path / "no", tmp_path / "no")
        run(RUN, 29518, tmp_path / "first", tmp_path / "second")
    finally:
        for name in ("SIGNER_COORDINATOR", "SIGNER_PROCESSES", "SIGNER_PROCESS"):
            os.environ.pop(name, None)
    local = json.loads((tmp_path / "local" / "result.json").read_text())
    assert json.loads(bucket["runs/one/result.json"][0])["params_sha256"] == local["params_sha256"]
    assert not any("/begun/" in name for name in bucket)
    assert not list(tmp_path.glob("*/one-*/run/begun/*"))
    kept = {path.relative_to(tmp_path / "local").as_posix() for path in (tmp_path / "local" / "latents").iterdir()}
    assert kept == {name for name in names(bucket) if name.startswith("latents/")}
