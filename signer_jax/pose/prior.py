"""The pose prior database: what SLP-MoE's experts retrieve from (PAPER 2.3).

On disk a folder of three files: `coordinates.npy` `[frames, 128, c]` and `confidence.npy` `[frames, 128]` (float32, all
signs one after the other at one frame rate, memory-mapped when read) and `index.json` (which frames belong to which
entry). Poses are normalised (origin between the shoulders, shoulder width 1).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from signer_jax import outside, storage
from signer_jax.arrays import open_npy
from signer_jax.errors import SignerError, one_line, piled
from signer_jax.json_files import LISTS, read_json
from signer_jax.pose import gloss_marks, skeleton
from signer_jax.pose.stitching import resample
from signer_jax.types import Pose
from signer_jax.writing import plain

KIND = "pose database"
# What reading an index or an array that is not whole raises.
_BROKEN = (
    OSError, ValueError, TypeError, KeyError, AttributeError, EOFError, OverflowError, RecursionError, MemoryError,
)  # fmt: skip
_MOST_RATE = 1000  # frames a second
REST = "<rest>"  # the gloss of a signer's rest pose: one frame, from which and to which a sentence moves
LONGEST = 500  # characters of an entry's text
NO_PRIORITY = 1_000_000  # of an entry that has none: after all that have one
_BETWEEN_PARTS = re.compile(r"[-_+^\s]+")  # of a compound: ICE_CREAM, ICE-CREAM, ICE CREAM
_BETWEEN_MEANINGS = re.compile(r"[,;|]")
_FORMAT = 1
_COORDINATES, _CONFIDENCE, _INDEX = "coordinates.npy", "confidence.npy", "index.json"


@dataclass(frozen=True)
class Entry:
    """One way to sign a gloss. `start` (included) and `end` (excluded) are frames of the database, set by `build`.

    `language` is the IANA code of the sign language; `variant` counts the ways to sign a gloss from 0; a lower
    `priority` is preferred; `source` says where the pose came from. `words` are what the sign means, separated by
    commas, in the spoken language `spoken` (as the lexicon names it).
    """

    gloss: str
    language: str
    signer: str = ""
    start: int = 0
    end: int = 0
    variant: int = 0
    source: str = ""
    priority: int = 0
    words: str = ""
    spoken: str = ""


class Prior:
    """An opened database; make one with `Prior.build` or `Prior.open`."""

    def __init__(
        self, path: Path, entries: Sequence[Entry], coordinates: np.ndarray, confidence: np.ndarray, fps: float,
        problems: Sequence[str],
    ) -> None:  # fmt: skip
        self.path, self.fps, self.problems = path, fps, tuple(problems)
        self.entries = tuple(entry for entry in entries if entry.gloss != REST)
        self._rest: dict[str, list[Entry]] = defaultdict(list)
        for entry in sorted(entries, key=lambda entry: entry.priority):
            if entry.gloss == REST:
                self._rest[entry.signer].append(entry)
        self._coordinates, self._confidence = coordinates, confidence
        self._by_gloss: dict[str, list[Entry]] = defaultdict(list)
        self._by_folded: dict[str, list[Entry]] = defaultdict(list)
        self._by_name: dict[str, list[Entry]] = defaultdict(list)
        self._by_meaning: dict[str, list[Entry]] = defaultdict(list)
        for entry in sorted(self.entries, key=lambda entry: (entry.priority, entry.signer, entry.variant)):
            self._by_gloss[entry.gloss].append(entry)
            self._by_folded[_folded(entry.gloss)].append(entry)
            for name in dict.fromkeys(map(_bare, _names(entry.gloss))):
                self._by_name[name].append(entry)
            for meaning in filter(None, map(_folded, _BETWEEN_MEANINGS.split(entry.words))):
                self._by_meaning[meaning].append(entry)

    @classmethod
    def build(
        cls, entries: Iterable[tuple[Entry, Pose]], path: str | Path, fps: float, *, problems: Sequence[str] = ()
    ) -> "Prior":
        """Writes a database of (entry, normalised pose on the 128 joints), each resampled to `fps`, and opens it.

        `problems` (what a reader had to leave out) are kept for `info`; they are read after the last entry, so a reader
        may still be adding to the list. The folder appears under its name only when complete, and replaces a database
        that is there. Raises `SignerError` where there is no sign, a pose does not fit or the path is taken.
        """
        with storage.new_folder(path, KIND) as partial:
            written, axes = _write_poses(partial, entries, fps)
            if all(entry.gloss == REST for entry in written):
                raise SignerError(f"{path}: there is no sign to put into the database{_first(problems)}")
            index = {
                "format": _FORMAT, "fps": fps, "axes": axes, "joints": list(skeleton.JOINTS),
                "entries": [asdict(entry) for entry in written], "problems": list(problems),
            }  # fmt: skip
            storage.write_list(partial / _INDEX, index, f"{path}: the list of its signs", "divide the lexicon")
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, again: str = "build it with signer prior build") -> "Prior":
        """Opens a database without reading its poses. Raises `SignerError`, which advises `again`, where it is missing
        or damaged.
        """
        path = storage.check_folder(path, KIND, again, (_COORDINATES, _CONFIDENCE, _INDEX))
        try:
            index = read_json(path / _INDEX, LISTS)
            if index["format"] != _FORMAT or index["joints"] != list(skeleton.JOINTS):
                raise SignerError(f"{path}: a pose database of another version; {again}")
            coordinates, confidence = open_npy(path / _COORDINATES), open_npy(path / _CONFIDENCE)
            entries = [_entry(entry) for entry in index["entries"]]
            _check_arrays(coordinates, confidence, entries)
            fps, problems = float(index["fps"]), [one_line(str(problem)) for problem in index["problems"]]
            if not 1 <= fps <= _MOST_RATE:
                raise ValueError(f"fps is {fps}")
        except _BROKEN as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise SignerError(f"{path}: the pose database is damaged ({reason}); {again}") from None
        return cls(path, entries, coordinates, confidence, fps, problems)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def languages(self) -> tuple[str, ...]:
        """IANA codes of the sign languages, sorted."""
        return tuple(sorted({entry.language for entry in self.entries}))

    @property
    def spoken(self) -> dict[str, str]:
        """Code of each sign language -> the spoken language beside it, "" where no lexicon names one (or names two)."""
        beside: dict[str, set[str]] = {code: set() for code in self.languages}
        for entry in self.entries:
            beside[entry.language].add(entry.spoken)
        return {code: next(iter(names)) if len(names) == 1 else "" for code, names in beside.items()}

    def glosses(self, language: str | None = None) -> tuple[str, ...]:
        """All glosses (of one language), sorted."""
        return tuple(sorted({entry.gloss for entry in self.entries if language in (None, entry.language)}))

    def variants(self, gloss: str, language: str | None = None) -> list[Entry]:
        """The entries of a gloss, the preferred first: by priority, signer, variant. Empty where there is none.

        Where no gloss is spelled so, case is ignored.
        """
        return _of(self._by_gloss.get(gloss), language) or _of(self._by_folded.get(_folded(gloss)), language)

    def meanings(self, word: str, language: str | None = None) -> list[Entry]:
        """The entries that mean a word, by what the lexicon says, the preferred first; case is ignored."""
        return _of(self._by_meaning.get(_folded(word)), language)

    def unmarked(self, gloss: str, language: str | None = None) -> list[Entry]:
        """The entries whose gloss is this one but for marks (`gloss_marks`), such as PIZZA1A^ for PIZZA, or for
        what stands between a compound's parts, or in which it is one of alternatives.
        """
        return _of(self._by_name.get(_bare(gloss)), language)

    def pose(self, entry: Entry) -> Pose:
        """The entry's pose: a copy in memory, `[end - start, 128, c]`. Raises `SignerError` for impossible values."""
        return self.poses([entry])[0]

    def poses(self, entries: Sequence[Entry]) -> list[Pose]:
        """`pose` of each, copied and looked at all at once."""
        frames = [slice(entry.start, entry.end) for entry in entries]
        with outside.reading(self.path, "close other programs"):
            coordinates, confidence = (  # of plain views: a slice of numpy's class of mapped files is ten times as dear
                np.concatenate([array[part] for part in frames])
                for array in map(np.asarray, (self._coordinates, self._confidence))
            )
            whole = Pose(coordinates, confidence, self.fps)
        first, found = 0, []
        for entry in entries:
            found.append(whole.slice(first, first := first + entry.end - entry.start))
        for entry, pose in zip(entries, found, strict=True) if skeleton.fault(whole) else ():
            if fault := skeleton.fault(pose):
                raise SignerError(
                    f"{self.path}: the pose database is damaged ({entry.gloss[:40]!r} from frame {entry.start}: "
                    f"{fault}); build it again"
                )
        return found

    def rest(self, signer: str, *, without: str = "") -> Pose | None:
        """A signer's preferred rest pose, one frame; None where the database has none of this signer.

        Those whose `source` is `without` are left out.
        """
        found = (entry for entry in self._rest.get(signer, ()) if not without or entry.source != without)
        return next((self.pose(entry) for entry in found), None)

    def fingerspell(self, word: str, language: str | None = None) -> list[Entry] | None:
        """The preferred entry of each letter and digit of `word` (gloss "#A", else "A"); None where one is missing."""
        letters = [letter for letter in word.upper() if letter.isalnum()]
        found = [self.variants(f"#{letter}", language) or self.variants(letter, language) for letter in letters]
        return [variants[0] for variants in found] if found and all(found) else None

    def info(self) -> dict:
        """What the database holds, as plain values: counts, variants a gloss, seconds, languages, problems."""
        variants = Counter((entry.language, entry.gloss) for entry in self.entries)
        return {
            "path": str(self.path),
            "entries": len(self.entries),
            "glosses": len(variants),
            "variants_per_gloss": len(self.entries) / max(1, len(variants)),
            "most_variants": max(variants.values(), default=0),
            "frames": len(self._coordinates),
            "fps": self.fps,
            "seconds": len(self._coordinates) / self.fps,
            "languages": dict(sorted(Counter(entry.language for entry in self.entries).items())),
            "signers": len({entry.signer for entry in self.entries}),
            "problems": list(self.problems),
        }


def _folded(text: str) -> str:
    return plain(text).casefold().strip()


def _bare(gloss: str) -> str:
    return _BETWEEN_PARTS.sub("-", _folded(gloss))


def _names(gloss: str) -> list[str]:
    """What else a gloss may be asked for as."""
    whole = plain(gloss).strip()
    return [name for one in (whole, *gloss_marks.alternatives(whole)) for name in (one, *gloss_marks.names(one))]


def _of(entries: Sequence[Entry] | None, language: str | None) -> list[Entry]:
    return [entry for entry in entries or () if language in (None, entry.language)]


class _Growing:
    """A float32 `.npy` file that grows frame by frame: numpy's header leaves room for a longer first axis."""

    def __init__(self, file: BinaryIO, shape: tuple[int, ...]) -> None:
        self.file, self.shape, self.frames = file, shape, 0
        self._header()
        self.start = file.tell()

    def _header(self) -> None:
        description = {"descr": "<f4", "fortran_order": False, "shape": (self.frames, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, description)

    def add(self, values: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(values, "<f4").tobytes())
        self.frames += len(values)

    def finish(self) -> None:
        self.file.seek(0)
        self._header()
        if self.file.tell() != self.start:
            raise ValueError(f"{self.file.name}: numpy's header grew from {self.start} to {self.file.tell()} bytes")


def _write_poses(folder: Path, entries: Iterable[tuple[Entry, Pose]], fps: float) -> tuple[list[Entry], int]:
    written: list[Entry] = []
    axes = 0
    with (folder / _COORDINATES).open("wb") as first, (folder / _CONFIDENCE).open("wb") as second:
        coordinates = confidence = None
        for entry, pose in entries:
            if coordinates is None or confidence is None:
                axes = pose.coordinates.shape[2]
                coordinates = _Growing(first, (len(skeleton.JOINTS), axes))
                confidence = _Growing(second, (len(skeleton.JOINTS),))
            if pose.coordinates.shape[1:] != (len(skeleton.JOINTS), axes) or not len(pose):
                shape, wanted = list(pose.coordinates.shape), f"[t, {len(skeleton.JOINTS)}, {axes}]"
                raise SignerError(f"prior: {entry.gloss!r} from {entry.source or '?'} has pose {shape}, not {wanted}")
            pose = pose if pose.fps == fps else resample(pose, max(1, round(len(pose) / pose.fps * fps)), fps=fps)
            written.append(replace(entry, start=coordinates.frames, end=coordinates.frames + len(pose)))
            coordinates.add(pose.coordinates)
            confidence.add(pose.confidence)
        if coordinates is not None and confidence is not None:
            coordinates.finish()
            confidence.finish()
    return written, axes


def _entry(values: dict) -> Entry:
    """An entry as the index has it, every field of its type."""
    entry = Entry(**values)
    for field in fields(Entry):
        if type(getattr(entry, field.name)) is not type(field.default if field.default is not MISSING else ""):
            raise TypeError(f"{field.name} of an entry is {getattr(entry, field.name)!r}")
    texts = [value for value in vars(entry).values() if isinstance(value, str)]
    "".join(texts).encode()  # JSON may hold half characters
    if max(map(len, texts)) > LONGEST:
        raise ValueError(f"{entry.gloss[:20]!r} has a text of more than {LONGEST} characters")
    if any(map(piled, texts)):
        raise ValueError(f"{entry.gloss[:20]!r} piles more than 30 marks on a letter")
    return entry


def _check_arrays(coordinates: np.ndarray, confidence: np.ndarray, entries: Sequence[Entry]) -> None:
    """Raises `ValueError` unless the entries follow one another over exactly the frames that are there."""
    frames = 0
    for entry in entries:
        if entry.start != frames or entry.end <= frames:
            raise ValueError(f"{entry.gloss!r} has frames {entry.start} to {entry.end} where {frames} comes next")
        frames = entry.end
    for array, shape in ((coordinates, (frames, len(skeleton.JOINTS))), (confidence, (frames, len(skeleton.JOINTS)))):
        if array.dtype != np.float32 or array.shape[:2] != shape:
            raise ValueError(f"an array is {array.dtype} {array.shape} where the index names float32 {shape}")
    if confidence.ndim != 2 or coordinates.ndim != 3 or coordinates.shape[2] not in (2, 3):
        raise ValueError(f"coordinates are {coordinates.shape}, confidence {confidence.shape}")


def _first(problems: Sequence[str]) -> str:
    return f" ({len(problems)} problems, the first: {problems[0]})" if problems else "; give a folder that holds some"
