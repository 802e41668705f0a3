"""The paired bootstrap: against what is known of means, and against sacreBLEU's own scores and intervals."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from signer_jax.evaluation import resampling
from signer_jax.metrics import text
from signer_jax.metrics.intervals import interval

REFERENCES = [
    "the dog is old", "i closed the door today", "we will learn with her mother", "he works", "the cat sleeps now",
]  # fmt: skip
GOOD = ["the dog is old", "i closed the window today", "we will learn with mother", "he works", "a cat sleeps now"]
BAD = ["old", "the door", "we learn mother with her now and then", "", "sleeps the cat"]


def mean(sums):
    return sums[0] / sums[1]


def rows(values):
    return np.stack([np.asarray(values, float), np.ones(len(values))], 1)


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    drawn = resampling.paired_bootstrap({"a": rows(values)}, mean, samples=4000)["a"]
    low, high = interval(drawn)
    error = values.std() / np.sqrt(len(values))
    np.testing.assert_allclose([low, high], values.mean() + 1.96 * error * np.array([-1, 1]), atol=0.1 * error)
    np.testing.assert_allclose(drawn.std(), error, rtol=0.05)


def test_systems_are_drawn_together():
    """Two that differ by the same everywhere differ by that in every sample, however unsure each is."""
    values = np.random.default_rng(2).normal(0, 10.0, 30)
    drawn = resampling.paired_bootstrap({"a": rows(values), "b": rows(values + 1)}, mean)
    np.testing.assert_allclose(drawn["b"] - drawn["a"], 1.0)
    low, high = interval(drawn["a"])
    assert high - low > 5
    again = resampling.paired_bootstrap({"b": rows(values + 1)}, mean)
    np.testing.assert_array_equal(again["b"], drawn["b"])  # the seed decides, not who else is there


def test_a_handful_of_sentences_has_no_interval_and_none_is_refused():
    """Five that agree would pass for certainty; six texts of five sentences are five sentences."""
    assert np.isnan(interval(resampling.paired_bootstrap({"a": rows([4.0] * 5)}, mean, samples=5)["a"])).all()
    six = rows([4.0] * 6)
    assert np.isnan(resampling.paired_bootstrap({"a": six}, mean, of=np.array([0, 1, 2, 3, 4, 4]))["a"]).all()
    assert interval(resampling.paired_bootstrap({"a": six}, mean, samples=5)["a"]) == (4.0, 4.0)
    for systems in ({"a": rows([])}, {"a": rows([1.0]), "b": rows([1.0, 2.0])}):
        with pytest.raises(ValueError, match="give all the same"):
            resampling.paired_bootstrap(systems, mean)
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_texts_of_one_sentence_are_drawn_together():
    """Each sentence said four times is no surer than said once."""
    values = np.random.default_rng(3).normal(0, 10.0, 40)
    once = resampling.paired_bootstrap({"a": rows(values)}, mean)["a"]
    four = resampling.paired_bootstrap({"a": rows(np.repeat(values, 4))}, mean, of=np.repeat(np.arange(40), 4))["a"]
    np.testing.assert_allclose(four, once)


@pytest.mark.parametrize("hypotheses", [GOOD, BAD, [""] * len(REFERENCES)])
def test_scores_of_sums_are_the_corpus_scores(hypotheses):
    sums = resampling.text_rows(hypotheses, REFERENCES).sum(axis=0)
    whole = text.bleu(hypotheses, REFERENCES)
    for order in (1, 2, 3, 4):
        assert resampling.bleu(order)(sums) == pytest.approx(whole[f"bleu{order}"], abs=1e-9)
    assert resampling.rouge(sums) == pytest.approx(text.rouge_l(hypotheses, REFERENCES))
    wrong = resampling.error_rows(hypotheses, REFERENCES).sum(axis=0)
    assert resampling.error_rate(wrong) == pytest.approx(text.word_error_rate(hypotheses, REFERENCES))


def test_the_interval_of_bleu_is_sacrebleus(monkeypatch):
    """Whose samples are others: about the same middle and width."""
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    hypotheses, references = GOOD * 8, REFERENCES * 8
    theirs = BLEU(tokenize="none", force=True).corpus_score(hypotheses, [references], n_bootstrap=2000)
    drawn = resampling.paired_bootstrap({"a": resampling.text_rows(hypotheses, references)}, resampling.bleu(4))["a"]
    low, high = interval(drawn)
    assert (low + high) / 2 == pytest.approx(theirs._mean, abs=1.5)
    assert (high - low) / 2 == pytest.approx(theirs._ci, rel=0.15)
