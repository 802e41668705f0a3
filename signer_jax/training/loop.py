"""The one train loop. A stage is an objective `(params, batch, rng) -> (loss, metrics)` and what it trains."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from signer_jax.errors import SignerError
from signer_jax.progress import progress
from signer_jax.training import partitioning
from signer_jax.training.checkpoints import Checkpoints, abstract
from signer_jax.training.monitoring import Monitor
from signer_jax.training.optimizer import Optimisation, optimizer

Params = dict[str, Any]
Objective = Callable[[Params, dict[str, Array], jax.Array], tuple[Array, dict[str, Array]]]


@struct.dataclass
class TrainState:
    """What a step changes, and what a checkpoint keeps beside the data's position."""

    step: Array
    params: Params  # only what this stage trains
    opt_state: Any
    rng: Array  # never used itself: step k draws from fold_in(rng, k)


@dataclass(frozen=True)
class Stage:
    """One stage of training."""

    name: str
    objective: Objective
    trained: tuple[str, ...]  # keys of the parameters that it changes; the rest is frozen
    optimisation: Optimisation

    @property
    def steps(self) -> int:
        return self.optimisation.steps


def make_step(stage: Stage, tx: optax.GradientTransformation) -> Callable:
    """`step(state, frozen, batch) -> (state, metrics)`, pure."""

    def step(state: TrainState, frozen: Params, batch: dict[str, Array]) -> tuple[TrainState, dict[str, Array]]:
        rng = jax.random.fold_in(state.rng, state.step)

        def loss_of(params: Params) -> tuple[Array, dict[str, Array]]:
            return stage.objective({**frozen, **params}, batch, rng)

        (loss, metrics), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = tx.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients), **metrics}
        return replace(state, step=state.step + 1, params=params, opt_state=opt_state), metrics

    return step


def fit(
    stage: Stage,
    params: Params,
    batches: grain.DatasetIterator,
    *,
    mesh: jax.sharding.Mesh,
    seed: int,
    checkpoints: Checkpoints,
    monitor: Monitor,
    log_every: int,
    checkpoint_every: int,
) -> Params:
    """Trains a stage to its last step, from its newest checkpoint; returns all parameters, on the host.

    Raises `SignerError` where the loss, or anything that a checkpoint would hold, stops being finite: it is looked at
    before every save, so the checkpoints before it are whole.
    """
    # ---- State, on the mesh ----------------------------------------------------------------------------------------
    tx = optimizer(stage.optimisation)
    trained = {name: params[name] for name in stage.trained}
    frozen = {name: value for name, value in params.items() if name not in stage.trained}

    def initial(trained: Params) -> TrainState:
        return TrainState(
            jnp.zeros((), jnp.int32), trained, tx.init(trained), jax.random.key_data(jax.random.key(seed))
        )

    shardings = partitioning.tree_shardings(jax.eval_shape(initial, trained), mesh)
    trained = jax.device_put(trained, shardings.params)
    state = jax.jit(initial, out_shardings=shardings)(trained)
    frozen = jax.device_put(frozen, partitioning.tree_shardings(frozen, mesh))

    # ---- Resume ---------------------------------------------------------------------------------------------------
    if checkpoints.latest() is not None:
        state = checkpoints.restore(abstract(state), batches)
    first = int(state.step)

    # ---- Steps ----------------------------------------------------------------------------------------------------
    step = jax.jit(_with_key(make_step(stage, tx)), donate_argnums=0, out_shardings=(shardings, None))
    log_every = max(1, min(log_every, stage.steps // 10))  # a short stage has a curve too
    started, logged = time.perf_counter(), first
    bar = progress(range(first, stage.steps), stage.name, initial=first, total=stage.steps)
    for k in bar:
        state, metrics = step(state, frozen, partitioning.put_batch(next(batches), mesh))
        last = k + 1 == stage.steps
        if (k + 1) % log_every == 0 or last:
            values = {name: float(value) for name, value in metrics.items()}
            if not np.isfinite(values["loss"]):
                raise _diverged(stage, k + 1, f"the loss is {values['loss']}", checkpoints)
            now = time.perf_counter()
            values["steps_per_second"] = (k + 1 - logged) / (now - started)
            started, logged = now, k + 1
            monitor.scalars(stage.name, k + 1, values)
            bar.set_postfix(loss=f"{values['loss']:.3f}")
        if (k + 1) % checkpoint_every == 0 or last:
            if not all_finite(state):
                raise _diverged(stage, k + 1, "the parameters or the optimizer's state are not finite", checkpoints)
            checkpoints.save(k + 1, state, batches)
    checkpoints.wait()
    return {**params, **partitioning.to_host(state.params)}


@jax.jit
def all_finite(tree: Any) -> Array:
    """Whether no array of the tree holds a NaN or an infinity."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def _diverged(stage: Stage, step: int, what: str, checkpoints: Checkpoints) -> SignerError:
    checkpoints.wait()
    latest = checkpoints.latest()
    kept = "no checkpoint was saved before" if latest is None else f"the checkpoint of step {latest} is whole"
    rate = f"config.train.{stage.name}.learning_rate ({stage.optimisation.learning_rate:g})"
    return SignerError(f"stage {stage.name!r}: {what} at step {step}; {kept}; start a new run with a lower {rate}")


def _with_key(step: Callable) -> Callable:
    """Checkpoints hold the key's raw words; the step wants a typed key."""

    def wrapped(state: TrainState, frozen: Params, batch: dict[str, Array]) -> tuple[TrainState, dict[str, Array]]:
        raw = state.rng
        new, metrics = step(replace(state, rng=jax.random.wrap_key_data(raw)), frozen, batch)
        return replace(new, rng=raw), metrics

    return wrapped
