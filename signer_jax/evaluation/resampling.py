"""How sure scores of texts are: the sentences are drawn again and again, for all systems the same ones.

"Statistical Significance Tests for Machine Translation Evaluation" (Koehn 2004). The scores are functions of sums over
sentences, so that a thousand corpora are a thousand sums. Rows of one sentence (said by several signers, asked for by
several prompts) are drawn together: they are not independent of each other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int
from sacrebleu.metrics import BLEU

from signer_jax.metrics import text as text_metrics

SAMPLES = 1000
FEWEST = 6  # different sentences: of fewer, what they have in common by chance passes for certainty
_ORDER = 4  # of BLEU's n-grams

Sums: TypeAlias = Float[np.ndarray, " k"]
Score: TypeAlias = Callable[[Sums], float]


def paired_bootstrap(
    systems: Mapping[str, Float[np.ndarray, "n k"]], score: Score, *, of: Int[np.ndarray, " n"] | None = None,
    samples: int = SAMPLES, seed: int = 0,
) -> dict[str, Float[np.ndarray, " samples"]]:  # fmt: skip
    """Each system's score on so many corpora, of as many sentences, drawn from these with replacement; NaN of fewer
    than `FEWEST` sentences.

    `systems`: a row a text, the same texts in the same order for all; `of`: which sentence each is (each its own);
    `score` takes the sum of rows. Sample i has the same sentences for every system, so that differences of two are
    taken pair by pair.
    """
    counts = {len(rows) for rows in systems.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"paired bootstrap: systems have {sorted(counts)} sentences; give all the same, at least one")
    of = np.arange(counts.pop()) if of is None else np.unique(of, return_inverse=True)[1]
    n = int(of.max()) + 1
    if n < FEWEST:
        return {name: np.full(samples, np.nan) for name in systems}
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=samples)[
        :, of
    ]  # how often each is drawn
    return {name: np.array([score(sums) for sums in times @ np.asarray(rows, float)]) for name, rows in systems.items()}


# ---- Scores as functions of sums ---------------------------------------------------------------------------------


def text_rows(hypotheses: Sequence[str], references: Sequence[str]) -> Float[np.ndarray, "n k"]:
    """Of each sentence what BLEU and ROUGE-L are made of: matching n-grams and all (1 to 4), both lengths, ROUGE, 1."""
    metric = BLEU(max_ngram_order=_ORDER, tokenize="none", force=True)
    rows = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        found = metric.corpus_score([hypothesis], [[reference]])
        rouge = text_metrics.rouge_l([hypothesis], [reference])
        rows.append([*found.counts, *found.totals, found.sys_len, found.ref_len, rouge, 1.0])
    return np.array(rows, float).reshape(len(rows), 2 * _ORDER + 4)


def bleu(order: int) -> Score:
    """BLEU up to n-grams of this order of summed `text_rows`, as `metrics.text.bleu` has it of the corpus."""

    def score(sums: Sums) -> float:
        whole = np.rint(sums[: 2 * _ORDER + 2]).astype(int).tolist()
        return BLEU.compute_bleu(
            whole[:order], whole[_ORDER : _ORDER + order], whole[-2], whole[-1], smooth_method="exp",
            max_ngram_order=order,
        ).score  # fmt: skip

    return score


def rouge(sums: Sums) -> float:
    """ROUGE-L of summed `text_rows`: the mean over sentences."""
    return float(sums[-2] / sums[-1])


def error_rows(hypotheses: Sequence[str], references: Sequence[str]) -> Float[np.ndarray, "n k"]:
    """Of each sentence its wrong words and those of its reference, which has some."""
    rows = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        words = len(reference.split())
        rows.append([round(text_metrics.word_error_rate([hypothesis], [reference]) * words / 100), words])
    return np.array(rows, float).reshape(len(rows), 2)


def error_rate(sums: Sums) -> float:
    """The word error rate of summed `error_rows`, per cent."""
    return float(100 * sums[0] / sums[1])
