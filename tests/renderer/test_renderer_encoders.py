"""Wan's text and image encoders: sizes, rows behind the text's end, pieces, pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece
from PIL import Image

from signer_jax.interop.prompts import _CHARSMAP, _NORMALISER, _record
from signer_jax.renderer import image_encoder, text_encoder
from signer_jax.renderer.image_encoder import ImageEncoder
from signer_jax.renderer.text_encoder import PromptTokenizer
from signer_jax.slul.t5 import T5


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# ---- Sizes -----------------------------------------------------------------------------------------------------------


def test_umt5_xxl_has_the_published_size():
    """The `total_size` of Wan's `text_encoder/model.safetensors.index.json`: 22,723,641,344 bytes of float32."""
    module = T5(
        256_384, 4096, 64, 10_240, 64, 24, 24, 32, 128, "gated-gelu",
        tie_embeddings=True, relative_bias_every_layer=True, dropout=0.1,
    )  # fmt: skip
    ids = jnp.ones((1, text_encoder.ROWS), jnp.int32)
    made = jax.eval_shape(lambda: module.init(jax.random.key(0), ids, method=T5.encode)["params"])
    assert made.keys() == {"token_embedding", "encoder"}
    assert count(made) == 22_723_641_344 // 4 == 5_680_910_336
    read = jax.eval_shape(lambda params: text_encoder.states(module, params, ids, ids > 0), made)
    assert read.shape == (1, 512, 4096)


def test_vit_h_14_has_the_published_size():
    """OpenCLIP's image tower has 632,076,800 (632.08 M in its model profile); the last block, the final norm and the
    projection to 1024 are left out here.
    """
    module = ImageEncoder(1280, 16, 5120, 31, 224, 14, "gelu", 1e-5)
    pictures = jnp.zeros((2, 224, 224, 3))
    made = jax.eval_shape(module.init, jax.random.key(0), pictures)
    block = count(made["params"]["layers"]) // 31
    assert count(made) + block + 2 * 1280 + 1280 * 1024 == 632_076_800
    assert jax.eval_shape(module.apply, made, pictures).shape == (2, 257, 1280)


# ---- Text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rows_behind_the_texts_end_are_zeros_and_change_nothing(dtype):
    module = T5(
        20, 8, 4, 10, 2, 2, 1, 12, 20, "gated-gelu", tie_embeddings=True, relative_bias_every_layer=True, dropout=0.1,
        dtype=dtype,
    )  # fmt: skip
    ids = np.array([[5, 6, 0, 7, 1, 0, 0, 0], [9, 1, 0, 0, 0, 0, 0, 0]], np.int32)
    mask = np.arange(8) < np.array([[5], [2]])
    states = jax.jit(text_encoder.states, static_argnums=0)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), ids, method=T5.encode))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    read = states(module, params, ids, mask)
    assert read.dtype == dtype
    assert not np.asarray(read[~mask]).any() and np.asarray(read[mask], np.float32).any(-1).all()
    other = states(module, params, np.where(mask, ids, 3), mask)
    np.testing.assert_array_equal(np.asarray(read, np.float32), np.asarray(other, np.float32))
    # The mask decides, not the id: a text may hold padding's id.
    short = states(module, params, ids, mask & (ids > 0))
    assert np.abs(np.asarray(read - short, np.float32)[0, 0]).max() > 1e-3


def test_prompts_are_cleaned():
    assert text_encoder.clean("  \u201cit\u2019s\u201d \n\t \ufb01ne \u00a0 &amp;lt;b&gt; ") == '"it\'s" fine <b>'
    assert text_encoder.clean("\u00c3\u00bcber") == "über"
    assert text_encoder.clean("") == text_encoder.clean(" \n ") == ""


def tokenizer(**kwargs) -> PromptTokenizer:
    texts = ["<pad>", "</s>", "<unk>", "\u2581", "a", "b", "ab", "\u2581a", "0", "00", "<0xC3>", "<0xBC>"]
    scores = [0.0, 0, 0, -2, -3, -3, -5, -4, -3, -5, -1, -1]
    identity = _record(_NORMALISER, _record(_CHARSMAP, b""))
    normaliser = sentencepiece.SentencePieceNormalizer(
        model_proto=identity, add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False
    )
    special = {"<pad>": 0, "</s>": 1, "<unk>": 2, "<extra_id_1>": 12, "<extra_id_11>": 13}
    return PromptTokenizer(list(zip(texts, scores, strict=True)), 2, special, normaliser, **kwargs)


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ("", []),
        ("a", [7]),  # -4, against -5 for the two
        ("ab", [3, 6]),  # -7, as the other way has too: the longest last piece
        ("b  ab", [3, 5, 3, 6]),
        ("bab", [3, 5, 6]),
        ("000", [3, 8, 9]),  # 0 + 00 and 00 + 0 have one sum too
        ("üxa", [3, 2, 4]),
        ("ü x", [3, 2, 3, 2]),
        ("a</s>b <extra_id_11>", [7, 1, 3, 5, 13]),
        ("a\u2581b", [7, 3, 5]),
    ],
)
def test_pieces_by_hand(prompt, ids):
    assert tokenizer().encode(prompt) == [*ids, 1]


def test_bytes_where_the_vocabulary_has_them():
    assert tokenizer(bytes_kept=True).encode("aü ") == [7, 10, 11, 1]
    assert tokenizer(bytes_kept=True).encode("aüé") == [7, 2, 1]  # é has no bytes there: the run is unknown


def test_a_batch_is_cut_and_padded_and_says_so():
    ids, mask, cut = tokenizer().batch(["a", "b " * 9, ""], rows=4)
    np.testing.assert_array_equal(ids, [[7, 1, 0, 0], [3, 5, 3, 1], [1, 0, 0, 0]])
    np.testing.assert_array_equal(mask, [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    np.testing.assert_array_equal(cut, [0, 15, 0])
    assert tokenizer().vocab_size == 14


# ---- Pictures --------------------------------------------------------------------------------------------------------


def test_the_middle_square_is_seen_with_clips_constants():
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, 100:200] = (255, 0, 128)
    seen = image_encoder.preprocess(picture, size=50)
    assert seen.shape == (50, 50, 3) and seen.dtype == np.float32
    expected = (np.array([1, 0, 128 / 255]) - image_encoder.MEAN) / image_encoder.DEVIATION
    np.testing.assert_allclose(seen[:, 3:-3], np.broadcast_to(expected, (50, 44, 3)), atol=1e-6)
    upright = image_encoder.preprocess(np.asarray(Image.fromarray(picture).transpose(Image.Transpose.ROTATE_90)), 50)
    np.testing.assert_allclose(upright, np.rot90(seen), atol=1e-6)
