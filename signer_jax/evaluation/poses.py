"""Poses on a split: the gates' choice of experts and the stabiliser, beside their baselines."""

from collections import Counter, defaultdict

import jax
import numpy as np

from signer_jax.evaluation.figures import Evaluation, means
from signer_jax.metrics import pose as pose_metrics
from signer_jax.metrics.experts import first_present, of_choice, of_random_choice
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.filters import binomial, savitzky_golay
from signer_jax.pose.skeleton import on_joints
from signer_jax.pose.warping import HAND_WEIGHT, joint_weights
from signer_jax.progress import progress
from signer_jax.slp_moe import losses as pose_losses
from signer_jax.slp_moe.experts import blend
from signer_jax.slp_moe.retrieval import Experts, at_frames, chosen_candidates
from signer_jax.stations.perform import Timing, perform_many, stabilise
from signer_jax.stations.understand import semantics
from signer_jax.types import Pose


def evaluate_poses(signer: Signer, split: str, limit: int, result: Evaluation) -> None:
    """The gates' choice of experts and the stabiliser, on the ground truth's timing, beside their baselines.

    `pose/dtw_followed_*`: hand-weighted DTW of each gloss to the ground truth's own performance, in shoulder widths;
    `pose/dtw_nearest_*`: to the nearest of all valid variants (the other signers' too), which any expert comes close
    to. Of the top expert, a random one (the mean over the candidates), the training data's most frequent one, the one
    that the truth follows (a ceiling) and the mean of the candidates. `pose/expert_accuracy`: how often the top expert
    is the followed one. All of these over the glosses with a choice, so that every row counts the same glosses.
    `pose/smooth_*`, `pose/hand_*`, `pose/jerk_*`: the top expert before and after the stabiliser, through two filters
    that need no training, and the ground truth (as detected, with its noise).
    """
    records = signer.corpus.motions(split)
    rows: dict[str, list[float]] = defaultdict(list)
    c = signer.settings.pose
    unknown, order = 0, expert_order(signer)
    weigh_hands = joint_weights(skeleton.SUBSETS[c.joints], HAND_WEIGHT)
    for i in progress(range(min(limit, len(records))), "poses"):
        sample = records[i]
        if sample.pose is None or sample.spans is None or not sample.glosses:
            continue
        glosses, spans = (
            list(sample.glosses)[: signer.settings.data.max_glosses],
            sample.spans[: signer.settings.data.max_glosses],
        )
        H, mask = semantics(sample.text, sample.language, signer.linker)
        timing = Timing(spans, len(sample.pose))
        performed = perform_many(
            [glosses], H, mask, [sample.language], signer.performer, timings=[timing], without=[sample.name]
        )[0]
        if performed is None:  # the database knows none of its glosses
            unknown += 1
            continue
        slots = [signer.retrieval.slots(gloss, sample.language, without=sample.name) for gloss in glosses]
        experts = signer.retrieval.on_timeline(slots, spans, len(sample.pose))
        n = len(glosses)
        weights = np.zeros((n, signer.retrieval.experts))
        for sign, row in zip(performed.signs, performed.weights, strict=True):
            weights[sign.gloss] = row  # a spelled gloss has no candidate of its own and is not counted below
        truth = on_joints(sample.pose, signer.model.joints, c.dims)
        top, stable = (on_joints(pose, signer.model.joints, c.dims) for pose in (performed.stitched, performed.pose))
        candidates = [
            Pose(coordinates, seen, truth.fps)
            for coordinates, seen in zip(experts.candidates, experts.candidate_confidence, strict=True)
        ]
        *alone, stable_mean = stabilise([*candidates, mean_of_variants(experts, truth)], signer.performer)
        variants = [(truth, spans)] + [
            (on_joints(pose, signer.model.joints, c.dims), at[: len(spans)]) for pose, at in sample.references
        ]
        distances = np.stack(  # [experts and the mean pose, variants, glosses]
            [
                pose_metrics.variant_distances(pose, spans, variants, weights=weigh_hands)
                for pose in [*alone, stable_mean]
            ]
        )
        chosen = chosen_candidates(sample, slots, signer.retrieval)[:n]
        for name, values in expert_rows(distances, weights, experts.candidate_mask[:n], chosen, order).items():
            rows[name] += values
            rows[f"{name}/{sample.signer}"] += values
        filtered = {
            "before": top, "after": stable, "binomial": binomial(top), "savitzky_golay": savitzky_golay(top),
            "truth": truth,
        }  # fmt: skip
        for name, pose in filtered.items():
            figures = {"smooth": smoothness(pose, c.smooth_order), "jerk": pose_metrics.jerk(pose)}
            if pose is not truth:
                figures["hand"] = pose_metrics.hand_error(pose, truth, signer.model.hands)
            for kind, value in figures.items():
                rows[f"{kind}_{name}"].append(value)
                rows[f"{kind}_{name}/{sample.signer}"].append(value)
        if not result.poses:
            result.poses = [
                ("ground truth", truth),
                ("top expert, stabilised", stable),
                ("mean of the variants", stable_mean),
            ]
    result.metrics |= means({f"pose/{name}": values for name, values in rows.items()})
    if unknown:
        result.metrics["pose/sentences_unknown"] = float(unknown)


def expert_order(signer: Signer) -> list[int]:
    """The experts, the one that the training performances follow most often first."""
    count = Counter(name for _, _, name in signer.corpus.listed("train"))
    signers = dict(enumerate(signer.retrieval.signers))
    return sorted(range(signer.retrieval.experts), key=lambda k: -count[signers.get(k, "")])


def expert_rows(
    distances: np.ndarray, weights: np.ndarray, mask: np.ndarray, followed: np.ndarray, order: list[int]
) -> dict[str, list[float]]:
    """The experts' rows of one sentence, a value each gloss that has two candidates at least and a known `followed`.

    `distances` `[e + 1, r, n]` of each expert and of the mean pose to each variant, the followed one first; `weights`
    and `mask` `[n, e]`; `order` the experts by how often training follows them.
    """
    counted = (mask.sum(axis=1) > 1) & (followed >= 0)
    experts = distances[:-1]
    choices = {
        "top_expert": np.where(weights.max(axis=1) > 0, weights.argmax(axis=1), -1),
        "majority_expert": first_present(order, mask), "followed_expert": followed,
    }  # fmt: skip
    rows = {
        "expert_accuracy": choices["top_expert"] == followed,
        "expert_accuracy_majority": choices["majority_expert"] == followed,
        "expert_accuracy_chance": 1 / np.maximum(mask.sum(axis=1), 1),
    }
    for kind, values, mean in (
        ("dtw_followed", experts[:, 0], distances[-1, 0]),
        ("dtw_nearest", np.fmin.reduce(experts, axis=1), np.fmin.reduce(distances[-1], axis=0)),
    ):
        rows |= {f"{kind}_{name}": of_choice(values, choice) for name, choice in choices.items()}
        rows |= {f"{kind}_random_expert": of_random_choice(values, mask), f"{kind}_mean_pose": mean}
    return {name: [float(v) for v in values[counted]] for name, values in rows.items()}


_blend = jax.jit(blend)
_smoothness = jax.jit(pose_losses.smoothness, static_argnames="order")


def mean_of_variants(experts: Experts, truth: Pose, multiple: int = 32) -> Pose:
    """The even blend of the candidates, on the truth's frames; padded, so that few lengths are compiled."""
    experts = at_frames(experts, np.arange(len(truth) + -len(truth) % multiple))
    even = experts.candidate_mask / np.maximum(experts.candidate_mask.sum(axis=1, keepdims=True), 1)
    arrays = (even, experts.frame_gloss, experts.candidates, experts.candidate_confidence)
    coordinates, confidence = _blend(*(a[None] for a in arrays))
    return Pose(np.asarray(coordinates)[0, : len(truth)], np.asarray(confidence)[0, : len(truth)], truth.fps)


def smoothness(pose: Pose, order: int, multiple: int = 32) -> float:
    """L_smooth of a whole pose (paper 2.3); padded with missing frames, so that few lengths are compiled."""
    extra = (0, -len(pose) % multiple)
    coordinates = np.pad(pose.coordinates, (extra, (0, 0), (0, 0)))
    return float(_smoothness(coordinates[None], np.pad(pose.confidence, (extra, (0, 0)))[None], order=order)[0])
