import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.renderer.sampler import Dropped, Experts, by_expert, colour, sample, shared_noise
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


def test_text_and_pose_are_dropped_each_with_a_guidance_of_its_own():
    noise, batches = normal(0), []
    full = {"text": jnp.array([2.0, 3.0]), "pose": jnp.array([5.0, 7.0])}
    no_text, no_pose = full | {"text": jnp.zeros(2)}, full | {"pose": jnp.zeros(2)}

    def velocity(x, sigma, c):
        batches.append(x.shape[0])
        return jnp.broadcast_to((c["text"] + 10 * c["pose"])[:, None, None, None, None], x.shape)

    def run(*dropped):
        batches.clear()
        out = sample(velocity, noise, jnp.array([1.0, 0.0]), guidance=1.0, condition=full, dropped=dropped)
        return np.asarray(noise - out)[:, 0, 0, 0, 0]

    # v = text + 10 pose; without the text it is less by the text, without the pose by 10 times the pose.
    pushed = run(Dropped(4.0, no_text), Dropped(1.5, no_pose))
    np.testing.assert_allclose(pushed, [52 + 3 * 2 + 0.5 * 50, 73 + 3 * 3 + 0.5 * 70], rtol=1e-5)
    assert set(batches) == {6}
    np.testing.assert_allclose(run(Dropped(1.0, no_text), Dropped(1.5, no_pose)), [52 + 25, 73 + 35], rtol=1e-5)
    assert set(batches) == {4}  # what is not led away from is not computed


@pytest.mark.parametrize("solver", ["euler", "unipc", "dpm++"])
def test_two_experts_that_are_one_model_change_nothing(solver):
    """The solver's memory goes on over the boundary."""
    velocity = lambda x, sigma, c: jnp.tanh(2 * x) * sigma[:, None, None, None, None] + c  # noqa: E731
    options = {"guidance": 1.0, "condition": jnp.float32(0.3), "solver": solver}
    one = sample(velocity, normal(0), sigmas(6, 3.0), **options)
    two = sample(Experts(0.8, velocity, velocity), normal(0), sigmas(6, 3.0), **options)
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_the_boundary_is_half_open_and_on_the_shifted_level():
    levels = np.array([1.0, 0.95, 0.9, 0.6, 0.0], np.float32)
    assert by_expert(Experts(0.9, "high", "low"), levels) == [("high", slice(0, 3)), ("low", slice(3, 4))]
    assert by_expert(Experts(0.91, "high", "low"), levels) == [("high", slice(0, 2)), ("low", slice(2, 4))]
    assert by_expert(Experts(0.1, "high", "low"), levels) == [("high", slice(0, 4))]
    assert by_expert("one", levels) == [("one", slice(0, 4))]
    # Shifted by 12, a tenth of the steps lies below the boundary of .875; unshifted it would be seven eighths.
    assert by_expert(Experts(0.875, "high", "low"), sigmas(40, 12.0))[0] == ("high", slice(0, 26))


def test_two_experts_take_the_working_memory_of_one():
    weights = [jnp.zeros((64, 4096))] * 2

    def velocity(w):
        return lambda x, sigma, c: jnp.tanh(x @ w) @ w.T

    def compiled(field):
        run = lambda w, n: sample(field(w), n, sigmas(8, 3.0), guidance=1.0, condition=())  # noqa: E731
        return jax.jit(run).lower(weights, jnp.zeros((1, 4, 8, 8, 64))).compile().memory_analysis()

    one = compiled(lambda w: velocity(w[0])).temp_size_in_bytes
    two = compiled(lambda w: Experts(0.8, velocity(w[0]), velocity(w[1]))).temp_size_in_bytes
    assert one > 4 * 8 * 8 * 4096 * 4 and two < 1.1 * one


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
