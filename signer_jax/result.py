"""`result.json`: what a run reached, with everything that is needed to trust the figure."""

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather

import signer_jax
from signer_jax import storage
from signer_jax.json_files import CONFIG, read_json
from signer_jax.settings import Settings
from signer_jax.workdir import read_times

_PIECE = 1 << 26  # bytes
_REACHED = ("step", "params_sha256", "split", "metrics")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "sacrebleu")


def params_sha256(params: Any) -> str:
    """SHA-256 over the leaves in path order: path, dtype, shape and bytes of each, some megabytes at a time.

    Every process calls it where an array lies on several: each piece is then gathered from its shards.
    """
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]
    for name, leaf in sorted(named, key=lambda pair: pair[0]):
        digest.update(f"{name} {np.dtype(leaf.dtype)} {tuple(leaf.shape)}\n".encode())
        for rows in _pieces(leaf):
            digest.update(rows.tobytes())
    return digest.hexdigest()


def _pieces(leaf: Any) -> Iterator[np.ndarray]:
    """An array's rows in order, so many at a time that the host holds little of what lies on devices."""
    if not leaf.shape or leaf.nbytes <= _PIECE:
        yield _whole(leaf)
        return
    rows = max(1, _PIECE * leaf.shape[0] // leaf.nbytes)
    for i in range(0, leaf.shape[0], rows):
        yield _whole(leaf[i : i + rows])


def _whole(piece: Any) -> np.ndarray:
    if isinstance(piece, jax.Array) and not (piece.is_fully_addressable or piece.is_fully_replicated):
        return np.asarray(process_allgather(piece, tiled=True))
    return np.asarray(piece)


def reached(params: Any) -> dict[str, Any]:
    """What a result says of the parameters. Every process calls it, as `params_sha256`."""
    return {
        "params_sha256": params_sha256(params),
        "parameters": {part: int(sum(leaf.size for leaf in jax.tree.leaves(tree))) for part, tree in params.items()},
    }


def build(
    settings: Settings, reached: Mapping[str, Any], workdir: Path, metrics: dict[str, float], facts: dict[str, str],
    split: str, mesh: Mapping[str, int],
) -> dict:  # fmt: skip
    """`reached`: of the parameters, and how they were chosen (`scores.chosen`); `mesh`: the size of each axis."""
    steps = {stage: settings.stage(stage).steps for stage in settings.stages}
    for stage, chose in reached.get("selected", {}).items():  # the last look of a stage is at its end
        steps[stage] = min(steps[stage], max((step for step, _ in chose.get("looks", [])), default=steps[stage]))
    return {
        "step": sum(steps.values()),
        "steps": steps,
        **reached,
        "split": split,
        "metrics": metrics,
        "facts": facts,
        "versions": {
            "python": platform.python_version(),
            "signer_jax": signer_jax.__version__,  # of the code that runs, which need not be installed
            **versions(PACKAGES),
        },
        "mesh": {axis: int(size) for axis, size in mesh.items()},
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
        "seed": settings.seed,
        "wall_seconds": read_times(workdir),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of each that is installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def is_there(path: Path, result: Mapping[str, Any], of: Sequence[str] = _REACHED) -> bool:
    """Whether a file has these figures of these parameters already: nothing was trained since it was written."""
    try:
        before = read_json(path, CONFIG)
        return all(before[name] == json.loads(storage.to_json(result[name])) for name in of)
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return False


def write(path: Path, result: dict) -> None:
    storage.write_file(path, storage.to_json(result))
