"""Low-rank adapters: nothing at the start, the same as merged weights, gradients of them alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from signer_jax.dense import Dense
from signer_jax.errors import SignerError
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.slul.t5 import T5
from signer_jax.training import lora

TARGETS = ("attention/(query|key|value|out)/kernel$", "/(wi|wi_0|wi_1|wo)/kernel$")


def models():
    wan = VideoTransformer(
        in_channels=4, out_channels=4, dim=24, heads=2, ffn_dim=32, layers=2, text_dim=16, freq_dim=32,
        patch=(1, 2, 2), image_dim=None, eps=1e-6,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    latents = jnp.asarray(rng.normal(size=(2, 3, 4, 4, 4)), jnp.float32)
    text, time = jnp.asarray(rng.normal(size=(2, 5, 16)), jnp.float32), jnp.array([3.0, 800.0])
    t5 = T5(
        vocab_size=40, d_model=16, d_kv=8, d_ff=24, heads=2, encoder_layers=2, decoder_layers=2, relative_buckets=8,
        relative_max_distance=16, activation="gated-gelu", tie_embeddings=False, relative_bias_every_layer=False,
        dropout=0.0,
    )  # fmt: skip
    ids = jnp.asarray(rng.integers(1, 40, (2, 6)), jnp.int32)
    return {"wan": (wan, (latents, time, text)), "t5": (t5, (ids, ids))}


@pytest.fixture(scope="module", params=["wan", "t5"])
def adapted(request):
    module, inputs = models()[request.param]
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(1)  # no zeros, such as those that the last layer begins with
    params = jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), shapes)
    at = lora.places({"part": params}, ("part",), TARGETS, "here")
    adapters = lora.fresh({"part": params}, at, 3, jax.random.key(2))["part"]
    moved = jax.tree.map(lambda x: np.asarray(x) + rng.normal(0, 0.1, x.shape).astype(np.float32), adapters)
    return module, inputs, params, adapters, moved


def run(module, params, inputs, adapters=None, scale=0.7):
    def call(params, adapters):
        return module.apply({"params": lora.with_lora(params, adapters or {}, scale)}, *inputs)

    return jax.jit(call)(params, adapters)


def first(tree):
    return np.asarray(jax.tree.leaves(tree)[0])


def test_new_adapters_change_nothing_at_all(adapted):
    module, inputs, params, adapters, moved = adapted
    plain = first(jax.jit(lambda p: module.apply({"params": p}, *inputs))(params))
    np.testing.assert_array_equal(first(run(module, params, inputs, adapters)), plain)
    np.testing.assert_array_equal(first(run(module, params, inputs)), plain)
    assert np.abs(first(run(module, params, inputs, moved)) - plain).max() > 0.01  # and moved ones do


def test_every_target_has_an_adapter_that_counts(adapted):
    """Each of them alone changes the output, so that none is beside a layer which does not look for it."""
    module, inputs, params, _, moved = adapted
    flat = {name for name in flatten_dict(params, sep="/") if name.endswith("kernel")}
    targets = {n for n in flat if "attention/" in n or n.split("/")[-2] in ("wi", "wi_0", "wi_1", "wo")}
    assert {n.removesuffix("/lora_a") for n in flatten_dict(moved, sep="/") if n.endswith("/lora_a")} == {
        n.removesuffix("/kernel") for n in targets
    }

    def loss(adapters):
        out = module.apply({"params": lora.with_lora(params, adapters, 1.0)}, *inputs)
        return jnp.square(jax.tree.leaves(out)[0]).sum()

    for name, gradient in flatten_dict(jax.jit(jax.grad(loss))(moved), sep="/").items():
        each = np.abs(gradient).reshape(gradient.shape[0], -1).max(axis=1) if "/layers/" in name else [abs(gradient)]
        assert np.min(each) > 0, name  # of each layer of a stack


def test_merged_weights_give_the_same_output(adapted):
    module, inputs, params, _, moved = adapted
    whole = lora.merged(params, moved, 0.7)
    assert flatten_dict(whole).keys() == flatten_dict(params).keys()
    merged = first(jax.jit(lambda p: module.apply({"params": p}, *inputs))(whole))
    np.testing.assert_allclose(merged, first(run(module, params, inputs, moved)), atol=2e-5)


def test_a_merge_by_hand_and_what_else_was_trained():
    params = {"a": {"kernel": np.eye(2, dtype=np.float32), "bias": np.zeros(2)}, "b": {"scale": np.ones(1)}}
    adapters = {
        "a": {"lora_a": np.array([[1.0], [2.0]]), "lora_b": np.array([[3.0, 4.0]])},
        "b": {"scale": np.zeros(1)},
    }
    whole = lora.merged(params, adapters, 0.5)
    np.testing.assert_allclose(whole["a"]["kernel"], [[2.5, 2.0], [3.0, 5.0]])
    assert whole["b"]["scale"] == 0 and whole["a"].keys() == {"kernel", "bias"}
    assert (
        lora.merged({"a": {"kernel": jnp.eye(2, dtype=jnp.bfloat16)}}, {"a": adapters["a"]}, 1.0)["a"]["kernel"].dtype
        == jnp.bfloat16
    )


def test_in_bfloat16_a_small_term_is_not_lost():
    """An adapter of a thousandth of the kernel: merged into bfloat16 weights it would be rounded away."""
    turns = jnp.array([[1.0, -1, 1, -1, 1, -1, 1, -1]])  # what the kernel alone sums to zero
    layer = {"dense": {"kernel": jnp.ones((8, 8), jnp.bfloat16)}}
    adapters = {"dense": {"lora_a": turns.T, "lora_b": jnp.full((1, 8), 1e-3)}}
    dense = Dense(8, use_bias=False, dtype=jnp.bfloat16)
    y = dense.apply({"params": lora.with_lora(layer, adapters, 0.5)["dense"]}, turns)
    np.testing.assert_allclose(np.asarray(y, np.float32), 0.5 * 8e-3, rtol=0.01)
    whole = lora.merged(layer, adapters, 0.5)["dense"]["kernel"]
    assert whole.dtype == jnp.bfloat16 and (whole == 1).all()


def test_a_target_that_is_no_dense_kernel_is_refused():
    params = {"p": {"conv": {"kernel": np.ones((3, 3, 4, 4))}, "a": {"kernel": np.ones((4, 4)), "bias": np.ones(4)}}}
    for pattern in ("conv/kernel", "a/bias"):
        with pytest.raises(SignerError, match="no dense layer's kernel"):
            lora.places(params, ("p",), (pattern,), "config.lora.targets")
    with pytest.raises(SignerError, match="matches no parameter"):
        lora.places(params, ("p",), ("queri",), "config.lora.targets")
    assert lora.places(params, ("p",), ("a/kernel$",), "here") == ("p/a",)
