"""Later stages' steps compiled beforehand: they are the ones that run, and what cannot be made is no trouble."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np
import pytest
import small_run
import small_stage

from signer_jax.errors import SignerError
from signer_jax.training import ahead, partitioning
from signer_jax.training.checkpoints import Checkpoints
from signer_jax.training.loop import Program, fit

MESH = partitioning.make_mesh({"data": 1}, jax.devices()[:1])
LIMIT = 60.0  # seconds


def params() -> dict:
    """Those of the run, and another part that does not train."""
    return small_run.params() | {"frozen": {"bias": np.ones(3, np.float32)}}


def a_program() -> tuple[Program, ahead.BatchShapes]:
    made = replace(small_stage.stage(small_run.objective, steps=4, batch=small_run.BATCH, ema=0.9), spike=9.0)
    batch = next(small_run.Read(MESH))
    shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in batch.items()}
    return Program(made, jax.eval_shape(params), MESH), shapes


class Held:
    """A program that is being made until `go` is set."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self) -> tuple[Program, ahead.BatchShapes]:
        self.begun.set()
        assert self.go.wait(LIMIT)
        return a_program()


def compiled(caplog, train: Callable[[], object]) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        train()
    lines = [record.getMessage() for record in caplog.records]
    return [line for line in lines if line.startswith("Finished XLA compilation of jit(both)")]


def train(folder, program: Program) -> dict:
    with Checkpoints(folder / "part", 1) as checkpoints:
        return fit(
            program, params(), small_run.Read(MESH), seed=0, checkpoints=checkpoints,
            monitor=small_run.Spoken(), log_every=1, checkpoint_every=4,
        )  # fmt: skip


def taken(makes: dict, name: str, given: dict) -> Program | None:
    """The program, asked for after all were made."""
    last = Held()
    with ahead.Ahead(makes | {"last": last}) as compiling:
        last.go.set()
        for made in compiling._made.values():
            made.exception(LIMIT)
        return compiling.program(name, given)


def test_the_program_that_was_compiled_ahead_is_the_one_that_runs(tmp_path, caplog):
    held = Held()
    with ahead.Ahead({"part": held}) as compiling:
        held.go.set()
        compiling._compiled["part"].exception(LIMIT)
        program = compiling.program("part", params())
        assert program is not None
        assert compiling.program("part", params()) is None  # it is given away once
    found = {}
    assert not compiled(caplog, lambda: found.update(ahead=train(tmp_path / "ahead", program)))
    assert compiled(caplog, lambda: found.update(alone=train(tmp_path / "alone", a_program()[0])))
    for one, other in zip(*map(jax.tree.leaves, found.values()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_whose_turn_has_not_come_is_not_waited_for():
    held = Held()
    with ahead.Ahead({"one": held, "part": a_program}) as compiling:
        try:
            assert held.begun.wait(LIMIT)
            assert compiling.program("part", params()) is None
        finally:
            held.go.set()
        compiling._compiled["one"].exception(LIMIT)
        assert compiling.program("one", params()) is not None


def test_what_is_of_other_parameters_or_cannot_be_made_is_none():
    def harmed() -> tuple[Program, ahead.BatchShapes]:
        raise SignerError("no such rule")

    other = params()
    other["part"]["out"] = other["part"]["out"].astype("bfloat16")
    makes = {"harmed": harmed, "part": a_program}
    assert taken(makes, "harmed", params()) is None
    assert taken(makes, "part", other) is None
    assert taken(makes, "unheard", params()) is None


@pytest.mark.parametrize(("cores", "expected"), [(1, False), (2, True)])
def test_a_single_core_has_nothing_to_spare(monkeypatch, cores, expected):
    monkeypatch.setattr(ahead, "cores", lambda: cores)
    assert ahead.worth(MESH) is expected
    assert not ahead.worth(partitioning.make_mesh({"data": 8}))
