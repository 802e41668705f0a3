"""Solvers by hand and by what they promise: an order of convergence, and a table that fits its levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.renderer import solvers
from signer_jax.renderer.sampler import solve
from signer_jax.renderer.schedule import NoiseSchedule


def levels(steps, shift=3.0):
    return NoiseSchedule(shift, steps, 0.0).levels()


@pytest.mark.parametrize("name", solvers.NAMES)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_straight_flow_is_solved_exactly(name, steps):
    x0, noise = jax.random.normal(jax.random.key(0), (2, 2, 3, 4, 4, 2))
    out = solve(lambda x, sigma: (x - x0) / sigma, noise, levels(steps), solver=name)
    np.testing.assert_allclose(out, x0, atol=2e-5)


@pytest.mark.parametrize(("name", "order"), [("euler", 0.9), ("unipc", 1.9), ("dpm++", 1.6)])
def test_the_error_falls_with_the_solvers_order(name, order):
    """The flow of normal data of deviation 2 has a closed form: x scales with √(4 (1 − σ)² + σ²).

    Two first steps from an infinite λ, of order 1, cost DPM-Solver++ a part of its second order.
    """

    def field(x, sigma):
        return x * (sigma - 4 * (1 - sigma)) / (4 * (1 - sigma) ** 2 + sigma**2)

    noise = jnp.ones((1, 1, 1, 1, 1))
    error = [abs(float(solve(field, noise, levels(n, 1.0), solver=name).squeeze()) - 2) for n in (16, 32, 64)]
    assert np.log2(error[0] / error[1]) > order and np.log2(error[1] / error[2]) > order


def test_levels_that_do_not_go_down_are_refused():
    for wrong in ([1.0], [0.5, 0.5], [0.0, 1.0], [1.2, 0.0], [1.0, np.nan]):
        with pytest.raises(ValueError, match="noise levels"):
            solvers.solver("euler", np.array(wrong))
    with pytest.raises(ValueError, match="none of euler, unipc"):
        solvers.solver("heun", levels(2))
