"""The one train loop. A stage is an objective `(params, batch, rng) -> (loss, metrics)` and what it trains.

Objectives are means over a batch's examples, so the mean over `accumulate` parts of one size is the whole batch's loss
and gradient. What an objective draws, or compares within a batch (the contrastive loss), it does within a part.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from signer_jax.distributed import in_steps, naming_the_lost
from signer_jax.errors import Preempted, SignerError
from signer_jax.progress import progress
from signer_jax.settings import Lora, Optimizers, Training
from signer_jax.training import bad_steps, flops, lora, meters, partitioning, preemption, trained
from signer_jax.training.checkpoints import Checkpoints, Damaged
from signer_jax.training.monitoring import Monitor
from signer_jax.training.optimizer import optimizer, rates
from signer_jax.training.profiling import profiled
from signer_jax.training.selection import Look, Score, Selection, record, told
from signer_jax.training.there import latest_step

Params = dict[str, Any]
Batch = dict[str, Array]
Objective = Callable[[Params, Batch, jax.Array], tuple[Array, dict[str, Array]]]


@struct.dataclass
class TrainState:
    """What a step changes, and what a checkpoint keeps beside the data's position."""

    step: Array
    params: Params  # only what this stage trains: whole parameters, and adapters beside those that stay
    ema: Params  # their running mean, or {} where none is kept
    opt_state: Any
    rng: Array  # never used itself: step k draws from fold_in(rng, k)
    skipped: Array  # steps that changed nothing, for their gradients were not finite or spikes
    skipped_in_row: Array  # of these, the last ones


@struct.dataclass
class SpikeState(TrainState):
    """Where spikes are looked for; other checkpoints have no such place."""

    usual: bad_steps.Usual


@dataclass(frozen=True)
class Stage:
    """One stage of training."""

    name: str
    objective: Objective
    parts: tuple[str, ...]  # keys of the parameters among which `training.trains` chooses; the rest is frozen
    training: Training
    optimizers: Optimizers
    lora: Lora
    nonfinite_steps: int  # so many skipped steps in a row stop the run
    spike: float = 0.0  # so many times the usual norm of the gradient, and a step is skipped; 0: never
    tokens: Callable[[Any], int] | None = None  # what its model reads of a batch, by the arrays' shapes
    experts: tuple[str, ...] = ()  # beginnings of paths: of these parameters a step may run only some
    offload_optimizer: bool = False  # between steps the optimizer's state lies in the host's memory

    def optimizer(self) -> optax.GradientTransformation:
        return optimizer(self.training, self.optimizers, self.experts)

    @property
    def steps(self) -> int:
        return self.training.steps

    @property
    def scale(self) -> float:
        """What an adapter's term counts: α/r."""
        return self.lora.alpha / self.lora.rank


def cut(stage: Stage, params: Params, seed: int) -> tuple[Params, Params]:
    """What the stage trains (new adapters too) and what it leaves as it is.

    Raises `SignerError` where a rule of its names nothing.
    """
    where, c = f"config.train.{stage.name}", stage.training
    whole, frozen = trained.split(params, trained.chosen(params, stage.parts, c.trains, f"{where}.trains"))
    if trained.LORA in c.trains:
        at = lora.places(params, stage.parts, stage.lora.targets, "config.lora.targets")
        # No step's key: steps fold small numbers in.
        key = jax.random.fold_in(jax.random.key(seed), np.uint32(0xFFFFFFFF))
        held = trained.paths(whole, tuple(whole))
        at = tuple(place for place in at if f"{place}/kernel" not in held)  # what trains itself needs no adapter
        whole = trained.join(whole, lora.fresh(params, at, stage.lora.rank, key))
    trained.check_rates(whole, c.rates, f"{where}.rates")
    return whole, frozen


def loss_of(stage: Stage) -> Callable[[Params, Params, Batch, Array], tuple[Array, dict[str, Array]]]:
    """The stage's objective by what it trains: `(params, frozen, batch, rng) -> (loss, metrics)`."""

    def loss(params: Params, frozen: Params, batch: Batch, rng: Array) -> tuple[Array, dict[str, Array]]:
        return stage.objective(lora.with_lora(frozen, params, stage.scale), batch, rng)

    return loss


def make_step(stage: Stage, tx: optax.GradientTransformation) -> Callable:
    """`step(state, frozen, batch) -> (state, metrics)`, pure."""
    c = stage.training
    one_part = jax.value_and_grad(loss_of(stage), has_aux=True)

    def whole_batch(params: Params, frozen: Params, batch: Batch, rng: Array) -> Any:
        if c.accumulate == 1:
            return one_part(params, frozen, batch, rng)
        n = c.accumulate
        # Part i has the rows i, i + n, …: of each device's rows the same number, so that none has to move.
        parts = jax.tree.map(lambda x: x.reshape(len(x) // n, n, *x.shape[1:]).swapaxes(0, 1), batch)

        def add(total: Any, numbered: tuple[Array, Batch]) -> tuple[Any, None]:
            i, part = numbered
            return jax.tree.map(jnp.add, total, one_part(params, frozen, part, jax.random.fold_in(rng, i))), None

        shapes = jax.eval_shape(one_part, params, frozen, jax.tree.map(lambda x: x[0], parts), rng)
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        total, _ = jax.lax.scan(add, zero, (jnp.arange(n), parts))
        return jax.tree.map(lambda x: x / n, total)

    def step(state: TrainState, frozen: Params, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        rng = jax.random.fold_in(state.rng, state.step)
        (loss, metrics), gradients = whole_batch(state.params, frozen, batch, rng)
        norm = optax.tree.norm(gradients)
        # After the last step in a row that may be skipped nothing changes any more, until `fit` looks and stops.
        taken = jnp.isfinite(loss) & jnp.isfinite(norm) & (state.skipped_in_row < stage.nonfinite_steps)
        if isinstance(state, SpikeState):
            taken &= ~bad_steps.is_spike(norm, state.usual, stage.spike)
            state = replace(state, usual=bad_steps.usual_after(state.usual, norm, taken))
        updates, opt_state = tx.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = {} if not state.ema else mean_of(state.ema, params, state.step - state.skipped, c.ema)
        before = (state.params, state.opt_state, state.ema)
        params, opt_state, ema = jax.tree.map(partial(jnp.where, taken), (params, opt_state, ema), before)
        metrics = {
            "loss": loss,
            "gradient_norm": norm,
            "optimizer/update_norm": optax.tree.norm(updates),
            "optimizer/parameter_norm": optax.tree.norm(params),
            **rates(c, stage.optimizers, state.step - state.skipped),
            **metrics,
            "skipped": (skipped := 1 - taken.astype(jnp.int32)),
        }
        return replace(
            state,
            step=state.step + 1,
            params=params,
            ema=ema,
            opt_state=opt_state,
            skipped=state.skipped + skipped,
            skipped_in_row=(state.skipped_in_row + 1) * skipped,
        ), metrics

    return step


def starting(stage: Stage, tx: optax.GradientTransformation, seed: int) -> Callable[[Params], TrainState]:
    """The state before a stage's first step, of what it trains (`cut`)."""

    def initial(moving: Params) -> TrainState:
        none = jnp.zeros((), jnp.int32)
        key = jax.random.key_data(jax.random.key(seed))
        mean = _copied(moving) if stage.training.ema else {}
        values = (none, moving, mean, tx.init(moving), key, none, none)
        return SpikeState(*values, usual=bad_steps.usual_at_first()) if stage.spike else TrainState(*values)

    return initial


class Program:
    """A stage's step as it is compiled on a mesh; the shapes and places of its state and of what it leaves as it is.

    Nothing is allocated, and nothing is compiled before the first call of `step`.
    """

    def __init__(self, stage: Stage, params: Params, mesh: jax.sharding.Mesh):
        """`params` are the parameters that the stage uses, or their shapes, in the types that they lie in. Raises
        `SignerError` where a rule on what it trains names nothing.
        """
        self.stage, self.mesh, self.tx = stage, mesh, stage.optimizer()
        moving, frozen = jax.eval_shape(lambda params: cut(stage, params, 0), params)
        state = jax.eval_shape(starting(stage, self.tx, 0), moving)
        on_devices = partitioning.tree_shardings(state, mesh)
        self.shardings = on_devices  # between steps
        if stage.offload_optimizer:
            in_host = partitioning.in_host(on_devices.opt_state, state.opt_state)
            self.shardings = replace(on_devices, opt_state=in_host)
        self.state: TrainState = partitioning.abstract(state, self.shardings)  # shapes, as `frozen` is
        self.on_devices: TrainState = partitioning.abstract(state, on_devices)  # as checkpoints take and give it
        self.frozen: Params = partitioning.abstract(frozen, partitioning.tree_shardings(frozen, mesh))
        # (state, frozen, batch, asked) -> (state, metrics, answer); the state's key is raw words, as in checkpoints.
        step = make_step(stage, self.tx)
        step = preemption.with_question(partitioning.laid_out(_with_key(_fetched(step, stage)), mesh))
        self.step = jax.jit(step, donate_argnums=0, out_shardings=(self.shardings, None, None))

    def fetched(self, state: TrainState) -> TrainState:
        """The state with all of it on the devices: to look at, and to save."""
        if not self.stage.offload_optimizer:
            return state
        places = jax.tree.map(lambda leaf: leaf.sharding, self.on_devices.opt_state)
        return replace(state, opt_state=jax.device_put(state.opt_state, places))

    def put_back(self, state: TrainState) -> TrainState:
        """A state on the devices, where the step takes it."""
        if not self.stage.offload_optimizer:
            return state
        return replace(state, opt_state=jax.device_put(state.opt_state, self.shardings.opt_state, donate=True))

    def placed(self, batch: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes of a (global) batch where the step reads it."""
        split = partitioning.batch_sharding(self.mesh)
        return {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=split) for name, leaf in batch.items()}

    def trace(self, batch: Mapping[str, jax.ShapeDtypeStruct]) -> jax.stages.Traced:
        """The step on a batch of these shapes, `placed`."""
        return self.step.trace(self.state, self.frozen, batch, preemption.question(self.mesh))


def needed_flops(stage: Stage, mesh: Any, params: Params, frozen: Params, batch: Any) -> float:
    """FLOPs of a step on a whole batch that the model needs (`flops.training`); the arguments may be shapes."""
    loss = partitioning.laid_out(lambda *inputs: loss_of(stage)(*inputs)[0], mesh)
    return flops.training(loss, params, frozen, batch, jax.random.key(0))


def mean_of(ema: Params, params: Params, step: Array, decay: float) -> Params:
    """The running mean after `step` earlier ones: its decay grows as (1 + step) / (10 + step) up to `decay`."""
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda mean, now: mean + (1.0 - kept) * (now - mean), ema, params)


def fit(
    program: Program,
    params: Params,
    batches: grain.DatasetIterator,
    *,
    seed: int,
    checkpoints: Checkpoints,
    monitor: Monitor,
    log_every: int,
    checkpoint_every: int,
    notice: preemption.Notice | None = None,
    stopped: Path | None = None,
    profile: int = 0,
    step: Callable | None = None,
    show: Callable[[int, Params, Callable[[], bool]], None] | None = None,
    show_every: int = 0,
    selection: Selection | None = None,
) -> Params:
    """Trains a stage to its last step, from its newest checkpoint; returns what it trained, on the mesh, or the running
    mean of that (`finished` joins it to the rest): after the last step, or what `selection` chooses, which may also end
    the stage earlier. What it trains of the given parameters is used up; where there is a checkpoint, their shapes will
    do. What it leaves as it is lies as it was given. So many steps as `profile` says are traced. `step` takes the place
    of the program's own (`compiled_step.step_of`). `show` is given, every `show_every` steps and at the end, the step,
    all parameters as they are then, which it may not keep, and what says whether the run is asked to stop: it is then
    to come back.

    A step whose loss or gradient is not finite, or a spike, is left out and counted. Raises `SignerError` where
    `stage.nonfinite_steps` follow each other (the last one's batch is then kept in the folder `stopped`), or anything
    that a checkpoint would hold is not finite: it is looked at before every save, so the checkpoints before it are
    whole. Raises `Preempted` where `notice` says that the run is to stop, after it has saved.
    """
    # ---- State, on the mesh ----------------------------------------------------------------------------------------
    stage, mesh = program.stage, program.mesh
    moving, frozen = cut(stage, params, seed)
    frozen = jax.device_put(frozen, jax.tree.map(lambda leaf: leaf.sharding, program.frozen))
    if checkpoints.latest() is None:
        moving = jax.device_put(moving, program.shardings.params)
        initial = starting(stage, program.tx, seed)
        state = jax.jit(initial, out_shardings=program.shardings, donate_argnums=0)(moving)
    else:
        partitioning.free(moving)  # there is no room for two
        state = program.put_back(checkpoints.restore(program.on_devices, batches))
    # What was chosen is saved as the last step, wherever the stage ended.
    first = int(state.step) if checkpoints.latest() != stage.steps else stage.steps
    looks = checkpoints.looks() if selection else []

    # ---- Steps ----------------------------------------------------------------------------------------------------
    notice = notice or preemption.Notice()
    agreement = preemption.Agreement(notice, mesh)
    meter = meters.Meter(
        list(mesh.devices.flat),
        lambda given: needed_flops(stage, mesh, program.state.params, frozen, meters.abstract(given)),
        stage.tokens,
    )
    run = profiled(step or program.step, monitor.directory, stage.name, profile, first=first, last=stage.steps)
    bad = "not finite" + (f" or a spike (config.spike {stage.spike:g})" if stage.spike else "")
    log_every = max(1, min(log_every, stage.steps // 10))  # a short stage has a curve too
    looked, losses = bad_steps.Looked(first, batches), bad_steps.Mean()
    bar = progress(range(first, stage.steps), stage.name, initial=first, total=stage.steps)
    with naming_the_lost(), in_steps() as at, notice.until_saved():
        for k in notice.during(bar):
            at("data", k + 1)
            with meter.spent("data"):
                batch = partitioning.put_batch(next(batches), mesh)
            at("compute", k + 1)
            state, metrics, answer = run(state, frozen, batch, agreement.asked())
            meter.step(batch, metrics)
            losses.add(k + 1, metrics)
            last, stops = k + 1 == stage.steps, agreement.stops(answer)
            due = selection is not None and (last or (k + 1) % selection.every == 0)
            logs = (k + 1) % log_every == 0 or last or due  # a look may be the stage's end
            saves = (k + 1) % checkpoint_every == 0 or last or stops or due
            if (logs or saves) and (row := int(state.skipped_in_row)) >= stage.nonfinite_steps:
                after = f" and the {stage.nonfinite_steps - 1} after it" if stage.nonfinite_steps > 1 else ""
                what = f"the loss or its gradient is {bad} at step {k + 2 - row}{after}"
                kept = looked.keep(stopped, stage.name, k + 1 + stage.nonfinite_steps - row) if stopped else ""
                raise _diverged(stage, what, checkpoints, kept)
            if logs or saves:
                looked = bad_steps.Looked(k + 1, batches)
                if (left := losses.read()) and jax.process_index() == 0:
                    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
                    line = f"stage {stage.name!r}: left out: {', '.join(left[:3])}{more}"
                    bar.write(f"signer: {line}", file=sys.stderr)
            if logs:
                values = {name: float(value) for name, value in metrics.items() if name != "skipped"}
                values = {name: value for name, value in values.items() if np.isfinite(value)}  # of a skipped step
                values["skipped_steps"] = int(state.skipped)
                monitor.scalars(stage.name, k + 1, values | meter.read())
                if "loss" in values:
                    bar.set_postfix(loss=f"{values['loss']:.3f}")
            if saves:
                at("save", k + 1)
                with meter.spent("checkpoint"):
                    here = program.fetched(state)
                    whole = all_finite(here)
                if not whole:
                    what = f"the parameters or the optimizer's state are not finite at step {k + 1}"
                    raise _diverged(stage, what, checkpoints)
                noted = None
                if selection is not None:
                    at("samples", k + 1)
                    with meter.spent("samples"):
                        if due:
                            looks.append((k + 1, _look(stage, here, frozen, selection, monitor)))
                            last = last or selection.ends(looks)
                        noted = record(selection, looks)
                        if last:
                            here, noted = _chosen(stage, here, frozen, looks, selection, checkpoints, mesh)
                            state = replace(state, params=here.params, ema=here.ema)
                    at("save", k + 1)
                with meter.spent("checkpoint"):
                    checkpoints.save(stage.steps if last else k + 1, here, batches, losses.taken(), noted)
                    del here
            if stops:
                break
            if show and ((k + 1) % show_every == 0 or last):
                at("samples", k + 1)
                jax.block_until_ready(state)  # what is left of the step is none of the samples' time, nor their failure
                with meter.spent("samples"):
                    show(k + 1, lora.with_lora(frozen, state.ema or state.params, stage.scale), notice.anywhere)
            if last and k + 1 < stage.steps:
                break
        at("save", stage.steps)
        checkpoints.wait()
        asked = agreement.over()
    if asked:
        saved = f"step {int(state.step)} of {stage.steps} is saved"
        raise Preempted(f"stage {stage.name!r}: stopped by SIGTERM; {saved}, the same command goes on from there")
    if (skipped := int(state.skipped)) and jax.process_index() == 0:
        line = f"stage {stage.name!r}: {skipped} of {int(state.step)} steps were left out, their gradients {bad}"
        print(f"signer: {line}", file=sys.stderr)
    return state.ema or state.params


def _look(stage: Stage, state: TrainState, frozen: Params, selection: Selection, monitor: Monitor) -> float:
    """The score of what the stage would give; without one, the step."""
    step = int(state.step)
    if selection.score is None:
        return float(step)
    value = _scored(stage, state.ema or state.params, frozen, selection.score)
    monitor.scalars(stage.name, step, {selection.score.name: value})
    return value


def _scored(stage: Stage, learned: Params, frozen: Params, score: Score) -> float:
    return float(score.of(lora.with_lora(frozen, learned, stage.scale)))


def _chosen(
    stage: Stage, state: TrainState, frozen: Params, looks: Sequence[Look], selection: Selection,
    checkpoints: Checkpoints, mesh: jax.sharding.Mesh,
) -> tuple[TrainState, dict[str, Any]]:  # fmt: skip
    """The state with what the stage gives in its place, of those looks whose checkpoints are whole, and the record of
    that. What is told of it is in one line.
    """
    step, own = int(state.step), state.ema or state.params
    there = {step, *checkpoints.steps()}
    while True:
        given = selection.chosen([look for look in looks if look[0] in there])
        saved = [at for at in given if at != step]
        try:
            mean = checkpoints.mean(saved, own, partitioning.placing(mesh), counted=step in given) if saved else own
            break
        except Damaged as damage:
            there.remove(int(damage.folder.name))
            if jax.process_index() == 0:
                print(f"signer: {damage.what}; it is not chosen", file=sys.stderr)
    mean = jax.device_put(mean, jax.tree.map(lambda leaf: leaf.sharding, own))
    state = replace(state, ema=mean) if state.ema else replace(state, params=mean)
    score = None
    if selection.score is not None:
        alone = len(given) == 1
        score = dict(looks)[given[0]] if alone else _scored(stage, mean, frozen, selection.score)
    if jax.process_index() == 0:
        line = told(selection, looks, given, score, stage.steps)
        print(f"signer: stage {stage.name!r}: {line}", file=sys.stderr)
    return state, record(selection, looks, given, score)


def finished(stage: Stage, params: Params, learned: Params) -> Params:
    """All parameters after a stage: `params` with what it trained (`fit`) in its place, adapters merged into their
    kernels. For parts whose adapters stay beside them (`held.Weights.spent`) it is none.
    """
    return lora.merged(params, learned, stage.scale) if learned else params


_finite = partitioning.each(lambda leaf: jnp.isfinite(leaf).all(), lambda leaf: np.isfinite(leaf).all())


def all_finite(tree: Any) -> bool:
    """Whether no array of the tree holds a NaN or an infinity."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return all(jax.device_get(_finite(partitioning.from_memory(leaves))))


def _diverged(stage: Stage, what: str, checkpoints: Checkpoints, batch: str = "") -> SignerError:
    checkpoints.wait()
    latest = latest_step(checkpoints.directory)
    kept = "no checkpoint was saved before" if latest is None else f"the checkpoint of step {latest} is whole"
    rate = f"config.train.{stage.name}.learning_rate ({stage.training.learning_rate:g})"
    return SignerError(f"stage {stage.name!r}: {what}{batch}; {kept}; start a new run with a lower {rate}")


def _copied(tree: Any) -> Any:
    """The same values in buffers of their own: a step gives each buffer of the state away once."""
    return jax.tree.map(jnp.copy, tree)


def _fetched(step: Callable, stage: Stage) -> Callable:
    """The step, given the optimizer's state in the host's memory; its program's results go back there."""
    if not stage.offload_optimizer:
        return step

    def wrapped(state: TrainState, frozen: Params, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        near = jax.tree.map(lambda x: jax.device_put(x, jax.memory.Space.Device) if x.ndim else x, state.opt_state)
        return step(replace(state, opt_state=near), frozen, batch)

    return wrapped


def _with_key(step: Callable) -> Callable:
    """Checkpoints hold the key's raw words; the step wants a typed key."""

    def wrapped(state: TrainState, frozen: Params, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        raw = state.rng
        new, metrics = step(replace(state, rng=jax.random.wrap_key_data(raw)), frozen, batch)
        return replace(new, rng=raw), metrics

    return wrapped
