"""The dense layers' product: its gradients against automatic differentiation, and what it refuses."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.matmul import conv_over_time, dense_dot, matmul
from signer_jax.slp_moe.stabiliser import Stabiliser


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((2, 3, 5), (5, 4), (2, 3, 4))]


def test_product_and_gradients_are_those_of_autodiff(arrays):
    x, kernel, gradient = arrays
    ours, pullback = jax.vjp(matmul, x, kernel)
    theirs, reference = jax.vjp(jnp.matmul, x, kernel)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    for a, b in zip(pullback(gradient), reference(gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_gradient_of_the_gradient(arrays):
    x, kernel, _ = arrays

    def slope(product):
        return jax.grad(lambda kernel: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(product(x, kernel))))(x) ** 2))

    np.testing.assert_allclose(slope(matmul)(kernel), slope(jnp.matmul)(kernel), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("c", [3, 9])
def test_the_narrower_factor_of_the_kernel_gradient_is_turned_round(arrays, c):
    """What the written gradient is for: autodiff's always ends in a transpose, having turned the gradient round."""
    gradient = arrays[2]
    x, kernel = jnp.ones((*gradient.shape[:2], c)), jnp.ones((c, gradient.shape[-1]))

    def last_operation(product):
        pullback = lambda kernel: jax.vjp(lambda kernel: product(x, kernel), kernel)[1](gradient)[0]  # noqa: E731
        return jax.make_jaxpr(pullback)(kernel).eqns[-1].primitive.name

    assert last_operation(matmul) == ("transpose" if c > gradient.shape[-1] else "dot_general")
    assert last_operation(jnp.matmul) == "transpose"
    ours, theirs = (jax.vjp(product, x, kernel)[1](gradient)[1] for product in (matmul, jnp.matmul))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_dtypes_and_one_axis(arrays):
    x, kernel, _ = (a.astype(jnp.bfloat16) for a in arrays)
    by_x, by_kernel = jax.grad(lambda *a: matmul(*a).astype(jnp.float32).sum(), (0, 1))(x[0, 0], kernel)
    assert by_x.shape == (5,) and by_kernel.shape == (5, 4)
    assert by_x.dtype == by_kernel.dtype == jnp.bfloat16


def test_dense_layer(arrays):
    x, kernel, _ = arrays
    y = nn.Dense(4, use_bias=False, dot_general=dense_dot).apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(y, x @ kernel, rtol=1e-6, atol=1e-6)
    with pytest.raises(AssertionError):
        dense_dot(x, kernel.T, (((2,), (1,)), ((), ())))


def test_a_convolution_over_time_is_lax_convolution_with_its_gradients():
    rng = np.random.default_rng(1)
    x, kernel, gradient = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in
                           ((2, 9, 5), (3, 5, 4), (2, 7, 4)))  # fmt: skip

    def theirs(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))

    def ours(x, kernel):
        return conv_over_time(x, kernel, (1,), "VALID")

    (a, pullback), (b, reference) = jax.vjp(ours, x, kernel), jax.vjp(theirs, x, kernel)
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    for one, other in zip(pullback(gradient), reference(gradient), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_the_stabiliser_step_has_no_convolution():
    """Its kernel gradient is what XLA's CPU backend makes slowly."""
    stabiliser = Stabiliser(hidden=8, layers=2, kernel=3)
    pose, confidence = jnp.ones((1, 6, 2, 2)), jnp.ones((1, 6, 2))
    params = stabiliser.init(jax.random.key(0), pose, confidence)
    step = jax.grad(lambda params: stabiliser.apply(params, pose, confidence).sum())
    assert "convolution" not in jax.jit(step).lower(params).as_text()
