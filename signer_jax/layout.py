"""The layout table: which axes parameters and activations have, and along which axes of the mesh they are split.

An axis has a logical name (those of t5x), and `MESH_AXES` says for each name where a parameter and where an activation
is split. The two differ on purpose: a batch is split over `data` and `fsdp` all the way through the network, and a
parameter over `fsdp` too, so that it must be gathered before it is used, one layer at a time, and its gradient is
scattered back. Left to itself the compiler keeps the parameters in their places instead, and then every device works on
the whole batch and sums activations: modules say at the borders of their blocks how activations lie (`constrain`).

`context` splits the video transformer's tokens and the autoencoder's pictures; its devices hold the same examples, so
they share the parameters' work as those of `fsdp` do. The axes stand in the order of what crosses them, the most last:
those lie nearest to each other.

Modules import this file and nothing else of the mesh; on one device `constrain` changes nothing.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

AXES = ("data", "fsdp", "context", "tensor")

MeshAxes = str | tuple[str, ...] | None


class Split(NamedTuple):
    """The axes of the mesh among which one logical axis is split."""

    parameter: MeshAxes
    activation: MeshAxes


MESH_AXES: dict[str, Split] = {
    "batch": Split(None, ("data", "fsdp")),
    "tokens": Split(None, "context"),  # of a video, in the video transformer
    "side": Split(None, "context"),  # of a video's pictures, in the autoencoder: its width or its height
    "length": Split(None, None),  # of a text, and whatever else every device holds whole
    "layers": Split(None, None),
    "embed": Split(("fsdp", "context"), None),
    "heads": Split("tensor", "tensor"),
    "mlp": Split("tensor", "tensor"),
    "vocab": Split("tensor", "tensor"),
}

# Parameter path -> the logical axes of its last dimensions; a leading stack of layers is never split. What no pattern
# finds is whole on every device: biases, norms, convolutions.
PARAMETER_AXES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"/lora_a$", ("embed", None)),
    (r"/lora_b$", (None, "embed")),
    (r"middle/attention/", ()),  # the autoencoder's, between convolutions, which are whole
    (r"token_embedding/embedding$", ("vocab", "embed")),
    (r"lm_head/kernel$", ("embed", "vocab")),
    (r"attention/(query|key|value|image_key|image_value)/kernel$", ("embed", "heads")),
    (r"attention/(query|key|value|image_key|image_value)/bias$", ("heads",)),
    (r"attention/out/kernel$", ("heads", "embed")),
    (r"(wi|wi_0|wi_1|text_in|image_in)/kernel$", ("embed", "mlp")),
    (r"(wi|wi_0|wi_1|text_in|image_in)/bias$", ("mlp",)),
    (r"(wo|text_out|image_out)/kernel$", ("mlp", "embed")),
    (r"(time_modulation|patch_projection)/kernel$", ("embed", None)),
    # A model of two experts has a folder for each.
    (r"transformer/(\w+/)?(patch_embedding|pose_patch_embedding|semantics|time_in|time_out)/kernel$", (None, "embed")),
    # Convolutions of what sees pixels, whole on purpose: TI2V's autoencoder takes 2.6 GiB of each device in float32.
    (r"(^|/)(vae|motion_encoder)/.*/kernel$", ()),
)

# Bytes on one device from which an array that might be split, and is not, is named: a thousandth of the smallest
# accelerator's memory (16 GB). Norms, biases and small models' matrices are below.
LARGE = 16 * 2**20


class LayoutWarning(UserWarning):
    """A large array is whole on every device: an activation, or a parameter that may (`config.allow_whole`)."""


# ---- Where an array lies ---------------------------------------------------------------------------------------------


def parameter_spec(name: str, shape: Sequence[int], mesh: Mapping[str, int]) -> PartitionSpec:
    """How the parameter of a path is split; `mesh` gives the size of each axis, 1 where it has none.

    Of the axes that a dimension is split along, as many as divide it, in their order; what stays whole though it is
    large says `parameter_fault`.
    """
    logical = _logical(name, shape)
    return PartitionSpec() if logical is None else _spec(name, logical, shape, mesh, "parameter")


def activation_spec(logical: Sequence[str | None], shape: Sequence[int], mesh: Mapping[str, int]) -> PartitionSpec:
    """How an activation is split whose dimensions have these logical names (None: whole)."""
    if len(logical) != len(shape):
        raise ValueError(f"layout: axes {tuple(logical)} are not those of an array of shape {tuple(shape)}")
    return _spec("an activation", logical, shape, mesh, "activation")


def naming_all(spec: PartitionSpec, mesh: Mapping[str, int]) -> PartitionSpec:
    """The same, with every axis of one device named, for `jax.shard_map`: it sums gradients along what is not named."""
    named = {axis for axes in spec for axis in _names(axes)}
    single = tuple(axis for axis in mesh if mesh[axis] == 1 and axis not in named)
    return PartitionSpec((*_names(spec[0]), *single), *spec[1:])


def parameter_fault(name: str, shape: Sequence[int], itemsize: int, mesh: Mapping[str, int]) -> str | None:
    """What is to be said of a parameter (or its moments) that is large and whole where it might be split."""
    ways = math.prod(mesh.get(axis, 1) for split in MESH_AXES.values() for axis in set(_names(split.parameter)))
    logical = _logical(name, shape)
    if ways == 1 or logical == ():  # whole by a rule of its own
        return None
    if logical is None:
        size = itemsize * math.prod(shape)
        why = "no rule of layout.PARAMETER_AXES finds it"
        return f"{name} {_sized(shape, size)}: {why}" if size >= LARGE else None
    return _fault(name, logical, shape, itemsize, mesh, "parameter")


def _logical(name: str, shape: Sequence[int]) -> tuple[str | None, ...] | None:
    """The logical axes of all dimensions of a parameter; () where its rule is to be whole, None where none finds it."""
    for pattern, logical in PARAMETER_AXES:
        if re.search(pattern, name) and len(logical) <= len(shape):
            return (None,) * (len(shape) - len(logical)) + logical if logical else ()
    return None


def _spec(
    what: str, logical: Sequence[str | None], shape: Sequence[int], mesh: Mapping[str, int], kind: str
) -> PartitionSpec:
    wanted = [_wanted(name, kind) for name in logical]
    used: dict[str, str | None] = {}
    for name, axes in zip(logical, wanted, strict=True):
        for axis in axes:
            if axis in used:
                raise ValueError(
                    f"layout: {what} of {list(shape)} has the axes {used[axis]!r} and {name!r}, and both are split "
                    f"along the mesh's {axis!r}; name one of them None"
                )
            used[axis] = name
    if not logical:
        return PartitionSpec()
    split = [_dividing(axes, size, mesh) for axes, size in zip(wanted, shape, strict=True)]
    return PartitionSpec(*(axes if len(axes) > 1 else axes[0] if axes else None for axes in split))


def _wanted(name: str | None, kind: str) -> tuple[str, ...]:
    """The axes of the mesh that the table gives a logical axis."""
    if name is None:
        return ()
    if name not in MESH_AXES:
        raise ValueError(f"layout: no rule for the axis {name!r}; give it one in layout.MESH_AXES")
    return _names(getattr(MESH_AXES[name], kind))


def _names(axes: MeshAxes) -> tuple[str, ...]:
    return (axes,) if isinstance(axes, str) else axes or ()


def _dividing(axes: tuple[str, ...], size: int, mesh: Mapping[str, int]) -> tuple[str, ...]:
    """The first axes of more than one device that divide a dimension together."""
    found: list[str] = []
    for axis in axes:
        ways = mesh.get(axis, 1)
        if size % ways:
            break
        if ways > 1:
            found.append(axis)
            size //= ways
    return tuple(found)


# ---- What stays whole ------------------------------------------------------------------------------------------------


def _fault(
    what: str, logical: Sequence[str | None], shape: Sequence[int], itemsize: int, mesh: Mapping[str, int], kind: str
) -> str | None:
    """Which axis of the mesh does not divide which dimension, where what a device then holds is large."""
    held, missed = itemsize, []
    for name, size in zip(logical, shape, strict=True):
        axes = _wanted(name, kind)
        split = _dividing(axes, size, mesh)
        held *= size // math.prod(mesh[axis] for axis in split)
        if left := [f"{axis} {mesh[axis]}" for axis in axes if mesh.get(axis, 1) > 1 and axis not in split]:
            missed.append(f"{' x '.join(left)} does not divide its {name} of {size}")
    if not missed or held < LARGE:
        return None
    return f"{what} {_sized(shape, held)}: config.mesh's {', '.join(missed)}"


def _sized(shape: Sequence[int], size: int) -> str:
    return f"{list(shape)}, {size / 2**20:,.0f} MiB on each device"


# ---- In a module -----------------------------------------------------------------------------------------------------


def constrain(x: jax.Array, *logical: str | None) -> jax.Array:
    """The same array, split as the table says where a mesh is in context (`partitioning.laid_out`); a name an axis.

    Its gradient is split alike. Without a mesh, and on a mesh of one device, it is `x`. Warns (`LayoutWarning`) where
    an axis of the mesh does not divide what it should split and a device holds much of it.
    """
    mesh = mesh_in_context()
    if mesh is None:
        return x
    spec = activation_spec(logical, x.shape, mesh.shape)
    if fault := _fault("an activation", logical, x.shape, x.dtype.itemsize, mesh.shape, "activation"):
        warnings.warn(f"layout: {fault}", LayoutWarning, stacklevel=2)
    return jax.lax.with_sharding_constraint(x, spec)


def ways(name: str) -> int:
    """Among how many devices an activation's logical axis is split by the mesh in context; 1 without one."""
    mesh = mesh_in_context()
    return 1 if mesh is None else math.prod(mesh.shape.get(axis, 1) for axis in _wanted(name, "activation"))


def mesh_in_context() -> AbstractMesh | None:
    """The mesh of several devices that programs are traced for; None on one device, and within a device's own part."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if on_one_device() or any(kind is not AxisType.Auto for kind in mesh.axis_types) else mesh


def on_one_device() -> bool:
    """Whether no mesh of several devices is in context."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.empty or mesh.size == 1


def platform() -> str:
    """What programs are traced for: the platform of the mesh in context, which need not be here, else the default."""
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    return jax.default_backend() if device is None else device.platform
