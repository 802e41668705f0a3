"""How2Sign sentence clips with MediaPipe poses: what the renderer learns from (American Sign Language, no text here).

Layout: `sentence_level/train/rgb_front/raw_videos/<name>.mp4` beside `…/features/holistic_pose/<name>.pose`, with names
`<video id>_<clip>-<camera>-rgb_front`. Split: of each signer's clips in the order of their numbers, the
5th, 10th, … are "dev", the 3rd, 8th, … "test", the others "train"; all come from How2Sign's own training split.
`signer prepare how2sign` reads the same folders in the dataset's own splits. It resamples by the frames' times and
encodes anew, which gives other pixels than these, on which the README's figures stand: so this stays its own reader.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from signer_jax import outside
from signer_jax.data import framing, video
from signer_jax.data.corpora.left_out import LeftOut
from signer_jax.errors import SignerError, piled
from signer_jax.pose import skeleton
from signer_jax.pose.clean import clean
from signer_jax.pose.formats import pose_file
from signer_jax.pose.stitching import resample
from signer_jax.types import Pose, Sample

LANGUAGE = "ase"
SPLITS = ("train", "dev", "test")
_SPLIT_OF = ("train", "train", "test", "train", "dev")  # of five clips in a row
_SAME_RATE = 0.02  # 23.976 is written as 24
_CLIPS = Path("sentence_level/train/rgb_front")
_NAME = re.compile(r"(?P<signer>.+)_(?P<clip>\d{1,18})-\d+-rgb_front")


def samples(source: str | Path, split: str, *, size: tuple[int, int], fps: float | None = None) -> Iterator[Sample]:
    """The clips of a split with video of `size` (height, width) and normalised, cleaned pose `[t, 128, 3]` beside it.

    The video is the rectangle around the signer that `skeleton.view` says, its shorter side `skeleton.VIEW_SIDE`
    shoulder widths (by the clip's median shoulders; the frame's edge is repeated where the rectangle leaves it),
    area-averaged, so that `skeleton.to_pixels(pose, *size)` lands on its pixels. Both are at `fps`, by default the
    clip's own (24). `signer` is the video's id; text and glosses are empty. A clip that cannot be read is left out,
    with a line on standard error. Raises `SignerError`, before the first clip, for an unknown split or a folder without
    such clips, and where more than half of them are left out.
    """
    if split not in SPLITS:
        raise SignerError(f"how2sign_clips: unknown split {split!r}; known: {', '.join(SPLITS)}")
    return _samples(Path(source) / _CLIPS, clips(source, split), size, fps)


def _samples(
    folder: Path, found: list[tuple[str, str, tuple[Path, Path]]], size: tuple[int, int], fps: float | None
) -> Iterator[Sample]:
    left_out = LeftOut(folder, "clips", len(found))
    for name, signer, files in found:
        try:
            with outside.reading(files[0], "cut it into shorter clips"):
                sample = _sample(name, signer, files, size, fps)
        except SignerError as error:
            left_out.add(str(error))
            continue
        yield sample
    left_out.end()


def clips(source: str | Path, split: str) -> list[tuple[str, str, tuple[Path, Path]]]:
    """(name, signer, (video file, pose file)) of each clip of the split, by signer and clip number.

    What lacks its pose or its video, or has another name, is left out, with a line on standard error. Raises
    `SignerError` where the folder has no clips, or more than half of them are left out.
    """
    folder = Path(source) / _CLIPS
    videos = {file.stem: file for file in (folder / "raw_videos").glob("*.mp4")}
    poses = {file.stem: file for file in (folder / "features" / "holistic_pose").glob("*.pose")}
    if not videos or not poses:
        lacking = "raw_videos/*.mp4" if not videos else "features/holistic_pose/*.pose"
        raise SignerError(f"{folder}: has no {lacking}; give the How2Sign folder that holds sentence_level")
    left_out = LeftOut(folder, "clips", len(videos.keys() | poses.keys()))
    by_signer: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in sorted(videos.keys() | poses.keys()):
        match = _NAME.fullmatch(name)
        if match is None or not name.isprintable() or piled(name):
            left_out.add(f"{name} is not named <video id>_<clip>-<camera>-rgb_front; rename it")
        else:
            by_signer[match["signer"]].append((int(match["clip"]), name))
    chosen = []
    for signer in sorted(by_signer):
        for i, (_, name) in enumerate(sorted(by_signer[signer])):  # a clip that is left out moves no other one
            if name not in videos or name not in poses:
                left_out.add(f"clip {name} lacks its {'pose' if name in videos else 'video'}; add or remove it")
            elif _SPLIT_OF[i % len(_SPLIT_OF)] == split:
                chosen.append((name, signer, (videos[name], poses[name])))
    left_out.end()
    return chosen


def _sample(name: str, signer: str, files: tuple[Path, Path], size: tuple[int, int], fps: float | None) -> Sample:
    raw, rate = pose_file.read(files[1]), video.frame_rate(files[0])
    if abs(raw.fps / rate - 1) > _SAME_RATE:
        raise SignerError(f"{files[1]}: has {raw.fps:g} frames a second, its video {rate:g}; extract the poses again")
    try:
        pose, centre, scale = skeleton.normalise(raw)
    except SignerError as error:
        raise SignerError(f"{files[1]}: {error}") from None
    pose = clean(pose)
    seen = list(framing.around_signer(islice(video.frames(files[0]), len(pose)), centre, scale, size))
    if not seen:
        raise SignerError(f"{files[0]}: holds no frame; download it again")
    pictures, length = np.stack(seen), len(seen)
    pose = Pose(pose.coordinates[:length], pose.confidence[:length], rate)
    if fps is not None and fps != rate:
        frames = max(1, round(length / rate * fps))
        nearest = np.rint(np.linspace(0, length - 1, frames)).astype(int)
        pose, pictures = resample(pose, frames, fps=fps), pictures[nearest]
    return Sample(name, "", LANGUAGE, (), signer, pose=pose, video=pictures)
