"""The FLOPs that a model needs, against what is counted by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.sharding import AxisType, PartitionSpec

from signer_jax.renderer import splash
from signer_jax.renderer.attention import KEPT
from signer_jax.renderer.remat import POLICIES
from signer_jax.training import flops

X, W, V = jnp.zeros((64, 32)), jnp.zeros((32, 48)), jnp.zeros((48, 16))
FIRST, SECOND = 2 * 64 * 32 * 48, 2 * 64 * 48 * 16


def two(params, x):
    return (jnp.tanh(x @ params["w"]) @ params["v"]).sum()


def test_a_product_costs_again_for_each_factor_that_depends_on_what_trains():
    # The input does not train: the first layer has its kernel's gradient alone.
    assert flops.training(two, {"w": W, "v": V}, X) == 2 * FIRST + 3 * SECOND
    assert flops.training(lambda w, v, x: two({"w": w, "v": v}, x), W, V, X) == 2 * FIRST + 2 * SECOND  # v is frozen
    assert flops.training(lambda v, w, x: two({"w": w, "v": v}, x), V, W, X) == FIRST + 2 * SECOND
    assert flops.forward(two, {"w": W, "v": V}, X) == FIRST + SECOND


def test_nothing_behind_a_stopped_gradient_trains():
    def stopped(params, x):
        return (jax.lax.stop_gradient(x @ params["w"]) @ params["v"]).sum()

    assert flops.training(stopped, {"w": W, "v": V}, X) == FIRST + 2 * SECOND


def test_remat_and_jit_and_written_gradients_cost_what_the_function_does():
    inner = jax.custom_vjp(lambda x, w: x @ w)
    inner.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))
    for wrapped in (jax.checkpoint(two), jax.jit(two), lambda p, x: (jnp.tanh(inner(x, p["w"])) @ p["v"]).sum()):
        assert flops.training(wrapped, {"w": W, "v": V}, X) == 2 * FIRST + 3 * SECOND


def test_a_loop_counts_as_often_as_it_runs_and_a_carry_that_comes_to_train_does():
    square = jnp.zeros((5, 32, 32))

    def layers(w, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0].sum()

    # Only the first round's input does not train; a loop is counted as its rounds from then on.
    assert flops.training(layers, square, X) == 5 * 3 * 2 * 64 * 32 * 32


def test_of_several_branches_the_dearest_is_counted():
    def either(w, x, which):
        return jax.lax.cond(which, lambda: (x @ w).sum(), lambda: (x @ w @ w.T).sum())

    assert flops.forward(either, W, X, True) == 2 * FIRST
    one = partial(jax.lax.platform_dependent, cpu=lambda x, w: x @ w, default=lambda x, w: (x @ w) + 1.0)
    assert flops.forward(one, X, W) == FIRST


def test_a_function_of_each_device_counts_for_all_that_share_its_work():
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    spec = PartitionSpec("fsdp")
    product = jax.shard_map(lambda x, w: x @ w, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec)
    assert flops.forward(product, X, W) == FIRST  # not twice, for `data`, along which all do the same


def test_convolutions():
    x, kernel = jnp.zeros((2, 16, 16, 8)), jnp.zeros((3, 3, 8, 4))

    def convolved(kernel, x):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")).sum()

    assert flops.training(convolved, kernel, x) == 2 * 2 * (2 * 16 * 16 * 4) * 3 * 3 * 8


def test_a_kernel_counts_as_often_as_its_grid():
    def kernel(x, w, out):
        out[...] = x[...] @ w[...]

    def product(w, x):
        shape = jax.ShapeDtypeStruct((64, 48), jnp.float32)
        rows = pl.BlockSpec((16, 32), lambda i: (i, 0)), pl.BlockSpec((32, 48), lambda i: (0, 0))
        call = pl.pallas_call(
            kernel, shape, grid=(4,), in_specs=rows, out_specs=pl.BlockSpec((16, 48), lambda i: (i, 0)), interpret=True
        )
        return call(x, w)

    assert flops.forward(product, W, X) == FIRST
    assert flops.training(product, W, X) == 3 * FIRST
    twice = jax.make_jaxpr(lambda w, x: jax.lax.scan(lambda x, _: (x + product(w, x).sum(), None), x, None, 2)[0])(W, X)
    assert flops.kernels(twice.jaxpr) == 2 * FIRST


@pytest.mark.parametrize(("policy", "units"), [("none", 7), ("attention", 7), ("full", 9)])
def test_the_splash_kernel_is_counted_as_often_as_it_runs(policy, units):
    """Two products forwards, five backwards, and two more where its results are not kept."""
    arrays, one = [jax.ShapeDtypeStruct((1, 2048, 1, 128), jnp.bfloat16)] * 3, 2 * 2048**2 * 128
    attend = partial(splash.splash_attention, name=KEPT)
    if policy != "none":
        attend = jax.checkpoint(attend, policy=POLICIES[policy])

    def loss(q, k, v):
        return jnp.square(jnp.tanh(attend(jnp.sin(q), jnp.sin(k), jnp.sin(v))).astype(jnp.float32)).sum()

    assert flops.kernels(jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(*arrays).jaxpr) == units * one
