"""Adapters that are trained here load with diffusers and PEFT and give the same output there; and theirs here."""

import jax
import numpy as np
import pytest
from test_parity_wan_transformer import assert_equal, folder, inputs, original, our_output, their_output  # noqa: F401

from signer_jax.interop import lora as interop
from signer_jax.interop import t5
from signer_jax.interop.wan import load_transformer
from signer_jax.training import lora

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

TARGETS = ("attention/(query|key|value|out)/kernel$", "/(wi|wi_0|wi_1|wo)/kernel$")
SCALE = 0.75


def trained(params, rank=3):
    """Adapters as a training leaves them: B is not zero."""
    at = lora.places({"part": params}, ("part",), TARGETS, "here")
    fresh = lora.fresh({"part": params}, at, rank, jax.random.key(1))["part"]
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: rng.normal(0, 0.4, x.shape).astype(np.float32), fresh)


def case():
    latents, text = inputs(4, 12)
    return latents, np.array([37.0, 999.0], np.float32), text


def another(folder):  # noqa: F811
    """A copy of the tiny model, which tests may change."""
    return type(original(False)).from_pretrained(folder(False)).eval()


def test_diffusers_loads_our_adapter_and_gives_our_output(folder, tmp_path):  # noqa: F811
    module, params = load_transformer(folder(False))
    adapters = trained(params)
    plain = our_output(module, params, *case())
    ours = our_output(module, lora.merged(params, adapters, SCALE), *case())
    assert np.abs(ours - plain).max() > 0.1
    interop.save_diffusers(tmp_path / "adapter", module, adapters, SCALE)

    model = another(folder)
    model.load_lora_adapter(str(tmp_path / "adapter"), weight_name=interop.DIFFUSERS_FILE, prefix="transformer")
    assert_equal(ours, their_output(model, *case()), "LoRA in diffusers")


def test_peft_loads_our_adapter_and_gives_our_output(folder, tmp_path):  # noqa: F811
    module, params = load_transformer(folder(False))
    adapters = trained(params)
    ours = our_output(module, lora.merged(params, adapters, SCALE), *case())
    interop.save_peft(tmp_path / "adapter", module, adapters, SCALE)
    model = peft.PeftModel.from_pretrained(another(folder), str(tmp_path / "adapter"))
    assert_equal(ours, their_output(model, *case()), "LoRA in PEFT")


def test_an_adapter_of_pefts_comes_in_with_its_alpha(folder, tmp_path):  # noqa: F811
    targets = ["attn1.to_q", "attn2.to_v", "ffn.net.2"]
    config = peft.LoraConfig(r=4, lora_alpha=10, target_modules=targets, init_lora_weights=False)
    torch.manual_seed(0)
    model = peft.get_peft_model(another(folder), config)
    model.save_pretrained(tmp_path / "theirs")
    module, params = load_transformer(folder(False))
    adapters = interop.load(tmp_path / "theirs", module, params, 2.0)
    assert set(adapters["layers"]) == {"self_attention", "cross_attention", "wo"}
    assert_equal(
        our_output(module, lora.merged(params, adapters, 2.0), *case()), their_output(model, *case()), "theirs"
    )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks transformers 5 for it
def test_t5_too(tmp_path):
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    model = transformers.T5ForConditionalGeneration(
        transformers.T5Config(**sizes, feed_forward_proj="gated-gelu", dropout_rate=0.0, tie_word_embeddings=False)
    ).eval()
    model.save_pretrained(tmp_path / "t5")
    module, params = t5.load(tmp_path / "t5")
    adapters = trained(params)
    interop.save_peft(tmp_path / "adapter", module, adapters, SCALE)
    ids = np.random.default_rng(0).integers(1, 40, (2, 7))
    merged = lora.merged(params, adapters, SCALE)
    ours = jax.jit(lambda p, x: module.apply({"params": p}, x, method="encode"))(merged, ids.astype(np.int32))
    adapted = peft.PeftModel.from_pretrained(model, str(tmp_path / "adapter"))
    with torch.no_grad():
        theirs = adapted.get_base_model().get_encoder()(torch.from_numpy(ids)).last_hidden_state.numpy()
    assert_equal(np.asarray(ours), theirs, "LoRA of a T5")
