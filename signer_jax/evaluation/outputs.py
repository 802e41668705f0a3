"""A split's poses and videos, the truth's and a run's, as files for `signer score`, `study` and `view`."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signer_jax import storage
from signer_jax.data import video as videos
from signer_jax.evaluation.poses import scorable
from signer_jax.evaluation.signed_videos import filmed_texts, sign
from signer_jax.evaluation.texts import perform_texts
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file
from signer_jax.progress import progress
from signer_jax.training.partitioning import on_mesh_of
from signer_jax.types import Sample

KIND = "evaluation's poses and videos"
TRUTH, SIGNED, RENDERED = "truth", "signed", "rendered"


def write_outputs(signer: Signer, split: str, poses: int, films: int, out: Path) -> list[str]:
    """Writes `poses/truth`, `poses/signed` (of the text alone), `videos/truth`, `videos/signed` (of the text alone) and
    `videos/rendered` (of the true pose), a file a sample under one name; says what was written, a line a folder.

    At most so many `poses` and `films`, evenly over the split. What the run cannot make of a sample is not there.
    Raises `SignerError` where `out` cannot be written, or is somebody else's.
    """
    counts: dict[str, int] = {}
    with storage.new_folder(out, KIND) as partial:
        if signer.model.slp_moe is not None and signer.corpus.count(split, "pose"):
            counts |= _write_poses(signer, split, poses, partial)
        if signer.model.renderer is not None and signer.corpus.count(split, "video"):
            counts |= _write_films(signer, split, films, partial)
    return [f"{out / folder}: {count} file{'s' if count != 1 else ''}" for folder, count in counts.items()]


def _write_poses(signer: Signer, split: str, limit: int, out: Path) -> dict[str, int]:
    records = signer.corpus.motions(split)
    samples = [records[i] for i in scorable(records, limit)]
    counts = {f"poses/{kind}": 0 for kind in (TRUTH, SIGNED)}
    if not samples:
        return {}
    with on_mesh_of(signer.params):
        signed, _ = perform_texts(signer, samples, np.arange(len(skeleton.JOINTS)), 3)
    for name, sample, pose in zip(file_names(samples), samples, signed, strict=True):
        for kind, one in ((TRUTH, sample.pose), (SIGNED, pose)):
            if one is not None:
                (out / "poses" / kind).mkdir(parents=True, exist_ok=True)
                pose_file.write(out / "poses" / kind / f"{name}.pose", one)
                counts[f"poses/{kind}"] += 1
    return counts


def _write_films(signer: Signer, split: str, limit: int, out: Path) -> dict[str, int]:
    samples = filmed_texts(signer, split, limit)
    counts = {f"videos/{kind}": 0 for kind in (TRUTH, SIGNED, RENDERED)}
    for name, sample in zip(file_names(samples), progress(samples, "videos written"), strict=True):
        assert sample.video is not None and sample.pose is not None
        frames = min(len(sample.video), len(sample.pose))
        look = sample.signer if sample.signer in signer.studio.latents.banks else None
        made = {TRUTH: sample.video[:frames], RENDERED: signer.film(sample.pose.slice(0, frames), signer=look).video}
        if signer.model.slp_moe is not None and (signed := sign(signer, sample)) is not None:
            made[SIGNED] = signed.video
        for kind, video in made.items():
            (out / "videos" / kind).mkdir(parents=True, exist_ok=True)
            videos.write(out / "videos" / kind / f"{name}.mp4", video, signer.fps)
            counts[f"videos/{kind}"] += 1
    return counts if samples else {}


def file_names(samples: Sequence[Sample]) -> list[str]:
    """A name a sample that every file system takes: its own where that is plain, and its place among these."""
    return [
        f"{k:04d}-{re.sub(r'[^A-Za-z0-9._-]+', '_', sample.name)[:60].strip('.')}" for k, sample in enumerate(samples)
    ]
