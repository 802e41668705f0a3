"""The benchmark that is for an accelerator runs on any machine, at a tiny size, and both sides make the same video."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.parity

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "accelerator_sampling.py"


def test_both_sides_make_the_same_latents_and_are_timed():
    done = subprocess.run([sys.executable, SCRIPT, "--tiny"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for row in ("seconds a video", "milliseconds a step", "seconds of decoding", "MFU", "of their size apart"):
        assert row in done.stdout
