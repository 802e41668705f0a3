"""Runs cases in a child process and watches it: a crash or a hang is a failure of the case that was begun last."""

import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.child import STATE

HUNG = 120.0  # seconds by the clock without a new case; the machine may be busy
STARTED = 1200.0  # of imports and of making a reader's files


@dataclass
class Outcome:
    cases: int = 0
    read: int = 0
    refused: int = 0
    seconds: float = 0.0  # of the child's own time
    failures: list[tuple[int, str]] = field(default_factory=list)


def run(
    readers: tuple, counts: list[int], folder: Path, seed: int, *, module: str = "fuzz.readers", hung: float = HUNG,
    most_failures: int = 20,
) -> list[Outcome]:  # fmt: skip
    """The first `counts[i]` cases of reader i. A reader is left after `most_failures` crashes."""
    outcomes = [Outcome() for _ in readers]
    plan = [(i, 0, count) for i, count in enumerate(counts) if count]
    place = folder / "state"
    place.write_bytes(STATE.pack(-1, -1, 0, 0))
    while plan:
        how = _child(folder, seed, place, module, plan, outcomes, hung)
        number, case, read, refused = STATE.unpack(place.read_bytes())
        if how is None:
            break
        if number < 0 or case < 0:
            raise AssertionError(f"the child did not start: {how}")
        outcomes[number].failures.append((case, how))
        done = [i for i, _, _ in plan].index(number)
        end = plan[done][2] if len(outcomes[number].failures) < most_failures else case + 1
        outcomes[number].read, outcomes[number].refused = read, refused
        plan = [(number, case + 1, end), *plan[done + 1 :]] if case + 1 < end else plan[done + 1 :]
        place.write_bytes(STATE.pack(number, -1, read, refused))
    for outcome, count in zip(outcomes, counts, strict=True):
        outcome.cases = count
    return outcomes


def _child(folder: Path, seed: int, place: Path, module: str, plan: list, outcomes: list, hung: float) -> str | None:
    """How a child failed, None where it did all of its plan."""
    errors = folder / "errors"
    path = os.pathsep.join([str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "fuzz.child", str(folder), str(seed), str(place), module]
    finished = 0
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
            env={**os.environ, "PYTHONPATH": path},
        ) as child,
    ):  # fmt: skip
        assert child.stdin is not None and child.stdout is not None
        json.dump(plan, child.stdin)
        child.stdin.close()
        watch = threading.Thread(target=_watch, args=(child, place, hung), daemon=True)
        watch.start()
        for line in child.stdout:
            said = json.loads(line)
            outcome = outcomes[said["reader"]]
            if "why" in said:
                outcome.failures.append((said["case"], said["why"]))
            else:
                outcome.read, outcome.refused, finished = said["read"], said["refused"], finished + 1
                outcome.seconds += said["seconds"]
        code = child.wait()
        watch.join()
    if code == 0 and finished == len(plan):
        return None
    tail = errors.read_text(errors="replace")[-1500:]
    return f"hung for {hung:g} s" if code == -signal.SIGKILL else f"the process ended with {code}: {tail}"


def _watch(child: subprocess.Popen, place: Path, hung: float) -> None:
    """Kills a child whose case stays the same for too long."""
    before, since = b"", time.monotonic()
    with place.open("rb") as file, mmap.mmap(file.fileno(), STATE.size, access=mmap.ACCESS_READ) as state:
        while child.poll() is None:
            now = bytes(state)
            if now != before:
                before, since = now, time.monotonic()
            _, case, _, _ = STATE.unpack(now)
            if time.monotonic() - since > (hung if case >= 0 else STARTED):
                child.kill()
            time.sleep(0.1)


def table(readers: tuple, outcomes: list[Outcome], seconds: float) -> str:
    """Markdown: a row a reader, their sum, and how long it took."""
    names = ("cases", "read", "one clear line", "anything else")
    counts = [(outcome.cases, outcome.read, outcome.refused, len(outcome.failures)) for outcome in outcomes]
    total = tuple(map(sum, zip(*counts, strict=True)))
    rows = [*zip((reader.name for reader in readers), counts, strict=True), ("all", total)]
    lines = [f"| reader | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    lines += [f"| {name} | {' | '.join(f'{number:,}' for number in row)} |" for name, row in rows]
    own = ", ".join(f"{reader.name} {o.seconds:.0f}" for reader, o in zip(readers, outcomes, strict=True))
    return "\n".join([*lines, f"{seconds:.0f} s in all; the reading process's own seconds: {own}"])
