import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.renderer.losses import covered, flow_matching, hand_and_face_weight, hand_weight

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


def test_latents_are_covered_as_much_as_their_strongest_pixel():
    drawn = jnp.zeros((1, 5, 4, 4)).at[0, 0, 3, 0].set(1.0).at[0, 4, 0, 2].set(0.5)
    shares = covered(drawn, time_ratio=4, space_ratio=2)
    assert shares.shape == (1, 2, 2, 2, 1)
    # Latent 0 is frame 0, latent 1 the frames 1 to 4.
    np.testing.assert_allclose(shares[0, :, :, :, 0], [[[0, 0], [1, 0]], [[0, 0.5], [0, 0]]])
    np.testing.assert_allclose(hand_weight(shares, 5.0)[0, :, :, :, 0], [[[1, 1], [5, 1]], [[1, 3], [1, 1]]])


def test_a_face_weighs_where_no_hand_is_before_it():
    hands, faces = (jnp.array(row)[None, None, None, :, None] for row in ([0.0, 1.0, 1.0, 0.5], [1.0, 0.0, 1.0, 1.0]))
    weight = hand_and_face_weight(hands, faces, hand=5.0, face=2.0)
    np.testing.assert_allclose(weight[0, 0, 0, :, 0], [2, 5, 5, 3.5])
    np.testing.assert_array_equal(hand_and_face_weight(hands, faces, hand=5.0, face=1.0), hand_weight(hands, 5.0))


def test_frames_that_do_not_fold_are_refused():
    with pytest.raises(SignerError, match="fold"):
        covered(jnp.zeros((1, 4, 4, 4)), time_ratio=4, space_ratio=2)
