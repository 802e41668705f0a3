"""`signer train --profile STEPS`: some steps of each stage, traced for TensorBoard's Profile tab."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

WARM = 10  # steps before those that are traced: the first compile, and fill queues


def profiled(step: Callable, directory: Path, stage: str, steps: int, *, first: int, last: int) -> Callable:
    """The step, traced from its call `first + WARM` on for so many `steps`, to `directory`/plugins/profile/.

    A stage that ends before has its last steps traced, but for the first one of them all. Only the first process
    traces: its own devices. A trace that cannot be written is told; training goes on.
    """
    if steps < 1 or jax.process_index() != 0 or last - first < 2:
        return step
    start = max(first + 1, min(first + WARM, last - steps))
    end = min(start + steps, last)
    k = first

    def traced(*args: Any) -> Any:
        nonlocal k
        k += 1
        if not start < k <= end:
            return step(*args)
        if k == start + 1:
            jax.block_until_ready(args)  # what was begun before is no part of it
            jax.profiler.start_trace(directory)
        with jax.profiler.StepTraceAnnotation("train", step_num=k):
            made = step(*args)
        if k == end:
            jax.block_until_ready(made)
            try:
                jax.profiler.stop_trace()
            except (OSError, RuntimeError) as error:
                print(
                    f"signer: {directory}: no profile ({str(error).splitlines()[0]}); training goes on", file=sys.stderr
                )
            else:
                span = f"step {k}" if steps == 1 else f"steps {start + 1} to {end}"
                print(
                    f"signer: stage {stage!r}: profiled {span}; `pip install xprof` shows it in TensorBoard",
                    file=sys.stderr,
                )
        return made

    return traced
