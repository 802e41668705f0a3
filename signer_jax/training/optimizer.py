"""The optimizers: AdamW, Adafactor, and Muon for the matrices; a clipped global norm, a warm-up and what follows it."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from signer_jax.settings import Optimizers, Training
from signer_jax.training import muon
from signer_jax.training.partitioning import path_name
from signer_jax.training.trained import factors

# What is no matrix to Muon: tables of vectors, and layers with so narrow a side that turning it buys nothing.
_NO_MATRIX = re.compile(r"(embedding|lm_head/kernel)$")
_NARROW = 24
_REST = "rest"  # what is of no expert
_DECAYS = re.compile(r"(kernel|lora_a|lora_b)$")


def schedule(c: Training) -> optax.Schedule:
    """The learning rate of each step: from zero to `learning_rate` in `warmup` steps, then as `schedule` says."""
    if c.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, c.learning_rate, c.warmup, max(c.steps, c.warmup + 1))
    warm = optax.linear_schedule(0.0, c.learning_rate, max(c.warmup, 1))
    after = optax.constant_schedule(c.learning_rate)
    if c.schedule == "linear":
        after = optax.linear_schedule(c.learning_rate, 0.0, max(c.steps - c.warmup, 1))
    return optax.join_schedules([warm, after], [c.warmup])


def rates(c: Training, values: Optimizers, taken: jax.Array) -> dict[str, jax.Array]:
    """The learning rates of the step after so many, by the names of their curves; `config.train.*.rates` aside."""
    rate = jnp.asarray(schedule(c)(taken), jnp.float32)
    beside = {"optimizer/adam_rate": values.muon.adam_rate * rate} if c.optimizer == "muon" else {}
    return {"optimizer/learning_rate": rate, **beside}


def optimizer(c: Training, values: Optimizers, experts: Sequence[str] = ()) -> optax.GradientTransformation:
    """AdamW; Adafactor (Shazeer and Stern 2018: second moments of matrices by rows and columns); or Muon (Jordan et al.
    2024: momentum made orthogonal) for the matrices and AdamW for what is none.

    `learning_rate` is Adam's and Adafactor's; of Muon, whose steps are one in spectral norm, it is the matrices', and
    `adam_rate` of it is Adam's beside it. Biases, norms and tables do not decay. `rates` are factors of whole steps,
    decay included.

    `experts` are the beginnings of the paths of parameters of which a step may run only some. Those that have no
    gradient in a step were not run: nothing of them moves or decays, and their moments and the count that these are
    corrected by stay. The rate is of all steps.
    """
    steps = [optax.clip_by_global_norm(c.clip)]
    if experts:
        # All three are linear in the rate. Each group counts its own steps, so the rate, which is of all, comes after.
        each = {name: _where_run(_inner(c, values, _one)) for name in map(_name, experts)}
        each[_REST] = _inner(c, values, _one)
        steps += [optax.partition(each, lambda params: _groups(params, experts)), optax.scale_by_schedule(schedule(c))]
    else:
        steps.append(_inner(c, values, schedule(c)))
    if c.rates:
        steps.append(optax.stateless(lambda updates, _: jax.tree.map(_times, updates, factors(updates, c.rates))))
    return optax.chain(*steps)


def _inner(c: Training, values: Optimizers, rate: optax.Schedule) -> optax.GradientTransformation:
    adam = values.adamw
    if c.optimizer == "muon":
        return _muon(c, values, rate)
    if c.optimizer == "adafactor":
        return _adafactor(c, values, rate)
    return optax.adamw(rate, adam.b1, adam.b2, adam.eps, weight_decay=c.weight_decay, mask=_decays)


def _muon(c: Training, values: Optimizers, rate: optax.Schedule) -> optax.GradientTransformation:
    """`optax.contrib.muon`, composed as there and with its state, of our cheaper `scale_by_muon`."""
    adam = values.adamw
    parts = {
        "muon": optax.chain(
            muon.scale_by_muon(values.muon.momentum, adam.eps, matrices),
            muon.scale_by_shape(matrices),
            optax.add_decayed_weights(c.weight_decay, _decays),
            optax.scale_by_learning_rate(rate),
        ),
        "adam": optax.nadamw(
            lambda step: values.muon.adam_rate * rate(step), adam.b1, adam.b2, adam.eps, weight_decay=0.0
        ),
    }

    def labels(params: Any) -> Any:
        found = matrices(params)
        return jax.tree.map(lambda _, axes: "adam" if axes is None else "muon", params, found)

    return optax.partition(parts, labels)


def _one(_: Any) -> float:
    return 1.0


def _groups(params: Any, experts: Sequence[str]) -> Any:
    """The name of the expert that each parameter is of, or `_REST`."""

    def of(path: Any, _: Any) -> str:
        return next((_name(expert) for expert in experts if path_name(path).startswith(f"{expert}/")), _REST)

    return jax.tree_util.tree_map_with_path(of, params)


def _name(expert: str) -> str:
    return expert.rpartition("/")[2]


def _where_run(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner`, but nothing at all where every gradient is exactly zero."""

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        run = sum(jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradients)) > 0
        updates, after = inner.update(gradients, state, params)
        updates = jax.tree.map(lambda leaf: jnp.where(run, leaf, jnp.zeros_like(leaf)), updates)
        return updates, jax.tree.map(lambda new, old: jnp.where(run, new, old), after, state)

    return optax.GradientTransformation(inner.init, update)


def _adafactor(c: Training, values: Optimizers, rate: optax.Schedule) -> optax.GradientTransformation:
    # Not `optax.adafactor`: there the decay is not times the rate, and would shrink every kernel by it each step.
    o = values.adafactor
    return optax.chain(
        optax.scale_by_factored_rms(
            decay_rate=o.decay, epsilon=o.eps, min_dim_size_to_factor=o.factored_from
        ),
        optax.clip_by_block_rms(o.clip),
        optax.ema(o.momentum, debias=False) if o.momentum else optax.identity(),
        optax.add_decayed_weights(c.weight_decay, _decays),
        optax.scale_by_learning_rate(rate),
    )  # fmt: skip


def _times(update: jax.Array, factor: float) -> jax.Array:
    return update if factor == 1.0 else update * factor


def matrices(params: Any) -> Any:
    """Which leaves are matrices to Muon, and which of their axes go in and out; None for the others.

    A convolution's taps go in with its channels (`[kt, kh, kw, in, out]`); a stack of layers is as many matrices.
    """

    def one(path: Any, leaf: jax.Array) -> MuonDimensionNumbers | None:
        name = path_name(path)
        first = 1 if "/layers/" in name else 0
        if not name.endswith("kernel") or _NO_MATRIX.search(name) or min(leaf.shape[-2:]) < _NARROW:
            return None
        return MuonDimensionNumbers(tuple(range(first, leaf.ndim - 1)), (leaf.ndim - 1,))

    return jax.tree_util.tree_map_with_path(one, params)


def _decays(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: _DECAYS.search(path_name(path)) is not None, params)
