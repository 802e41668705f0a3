"""A stage's training step as shapes: the state, the batch and the program, each array with its place on the mesh."""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, Mesh

from signer_jax.chips import CPU, Topology
from signer_jax.errors import SignerError
from signer_jax.layout import AXES, LayoutWarning
from signer_jax.planning import examples
from signer_jax.planning.weightless import Described
from signer_jax.renderer.attention import check_exchange
from signer_jax.settings import Settings
from signer_jax.training import partitioning
from signer_jax.training.held import Weights
from signer_jax.training.loop import Program, Stage, TrainState, needed_flops
from signer_jax.training.run import stage_of

AnyMesh = Mesh | AbstractMesh
LARGE = 64_000_000  # bytes of an array that is worth splitting


class Step(NamedTuple):
    """Everything is shapes, with shardings; nothing is allocated."""

    program: Program
    batch: dict[str, jax.ShapeDtypeStruct]
    dtype: str  # that it computes in
    needed: float  # FLOPs of the whole batch that the model needs, nothing computed twice

    @property
    def stage(self) -> Stage:
        return self.program.stage

    @property
    def mesh(self) -> AnyMesh:
        return self.program.mesh

    @property
    def state(self) -> TrainState:
        return self.program.state

    @property
    def frozen(self) -> Any:
        return self.program.frozen

    @property
    def rows(self) -> int:
        return self.stage.training.batch


def mesh_on(settings: Settings, topology: Topology, devices: list | None) -> AnyMesh:
    """The run's mesh on a topology's devices; without devices (GPUs) its sizes, and what kind they are.

    Raises `SignerError`.
    """
    shape = asdict(settings.mesh)
    try:
        if devices is not None:
            return partitioning.make_mesh(shape, devices)
        sizes = partitioning.mesh_sizes(shape, topology.size)
    except SignerError as error:
        raise SignerError(f"--topology {topology.name}: {error}") from None
    # What is traced on it is what a GPU runs, whatever this machine has.
    gpu = AbstractDevice(device_kind=topology.kind, num_cores=None, platform="gpu")
    return AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), abstract_device=gpu)


def check(name: str, settings: Settings, mesh: AnyMesh) -> None:
    """Raises `SignerError` where a stage's batch does not divide among the devices that share it."""
    c = settings.stage(name)
    partitioning.check_batch(name, c.batch, c.accumulate, cast(Mesh, mesh))


def make(name: str, settings: Settings, described: Described, mesh: AnyMesh) -> Step:
    """The step of a stage. Raises `SignerError` where what it trains names nothing, or as `check` does."""
    check(name, settings, mesh)
    if described.model.renderer is not None:
        check_exchange(settings.renderer.context_attention, described.model.renderer.transformer.heads, mesh.shape)
    stage = stage_of(name, described.model, settings, described.mask_id)
    nowhere = cast(Mesh, mesh)  # nothing is read onto it
    weights = Weights(settings, Path(), described.model, {}, {}, described.params, nowhere)
    trains, reads = weights.for_stage(name)
    if not settings.allow_whole:
        partitioning.check_split(weights.shapes_of(trains | reads), nowhere)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayoutWarning)  # the plan says it: `whole`
        program = Program(stage, weights.shapes_of(trains | reads), nowhere)
    batch = program.placed(examples.batch(name, settings, described.model))
    needed = needed_flops(stage, mesh, program.state.params, program.frozen, batch)
    return Step(program, batch, settings.dtype, needed)


def held(leaf: jax.ShapeDtypeStruct) -> int:
    """Bytes of an array that one device holds."""
    assert leaf.sharding is not None
    shape = leaf.sharding.shard_shape(leaf.shape)
    return jax.ShapeDtypeStruct(shape, leaf.dtype).size * leaf.dtype.itemsize


def numbers(tree: Any) -> int:
    """How many there are in a tree's arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def in_host(step: Step) -> int:
    """Bytes that lie in the host's memory between steps, for each device."""
    return held_by(step.state.opt_state, host=True)


def held_by(tree: Any, *, host: bool = False) -> int:
    """Bytes of a tree's arrays that one device holds, or the host for it."""
    kinds = [(leaf, leaf.sharding.memory_kind == partitioning.HOST) for leaf in jax.tree.leaves(tree)]
    return sum(held(leaf) for leaf, there in kinds if there == host)


def by_kind(step: Step) -> dict[str, int]:
    """Bytes that a device holds between steps, and the batch, by what they are."""
    trees = {
        "parameters that train": step.state.params,
        "optimizer state": step.state.opt_state,
        "running mean": step.state.ema,
        "frozen parameters": step.frozen,
        "batch": step.batch,
    }
    return {name: held_by(tree) for name, tree in trees.items()}


def whole(step: Step) -> dict[str, int]:
    """The large arrays that every device holds whole, by their paths, with their bytes; none on one device."""
    if step.mesh.size == 1:
        return {}
    trees = {"params": step.state.params, "opt_state": step.state.opt_state, "ema": step.state.ema,
             "frozen": step.frozen, "batch": step.batch}  # fmt: skip
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        size = leaf.size * leaf.dtype.itemsize
        if size > LARGE and held(leaf) == size:
            found[partitioning.path_name(path)] = size
    return found


def devices_of(topology: Topology) -> list | None:
    """What a program is compiled for: a described TPU's chips, or this process's own; None where nothing compiles.

    Raises `SignerError` where libtpu or virtual devices are missing, or the shape is none of that chip's.
    """
    if topology.kind == CPU:
        here = jax.devices("cpu")
        if len(here) < topology.size:
            raise SignerError(
                f"--topology {topology.name}: this process has {len(here)} virtual devices; set "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={topology.size}"
            )
        return here[: topology.size]
    if not topology.tpu:
        return None
    from jax.experimental import topologies

    try:
        several = {"num_slices": topology.slices} if topology.slices > 1 else {}
        return list(topologies.get_topology_desc(topology.slice_name, "tpu", **several).devices)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SignerError(
            f"--topology {topology.name}: libtpu describes no such slice ({reason}); give one of its shapes, such as "
            "v5e:4x4, v6e:8x8 or v5p:4x4x4"
        ) from None
