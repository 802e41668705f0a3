"""`python killed_job.py FOLDER WORKER WORKERS AT`: a worker of an encoding of numbers, killed at one of them."""

import os
import signal
import sys
from pathlib import Path

from signer_jax.training import begun, encodings

COUNTS = [3, 3, 3, 3, 1]


def work(written: list[int], at: int = -1, **key) -> begun.Work:
    """Notes the numbers that are encoded."""

    def records(first: int, end: int):
        for number in range(first, end):
            if number == at:
                os.kill(os.getpid(), signal.SIGKILL)
            written.append(number)
            yield f"number {number}".encode()

    return begun.Work({"encoder": "a" * 64, "frames": 5, **key}, COUNTS, records)


if __name__ == "__main__":
    folder, worker, workers, at = sys.argv[1:]
    encodings.make(Path(folder), "numbers", work([], int(at)), int(worker), int(workers))
