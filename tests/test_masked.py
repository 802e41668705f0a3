"""The masked mean, by hand, with its gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from signer_jax.masked import masked_mean


def test_a_mean_over_what_exists():
    x = np.array([[1.0, 2, np.inf], [4, np.nan, np.inf], [np.inf, np.nan, 0]], np.float32)
    mask = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
    np.testing.assert_allclose(masked_mean(x, mask, axis=1), [1.5, 4, 0])
    gradient = jax.grad(lambda x: masked_mean(x, mask, axis=1).sum())(jnp.asarray(x))
    np.testing.assert_allclose(gradient, [[0.5, 0.5, 0], [1, 0, 0], [0, 0, 0]])


def test_states_are_pooled_with_one_weight_a_position():
    states = np.array([[[1, 10], [3, 20], [999, 999]], [[7, 7], [8, 8], [9, 9]]], np.float32)
    mask = np.array([[True, True, False], [False, False, False]])
    np.testing.assert_allclose(masked_mean(states, mask[..., None], axis=1), [[2, 15], [0, 0]])


def test_weights_weigh_and_several_axes_are_one_mean():
    values, weight = np.array([[[1.0, 3.0], [5.0, 7.0]]]), np.array([[[0.5, 0.0], [0.25, 0.25]]])
    np.testing.assert_allclose(masked_mean(values, weight, axis=(1, 2)), [(0.5 + 1.25 + 1.75) / 1.0])
    half = masked_mean(values.astype(jnp.bfloat16), weight, axis=(1, 2))
    assert half.dtype == jnp.float32
