"""Which leaves Muon turns, what the optimizers' steps look like, and the rates of steps and of groups."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_stage import OPTIMIZERS, training

from signer_jax.training.optimizer import matrices, optimizer, schedule

PARAMS = {
    "stem": {"conv": {"kernel": (1, 3, 3, 32, 64), "bias": (64,)}, "narrow": {"kernel": (64, 13)}},
    "transformer": {"layers": {"wi": {"kernel": (2, 32, 48)}, "modulation": (2, 6, 32)}},
    "slul": {"token_embedding": {"embedding": (100, 32)}, "lm_head": {"kernel": (32, 100)}},
}


def params():
    shapes, tree = jax.tree.flatten(PARAMS, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return jax.tree.unflatten(tree, [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)])


def test_kernels_are_matrices_and_tables_biases_and_narrow_layers_are_none():
    found = matrices(params())
    assert found["stem"]["conv"]["kernel"] == ((0, 1, 2, 3), (4,))
    assert found["transformer"]["layers"]["wi"]["kernel"] == ((1,), (2,))  # a stack of two
    assert found["stem"]["conv"]["bias"] is None and found["stem"]["narrow"]["kernel"] is None
    assert found["transformer"]["layers"]["modulation"] is None
    assert found["slul"] == {"token_embedding": {"embedding": None}, "lm_head": {"kernel": None}}


def test_a_step_of_muon_turns_every_matrix_alike_and_follows_the_rate():
    """Every singular value of an orthogonal step is about one, whatever the gradient's were; rates: 0, then 1, warm."""
    p = params()
    tx = optimizer(training(optimizer="muon", steps=10, learning_rate=0.02, weight_decay=0.0), OPTIMIZERS)
    state = tx.init(p)
    gradient = jax.tree.map(lambda leaf: leaf * jnp.linspace(1e-3, 1, leaf.shape[-1]), p)
    first, state = tx.update(gradient, state, p)
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(first))  # the warm-up begins at 0
    second, _ = tx.update(gradient, state, p)
    for layer in second["transformer"]["layers"]["wi"]["kernel"]:
        values = np.linalg.svd(layer, compute_uv=False) / 0.02
        assert ((values > 0.4) & (values < 1.6)).all()  # the iteration leaves .7 to 1.2, here times sqrt(48 / 32)
    assert 0.0015 < float(jnp.abs(second["stem"]["conv"]["bias"]).max()) < 0.0025  # Adam's, a tenth


def steps_of(c, gradients, p, experts=()):
    tx = optimizer(c, OPTIMIZERS, experts)
    state, moved = tx.init(p), p
    for gradient in gradients:
        updates, state = tx.update(gradient, state, moved)
        moved = optax.apply_updates(moved, updates)
    return moved


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0, 0.5, 1, 1, 1, 1, 1]),
        ("linear", [0, 0.5, 1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [0, 0.5, 1, 0.853553, 0.5, 0.146447, 0]),
    ],
)
def test_the_rate_warms_up_and_follows_its_schedule(kind, expected):
    rate = schedule(training(schedule=kind, steps=6, warmup=2, learning_rate=2.0))
    np.testing.assert_allclose([rate(k) / 2 for k in range(7)], expected, atol=1e-6)
    start = schedule(training(schedule=kind, steps=6, warmup=0, learning_rate=2.0))
    assert float(start(0)) == 2.0


def test_adafactor_by_hand():
    """No momentum: the gradient over the root of its second moment, rows by columns, its size at most one; then the
    rate, and the decay times the rate."""
    c = training(optimizer="adafactor", schedule="constant", warmup=0, learning_rate=0.1, weight_decay=0.5, clip=1e9)
    rng = np.random.default_rng(0)
    p = {"a": {"kernel": jnp.asarray(rng.normal(size=(128, 160)), jnp.float32), "bias": jnp.ones(4)}}
    g = {"a": {"kernel": jnp.asarray(rng.normal(size=(128, 160)), jnp.float32), "bias": jnp.array([1.0, -2, 3, -4])}}
    moved = steps_of(c, [g], p)
    squared = np.square(np.asarray(g["a"]["kernel"], np.float64))
    second = squared.mean(1, keepdims=True) * squared.mean(0, keepdims=True) / squared.mean()
    step = np.asarray(g["a"]["kernel"]) / np.sqrt(second)
    step /= max(1.0, np.sqrt(np.square(step).mean()))
    kernel = np.asarray(p["a"]["kernel"])
    np.testing.assert_allclose(moved["a"]["kernel"], kernel - 0.1 * (step + 0.5 * kernel), atol=1e-5)
    np.testing.assert_allclose(moved["a"]["bias"], 1 - 0.1 * np.sign(g["a"]["bias"]), atol=1e-5)  # no decay
    state = optimizer(c, OPTIMIZERS).init(p)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 400  # rows and columns, not 128 x 160


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_a_group_has_its_rate(name):
    """The first pattern that matches counts; a factor of 0 leaves what it matches as it is."""
    p = params()
    gradient = jax.tree.map(jnp.ones_like, p)
    c = {"optimizer": name, "warmup": 0, "schedule": "constant", "weight_decay": 0.1}
    plain = steps_of(training(**c), [gradient], p)
    grouped = steps_of(training(**c, rates=("narrow=0", "^stem/=0.25")), [gradient], p)
    change = jax.tree.map(lambda after, before: np.asarray(after - before), plain, p)
    changed = jax.tree.map(lambda after, before: np.asarray(after - before), grouped, p)
    assert not changed["stem"]["narrow"]["kernel"].any() and change["stem"]["narrow"]["kernel"].any()
    np.testing.assert_allclose(changed["stem"]["conv"]["kernel"], 0.25 * change["stem"]["conv"]["kernel"], atol=1e-6)
    np.testing.assert_array_equal(changed["slul"]["lm_head"]["kernel"], change["slul"]["lm_head"]["kernel"])


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_an_expert_that_was_not_run_keeps_its_parameters_and_moments(name):
    """Each expert goes as if it had been trained alone, in its own steps; what both have goes in all of them."""
    rng = np.random.default_rng(0)
    expert = {"wi": {"kernel": (32, 64), "bias": (64,)}}
    shapes = {"transformer": {"high": expert, "low": expert}, "control": {"kernel": (32, 64)}}

    def made(some=("control", "high", "low")):
        def one(path, shape):
            name = path[-3].key if len(path) > 2 else path[0].key
            return jnp.asarray(rng.normal(size=shape) * (name in some), jnp.float32)

        return jax.tree_util.tree_map_with_path(one, shapes, is_leaf=lambda x: isinstance(x, tuple))

    c = training(optimizer=name, warmup=0, schedule="constant", weight_decay=0.1, learning_rate=0.05, clip=1e9)
    p, drawn = made(), ["high", "low", "low", "high", "high"]
    gradients = [made(("control", side)) for side in drawn]
    moved = steps_of(c, gradients, p, ("transformer/high", "transformer/low"))
    for side in ("high", "low"):
        alone = steps_of(c, [g["transformer"][side] for g, s in zip(gradients, drawn, strict=True) if s == side],
                         p["transformer"][side])  # fmt: skip
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), moved["transformer"][side], alone)
    alone = steps_of(c, [{"control": g["control"]} for g in gradients], {"control": p["control"]})
    np.testing.assert_allclose(moved["control"]["kernel"], alone["control"]["kernel"], atol=1e-6)
    before = steps_of(c, gradients[:1], p, ("transformer/high", "transformer/low"))
    jax.tree.map(np.testing.assert_array_equal, before["transformer"]["low"], p["transformer"]["low"])


def test_the_rate_is_of_all_steps_whichever_expert_they_ran():
    p = {"high": {"kernel": jnp.ones((4, 4))}, "low": {"kernel": jnp.ones((4, 4))}}
    c = training(warmup=0, schedule="linear", steps=4, learning_rate=0.4, weight_decay=0.0, clip=1e9)
    nothing = {"kernel": jnp.zeros((4, 4))}
    run = [p | {"low": nothing}, p | {"high": nothing}]
    moved = steps_of(c, run, p, ("high", "low"))
    np.testing.assert_allclose(moved["high"]["kernel"], 1 - 0.4, atol=1e-5)  # Adam's first step is one times the rate
    np.testing.assert_allclose(moved["low"]["kernel"], 1 - 0.3, atol=1e-5)
