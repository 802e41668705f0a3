"""The benchmark that is for an accelerator runs on any machine, at a tiny size, and both sides take the same step."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import accelerator_training

pytest.importorskip("torch")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.parity

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "accelerator_training.py"


def test_both_sides_take_the_same_step():
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
    row = r"\| (loss|gradient's norm, [\w.]+) " + 3 * r"\| ([\d.e+-]+) " + r"\|"
    compared = re.findall(row, done.stdout)
    assert len(compared) == 1 + len(accelerator_training.COMPARED)
    for name, ours, torchs, apart in compared:
        assert min(float(ours), float(torchs)) > 1e-3 and float(apart) <= 1e-4, name


def test_another_step_is_told(capsys):
    """A loss that is no number, a gradient that is missing, and one that is half as large."""
    theirs = {"loss": 1.0, "proj_out.weight": 2.0}
    assert accelerator_training.printed(theirs, theirs, 1e-4)
    for wrong in ({"loss": float("nan")}, {"proj_out.weight": 0.0}, {"proj_out.weight": 1.0}):
        assert not accelerator_training.printed(theirs | wrong, theirs, 1e-4)
    assert capsys.readouterr().out.count("the two sides take different steps") == 3
