"""A run's figures on a split: glosses, poses, video, each beside the baselines that give it meaning."""

from collections import defaultdict
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
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
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


# ---- Poses -------------------------------------------------------------------------------------------------------


def evaluate_poses(signer: Signer, split: str, limit: int, result: Evaluation) -> None:
    """The top expert and the mean of the variants, on the ground truth's timing; the stabiliser before and after.

    `pose/dtw_*`: hand-weighted DTW of each gloss to the nearest valid variant (the ground truth's own performance and
    the other signers'), in shoulder widths. `pose/expert_accuracy`: the top expert is the one that the truth follows.
    """
    records = signer.corpus.motions(split)
    rows: dict[str, list[float]] = defaultdict(list)
    c = signer.config.pose
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
            for name in ("dtw_top_expert", "dtw_mean_pose"):
                rows[name] += [np.nan] * len(glosses)
            continue
        slots = [signer.retrieval.slots(gloss, sample.language, without=sample.name) for gloss in glosses]
        truth = on_joints(sample.pose, signer.model.joints, c.dims)
        top, stable = (on_joints(pose, signer.model.joints, c.dims) for pose in (performed.stitched, performed.pose))
        mean = mean_of_variants(signer.retrieval.on_timeline(slots, spans, len(truth)), truth)
        stable_mean = stabilise([mean], signer.performer)[0]
        variants = [(truth, spans)] + [
            (on_joints(pose, signer.model.joints, c.dims), at[: len(spans)]) for pose, at in sample.references
        ]
        rows["dtw_top_expert"] += list(pose_metrics.segment_dtw(stable, spans, variants, weights=weigh_hands))
        rows["dtw_mean_pose"] += list(pose_metrics.segment_dtw(stable_mean, spans, variants, weights=weigh_hands))
        rows["smooth_before"].append(smoothness(top, c.smooth_order))
        rows["smooth_after"].append(smoothness(stable, c.smooth_order))
        rows["hand_before"].append(pose_metrics.hand_error(top, truth, signer.model.hands))
        rows["hand_after"].append(pose_metrics.hand_error(stable, truth, signer.model.hands))
        rows["expert_accuracy"] += [
            float(entry.signer == sample.signer)
            for sign, entry in zip(performed.signs, performed.entries, strict=True)
            if any(other is not None and other.signer == sample.signer for other in sign.slots)
        ]
        if not result.poses:
            result.poses = [
                ("ground truth", truth),
                ("top expert, stabilised", stable),
                ("mean of the variants", stable_mean),
            ]
    result.metrics |= means({f"pose/{name}": values for name, values in rows.items()})


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
