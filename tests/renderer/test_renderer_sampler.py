import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.renderer.sampler import colour, sample, shared_noise
from signer_jax.renderer.schedule import NoiseSchedule

SHAPE = (2, 3, 4, 4, 2)


def sigmas(steps, shift):
    return NoiseSchedule(shift, steps, 0.0).levels()


def normal(seed):
    return jax.random.normal(jax.random.key(seed), SHAPE)


@pytest.mark.parametrize("steps", [1, 4])
def test_euler_is_exact_on_a_straight_flow(steps):
    x0, noise = normal(0), normal(1)

    def velocity(x, sigma, condition):  # the one path through x at σ that ends in the data: (x − x0) / σ
        return (x - condition) / sigma[:, None, None, None, None]

    out = jax.jit(lambda n: sample(velocity, n, sigmas(steps, 3.0), guidance=1.0, condition=x0))(noise)
    np.testing.assert_allclose(out, x0, atol=1e-5)


def test_each_step_is_eulers_at_its_own_level():
    levels = jnp.array([1.0, 0.6, 0.0])
    noise = normal(0)
    velocity = lambda x, sigma, condition: x * sigma[:, None, None, None, None]  # noqa: E731
    out = sample(velocity, noise, levels, guidance=1.0, condition=())
    # x1 = x + (0.6 − 1)·1·x = 0.6 x;  x2 = x1 + (0 − 0.6)·0.6·x1 = 0.64 x1
    np.testing.assert_allclose(out, 0.6 * 0.64 * noise, rtol=1e-5)


def test_guidance_runs_both_halves_in_one_call_and_extrapolates():
    noise, batches = normal(0), []
    condition = {"push": jnp.array([2.0, 3.0]), "scale": jnp.ones(2)}
    null = {"push": jnp.array([1.0, 1.0]), "scale": jnp.zeros(2)}

    def velocity(x, sigma, c):
        batches.append(x.shape[0])
        np.testing.assert_array_equal(c["scale"], [1, 1, 0, 0])
        return jnp.broadcast_to(c["push"][:, None, None, None, None], x.shape)

    out = sample(velocity, noise, jnp.array([1.0, 0.0]), guidance=4.0, condition=condition, null_condition=null)
    # null + 4 (conditional − null) is 1 + 4·1 = 5 and 1 + 4·2 = 9, and the step is −1
    np.testing.assert_allclose(out[0], noise[0] - 5.0, atol=1e-5)
    np.testing.assert_allclose(out[1], noise[1] - 9.0, atol=1e-5)
    assert set(batches) == {4}


def test_without_guidance_only_the_conditional_half_runs():
    batches = []

    def velocity(x, sigma, condition):
        batches.append((x.shape[0], sigma.shape[0], condition.shape[0]))
        return x

    sample(velocity, normal(0), sigmas(2, 1.0), guidance=1.0, condition=jnp.ones(2), null_condition=jnp.zeros(2))
    assert set(batches) == {(2, 2, 2)}


def test_guidance_without_a_null_condition_is_refused():
    with pytest.raises(ValueError, match="null_condition"):
        sample(lambda x, s, c: x, normal(0), sigmas(2, 1.0), guidance=2.0, condition=jnp.ones(2))


def test_shared_noise_is_one_frame_for_the_whole_clip():
    shared = shared_noise(jax.random.key(0), (2, 50, 8, 8, 2), shared=True)
    assert shared.shape == (2, 50, 8, 8, 2)
    np.testing.assert_array_equal(shared, jnp.broadcast_to(shared[:, :1], shared.shape))
    assert not np.allclose(shared[0], shared[1])
    free = shared_noise(jax.random.key(0), (2, 50, 8, 8, 2), shared=False)
    assert not np.allclose(free[:, 0], free[:, 1])
    for noise in (shared[:, 0], free):
        assert abs(noise.mean()) < 0.2 and abs(noise.std() - 1) < 0.1


def test_coloured_noise_has_the_covariance_of_its_factor():
    factor = jnp.array([[2.0, 0.0], [1.0, 0.5]])
    noise = colour(jax.random.normal(jax.random.key(0), (2, 8, 64, 64, 2)), factor)
    np.testing.assert_allclose(np.cov(noise.reshape(-1, 2), rowvar=False), [[4.0, 2.0], [2.0, 1.25]], atol=0.06)
    one = jnp.ones((2, 1, 1, 1, 2))
    each = colour(one, jnp.stack([factor, 3 * factor]))
    np.testing.assert_allclose(each[:, 0, 0, 0], [[2.0, 1.5], [6.0, 4.5]])
