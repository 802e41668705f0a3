"""A run that is killed at twenty random moments, saves included, ends with the parameters of the one that was not;
and so does a whole run that is killed between its stages.
"""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from conftest import QUICK

HERE = Path(__file__).parent
STEPS, EVERY, KILLS = 90, 3, 20
BETWEEN = (
    "tokenizer.model-", "slul", "prior-", "pose", "vae", "latents.*.arrayrecord+", "latents-", "renderer",
    "result.json-", "result.json+",
)  # fmt: skip


def run(folder: Path, *moments: str) -> list[dict]:
    return said("killed_run.py", folder, STEPS, EVERY, *moments)


def said(program: str, *words: object) -> list[dict]:
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, HERE / program, *map(str, words)]
    environment = {
        **os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK, "TQDM_DISABLE": "1",
    }  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_twenty_kills_leave_the_run_as_it_would_have_been(tmp_path):
    chance = Random(0)
    steps = sorted(chance.randrange(1, STEPS) for _ in range(KILLS))
    # Most come at any moment, which mostly is within a save: every fourth comes between two.
    moments = [f"{step + chance.random():.3f}" if k % 4 else f"{step}" for k, step in enumerate(steps)]
    (whole,) = run(tmp_path / "whole")
    *kills, last = run(tmp_path / "killed", *moments)
    assert len(kills) == KILLS and whole["code"] == last["code"] == 0
    assert last["params"] == whole["params"] and len(whole["params"]) == 64
    # Some came within a save and some did not, and steps were lost that no save had.
    assert any(kill["half"] for kill in kills) and not any(kill["half"] for kill in kills[::4])
    assert any(after["first"] <= before["at"] for before, after in pairwise(kills))


@pytest.mark.slow
def test_a_kill_between_stages_leaves_the_run_as_it_would_have_been(tmp_path):
    """After a stage's last save, before and after what the next one reads gets its name, at the result."""
    (whole,) = said("killed_between.py", tmp_path / "whole")
    *kills, last = said("killed_between.py", tmp_path / "killed", *BETWEEN)
    assert [kill["moment"] for kill in kills if kill["killed"]] == list(BETWEEN)
    assert whole["status"] == last["status"] == 0
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed")]
    assert results[0]["params_sha256"] == results[1]["params_sha256"]
