import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.renderer import schedule


def test_sigmas_by_hand():
    np.testing.assert_allclose(schedule.sigmas(4, 1.0), [1.0, 0.75, 0.5, 0.25, 0.0], atol=1e-7)
    # 3σ / (1 + 2σ) at 3/4, 1/2, 1/4
    np.testing.assert_allclose(schedule.sigmas(4, 3.0), [1.0, 2.25 / 2.5, 1.5 / 2.0, 0.75 / 1.5, 0.0], atol=1e-6)


def test_the_shift_undoes_itself_by_its_inverse():
    sigma = jnp.linspace(0.0, 1.0, 11)
    np.testing.assert_allclose(schedule.shift_sigma(schedule.shift_sigma(sigma, 5.0), 1 / 5.0), sigma, atol=1e-6)


def test_logit_normal_levels_have_the_asked_mean_and_deviation():
    sigma = schedule.sample_sigma(jax.random.key(0), 20_000, mean=-0.8, std=1.2, clean_share=0.0, shift=1.0)
    logits = np.log(sigma / (1 - sigma))
    assert abs(logits.mean() + 0.8) < 0.03 and abs(logits.std() - 1.2) < 0.03
    shifted = schedule.sample_sigma(jax.random.key(0), 20_000, mean=-0.8, std=1.2, clean_share=0.0, shift=3.0)
    np.testing.assert_allclose(shifted, 3 * sigma / (1 + 2 * sigma), rtol=1e-5)


def test_the_clean_share_lies_uniformly_at_the_clean_end():
    # All other levels are near 1, so that what is below 0.1 is the share.
    sigma = schedule.sample_sigma(jax.random.key(1), 20_000, mean=6.0, std=0.1, clean_share=0.15, shift=3.0)
    clean = sigma[sigma < 0.5]
    assert abs(len(clean) / len(sigma) - 0.15) < 0.01
    assert clean.max() < 0.1 and abs(clean.mean() - 0.05) < 0.002
    assert abs(np.mean(clean < 0.025) - 0.25) < 0.03


def test_uniform_levels_are_shifted():
    sigma = schedule.sample_sigma_uniform(jax.random.key(0), 20_000, shift=3.0)
    uniform = sigma / (3 - 2 * sigma)  # the inverse of the shift
    np.testing.assert_allclose(np.quantile(uniform, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.015)


def test_levels_depend_on_the_key_alone():
    draw = lambda seed: schedule.sample_sigma(  # noqa: E731
        jax.random.key(seed), 8, mean=0.0, std=1.0, clean_share=0.5, shift=1.0
    )
    np.testing.assert_array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))


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
