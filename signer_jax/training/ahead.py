"""Later stages' steps, compiled while one trains: a step of many small operations leaves a CPU's second core idle."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import jax

from signer_jax.training.loop import Params, Program

Batch = Mapping[str, jax.ShapeDtypeStruct]
Make = Callable[[], tuple[Program, Batch]]


def worth(mesh: jax.sharding.Mesh) -> bool:
    """Whether the steps are compiled for cores of this machine, and it has one to spare.

    A GPU's compiler tries kernels on the device that trains, and several processes compile in one order.
    """
    return jax.process_count() == 1 and mesh.devices.flat[0].platform == "cpu" and (os.cpu_count() or 1) > 1


class Ahead:
    """Compiles what it is given, one program after the other, until the block's end."""

    def __init__(self, makes: Mapping[str, Make]):
        """What makes each stage's program and the batch that it is compiled for, in the order of need."""
        self._pool = ThreadPoolExecutor(1, "ahead")
        self._begun = {name: self._pool.submit(compiled, make) for name, make in makes.items()}

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)  # what is under way ends by itself

    def program(self, name: str, params: Params) -> Program | None:
        """A stage's program for these parameters, when it is compiled; None where it is not begun, or for others.

        What could not be compiled is none: the stage compiles it again, and says why not.
        """
        future = self._begun.pop(name, None)
        if future is None or future.cancel() or future.exception() is not None:
            return None
        program = future.result()
        return program if program.is_for(params) else None


def compiled(make: Make) -> Program:
    program, batch = make()
    program.compile(batch)
    return program
