"""What a run makes of a split's texts: signed once, then scored and written."""

from dataclasses import dataclass

import numpy as np

from signer_jax.evaluation.poses import scorable
from signer_jax.evaluation.signed_videos import Filmed, filmed_texts, sign
from signer_jax.evaluation.texts import perform_texts
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.progress import progress
from signer_jax.training.partitioning import on_mesh_of
from signer_jax.types import Pose, Sample


@dataclass(frozen=True)
class SignedPose:
    """A sample and the pose, on all joints, that the run makes of its text; None where it could not be signed."""

    truth: Sample
    made: Pose | None


@dataclass(frozen=True)
class SignedFilm:
    """A sample and the video of its text, with its pose; None where it could not be signed."""

    truth: Sample
    made: Filmed | None


@dataclass(frozen=True)
class SignedTexts:
    """By the samples' places among the motions of their split."""

    poses: dict[int, SignedPose]
    films: dict[int, SignedFilm]


def sign_poses(signer: Signer, split: str, limit: int) -> dict[int, SignedPose]:
    """Of at most `limit` samples with a pose, spread evenly; none of a run without SLP-MoE."""
    if signer.model.slp_moe is None or not signer.corpus.count(split, "pose"):
        return {}
    records = signer.corpus.motions(split)
    samples = {k: records[k] for k in scorable(records, limit)}
    if not samples:
        return {}
    with on_mesh_of(signer.params):
        made, _ = perform_texts(signer, [*samples.values()], np.arange(len(skeleton.JOINTS)), 3)
    return {k: SignedPose(sample, pose) for (k, sample), pose in zip(samples.items(), made, strict=True)}


def sign_films(signer: Signer, split: str, limit: int) -> dict[int, SignedFilm]:
    """Of at most `limit` samples with a video (`filmed_texts`); none of a run without a renderer, and none of them made
    by one without SLP-MoE.
    """
    corpus = signer.corpus
    if signer.model.renderer is None or not (corpus.count(split, "video") and corpus.count(split, "pose")):
        return {}
    samples = filmed_texts(signer, split, limit)
    if signer.model.slp_moe is None:
        return {k: SignedFilm(sample, None) for k, sample in samples.items()}
    return {k: SignedFilm(samples[k], sign(signer, samples[k])) for k in progress(list(samples), "texts signed")}
