"""The pose prior database: what SLP-MoE's experts retrieve from (PAPER 2.3).

On disk a folder: `coordinates.npy` `[frames, 128, c]` and `confidence.npy` `[frames, 128]` (float16, all signs one
after the other at one frame rate), `index.json` (what all signs have in common), `problems.json` (what could not be
taken) and the index (`entries.py`). The arrays are memory-mapped: opening takes milliseconds, and memory that does not
grow with the database. Poses are normalised (origin between the shoulders, shoulder width 1).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from signer_jax import outside, storage
from signer_jax.arrays import open_npy
from signer_jax.errors import SignerError, one_line
from signer_jax.json_files import LISTS, read_json
from signer_jax.pose import entries as index_files
from signer_jax.pose import gloss_marks, skeleton
from signer_jax.pose.entries import NO_PRIORITY, REST, Entry, Index, check_entry, folded
from signer_jax.pose.fingerspelling import are_alike, letters_of
from signer_jax.pose.hints import Near
from signer_jax.pose.prior_writing import (
    ARRAYS,
    CONFIDENCE,
    COORDINATES,
    INDEX,
    PROBLEMS,
    VERSION,
    Before,
    Given,
    alone,
    at_rate,
    halved,
    preferred,
    without_others,
    write_index,
    write_poses,
)  # fmt: skip
from signer_jax.pose.quality import quality
from signer_jax.pose.spoken_languages import beside
from signer_jax.types import Pose

__all__ = ["KIND", "NO_PRIORITY", "REST", "Entry", "Prior"]

KIND = "pose database"
AGAIN = "build it with signer prior build"
# What reading an index or an array that is not whole raises.
_BROKEN = (
    OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, EOFError, OverflowError, RecursionError,
    MemoryError,
)  # fmt: skip
_MOST_RATE = 1000  # frames a second
_OLD = 1  # the version before this one


class Prior:
    """An opened database; make one with `Prior.build` or `Prior.open`."""

    def __init__(
        self, path: Path, index: Index, coordinates: np.ndarray, confidence: np.ndarray, fps: float,
        fallbacks: Mapping[str, Sequence[str]], again: str,
    ) -> None:  # fmt: skip
        self.path, self.fps, self._again, self._index = path, fps, again, index
        self.fallbacks = {code: tuple(others) for code, others in fallbacks.items()}
        self._coordinates, self._confidence = coordinates, confidence
        self._preferred: tuple[str, bool] | None = None  # a signer, and whether before all others
        self._near: dict[str, Near] = {}  # by language

    @classmethod
    def build(
        cls, entries: Iterable[tuple[Entry, Pose]], path: str | Path, fps: float, *, problems: Sequence[str] = (),
        most: int | None = None, fallbacks: Mapping[str, Sequence[str]] | None = None, source: str = "",
        isolated: bool = False,
    ) -> "Prior":  # fmt: skip
        """Writes a database of (entry, normalised pose on the 128 joints), each resampled to `fps`, and opens it.

        Of each gloss of a language the `most` preferred are kept, all where it is None. `fallbacks`: sign language ->
        those whose signs may stand in. `isolated`: see the property. `problems` (what a reader had to leave out of
        `source`) are kept for `info`; they are read after the last entry, so a reader may still be adding to the list.
        The folder appears under its name only when complete, and replaces a database that is there; who adds to that
        meanwhile waits. Raises `SignerError` where there is no sign, a pose does not fit or the path is taken.
        """
        with alone(Path(path)) if Path(path).is_dir() else nullcontext():
            with storage.new_folder(path, KIND) as partial:
                written, axes = write_poses(partial, entries, fps)
                if all(entry.gloss == REST for entry in written):
                    raise SignerError(f"{path}: there is no sign to put into the database{_first(problems)}")
                if most is not None:
                    written = without_others(partial, written, preferred(written, most), axes)
                write_index(path, partial, written, axes, fps, {source: list(problems)}, fallbacks or {}, isolated)
            return cls.open(path)

    @classmethod
    def add(
        cls, entries: Iterable[tuple[Entry, Pose]], path: str | Path, *, problems: Sequence[str] = (),
        most: int | None = None, fallbacks: Mapping[str, Sequence[str]] | None = None, source: str | None = None,
        isolated: bool = False,
    ) -> "Added":  # fmt: skip
        """Adds to a database that is there, at its frame rate, and opens it; the arguments are those of `build`.

        Signs that are there already (the same pose from the same source) are passed over; their words, priority, forms
        and quality become those that are given. `most` bounds the glosses that are given, no others. What is known of a
        `source`'s problems is replaced; without one, problems are added.

        The whole database is written anew beside the old one and takes its place in one step: a kill leaves the old
        one, and the same command goes on. Where nothing changes, nothing is written. Whoever adds at the same time
        waits. A sign whose variant its signer has already is counted on from there.
        """
        storage.check_folder(path, KIND, AGAIN, (INDEX, *ARRAYS))
        with alone(Path(path)):
            old = cls.open(path)
            given = Given()
            signs = old._fresh(entries, given)
            first = next(signs, None)
            before = old._before()
            if first is None:
                problems_of, both = old._problems_with(source, problems), old._fallbacks_with(fallbacks or {})
                kept = given.kept(before.entries, most)
                is_same = not given.changed and len(kept) == len(before.entries)
                if is_same and problems_of == old._problems_of() and both == old.fallbacks:
                    return Added(old, given.known)
            with storage.new_folder(path, KIND) as partial:
                some = () if first is None else chain([first], signs)
                written, axes = write_poses(partial, some, old.fps, before)
                written = given.updated(written)
                kept = given.kept(written, most)
                left_out = len(written) - len(kept)
                written = without_others(partial, written, kept, axes)
                problems_of, both = old._problems_with(source, problems), old._fallbacks_with(fallbacks or {})
                write_index(path, partial, written, axes, old.fps, problems_of, both, old.isolated and isolated)
            return Added(cls.open(path), given.known, len(given.changed), left_out)

    @classmethod
    def open(cls, path: str | Path, again: str = AGAIN) -> "Prior":
        """Opens a database without reading its poses or its list of signs. Raises `SignerError`, which advises `again`,
        where it is missing or damaged; what is damaged within is found when it is asked for.

        One of version 1 (float32, a list in JSON) is read too, and all of its list at once.
        """
        path = storage.check_folder(path, KIND, again, (INDEX, *ARRAYS))
        try:
            about = read_json(path / INDEX, LISTS)
            version, joints = about["format"], about["joints"]
            if version not in (VERSION, _OLD) or joints != list(skeleton.JOINTS):
                raise SignerError(f"{path}: a pose database of another version; {again}")
            coordinates, confidence = open_npy(path / COORDINATES), open_npy(path / CONFIDENCE)
            _check_arrays(coordinates, confidence, np.float16 if version == VERSION else np.float32)
            if version == VERSION:
                storage.check_folder(path, KIND, again, (*index_files.FILES, PROBLEMS))
                index = Index.open(path, len(coordinates))
            else:
                listed = [check_entry(Entry(**one)) for one in about["entries"]]
                index = Index(index_files.arrays_of(listed), len(coordinates))
            fps, fallbacks = float(about["fps"]), _checked(about.get("fallbacks", {}))
            if not 1 <= fps <= _MOST_RATE:
                raise ValueError(f"fps is {fps}")
        except _BROKEN as error:
            raise _damaged(path, error, again) from None
        return cls(path, index, coordinates, confidence, fps, fallbacks, again)

    def __len__(self) -> int:
        return len(self._signs)

    @property
    def entries(self) -> "Entries":
        """All signs, in the order in which they were written."""
        return Entries(self, self._signs)

    @cached_property
    def _signs(self) -> np.ndarray:
        return self._index.signs()

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be taken into the database, a line each."""
        return tuple(dict.fromkeys(problem for listed in self._problems_of().values() for problem in listed))

    @property
    def isolated(self) -> bool:
        """Whether all its signs were recorded each by itself, from rest to rest, and none was cut out of a sentence."""
        with self._reading():
            return read_json(self.path / INDEX, LISTS).get("isolated") is True

    def _problems_of(self) -> dict[str, list[str]]:
        """By source; "" for what nobody said of which it is."""
        with self._reading():
            about = read_json(self.path / INDEX, LISTS)
            listed = about["problems"] if about["format"] == _OLD else read_json(self.path / PROBLEMS, LISTS)
            if not isinstance(listed, list):
                raise ValueError("its problems are no list")
            lines = iter([one_line(str(problem)) for problem in listed])
            found: dict[str, list[str]] = {}
            for source, count in about.get("problems_of", ()):
                found[str(source)] = list(islice(lines, int(count)))
            found.setdefault("", []).extend(lines)
            return {source: problems for source, problems in found.items() if problems}

    def _problems_with(self, source: str | None, problems: Sequence[str]) -> dict[str, list[str]]:
        """With a source's problems in the place of its earlier ones; without a source, beside all others."""
        found = self._problems_of()
        lines = list(map(one_line, problems))
        if source is None:
            there = set(self.problems)
            lines = [*found.get("", ()), *(line for line in dict.fromkeys(lines) if line not in there)]
        found[source or ""] = lines
        return {source: problems for source, problems in found.items() if problems}

    def _fallbacks_with(self, more: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
        both = dict(self.fallbacks)
        for code, others in more.items():
            both[code] = tuple(dict.fromkeys((*both.get(code, ()), *others)))
        return both

    @property
    def languages(self) -> tuple[str, ...]:
        """IANA codes of the sign languages, sorted."""
        return tuple(sorted(self._texts("language")))

    @property
    def signers(self) -> tuple[str, ...]:
        """Sorted; "" among them where some signs have none."""
        return tuple(sorted(self._texts("signer")))

    @cached_property
    def spoken(self) -> dict[str, str]:
        """Code of each sign language -> the spoken language beside it, "" where no lexicon names one (or names two)."""
        pairs, _ = self._pairs("language", "spoken")
        with self._reading():
            beside = [(self._index.text(code), self._index.text(spoken)) for code, spoken in pairs]
        named: dict[str, list[str]] = {code: [] for code, _ in sorted(beside)}
        for code, spoken in beside:
            named[code] += [spoken] if spoken else []
        return {code: names[0] if len(names) == 1 else "" for code, names in named.items()}

    def _pairs(self, one: str, other: str) -> tuple[list[tuple[int, int]], np.ndarray]:
        """The pairs of texts, by their numbers, that two fields have, and how many signs have each."""
        first, second = (self._index.column(name)[self._signs] for name in (one, other))
        wide = int(second.max(initial=0)) + 1
        both, counts = np.unique(first * wide + second, return_counts=True)
        return [divmod(int(pair), wide) for pair in both], counts

    def glosses(self, language: str | None = None) -> tuple[str, ...]:
        """All glosses (of one language), sorted."""
        return tuple(sorted(self._texts("gloss", language)))

    def _texts(self, field: str, language: str | None = None) -> dict[str, int]:
        """The texts that a field has (in one language), and how many signs have each."""
        with self._reading():
            numbers = self._index.column(field)[self._signs]
            if language is not None:
                spoken = self._index.column("language")[self._signs]
                asked = [int(code) for code in np.unique(spoken) if self._index.text(int(code)) == language]
                numbers = numbers[np.isin(spoken, asked)]
            found, counts = np.unique(numbers, return_counts=True)
            return {self._index.text(int(number)): int(count) for number, count in zip(found, counts, strict=True)}

    def variants(self, gloss: str, language: str | None = None) -> list[Entry]:
        """The entries of a gloss, the preferred first: by priority, quality, signer, variant. Empty where there is
        none.

        Where no gloss is spelled so, case is ignored.
        """
        exact = self._of(self._find(index_files.GLOSS, gloss), language)
        return exact or self._of(self._find(index_files.FOLDED, folded(gloss)), language)

    def meanings(self, word: str, language: str | None = None) -> list[Entry]:
        """The entries that mean a word, by what the lexicon says, the preferred first; case is ignored."""
        return self._of(self._find(index_files.MEANING, folded(word)), language)

    def forms(self, word: str, language: str | None = None) -> list[Entry]:
        """The entries of which a word is another form (went of go), by the table beside the source; case is ignored."""
        return self._of(self._find(index_files.FORM, folded(word)), language)

    def unmarked(self, gloss: str, language: str | None = None) -> list[Entry]:
        """The entries whose gloss is this one but for marks (`gloss_marks`), such as PIZZA1A^ for PIZZA, or for
        what stands between a compound's parts, or in which it is one of alternatives.
        """
        return self._of(self._find(index_files.NAME, index_files.bare(gloss)), language)

    def preferring(self, signer: str, *, first: bool = False) -> "Prior":
        """The same database, where a signer's signs come before others of their priority, or `first` of all."""
        other = copy(self)
        other._preferred = (signer, first)
        return other

    def _of(self, entries: Sequence[Entry], language: str | None) -> list[Entry]:
        found = [entry for entry in entries if language in (None, entry.language)]
        if self._preferred is None:
            return found
        signer, first = self._preferred
        return sorted(found, key=lambda one: ((0 if first else one.priority), one.signer != signer))

    def hint(self, word: str, language: str) -> str:
        """As `errors.closest` of a language's glosses."""
        if language not in self._near:
            self._near[language] = Near(self.glosses(language))
        return self._near[language].hint(word)

    def _find(self, kind: str, key: str) -> list[Entry]:
        with self._reading():
            return self._index.find(kind, key)

    def _entry(self, number: int) -> Entry:
        with self._reading():
            return self._index.entry(number)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What is damaged within the index is found where it is read, and said as `open` says it."""
        try:
            yield
        except (OSError, ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
            raise _damaged(self.path, error, self._again) from None

    def pose(self, entry: Entry) -> Pose:
        """The entry's pose: a copy in memory, `[end - start, 128, c]`. Raises `SignerError` for impossible values."""
        return self.poses([entry])[0]

    def poses(self, entries: Sequence[Entry]) -> list[Pose]:
        """`pose` of each, copied and looked at all at once."""
        frames = [slice(entry.start, entry.end) for entry in entries]
        with outside.reading(self.path, "close other programs"):
            coordinates, confidence = (  # of plain views: a slice of numpy's class of mapped files is ten times as dear
                np.concatenate([array[part] for part in frames]).astype(np.float32, copy=False)
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
        found = self._find(index_files.RESTING, signer)
        return next((self.pose(entry) for entry in found if not without or entry.source != without), None)

    def fingerspell(self, word: str, language: str | None = None) -> list[Entry] | None:
        """The preferred entry of each letter and digit of `word` (gloss "#A", else "A"), a sign for several letters
        (SCH) where there is one; None where one is missing.
        """
        found = self.letters(word, language)
        return [entry for _, entry in found] if found else None

    def letters(self, word: str, language: str | None = None) -> list[tuple[str, Entry]] | None:
        """As `fingerspell`, each sign with what it stands for."""
        spoken = self.spoken_beside(language)
        return letters_of(word, lambda letter: self._letter(letter, language, spoken), spoken)

    def spoken_beside(self, language: str | None) -> str:
        """The spoken language beside a sign language, in English; "" where nothing says it."""
        return beside(language, self.spoken.get(language, "")) if language is not None else ""

    def _letter(self, letter: str, language: str | None, spoken: str) -> Entry | None:
        found = self.variants(f"#{letter}", language) or self.variants(letter, language)
        found = found or self.unmarked(letter, language)  # $ALPHA1:L
        # ß and SS are one in lower case, and two letters.
        alike = (one for one in found if are_alike(gloss_marks.shown(one.gloss) or one.gloss, letter, spoken))
        return next(alike, None)

    def info(self) -> dict:
        """What the database holds, as plain values: counts, variants a gloss, seconds, languages, problems."""
        signs, problems = self._signs, self.problems
        _, variants = self._pairs("language", "gloss")
        return {
            "path": str(self.path),
            "entries": len(signs),
            "glosses": len(variants),
            "variants_per_gloss": round(len(signs) / max(1, len(variants)), 3),
            "most_variants": int(variants.max(initial=0)),
            "glosses_of_variants": {str(k): int((variants == k).sum()) for k in np.unique(variants).tolist()},
            "frames": len(self._coordinates),
            "fps": self.fps,
            "isolated": self.isolated,
            "seconds": len(self._coordinates) / self.fps,
            "languages": dict(sorted(self._texts("language").items())),
            "fallbacks": {code: list(others) for code, others in self.fallbacks.items()},
            "signers": sum(map(bool, self._texts("signer"))),  # those that are named
            "quality": round(float(np.median(self._index.column("quality")[signs])) / 1e6, 3) if len(signs) else 0.0,
            "missing_files": sum(problem.endswith("is missing") for problem in problems),
            "problems": list(problems),
        }

    def _fresh(self, entries: Iterable[tuple[Entry, Pose]], given: "Given") -> Iterator[tuple[Entry, Pose]]:
        """The signs that are not there yet, their variants counted on; `given` is told of all."""
        for entry, pose in entries:
            entry = entry if entry.quality else replace(entry, quality=quality(pose))
            pose = at_rate(pose, self.fps)
            given.names.add((entry.gloss, entry.language))
            kind, key = (index_files.RESTING, entry.signer) if entry.gloss == REST else (index_files.GLOSS, entry.gloss)
            there = [
                one for one in self._find(kind, key) if (one.language, one.signer) == (entry.language, entry.signer)
            ]
            same = [one for one in there if one.source == entry.source and one.end - one.start == len(pose)]
            held = next((one for one in same if self._holds(one, pose)), None)
            if held is None:
                first = max((one.variant for one in there), default=-1) + 1
                yield replace(entry, variant=entry.variant + (0 if entry.gloss == REST else first)), pose
                continue
            given.known += 1
            told = {name: getattr(entry, name) for name in ("words", "spoken", "priority", "forms")}
            now = check_entry(replace(held, **told, quality=round(entry.quality, 6)))
            if now != held:
                given.changed[held.start] = now

    def _before(self) -> Before:
        """What a database is begun with that adds to this one: rest poses too, in the order of their frames."""
        numbers = range(len(self._index))
        return Before([self._entry(number) for number in numbers], self._coordinates, self._confidence)

    def _holds(self, entry: Entry, pose: Pose) -> bool:
        frames = slice(entry.start, entry.end)
        theirs = (self._coordinates[frames], self._confidence[frames])
        return all(
            np.array_equal(one.astype(np.float16), other) for one, other in zip(theirs, halved(pose), strict=True)
        )


class Added(NamedTuple):
    """What became of a database to which a source was added."""

    prior: Prior
    known: int  # signs that were there already
    changed: int = 0  # of these, whose words, priority, forms or quality were others
    left_out: int = 0  # signs of the given glosses beyond `most`, old ones among them


class Entries(Sequence[Entry]):
    """The signs of a database, each read when it is asked for."""

    def __init__(self, prior: Prior, numbers: np.ndarray) -> None:
        self._prior, self._numbers = prior, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> Entry: ...

    @overload
    def __getitem__(self, place: slice) -> "Entries": ...

    def __getitem__(self, place: int | slice) -> "Entry | Entries":
        if isinstance(place, slice):
            return Entries(self._prior, self._numbers[place])
        return self._prior._entry(int(self._numbers[place]))


def _damaged(path: Path, error: BaseException, again: str) -> SignerError:
    reason = " ".join(str(error).split())[:100] or type(error).__name__
    return SignerError(f"{path}: the pose database is damaged ({reason}); {again}")


def _checked(fallbacks: dict[str, list[str]]) -> dict[str, list[str]]:
    if any(not isinstance(one, str) for code, others in fallbacks.items() for one in (code, *others)):
        raise TypeError("its fallbacks are no codes")
    return fallbacks


def _check_arrays(coordinates: np.ndarray, confidence: np.ndarray, dtype: type) -> None:
    """Raises `ValueError` unless the two are as `build` writes them."""
    for array, ndim in ((coordinates, 3), (confidence, 2)):
        if array.dtype != dtype or array.ndim != ndim or array.shape[:2] != (len(coordinates), len(skeleton.JOINTS)):
            raise ValueError(f"an array is {array.dtype} {array.shape}")
    if coordinates.shape[2] not in (2, 3):
        raise ValueError(f"coordinates are {coordinates.shape}")


def _first(problems: Sequence[str]) -> str:
    return f" ({len(problems)} problems, the first: {problems[0]})" if problems else "; give a folder that holds some"
