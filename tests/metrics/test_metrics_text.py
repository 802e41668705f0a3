"""Text scores against definitions worked out by hand."""

import math
import random
from collections import Counter

import jiwer
import pytest
from fuzz import memory
from sacrebleu.metrics import BLEU, CHRF

from signer_jax.errors import SignerError
from signer_jax.metrics import text
from signer_jax.metrics.text import (
    _edit_distance,
    _longest_common_subsequence,
    bleu,
    chrf,
    copied,
    exact_match,
    nearest_texts,
    rouge_l,
    word_error_rate,
)

HYPOTHESES = ["HELLO WORLD YOU SEE ME NOW", "I GO HOME TODAY AFTER WORK", "WHAT NAME YOU"]
REFERENCES = ["HELLO WORLD YOU SEE ME", "I GO HOME TODAY LATE AFTER WORK", "YOUR NAME WHAT IS"]


def ngrams(tokens, n):
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def bleu_by_hand(hypotheses, references, order):
    precisions = []
    for n in range(1, order + 1):
        pairs = [(ngrams(h.split(), n), ngrams(r.split(), n)) for h, r in zip(hypotheses, references, strict=True)]
        precisions.append(sum((h & r).total() for h, r in pairs) / sum(h.total() for h, _ in pairs))
    ours, theirs = (sum(len(x.split()) for x in lines) for lines in (hypotheses, references))
    return 100 * min(1.0, math.exp(1 - theirs / ours)) * math.exp(sum(map(math.log, precisions)) / order)


def test_bleu_is_clipped_precision_with_the_brevity_penalty():
    scores = bleu(HYPOTHESES, REFERENCES)
    for order in (1, 2, 3, 4):
        assert scores[f"bleu{order}"] == pytest.approx(bleu_by_hand(HYPOTHESES, REFERENCES, order), rel=1e-9)
    assert scores["bleu4"] < scores["bleu1"]
    assert "tok:none" in scores["signature"] and "version:" in scores["signature"]


def test_bleu_keeps_glosses_whole():
    # A tokeniser would split these at the hyphens and the plus, and find common pieces.
    assert bleu(["MUM+DAD IX-1"] * 3, ["MUM+MUM IX-2"] * 3)["bleu1"] == 0
    assert bleu(["A B C D"], ["A B C D"])["bleu4"] == pytest.approx(100)


def test_rouge_l_by_hand():
    # Common: 5 of 6 and 5; 6 of 6 and 7; "NAME" (or "WHAT"): 1 of 3 and 4.
    expected = []
    for common, ours, theirs in ((5, 6, 5), (6, 6, 7), (1, 3, 4)):
        p, r = common / ours, common / theirs
        expected.append((1 + 1.44) * p * r / (r + 1.44 * p))
    assert rouge_l(HYPOTHESES, REFERENCES) == pytest.approx(100 * sum(expected) / 3)
    assert rouge_l(["", "A B"], ["A", "A B"]) == pytest.approx(50)
    assert rouge_l(["B A C"], ["A X C"]) == pytest.approx(100 * 2 / 3)  # A … C, not adjacent


def test_exact_match_counts_sentences():
    assert exact_match(["A B", "A  B ", "A"], ["A B", "A B", "B"]) == pytest.approx(100 * 2 / 3)


def test_word_error_rate_by_hand():
    # One insertion; one deletion; WHAT NAME YOU -> YOUR NAME WHAT IS: two substitutions and one insertion.
    assert word_error_rate(HYPOTHESES, REFERENCES) == pytest.approx(100 * (1 + 1 + 3) / 16)
    assert word_error_rate(["A A A"], ["B"]) == pytest.approx(300)
    assert word_error_rate([""], ["A B"]) == pytest.approx(100)


WORDS = ("der", "die", "regen", "im", "norden", "nord-ost", "MORGEN", "wolken", "3", "ähnlich")


def made_up(seed, lines=60):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(0, 14))) for _ in range(lines)]


CORPORA = [(HYPOTHESES, REFERENCES), (made_up(0), made_up(1)), ([""], ["a b"]), (["a"], ["b"]), (["aa b"], ["ab"]),
           (["x y"], [""]), (["ein kurzer"], ["ein  sehr\tviel längerer Satz als der andere"])]  # fmt: skip


@pytest.mark.parametrize("corpus", CORPORA)
def test_chrf_is_sacrebleus(corpus):
    hypotheses, references = corpus
    metric = CHRF()
    found = chrf(hypotheses, references)
    assert found["chrf"] == pytest.approx(metric.corpus_score(hypotheses, [references]).score, abs=1e-9)
    assert found["signature"] == str(metric.get_signature()) and "nc:6|nw:0" in found["signature"]


@pytest.mark.parametrize("corpus", [(HYPOTHESES, REFERENCES), (made_up(2), [line or "x" for line in made_up(3)])])
def test_word_error_rate_is_jiwers(corpus):
    hypotheses, references = corpus
    assert word_error_rate(hypotheses, references) == pytest.approx(100 * jiwer.wer(references, hypotheses))


def test_chrf_holds_a_line_at_a_time():
    lines = made_up(4, lines=6000)
    assert memory.allocated(lambda: chrf(lines[:3000], lines[3000:6000])) < 16 << 20


@pytest.mark.parametrize("score", [bleu, chrf, rouge_l, exact_match, word_error_rate])
def test_lists_that_cannot_be_scored_are_refused(score):
    with pytest.raises(SignerError, match="2 hypotheses for 1 references"):
        score(["A", "B"], ["A"])
    with pytest.raises(SignerError, match="nothing to score"):
        score([], [])


def test_error_rate_of_empty_references_is_refused():
    with pytest.raises(SignerError, match="empty"):
        word_error_rate(["A"], [""])


def _by_the_book(a, b, *, common: bool):
    """The two recurrences, cell by cell."""
    table = [[0 if common else i + j for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i, x in enumerate(a, start=1):
        for j, y in enumerate(b, start=1):
            above, left, corner = table[i - 1][j], table[i][j - 1], table[i - 1][j - 1]
            if common:
                table[i][j] = corner + 1 if x == y else max(above, left)
            else:
                table[i][j] = min(corner + (x != y), above + 1, left + 1)
    return table[-1][-1]


def test_long_sequences_by_the_book():
    rng = random.Random(0)
    for _ in range(100):
        a, b = ([rng.choice("ABCD") for _ in range(rng.randrange(12))] for _ in range(2))
        assert _longest_common_subsequence(a, b) == _by_the_book(a, b, common=True)
        assert _edit_distance(a, b) == _by_the_book(a, b, common=False)
    words = [f"W{i}" for i in range(6000)]
    # Every third word is another: two thirds are common, one third is substituted.
    other = [word if i % 3 else "X" for i, word in enumerate(words)]
    line, changed = " ".join(words), " ".join(other)
    assert rouge_l([changed], [line]) == pytest.approx(100 * 2 / 3)
    assert word_error_rate([changed], [line]) == pytest.approx(100 / 3)


def test_a_text_copied_as_its_glosses():
    assert copied("How do you sign 'wie heißt du?'", upper=True) == "HOW DO YOU SIGN WIE HEISST DU"
    assert copied("Wie heißt du?", upper=False) == "wie heißt du"
    assert copied("他今年四岁。", upper=True) == "他 今 年 四 岁"


def test_the_nearest_text_shares_the_rare_words():
    bank = ["the house is big.", "the dog is big.", "the dog is in the house", "a cat!"]
    # Of "the dog is small" and the first: "the" and "is", which nearly all have. "unseen words" share nothing.
    assert nearest_texts(["The dog is small", "a big cat?", "unseen words"], bank).tolist() == [1, 3, 0]
    assert nearest_texts(["他今年四岁。"], ["今天很冷。", "我妹妹四岁。", "那本书"]).tolist() == [1]  # without spaces
    # A text that is in the bank itself takes another.
    assert nearest_texts([bank[1], "a big cat?"], bank, barred=[1, None])[0] != 1
    assert nearest_texts([bank[1], "a big cat?"], bank, barred=[1, None])[1] == 3
    with pytest.raises(SignerError, match="no text"):
        nearest_texts(["a"], [])


def test_bleu_of_stretches_is_the_corpuss(monkeypatch):
    rng = random.Random(0)
    lines = [[" ".join(rng.choices("ABCD", k=rng.randrange(1, 9))) for _ in range(23)] for _ in range(2)]
    whole = bleu(*lines)
    monkeypatch.setattr(text, "_STRETCH", 5)
    assert bleu(*lines) == whole
    for order in (1, 4):
        expected = BLEU(max_ngram_order=order, tokenize="none", force=True).corpus_score(lines[0], [lines[1]]).score
        assert whole[f"bleu{order}"] == pytest.approx(expected, abs=1e-9)


def test_many_lines_take_little():
    assert memory.allocated(lambda: bleu(["a"] * 40_000, ["b"] * 40_000)) < 10 << 20  # all n-grams at once took 28
