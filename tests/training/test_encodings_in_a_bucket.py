"""`signer encode --out gs://…` and `s3://…`, of real servers of objects: workers, a kill, and runs that take it."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import killed_job
import pytest
from conftest import ROOT
from data.test_sets_in_a_bucket import amazon, bucket, elsewhere, google, place  # noqa: F401
from test_encodings import config, hashes, prepared, sha, small_parts, train  # noqa: F401

from signer_jax import mirror
from signer_jax.cli.main import main
from signer_jax.errors import SignerError
from signer_jax.training import begun, encodings


def test_workers_and_a_kill_leave_in_a_bucket_what_one_job_makes_here(place, tmp_path, monkeypatch, capsys):  # noqa: F811
    url, objects = place
    alone = encodings.make(tmp_path / "one", "numbers", killed_job.work([]), 0, 1).place
    out = mirror.set_of(url)
    paths = os.pathsep.join([str(ROOT), *sys.path])
    killed = subprocess.run(
        [sys.executable, killed_job.__file__, out, "0", "2", "4"], env={**os.environ, "PYTHONPATH": paths}
    )
    assert killed.returncode == -signal.SIGKILL
    assert sorted(name.rpartition("/")[2] for name in objects) == ["0.arrayrecord", "about.json"]
    # ---- Another machine has the second share, and reads none of the first's --------------------------------------
    elsewhere(monkeypatch, tmp_path)
    second: list[int] = []
    made = encodings.make(mirror.set_of(url), "numbers", killed_job.work(second), 1, 2)
    assert second == list(range(9, 13)) and made[1:] == (5, 2, 2)
    with pytest.raises(SignerError, match=r"2 of 5 parts of numbers\S+ are not there yet \(the first is 1.array"):
        encodings.parts(tmp_path / "run" / "numbers", killed_job.work([]), url)
    first: list[int] = []
    capsys.readouterr()
    assert encodings.make(mirror.set_of(url), "numbers", killed_job.work(first), 0, 2)[1:] == (5, 2, 0)
    assert first == list(range(3, 9))
    assert f"signer: {url}/{made.place.name}: 1 of 3 parts were made before, and are kept" in capsys.readouterr().err
    with pytest.raises(SignerError, match=r"config.data.encoded .*: nothing is there; run `signer encode` with"):
        encodings.parts(tmp_path / "run" / "numbers", killed_job.work([]), f"{url}-not")
    assert not list((tmp_path / "other").rglob("*.arrayrecord"))  # what was made is there, and takes no room here
    there = {
        name.split("/own/")[1]: hashlib.sha256(one[0] if isinstance(one, tuple) else one).hexdigest()
        for name, one in contents(objects).items()
    }
    assert there == hashes(tmp_path / "one") and alone.name in next(iter(there))
    # ---- A third reads it ------------------------------------------------------------------------------------------
    elsewhere(monkeypatch, tmp_path, "third")
    found = encodings.parts(tmp_path / "run" / "numbers", killed_job.work([]), url)
    (tmp_path / "taken").mkdir()
    capsys.readouterr()
    begun.take(found, tmp_path / "taken", "numbers")
    assert f"signer: {url}/{found[0].parent.name}: copied to this machine (" in capsys.readouterr().err
    assert sorted(hashes(tmp_path / "taken").values()) == sorted(
        sum for name, sum in there.items() if name.endswith(".arrayrecord")
    )
    with pytest.raises(SignerError, match=r"encoder aaaaaaaaaaaa…, this run's is bbbbbbbbbbbb…\);"):
        encodings.parts(tmp_path / "run" / "numbers", killed_job.work([], encoder="b" * 64), url)


def contents(objects: dict) -> dict[str, bytes]:
    return {name: getattr(one, "data", one) for name, one in objects.items()}


@pytest.mark.slow
def test_a_run_takes_from_a_bucket_what_a_job_left_there(config, small_parts, bucket, tmp_path, capsys):  # noqa: F811
    url = "gs://bucket/encoded"
    for shard in ("1/2", "0/2"):
        assert main(["encode", "--config", str(config), "--out", url, "--shard", shard]) == 0
    assert f"all is there: signer train … --config.data.encoded={url}" in capsys.readouterr().out
    assert train(config, tmp_path / "alone") == 0
    assert train(config, tmp_path / "run", f"--config.data.encoded={url}") == 0
    assert sha(tmp_path / "run") == sha(tmp_path / "alone")


def test_a_place_that_is_none_is_refused_at_once(config, tmp_path: Path, capsys):  # noqa: F811
    assert train(config, tmp_path / "run", "--config.data.encoded=s3://bucket") == 2
    assert "config.data.encoded s3://bucket: is no place in a bucket" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_place_where_nothing_is_is_refused_at_once(config, place, tmp_path: Path, capsys):  # noqa: F811
    url, _ = place
    assert train(config, tmp_path / "run", f"--config.data.encoded={url}") == 2
    assert f"config.data.encoded {url}: nothing is there; make it with `signer encode`, or" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
