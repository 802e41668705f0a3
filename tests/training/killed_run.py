"""Kills a training run: `python killed_run.py FOLDER STEPS EVERY STEP[.PART] …` prints a line of JSON for each kill.

One process imports everything and forks, since starting Python takes longer than the run: each child goes on from what
the one before it left, and is killed twice that part of a save's time after it said that step; without a part, it waits
there and is killed between two saves. The last line has the hash of what a child trained that nobody killed.
"""

import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import small_run
from kills.server import forked
from orbax.checkpoint.utils import TMP_DIR_SUFFIX

from signer_jax import result
from signer_jax.training import partitioning

_LONGEST = 300.0  # seconds without a word


def trained(folder: Path, steps: int, every: int, waits: int) -> Callable[[int], None]:
    """What a child does: trains, and says each step that is taken and the hash at the end.

    From the step `waits` on it takes no further one: who means to kill it finds it there, however late.
    """

    def work(pipe: int) -> None:
        def say(step: int) -> None:
            os.write(pipe, f"{step} {time.monotonic()}\n".encode())
            if step >= waits:
                time.sleep(_LONGEST)

        mesh = partitioning.make_mesh(small_run.WHOLE)
        params = small_run.train(folder, mesh, steps=steps, every=every, say=say)
        os.write(pipe, f"params {result.params_sha256(params)}\n".encode())

    return work


def lines(pipe: int):
    """What a child says, line by line, to its end."""
    said = b""
    while True:
        if not select.select([pipe], [], [], _LONGEST)[0]:
            raise AssertionError("the run says nothing")
        if not (part := os.read(pipe, 1 << 16)):
            return
        *whole, said = (said + part).split(b"\n")
        yield from (line.decode() for line in whole)


def is_half(folder: Path) -> bool:
    """Whether a save has begun there that has not ended."""
    while True:
        try:
            return any(TMP_DIR_SUFFIX in path.name for path in folder.rglob("*"))
        except FileNotFoundError:  # it was ended meanwhile
            continue


def main() -> None:
    folder, steps, every = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
    took = 0.02  # seconds from a saved step to the next one: the save is begun in between
    for moment in sys.argv[4:]:
        at, _, part = moment.partition(".")
        at, between = int(at), not part
        child, pipe = forked(trained(folder, steps, every, at if between else steps))
        first, before = None, 0.0
        for line in lines(pipe):
            step, now = int(line.split()[0]), float(line.split()[1])
            first = first or step
            if (step - 1) % every == 0 and step > first:
                took = now - before
            before = now
            if step >= at:
                break
        else:
            raise AssertionError("the run ended by itself; see above")
        if between:
            until = time.monotonic() + _LONGEST
            while is_half(folder):
                assert time.monotonic() < until, "a save does not end"
                time.sleep(0.01)
        else:
            time.sleep(2 * float(f"0.{part}") * took)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(pipe)
        print(json.dumps({"first": first, "at": step, "half": is_half(folder)}), flush=True)
    child, pipe = forked(trained(folder, steps, every, steps + 1))
    *_, last = lines(pipe)
    _, code = os.waitpid(child, 0)
    print(json.dumps({"code": code, "params": last.removeprefix("params ")}), flush=True)


if __name__ == "__main__":
    main()
