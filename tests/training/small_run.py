"""A run of a small objective through `fit`, here or in a process of its own: what is stopped, killed and moved about.

`python small_run.py FOLDER STEPS EVERY [AXIS=SIZE …]` trains in FOLDER to its last step, on this process's devices or
as one of several; it says "step K" after each and "params HASH" at the end, and keeps what it read in `FOLDER/read`.
After step k it sleeps for the k-th number of PAUSE, or its last (seconds); KEEP is how many checkpoints it keeps, with
BEST the best one too; with READS what was saved is read once more: "read HASH". It is killed in the middle of the save
of step DIES, or an instant before that of step DIES_BEFORE, and never gets the batch of step STUCK. FAULT0 is what goes
wrong in the first process alone (`faults.py`).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import faults
import jax
import jax.numpy as jnp
import numpy as np
import small_stage

from signer_jax import distributed, result
from signer_jax.cli.main import ended
from signer_jax.data import streams
from signer_jax.errors import Preempted
from signer_jax.training import partitioning, preemption
from signer_jax.training.checkpoints import Checkpoints, read_params
from signer_jax.training.loop import Program, fit

EXAMPLES, BATCH = 48, 8
WHOLE = {"data": 1, "fsdp": -1, "tensor": 1}


def objective(params, batch, rng):
    part = params["part"]
    hidden = jnp.tanh(batch["x"] @ part["kernel"]) * jax.random.bernoulli(rng, 0.9, (16,))
    return jnp.square(hidden @ part["out"] - batch["y"][:, None]).mean(), {}


def params() -> dict:
    rng = np.random.default_rng(0)
    return {"part": {"kernel": rng.normal(size=(8, 16)).astype(np.float32), "out": np.ones((16, 8), np.float32)}}


def example(i: int, rng: np.random.Generator) -> dict:
    """Its number, and what the example's own generator draws."""
    return {"i": np.int32(i), "x": rng.normal(size=8).astype(np.float32), "y": np.float32(i / EXAMPLES)}


class Read:
    """A stream that notes which examples it gave; those read ahead are none of them."""

    def __init__(self, mesh):
        rows = partitioning.local_rows(BATCH, mesh)
        reading = streams.Reading(BATCH, 3, threads=1, prefetch=2, rows=rows)
        self.stream, self.examples = streams.iterate(range(EXAMPLES), example, reading, "examples"), []
        self.get_state, self.set_state = self.stream.get_state, self.stream.set_state

    def __next__(self) -> dict:
        if len(self.examples) + 1 == int(os.environ.get("STUCK", "0")):
            time.sleep(600)
        batch = next(self.stream)
        self.examples.append(batch["i"].tolist())
        return batch


class Dying(Checkpoints):
    def save(self, step: int, *given) -> None:
        if step == int(os.environ.get("DIES_BEFORE", "0")):
            self.wait()  # until the one before is written by all
            os.kill(os.getpid(), signal.SIGKILL)
        super().save(step, *given)  # it is written in the background
        if step == int(os.environ.get("DIES", "0")):
            os.kill(os.getpid(), signal.SIGKILL)


class Spoken:
    """Stands for TensorBoard: each step is said, and may take its time."""

    directory = Path()

    def __init__(self, say=lambda step: None):
        self.say = say

    def scalars(self, stage, step, values) -> None:
        self.say(step)


def train(
    folder: Path, mesh, *, steps: int = 24, every: int = 4, notice=None, say=lambda step: None, keep: int = 1, **more
):  # fmt: skip
    """The parameters, and the numbers of the examples of each step that was taken here."""
    made = small_stage.stage(objective, steps=steps, batch=BATCH, ema=0.9)
    read = Read(mesh)
    try:
        with Dying(folder / "part", keep, bool(os.environ.get("BEST"))) as checkpoints:
            trained = fit(
                Program(made, params(), mesh), params(), read, seed=0, checkpoints=checkpoints,
                monitor=Spoken(say), log_every=1, checkpoint_every=every, notice=notice, **more,
            )  # fmt: skip
    finally:
        kept = folder / "read" / f"{time.time_ns()}-{os.getpid()}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(read.examples))
    return trained


def main() -> None:
    folder, steps, every, *axes = sys.argv[1:]
    mesh = WHOLE | {axis: int(size) for axis, _, size in (one.partition("=") for one in axes)}
    pauses = [float(seconds) for seconds in os.environ.get("PAUSE", "0").split(",")]
    distributed.start()
    faults.begin(os.environ.get(f"FAULT{jax.process_index()}", ""))
    with distributed.failing_at_once(), preemption.watched() as notice:

        def say(step: int) -> None:
            print(f"step {step}", flush=True)
            time.sleep(pauses[min(step, len(pauses)) - 1])

        devices = partitioning.make_mesh(mesh)
        trained = train(
            Path(folder), devices, steps=int(steps), every=int(every), notice=notice, say=say,
            keep=int(os.environ.get("KEEP", "1")),
        )  # fmt: skip
        if os.environ.get("READS"):
            read = read_params(Path(folder) / "part", partitioning.placing(devices))
            print("read", result.params_sha256(partitioning.here(read, devices)), flush=True)
        print("params", result.params_sha256(partitioning.here(trained, devices)), flush=True)


if __name__ == "__main__":
    try:
        main()
    except Preempted as stopped:
        print(f"signer: {stopped}", file=sys.stderr, flush=True)
        ended(75, at_once=True)
