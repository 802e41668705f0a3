"""The one place that knows the mesh: its axes, the table of sharding rules, and how arrays get onto it.

A parameter's path picks its logical axes (`PARAMETER_AXES`, the first pattern that matches), and `MESH_AXES` maps a
logical axis to a mesh axis. The logical names are those of t5x. The same config runs from one CPU to a pod by
`config.mesh` alone: data (replicas), fsdp (parameters and batch split together), tensor (heads and hidden units split).
"""

import re
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from signer_jax.errors import SignerError

AXES = ("data", "fsdp", "tensor")

# Logical axis -> mesh axis. The batch is split over data and fsdp together.
MESH_AXES: dict[str, str | tuple[str, ...] | None] = {
    "batch": ("data", "fsdp"),
    "layers": None,
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
}

# Parameter path -> the logical axes of its last dimensions; a leading stack of layers is never split.
PARAMETER_AXES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"/lora_a$", ("embed", None)),
    (r"/lora_b$", (None, "embed")),
    (r"token_embedding/embedding$", ("vocab", "embed")),
    (r"lm_head/kernel$", ("embed", "vocab")),
    (r"attention/(query|key|value|image_key|image_value)/kernel$", ("embed", "heads")),
    (r"attention/(query|key|value|image_key|image_value)/bias$", ("heads",)),
    (r"attention/out/kernel$", ("heads", "embed")),
    (r"(wi|wi_0|wi_1|text_in|image_in)/kernel$", ("embed", "mlp")),
    (r"(wi|wi_0|wi_1|text_in|image_in)/bias$", ("mlp",)),
    (r"(wo|text_out|image_out)/kernel$", ("mlp", "embed")),
    (r"(time_modulation|patch_projection)/kernel$", ("embed", None)),
    (r"transformer/(patch_embedding|time_in|time_out)/kernel$", (None, "embed")),
)


def make_mesh(shape: dict[str, int], devices: list | None = None) -> Mesh:
    """A mesh of `AXES` over the devices; one axis may be -1 and takes what the others leave.

    Raises `SignerError` where the shape does not fit the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [int(shape[axis]) for axis in AXES]
    fixed = int(np.prod([size for size in sizes if size != -1]))
    if sizes.count(-1) > 1 or min(sizes) < -1 or 0 in sizes:
        raise SignerError(f"config.mesh {dict(shape)}: axes are positive, and at most one of them is -1")
    if len(devices) % fixed or (-1 not in sizes and fixed != len(devices)):
        raise SignerError(
            f"config.mesh {dict(shape)} does not fit {len(devices)} devices; "
            f"the axes' product must be {len(devices)} (-1 takes what the others leave)"
        )
    sizes = [len(devices) // fixed if size == -1 else size for size in sizes]
    # Auto axes: Linen's modules are partitioned by the compiler from their parameters' and inputs' shardings.
    return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def path_name(path) -> str:
    """A tree path as `a/b/c`."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def parameter_spec(name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """How a parameter is split. A dimension that its mesh axis does not divide stays whole."""
    for pattern, logical in PARAMETER_AXES:
        if re.search(pattern, name) and len(logical) <= len(shape):
            axes = [None] * (len(shape) - len(logical)) + [MESH_AXES[a] if a else None for a in logical]
            return PartitionSpec(
                *(
                    a if isinstance(a, str) and n % mesh.shape[a] == 0 else None
                    for a, n in zip(axes, shape, strict=True)
                )
            )
    return PartitionSpec()


def tree_shardings(tree: Any, mesh: Mesh) -> Any:
    """A `NamedSharding` a leaf. Optimizer moments carry their parameter's path, so they are split alike."""

    def sharding(path, leaf) -> NamedSharding:
        return NamedSharding(mesh, parameter_spec(path_name(path), tuple(leaf.shape), mesh))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(MESH_AXES["batch"]))


def batch_ways(mesh: Mesh) -> int:
    """Among how many groups of devices a batch is split; the devices of a group hold the same rows."""
    axes = MESH_AXES["batch"]
    return int(np.prod([mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes or ())]))


def local_rows(batch: int, mesh: Mesh) -> tuple[int, ...]:
    """The rows of a global batch that this process's devices hold, in order: what it has to read.

    Processes whose devices differ only along an axis that does not split the batch (tensor) hold the same rows.
    Raises `SignerError` where the batch does not divide among the devices that share it.
    """
    ways = batch_ways(mesh)
    if batch % ways:
        raise SignerError(f"batch {batch} does not divide among {ways} devices (mesh data x fsdp); choose a multiple")
    held = batch_sharding(mesh).addressable_devices_indices_map((batch,))
    return tuple(sorted({row for index in held.values() for row in _rows(index, batch)}))


def _rows(index: tuple[slice, ...] | None, batch: int) -> range:
    """The rows of a batch that a shard's index takes."""
    return range(*(index[0] if index else slice(None)).indices(batch))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a global batch (`local_rows`, in that order), onto the mesh, split along b.

    Raises `SignerError` where the batch does not divide among the devices that share it.
    """
    ways = batch_ways(mesh)
    rows = len(next(iter(batch.values()))) * ways // len(local_rows(ways, mesh))
    place = {row: i for i, row in enumerate(local_rows(rows, mesh))}
    sharding = batch_sharding(mesh)

    def put(local: np.ndarray) -> jax.Array:
        def shard(index: tuple[slice, ...] | None) -> np.ndarray:
            held = _rows(index, rows)  # a device's rows follow each other, here as there
            return local[place[held[0]] : place[held[0]] + len(held)]

        return jax.make_array_from_callback((rows, *local.shape[1:]), sharding, shard)

    return {name: put(np.asarray(local)) for name, local in batch.items()}


def to_host(tree: Any) -> Any:
    """The whole tree as numpy arrays on every process, also what is spread over several."""

    def whole(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(whole, tree)
