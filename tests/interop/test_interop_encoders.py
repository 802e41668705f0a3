"""Folders of encoders that are something else, not whole, or do not fit: one line, and which file."""

import base64
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from signer_jax.errors import SignerError
from signer_jax.interop import clip, names, prompts, state_dict, t5
from signer_jax.interop.prompts import load_tokenizer
from signer_jax.renderer.image_encoder import ImageEncoder
from signer_jax.slul.t5 import T5
from signer_jax.slul.tokenizer import Tokenizer


def line(function, *arguments, **keywords) -> str:
    with pytest.raises(SignerError) as error:
        function(*arguments, **keywords)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    return str(error.value)


def numbers(init, *inputs) -> dict:
    """A module's parameters without running anything."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(init, jax.random.key(0), *inputs)["params"]
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def rewrite(folder: Path, **values) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in (config | values).items() if v != "absent"}))


# ---- T5's encoder ----------------------------------------------------------------------------------------------------

IDS = np.ones((1, 3), np.int32)


@pytest.fixture
def whole(tmp_path) -> Path:
    module = T5(
        61, 8, 4, 10, 2, 2, 2, 12, 20, "gated-gelu", tie_embeddings=True, relative_bias_every_layer=True, dropout=0.1
    )
    t5.save(tmp_path / "whole", module, numbers(module.init, IDS, IDS))
    return tmp_path / "whole"


@pytest.fixture
def encoder(whole) -> Path:
    t5.save_encoder(whole.parent / "encoder", *t5.load_encoder(whole))
    return whole.parent / "encoder"


def test_an_encoder_alone_reads_and_is_no_slul(whole, encoder):
    module, params = t5.load_encoder(encoder, width=8)
    assert params.keys() == {"token_embedding", "encoder"}
    full, full_params = t5.load(whole)
    same = {"token_embedding": full_params["token_embedding"], "encoder": full_params["encoder"]}
    jax.tree.map(np.testing.assert_array_equal, params, same)
    assert module == full
    for architectures in (["UMT5EncoderModel"], ["UMT5ForConditionalGeneration"], "absent"):
        rewrite(encoder, architectures=architectures)
        message = line(t5.load, encoder)
        assert str(encoder) in message and "encoder of a T5 alone" in message and "decoder; give" in message
    rewrite(encoder, architectures="UMT5EncoderModel")
    assert "architectures is 'UMT5EncoderModel', it must be a list" in line(t5.load_encoder, encoder)


def test_an_encoder_of_another_width_is_refused_before_it_is_read(encoder):
    (encoder / "model.safetensors").write_bytes(b"not read")
    message = line(t5.load_encoder, encoder, width=4096)
    assert "d_model is 8" in message and "width 4096" in message and "config.json" in message


def test_tensors_that_an_encoder_lacks_or_has_beside(encoder):
    tensors = load_file(encoder / "model.safetensors")
    for name in ("encoder.final_layer_norm.weight", "shared.weight"):
        save_file({k: v for k, v in tensors.items() if k != name}, encoder / "model.safetensors")
        assert name in line(t5.load_encoder, encoder)
    save_file(tensors | {"encoder.pooler": np.zeros(2, np.float32)}, encoder / "model.safetensors")
    assert "unknown tensors, the first 'encoder.pooler'" in line(t5.load_encoder, encoder)
    # The table under its second name alone, as tied tensors may be saved.
    table = {"encoder.embed_tokens.weight": tensors.pop("shared.weight")}
    save_file(tensors | table, encoder / "model.safetensors")
    _, params = t5.load_encoder(encoder)
    np.testing.assert_array_equal(params["token_embedding"]["embedding"], table["encoder.embed_tokens.weight"])


def shard(folder: Path) -> Path:
    """The folder's one file as two with an index; returns the index."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    halves = [sorted(tensors)[::2], sorted(tensors)[1::2]]
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name, half in zip(files, halves, strict=True):
        save_file({key: tensors[key] for key in half}, folder / name)
    index = folder / "model.safetensors.index.json"
    places = {key: name for name, half in zip(files, halves, strict=True) for key in half}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("load", [t5.load_encoder, clip.load], ids=["t5", "clip"])
def test_shards(load, encoder, tower):
    folder = encoder if load is t5.load_encoder else tower
    _, before = load(folder)
    index = shard(folder)
    jax.tree.map(np.testing.assert_array_equal, before, load(folder)[1])
    content = index.read_text()
    for outside in ("../model-00002-of-00002.safetensors", "/tmp/model-00002-of-00002.safetensors", "a\\b.safetensors"):
        index.write_text(content.replace("model-00002-of-00002.safetensors", outside.replace("\\", "\\\\")))
        message = line(load, folder)
        assert str(index) in message and "no .safetensors file beside it" in message
    index.write_text(content)
    second = folder / "model-00002-of-00002.safetensors"
    elsewhere = folder.parent / "elsewhere.safetensors"
    second.rename(elsewhere)
    assert str(second) in line(load, folder)
    second.symlink_to(elsewhere)
    assert "a link out of its folder" in line(load, folder)


# ---- CLIP ------------------------------------------------------------------------------------------------------------

TOWER = {
    "model_type": "clip_vision_model", "hidden_size": 12, "intermediate_size": 10, "num_hidden_layers": 3,
    "num_attention_heads": 3, "image_size": 8, "patch_size": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
    "num_channels": 3,
}  # fmt: skip


@pytest.fixture
def tower(tmp_path) -> Path:
    """As a published file: a prefix before every name, and the last block, norm and projection, which are not read."""
    module = ImageEncoder(12, 3, 10, 3, 8, 4, "gelu", 1e-5)
    tensors = names.to_theirs(clip.table_of(module), numbers(module.init, jnp.zeros((1, 8, 8, 3))))
    rest = {"post_layernorm.weight": np.ones(12), "post_layernorm.bias": np.ones(12)}
    tensors = {f"vision_model.{name}": array for name, array in (tensors | rest).items()}
    state_dict.write(tmp_path / "tower", TOWER, tensors | {"visual_projection.weight": np.ones((5, 12))})
    return tmp_path / "tower"


def test_a_tower_without_its_last_block(tower):
    module, params = clip.load(tower, width=12)
    assert module.layers == 2 and params["layers"]["wi"]["kernel"].shape == (2, 12, 10)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "clip"}, "model_type is 'clip', it must be clip_vision_model"),
        ({"model_type": "clip_text_model"}, "image_encoder"),
        ({"model_type": "siglip_vision_model"}, "image_encoder"),
        ({"model_type": "absent"}, "lacks 'model_type'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu', it must be gelu or quick_gelu"),
        ({"num_attention_heads": 5}, "hidden_size 12 is no multiple of num_attention_heads 5"),
        ({"image_size": 9}, "image_size 9 is no multiple of patch_size 4"),
        ({"num_hidden_layers": 1}, "num_hidden_layers is 1"),
        ({"num_hidden_layers": 4}, "lacks 16 tensors, the first 'encoder.layers.3."),
        ({"num_hidden_layers": 2}, "unknown tensors"),
        ({"intermediate_size": 11}, "its config says"),
        ({"image_size": 16}, "its config says"),
        ({"num_channels": 4}, "num_channels is 4"),
        ({"layer_norm_eps": "1"}, "layer_norm_eps is '1'"),
    ],
)
def test_a_tower_that_is_another_model(tower, values, words):
    rewrite(tower, **values)
    assert words in line(clip.load, tower)


def test_a_tower_of_another_width_is_refused_before_it_is_read(tower):
    (tower / "model.safetensors").write_bytes(b"not read")
    message = line(clip.load, tower, width=1280)
    assert "hidden_size is 12" in message and "width 1280" in message


# ---- Tokenizers ------------------------------------------------------------------------------------------------------

FAST = {
    "added_tokens": [{"id": 0, "content": "<pad>"}, {"id": 1, "content": "</s>"}, {"id": 7, "content": "<extra_id_0>"}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": ""}]},
    "pre_tokenizer": {"type": "Metaspace"},
    "model": {
        "type": "Unigram", "unk_id": 2,
        "vocab": [["<pad>", 0], ["</s>", 0.0], ["<unk>", 0.0], ["\u2581a", -1.5], ["b", -2.0]],
    },
}  # fmt: skip


def fast(folder: Path, **changed) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(FAST | changed))
    return folder


def test_a_fast_tokenizer_alone(tmp_path):
    tokenizer = load_tokenizer(fast(tmp_path), vocab_size=8)
    assert tokenizer.encode("ab  a!<extra_id_0>") == [3, 4, 3, 2, 7, 1] and tokenizer.vocab_size == 8
    # The space-tidying steps that older versions wrote.
    steps = [{"type": "Strip"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]
    steps += FAST["normalizer"]["normalizers"]
    fast(tmp_path, normalizer={"type": "Sequence", "normalizers": steps})
    assert load_tokenizer(tmp_path).encode("a  b") == [3, 2, 4, 1]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": {"type": "BPE", "vocab": {}}}, "holds a BPE tokenizer"),
        ({"model": None}, "holds a None tokenizer"),
        ({"model": {**FAST["model"], "vocab": {"a": 1}}}, "no list of pieces and scores"),
        ({"model": {**FAST["model"], "vocab": [["a", "b"]]}}, "no list of pieces and scores"),
        ({"model": {**FAST["model"], "vocab": [["", 0.0]], "unk_id": 0}}, "no list of pieces and scores"),
        ({"model": {**FAST["model"], "unk_id": 99}}, "names no unknown piece"),
        ({"model": {**FAST["model"], "unk_id": None}}, "names no unknown piece"),
        ({"model": {**FAST["model"], "vocab": [["a" * 129, 0.0]], "unk_id": 0}}, "no list of pieces and scores"),
        ({"model": {**FAST["model"], "vocab": [["a" + "\u0301" * 31, 0.0]], "unk_id": 0}}, "no list of pieces and"),
        ({"added_tokens": None}, "no special token <pad>"),
        ({"added_tokens": 5}, "added_tokens are no list"),
        ({"added_tokens": {"a": 1}}, "added_tokens are no list"),
        ({"added_tokens": [{"id": 0, "content": "<pad>"}] * 10_001}, "added_tokens are no list of at most 10000"),
        ({"added_tokens": [{"id": True, "content": "<pad>"}]}, "added token without text or id"),
        ({"added_tokens": [{"id": 0, "content": "a" * 129}]}, "added token without text or id"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "\u00e4"}}, "table is damaged"),
        ({"added_tokens": [3]}, "added token without text or id"),
        ({"added_tokens": [{"id": -1, "content": "<pad>"}]}, "added token without text or id"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "cuts text by ByteLevel"),
        ({"pre_tokenizer": [1]}, "cannot be read"),
        ({"normalizer": {"type": "Lowercase"}}, "normalises by Lowercase"),
        ({"normalizer": {"type": "Replace", "content": "x"}}, "normalises by Replace"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "a"}}, "table is damaged"),
        (
            {"normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"abc").decode()}},
            "cannot be read",
        ),
    ],
)
def test_a_fast_tokenizer_of_another_kind(tmp_path, changed, words):
    message = line(load_tokenizer, fast(tmp_path, **changed))
    assert words in message and str(tmp_path) in message


def test_a_folder_without_a_tokenizer_or_with_a_part_of_one(tmp_path):
    assert "holds neither tokenizer.json nor spiece.model" in line(load_tokenizer, tmp_path)
    Tokenizer.train(["how do you sign it"] * 5, tmp_path / "spiece.model", 60, ("ase",), glosses=[("IX",)] * 5)
    data = (tmp_path / "spiece.model").read_bytes()
    size = load_tokenizer(tmp_path).vocab_size
    message = line(load_tokenizer, tmp_path, vocab_size=size - 1)
    assert f"has {size} ids, its text encoder {size - 1}" in message
    for extra in ("3", True, -1, 10**9):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"extra_ids": extra}))
        assert "extra_ids is " in line(load_tokenizer, tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    for part in (b"", b"abc", data[:-40], data[: len(data) // 2]):
        (tmp_path / "spiece.model").write_bytes(part)
        assert "cannot be read" in line(load_tokenizer, tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    assert "not valid JSON" in line(load_tokenizer, tmp_path)


def test_a_mistake_of_ours_is_not_a_damaged_tokenizer(tmp_path, monkeypatch):
    """What is caught is what SentencePiece raises, not whatever happens in the reader."""

    def mistaken(*arguments, **keywords):
        raise KeyError("a mistake")

    monkeypatch.setattr(prompts, "PromptTokenizer", mistaken)
    with pytest.raises(KeyError, match="a mistake"):
        load_tokenizer(fast(tmp_path))


@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model", "config.json", "model.safetensors"])
def test_a_link_out_of_its_folder_is_not_followed(tmp_path, encoder, name):
    if name == "tokenizer.json":
        folder, load = fast(tmp_path), load_tokenizer
    elif name == "spiece.model":
        folder, load = tmp_path, load_tokenizer
        Tokenizer.train(["how do you sign it"] * 5, tmp_path / name, 60, ("ase",), glosses=[("IX",)] * 5)
    else:
        folder, load = encoder, t5.load_encoder
    load(folder)
    (folder / name).rename(outside := tmp_path.parent / f"{tmp_path.name}-elsewhere-{name}")
    (folder / name).symlink_to(outside)
    message = line(load, folder)
    assert str(folder / name) in message and "a link out of its folder" in message
    # The Hub's own cache links so.
    blobs, home = tmp_path / "cache" / "blobs", tmp_path / "cache" / "snapshots" / "1"
    blobs.mkdir(parents=True), home.mkdir(parents=True)
    (folder / name).unlink()
    outside.rename(blobs / "0")
    for file in folder.iterdir():
        if file.is_file():
            (home / file.name).write_bytes(file.read_bytes())
    (home / name).symlink_to("../../blobs/0")
    load(home)
