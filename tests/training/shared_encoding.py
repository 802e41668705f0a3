"""Several processes make latents, a bucket's latents and text states of a small corpus in one folder, and a job.

`python shared_encoding.py FOLDER`, with the launchers' variables: each prints how many records of each kind it wrote.
"""

import sys
from pathlib import Path

import killed_job
from killed_encoding import KINDS, corpus, make

from signer_jax import distributed
from signer_jax.training import encodings


def main() -> None:
    folder = Path(sys.argv[1])
    distributed.start()
    with distributed.failing_at_once():
        for kind in KINDS:
            written: list[int] = []
            distributed.first_does(f"corpus {kind}", lambda kind=kind: corpus(folder / kind / "data"))
            make(kind, folder / kind, folder / "pipeline", lambda written=written: written.append(1))
            print("wrote", kind, len(written), flush=True)
        numbers: list[int] = []
        encodings.make(folder / "job", "numbers", killed_job.work(numbers), 0, 1)
        print("wrote", "numbers", len(numbers), flush=True)


if __name__ == "__main__":
    main()
