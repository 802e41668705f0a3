"""The optimizers: AdamW, Adafactor, and Muon for the matrices; a clipped global norm, a warm-up and what follows it."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

from signer_jax.settings import Optimizers, Training
from signer_jax.training.partitioning import path_name
from signer_jax.training.trained import factors

# What is no matrix to Muon: tables of vectors, and layers with so narrow a side that turning it buys nothing.
_NO_MATRIX = re.compile(r"(embedding|lm_head/kernel)$")
_NARROW = 24
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


def optimizer(c: Training, values: Optimizers) -> optax.GradientTransformation:
    """AdamW; Adafactor (Shazeer and Stern 2018: second moments of matrices by rows and columns); or Muon (Jordan et al.
    2024: momentum made orthogonal) for the matrices and AdamW for what is none.

    `learning_rate` is Adam's and Adafactor's; of Muon, whose steps are one in spectral norm, it is the matrices', and
    `adam_rate` of it is Adam's beside it. Biases, norms and tables do not decay. `rates` are factors of whole steps,
    decay included.
    """
    rate, adam = schedule(c), values.adamw
    if c.optimizer == "muon":
        inner = muon(
            rate,
            beta=values.muon.momentum,
            eps=adam.eps,
            weight_decay=c.weight_decay,
            weight_decay_mask=_decays,
            adam_learning_rate=lambda step: values.muon.adam_rate * rate(step),
            adam_b1=adam.b1,
            adam_b2=adam.b2,
            muon_weight_dimension_numbers=matrices,
        )
    elif c.optimizer == "adafactor":
        inner = _adafactor(c, values, rate)
    else:
        inner = optax.adamw(rate, adam.b1, adam.b2, adam.eps, weight_decay=c.weight_decay, mask=_decays)
    steps = [optax.clip_by_global_norm(c.clip), inner]
    if c.rates:
        steps.append(optax.stateless(lambda updates, _: jax.tree.map(_times, updates, factors(updates, c.rates))))
    return optax.chain(*steps)


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
