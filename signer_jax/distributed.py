"""One entry point for one process or many: `jax.distributed` starts where the launcher's variables say so.

SIGNER_COORDINATOR=host:port SIGNER_PROCESSES=N SIGNER_PROCESS=i     set by `launch/`; SLURM and TPU pods are found
                                                                     by jax itself with SIGNER_COORDINATOR=auto
"""

import os
from collections.abc import Callable
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
    if jax.process_count() == 1:
        return make()
    made = make() if jax.process_index() == 0 else None
    multihost_utils.sync_global_devices(what)
    return make() if made is None else made
