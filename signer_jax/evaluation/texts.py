"""From the text alone to a pose, beside poses that need no model and the pose of another text."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from signer_jax.data.records import Corpus
from signer_jax.evaluation.figures import Evaluation, differences, error_of, means
from signer_jax.evaluation.glosses import nearest_training
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.skeleton import on_joints
from signer_jax.pose.warping import HAND_WEIGHT, dtw_each, joint_weights
from signer_jax.progress import progress
from signer_jax.slp_moe.retrieval import Retrieval
from signer_jax.stations.perform import Performed, perform_many
from signer_jax.stations.understand import understand
from signer_jax.types import Pose, Sample


def score_texts(
    signer: Signer, samples: Sequence[Sample], bank: Mapping[int, Sample], order: Sequence[int], result: Evaluation
) -> None:
    """From the text alone, as `Signer.sign` goes: its own glosses, its own timing, rest to rest.

    `pose/text_dtw`: hand-weighted DTW of the whole pose to the nearest of the truth and the valid variants, in shoulder
    widths; `…_true_glosses`: the true glosses in place of those understood; `…_nearest_text`: the recording of the
    nearest training text (TF-IDF), without a model; `…_shuffled`: the pose of the next sentence of the same language
    instead; `…_rest`: a signer who stands still. A text that cannot be signed counts as standing still does, and
    `…_failed` says how many. `bank`: see `performed_texts`; `order`: whose rest pose that is, see `expert_order`. No
    such figure is of the video: two videos of different timing cannot be compared frame by frame.
    """
    if not samples:
        return
    joints, dims = signer.model.joints, signer.settings.pose.dims
    weigh_hands = joint_weights(skeleton.SUBSETS[signer.settings.pose.joints], HAND_WEIGHT)
    signed, told = perform_texts(signer, samples, joints, dims)
    recorded = nearest_recordings(signer.corpus, samples, bank)
    rows: dict[str, list[float]] = defaultdict(list)
    others = shuffled(samples)
    for i, sample in enumerate(progress(samples, "texts")):
        valid = [on_joints(pose, joints, dims) for pose in (sample.pose, *(r for r, _ in sample.references)) if pose]
        rest = on_joints(resting(signer.retrieval, order, sample.name), joints, dims)
        compared = {"": signed[i], "_true_glosses": told[i], "_rest": rest}
        if (other := others[i]) is not None:
            compared["_shuffled"] = signed[other]
        if (near := recorded[i]) is not None:
            compared["_nearest_text"] = on_joints(near, joints, dims)
        ours = {name: rest if pose is None else pose for name, pose in compared.items()}
        distinct = {id(pose): pose for pose in ours.values()}
        nearest = dtw_each(list(distinct.values()), valid, weights=weigh_hands).min(axis=1)
        for name, pose in ours.items():
            rows[f"pose/text_dtw{name}"].append(float(nearest[list(distinct).index(id(pose))]))
        for name in {"_shuffled", "_nearest_text"} - set(compared):
            rows[f"pose/text_dtw{name}"].append(float("nan"))
    result.metrics |= means(rows)
    alone = {name: [[value] for value in rows[f"pose/text_dtw{name}"]] for name in ("", "_nearest_text")}
    result.metrics |= error_of("pose/text_dtw", alone[""])
    result.metrics |= differences("pose/text_dtw_over_nearest_text", alone[""], alone["_nearest_text"])
    for name, poses in (("", signed), ("_true_glosses", told)):
        result.metrics[f"pose/text_dtw{name}_failed"] = float(poses.count(None))


def perform_texts(
    signer: Signer, samples: Sequence[Sample], joints: np.ndarray, dims: int
) -> tuple[list[Pose | None], list[Pose | None]]:
    """The pose of each text by the glosses that are understood, and by the true ones, on these joints; None where the
    database knows none of a sentence's glosses. Where the true glosses were understood it is one and the same pose.
    """
    understood = understand([s.text for s in samples], [s.language for s in samples], signer.linker)
    asked: list[tuple[bool, int, int, tuple[str, ...]]] = []  # by the true glosses, which text, which row, glosses
    for i, sample in enumerate(samples):
        at = understood.signed_rows(i)
        asked += [(False, i, b, understood.sentences[b].glosses) for b in at]
        if [understood.sentences[b].glosses for b in at] != [sample.glosses]:
            asked.append((True, i, at[0], sample.glosses))
    _, of, rows, glosses = zip(*asked, strict=True)
    done = perform_many(
        glosses, understood.H[[*rows]], understood.mask[[*rows]], [samples[i].language for i in of], signer.performer,
        timings=[None] * len(asked), without=[samples[i].name for i in of],
    )  # fmt: skip
    parts: dict[tuple[bool, int], list[Performed | None]] = defaultdict(list)
    for (told, i, *_), part in zip(asked, done, strict=True):
        parts[told, i].append(part)
    poses = {
        key: Pose.joined([on_joints(part.pose, joints, dims) for part in known]) if len(known) == len(every) else None
        for key, every in parts.items() for known in ([part for part in every if part is not None],)
    }  # fmt: skip
    signed = [poses[False, i] for i in range(len(samples))]
    return signed, [poses.get((True, i), signed[i]) for i in range(len(samples))]


def nearest_recordings(corpus: Corpus, samples: Sequence[Sample], bank: Mapping[int, Sample]) -> list[Pose | None]:
    """The pose, as recorded, of the nearest training text of the `bank`, places and samples (`nearest_training`)."""
    if not bank:
        return [None] * len(samples)
    records, places = corpus.motions("train"), list(bank)
    nearest = nearest_training(samples, list(bank.values()))
    return [None if k is None else records.posed(records[places[k]], places[k]) for k in nearest]


def resting(retrieval: Retrieval, order: Sequence[int], without: str) -> Pose:
    """The rest pose of the first expert that has one, one frame; without any, one that shows nothing."""
    signers = [retrieval.signers[k] for k in order if k < len(retrieval.signers)]
    found = (retrieval.prior.rest(name, without=without) for name in signers)
    shape = (1, len(skeleton.JOINTS))
    nothing = Pose(np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32), retrieval.prior.fps)
    return next((pose for pose in found if pose is not None), nothing)


def shuffled(samples: Sequence[Sample]) -> list[int | None]:
    """For each sample the place of the next one of its language that says something else; None without one."""
    return [
        next(
            (
                k
                for k in [*range(i + 1, len(samples)), *range(i)]
                if samples[k].language == sample.language and samples[k].glosses != sample.glosses
            ),
            None,
        )
        for i, sample in enumerate(samples)
    ]
