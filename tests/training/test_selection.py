"""What a stage gives of the parameters at several of its steps, and when it ends: by hand, and over kills."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_stage
from test_checkpoints import MESH, batches

from signer_jax.errors import Preempted, SignerError
from signer_jax.training import checkpoints as ckpt
from signer_jax.training import partitioning, run
from signer_jax.training.checkpoints import Checkpoints, Damaged, read_looked, read_params
from signer_jax.training.loop import Program, fit
from signer_jax.training.monitoring import Monitor
from signer_jax.training.preemption import Notice
from signer_jax.training.selection import Score, Selection, best, looks_of
from signer_jax.training.there import latest_step, steps_of

LOOKS = [(2, 1.0), (4, 3.0), (6, 2.0), (8, 3.0), (10, 0.5)]
STEPS = 12


def test_the_best_and_what_ends_a_stage_by_hand():
    assert best(LOOKS, 1) == [4] and best(LOOKS, 3) == [4, 8, 6] and best([], 1) == []  # of equals the earlier
    assert Selection(2, None, average=3).chosen(LOOKS) == [4, 6, 8]
    assert [Selection(2, None, patience=3).ends(LOOKS[:n]) for n in (1, 2, 3, 4, 5)] == [False] * 4 + [True]
    assert not Selection(2, None).ends(LOOKS)
    silent = [(step, 0.0) for step in (2, 4, 6)]
    assert not Selection(2, None, patience=1).ends(silent) and Selection(2, None, patience=1).ends([(1, 0.1), *silent])
    assert looks_of({"looks": [[2, 1.0]]}) == [(2, 1.0)] and looks_of({}) == []
    for wrong in ([[2, 1]], [[2.0, 1.0]], [[2]], [2]):
        with pytest.raises((ValueError, TypeError)):
            looks_of({"looks": wrong})


def objective(params, batch, rng):
    """Its parameter goes down by the rate at each step, whatever the data."""
    return params["part"]["x"].sum() + 0 * batch["x"].sum(), {}


def score_near(value: float) -> Score:
    return Score(lambda params: -float(jnp.abs(params["part"]["x"] - value).max()), "nearness", "near")


def train(
    folder: Path, chosen: Selection | None, *, ema: float = 0.0, every: int = 5, keep: int = 1, poison: int = -1,
    notice: Notice | None = None, stop_at: int = 0, dies: int = 0,
) -> dict:  # fmt: skip
    made = small_stage.stage(
        objective, steps=STEPS, ema=ema, schedule="constant", learning_rate=0.1, weight_decay=0.0, warmup=1
    )

    class Watched(Monitor):
        def scalars(self, stage, step, values):
            if notice is not None and step == stop_at:
                notice.asked = True

    class Killed(Checkpoints):
        def save(self, step, *given):
            if step == dies:
                raise KeyboardInterrupt
            super().save(step, *given)

    given = {"part": {"x": np.array([1.0, 1.0], np.float32)}}
    with Killed(folder / "part", keep, chosen.average if chosen else 0) as checkpoints:
        return fit(
            Program(made, given, partitioning.make_mesh(MESH)), given, batches(poison), seed=0, checkpoints=checkpoints,
            monitor=Watched(folder / "tensorboard"), log_every=1, checkpoint_every=every, notice=notice,
            selection=chosen,
        )  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> dict[int, float]:
    """The parameter after each step."""
    folder = tmp_path_factory.mktemp("path")
    train(folder, None, every=1, keep=100)
    return {step: float(x_of(folder, step)) for step in steps_of(folder / "part")}


def x_of(folder: Path, step: int) -> np.ndarray:
    read = ckpt._read_params(folder / "part" / str(step), None, None)
    return np.asarray(read["part"]["x"])[0]


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_stage_gives_its_best_look_and_says_so(ema, path, tmp_path, capsys):
    chosen = Selection(2, score_near(path[6]))
    learned = train(tmp_path, chosen, ema=ema)
    record = read_looked(tmp_path / "part")
    looks = looks_of(record)
    assert [step for step, _ in looks] == [2, 4, 6, 8, 10, 12]
    (step,) = record["given"]
    assert step == best(looks, 1)[0] == (6 if not ema else step) and step < 12
    assert record["score"] == dict(looks)[step] and record["by"] == "nearness"
    # The last checkpoint has it, and so has whoever reads the stage; the best one and the last stayed.
    assert sorted(steps_of(tmp_path / "part")) == sorted({step, 12})
    for got in (learned, read_params(tmp_path / "part")):
        np.testing.assert_array_equal(got["part"]["x"][0], x_of(tmp_path, step))
    assert f"stage 'part': gives the parameters after step {step}, of 6 looks, by nearness: " in capsys.readouterr().err
    again = train(tmp_path, chosen, ema=ema)  # over: nothing is trained or chosen again
    np.testing.assert_array_equal(again["part"]["x"], learned["part"]["x"])
    assert not capsys.readouterr().err.count("gives")


def test_it_ends_when_no_look_was_better_for_long(path, tmp_path, capsys):
    chosen = Selection(2, score_near(path[4]), patience=2)
    learned = train(tmp_path, chosen)
    assert [step for step, _ in looks_of(read_looked(tmp_path / "part"))] == [2, 4, 6, 8]
    assert latest_step(tmp_path / "part") == STEPS  # it is over
    assert learned["part"]["x"][0] == np.float32(path[4])
    assert "; it ended at step 8 of 12, 2 looks after the best" in capsys.readouterr().err
    np.testing.assert_array_equal(train(tmp_path, chosen)["part"]["x"], learned["part"]["x"])


@pytest.mark.parametrize(("by", "given"), [("score", [4, 6, 8]), ("last", [8, 10, 12])])
def test_the_mean_of_the_best_or_the_last_looks(by, given, path, tmp_path):
    found = []

    def near(params):
        found.append(float(params["part"]["x"][0]))
        return -abs(found[-1] - path[6])

    chosen = Selection(2, Score(near, "nearness", "near") if by == "score" else None, average=3)
    learned = train(tmp_path, chosen)
    record = read_looked(tmp_path / "part")
    assert record["given"] == given
    mean = np.mean([np.float64(path[step]) for step in given])
    np.testing.assert_allclose(learned["part"]["x"], [mean, mean], rtol=1e-6)
    np.testing.assert_array_equal(read_params(tmp_path / "part")["part"]["x"], learned["part"]["x"])
    # The mean itself is measured once more.
    assert (record["score"] is None) == (by == "last") and (by == "last" or found[-1] == learned["part"]["x"][0])
    assert sorted(steps_of(tmp_path / "part")) == sorted({*given, 12})


def test_a_mean_is_made_of_some_arrays_at_a_time(tmp_path, monkeypatch):
    arrays = [{"a": {"x": np.full(4, k, np.float32)}, "b": np.arange(3, dtype=np.float32) * k} for k in (1, 2, 6)]
    mesh, reads = partitioning.make_mesh(MESH), []
    own = jax.device_put(arrays[2], partitioning.tree_shardings(arrays[2], mesh))
    read = ckpt._read_params
    monkeypatch.setattr(ckpt, "_TOGETHER", 4)
    monkeypatch.setattr(ckpt, "_read_params", lambda folder, place, kinds, together: (
        reads.append((folder.name, *kinds)) or read(folder, place, kinds, together)
    ))  # fmt: skip
    with Checkpoints(tmp_path / "part", 3) as checkpoints:
        for step, each in enumerate(arrays[:2], 1):
            checkpoints.save(step, {"params": jax.tree.map(jnp.asarray, each)}, batches())
        assert checkpoints.steps() == [1, 2]
        mean = checkpoints.mean([1, 2], own, partitioning.placing(mesh), counted=True)
        alone = checkpoints.mean([1], own, partitioning.placing(mesh), counted=False)
    np.testing.assert_allclose(mean["a"]["x"], np.full(4, 3.0), rtol=1e-6)
    np.testing.assert_allclose(mean["b"], [0, 3, 6], rtol=1e-6)
    np.testing.assert_array_equal(alone["b"], arrays[0]["b"])
    assert reads == [("1", "a/x"), ("2", "a/x"), ("1", "b"), ("2", "b"), ("1", "a/x"), ("1", "b")]


@pytest.mark.parametrize("how", ["a bad batch", "a kill before the last save", "SIGTERM at a look"])
def test_a_run_that_goes_on_chooses_and_ends_as_the_whole_one(how, path, tmp_path):
    chosen = Selection(2, score_near(path[4]), patience=2, average=2)
    whole = train(tmp_path / "whole", chosen, ema=0.3)
    if how == "SIGTERM at a look":
        with pytest.raises(Preempted):
            train(tmp_path / "two", chosen, ema=0.3, notice=Notice(), stop_at=5)
        assert latest_step(tmp_path / "two" / "part") == 6
        assert read_looked(tmp_path / "two" / "part")["looks"][-1][0] == 6
    elif how == "a bad batch":
        with pytest.raises(SignerError, match="not finite"):
            train(tmp_path / "two", chosen, ema=0.3, poison=6 * 8)
    else:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "two", chosen, ema=0.3, dies=STEPS)
        assert latest_step(tmp_path / "two" / "part") < STEPS
    two = train(tmp_path / "two", chosen, ema=0.3)
    np.testing.assert_array_equal(two["part"]["x"], whole["part"]["x"])
    records = [json.dumps(read_looked(tmp_path / name / "part")) for name in ("whole", "two")]
    assert records[0] == records[1] and '"given"' in records[0]


def test_a_damaged_one_is_not_chosen(path, tmp_path, monkeypatch, capsys):
    chosen, read = Selection(2, score_near(path[4])), ckpt._read_params

    def damaged(folder, *given):
        if folder.name == "4":
            raise Damaged(folder, "is damaged (by hand)")
        return read(folder, *given)

    monkeypatch.setattr(ckpt, "_read_params", damaged)
    learned = train(tmp_path, chosen, keep=5)
    said = capsys.readouterr().err
    (step,) = read_looked(tmp_path / "part")["given"]
    assert step in (2, 6) and learned["part"]["x"][0] == np.float32(path[step])
    assert "4: this checkpoint is damaged (by hand); it is not chosen" in said


def test_the_best_look_stays_not_the_lowest_loss(tmp_path):
    state = {"x": jnp.ones(3)}
    with Checkpoints(tmp_path, 1, 1) as checkpoints:
        looks = []
        for step, (loss, score) in enumerate(((1.0, 1.0), (3.0, 5.0), (2.0, 4.0), (0.5, 3.0)), 1):
            looks.append([step, score])
            checkpoints.save(step, state, batches(), loss, {"looks": list(looks)})
    assert sorted(steps_of(tmp_path)) == [2, 4]
    with Checkpoints(tmp_path, 1, 1) as checkpoints:
        assert checkpoints.looks() == [(1, 1.0), (2, 5.0), (3, 4.0), (4, 3.0)]
    assert read_looked(tmp_path)["looks"][1] == [2, 5.0]


def test_which_stage_chooses_and_by_what():
    def selection(score: Score | None, stage: str = "slul", **changes) -> Selection | None:
        c = replace(small_stage.DEFAULT.train.slul, **changes)
        settings = replace(small_stage.DEFAULT, train=replace(small_stage.DEFAULT.train, slul=c))
        return run.selection_of(stage, None, settings, score and (lambda model: score))

    score, chooses = score_near(1.0), {"select_every": 5, "patience": 3, "average": 2}
    assert selection(score) is None and selection(score, "pose", **chooses) is None  # off as shipped
    assert selection(score, **chooses) == Selection(5, score, 3, 2)
    assert selection(score, select_by="last", **chooses) == Selection(5, None, 3, 2)
    with pytest.raises(ValueError, match="asks for a score"):
        selection(None, **chooses)
