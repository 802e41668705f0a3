"""Wan's text and image encoders against transformers on random tiny weights, fp32; prompts against its tokenizer."""

import io
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece

from signer_jax.interop import clip, t5
from signer_jax.interop.prompts import load_tokenizer
from signer_jax.renderer import image_encoder, text_encoder
from signer_jax.slul.t5 import T5

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

TOLERANCE = 2e-5


def randomise(model) -> None:
    """What starts at zero, at one or nearly there would hide that it is not read."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "layrnorm" in name:
                parameter.copy_(("bias" not in name) + 0.3 * torch.randn_like(parameter))
            elif "bias" in name or "position_embedding" in name or "class_embedding" in name:
                parameter.copy_(torch.randn_like(parameter))


# ---- Text ------------------------------------------------------------------------------------------------------------

SIZES = {
    "vocab_size": 61, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 3, "num_heads": 4,
    "relative_attention_num_buckets": 12, "relative_attention_max_distance": 20,
}  # fmt: skip
FAMILIES = {"UMT5": {}, "MT5": {}, "T5": {"feed_forward_proj": "relu"}}


def text_model(family: str, kind: str = "EncoderModel"):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES, **FAMILIES[family])
    model = getattr(transformers, family + kind)(config).eval()
    randomise(model)
    return model


@pytest.fixture(scope="module")
def prompts() -> tuple[np.ndarray, np.ndarray]:
    """Four texts of 40 rows, all that fit and few; in one, id 0 stands in the text."""
    ids = np.random.default_rng(1).integers(2, SIZES["vocab_size"], (4, 40))
    mask = np.arange(40) < np.array([40, 23, 5, 1])[:, None]
    ids = np.where(mask, ids, 0)
    ids[1, 3] = 0
    return ids, mask


def as_diffusers(model, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The states as diffusers' Wan pipelines hand them on: cut at the text's end, filled up with zeros."""
    with torch.no_grad():
        H = model(torch.from_numpy(ids), torch.from_numpy(mask).long()).last_hidden_state.numpy()
    out = np.zeros_like(H)
    for row, length in enumerate(mask.sum(1)):
        out[row, :length] = H[row, :length]
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_text_states_equal_transformers(family, prompts, tmp_path):
    model = text_model(family)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2 and (tmp_path / "model.safetensors.index.json").exists()
    module, params = t5.load_encoder(tmp_path, width=24)
    assert params.keys() == {"token_embedding", "encoder"}
    ours = np.asarray(jax.jit(text_encoder.states, static_argnums=0)(module, params, *prompts))
    theirs = as_diffusers(model, *prompts)
    gap = np.abs(ours - theirs).max()
    print(f"{family}: {gap:.1e} of {np.abs(theirs).max():.1f}")
    assert gap < TOLERANCE and np.abs(theirs).max() > 1
    assert ours[~prompts[1]].size and not ours[~prompts[1]].any()
    half, _ = t5.load_encoder(tmp_path, dtype=jnp.bfloat16)
    rough = text_encoder.states(half, params, *prompts)
    assert rough.dtype == jnp.bfloat16 and not np.asarray(rough)[~prompts[1]].any()
    assert np.abs(np.asarray(rough, np.float32) - theirs).mean() < 0.02


def test_the_encoder_of_a_whole_model_is_the_same(prompts, tmp_path):
    whole = text_model("UMT5", "ForConditionalGeneration")
    whole.save_pretrained(tmp_path)
    module, params = t5.load_encoder(tmp_path)
    ours = text_encoder.states(module, params, *prompts)
    np.testing.assert_allclose(ours, as_diffusers(whole.encoder, *prompts), atol=TOLERANCE)


@pytest.mark.parametrize("family", ["UMT5", "T5"])
def test_transformers_loads_the_encoder_that_we_save(family, prompts, tmp_path):
    model = text_model(family)
    model.save_pretrained(tmp_path / "theirs")
    t5.save_encoder(tmp_path / "ours", *t5.load_encoder(tmp_path / "theirs"))
    again = type(model).from_pretrained(tmp_path / "ours").eval()
    np.testing.assert_array_equal(as_diffusers(again, *prompts), as_diffusers(model, *prompts))


def test_umt5_xxl_has_the_parameters_of_the_original():
    config = transformers.UMT5Config(
        vocab_size=256_384, d_model=4096, d_kv=64, d_ff=10_240, num_layers=24, num_heads=64
    )
    with torch.device("meta"):
        theirs = transformers.UMT5EncoderModel(config).num_parameters()
    module = T5(
        256_384, 4096, 64, 10_240, 64, 24, 24, 32, 128, "gated-gelu",
        tie_embeddings=True, relative_bias_every_layer=True, dropout=0.1,
    )  # fmt: skip
    made = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.ones((1, 1), jnp.int32), method=T5.encode))
    assert sum(leaf.size for leaf in jax.tree.leaves(made)) == theirs


# ---- Prompts ---------------------------------------------------------------------------------------------------------

TEXTS = [
    "A cat and a dog baking a cake together in a kitchen.",
    "",
    " ",
    "  two  spaces,\ta tab\nand\r\na line;\u00a0hard\u3000wide  ",
    "\u201cCurly\u201d \u2018quotes\u2019 \u2013 don\u2019t \u2026",
    "mojibake: \u00c3\u00bcber, caf\u00c3\u00a9, it\u00e2\u20ac\u2122s",
    "&lt;b&gt; &amp;amp; AT&amp;T &#39;x&#39;",
    "\ufb01sh \uff21\uff22\uff23 \uff11\uff12\uff13 \u2460 \u00bd",
    "e\u0301cole \u00e9cole A\u030angstro\u0308m \u212b",
    "\u00dcber Gr\u00f6\u00dfe und Ma\u00dfe, \u0141\u00f3d\u017a, na\u00efve",
    "一只红狐狸走过雪地。",
    "日本語と한국어のテスト",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\U0001f98a\U0001f98a fox \U0001f98a\u200d\u2764\ufe0f",
    "hello</s>world <pad> and <unk> there",
    "<extra_id_0>snow <extra_id_9> <extra_id_10>",
    "x\u0000y \ufeffz a\u200bb",
    "UPPER lower MiXeD 3.14 10,000 -5 50%",
    "x" * 200,
    "the quick brown fox " * 200,
]


def mixed() -> list[str]:
    """Texts of parts that touch: runs of equal letters (equal sums), unknown letters, special texts."""
    rng = np.random.default_rng(4)
    parts = [
        "a", "hello", "世界", "café", " ", "  ", "\t", "🫠", "🫥", "<pad>", "</s>", "<extra_id_1>", "\u2581", "\u00a0",
        "000", "ee", "sss", "-----", "mm", "the", "ing",
    ]  # fmt: skip
    return ["".join(rng.choice(parts, rng.integers(1, 20))) for _ in range(300)]


def vocabulary(unknown: int, *, byte_fallback: bool) -> bytes:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for line in [*readme.splitlines(), *TEXTS[:1] * 5, *TEXTS[9:12]] if line.strip()),
        model_writer=model, model_type="unigram", vocab_size=900, hard_vocab_limit=False, character_coverage=0.99,
        pad_id=0, eos_id=1, bos_id=2 if unknown == 3 else -1, unk_id=unknown, byte_fallback=byte_fallback,
        num_threads=1, minloglevel=3,
    )  # fmt: skip
    return model.getvalue()


@pytest.fixture(scope="module", params=[True, False], ids=["bytes", "no bytes"])
def folder(request, tmp_path_factory) -> Path:
    """As Wan's: `spiece.model` and the class's settings; `fast` as transformers 5 saves it."""
    base = tmp_path_factory.mktemp("tokenizer")
    (base / "spiece.model").write_bytes(vocabulary(2, byte_fallback=request.param))
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 10}
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(base / "fast")
    assert not (base / "fast" / "spiece.model").exists()
    return base


@pytest.mark.parametrize("kind", ["", "fast"])
def test_prompts_equal_transformers(folder, kind):
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    theirs = transformers.AutoTokenizer.from_pretrained(folder / kind)
    ours = load_tokenizer(folder / kind, vocab_size=len(theirs))
    assert ours.vocab_size == len(theirs)
    seen = set()
    for text in [*TEXTS, *mixed()]:
        cleaned = text_encoder.clean(text)
        assert cleaned == prompt_clean(text), text
        ids = theirs(cleaned).input_ids
        assert ours.encode(text) == ids, text
        seen |= set(ids)
    assert {1, 2} < seen and len(seen) > 100
    for rows in (512, 16):
        batch = theirs(
            [prompt_clean(text) for text in TEXTS], padding="max_length", max_length=rows, truncation=True,
            return_tensors="np",
        )  # fmt: skip
        ids, mask, cut = ours.batch(TEXTS, rows)
        np.testing.assert_array_equal(ids, batch.input_ids)
        np.testing.assert_array_equal(mask, batch.attention_mask.astype(bool))
        assert ids.dtype == np.int32 and cut[-1] == len(ours.encode(TEXTS[-1])) - rows and cut[0] == max(0, cut[0])


def test_the_unknown_piece_is_the_files_own(tmp_path):
    """UMT5's is 3, behind `<s>`. transformers 5 makes it 2, so here the library beneath it is the original."""
    from tokenizers import Tokenizer

    (tmp_path / "spiece.model").write_bytes(vocabulary(3, byte_fallback=True))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 10}))
    transformers.AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "fast")
    file = tmp_path / "fast" / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["unk_id"] = 3
    content["added_tokens"].append({**content["added_tokens"][0], "id": 2, "content": "<s>"})
    for keeps in (False, True):
        content["model"]["byte_fallback"] = keeps
        file.write_text(json.dumps(content))
        theirs, ours = Tokenizer.from_file(str(file)), load_tokenizer(file.parent)
        for text in [*TEXTS, "a <s> b", *mixed()]:
            assert ours.encode(text) == theirs.encode(text_encoder.clean(text)).ids, text
        assert (3 in ours.encode(TEXTS[-9])) != keeps
    slow = load_tokenizer(tmp_path)
    assert slow.encode("a \U0001f98a\U0001f98a")[-2:] == [3, 1]


# ---- Pictures --------------------------------------------------------------------------------------------------------

TOWER = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 4, "num_attention_heads": 3, "image_size": 28,
    "patch_size": 7, "projection_dim": 8,
}  # fmt: skip


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("kind", ["CLIPVisionModel", "CLIPVisionModelWithProjection"])
def test_picture_states_equal_transformers(kind, activation, tmp_path):
    torch.manual_seed(0)
    model = getattr(transformers, kind)(transformers.CLIPVisionConfig(**TOWER, hidden_act=activation)).eval()
    randomise(model)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    pictures = np.random.default_rng(2).standard_normal((2, 28, 28, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(pictures.transpose(0, 3, 1, 2)), output_hidden_states=True).hidden_states[-2]
    module, params = clip.load(tmp_path, width=24)
    ours = jax.jit(module.apply)({"params": params}, pictures)
    assert ours.shape == (2, 17, 24)
    gap = np.abs(np.asarray(ours) - theirs.numpy()).max()
    print(f"{kind} {activation}: {gap:.1e} of {theirs.abs().max():.1f}")
    assert gap < TOLERANCE and theirs.abs().max() > 1
    half = module.clone(dtype=jnp.bfloat16).apply({"params": params}, pictures)
    assert half.dtype == jnp.bfloat16 and np.abs(np.asarray(half, np.float32) - theirs.numpy()).mean() < 0.05


def test_published_names_have_a_prefix(tmp_path):
    """Files of transformers 4, such as Wan's, name a CLIPVisionModel's tensors as those of one with a projection."""
    from safetensors.numpy import load_file, save_file

    torch.manual_seed(0)
    model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**TOWER))
    model.save_pretrained(tmp_path)
    _, params = clip.load(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = {f"vision_model.{name}": array for name, array in load_file(file).items()}
    positions = {"vision_model.embeddings.position_ids": np.arange(17)[None]}
    save_file(tensors | positions, file)
    jax.tree.map(np.testing.assert_array_equal, params, clip.load(tmp_path)[1])


@pytest.mark.parametrize("shape", [(224, 224), (480, 832), (832, 480), (97, 301), (31, 17), (224, 225), (1080, 607)])
def test_preprocessing_equals_transformers(shape):
    picture = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    picture[: shape[0] // 2] = np.linspace(0, 255, shape[1], dtype=np.uint8)[None, :, None]
    theirs = transformers.CLIPImageProcessorPil()(images=picture, return_tensors="np").pixel_values[0]
    ours = image_encoder.preprocess(picture)
    assert ours.dtype == np.float32 and ours.shape == (224, 224, 3)
    np.testing.assert_allclose(ours, theirs.transpose(1, 2, 0), atol=1e-6)


def test_vit_h_14_has_the_parameters_of_the_original():
    config = transformers.CLIPVisionConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, patch_size=14,
        projection_dim=1024, hidden_act="gelu",
    )  # fmt: skip
    with torch.device("meta"):
        theirs = transformers.CLIPVisionModelWithProjection(config)
    unused = [theirs.visual_projection, theirs.vision_model.post_layernorm, theirs.vision_model.encoder.layers[-1]]
    left_out = sum(parameter.numel() for module in unused for parameter in module.parameters())
    module = image_encoder.ImageEncoder(1280, 16, 5120, 31, 224, 14, "gelu", 1e-5)
    made = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(made)) == theirs.num_parameters() - left_out
