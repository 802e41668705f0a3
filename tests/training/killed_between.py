"""Kills a whole run where no step is taken: `python killed_between.py FOLDER [MOMENT …]`, JSON of each start.

A moment is a file or folder of the run's (a pattern), `NAME-` before it gets its name and `NAME+` after, or the end of
a stage's training (its last save is whole), `STAGE`. The process itself ends there by SIGKILL, so that nothing depends
on time; the next start goes on from what is left, to the next moment. The last one ends by itself.
"""

import json
import os
import signal
import sys
import warnings
from fnmatch import fnmatch
from pathlib import Path

from kills.server import forked

from signer_jax import configuration
from signer_jax.cli.train import finish
from signer_jax.training import run

TINY = Path(__file__).parent.parent / "tiny.py"


def config():
    c = configuration.load(TINY)
    c.stages = ("slul", "pose", "vae", "renderer")
    c.data.sentences, c.data.poses, c.data.videos = (
        {"train": 24, "dev": 2, "test": 2}, {"train": 12, "dev": 1, "test": 1}, {"train": 4, "dev": 1, "test": 1}
    )  # fmt: skip
    for stage in c.stages:
        c.train[stage].steps, c.train[stage].batch = 2, 4
    c.evaluate.split = ""
    return c


def dies(moment: str) -> None:
    """The process is killed at that moment, whatever it does then."""
    name, when = (moment[:-1], moment[-1]) if moment[-1] in "-+" else (moment, "")

    def end() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watched(move):
        def moved(source, target):
            of = fnmatch(Path(target).name, name)
            if of and when == "-":
                end()
            move(source, target)
            if of and when == "+":
                end()

        return moved

    os.replace, os.rename = watched(os.replace), watched(os.rename)
    finished = run.finished

    def and_then(stage, params, learned):
        if stage.name == name and not when:
            end()
        return finished(stage, params, learned)

    run.finished = and_then


def main() -> None:
    folder, *moments = sys.argv[1:]
    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
    for moment in (*moments, ""):

        def work(pipe: int, moment: str = moment) -> None:
            os.dup2(2, 1)  # what the run prints is none of ours
            if moment:
                dies(moment)
            finish(config(), Path(folder))

        child, pipe = forked(work)
        os.close(pipe)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"moment": moment, "killed": os.WIFSIGNALED(status), "status": status}), flush=True)


if __name__ == "__main__":
    main()
