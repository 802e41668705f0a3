"""Whatever is killed while it writes, at any moment: what it wrote is the old state or the new, never a part."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import QUICK

from kills.writers import WRITERS

ROUNDS = 20


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict]:
    path = os.pathsep.join([str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "kills.server", str(tmp_path_factory.mktemp("kills")), "0", str(ROUNDS)],
        env={**os.environ, "PYTHONPATH": path, "XLA_FLAGS": QUICK, "TQDM_DISABLE": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    found = {outcome["name"]: outcome for outcome in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0 and found.keys() == {writer.name for writer in WRITERS}, done.stderr[-3000:]
    return found


KEPT = [writer for writer in WRITERS if writer.name != "careless"]


@pytest.mark.parametrize("name", [writer.name for writer in KEPT])
def test_a_kill_leaves_the_old_or_the_new(outcomes, name):
    assert not outcomes[name]["failures"]
    assert outcomes[name]["old"] + outcomes[name]["new"] >= ROUNDS


def test_a_half_that_is_left_is_seen(outcomes):
    assert outcomes["careless"]["failures"]


@pytest.mark.parametrize("name", [writer.name for writer in KEPT])
def test_kills_came_before_in_and_after_writing(outcomes, name):
    """Else none of them says anything."""
    outcome = outcomes[name]
    assert outcome["old"] and outcome["new"]
    assert outcome["halves"] or name not in {writer.name for writer in KEPT if writer.rooms}
