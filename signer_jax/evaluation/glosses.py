"""Glosses on a split: BLEU and its kin, beside the baselines that need no model."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from signer_jax.data.glossing import MACHINES
from signer_jax.data.records import Corpus
from signer_jax.data.streams import spread
from signer_jax.evaluation.figures import Evaluation
from signer_jax.evaluation.noise import NOISES
from signer_jax.metrics import text as text_metrics
from signer_jax.pipeline import Signer
from signer_jax.progress import progress
from signer_jax.stations.understand import understand_rows
from signer_jax.training.selection import SELECTED_ON
from signer_jax.types import Sample


def evaluate_glosses(
    signer: Signer, split: str, limit: int, result: Evaluation, batch: int = 64, *, noise: float
) -> None:
    """BLEU 1-4, ROUGE-L, word error rate and exact matches of the best beam, on at most `limit` texts, spread over the
    split, each in one piece, as training has it; how often its doubt is right, and what it says of lost words
    (`Sentence.unsaid`).

    `gloss/sayable`: the share of the true glosses that the search can say at all (`Linker.sayable`), or spell: what it
    says itself is sayable always. Where `noise` is above 0, BLEU-4 too of the texts with that share of their words
    dropped, swapped or misspelt (`evaluation.noise`). `gloss/bleu4_unchosen`: of the texts that did not choose the
    parameters, where others of this split did.
    """
    samples = scored_samples(signer.corpus, split, limit)
    if makers := {sample.glosses_by for sample in samples} - {""}:
        result.facts["gloss/references_by"] = ", ".join(sorted(makers))
    if ruled := sorted({sample.language for sample in samples if sample.glosses_by == "rules"}):
        of = "" if makers == {"rules"} else f" of {', '.join(ruled)}"
        result.facts["gloss/rules"] = f"the references{of} are what rules make of the texts: these themselves score 100"
    predicted: list[tuple[str, ...]] = []
    doubted: list[bool] = []
    lost: list[bool] = []
    for i in progress(range(0, len(samples), batch), "glosses"):
        part = samples[i : i + batch]
        understood = understand_rows([s.text for s in part], [s.language for s in part], signer.linker)
        predicted += understood.glosses
        parts = [[understood.sentences[b] for b in understood.rows(k)] for k in range(len(part))]
        doubted += [any(sentence.doubted for sentence in one) for one in parts]
        lost += [any(sentence.unsaid for sentence in one) for one in parts]
    hypotheses = [" ".join(glosses) for glosses in predicted]
    references = [" ".join(sample.glosses) for sample in samples]
    bleu = text_metrics.bleu(hypotheses, references)
    result.metrics["gloss/sentences"] = float(len(samples))
    result.facts["gloss/bleu_signature"] = str(bleu.pop("signature"))
    c = signer.settings.train.slul
    if "slul" in signer.settings.stages and c.select_every and c.select_by != "last":
        same = ""
        if split == SELECTED_ON:
            same = "; these figures are of the same texts, so they flatter"
            chose = {sample.text for sample in scored_samples(signer.corpus, split, c.select_sentences)}
            rest = [i for i, sample in enumerate(samples) if sample.text not in chose]
            if rest:
                same += f", but for gloss/bleu4_unchosen, of {len(rest)} others"
                other = text_metrics.bleu([hypotheses[i] for i in rest], [references[i] for i in rest])
                result.metrics["gloss/bleu4_unchosen"] = float(other["bleu4"])
        result.facts["gloss/selected_on"] = f"{SELECTED_ON}: the parameters were chosen by their scores there{same}"
    result.metrics |= {f"gloss/{name}": float(value) for name, value in bleu.items()}
    result.metrics["gloss/rouge"] = text_metrics.rouge_l(hypotheses, references)
    result.metrics["gloss/wer"] = text_metrics.word_error_rate(hypotheses, references)
    result.metrics["gloss/exact"] = text_metrics.exact_match(hypotheses, references)
    result.metrics["gloss/sayable"] = sayable_share(samples, signer.linker.sayable)
    for name, change in NOISES.items() if noise else ():
        noisy = []
        for i in progress(range(0, len(samples), batch), f"{name} words"):
            part = samples[i : i + batch]
            texts = [change(s.text, noise) for s in part]
            understood = understand_rows(texts, [s.language for s in part], signer.linker)
            noisy += [" ".join(glosses) for glosses in understood.glosses]
        result.metrics[f"gloss/bleu4_{name}"] = float(text_metrics.bleu(noisy, references)["bleu4"])
    wrong = [glosses != tuple(sample.glosses) for glosses, sample in zip(predicted, samples, strict=True)]
    result.metrics |= told_figures("gloss/doubted", "gloss/doubt", doubted, wrong)
    result.metrics |= told_figures("gloss/lost", "gloss/lost", lost, wrong)
    bank = []
    if signer.corpus.count("train", "text"):
        train = signer.corpus.texts("train")
        bank = [train[i] for i in range(len(train))]
    baselines = gloss_baselines(bank, samples)
    for name, guesses in baselines.items():
        result.metrics[f"gloss/bleu4_{name}"] = float(text_metrics.bleu(guesses, references)["bleu4"])
        result.metrics[f"gloss/rouge_{name}"] = text_metrics.rouge_l(guesses, references)
    result.metrics |= by_language(samples, {"": hypotheses, **{f"_{name}": one for name, one in baselines.items()}})
    # Recurring sentences can make a system look perfect: the same figure on texts that training never saw.
    seen = {sample.text for sample in bank}
    unseen = [i for i, sample in enumerate(samples) if sample.text not in seen]
    result.metrics["gloss/unseen_share"] = len(unseen) / len(samples)
    if unseen and len(unseen) < len(samples):
        again = text_metrics.bleu([hypotheses[i] for i in unseen], [references[i] for i in unseen])
        result.metrics["gloss/bleu4_unseen"] = float(again["bleu4"])
    result.glosses = [
        (f"[{s.language}] {s.text}", hypothesis, reference)
        for s, hypothesis, reference in zip(samples, hypotheses, references, strict=True)
    ]


def by_language(samples: Sequence[Sample], guesses: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Of texts in several languages `gloss/LANGUAGE/sentences`, `…/bleu4` and the BLEU-4 of each of the guesses, whose
    names follow it: one figure of all of them is of the largest language first. Nothing of one language.
    """
    languages = sorted({sample.language for sample in samples})
    figures: dict[str, float] = {}
    for language in languages if len(languages) > 1 else ():
        rows = [i for i, sample in enumerate(samples) if sample.language == language]
        references = [" ".join(samples[i].glosses) for i in rows]
        figures[f"gloss/{language}/sentences"] = float(len(rows))
        for name, guess in guesses.items():
            bleu = text_metrics.bleu([guess[i] for i in rows], references)
            figures[f"gloss/{language}/bleu4{name}"] = float(bleu["bleu4"])
    return figures


def scored_samples(corpus: Corpus, split: str, limit: int) -> list[Sample]:
    """At most `limit` texts and their glosses, spread over the split: in each language a person's, or, without any, a
    program's. The two are never scored together.
    """
    records, by = corpus.texts(split), corpus.makers(split)
    machines = [maker in MACHINES for maker in by]
    places: Sequence[int] = range(len(by))
    if any(machines) and not all(machines):
        languages = [records[i].language for i in places]
        human = {language for language, machine in zip(languages, machines, strict=True) if not machine}
        places = [i for i in places if not machines[i] or languages[i] not in human]
    return [records[places[k]] for k in spread(len(places), limit)]


def sayable_share(samples: Sequence[Sample], sayable: Mapping[str, Collection[str]]) -> float:
    """The share of the true glosses, each as often as it is signed, that their language's search can say, or spell."""
    known = {language: frozenset(glosses) for language, glosses in sayable.items()}
    found = [
        gloss in known.get(sample.language, ()) or gloss.startswith("#")
        for sample in samples
        for gloss in sample.glosses
    ]
    return sum(found) / len(found) if found else 0.0


def told_figures(share: str, of: str, told: Sequence[bool], wrong: Sequence[bool]) -> dict[str, float]:
    """Of the sentences: the share of which something is told (doubt, a lost word); of these, the share that is wrong
    (precision); of the wrong ones, the share of which it is told (recall). What has no sentence to count is left out.
    """
    count, right = sum(told), sum(t and w for t, w in zip(told, wrong, strict=True))
    figures = {share: count / len(told)}
    if count:
        figures[f"{of}_precision"] = right / count
    if any(wrong):
        figures[f"{of}_recall"] = right / sum(wrong)
    return figures


def gloss_baselines(bank: Sequence[Sample], samples: Sequence[Sample]) -> dict[str, list[str]]:
    """What needs no model: the text itself, in the case that most true glosses of its language have, and, where there
    are training texts, the glosses of the nearest one (TF-IDF).
    """
    lower: Counter[str] = Counter()
    for sample in samples:
        lower[sample.language] += sum(gloss.islower() - gloss.isupper() for gloss in sample.glosses)
    guesses = {"copy": [text_metrics.copied(one.text, upper=lower[one.language] <= 0) for one in samples]}
    if not bank:
        return guesses
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
