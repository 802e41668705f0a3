"""Greedy and beam search against transformers' `generate`, token for token, on random models."""

import numpy as np
import pytest
from slul.tiny_t5 import tiny, weights

from signer_jax.interop import t5 as interop
from signer_jax.slul.decoding import greedy
from signer_jax.slul.standard_beams import standard_beam_search

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

LENGTH, BEAMS = 9, 4
# Padded sentences beside a full one.
SOURCE = np.array([[4, 12, 3, 9, 8, 7, 1], [3, 4, 17, 1, 0, 0, 0], [2, 1, 0, 0, 0, 0, 0], [5, 5, 19, 6, 10, 1, 0]])


@pytest.fixture(scope="module", params=["shared bias", "own bias"])
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    module = tiny(vocab_size=20, relative_bias_every_layer=request.param == "own bias")
    params = weights(module, seed=11)
    interop.save(folder, module, params)
    return module, params, transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


def generated(model, **options):
    ids = torch.from_numpy(SOURCE)
    with torch.no_grad():
        found = model.generate(
            ids, attention_mask=(ids != 0).long(), max_new_tokens=LENGTH, do_sample=False, suppress_tokens=[0],
            return_dict_in_generate=True, output_scores=True, **options,
        )  # fmt: skip
    sequences = found.sequences[:, 1:].numpy()  # without the start
    ended = np.cumsum(sequences == 1, 1) - (sequences == 1) > 0  # its beam search fills up with eos
    sequences = np.where(ended, 0, sequences)
    return np.pad(sequences, ((0, 0), (0, LENGTH - sequences.shape[1]))), found


def test_greedy_is_generates(pair):
    module, params, model = pair
    expected, _ = generated(model, num_beams=1)
    ids, _ = greedy(module, params, SOURCE, max_length=LENGTH)
    np.testing.assert_array_equal(ids, expected)
    lengths = (expected != 0).sum(-1)
    assert len(set(lengths)) > 1, lengths  # some end early


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 1.4, -0.5])
def test_beams_are_generates(pair, penalty, record_property):
    module, params, model = pair
    expected, found = generated(
        model, num_beams=BEAMS, num_return_sequences=BEAMS, length_penalty=penalty, early_stopping=False
    )
    ids, scores, tokens = standard_beam_search(
        module, params, SOURCE, beams=BEAMS, max_length=LENGTH, length_penalty=penalty
    )
    np.testing.assert_array_equal(ids, expected.reshape(len(SOURCE), BEAMS, LENGTH))
    lengths = (np.asarray(ids) != 0).sum(-1)
    theirs = found.sequences_scores.numpy().reshape(scores.shape)
    gap = (np.abs(np.asarray(scores) - theirs) * lengths**penalty).max()  # of the log-probability
    record_property("scores", float(gap))
    assert gap < 2e-5
    np.testing.assert_allclose(np.asarray(tokens).sum(-1) / lengths**penalty, scores, atol=1e-5)
    assert len(set(lengths.ravel())) > 1 or penalty > 1


def test_byt5_has_the_same_ids(tmp_path):
    from signer_jax.slul.tokenizer import Tokenizer

    theirs = transformers.ByT5Tokenizer()
    theirs.save_pretrained(tmp_path)
    ours = Tokenizer.load(tmp_path / "tokenizer_config.json", mask="<extra_id_0>")
    text = "[gsg] das öl im haus, 你好 🙂"
    assert ours.encode_source("das Öl im Haus, 你好 🙂", "gsg") == theirs(text).input_ids
    assert ours.mask_id == theirs.convert_tokens_to_ids("<extra_id_0>")
    assert ours.vocab_size == len(theirs)
