"""A run's figures on a split: glosses, poses, video, each beside the baselines that give it meaning."""

from collections import defaultdict
from dataclasses import dataclass, field, replace

import jax
import numpy as np

from signer_jax import model as models
from signer_jax.data.pipeline import video_indices
from signer_jax.data.records import Corpus
from signer_jax.data.retrieval import HAND_WEIGHT, Experts, reduce
from signer_jax.errors import SignerError
from signer_jax.metrics import pose as pose_metrics
from signer_jax.metrics import text as text_metrics
from signer_jax.metrics import video as video_metrics
from signer_jax.pipeline import Signer, pad_experts
from signer_jax.pose import skeleton
from signer_jax.progress import progress
from signer_jax.slp_moe import losses as pose_losses
from signer_jax.slp_moe.experts import blend
from signer_jax.slp_moe.experts import top as top_weights
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


def evaluate_glosses(signer: Signer, split: str, limit: int, result: Evaluation, batch: int = 60) -> None:
    """BLEU 1-4, ROUGE-L, word error rate and exact matches of the best beam."""
    records = signer.corpus.texts(split)
    samples = [records[i] for i in range(min(limit, len(records)))]
    predicted: list[tuple[str, ...]] = []
    for i in progress(range(0, len(samples), batch), "glosses"):
        part = samples[i : i + batch]
        filled = part + [part[-1]] * (batch - len(part) if len(samples) > batch else 0)
        predicted += signer.glosses([s.text for s in filled], [s.language for s in filled])[: len(part)]
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
    weigh_hands = pose_metrics.joint_weights(skeleton.SUBSETS[c.joints], HAND_WEIGHT)
    for i in progress(range(min(limit, len(records))), "poses"):
        sample = records[i]
        if sample.pose is None or sample.spans is None or not sample.glosses:
            continue
        glosses, spans = (
            list(sample.glosses)[: signer.config.data.max_glosses],
            sample.spans[: signer.config.data.max_glosses],
        )
        slots = [signer.retrieval.slots(gloss, sample.language) for gloss in glosses]
        experts = pad_experts(signer.retrieval.on_timeline(slots, spans, len(sample.pose)))
        weights = signer.gate(sample.text, sample.language, glosses, experts)
        even = experts.mask / np.maximum(experts.mask.sum(axis=1, keepdims=True), 1)
        truth = reduce(sample.pose, signer.model.joints, c.dims)
        top, mean = (blended(w, experts, truth) for w in (np.asarray(top_weights(weights)), even))
        stable, stable_mean = signer.stabilise(top), signer.stabilise(mean)
        variants = [(truth, spans)] + [
            (reduce(pose, signer.model.joints, c.dims), at[: len(spans)]) for pose, at in sample.references
        ]
        rows["dtw_top_expert"] += list(pose_metrics.segment_dtw(stable, spans, variants, weights=weigh_hands))
        rows["dtw_mean_pose"] += list(pose_metrics.segment_dtw(stable_mean, spans, variants, weights=weigh_hands))
        rows["smooth_before"].append(smoothness(top, c.smooth_order))
        rows["smooth_after"].append(smoothness(stable, c.smooth_order))
        rows["hand_before"].append(pose_metrics.hand_error(top, truth, signer.model.hands))
        rows["hand_after"].append(pose_metrics.hand_error(stable, truth, signer.model.hands))
        rows["expert_accuracy"] += [
            float(signers[int(np.argmax(w))] == sample.signer)
            for signers, w in zip([[entry and entry.signer for entry in row] for row in slots], weights, strict=False)
            if sample.signer in signers
        ]
        if not result.poses:
            result.poses = [
                ("ground truth", truth),
                ("top expert, stabilised", stable),
                ("mean of the variants", stable_mean),
            ]
    result.metrics |= {f"pose/{name}": float(np.mean(values)) for name, values in rows.items() if values}


_blend = jax.jit(blend)
_smoothness = jax.jit(pose_losses.smoothness, static_argnames="order")


def blended(weights: np.ndarray, experts: Experts, truth: Pose) -> Pose:
    """The blend of the candidates with these weights `[n, e]`, on the truth's frames (the timeline may be padded)."""
    arrays = (weights, experts.frame_gloss, experts.candidates, experts.confidence)
    coordinates, confidence = _blend(*(a[None] for a in arrays))
    return Pose(np.asarray(coordinates)[0, : len(truth)], np.asarray(confidence)[0, : len(truth)], truth.fps)


def smoothness(pose: Pose, order: int, multiple: int = 32) -> float:
    """L_smooth of a whole pose (paper 2.3); padded with missing frames, so that few lengths are compiled."""
    extra = (0, -len(pose) % multiple)
    coordinates = np.pad(pose.coordinates, (extra, (0, 0), (0, 0)))
    return float(_smoothness(coordinates[None], np.pad(pose.confidence, (extra, (0, 0)))[None], order=order)[0])


# ---- Video -------------------------------------------------------------------------------------------------------


def evaluate_videos(signer: Signer, split: str, limit: int, result: Evaluation) -> None:
    """Held-out clips rendered from their poses, at most `limit`, whole, beside what gives the figures their meaning.

    SSIM and Hand SSIM as in the paper's tables; rows beside them: the same renderer untrained, the reference picture
    alone, the signer's mean training frame, their training frame of the nearest pose, the autoencoder as the ceiling.
    `video/sharpness`: gradient energy in the hand crops over the truth's; `…_far`: in the tenth of the frames that is
    farthest from any training pose. `video/flicker` where the truth stands still, in levels of 255. `video/change_…`:
    the change from frame to frame over the truth's, across the seams of the windows and inside them. Signers without
    a training video have rows of their own, `video_unseen/…`; their reference is a frame of another clip of theirs.
    """
    corpus = signer.corpus
    records, videos = corpus.motions(split), video_indices(corpus, split)
    samples = [records[i] for i in videos]
    picked = np.linspace(0, len(samples) - 1, min(limit, len(samples))).round().astype(int)
    known = [samples[i].signer in signer.latents.references for i in picked]
    rows: dict[str, list[float]] = defaultdict(list)
    untrained = models.init_renderer(signer.model, signer.config.data.size, jax.random.key(signer.config.seed))
    for i, seen in zip(progress(picked, "video"), known, strict=True):
        whole, truth = filmed(samples[i])
        clip = replace(samples[i], pose=whole.slice(0, len(truth)))
        pose = reduce(whole.slice(0, len(truth)), signer.model.joints, signer.config.pose.dims)
        text = None
        if signer.model.slul is not None:
            H, mask = signer.semantics(clip.text, clip.language)
            text = H * mask[..., None]
        reference = signer.style(signer=clip.signer) if seen else borrowed(signer, samples, int(i))
        candidates = {
            "": signer.render(pose, reference, text),
            "_untrained": signer.render(pose, reference, text, renderer=untrained),
            "_reference": np.broadcast_to(signer.picture(reference), truth.shape),
            "_reconstruction": reconstruct(signer, truth),
        }
        if seen:
            candidates |= {name: made[0] for name, made in baselines(corpus, [clip]).items()}
        folder = "video" if seen else "video_unseen"
        keys = [folder, f"{folder}/{clip.signer}"] if len(corpus.about["signers"]) > 1 else [folder]
        for key in keys:
            score_clip(key, candidates, truth, pose, signer, rows)
        if seen:
            score_motion(candidates[""], truth, pose, distances(corpus, clip), signer, rows)
        if len(result.clips) < 4 or not seen:
            shown = ("", "_reconstruction", "_nearest_pose") if seen else ("", "_reference")
            names = {"": "rendered", "_reconstruction": "autoencoder", "_nearest_pose": "nearest pose",
                     "_reference": "reference"}  # fmt: skip
            result.clips.append({"ground truth": truth, **{names[name]: candidates[name] for name in shown}})
    result.metrics |= {name: float(np.mean(values)) for name, values in rows.items() if "/" in name}
    result.metrics |= motion_figures(rows)


def score_clip(
    key: str, candidates: dict[str, np.ndarray], truth: np.ndarray, pose: Pose, signer: Signer, rows: dict[str, list]
) -> None:
    """Adds every candidate's SSIM of the frames and of the hands under `key`."""
    names = skeleton.SUBSETS[signer.config.pose.joints]
    crop = video_metrics.hand_crop(*truth.shape[1:3])
    centres, visible = video_metrics.hand_centres(pose, names, signer.config.data.size)
    for name, video in candidates.items():
        rows[f"{key}/ssim{name}"] += list(video_metrics.ssim(video, truth))
        rows[f"{key}/hand_ssim{name}"] += list(video_metrics.hand_ssim(video, truth, centres, visible, crop)[visible])


def score_motion(
    video: np.ndarray, truth: np.ndarray, pose: Pose, far: np.ndarray, signer: Signer, rows: dict[str, list]
) -> None:
    """Adds what sharpness, flicker and the seams are computed from; `far [t]`: the distance to the training poses."""
    names = skeleton.SUBSETS[signer.config.pose.joints]
    crop = video_metrics.hand_crop(*truth.shape[1:3])
    centres, visible = video_metrics.hand_centres(pose, names, signer.config.data.size)
    rows["far"] += list(far[np.nonzero(visible)[0]])
    seam = np.arange(1, len(truth)) % signer.config.renderer.window == 0
    for name, one in (("", video), ("_truth", truth)):
        rows[f"energy{name}"] += list(
            video_metrics.gradient_energy(video_metrics.hand_crops(one, centres, visible, crop))
        )
        change = video_metrics.frame_change(one)
        rows[f"seam{name}"] += list(change[seam])
        rows[f"inside{name}"] += list(change[~seam])
        if len(truth) > 1:
            rows[f"flicker{name}"].append(video_metrics.flicker(one, truth))


def motion_figures(rows: dict[str, list]) -> dict[str, float]:
    """Sharpness, flicker and seams from what `score_motion` gathered."""

    def ratio(name: str, where: np.ndarray | slice = slice(None)) -> float:
        return float(np.sum(np.array(rows[name])[where]) / np.sum(np.array(rows[f"{name}_truth"])[where]))

    figures = {}
    if rows["far"]:
        far = np.array(rows["far"])
        figures["video/sharpness"] = ratio("energy")
        figures["video/sharpness_far"] = ratio("energy", far >= np.quantile(far, 0.9))
    for name in ("seam", "inside"):
        if rows[name]:
            figures[f"video/change_{name}"] = ratio(name)
    for name in ("flicker", "flicker_truth"):
        if rows[name]:
            figures[f"video/{name}"] = float(np.nanmean(rows[name]))
    return figures


def borrowed(signer: Signer, samples: list[Sample], i: int) -> np.ndarray:
    """A reference for a clip whose signer training never saw: the first frame of another clip; zeros without one."""
    for k, other in enumerate(samples):
        if k != i and other.signer == samples[i].signer:
            return signer.style(filmed(other)[1][0])
    return np.zeros_like(signer.style())


def distances(corpus: Corpus, clip: Sample) -> np.ndarray:
    """`[t]`: how far each frame's arms and hands are from the nearest training frame of the signer."""
    pose, _ = filmed(clip)
    arms = skeleton.positions(skeleton.PARTS["arms"], skeleton.JOINTS)
    theirs = [filmed(sample)[0] for sample in filmed_by(corpus, clip.signer)]
    return video_metrics.pose_distance(
        Pose(pose.coordinates[:, arms], pose.confidence[:, arms], pose.fps),
        np.concatenate([one.coordinates[:, arms] for one in theirs]),
        np.concatenate([one.confidence[:, arms] for one in theirs]),
    )


def filmed_by(corpus: Corpus, name: str) -> list[Sample]:
    """The training samples of a signer that have a video."""
    records, listed = corpus.motions("train"), corpus.listed("train")
    return [records[i] for i in video_indices(corpus, "train") if listed[i][2] == name]


def reconstruct(signer: Signer, video: np.ndarray) -> np.ndarray:
    """Through the autoencoder and back, window by window: what no renderer on these latents can pass."""
    length = signer.config.renderer.window
    index = np.minimum(np.arange(-(-len(video) // length) * length), len(video) - 1).reshape(-1, length)
    through = [signer.roundtrip(video[at][None])[0] for at in index]
    return np.concatenate(through)[: len(video)]


def baselines(corpus: Corpus, clips: list[Sample]) -> dict[str, list[np.ndarray]]:
    """For every clip the signer's mean training frame, and for every frame the training frame of the nearest pose."""
    training = [sample for name in sorted({clip.signer for clip in clips}) for sample in filmed_by(corpus, name)]
    compared = skeleton.positions(skeleton.PARTS["arms"], skeleton.JOINTS)
    means = {
        name: video_metrics.mean_frame(filmed(s)[1] for s in training if s.signer == name)
        for name in {clip.signer for clip in clips}
    }
    return {
        "_mean_frame": [np.broadcast_to(means[clip.signer], filmed(clip)[1].shape) for clip in clips],
        "_nearest_pose": list(video_metrics.nearest_pose_baseline(clips, training, compared)),
    }


def filmed(sample: Sample) -> tuple[Pose, np.ndarray]:
    """A sample's pose and video, which every listed video has."""
    if sample.pose is None or sample.video is None:
        raise SignerError(
            f"sample {sample.name!r} has no pose or no video, though the corpus lists both; prepare it again"
        )
    return sample.pose, sample.video
