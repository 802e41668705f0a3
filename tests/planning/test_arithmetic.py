"""The memory of a jaxpr, against what is counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from signer_jax.chips import GiB, Topology, topology
from signer_jax.planning.arithmetic import _Sizes, _walk
from signer_jax.planning.estimate import estimate, utilisation

X, W = jnp.zeros((1024, 256)), jnp.zeros((256, 256))
ONE = 4 * 1024 * 256  # bytes of a layer's result
KERNELS = _Sizes(frozenset({(256, 256), (4, 256, 256)}))


def peak(function, *args) -> float:
    return _walk(jax.make_jaxpr(function)(*args).jaxpr, KERNELS)[0] / ONE


def test_results_of_products_lie_there_until_their_last_use_and_the_rest_is_fused():
    assert peak(lambda x, w: x @ w, X, W) == 1
    assert peak(lambda x, w: jnp.tanh(2 * (x @ w)) + 1, X, W) == 1
    assert peak(lambda x, w: ((x @ w) @ w) @ w, X, W) == 2  # what is read, and what is written
    assert peak(lambda x, w: (h := x @ w) + ((h @ w) @ w), X, W) == 3  # the first is read again at the end


def test_gradients_keep_what_they_need_and_remat_makes_it_again():
    def layer(x, w):
        return jnp.tanh(jnp.tanh(x @ w) @ w)

    def loss(step, x, w):
        return jax.lax.scan(lambda x, w: (step(x, w), None), x, w)[0].sum()

    stack = jnp.zeros((4, 256, 256))
    kept = peak(jax.grad(lambda w: loss(layer, X, w)), stack)
    again = peak(jax.grad(lambda w: loss(jax.checkpoint(layer), X, w)), stack)
    assert again < kept
    assert 4 <= again <= 10  # the inputs of four layers, and the work of one


def test_the_logits_of_long_attention_are_never_written():
    def attention(q):
        return jax.nn.softmax(q @ jnp.swapaxes(q, 1, 2)) @ q

    assert peak(attention, jnp.zeros((2, 2048, 64))) < 2  # 32 MiB of logits else
    assert peak(attention, jnp.zeros((64, 256, 64))) > 15  # of short ones there is no such kernel


def test_topologies():
    assert topology("v5p:4x4x4") == Topology("v5p:4x4x4", "v5p", 64)
    assert topology("H200:64").kind == "h200" and topology("h100:8").size == 8
    assert topology("v6e:8x8").chip.memory == 31.25 * GiB
    # Beyond a node of eight GPUs the network is the link.
    assert topology("h100:16").chip.link < topology("h100:8").chip.link


def test_the_roofline_is_the_longest_of_three():
    chip = topology("v5p:2x2x1").chip
    found = estimate(chip, 459e12, 2 * 2765e9, 0.5 * 600e9)
    assert found is not None and (found.products, found.memory, found.links) == (1.0, 2.0, 0.5)
    assert found.least == 2.0 and found.most == 3.5 and found.bound == "memory"
    assert utilisation(chip, 0.5 * 459e12, found.least) == pytest.approx(0.25)
    assert estimate(topology("cpu:8").chip, 1.0, 1.0, 1.0) is None
