"""Videos on a split: rendered clips beside what gives their figures a meaning."""

from collections import defaultdict
from dataclasses import replace

import jax
import numpy as np

from signer_jax import model as models
from signer_jax.data.records import Corpus
from signer_jax.data.streams import video_indices
from signer_jax.errors import SignerError
from signer_jax.evaluation.figures import Evaluation, means
from signer_jax.metrics import video as video_metrics
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.skeleton import on_joints
from signer_jax.progress import progress
from signer_jax.stations.render import Studio, Style, picture, render, roundtrip
from signer_jax.stations.render import style as style_of
from signer_jax.stations.understand import semantics
from signer_jax.types import Pose, Sample


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
