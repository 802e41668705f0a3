"""Glosses on a split: BLEU and its kin, beside the baselines that need no model."""

from collections.abc import Sequence

from signer_jax.data.records import Corpus
from signer_jax.evaluation.figures import Evaluation
from signer_jax.metrics import text as text_metrics
from signer_jax.pipeline import Signer
from signer_jax.progress import progress
from signer_jax.stations.understand import understand
from signer_jax.types import Sample


def evaluate_glosses(signer: Signer, split: str, limit: int, result: Evaluation, batch: int = 64) -> None:
    """BLEU 1-4, ROUGE-L, word error rate and exact matches of the best beam; how often its doubt is right."""
    records = signer.corpus.texts(split)
    samples = [records[i] for i in range(min(limit, len(records)))]
    predicted: list[tuple[str, ...]] = []
    doubted: list[bool] = []
    for i in progress(range(0, len(samples), batch), "glosses"):
        part = samples[i : i + batch]
        understood = understand([s.text for s in part], [s.language for s in part], signer.linker)
        predicted += understood.glosses
        doubted += [any(understood.sentences[b].doubted for b in understood.rows(k)) for k in range(len(part))]
    hypotheses = [" ".join(glosses) for glosses in predicted]
    references = [" ".join(sample.glosses) for sample in samples]
    bleu = text_metrics.bleu(hypotheses, references)
    result.metrics["gloss/sentences"] = float(len(samples))
    result.facts["gloss/bleu_signature"] = str(bleu.pop("signature"))
    result.metrics |= {f"gloss/{name}": float(value) for name, value in bleu.items()}
    result.metrics["gloss/rouge"] = text_metrics.rouge_l(hypotheses, references)
    result.metrics["gloss/wer"] = text_metrics.word_error_rate(hypotheses, references)
    result.metrics["gloss/exact"] = text_metrics.exact_match(hypotheses, references)
    wrong = [glosses != tuple(sample.glosses) for glosses, sample in zip(predicted, samples, strict=True)]
    result.metrics |= doubt_figures(doubted, wrong)
    baselines = gloss_baselines(signer.corpus, samples)
    for name, guesses in baselines.items():
        result.metrics[f"gloss/bleu4_{name}"] = float(text_metrics.bleu(guesses, references)["bleu4"])
        result.metrics[f"gloss/rouge_{name}"] = text_metrics.rouge_l(guesses, references)
    # Recurring sentences can make a system look perfect: the same figure on texts that training never saw.
    seen = set()
    if signer.corpus.count("train", "text"):
        train = signer.corpus.texts("train")
        seen = {train[i].text for i in range(len(train))}
    unseen = [i for i, sample in enumerate(samples) if sample.text not in seen]
    result.metrics["gloss/unseen_share"] = len(unseen) / len(samples)
    if unseen and len(unseen) < len(samples):
        again = text_metrics.bleu([hypotheses[i] for i in unseen], [references[i] for i in unseen])
        result.metrics["gloss/bleu4_unseen"] = float(again["bleu4"])
    result.glosses = [
        (f"[{s.language}] {s.text}", hypothesis, reference)
        for s, hypothesis, reference in zip(samples, hypotheses, references, strict=True)
    ]


def doubt_figures(doubted: Sequence[bool], wrong: Sequence[bool]) -> dict[str, float]:
    """Of the sentences: the share of which doubt is told; of these, the share that is wrong (precision); of the wrong
    ones, the share of which it is told (recall). What has no sentence to count is left out.
    """
    told, right = sum(doubted), sum(d and w for d, w in zip(doubted, wrong, strict=True))
    figures = {"gloss/doubted": told / len(doubted)}
    if told:
        figures["gloss/doubt_precision"] = right / told
    if any(wrong):
        figures["gloss/doubt_recall"] = right / sum(wrong)
    return figures


def gloss_baselines(corpus: Corpus, samples: list[Sample]) -> dict[str, list[str]]:
    """What needs no model: the text itself in upper case, and the glosses of the nearest training text (TF-IDF)."""
    guesses = {"copy": [text_metrics.copied(sample.text) for sample in samples]}
    if not corpus.count("train", "text"):
        return guesses
    train = corpus.texts("train")
    bank = [train[i] for i in range(len(train))]
    nearest = nearest_training(samples, bank)
    return guesses | {"nearest_text": ["" if k is None else " ".join(bank[k].glosses) for k in nearest]}


def nearest_training(samples: Sequence[Sample], bank: Sequence[Sample]) -> list[int | None]:
    """For each sample the place in the bank of the nearest text of its language (TF-IDF), never its own record; None
    where there is none.
    """
    found: list[int | None] = [None] * len(samples)
    for language in {sample.language for sample in samples}:
        theirs = [k for k, sample in enumerate(bank) if sample.language == language]
        own = {bank[k].name: place for place, k in enumerate(theirs)}
        barred = {i: own.get(one.name) for i, one in enumerate(samples) if one.language == language}
        barred = {i: place for i, place in barred.items() if len(theirs) > (place is not None)}
        if barred:
            texts = [samples[i].text for i in barred], [bank[k].text for k in theirs]
            index = text_metrics.nearest_texts(*texts, barred=list(barred.values()))
            for i, place in zip(barred, index, strict=True):
                found[i] = theirs[place]
    return found
