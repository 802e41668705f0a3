"""Scores of texts and glosses: BLEU, chrF, ROUGE-L, word error rate, exact match; words are split at white space.

Scores are in per cent. BLEU and chrF come with sacreBLEU's signature and are never printed without it: tokenisation
alone can turn 13 into 51 on the same output.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from sacrebleu.metrics import BLEU, CHRF
from scipy.sparse import csr_matrix

from signer_jax.errors import SignerError
from signer_jax.metrics.signatures import signature
from signer_jax.writing import words_of

# Of ROUGE-L's F, as the sign language translation literature computes it (the convention of neccam/slt).
ROUGE_BETA = 1.2
_STRETCH = 2000  # lines


def _check(hypotheses: Sequence[str], references: Sequence) -> None:
    if len(hypotheses) != len(references):
        raise SignerError(
            f"text scores: {len(hypotheses)} hypotheses for {len(references)} references; "
            "give one hypothesis for every reference"
        )
    if not references:
        raise SignerError("text scores: there is nothing to score; give at least one hypothesis and its reference")


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float | str]:
    """Corpus BLEU-1 to BLEU-4 (sacreBLEU, `tokenize='none'`): keys `bleu1` … `bleu4` and `signature`.

    BLEU-n is the geometric mean of the n-gram precisions up to n with the corpus's brevity penalty. Raises
    `SignerError` where the two lists differ in length or are empty.
    """
    _check(hypotheses, references)
    scores: dict[str, float | str] = {}
    for order in (1, 2, 3, 4):
        # force: a tokenised full stop at the end of many lines is no mistake here.
        metric = BLEU(max_ngram_order=order, tokenize="none", force=True)
        scores[f"bleu{order}"] = _corpus_bleu(metric, order, hypotheses, references)
        scores["signature"] = str(metric.get_signature())
    return scores


def _corpus_bleu(metric: BLEU, order: int, hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU of counts that are added up stretch by stretch: the library keeps all of a corpus's n-grams at once,
    hundreds of times its bytes.
    """
    counts, totals, lengths = np.zeros(order, int), np.zeros(order, int), np.zeros(2, int)
    for start in range(0, len(hypotheses), _STRETCH):
        part = slice(start, start + _STRETCH)
        score = metric.corpus_score(list(hypotheses[part]), [list(references[part])])
        counts, totals = counts + score.counts, totals + score.totals
        lengths += (score.sys_len, score.ref_len)
    return BLEU.compute_bleu(
        counts.tolist(), totals.tolist(), int(lengths[0]), int(lengths[1]), smooth_method=metric.smooth_method,
        smooth_value=metric.smooth_value, max_ngram_order=order,
    ).score  # fmt: skip


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float | str]:
    """Corpus chrF2 as sacreBLEU has it (Popović 2015): keys `chrf` and `signature`.

    Precision and recall of the n-grams of 1 to 6 characters, white space left out, counted over the corpus; the means
    of both over the orders that both sides have; F with β = 2. Counted line by line, since the library keeps all of a
    corpus's n-grams at once. Raises `SignerError` as `bleu` does.
    """
    _check(hypotheses, references)
    metric = CHRF()
    metric.corpus_score([hypotheses[0]], [[references[0]]])  # which alone tells it how many references there are
    counts = np.zeros((3, metric.char_order))  # of the hypotheses, of the references, of both
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        for order in range(metric.char_order):
            ours, theirs = (_characters(text, order + 1) for text in (hypothesis, reference))
            if theirs:  # a line whose reference has none of this order does not count for it
                counts[:, order] += ours.total(), theirs.total(), (ours & theirs).total()
    both = (counts[:2] > 0).all(axis=0)
    if not counts[2].any():
        score = 0.0
    else:
        precision, recall = (counts[2, both] / counts[:2, both]).mean(axis=1)
        weight = metric.beta**2
        score = (1 + weight) * precision * recall / (weight * precision + recall)
    return {"chrf": 100 * float(score), "signature": str(metric.get_signature())}


def _characters(text: str, order: int) -> Counter[str]:
    text = "".join(text.split())
    return Counter(text[i : i + order] for i in range(len(text) - order + 1))


def _numbered(a: Sequence[str], b: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Both sequences with a number for each word, for comparisons of whole rows."""
    numbers = {word: i for i, word in enumerate(dict.fromkeys((*a, *b)))}
    return np.array([numbers[word] for word in a], np.int64), np.array([numbers[word] for word in b], np.int64)


def _longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    # D[i, j] = max(D[i-1, j], D[i-1, j-1] + (a_i = b_j), D[i, j-1]): the last is a running maximum along the row.
    left, right = _numbered(a, b)
    row = np.zeros(len(b) + 1, np.int64)
    for x in left:
        row[1:] = np.maximum(row[1:], row[:-1] + (right == x))
        np.maximum.accumulate(row, out=row)
    return int(row[-1])


def rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """ROUGE-L F with β = 1.2, the mean over sentences × 100 (the convention of neccam/slt).

    F = (1 + β²) P R / (R + β² P), P and R the longest common subsequence over the hypothesis's and the reference's
    length; 0 where nothing is shared. Raises `SignerError` as `bleu` does.
    """
    _check(hypotheses, references)
    scores = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        ours, theirs = hypothesis.split(), reference.split()
        common = _longest_common_subsequence(ours, theirs)
        if common == 0:
            scores.append(0.0)
            continue
        precision, recall = common / len(ours), common / len(theirs)
        scores.append((1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision))
    return 100 * float(np.mean(scores))


def exact_match(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Per cent of sentences whose tokens are exactly the reference's. Raises `SignerError` as `bleu` does."""
    _check(hypotheses, references)
    return 100 * float(np.mean([h.split() == r.split() for h, r in zip(hypotheses, references, strict=True)]))


def _edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    # D[i, j] = min(D[i-1, j] + 1, D[i-1, j-1] + (a_i ≠ b_j), D[i, j-1] + 1): the last, which adds 1 a step, is a
    # running minimum of D[i, j] - j.
    left, right = _numbered(a, b)
    steps = np.arange(len(b) + 1)
    row = steps.copy()
    for x in left:
        enter = row + 1
        np.minimum(enter[1:], row[:-1] + (right != x), out=enter[1:])
        row = np.minimum.accumulate(enter - steps) + steps
    return int(row[-1])


def word_error_rate(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Substitutions, insertions and deletions of the corpus over its reference tokens, × 100 (may exceed 100).

    Raises `SignerError` as `bleu` does, and where all references are empty.
    """
    _check(hypotheses, references)
    pairs = [(h.split(), r.split()) for h, r in zip(hypotheses, references, strict=True)]
    tokens = sum(len(reference) for _, reference in pairs)
    if tokens == 0:
        raise SignerError("text scores: every reference is empty, so an error rate has no meaning; check the file")
    return 100 * sum(_edit_distance(hypothesis, reference) for hypothesis, reference in pairs) / tokens


def signatures() -> dict[str, str]:
    """What the scores depend on that are not sacreBLEU's: `rouge`, `wer`, `exact`."""
    return {
        "rouge": signature(f=ROUGE_BETA, of="longest-common-subsequence", tok="white-space", over="lines"),
        "wer": signature(costs="1,1,1", case="kept", tok="white-space", over="reference-words"),
        "exact": signature(case="kept", tok="white-space", over="lines"),
    }


# ---- Baselines: what a translation must beat ---------------------------------------------------------------------


def _words(text: str) -> list[str]:
    return [word.key for word in words_of(text)]


def copied(text: str, *, upper: bool) -> str:
    """The text's own words in upper or lower case as its glosses; of a script without spaces its letters."""
    words = " ".join(_words(text))
    return words.upper() if upper else words


def nearest_texts(
    queries: Sequence[str], bank: Sequence[str], barred: Sequence[int | None] = ()
) -> Int[np.ndarray, " q"]:
    """For each query the text of the bank with the greatest cosine of TF-IDF vectors; of equals the first.

    Of lower-cased words; inverse document frequency log((1 + N) / (1 + df)) + 1 of the bank's N texts. `barred`: for
    each query the place in the bank of a text that it may not take, its own, or None. Raises `SignerError` for no bank.
    """
    if not bank:
        raise SignerError("nearest texts: there is no text to choose from")
    frequency = Counter(word for text in bank for word in set(_words(text)))
    index = {word: i for i, word in enumerate(frequency)}
    weight = np.array([np.log((1 + len(bank)) / (1 + count)) + 1 for count in frequency.values()])

    def vectors(texts: Sequence[str]) -> csr_matrix:
        rows, columns, values = [], [], []
        for row, text in enumerate(texts):
            counts = Counter(index[word] for word in _words(text) if word in index)
            vector = np.array([count * weight[column] for column, count in counts.items()])
            rows += [row] * len(counts)
            columns += list(counts)
            values += list(vector / np.linalg.norm(vector) if len(counts) else vector)
        return csr_matrix((values, (rows, columns)), shape=(len(texts), max(len(index), 1)))

    likeness = vectors(queries) @ vectors(bank).T
    if pairs := [(i, k) for i, k in enumerate(barred) if k is not None]:
        rows, columns = zip(*pairs, strict=True)
        likeness = likeness - csr_matrix((np.full(len(pairs), 2.0), (rows, columns)), shape=likeness.shape)
    return np.asarray(likeness.argmax(axis=1)).reshape(-1)
