"""The stabiliser: a light filter at the start, blind to padding and missing joints, able to take jitter out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from signer_jax.slp_moe.losses import pose_reconstruction
from signer_jax.slp_moe.stabiliser import Stabiliser, extend_edges, low_pass, restrained

B, T, J, C = 2, 12, 4, 2


def random_pose(seed=0, frames=T):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(B, frames, J, C)).astype(np.float32), np.ones((B, frames, J), np.float32)


def busy_params(model, pose, confidence):
    """Random parameters, in the output layer too, so that the network does something."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), pose, confidence)
    return jax.tree.map(lambda leaf: (0.3 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


def test_extend_edges_repeats_the_first_and_the_last_real_frame():
    states = jnp.arange(1.0, 5.0).reshape(1, 4, 1).repeat(2, axis=0)
    extended = extend_edges(states, jnp.array([4, 2]), 2)[..., 0]
    np.testing.assert_array_equal(extended, [[1, 1, 1, 2, 3, 4, 4, 4], [1, 1, 1, 2, 2, 2, 2, 2]])


def test_starts_as_the_binomial_filter():
    pose, confidence = random_pose()
    model = Stabiliser(hidden=16, layers=2, kernel=5)
    params = jax.jit(model.init)(jax.random.key(0), pose, confidence)
    around = np.concatenate([pose[:, :1], pose, pose[:, -1:]], axis=1)
    expected = (around[:, :-2] + 2 * around[:, 1:-1] + around[:, 2:]) / 4
    np.testing.assert_allclose(jax.jit(model.apply)(params, pose, confidence), expected, atol=1e-6)
    assert params["params"]["layers"]["conv"]["kernel"].shape == (2, 5, 16, 16)


def test_the_filter_averages_over_the_frames_that_show_a_joint():
    pose = np.arange(6.0, dtype=np.float32).reshape(1, 6, 1, 1)
    shown = np.array([1, 1, 0, 1, 1, 1], bool).reshape(1, 6, 1, 1)
    taps = np.array([[1.0], [2.0], [1.0]], np.float32)
    result = jax.jit(low_pass)(pose, shown, jnp.array([5]), taps)[0, :, 0, 0]
    # Frame 1 has a right neighbour that is missing, frame 3 a left one; frame 4 is the last and repeats itself.
    np.testing.assert_allclose(result[jnp.array([0, 1, 3, 4])], [0.25, 2 / 3, 10 / 3, 15 / 4], rtol=1e-6)


def test_result_does_not_depend_on_padding():
    pose, confidence = random_pose()
    model = Stabiliser(hidden=16, layers=2, kernel=5)
    params = busy_params(model, pose, confidence)
    alone = jax.jit(model.apply)(params, pose, confidence)
    assert np.abs(alone - pose).max() > 1e-2
    padded = np.concatenate([pose, np.full((B, 5, J, C), 77.0, np.float32)], axis=1)
    padded_confidence = np.concatenate([confidence, np.ones((B, 5, J), np.float32)], axis=1)
    mask = np.arange(T + 5)[None].repeat(B, axis=0) < T
    np.testing.assert_allclose(jax.jit(model.apply)(params, padded, padded_confidence, mask)[:, :T], alone, atol=1e-5)


def test_a_missing_joint_stays_as_it_is_and_touches_nothing():
    pose, confidence = random_pose()
    confidence[0, 3, 1] = 0
    model = Stabiliser(hidden=16, layers=2, kernel=3)
    params = busy_params(model, pose, confidence)
    apply = jax.jit(model.apply)
    first = apply(params, pose, confidence)
    np.testing.assert_array_equal(first[0, 3, 1], pose[0, 3, 1])
    moved = pose.copy()
    moved[0, 3, 1] = 1e6
    second = np.array(apply(params, moved, confidence))
    second[0, 3, 1] = pose[0, 3, 1]
    np.testing.assert_array_equal(second, first)


def test_reach_is_layers_times_half_the_kernel():
    pose, confidence = random_pose(frames=15)
    model = Stabiliser(hidden=8, layers=2, kernel=5)
    params = busy_params(model, pose, confidence)
    moved = pose.copy()
    moved[:, 7] += 1
    apply = jax.jit(model.apply)
    change = np.abs(apply(params, moved, confidence) - apply(params, pose, confidence)).max(axis=(0, 2, 3))
    assert (change[3:12] > 0).all()
    assert change[:3].max() == 0 and change[12:].max() == 0


def test_remat_and_unroll_change_nothing():
    pose, confidence = random_pose()
    plain = Stabiliser(hidden=8, layers=2, kernel=3)
    params = busy_params(plain, pose, confidence)
    other = Stabiliser(hidden=8, layers=2, kernel=3, scan_unroll=2, remat=True)

    def total(model):
        return jax.jit(jax.grad(lambda p: jnp.square(model.apply(p, pose, confidence)).sum()))(params)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), total(plain), total(other))


def test_no_confident_joint_moves_farther_than_its_reach():
    pose, confidence = random_pose()
    confidence *= np.random.default_rng(3).uniform(0.2, 1, confidence.shape).astype(np.float32)
    confidence[0, 2, 1] = 0
    free, held = (Stabiliser(hidden=16, layers=2, kernel=5, reach=reach) for reach in (0.0, 0.3))
    params = busy_params(free, pose, confidence)
    moves = [np.asarray(jax.jit(model.apply)(params, pose, confidence)) - pose for model in (free, held)]
    length = [np.linalg.norm(move, axis=-1) * confidence for move in moves]  # what a sure joint would have moved
    assert (length[0] > 0.3).mean() > 0.5 and length[1].max() < 0.3 + 1e-5
    within = length[0] < 0.3
    np.testing.assert_allclose(moves[1][within], moves[0][within], atol=1e-6)
    # Beyond, it is moved the same way, as far as it may be.
    np.testing.assert_allclose(length[1][~within], 0.3, atol=1e-5)
    turned = (moves[0] * moves[1]).sum(-1) / np.maximum(np.linalg.norm(moves[0], axis=-1), 1e-9)
    np.testing.assert_allclose(turned, np.linalg.norm(moves[1], axis=-1), atol=1e-5)


def test_the_reach_has_gradients_everywhere():
    change = jnp.array([[[[0.0, 0.0], [3.0, 4.0], [0.01, 0.0], [1.0, 0.0]]]])
    confidence = jnp.array([[[1.0, 1.0, 1.0, 0.0]]])
    slope = jax.grad(lambda x: restrained(x, confidence, 0.5).sum())(change)
    assert bool(jnp.isfinite(slope).all())
    np.testing.assert_allclose(slope[0, 0, 0], [1, 1])
    # Beyond the reach only the direction is free: .5 x/|x| has the gradient .5 (1 - u uᵀ) / |x|, u = (.6, .8).
    np.testing.assert_allclose(slope[0, 0, 1], 0.1 * (np.ones(2) - np.array([0.6, 0.8]) * 1.4), atol=1e-6)
    np.testing.assert_allclose(restrained(change, confidence, 0.5)[0, 0, 1], [0.3, 0.4], atol=1e-6)


def test_even_kernel_is_refused():
    pose, confidence = random_pose()
    with pytest.raises(ValueError, match="odd"):
        Stabiliser(hidden=8, layers=1, kernel=4).init(jax.random.key(0), pose, confidence)


def test_learns_to_take_jitter_out():
    """Sine motions with white jitter: after 200 steps unseen clips have a tenth less error than the filter leaves."""
    model = Stabiliser(hidden=24, layers=1, kernel=5)
    optimiser = optax.adam(1e-2)

    def clips(key, count):
        phase_key, speed_key, noise_key = jax.random.split(key, 3)
        phase = jax.random.uniform(phase_key, (count, 1, 2, C), maxval=6.3)
        speed = jax.random.uniform(speed_key, (count, 1, 2, C), minval=0.1, maxval=0.5)
        clean = jnp.sin(speed * jnp.arange(16)[None, :, None, None] + phase)
        return clean, clean + 0.2 * jax.random.normal(noise_key, clean.shape)

    def error(params, clean, noisy):
        shown = jnp.ones(clean.shape[:3])
        return pose_reconstruction(model.apply(params, noisy, shown), clean, shown).mean()

    def step(carry, i):
        params, state = carry
        gradient = jax.grad(error)(params, *clips(jax.random.fold_in(jax.random.key(2), i), 16))
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def before_and_after():
        clean, noisy = clips(jax.random.key(3), 64)
        params = model.init(jax.random.key(1), noisy, jnp.ones(clean.shape[:3]))
        (trained, _), _ = jax.lax.scan(step, (params, optimiser.init(params)), jnp.arange(200))
        return error(params, clean, noisy), error(trained, clean, noisy)

    before, after = before_and_after()
    jitter = C * 0.2**2  # of which the filter leaves (1 + 4 + 1) / 16, and it lags a little behind the motion
    assert 6 / 16 * jitter < before < 8 / 16 * jitter
    assert after < 0.9 * before, (before, after)
