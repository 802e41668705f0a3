"""One entry point for one process or many: `jax.distributed` starts where the launcher's variables say so.

SIGNER_COORDINATOR=host:port SIGNER_PROCESSES=N SIGNER_PROCESS=i     set by `launch/`; SLURM and TPU pods are found
                                                                     by jax itself with SIGNER_COORDINATOR=auto
"""

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NoReturn, TypeVar

import jax
from jax.experimental import multihost_utils

from signer_jax.errors import RESTART, Preempted, SignerError
from signer_jax.outside import line_of

Made = TypeVar("Made")


def slurm_devices(variables: Mapping[str, str]) -> list[int] | None:
    """The GPUs of a SLURM task, as it counts them: its even share of those that it sees. None elsewhere.

    Left to itself, jax gives task i GPU i alone: with one task a node the others are idle, and a task to which SLURM
    shows its own GPU only (`--gpus-per-task`) looks for one that is not there. Raises `SignerError` where the GPUs do
    not divide among the tasks.
    """
    # "2(x3),1": tasks on each node of the step. Shared evenly, as srun does with --ntasks-per-node.
    tasks = re.match(r"\d+", variables.get("SLURM_STEP_TASKS_PER_NODE", ""))
    task, visible = variables.get("SLURM_LOCALID", ""), variables.get("CUDA_VISIBLE_DEVICES", "")
    if not (tasks and task and visible):
        return None
    count, share = len(visible.split(",")), int(tasks[0])
    if variables.get("SLURM_GPUS_PER_TASK") or (count == 1 and share > 1):
        return list(range(count))  # SLURM has shared them out
    if count % share:
        raise SignerError(
            f"SLURM: {count} GPUs do not divide among {share} tasks on this node; "
            f"give sbatch --ntasks-per-node={count} --gpus-per-node={count}"
        )
    each = count // share
    return list(range(int(task) * each, (int(task) + 1) * each))


def start() -> None:
    """Joins the other processes; does nothing for a single one. Raises `SignerError` for half-set variables."""
    coordinator = os.environ.get("SIGNER_COORDINATOR")
    if not coordinator:
        return
    if coordinator == "auto":
        jax.distributed.initialize(local_device_ids=slurm_devices(os.environ))
        return
    try:
        count, index = int(os.environ["SIGNER_PROCESSES"]), int(os.environ["SIGNER_PROCESS"])
    except (KeyError, ValueError):
        raise SignerError(
            "SIGNER_COORDINATOR is set: SIGNER_PROCESSES and SIGNER_PROCESS must be whole numbers"
        ) from None
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, count, index)


def first_makes(what: str, make: Callable[[], Made]) -> Made:
    """Runs `make` on the first process, then on the others, which find made what the first has written.

    The processes share a file system, as checkpoints need anyway.
    """
    if jax.process_index() == 0:
        made = make()
        wait_for_all(what)
        return made
    wait_for_all(what)
    return make()


def wait_for_all(what: str) -> None:
    """Returns when every process has come here; `what` names the place. Nothing for a single process."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


@contextmanager
def failing_at_once() -> Iterator[None]:
    """A process that fails among several ends here, with its message: at a normal exit it would wait for the others.

    They wait for it in turn, until the launcher, which sees it end, takes them down.
    """
    try:
        yield
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        if isinstance(error, Preempted):
            _leave_together(str(error))
        line = line_of(error)
        if line is not None:
            print(f"signer: {line}", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(1 if line is None else 2)


def _leave_together(line: str) -> NoReturn:
    """All stop after the same step: each waits until the others have saved too, since the first one's end ends them."""
    if jax.process_index() == 0:
        print(f"signer: {line}", file=sys.stderr, flush=True)
    with suppress(Exception):  # somebody may have been taken away before; what is saved is saved
        jax.distributed.shutdown()
    os._exit(RESTART)
