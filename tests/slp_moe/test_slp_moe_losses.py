"""Each loss of PAPER 2.3 worked out again with plain loops or by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.slp_moe.losses import (
    hand_loss,
    moe_loss,
    negative_entropy,
    pose_reconstruction,
    smoothness,
    velocity_loss,
)


def random_pose(seed=0, b=2, t=7, j=5, c=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(b, t, j, c)), rng.uniform(0.2, 1.0, size=(b, t, j))


def test_moe_loss_is_minus_log_of_the_chosen_weight_over_known_glosses():
    weights = jnp.array([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [1 / 3, 1 / 3, 1 / 3]], [[1.0, 0.0, 0.0]] * 3])
    chosen = jnp.array([[2, 1, -1], [-1, -1, -1]])
    np.testing.assert_allclose(moe_loss(weights, chosen), [(np.log(4) - np.log(0.8)) / 2, 0.0], rtol=1e-6)


def test_moe_loss_gradient_through_the_softmax_is_w_minus_one_hot():
    logits = jnp.array([[[0.2, -0.4, 1.0]]])
    gradient = jax.jit(jax.grad(lambda z: moe_loss(jax.nn.softmax(z), jnp.array([[1]])).sum()))(logits)
    np.testing.assert_allclose(gradient, jax.nn.softmax(logits) - jnp.array([0, 1, 0]), atol=1e-6)


def test_moe_loss_stays_finite_where_the_chosen_candidate_does_not_exist():
    value, gradient = jax.jit(jax.value_and_grad(lambda w: moe_loss(w, jnp.array([[1]])).sum()))(
        jnp.array([[[1.0, 0.0]]])
    )
    np.testing.assert_allclose(value, -np.log(np.finfo(np.float32).tiny), rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_negative_entropy_by_hand():
    weights = jnp.array([[[0.5, 0.5, 0.0, 0.0], [0.25] * 4, [0.0] * 4], [[1.0, 0.0, 0.0, 0.0]] * 3])
    mask = jnp.array([[True, True, False], [True, True, True]])
    np.testing.assert_allclose(negative_entropy(weights, mask), [-(np.log(2) + np.log(4)) / 2, 0.0], rtol=1e-6)
    assert np.isfinite(jax.jit(jax.grad(lambda w: negative_entropy(w, mask).sum()))(weights)).all()


def test_descending_negative_entropy_evens_the_gates():
    logits = jnp.array([[[3.0, 0.0]]])
    gradient = jax.jit(jax.grad(lambda z: negative_entropy(jax.nn.softmax(z), jnp.array([[True]])).sum()))(logits)
    assert gradient[0, 0, 0] > 0 > gradient[0, 0, 1]


@pytest.mark.parametrize("order", [2, 3])
def test_smoothness_is_the_mean_squared_difference_where_the_stencil_is_shown(order):
    pose, confidence = random_pose()
    confidence[0, 2, 1] = 0
    frame_mask = np.ones((2, 7), bool)
    frame_mask[1, 5:] = False
    stencil = {2: [1, -2, 1], 3: [-1, 3, -3, 1]}[order]
    expected = []
    for i in range(2):
        values = []
        for start in range(7 - order):
            for joint in range(5):
                frames = range(start, start + order + 1)
                if all(confidence[i, f, joint] > 0 and frame_mask[i, f] for f in frames):
                    difference = sum(w * pose[i, f, joint] for w, f in zip(stencil, frames, strict=True))
                    values.append((difference**2).sum())
        expected.append(np.mean(values))
    np.testing.assert_allclose(smoothness(pose, confidence, order=order, frame_mask=frame_mask), expected, rtol=1e-5)


def test_smoothness_knows_straight_lines_and_parabolas():
    time = np.arange(6.0).reshape(1, 6, 1, 1)
    shown = np.ones((1, 6, 1))
    np.testing.assert_allclose(smoothness(3 * time, shown, order=2), [0.0], atol=1e-9)
    np.testing.assert_allclose(smoothness(time**2, shown, order=2), [4.0], rtol=1e-6)
    np.testing.assert_allclose(smoothness(time**2, shown, order=3), [0.0], atol=1e-9)
    np.testing.assert_allclose(smoothness(time**3, shown, order=3), [36.0], rtol=1e-6)
    with pytest.raises(ValueError, match="order"):
        smoothness(time, shown, order=1)


def test_smoothness_of_a_clip_too_short_is_zero():
    np.testing.assert_array_equal(smoothness(np.ones((1, 2, 3, 2)), np.ones((1, 2, 3)), order=2), [0.0])


def test_velocity_loss_by_hand():
    pose = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [100.0, 0.0]]).reshape(1, 4, 1, 2)
    confidence = np.array([1.0, 0.5, 1.0, 0.0]).reshape(1, 4, 1)
    np.testing.assert_allclose(velocity_loss(pose, confidence), [25 / 2])
    mask = np.array([[True, True, False, False]])
    np.testing.assert_allclose(velocity_loss(pose, confidence, frame_mask=mask), [25.0])


def test_hand_loss_weighs_the_hands_by_confidence():
    pose, confidence = random_pose(1)
    target, _ = random_pose(2)
    hands = np.array([1, 4])
    frame_mask = np.ones((2, 7), bool)
    frame_mask[1, 3:] = False
    expected = []
    for i in range(2):
        total = weight = 0.0
        for f in range(7):
            for joint in hands:
                if frame_mask[i, f]:
                    total += confidence[i, f, joint] * ((pose[i, f, joint] - target[i, f, joint]) ** 2).sum()
                    weight += confidence[i, f, joint]
        expected.append(total / weight)
    np.testing.assert_allclose(hand_loss(pose, target, confidence, hands, frame_mask=frame_mask), expected, rtol=1e-5)


def test_pose_reconstruction_ignores_what_is_missing_even_when_it_is_not_finite():
    pose = np.zeros((1, 2, 2, 2))
    target = np.array([[1.0, 2.0], [np.inf, np.nan], [3.0, 0.0], [0.0, 0.0]]).reshape(1, 2, 2, 2)
    confidence = np.array([1.0, 0.0, 0.5, 0.5]).reshape(1, 2, 2)
    np.testing.assert_allclose(pose_reconstruction(pose, target, confidence), [(5 + 4.5) / 2])
    gradient = jax.jit(jax.grad(lambda p: pose_reconstruction(p, target, confidence).sum()))(jnp.array(pose))
    assert np.isfinite(gradient).all()


def test_losses_of_nothing_are_zero_with_finite_gradients():
    pose = jnp.full((1, 4, 3, 2), jnp.nan)
    nothing = jnp.zeros((1, 4, 3))

    def total(p):
        return (
            smoothness(p, nothing, order=2) + velocity_loss(p, nothing) + pose_reconstruction(p, p * 2, nothing)
        ).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(pose)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))
