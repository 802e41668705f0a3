"""Text -> video, scored without a pose estimator: the video that a run signs of a text beside the true one.

Two videos of one text have their own timing, so that no frame belongs to another. The poses say which do: each frame of
the truth is compared with the frame of the signed video that dynamic time warping of the two poses pairs with it. It
takes nothing but what a run has, and says less than a reader would: frames that look like the truth's.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from signer_jax.data.streams import spread, video_indices
from signer_jax.errors import SignerError, Trouble
from signer_jax.evaluation.figures import Evaluation, differences, error_of, means
from signer_jax.evaluation.videos import hands_of
from signer_jax.metrics import video as video_metrics
from signer_jax.metrics.alignment import exact_path
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.skeleton import on_joints
from signer_jax.pose.warping import HAND_WEIGHT, frame_cost, joint_weights
from signer_jax.types import Pose, Sample

KINDS = ("ssim", "hand_ssim", "psnr")


@dataclass(frozen=True)
class Filmed:
    """A pose and its video, frame by frame."""

    pose: Pose  # on all joints
    video: UInt8[np.ndarray, "t h w 3"]


def filmed_texts(signer: Signer, split: str, limit: int) -> dict[int, Sample]:
    """At most `limit` of the split's samples that have a text, a pose and a video of a signer whom training filmed,
    spread evenly, by their places among its motions; all are held.
    """
    corpus = signer.corpus
    filmed = {name for _, video, name in corpus.listed("train") if video}
    listed, records = corpus.listed(split), corpus.motions(split)
    captions = list(corpus.captions(split))
    places = [k for k in video_indices(corpus, split) if captions[k].strip() and listed[k][2] in filmed]
    found = {places[k]: records.filmed(places[k])[0] for k in spread(len(places), limit)}
    return {k: sample for k, sample in found.items() if sample.pose is not None}


def sign(signer: Signer, sample: Sample) -> Filmed | None:
    """What the run makes of a sample's text, in the look of its signer; None where it cannot sign it."""
    try:
        look = sample.signer if sample.signer in signer.studio.latents.banks else None
        signed = signer.sign(sample.text, language=sample.language, signer=look)
    except Trouble:  # a disk or a network, no fault of the text
        raise
    except SignerError:
        return None
    return None if signed.video is None else Filmed(signed.pose, signed.video)


def score_signed(
    signer: Signer, samples: Sequence[Sample], made: Sequence[Filmed | None], result: Evaluation
) -> None:  # fmt: skip
    """`video_text/ssim`, `hand_ssim`, `psnr` (of a clip's mean squared error, mean over clips) of videos of texts, each
    made in the look of the truth's signer.

    Beside them `…_reference`, a still picture of the signer (the first frame of the truth), and `…_shuffled`, the video
    of another text, paired by its own pose: what looks and any signing score. `…_error`, `…_over_…` as elsewhere;
    `video_text/failed`: texts that could not be signed, which count as the still picture does.
    """
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for i, sample in enumerate(samples):
        truth, pose = sample.video, sample.pose
        assert truth is not None and pose is not None
        length = min(len(truth), len(pose))
        truth, pose = truth[:length], pose.slice(0, length)
        still = np.broadcast_to(truth[0], truth.shape)
        other = next((made[k] for k in [*range(i + 1, len(made)), *range(i)] if _another(samples, made, i, k)), None)
        shown = {
            "": paired(made[i], pose, signer), "_shuffled": paired(other, pose, signer), "_reference": still,
        }  # fmt: skip
        for kind, video in shown.items():
            for name, value in frame_scores(still if video is None else video, truth, pose, signer).items():
                rows[f"{name}{kind}"].append(value)
    each = {f"video_text/{name}": groups for name, groups in rows.items()}
    result.each |= each
    result.metrics |= means({name: [value for group in groups for value in group] for name, groups in each.items()})
    for name in KINDS:
        key = f"video_text/{name}"
        result.metrics |= error_of(key, each[key])
        for other in ("reference", "shuffled"):
            result.metrics |= differences(f"{key}_over_{other}", each[key], each[f"{key}_{other}"])
    result.metrics |= {
        "video_text/clips": float(len(samples)), "video_text/failed": float(sum(one is None for one in made)),
    }  # fmt: skip


def _another(samples: Sequence[Sample], made: Sequence[Filmed | None], i: int, k: int) -> bool:
    return made[k] is not None and samples[k].glosses != samples[i].glosses


def paired(one: Filmed | None, truth: Pose, signer: Signer) -> UInt8[np.ndarray, "t h w 3"] | None:
    """The video with a frame for each of the truth's."""
    if one is None:
        return None
    joints, dims = skeleton.subset(signer.settings.pose.joints), signer.settings.pose.dims
    ours, theirs = (on_joints(pose, joints, dims) for pose in (one.pose, truth))
    weights = joint_weights(skeleton.SUBSETS[signer.settings.pose.joints], HAND_WEIGHT)
    frames = paired_frames(frame_cost(
        ours.coordinates, theirs.coordinates, hypothesis_confidence=ours.confidence,
        reference_confidence=theirs.confidence, weights=weights,
    ))  # fmt: skip
    return one.video[np.minimum(frames, len(one.video) - 1)]


def paired_frames(cost: np.ndarray) -> Int[np.ndarray, " u"]:
    """For each frame of the reference the middle one of those that the cheapest path pairs with it; `cost [t, u]`."""
    path = exact_path(cost)
    return np.array([np.sort(own)[len(own) // 2] for own in (path[path[:, 1] == k, 0] for k in range(cost.shape[1]))])


def frame_scores(
    video: UInt8[np.ndarray, "t h w 3"], truth: UInt8[np.ndarray, "t h w 3"], pose: Pose, signer: Signer
) -> dict[str, list[float]]:
    """SSIM of each frame and of each hand that the truth shows, and the clip's PSNR."""
    on = on_joints(pose, signer.model.joints, signer.settings.pose.dims)
    centres, visible, crop = hands_of(truth, on, signer)
    hands = video_metrics.hand_crops(video, centres, visible, crop)
    true_hands = video_metrics.hand_crops(truth, centres, visible, crop)
    psnr = video_metrics.psnr(float(video_metrics.squared_error(video, truth).mean()))
    return {
        "ssim": video_metrics.ssim(video, truth).tolist(),
        "hand_ssim": video_metrics.ssim(hands, true_hands).tolist(),
        "psnr": [psnr if np.isfinite(psnr) else float("nan")],
    }
