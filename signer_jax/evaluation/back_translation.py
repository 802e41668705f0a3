"""Back translation: what a sign-to-text model reads in a run's poses and videos, beside what it reads in the truth.

Beside a run's stand people's recordings, which the model has not seen; each text beside another sentence's pose, where
a model that writes likely sentences scores too; and what retrieval would sign, the recording of the nearest training
text. A run's poses are cut from recordings of the training split as well, which the model may have learned from, so
that people's recordings are no bound. Every score has the interval of the paired bootstrap.
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
from signer_jax.evaluation.readers import performed_texts
from signer_jax.evaluation.texts import nearest_recordings, perform_texts
from signer_jax.metrics import text as text_metrics
from signer_jax.metrics.intervals import LEVEL, interval
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.clean import clean
from signer_jax.progress import progress
from signer_jax.training.partitioning import on_mesh_of
from signer_jax.types import Pose, Sample
from signer_jax.writing import han_apart

POSES, VIDEOS = "back", "back_video"  # folders of the figures
# What is read, by its ending.
OURS, TRUE_GLOSSES, FILMED, TRUTH, SHUFFLED, NEAREST = (
    "", "_true_glosses", "_true_poses", "_truth", "_shuffled", "_nearest_text",
)  # fmt: skip
SAID = {
    OURS: "the run's", TRUE_GLOSSES: "the run's of the true glosses", FILMED: "the videos of true poses",
    TRUTH: "ground truth", NEAREST: "the nearest training text's",
}  # fmt: skip
NO_ESTIMATOR = (
    "not scored: no pose estimator was given, which finds the poses in videos "
    "(--poses dwpose or mediapipe, --pose-weights DIR)"
)
# How texts are made alike before they are compared, as BLEU's signature has it.
TREATED = "han:characters, of texts in lower case, punctuation apart, Han characters as words of their own"
_NOTHING = Read("", "")


def check(signer: Signer, translator: BackTranslator, split: str) -> None:
    """Raises `SignerError` where `evaluate_back_translation` would, before anything long is done."""
    samples = judged(signer.corpus, translator, split, signer.settings.evaluate.poses, Evaluation())
    translator.check_languages(sample.language for sample in samples)


def evaluate_back_translation(
    signer: Signer, translator: BackTranslator, split: str, result: Evaluation, estimator: Estimator | None = None
) -> None:
    """The scores of the poses that the run makes of the split's texts and, with an estimator, of its videos.

    At most `config.evaluate.poses` sentences and `config.evaluate.videos` videos, evenly over those with a text and a
    pose. What cannot be signed is read as nothing, and `…/failed` says how many. The true poses beside videos are those
    of the corpus, not what the estimator would find in true videos. Raises `SignerError` for a split that the corpus
    lacks, and as `BackTranslator.read`.
    """
    c, name = signer.settings.evaluate, signer.corpus.about["corpus"]
    samples = judged(signer.corpus, translator, split, c.poses, result)
    if not samples:
        return
    poses: dict[str, list[Pose | None]] = {}
    made = signer.model.slp_moe is not None
    if made:
        whole = np.arange(len(skeleton.JOINTS))
        with on_mesh_of(signer.params):
            signed, told = perform_texts(signer, samples, whole, 3)
        poses[OURS] = signed
        if all(map(examples.by_people, samples)):
            poses[TRUE_GLOSSES] = told
        result.metrics[f"{POSES}/failed"] = float(signed.count(None))
    else:
        result.facts[f"{POSES}/poses"] = "the truth's alone: this run makes none of a text"
    known = without_a_model(signer.corpus, samples)
    seen = read_rows(translator, poses | known, samples, POSES, result)
    score(result, POSES, samples, with_shuffled(seen, samples, name), name)
    if signer.model.renderer is None or not c.videos:
        return
    if estimator is None:
        result.facts[f"{VIDEOS}/videos"] = NO_ESTIMATOR
        return
    _ = signer.studio  # what it lacks is told before the first video, and is no video's failure
    places = spread(len(samples), c.videos)
    some = [samples[k] for k in places]
    found = [filmed(signer, sample, estimator, made=made) for sample in progress(some, "videos read")]
    result.metrics[f"{VIDEOS}/failed"] = float(found.count(None))
    result.facts[f"{VIDEOS}/videos"] = (
        f"{'of the texts' if made else 'of the true poses'}, read by {estimator.made_by}; the rows beside them are of "
        "the corpus's stored poses: no true video was read for these"
    )
    filmed_rows = read_rows(translator, {OURS if made else FILMED: found}, some, VIDEOS, result)
    filmed_rows |= {row: [seen[row][k] for k in places] for row in known}
    score(result, VIDEOS, some, with_shuffled(filmed_rows, some, name), name)


def evaluate_truth(translator: BackTranslator, corpus: Corpus, split: str, limit: int, result: Evaluation) -> None:
    """What needs no run: what the model reads in people's performances. Raises `SignerError`."""
    if split not in corpus.about["counts"]:
        result.facts[f"{POSES}/poses"] = (
            f"not scored: the corpus has no {split}, but {', '.join(corpus.about['counts'])}"
        )
    elif samples := judged(corpus, translator, split, limit, result):
        name = corpus.about["corpus"]
        seen = read_rows(translator, without_a_model(corpus, samples), samples, POSES, result)
        score(result, POSES, samples, with_shuffled(seen, samples, name), name)


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
        f"beam {c.beams}; the ground truth's recordings are none that it learned from, but those of the training split "
        "are, and of these a run of the same corpus makes its poses"
    )
    return samples


def read(translator: BackTranslator, poses: Sequence[Pose | None], samples: Sequence[Sample]) -> list[Read]:
    """What is read of each pose; nothing where there is none."""
    there = [k for k, pose in enumerate(poses) if pose is not None and len(pose)]
    known = [pose for pose in poses if pose is not None and len(pose)]
    said = dict(zip(there, translator.read(known, [samples[k].language for k in there]), strict=True))
    return [said.get(k, _NOTHING) for k in range(len(poses))]


def read_rows(
    translator: BackTranslator, poses: Mapping[str, Sequence[Pose | None]], samples: Sequence[Sample], folder: str,
    result: Evaluation,
) -> dict[str, list[Read]]:  # fmt: skip
    """What is read of each row's poses; `FOLDER/cut` says how many of them are read in part alone."""
    cut = {row: translator.cut([pose for pose in some if pose is not None]) for row, some in poses.items()}
    if any(cut.values()):
        most = translator.settings.back_translation.max_frames
        counts = ", ".join(f"{SAID[row]} {count}" for row, count in cut.items() if count)
        result.facts[f"{folder}/cut"] = (
            f"of {len(samples)} poses, longer than config.back_translation.max_frames = {most} and read no further: "
            f"{counts}"
        )
    return {row: read(translator, some, samples) for row, some in poses.items()}


def without_a_model(corpus: Corpus, samples: Sequence[Sample]) -> dict[str, list[Pose | None]]:
    """The true poses, and where there are training texts the true pose of the nearest one, as retrieval signs."""
    found: dict[str, list[Pose | None]] = {TRUTH: [sample.pose for sample in samples]}
    if bank := performed_texts(corpus):
        found[NEAREST] = nearest_recordings(corpus, samples, bank)
    return found


def with_shuffled(
    rows: Mapping[str, list[Read]], samples: Sequence[Sample], corpus: str
) -> dict[str, list[Read]]:  # fmt: skip
    """The rows, and what is read of the true poses beside another one's text, where there are two."""
    others = other_sentences(samples, corpus)
    return {**rows} if others is None else {**rows, SHUFFLED: [rows[TRUTH][k] for k in others]}


def keys_of(samples: Sequence[Sample], corpus: str) -> list[str]:
    """By what sentences are told apart, whatever their prompt, case and punctuation."""
    return [examples.key_of(examples.sentence_of(sample.text, corpus)) for sample in samples]


def other_sentences(samples: Sequence[Sample], corpus: str) -> list[int] | None:
    """For each sample the place of the next one with another sentence, of its language where there is one; None where
    all sentences are the same.
    """
    found, keys = [], keys_of(samples, corpus)
    for i, sample in enumerate(samples):
        others = [k for k in [*range(i + 1, len(samples)), *range(i)] if keys[k] != keys[i]]
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
    `…_high`: the interval; `…_over_truth`, `…_over_shuffled`, `…_over_nearest_text`: how far the first row is from
    these.
    """
    result.metrics[f"{folder}/sentences"] = float(len(samples))
    references = [examples.sentence_of(sample.text, corpus) for sample in samples]
    said = {row: [han_apart(one.text) for one in some] for row, some in rows.items()}
    texts = {row: resampling.text_rows(some, references) for row, some in said.items()}
    of = np.unique(keys_of(samples, corpus), return_inverse=True)[1]
    for order in (1, 2, 3, 4):
        _compare(result, f"{folder}/bleu{order}", texts, of, resampling.bleu(order))
    _compare(result, f"{folder}/rouge", texts, of, resampling.rouge)
    glosses = [" ".join(examples.by_people(sample)) for sample in samples]
    if there := [k for k, line in enumerate(glosses) if line]:
        wrong = {
            row: resampling.error_rows([some[k].glosses for k in there], [glosses[k] for k in there])
            for row, some in rows.items()
        }
        _compare(result, f"{folder}/wer", wrong, of[there], resampling.error_rate)
    else:
        result.facts[f"{folder}/wer"] = "not scored: the split has no glosses that people wrote"
    signature = text_metrics.bleu(next(iter(said.values())), references)["signature"]
    result.facts[f"{folder}/bleu_signature"] = f"{signature}|{TREATED}"
    different = int(of.max()) + 1
    result.facts[f"{folder}/interval"] = (
        f"{100 * LEVEL:g} %: paired bootstrap over {different} different sentences, {resampling.SAMPLES} samples"
        if different >= resampling.FEWEST
        else f"none of {different} different sentences: {resampling.FEWEST} at least are needed"
    )


def _compare(
    result: Evaluation, name: str, rows: Mapping[str, np.ndarray], of: np.ndarray, scored: resampling.Score
) -> None:  # fmt: skip
    drawn = resampling.paired_bootstrap(rows, scored, of=of)
    values = {row: scored(sums.sum(axis=0)) for row, sums in rows.items()}
    figures = {f"{name}{row}": (value, drawn[row]) for row, value in values.items()}
    first = next(iter(rows))
    figures |= {
        f"{name}{first}_over{row}": (values[first] - values[row], drawn[first] - drawn[row])
        for row in (TRUTH, SHUFFLED, NEAREST) if row in rows and row != first
    }  # fmt: skip
    for key, (value, scores) in figures.items():
        low, high = interval(scores)
        result.metrics |= {key: value, f"{key}_low": float(low), f"{key}_high": float(high)}
