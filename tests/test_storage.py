"""What is written is whole or not there; what is not ours stays; a killed writer's leftovers are swept."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from signer_jax import outside, storage
from signer_jax.errors import SignerError

KIND = "pose database"


def write(path: Path, text: str, kind: str = KIND) -> None:
    with storage.new_folder(path, kind) as folder:
        (folder / "inside").mkdir()
        (folder / "inside" / "a").write_text(text)
        (folder / "b").write_text(text)


def read(path: Path) -> str:
    storage.check_folder(path, KIND, "make it anew")
    first, second = (path / "inside" / "a").read_text(), (path / "b").read_text()
    assert first == second
    return first


def program(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def test_a_folder_is_replaced_whole(tmp_path):
    write(tmp_path / "x", "old")
    write(tmp_path / "x", "newer")
    assert read(tmp_path / "x") == "newer"
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "1")
    assert sorted(os.listdir(tmp_path)) == ["empty", "x"]


def test_a_failed_write_leaves_the_old(tmp_path):
    write(tmp_path / "x", "old")
    with pytest.raises(ZeroDivisionError), storage.new_folder(tmp_path / "x", KIND) as folder:
        (folder / "b").write_text("half")
        raise ZeroDivisionError
    assert read(tmp_path / "x") == "old" and os.listdir(tmp_path) == ["x"]
    storage.write_file(tmp_path / "f", "old")
    with pytest.raises(ZeroDivisionError), storage.new_file(tmp_path / "f") as file:
        file.write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "f").read_text() == "old"


def test_what_is_not_ours_is_never_replaced(tmp_path):
    def refused(path: Path, match: str, kind: str = KIND) -> None:
        before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
        with pytest.raises(SignerError, match=match), storage.new_folder(path, kind):
            raise AssertionError("refused before the work, not after it")
        assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before

    foreign = tmp_path / "foreign"
    (foreign / "deep").mkdir(parents=True)
    (foreign / "index.json").write_text("{}")
    (foreign / "deep" / "thesis.txt").write_text("important")
    refused(foreign, "is no pose database of signer_jax")
    write(tmp_path / "mixed", "ours")
    (tmp_path / "mixed" / "notes.txt").write_text("mine")
    refused(tmp_path / "mixed", "also holds 'notes.txt'")
    write(tmp_path / "other", "ours", "prepared corpus")
    refused(tmp_path / "other", "is no pose database")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SignerError, match="exists and is no"):
        write(tmp_path / "file", "x")
    with pytest.raises(SignerError, match="is a folder"):
        storage.write_file(foreign, "x")
    # A manifest that names a file outside makes nothing of it ours.
    claim = {"made_by": "signer_jax", "kind": KIND, "files": {"../file": 4}}
    (foreign / "manifest.json").write_text(json.dumps(claim))
    refused(foreign, "is no pose database")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_link_is_followed_and_stays(tmp_path):
    write(tmp_path / "far" / "x", "old")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "x")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and read(tmp_path / "far" / "x") == "new"


@pytest.mark.parametrize(
    ("harm", "match"),
    [
        (lambda x: (x / "b").unlink(), "b is missing"),
        (lambda x: (x / "b").write_text("ol"), "b has 2 bytes where 3"),
        (lambda x: (x / "manifest.json").write_text("[1]"), "no pose database here"),
        (lambda x: (x / "manifest.json").unlink(), "no pose database here"),
    ],
)
def test_what_is_not_whole_is_not_opened(tmp_path, harm, match):
    write(tmp_path / "x", "old")
    harm(tmp_path / "x")
    with pytest.raises(SignerError, match=match):
        read(tmp_path / "x")


def test_a_kill_at_any_moment_leaves_the_old_or_the_new(tmp_path):
    code = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_storage import write
        for i in range(10**6):
            write(Path({str(tmp_path / "x")!r}), str(i))
            print(i, flush=True)
    """
    write(tmp_path / "x", "-1")
    chance = random.Random(0)
    for _ in range(20):
        with subprocess.Popen(program(code), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            last = int(process.stdout.readline())
            time.sleep(chance.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
            last = max([last, *map(int, process.stdout.read().split())])
        assert int(read(tmp_path / "x")) in (last, last + 1)
    write(tmp_path / "x", "last")
    assert os.listdir(tmp_path) == ["x"]  # what the killed left is swept


def test_a_room_that_its_writer_could_not_mark_is_swept(tmp_path):
    for name, inside in (("abcdefg1", ()), ("abcdefg2", ("new",)), ("abcdefg3", ("mine",)), ("mine", ())):
        (tmp_path / f".x.{name}.partial").mkdir()
        for file in inside:
            (tmp_path / f".x.{name}.partial" / file).write_text("x")
    write(tmp_path / "x", "old")
    assert sorted(os.listdir(tmp_path)) == [".x.abcdefg3.partial", ".x.mine.partial", "x"]


def test_a_room_that_is_swept_before_its_mark_is_begun_again(tmp_path, monkeypatch):
    real, taken = storage.tempfile.mkdtemp, []

    def mkdtemp(**options):
        room = real(**options)
        if len(taken) < 3:
            taken.append(room)
            os.rmdir(room)
        return room

    monkeypatch.setattr(storage.tempfile, "mkdtemp", mkdtemp)
    write(tmp_path / "x", "old")
    assert len(taken) == 3 and os.listdir(tmp_path) == ["x"] and read(tmp_path / "x") == "old"


def killed_between_the_renames(path: Path) -> None:
    """What a kill leaves there: the old folder in a room whose writer is gone."""
    room = path.with_name(f"{storage._prefix(path)}abcdefgh.partial")
    room.mkdir()
    (room / ".signer_jax").write_text(path.name)
    path.rename(room / "old.0")


def test_a_killed_swap_is_put_back(tmp_path):
    write(tmp_path / "x", "old")
    killed_between_the_renames(tmp_path / "x")
    assert read(tmp_path / "x") == "old"
    write(tmp_path / "x", "new")
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("can", [True, False])
def test_a_replacement_is_one_step_where_the_system_can(tmp_path, monkeypatch, can):
    """Other projects' readers find the old folder or the new at any time."""
    write(tmp_path / "x", "old")
    (tmp_path / "y").mkdir()
    if can and not storage.exchange(tmp_path / "x", tmp_path / "y"):
        pytest.skip("this file system does not exchange names")
    if can:
        assert storage.exchange(tmp_path / "x", tmp_path / "y") and read(tmp_path / "x") == "old"
    else:
        monkeypatch.setattr(storage, "exchange", lambda *_: False)
    real, moved = Path.rename, []

    def rename(self, target):
        moved.append(self)
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    write(tmp_path / "x", "new")
    assert (tmp_path / "x" not in moved) == can
    assert read(tmp_path / "x") == "new" and sorted(os.listdir(tmp_path)) == ["x", "y"]


def test_what_cannot_change_places_stays(tmp_path):
    write(tmp_path / "x", "old")
    assert not storage.exchange(tmp_path / "x", tmp_path / "none") and read(tmp_path / "x") == "old"


def test_names_that_begin_alike_are_kept_apart(tmp_path):
    """`lexicon` and `lexicon.prior`: neither sweeps nor takes what is the other's."""
    long = "x" * 200
    for name, other in (("lexicon.prior", "lexicon"), (long + "1", long + "2"), ("字" * 80, "字" * 79)):
        write(tmp_path / name, "old")
        killed_between_the_renames(tmp_path / name)
        with pytest.raises(SignerError, match="no pose database here"):
            read(tmp_path / other)
        write(tmp_path / other, "other")
        assert read(tmp_path / name) == "old" and read(tmp_path / other) == "other"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_error_between_the_renames_loses_nothing(tmp_path, monkeypatch, error):
    write(tmp_path / "x", "old")
    real, renames = Path.rename, []

    def rename(self, target):
        renames.append(target)
        if len(renames) == 3:  # refused since one is there, the old one away, and now
            raise error(5, "Input/output error", str(self))
        return real(self, target)

    monkeypatch.setattr(storage, "exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises((KeyboardInterrupt, SignerError)):
        write(tmp_path / "x", "new")
    monkeypatch.undo()
    assert len(renames) == 4 and os.listdir(tmp_path) == ["x"] and read(tmp_path / "x") == "old"


def test_what_cannot_be_put_back_is_not_swept(tmp_path, monkeypatch):
    write(tmp_path / "x", "old")
    killed_between_the_renames(tmp_path / "x")

    def refused(self, target):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(SignerError):
        read(tmp_path / "x")
    with pytest.raises(SignerError):
        write(tmp_path / "x", "new")
    monkeypatch.undo()
    assert read(tmp_path / "x") == "old"


def test_a_living_writers_room_is_left_alone(tmp_path):
    with storage.new_folder(tmp_path / "x", KIND) as folder:
        (folder / "b").write_text("first")
        write(tmp_path / "x", "second")
        (folder / "inside").mkdir()
        (folder / "inside" / "a").write_text("first")
    assert read(tmp_path / "x") == "first"  # the last one to end stays, whole
    (tmp_path / ".x.mine.partial").mkdir()  # no mark: not ours
    write(tmp_path / "x", "third")
    assert sorted(os.listdir(tmp_path)) == [".x.mine.partial", "x"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    code = f"""
        import resource, signal
        from signer_jax import outside, storage
        from signer_jax.errors import SignerError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            storage.write_file({str(tmp_path / "f")!r}, "x" * 5000)
        except SignerError as error:
            print(error)
    """
    done = subprocess.run(program(code), capture_output=True, text=True, check=True)
    assert "cannot be written (file too large)" in done.stdout and done.stdout.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line_for_a_lock_and_for_records(tmp_path):
    code = f"""
        import os, resource, signal
        from pathlib import Path
        from signer_jax import outside, storage
        from signer_jax.data.shards import new_shard
        from signer_jax.errors import SignerError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10000))
        try:
            with storage.locked({str(tmp_path / "lock")!r}, "process 7 on here", "wait"):
                print("held")
        except SignerError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 10000))
        try:
            with new_shard(Path({str(tmp_path / "records")!r})) as write:
                for _ in range(100):
                    write(os.urandom(5000))
        except OSError as error:
            print(outside.line_of(error))
        try:
            with new_shard(Path({str(tmp_path / "others")!r})) as write:
                write(os.urandom(5000))
                raise ValueError("of what is written")
        except ValueError as error:
            print(error)
    """
    done = subprocess.run(program(code), capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert lines[0].startswith(f"{tmp_path / 'lock'}: cannot be written (no space left on device); check the place")
    assert lines[1].startswith(f"{tmp_path / 'records'}: a record could not be written")
    assert lines[2] == "of what is written"


def test_a_lock_is_one_processs_and_ends_with_it(tmp_path):
    code = f"""
        import sys
        from signer_jax import outside, storage
        with storage.locked({str(tmp_path / "lock")!r}, "process 7 on here", "wait"):
            print("held", flush=True)
            sys.stdin.read()
    """
    with subprocess.Popen(program(code), stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with (
            pytest.raises(SignerError, match="in use by process 7 on here; wait"),
            storage.locked(tmp_path / "lock", "me", "wait"),
        ):
            pass
        process.send_signal(signal.SIGKILL)
    with storage.locked(tmp_path / "lock", "me", "wait"):
        assert (tmp_path / "lock").read_text() == "me\n"


def test_only_plain_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, match in (
        ("pipe", "no regular file"), ("loop", "symbolic links"), ("none", "no such file"), (".", "a folder"),
        ("a\0b", "null"), ("x" * 300, "too long"),
    ):  # fmt: skip
        with pytest.raises(SignerError, match=match) as error:
            outside.plain_file(tmp_path / name, "give a text file")
        assert "give a text file" in str(error.value) and "\n" not in str(error.value)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "manifest.json")
    with pytest.raises(SignerError, match="no pose database here"):
        read(tmp_path / "folder")
    (tmp_path / "plain").write_text("x")
    assert outside.plain_file(tmp_path / "plain", "") == tmp_path / "plain"
