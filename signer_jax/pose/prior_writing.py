"""How a pose database is written: arrays that grow sign by sign, then the index (`entries.py`); its files."""

import fcntl
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Float16

from signer_jax import storage
from signer_jax.arrays import open_npy
from signer_jax.errors import SignerError
from signer_jax.machine_lock import NO_LOCKS
from signer_jax.pose import skeleton
from signer_jax.pose.entries import REST, Entry, arrays_of, check_entry, ranked
from signer_jax.pose.quality import quality
from signer_jax.pose.stitching import resample
from signer_jax.types import Pose

VERSION = 2  # of the folder: see docs/files.md
COORDINATES, CONFIDENCE, INDEX, PROBLEMS = "coordinates.npy", "confidence.npy", "index.json", "problems.json"
ARRAYS = (COORDINATES, CONFIDENCE)
_FAINTEST = np.float16(6e-8)  # the smallest confidence that float16 has: what is seen is not made missing
_CHUNK = 4096  # frames that are copied at once


class Before(NamedTuple):
    """What a database holds that is added to: all its entries, and its arrays."""

    entries: list[Entry]
    coordinates: np.ndarray
    confidence: np.ndarray


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Against others that add to the same database: the second waits, and adds to what the first has made."""
    while True:
        with ExitStack() as stack:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            with suppress(FileNotFoundError):
                # What was there when this one began to wait may have been replaced.
                if not os.path.samestat(os.fstat(descriptor), path.stat()):
                    continue
            yield
            return


class _Growing:
    """A float16 `.npy` file that grows frame by frame: numpy's header leaves room for a longer first axis."""

    def __init__(self, file: BinaryIO, shape: tuple[int, ...]) -> None:
        self.file, self.shape, self.frames = file, shape, 0
        self._header()
        self.start = file.tell()

    def _header(self) -> None:
        description = {"descr": "<f2", "fortran_order": False, "shape": (self.frames, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, description)

    def add(self, values: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(values, "<f2").tobytes())
        self.frames += len(values)

    def finish(self) -> None:
        self.file.seek(0)
        self._header()
        if self.file.tell() != self.start:
            raise ValueError(f"{self.file.name}: numpy's header grew from {self.start} to {self.file.tell()} bytes")


@contextmanager
def _growing(folder: Path, axes: int) -> Iterator[tuple[_Growing, _Growing]]:
    joints = len(skeleton.JOINTS)
    with (folder / COORDINATES).open("wb") as first, (folder / CONFIDENCE).open("wb") as second:
        both = _Growing(first, (joints, axes)), _Growing(second, (joints,))
        yield both
        for one in both:
            one.finish()


def halved(pose: Pose) -> tuple[Float16[np.ndarray, "t j c"], Float16[np.ndarray, "t j"]]:
    """A pose as it is stored: within two shoulder widths of the origin to half a thousandth of one."""
    with np.errstate(over="ignore", under="ignore"):
        coordinates, confidence = pose.coordinates.astype(np.float16), pose.confidence.astype(np.float16)
    return coordinates, np.where(pose.confidence > 0, np.maximum(confidence, _FAINTEST), confidence)


def at_rate(pose: Pose, fps: float) -> Pose:
    """The pose at a frame rate, the same time long."""
    return pose if pose.fps == fps else resample(pose, max(1, round(len(pose) / pose.fps * fps)), fps=fps)


def write_poses(
    folder: Path, entries: Iterable[tuple[Entry, Pose]], fps: float, before: Before | None = None
) -> tuple[list[Entry], int]:
    """Writes the arrays, after those of a database that is added to, and gives the entries with their frames, and the
    number of axes. Raises `SignerError` for a pose of another shape, and what no entry can be.
    """
    signs = iter(entries)
    first = next(signs, None)
    if before is not None:
        axes = before.coordinates.shape[2]
    elif first is not None:
        axes = first[1].coordinates.shape[2]
    else:
        return [], 0
    written: list[Entry] = []
    with _growing(folder, axes) as (coordinates, confidence):
        if before is not None:
            written += before.entries
            whole = [(0, len(before.coordinates))]
            _copy(before.coordinates, before.confidence, whole, (coordinates, confidence))
        while first is not None:
            entry, pose = first
            if pose.coordinates.shape[1:] != (len(skeleton.JOINTS), axes) or not len(pose):
                shape, wanted = list(pose.coordinates.shape), f"[t, {len(skeleton.JOINTS)}, {axes}]"
                raise SignerError(f"prior: {entry.gloss!r} from {entry.source or '?'} has pose {shape}, not {wanted}")
            worth = entry.quality or quality(pose)  # of its own frames, not of those that are made of them
            pose = at_rate(pose, fps)
            start, end = coordinates.frames, coordinates.frames + len(pose)
            entry = replace(entry, start=start, end=end, quality=round(worth, 6))
            try:
                written.append(check_entry(entry))
            except (TypeError, ValueError) as error:
                raise SignerError(f"prior: a sign from {entry.source[:40] or '?'} cannot be kept: {error}") from None
            for growing, values in zip((coordinates, confidence), halved(pose), strict=True):
                growing.add(values)
            first = next(signs, None)
    return written, axes


def _copy(
    coordinates: np.ndarray, confidence: np.ndarray, spans: Iterable[tuple[int, int]], into: tuple[_Growing, _Growing]
) -> None:
    for start, end in spans:
        for at in range(start, end, _CHUNK):
            frames = slice(at, min(end, at + _CHUNK))
            pose = Pose(coordinates[frames], confidence[frames], 1.0)
            for growing, values in zip(into, halved(pose), strict=True):
                growing.add(values)


def preferred(entries: Sequence[Entry], most: int, names: Collection[tuple[str, str]] | None = None) -> list[Entry]:
    """All rest poses, and of each gloss of a language (of these, where `names` are given) the `most` preferred, in the
    order of their frames.
    """
    count: Counter[tuple[str, str]] = Counter()
    kept = []
    for entry in (entries[place] for place in ranked(entries)):
        count[entry.gloss, entry.language] += 1
        bounded = entry.gloss != REST and (names is None or (entry.gloss, entry.language) in names)
        if not bounded or count[entry.gloss, entry.language] <= most:
            kept.append(entry)
    return sorted(kept, key=lambda entry: entry.start)


@dataclass
class Given:
    """What a source gives to a database: its glosses and languages, how many signs are there already, and by their
    first frame what those are now that were told otherwise before.
    """

    names: set[tuple[str, str]] = field(default_factory=set)
    known: int = 0
    changed: dict[int, Entry] = field(default_factory=dict)

    def updated(self, entries: Sequence[Entry]) -> list[Entry]:
        return [self.changed.get(entry.start, entry) for entry in entries]

    def kept(self, entries: Sequence[Entry], most: int | None) -> list[Entry]:
        """All but those of the given glosses beyond the `most` preferred of each."""
        entries = self.updated(entries)
        return entries if most is None else preferred(entries, most, self.names)


def without_others(folder: Path, written: list[Entry], kept: Sequence[Entry], axes: int) -> list[Entry]:
    """Of what was written, the arrays again with the frames of the kept entries alone."""
    if len(kept) == len(written):
        return list(kept)
    for name in ARRAYS:
        (folder / name).rename(folder / f"all-{name}")
    whole = [open_npy(folder / f"all-{name}") for name in ARRAYS]
    with _growing(folder, axes) as growing:
        _copy(whole[0], whole[1], ((entry.start, entry.end) for entry in kept), growing)
    for name in ARRAYS:
        (folder / f"all-{name}").unlink()
    ends = np.cumsum([entry.end - entry.start for entry in kept]).tolist()
    return [
        replace(entry, start=end - (entry.end - entry.start), end=end) for entry, end in zip(kept, ends, strict=True)
    ]


def write_index(
    path: str | Path, partial: Path, entries: Sequence[Entry], axes: int, fps: float,
    problems: Mapping[str, Sequence[str]], fallbacks: Mapping[str, Sequence[str]], isolated: bool,
) -> None:  # fmt: skip
    """Writes what a database has beside its arrays; `problems` by source. Raises `SignerError` for more problems
    than can be read again.
    """
    for name, array in arrays_of(entries).items():
        np.save(partial / name, array)
    about = {"format": VERSION, "fps": fps, "axes": axes, "joints": list(skeleton.JOINTS),
             "isolated": isolated, "fallbacks": fallbacks,
             "problems_of": [[source, len(listed)] for source, listed in problems.items()]}  # fmt: skip
    (partial / INDEX).write_text(storage.to_json(about), encoding="utf-8")
    mend = "divide the source"
    every = [problem for listed in problems.values() for problem in listed]
    storage.write_list(partial / PROBLEMS, every, f"{path}: the list of what was left out", mend)
