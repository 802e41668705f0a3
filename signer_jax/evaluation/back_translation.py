"""Back translation: what a sign-to-text model reads in a run's poses and videos, beside what it reads in the truth.

The ground truth's row is the ceiling of such a score, and the floor is each text beside another sentence's pose: a
model that writes likely sentences scores there too. Every score has the interval of the paired bootstrap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from signer_jax.back_translation import examples
from signer_jax.back_translation.translator import BackTranslator, Read
from signer_jax.data.estimators.opening import Estimator
from signer_jax.data.records import Corpus
from signer_jax.data.streams import spread
from signer_jax.errors import SignerError, Trouble
from signer_jax.evaluation import resampling
from signer_jax.evaluation.figures import Evaluation
from signer_jax.evaluation.texts import perform_texts
from signer_jax.metrics import text as text_metrics
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.clean import clean
from signer_jax.progress import progress
from signer_jax.training.partitioning import on_mesh_of
from signer_jax.types import Pose, Sample

POSES, VIDEOS = "back", "back_video"  # folders of the figures
OURS, TRUE_GLOSSES, TRUTH, SHUFFLED = "", "_true_glosses", "_truth", "_shuffled"  # what is read, by its ending
NO_ESTIMATOR = (
    "not scored: no pose estimator was given, which finds the poses in videos "
    "(--poses dwpose or mediapipe, --pose-weights DIR)"
)
_NOTHING = Read("", "")


def evaluate_back_translation(
    signer: Signer, translator: BackTranslator, split: str, result: Evaluation, estimator: Estimator | None = None
) -> None:
    """The scores of the poses that the run makes of the split's texts and, with an estimator, of its videos.

    At most `config.evaluate.poses` sentences and `config.evaluate.videos` videos, evenly over those with a text and a
    pose. What cannot be signed is read as nothing, and `…/failed` says how many. Raises `SignerError` for a split that
    the corpus lacks, and as `BackTranslator.read`.
    """
    c = signer.settings.evaluate
    samples = judged(signer.corpus, translator, split, c.poses, result)
    if not samples:
        return
    rows, made = {}, signer.model.slp_moe is not None
    if made:
        whole = np.arange(len(skeleton.JOINTS))
        with on_mesh_of(signer.params):
            signed, told = perform_texts(signer, samples, whole, 3)
        rows[OURS] = read(translator, signed, samples)
        if all(map(examples.by_people, samples)):
            rows[TRUE_GLOSSES] = read(translator, told, samples)
        result.metrics[f"{POSES}/failed"] = float(signed.count(None))
    else:
        result.facts[f"{POSES}/poses"] = "the truth's alone: this run makes none of a text"
    score(result, POSES, samples, rows | truth_rows(translator, samples), signer.corpus.about["corpus"])
    if signer.model.renderer is None or not c.videos:
        return
    if estimator is None:
        result.facts[f"{VIDEOS}/videos"] = NO_ESTIMATOR
        return
    _ = signer.studio  # what it lacks is told before the first video, and is no video's failure
    some = [samples[k] for k in spread(len(samples), c.videos)]
    found = [filmed(signer, sample, estimator, made=made) for sample in progress(some, "videos read")]
    seen = {OURS: read(translator, found, some), **truth_rows(translator, some)}
    result.metrics[f"{VIDEOS}/failed"] = float(found.count(None))
    result.facts[f"{VIDEOS}/videos"] = f"{'of the texts' if made else 'of the true poses'}, read by {estimator.made_by}"
    score(result, VIDEOS, some, seen, signer.corpus.about["corpus"])


def evaluate_truth(translator: BackTranslator, corpus: Corpus, split: str, limit: int, result: Evaluation) -> None:
    """The ceiling and the floor alone: what the model reads in people's performances. Raises `SignerError`."""
    if samples := judged(corpus, translator, split, limit, result):
        score(result, POSES, samples, truth_rows(translator, samples), corpus.about["corpus"])


def judged(
    corpus: Corpus, translator: BackTranslator, split: str, limit: int, result: Evaluation
) -> list[Sample]:  # fmt: skip
    """At most `limit` samples, evenly over those of the split that have a text and a pose, without those whose sentence
    the model has learned; and what is to be said of them and of the model.
    """
    name, records = corpus.about["corpus"], corpus.motions(split)
    keys = [examples.key_of(examples.sentence_of(text, name)) for text in corpus.captions(split)]
    said = [place for place, key in enumerate(keys) if key]
    places = [place for place in said if keys[place] not in translator.learned]
    found = [replace(records[places[k]], video=None, references=()) for k in spread(len(places), limit)]
    samples = [sample for sample in found if sample.pose is not None]
    about, c = translator.about, translator.settings.back_translation
    if learned := len(said) - len(places):
        result.metrics[f"{POSES}/sentences_learned"] = float(learned)
        result.facts[f"{POSES}/learned"] = (
            f"{learned} of the {len(said)} sentences of {split} are left out: the model was trained on them"
        )
    if not samples:
        none = f"{split} has no pose with a sentence that the model did not learn"
        result.facts[f"{POSES}/poses"] = f"not scored: {none if limit else 'config.evaluate.poses is 0'}"
    steps = translator.settings.stage("back_translation").steps
    left = f"{about.held_out} left out for sentences of other splits, {about.too_long} too long"
    seen = f"x and y of {c.joints}, 0 for a missing joint, {about.fps:g} frames a second, at most {c.max_frames}"
    result.facts[f"{POSES}/model"] = (
        f"{translator.directory}, {steps} steps on {about.poses} poses of {about.corpus} ({left}); {seen}; "
        f"beam {c.beams}"
    )
    return samples


def read(translator: BackTranslator, poses: Sequence[Pose | None], samples: Sequence[Sample]) -> list[Read]:
    """What is read of each pose; nothing where there is none."""
    there = [k for k, pose in enumerate(poses) if pose is not None and len(pose)]
    known = [pose for pose in poses if pose is not None and len(pose)]
    said = dict(zip(there, translator.read(known, [samples[k].language for k in there]), strict=True))
    return [said.get(k, _NOTHING) for k in range(len(poses))]


def truth_rows(translator: BackTranslator, samples: Sequence[Sample]) -> dict[str, list[Read]]:
    """What is read of the true poses, each beside its own text, and beside another one's where there are two."""
    truth = read(translator, [sample.pose for sample in samples], samples)
    others = other_sentences(samples)
    return {TRUTH: truth} | ({} if others is None else {SHUFFLED: [truth[k] for k in others]})


def other_sentences(samples: Sequence[Sample]) -> list[int] | None:
    """For each sample the place of the next one with another text, of its language where there is one; None where all
    texts are the same.
    """
    found = []
    for i, sample in enumerate(samples):
        others = [k for k in [*range(i + 1, len(samples)), *range(i)] if samples[k].text != sample.text]
        if not others:
            return None
        found.append(next((k for k in others if samples[k].language == sample.language), others[0]))
    return found


def filmed(signer: Signer, sample: Sample, estimator: Estimator, *, made: bool) -> Pose | None:
    """The pose that the estimator finds in the video which the run makes of a text, or, of a run that makes no pose of
    it, of the true pose; None where it makes none or nobody is found in it.
    """
    assert sample.pose is not None
    try:
        video = (
            signer.sign(sample.text, language=sample.language).video if made else signer.film(sample.pose).video
        )  # fmt: skip
        if video is None:
            return None
        clip = estimator.estimate(sample.name, iter(video), signer.fps)
        return clean(skeleton.normalise(clip.pose)[0])
    except Trouble:  # a disk or a network, no fault of the video
        raise
    except SignerError:
        return None


# ---- Scores ----------------------------------------------------------------------------------------------------------


def score(
    result: Evaluation, folder: str, samples: Sequence[Sample], rows: Mapping[str, Sequence[Read]], corpus: str
) -> None:
    """`FOLDER/bleu1` … `bleu4`, `rouge` and, where people wrote glosses, `wer` of each row, by its ending; `…_low` and
    `…_high`: the interval; `…_over_truth`, `…_over_shuffled`: how far the first row is from these.
    """
    result.metrics[f"{folder}/sentences"] = float(len(samples))
    references = [examples.sentence_of(sample.text, corpus) for sample in samples]
    texts = {name: resampling.text_rows([one.text for one in said], references) for name, said in rows.items()}
    for order in (1, 2, 3, 4):
        _compare(result, f"{folder}/bleu{order}", texts, resampling.bleu(order))
    _compare(result, f"{folder}/rouge", texts, resampling.rouge)
    glosses = [" ".join(examples.by_people(sample)) for sample in samples]
    if there := [k for k, line in enumerate(glosses) if line]:
        wrong = {
            name: resampling.error_rows([said[k].glosses for k in there], [glosses[k] for k in there])
            for name, said in rows.items()
        }
        _compare(result, f"{folder}/wer", wrong, resampling.error_rate)
    else:
        result.facts[f"{folder}/wer"] = "not scored: the split has no glosses that people wrote"
    signature = text_metrics.bleu([one.text for one in next(iter(rows.values()))], references)["signature"]
    result.facts[f"{folder}/bleu_signature"] = f"{signature}, of texts in lower case, punctuation apart"
    result.facts[f"{folder}/interval"] = (
        f"{100 * resampling.LEVEL:g} %: paired bootstrap over sentences, {resampling.SAMPLES} samples"
    )


def _compare(result: Evaluation, name: str, rows: Mapping[str, np.ndarray], of: resampling.Score) -> None:
    drawn = resampling.paired_bootstrap(rows, of)
    values = {row: of(sums.sum(axis=0)) for row, sums in rows.items()}
    figures = {f"{name}{row}": (value, drawn[row]) for row, value in values.items()}
    first = next(iter(rows))
    figures |= {
        f"{name}{first}_over{row}": (values[first] - values[row], drawn[first] - drawn[row])
        for row in (TRUTH, SHUFFLED) if row in rows and row != first
    }  # fmt: skip
    for key, (value, scores) in figures.items():
        low, high = resampling.interval(scores)
        result.metrics |= {key: value, f"{key}_low": low, f"{key}_high": high}
