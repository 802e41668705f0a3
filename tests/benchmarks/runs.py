"""What a run costs beside its products: splitting by each axis, compiling, starting, resuming, saving, memory.

    python tests/benchmarks/runs.py [--tiny] [--devices 1 2 4 8] [--steps 20]

A video transformer of 6 million parameters (--tiny: 60,000) on eight clips a step, AdamW, through the train loop, on
virtual devices of this machine's CPU. First the same step on a mesh of each size along each axis: the median step and
how much longer it takes than one device's, which is what splitting costs where nothing is won by it (the devices share
the cores). Then a run of two devices (fsdp), a process each time: with an empty compilation cache, with a full one, and
going on from its middle. Printed: seconds of compiling, seconds from the process's start to the end of its first step,
by how much the step after a save is longer than others (the first save, which compiles, left out), the same spread over
the steps from save to save, and the peak of resident memory.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

EVERY = 5  # steps to a checkpoint
RUN = 6 * EVERY  # steps of a run: in each half a save after the first is followed by a step
ROWS = 8
ANSWER = "answer:"


def stage_and_params(tiny: bool, steps: int) -> tuple[Any, Any, dict[str, Any]]:
    """(the stage, its first parameters, shapes of one example)."""
    import jax
    import jax.numpy as jnp

    from signer_jax import configuration
    from signer_jax.renderer.video_transformer import VideoTransformer
    from signer_jax.training.loop import Stage
    from signer_jax.validation import read

    dim, layers, shape = (32, 2, (3, 8, 8, 4)) if tiny else (256, 6, (5, 16, 16, 4))
    module = VideoTransformer(
        in_channels=4, out_channels=4, dim=dim, heads=8, ffn_dim=4 * dim, layers=layers, text_dim=32, freq_dim=32,
        patch=(1, 2, 2), image_dim=None, eps=1e-6,
    )  # fmt: skip

    def objective(params: Any, batch: Any, rng: jax.Array) -> tuple[jax.Array, dict]:
        found = module.apply({"params": params["part"]}, batch["latents"], jnp.full(len(batch["text"]), 500.0),
                             batch["text"])  # fmt: skip
        return jnp.square(found - batch["latents"]).mean(), {}

    settings = read(configuration.load("default", ["--config.train.renderer.optimizer=adamw"]))
    training = replace(settings.train.renderer, steps=steps, batch=ROWS, learning_rate=1e-3, warmup=1)
    shapes = {"latents": shape, "text": (16, 32)}
    zeros = [jnp.zeros((1, *one)) for one in shapes.values()]
    params = {"part": module.init(jax.random.key(0), zeros[0], jnp.zeros(1), zeros[1])["params"]}
    stage = Stage("part", objective, ("part",), training, settings.optimizers, settings.lora, 5)
    return stage, params, shapes


def examples(shapes: dict[str, Any], mesh: Any) -> Any:
    import numpy as np

    from signer_jax.data import streams
    from signer_jax.training import partitioning

    def example(i: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}

    reading = streams.Reading(ROWS, 0, threads=1, prefetch=2, rows=partitioning.local_rows(ROWS, mesh))
    return streams.iterate(range(64), example, reading, "examples")


def step_seconds(tiny: bool, steps: int, axis: str, devices: int) -> float:
    """The median of a step along one axis."""
    import jax

    from signer_jax.training import partitioning
    from signer_jax.training.loop import Program, starting

    stage, params, shapes = stage_and_params(tiny, 10 * steps)
    mesh = partitioning.make_mesh({axis: devices}, jax.devices()[:devices])
    program = Program(stage, params, mesh)
    start = jax.jit(starting(stage, program.tx, 0), out_shardings=program.shardings)
    state = start(jax.device_put(params, program.shardings.params))
    batch, times = partitioning.put_batch(next(examples(shapes, mesh)), mesh), []
    for _ in range(2 + steps):
        began = time.perf_counter()
        state, metrics, _ = program.step(state, {}, batch, None)
        jax.block_until_ready((state, metrics))
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


class Watched:
    """Stands for TensorBoard: when each step was over. What it took to save it is the next one's."""

    directory = Path()

    def __init__(self) -> None:
        self.times: list[float] = []

    def scalars(self, stage: str, step: int, values: dict[str, float]) -> None:
        self.times.append(time.time())


def stall(times: list[float], begins: int, every: int) -> float:
    """Seconds by which a step takes longer that waits for a save: the median of these steps beside that of the others.

    `times` are when each step was over, of those after `begins`. The first save of the process compiles what looks at
    the state, and is in neither.
    """
    after = [(begins + k, later - now) for k, (now, later) in enumerate(pairwise(times), 1)]
    saved = [seconds for step, seconds in after if step % every == 0]
    return statistics.median(saved[1:]) - statistics.median(seconds for step, seconds in after if step % every)


def run(tiny: bool, folder: Path, begins: int, ends: int) -> dict[str, Any]:
    """Steps of a run, those before `begins` being done: what it took."""
    import jax

    from signer_jax.training import partitioning
    from signer_jax.training.checkpoints import Checkpoints
    from signer_jax.training.loop import Program, fit

    compiling: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiling.append(seconds) if event.endswith("backend_compile_duration") else None
    )
    stage, params, shapes = stage_and_params(tiny, ends)
    mesh, watched = partitioning.make_mesh({"fsdp": -1}), Watched()
    with Checkpoints(folder) as checkpoints:
        fit(
            Program(stage, params, mesh), params, examples(shapes, mesh), seed=0, checkpoints=checkpoints,
            monitor=watched, log_every=1, checkpoint_every=EVERY,
        )  # fmt: skip
    assert len(watched.times) == ends - begins
    return {
        "compiling": sum(compiling), "first": watched.times[0], "stall": stall(watched.times, begins, EVERY),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }  # fmt: skip


def started(what: dict[str, Any], devices: int, cache: Path | None = None) -> Any:
    """What a process of so many devices answers, with when it began as `began`."""
    environment = dict(os.environ) | {
        "JAX_PLATFORMS": "cpu", "TQDM_DISABLE": "1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }  # fmt: skip
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    began = time.time()
    command = [sys.executable, __file__, "--worker", json.dumps(what)]
    made = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    said = [line for line in made.stdout.splitlines() if line.startswith(ANSWER)]
    if made.returncode or not said:
        raise SystemExit(f"a process failed (exit code {made.returncode}); its own message is above")
    return {"began": began, **json.loads(said[-1].removeprefix(ANSWER))}


def axes_table(tiny: bool, devices: list[int], steps: int) -> None:
    from signer_jax.layout import AXES

    print("| steps a second (a step over one device's) | " + " | ".join(map(str, devices)) + " |")
    print("|---" * (1 + len(devices)) + "|", flush=True)
    seconds = started({"axes": list(AXES), "devices": devices, "steps": steps, "tiny": tiny}, max(devices))["seconds"]
    for axis, row in zip(AXES, seconds, strict=True):
        cells = [f"{1 / one:.3g} ({one / row[0]:.2f})" for one in row]
        print(f"| {axis} | " + " | ".join(cells) + " |", flush=True)


def runs_table(tiny: bool) -> None:
    print(
        "| start | compiling, s | to the end of the first step, s | the step at a save longer by, ms | "
        f"amortised over {EVERY} steps, ms a step | peak, MiB |"
    )
    print("|---" * 6 + "|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        cache, half = Path(name) / "compiled", RUN // 2
        for title, folder, begins, ends in (
            ("empty cache", "a", 0, RUN), ("full cache", "b", 0, half), ("resumed, full cache", "b", half, RUN),
        ):  # fmt: skip
            what = {"folder": f"{name}/{folder}", "begins": begins, "ends": ends, "tiny": tiny}
            found = started(what, 2, cache)
            print(
                f"| {title} | {found['compiling']:.2f} | {found['first'] - found['began']:.1f} | "
                f"{1000 * found['stall']:.1f} | {1000 * found['stall'] / EVERY:.1f} | {found['peak'] / 2**20:.0f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--devices", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if (what := given.worker) is not None:
        from signer_jax.allocator import tune

        tune()  # as the `signer` program does
        if "axes" in what:
            size = what["tiny"], what["steps"]
            alone = step_seconds(*size, what["axes"][0], 1)  # the same program along every axis
            found: dict[str, Any] = {
                "seconds": [
                    [alone if n == 1 else step_seconds(*size, axis, n) for n in what["devices"]]
                    for axis in what["axes"]
                ]
            }
        else:
            found = run(what["tiny"], Path(what["folder"]), what["begins"], what["ends"])
        print(ANSWER, json.dumps(found), flush=True)
        return
    if given.devices[0] != 1:
        parser.error("--devices begins with 1, which the others are set beside")
    axes_table(given.tiny, given.devices, given.steps)
    print()
    runs_table(given.tiny)


if __name__ == "__main__":
    main()
