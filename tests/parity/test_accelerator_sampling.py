"""The benchmark that is for an accelerator runs on any machine, at a tiny size, and both sides make the same video."""

import re
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
    # What the comparison would not see if the latents hung on it as little as on the difference that it allows.
    faults = re.findall(r"(no guidance|text ignored|half of the layers|one noise level told) ([\d.e+-]+)", done.stdout)
    assert len(faults) == 4 and min(float(value) for _, value in faults) > 0.1
