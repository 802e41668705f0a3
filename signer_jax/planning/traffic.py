"""What a step's chips send each other, by arithmetic: parameters and their gradients, and what attention exchanges.

All of it is bytes of one chip and step, in rings: of n chips each sends n - 1 of the n parts of what all have together.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jax.extend.core import jaxprs_in_params


class Traffic(NamedTuple):
    moved: dict[str, float]  # by kind of collective: what it gives back, as in a compiled program
    sent: float

    def __add__(self, other: "Traffic") -> "Traffic":  # type: ignore[override]
        kinds = self.moved.keys() | other.moved.keys()
        moved = {kind: self.moved.get(kind, 0.0) + other.moved.get(kind, 0.0) for kind in sorted(kinds)}
        return Traffic(moved, self.sent + other.sent)

    def times(self, number: float) -> "Traffic":
        return Traffic({kind: number * size for kind, size in self.moved.items()}, number * self.sent)


NONE = Traffic({}, 0.0)


def gathers(held: float, ways: int) -> Traffic:
    """Of a parameter of which a chip holds `held` bytes, one of so many parts: whole before the forward and before the
    backward pass.
    """
    return Traffic({"all-gather": 2.0 * ways * held}, 2.0 * (ways - 1) * held) if ways > 1 else NONE


def gradient_sums(whole: float, scattered: int, summed: int) -> Traffic:
    """Of a gradient of `whole` bytes that `scattered` × `summed` chips have, each of its own rows or tokens.

    Scattered among the former, each of which keeps a part; the parts are summed, and given back, among the latter.
    """
    part = whole / scattered
    found = Traffic({"reduce-scatter": part}, (scattered - 1) * part) if scattered > 1 else NONE
    return found + added(part, summed)


def added(whole: float, ways: int) -> Traffic:
    """Of `whole` bytes of which each chip has a part of the sum: added up, on all of them."""
    return Traffic({"all-reduce": whole}, 2.0 * whole * (ways - 1) / ways) if whole and ways > 1 else NONE


def exchange(part: float, ways: int) -> Traffic:
    """An all-to-all of `part` bytes on each chip: heads for tokens, or back. One in `ways` of them stays."""
    return Traffic({"all-to-all": part}, part * (ways - 1) / ways)


def passing(part: float) -> Traffic:
    """Each chip's `part` bytes to its neighbour: keys, values or their gradients on their way round."""
    return Traffic({"collective-permute": part}, part)


def exchanged(jaxpr: Any, mesh: Mapping[str, int]) -> Traffic:
    """What a function, with its gradient, exchanges as it is written: in chips' own parts (`shard_map`), loops as often
    as they run, of several branches the one that sends most.

    Of an attention over n chips whose parts of q, k, v and of the result have p bytes (4 p in float32): by all-to-all
    four exchanges there and four back, three more where a block is computed again; by the ring 2 (n - 1) p there, and
    n (2 p + 2 · 4 p) back, where the float32 gradients of keys and values travel with them.
    """
    found = NONE
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name in ("all_to_all", "ppermute"):
            size = float(sum(math.prod(var.aval.shape) * var.aval.dtype.itemsize for var in equation.outvars))
            axes = params["axis_name"]
            ways = math.prod(mesh[axis] for axis in ((axes,) if isinstance(axes, str) else axes))
            found += exchange(size, ways) if name == "all_to_all" else passing(size)
            continue
        inner = [exchanged(one, mesh) for one in jaxprs_in_params(params)]
        if name == "cond":
            found += max(inner, key=lambda one: one.sent, default=NONE)
        else:
            for one in inner:
                found += one.times(params["length"] if name == "scan" else 1)
    return found
