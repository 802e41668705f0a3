"""What a run was started with: versions, the source's state, the devices, the flags."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax

import signer_jax
from signer_jax import storage
from signer_jax.chips import peak
from signer_jax.errors import SignerError
from signer_jax.result import versions

FILE = "environment.json"
_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "array-record", "numpy", "libtpu",
    "jax-cuda12-plugin", "jax-cuda13-plugin",
)  # fmt: skip
# What changes how programs are compiled, run and started; other variables may hold what is nobody's business.
_VARIABLES = ("XLA_", "LIBTPU_", "TPU_", "JAX_", "NCCL_", "SIGNER_", "MEGASCALE_", "CUDA_VISIBLE_DEVICES")


def environment(mesh: jax.sharding.Mesh) -> dict[str, Any]:
    """The facts, as JSON has them."""
    kinds = sorted({device.device_kind for device in mesh.devices.flat})
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "signer_jax": signer_jax.__version__,
        "source": source(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(_PACKAGES),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)},
        "processes": jax.process_count(),
        "devices": {"kinds": kinds, "count": mesh.size, "peak_flops_each": {kind: peak(kind) for kind in kinds}},
        "mesh": dict(mesh.shape),
    }


def write(workdir: Path, facts: dict[str, Any]) -> None:
    """Into the run's folder, in place of the start's before; where that is impossible it is told."""
    try:
        storage.write_file(workdir / FILE, storage.to_json(facts))
    except SignerError as error:  # a note for people: the work goes on without it
        print(f"signer: {error}", file=sys.stderr)


def rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts as a table's rows; what is nested by its path."""
    found: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            found += [(f"{name}.{key}", shown) for key, shown in rows(value)]
        else:
            found.append((name, " ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return found


def source() -> dict[str, Any]:
    """The commit of the package's source and whether files of it have changed since; what `SIGNER_COMMIT` says where
    the package lies in no repository of its own (an image), and None for what nobody knows.
    """
    package = Path(signer_jax.__file__).parent
    # The repository around an installed package is somebody else's.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return {"commit": os.environ.get("SIGNER_COMMIT") or None, "changed": None}
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return {"commit": _git(package, "rev-parse", "HEAD"), "changed": None if changed is None else bool(changed)}


def _git(folder: Path, *words: str) -> str | None:
    try:
        run = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None
