"""Muon's steps through the Gram matrix are optax's: of every shape, of hard matrices, on a mesh; and cost less."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROUNDS_LESS
from optax import contrib
from small_stage import OPTIMIZERS, training

from signer_jax.training import muon, partitioning
from signer_jax.training.optimizer import matrices, optimizer, schedule

C = training(optimizer="muon", steps=10, warmup=0, learning_rate=0.02, weight_decay=0.1, clip=1e9)
COEFFICIENTS = np.array([3.4445, -4.7750, 2.0315])
SHAPES = {
    "conv": {"kernel": (3, 3, 3, 32, 64), "bias": (64,)},
    "wide": {"kernel": (32, 64), "bias": (64,)},
    "tall": {"kernel": (64, 32)},
    "square": {"kernel": (40, 48)},
    "narrow": {"kernel": (64, 13)},
    "transformer": {"layers": {"wi": {"kernel": (2, 32, 128)}, "wo": {"kernel": (2, 128, 32)}, "scale": (2, 32)}},
    "zeros": {"kernel": (32, 64)},
    "tiny": {"kernel": (32, 64)},  # as large as what keeps a norm from zero
    "token_embedding": {"embedding": (50, 32)},
    "lm_head": {"kernel": (32, 50)},
}
SIZES = {"zeros": 0.0, "tiny": 1e-10}


def drawn(seed, shapes=SHAPES):
    rng = np.random.default_rng(seed)

    def one(path, shape):
        return jnp.asarray(rng.normal(size=shape) * SIZES.get(path[0].key, 1.0), jnp.float32)

    return jax.tree_util.tree_map_with_path(one, shapes, is_leaf=lambda x: isinstance(x, tuple))


def optaxs(c=C):
    """The optimizer as `optax.contrib.muon` makes it."""
    rate, adam = schedule(c), OPTIMIZERS.adamw
    return contrib.muon(
        rate, beta=OPTIMIZERS.muon.momentum, eps=adam.eps, weight_decay=c.weight_decay,
        weight_decay_mask=lambda params: jax.tree_util.tree_map_with_path(lambda p, _: p[-1].key == "kernel", params),
        adam_learning_rate=lambda step: OPTIMIZERS.muon.adam_rate * rate(step), adam_b1=adam.b1, adam_b2=adam.b2,
        muon_weight_dimension_numbers=matrices,
    )  # fmt: skip


def assert_near(one, other, error):
    """Each leaf's largest difference against its largest value."""

    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=error * max(float(jnp.abs(b).max()), 1e-30))

    jax.tree.map(compare, one, other)


def test_updates_and_state_are_those_of_optax_step_after_step():
    params = drawn(0)
    ours, theirs = optimizer(C, OPTIMIZERS), optax.chain(optax.clip_by_global_norm(C.clip), optaxs())
    state, expected = ours.init(params), theirs.init(params)
    update, reference = (jax.jit(one.update, compiler_options=ROUNDS_LESS) for one in (ours, theirs))
    for seed in range(1, 6):
        gradients = drawn(seed)
        updates, state = update(gradients, state, params)
        wanted, expected = reference(gradients, expected, params)
        assert_near(updates, wanted, 1e-5)
    assert float(jnp.abs(updates["conv"]["kernel"]).max()) > 1e-3
    assert jax.tree.structure(state) == jax.tree.structure(expected)  # what a checkpoint holds
    jax.tree.map(np.testing.assert_array_equal, state, expected)


def exactly(x):
    """Newton-Schulz as it is written, in float64; [m, n], m <= n, of norm one."""
    a, b, c = COEFFICIENTS
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


HARD = {
    "even": np.ones(48),
    "1 to 1e-2": np.logspace(0, -2, 48),
    "1 to 1e-8": np.logspace(0, -8, 48),
    "one and 1e-3": np.r_[1, np.full(47, 1e-3)],
    "half the rank": np.r_[np.ones(24), np.zeros(24)],
    "rank one": np.r_[1, np.zeros(47)],
    "zeros": np.zeros(48),
}


@pytest.mark.parametrize("values", HARD.values(), ids=HARD)
def test_hard_matrices_are_near_float64(values):
    """A singular value s of the largest is known to 1e-7 / s² of itself at first, and what is lost there is little."""
    rng = np.random.default_rng(0)
    left, right = np.linalg.qr(rng.normal(size=(48, 48)))[0], np.linalg.qr(rng.normal(size=(432, 48)))[0]
    x = (left * (values / max(np.linalg.norm(values), 1e-30))) @ right.T
    found = muon.newton_schulz(jnp.asarray(x, jnp.float32), jnp.asarray(COEFFICIENTS, jnp.float32))
    assert np.linalg.norm(found - exactly(x), 2) < (1e-5 if np.ptp(values) == 0 else 5e-3)
    tall = muon.newton_schulz(jnp.asarray(x.T, jnp.float32), jnp.asarray(COEFFICIENTS, jnp.float32))
    np.testing.assert_array_equal(tall, found.T)


def flops(tx, kernel):
    params = {"kernel": jnp.ones(kernel)}
    return jax.jit(tx.update).lower(params, tx.init(params), params).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("kernel", [(864, 32), (32, 864), (3, 3, 96, 48), (48, 96)])
def test_a_long_matrix_costs_what_is_counted_and_nothing_twice(kernel):
    out, into = kernel[-1], math.prod(kernel[:-1])
    m, n = min(out, into), max(out, into)
    ours, theirs = flops(muon.scale_by_muon(0.95, 1e-8, matrices), kernel), flops(optaxs(), kernel)
    products = 2 * (2 * m * m * n + 17 * m**3)
    assert products <= ours < products + 100 * m * n  # the rest is a few of each value
    assert ours < theirs


@pytest.mark.parametrize(("kernel", "platform"), [((48, 72), "cpu"), ((72, 48), "cpu"), ((32, 864), "tpu")])
def test_where_it_saves_nothing_the_steps_are_optaxs_own(kernel, platform, monkeypatch):
    monkeypatch.setattr(muon, "platform", lambda: platform)
    params = {"kernel": jnp.ones(kernel)}
    ours = muon.scale_by_muon(0.95, 1e-8, matrices)
    theirs = contrib.scale_by_muon(beta=0.95, eps=1e-8, weight_dimension_numbers=matrices)
    gradients, state = drawn(0, {"kernel": kernel}), theirs.init(params)
    jax.tree.map(np.testing.assert_array_equal, ours.update(gradients, state), theirs.update(gradients, state))
    assert flops(ours, kernel) == flops(theirs, kernel)


@pytest.mark.parametrize("shape", [{"fsdp": 8}, {"fsdp": 2, "tensor": 4}])
def test_on_a_mesh_updates_are_one_devices_and_no_more_goes_between_devices(shape):
    mesh = partitioning.make_mesh(shape)
    block = {"wi": {"kernel": (2, 64, 256)}, "wo": {"kernel": (2, 256, 64)}}
    params = drawn(0, {"transformer": {"layers": block}, "conv": {"kernel": (3, 3, 32, 64)}})
    ours, theirs = optimizer(C, OPTIMIZERS), optaxs()

    def on_mesh(tx):
        state = tx.init(params)
        places = partitioning.tree_shardings((params, state, params), mesh)
        update = jax.jit(partitioning.laid_out(tx.update, mesh), in_shardings=places, out_shardings=places[:2])
        compiled = update.lower(params, state, params).compile()
        return compiled(*jax.device_put((params, state, params), places))[0], moved(compiled.as_text())

    updates, sizes = on_mesh(ours)
    alone, _ = jax.jit(ours.update)(params, ours.init(params), params)
    assert_near(updates, alone, 1e-5)
    _, before = on_mesh(theirs)
    assert max(sizes) <= max(before) and sum(sizes) < sum(before)


def moved(text):
    """The sizes of the arrays that a compiled program's collectives make."""
    kinds = "all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute"
    made = re.findall(rf"= (\S+) (?:{kinds})(?:-start)?\(", text)
    return [math.prod(map(int, size.split(","))) for one in made for size in re.findall(r"f32\[([\d,]+)\]", one)]
