"""OpenVid-1M and OpenVidHD as a run's videos: captioned ones of anything, without poses, from which a renderer learns
before it sees signing (paper, stage 1).

The rows are those that `signer prepare openvid` reads (`data/datasets/openvid.py`). It keeps videos as they are encoded
and brings them to one size; here they are decoded once, each at the size that fits it best.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from signer_jax import outside, storage
from signer_jax.data import video
from signer_jax.data.buckets import Bucket, Clip, fitted, plan
from signer_jax.data.corpora.left_out import LeftOut
from signer_jax.data.datasets import openvid
from signer_jax.data.datasets.item import Item
from signer_jax.data.shards import MOST_BYTES
from signer_jax.errors import SignerError
from signer_jax.types import Sample

_ENOUGH = MOST_BYTES - (1 << 20)  # of a clip's frames: a record has its caption too
_SAME_TIME = 1e-6  # seconds
_MANY_FRAMES = 9999  # a number as long as a clip's has


def samples(
    source: str | Path, *, sizes: Sequence[tuple[int, int]], fps: float, crop: float, enlarge: float
) -> Iterator[Sample]:  # fmt: skip
    """The videos in the table's order, each of one of the `sizes` (height, width), at `fps` and beside its caption; no
    pose, no language.

    A video keeps its aspect: of the sizes it has the one that cuts off least of it (`buckets.plan`). It is resized
    until it covers that, at most `enlarge` times, and its middle is kept, where at most the share `crop` is cut off.
    Of a video, `fps` frames a second are those that it shows at these times.
    Each is a `signer` of its own: what another one shows says nothing of it. What cannot be read, or fits no
    size, is left out, with a line on standard error. Raises `SignerError` as `names`, and for more videos than a corpus
    can list, before the first video, and where more than half of them are left out.
    """
    found = names(source)
    storage.list_bytes(  # as `records.write` will list them
        {"motions": {"train": [[_MANY_FRAMES, True, name, len(sizes)] for name in found]}, "signers": found},
        f"{source}: the list of its {len(found)} videos", "divide the table, and give each run a part",
    )  # fmt: skip
    return _samples(Path(source), len(found), [Bucket(1, *size) for size in sizes], fps, crop, enlarge)


def _samples(
    source: Path, total: int, sizes: Sequence[Bucket], fps: float, crop: float, enlarge: float
) -> Iterator[Sample]:
    left_out = LeftOut(source / openvid.VIDEOS, "videos", total)
    for item in openvid.items(source, "train"):
        if not isinstance(item, Item) or item.video is None:
            continue
        try:
            with outside.reading(item.video, "cut it into shorter clips"):
                frames = np.stack(list(_enough(item.video, _fitted(item.video, sizes, fps, crop, enlarge))))
        except SignerError as error:
            left_out.add(str(error))
            continue
        yield Sample(item.name, item.text, "", (), item.name, video=frames)
    left_out.end()


def names(source: str | Path) -> list[str]:
    """The videos that are there and have a caption, in the table's order.

    A row that cannot be meant is left out, with a line on standard error; rows without their video, and videos without
    a row, are counted in a line. Raises `SignerError` where there is no table, it lacks a column, no row has its video,
    or more than half of the rows are left out.
    """
    folder = Path(source)
    there: list[str] = []
    apart: dict[str, list[str]] = {openvid.ABSENT: [], openvid.SPARE: []}
    left_out = LeftOut(folder, "rows")
    for found in openvid.items(folder, "train"):
        if isinstance(found, Item):
            there.append(found.name)
        elif found.reason in apart:
            apart[found.reason].append(found.name)
        else:
            left_out.add(found)
    absent, spare = apart.values()
    total = len(there) + len(absent) + left_out.count
    left_out.end(total)
    if not there:
        raise SignerError(
            f"{openvid.find_table(folder)}: none of its {total} rows names a video that is in "
            f"{folder / openvid.VIDEOS}; extract the archives there"
        )
    if absent:
        left_out.say(
            f"{len(absent)} of {total} rows name a video that is not in {openvid.VIDEOS}/ (the first: {absent[0]})"
        )
    if spare:
        left_out.say(f"{len(spare)} files in {openvid.VIDEOS}/ are in no row of the table (the first: {spare[0]})")
    return there


def _fitted(
    file: Path, sizes: Sequence[Bucket], fps: float, crop: float, enlarge: float
) -> Iterator[UInt8[np.ndarray, "y x 3"]]:
    placed, before, made = None, None, None
    for frame in at_rate(video.timed_frames(file), video.frame_rate(file), fps):
        if placed is None:
            height, width = frame.shape[:2]
            found = plan([Clip(1, height, width)], sizes, crop=crop, enlarge=enlarge)
            if not found.placed:
                (_, *size), *others = sizes
                why, more = next(iter(found.left_over)), " and config.data.other_sizes" if others else ""
                raise SignerError(
                    f"{file}: its frames of {width}x{height} {why} at config.data.size {size[0]},{size[1]}{more}; "
                    f"raise config.data.{'enlarge' if 'enlarged' in why else 'crop'}"
                )
            placed = found.placed[0]
        if frame is not before:
            before, made = frame, fitted(frame[None], placed, sizes[placed.bucket])[0]
        assert made is not None
        yield made
    if placed is None:
        raise SignerError(f"{file}: holds no frame; download it again")


def at_rate(timed: Iterable[tuple[float, np.ndarray]], rate: float, fps: float) -> Iterator[np.ndarray]:
    """`fps` frames a second of `timed` ones (seconds, frame): at each of these times the one that is shown then, the
    last for 1 / `rate` seconds.
    """
    shown, k, end = None, 0, 0.0
    for time, frame in timed:
        while shown is not None and k / fps < time - _SAME_TIME:
            yield shown
            k += 1
        shown, end = frame, time + 1.0 / rate
    while shown is not None and k / fps < end - _SAME_TIME:
        yield shown
        k += 1


def _enough(file: Path, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, as long as they fit into a record."""
    held = 0
    for frame in frames:
        held += frame.nbytes
        if held > _ENOUGH:
            raise SignerError(f"{file}: takes more than {_ENOUGH >> 20} MB at this size and rate; cut it into clips")
        yield frame
