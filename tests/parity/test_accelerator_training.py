"""The benchmark that is for an accelerator runs on any machine, at a tiny size, on both sides."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.parity

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "accelerator_training.py"


def test_both_sides_take_their_steps():
    command = [
        sys.executable,
        SCRIPT,
        "--tiny",
        "--steps",
        "1",
        "--sides",
        "ours",
        "torch",
        "--remat",
        "full",
        "--kernels",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| ours, full | " in done.stdout and "| torch | " in done.stdout and "failed" not in done.stdout
