"""A checkpoint that was cut short or is damaged is named and passed over for the one before it."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import small_run
from test_preemption import two_processes

from signer_jax import configuration
from signer_jax.errors import LOST, Absent, Preempted, SignerError
from signer_jax.training import partitioning
from signer_jax.training.checkpoints import Damaged, read_params
from signer_jax.training.preemption import Notice
from signer_jax.training.there import latest_step, leave_behind, pass_over

MESH = partitioning.make_mesh(small_run.WHOLE)


def pieces(folder: Path) -> list[Path]:
    return [file for file in (folder / "state").rglob("d/*") if file.is_file()]


def cut_short(folder: Path) -> None:
    for file in pieces(folder):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(folder: Path) -> None:
    for file in pieces(folder):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


HARMS = {
    "cut short": cut_short, "flipped": flip, "empty": empty,
    "says nothing": lambda folder: shutil.rmtree(folder / "about"),
    "no arrays": lambda folder: shutil.rmtree(folder / "state"),
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, dict]:
    """A run that was stopped, with its last three checkpoints, and what it trained in four steps more."""
    folder, notice = tmp_path_factory.mktemp("runs"), Notice()

    def say(step: int) -> None:
        notice.asked |= step == 5

    with pytest.raises(Preempted):
        small_run.train(folder / "run", MESH, steps=10, every=2, keep=3, notice=notice, say=say)
    shutil.copytree(folder / "run", folder / "whole")
    return folder / "run", small_run.train(folder / "whole", MESH, steps=10, every=2, keep=3)


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_checkpoint_is_passed_over_and_the_run_ends_as_ever(tmp_path, runs, harm, capsys):
    run, whole = runs
    shutil.copytree(run, tmp_path / "run")
    HARMS[harm](tmp_path / "run" / "part" / "6")
    found = small_run.train(tmp_path / "run", MESH, steps=10, every=2, keep=3)
    jax.tree.map(np.testing.assert_array_equal, found, whole)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("signer: ")]
    assert line.startswith(f"signer: {tmp_path / 'run' / 'part' / '6'}: this checkpoint")
    assert line.endswith("; it is now 6.damaged, and step 4 is gone on from")
    # It is kept, and another one of its number has been saved since.
    kept = {path.name for path in (tmp_path / "run" / "part").iterdir()}
    assert kept == {"6", "6.damaged", "8", "10"}
    read_params(tmp_path / "run" / "part")


def test_of_those_that_are_kept_by_default_one_may_be_damaged(tmp_path, runs, capsys):
    run, whole = runs
    shutil.copytree(run, tmp_path / "run")
    steps = sorted(int(folder.name) for folder in (tmp_path / "run" / "part").iterdir() if folder.name.isdecimal())
    for step in steps[: -configuration.load("default").keep_checkpoints]:
        shutil.rmtree(tmp_path / "run" / "part" / str(step))
    cut_short(tmp_path / "run" / "part" / str(steps[-1]))
    found = small_run.train(tmp_path / "run", MESH, steps=10, every=2, keep=3)
    jax.tree.map(np.testing.assert_array_equal, found, whole)
    assert "6.damaged, and step 4 is gone on from" in capsys.readouterr().err


def test_two_are_passed_over_and_the_first_one_is_not(tmp_path, runs, capsys):
    run, whole = runs
    shutil.copytree(run, tmp_path / "run")
    for step in (6, 4):
        cut_short(tmp_path / "run" / "part" / str(step))
    found = small_run.train(tmp_path / "run", MESH, steps=10, every=2, keep=3)
    jax.tree.map(np.testing.assert_array_equal, found, whole)
    said = capsys.readouterr().err
    assert "6.damaged, and step 4 is gone on from" in said and "4.damaged, and step 2 is gone on from" in said

    shutil.copytree(run, tmp_path / "all")
    for step in (2, 4, 6):
        cut_short(tmp_path / "all" / "part" / str(step))
    with pytest.raises(SignerError, match=r"part/2: this checkpoint is damaged .*move that folder away"):
        small_run.train(tmp_path / "all", MESH, steps=10, every=2, keep=3)
    assert latest_step(tmp_path / "all" / "part") == 2


@pytest.mark.slow
def test_two_processes_pass_over_the_same_one(tmp_path, runs):
    """Both read it, and one says it."""
    run, whole = runs
    shutil.copytree(run, tmp_path / "run")
    cut_short(tmp_path / "run" / "part" / "6")
    empty(tmp_path / "run" / "part" / "4")
    both = two_processes(tmp_path / "run", 10, 2, KEEP="3")
    try:
        said = [process.communicate(timeout=300) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], said[0][1][-3000:]
    for out, _ in said:
        assert [line for line in out.splitlines() if line.startswith("step")] == [f"step {k}" for k in range(3, 11)]
    assert "6.damaged, and step 4 is gone on from" in said[0][1] and "4.damaged, and step 2 is" in said[0][1]
    assert "damaged" not in said[1][1]
    read = read_params(tmp_path / "run" / "part")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), read, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ({"FAULT0": "about:6", "FAULT1": "read:4"}, {"6": 4, "4": 2}),
        ({"FAULT1": "late:6 sums:6", "BEST": "1"}, {"6": 4}),
        ({"FAULT1": "about:6"}, {}),  # which the first alone reads
    ],
    ids=lambda value: " ".join(value.values()) if "FAULT1" in value else "",
)
def test_what_one_process_alone_finds_is_so_for_both(tmp_path, runs, faults, told):
    run, whole = runs
    shutil.copytree(run, tmp_path / "run")
    both = two_processes(tmp_path / "run", 10, 2, KEEP="3", READS="1", **faults)
    try:
        said = [process.communicate(timeout=200) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], said[0][1][-3000:] + said[1][1][-3000:]
    first = min(told.values(), default=6) + 1
    for out, _ in said:
        read, trained = out.splitlines()[-2:]
        assert read.removeprefix("read ") == trained.removeprefix("params ")
        assert [line for line in out.splitlines() if line.startswith("step")] == [f"step {k}" for k in range(first, 11)]
    lines = [line for line in said[0][1].splitlines() if "damaged" in line]
    assert len(lines) == len(told)
    for line, (step, before) in zip(lines, told.items(), strict=True):
        assert line.endswith(f"; it is now {step}.damaged, and step {before} is gone on from")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), read_params(tmp_path / "run" / "part"), whole
    )


def test_a_checkpoint_that_one_of_several_does_not_see_yet_is_waited_for(runs, tmp_path, monkeypatch):
    from signer_jax.training import checkpoints

    folder = runs[0] / "part" / "6"
    told = {"about": {"arrays": {}}, "files": checkpoints._files(folder)}
    assert "about/metadata" in told["files"] and checkpoints._files(tmp_path / "none") == {}
    looks = [{}, {**told["files"], "about/metadata": 0}, told["files"] | {"more": 1}]
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(checkpoints, "first_tells", lambda what, make: told)
    monkeypatch.setattr(checkpoints, "_files", lambda _: looks.pop(0))
    assert checkpoints._about(folder) == told["about"] and not looks
    monkeypatch.setattr(checkpoints, "first_tells", lambda what, make: {"damage": "is damaged (by hand)"})
    with pytest.raises(Damaged, match=r"part/6: this checkpoint is damaged \(by hand\); move that folder away"):
        checkpoints._about(folder)


def test_a_name_that_is_taken_is_left(tmp_path, capsys):
    for name in ("2", "3", "3.damaged"):
        (tmp_path / name).mkdir()
    pass_over(Damaged(tmp_path / "3", "is damaged"))
    assert {path.name for path in tmp_path.iterdir()} == {"2", "3.damaged", "3.damaged-1"}
    line = f"signer: {tmp_path / '3'}: this checkpoint is damaged; it is now 3.damaged-1, and step 2 is gone on from\n"
    assert capsys.readouterr().err == line


def test_a_finished_stage_whose_last_checkpoint_is_damaged_is_finished_again(tiny_run, tmp_path, capsys):
    """And those after it, which stand on the same parameters, stay."""
    import json

    from conftest import TINY

    from signer_jax import configuration
    from signer_jax.cli.train import finish

    whole = json.loads((tiny_run / "result.json").read_text())["params_sha256"]
    shutil.copytree(tiny_run, tmp_path / "run")
    config = configuration.load(TINY)
    config.keep_checkpoints = 2
    config.evaluate.split = ""
    stage = tmp_path / "run" / "checkpoints" / "slul"
    empty(stage / "4")
    (stage / "2").mkdir()  # stands for one before it
    with pytest.raises(SignerError, match=r"slul/2: this checkpoint"):
        finish(config, tmp_path / "run")
    assert "slul/4: this checkpoint" in capsys.readouterr().err
    shutil.rmtree(stage / "2")
    finish(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["params_sha256"] == whole


def test_one_of_several_processes_that_meets_damage_alone_has_all_start_again(tmp_path):
    """With the code on which launchers do, the checkpoint set aside; without one before it as bad input."""
    from signer_jax.outside import code_of

    for name in ("2", "3"):
        (tmp_path / name).mkdir()
    damage = Damaged(tmp_path / "3", "is damaged")
    for _ in range(2):  # another met it too
        with pytest.raises(Absent, match=r"3: this checkpoint is damaged; it is set aside, start all .* step 2") as met:
            leave_behind(damage)
        assert code_of(met.value) == LOST
    assert {path.name for path in tmp_path.iterdir()} == {"2", "3.damaged"}
    with pytest.raises(Damaged) as last:
        leave_behind(Damaged(tmp_path / "2", "is damaged"))
    assert code_of(last.value) == 2


def test_a_run_of_several_processes_leaves_a_damaged_stage_behind(tmp_path, monkeypatch):
    from signer_jax.training import run

    for name in ("2", "3"):
        (tmp_path / name).mkdir()

    def met(*_):
        raise Damaged(tmp_path / "3", "is damaged")

    monkeypatch.setattr(run, "_train", met)
    monkeypatch.setattr(run.jax, "process_count", lambda: 2)
    with pytest.raises(Absent):
        run.train(None, tmp_path)
