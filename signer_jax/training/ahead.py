"""Later stages' steps, compiled while one trains: a step of many small operations leaves a CPU's second core idle."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import jax

from signer_jax.training.loop import Params, Program

BatchShapes = Mapping[str, jax.ShapeDtypeStruct]
Make = Callable[[], tuple[Program, BatchShapes]]


def worth(mesh: jax.sharding.Mesh) -> bool:
    """Whether the steps are compiled for one device of this machine's cores, of which one is to spare.

    A GPU's compiler tries kernels on the device that trains, and several processes compile in one order.
    """
    one = mesh.size == 1 and jax.process_count() == 1
    return one and mesh.devices.flat[0].platform == "cpu" and cores() > 1


def cores() -> int:
    """How many of the machine's cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Ahead:
    """Compiles what it is given, one program after the other, until the block's end.

    A compilation cannot be cut short: one that is under way at the block's end goes on in its thread, and a process
    that ends in order waits for it.
    """

    def __init__(self, makes: Mapping[str, Make]):
        """What makes each stage's program and the batch that it is compiled for, in the order of need."""
        self._pool = ThreadPoolExecutor(1, "ahead")
        self._made = {name: self._pool.submit(make) for name, make in makes.items()}
        self._compiled = {name: self._pool.submit(self._compile, name) for name in makes}

    def _compile(self, name: str) -> None:
        program, batch = self._made[name].result()
        program.compile(batch)

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def program(self, name: str, params: Params) -> Program | None:
        """A stage's program for these parameters, once it is compiled; None where its turn has not come, or for others.

        What could not be compiled is none: the stage compiles it itself, and says why not.
        """
        made, compiled = self._made.pop(name, None), self._compiled.pop(name, None)
        if made is None or compiled is None or compiled.cancel() or made.exception() is not None:
            return None
        program, _ = made.result()
        return program if program.is_for(params) and compiled.exception() is None else None
