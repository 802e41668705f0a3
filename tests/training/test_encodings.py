"""`signer encode`: independent workers, a kill and a resume make what one job makes; runs take it by its key."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import killed_encoding
import killed_job
import numpy as np
import pytest
from conftest import ROOT
from renderer import tiny_wan

from signer_jax.cli.main import main
from signer_jax.configuration import load
from signer_jax.data import video
from signer_jax.data.prepare import prepare
from signer_jax.data.windows import Limits, MotionWindows
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file
from signer_jax.training import begun, encode, encodings, pictures, text_states
from signer_jax.training import latents as cache
from signer_jax.types import Pose
from signer_jax.validation import read

I2V = "wan2.1-i2v-14b"


def hashes(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_two_workers_a_kill_and_a_resume_make_the_files_of_one(tmp_path):
    alone: list[int] = []
    place = encodings.make(tmp_path / "one", "numbers", killed_job.work(alone), 0, 1).place
    assert alone == list(range(13)) and sorted(file.name for file in place.iterdir())[-1] == "about.json"
    # ---- The first of two is killed in its second part ---------------------------------------------------------
    paths = os.pathsep.join([str(ROOT), *sys.path])
    killed = subprocess.run(
        [sys.executable, killed_job.__file__, tmp_path / "two", "0", "2", "4"], env={**os.environ, "PYTHONPATH": paths}
    )
    assert killed.returncode == -signal.SIGKILL
    there = tmp_path / "two" / place.name
    assert [file.name for file in there.glob("*.arrayrecord")] == ["0.arrayrecord"] and list(there.glob(".*.partial"))
    # ---- The second knows nothing of it, and runs read nothing that is not whole ----------------------------------
    second: list[int] = []
    made = encodings.make(tmp_path / "two", "numbers", killed_job.work(second), 1, 2)
    assert second == list(range(9, 13)) and made[1:] == (5, 2, 2)
    with pytest.raises(SignerError, match=r"two: 2 of 5 parts of numbers\S+ are not there yet \(the first is 1.array"):
        encodings.found(tmp_path / "two", "numbers", killed_job.work([]))
    # ---- The first again ------------------------------------------------------------------------------------------
    first: list[int] = []
    assert encodings.make(tmp_path / "two", "numbers", killed_job.work(first), 0, 2)[1:] == (5, 2, 0)
    assert first == list(range(3, 9))
    assert hashes(tmp_path / "two") == hashes(tmp_path / "one")
    again: list[int] = []
    assert encodings.make(tmp_path / "two", "numbers", killed_job.work(again), 0, 1)[1:] == (5, 0, 0) and not again
    found = encodings.parts(tmp_path / "run" / "numbers", killed_job.work(again), str(tmp_path / "two"))
    assert found == [there / f"{part}.arrayrecord" for part in range(5)] and not again


def test_what_is_not_there_says_what_is(tmp_path):
    for k, about in enumerate(
        ("", "{}", "[]", json.dumps({"made_by": "signer_jax", "kind": encodings.KIND, "key": []}))
    ):
        (tmp_path / f"numbers.{k:016}").mkdir()  # none of ours
        (tmp_path / f"numbers.{k:016}" / "about.json").write_text(about)
    with pytest.raises(SignerError, match=r"^config.data.encoded \S+: holds no numbers; run `signer encode` with this"):
        encodings.found(tmp_path, "numbers", killed_job.work([]))
    encodings.make(tmp_path, "numbers", killed_job.work([], bucket="81x480x832"), 0, 1)
    encodings.make(tmp_path, "numbers", killed_job.work([], bucket="9x16x16", precision="default"), 0, 1)
    ours = killed_job.work([], encoder="b" * 64, bucket="81x480x832")
    with pytest.raises(SignerError) as told:
        encodings.found(tmp_path, "numbers", ours)
    assert "(numbers." in str(told.value) and "\n" not in str(told.value)
    assert ": encoder aaaaaaaaaaaa…, this run's is bbbbbbbbbbbb…);" in str(told.value)
    with pytest.raises(SignerError, match="no such folder; run `signer encode`"):
        encodings.found(tmp_path / "gone", "numbers", ours)


def test_with_given_constants_only_what_a_bank_holds_is_read(tmp_path, monkeypatch):
    data = killed_encoding.corpus(tmp_path / "data")
    poses = MotionWindows(data.motions("train"), np.arange(5), 2, Limits(4, 4, 2))
    monkeypatch.setattr(cache, "encoder_of", lambda *_: killed_encoding.pooled)
    opened, motions = [], data.motions
    monkeypatch.setattr(data, "motions", lambda split: opened.append(split) or motions(split))
    read, unpack = [], cache.unpack
    monkeypatch.setattr(cache, "unpack", lambda record: read.append(record) or unpack(record))

    def made(name: str, **options):
        read.clear()
        how = {"window": 5, "stride": 4, "references": 2, "batch": 1}
        one = cache.prepare(
            tmp_path / name, data, poses, killed_encoding._VAE, killed_encoding._PARAMS, **how, **options
        )
        return one, len(read)

    all_read, most = made("all")
    few_read, few = made("few", constants=(all_read.mean, all_read.std))
    assert most == 13 and few <= 4
    assert opened == ["train"] * 2  # once for all batches
    for signer, bank in all_read.banks.items():
        np.testing.assert_allclose(few_read.banks[signer].latents, bank.latents, rtol=1e-5, atol=1e-6)


# ---- The command, and a run --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A set of seven clips of two signers."""
    folder = tmp_path_factory.mktemp("set")
    rng, rows = np.random.default_rng(0), ["name,split,video,pose,text,signer"]
    (folder / "source").mkdir()
    for i in range(7):
        frames = 12 + i
        still = np.repeat(np.repeat(rng.integers(0, 255, (frames, 4, 4, 3), np.uint8), 8, axis=1), 8, axis=2)
        video.write(folder / "source" / f"{i}.mp4", still, 16.0)
        coordinates = rng.uniform(4, 28, (frames, len(skeleton.JOINTS), 3)).astype(np.float32)
        pose = Pose(coordinates, np.ones(coordinates.shape[:2], np.float32), 16.0)
        pose_file.write(folder / "source" / f"{i}.pose", pose, size=(32, 32))
        rows.append(f"ü{i},{'dev' if i == 6 else 'train'},{i}.mp4,{i}.pose,text {'abcdefg'[i]},{'ab'[i % 2]}")
    (folder / "source" / "samples.csv").write_text("\n".join(rows) + "\n")
    out = folder / "set"
    assert main(["prepare", "folder", "--source", str(folder / "source"), "--out", str(out), "--size", "16x16"]) == 0
    return out


@pytest.fixture(scope="module")
def config(prepared, tmp_path_factory) -> Path:
    """A config file of a model that reads texts and pictures."""
    folder = tmp_path_factory.mktemp("weights")
    tiny_wan.write_transformer(folder, I2V)
    for write in (tiny_wan.write_text_encoder, tiny_wan.write_image_encoder):
        write(folder)
    vae = tiny_wan.write_vae(folder / "vae")
    file = folder / "config.py"
    file.write_text(f"""
from renderer.tiny_wan import config_of


def get_config():
    c = config_of({I2V!r}, {str(folder)!r}, {vae!r})
    c.data.corpus, c.data.source, c.data.fps, c.data.crop = "prepared", {str(prepared)!r}, 16.0, 0.5
    c.renderer.text_encoder = c.renderer.image_encoder = {str(folder)!r}
    c.renderer.references, c.renderer.stride, c.renderer.control = 4, 4, "variant"
    c.train.renderer.steps, c.train.renderer.warmup, c.train.renderer.batch, c.evaluate.split = 2, 1, 8, ""
    return c
""")
    return file


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(cache, "_PART_PIXELS", 1)
    monkeypatch.setattr(text_states, "_PART", 1)
    monkeypatch.setattr(pictures, "_PART", 4)


def train(config: Path, workdir: Path, *words: str) -> int:
    return main(["train", "--config", str(config), "--workdir", str(workdir), *words])


def sha(workdir: Path) -> str:
    return json.loads((workdir / "result.json").read_text())["params_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("buckets", ["()", "5x16x16,9x16x8"], ids=["one_size", "buckets"])
def test_a_run_on_what_a_job_encoded_is_the_run_that_encodes(
    buckets, config, small_parts, tmp_path, capsys, monkeypatch
):
    given = f"--config.renderer.buckets={buckets}"
    encode = ["encode", "--config", str(config), given]
    for shard in ("1/2", "0/2"):
        assert main([*encode, "--out", str(tmp_path / "two"), "--shard", shard]) == 0
    assert f"all is there: signer train … --config.data.encoded={tmp_path / 'two'}" in capsys.readouterr().out
    assert main([*encode, "--out", str(tmp_path / "one")]) == 0
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert train(config, tmp_path / "alone", given) == 0

    def must_not(*_):
        raise AssertionError("the run encoded")

    monkeypatch.setattr(begun, "make", must_not)
    assert train(config, tmp_path / "run", given, f"--config.data.encoded={tmp_path / 'two'}") == 0
    assert sha(tmp_path / "run") == sha(tmp_path / "alone")
    # ---- Another run is refused in a line --------------------------------------------------------------------------
    capsys.readouterr()
    other = ["--config.renderer.stride=3", f"--config.data.encoded={tmp_path / 'two'}"]
    assert train(config, tmp_path / "other", given, *other) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert "are others (" in line and "windows " in line and line.startswith("signer: config.data.encoded ")
    assert not (tmp_path / "other" / "latents").exists()


def test_a_job_encodes_for_the_corpus_that_the_run_reads(config, tmp_path, monkeypatch):
    settings = read(load(str(config), ["--config.data.glosses_by=human"]))
    seen = []
    monkeypatch.setattr(encode, "works", lambda settings, corpus: seen.append(corpus.hash()) or iter(()))
    assert encode.encode(settings, tmp_path / "out") == []
    assert seen == [prepare(settings.data, settings.data.seed, tmp_path / "run" / "data").hash()]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--config.stages=slul"], "none trains the renderer"),
        (["--config.data.corpus=how2sign_clips"], "reads prepared sets"),
        (["--config.stages=vae,renderer"], "the autoencoder is trained in the run"),
        (["--shard", "2/2"], "give which of how many"),
    ],
)
def test_what_no_job_can_encode_is_refused(words, what, config, tmp_path, capsys):
    assert main(["encode", "--config", str(config), "--out", str(tmp_path / "out"), *words]) == 2
    assert what in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_run_on_a_folder_that_is_not_there_is_refused_at_once(config, tmp_path, capsys):
    assert train(config, tmp_path / "run", "--config.data.encoded=gone") == 2
    assert "config.data.encoded gone: no such folder" in capsys.readouterr().err and not (tmp_path / "run").exists()
