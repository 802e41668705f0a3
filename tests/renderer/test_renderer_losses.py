import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.renderer.losses import flow_matching, hand_weight

SHAPE = (2, 3, 4, 4, 2)


def test_without_weights_it_is_the_mean_squared_error_of_each_example():
    prediction, target = (jax.random.normal(jax.random.key(i), SHAPE) for i in range(2))
    expected = [np.mean((np.asarray(prediction[b]) - np.asarray(target[b])) ** 2) for b in range(2)]
    np.testing.assert_allclose(flow_matching(prediction, target), expected, rtol=1e-6)
    np.testing.assert_allclose(flow_matching(prediction, target, jnp.full((2, 3, 4, 4, 1), 7.0)), expected, rtol=1e-6)


def test_weights_by_hand():
    target = jnp.zeros((1, 1, 1, 2, 2))
    prediction = jnp.array([[1.0, 3.0], [2.0, 0.0]]).reshape(1, 1, 1, 2, 2)
    weight = jnp.array([3.0, 1.0]).reshape(1, 1, 1, 2, 1)
    # (3·(1 + 9) + 1·(4 + 0)) / (3·2 + 1·2)
    np.testing.assert_allclose(flow_matching(prediction, target, weight), [34 / 8])


def test_an_example_without_weight_costs_nothing_and_has_finite_gradients():
    prediction, target = jnp.ones(SHAPE), jnp.zeros(SHAPE)
    weight = jnp.stack([jnp.zeros((3, 4, 4, 1)), jnp.ones((3, 4, 4, 1))])
    np.testing.assert_allclose(flow_matching(prediction, target, weight), [0.0, 1.0])
    gradient = jax.grad(lambda p: flow_matching(p, target, weight).sum())(prediction)
    assert np.isfinite(gradient).all() and not gradient[0].any() and gradient[1].any()


def test_half_precision_predictions_are_compared_in_float32():
    prediction = jnp.full(SHAPE, 1.0, jnp.bfloat16)
    loss = flow_matching(prediction, jnp.full(SHAPE, 1.0 + 2**-10))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, 2.0**-20, rtol=1e-5)


def test_hand_weight_marks_the_latents_that_cover_a_hand():
    hands = jnp.zeros((1, 5, 4, 4)).at[0, 0, 3, 0].set(1.0).at[0, 4, 0, 2].set(0.5)
    weight = hand_weight(hands, time_ratio=4, space_ratio=2, gain=5.0)
    assert weight.shape == (1, 2, 2, 2, 1)
    # Latent 0 is frame 0, latent 1 the frames 1 to 4; half a hand counts half.
    np.testing.assert_allclose(weight[0, :, :, :, 0], [[[1, 1], [5, 1]], [[1, 3], [1, 1]]])


def test_hand_weight_refuses_frames_that_do_not_fold():
    with pytest.raises(SignerError, match="fold"):
        hand_weight(jnp.zeros((1, 4, 4, 4)), time_ratio=4, space_ratio=2, gain=5.0)
