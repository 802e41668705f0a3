"""Solvers against diffusers' schedulers, step by step, on a velocity that no solver integrates exactly."""

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from signer_jax.renderer import solvers  # noqa: E402
from signer_jax.renderer.schedule import NoiseSchedule  # noqa: E402

pytestmark = pytest.mark.parity

SHAPE = (2, 3, 4, 4, 5)


def _velocities(steps):
    """A random function of x and of the step."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(steps, SHAPE[-1], SHAPE[-1])).astype(np.float32) * 0.4
    push = rng.normal(size=(steps, *SHAPE)).astype(np.float32)
    return lambda i, x: np.tanh(np.asarray(x) @ mix[i]) + 0.5 * push[i]


def _ours(name, sigmas, noise, velocity):
    method = solvers.solver(name, sigmas)
    state, path = method.start(jnp.asarray(noise)), []
    for i, row in enumerate(method.table):
        state = method.advance(state, jnp.asarray(velocity(i, state.x)), jnp.asarray(row))
        path.append(np.asarray(state.x))
    return path


def _theirs(scheduler, noise, velocity):
    x, path = torch.from_numpy(noise), []
    for i, t in enumerate(scheduler.timesteps):
        v = torch.from_numpy(velocity(i, x.numpy()))
        x = scheduler.step(v, t, x, return_dict=False)[0]
        path.append(x.numpy())
    return path


def _compare(name, sigmas, scheduler, steps):
    noise, velocity = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32), _velocities(steps)
    ours, theirs = _ours(name, sigmas, noise, velocity), _theirs(scheduler, noise, velocity)
    assert len(ours) == len(theirs) == steps
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a - b).max() < 1e-5 * max(1.0, np.abs(b).max())


@pytest.mark.parametrize("shift", [1.0, 3.0, 12.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20])
def test_unipc_is_equal(steps, shift):
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, final_sigmas_type="zero"
    )
    config = scheduler.config
    assert (config.solver_order, config.solver_type, config.predict_x0, config.lower_order_final) == (
        2,
        "bh2",
        True,
        True,
    )
    sigmas = NoiseSchedule(shift, steps, 0.0).levels()
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1])  # it shifts them itself
    np.testing.assert_allclose(scheduler.sigmas, sigmas, atol=2e-6)
    _compare("unipc", sigmas, scheduler, steps)


def test_unipc_is_equal_at_the_levels_that_it_takes_by_itself():
    """They end a thousandth of the range above ours."""
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
    )
    scheduler.set_timesteps(12)
    _compare("unipc", scheduler.sigmas.numpy(), scheduler, 12)


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_euler_is_equal(shift):
    sigmas = NoiseSchedule(shift, 10, 0.0).levels()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()  # given its levels: by itself it shifts them twice
    scheduler.set_timesteps(sigmas=sigmas[:-1].tolist())
    np.testing.assert_allclose(scheduler.sigmas, sigmas, atol=1e-6)
    _compare("euler", sigmas, scheduler, 10)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # its own, on NumPy 2
@pytest.mark.parametrize("steps", [2, 3, 10, 20])
def test_dpm_is_equal(steps):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    _compare("dpm++", scheduler.sigmas.numpy(), scheduler, steps)
