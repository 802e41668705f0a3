"""What the datasets' readers share: their splits' names, the files that a table names, and what is left out of one."""

import errno
import math
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from signer_jax import outside
from signer_jax.data.datasets.item import Left, Seconds, composed
from signer_jax.data.tables import Row
from signer_jax.errors import SignerError, Trouble, closest, one_line, piled

SPLITS = ("train", "dev", "test")
VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v")
PICTURES = (".png", ".jpg", ".jpeg")
_OTHER_NAMES = {"val": "dev", "valid": "dev", "validation": "dev", "training": "train"}
# From a root or a home, up, by a drive, or with what parts paths or ends names elsewhere.
_ABROAD = re.compile(r"^[/~]|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)|[\\\0]")


class Lacking(Exception):
    """A row has not what it names: the reason, in the same few words for all of a kind, and a detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail

    def or_rather(self, other: "Lacking") -> "Lacking":
        """The other one where it says more than that something is not there."""
        return self if other.absent else other

    @property
    def absent(self) -> bool:
        return self.reason.startswith("no ")


class Names:
    """The names that a dataset has given so far: each once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def new(self, name: str) -> str:
        """The name in Unicode's composed form (NFC). Raises `Lacking` for none, and for one that was there."""
        name = composed(name)
        if not name:
            raise Lacking("no name")
        if name in self._seen:
            raise Lacking("named twice")
        self._seen.add(name)
        return name

    def mark(self, name: str) -> None:
        """That a row names this, though it is left out."""
        self._seen.add(composed(name))

    def __contains__(self, name: str) -> bool:
        return composed(name) in self._seen


def our_split(name: str) -> str:
    """train, dev or test for what others call val, valid or validation; another name as it is."""
    return _OTHER_NAMES.get(name.lower(), name.lower() if name.lower() in SPLITS else name)


def is_media(name: str) -> bool:
    """Whether a file of a dataset, by its place in the folder, is a video, a picture or a pose: what a listing asks the
    name and the size of alone.
    """
    in_folder = (".json",) if "/" in name else ()  # poses of a frame; at the top WLASL's tables
    return name.lower().endswith((*VIDEOS, *PICTURES, ".pose", ".npz", ".npy", *in_folder))


def in_order(splits: Iterable[str]) -> list[str]:
    """train, dev, test, and others by their names."""
    return sorted(set(splits), key=lambda split: (SPLITS.index(split) if split in SPLITS else len(SPLITS), split))


def check_split(split: str, known: Sequence[str], source: Path) -> None:
    if split not in known:
        raise SignerError(f"{source}: has no split {split!r}{closest(split, known)}; it has {', '.join(known)}")


def check_folder(source: str | Path) -> Path:
    """The folder. Raises `SignerError` where there is none."""
    folder = Path(source)
    if not outside.is_folder(folder):
        raise SignerError(f"{folder}: is no folder; give the one that holds the dataset")
    return folder


def first_there(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of the places in the folder that is there, and in it."""
    for name in names:
        if outside.is_there(folder / name):
            outside.check_inside(folder, (name,), "give the folder that it leads to, or copy it here")
            return folder / name
    return None


def inside(folder: Path, name: str) -> Path:
    """The place of what a table names in a folder, as the disk spells it.

    Raises `Lacking` where it leads out of it. As all here that look at a disk it raises `Trouble` where that is in the
    way: it would be as if a sample were not there.
    """
    if not name:
        raise Lacking("no name")
    if _ABROAD.search(name) or piled(name):
        raise Lacking("path out of the folder", one_line(name[:200]))
    forms = (name,) if name.isascii() else (name, composed(name), unicodedata.normalize("NFD", name))
    for form in forms:
        try:
            there = os.lstat(path := os.path.join(folder, form))
            break
        except OSError as error:
            outside.check_lasting(path, error)
        except ValueError:
            pass
    else:
        return folder / name
    if "/" not in form and not stat.S_ISLNK(there.st_mode):  # as nearly every one; what follows asks for each folder
        return folder / form
    try:
        outside.check_inside(folder, (form,), "copy it here")
    except Trouble:
        raise
    except SignerError as error:
        raise Lacking("path out of the folder", str(error)) from None
    return folder / form


def file_of(folder: Path, names: Iterable[str], what: str) -> Path:
    """The first of the named files that holds something. Raises `Lacking`."""
    lacking = Lacking(f"no {what}")
    for name in names:
        path = inside(folder, name)
        try:
            status = path.stat()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
                continue
            outside.check_lasting(path, error)
            lacking = Lacking(f"unreadable {what}", f"{name}: {outside.reason_of(error)}")
            continue
        plain = stat.S_ISREG(status.st_mode)
        if plain and status.st_size:
            return path
        lacking = Lacking(f"empty {what}" if plain else f"{what} is no file", name)
    raise lacking


def folder_of(folder: Path, names: Iterable[str], endings: Sequence[str], what: str) -> Path:
    """The first of the named folders that holds a file of one of the endings. Raises `Lacking`."""
    lacking = Lacking(f"no {what}")
    for name in names:
        path = inside(folder, name)
        if outside.is_folder(path):
            try:
                if holds(path, endings):
                    return path
            except OSError as error:
                outside.check_lasting(path, error)
                lacking = Lacking(f"unreadable {what}", f"{name}: {outside.reason_of(error)}")
            else:
                lacking = Lacking(f"empty {what}", name)
    raise lacking


def recording_of(folder: Path, name: str, places: Iterable[str]) -> Path:
    """A recording's folder of frames at one of the places, or its video. Raises `Lacking`."""
    try:
        return folder_of(folder, places, PICTURES, "folder of frames")
    except Lacking as lacking:
        try:
            return file_of(folder, [name + ending for ending in VIDEOS], "video file")
        except Lacking as other:
            raise lacking.or_rather(other) from None


def holds(folder: Path, endings: Sequence[str]) -> bool:
    """Whether the folder has a file of one of the endings; it is not listed further than to the first. Raises `OSError`
    where it cannot be listed.
    """
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(tuple(endings)) for entry in entries)


def seconds_of(start: str, end: str) -> Seconds:
    """From, to: an empty start is 0, an empty end the end. An end beyond the video's is for who decodes it to judge.
    Raises `Lacking`."""
    try:
        first, last = float(start or 0), float(end) if end else None
    except ValueError:
        raise Lacking("start or end is no number", f"{start[:40]}, {end[:40]}") from None
    if not 0 <= first < math.inf or (last is not None and not math.isfinite(last)):
        raise Lacking("start or end is no time", f"{start[:40]}, {end[:40]}")
    if last is not None and last <= first:
        raise Lacking("end before start", f"{start[:40]}, {end[:40]}")
    return first, last


def left(row: Row, split: str, file: Path, lacking: Lacking | None = None, name: str = "") -> Left:
    """What becomes of a row that cannot be given."""
    reason, detail = (lacking.reason, lacking.detail) if lacking else (row.fault, row.detail)
    return Left(one_line(name[:200]) or f"line {row.line}", split, reason, place(file, row.line), one_line(detail))


def lost(name: str, split: str, lacking: Lacking, where: str) -> Left:
    """What becomes of something that is there, in no row of a table."""
    return Left(one_line(name[:200]) or "?", split, lacking.reason, one_line(where), one_line(lacking.detail))


def place(file: Path, line: int) -> str:
    return f"{file.name}, line {line}"
