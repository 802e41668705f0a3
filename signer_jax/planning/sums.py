"""What `tensor` has chips add up, by arithmetic: the products of a layer whose factors it splits where they are summed.

A kernel that is split along what a product sums over gives each chip a part of the result: the second kernel of a pair
(attention's `out`, the feed-forward's `wo`) on the way there, the first (`query`, `wi`) on the way back. The parts lie
on all chips of `tensor`, which add them up.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import Literal, jaxprs_in_params

_PART = -1  # of a value: one of the parts of a sum; else the axis of a parameter that is split, or None

# The parameter itself, in another type, at another place in a program, or times a number.
_SAME = frozenset({
    "convert_element_type", "copy", "sharding_constraint", "name", "reduce_precision", "optimization_barrier", "mul",
    "div", "neg", "slice", "dynamic_slice", "device_put",
})  # fmt: skip


def added(jaxpr: Any, split: Sequence[int | None], size: Callable[[Any], int]) -> float:
    """Bytes of the sums on one chip, loops as often as they run, of several branches the one with most.

    `split`: of each input, the axis that is split along `tensor`; `size`: how much of an array of this shape a chip
    has. Parts that are added to each other are summed once, as XLA does: queries', keys' and values' gradients.
    """
    return _settled(jaxpr, split, size)[0]


def _settled(jaxpr: Any, split: Sequence[int | None], size: Callable[[Any], int]) -> tuple[float, list[int | None]]:
    """The same, and the results' axes: those that are parts have been added up."""
    total, results = _walk(jaxpr, split, size)
    for var, axis in zip(jaxpr.outvars, results, strict=True):
        total += size(var.aval) if axis == _PART else 0
    return total, [None if axis == _PART else axis for axis in results]


def _walk(jaxpr: Any, split: Sequence[int | None], size: Callable[[Any], int]) -> tuple[float, list[int | None]]:
    axes, total = dict(zip(jaxpr.invars, split, strict=True)), 0.0

    def axis(atom: Any) -> int | None:
        return None if isinstance(atom, Literal) else axes.get(atom)

    for equation in jaxpr.eqns:
        read = [axis(atom) for atom in equation.invars]
        if equation.primitive.name in ("add", "add_any") and set(read) == {_PART}:
            axes[equation.outvars[0]] = _PART
            continue
        for atom in equation.invars:
            if axis(atom) == _PART:  # all others read the sum
                total += size(atom.aval)
                axes[atom] = None
        more, results = _equation(equation, [axis(atom) for atom in equation.invars], size)
        total += more
        axes |= dict(zip(equation.outvars, results, strict=True))
    return total, [axis(atom) for atom in jaxpr.outvars]


def _equation(equation: Any, read: list[int | None], size: Callable[[Any], int]) -> tuple[float, Sequence[int | None]]:
    name, params = equation.primitive.name, equation.params
    nothing: list[int | None] = [None] * len(equation.outvars)
    inner = [] if name == "shard_map" else list(jaxprs_in_params(params))
    if name == "scan":
        fixed, carried = params["num_consts"], params["num_carry"]
        rows = [axis - 1 if axis else None for axis in read[fixed + carried :]]
        total, results = _settled(inner[0], [*read[:fixed], *[None] * carried, *rows], size)
        stacked = [None if axis is None else axis + 1 for axis in results[carried:]]
        return params["length"] * total, [*[None] * carried, *stacked]
    if name == "cond":
        return max(_settled(one, read[1:], size)[0] for one in inner), nothing
    if len(inner) == 1 and len(inner[0].invars) == len(read):
        return _walk(inner[0], read, size)
    if inner:
        return sum(_settled(one, [None] * len(one.invars), size)[0] for one in inner), nothing
    if not any(axis is not None for axis in read):
        return 0.0, nothing
    if name == "dot_general":
        summed = params["dimension_numbers"][0]
        return 0.0, [_PART if any(axis in over for axis, over in zip(read, summed, strict=True)) else None]
    if name == "gather":  # rows of a table that chips have parts of
        return 0.0, [_PART if read[0] in params["dimension_numbers"].start_index_map else None]
    if name == "transpose":
        return 0.0, [params["permutation"].index(read[0])]
    if name == "squeeze":
        return 0.0, [read[0] - sum(one < read[0] for one in params["dimensions"])]  # type: ignore[operator]
    if name == "optimization_barrier":
        return 0.0, read
    if name in _SAME:
        return 0.0, [next(axis for axis in read if axis is not None)]
    return 0.0, nothing
