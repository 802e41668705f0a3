import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.renderer.control import ControlBranch, cross_normalise, fold_time

SMALL = {"dim": 12, "groups": 4, "freq_dim": 16, "time_dim": 8}


def normal(shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def test_fold_time_puts_the_frames_of_a_latent_side_by_side():
    video = jnp.arange(9.0).reshape(1, 9, 1, 1, 1) + jnp.array([0.0, 0.5])  # frame number, and half a frame more
    folded = fold_time(video, 4)
    assert folded.shape == (1, 3, 1, 1, 8)
    np.testing.assert_array_equal(folded[0, 0, 0, 0], [0, 0.5, 0, 0.5, 0, 0.5, 0, 0.5])
    np.testing.assert_array_equal(folded[0, 1, 0, 0], [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5])
    np.testing.assert_array_equal(folded[0, 2, 0, 0], [5, 5.5, 6, 6.5, 7, 7.5, 8, 8.5])


def test_fold_time_keeps_places_and_ratio_one_changes_nothing():
    video = normal((2, 5, 3, 2, 4))
    folded = fold_time(video, 2)
    np.testing.assert_array_equal(folded[1, 2, 0, 1, 4:], video[1, 4, 0, 1])
    np.testing.assert_array_equal(fold_time(video, 1), video)


def test_fold_time_refuses_frames_that_do_not_fold():
    with pytest.raises(SignerError, match="8 frames do not fold by 4"):
        fold_time(jnp.zeros((1, 8, 2, 2, 1)), 4)


def test_cross_normalise_gives_the_control_the_statistics_of_the_features_frame_by_frame():
    x = 3.0 + 2.0 * normal((2, 3, 4, 4, 6))
    control = -7.0 + 0.25 * normal((2, 3, 4, 4, 6), 1)
    added = np.asarray(cross_normalise(x, control, jnp.ones(2)) - x)
    for b in range(2):
        for t in range(3):
            c, features = np.asarray(control[b, t]), np.asarray(x[b, t])
            expected = (c - c.mean()) / c.std() * features.std() + features.mean()
            np.testing.assert_allclose(added[b, t], expected, rtol=2e-3, atol=1e-3)
            assert abs(added[b, t].mean() - features.mean()) < 1e-4


def test_cross_normalise_scales_each_example_and_zero_leaves_it_untouched():
    x, control = normal((3, 2, 4, 4, 6)), normal((3, 2, 4, 4, 6), 1)
    full = cross_normalise(x, control, jnp.ones(3)) - x
    out = cross_normalise(x, control, jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_array_equal(out[0], x[0])
    np.testing.assert_allclose(out[1] - x[1], 0.5 * full[1], atol=1e-6)
    np.testing.assert_allclose(out[2] - x[2], full[2], atol=1e-6)


@pytest.mark.parametrize("constant", ["control", "features", "both"])
def test_gradients_stay_finite_where_the_statistics_vanish(constant):
    x = normal((1, 2, 4, 4, 6)) if constant == "control" else jnp.zeros((1, 2, 4, 4, 6))
    control = normal((1, 2, 4, 4, 6), 1) if constant == "features" else jnp.full((1, 2, 4, 4, 6), 0.3)
    weight = normal(x.shape, 2)
    gradients = jax.grad(lambda x, c: jnp.sum(weight * cross_normalise(x, c, jnp.ones(1))), argnums=(0, 1))(x, control)
    assert all(np.isfinite(g).all() and np.abs(g).max() < 1e4 for g in gradients)
    assert np.abs(gradients[1]).max() > 0


@pytest.mark.parametrize(("size", "channels", "strides"), [(64, (8, 8, 16), (2, 2, 2)), (32, (8, 16), (2, 2))])
def test_the_branch_ends_on_the_token_grid(size, channels, strides):
    branch = ControlBranch(channels=channels, strides=strides, **SMALL)
    control, timestep = jnp.zeros((2, 3, size, size, 5)), jnp.zeros(2)
    shape = jax.eval_shape(lambda: branch.init_with_output(jax.random.key(0), control, timestep)[0]).shape
    assert shape == (2, 3, 8, 8, 12)


def test_the_branch_in_controlnexts_own_size_is_light():
    branch = ControlBranch((64, 128, 256), (2, 2, 2), dim=320, groups=8, freq_dim=128, time_dim=256)
    shapes = jax.eval_shape(branch.init, jax.random.key(0), jnp.zeros((1, 1, 64, 64, 3)), jnp.zeros(1))
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert 3.3e6 < count < 3.6e6


def test_folding_lays_neighbouring_pixels_side_by_side():
    plain, folding = (ControlBranch((8, 8), (1, 2), **SMALL, fold=fold) for fold in (1, 2))
    picture = normal((1, 2, 8, 8, 5))
    by_hand = jnp.concatenate([picture[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=-1)
    params = jax.jit(plain.init)(jax.random.key(0), by_hand, jnp.zeros(1))
    expected = jax.jit(plain.apply)(params, by_hand, jnp.zeros(1))
    np.testing.assert_allclose(jax.jit(folding.apply)(params, picture, jnp.zeros(1)), expected, atol=1e-5)


def test_a_picture_in_the_branchs_type_gives_the_same_bits():
    branch = ControlBranch((8, 8), (1, 2), **SMALL, fold=2, dtype=jnp.bfloat16)
    picture = normal((1, 2, 8, 8, 5))
    params = jax.jit(branch.init)(jax.random.key(0), picture, jnp.zeros(1))
    wide, narrow = (jax.jit(branch.apply)(params, one, jnp.zeros(1)) for one in (picture, picture.astype(jnp.bfloat16)))
    np.testing.assert_array_equal(wide, narrow)


@pytest.fixture(scope="module")
def branch():
    module = ControlBranch(channels=(8, 12), strides=(2, 2), **SMALL)
    control = normal((2, 3, 16, 16, 5))
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), control, jnp.zeros(2))
    params = jax.tree.map(lambda x: jnp.asarray(0.2 * rng.standard_normal(x.shape, np.float32)), shapes)
    return module, params, control, jax.jit(module.apply)


def test_frames_do_not_see_each_other(branch):
    _, params, control, apply = branch
    timestep = jnp.array([100.0, 900.0])
    before = apply(params, control, timestep)
    after = apply(params, control.at[1, 2].add(1.0), timestep)
    changed = np.abs(after - before).max((2, 3, 4)) > 1e-6
    np.testing.assert_array_equal(changed, [[False] * 3, [False, False, True]])


def test_the_timestep_matters_and_may_be_given_per_frame(branch):
    _, params, control, apply = branch
    at_100, at_900 = (apply(params, control, jnp.full(2, t)) for t in (100.0, 900.0))
    assert np.abs(at_100 - at_900).max() > 1e-3
    mixed = apply(params, control, jnp.array([[100.0, 900.0, 900.0]] * 2))
    np.testing.assert_allclose(mixed[:, 0], at_100[:, 0], atol=1e-5)
    np.testing.assert_allclose(mixed[:, 1:], at_900[:, 1:], atol=1e-5)


def test_gradients_reach_the_picture_and_every_parameter(branch):
    module, params, control, _ = branch
    weight = normal((2, 3, 4, 4, 12), 3)
    loss = lambda params, control: jnp.sum(weight * module.apply(params, control, jnp.full(2, 500.0)))  # noqa: E731
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))
    for gradient in jax.tree.leaves(gradients(params, control)):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    for gradient in jax.tree.leaves(gradients(params, jnp.zeros_like(control))):  # an empty picture
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("channels", "strides", "size", "message"),
    [((8, 8), (2, 2, 2), 16, "equally many"), ((8,), (2,), 16, "two or more"), ((8, 8), (2, 4), 12, "does not divide")],
)
def test_a_branch_that_does_not_fit_is_refused(channels, strides, size, message):
    branch = ControlBranch(channels=channels, strides=strides, **SMALL)
    with pytest.raises(SignerError, match=message):
        jax.eval_shape(branch.init, jax.random.key(0), jnp.zeros((1, 1, size, size, 3)), jnp.zeros(1))
