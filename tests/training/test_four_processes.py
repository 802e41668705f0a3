"""Four real processes with a device each: whatever axes lie across them, they have the losses of one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_stage
import test_axes

from signer_jax import distributed
from signer_jax.data import streams
from signer_jax.training import partitioning
from signer_jax.training.loop import Program, starting

STEPS, BATCH, EXAMPLES = 3, 4, 12
# Every axis goes from process to process, tokens by their heads and by their keys.
MESHES = [
    ({"data": 2, "tensor": 2}, "automatic"), ({"fsdp": 2, "context": 2}, "automatic"), ({"context": 4}, "ring"),
]  # fmt: skip


def example(i: int, rng: np.random.Generator) -> dict:
    shape = (test_axes.FRAMES, test_axes.HEIGHT, test_axes.WIDTH, 4)
    return {
        "latents": rng.normal(size=shape).astype(np.float32), "text": rng.normal(size=(6, 16)).astype(np.float32),
    }  # fmt: skip


def losses(shape: dict[str, int], across: str) -> list[float]:
    """Of some steps of a video transformer, each process reading the rows that its devices hold."""
    mesh = partitioning.make_mesh(shape, jax.devices() if jax.process_count() > 1 else jax.devices()[:1])
    transformer = test_axes.module("plain", across)

    def objective(params: dict, batch: dict, rng: jax.Array) -> tuple[jax.Array, dict]:
        """Flow matching: who draws other noise or times than a neighbour with the same rows is found out."""
        times, noise = jax.random.split(rng)
        latents = batch["latents"]
        at = jax.random.uniform(times, (len(latents),))
        noise = jax.random.normal(noise, latents.shape)
        share = at[:, None, None, None, None]
        noisy = (1 - share) * latents + share * noise
        velocity = transformer.apply(params["part"], noisy, 1000 * at, batch["text"])
        return jnp.square(velocity - (noise - latents)).mean(), {}

    stage = small_stage.stage(objective, steps=STEPS, batch=BATCH)
    params = {"part": test_axes.parameters("plain")}
    program = Program(stage, params, mesh)
    initial = jax.jit(starting(stage, program.tx, 0), out_shardings=program.shardings)
    state = initial(jax.device_put(params, program.shardings.params))
    rows = partitioning.local_rows(BATCH, mesh)
    reading = streams.Reading(BATCH, 3, threads=1, prefetch=1, rows=rows)
    batches, found = streams.iterate(range(EXAMPLES), example, reading, "examples"), []
    for _ in range(STEPS):
        state, metrics, _ = program.step(state, {}, partitioning.put_batch(next(batches), mesh), None)
        found.append(float(metrics["loss"]))
    return found


@pytest.mark.slow
def test_four_processes_have_the_losses_of_one():
    from conftest import QUICK  # which is not for the processes that read this file

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK, "PYTHONPATH": paths,
        "SIGNER_COORDINATOR": address, "SIGNER_PROCESSES": "4", "SIGNER_WAIT": "10",
    }  # fmt: skip
    four = [
        subprocess.Popen(
            [sys.executable, __file__], env=environment | {"SIGNER_PROCESS": str(i)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for i in range(4)
    ]  # fmt: skip
    try:
        truth = losses({"data": 1}, "ring")
        said = [process.communicate(timeout=600) for process in four]
    finally:
        for process in four:
            process.kill()
    assert len(set(truth)) == STEPS
    for out, err in said:
        found = [json.loads(line) for line in out.splitlines() if line.startswith('{"')]  # gloo speaks too
        assert len(found) == len(MESHES), err[-2000:]
        for (shape, _), one in zip(MESHES, found, strict=True):
            ways = shape.get("data", 1) * shape.get("fsdp", 1)
            assert one["rows"] == BATCH // ways, shape
            # Float32 sums in another order; another row, or other noise, moves a loss by hundredths.
            np.testing.assert_allclose(one["losses"], truth, rtol=2e-4, err_msg=str(shape))


def main() -> None:
    distributed.start()
    with distributed.failing_at_once():
        for shape, across in MESHES:
            rows = partitioning.local_rows(BATCH, partitioning.make_mesh(shape))
            print(json.dumps({"rows": len(rows), "losses": losses(shape, across)}), flush=True)


if __name__ == "__main__":
    main()
