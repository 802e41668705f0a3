"""A split's poses and videos, the truth's and a run's, as files for `signer score`, `study` and `view`."""

import re
from pathlib import Path

from signer_jax import storage
from signer_jax.data import video as videos
from signer_jax.evaluation.signed_texts import SignedFilm, SignedTexts
from signer_jax.pipeline import Signer
from signer_jax.pose.formats import pose_file
from signer_jax.progress import progress
from signer_jax.types import Pose

KIND = "evaluation's poses and videos"
TRUTH, SIGNED, RENDERED = "truth", "signed", "rendered"


def write_outputs(signer: Signer, signed: SignedTexts, out: Path) -> list[str]:
    """Writes `poses/truth`, `poses/signed` (of the text alone), `videos/truth`, `videos/signed` (of the text alone) and
    `videos/rendered` (of the true pose), a sample under one name in all of them; says what was written, a line a
    folder.

    What has videos has poses too, frame by frame: where a recording's video or pose is the longer one, both are cut.
    What the run cannot make of a sample is not there. Raises `SignerError` where `out` cannot be written, or is
    somebody else's.
    """
    truth = {k: one.truth.pose for k, one in signed.poses.items()} | {k: _cut(one) for k, one in signed.films.items()}
    made = {k: one.made for k, one in signed.poses.items()}
    made |= {k: one.made.pose for k, one in signed.films.items() if one.made is not None}
    names = {k: file_name(k, one.truth.name) for k, one in (signed.poses | signed.films).items()}
    with storage.new_folder(out, KIND) as partial:
        counts = {f"poses/{TRUTH}": _write_poses(truth, names, partial / "poses" / TRUTH)}
        if signer.model.slp_moe is not None:
            counts[f"poses/{SIGNED}"] = _write_poses(made, names, partial / "poses" / SIGNED)
        if signed.films:
            counts |= _write_films(signer, signed.films, names, partial)
    return [f"{out / folder}: {count} file{'s' if count != 1 else ''}" for folder, count in counts.items() if names]


def _write_poses(poses: dict[int, Pose | None], names: dict[int, str], folder: Path) -> int:
    known = {k: pose for k, pose in poses.items() if pose is not None}
    for k, pose in known.items():
        folder.mkdir(parents=True, exist_ok=True)
        pose_file.write(folder / f"{names[k]}.pose", pose)
    return len(known)


def _write_films(signer: Signer, films: dict[int, SignedFilm], names: dict[int, str], out: Path) -> dict[str, int]:
    counts = {f"videos/{kind}": 0 for kind in (TRUTH, SIGNED, RENDERED)}
    for k in progress(list(films), "videos written"):
        sample, pose = films[k].truth, _cut(films[k])
        assert sample.video is not None
        look = sample.signer if sample.signer in signer.studio.latents.banks else None
        made = {TRUTH: sample.video[: len(pose)], RENDERED: signer.film(pose, signer=look).video}
        if (signed := films[k].made) is not None:
            made[SIGNED] = signed.video
        for kind, video in made.items():
            (out / "videos" / kind).mkdir(parents=True, exist_ok=True)
            videos.write(out / "videos" / kind / f"{names[k]}.mp4", video, signer.fps)
            counts[f"videos/{kind}"] += 1
    return counts


def _cut(film: SignedFilm) -> Pose:
    """The true pose of the frames that the true video has too."""
    assert film.truth.video is not None and film.truth.pose is not None  # `filmed_texts`
    return film.truth.pose.slice(0, min(len(film.truth.video), len(film.truth.pose)))


def file_name(place: int, sample: str) -> str:
    """A name that every file system takes: the sample's place in its split, and its own name where that is plain."""
    return f"{place:05d}-{re.sub(r'[^A-Za-z0-9._-]+', '_', sample)[:60].strip('.')}"
