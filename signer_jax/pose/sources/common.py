"""What the sources of pose databases share: poses read once, signs cut out of them and trimmed, forms of words."""

import csv
import io
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from signer_jax import outside
from signer_jax.errors import SignerError, piled
from signer_jax.pose import skeleton
from signer_jax.pose.clean import clean
from signer_jax.pose.entries import LONGEST, REST, Entry, folded, names, several
from signer_jax.pose.formats import pose_file
from signer_jax.pose.quality import quality
from signer_jax.pose.stitching import sign_span
from signer_jax.types import Pose

SHOWN = 40  # characters of a name in a problem
FORMS = "forms.csv"
SHORTEST = 3  # frames of a sign
_LEAST = 1e-6  # a quality: 0 would be one that nobody has measured
_LONGEST_SIGN = 600  # seconds: whole stories are shorter
_KEPT_FRAMES = 100_000  # of files that are named again later, about 200 MB


@dataclass
class Cut:
    """How many frames of rest were trimmed off how many signs, which rows end beyond their file ("row 5 (ase A): …"),
    of how many rows start and end were read as seconds, which poses were taken whole though their length is another
    than the source says, and which splits were read of which; complete once the iterator is exhausted.
    """

    signs: int = 0
    frames: int = 0
    beyond: list[str] = field(default_factory=list)
    seconds: int = 0
    whole: list[str] = field(default_factory=list)
    splits: tuple[str, ...] = ()
    of_splits: tuple[str, ...] = ()


class Files:
    """The poses of a folder's files: one that is named again later is kept, within bounds, rather than read again.

    `rows`: how many times each will be asked for; once where it is left out.
    """

    def __init__(self, folder: Path, rows: Counter[str] | None = None) -> None:
        self._folder, self._left = folder, Counter() if rows is None else rows
        self._kept: dict[str, Pose | str] = {}

    def read(self, name: str) -> Pose:
        """A file's pose as it is, by its path from the folder. Raises `SignerError` for none, also the second time."""
        self._left[name] -= 1
        found = self._kept.pop(name, None)
        if found is None:
            try:
                found = pose_file.read(inside(self._folder, name))
            except SignerError as error:
                found = str(error)
        if self._left[name] > 0:
            self._kept[name] = found
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > _KEPT_FRAMES:
                del self._kept[next(iter(self._kept))]
        if isinstance(found, str):
            raise SignerError(found)
        return found


def inside(folder: Path, name: str) -> Path:
    """The place of a file that a source names. Raises `SignerError` for what is missing, or leads out of the folder."""
    file = folder / name
    try:
        if not name or not file.resolve().is_relative_to(folder.resolve()):
            raise SignerError(f"path {name[:SHOWN]!r} does not lie in the source's folder")
        if not file.exists():
            raise SignerError(f"{name[:SHOWN]} is missing")
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise SignerError(f"path {name[:SHOWN]!r} cannot be followed ({type(error).__name__})") from None
    return file


def is_name(value: Any) -> bool:
    """Whether a value of a source's JSON is a text that an entry may have as its gloss or its signer."""
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST or value == REST or piled(value):
        return False
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in value)


def cut_out(name: str, pose: Pose, start: float, end: float) -> Pose:
    """A sign of a file's pose as it was detected, from `start` to `end` milliseconds (0: to its end).

    Raises `SignerError` for one that is too short or too long.
    """
    if 0 < end <= start:
        raise SignerError(f"end {end:g} ms is not after start {start:g} ms")
    first = min(len(pose), round(start / 1000 * pose.fps))
    last = min(len(pose), round(end / 1000 * pose.fps)) if end else len(pose)
    if last - first < SHORTEST:
        until = f"{end:g}" if end else "the end"
        raise SignerError(f"{name}: {start:g} ms to {until} leaves {max(0, last - first)} of its {len(pose)} frames")
    if (last - first) / pose.fps > _LONGEST_SIGN:
        raise SignerError(
            f"{name}: lasts {(last - first) / pose.fps:.0f} s, a sign at most {_LONGEST_SIGN}; give start and end"
        )
    return pose.slice(first, last)


def measured(pose: Pose) -> Pose:
    """Normalised and cleaned. Raises `SignerError` where nobody's shoulders are to be seen."""
    return clean(skeleton.normalise(pose)[0])


def as_sign(detected: Pose, trimmed: bool, cut: Cut) -> tuple[Pose, float]:
    """Normalised and cleaned, the sign alone where it is to be `trimmed`, and how good a recording it is, told before
    anything was mended.

    What is trimmed is measured by its own frames, which may move the bound of the rest: until that cuts no more.
    A sign that would be too short for a lexicon, or show no shoulders, is left as it is. `cut` counts what goes.
    Raises `SignerError` where nobody's shoulders are to be seen.
    """
    pose, first, last = measured(detected), 0, len(detected)
    while trimmed and (span := sign_span(pose)) != (0, len(pose)) and span[1] - span[0] >= SHORTEST:
        try:
            pose = measured(pose.slice(*span))
        except SignerError:
            break
        first, last = first + span[0], first + span[1]
    cut.signs += len(pose) < len(detected)
    cut.frames += len(detected) - len(pose)
    worth = quality(skeleton.normalise(detected.slice(first, last))[0])
    return pose, max(worth, _LEAST)


def with_forms(signs: Iterable[tuple[Entry, Pose]], folder: Path, problems: list[str]) -> Iterator[tuple[Entry, Pose]]:
    """The signs with the other forms of their words, by the table `forms.csv` of the source's folder, where it has one.

    Its columns `form,lemma` say that a form (went) is one of a word (go): of a gloss, without marks and case, or of
    what the source says that a sign means. What is not read is noted in `problems`.
    """
    table = folder / FORMS
    forms = _read_forms(table, problems) if table.exists() else {}
    for entry, pose in signs:
        words = dict.fromkeys((*map(folded, names(entry.gloss)), *several(entry.words)))
        found = list(dict.fromkeys(form for word in words for form in forms.get(word, ())))
        while len(text := ", ".join(found)) > LONGEST:
            problems.append(f"{FORMS}: {found.pop()[:SHOWN]!r} is a form too many of {entry.gloss[:SHOWN]}")
        yield (replace(entry, forms=text) if text else entry), pose


def _read_forms(table: Path, problems: list[str]) -> dict[str, list[str]]:
    """The forms of each word, both folded."""
    outside.check_inside(table.parent, (table.name,), "copy the file here")
    with outside.reading(outside.plain_file(table, "give a csv with the columns form,lemma"), "divide it"):
        try:
            rows = list(csv.reader(io.StringIO(table.read_text(encoding="utf-8-sig"), newline="")))
        except (UnicodeDecodeError, csv.Error) as error:
            raise SignerError(f"{table}: is no UTF-8 csv ({outside.reason_of(error)}); save it as one") from None
    if not rows or [cell.strip() for cell in rows[0]] != ["form", "lemma"]:
        raise SignerError(f"{table}: its columns are not form,lemma; give it this header")
    forms: dict[str, list[str]] = defaultdict(list)
    for number, row in enumerate(rows[1:], start=2):
        form, lemma = (folded(cell) for cell in row) if len(row) == 2 else ("", "")
        if form and lemma and not piled(form) and not set(",;|") & set(form):
            forms[lemma].append(form)
        elif row:
            problems.append(f"{FORMS}, row {number}: is no form and its lemma")
    return forms
