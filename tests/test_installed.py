"""The package as a user installs it, not editable: its configs come along, and no folder hides them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import signer_jax
from signer_jax import configuration


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pip install .` into a folder of its own, without the dependencies: those are here already."""
    base = tmp_path_factory.mktemp("installed")
    source = base / "source"  # setuptools leaves its build beside what it builds
    source.mkdir()
    for name in ("signer_jax", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", base / "site", source]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    return base / "site"


@pytest.mark.slow
def test_shipped_and_copied_configs_are_found_from_a_foreign_folder(installed, tmp_path: Path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "configs").mkdir()
    for name in ("__init__", "default"):
        (tmp_path / "configs" / f"{name}.py").write_text("raise RuntimeError('foreign')\n")
    shutil.copy(configuration.SHIPPED / "phoenix14t.py", tmp_path / "configs" / "mine.py")
    environment = {**os.environ, "PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}
    program = (
        "import signer_jax\n"
        "from signer_jax import configuration\n"
        "print(signer_jax.__file__)\n"
        "for name in ('demo', 'default', 'phoenix14t', 'how2sign_clips', 'configs/demo.py', 'configs/mine.py'):\n"
        "    print(name, *configuration.load(name).stages)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr[-2000:]
    first, *lines = run.stdout.splitlines()
    assert Path(first).is_relative_to(installed)
    assert {line.split()[0]: line.split()[1:] for line in lines} == {
        "demo": list(configuration.load("demo").stages),
        "default": list(configuration.load("default").stages),
        "phoenix14t": ["slul"],
        "how2sign_clips": ["vae", "images", "renderer"],
        "configs/demo.py": list(configuration.load("demo").stages),
        "configs/mine.py": ["slul"],
    }
    assert (installed / "signer_jax" / "viewing" / "view.js").is_file()
    assert not (installed / "configs").exists()  # a top-level `configs` would hide, or be hidden by, other people's
    metadata = next(installed.glob("signer_jax-*.dist-info/METADATA")).read_text()
    assert f"\nVersion: {signer_jax.__version__}\n" in metadata
