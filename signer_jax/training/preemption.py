"""SIGTERM, by which a cluster takes a machine back: the step under way is ended and saved, then the run ends.

It ends with a code that launchers restart on (`errors.RESTART`). Outside of steps it ends at once, with the same code:
what is on the disk is whole at any moment.
"""

import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from signer_jax import bucket_lock, distributed
from signer_jax.errors import RESTART

_INTERRUPTED = 130
_SAME = 10.0  # seconds: a SIGTERM so soon after the first is the same one (SLURM's may reach a task twice)


class Notice:
    """Whether this process was asked to stop, while there were steps that one can stop between."""

    def __init__(self) -> None:
        self.asked = False
        self._since = -math.inf
        self._steps = False
        self._lock = threading.Lock()

    @contextmanager
    def until_saved(self) -> Iterator[None]:
        """Around the steps (`during`) and the wait for the last one's save, up to `over`."""
        try:
            yield
        finally:
            self.over()

    def during(self, steps: Iterable) -> Iterator:
        """The steps; while they go on, and until `over`, SIGTERM is a question, before and after it is the end.

        The first one compiles for minutes, and there is nothing to save before it: one process alone ends then too.
        Of several, some may be further.
        """
        for k, step in enumerate(steps):
            with self._lock:
                self._steps = k > 0 or jax.process_count() > 1
            yield step
            with self._lock:
                self._steps = True  # there is something to save

    def over(self) -> bool:
        """Whether the process was asked; from here on SIGTERM ends it, so that none goes unheard in between."""
        with self._lock:
            self._steps = False
            return self.asked

    def anywhere(self) -> bool:
        """Whether this process was asked, or another one that has let it know: what may be left out is then."""
        return self.asked or distributed.asked_to_stop()

    def hear(self, number: int) -> None:
        """A signal has come: notes it or ends the process, whatever its main thread is waiting for."""
        with self._lock:
            first = self._steps and not self.asked
            if number == signal.SIGTERM and first:
                self.asked, self._since = True, time.monotonic()
                _say(f"SIGTERM: the step under way is ended and saved; one {_SAME:g} seconds later ends it at once")
            again = self.asked and not first
            if number == signal.SIGTERM and again and time.monotonic() - self._since < _SAME:
                return
        if number == signal.SIGTERM and first:
            distributed.ask_to_stop()
            return
        if number == signal.SIGTERM:
            _say(f"ended by {'a second ' if again else ''}SIGTERM; the same command goes on from the last checkpoint")
            _end(RESTART)
        if number == signal.SIGINT and again:  # the first one of no SIGTERM is Python's
            _say("interrupted; the same command resumes from the last checkpoint")
            _end(_INTERRUPTED)


def _end(code: int) -> None:
    """At once, whatever the main thread does; a lock in a bucket does not end with its process."""
    bucket_lock.let_go()
    os._exit(code)


def _say(line: str) -> None:
    os.write(sys.stderr.fileno() if _has_file(sys.stderr) else 2, f"\nsigner: {line}\n".encode())


def _has_file(stream: Any) -> bool:
    try:
        return stream.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False


@contextmanager
def watched() -> Iterator[Notice]:
    """Within the block SIGTERM is noticed, by a thread: the main one may be in a compilation for minutes, or in a
    collective whose other side is gone. Inside of another thread than the main one nothing is.

    After `jax.distributed.initialize`, whose own handler this takes the place of.
    """
    notice = Notice()
    if threading.current_thread() is not threading.main_thread():
        yield notice
        return
    heard, told = socket.socketpair()
    told.setblocking(False)

    def listen() -> None:
        while numbers := heard.recv(64):
            for number in numbers:
                notice.hear(number)

    listener = threading.Thread(target=listen, name="signals", daemon=True)
    listener.start()
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGTERM, lambda *_: None)  # Python's own part is the byte to the listener
    try:
        yield notice
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(before)
        told.close()
        listener.join()
        heard.close()


def with_question(step: Callable) -> Callable:
    """`step(state, frozen, batch, asked) -> (state, metrics, answer)`; see `Agreement`.

    Nobody is asked before the step's own sums over the devices are done: a CPU begins collectives of one program side
    by side where one of them stands in a loop, and gloo, which tells messages by their order, confuses them.
    """

    def both(state: Any, frozen: Any, batch: Any, asked: jax.Array | None) -> tuple[Any, Any, jax.Array | None]:
        state, metrics = step(state, frozen, batch)
        if asked is None:
            return state, metrics, None
        done = jnp.isnan(sum(jnp.float32(value) for value in jax.tree.leaves(metrics))).astype(jnp.int32)
        return state, metrics, (asked + jnp.minimum(done, 0)).max()  # never below 0, which the compiler cannot know

    return both


def question(mesh: Mesh | AbstractMesh) -> jax.ShapeDtypeStruct | None:
    """The shape of what the processes of a mesh ask (`Agreement.asked`); None for those of one, which asks nobody."""
    if isinstance(mesh, AbstractMesh) or len({device.process_index for device in mesh.devices.flat}) == 1:
        return None
    split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    return jax.ShapeDtypeStruct((mesh.devices.size,), np.int32, sharding=split)


class Agreement:
    """One answer for all processes, at the same step of each: whether any of them was asked to stop.

    The question goes with the step's own program, and its answer is read one step later: no process waits for it, and
    no program of its own runs beside the step. One process asks itself.
    """

    def __init__(self, notice: Notice, mesh: Mesh):
        self._notice = notice
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._devices = mesh.devices.size
        self._many = jax.process_count() > 1
        self._before: jax.Array | None = None

    def asked(self) -> jax.Array | None:
        """What this process has to say, `[devices]` int32 over all devices; None where there is nobody to tell."""
        if not self._many:
            return None
        asked = np.full(1, self._notice.asked, np.int32)
        return jax.make_array_from_callback((self._devices,), self._split, lambda _: asked)

    def stops(self, answer: jax.Array | None) -> bool:
        """Whether all stop after this step, of whose program `answer` is."""
        before, self._before = self._before, answer
        if not self._many:
            return self._notice.asked
        return before is not None and bool(before)

    def over(self) -> bool:
        """Whether any of them was asked to stop, the last step and its save too. Every process calls it after these."""
        asked = self._notice.over()
        return bool(process_allgather(np.int32(asked)).any()) if self._many else asked
