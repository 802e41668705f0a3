"""The FLOPs that a model needs, read from its functions as they are written, at the shapes that they are given.

Products and convolutions alone, those within cuDNN's attention too. A loop counts as often as it runs, of several
branches the one that costs most: of two experts one is run, and of a function's forms for several platforms one is
compiled.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Literal, jaxprs_in_params

from signer_jax.renderer import cudnn


def forward(function: Callable, *args: Any) -> float:
    """Of one call; the arguments may be shapes."""
    return _Counting().count(jax.make_jaxpr(function)(*args).jaxpr, None)[0]


def training(function: Callable, moving: Any, *args: Any) -> float:
    """Of a call of `function(moving, *args)` and its gradient by `moving`, nothing computed twice.

    A product whose result reaches the function's by a way that has a gradient costs as much again for each of its
    factors that depends on what trains: three times the forward pass where all of a model trains, twice where only
    something before a frozen layer does, once before the first that does.
    """
    jaxpr = jax.make_jaxpr(function)(moving, *args).jaxpr
    trained = len(jax.tree.leaves(moving))
    once, again, _ = _Counting().count(jaxpr, [i < trained for i in range(len(jaxpr.invars))])
    return once + again


def kernels(jaxpr: Any) -> float:
    """Of one device, what a traced program's kernels (`pallas_call`, cuDNN's) compute: its text does not say it.

    A call that gives nothing is not run: jax leaves the forward kernel so in a backward pass that has its results kept.
    """
    total = 0.0
    for equation in (equation for equation in jaxpr.eqns if equation.outvars):
        name, params = equation.primitive.name, equation.params
        inner = list(jaxprs_in_params(params))
        if name == "pallas_call":
            said = params.get("cost_estimate") is not None  # then the text says it
            total += 0.0 if said else _grid(params) * sum(_Counting().count(one, None)[0] for one in inner)
        elif name in cudnn.FORWARD or name in cudnn.BACKWARD:
            total += _attention(equation)
        elif name == "cond":
            total += max((kernels(one) for one in inner), default=0.0)
        else:
            total += (params["length"] if name == "scan" else 1) * sum(map(kernels, inner))
    return total


class _Counting:
    """One walk over a function; what is found of functions within it is kept, since they are asked for again."""

    def __init__(self) -> None:
        self._wanted: dict[tuple[int, tuple[bool, ...]], frozenset[Any]] = {}

    def count(
        self, jaxpr: Any, inputs: Sequence[bool] | None, outputs: Sequence[bool] | None = None
    ) -> tuple[float, float, list[bool]]:
        """Forward FLOPs, those of the gradients, and which results depend on what trains.

        `inputs` says which of the inputs do (None: none), `outputs` by which results the gradient comes (None: all).
        """
        inputs = [False] * len(jaxpr.invars) if inputs is None else inputs
        depends = dict(zip(jaxpr.invars, inputs, strict=True))
        wanted = self.wanted(jaxpr, [True] * len(jaxpr.outvars) if outputs is None else outputs)

        def moves(atom: Any) -> bool:
            return not isinstance(atom, Literal) and depends.get(atom, False)

        once = again = 0.0
        for equation in jaxpr.eqns:
            given = [moves(atom) for atom in equation.invars]
            cost, more, results = self._equation(equation, given, [var in wanted for var in equation.outvars])
            once, again = once + cost, again + more
            depends |= dict(zip(equation.outvars, results, strict=True))
        return once, again, [moves(atom) for atom in jaxpr.outvars]

    def wanted(self, jaxpr: Any, outputs: Sequence[bool]) -> frozenset[Any]:
        """The variables from which a way leads to these results that has a gradient."""
        key = (id(jaxpr), tuple(outputs))
        if key not in self._wanted:
            found = {
                atom
                for atom, wants in zip(jaxpr.outvars, outputs, strict=True)
                if wants and not isinstance(atom, Literal)
            }
            for equation in reversed(jaxpr.eqns):
                wants = [var in found for var in equation.outvars]
                if any(wants):
                    reached = zip(equation.invars, self._reached(equation, wants), strict=True)
                    found |= {atom for atom, reaches in reached if reaches and not isinstance(atom, Literal)}
            self._wanted[key] = frozenset(found)
        return self._wanted[key]

    def _reached(self, equation: Any, wants: list[bool]) -> list[bool]:
        """Which of an equation's inputs a way leads from to the results that are wanted."""
        name, params = equation.primitive.name, equation.params
        every = [True] * len(equation.invars)
        if name == "stop_gradient":
            return [False] * len(every)
        if name == "cond":
            branches = [self._inputs(branch.jaxpr, wants) for branch in params["branches"]]
            return [True, *map(any, zip(*branches, strict=True))]
        inner = _one_inside(equation)
        if inner is None:
            return every
        if name != "scan":
            return self._inputs(inner, wants)
        constants, carried = _constants_and_carried(params)
        while True:  # what a round's carry is wanted for, the round before makes
            found = self._inputs(inner, wants)
            before = [a or b for a, b in zip(wants[:carried], found[constants : constants + carried], strict=True)]
            if before == wants[:carried]:
                return found
            wants = before + wants[carried:]

    def _inputs(self, jaxpr: Any, outputs: Sequence[bool]) -> list[bool]:
        wanted = self.wanted(jaxpr, outputs)
        return [var in wanted for var in jaxpr.invars]

    def _equation(self, equation: Any, given: list[bool], wants: list[bool]) -> tuple[float, float, list[bool]]:
        name, params = equation.primitive.name, equation.params
        results = [any(given)] * len(equation.outvars)
        if name in ("dot_general", "conv_general_dilated"):
            cost = _product(equation)
            return cost, cost * sum(given[:2]) * any(wants), results
        if name in cudnn.FORWARD or name in cudnn.BACKWARD:
            q, k, v = given[:3]
            cost = _attention(equation)
            factors = q + k + (q or k) + v  # of q kᵀ, and of the softmax's product with v
            return cost, cost / 2 * factors * any(wants), results
        if name == "stop_gradient":
            return 0.0, 0.0, [False] * len(results)
        if name == "cond":
            branches = [self.count(branch.jaxpr, given[1:], wants) for branch in params["branches"]]
            once, again, _ = max(branches, key=lambda branch: branch[0] + branch[1])
            return once, again, [any(some) for some in zip(*(branch[2] for branch in branches), strict=True)]
        if (estimate := params.get("cost_estimate")) is not None:  # a kernel that says it itself
            cost = float(estimate.flops)
            return cost, 2.0 * cost * (any(given) and any(wants)), results
        inner = _one_inside(equation)
        if inner is not None and name == "scan":
            return self._scan(inner, params, given, wants)
        times = sharing(params) if name == "shard_map" else _grid(params)
        if inner is not None:
            once, again, results = self.count(inner, given, wants)
            return times * once, times * again, results
        counts = [self.count(one, [any(given)] * len(one.invars)) for one in jaxprs_in_params(params)]
        once, again = times * sum(one[0] for one in counts), times * sum(one[1] for one in counts)
        if name == "pallas_call":  # a kernel writes its results, and nothing in it leads to them
            again = 2.0 * once * (any(given) and any(wants))
        return once, again, results

    def _scan(
        self, body: Any, params: dict[str, Any], given: list[bool], wants: list[bool]
    ) -> tuple[float, float, list[bool]]:
        constants, carried = _constants_and_carried(params)
        while True:  # what a round makes of the carry goes into the next, and the gradient comes back that way
            once, again, results = self.count(body, given, wants)
            carry = [a or b for a, b in zip(given[constants : constants + carried], results[:carried], strict=True)]
            found = self._inputs(body, wants)
            before = [a or b for a, b in zip(wants[:carried], found[constants : constants + carried], strict=True)]
            if carry == given[constants : constants + carried] and before == wants[:carried]:
                return params["length"] * once, params["length"] * again, results
            given = given[:constants] + carry + given[constants + carried :]
            wants = before + wants[carried:]


def _constants_and_carried(scan: dict[str, Any]) -> tuple[int, int]:
    """How many of a scan's inputs all rounds have the same, and how many each hands to the next."""
    if (inputs := scan.get("ft_in")) is None:  # before jax 0.11
        return scan["num_consts"], scan["num_carry"]
    constants, carried, _ = inputs.unpack()
    return len(constants), len(carried)


def _one_inside(equation: Any) -> Any:
    """The function that an equation calls, where it calls one with its own inputs and results; else None."""
    inner = list(jaxprs_in_params(equation.params))
    if len(inner) != 1 or equation.primitive.name in ("pallas_call", "while"):
        return None
    fits = len(inner[0].invars) == len(equation.invars) and len(inner[0].outvars) == len(equation.outvars)
    return inner[0] if fits else None


def _product(equation: Any) -> float:
    left, right, out = (*(atom.aval.shape for atom in equation.invars[:2]), equation.outvars[0].aval.shape)
    numbers = equation.params["dimension_numbers"]
    if equation.primitive.name == "dot_general":
        return 2.0 * math.prod(out) * math.prod(left[i] for i in numbers[0][0])
    return 2.0 * math.prod(out) * math.prod(right) / right[numbers.rhs_spec[0]]


def _attention(equation: Any) -> float:
    """Of cuDNN's attention, two products; of its gradient five, since it makes the softmax again."""
    queries, keys = (atom.aval.shape for atom in equation.invars[:2])  # [b, l, h, d], [b, m, h, d]
    return (4.0 if equation.primitive.name in cudnn.FORWARD else 10.0) * math.prod(queries) * keys[1]


def sharing(params: dict[str, Any]) -> int:
    """How many devices share the work of a `shard_map`, whose function is written for one: along axes that split it."""
    used = {name for spec in (*params["in_specs"], *params["out_specs"]) for part in spec if part is not None
            for name in ((part,) if isinstance(part, str) else part)}  # fmt: skip
    return math.prod(params["mesh"].shape[name] for name in used)


def _grid(params: dict[str, Any]) -> int:
    """How often a kernel's function is run."""
    grid = getattr(params.get("grid_mapping"), "grid", ())
    return math.prod(size for size in grid if isinstance(size, int))
