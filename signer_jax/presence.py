"""Where each of several processes is, as all of them know it: who is gone when a step fails, and who hangs.

A thread of each posts it in the store of jax's coordinator every few seconds, whatever the main thread waits for, and
reads there whether another one ends the run. The main thread only says where it is; it waits for none of this.
"""

import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NoReturn

import jax

from signer_jax import bucket_lock
from signer_jax.errors import LOST

# Folders of the store: where each is, who was asked to stop, and why the run ends.
_AT, _ASKED, _LAST = "signer/at/", "signer/asked/", "signer/last/"
_SAID = 300.0  # seconds without a step until it is said, and twice as long until it is said again


class Presence:
    """This process among the others. `client` is jax's; `limit`: seconds without a step of its own that are too many,
    `answer`: seconds within which one that is there posts several times.
    """

    def __init__(self, client: Any, index: int, count: int, limit: float, answer: float):
        self.index, self.count, self.answer = index, count, answer
        self._client, self._limit, self._beat, self._beats = client, limit, answer / 4, 0
        self._place, self._moved = ("", 0), time.monotonic()  # no place: outside of steps, where nobody is watched
        self._over, self._ending, self._tells = threading.Event(), threading.Lock(), False
        self._post()
        self._thread = threading.Thread(target=self._watch, name="presence", daemon=True)
        self._thread.start()

    def at(self, phase: str, step: int) -> None:
        """This process has come to that phase of a step; "" where it is in none."""
        if step != self._place[1]:
            self._moved = time.monotonic()
        self._place = (phase, step)

    def ask(self) -> None:
        """This process was asked to stop."""
        with suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(f"{_ASKED}{self.index}", "stop", allow_overwrite=True)

    def asked(self) -> bool:
        """Whether any was."""
        with suppress(jax.errors.JaxRuntimeError):
            return bool(self._client.key_value_dir_get(_ASKED))
        return False

    def missing(self) -> list[int]:
        """Which of the others post nothing more; the first one where it no longer keeps the store."""
        silent = set(range(self.count)) - {self.index}
        end = time.monotonic() + self.answer
        try:
            before = self._posted()
            while silent and time.monotonic() < end:
                time.sleep(self._beat / 4)
                now = self._posted()
                silent = {i for i in silent if now.get(i) == before.get(i)}
        except jax.errors.JaxRuntimeError:
            return [0] if self.index else sorted(silent)
        return sorted(silent)

    def tell(self, line: str) -> None:
        """Has the others end too, with this line: they may be in a collective that waits for this process."""
        self._tells = True
        with suppress(jax.errors.JaxRuntimeError):  # another one was first, or the store has gone
            self._client.key_value_set(f"{_LAST}line", line)

    def last_words(self) -> None:
        """Called before the process ends with a line: it is the only one, and the first process, which keeps the store,
        stays until the others have read what was told.
        """
        self._ending.acquire()
        if self._tells and self.index == 0:
            time.sleep(2 * self._beat + 1)

    def over(self) -> None:
        self._over.set()
        self._thread.join(self.answer)

    def _watch(self) -> None:
        said = _SAID
        while not self._over.wait(self._beat):
            try:
                self._post()
                told = self._client.key_value_dir_get(_LAST)
                still = time.monotonic() - self._moved if self._place[0] else 0.0
                if told and not self._tells:
                    self._end(told[0][1])
                if still > self._limit:
                    self.tell(line := self._stuck(still))
                    self._end(line)
                if still <= _SAID:
                    said = _SAID
                elif still > said and self.index == 0:
                    print(f"signer: {self._stuck(still)}", file=sys.stderr, flush=True)
                    said *= 2
            except (jax.errors.JaxRuntimeError, OSError, ValueError):
                continue  # the first process has gone, and jax ends this one; or nobody reads on

    def _post(self) -> None:
        self._beats += 1
        (phase, step), key = self._place, f"{_AT}{self.index}"
        self._client.key_value_set(key, f"{self._beats} {step} {phase}", allow_overwrite=True)

    def _posted(self) -> dict[int, tuple[int, int, str]]:
        """Of each process how often it has posted, its step and its phase there."""
        found = {}
        for key, value in self._client.key_value_dir_get(_AT):
            beats, step, phase = value.split(" ")
            found[int(key.rpartition("/")[2])] = (int(beats), int(step), phase)
        return found

    def _stuck(self, seconds: float) -> str:
        places = defaultdict(list)
        for i, (_, step, phase) in sorted(self._posted().items()):
            places[step, phase == "compute", phase].append(i)  # who is behind comes first, who computes waits for it
        where = "; ".join(
            f"{named(who)} in '{phase}' of step {step}" if phase else f"{named(who)} in no step"
            for (step, _, phase), who in sorted(places.items())
        )
        return (
            f"no step for {seconds / 60:.1f} of at most {self._limit / 60:g} minutes (SIGNER_STUCK): {where}; look "
            "what those that do not compute wait for, a file system that does not answer for example"
        )

    def _end(self, line: str) -> NoReturn:
        self._ending.acquire()
        print(f"signer: {line}", file=sys.stderr, flush=True)
        if self.index == 0:
            time.sleep(2 * self._beat + 1)
        bucket_lock.let_go()
        os._exit(LOST)


def named(processes: Iterable[int]) -> str:
    """ "process 3", "processes 1, 3"."""
    listed = [str(i) for i in sorted(processes)]
    return f"process{'es' if len(listed) > 1 else ''} {', '.join(listed)}"
