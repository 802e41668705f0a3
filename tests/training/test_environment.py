"""What a run was started with stands in its folder."""

import json
import platform
import subprocess
import sys

import jax
import pytest
from test_checkpoints import MESH

import signer_jax
from signer_jax import result
from signer_jax.configuration import load
from signer_jax.training import environment, partitioning
from signer_jax.validation import read


def test_the_facts_of_a_start(monkeypatch, tmp_path):
    mesh = partitioning.make_mesh(MESH)  # before: XLA ends a process that starts it with a flag that it does not know
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_b=2")
    monkeypatch.setenv("A_SECRET", "s3cret")
    facts = environment.environment(mesh)
    assert facts["versions"]["jax"] == jax.__version__ and facts["signer_jax"] == signer_jax.__version__
    assert facts["variables"]["XLA_FLAGS"] == "--xla_a=1" and facts["variables"]["LIBTPU_INIT_ARGS"] == "--xla_b=2"
    assert facts["command"] == sys.argv and facts["mesh"] == dict(mesh.shape)
    assert facts["devices"] == {"kinds": ["cpu"], "count": mesh.size, "peak_flops_each": {"cpu": None}}
    environment.write(tmp_path, facts)
    environment.write(tmp_path, facts)  # of the next start
    text = (tmp_path / "environment.json").read_text()
    assert json.loads(text) == facts and "s3cret" not in text
    rows = dict(environment.rows(facts))
    assert rows["versions.jax"] == jax.__version__ and rows["devices.kinds"] == "cpu"


def test_a_source_tree_that_is_not_installed_has_its_version(monkeypatch, tmp_path):
    def nothing(name):
        raise result.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(result.metadata, "version", nothing)
    built = result.build(read(load("default")), result.reached({}), tmp_path, {}, {}, "dev", {})
    assert built["versions"] == {"python": platform.python_version(), "signer_jax": signer_jax.__version__}


def test_a_folder_that_takes_no_file_is_told(tmp_path, capsys):
    (tmp_path / "environment.json").mkdir()
    environment.write(tmp_path, {"a": 1})
    assert "environment.json: is a folder" in capsys.readouterr().err


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in a folder, for which ours is taken."""
    folder = tmp_path / "lib" / "signer_jax"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    monkeypatch.setattr(signer_jax, "__file__", str(folder / "__init__.py"))
    monkeypatch.delenv("SIGNER_COMMIT", raising=False)

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        run = subprocess.run(["git", "-C", tmp_path, *who, *words], capture_output=True, text=True, check=True)
        return run.stdout.strip()

    return folder, git


def test_the_state_of_the_source(package):
    folder, git = package
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "a")
    assert environment.source() == {"commit": git("rev-parse", "HEAD"), "changed": False}
    (folder.parent / "notes").write_text("")  # beside the package
    assert environment.source()["changed"] is False
    (folder / "__init__.py").write_text("a = 1\n")
    assert environment.source()["changed"] is True


def test_an_installed_package_is_not_of_the_repository_around_it(package, monkeypatch):
    _, git = package
    git("init", "-q")
    git("commit", "-qm", "a", "--allow-empty")
    assert environment.source() == {"commit": None, "changed": None}
    monkeypatch.setenv("SIGNER_COMMIT", "abc")  # as an image has it
    assert environment.source() == {"commit": "abc", "changed": None}
    monkeypatch.setenv("PATH", "")  # without git
    assert environment.source() == {"commit": "abc", "changed": None}


@pytest.mark.slow
def test_a_run_has_it_in_its_folder_and_in_tensorboard(tiny_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    facts = json.loads((tiny_run / "environment.json").read_text())
    assert facts["versions"]["jax"] == jax.__version__ and facts["source"].keys() == {"commit", "changed"}
    events = EventAccumulator(str(tiny_run / "tensorboard"), size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    table = events.Tensors("environment/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "versions.jax | " in table
    names = set(events.Tags()["scalars"])
    experts = {name for name in names if name.startswith("pose/gates/expert_")}
    shares = [events.Scalars(name)[-1].value for name in sorted(experts)]
    assert len(shares) > 1 and sum(shares) == pytest.approx(1.0, abs=1e-4) and min(shares) >= 0
    assert {"pose/gates/entropy", "joint/gates/entropy", "slul/speed/tokens_per_second"} <= names
    assert {"renderer/speed/tokens_per_second", "pose/speed/model_tflops", "slul/optimizer/learning_rate"} <= names
    assert "pose/speed/tokens_per_second" not in names and "slul/speed/mfu" not in names
