"""Gates: the pooled query, the masked softmax, and the sentence's shared score, against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.slp_moe.gates import Gates, Pool, combine, gate_logits, sentence_scores


def test_gate_logits_are_q_times_w_for_sentences_and_glosses():
    weight = jnp.array([[1.0, 2.0, 3.0], [0.0, -1.0, 5.0]])
    np.testing.assert_allclose(gate_logits(jnp.array([[2.0, 1.0]]), weight), [[2.0, 3.0, 11.0]])
    by_gloss = gate_logits(jnp.array([[[1.0, 0.0], [0.0, 1.0]]]), weight)
    np.testing.assert_allclose(by_gloss, [[[1.0, 2.0, 3.0], [0.0, -1.0, 5.0]]])


def test_combine_adds_the_scores_and_masks():
    logits = jnp.log(jnp.array([[[1.0, 2.0, 3.0]]]))
    scores = jnp.log(jnp.array([[[3.0, 1.0, 1.0], [1.0, 1.0, 2.0], [1.0, 1.0, 1.0]]]))
    mask = jnp.array([[[True, True, True], [True, False, True], [False, False, False]]])
    weights = combine(logits, scores, mask)
    np.testing.assert_allclose(weights, [[[3 / 8, 2 / 8, 3 / 8], [1 / 7, 0.0, 6 / 7], [0.0, 0.0, 0.0]]], rtol=1e-6)


def test_combine_has_finite_gradients_where_a_row_has_no_candidate():
    mask = jnp.array([[[True, False], [False, False]]])

    def last_weight(logits):
        return (combine(logits, jnp.zeros((1, 2, 2)), mask) * jnp.array([2.0, 3.0])).sum()

    gradient = jax.grad(last_weight)(jnp.array([[[0.3, -0.2], [1.0, 2.0]]]))
    np.testing.assert_array_equal(gradient, np.zeros((1, 2, 2)))


def test_combine_computes_in_float32_and_does_not_overflow():
    logits = jnp.array([[[1000.0, 999.0]]], jnp.bfloat16)
    weights = combine(logits, jnp.zeros((1, 1, 2), jnp.bfloat16), jnp.ones((1, 1, 2), bool))
    assert weights.dtype == jnp.float32
    gap = float(logits[0, 0, 0]) - float(logits[0, 0, 1])  # what bfloat16 leaves of the difference
    np.testing.assert_allclose(weights[0, 0, 0], 1 / (1 + np.exp(-gap)), rtol=1e-6)


def test_sentence_scores_average_over_the_glosses_that_have_the_candidate():
    scores = jnp.array([[[1.0, 10.0, 5.0], [3.0, 20.0, 6.0], [100.0, 100.0, 7.0]]])
    mask = jnp.array([[[True, True, False], [True, False, False], [False, False, False]]])
    np.testing.assert_allclose(sentence_scores(scores, mask), [[[2.0, 10.0, 0.0]]])


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 5)])
def test_gates_hold_one_matrix_and_start_nearly_even(shape):
    query = jax.random.normal(jax.random.key(0), shape)
    variables = Gates(experts=4).init(jax.random.key(1), query)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (5, 4)}}
    logits = Gates(experts=4).apply(variables, query)
    np.testing.assert_allclose(logits, query @ variables["params"]["kernel"], atol=1e-6)
    assert logits.shape == (*shape[:-1], 4)
    assert 0 < np.abs(logits).max() < 0.5


def test_the_plain_pool_is_the_mean_over_the_tokens_that_exist():
    H = jnp.array([[[1.0, 10.0], [3.0, 20.0], [jnp.nan, jnp.inf]], [[5.0, 6.0], [7.0, 8.0], [9.0, 10.0]]])
    mask = jnp.array([[True, True, False], [False, False, False]])
    variables = Pool().init(jax.random.key(0), H, mask)
    assert not variables
    np.testing.assert_allclose(Pool().apply(variables, H, mask), [[2.0, 15.0], [0.0, 0.0]])


def test_a_pool_with_a_layer_keeps_what_the_mean_loses():
    """Two texts of other tokens and one mean: equal for the plain pool, apart for one that looks at each token."""
    H = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]])
    mask = jnp.ones((2, 2), bool)
    np.testing.assert_array_equal(*Pool().apply({}, H, mask))
    pool = Pool(hidden=3)
    variables = pool.init(jax.random.key(0), H, mask)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"token": {"kernel": (2, 3), "bias": (3,)}}}
    query = pool.apply(variables, H, mask)
    kernel = variables["params"]["token"]["kernel"]
    np.testing.assert_allclose(query, jax.nn.gelu(H @ kernel).mean(axis=1), rtol=1e-5)
    assert np.abs(query[0] - query[1]).max() > 1e-2
    changed = pool.apply(variables, H.at[0, 1].set(9.0), mask.at[0, 1].set(False))
    np.testing.assert_allclose(changed[0], jax.nn.gelu(H[0, 0] @ kernel), rtol=1e-5)
