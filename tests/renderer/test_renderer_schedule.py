from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.renderer import schedule


def test_the_samplers_levels_by_hand():
    levels = lambda shift: schedule.NoiseSchedule(shift, 4, 0.1).levels()  # noqa: E731
    np.testing.assert_allclose(levels(1.0), [1.0, 0.75, 0.5, 0.25, 0.0], atol=1e-7)
    # 3σ / (1 + 2σ) at 3/4, 1/2, 1/4
    np.testing.assert_allclose(levels(3.0), [1.0, 2.25 / 2.5, 1.5 / 2.0, 0.75 / 1.5, 0.0], atol=1e-6)


def test_the_shift_undoes_itself_by_its_inverse():
    sigma = jnp.linspace(0.0, 1.0, 11)
    np.testing.assert_allclose(schedule.shift_sigma(schedule.shift_sigma(sigma, 5.0), 1 / 5.0), sigma, atol=1e-6)


def test_the_samplers_levels_are_the_quantiles_of_what_training_sees():
    every = schedule.NoiseSchedule(0.5, 4, 0.0)
    sigma = every.draw(jax.random.key(0), 4096)
    np.testing.assert_allclose(np.quantile(sigma, [1.0, 0.75, 0.5, 0.25, 0.0]), every.levels(), atol=2e-3)


def test_the_noise_share_is_pure_noise_and_the_rest_is_drawn_as_before():
    sigma = schedule.NoiseSchedule(3.0, 4, 0.25).draw(jax.random.key(0), 4096)
    assert abs((sigma == 1.0).mean() - 0.25) < 1e-3
    rest = sigma[sigma < 1.0]
    uniform = rest / (3 - 2 * rest)  # the inverse of the shift
    np.testing.assert_allclose(np.quantile(uniform, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=2e-3)


def test_every_part_of_the_range_has_a_level_in_a_small_batch():
    for seed in range(5):
        u = schedule.NoiseSchedule(1.0, 4, 0.0).draw(jax.random.key(seed), 4)
        assert (np.floor(4 * np.asarray(u)) == [0, 1, 2, 3]).all()


def test_levels_depend_on_the_key_alone():
    draw = lambda seed: schedule.NoiseSchedule(1.0, 4, 0.1).draw(jax.random.key(seed), 8)  # noqa: E731
    np.testing.assert_array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))


def test_logit_normal_levels_have_their_distribution():
    every = schedule.NoiseSchedule(3.0, 4, 0.0, "logit-normal", 0.5, 1.5)
    sigma = np.asarray(every.draw(jax.random.key(0), 4096), np.float64)
    u = sigma / (3 - 2 * sigma)  # the inverse of the shift
    logit = np.log(u / (1 - u))
    # A normal distribution of mean .5 and deviation 1.5, at its quantiles.
    expected = [NormalDist(0.5, 1.5).inv_cdf(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
    np.testing.assert_allclose(np.quantile(logit, [0.05, 0.25, 0.5, 0.75, 0.95]), expected, atol=0.02)
    assert abs(logit.mean() - 0.5) < 0.01 and abs(logit.std() - 1.5) < 0.02
    pure = schedule.NoiseSchedule(3.0, 4, 0.25, "logit-normal").draw(jax.random.key(0), 4096)
    assert abs((pure == 1.0).mean() - 0.25) < 1e-3 and np.isfinite(pure).all()


@pytest.mark.parametrize("times", ["shifted-uniform", "logit-normal"])
def test_two_experts_share_the_levels_at_the_shifted_boundary(times):
    """Each draws from its part of what one model would draw, and no level lies on the other side."""
    every = schedule.NoiseSchedule(5.0, 4, 0.0, times, 0.2, 1.2)
    whole = np.asarray(every.draw(jax.random.key(0), 8192))
    for boundary in (0.875, 0.9):
        high = np.asarray(every.draw(jax.random.key(1), 4096, between=(boundary, 1.0)))
        low = np.asarray(every.draw(jax.random.key(2), 4096, between=(0.0, boundary)))
        assert schedule.high_noise(high, boundary).all() and not schedule.high_noise(low, boundary).any()
        parts = whole[schedule.high_noise(whole, boundary)], whole[~schedule.high_noise(whole, boundary)]
        for ours, part in zip((high, low), parts, strict=True):
            np.testing.assert_allclose(*(np.quantile(x, [0.1, 0.5, 0.9]) for x in (ours, part)), atol=2e-3)


@pytest.mark.parametrize(("times", "noise_share"), [("shifted-uniform", 0.0), ("logit-normal", 0.3)])
def test_a_batchs_levels_lie_on_one_side_and_all_batches_levels_as_without_sides(times, noise_share):
    every = schedule.NoiseSchedule(12.0, 4, noise_share, times, -0.8, 1.2)
    keys = jax.random.split(jax.random.key(3), 4000)
    levels, high = jax.jit(jax.vmap(lambda key: every.draw_side(key, 8, 0.875)))(keys)
    np.testing.assert_array_equal(np.asarray(schedule.high_noise(levels, 0.875)), np.repeat(high[:, None], 8, 1))
    assert 0.05 < high.mean() < 0.95
    whole = np.asarray(every.draw(jax.random.key(4), 32_000))
    shares = [
        (np.asarray(part) < level).mean() for level in (0.3, 0.6, 0.8, 0.875, 0.95, 1.0) for part in (levels, whole)
    ]
    np.testing.assert_allclose(shares[::2], shares[1::2], atol=0.02)


def test_a_level_on_the_boundary_is_the_first_experts():
    sigma = jnp.array([0.9, np.nextafter(np.float32(0.9), np.float32(0))])
    np.testing.assert_array_equal(schedule.high_noise(sigma, 0.9), [True, False])


def test_velocity_weights_by_hand():
    weight = schedule.velocity_weight(jnp.array([0.0, 0.1, 0.4, 1.0]), 0.4)
    np.testing.assert_allclose(weight, [0.0, 1 / 16, 1.0, 1.0], atol=1e-7)
    np.testing.assert_array_equal(schedule.velocity_weight(jnp.array([0.0, 0.5]), 0.0), [1, 1])


def test_clean_latents_and_velocity_are_each_others_inverse():
    x0, noise = jax.random.normal(jax.random.key(0), (2, 3, 2, 4, 4, 2))
    sigma = jnp.array([0.1, 0.5, 1.0])
    x = schedule.interpolate(x0, noise, sigma)
    np.testing.assert_allclose(schedule.velocity_to(x0, x, sigma), noise - x0, atol=1e-5)
    assert np.isfinite(schedule.velocity_to(x0, x, jnp.zeros(3))).all()


def test_the_linear_guess_is_the_regression_of_the_data_on_the_noisy():
    x0, noise = jax.random.normal(jax.random.key(0), (2, 200_000))
    for sigma in (0.1, 0.4, 0.9):
        x = schedule.interpolate(x0, noise, jnp.array(sigma))
        slope = float((x * x0).mean() / (x * x).mean())
        np.testing.assert_allclose(schedule.linear_guess(x, jnp.array(sigma))[:3], slope * x[:3], atol=0.02)
    np.testing.assert_array_equal(schedule.linear_guess(noise[None], jnp.ones(1)), np.zeros((1, 200_000)))


def test_interpolation_by_hand():
    x0, noise = jnp.array([[2.0, 4.0], [2.0, 4.0]]), jnp.array([[-1.0, 1.0], [-1.0, 1.0]])
    x = schedule.interpolate(x0, noise, jnp.array([0.0, 0.25]))
    np.testing.assert_allclose(x, [[2.0, 4.0], [1.25, 3.25]])
    np.testing.assert_allclose(schedule.velocity(x0, noise), [[-3.0, -3.0], [-3.0, -3.0]])


def test_the_velocity_is_the_slope_and_leads_back_to_the_data():
    keys = jax.random.split(jax.random.key(0))
    x0, noise = (jax.random.normal(key, (3, 2, 4, 4, 2)) for key in keys)
    sigma = jnp.array([0.1, 0.5, 0.9])
    _, slope = jax.jvp(lambda s: schedule.interpolate(x0, noise, s), (sigma,), (jnp.ones(3),))
    np.testing.assert_allclose(slope, schedule.velocity(x0, noise), atol=1e-6)
    x = schedule.interpolate(x0, noise, sigma)
    np.testing.assert_allclose(schedule.predict_x0(x, sigma, schedule.velocity(x0, noise)), x0, atol=1e-6)


def test_the_timestep_is_a_thousand_sigma():
    np.testing.assert_allclose(schedule.timestep(jnp.array([0.0, 0.5, 1.0])), [0.0, 500.0, 1000.0])


@pytest.mark.parametrize("timestep", [0.0, 1.0, 873.6])
def test_timestep_embedding_by_hand(timestep):
    angles = [timestep * 10_000 ** (-i / 4) for i in range(4)]
    expected = [*np.cos(angles), *np.sin(angles)]
    embedded = schedule.timestep_embedding(jnp.full((2, 3), timestep), 8)
    assert embedded.shape == (2, 3, 8)
    np.testing.assert_allclose(embedded[1, 2], expected, atol=1e-4)
