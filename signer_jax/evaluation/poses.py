"""Poses on a split: the gates' choice of experts, the stabiliser, and text to pose as a whole, beside baselines."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import jax
import numpy as np

from signer_jax.data.streams import spread
from signer_jax.evaluation.figures import Evaluation, means, standard_error
from signer_jax.metrics import pose as pose_metrics
from signer_jax.metrics.experts import first_present, of_choice, of_random_choice
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton, stitching
from signer_jax.pose.filters import binomial, savitzky_golay
from signer_jax.pose.skeleton import on_joints
from signer_jax.pose.warping import HAND_WEIGHT, dtw, joint_weights
from signer_jax.progress import progress
from signer_jax.slp_moe import losses as pose_losses
from signer_jax.slp_moe.experts import blend
from signer_jax.slp_moe.retrieval import Experts, Retrieval, at_frames, chosen_candidates
from signer_jax.stations.perform import Performed, Timing, perform_many, stabilise
from signer_jax.stations.understand import semantics, understand
from signer_jax.types import Pose, Sample


def evaluate_poses(signer: Signer, split: str, limit: int, result: Evaluation) -> None:
    """The gates' choice of experts and the stabiliser, on the ground truth's glosses and timing, beside baselines; and
    from the text alone.

    At most `limit` sentences, evenly over the split. `pose/dtw_followed_*`: hand-weighted DTW of each gloss to the
    ground truth's own performance, in shoulder widths; `pose/dtw_nearest_*`: to the nearest of all valid variants (the
    other signers' too), which any expert comes close to. Of the top expert, a random one (the mean over the
    candidates), the training data's most frequent one, the constant one, the one that the truth follows (a ceiling) and
    the mean of the candidates. `pose/expert_accuracy`: how often the top expert is the followed one. All of these over
    the glosses with a choice, so that every row counts the same glosses. The constant expert is the one who is right
    most often on these very glosses: what gates that read nothing could reach at best. `pose/expert_accuracy_error`:
    the standard error over sentences, since the gates choose once a sentence; `pose/expert_accuracy_over_constant`: the
    difference to the constant expert, with its own.

    `pose/smooth_*`, `pose/hand_*`, `pose/jerk_*`: the followed expert (whose hands are the truth's, but for their time
    and noise) before and after the stabiliser, through two filters that need no training, and the ground truth (as
    detected, with its noise). `pose/text_dtw*`: see `score_texts`.
    """
    records = signer.corpus.motions(split)
    picked = spread(len(records), limit)
    rows: dict[str, list[float]] = defaultdict(list)
    right: list[dict[str, list[float]]] = []  # of each sentence the rows of accuracy
    scored: list[Sample] = []
    c = signer.settings.pose
    unknown, order = 0, expert_order(signer)
    weigh_hands = joint_weights(skeleton.SUBSETS[c.joints], HAND_WEIGHT)
    for i in progress(picked, "poses"):
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
        scored.append(sample)
        slots = [signer.retrieval.slots(gloss, sample.language, without=sample.name) for gloss in glosses]
        experts = signer.retrieval.on_timeline(slots, spans, len(sample.pose))
        n = len(glosses)
        weights = np.zeros((n, signer.retrieval.experts))
        for sign, row in zip(performed.signs, performed.weights, strict=True):
            weights[sign.gloss] = row  # a spelled gloss has no candidate of its own and is not counted below
        chosen = chosen_candidates(sample, slots, signer.retrieval)[:n]
        truth, top, before = (
            on_joints(pose, signer.model.joints, c.dims)
            for pose in (
                sample.pose,
                performed.pose,
                followed_pose(performed, chosen, len(sample.pose), signer.retrieval),
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
        distances = np.stack(  # [experts and the mean pose, variants, glosses]
            [
                pose_metrics.variant_distances(pose, spans, variants, weights=weigh_hands)
                for pose in [*alone, stable_mean]
            ]
        )
        found = expert_rows(distances, weights, experts.candidate_mask[:n], chosen, order)
        right.append({name: values for name, values in found.items() if name.startswith("expert_accuracy")})
        for name, values in found.items():
            rows[name] += values
            if "_always_" not in name:
                rows[f"{name}/{sample.signer}"] += values
        filtered = {
            "before": before, "after": after, "binomial": binomial(before), "savitzky_golay": savitzky_golay(before),
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
                ("top expert on the truth's glosses and timing, stabilised", top),
                ("mean of the variants", stable_mean),
            ]
    constant = constant_expert(rows, signer.retrieval.experts)
    if constant is not None:
        result.facts["pose/constant_expert"] = [*signer.retrieval.signers, *[""] * (constant + 1)][constant]
    result.metrics |= means({f"pose/{name}": values for name, values in rows.items() if "_always_" not in name})
    result.metrics |= {f"pose/{name}": value for name, value in accuracy_figures(right, constant).items()}
    if unknown:
        result.metrics["pose/sentences_unknown"] = float(unknown)
    score_texts(signer, scored, result)


def followed_pose(performed: Performed, followed: np.ndarray, total: int, retrieval: Retrieval) -> Pose:
    """What was performed, but each sign by the expert that the truth follows; `followed [n]`, -1: as performed."""
    entries = [
        sign.slots[followed[sign.gloss]] or entry if followed[sign.gloss] >= 0 else entry
        for sign, entry in zip(performed.signs, performed.entries, strict=True)
    ]
    prior = retrieval.prior
    segments, rest = [prior.pose(entry) for entry in entries], prior.rest(entries[0].signer)
    return stitching.stitch(segments, performed.spans, total, fps=prior.fps, rest=rest)


def constant_expert(rows: dict[str, list[float]], experts: int) -> int | None:
    """Of the rows `expert_accuracy_always_K` the expert that is right most often; None where there is no choice. Its
    rows become those of the `constant` expert.
    """
    right = [rows[f"expert_accuracy_always_{k}"] for k in range(experts)]
    if not right or not right[0]:
        return None
    best = int(np.argmax([np.mean(values) for values in right]))
    for name in [name for name in rows if name.endswith(f"_always_{best}")]:
        kind = name.removesuffix(f"_always_{best}")
        rows[f"{kind}_constant" if kind == "expert_accuracy" else f"{kind}_constant_expert"] = rows[name]
    return best


def accuracy_figures(right: Sequence[dict[str, list[float]]], constant: int | None) -> dict[str, float]:
    """How sure the accuracy is, and how far above the constant expert's; `right` has the rows of each sentence."""
    if constant is None:
        return {}
    top = [row["expert_accuracy"] for row in right]
    over = [list(np.subtract(row["expert_accuracy"], row[f"expert_accuracy_always_{constant}"])) for row in right]
    figures = {
        "expert_accuracy_error": standard_error(top),
        "expert_accuracy_over_constant": float(np.mean(np.concatenate(over))),
        "expert_accuracy_over_constant_error": standard_error(over),
    }
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def score_texts(signer: Signer, samples: Sequence[Sample], result: Evaluation) -> None:
    """From the text alone, as `Signer.sign` goes: its own glosses, its own timing, rest to rest.

    `pose/text_dtw`: hand-weighted DTW of the whole pose to the nearest of the truth and the valid variants, in shoulder
    widths; `…_shuffled`: the pose of the next sentence of the same language instead; `…_true_glosses`: the true glosses
    in place of those understood. Over the sentences that have all three. No such figure is of the video: two videos of
    different timing cannot be compared frame by frame.
    """
    if not samples:
        return
    joints, dims = signer.model.joints, signer.settings.pose.dims
    weigh_hands = joint_weights(skeleton.SUBSETS[signer.settings.pose.joints], HAND_WEIGHT)
    understood = understand([s.text for s in samples], [s.language for s in samples], signer.linker)
    signed: list[Pose | None] = []
    told: list[Pose | None] = []
    for i, sample in enumerate(progress(samples, "texts")):
        at = understood.signed_rows(i)
        H, mask = understood.H[at], understood.mask[at]
        for poses, glosses, b in (
            (signed, [understood.sentences[k].glosses for k in at], len(at)),
            (told, [sample.glosses], 1),
        ):
            done = perform_many(
                glosses, H[:b], mask[:b], [sample.language] * b, signer.performer, timings=[None] * b,
                without=[sample.name] * b,
            )  # fmt: skip
            parts = [on_joints(part.pose, joints, dims) for part in done if part is not None]
            poses.append(Pose.joined(parts) if len(parts) == b else None)
    rows: dict[str, list[float]] = defaultdict(list)
    for i, (sample, other) in enumerate(zip(samples, shuffled(samples), strict=True)):
        valid = [on_joints(pose, joints, dims) for pose in (sample.pose, *(r for r, _ in sample.references)) if pose]
        compared = {"": signed[i], "_shuffled": None if other is None else signed[other], "_true_glosses": told[i]}
        distances = {
            name: min(dtw(pose, one, weights=weigh_hands) for one in valid)
            for name, pose in compared.items()
            if pose is not None
        }
        whole = len(distances) == len(compared)
        for name in compared:
            rows[f"pose/text_dtw{name}"].append(distances[name] if whole else float("nan"))
    result.metrics |= means(rows)


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


def expert_order(signer: Signer) -> list[int]:
    """The experts, the one that the training performances follow most often first."""
    count = Counter(name for _, _, name in signer.corpus.listed("train"))
    signers = dict(enumerate(signer.retrieval.signers))
    return sorted(range(signer.retrieval.experts), key=lambda k: -count[signers.get(k, "")])


def expert_rows(
    distances: np.ndarray, weights: np.ndarray, mask: np.ndarray, followed: np.ndarray, order: list[int]
) -> dict[str, list[float]]:
    """The experts' rows of one sentence, a value each gloss that has two candidates at least and a known `followed`.

    `distances` `[e + 1, r, n]` of each expert and of the mean pose to each variant, the followed one first;
    `weights` and `mask` `[n, e]`; `order` the experts by how often training follows them. `…_always_K`: expert K,
    whatever the text says, and where it has no candidate the first of `order` that has one.
    """
    counted = (mask.sum(axis=1) > 1) & (followed >= 0)
    experts = distances[:-1]
    choices = {
        "top_expert": np.where(weights.max(axis=1) > 0, weights.argmax(axis=1), -1),
        "majority_expert": first_present(order, mask), "followed_expert": followed,
    }  # fmt: skip
    always = {f"always_{k}": first_present([k, *(e for e in order if e != k)], mask) for k in sorted(order)}
    rows = {
        "expert_accuracy": choices["top_expert"] == followed,
        "expert_accuracy_majority": choices["majority_expert"] == followed,
        "expert_accuracy_chance": 1 / np.maximum(mask.sum(axis=1), 1),
        **{f"expert_accuracy_{name}": choice == followed for name, choice in always.items()},
    }
    for kind, values, mean in (
        ("dtw_followed", experts[:, 0], distances[-1, 0]),
        ("dtw_nearest", np.fmin.reduce(experts, axis=1), np.fmin.reduce(distances[-1], axis=0)),
    ):
        rows |= {f"{kind}_{name}": of_choice(values, choice) for name, choice in (choices | always).items()}
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
