"""The optimizers: AdamW, and Muon for the matrices; a clipped global norm, linear warm-up and a cosine to zero."""

import re
from dataclasses import dataclass
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from signer_jax.training.partitioning import path_name

# What is no matrix to Muon: tables of vectors, and layers with so narrow a side that turning it buys nothing.
_NO_MATRIX = re.compile(r"(embedding|lm_head/kernel)$")
_NARROW = 24


@dataclass(frozen=True)
class Optimisation:
    """How a stage is optimised."""

    name: str  # adamw | muon
    steps: int
    learning_rate: float
    warmup: int
    weight_decay: float
    clip: float


def optimizer(c: Optimisation) -> optax.GradientTransformation:
    """AdamW; or Muon (Jordan et al. 2024: momentum made orthogonal) for the matrices and AdamW for what is none.

    `learning_rate` is Adam's; of Muon, whose steps are one in spectral norm, it is the matrices', and a tenth of it is
    Adam's beside it. Biases, norms and tables do not decay.
    """
    rate = optax.warmup_cosine_decay_schedule(0.0, c.learning_rate, c.warmup, max(c.steps, c.warmup + 1))
    if c.name == "muon":
        inner = muon(
            rate,
            weight_decay=c.weight_decay,
            weight_decay_mask=_decays,
            adam_learning_rate=lambda step: 0.1 * rate(step),
            adam_b2=0.99,
            muon_weight_dimension_numbers=matrices,
        )
    else:
        inner = optax.adamw(rate, b2=0.99, weight_decay=c.weight_decay, mask=_decays)
    return optax.chain(optax.clip_by_global_norm(c.clip), inner)


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
    return jax.tree_util.tree_map_with_path(lambda path, _: path_name(path).endswith("kernel"), params)
