"""The launchers, as files: they parse, they refuse nonsense, and two real processes train one run together."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY

# The launcher calls `python`: that of this environment, also where it is not activated.
ENVIRONMENT = {
    **os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}  # fmt: skip


@pytest.mark.parametrize("name", ["local.sh", "slurm.sh"])
def test_a_launcher_parses_and_says_how_it_is_used(name):
    script = ROOT / "launch" / name
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    run = subprocess.run(["bash", script], capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("usage:")


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path: Path):
    workdir = tmp_path / "run"
    command = [
        "bash",
        ROOT / "launch" / "local.sh",
        TINY,
        workdir,
        "2",
        "--config.stages=slul",
        "--config.evaluate.split=",
    ]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-2000:]
    result = json.loads((workdir / "result.json").read_text())
    assert result["mesh"] == {"data": 2, "fsdp": 1, "tensor": 1} and result["step"] == 4
    # The same command finds it finished, and its parameters as they were.
    again = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr[-2000:]
    assert json.loads((workdir / "result.json").read_text())["params_sha256"] == result["params_sha256"]


@pytest.mark.slow
def test_one_process_that_fails_takes_the_other_along(tmp_path: Path):
    """Both refuse the stage; neither may wait for the other at exit."""
    command = ["bash", ROOT / "launch" / "local.sh", TINY, tmp_path / "run", "2", "--config.stages=slull"]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 2
    assert "unknown stage 'slull'" in run.stderr and "Traceback" not in run.stderr
