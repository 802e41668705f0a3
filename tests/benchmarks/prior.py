"""Opening and asking a large pose database: python tests/benchmarks/prior.py [SIGNS] (100,000)

Makes one of SIGNS entries of two frames each, three variants a gloss, and in a process of its own opens it and looks
1,000 glosses up, poses included. The last columns are what that process holds more than before: of its own memory (what
grows), and of files that are mapped (which the system takes back when it needs the room).
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from signer_jax.pose.prior import Entry, Prior
from signer_jax.types import Pose

ASKED = 1000


def make(folder: Path, signs: int) -> float:
    rng = np.random.default_rng(0)
    poses = [
        Pose(rng.normal(0, 0.3, (2, 128, 3)).astype(np.float32), np.ones((2, 128), np.float32), 25.0)
        for _ in range(100)
    ]

    def entries():
        for i in range(signs):
            gloss, signer = f"SIGN-{i // 3}", f"signer {i % 100}"
            entry = Entry(gloss, "ase", signer, variant=i % 3, source=f"{i}.pose", words=gloss.lower())
            yield entry, poses[i % 100]

    start = time.perf_counter()
    Prior.build(entries(), folder, 25.0)
    return time.perf_counter() - start


def held() -> tuple[int, int]:
    """Bytes of the process's own memory, and of mapped files, that are in use."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) << 10, int(lines["RssFile"].split()[0]) << 10


def ask(folder: Path, signs: int) -> None:
    tiny = folder.with_name("tiny")
    make(tiny, 30)
    Prior.open(tiny).pose(Prior.open(tiny).variants("SIGN-1")[0])  # what Python imports and numpy keeps is there
    before = held()
    start = time.perf_counter()
    prior = Prior.open(folder)
    opened = time.perf_counter() - start
    asked = np.random.default_rng(1).integers(0, signs // 3, ASKED)
    start = time.perf_counter()
    found = [prior.variants(f"SIGN-{i}", "ase") for i in asked]
    looked = time.perf_counter() - start
    start = time.perf_counter()
    poses = [prior.pose(entries[0]) for entries in found]
    read = time.perf_counter() - start
    assert all(len(entries) == 3 for entries in found) and len(poses) == ASKED
    del poses, found
    grown = [after - once for after, once in zip(held(), before, strict=True)]
    print(json.dumps({"open": opened, "look up": looked, "poses": read, "own": grown[0], "mapped": grown[1]}))


def main() -> None:
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print("signs    build   size on disk   open     1,000 glosses   their poses   own memory   mapped")
    for signs in (largest // 100, largest // 10, largest):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "prior"
            built = make(folder, signs)
            size = sum(file.stat().st_size for file in folder.iterdir())
            command = [sys.executable, __file__, "--ask", str(signs), str(folder)]
            told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            print(
                f"{signs:7,}  {built:5.1f} s  {size / 1e6:8.1f} MB  {told['open'] * 1e3:5.1f} ms  "
                f"{told['look up'] * 1e3:9.0f} ms  {told['poses'] * 1e3:9.0f} ms  {told['own'] / 1e6:8.1f} MB  "
                f"{told['mapped'] / 1e6:6.1f} MB"
            )


if __name__ == "__main__":
    if "--ask" in sys.argv:
        ask(Path(sys.argv[3]), int(sys.argv[2]))
    else:
        main()
