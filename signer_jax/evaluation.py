"""A run's figures on a split: glosses, poses, video, each beside the baselines that give it meaning."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from signer_jax.data.pipeline import take_frames, to_model_range, to_pixels_range, video_indices
from signer_jax.data.records import Corpus
from signer_jax.errors import SignerError
from signer_jax.metrics import pose as pose_metrics
from signer_jax.metrics import text as text_metrics
from signer_jax.metrics import video as video_metrics
from signer_jax.metrics.experts import first_present, of_choice, of_random_choice
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.filters import binomial, savitzky_golay
from signer_jax.pose.skeleton import on_joints
from signer_jax.pose.warping import HAND_WEIGHT, joint_weights
from signer_jax.progress import progress
from signer_jax.slp_moe import losses as pose_losses
from signer_jax.slp_moe.experts import blend
from signer_jax.slp_moe.retrieval import Experts, at_frames
from signer_jax.stations.perform import Timing, perform_many, stabilise
from signer_jax.types import Pose, Sample


@dataclass
class Evaluation:
    """Figures by flat name, and what a report shows beside them."""

    metrics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    glosses: list[tuple[str, str, str]] = field(default_factory=list)  # text, predicted, true
    joints: str = "full_128"  # the subset that `poses` are on
    poses: list[tuple[str, Pose]] = field(default_factory=list)  # label, pose
    clips: list[dict[str, np.ndarray]] = field(default_factory=list)  # name -> uint8 [t, h, w, 3]


def evaluate(signer: Signer, split: str) -> Evaluation:
    """Every figure that the run's stages allow. Raises `SignerError` for a split that the corpus lacks."""
    result = Evaluation(joints=signer.config.pose.joints)
    corpus, config = signer.corpus, signer.config
    corpus.texts(split)  # one clear line for a split that is not there
    if signer.model.slul is not None and corpus.count(split, "text"):
        evaluate_glosses(signer, split, config.evaluate.sentences, result)
    if signer.model.slp_moe is not None and corpus.count(split, "pose"):
        evaluate_poses(signer, split, config.evaluate.poses, result)
    if signer.model.renderer is not None and corpus.count(split, "video"):
        evaluate_videos(signer, split, config.evaluate.videos, result)
    return result


# ---- Glosses -----------------------------------------------------------------------------------------------------


def evaluate_glosses(signer: Signer, split: str, limit: int, result: Evaluation, batch: int = 64) -> None:
    """BLEU 1-4, ROUGE-L, word error rate and exact matches of the best beam."""
    records = signer.corpus.texts(split)
    samples = [records[i] for i in range(min(limit, len(records)))]
    predicted: list[tuple[str, ...]] = []
    for i in progress(range(0, len(samples), batch), "glosses"):
        part = samples[i : i + batch]
        predicted += signer.glosses([s.text for s in part], [s.language for s in part])
    hypotheses = [" ".join(glosses) for glosses in predicted]
    references = [" ".join(sample.glosses) for sample in samples]
    bleu = text_metrics.bleu(hypotheses, references)
    result.facts["gloss/bleu_signature"] = str(bleu.pop("signature"))
    result.metrics |= {f"gloss/{name}": float(value) for name, value in bleu.items()}
    result.metrics["gloss/rouge"] = text_metrics.rouge_l(hypotheses, references)
    result.metrics["gloss/wer"] = text_metrics.word_error_rate(hypotheses, references)
    result.metrics["gloss/exact"] = text_metrics.exact_match(hypotheses, references)
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


def gloss_baselines(corpus: Corpus, samples: list[Sample]) -> dict[str, list[str]]:
    """What needs no model: the text itself in upper case, and the glosses of the nearest training text (TF-IDF)."""
    guesses = {"copy": [text_metrics.copied(sample.text) for sample in samples]}
    if not corpus.count("train", "text"):
        return guesses
    train = corpus.texts("train")
    bank = [train[i] for i in range(len(train))]
    nearest = [""] * len(samples)
    for language in {sample.language for sample in samples}:
        theirs = [sample for sample in bank if sample.language == language]
        rows = [i for i, sample in enumerate(samples) if sample.language == language]
        if theirs:
            index = text_metrics.nearest_texts([samples[i].text for i in rows], [sample.text for sample in theirs])
            for i, k in zip(rows, index, strict=True):
                nearest[i] = " ".join(theirs[k].glosses)
    return guesses | {"nearest_text": nearest}


# ---- Poses -------------------------------------------------------------------------------------------------------


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
    c = signer.config.pose
    unknown, order = 0, expert_order(signer)
    weigh_hands = joint_weights(skeleton.SUBSETS[c.joints], HAND_WEIGHT)
    for i in progress(range(min(limit, len(records))), "poses"):
        sample = records[i]
        if sample.pose is None or sample.spans is None or not sample.glosses:
            continue
        glosses, spans = (
            list(sample.glosses)[: signer.config.data.max_glosses],
            sample.spans[: signer.config.data.max_glosses],
        )
        H, mask = signer.semantics(sample.text, sample.language)
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
            rows[f"smooth_{name}"].append(smoothness(pose, c.smooth_order))
            rows[f"jerk_{name}"].append(pose_metrics.jerk(pose))
            if pose is not truth:
                rows[f"hand_{name}"].append(pose_metrics.hand_error(pose, truth, signer.model.hands))
        if not result.poses:
            result.poses = [
                ("ground truth", truth),
                ("top expert, stabilised", stable),
                ("mean of the variants", stable_mean),
            ]
    result.metrics |= means({f"pose/{name}": values for name, values in rows.items()})
    if unknown:
        result.metrics["pose/sentences_unknown"] = float(unknown)


def means(rows: dict[str, list[float]]) -> dict[str, float]:
    """The mean of each row over what could be scored (is no NaN); `<name>_unscored` says how many could not, if any."""
    found = {}
    for name, values in rows.items():
        scored = np.asarray(values, float)[np.isfinite(values)]
        if len(scored):
            found[name] = float(scored.mean())
        if len(scored) < len(values):
            found[f"{name}_unscored"] = float(len(values) - len(scored))
    return found


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


# ---- Video -------------------------------------------------------------------------------------------------------


def evaluate_videos(signer: Signer, split: str, limit: int, result: Evaluation) -> None:
    """SSIM and Hand SSIM of held-out clips rendered from their poses, beside baselines and the autoencoder's ceiling.

    Baselines: the mean training frame of the signer, and the signer's training frame with the nearest pose.
    `limit` windows of `renderer.window` frames, spread over the split's videos.
    """
    corpus, c = signer.corpus, signer.config.renderer
    records = corpus.motions(split)
    samples = [records[i] for i in video_indices(corpus, split)]
    places = [
        (sample, start)
        for sample in samples
        for start in range(0, max(len(filmed(sample)[0]) - c.window, 0) + 1, c.window)
    ]
    places = [places[i] for i in np.linspace(0, len(places) - 1, min(limit, len(places))).round().astype(int)]
    clips = [cut(sample, start, c.window) for sample, start in places]
    truth = np.stack([filmed(clip)[1] for clip in clips])
    poses = [on_joints(filmed(clip)[0], signer.model.joints, signer.config.pose.dims) for clip in clips]
    texts = None
    if signer.model.slul is not None:
        pairs = [signer.semantics(clip.text, clip.language) for clip in clips]
        texts = np.concatenate([H * mask[..., None] for H, mask in pairs])
    rendered = signer.render_windows(
        np.stack([pose.coordinates for pose in poses]),
        np.stack([pose.confidence for pose in poses]),
        [signer.style(signer=signer.look_of(clip.signer)) for clip in clips],
        texts,
    )
    candidates: dict[str, Any] = {
        "": rendered,
        "_reconstruction": reconstruct(signer, truth),
        **baselines(corpus, clips),
    }
    rows: dict[str, list[float]] = defaultdict(list)
    names = skeleton.SUBSETS[signer.config.pose.joints]
    crop = video_metrics.hand_crop(*truth.shape[2:4])
    for i, clip in enumerate(progress(clips, "video")):
        centres, visible = video_metrics.hand_centres(poses[i], names, signer.config.data.size)
        for name, videos in candidates.items():
            if videos[i] is None:  # no training video of this signer
                for part in ("ssim", "hand_ssim"):
                    rows[f"video/{part}{name}"].append(np.nan)
                continue
            whole = video_metrics.ssim(videos[i], truth[i])
            hands = video_metrics.hand_ssim(videos[i], truth[i], centres, visible, crop)[visible]
            for key in ("", f"/{clip.signer}") if len(corpus.about["signers"]) > 1 else ("",):
                rows[f"video{key}/ssim{name}"] += list(whole)
                rows[f"video{key}/hand_ssim{name}"] += list(hands)
    rows["video/flicker"] = [video_metrics.flicker(a, b) for a, b in zip(rendered, truth, strict=True)]
    rows["video/flicker_truth"] = [video_metrics.flicker(b, b) for b in truth]
    result.metrics |= means(rows)
    if strangers := sorted({clip.signer for clip in clips} - signer.latents.references.keys()):
        result.facts["video/without_training_video"] = ", ".join(strangers)
    for i in range(min(4, len(clips))):
        shown = {"rendered": rendered[i], "ground truth": truth[i], "autoencoder": candidates["_reconstruction"][i],
                 "nearest pose": candidates["_nearest_pose"][i]}  # fmt: skip
        result.clips.append({name: video for name, video in shown.items() if video is not None})


def reconstruct(signer: Signer, videos: np.ndarray) -> np.ndarray:
    """Through the autoencoder and back: what no renderer on these latents can pass."""
    vae = signer.model.vae

    @jax.jit
    def roundtrip(params: dict, video: Any) -> Any:
        mean, _ = vae.apply({"params": params}, video, method="encode")
        return vae.apply({"params": params}, mean, method="decode")

    return np.concatenate([to_pixels_range(roundtrip(signer.params["vae"], to_model_range(v[None]))) for v in videos])


def baselines(corpus: Corpus, clips: list[Sample]) -> dict[str, list[np.ndarray | None]]:
    """For every clip the signer's mean training frame, and for every frame the training frame of the nearest pose.

    None where there is no training video of the clip's signer.
    """
    records = corpus.motions("train")
    signers = {clip.signer for clip in clips}
    listed = corpus.listed("train")
    training = [records[i] for i in video_indices(corpus, "train") if listed[i][2] in signers]
    compared = skeleton.positions(skeleton.PARTS["arms"], skeleton.JOINTS)
    known = signers & {sample.signer for sample in training}
    frames = {name: video_metrics.mean_frame(filmed(s)[1] for s in training if s.signer == name) for name in known}
    nearest = video_metrics.nearest_pose_baseline((clip for clip in clips if clip.signer in known), training, compared)
    return {
        "_mean_frame": [
            np.broadcast_to(frames[clip.signer], filmed(clip)[1].shape) if clip.signer in known else None
            for clip in clips
        ],
        "_nearest_pose": [next(nearest) if clip.signer in known else None for clip in clips],
    }


def cut(sample: Sample, start: int, length: int) -> Sample:
    """A window of a clip as a sample of its own; the last frame is repeated past the end."""
    whole, video = filmed(sample)
    pose = Pose(take_frames(whole.coordinates, start, length), take_frames(whole.confidence, start, length), whole.fps)
    return replace(sample, pose=pose, video=take_frames(video, start, length), spans=None, references=())


def filmed(sample: Sample) -> tuple[Pose, np.ndarray]:
    """A sample's pose and video, which every listed video has."""
    if sample.pose is None or sample.video is None:
        raise SignerError(
            f"sample {sample.name!r} has no pose or no video, though the corpus lists both; prepare it again"
        )
    return sample.pose, sample.video
