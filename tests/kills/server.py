"""Kills each writer at random moments: `python -m kills.server FOLDER SEED ROUNDS`; a line of JSON for each writer.

One process imports everything and forks, since starting Python takes longer than most writes: a child writes state
after state and says so, and is killed; another one, started once, reads what is left.
"""

import json
import os
import select
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

from orbax.checkpoint.utils import TMP_DIR_SUFFIX

from kills.writers import WRITERS, Writer, prepare

_FIRST = 120.0  # seconds by the clock for a state: the machine may be busy
_LONGEST = 2.0  # seconds of a write that are waited for
_MORE = 5  # times the rounds, where neither state or no half has been met yet
_HALVES = (".partial", TMP_DIR_SUFFIX)


def forked(work) -> tuple[int, int]:
    """A child that runs `work(pipe)`; its identifier and the pipe's other end."""
    outer, inner = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(outer)
        try:
            work(inner)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(inner)
    return child, outer


class Reader:
    """The process that reads, since reading starts threads, which a process that forks must not have."""

    def __init__(self) -> None:
        theirs, self._ask = os.pipe()

        def answer(pipe: int) -> None:
            os.close(self._ask)
            with os.fdopen(theirs) as asked, os.fdopen(pipe, "w") as said:
                for line in asked:
                    number, folder = json.loads(line)
                    try:
                        reply: Any = WRITERS[number].found(Path(folder))
                    except Exception as error:
                        reply = {"error": f"{type(error).__name__}: {error}"}
                    print(json.dumps(reply), file=said, flush=True)

        _, self._said = forked(answer)
        os.close(theirs)
        self._lines = os.fdopen(self._said)

    def found(self, writer: Writer, folder: Path) -> Any:
        os.write(self._ask, (json.dumps([WRITERS.index(writer), str(folder)]) + "\n").encode())
        return json.loads(self._lines.readline())


def killed(writer: Writer, folder: Path, first: int, share: float) -> int:
    """The last state that the child had said to be written, from `first` on, when it was killed, after a share of the
    time that a write takes.
    """

    def write(pipe: int) -> None:
        for i in range(first, first + 10**6):
            started = time.monotonic()
            writer.write(folder, i)
            seconds = time.monotonic() - started
            if i > first + 1:
                time.sleep(min(seconds / 3, _LONGEST))  # a state that is whole before anybody is told
            os.write(pipe, f"{i} {seconds}\n".encode())

    child, pipe = forked(write)
    try:
        said = b""
        while said.count(b"\n") < 2:
            if not select.select([pipe], [], [], _FIRST)[0]:
                raise AssertionError(f"{writer.name}: wrote nothing in {_FIRST:g} s")
            said += (part := os.read(pipe, 1 << 16))
            if not part:
                raise AssertionError(f"{writer.name}: failed by itself; see above")
        seconds = float(said.split(b"\n")[1].split()[1])  # of the second one: the first warms up
        time.sleep(share * min(seconds, _LONGEST))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    while part := os.read(pipe, 1 << 16):
        said += part
    os.close(pipe)
    return max(int(line.split()[0]) for line in said.split(b"\n") if line)


def _partial(folder: Path) -> set[str]:
    """What is being written, or was left so: our rooms, and Orbax's."""
    return {str(path) for path in folder.rglob("*") if any(ending in path.name for ending in _HALVES)}


def tried(writer: Writer, folder: Path, reader: Reader, chance: Random, rounds: int) -> dict:
    folder.mkdir()
    counts, failures, last, halves = [0, 0], [], -1, 0
    for k in range(_MORE * rounds):
        if k >= rounds and all(counts) and (halves or not writer.rooms):
            break
        before = _partial(folder)
        # All over a write's time and the half after it, at random within each step.
        last = killed(writer, folder, last + 2, 1.5 * ((k + chance.random()) / rounds % 1))
        halves += bool(_partial(folder) - before)
        found = reader.found(writer, folder)
        if found in (states := (writer.state(last), writer.state(last + 1))):
            counts[states.index(found)] += 1
        else:
            failures.append(f"{found} where {states} may be")
    child, pipe = forked(lambda pipe: writer.write(folder, last + 2))
    _, code = os.waitpid(child, 0)
    os.close(pipe)
    left = sorted(_partial(folder))
    if code or reader.found(writer, folder) != writer.state(last + 2) or left:
        failures.append(f"written once more: {code}, {reader.found(writer, folder)}, {left}")
    return {"name": writer.name, "old": counts[0], "new": counts[1], "halves": halves, "failures": failures}


def main() -> None:
    folder, seed, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
    prepare()
    reader = Reader()
    for number, writer in enumerate(WRITERS):
        chance = Random(f"{seed}/{writer.name}")
        print(json.dumps(tried(writer, folder / str(number), reader, chance, rounds)), flush=True)


if __name__ == "__main__":
    main()
