"""Our rows of texts: the poses that each system makes, read back into text, and the glosses that it understands."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from signer_jax.back_translation import examples
from signer_jax.baselines import retrieval as retrieval_baseline
from signer_jax.baselines.regression import Regression
from signer_jax.baselines.stitching import by_words, dictionary, stitched
from signer_jax.evaluation import back_translation as judging
from signer_jax.evaluation.experts import expert_order
from signer_jax.evaluation.figures import Evaluation
from signer_jax.evaluation.glosses import gloss_baselines, scored_samples
from signer_jax.evaluation.noise import NOISES
from signer_jax.evaluation.texts import perform_texts
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.reproduction import rows, runs
from signer_jax.reproduction.runs import Workshop
from signer_jax.reproduction.scored import LOST, TEXT, Scored, of_texts
from signer_jax.stations.understand import understand, understand_rows
from signer_jax.training.partitioning import on_mesh_of
from signer_jax.training.selection import SELECTED_ON
from signer_jax.types import Pose, Sample
from signer_jax.writing import han_apart

SPLITS = ("dev", "test")
Poses = list[Pose | None]
Makes = Callable[[Sequence[Sample]], Poses]


def splits(shop: Workshop, kind: str) -> list[str]:
    """Those of dev and test that hold `text` or `pose`."""
    corpus = shop.corpus()
    return [split for split in SPLITS if split in corpus.about["counts"] and corpus.count(split, kind)]


# ---- Poses, read back ------------------------------------------------------------------------------------------------


def by_rule(signer: Signer, samples: Sequence[Sample], order: Sequence[int] | None = None) -> Poses:
    """The poses of the glosses that are understood, each sign by the first expert of `order` (training's most frequent
    one first) that has it, stitched and no more. None where the database knows none of a sentence's glosses.
    """
    order = expert_order(signer) if order is None else order
    texts, languages = [sample.text for sample in samples], [sample.language for sample in samples]
    with on_mesh_of(signer.params):
        understood = understand(texts, languages, signer.linker)
    found: Poses = []
    for i, sample in enumerate(samples):
        glosses = [understood.sentences[b].glosses for b in understood.signed_rows(i)]
        found.append(sentences_stitched(signer, glosses, sample, order))
    return found


def sentences_stitched(
    signer: Signer, sentences: Sequence[Sequence[str]], sample: Sample, order: Sequence[int]
) -> Pose | None:
    retrieval, gap = signer.retrieval, signer.settings.pose.transition
    parts = [stitched(each, sample.language, retrieval, order, gap, sample.name) for each in sentences]
    known = [part for part in parts if part is not None]
    return Pose.joined(known) if known and len(known) == len(parts) else None


def by_gates(signer: Signer, samples: Sequence[Sample]) -> Poses:
    with on_mesh_of(signer.params):
        return perform_texts(signer, samples, np.arange(len(skeleton.JOINTS)), 3)[0]


def by_dictionary(shop: Workshop, samples: Sequence[Sample]) -> Poses:
    """The words' own glosses, in the text's order, without a model."""
    corpus, signer = shop.corpus(), shop.linking({})
    meaning, order = dictionary(corpus), expert_order(signer)
    return [
        sentences_stitched(signer, [by_words(sample.text, meaning.get(sample.language, {}))], sample, order)
        for sample in samples
    ]


def by_regression(shop: Workshop, samples: Sequence[Sample]) -> Poses:
    found = Regression.of(shop.corpus(), shop.settings.back_translation.joints)
    return [None] * len(samples) if found is None else [*found.sign(samples)]


def read_back(shop: Workshop, make: Makes) -> Scored:
    """What the reader says of the poses that a system makes of each split's texts; what it cannot sign is read as
    nothing.
    """
    corpus, reader, found = shop.corpus(), shop.reader(), Scored()
    name = corpus.about["corpus"]
    for split in splits(shop, "pose"):
        samples = judging.judged(corpus, reader, split, shop.settings.evaluate.poses, Evaluation())
        if samples:
            poses = make(samples)
            references = [examples.sentence_of(sample.text, name) for sample in samples]
            said = [han_apart(one.text) for one in judging.read(reader, poses, samples)]
            found = found.joined(of_texts(split, said, references, judging.keys_of(samples, name)))
            found = found.joined(
                Scored(notes={split: counted(poses, samples, reader.cut([pose for pose in poses if pose is not None]))})
            )
    return found


def read_by(shop: Workshop) -> str:
    """What reads: its training, what it sees of a pose, how it searches."""
    split, result = splits(shop, "pose")[0], Evaluation()
    judging.judged(shop.corpus(), shop.reader(), split, shop.settings.evaluate.poses, result)
    return result.facts[f"{judging.POSES}/model"]


def counted(poses: Sequence[Pose | None], samples: Sequence[Sample], cut: int) -> str:
    """How many there were, what could not be made, and how long the poses are beside the truth's."""
    known = [len(pose) for pose in poses if pose is not None]
    true = [len(sample.pose) for sample in samples if sample.pose is not None]
    lengths = (
        f", median {np.median(known):.0f} frames (truth {np.median(true):.0f}), longest {max(known)}" if known else ""
    )
    return f"{len(samples)} sentences, {poses.count(None)} not signed, {cut} cut for the reader{lengths}"


def true_poses(samples: Sequence[Sample]) -> Poses:
    return [sample.pose for sample in samples]


def other_poses(corpus: str, samples: Sequence[Sample]) -> Poses:
    """The true pose of another sentence; none where all are the same."""
    others = judging.other_sentences(samples, corpus)
    return [None] * len(samples) if others is None else [samples[k].pose for k in others]


# Of each row a function of the workshop and a seed, or of the workshop alone where nothing in it is drawn.
def _seeded(shop: Workshop, seed: int, variant: str, make: Callable[[Signer, Sequence[Sample]], Poses]) -> Scored:
    return read_back(shop, lambda samples: make(shop.signer(variant, seed), samples))


def _by_rule(shop: Workshop, seed: int, variant: str) -> Scored:
    return read_back(shop, lambda samples: by_rule(shop.linked(variant, seed), samples))


def _progressive(shop: Workshop, seed: int) -> Scored:
    trained, most = shop.progressive(seed), shop.settings.progressive.max_frames
    ended: list[str] = []  # of each split

    def make(samples: Sequence[Sample]) -> Poses:
        poses = trained.sign(samples)
        ended.append(f"{sum(len(pose) >= most for pose in poses)} did not end before {most} frames")
        return [*poses]

    found = read_back(shop, make)
    notes = {split: f"{said}, {more}" for (split, said), more in zip(found.notes.items(), ended, strict=True)}
    return replace(found, notes=notes)


SEEDED: dict[str, Callable[[Workshop, int], Scored]] = {
    rows.PROGRESSIVE: _progressive,
    rows.BASE: partial(_by_rule, variant=runs.BASE),
    rows.SLUL: partial(_by_rule, variant=runs.SLUL),
    rows.SAGM: partial(_by_rule, variant=runs.SAGM),
    rows.MOE: partial(_seeded, variant=runs.MOE, make=by_gates),
}
ALONE: dict[str, Callable[[Workshop], Scored]] = {
    rows.TRUTH: lambda shop: read_back(shop, true_poses),
    rows.SHUFFLED: lambda shop: read_back(shop, partial(other_poses, shop.corpus().about["corpus"])),
    rows.RETRIEVAL: lambda shop: read_back(shop, partial(retrieval_baseline.sign, shop.corpus())),
    rows.REGRESSION: lambda shop: read_back(shop, partial(by_regression, shop)),
    rows.DICTIONARY: lambda shop: read_back(shop, partial(by_dictionary, shop)),
}


# ---- Glosses ---------------------------------------------------------------------------------------------------------


HELD_OUT = "held-out"


def glosses_of(shop: Workshop, make: Callable[[Sequence[Sample]], Sequence[str]]) -> Scored:
    """Of each split's texts; of those of dev (`HELD_OUT`) that neither trained nor chose a run's parameters, where
    others did; and, with `config.evaluate.noise`, of dev's texts as `evaluation.noise` changes them, with its cost.
    """
    found = Scored()
    for split in splits(shop, "text"):
        samples = scored_samples(shop.corpus(), split, shop.settings.evaluate.sentences)
        references, names = [" ".join(sample.glosses) for sample in samples], [sample.text for sample in samples]
        made = make(samples)
        found = found.joined(of_texts(split, made, references, names))
        if split == SELECTED_ON:
            known = familiar(shop)
            new = [k for k, name in enumerate(names) if name not in known]
            if 0 < len(new) < len(names):
                said = of_texts(HELD_OUT, *([each[k] for k in new] for each in (made, references, names)))
                found = found.joined(replace(said, notes={HELD_OUT: f"{len(new)} of {len(names)} sentences"}))
            for name, change in NOISES.items() if shop.settings.evaluate.noise else ():
                noisy = [replace(one, text=change(one.text, shop.settings.evaluate.noise)) for one in samples]
                changed = of_texts(name, make(noisy), references, names)
                found = found.joined(changed).joined(lost(f"{name}/{LOST}", found, changed))
    return found


def familiar(shop: Workshop) -> set[str]:
    """The texts that trained a run, and those of dev that chose its parameters."""
    corpus, c = shop.corpus(), shop.settings.train.slul
    train = corpus.texts("train")
    texts = {train[i].text for i in range(len(train))}
    if c.select_every and c.select_by != "last":
        texts |= {sample.text for sample in scored_samples(corpus, SELECTED_ON, c.select_sentences)}
    return texts


def lost(figure: str, clean: Scored, changed: Scored) -> Scored:
    """What a change of dev's texts cost: sums of both readings beside each other, a row a sentence."""
    ((_, noisy),) = changed.units.items()
    plain = f"{SELECTED_ON}/{TEXT}"
    return Scored({figure: np.concatenate([clean.units[plain], noisy], axis=1)}, {figure: clean.names[plain]})


def understood_glosses(signer: Signer, samples: Sequence[Sample]) -> list[str]:
    """Each text in one piece, as training has it."""
    texts, languages = [sample.text for sample in samples], [sample.language for sample in samples]
    with on_mesh_of(signer.params):
        return [" ".join(glosses) for glosses in understand_rows(texts, languages, signer.linker).glosses]


def _baseline(shop: Workshop, name: str) -> Scored:
    train = shop.corpus().texts("train")
    bank = [train[i] for i in range(len(train))]
    return glosses_of(shop, lambda samples: gloss_baselines(bank, samples)[name])


def glosses_by_dictionary(shop: Workshop, samples: Sequence[Sample]) -> list[str]:
    meaning = dictionary(shop.corpus())
    return [" ".join(by_words(sample.text, meaning.get(sample.language, {}))) for sample in samples]


def _understood(shop: Workshop, seed: int, variant: str) -> Scored:
    return glosses_of(shop, partial(understood_glosses, shop.linked(variant, seed)))


# Of each row the run that says the glosses.
UNDERSTOOD = {
    rows.GLOSS_BASE: runs.BASE, rows.GLOSS_MASKED: runs.MASKED, rows.GLOSS_KL: runs.KL, rows.GLOSS_SLUL: runs.SLUL,
    rows.GLOSS_SAGM: runs.SAGM,
}  # fmt: skip
SEEDED |= {row: partial(_understood, variant=variant) for row, variant in UNDERSTOOD.items()}
ALONE |= {
    rows.COPY: lambda shop: _baseline(shop, "copy"),
    rows.GLOSS_DICTIONARY: lambda shop: glosses_of(shop, partial(glosses_by_dictionary, shop)),
    rows.GLOSS_RETRIEVAL: lambda shop: _baseline(shop, "nearest_text"),
}
