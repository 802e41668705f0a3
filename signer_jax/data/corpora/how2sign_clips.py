"""How2Sign's clips with MediaPipe poses as a run's videos: what the renderer learns from (American Sign Language, no
text here).

The clips are those of How2Sign's training split that `signer prepare how2sign` reads (`data/datasets/how2sign.py`),
with .pose files. A run's split is its own: of each video's clips in the order of their numbers, the 5th, 10th, … are
"dev", the 3rd, 8th, … "test", the others "train". A prepared set is in the dataset's own splits, resampled by the
frames' times and encoded anew, which gives other pixels than these, on which the README's figures stand.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from signer_jax import outside
from signer_jax.data import framing, video
from signer_jax.data.corpora.left_out import LeftOut
from signer_jax.data.datasets import how2sign
from signer_jax.data.datasets.item import Found, Item
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.clean import clean
from signer_jax.pose.formats import pose_file
from signer_jax.pose.stitching import resample
from signer_jax.types import Pose, Sample

SPLITS = ("train", "dev", "test")
_SPLIT_OF = ("train", "train", "test", "train", "dev")  # of five clips in a row
_SAME_RATE = 0.02  # 23.976 is written as 24


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
    return _samples(Path(source), clips(source, split), size, fps)


def _samples(source: Path, found: list[Item], size: tuple[int, int], fps: float | None) -> Iterator[Sample]:
    left_out = LeftOut(source, "clips", len(found))
    for item in found:
        assert item.video is not None and item.pose is not None
        try:
            with outside.reading(item.video, "cut it into shorter clips"):
                sample = _sample(item, item.video, item.pose, size, fps)
        except SignerError as error:
            left_out.add(str(error))
            continue
        yield sample
    left_out.end()


def clips(source: str | Path, split: str) -> list[Item]:
    """The split's clips with their video and pose, by video (`recording`) and clip number.

    What lacks its pose or its video, or has another name, is left out, with a line on standard error. Raises
    `SignerError` where the folder has no clips, or more than half of them are left out.
    """
    by_video: dict[str, list[tuple[tuple[int, ...], str, Found]]] = defaultdict(list)
    all_of_them = list(how2sign.clips(source, "train"))
    if not all_of_them:
        raise SignerError(
            f"{source}: has no sentence_level/train/rgb_front/raw_videos/*.mp4 and no features/holistic_pose/*.pose "
            "beside; give the How2Sign folder that holds sentence_level"
        )
    left_out = LeftOut(Path(source), "clips", len(all_of_them))
    for found in all_of_them:
        if of := how2sign.video_of(found.name):
            by_video[of].append((how2sign.clip_of(found.name), found.name, found))
        elif isinstance(found, Item):
            left_out.add(f"{found.name} is not named <video id>_<clip>-<camera>-rgb_front; rename it")
        else:
            left_out.add(found)
    chosen = []
    for of in sorted(by_video):
        for i, (_, name, found) in enumerate(sorted(by_video[of], key=lambda clip: clip[:2])):
            # A clip that is left out moves no other one.
            if not isinstance(found, Item):
                left_out.add(found)
            elif found.video is None or found.pose is None:
                left_out.add(f"clip {name} lacks its {'pose' if found.video else 'video'}; add or remove it")
            elif _SPLIT_OF[i % len(_SPLIT_OF)] == split:
                chosen.append(found)
    left_out.end()
    return chosen


def _sample(item: Item, film: Path, file: Path, size: tuple[int, int], fps: float | None) -> Sample:
    raw, rate = pose_file.read(file), video.frame_rate(film)
    if abs(raw.fps / rate - 1) > _SAME_RATE:
        raise SignerError(f"{file}: has {raw.fps:g} frames a second, its video {rate:g}; extract the poses again")
    try:
        pose, centre, scale = skeleton.normalise(raw)
    except SignerError as error:
        raise SignerError(f"{file}: {error}") from None
    pose = clean(pose)
    seen = list(framing.around_signer(islice(video.frames(film), len(pose)), centre, scale, size))
    if not seen:
        raise SignerError(f"{film}: holds no frame; download it again")
    pictures, length = np.stack(seen), len(seen)
    pose = Pose(pose.coordinates[:length], pose.confidence[:length], rate)
    if fps is not None and fps != rate:
        frames = max(1, round(length / rate * fps))
        nearest = np.rint(np.linspace(0, length - 1, frames)).astype(int)
        pose, pictures = resample(pose, frames, fps=fps), pictures[nearest]
    return Sample(item.name, "", item.language, (), item.recording, pose=pose, video=pictures)
