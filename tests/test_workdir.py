"""A run's folder: claimed once, held by one command, and nothing of the user's in it is touched."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import QUICK, TINY

from signer_jax import configuration, storage, workdir
from signer_jax.errors import SignerError
from signer_jax.pipeline import Signer
from signer_jax.training import run
from signer_jax.validation import read


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def signer(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "signer_jax", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "XLA_FLAGS": QUICK})


def write_phoenix(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split in ("train", "dev"):
        rows = "".join(f"{split}{i}\tS\tA B\tein text {i}\t3\n" for i in range(9))
        (folder / f"phoenix14t.{split}.tsv").write_text("name\tsigner\tgloss\ttext\tnum_frames\n" + rows)


@pytest.mark.parametrize("source", ["data", ".", "corpora/phoenix"])
def test_a_source_inside_the_workdir_is_refused_and_stays(tmp_path, source):
    write_phoenix(tmp_path / "w" / source) if source != "." else write_phoenix(tmp_path / "w")
    before = contents(tmp_path)
    done = signer("train", "--config", "phoenix14t", "--workdir", str(tmp_path / "w"),
                  f"--config.data.source={tmp_path / 'w' / source}")  # fmt: skip
    reason = "which no run wrote" if source == "data" else "lies inside --workdir"
    assert done.returncode == 2 and reason in done.stderr and done.stderr.count("\n") == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", list(storage.RUN_FILES))
def test_a_folder_with_files_of_a_runs_names_is_refused(tmp_path, name):
    if "." in name:
        (tmp_path / name).write_text("mine")
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
    before = contents(tmp_path)
    with (
        pytest.raises(SignerError, match=f"holds {name!r}, which no run wrote"),
        run.claimed(read(configuration.load(TINY)), tmp_path),
    ):
        pass
    assert contents(tmp_path) == before


def test_somebody_elses_config_is_none_of_a_run(tmp_path):
    for text in ('{"model_type": "t5"}', "[1]", "{", "null", "[" * 10**5):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(SignerError, match=r"config\.json"), run.claimed(read(configuration.load(TINY)), tmp_path):
            pass
        assert contents(tmp_path) == {tmp_path / "config.json": text.encode()}


def test_a_second_command_is_told_who_is_at_work(tmp_path):
    c = read(configuration.load(TINY))
    with run.claimed(c, tmp_path / "w"):
        done = signer("train", "--config", str(TINY), "--workdir", str(tmp_path / "w"))
        assert done.returncode == 1 and f"in use by process {os.getpid()} on" in done.stderr
        assert done.stderr.count("\n") == 1
    with run.claimed(c, tmp_path / "w"):
        pass


def test_what_makes_room_may_change_within_a_run(tmp_path):
    """Fewer chips may need it; numbers differ in their last digits alone."""
    c, w = read(configuration.load(TINY)), tmp_path / "w"
    with run.claimed(c, w):
        pass
    (w / "checkpoints" / "slul" / "4").mkdir(parents=True)
    workdir.check_claim(w, replace(c, remat="full", scan_unroll=c.scan_unroll + 1))
    with pytest.raises(SignerError, match="another config"):
        workdir.check_claim(w, replace(c, nonfinite_steps=c.nonfinite_steps + 1))


def test_a_lock_of_a_killed_run_is_free_again(tmp_path):
    command = [sys.executable, "-m", "signer_jax", "train", "--config", str(TINY), "--workdir", str(tmp_path / "w")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "w" / "config.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    with run.claimed(read(configuration.load(TINY)), tmp_path / "w"):
        pass


def test_a_place_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(SignerError, match="cannot lie in .*file, which is no folder"),
        run.claimed(read(configuration.load(TINY)), tmp_path / "file" / "w"),
    ):
        pass


@pytest.mark.slow
def test_what_is_removed_is_made_again(tiny_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(tiny_run, copy)
    before = {name: (copy / name).read_bytes() for name in ("prior/coordinates.npy", "latents/references.npy")}
    for name in ("prior", "latents"):
        shutil.rmtree(copy / name)
        with pytest.raises(SignerError, match="run the same `signer train`"):
            signer_of = Signer.load(copy)
            _ = signer_of.retrieval if name == "prior" else signer_of.latents
    c = workdir.load_settings(copy)
    with run.claimed(c, copy):
        run.train(c, copy)
    for name, data in before.items():
        assert (copy / name).read_bytes() == data, name


@pytest.mark.slow
def test_latents_of_another_autoencoder_are_refused(tiny_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(tiny_run, copy)
    c = workdir.load_settings(copy)
    statistics = copy / "latents" / "statistics.json"
    made = json.loads(statistics.read_text())["encoder"]
    statistics.write_text(statistics.read_text().replace(made, made[::-1]))
    with pytest.raises(SignerError, match="encoded by another autoencoder"), run.claimed(c, copy):
        run.train(c, copy)


@pytest.mark.slow
def test_what_is_damaged_is_named_with_its_mend(tiny_run, tmp_path):
    for name in ("data/train.motion.arrayrecord", "prior/index.json", "latents/statistics.json"):
        copy = tmp_path / "run"
        shutil.copytree(tiny_run, copy)
        (copy / name).write_bytes((copy / name).read_bytes()[:-5])
        with pytest.raises(SignerError, match=r"is damaged.*run the same `signer train`"):
            signer_of = Signer.load(copy)
            _ = signer_of.retrieval, signer_of.latents
        shutil.rmtree(copy)


@pytest.mark.parametrize("bad", [None, "x", [], {"x": 1}, 3])
def test_a_runs_config_is_checked(tmp_path, bad):
    values = {"made_by": "signer_jax", **configuration.load(TINY).to_dict()}
    for section in ("slul", "pose", "data", "renderer", "tokenizer", "stages", "dtype", "train"):
        (tmp_path / "config.json").write_text(json.dumps({**values, section: bad}))
        with pytest.raises(SignerError, match=r"config\.json: config") as error:
            workdir.load_settings(tmp_path)
        assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text('{"made_by": "signer_jax"}')
    with pytest.raises(SignerError, match="the config lacks 'stages'"):
        workdir.load_settings(tmp_path)


def older(folder: Path, *keys: str, **more: object) -> None:
    """Takes keys out of a run's config, as a version that did not have them yet left it, and puts others in."""
    values = json.loads((folder / "config.json").read_text())
    for key in keys:
        section, leaf = key.split(".")
        del values[section][leaf]
    (folder / "config.json").write_text(json.dumps(values | more))


def test_a_run_that_is_older_than_a_key_has_its_default(tmp_path, capsys):
    c, w = configuration.load(TINY), tmp_path / "w"
    with run.claimed(read(c), w):
        pass
    (w / "checkpoints" / "slul" / "20").mkdir(parents=True)
    older(w, "renderer.reference_dropout", "data.guests")
    capsys.readouterr()
    assert workdir.load_settings(w) == read(c)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "data.guests = 2, renderer.reference_dropout = 0.05" in said
    # Another value than the default is another config; the default resumes, and writes the key down.
    with (
        pytest.raises(SignerError, match=r"data\.guests was 2 by default, since that run is older.*is now 3"),
        run.claimed(read(configuration.load(TINY, ["--config.data.guests=3"])), w),
    ):
        pass
    assert capsys.readouterr().err == ""
    with run.claimed(read(c), w):
        assert capsys.readouterr().err.count("their defaults are taken") == 1
    workdir.load_settings(w)
    assert capsys.readouterr().err == ""


def test_a_run_that_is_older_than_the_stabilisers_reach_keeps_none(tmp_path, capsys):
    with run.claimed(read(configuration.load(TINY)), tmp_path):
        pass
    (tmp_path / "checkpoints" / "pose" / "20").mkdir(parents=True)
    older(tmp_path, "pose.stabiliser_reach")
    assert workdir.load_settings(tmp_path).pose.stabiliser_reach == 0.0
    assert "pose.stabiliser_reach = 0.0" in capsys.readouterr().err
    with run.claimed(read(configuration.load(TINY, ["--config.pose.stabiliser_reach=0.0"])), tmp_path):
        pass


def test_a_key_that_is_no_more_is_named_with_what_to_do(tmp_path):
    with run.claimed(read(configuration.load(TINY)), tmp_path):
        pass
    older(tmp_path, old_key=3)
    with pytest.raises(SignerError, match=r"config\.old_key is no key of this version.*delete the key there"):
        workdir.load_settings(tmp_path)


def test_a_run_that_trained_nothing_is_the_corrected_configs(tmp_path, capsys):
    """What was made with values that have changed is made anew; the rest, and other people's files, stay."""
    w = tmp_path / "w"
    with run.claimed(read(configuration.load(TINY, ["--config.tokenizer.vocab_size=10"])), w):
        for name in ("data", "prior", "latents"):
            with storage.new_folder(w / name, name) as folder:
                (folder / "a").write_text("a")
        (w / "tensorboard").mkdir()
        for name in ("events.out.tfevents.1", "mine.txt"):
            (w / "tensorboard" / name).write_text("a")
        for place in (w / "begun", w / "buckets" / "begun"):
            place.mkdir(parents=True)
            for name in ("latents.0123456789abcdef.0.arrayrecord", "mine.txt"):
                (place / name).write_text("a")
        (w / "tokenizer.model").write_text("a")
    capsys.readouterr()
    with run.claimed(read(configuration.load(TINY)), w):
        pass
    said = capsys.readouterr().err
    assert "nothing was trained there yet" in said and "tokenizer.vocab_size was 10, is now 400" in said
    assert workdir.load_settings(w).tokenizer.vocab_size == 400
    kept = {"data", "prior", "tensorboard", "begun", "buckets"}
    assert {path.name for path in w.iterdir()} == {workdir.LOCK, "config.json", *kept}
    for name in ("tensorboard", "begun", "buckets/begun"):
        assert [path.name for path in (w / name).iterdir()] == ["mine.txt"]
    with run.claimed(read(configuration.load(TINY, ["--config.data.size=64", "--config.stages=slul"])), w):
        assert not (w / "data").exists() and not (w / "prior").exists()
    # The same config resumes, and once a stage has a checkpoint the folder is its run's.
    (w / "checkpoints" / "slul" / "2").mkdir(parents=True)
    with pytest.raises(SignerError, match="belongs to a run with another config"):
        workdir.check_claim(w, read(configuration.load(TINY)))


def test_a_folder_of_a_runs_name_that_is_not_ours_alone_stays(tmp_path):
    with run.claimed(read(configuration.load(TINY)), tmp_path):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "thesis.txt").write_text("mine")
    with (
        pytest.raises(SignerError, match="choose another folder"),
        run.claimed(read(configuration.load(TINY, ["--config.data.size=64", "--config.stages=slul"])), tmp_path),
    ):
        pass
    assert (tmp_path / "data" / "thesis.txt").read_text() == "mine"


def test_prepared_data_stay_where_their_source_is_gone(tmp_path):
    write_phoenix(tmp_path / "source")
    load = [f"--config.data.source={tmp_path / 'source'}"]
    with (
        run.claimed(read(configuration.load("phoenix14t", load)), tmp_path / "w"),
        storage.new_folder(tmp_path / "w" / "data", "prepared corpus") as folder,
    ):
        (folder / "a").write_text("a")
    shutil.rmtree(tmp_path / "source")
    with (
        pytest.raises(SignerError, match="no such folder"),
        run.claimed(read(configuration.load("phoenix14t", [*load, "--config.data.size=32"])), tmp_path / "w"),
    ):
        pass
    assert (tmp_path / "w" / "data" / "a").exists()


def test_another_source_is_read_where_nothing_was_trained_and_told_where_something_was(tmp_path, capsys):
    for name in ("one", "two"):
        write_phoenix(tmp_path / name)
    settings = {
        name: read(configuration.load("phoenix14t", [f"--config.data.source={tmp_path / name}"]))
        for name in ("one", "two")
    }

    def claim(name):
        with run.claimed(settings[name], tmp_path / "w"):
            pass
        return capsys.readouterr().err

    claim("one")
    with storage.new_folder(tmp_path / "w" / "data", "prepared corpus") as folder:
        (folder / "a").write_text("of one")
    claim("two")
    assert not (tmp_path / "w" / "data").exists()
    with storage.new_folder(tmp_path / "w" / "data", "prepared corpus") as folder:
        (folder / "a").write_text("of two")
    (tmp_path / "w" / "checkpoints" / "slul" / "2").mkdir(parents=True)
    said = claim("one")
    assert (tmp_path / "w" / "data" / "a").read_text() == "of two"
    assert "keeps the data that were prepared from" in said and str(tmp_path / "one") in said


@pytest.mark.parametrize("place", ["file", "file/w", "database", "database/w", "run/checkpoints", "lexicon/w"])
def test_no_run_is_started_in_what_is_something_else(tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with storage.new_folder(tmp_path / "database", "pose database") as folder:
        (folder / "a").write_text("a")
    (tmp_path / "lexicon").mkdir()
    (tmp_path / "lexicon" / "index.csv").write_text("path,signed_language,glosses\n")
    with run.claimed(read(configuration.load(TINY)), tmp_path / "run"):
        pass
    before = contents(tmp_path)
    with (
        pytest.raises(SignerError, match=f"--workdir {tmp_path / place}: .*; choose another place"),
        run.claimed(read(configuration.load(TINY)), tmp_path / place),
    ):
        pass
    assert contents(tmp_path) == before


def test_the_clock_is_a_note_that_stops_nothing(tmp_path, capsys):
    for text in ("{", "[1]", '{"slul": "long"}', "null"):
        (tmp_path / "wall_time.json").write_text(text)
        assert workdir.read_times(tmp_path) == {}
        with workdir.Clock(tmp_path, "slul"):
            pass
        assert workdir.read_times(tmp_path).keys() == {"slul"}
    (tmp_path / "file").write_text("")
    with workdir.Clock(tmp_path / "file", "slul"):
        pass
    assert "wall_time.json: cannot be written" in capsys.readouterr().err


def test_no_output_replaces_a_part_of_a_run(tmp_path):
    c = read(configuration.load(TINY))
    with run.claimed(c, tmp_path / "w"):
        pass
    before = contents(tmp_path)
    for command in (
        ["evaluate", "--json", str(tmp_path / "w" / "config.json")],
        ["sign", "hello", "--out", str(tmp_path / "o.mp4"), "--pose", str(tmp_path / "w" / "tokenizer.model")],
        ["sign", "hello", "--out", str(tmp_path / "w" / "sign.mp4")],
    ):
        done = signer(*command, "--workdir", str(tmp_path / "w"))
        assert done.returncode == 2 and ("is a part of --workdir" in done.stderr or ".pose" in done.stderr), done.stderr
    assert contents(tmp_path) == before


def test_a_configs_mark_is_no_value(tmp_path):
    c = read(configuration.load(TINY))
    with run.claimed(c, tmp_path / "w"):
        assert json.loads((tmp_path / "w" / "config.json").read_text())["made_by"] == "signer_jax"
        assert workdir.load_settings(tmp_path / "w") == c
