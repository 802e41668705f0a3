"""`signer train --profile STEPS`: some steps of each stage, traced for TensorBoard's Profile tab."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from signer_jax.errors import one_line
from signer_jax.outside import reason_of

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
    k, tracing = first, False

    def begin(args: Any) -> bool:
        jax.block_until_ready(args)  # what was begun before is no part of it
        return _told(lambda: jax.profiler.start_trace(directory), directory)

    def finish(made: Any) -> None:
        jax.block_until_ready(made)
        if _told(jax.profiler.stop_trace, directory):
            span = f"step {end}" if end == start + 1 else f"steps {start + 1} to {end}"
            line = f"stage {stage!r}: profiled {span}; TensorBoard shows them, with `pip install xprof`, under Profile"
            print(f"signer: {line}", file=sys.stderr)

    def traced(*args: Any) -> Any:
        nonlocal k, tracing
        k += 1
        tracing = begin(args) if k == start + 1 else tracing
        if not tracing:
            return step(*args)
        with jax.profiler.StepTraceAnnotation("train", step_num=k):
            made = step(*args)
        if k == end:
            tracing = False
            finish(made)
        return made

    return traced


def _told(do: Callable[[], None], directory: Path) -> bool:
    """Whether it went well; where not it is told."""
    try:
        do()
    except (OSError, RuntimeError) as error:
        print(f"signer: {directory}: no profile ({one_line(reason_of(error))}); training goes on", file=sys.stderr)
        return False
    return True
