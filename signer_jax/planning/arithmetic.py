"""What a step takes by arithmetic on its shapes, where there is no compiler to ask: GPUs, from another machine.

Activations come from the step's gradient as it is written (its jaxpr, with what `remat` computes again): results of
products, convolutions, sums and loops lie in memory from where they are made to their last use; everything else is
taken to be fused into what reads it, the logits of long attention too. All is split as the batch is, and what has an
axis of tokens along `context` too. What parameters move between chips follows from the layout table, what attention
exchanges from the gradient (`traffic.py`), and so does what `tensor` has chips add up (`sums.py`).
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal, jaxprs_in_params

from signer_jax.chips import NODE
from signer_jax.planning import sums, traffic
from signer_jax.planning.steps import Step, held
from signer_jax.renderer import cudnn
from signer_jax.training import flops, partitioning
from signer_jax.training.loop import loss_of

# What has its result in memory of its own; all else is fused into its readers.
_MADE = frozenset({
    "dot_general", "conv_general_dilated", "scan", "while", "cond", "gather", "scatter", "scatter-add", "scatter_add",
    "concatenate", "sort", "cumsum", "reduce_sum", "reduce_max", "reduce_min", "argmax", "argmin", "rng_bit_generator",
    "threefry2x32", "random_bits", "dynamic_update_slice", "pallas_call", "shard_map", "triangular_solve", "ffi_call",
    "device_put", *cudnn.FORWARD, *cudnn.BACKWARD,
})  # fmt: skip


_LONG = 1 << 20  # logits of one head that a GPU's attention kernel is for


class Arithmetic(NamedTuple):
    """Of one chip and step."""

    activations: int
    gradients: int
    flops: float  # with what is computed twice
    moved: dict[str, float]
    sent: float
    near: float  # of it, what stays within a node
    touched: float


def of(step: Step) -> Arithmetic:
    """What `tensor` splits of activations is not counted: they are taken as whole.

    A stage without tokens does the same work on all chips of `context`; of one with tokens all work counts as split.
    """
    accumulate = step.stage.training.accumulate
    gradient, inputs, jaxpr, sizes = _gradient(step)
    peak, touched = _walk(jaxpr, sizes)
    computed = accumulate * flops.forward(gradient, *inputs)
    gradients = sum(map(held, jax.tree.leaves(step.state.params)))
    ways = sizes.ways * step.mesh.shape["tensor"] * (sizes.context if sizes.tokens else 1)
    states = sum(map(held, jax.tree.leaves((step.state.params, step.state.opt_state, step.state.ema))))
    between, within = _parameters_move(step, bool(sizes.tokens)), 0.0
    # Of the mesh's axes the last are nearest to each other (`layout.AXES`).
    tensor, context = step.mesh.shape["tensor"], step.mesh.shape["context"]
    added, exchanged = _activations_are_added(step, jaxpr, sizes), traffic.exchanged(jaxpr, step.mesh.shape)
    for found, chips in ((added, tensor), (exchanged, tensor * context)):
        between += found
        within += found.sent if NODE % chips == 0 else 0.0
    between = between.times(accumulate)
    return Arithmetic(
        int(peak), gradients, computed / ways, between.moved, between.sent, accumulate * within,
        accumulate * touched + 2.0 * states + 3.0 * gradients,
    )  # fmt: skip


def largest(step: Step, most: int = 5) -> tuple[str, ...]:
    """The largest arrays that a step makes, a chip's part of each, with the modules that make them; a line each."""
    _, _, whole, sizes = _gradient(step)
    found = {}

    def look(jaxpr: Any, sizes: _Sizes) -> None:
        for equation in jaxpr.eqns:
            for var in equation.outvars if _made(equation, sizes.flash) else ():
                size = sizes.of(var.aval)
                name = re.sub(r"\w+\((.*?)\)", r"\1", str(equation.source_info.name_stack)) or equation.primitive.name
                line = f"{size / (1 << 30):.2f} GiB {var.aval.str_short()} / {sizes.split(var.aval)} of {name}"
                found[line] = size
            for inner in jaxprs_in_params(equation.params):
                look(inner, sizes.inside(equation))

    look(whole, sizes)
    return tuple(sorted(found, key=lambda line: -found[line])[:most])


def _gradient(step: Step) -> tuple[Callable, tuple, Any, "_Sizes"]:
    """The gradient of a part of the batch, its (abstract) inputs, its jaxpr; a chip's sizes of what is no parameter."""
    part = {
        name: jax.ShapeDtypeStruct((leaf.shape[0] // step.stage.training.accumulate, *leaf.shape[1:]), leaf.dtype)
        for name, leaf in step.batch.items()
    }
    gradient = partitioning.laid_out(jax.value_and_grad(loss_of(step.stage), has_aux=True), step.mesh)
    shapes = {leaf.shape for leaf in jax.tree.leaves(step.state.params)}
    inputs = (step.state.params, step.frozen, part, jax.random.key(0))
    jaxpr = jax.make_jaxpr(gradient)(*inputs).jaxpr
    small = frozenset(shapes | {shape[1:] for shape in shapes if len(shape) > 1})
    tokens, parts = set[int](), dict[tuple[int, ...], int]()
    _look_for_splits(jaxpr, step.mesh, tokens, parts)
    ways, context = partitioning.batch_ways(step.mesh), step.mesh.shape["context"]
    return gradient, inputs, jaxpr, _Sizes(small, ways, context, frozenset(tokens), parts)


def _look_for_splits(jaxpr: Any, mesh: Any, tokens: set[int], parts: dict[tuple[int, ...], int]) -> None:
    """Adds the lengths of axes that are said to be split along `context` (`layout.constrain`), and among how many chips
    arrays of the shapes lie that `shard_map` gives.
    """
    for equation in jaxpr.eqns:
        shapes = [tuple(var.aval.shape) for var in equation.outvars]
        if equation.primitive.name == "sharding_constraint":
            axes = zip(equation.params["sharding"].spec, shapes[0], strict=False)
            tokens |= {size for part, size in axes if "context" in _names(part)}
        if equation.primitive.name == "shard_map":
            for shape, spec in zip(shapes, equation.params["out_specs"], strict=True):
                parts[shape] = _product(mesh, {axis for part in spec for axis in _names(part)})
        for inner in jaxprs_in_params(equation.params):
            _look_for_splits(inner, mesh, tokens, parts)


def _parameters_move(step: Step, tokens: bool) -> traffic.Traffic:
    """For a part of the batch, in the compute type. Gradients differ between chips with other rows, or other tokens."""
    itemsize, found = jnp.dtype(step.dtype).itemsize, traffic.NONE
    differ = ("data", "fsdp", "context") if tokens else ("data", "fsdp")
    for trains, tree in ((True, step.state.params), (False, step.frozen)):
        for leaf in jax.tree.leaves(tree):
            split = {axis for part in getattr(leaf.sharding, "spec", ()) for axis in _names(part)} - {"tensor"}
            part = float(held(leaf) // leaf.dtype.itemsize * itemsize)
            ways = _product(step.mesh, split)
            found += traffic.gathers(part, ways)
            if trains:
                scattered = _product(step.mesh, split.intersection(differ))
                found += traffic.gradient_sums(part * ways, scattered, _product(step.mesh, differ) // scattered)
    return found


def _activations_are_added(step: Step, jaxpr: Any, sizes: "_Sizes") -> traffic.Traffic:
    """Along `tensor`, for a part of the batch."""
    if (ways := step.mesh.shape["tensor"]) == 1:
        return traffic.NONE
    split = [_along_tensor(leaf) for leaf in jax.tree.leaves((step.state.params, step.frozen))]
    split += [None] * (len(jaxpr.invars) - len(split))
    return traffic.added(sums.added(jaxpr, split, sizes.of), ways)


def _along_tensor(leaf: Any) -> int | None:
    """The axis of a parameter that is split along `tensor`."""
    parts = list(map(_names, getattr(leaf.sharding, "spec", ())))
    return next((axis for axis, names in enumerate(parts) if "tensor" in names), None)


def _product(mesh: Any, axes: Iterable[str]) -> int:
    return math.prod(mesh.shape[axis] for axis in axes)


def _names(part: Any) -> tuple[str, ...]:
    return (part,) if isinstance(part, str) else part or ()


# ---- Memory of a jaxpr -----------------------------------------------------------------------------------------------


class _Sizes(NamedTuple):
    """How much of an array a chip holds."""

    parameters: frozenset[tuple[int, ...]]  # shapes that are parameters' or their gradients', which count elsewhere
    ways: int = 1  # of the batch
    context: int = 1
    tokens: frozenset[int] = frozenset()  # lengths of axes that are split along context
    parts: Mapping[tuple[int, ...], int] = MappingProxyType({})  # of what chips compute each by itself: among how many
    flash: bool = True  # whether long attention runs in a kernel

    def of(self, aval: Any) -> int:
        if not hasattr(aval, "shape") or tuple(aval.shape) in self.parameters:
            return 0
        if getattr(aval, "memory_space", None) == jax.memory.Space.Host:
            return 0
        return math.prod(aval.shape) * getattr(aval.dtype, "itemsize", 8) // self.split(aval)  # 8: a key

    def split(self, aval: Any) -> int:
        """Among how many chips."""
        shape = tuple(aval.shape)
        known = self.parts.get(shape) or self.parts.get(shape[1:])  # or a stack of them, of a loop over layers
        return known or self.ways * (self.context if self.tokens.intersection(shape) else 1)

    def inside(self, equation: Any) -> "_Sizes":
        """Of an equation's functions: that of a `shard_map` is a chip's own, in which a ring attends by products."""
        if equation.primitive.name != "shard_map":
            return self
        return _Sizes(self.parameters, flash=not any(map(_passes_round, jaxprs_in_params(equation.params))))


class _Value:
    """A variable: its place in a jaxpr, which may be inlined several times, and its shape."""

    def __init__(self, aval: Any) -> None:
        self.aval = aval


class _Operation(NamedTuple):
    equation: Any
    reads: list[_Value]
    writes: list[_Value]


def _walk(jaxpr: Any, sizes: _Sizes) -> tuple[int, float]:
    """Of a chip: the most bytes that values take at once, without the inputs, and how many are read and written."""
    given = [_Value(var.aval) for var in jaxpr.invars]
    operations: list[_Operation] = []
    results = _inlined(jaxpr, given, operations)
    made = [_made(operation.equation, sizes.flash) for operation in operations]
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


def _passes_round(jaxpr: Any) -> bool:
    """Whether chips pass arrays to their neighbours in it."""
    return any(
        equation.primitive.name == "ppermute" or any(map(_passes_round, jaxprs_in_params(equation.params)))
        for equation in jaxpr.eqns
    )


def _made(equation: Any, flash: bool) -> bool:
    """Whether an equation has results of its own in memory."""
    return equation.primitive.name in _MADE and not (flash and _in_a_kernel(equation))


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
    walks = [_walk(inner, sizes.inside(equation)) for inner in jaxprs_in_params(params)]
    if not walks:
        return 0, 0.0
    if name == "cond":
        return max(peak for peak, _ in walks), max(touched for _, touched in walks)
    times = params["length"] if name == "scan" else 1
    return max(peak for peak, _ in walks), times * sum(touched for _, touched in walks)
