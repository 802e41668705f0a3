"""What a kill leaves of a long encoding: the parts that were done are not made again, and the whole is the same."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import killed_encoding
import killed_job
import numpy as np
import pytest
import shared_encoding
from conftest import QUICK
from killed_encoding import COUNTS, KINDS, make
from renderer.tiny_wan import write_text_encoder

from signer_jax import storage
from signer_jax.data.shards import Parts, Shard, file_of, open_parts
from signer_jax.errors import SignerError
from signer_jax.training import begun, encodings


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A folder in which the encoding of each kind was killed in a process of its own."""
    folder = tmp_path_factory.mktemp("killed")
    write_text_encoder(folder / "pipeline")
    paths = os.pathsep.join([str(Path(killed_encoding.__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, killed_encoding.__file__, str(folder)],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [word for kind in KINDS for word in (kind, "-9")], done.stderr
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_done_before_a_kill_is_not_encoded_again_and_the_whole_is_the_same(killed, tmp_path, capfd, kind):
    count, each, _ = COUNTS[kind]
    places = {"latents": "latents", "bucket": "buckets/9x16x16", "texts": "text_states"}
    directory = killed / kind / places[kind]
    assert not directory.exists() and len(list((directory.parent / "begun").glob("*.arrayrecord"))) == 2
    assert list((directory.parent / "begun").glob(".*.partial"))  # the part that it was killed in
    written: list[int] = []
    assert make(kind, killed / kind, killed / "pipeline", lambda: written.append(1)) == directory
    assert len(written) == count - 2 * each
    assert f"{directory}: {2 * each} of {count} records were made before a stop, and are kept" in capfd.readouterr().err
    assert not (directory.parent / "begun").exists()
    # ---- Without a kill ------------------------------------------------------------------------------------------
    written.clear()
    whole = make(kind, tmp_path / kind, killed / "pipeline", lambda: written.append(1))
    assert len(written) == count + (COUNTS["latents"][0] if kind == "bucket" else 0)
    names = sorted(file.name for file in whole.iterdir())
    assert sum(name.endswith(".arrayrecord") for name in names) == -(-count // each)
    assert names == sorted(file.name for file in directory.iterdir())
    for name in names:
        assert (directory / name).read_bytes() == (whole / name).read_bytes(), name


def two_processes(folder: Path) -> list[dict[str, int]]:
    """How many records of each kind each of them wrote."""
    paths = os.pathsep.join([str(Path(killed_encoding.__file__).parents[1]), *sys.path])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK, "PYTHONPATH": paths,
        "SIGNER_COORDINATOR": address, "SIGNER_PROCESSES": "2", "SIGNER_WAIT": "5",
    }  # fmt: skip
    both = [
        subprocess.Popen(
            [sys.executable, shared_encoding.__file__, str(folder)], env=environment | {"SIGNER_PROCESS": str(i)},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for i in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=300) for process in both]
    finally:
        for process in both:
            process.kill()
    assert not any(process.returncode for process in both), said
    lines = [[line.split() for line in out.splitlines() if line.startswith("wrote ")] for out, _ in said]
    return [{kind: int(count) for _, kind, count in mine} for mine in lines]


def test_two_processes_share_the_parts_and_the_whole_is_that_of_one(killed, tmp_path):
    shutil.copytree(killed / "pipeline", tmp_path / "pipeline")
    first, second = two_processes(tmp_path)
    # ---- A job of its own ------------------------------------------------------------------------------------------
    alone = encodings.make(tmp_path / "alone", "numbers", killed_job.work([]), 0, 1).place
    assert (first["numbers"], second["numbers"]) == (9, 4)
    for file in alone.iterdir():
        assert file.read_bytes() == (tmp_path / "job" / alone.name / file.name).read_bytes()
    # ---- What a run makes ------------------------------------------------------------------------------------------
    for kind in KINDS:
        count, each, _ = COUNTS[kind]
        before = {"bucket": COUNTS["latents"][0]}.get(kind, 0)  # what lies under a bucket's
        assert first[kind] + second[kind] == count + before
        assert min(first[kind], second[kind]) >= each
        alone = make(kind, tmp_path / "alone" / kind, tmp_path / "pipeline", lambda: None)
        shared = tmp_path / alone.relative_to(tmp_path / "alone")
        assert not (shared.parent / "begun").exists()
        names = sorted(file.name for file in alone.iterdir())
        assert names == sorted(file.name for file in shared.iterdir())
        for name in names:
            assert (alone / name).read_bytes() == (shared / name).read_bytes(), name


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_each_missing_part_is_one_processs(processes):
    parts = [0, 1, 4, 5, 6, 9]
    shares = [begun.share(parts, process, processes) for process in range(processes)]
    assert [part for share in shares for part in share] == parts
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert begun.share([3], 0, processes) == [3]
    assert list(begun._in_a_row(parts)) == [[0, 1], [4, 5, 6], [9]] and not list(begun._in_a_row([]))


def numbers(directory: Path, key: dict, counts: list[int], asked: list[int]) -> list[Path]:
    def records(first: int, end: int):
        asked.append(first)
        yield from (str(i).encode() for i in range(first, end))

    return begun.made(directory, begun.Work(key, counts, records))


def test_parts_of_another_key_are_removed_and_a_damaged_one_is_made_anew(tmp_path):
    asked: list[int] = []
    first = numbers(tmp_path / "a", {"of": 1}, [2, 2, 1], asked)
    other = numbers(tmp_path / "b", {"of": 1}, [3], asked)
    assert numbers(tmp_path / "a", {"of": 1}, [2, 2, 1], asked) == first and asked == [0, 0]
    first[1].write_bytes(first[1].read_bytes()[:-1])
    kept = first[2].stat().st_ino
    numbers(tmp_path / "a", {"of": 1}, [2, 2, 1], asked)
    assert asked == [0, 0, 2] and first[2].stat().st_ino == kept  # those behind it are as good as ever
    second = numbers(tmp_path / "a", {"of": 2}, [2, 2, 1], asked)
    assert asked == [0, 0, 2, 0] and not any(file.exists() for file in first) and other[0].exists()
    assert all(file.exists() for file in second)
    begun.clear(tmp_path / "a")
    assert not any(file.exists() for file in second) and other[0].exists()
    begun.clear(tmp_path / "b")
    assert not (tmp_path / "begun").exists()


def test_parts_are_taken_by_links_and_read_as_one(tmp_path):
    files = numbers(tmp_path / "a", {}, [2, 3, 1], [])
    with storage.new_folder(tmp_path / "a", "test") as partial:
        begun.take(files, partial, "train")
    assert [os.path.samefile(file, tmp_path / "a" / file_of("train", i)) for i, file in enumerate(files)] == [True] * 3
    read = open_parts(tmp_path / "a", "train", 3, int, "mend")
    assert isinstance(read, Parts) and [read[i] for i in range(len(read))] == list(range(6))
    with pytest.raises(IndexError):
        read[6]
    with pytest.raises(IndexError):
        read[-1]
    assert read[np.int64(2)] == 2 and repr(read) == "Parts(Shard('train.arrayrecord'), 3)"
    assert isinstance(open_parts(tmp_path / "a", "train", 1, int, "mend"), Shard)
    with pytest.raises(SignerError, match=r"train.3.arrayrecord.*mend"):
        open_parts(tmp_path / "a", "train", 4, int, "mend")


def test_too_few_records_are_no_part(tmp_path):
    with pytest.raises(ValueError, match="2 records of 3"):
        begun.made(tmp_path / "a", begun.Work({}, [3], lambda *_: (b"x" for _ in range(2))))
    assert not list((tmp_path / "begun").glob("*"))
    with pytest.raises(ValueError, match="more than 3 records"):
        begun.made(tmp_path / "a", begun.Work({}, [2, 1], lambda *_: (b"x" for _ in range(4))))
