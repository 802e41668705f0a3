"""Films that processes of their own decode are those that this process decodes, and their faults are told here."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from signer_jax.data import video
from signer_jax.data.prepared import films
from signer_jax.errors import SignerError, Trouble

FRAMES = np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), np.uint8)


def film(**changed) -> films.Film:
    one = films.Film("a", video.encoded(FRAMES, 12), np.arange(3, 9) / 12, False, (16, 16), None, 1.0)
    return one._replace(**changed)


@pytest.fixture(scope="module")
def decoders():
    return films.Decoders(2)


@pytest.mark.parametrize("changed", [{}, {"whole": True}, {"centre": np.array([20.0, 16.0]), "scale": 6.0}])
def test_processes_give_the_same_frames(decoders, changed):
    here = films.frames(film(**changed))
    assert here.shape == (6, 16, 16, 3) and len(np.unique(here)) > 50
    assert_array_equal(decoders.frames(film(**changed)), here)
    assert_array_equal(films.Decoders(0).frames(film(**changed)), here)


def test_only_a_film_that_is_read_to_its_end_is_held_against_it(decoders):
    whole = video.encoded(np.repeat(FRAMES, 8, 0), 12)
    behind = whole.index(b"moov") - 4  # its table, behind the frames
    ahead = film(data=whole[: behind - 2000] + bytes(2000) + whole[behind:], wanted=np.arange(3) / 12)
    assert decoders.frames(ahead).shape == (3, 16, 16, 3)
    for frames in (films.frames, decoders.frames):
        with pytest.raises(SignerError, match="^a: damaged"):
            frames(ahead._replace(whole=True))


def test_a_process_that_is_killed_is_told_of():
    decoders = films.Decoders(1)
    decoders.frames(film())
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(Trouble, match=r"^a: a process that decodes videos has ended.*config\.data\.decode_processes"):
        for _ in range(50):
            decoders.frames(film())
            time.sleep(0.1)


def test_no_process_outlives_the_one_that_it_reads_for(tmp_path):
    code = (
        "import multiprocessing, sys, time\nsys.path.insert(0, sys.argv[1])\nfrom test_films import film, films\n"
        "if __name__ == '__main__':\n    decoders = films.Decoders(1)\n    decoders.frames(film())\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "    sys.stdin.readline()\n    print(decoders.frames(film()).shape, flush=True)\n    time.sleep(100)\n"
    )
    (tmp_path / "reads.py").write_text(code)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "reads.py"), str(Path(__file__).parent)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        child = int(process.stdout.readline())
        os.kill(child, signal.SIGTERM)  # as a scheduler sends to all of a job: it is the run's to follow
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "(6, 16, 16, 3)\n"
        process.kill()
        process.communicate(timeout=30)  # until nobody has its output open
