"""The layout table: which axes parameters and activations have, and along which axes of the mesh they are split.

An axis has a logical name (those of t5x), and `MESH_AXES` says for each name where a parameter and where an activation
is split. The two differ on purpose: a batch is split over `data` and `fsdp` all the way through the network, and a
parameter over `fsdp` too, so that it must be gathered before it is used, one layer at a time, and its gradient is
scattered back. Left to itself the compiler keeps the parameters in their places instead, and then every device works on
the whole batch and sums activations: modules say at the borders of their blocks how activations lie (`constrain`).

Modules import this file and nothing else of the mesh; on one device `constrain` changes nothing.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
from jax.sharding import AxisType, PartitionSpec

AXES = ("data", "fsdp", "tensor")

MeshAxes = str | tuple[str, ...] | None


class Split(NamedTuple):
    """The axes of the mesh among which one logical axis is split."""

    parameter: MeshAxes
    activation: MeshAxes


MESH_AXES: dict[str, Split] = {
    "batch": Split(None, ("data", "fsdp")),
    "length": Split(None, None),
    "layers": Split(None, None),
    "embed": Split("fsdp", None),
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
)


def parameter_spec(name: str, shape: Sequence[int], mesh: Mapping[str, int]) -> PartitionSpec:
    """How the parameter of a path is split; `mesh` gives the size of each axis.

    A dimension that its mesh axes do not divide stays whole.
    """
    for pattern, logical in PARAMETER_AXES:
        if re.search(pattern, name) and len(logical) <= len(shape):
            axes = [None] * (len(shape) - len(logical)) + [MESH_AXES[a].parameter if a else None for a in logical]
            return _spec(axes, shape, mesh)
    return PartitionSpec()


def activation_spec(logical: Sequence[str | None], shape: Sequence[int], mesh: Mapping[str, int]) -> PartitionSpec:
    """How an activation is split whose dimensions have these logical names (None: whole)."""
    if len(logical) != len(shape):
        raise ValueError(f"layout: axes {tuple(logical)} are not those of an array of shape {tuple(shape)}")
    if unknown := [name for name in logical if name is not None and name not in MESH_AXES]:
        raise ValueError(f"layout: no rule for the axis {unknown[0]!r}; give it one in layout.MESH_AXES")
    return _spec([MESH_AXES[name].activation if name else None for name in logical], shape, mesh)


def _spec(axes: Sequence[MeshAxes], shape: Sequence[int], mesh: Mapping[str, int]) -> PartitionSpec:
    def fitting(axes: MeshAxes, size: int) -> MeshAxes:
        ways = 1
        for axis in (axes,) if isinstance(axes, str) else axes or ():
            ways *= mesh[axis]
        return axes if size % ways == 0 else None

    return PartitionSpec(*(fitting(axis, size) for axis, size in zip(axes, shape, strict=True)))


def constrain(x: jax.Array, *logical: str | None) -> jax.Array:
    """The same array, split as the table says where a mesh is in context (`partitioning.laid_out`); a name an axis.

    Its gradient is split alike. Without a mesh, and on a mesh of one device, it is `x`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if on_one_device() or any(kind is not AxisType.Auto for kind in mesh.axis_types):
        return x
    return jax.lax.with_sharding_constraint(x, activation_spec(logical, x.shape, mesh.shape))


def on_one_device() -> bool:
    """Whether no mesh of several devices is in context."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.empty or mesh.size == 1
