"""Later stages' steps compiled beforehand: they are the ones that run, and what cannot be made is no trouble."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

import jax
import pytest
import small_run
import small_stage

from signer_jax.cli.main import is_compiling
from signer_jax.errors import SignerError
from signer_jax.training import ahead, partitioning
from signer_jax.training.checkpoints import Checkpoints
from signer_jax.training.loop import Program, fit

MESH = partitioning.make_mesh({"data": 1}, jax.devices()[:1])


def a_program() -> tuple[Program, ahead.Batch]:
    made = small_stage.stage(small_run.objective, steps=4, batch=small_run.BATCH)
    batch = next(small_run.Read(MESH))
    shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in batch.items()}
    program = Program(made, jax.eval_shape(small_run.params), MESH)
    return program, program.placed(shapes)


def begun(compiling: ahead.Ahead, name: str) -> None:
    """Waits until a program's turn has come: one that has not begun is not waited for."""
    future: Future = compiling._begun[name]
    while not (future.running() or future.done()):
        pass


def compiled(caplog, train: Callable[[], object]) -> list[str]:
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        train()
    lines = [record.getMessage() for record in caplog.records]
    return [line for line in lines if line.startswith("Finished XLA compilation of jit(both)")]


def train(folder, program: Program) -> dict:
    with Checkpoints(folder / "part", 1) as checkpoints:
        return fit(
            program, small_run.params(), small_run.Read(MESH), seed=0, checkpoints=checkpoints,
            monitor=small_run.Spoken(), log_every=1, checkpoint_every=4,
        )  # fmt: skip


def test_the_program_that_was_compiled_ahead_is_the_one_that_runs(tmp_path, caplog):
    with ahead.Ahead({"part": a_program}) as compiling:
        begun(compiling, "part")
        program = compiling.program("part", small_run.params())
        assert compiling.program("part", small_run.params()) is None  # a state is given away once
    assert program is not None
    assert not compiled(caplog, lambda: train(tmp_path / "ahead", program))
    assert compiled(caplog, lambda: train(tmp_path / "alone", a_program()[0]))  # as it is without


def test_one_whose_turn_has_not_come_is_not_waited_for():
    held, going = threading.Event(), threading.Event()

    def slow() -> tuple[Program, ahead.Batch]:
        going.set()
        held.wait()
        return a_program()

    assert not is_compiling()
    made: list[int] = []

    def second() -> tuple[Program, ahead.Batch]:
        made.append(1)
        return a_program()

    with ahead.Ahead({"one": slow, "part": second}) as compiling:
        going.wait()
        assert is_compiling()  # an error ends the program at once, and does not wait for it
        assert compiling.program("part", small_run.params()) is None
        held.set()
        assert compiling.program("one", small_run.params()) is not None
    assert not made


def test_what_is_of_other_parameters_or_cannot_be_made_is_none():
    def harmed() -> tuple[Program, ahead.Batch]:
        raise SignerError("no such rule")

    with ahead.Ahead({"harmed": harmed, "part": a_program}) as compiling:
        begun(compiling, "part")
        assert compiling.program("harmed", small_run.params()) is None
        other = small_run.params()
        other["part"]["out"] = other["part"]["out"].astype("bfloat16")
        assert compiling.program("part", other) is None
        assert compiling.program("unheard", other) is None


@pytest.mark.parametrize(("processors", "expected"), [(1, False), (2, True), (None, False)])
def test_a_single_core_has_nothing_to_spare(monkeypatch, processors, expected):
    monkeypatch.setattr(ahead.os, "cpu_count", lambda: processors)
    assert ahead.worth(MESH) is expected
