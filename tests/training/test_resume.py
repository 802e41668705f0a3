"""A real run, killed without warning, resumes to the very parameters of the uninterrupted one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import QUICK, TINY

STEPS = 6


def start(workdir: Path) -> subprocess.Popen:
    # Every stage in one run, short ones: the kill falls into a later stage and the earlier ones must be restored too.
    overrides = [
        f"--config.train.{stage}.steps={STEPS}" for stage in ("slul", "pose", "vae", "images", "renderer", "joint")
    ]
    command = [sys.executable, "-m", "signer_jax", "train", "--config", str(TINY), "--workdir", str(workdir),
               *overrides, "--config.checkpoint_every=2", "--config.evaluate.split="]  # fmt: skip
    environment = {**os.environ, "XLA_FLAGS": QUICK, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(workdir: Path) -> dict:
    process = start(workdir)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output[-2000:]
    return json.loads((workdir / "result.json").read_text())


@pytest.mark.slow
def test_a_killed_run_ends_bit_identical(tmp_path: Path):
    whole = finish(tmp_path / "whole")
    killed = tmp_path / "killed"
    # Killed inside a stage: after its first checkpoint and before its last.
    stage = killed / "checkpoints" / "renderer"
    deadline = time.monotonic() + 900
    with start(killed) as process:
        while not (stage / "2").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()[0][-2000:]
        process.send_signal(signal.SIGKILL)
    assert not (killed / "result.json").exists()
    assert not (killed / "checkpoints" / "joint").exists()
    resumed = finish(killed)
    assert resumed["params_sha256"] == whole["params_sha256"]
    assert resumed["step"] == whole["step"] == 6 * STEPS
