"""What a step takes by arithmetic on its shapes, where there is no compiler to ask: GPUs, from another machine.

Activations come from the step's gradient as it is written (its jaxpr, with what `remat` computes again): results of
products, convolutions, sums and loops lie in memory from where they are made to their last use; everything else is
taken to be fused into what reads it, the logits of long attention too (cuDNN's flash attention). What parameters move
between chips follows from the layout table.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal, jaxprs_in_params

from signer_jax.layout import AXES
from signer_jax.planning.steps import Step, held
from signer_jax.training import flops, partitioning
from signer_jax.training.loop import loss_of

# What has its result in memory of its own; all else is fused into its readers.
_MADE = frozenset({
    "dot_general", "conv_general_dilated", "scan", "while", "cond", "gather", "scatter", "scatter-add", "scatter_add",
    "concatenate", "sort", "cumsum", "reduce_sum", "reduce_max", "reduce_min", "argmax", "argmin", "rng_bit_generator",
    "threefry2x32", "random_bits", "dynamic_update_slice", "pallas_call", "shard_map", "triangular_solve", "ffi_call",
})  # fmt: skip


_LONG = 1 << 20  # logits of one head that a GPU's attention kernel is for


class Arithmetic(NamedTuple):
    """Of one chip and step."""

    activations: int
    gradients: int
    flops: float  # with what is computed twice
    moved: dict[str, float]
    sent: float
    touched: float


def of(step: Step) -> Arithmetic:
    """Activations are split as the batch is; what `tensor` splits of them, and moves for it, is not counted."""
    ways = partitioning.batch_ways(step.mesh)
    accumulate = step.stage.training.accumulate
    gradient, inputs, sizes = _gradient(step)
    peak, touched = _walk(jax.make_jaxpr(gradient)(*inputs).jaxpr, sizes)
    computed = accumulate * flops.forward(gradient, *inputs)
    gradients = sum(map(held, jax.tree.leaves(step.state.params)))
    moved, sent = _parameters_move(step)
    tensor = math.prod(size for axis, size in step.mesh.shape.items() if axis not in ("data", "fsdp"))
    states = sum(map(held, jax.tree.leaves((step.state.params, step.state.opt_state, step.state.ema))))
    return Arithmetic(
        int(peak / ways), gradients, computed / ways / tensor, moved, sent,
        accumulate * touched / ways + 2.0 * states + 3.0 * gradients,
    )  # fmt: skip


def largest(step: Step, most: int = 5) -> tuple[str, ...]:
    """The largest arrays that a step makes, a chip's part of each, with the modules that make them; a line each."""
    gradient, inputs, sizes = _gradient(step)
    ways, found = partitioning.batch_ways(step.mesh), {}

    def look(jaxpr: Any) -> None:
        for equation in jaxpr.eqns:
            for var in equation.outvars if _made(equation) else ():
                size = sizes.of(var.aval) // ways
                name = re.sub(r"\w+\((.*?)\)", r"\1", str(equation.source_info.name_stack)) or equation.primitive.name
                found[f"{size / (1 << 30):.2f} GiB {var.aval.str_short()} / {ways} of {name}"] = size
            for inner in jaxprs_in_params(equation.params):
                look(inner)

    look(jax.make_jaxpr(gradient)(*inputs).jaxpr)
    return tuple(sorted(found, key=lambda line: -found[line])[:most])


def _gradient(step: Step) -> tuple[Callable, tuple, "_Sizes"]:
    """The gradient of a part of the batch and its (abstract) inputs; the sizes of what is no parameter."""
    part = {
        name: jax.ShapeDtypeStruct((leaf.shape[0] // step.stage.training.accumulate, *leaf.shape[1:]), leaf.dtype)
        for name, leaf in step.batch.items()
    }
    gradient = partitioning.laid_out(jax.value_and_grad(loss_of(step.stage), has_aux=True), step.mesh)
    shapes = {leaf.shape for leaf in jax.tree.leaves(step.state.params)}
    sizes = _Sizes(frozenset(shapes | {shape[1:] for shape in shapes if len(shape) > 1}))
    return gradient, (step.state.params, step.frozen, part, jax.random.key(0)), sizes


def _parameters_move(step: Step) -> tuple[dict[str, float], float]:
    """All-gathers before use, forward and backward, in the compute type; gradients scattered, and summed over data."""
    moved: dict[str, float] = defaultdict(float)
    sent = 0.0
    itemsize = jnp.dtype(step.dtype).itemsize
    data, fsdp = (step.mesh.shape[axis] for axis in ("data", "fsdp"))
    for trains, tree in ((True, step.state.params), (False, step.frozen)):
        for leaf in jax.tree.leaves(tree):
            split = _splits(leaf, "fsdp")
            size = held(leaf) // leaf.dtype.itemsize * itemsize * (fsdp if split else 1)
            if split and fsdp > 1:
                moved["all-gather"] += 2.0 * size
                sent += 2.0 * size * (fsdp - 1) / fsdp
            if trains and split and fsdp > 1:
                moved["reduce-scatter"] += size / fsdp
                sent += size * (fsdp - 1) / fsdp
            others = data * (1 if split else fsdp)
            if trains and others > 1:
                shard = size / (fsdp if split else 1)
                moved["all-reduce"] += shard
                sent += 2.0 * shard * (others - 1) / others
    return dict(moved), sent


def _splits(leaf: jax.ShapeDtypeStruct, axis: str) -> bool:
    assert axis in AXES
    spec: Any = getattr(leaf.sharding, "spec", ())
    return any(axis == part or (isinstance(part, tuple) and axis in part) for part in spec)


# ---- Memory of a jaxpr -----------------------------------------------------------------------------------------------


class _Sizes(NamedTuple):
    parameters: frozenset[tuple[int, ...]]  # shapes that are parameters' or their gradients', which count elsewhere

    def of(self, aval: Any) -> int:
        if not hasattr(aval, "shape") or tuple(aval.shape) in self.parameters:
            return 0
        return math.prod(aval.shape) * getattr(aval.dtype, "itemsize", 8)  # 8: a key


class _Value:
    """A variable: its place in a jaxpr, which may be inlined several times, and its shape."""

    def __init__(self, aval: Any) -> None:
        self.aval = aval


class _Operation(NamedTuple):
    equation: Any
    reads: list[_Value]
    writes: list[_Value]


def _walk(jaxpr: Any, sizes: _Sizes) -> tuple[int, float]:
    """The most bytes that its own values take at once, without its inputs, and how many are read and written in all."""
    given = [_Value(var.aval) for var in jaxpr.invars]
    operations: list[_Operation] = []
    results = _inlined(jaxpr, given, operations)
    made = [_made(operation.equation) for operation in operations]
    uses: dict[_Value, int] = {}  # of what lies in memory, its last
    behind: dict[_Value, set[_Value]] = {}  # what a fused value is read from

    def sources(values: Iterable[_Value]) -> set[_Value]:
        return set().union(*(behind.get(value, {value}) for value in values))

    for i, (_, reads, writes) in enumerate(operations):
        read = sources(reads)
        if made[i]:
            uses |= dict.fromkeys(read, i)
        else:
            behind |= dict.fromkeys(writes, read)
    uses |= dict.fromkeys(sources(results), len(operations))

    ends: dict[int, list[_Value]] = defaultdict(list)
    for value, last in uses.items():
        ends[last].append(value)
    live, peak, touched = 0, 0, 0.0
    own: set[_Value] = set()
    for i, (equation, reads, writes) in enumerate(operations):
        if not made[i]:
            continue
        kept = [value for value in writes if value in uses]
        own |= set(kept)
        size = sum(sizes.of(value.aval) for value in kept)
        inside, through = _inside(equation, sizes)
        peak = max(peak, live + size + inside)
        live += size
        touched += through if through else size + sum(sizes.of(value.aval) for value in sources(reads))
        live -= sum(sizes.of(value.aval) for value in ends[i] if value in own)
    return peak, touched


def _inlined(jaxpr: Any, given: list[_Value], operations: list[_Operation]) -> list[_Value]:
    """Adds the jaxpr's operations in their order, those of the functions that it calls in these functions' place."""
    values = dict(zip(jaxpr.invars, given, strict=True)) | {var: _Value(var.aval) for var in jaxpr.constvars}

    def value(atom: Any) -> _Value:
        return _Value(None) if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        reads = list(map(value, equation.invars))
        inner = list(jaxprs_in_params(equation.params)) if equation.primitive.name not in _MADE else []
        if len(inner) == 1 and len(inner[0].invars) == len(reads):
            writes = _inlined(inner[0], reads, operations)
        else:
            writes = [_Value(var.aval) for var in equation.outvars]
            operations.append(_Operation(equation, reads, writes))
        values |= dict(zip(equation.outvars, writes, strict=True))
    return list(map(value, jaxpr.outvars))


def _made(equation: Any) -> bool:
    """Whether an equation has results of its own in memory."""
    return equation.primitive.name in _MADE and not _in_a_kernel(equation)


def _in_a_kernel(equation: Any) -> bool:
    """Whether a product makes the logits of long attention, or their gradients, which flash attention never writes."""
    if equation.primitive.name != "dot_general":
        return False
    _, (batch, _) = equation.params["dimension_numbers"]
    shape = equation.outvars[0].aval.shape
    return bool(batch) and math.prod(shape[len(batch) :]) >= _LONG


def _inside(equation: Any, sizes: _Sizes) -> tuple[int, float]:
    """Of the functions that an equation calls: the most that one takes beside its results, and what all of it moves."""
    name, params = equation.primitive.name, equation.params
    if name == "cond" and (platforms := params.get("branches_platforms")):  # the form for GPUs, or for all others
        chosen = next(i for i, some in enumerate(platforms) if some is None or "cuda" in some)
        return _walk(params["branches"][chosen].jaxpr, sizes)
    walks = [_walk(inner, sizes) for inner in jaxprs_in_params(params)]
    if not walks:
        return 0, 0.0
    if name == "cond":
        return max(peak for peak, _ in walks), max(touched for _, touched in walks)
    times = params["length"] if name == "scan" else 1
    devices = flops.sharing(params) if name == "shard_map" else 1  # its function is one device's
    return devices * max(peak for peak, _ in walks), devices * times * sum(touched for _, touched in walks)
