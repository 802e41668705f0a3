"""The process that reads harmed files: `python -m fuzz.child FOLDER SEED STATE` with a plan as JSON on standard input.

What takes this process down, or keeps it, is seen by the parent in `STATE`: the case that was begun last. A failure is
a line of JSON on standard output; nothing else goes there.
"""

import contextlib
import json
import mmap
import os
import shutil
import struct
import sys
import time
import traceback
import unicodedata
import warnings
from pathlib import Path
from random import Random

from fuzz import memory
from signer_jax.errors import SignerError

STATE = struct.Struct("<qqqq")  # reader, case, read, refused
SECONDS = 2.0  # of the process's own time, for one case
GROWTH = 300 << 20  # bytes
LONGEST = 1000  # characters of a message


def plain(line: str) -> bool:
    """Whether a terminal shows a line as it is; letters that this Python does not know yet do no harm."""
    return not any(
        unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        for c in line
    )


def judge(reader, folder: Path, changes: dict[str, bytes], limit: float, before: int) -> tuple[str, str]:
    """("read" | "refused" | "failed", why) of one case, the line where it is refused.

    `before` are the bytes in use before the reader's first. A case that takes longer than the limit is read again, at
    most three times in all: what a busy machine or a full collection of garbage takes is not the reader's.
    """
    memory.forget_peak()
    for _ in range(3):
        started = time.process_time()
        outcome, why = _read(reader, folder, changes)
        seconds = time.process_time() - started
        if seconds <= limit:
            break
    faults = [why] if outcome == "failed" else []
    if seconds > limit:
        faults.append(f"took {seconds:.1f} s")
    if (grown := memory.peak() - before) > GROWTH:
        faults.append(f"grew by {grown >> 20} MB")
    return ("failed", " ".join(faults)) if faults else (outcome, why)


def _read(reader, folder: Path, changes: dict[str, bytes]) -> tuple[str, str]:
    """What `judge` gives, but for time and memory."""
    try:
        reader.read(folder, changes)
        return "read", ""
    except SignerError as error:
        line = str(error)
    except Exception:
        return "failed", traceback.format_exc(limit=-6)
    if not plain(line) or len(line) > LONGEST or not line:
        return "failed", f"no line to show: {line[:300]!r}"
    if str(folder) not in line:
        return "failed", f"names no file: {line[:300]}"
    if ";" not in line:
        return "failed", f"says no mend: {line[:300]}"
    return "refused", line


def run(readers: tuple, limit: float, base: Path, seed: int, state: mmap.mmap, plan: list, report) -> None:
    """The cases of a plan: (reader, first, end) each; `readers` are the plan's."""
    for number, first, end in plan:
        reader = readers[number]
        _, _, read, refused = STATE.unpack(state[: STATE.size])
        state[: STATE.size] = STATE.pack(number, -1, read, refused)  # no case yet: making files may take long
        folder, whole = base / str(number) / "files", base / str(number) / "whole"
        if not whole.exists():
            partial = whole.with_name("partial")
            partial.mkdir(parents=True)
            reader.make(partial)
            partial.rename(whole)
        shutil.rmtree(folder, ignore_errors=True)  # a child that crashed left its harm there
        shutil.copytree(whole, folder)
        kept = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for name in sorted(kept):  # what is imported, or compiled, is no growth
            with contextlib.suppress(Exception):
                reader.read(folder, {name: kept[name]})
        before = memory.settle()
        if first == 0:
            read = refused = 0
            for name in sorted(kept):
                outcome, why = judge(reader, folder, {name: kept[name]}, limit, before)
                if outcome != "read":
                    report({"reader": number, "case": -1, "why": f"{name} unharmed: {outcome} {why}"})
        started = time.process_time()
        for case in range(first, end):
            state[: STATE.size] = STATE.pack(number, case, read, refused)
            rng = Random(f"{seed}/{reader.name}/{case}")
            changes = reader.harm(folder, case, rng)
            for name, data in changes.items():
                put(folder / name, data)
            outcome, why = judge(reader, folder, changes, limit, before)
            if outcome == "failed":
                report({"reader": number, "case": case, "why": why})
                memory.settle()
            read, refused = read + (outcome == "read"), refused + (outcome == "refused")
            for name in changes:
                if name in kept:
                    put(folder / name, kept[name])
        state[: STATE.size] = STATE.pack(number, end, read, refused)
        report({"reader": number, "read": read, "refused": refused, "seconds": time.process_time() - started})


def put(path: Path, data: bytes) -> None:
    """A new file of that name: whoever still maps the old one keeps it."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def main() -> None:
    import importlib

    base, seed, place, module = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    found = importlib.import_module(module)
    warnings.simplefilter("error")
    memory.keep_little()
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def report(line: dict) -> None:
        out.write(json.dumps(line) + "\n")

    with place.open("r+b") as file, mmap.mmap(file.fileno(), STATE.size) as state:
        run(found.READERS, getattr(found, "SECONDS", SECONDS), base, seed, state, json.load(sys.stdin), report)


if __name__ == "__main__":
    main()
