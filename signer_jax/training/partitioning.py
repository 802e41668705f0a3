"""How arrays get onto the mesh: the mesh itself, the shardings of a state and a batch, a step that is laid out.

Which axes there are and what is split along them is the table of `signer_jax.layout`. The same config runs from one CPU
to a pod by `config.mesh` alone: data (replicas), fsdp (parameters and batch split together), context (a video's tokens
and the parameters), tensor (heads and hidden units split).
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from signer_jax.errors import SignerError
from signer_jax.interop.names import Place
from signer_jax.layout import AXES, MESH_AXES, LayoutWarning, parameter_fault, parameter_spec

Inputs, Output = ParamSpec("Inputs"), TypeVar("Output")


def make_mesh(shape: Mapping[str, int], devices: list | None = None) -> Mesh:
    """A mesh of `AXES` over the devices; one axis may be -1 and takes what the others leave, one not named is 1.

    Neighbours on the mesh are neighbours in the hardware (`arranged`). Raises `SignerError` where the shape does not
    fit the devices.
    """
    devices = jax.devices() if devices is None else devices
    asked, sizes = f"config.mesh {dict(shape)}", mesh_sizes(shape, len(devices))
    # Auto axes: Linen's modules are partitioned by the compiler from their parameters' and inputs' shardings.
    return Mesh(arranged(sizes, devices, asked), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def mesh_sizes(shape: Mapping[str, int], devices: int) -> tuple[int, ...]:
    """The size of each of `AXES` over so many devices. Raises `SignerError` as `make_mesh`."""
    asked, sizes = f"config.mesh {dict(shape)}", [int(shape.get(axis, 1)) for axis in AXES]
    fixed = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1 or min(sizes) < -1 or 0 in sizes:
        raise SignerError(f"{asked}: axes are positive, and at most one of them is -1")
    if devices % fixed or (-1 not in sizes and fixed != devices):
        raise SignerError(
            f"{asked} does not fit {devices} devices; "
            f"the axes' product must be {devices} (-1 takes what the others leave)"
        )
    return tuple(devices // fixed if size == -1 else size for size in sizes)


def arranged(sizes: Sequence[int], devices: Sequence[Any], asked: str) -> np.ndarray:
    """The devices as an array of these sizes (of `AXES`), so that what lies near on the mesh lies near in the hardware.

    A TPU's torus is cut along its own axes, and within one only where a shape needs it (8 x 8 of 4 x 4 x 4). Of several
    slices, which a slower network joins, `data` goes from one to the other, and `fsdp` where `data` is too small; of
    devices of other kinds the order of the processes says which are near.

    Raises `SignerError` where context or tensor would go from slice to slice, or the torus cannot be cut so.
    """
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    options: dict[str, Any] = {}
    make: Callable[..., np.ndarray] = mesh_utils.create_device_mesh
    if slices > 1 and devices[0].platform == "tpu":
        data = math.gcd(sizes[0], slices)
        across = [data, slices // data, 1, 1]
        if sizes[1] % across[1]:
            raise SignerError(
                f"{asked}: the devices are {slices} slices of {len(devices) // slices}, joined by a slower network "
                f"that only data and fsdp can cross; their product must be a multiple of {slices}"
            )
        make = mesh_utils.create_hybrid_device_mesh
        options["dcn_mesh_shape"] = across
        sizes = [size // ways for size, ways in zip(sizes, across, strict=True)]
    for split in (False, True):
        try:
            return make(tuple(sizes), devices=devices, allow_split_physical_axes=split, **options)
        except (NotImplementedError, ValueError, AssertionError) as error:
            reason = " ".join(str(error).split())
    raise SignerError(f"{asked}: these {len(devices)} devices cannot be laid out so ({reason}); choose another shape")


def path_name(path) -> str:
    """A tree path as `a/b/c`."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def tree_shardings(tree: Any, mesh: Mesh | AbstractMesh) -> Any:
    """A `NamedSharding` a leaf. Optimizer moments carry their parameter's path, so they are split alike.

    Warns (`LayoutWarning`) of large arrays that stay whole on every device (`left_whole`).
    """
    if faults := left_whole(tree, mesh):
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        warnings.warn(f"layout: a large array stays whole: {faults[0]}{more}", LayoutWarning, stacklevel=2)

    def sharding(path, leaf) -> NamedSharding:
        return NamedSharding(mesh, parameter_spec(path_name(path), leaf.shape, mesh.shape))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def check_split(tree: Any, mesh: Mesh | AbstractMesh) -> None:
    """Raises `SignerError` where a large array of a stage stays whole on every device (`left_whole`)."""
    if faults := left_whole(tree, mesh):
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise SignerError(
            f"layout: a large array stays whole: {faults[0]}{more}; choose sizes of config.mesh that divide it, or "
            "have it on every device by config.allow_whole=true"
        )


def left_whole(tree: Any, mesh: Mesh | AbstractMesh) -> list[str]:
    """What of a state's arrays is large and stays whole, or nearly so, on every device though the mesh splits others.

    The array, its size and why, a line each. Nothing where the mesh only has replicas (`data`).
    """
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            continue
        fault = parameter_fault(path_name(path), leaf.shape, np.dtype(leaf.dtype).itemsize, mesh.shape)
        found += [] if fault is None else [fault]
    return found


def abstract(shapes: Any, shardings: Any) -> Any:
    """Shapes, dtypes and shardings of a tree of arrays that there is not yet: to restore onto, to compile for."""
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, shardings)


HOST = "pinned_host"  # the host's memory, as far as a device reaches it


def reaches_host(device: Any) -> bool:
    """Whether a device reads and writes memory of the host's."""
    return any(memory.kind == HOST for memory in device.addressable_memories())


def in_host(shardings: Any, shapes: Any) -> Any:
    """The places of a tree's arrays in the host's memory, each part of its device's; numbers stay on the devices."""
    return jax.tree.map(lambda at, x: at.with_memory_kind(HOST) if x.ndim else at, shardings, shapes)


def each(function: Callable[[jax.Array], Any], here: Callable[[np.ndarray], Any]) -> Callable[[Any], Any]:
    """The function of each array of a tree: of those in this process's memory `here`, the same in numpy, for which
    nothing is compiled. Compiled for others, one at a time on one device, so that arrays of one shape share a program;
    where one lies on several, these all in one, since collectives of programs that run side by side may wait for each
    other.
    """
    one = jax.jit(function)
    together = jax.jit(lambda leaves: jax.tree.map(function, leaves))

    def held(leaf: Any) -> bool:
        return not isinstance(leaf, jax.Array) or [device.platform for device in leaf.devices()] == ["cpu"]

    def of(tree: Any) -> Any:
        leaves, structure = jax.tree.flatten(tree)
        others = [leaf for leaf in leaves if not held(leaf)]
        spread = any(len(leaf.devices()) > 1 for leaf in others)
        made = iter(together(others) if spread else map(one, others))
        return jax.tree.unflatten(structure, [here(np.asarray(x)) if held(x) else next(made) for x in leaves])

    return of


def from_memory(tree: Any) -> Any:
    """The tree, whose arrays that each of this process's CPU devices has whole are numpy's, without a copy.

    For arrays that are used up soon: until then jax keeps one more object of each, in no memory of its own.
    """

    def read(leaf: Any) -> Any:
        whole = isinstance(leaf, jax.Array) and leaf.is_fully_replicated and leaf.is_fully_addressable
        return np.asarray(leaf) if whole and all(device.platform == "cpu" for device in leaf.devices()) else leaf

    return jax.tree.map(read, tree)


def free(tree: Any) -> None:
    """Gives back the devices' memory of a tree's arrays at once, whoever still holds them."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array):
            leaf.delete()


def as_type(leaf: jax.Array, dtype: np.dtype) -> jax.Array:
    """The array in this type, where it lies; one of another type is used up."""
    if leaf.dtype == dtype:
        return leaf
    other = jax.block_until_ready(leaf.astype(dtype))
    free(leaf)
    return other


def placing(mesh: Mesh) -> Place:
    """Where a parameter of a path and shape goes: what reads parameters puts them there, each shard on its device."""
    return lambda name, shape: NamedSharding(mesh, parameter_spec(name, shape, mesh.shape))


def made(init: Callable[[], Any], shapes: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """Of the tree that `init` gives the leaves of these paths, by them, computed where they will lie.

    `shapes` says their shapes and types.
    """
    place = placing(mesh)

    def wanted() -> dict[str, jax.Array]:
        flat = flatten_dict(init(), sep="/")
        return {name: flat[name].astype(leaf.dtype) for name, leaf in shapes.items()}

    return jax.jit(wanted, out_shardings={name: place(name, leaf.shape) for name, leaf in shapes.items()})()


def laid_out(function: Callable[Inputs, Output], mesh: Mesh | AbstractMesh) -> Callable[Inputs, Output]:
    """The function, traced with the mesh in context: its modules' activations are split as the table says."""

    def on_mesh(*args: Inputs.args, **options: Inputs.kwargs) -> Output:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args, **options)

    return on_mesh


def on_mesh_of(params: Any) -> AbstractContextManager:
    """A context in which programs are traced as `laid_out` traces them, on the mesh that these parameters lie on.

    It changes nothing where they lie on one device.
    """
    for leaf in jax.tree.leaves(params):
        if isinstance(leaf, jax.Array) and isinstance(leaf.sharding, NamedSharding):
            return jax.sharding.use_abstract_mesh(leaf.sharding.mesh.abstract_mesh)
    return nullcontext()


def batch_sharding(mesh: Mesh | AbstractMesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(MESH_AXES["batch"].activation))


def batch_ways(mesh: Mesh | AbstractMesh) -> int:
    """Among how many groups of devices a batch is split; the devices of a group hold the same rows."""
    axes = MESH_AXES["batch"].activation
    return int(np.prod([mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes or ())]))


def check_rows(batch: int, mesh: Mesh | AbstractMesh) -> None:
    """Raises `SignerError` where a batch does not divide among the devices that share it."""
    ways = batch_ways(mesh)
    if batch % ways:
        raise SignerError(f"batch {batch} does not divide among {ways} devices (mesh data x fsdp); choose a multiple")


def check_batch(stage: str, batch: int, accumulate: int, mesh: Mesh | AbstractMesh) -> None:
    """`check_rows` of each part of a stage's batch; the message has the config's own numbers."""
    ways = batch_ways(mesh)
    if batch // accumulate % ways:
        step = ways * accumulate
        parts = f" / accumulate {accumulate}" if accumulate > 1 else ""
        raise SignerError(
            f"config.train.{stage}.batch {batch}{parts} does not divide among {ways} devices (mesh data x fsdp); "
            f"nearest: {max(1, round(batch / step)) * step}"
        )


def local_rows(batch: int, mesh: Mesh) -> tuple[int, ...]:
    """The rows of a global batch that this process's devices hold, in order: what it has to read.

    Processes whose devices differ only along axes that do not split the batch (context, tensor) hold the same rows.
    Raises `SignerError` where the batch does not divide among the devices that share it.
    """
    check_rows(batch, mesh)
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


def by_rows(
    function: Callable[[Any, jax.Array], jax.Array], params: Any, ways: int
) -> Callable[[np.ndarray], np.ndarray]:
    """`function(params, rows)` of rows that are split among `ways` of this process's devices; each has all parameters.

    Each device runs the program that one device alone runs of so many rows, so that the numbers are the same. With one
    it runs where the parameters lie, else they are copied to where they do not lie yet.
    """
    if ways == 1:
        alone = jax.jit(function)
        return lambda rows: np.asarray(alone(params, jnp.asarray(rows)))
    mesh, whole, split = Mesh(jax.local_devices()[:ways], ("data",)), PartitionSpec(), PartitionSpec("data")
    held = jax.device_put(params, NamedSharding(mesh, whole))
    run = jax.jit(jax.shard_map(function, mesh=mesh, in_specs=(whole, split), out_specs=split, check_vma=False))
    return lambda rows: np.asarray(run(held, jax.device_put(rows, NamedSharding(mesh, split))))


def own_mesh(shape: Mapping[str, int], *, along: str = "fsdp") -> Mesh:
    """The mesh of what one process does alone (signing, evaluation), for a run whose mesh has this shape.

    One device where the run's parameters are whole on each, else all devices of the process: `along` "fsdp" they share
    the rows of a batch, along "context" a video's tokens, of which one window has many. Parameters are split alike.
    """
    devices = jax.local_devices()
    return _own(devices[:1] if _replicas(shape) else devices, along)


def _own(devices: Sequence[Any], along: str) -> Mesh:
    return make_mesh({along: -1}, sorted(devices, key=lambda device: device.id))


def _processes(mesh: Mesh) -> list[list[Any]]:
    """The mesh's devices by the processes that they belong to."""
    found: dict[int, list[Any]] = {}
    for device in mesh.devices.flat:
        found.setdefault(device.process_index, []).append(device)
    return [found[index] for index in sorted(found)]


def _replicas(shape: Mapping[str, int]) -> bool:
    """Whether every device of a mesh of this shape holds all parameters."""
    return all(shape.get(axis, 1) == 1 for axis in AXES if axis != "data")


def here(tree: Any, mesh: Mesh, *, along: str = "fsdp") -> Any:
    """The mesh's arrays on this process's own devices, as on its `own_mesh`: what one process does alone uses them.

    Of a single process they stay where they are; a mesh of fsdp and context alone is then taken to be `along` one.
    Every process of the mesh must call it: where they hold different shards, these go from device to device.
    """
    if _replicas(mesh.shape):
        return jax.tree.map(lambda leaf: leaf.addressable_shards[0].data, tree)
    if jax.process_count() == 1:
        return tree if mesh.shape[along] == mesh.size else _taken(tree, mesh, along)
    own = own_mesh(mesh.shape, along=along)
    # Each process's devices in the order that its own mesh has, which on a TPU is not that of their numbers.
    by_process = np.stack([_own(devices, along).devices for devices in _processes(mesh)])
    kinds = (AxisType.Auto,) * (1 + len(AXES))
    every = Mesh(by_process, ("process", *AXES), axis_types=kinds)

    def one(path, leaf: jax.Array) -> jax.Array:
        spec = parameter_spec(path_name(path), leaf.shape, own.shape)
        spread = jax.device_put(leaf, NamedSharding(every, spec))  # split within a process, the same in all
        lies = {shard.device: shard.data for shard in spread.addressable_shards}
        shards = [lies[device] for device in own.devices.flat]
        return jax.make_array_from_single_device_arrays(leaf.shape, NamedSharding(own, spec), shards)

    return jax.tree_util.tree_map_with_path(one, tree)


def check_room(tree: Any, mesh: Mesh, *, along: str = "fsdp") -> None:
    """Raises `SignerError` where a device of this process says that it has no memory for what `here` would put there,
    and for the largest array once more, as it comes.

    It is asked before: where one process failed in `here`, the others would wait for it there. A single one need not.
    """
    if jax.process_count() == 1 or _replicas(mesh.shape):
        return
    own = own_mesh(mesh.shape, along=along)

    def size(path, leaf: jax.Array) -> int:
        lies = NamedSharding(own, parameter_spec(path_name(path), leaf.shape, own.shape))
        return math.prod(lies.shard_shape(leaf.shape)) * leaf.dtype.itemsize

    sizes = jax.tree.leaves(jax.tree_util.tree_map_with_path(size, tree))
    needed = sum(sizes) + max(sizes, default=0)
    for device in own.devices.flat:
        if (free := _free(device)) is not None and free < needed:
            raise SignerError(
                f"they need {needed / 1e9:.1f} GB beside the training on each device of a process, and {device} has "
                f"{max(free, 0) / 1e9:.1f} GB"
            )


def _free(device: Any) -> int | None:
    """Bytes of a device that are free, None where the platform does not say."""
    stats = device.memory_stats() or {}
    return stats["bytes_limit"] - stats["bytes_in_use"] if {"bytes_limit", "bytes_in_use"} <= stats.keys() else None


def _taken(tree: Any, mesh: Mesh, along: str) -> Any:
    """The arrays as those of a mesh that has all devices along one axis; none is copied that lies so already."""
    if mesh.shape["data"] > 1 or mesh.shape["tensor"] > 1:
        return tree
    sizes = [mesh.size if axis == along else 1 for axis in AXES]
    one = Mesh(mesh.devices.reshape(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))

    def of(path, leaf: jax.Array) -> jax.Array:
        place = NamedSharding(one, parameter_spec(path_name(path), leaf.shape, one.shape))
        if not leaf.sharding.is_equivalent_to(place, leaf.ndim):
            return jax.device_put(leaf, place)
        lies = {shard.device: shard.data for shard in leaf.addressable_shards}
        shards = [lies[device] for device in one.devices.flat]
        return jax.make_array_from_single_device_arrays(leaf.shape, place, shards)

    return jax.tree_util.tree_map_with_path(of, tree)
