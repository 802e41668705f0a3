"""A run goes on with other devices, another mesh, another number of processes, and shows each example once an epoch."""

import json
import os
import signal
from itertools import chain
from pathlib import Path

import jax
import numpy as np
import pytest
import small_run
from test_preemption import read_until, two_processes

from signer_jax.errors import RESTART, Preempted
from signer_jax.training import partitioning
from signer_jax.training.checkpoints import read_params
from signer_jax.training.preemption import Notice
from signer_jax.training.there import latest_step

STEPS, EPOCH = 24, small_run.EXAMPLES // small_run.BATCH


def mesh(devices: int, **axes: int):
    return partitioning.make_mesh({"data": 1, "fsdp": 1, "tensor": 1} | axes, jax.devices()[:devices])


def read(folder: Path) -> list[list[list[int]]]:
    """What each run here read, the oldest first: the examples' numbers, step by step."""
    return [json.loads(file.read_text()) for file in sorted((folder / "read").iterdir())]


def check_epochs(steps: list[list[int]]) -> None:
    """Whether each epoch has every example once, in another order than the one before."""
    epochs = [list(chain(*steps[k : k + EPOCH])) for k in range(0, len(steps), EPOCH)]
    assert all(sorted(epoch) == list(range(small_run.EXAMPLES)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == len(epochs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[dict, list[list[int]]]:
    """The run on one device, uninterrupted: its parameters, and the examples of each step."""
    folder = tmp_path_factory.mktemp("whole")
    trained = jax.device_get(small_run.train(folder, mesh(1), steps=STEPS))
    (steps,) = read(folder)
    check_epochs(steps)
    return trained, steps


def check_same(found: dict, wanted: dict) -> None:
    """The same parameters, but for float32 sums in another order; another batch moves them hundreds of times more."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), jax.device_get(found), wanted)


def test_eight_devices_then_four_two_and_one(tmp_path, whole):
    """Stopped within epochs; each time along other axes."""
    meshes = [mesh(8, fsdp=8), mesh(4, data=2, fsdp=2), mesh(2, tensor=2), mesh(1)]
    for on, end in zip(meshes, (4, 11, 17), strict=False):
        notice = Notice()

        def say(step: int, end: int = end, notice: Notice = notice) -> None:
            notice.asked |= step == end - 1

        with pytest.raises(Preempted, match=f"step {end} of {STEPS} is saved"):
            small_run.train(tmp_path, on, steps=STEPS, notice=notice, say=say)
    found = small_run.train(tmp_path, meshes[-1], steps=STEPS)
    trained, steps = whole
    check_same(found, trained)
    runs = read(tmp_path)
    assert [len(run) for run in runs] == [4, 7, 6, 7] and list(chain(*runs)) == steps


@pytest.mark.slow
def test_two_processes_then_one(tmp_path, whole):
    """One of the two is told to stop; both hold half of each parameter and read half of each batch."""
    both = two_processes(tmp_path, STEPS, 100, PAUSE="0.3")
    try:
        read_until(both[1], "step 2")
        both[1].send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=300)[1] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [RESTART, RESTART], "\n".join(said)[-3000:]
    step = latest_step(tmp_path / "part")
    assert 2 < step < STEPS and f"step {step} of {STEPS} is saved, the same command goes on" in said[0]
    assert "is saved" not in said[1]  # one line for all
    assert list(map(len, read(tmp_path))) == [step, step]

    found = small_run.train(tmp_path, mesh(1), steps=STEPS)
    trained, steps = whole
    check_same(found, trained)
    jax.tree.map(np.testing.assert_array_equal, read_params(tmp_path / "part"), jax.device_get(found))
    *halves, rest = sorted(read(tmp_path), key=lambda run: len(run[0]))
    together = [sorted(a + b) for a, b in zip(*halves, strict=True)] + rest
    assert [sorted(batch) for batch in together] == [sorted(batch) for batch in steps]
    check_epochs(together)
    assert os.listdir(tmp_path / "part") == [str(STEPS)]
