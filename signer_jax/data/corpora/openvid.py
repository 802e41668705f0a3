"""OpenVid-1M and OpenVidHD: captioned videos of anything, without poses, from which a renderer learns before it sees
signing (paper, stage 1).

Layout: `OpenVidHD.csv`, `OpenVid-1M.csv` or the only other csv, in the folder or where the release has it, in
`data/train`; of its columns `video` and `caption` are read. The videos that it names lie in `video/`.
`signer prepare openvid` finds its table by this file. It keeps videos as they are encoded and brings them to one size;
here they are decoded once, each at the size that fits it best.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from signer_jax import outside, storage
from signer_jax.data import tables, video
from signer_jax.data.buckets import Bucket, Clip, fitted, plan
from signer_jax.data.corpora.left_out import LeftOut
from signer_jax.data.shards import MOST_BYTES
from signer_jax.errors import SignerError, piled
from signer_jax.types import Sample

_KNOWN = ("OpenVidHD.csv", "OpenVid-1M.csv")
_PLACES = ("", "data/train")
VIDEOS = "video"
COLUMNS = ("video", "caption")
_ENOUGH = MOST_BYTES - (1 << 20)  # of a clip's frames: a record has its caption too
_SAME_TIME = 1e-6  # seconds
_MANY_FRAMES = 9999  # a number as long as a clip's has


class Row(NamedTuple):
    """A video that is there, and what it shows."""

    name: str
    caption: str


def samples(
    source: str | Path, *, sizes: Sequence[tuple[int, int]], fps: float, crop: float, enlarge: float
) -> Iterator[Sample]:  # fmt: skip
    """The videos in the table's order, each of one of the `sizes` (height, width), at `fps` and beside its caption; no
    pose, no language.

    A video keeps its aspect: of the sizes it has the one that cuts off least of it (`buckets.plan`). It is resized
    until it covers that, at most `enlarge` times, and its middle is kept, where at most the share `crop` is cut off.
    Of a video, `fps` frames a second are those that it shows at these times.
    Each is a `signer` of its own: what another one shows says nothing of it. What cannot be read, or fits no
    size, is left out, with a line on standard error. Raises `SignerError` as `rows`, and for more videos than a corpus
    can list, before the first video, and where more than half of them are left out.
    """
    found = rows(source)
    names = [row.name for row in found]
    storage.list_bytes(  # as `records.write` will list them
        {"motions": {"train": [[_MANY_FRAMES, True, name, len(sizes)] for name in names]}, "signers": names},
        f"{source}: the list of its {len(names)} videos", "divide the table, and give each run a part",
    )  # fmt: skip
    return _samples(Path(source) / VIDEOS, found, [Bucket(1, *size) for size in sizes], fps, crop, enlarge)


def _samples(
    folder: Path, found: list[Row], sizes: Sequence[Bucket], fps: float, crop: float, enlarge: float
) -> Iterator[Sample]:
    left_out = LeftOut(folder, "videos", len(found))
    for name, caption in found:
        file = folder / name
        try:
            with outside.reading(file, "cut it into shorter clips"):
                frames = np.stack(list(_enough(file, _fitted(file, sizes, fps, crop, enlarge))))
        except SignerError as error:
            left_out.add(str(error))
            continue
        yield Sample(name, caption, "", (), name, video=frames)
    left_out.end()


def rows(source: str | Path) -> list[Row]:
    """The table's rows whose video is there.

    A row that cannot be meant is left out, with a line on standard error; rows without their video, and videos without
    a row, are counted in a line. Raises `SignerError` where there is no table, it lacks a column, no row has its video,
    or more than half of the rows are left out.
    """
    folder = Path(source)
    table = find_table(folder)
    with outside.reading(table, "divide it"):
        cells = tables.csv_cells(table)
        header = next(cells, (1, "has no header"))[1]
        if isinstance(header, str):
            raise SignerError(f"{table}: its first line {header}; download it again")
        if missing := [column for column in COLUMNS if column not in header]:
            names = ", ".join(header)[:200] or "none"
            raise SignerError(f"{table}: lacks the column {missing[0]!r} (it has {names}); download it again")
        total = sum(1 for _ in cells)
        if not total:
            raise SignerError(f"{table}: holds no row; download it again")
        left_out, where = LeftOut(table, "rows", total), [header.index(column) for column in COLUMNS]
        kept: dict[str, Row] = {}
        absent: list[str] = []
        for line, row in islice(tables.csv_cells(table), 1, None):
            try:
                name, caption = _row(row, len(header), where)
                if name in kept:
                    raise ValueError(f"names {name!r} a second time")
                outside.check_inside(folder / VIDEOS, (name,), "copy it there")
            except (ValueError, SignerError) as error:
                left_out.add(f"line {line} {error}")
                continue
            if (folder / VIDEOS / name).is_file():
                kept[name] = Row(name, caption)
            else:
                absent.append(name)
        left_out.end()
    if not kept:
        raise SignerError(
            f"{table}: none of its {total} rows names a video that is in {folder / VIDEOS}; extract the archives there"
        )
    if absent:
        left_out.say(f"{len(absent)} of {total} rows name a video that is not in {VIDEOS}/ (the first: {absent[0]})")
    there = sum(1 for file in (folder / VIDEOS).iterdir() if file.is_file())
    if there > len(kept):
        left_out.say(f"{there - len(kept)} files in {VIDEOS}/ are in none of the rows that are read")
    return list(kept.values())


def find_table(folder: Path) -> Path:
    mend = "give the folder that holds OpenVidHD.csv and video/"
    there = [file for place in _PLACES for file in sorted((folder / place).glob("*.csv"))]
    known = [file for name in _KNOWN for file in there if file.name == name]
    if not known and len(there) > 1:
        raise SignerError(f"{folder}: has several tables ({', '.join(f.name for f in there)[:200]}); leave one of them")
    if not there:
        raise SignerError(f"{folder}: has no csv; {mend}")
    table = (known or there)[0]
    outside.check_inside(folder, (str(table.relative_to(folder)),), mend)
    if not (folder / VIDEOS).is_dir():
        raise SignerError(f"{folder}: has no folder {VIDEOS}; extract the archives there")
    return outside.plain_file(table, mend)


def _row(cells: list[str] | str, width: int, where: list[int]) -> Row:
    """Raises `ValueError` with what is wrong with the row."""
    if isinstance(cells, str):
        raise ValueError(cells)
    if len(cells) != width:
        raise ValueError(f"has {len(cells)} cells where the header has {width}")
    name, caption = (cells[i].strip() for i in where)
    caption = " ".join(caption.split())
    for column, text in zip(COLUMNS, (name, caption), strict=True):
        if not text:
            raise ValueError(f"has no {column}")
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise ValueError(f"has a {column} that is no UTF-8")
        if any(ord(c) < 32 or ord(c) == 127 for c in text) or piled(text):
            raise ValueError(f"has a {column} with a control character, or more than 30 marks on a letter")
    # A single name of a file: a path would lead elsewhere, on one system or another.
    if name.startswith(".") or len(name.encode()) > 255 or any(c in name for c in '/\\:"'):
        raise ValueError(f"has the video {name[:80]!r}, which is no plain name of a file in {VIDEOS}/")
    return Row(name, caption)


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
