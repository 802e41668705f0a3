"""T5, v1.1, mT5, ByT5 and UMT5 against transformers on random tiny weights, both ways, fp32."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from signer_jax.errors import SignerError
from signer_jax.interop import t5 as interop
from signer_jax.interop.state_dict import read_config, read_tensors, write
from signer_jax.slul.linker import shift_right
from signer_jax.slul.t5 import T5, decode_step, init_cache, relative_buckets

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

TOLERANCE = 2e-5
SIZES = {
    "vocab_size": 61,
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}
# (class, what its config says, whether lm_head is a tensor of its own). transformers 5 ties whatever the config says
# until a checkpoint holds both tensors; the published v1.1, mT5 and ByT5 checkpoints do.
KINDS = {
    "v1.0": ("T5", {"feed_forward_proj": "relu"}, False),
    "v1.1": ("T5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, True),
    "v1.1 tied": ("T5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, False),
    "mt5": ("MT5", {}, False),
    "mt5 untied": ("MT5", {}, True),
    "byt5": (
        "T5",
        {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_layers": 4, "num_decoder_layers": 2},
        True,
    ),
    "umt5": ("UMT5", {"feed_forward_proj": "gated-gelu"}, False),
    "umt5 unscaled": ("UMT5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, False),
    "umt5 untied": ("UMT5", {"feed_forward_proj": "gated-gelu"}, True),
}


def original(kind: str):
    family, fields, untied = KINDS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**(SIZES | fields))
    model = getattr(transformers, f"{family}ForConditionalGeneration")(config).eval()
    if untied:
        head = torch.randn(SIZES["vocab_size"], SIZES["d_model"]) * SIZES["d_model"] ** -0.5
        model.lm_head.weight = torch.nn.Parameter(head)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))  # ones would hide a norm that is not applied
            if "relative_attention_bias" in name:
                parameter.copy_(torch.randn_like(parameter))  # nearly zero at first: positions would prove nothing
        if not (untied or getattr(config, "scale_decoder_outputs", family != "MT5")):
            model.shared.weight.mul_(SIZES["d_model"] ** -0.5)  # logits of the usual size; nothing else scales them
    return model


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    source = rng.integers(2, SIZES["vocab_size"], (3, 29))  # longer than the largest bucketed distance
    target = rng.integers(2, SIZES["vocab_size"], (3, 25))
    for row, (s, g) in enumerate([(29, 25), (17, 9), (4, 2)]):
        source[row, s:], target[row, g:] = 0, 0
        source[row, s - 1] = target[row, g - 1] = 1
    return source, target


@functools.partial(jax.jit, static_argnums=0)
def forward(module: T5, params: dict, source, target):
    H = module.apply({"params": params}, source, method=T5.encode)
    states = module.apply({"params": params}, shift_right(target), H, source != 0, method=T5.decode)
    return H, module.apply({"params": params}, states, method=T5.logits)


def outputs_of(model, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inputs = torch.from_numpy(np.array(shift_right(target))).long()
    with torch.no_grad():
        result = model(
            input_ids=torch.from_numpy(source), attention_mask=torch.from_numpy(source != 0), decoder_input_ids=inputs
        )
    return result.encoder_last_hidden_state.numpy(), result.logits.numpy()


def difference(ours, theirs, mask: np.ndarray) -> float:
    return float(np.abs(np.asarray(ours) - theirs)[mask].max())


@pytest.mark.parametrize("kind", KINDS)
def test_equals_transformers(kind, batch, tmp_path, record_property):
    source, target = batch
    model = original(kind)
    model.save_pretrained(tmp_path)
    module, params = interop.load(tmp_path)
    assert module.tie_embeddings == (not KINDS[kind][2])
    states, logits = outputs_of(model, source, target)
    H, ours = forward(module, params, source, target)
    assert ours.dtype == jnp.float32
    encoder_gap = difference(H, states, source != 0)
    logits_gap = difference(ours, logits, target != 0)
    record_property("encoder", encoder_gap)
    record_property("logits", logits_gap)
    print(f"{kind}: encoder {encoder_gap:.1e}, logits {logits_gap:.1e}; largest {np.abs(logits).max():.1f}")
    assert encoder_gap < TOLERANCE
    assert logits_gap < TOLERANCE
    # A model whose padding leaked would differ here from the same sentence without any padding.
    alone, _ = outputs_of(model, source[2:, :4], target[2:, :2])
    np.testing.assert_allclose(np.asarray(H)[2:, :4], alone, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_what_we_save(kind, batch, tmp_path):
    source, target = batch
    model = original(kind)
    model.save_pretrained(tmp_path / "theirs")
    module, params = interop.load(tmp_path / "theirs")
    interop.save(tmp_path / "ours", module, params)
    # By the class that the folder names, and by that of the model which it was: mT5 is written as a T5.
    for loader in (transformers.AutoModelForSeq2SeqLM, type(model)):
        again = loader.from_pretrained(tmp_path / "ours").eval()
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[name]), name
        for theirs, ours in zip(outputs_of(model, source, target), outputs_of(again, source, target), strict=True):
            np.testing.assert_array_equal(theirs, ours)
    reloaded, reloaded_params = interop.load(tmp_path / "ours")
    assert reloaded == module
    jax.tree.map(np.testing.assert_array_equal, params, reloaded_params)


@pytest.mark.parametrize("said", [True, False, None])
@pytest.mark.parametrize("kind", ["v1.1", "mt5 untied", "umt5 untied"])
def test_logits_are_scaled_where_transformers_scales_a_published_config(kind, said, batch, tmp_path):
    """Published configs are of transformers 4: without `scale_decoder_outputs`, and mT5's says that it is untied."""
    source, target = batch
    original(kind).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config = {k: v for k, v in config.items() if k not in ("scale_decoder_outputs", "tie_word_embeddings")}
    config |= {} if said is None else {"tie_word_embeddings": said}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    _, logits = outputs_of(model, source, target)
    module, params = interop.load(tmp_path)
    assert module.scale_logits == (not kind.startswith("mt5") and said is not False)
    assert difference(forward(module, params, source, target)[1], logits, target != 0) < TOLERANCE


def test_cached_steps_equal_transformers(batch, tmp_path):
    source, target = batch
    model = original("v1.1")
    model.save_pretrained(tmp_path)
    module, params = interop.load(tmp_path)
    _, logits = outputs_of(model, source, target)
    H, _ = forward(module, params, source, target)
    cache = init_cache(module, params, H, source != 0, beams=1, max_length=target.shape[1])
    step = jax.jit(lambda token, cache: decode_step(module, params, token, cache))
    ours = []
    for token in np.asarray(shift_right(target)).T:
        result, cache = step(token[:, None], cache)
        ours.append(result[:, 0])
    assert difference(np.stack(ours, 1), logits, target != 0) < TOLERANCE


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (12, 20)])
def test_buckets_equal_transformers(bidirectional, buckets, max_distance):
    from transformers.models.t5.modeling_t5 import T5Attention

    relative = np.arange(-300, 301)
    theirs = T5Attention._relative_position_bucket(torch.from_numpy(relative), bidirectional, buckets, max_distance)
    ours = relative_buckets(
        jnp.asarray(relative), bidirectional=bidirectional, buckets=buckets, max_distance=max_distance
    )
    np.testing.assert_array_equal(ours, theirs.numpy())


def test_our_initialisation_round_trips(batch, tmp_path):
    source, target = batch
    module = T5(
        61, 24, 8, 40, 4, 2, 3, 12, 20, "gated-gelu", tie_embeddings=False, relative_bias_every_layer=False, dropout=0.1
    )
    params = jax.jit(module.init)(jax.random.key(0), source, target)["params"]
    interop.save(tmp_path, module, params)
    reloaded, reloaded_params = interop.load(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, params, reloaded_params)
    model = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    _, logits = outputs_of(model, source, target)
    _, ours = forward(reloaded, reloaded_params, source, target)
    assert difference(ours, logits, target != 0) < TOLERANCE


def test_mistakes_are_named(tmp_path):
    original("v1.0").save_pretrained(tmp_path)
    config, tensors = read_config(tmp_path), read_tensors(tmp_path)
    cases = {
        "model_type": ({**config, "model_type": "bart"}, tensors),
        "lacks 1 tensors": (config, {k: v for k, v in tensors.items() if k != "encoder.final_layer_norm.weight"}),
        "unknown tensors": (config, {**tensors, "encoder.extra": np.zeros(3, np.float32)}),
        "its config says": ({**config, "d_ff": 41}, tensors),
        "feed_forward_proj": ({**config, "feed_forward_proj": "gated-silu"}, tensors),
        "d_model": ({**config, "d_model": None}, tensors),
        "layer_norm_epsilon": ({**config, "layer_norm_epsilon": 1e-5}, tensors),
    }
    for words, (bad_config, bad_tensors) in cases.items():
        write(tmp_path / "bad", bad_config, bad_tensors)
        with pytest.raises(SignerError, match=words) as error:
            interop.load(tmp_path / "bad")
        assert "\n" not in str(error.value)


def test_every_parameter_is_in_the_table(tmp_path):
    original("umt5 untied").save_pretrained(tmp_path)
    module, params = interop.load(tmp_path)
    ids = jnp.zeros((1, 1), jnp.int32)
    expected = jax.eval_shape(module.init, jax.random.key(0), ids, ids)["params"]
    assert flatten_dict(params).keys() == flatten_dict(expected).keys()
