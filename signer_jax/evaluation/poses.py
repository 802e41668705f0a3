"""Poses on a split: the gates' choice of experts, the stabiliser, and text to pose as a whole, beside baselines."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from signer_jax.data.records import Records
from signer_jax.data.streams import spread
from signer_jax.evaluation.experts import Choice, choice_figures, choice_groups, expert_order
from signer_jax.evaluation.figures import Evaluation, means
from signer_jax.evaluation.readers import performed_texts, readers
from signer_jax.evaluation.texts import score_texts
from signer_jax.metrics import pose as pose_metrics
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton, stitching
from signer_jax.pose.filters import binomial, penalised, savitzky_golay
from signer_jax.pose.skeleton import on_joints
from signer_jax.pose.warping import HAND_WEIGHT, joint_weights
from signer_jax.progress import progress
from signer_jax.slp_moe import losses as pose_losses
from signer_jax.slp_moe.experts import blend
from signer_jax.slp_moe.retrieval import Experts, Retrieval, at_frames, chosen_candidates
from signer_jax.stations.perform import Performed, Timing, perform_many, stabilise
from signer_jax.stations.understand import semantics
from signer_jax.types import Pose, Sample

_PENALTY = 0.1  # of `filters.penalised`: the best on real clips with a detector's noise (docs/performance.md)


def evaluate_poses(signer: Signer, split: str, limit: int, result: Evaluation) -> None:
    """The gates' choice of experts and the stabiliser, on the ground truth's glosses and timing, beside baselines; and
    from the text alone.

    At most `limit` sentences, evenly over those of the split that have glosses, a pose and their times;
    `pose/sentences` says how many were scored. Of the choice see `experts.choice_figures`; of `pose/text_dtw*`
    `texts.score_texts`. `pose/smooth_*`, `pose/hand_*`, `pose/jerk_*`: the followed expert (whose hands are the
    truth's, but for their time and noise) before and after the stabiliser, through three filters that need no training,
    and the ground truth (as detected, with its noise).
    """
    records = signer.corpus.motions(split)
    rows: dict[str, list[float]] = defaultdict(list)
    choices: list[Choice] = []
    c, most = signer.settings.pose, signer.settings.data.max_glosses
    weigh_hands = joint_weights(skeleton.SUBSETS[c.joints], HAND_WEIGHT)
    scored = [replace(records[i], video=None) for i in scorable(records, limit)]  # all are held
    timed = performed_in_time(signer, scored, most)
    order, bank = expert_order(signer), performed_texts(signer.corpus) if scored else {}
    ranked = readers(scored, list(bank.values()), signer.retrieval.signers, order)
    for sample, performed, by_readers in zip(progress(scored, "poses"), timed, ranked, strict=True):
        if performed is None:  # the database knows none of its glosses
            continue
        assert sample.pose is not None and sample.spans is not None
        glosses, spans = list(sample.glosses)[:most], sample.spans[:most]
        slots = [signer.retrieval.slots(gloss, sample.language, without=sample.name) for gloss in glosses]
        experts = signer.retrieval.on_timeline(slots, spans, len(sample.pose), without=sample.name)
        n = len(glosses)
        weights = np.zeros((n, signer.retrieval.experts))
        for sign, row in zip(performed.signs, performed.weights, strict=True):
            weights[sign.gloss] = row  # a spelled gloss has no candidate of its own and is not counted below
        chosen = chosen_candidates(sample, slots, signer.retrieval, c.gating)[:n]
        truth, top, before = (
            on_joints(pose, signer.model.joints, c.dims)
            for pose in (
                sample.pose,
                performed.pose,
                followed_pose(performed, chosen, len(sample.pose), signer.retrieval, without=sample.name),
            )
        )
        candidates = [
            Pose(coordinates, seen, truth.fps)
            for coordinates, seen in zip(experts.candidates, experts.candidate_confidence, strict=True)
        ]
        *alone, stable_mean, after = stabilise(
            [*candidates, mean_of_variants(experts, truth), before], signer.performer
        )
        variants = [(truth, spans)] + [
            (on_joints(pose, signer.model.joints, c.dims), at[: len(spans)]) for pose, at in sample.references
        ]
        # [experts and the mean pose, variants, glosses]
        distances = pose_metrics.variant_distances([*alone, stable_mean], spans, variants, weights=weigh_hands)
        mask = experts.candidate_mask[:n]
        choices.append(Choice(sample.signer, distances, weights, mask, chosen, by_readers))
        filtered = {
            "before": before, "after": after, "binomial": binomial(before), "savitzky_golay": savitzky_golay(before),
            "penalised": penalised(before, _PENALTY), "truth": truth,
        }  # fmt: skip
        smooth = smoothness(list(filtered.values()), c.smooth_order)
        for (name, pose), value in zip(filtered.items(), smooth, strict=True):
            figures = {"smooth": value, "jerk": pose_metrics.jerk(pose)}
            if pose is not truth:
                figures["hand"] = pose_metrics.hand_error(pose, truth, signer.model.hands)
            for kind, value in figures.items():
                rows[f"{kind}_{name}"].append(value)
                rows[f"{kind}_{name}/{sample.signer}"].append(value)
        if not result.poses:
            result.poses = [
                ("ground truth", truth),
                ("top expert on the truth's glosses and timing, stabilised", top),
                ("mean of the variants", stable_mean),
            ]
    figures, facts = choice_figures(choices, order, signer.retrieval.signers)
    result.each |= {f"pose/{name}": groups for name, groups in choice_groups(choices, order).items()}
    figures |= means(rows) | {"sentences": float(len(scored))}
    if unknown := len(scored) - len(choices):
        figures["sentences_unknown"] = float(unknown)
    result.metrics |= {f"pose/{name}": value for name, value in figures.items()}
    result.facts |= {f"pose/{name}": fact for name, fact in facts.items()}
    score_texts(signer, scored, bank, order, result)


def performed_in_time(signer: Signer, samples: Sequence[Sample], most: int) -> list[Performed | None]:
    """The samples' first `most` glosses, performed in the truth's own time; None as `perform_many`."""
    if not samples:
        return []
    read = [semantics(sample.text, sample.language, signer.linker) for sample in samples]
    H, mask = (np.concatenate([one[k] for one in read]) for k in range(2))
    glosses, timings = [sample.glosses[:most] for sample in samples], []
    for sample in samples:
        assert sample.pose is not None and sample.spans is not None
        timings.append(Timing(sample.spans[:most], len(sample.pose)))
    languages, names = [sample.language for sample in samples], [sample.name for sample in samples]
    return perform_many(glosses, H, mask, languages, signer.performer, timings=timings, without=names)


def scorable(records: Records, limit: int) -> list[int]:
    """At most `limit` places, evenly over the samples that have glosses, a pose and their times: a split may hold
    others (videos without a text).
    """
    samples = ((i, records[i]) for i in range(len(records)))
    places = [i for i, s in samples if s.glosses and s.pose is not None and s.spans is not None]
    return [places[k] for k in spread(len(places), limit)]


def followed_pose(
    performed: Performed, followed: np.ndarray, total: int, retrieval: Retrieval, *, without: str
) -> Pose:
    """What was performed, but each sign by the expert that the truth follows; `followed [n]`, -1: as performed. It
    rests as in another sample than `without`.
    """
    entries = [
        sign.slots[followed[sign.gloss]] or entry if followed[sign.gloss] >= 0 else entry
        for sign, entry in zip(performed.signs, performed.entries, strict=True)
    ]
    prior = retrieval.prior
    segments, rest = [prior.pose(entry) for entry in entries], prior.rest(entries[0].signer, without=without)
    return stitching.stitch(segments, performed.spans, total, fps=prior.fps, rest=rest)


_blend = jax.jit(blend)
_smoothness = jax.jit(pose_losses.smoothness, static_argnames="order")


def mean_of_variants(experts: Experts, truth: Pose, multiple: int = 64) -> Pose:
    """The even blend of the candidates, on the truth's frames; padded, so that few lengths are compiled."""
    experts = at_frames(experts, np.arange(len(truth) + -len(truth) % multiple))
    even = experts.candidate_mask / np.maximum(experts.candidate_mask.sum(axis=1, keepdims=True), 1)
    arrays = (even, experts.frame_gloss, experts.candidates, experts.candidate_confidence)
    coordinates, confidence = _blend(*(a[None] for a in arrays))
    return Pose(np.asarray(coordinates)[0, : len(truth)], np.asarray(confidence)[0, : len(truth)], truth.fps)


def smoothness(poses: Sequence[Pose], order: int, multiple: int = 64) -> list[float]:
    """L_smooth of each whole pose (paper 2.3), of equally long ones; padded with missing frames, so that few lengths
    are compiled.
    """
    extra = (0, -len(poses[0]) % multiple)
    coordinates = np.stack([np.pad(pose.coordinates, (extra, (0, 0), (0, 0))) for pose in poses])
    return np.asarray(
        _smoothness(coordinates, np.stack([np.pad(pose.confidence, (extra, (0, 0))) for pose in poses]), order=order)
    ).tolist()
