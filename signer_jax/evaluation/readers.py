"""Readers of the text that are no model: whom the nearest training text, and the counts of its words, would choose."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from signer_jax.data.records import Corpus
from signer_jax.evaluation.glosses import nearest_training
from signer_jax.progress import progress
from signer_jax.types import Sample
from signer_jax.writing import words_of


def performed_texts(corpus: Corpus) -> dict[int, Sample]:
    """The training samples that have a text and a pose, without the latter, by their places among the motions."""
    if not corpus.count("train", "pose"):
        return {}
    records = corpus.motions("train")
    every = {}
    for k in progress(range(len(records)), "training texts"):
        if (sample := records[k]).text and sample.pose is not None:
            every[k] = replace(sample, pose=None, spans=None, video=None, references=())  # all are held
    return every


def readers(
    samples: Sequence[Sample], bank: Sequence[Sample], signers: Sequence[str], order: Sequence[int]
) -> list[dict[str, list[int]]]:
    """For each sample and reader the experts, the reader's choice first; no reader without training texts.

    `nearest_text`: the signer of the nearest training text (TF-IDF), then as `order`; `word_counts`: naive Bayes. A
    training text whose signer is none of the experts' says nothing. No sample is its own example.
    """
    expert = {name: k for k, name in enumerate(signers) if k in order}
    bank = [sample for sample in bank if sample.signer in expert]
    if not bank:
        return [{} for _ in samples]
    nearest = [[] if near is None else [expert[bank[near].signer]] for near in nearest_training(samples, bank)]
    counted = by_word_counts(samples, bank, expert, order)
    return [
        {"nearest_text": first + [k for k in order if k not in first], "word_counts": ranked}
        for first, ranked in zip(nearest, counted, strict=True)
    ]


def by_word_counts(
    samples: Sequence[Sample], bank: Sequence[Sample], expert: Mapping[str, int], order: Sequence[int]
) -> list[list[int]]:
    """The experts for each sample, the likeliest first: multinomial naive Bayes over the words of the bank's texts of
    its language, one added to every count. Equals stand as in `order`; a word of no such text says nothing.

    `expert`: which one the truth follows where a signer performs.
    """
    ranked: dict[int, list[int]] = {}
    for language in {sample.language for sample in samples}:
        theirs = [one for one in bank if one.language == language]
        place = {word: w for w, word in enumerate(sorted({word for one in theirs for word in _words(one.text)}))}

        def counted(text: str, place: Mapping[str, int] = place) -> Float[np.ndarray, " w"]:
            found = [place[word] for word in _words(text) if word in place]
            return np.bincount(found, minlength=len(place)).astype(float)

        texts = np.zeros(len(order))  # by the experts' places in `order`
        words = np.zeros((len(order), len(place)))
        own = {}
        for one in theirs:
            row = order.index(expert[one.signer])
            own[one.name] = row, counted(one.text)
            texts[row] += 1
            words[row] += own[one.name][1]
        for i, sample in enumerate(samples):
            if sample.language != language:
                continue
            n, c = texts.copy(), words.copy()
            if sample.name in own:
                row, said = own[sample.name]
                n[row] -= 1
                c[row] -= said
            known = c.any(axis=0)
            share = (c + 1) / (c.sum(axis=1) + known.sum())[:, None]
            score = np.log(n + 1) + np.log(share[:, known]) @ counted(sample.text)[known]
            ranked[i] = [order[row] for row in np.argsort(-score, kind="stable")]
    return [ranked[i] for i in range(len(samples))]


def _words(text: str) -> list[str]:
    return [word.key for word in words_of(text)]
