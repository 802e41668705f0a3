"""A run's figures on a split: glosses, poses, video, each beside the baselines that give it meaning."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

import jax
import numpy as np

from signer_jax import model as models
from signer_jax.data.records import Corpus
from signer_jax.data.streams import video_indices
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
from signer_jax.slp_moe.retrieval import Experts, at_frames, chosen_candidates
from signer_jax.stations.perform import Timing, perform_many, stabilise
from signer_jax.stations.render import Studio, Style, picture, render, roundtrip
from signer_jax.stations.render import style as style_of
from signer_jax.stations.understand import semantics, understand
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
    result = Evaluation(joints=signer.settings.pose.joints)
    corpus, c = signer.corpus, signer.settings.evaluate
    corpus.texts(split)  # one clear line for a split that is not there
    if signer.model.slul is not None and corpus.count(split, "text"):
        evaluate_glosses(signer, split, c.sentences, result)
    if signer.model.slp_moe is not None and corpus.count(split, "pose"):
        evaluate_poses(signer, split, c.poses, result)
    if signer.model.renderer is not None and corpus.count(split, "video"):
        evaluate_videos(signer, split, c.videos, result)
    return result


# ---- Glosses -----------------------------------------------------------------------------------------------------


def evaluate_glosses(signer: Signer, split: str, limit: int, result: Evaluation, batch: int = 64) -> None:
    """BLEU 1-4, ROUGE-L, word error rate and exact matches of the best beam."""
    records = signer.corpus.texts(split)
    samples = [records[i] for i in range(min(limit, len(records)))]
    predicted: list[tuple[str, ...]] = []
    for i in progress(range(0, len(samples), batch), "glosses"):
        part = samples[i : i + batch]
        predicted += understand([s.text for s in part], [s.language for s in part], signer.linker).glosses
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
    """Held-out clips rendered from their poses, at most `limit`, whole, beside what gives the figures their meaning.

    SSIM and Hand SSIM as in the paper's tables; rows beside them: the same renderer untrained, the reference picture
    alone, the signer's mean training frame, their training frame of the nearest pose, the autoencoder as the ceiling.
    `video/sharpness`: gradient energy in the hand crops over the truth's; `…_far`: in the tenth of the frames that is
    farthest from any training pose. `video/flicker` where the truth stands still, in levels of 255. `video/change_…`:
    the change from frame to frame over the truth's, across the seams of the windows and inside them. Signers without
    a training video have rows of their own, `video_unseen/…`; their reference is a frame of another clip of theirs.
    """
    corpus, studio = signer.corpus, signer.studio
    records, videos = corpus.motions(split), video_indices(corpus, split)
    samples = [records[i] for i in videos]
    picked = np.linspace(0, len(samples) - 1, min(limit, len(samples))).round().astype(int)
    known = [samples[i].signer in studio.latents.banks for i in picked]
    rows: dict[str, list[float]] = defaultdict(list)
    fresh = models.init_renderer(signer.model, signer.settings.data.size, jax.random.key(signer.settings.seed))
    untrained = replace(studio, params={**studio.params, "renderer": fresh})
    for i, seen in zip(progress(picked, "video"), known, strict=True):
        whole, truth = filmed(samples[i])
        whole = whole.slice(0, len(truth))
        clip = replace(samples[i], pose=whole)
        pose = on_joints(whole, signer.model.joints, signer.settings.pose.dims)
        H = mask = None
        if signer.model.slul is not None:
            H, mask = semantics(clip.text, clip.language, signer.linker)
        style = style_of(studio, signer=clip.signer) if seen else borrowed(studio, samples, int(i))
        candidates = {
            "": render(whole, style, H, mask, studio).video,
            "_untrained": render(whole, style, H, mask, untrained).video,
            "_reference": np.broadcast_to(picture(style, studio), truth.shape),
            "_reconstruction": reconstruct(truth, studio),
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
    result.metrics |= means({name: values for name, values in rows.items() if "/" in name})
    result.metrics |= motion_figures(rows)


def score_clip(
    key: str, candidates: dict[str, np.ndarray], truth: np.ndarray, pose: Pose, signer: Signer, rows: dict[str, list]
) -> None:
    """Adds every candidate's SSIM of the frames and of the hands under `key`."""
    names = skeleton.SUBSETS[signer.settings.pose.joints]
    crop = video_metrics.hand_crop(*truth.shape[1:3])
    centres, visible = video_metrics.hand_centres(pose, names, signer.settings.data.size)
    for name, video in candidates.items():
        rows[f"{key}/ssim{name}"] += list(video_metrics.ssim(video, truth))
        rows[f"{key}/hand_ssim{name}"] += list(video_metrics.hand_ssim(video, truth, centres, visible, crop)[visible])


def score_motion(
    video: np.ndarray, truth: np.ndarray, pose: Pose, far: np.ndarray, signer: Signer, rows: dict[str, list]
) -> None:
    """Adds what sharpness, flicker and the seams are computed from; `far [t]`: the distance to the training poses."""
    names = skeleton.SUBSETS[signer.settings.pose.joints]
    crop = video_metrics.hand_crop(*truth.shape[1:3])
    centres, visible = video_metrics.hand_centres(pose, names, signer.settings.data.size)
    rows["far"] += list(far[np.nonzero(visible)[0]])
    seam = np.arange(1, len(truth)) % signer.settings.renderer.window == 0
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


def borrowed(studio: Studio, samples: list[Sample], i: int) -> Style:
    """A style for a clip whose signer training never saw: the first frame of another clip; zeros without one."""
    for k, other in enumerate(samples):
        if k != i and other.signer == samples[i].signer:
            return style_of(studio, picture=filmed(other)[1][0])
    return Style(np.zeros_like(style_of(studio).reference))


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


def reconstruct(video: np.ndarray, studio: Studio) -> np.ndarray:
    """Through the autoencoder and back, window by window: what no renderer on these latents can pass."""
    length = studio.window
    index = np.minimum(np.arange(-(-len(video) // length) * length), len(video) - 1).reshape(-1, length)
    through = [roundtrip(video[at][None], studio)[0] for at in index]
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
