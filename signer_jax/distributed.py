"""One entry point for one process or many: `jax.distributed` starts where the launcher's variables say so.

SIGNER_COORDINATOR=host:port SIGNER_PROCESSES=N SIGNER_PROCESS=i     set by `launch/`; SLURM and TPU pods are found
                                                                     by jax itself with SIGNER_COORDINATOR=auto
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import jax
from jax.experimental import multihost_utils

from signer_jax.errors import SignerError

Made = TypeVar("Made")


def start() -> None:
    """Joins the other processes; does nothing for a single one. Raises `SignerError` for half-set variables."""
    coordinator = os.environ.get("SIGNER_COORDINATOR")
    if not coordinator:
        return
    if coordinator == "auto":
        jax.distributed.initialize()
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
        if isinstance(error, SignerError):
            print(f"signer: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(2 if isinstance(error, SignerError) else 1)
