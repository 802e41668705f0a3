"""T5's parts by hand, its options, and a full-size shape check."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from tiny_t5 import tiny, weights

from signer_jax.slul import t5 as lib
from signer_jax.slul.t5 import T5

SOURCE = np.array([[4, 7, 9, 8, 1], [5, 6, 1, 0, 0]])
TARGET_IN = np.array([[0, 9, 8, 7], [0, 5, 3, 0]])


@functools.partial(jax.jit, static_argnums=0)
def run(t5: T5, params: dict, source=SOURCE, target_in=TARGET_IN):
    return t5.apply({"params": params}, source, target_in)


def test_buckets_by_hand():
    relative = jnp.array([-40, -16, -6, -3, -2, -1, 0, 1, 2, 40])
    causal = lib.relative_buckets(relative, bidirectional=False, buckets=8, max_distance=16)
    # Distances 0-3 are exact; 6 is 4 + floor(log(6/4)/log(4) * 4) = 5; 16 and beyond share the last.
    np.testing.assert_array_equal(causal, [7, 7, 5, 3, 2, 1, 0, 0, 0, 0])
    both = lib.relative_buckets(relative, bidirectional=True, buckets=8, max_distance=16)
    # Half a side: distances 0 and 1 exact, 2: 2 + floor(log(1)) = 2, 6: 2 + floor(log(3)/log(8) * 2) = 3.
    np.testing.assert_array_equal(both, [3, 3, 3, 2, 2, 1, 0, 5, 6, 7])


def test_rms_norm_by_hand():
    x = np.array([[3.0, 4.0]], np.float32)
    np.testing.assert_allclose(lib.rms_norm(x, np.array([2.0, 1.0])), [[6, 4] / np.sqrt(12.5)], rtol=1e-5)
    assert lib.rms_norm(jnp.asarray(x, jnp.bfloat16), jnp.ones(2)).dtype == jnp.float32


def test_scores_are_not_scaled_and_masks_are_additive():
    query, key = np.ones((1, 1, 1, 4), np.float32), np.ones((1, 2, 1, 4), np.float32)
    bias = lib.mask_bias(np.array([True, False])) + 0.5
    scores = lib.attention_scores(query, key, bias)
    np.testing.assert_allclose(scores[0, 0, 0], [4.5, lib.MASKED], rtol=1e-6)
    np.testing.assert_array_equal(jax.nn.softmax(scores)[0, 0, 0], [1, 0])


def test_a_fresh_table_of_embeddings_has_the_size_that_is_asked_for():
    ids = jnp.zeros((1, 1), jnp.int32)
    for given, size in ((0.0, 0.25), (1.0, 1.0)):
        t5 = tiny(vocab_size=2000, embedding_deviation=given)
        table = t5.init(jax.random.key(0), ids, ids)["params"]["token_embedding"]["embedding"]
        assert abs(float(table.std()) - size) < 0.02 * size


def test_decoder_is_causal_and_padding_is_ignored():
    t5 = tiny()
    params = weights(t5)
    base = run(t5, params)
    changed = TARGET_IN.copy()
    changed[:, 2] = 11
    gap = np.abs(base - run(t5, params, SOURCE, changed)).max(-1)
    assert (gap[:, :2] == 0).all() and (gap[:, 2:] > 1e-3).all()
    np.testing.assert_allclose(base, run(t5, params, np.pad(SOURCE, ((0, 0), (0, 3)))), atol=1e-5)
    assert np.isfinite(run(t5, params, np.zeros_like(SOURCE))).all()


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_positions_matter_in_both_stacks(stack):
    t5 = tiny()
    params = weights(t5)
    changed = {**params, stack: {**params[stack], "relative_bias": {"embedding": np.zeros((8, 2), np.float32)}}}
    assert np.abs(run(t5, params) - run(t5, changed)).max() > 1e-2


@pytest.mark.parametrize("every_layer", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gated-gelu"])
def test_parameters_are_stacked_under_layers(every_layer, activation):
    t5 = tiny(relative_bias_every_layer=every_layer, activation=activation, encoder_layers=3)
    shapes = jax.eval_shape(t5.init, jax.random.key(0), SOURCE, TARGET_IN)["params"]
    flat = {"/".join(key): leaf for key, leaf in flatten_dict(shapes).items()}
    assert flat["encoder/layers/self_attention/query/kernel"].shape == (3, 16, 8)
    assert flat["decoder/layers/cross_attention/out/kernel"].shape == (2, 8, 16)
    assert ("encoder/relative_bias/embedding" in flat) != every_layer
    assert ("encoder/layers/relative_bias/embedding" in flat) == every_layer
    assert ("encoder/layers/mlp/wi/kernel" in flat) == (activation == "relu")
    assert {leaf.dtype for leaf in flat.values()} == {jnp.dtype(jnp.float32)}


def test_initialisation_is_t5s_but_for_a_small_table():
    t5 = tiny(d_model=64, d_ff=128, vocab_size=200)
    params = jax.jit(t5.init)(jax.random.key(0), SOURCE, TARGET_IN)["params"]
    attention = params["encoder"]["layers"]["self_attention"]
    # No 1/sqrt(d_kv) in the scores: the query's initialisation carries it.
    assert np.std(attention["query"]["kernel"]) == pytest.approx((64 * 4) ** -0.5, rel=0.1)
    assert np.std(attention["key"]["kernel"]) == pytest.approx(64**-0.5, rel=0.1)
    assert np.std(params["token_embedding"]["embedding"]) == pytest.approx(64**-0.5, rel=0.1)
    assert np.abs(attention["query"]["kernel"][0] - attention["query"]["kernel"][1]).max() > 1e-3


def test_unroll_and_remat_change_nothing():
    def loss_and_gradient(t5, params):
        def loss(params):
            rngs = {"dropout": jax.random.key(1, impl="rbg")}
            H = t5.apply({"params": params}, SOURCE, train=True, rngs=rngs, method=T5.encode)
            return jnp.square(H).mean()

        return jax.jit(jax.value_and_grad(loss))(params)

    base = tiny(dropout=0.2)
    params = weights(base)
    wanted = loss_and_gradient(base, params)
    other = loss_and_gradient(base.clone(scan_unroll=2, remat=True), params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), wanted, other)
    assert np.abs(wanted[1]["encoder"]["layers"]["mlp"]["wo"]["kernel"]).max() > 1e-4


def test_bfloat16_computes_low_and_keeps_logits_high():
    t5 = tiny()
    params = weights(t5)
    low = t5.clone(dtype=jnp.bfloat16)
    assert jax.eval_shape(lambda p: low.apply({"params": p}, SOURCE, method=T5.encode), params).dtype == jnp.bfloat16
    logits = run(low, params)
    assert logits.dtype == jnp.float32
    assert 1e-4 < np.abs(logits - run(t5, params)).max() < 0.2


def test_tied_logits_are_scaled_unless_said_otherwise():
    tied = tiny(tie_embeddings=True)
    params = weights(tied)
    assert "lm_head" not in params
    states = np.random.default_rng(0).normal(size=(1, 2, 16)).astype(np.float32)
    expected = states @ params["token_embedding"]["embedding"].T
    scaled = tied.apply({"params": params}, states, method=T5.logits)
    np.testing.assert_allclose(scaled, expected / 4, atol=1e-5)
    plain = tied.clone(scale_logits=False).apply({"params": params}, states, method=T5.logits)
    np.testing.assert_allclose(plain, expected, atol=1e-5)


def test_full_size_parameters_by_shape():
    # google/t5-v1_1-base has 247,577,856 parameters and t5-small 60,506,624, as published.
    ids = jax.ShapeDtypeStruct((2, 16), jnp.int32)
    base = T5(32128, 768, 64, 2048, 12, 12, 12, 32, 128, "gated-gelu", False, False, 0.1)
    small = T5(32128, 512, 64, 2048, 8, 6, 6, 32, 128, "relu", True, False, 0.1)
    for t5, parameters in ((base, 247_577_856), (small, 60_506_624)):
        shapes = jax.eval_shape(t5.init, jax.random.key(0), ids, ids)["params"]
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters
        assert jax.eval_shape(t5.apply, {"params": shapes}, ids, ids).shape == (2, 16, 32128)


def test_cross_attention_without_a_source_is_refused():
    t5 = tiny()
    with pytest.raises(ValueError, match="cross=False"):
        t5.apply({"params": weights(t5)}, TARGET_IN, None, None, method=T5.decode)


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="silu"):
        jax.eval_shape(tiny(activation="silu").init, jax.random.key(0), SOURCE, TARGET_IN)
