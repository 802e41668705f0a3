"""From noise to latents: steps along the predicted velocity (`solvers`), with classifier-free guidance."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from signer_jax.renderer import solvers
from signer_jax.renderer.schedule import high_noise

Condition = TypeVar("Condition")  # any pytree of arrays whose first axis is the batch
Latents: TypeAlias = Float[jax.Array, "n t h w c"]
Field: TypeAlias = Callable[[Latents, Float[jax.Array, ""]], Latents]  # (x, σ) -> dx/dσ
Choice = TypeVar("Choice")
Carry = TypeVar("Carry")


@dataclass(frozen=True)
class Experts(Generic[Choice]):
    """Two models of one task, as Wan 2.2 has them: `high` at σ ≥ `boundary`, `low` below it.

    σ is the shifted level, the one that training is split at too (`schedule.high_noise`). Published: .875 for text to
    video, .9 for image to video.
    """

    boundary: float
    high: Choice
    low: Choice


@dataclass(frozen=True)
class Dropped(Generic[Condition]):
    """The conditions without one or several of them, and how far the velocity is led away from them (1: not at all)."""

    guidance: float
    condition: Condition


def guided(
    velocity: Callable[[Latents, Float[jax.Array, "n"], Condition], Latents],
    condition: Condition,
    dropped: Sequence[Dropped[Condition]] = (),
) -> Field:
    """v_cond + Σ (g_i − 1) (v_cond − v_i), all of it from one call on a batch of (1 + dropped) × b rows.

    With one set of dropped conditions that is v_null + g (v_cond − v_null). Text and pose that are dropped each alone
    have a guidance each. A set with guidance 1 says nothing and is not computed.

    Args:
      velocity: `velocity(x [n, ...], sigma [n], condition)`; it receives the conditions of all n rows, the full ones
        first.
      condition: a pytree, every leaf `[b, ...]`: text, image, control, its scale.
      dropped: each of the same structure.
    """
    dropped = [one for one in dropped if one.guidance != 1.0]
    if not dropped:
        return lambda x, sigma: velocity(x, jnp.full(x.shape[0], sigma), condition)
    parts = 1 + len(dropped)
    conditions = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), condition, *(one.condition for one in dropped))

    def field(x: jax.Array, sigma: jax.Array) -> jax.Array:
        v = velocity(jnp.concatenate([x] * parts), jnp.full(parts * x.shape[0], sigma), conditions)
        full, *others = jnp.split(v, parts)
        away = ((one.guidance - 1.0) * (full - other) for one, other in zip(dropped, others, strict=True))
        return full + sum(away)

    return field


def sample(
    velocity: Callable[[Latents, Float[jax.Array, "n"], Condition], Latents] | Experts,
    noise: Float[jax.Array, "b t h w c"],
    sigmas: Float[np.ndarray, "steps+1"],
    *,
    guidance: float,
    condition: Condition,
    null_condition: Condition | None = None,
    dropped: Sequence[Dropped[Condition]] = (),
    solver: solvers.Name = "euler",
) -> Float[jax.Array, "b t h w c"]:
    """Solves dx/dσ = v(x, σ) from `noise` at `sigmas[0]` to `sigmas[-1]`, one step a pair of levels.

    Args:
      velocity: see `guided`; of two experts each a velocity of its own.
      sigmas: known values, not traced: the solver's weights are made of them before anything is compiled.
      guidance: a Python number, since it decides what is compiled; how far to lead away from `null_condition`.
      condition, null_condition: pytrees of the same structure, see `guided`.
      dropped: further sets of dropped conditions, each with a guidance of its own.

    Raises:
      ValueError: guidance is not 1 and there is no `null_condition`; see also `solvers.solver`.
    """
    if guidance != 1.0:
        if null_condition is None:
            raise ValueError(f"sample: guidance {guidance} needs a null_condition to be guided away from")
        dropped = [Dropped(guidance, null_condition), *dropped]
    if isinstance(velocity, Experts):
        high, low = (guided(one, condition, dropped) for one in (velocity.high, velocity.low))
        return solve(Experts(velocity.boundary, high, low), noise, sigmas, solver=solver)
    return solve(guided(velocity, condition, dropped), noise, sigmas, solver=solver)


def solve(
    field: Field | Experts[Field],
    noise: Float[jax.Array, "b t h w c"],
    sigmas: Float[np.ndarray, "steps+1"],
    *,
    solver: solvers.Name,
) -> Float[jax.Array, "b t h w c"]:
    """`sample` of a field, one scan over the levels; two experts have a scan each, one after the other.

    What the solver remembers goes on from one expert to the other.
    """
    method = solvers.solver(solver, sigmas)
    state = method.start(noise)
    for chosen, steps in by_expert(field, sigmas):

        def step(state: solvers.State, row: jax.Array, chosen: Field = chosen) -> tuple[solvers.State, None]:
            return method.advance(state, chosen(state.x, row[0]), row), None

        state = jax.lax.scan(step, state, jnp.asarray(method.table[steps]))[0]
    return state.x


def by_expert(choice: Choice | Experts[Choice], sigmas: Float[np.ndarray, "steps+1"]) -> list[tuple[Choice, slice]]:
    """Who takes which steps, in order; an expert without a step is left out."""
    steps = len(sigmas) - 1
    if not isinstance(choice, Experts):
        return [(choice, slice(0, steps))]
    first_low = int(high_noise(np.asarray(sigmas[:-1]), choice.boundary).sum())  # the levels go down
    parts = (choice.high, slice(0, first_low)), (choice.low, slice(first_low, steps))
    return [(one, part) for one, part in parts if part.start < part.stop]


def steps(
    field: Field,
    method: solvers.Solver,
    state: solvers.State,
    first: int | Int[jax.Array, ""],
    last: int | Int[jax.Array, ""],
) -> solvers.State:
    """The solver's steps from `first` up to `last`. They may be traced: then one program takes all, or each alone, and
    gives the same numbers (`in_turn`).
    """
    table = jnp.asarray(method.table)

    def step(i: jax.Array, state: solvers.State) -> solvers.State:
        return method.advance(state, field(state.x, table[i, 0]), table[i])

    return jax.lax.fori_loop(first, last, step, state)


def in_turn(
    run: Callable[[Choice, Carry, Any, Any], Carry], carry: Carry, parts: Iterable[tuple[Choice, slice]], bar: tqdm
) -> Carry:
    """What `run(who, carry, first, last)` makes of all parts (`by_expert`): each in one call where nobody watches the
    bar, else a call for every count of it.
    """
    for who, part in parts:
        if bar.disable:
            carry = run(who, carry, part.start, part.stop)
            continue
        for i in range(part.start, part.stop):
            carry = jax.block_until_ready(run(who, carry, i, i + 1))
            bar.update()
    return carry


def colour(
    noise: Float[jax.Array, "b t h w z"], factor: Float[jax.Array, "z z"] | Float[jax.Array, "b z z"]
) -> Float[jax.Array, "b t h w z"]:
    """White noise to noise with the covariance F Fᵀ over the channels: every place's ε becomes F ε."""
    return jnp.einsum("bthwz,byz->bthwy", noise, jnp.broadcast_to(factor, (len(noise), *factor.shape[-2:])))


def shared_noise(
    rng: jax.Array, shape: tuple[int, int, int, int, int], *, shared: bool
) -> Float[jax.Array, "b t h w c"]:
    """Standard normal noise `[b, t, h, w, c]`; with `shared`, every frame of a clip has the same noise.

    One noise tensor for all frames takes the flicker of static pixels down to that of real video (WAN "Measured").
    """
    if not shared:
        return jax.random.normal(rng, shape)
    b, _, *rest = shape
    return jnp.broadcast_to(jax.random.normal(rng, (b, 1, *rest)), shape)
