"""`--profile`: some steps are traced, where the stage has them, to where TensorBoard looks."""

import gzip
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from test_loop import train

from signer_jax.training.profiling import WARM, profiled


def traced_steps(folder) -> list[int]:
    """The numbers of the steps in a trace's own file."""
    (found,) = folder.glob("plugins/profile/*/*.trace.json.gz")
    events = json.loads(gzip.decompress(found.read_bytes()))["traceEvents"]
    return sorted({int(one["args"]["step_num"]) for one in events if "step_num" in one.get("args", {})})


@pytest.mark.parametrize(
    ("first", "last", "steps", "expected"),
    [
        (0, 20, 3, [11, 12, 13]),  # after the tenth
        (5, 100, 1, [16]),  # of this start
        (0, 6, 2, [5, 6]),  # a short stage: its last ones
        (0, 4, 9, [2, 3, 4]),  # all but the first
    ],
)
def test_which_steps_are_traced(first, last, steps, expected, tmp_path, capsys):
    assert WARM == 10
    step = profiled(jax.jit(lambda x: x + 1), tmp_path, "slul", steps, first=first, last=last)
    x = jnp.zeros(())
    for _ in range(first, last):
        x = step(x)
    assert float(x) == last - first
    assert traced_steps(tmp_path) == expected
    assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))
    span = f"step {expected[0]}" if len(expected) == 1 else f"steps {expected[0]} to {expected[-1]}"
    assert f"stage 'slul': profiled {span}" in capsys.readouterr().err


@pytest.mark.parametrize(("steps", "first", "last"), [(0, 0, 20), (3, 5, 6), (3, 6, 6)])
def test_nothing_is_traced_where_nothing_is_asked_for_or_left(steps, first, last, tmp_path):
    def step(x):
        return x

    assert profiled(step, tmp_path, "slul", steps, first=first, last=last) is step


def test_a_trace_that_cannot_be_written_stops_nothing(tmp_path, capsys):
    """Nor does the next one, which jax then refuses to begin."""
    (tmp_path / "plugins").write_text("")
    try:
        for stage in ("slul", "pose"):
            step = profiled(jax.jit(lambda x: x + 1), tmp_path, stage, 1, first=0, last=3)
            x = jnp.zeros(())
            for _ in range(3):
                x = step(x)
            assert float(x) == 3.0
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 2 and all("no profile (" in line for line in said)
    finally:
        (tmp_path / "plugins").unlink()
        jax.profiler.stop_trace()


def test_a_stage_is_traced_beside_its_curves(tmp_path):
    train(tmp_path, steps=4, profile=2)
    assert traced_steps(tmp_path / "tensorboard") == [3, 4]
    with pytest.raises(RuntimeError):  # it has ended
        jax.profiler.stop_trace()


def test_a_number_of_steps_below_none_is_refused():
    command = [sys.executable, "-m", "signer_jax", "train", "--config", "demo", "--workdir", "x", "--profile", "-1"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2 and "--profile -1: give how many steps" in run.stderr
