"""The stem and head around the transformer: what they see, and where they start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax import configuration
from signer_jax import model as models
from signer_jax.errors import SignerError
from signer_jax.renderer.conditions import Conditions, without
from signer_jax.renderer.hybrid import Head, Stem, TimedBlock, fold_space, unfold_space
from signer_jax.renderer.render import GUIDED
from signer_jax.renderer.schedule import predict_x0
from signer_jax.validation import read


@pytest.fixture(scope="module")
def renderer():
    from conftest import TINY

    config = configuration.load(TINY)
    config.stages = ("vae", "renderer")
    model, _ = models.build(read(config), 0)
    params = models.init_renderer(model, jax.random.key(0))
    return model.renderer, params


@pytest.fixture(scope="module")
def inputs(renderer):
    r, _ = renderer
    keys = jax.random.split(jax.random.key(1), 3)
    noisy, reference = jax.random.normal(keys[0], (2, 3, 8, 8, 4)), jax.random.normal(keys[1], (2, 8, 8, 4))
    channels = r.temporal_ratio * len(r.groups)
    picture = jax.random.uniform(keys[2], (2, 3, *r.control_size, channels))
    conditions = Conditions(reference=reference, picture=picture, scale=jnp.ones(2), text=r.text(None, None, 2))
    return noisy, jnp.array([0.2, 0.9]), conditions


def test_pixels_are_folded_into_channels_by_rows():
    picture = jnp.arange(16.0).reshape(1, 1, 4, 4, 1)
    np.testing.assert_array_equal(fold_space(picture, 2)[0, 0], [[[0, 1, 4, 5], [2, 3, 6, 7]],
                                                                [[8, 9, 12, 13], [10, 11, 14, 15]]])  # fmt: skip
    other = jax.random.normal(jax.random.key(0), (2, 3, 6, 4, 5))
    np.testing.assert_array_equal(unfold_space(fold_space(other, 2), 2), other)


def test_a_block_starts_as_the_identity():
    x, time = jax.random.normal(jax.random.key(0), (1, 2, 4, 4, 8)), jnp.ones((1, 6))
    block = TimedBlock(8, jnp.float32)
    np.testing.assert_array_equal(block.apply(block.init(jax.random.key(1), x, time), x, time), x)


def test_an_untrained_renderer_leads_to_half_the_reference(renderer, inputs):
    r, params = renderer
    noisy, sigma, conditions = inputs
    reference = conditions.reference
    clean = predict_x0(noisy, sigma, r.velocity(params, *inputs))
    np.testing.assert_allclose(clean, jnp.broadcast_to(reference[:, None] / 2, noisy.shape), atol=1e-5)


def test_pure_noise_does_not_reach_the_clean_latents(renderer, inputs):
    r, params = renderer
    keys = iter(jax.random.split(jax.random.key(3), 1000))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape), params)
    noisy, _, said = inputs
    one, other = (predict_x0(x, jnp.ones(2), r.velocity(params, x, jnp.ones(2), said)) for x in (noisy, -noisy))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_trained_it_sees_pose_reference_and_noise_and_dropping_the_pose_hides_it(renderer, inputs):
    r, params = renderer
    keys = iter(jax.random.split(jax.random.key(2), 1000))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape), params)
    velocity = jax.jit(lambda *args: r.velocity(params, *args))
    noisy, sigma, said = inputs
    first = velocity(*inputs)
    other = said._replace(picture=1 - said.picture, text=said.text + 1)
    for changed in (
        (noisy, sigma, said._replace(reference=said.reference + 1)),
        (noisy, sigma, said._replace(picture=other.picture)),
        (noisy, 0.5 * sigma, said),
        (noisy, sigma, said._replace(text=other.text)),
    ):
        assert float(jnp.abs(velocity(*changed) - first).max()) > 1e-3
    np.testing.assert_array_equal(*(velocity(noisy, sigma, without(one, GUIDED)) for one in (said, other)))


def test_a_picture_that_does_not_fold_onto_the_latents_is_refused():
    from conftest import TINY

    config = configuration.load(TINY)
    config.stages, config.renderer.control_size = ("vae", "renderer"), 36
    with pytest.raises(SignerError, match="control_size 36"):
        models.build(read(config), 0)


def test_latents_that_do_not_halve_as_often_as_there_are_levels_are_refused():
    from conftest import TINY

    config = configuration.load(TINY)
    config.stages, config.renderer.stem_features = ("vae", "renderer"), (8, 8, 8, 8, 8)
    with pytest.raises(
        SignerError, match=r"size 32,32: must be multiples of 128 \(VAE 4 x stem 16 x patch 2\): height 128"
    ):
        models.build(read(config), 0)


def test_the_modules_keep_the_latents_grid():
    widths = (32, 48, 64)
    stem, head = Stem(widths, 1, 64), Head(widths, 2, 64)
    noisy, picture = jnp.zeros((1, 3, 16, 16, 32)), jnp.zeros((1, 3, 64, 64, 12))
    levels = jax.eval_shape(
        lambda: stem.init_with_output(jax.random.key(0), noisy, noisy[:, 0], picture, jnp.ones(1))[0]
    )
    assert [level.shape for level in levels] == [(1, 3, 16, 16, 32), (1, 3, 8, 8, 48), (1, 3, 4, 4, 64)]
    out = jax.eval_shape(
        lambda f: head.init_with_output(jax.random.key(0), f[-1], f, noisy, noisy[:, 0], jnp.ones(1))[0], levels
    )
    assert out.shape == noisy.shape and out.dtype == jnp.float32
