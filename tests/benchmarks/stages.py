"""Where the seconds of a run's stages go: reading a batch, the gradient, the optimizer, and compiling the last two.

    python tests/benchmarks/stages.py [--config demo] [--stages pose images] [--config.KEY=VALUE …]

Each stage of the config on its own corpus, from fresh parameters. Printed: seconds of compilation (gradient and
optimizer); CPU milliseconds, all cores together, of reading a batch (the mean of many) and of the gradient and the
optimizer (the least of a few runs); milliseconds on the clock of a step as the train loop takes it (the median of
some), in the process that compiled it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUNS, BATCHES, STEPS = 6, 20, 20


def timed(function: Callable, *inputs: Any) -> tuple[Any, float, float]:
    """(result, seconds of the first call, least CPU milliseconds of the others)."""
    import jax

    start = time.perf_counter()
    result = jax.block_until_ready(function(*inputs))
    first, least = time.perf_counter() - start, float("inf")
    for _ in range(RUNS):
        cpu = time.process_time()
        jax.block_until_ready(function(*inputs))
        least = min(least, 1000 * (time.process_time() - cpu))
    return result, first, least


def step_ms(program: Any, params: Any, batch: Any) -> float:
    """Milliseconds of a stage's step as the train loop takes it, one after the other."""
    import jax
    import jax.numpy as jnp

    from signer_jax.training.loop import cut, starting
    from signer_jax.training.partitioning import put_batch

    moving, frozen = cut(program.stage, params, 0)
    state = jax.jit(starting(program.stage, program.tx, 0))(jax.tree.map(jnp.copy, moving))  # a step uses it up
    taken = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        state, metrics, _ = program.step(state, frozen, put_batch(batch, program.mesh), None)
        jax.block_until_ready((state, metrics))
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken[1:])


def gradient_of(stage: Any) -> Callable:
    """(what trains, what does not, batch, key) -> the gradient of the stage's loss."""
    import jax

    from signer_jax.training import trained

    return jax.grad(lambda moving, frozen, batch, key: stage.objective(trained.join(frozen, moving), batch, key)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="demo")
    parser.add_argument("--stages", nargs="+")
    known, overrides = parser.parse_known_args()

    from signer_jax.allocator import tune

    tune()  # as the `signer` program does
    import jax

    from signer_jax import configuration
    from signer_jax import model as models
    from signer_jax.training import input_pipeline, run
    from signer_jax.training.loop import Program, cut
    from signer_jax.training.optimizer import optimizer
    from signer_jax.validation import read

    settings = read(configuration.load(known.config, overrides))
    print(f"{'':12}{'batch':>10}{'gradient':>10}{'optimizer':>10}{'compiled':>10}{'a step':>10}")
    with tempfile.TemporaryDirectory() as name, run.claimed(settings, Path(name) / "run"):
        workdir, mesh = Path(name) / "run", run.mesh_of(settings)
        corpus = run.prepare_corpus(settings.data, settings.data.seed, workdir / "data")
        tokenizer = input_pipeline.open_tokenizer(settings, workdir, corpus)
        model, published = models.build(settings, tokenizer.vocab_size if tokenizer else 0)
        params = models.init(model, settings, published, settings.seed)
        for stage in known.stages or settings.stages:
            made = run.stage_of(stage, model, settings, tokenizer.mask_id if tokenizer else 0)
            batches = input_pipeline.stage_batches(stage, settings, workdir, corpus, tokenizer, model, params, 0, mesh)
            batch, start = next(batches), time.process_time()
            for _ in range(BATCHES):
                batch = next(batches)
            reading = 1000 * (time.process_time() - start) / BATCHES
            moving, frozen = cut(made, params, settings.seed)
            key = jax.random.key(0)
            gradients, first, gradient = timed(jax.jit(gradient_of(made)), moving, frozen, batch, key)
            tx = optimizer(settings.stage(stage), settings.optimizers)
            state = jax.jit(tx.init)(moving)
            _, second, update = timed(jax.jit(tx.update), gradients, state, moving)
            step = step_ms(Program(made, params, mesh), params, batch)
            print(
                f"{stage:12}{reading:10.0f}{gradient:10.0f}{update:10.0f}{first + second:10.1f}{step:10.0f}", flush=True
            )


if __name__ == "__main__":
    main()
