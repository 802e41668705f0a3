"""SLUL's forward pass: masks by hand, one doubled decoder call, pooling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_t5 import tiny, weights

from signer_jax.slul import linker
from signer_jax.slul.losses import linker_losses
from signer_jax.slul.t5 import T5

MASK = 3
SOURCE = np.array([[4, 7, 9, 8, 1], [5, 6, 1, 0, 0]])
TARGET = np.array([[9, 8, 7, 6, 1, 0], [5, 1, 0, 0, 0, 0]])
UNIFORM = np.array([[0.1, 0.9, 0.2, 0.4, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0, 0.0, 0.0]], np.float32)
PLAIN = {"label_smoothing": 0.0, "z_loss": 0.0}
MODULE = tiny(dropout=0.5)  # without `train` nothing may drop


@pytest.fixture(scope="module")
def params() -> dict:
    return weights(MODULE)


@functools.partial(jax.jit, static_argnames=("train", "cross", "twice", "masks", "contrasts"))
def forward(params, source=SOURCE, uniform=UNIFORM, rate=0.3, rng=None, *, cross=False, **how):
    return linker.linker_forward(
        MODULE, params, source, TARGET, uniform, rate, MASK, dropout_rng=rng, contrastive_cross=cross,
        **{"train": False, **how},
    )  # fmt: skip


def test_shift_right():
    np.testing.assert_array_equal(linker.shift_right(TARGET), [[0, 9, 8, 7, 6, 1], [0, 5, 1, 0, 0, 0]])


def test_only_real_gloss_tokens_are_masked():
    masked_target, masked = linker.mask_target(TARGET, UNIFORM, 0.3, MASK)
    np.testing.assert_array_equal(masked, [[1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(masked_target, [[MASK, 8, MASK, 6, 1, 0], [5, 1, 0, 0, 0, 0]])
    everything, masked = linker.mask_target(TARGET, UNIFORM, 1.0, MASK)
    np.testing.assert_array_equal(everything, [[MASK, MASK, MASK, MASK, 1, 0], [MASK, 1, 0, 0, 0, 0]])
    nothing, masked = linker.mask_target(TARGET, UNIFORM, 0.0, MASK)
    np.testing.assert_array_equal(nothing, TARGET)
    assert not masked.any()


def test_mask_rate_is_a_share_of_the_gloss_tokens():
    target = np.full((100, 100), 5)
    target[:, 50] = 1
    target[:, 51:] = 0
    uniform = np.random.default_rng(0).random(target.shape, np.float32)
    _, masked = linker.mask_target(target, uniform, 0.15, MASK)
    assert masked.sum() / (100 * 50) == pytest.approx(0.15, abs=0.015)


def test_outputs_equal_separate_passes(params):
    @jax.jit
    def separate(params, plain_in, masked_in):
        variables = {"params": params}
        H = MODULE.apply(variables, SOURCE, method=T5.encode)
        states = MODULE.apply(variables, plain_in, H, SOURCE != 0, method=T5.decode)
        alone = MODULE.apply(variables, plain_in, None, None, cross=False, method=T5.decode)
        masked_states = MODULE.apply(variables, masked_in, H, SOURCE != 0, method=T5.decode)
        logits = [MODULE.apply(variables, x, method=T5.logits) for x in (states, masked_states)]
        return H, *logits, alone, states

    plain_in = np.array([[0, 9, 8, 7, 6, 1], [0, 5, 1, 0, 0, 0]])
    masked_in = np.array([[0, MASK, 8, MASK, 6, 1], [0, 5, 1, 0, 0, 0]])
    H, logits, masked_logits, alone, states = separate(params, plain_in, masked_in)
    output = forward(params)
    np.testing.assert_allclose(output.H, H, atol=1e-5)
    np.testing.assert_array_equal(output.source_mask, SOURCE != 0)
    np.testing.assert_allclose(output.logits, logits, atol=1e-5)
    np.testing.assert_allclose(output.masked_logits, masked_logits, atol=1e-5)
    np.testing.assert_array_equal(output.masked_positions, [[1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    np.testing.assert_allclose(output.gloss_states, alone, atol=1e-5)
    np.testing.assert_allclose(forward(params, cross=True).gloss_states, states, atol=1e-5)
    # A masked token changes what follows it, never what came before: row 0 is masked from input 1 on, row 1 nowhere.
    gap = np.abs(output.logits - output.masked_logits).max(-1)
    assert gap[0, 0] < 1e-5 and (gap[0, 1:] > 1e-3).all() and (gap[1] < 1e-5).all()


@pytest.mark.parametrize(("cross", "twice"), [(False, False), (True, False), (False, True), (True, True)])
def test_one_encoder_call_and_one_decoder_call_of_all_readings(params, cross, twice, monkeypatch):
    calls = []
    original, methods = T5.apply, {T5.encode: "encode", T5.decode: "decode"}

    def apply(self, variables, *args, method, **kwargs):
        if method in methods:
            calls.append((methods[method], args[0].shape))
        return original(self, variables, *args, method=method, **kwargs)

    monkeypatch.setattr(T5, "apply", apply)
    jax.eval_shape(lambda params: linker.linker_forward(
        MODULE, params, SOURCE, TARGET, UNIFORM, 0.3, MASK, train=False, dropout_rng=None, contrastive_cross=cross,
        twice=twice,
    ), params)  # fmt: skip
    rows = (4, 6) if twice else (2, 4)
    assert calls == [("encode", (rows[0], 5)), ("decode", (rows[1], 6))] + [("decode", (2, 6))] * (not cross)


def test_gloss_encoding_sees_the_source_only_with_cross(params):
    other = np.array([[9, 9, 4, 2, 1], [8, 1, 0, 0, 0]])
    np.testing.assert_array_equal(forward(params).gloss_states, forward(params, other).gloss_states)
    gap = np.abs(forward(params, cross=True).gloss_states - forward(params, other, cross=True).gloss_states)
    assert gap.max(-1).min() > 1e-3


def test_dropout_needs_train_and_differs_between_the_two_passes(params):
    def wet(seed: int):
        return forward(params, rng=jax.random.key(seed, impl="rbg"), rate=0.0, train=True)  # nothing is masked

    first, again, other = wet(1), wet(1), wet(2)
    np.testing.assert_array_equal(first.logits, again.logits)
    assert np.abs(first.H - other.H).max() > 1e-2
    assert np.abs(first.logits - forward(params).logits).max() > 1e-2
    assert np.abs(first.logits - first.masked_logits).max() > 1e-2


def test_two_readings_differ_by_their_dropout_alone(params):
    once, dry = forward(params), forward(params, twice=True)
    assert once.second_logits is None
    for name, value in once._asdict().items():
        if value is not None:
            np.testing.assert_allclose(getattr(dry, name), value, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(dry.second_logits, once.logits, atol=1e-5)
    wet = forward(params, rng=jax.random.key(1, impl="rbg"), train=True, twice=True)
    assert np.abs(wet.second_logits - wet.logits).max(-1).min() > 1e-3


@pytest.mark.parametrize("cross", [False, True])
def test_what_is_not_wanted_is_not_computed_and_changes_nothing(params, cross):
    whole, bare = forward(params, cross=cross), forward(params, cross=cross, masks=False, contrasts=False)
    assert bare.masked_logits is None and bare.gloss_states is None
    np.testing.assert_allclose(bare.logits, whole.logits, atol=1e-5)
    given = {"temperature": 0.1, "stop_anchor_gradient": True, "label_smoothing": 0.1, "z_loss": 0.0}
    terms = linker_losses(bare, TARGET, **given)
    assert list(terms) == ["cross_entropy"]
    np.testing.assert_allclose(
        terms["cross_entropy"], linker_losses(whole, TARGET, **given)["cross_entropy"], atol=1e-5
    )
    masked = forward(params, cross=cross, contrasts=False)
    assert list(linker_losses(masked, TARGET, **given)) == ["cross_entropy", "sagm", "kl"]
    np.testing.assert_allclose(masked.masked_logits, whole.masked_logits, atol=1e-5)
    both = forward(params, cross=cross, masks=False, twice=True)
    assert list(linker_losses(both, TARGET, **given)) == ["cross_entropy", "contrastive", "r_drop"]
    np.testing.assert_allclose(both.second_logits, whole.logits, atol=1e-5)
    np.testing.assert_allclose(both.gloss_states, whole.gloss_states, atol=1e-5)


def test_pool_glosses_by_hand():
    states = np.arange(10, dtype=np.float32).reshape(1, 5, 2)
    index = np.array([[0, 0, 1, -1, -1]])  # target: two pieces, one piece, eos, pad
    pooled, exists = linker.pool_glosses(states, index, 3)
    # Pieces 0 and 1 are the inputs at positions 1 and 2, piece 2 at position 3.
    np.testing.assert_allclose(pooled, [[[3, 4], [6, 7], [0, 0]]])
    np.testing.assert_array_equal(exists, [[True, True, False]])


def test_descent_lowers_every_loss(params):
    def total(params):
        output = forward(params, rate=0.5)
        parts = linker_losses(
            output, TARGET, temperature=0.1, stop_anchor_gradient=True, label_smoothing=0.0, z_loss=0.0
        )
        return sum(value.mean() for value in parts.values()), parts

    @jax.jit
    def step(params):
        (_, parts), gradient = jax.value_and_grad(total, has_aux=True)(params)
        norm = jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradient)))
        return jax.tree.map(lambda p, g: p - 0.1 * g / jnp.maximum(norm, 1), params, gradient), parts

    history = []
    for _ in range(100):
        params, parts = step(params)
        history.append({name: float(value.mean()) for name, value in parts.items()})
    for name, first in history[0].items():
        assert history[-1][name] < 0.5 * first, name
