"""Spikes of the gradient: left out, counted and told; where too many follow each other the run ends with the batch."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_run
import small_stage

from signer_jax import configuration
from signer_jax.errors import SignerError
from signer_jax.training import bad_steps, partitioning
from signer_jax.training.checkpoints import Checkpoints
from signer_jax.training.loop import Program, fit
from signer_jax.training.there import latest_step
from signer_jax.validation import read

MESH = partitioning.make_mesh(small_run.WHOLE)


class Harmed:
    """A stream in which the batches of some steps are so many times too large."""

    def __init__(self, steps: tuple[int, ...], times: float = 1000.0):
        self.stream, self.steps, self.times, self.given = small_run.Read(MESH), steps, times, 0
        self.get_state = self.stream.get_state

    def set_state(self, state) -> None:
        self.given = state["next_index"]
        self.stream.set_state(state)

    def __next__(self) -> dict:
        batch, self.given = next(self.stream), self.given + 1
        return batch | {"y": batch["y"] * self.times} if self.given in self.steps else batch


def train(folder, steps=(), *, times=1000.0, spike=4.0, log=1, every=10, nonfinite_steps=3):
    made = replace(
        small_stage.stage(small_run.objective, steps=40, batch=8, nonfinite_steps=nonfinite_steps), spike=spike
    )
    monitor = small_run.Spoken()
    told: list[dict] = []
    monitor.scalars = lambda stage, step, values: told.append(values)
    with Checkpoints(folder / "part") as checkpoints:
        trained = fit(
            Program(made, small_run.params(), MESH), small_run.params(), Harmed(steps, times), seed=0,
            checkpoints=checkpoints, monitor=monitor, log_every=log, checkpoint_every=every, stopped=folder / "stopped",
        )  # fmt: skip
    return trained, told


def test_a_spike_changes_nothing_and_is_told(tmp_path, capsys):
    usual, _ = train(tmp_path / "usual")
    assert "left out" not in capsys.readouterr().err
    found, told = train(tmp_path / "harmed", (25, 30))
    assert "stage 'part': 2 of 40 steps were left out, their gradients not finite or a spike (config.spike 4)" in (
        capsys.readouterr().err
    )
    skipped = [values["skipped_steps"] for values in told]
    assert skipped == [0] * 24 + [1] * 5 + [2] * 11
    # As if their gradients had been no numbers at all, which is what is left out anyway.
    nothing, _ = train(tmp_path / "nothing", (25, 30), times=np.nan, spike=0.0)
    jax.tree.map(np.testing.assert_array_equal, found, nothing)
    for other in (usual, train(tmp_path / "taken", (25, 30), spike=0.0)[0]):
        assert not np.array_equal(found["part"]["out"], other["part"]["out"])


def test_too_many_end_the_run_and_leave_the_batch(tmp_path):
    with pytest.raises(
        SignerError,
        match=r"not finite or a spike \(config.spike 4\) at step 25 and the 2 after it; the batch of step 27 is kept "
        rf"in {tmp_path}/stopped/part-27.npz; the checkpoint of step 20 is whole",
    ):
        train(tmp_path, (25, 26, 27, 28), log=100, every=20)  # seen at step 28 at the earliest: a log every four
    assert latest_step(tmp_path / "part") == 20
    with np.load(tmp_path / "stopped" / "part-27.npz") as kept:
        assert kept["step"] == 27
        stream = Harmed((27,))
        for _ in range(27):
            batch = next(stream)
        assert set(kept) == {"step", *batch}
        for name, values in batch.items():
            np.testing.assert_array_equal(kept[name], values)


def test_one_that_is_not_finite_leaves_its_batch_too(tmp_path):
    """With spikes not looked for, as by default."""

    class Poisoned(Harmed):
        def __next__(self) -> dict:
            batch = super().__next__()
            return batch | {"x": np.full_like(batch["x"], np.nan)} if self.given == 3 else batch

    with (
        pytest.raises(SignerError, match=r"not finite at step 3; the batch of step 3 is kept in .*part-3.npz; no"),
        Checkpoints(tmp_path / "part") as checkpoints,
    ):
        made = small_stage.stage(small_run.objective, batch=8)
        fit(
            Program(made, small_run.params(), MESH), small_run.params(), Poisoned(()), seed=0,
            checkpoints=checkpoints, monitor=small_run.Spoken(), log_every=1, checkpoint_every=9,
            stopped=tmp_path / "stopped",
        )  # fmt: skip
    with np.load(tmp_path / "stopped" / "part-3.npz") as kept:
        assert np.isnan(kept["x"]).all() and len(kept["i"]) == 8


def test_a_full_disk_does_not_hide_why_the_run_ended(tmp_path, capsys):
    (tmp_path / "stopped").write_text("no folder")
    looked = bad_steps.Looked(0, Harmed(()))
    assert looked.keep(tmp_path / "stopped", "part", 2) == ""
    assert "signer: the batch of step 2 was not kept (" in capsys.readouterr().err


def test_the_usual_norm_by_hand():
    usual, values = bad_steps.usual_at_first(), []
    norms = np.random.default_rng(0).uniform(1, 2, 60).astype(np.float32)
    for norm in norms:
        usual = bad_steps.usual_after(usual, jnp.float32(norm), jnp.bool_(True))
        values.append(float(usual["norm"]))
    np.testing.assert_allclose(values[:50], np.cumsum(norms[:50]) / np.arange(1, 51), rtol=1e-5)
    assert values[55] == pytest.approx(0.98 * values[54] + 0.02 * norms[55], rel=1e-5)
    # What was left out, NaN or spike, does not count.
    left = bad_steps.usual_after(usual, jnp.float32(np.nan), jnp.bool_(False))
    jax.tree.map(np.testing.assert_array_equal, left, usual)
    assert bool(bad_steps.is_spike(3.01 * usual["norm"], usual, 3.0))
    assert not bool(bad_steps.is_spike(2.99 * usual["norm"], usual, 3.0))
    early = usual | {"steps": jnp.int32(19)}
    assert not bool(bad_steps.is_spike(jnp.float32(1e9), early, 3.0))


@pytest.mark.parametrize(("value", "good"), [(0.0, True), (1.5, True), (0.5, False), (1.0, False), (-2.0, False)])
def test_a_factor_is_above_one_or_off(value, good):
    config = configuration.load("default")
    config.spike = value
    if good:
        assert read(config.to_dict()).spike == value
        return
    with pytest.raises(SignerError, match=r"config.spike is .*0 \(off\) or more than 1"):
        read(config.to_dict())


def test_a_step_that_is_left_out_is_told_at_the_next_log_and_not_in_the_mean_loss(tmp_path, capsys, monkeypatch):
    losses = []
    save = Checkpoints.save
    monkeypatch.setattr(
        Checkpoints, "save", lambda self, *given: (losses.append(given[3]), save(self, *given))[1]
    )  # fmt: skip
    train(tmp_path / "harmed", (25,))
    said = [line for line in capsys.readouterr().err.splitlines() if "left out: step" in line]
    assert len(said) == 1 and "signer: stage 'part': left out: step 25 (loss " in said[0]
    assert "gradient norm" in said[0]
    usual = losses[0]
    assert len(losses) == 4 and losses[2] < 10 * usual  # its loss is a million times the usual one
