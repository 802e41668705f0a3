"""Muon (Jordan et al. 2024) with fewer products where a matrix is long; momentum, norms and state are optax's.

A step of Newton-Schulz takes X [m, n], m <= n, to (aI + bG + cG²) X with G = X Xᵀ; five cost 5 (2m²n + m³) products.
But P = aI + bG + cG² needs G alone, and the next step's G is P G P: the product of all P is found in [m, m], and X is
met at the start and at the end, for 2m²n + 17m³. That is less where 2n > 3m.

G holds squares: what is 1e-3 of X's largest singular value comes out with an error of some 1e-3 of itself where
products are float32's. A GPU and a TPU round them more unless told otherwise, and telling them costs what is saved; so
optax's own steps are taken there.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers
from optax.contrib import scale_by_muon as optax_scale_by_muon

from signer_jax.layout import platform

STEPS = 5  # of Newton-Schulz


def scale_by_muon(beta: float, eps: float, matrices: Callable[[Any], Any]) -> optax.GradientTransformation:
    """optax's transformation of this name: its state, and its updates but for rounding.

    `matrices` says the axes of every leaf: those that go in follow each other, and one that goes out is the last.
    """

    def steps(count: int) -> optax.GradientTransformation:
        return optax_scale_by_muon(ns_steps=count, beta=beta, eps=eps, weight_dimension_numbers=matrices)

    complete, normed = steps(STEPS), steps(0)

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        # Of each matrix one of the two is used; the other a compiled program does not compute.
        done, after = complete.update(gradients, state, params)
        begun, _ = normed.update(gradients, state, params)

        def one(axes: MuonDimensionNumbers, done: jax.Array, begun: jax.Array) -> jax.Array:
            x = begun.reshape(*begun.shape[: axes.reduction_axis[0]], -1, begun.shape[-1])
            if platform() != "cpu" or not long(x.shape):
                return done
            return newton_schulz(x, state.ns_coeffs).reshape(begun.shape)

        return jax.tree.map(one, matrices(gradients), done, begun, is_leaf=_is_matrix), after

    return optax.GradientTransformation(complete.init, update)


def scale_by_shape(matrices: Callable[[Any], Any]) -> optax.GradientTransformation:
    """Larger steps of what gives more than it takes in: times the root of out over in where that is above one."""

    def one(axes: MuonDimensionNumbers, update: jax.Array) -> jax.Array:
        taken = math.prod(update.shape[axis] for axis in axes.reduction_axis)
        return update * max(1.0, update.shape[-1] / taken) ** 0.5

    return optax.stateless(lambda updates, _: jax.tree.map(one, matrices(updates), updates, is_leaf=_is_matrix))


def _is_matrix(node: Any) -> bool:
    return isinstance(node, MuonDimensionNumbers)


def long(shape: tuple[int, ...]) -> bool:
    """Whether `newton_schulz` costs a matrix of this shape less than optax's steps."""
    return 2 * max(shape[-2:]) > 3 * min(shape[-2:])


def newton_schulz(x: jax.Array, coefficients: jax.Array) -> jax.Array:
    """Matrices [..., m, n] of norm one at most, after the steps of the coefficients a, b, c."""
    if x.shape[-2] > x.shape[-1]:
        return newton_schulz(x.mT, coefficients).mT
    a, b, c = coefficients
    identity = jnp.eye(x.shape[-2], dtype=x.dtype)
    gram, product = x @ x.mT, identity
    for step in range(STEPS):
        polynomial = a * identity + b * gram + c * gram @ gram
        product = polynomial @ product if step else polynomial
        if step < STEPS - 1:
            gram = polynomial @ gram @ polynomial
    return product @ x
