"""The launchers, as files: they parse, they refuse nonsense, and two real processes train one run together."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import QUICK, ROOT, TINY
from jax.sharding import AbstractMesh

from signer_jax import configuration
from signer_jax.layout import AXES
from signer_jax.training.partitioning import check_batch, mesh_sizes
from signer_jax.validation import read

# The launcher calls `python`: that of this environment, also where it is not activated.
ENVIRONMENT = {
    **os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}  # fmt: skip


@pytest.mark.parametrize("name", ["local.sh", "slurm.sh"])
def test_a_launcher_parses_and_says_how_it_is_used(name):
    script = ROOT / "launch" / name
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    run = subprocess.run(["bash", script], capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("usage:")


README_LINES = {
    "launch/local.sh demo runs/demo": 1,
    "launch/local.sh demo:2 runs/two 2": 2,
    "--nodes=4 launch/slurm.sh demo:32": 4 * 8,
    "launch/tpu_vm.sh run1 demo:64 /mnt/runs/demo --zone us-east5-a --accelerator-type v5p-128": 128 // 2,
    "launch/gke.py tpu run1 demo:64": 4 * 4 * 4,
    "launch/gke.py gpu run1 demo:32": 4 * 8,
}


@pytest.mark.parametrize("line", README_LINES)
def test_the_configs_of_the_readme_train_on_the_devices_that_it_asks_for(line):
    assert line in (ROOT / "launch" / "README.md").read_text(encoding="utf-8")
    name = next(word for word in line.split() if word.startswith("demo"))
    settings = read(configuration.load(name))
    mesh = AbstractMesh(mesh_sizes(asdict(settings.mesh), README_LINES[line]), AXES)
    for stage in settings.stages:
        c = settings.stage(stage)
        check_batch(stage, c.batch, c.accumulate, mesh)


# What a stand-in for srun does with the tasks of one node: it runs them side by side with SLURM's variables set.
SRUN = r"""#!/usr/bin/env bash
set -eu
while [[ $1 == --* ]]; do shift; done
export SLURM_NTASKS=$TASKS SLURM_STEP_TASKS_PER_NODE=$TASKS SLURM_STEP_NUM_NODES=1 SLURM_STEP_NODELIST=127.0.0.1
pids=()
for ((i = 0; i < TASKS; i++)); do
  SLURM_PROCID=$i SLURM_LOCALID=$i CUDA_VISIBLE_DEVICES=${SEEN:-$i} "$@" &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
"""
# Stands in for `python -m signer_jax train …`: it joins the others as that does, and says which GPUs jax would take.
TASK = """#!{python}
import json, os, sys
import jax
from signer_jax import distributed
from signer_jax.errors import SignerError
assert sys.argv[1:4] == ["-m", "signer_jax", "train"], sys.argv
jax.config.update("jax_cpu_collectives_implementation", "gloo")
distributed.start()
said = json.dumps([jax.process_index(), jax.process_count(), jax.config.values["jax_cuda_visible_devices"]])
os.write(1, (said + "\\n").encode())  # in one piece: eight tasks share the pipe
"""


def slurm(folder: Path, tasks: int, seen: str, **more: str) -> list[list]:
    """Runs `slurm.sh` under the stand-ins; for each task its number, how many there are, and its GPUs."""
    for name, text in (("srun", SRUN), ("python", TASK.format(python=sys.executable))):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    environment = ENVIRONMENT | {
        "PATH": f"{folder}{os.pathsep}{ENVIRONMENT['PATH']}", "PYTHONPATH": str(ROOT), "SLURM_JOB_ID": str(os.getpid()),
        "TASKS": str(tasks), "SEEN": seen, **more,
    }  # fmt: skip
    command = ["bash", ROOT / "launch" / "slurm.sh", TINY, folder / "run"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    return sorted(json.loads(line) for line in run.stdout.splitlines() if line.startswith("["))


def directives() -> dict[str, str]:
    lines = (ROOT / "launch" / "slurm.sh").read_text().splitlines()
    given = [line.removeprefix("#SBATCH --").partition("=") for line in lines if line.startswith("#SBATCH --")]
    return {name: value for name, _, value in given}


@pytest.mark.slow
def test_the_slurm_launcher_uses_every_gpu_of_a_node(tmp_path: Path):
    tasks, gpus = (int(directives()[name]) for name in ("ntasks-per-node", "gpus-per-node"))
    found = slurm(tmp_path, tasks, ",".join(map(str, range(gpus))))
    assert [(index, count) for index, count, _ in found] == [(i, tasks) for i in range(tasks)]
    assert sorted(device for *_, devices in found for device in devices.split(",")) == sorted(map(str, range(gpus)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tasks", "seen", "more", "taken"),
    [
        (1, "0,1,2,3", {}, ["0,1,2,3"]),  # one task a node takes all
        (2, "4,5,6,7", {}, ["0,1", "2,3"]),  # ids count what the task sees
        (2, "", {"SLURM_GPUS_PER_TASK": "1"}, ["0", "0"]),  # SLURM shows each task its own
    ],
)
def test_slurm_tasks_share_the_gpus_of_a_node(tasks, seen, more, taken, tmp_path: Path):
    assert [devices for *_, devices in slurm(tmp_path, tasks, seen, **more)] == taken


def test_gpus_that_do_not_divide_among_the_tasks_are_refused():
    from signer_jax.distributed import slurm_devices
    from signer_jax.errors import SignerError

    with pytest.raises(SignerError, match="8 GPUs do not divide among 3 tasks"):
        slurm_devices(
            {"SLURM_STEP_TASKS_PER_NODE": "3", "SLURM_LOCALID": "0", "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}
        )
    assert slurm_devices({}) is None


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
    assert result["mesh"] == {"data": 2, "fsdp": 1, "context": 1, "tensor": 1} and result["step"] == 4
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
