"""A global batch is the same for any number of processes and any mesh: real processes beside a single one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK, ROOT, TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from signer_jax.opened import described, restored
from signer_jax.result import params_sha256

STEPS = 3


def train(workdir: Path, processes: int, devices: int, *overrides: str) -> Path:
    """Trains SLUL with `devices` virtual devices in each process."""
    environment = {
        **os.environ, "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    command = [
        "bash", ROOT / "launch" / "local.sh", TINY, workdir, str(processes), "--config.stages=slul",
        f"--config.train.slul.steps={STEPS}", "--config.log_every=1", "--config.tokenizer.vocab_size=300",
        "--config.evaluate.split=", *overrides,
    ]  # fmt: skip
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-3000:]
    return workdir


def curves(workdir: Path) -> dict[str, np.ndarray]:
    """Every logged figure but the speed, by name, over the steps."""
    events = EventAccumulator(str(workdir / "tensorboard"))
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if "/speed/" not in name and "/memory/" not in name]
    return {name: np.array([event.value for event in events.Scalars(name)]) for name in names}


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return curves(train(tmp_path_factory.mktemp("one") / "run", 1, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "mesh"),
    [
        (1, {"data": 1, "fsdp": 1, "tensor": 2}),  # both processes hold every row
        (1, {"data": 2, "fsdp": 1, "tensor": 1}),
        (2, {"data": 1, "fsdp": 4, "tensor": 1}),  # no process holds a whole parameter
    ],
    ids=lambda value: "x".join(map(str, value.values())) if isinstance(value, dict) else f"{value}-devices",
)
def test_two_processes_have_the_losses_of_one(devices, mesh, single, tmp_path: Path):
    """One of them shows samples meanwhile, of what no process holds alone, and scores it; the others wait for it. The
    mean of two looks is then what the stage gives.
    """
    overrides = [f"--config.mesh.{axis}={size}" for axis, size in mesh.items()]
    if mesh["fsdp"] > 1:
        overrides += ["--config.samples_every=2", "--config.train.slul.select_every=1"]
        overrides += ["--config.train.slul.select_sentences=4", "--config.train.slul.average=2"]
    found = curves(train(tmp_path / "run", 2, devices, *overrides))
    assert len(found.pop("slul/dev_bleu4", [])) == (STEPS if mesh["fsdp"] > 1 else 0)
    assert found.keys() == single.keys() and "slul/loss" in found
    for name, values in single.items():
        assert len(values) == STEPS
        # float32 sums in another order; one other row in a batch moves the losses by a hundred times as much.
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
    shown = [b"slul/glosses" in file.read_bytes() for file in (tmp_path / "run" / "tensorboard").iterdir()]
    assert sum(shown) == (mesh["fsdp"] > 1)
    # The hash is of the shards where they lie, and that of the parameters that one process reads.
    told = json.loads((tmp_path / "run" / "result.json").read_text())
    assert told["params_sha256"] == params_sha256(restored(described(tmp_path / "run"))[2]) and not told["split"]
    assert ("selected" in told) == (mesh["fsdp"] > 1)
    if mesh["fsdp"] > 1:
        assert len(told["selected"]["slul"]["given"]) == 2 and told["selected"]["slul"]["score"] is not None
