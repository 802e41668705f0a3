"""Lexicon folders: `index.csv` beside `.pose` files, the convention of spoken-to-signed-translation.

Columns `path,spoken_language,signed_language,start,end,words,glosses,priority`; start and end in milliseconds, end 0 =
the whole file. That project's own downloader writes end in seconds and an empty priority; both are read.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.clean import clean
from signer_jax.pose.formats import pose_file
from signer_jax.pose.prior import Entry
from signer_jax.pose.stitching import trim
from signer_jax.types import Pose

_INDEX = "index.csv"
_NEEDED = ("path", "signed_language", "glosses")
_SHORTEST_SIGN = 100  # milliseconds: a shorter sign means that the row is written in seconds
_SHORTEST = 3  # frames


def read_lexicon(folder: str | Path) -> tuple[Iterator[tuple[Entry, Pose]], list[str]]:
    """The lexicon's signs, one after the other: (entry, pose normalised, cleaned and trimmed to the sign).

    The gloss is the row's `glosses` (the `words` where that is empty) as written; several rows for one gloss and
    language are its variants, in the file's order. A row whose file is missing or unreadable is left out and noted in
    the returned list ("row 28: …"), which is complete once the iterator is exhausted.
    Raises `SignerError` at once where the folder has no readable index.
    """
    folder = Path(folder)
    rows = _read_index(folder / _INDEX)
    problems: list[str] = []
    return _signs(folder, rows, problems), problems


def _read_index(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text, restval="")
            rows = [
                {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)} for row in reader
            ]
            columns = reader.fieldnames or ()
    except OSError as error:
        raise SignerError(f"{file}: cannot be read ({error.strerror}); a lexicon folder has an {_INDEX}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SignerError(f"{file}: is no UTF-8 csv ({error}); save it as one") from None
    if missing := [name for name in _NEEDED if name not in columns]:
        raise SignerError(f"{file}: lacks the column {missing[0]!r}; it has {', '.join(columns) or 'none'}")
    return rows


def _signs(folder: Path, rows: list[dict[str, str]], problems: list[str]) -> Iterator[tuple[Entry, Pose]]:
    variants: Counter[tuple[str, str]] = Counter()
    for number, row in enumerate(rows, start=2):  # as a spreadsheet counts: the header is row 1
        gloss = row["glosses"] or row.get("words", "")
        language = row["signed_language"]
        try:
            if not gloss or not language:
                raise SignerError("has no gloss or no signed_language")
            file = _inside(folder, row["path"])
            pose = _sign(file, _number(row, "start"), _number(row, "end"))
            priority = round(_number(row, "priority"))
        except SignerError as error:
            problems.append(f"row {number} ({language} {gloss}): {error}")
            continue
        variant = variants[gloss, language]
        variants[gloss, language] += 1
        yield Entry(gloss, language, variant=variant, source=row["path"], priority=priority), pose


def _inside(folder: Path, name: str) -> Path:
    file = folder / name
    if not name or not file.resolve().is_relative_to(folder.resolve()):
        raise SignerError(f"path {name!r} does not lie in the lexicon's folder")
    if not file.exists():
        raise SignerError(f"{name} is missing")
    return file


def _number(row: dict[str, str], column: str) -> float:
    text = row.get(column, "")
    try:
        return float(text) if text else 0.0
    except ValueError:
        raise SignerError(f"{column} {text!r} is no number") from None


def _sign(file: Path, start: float, end: float) -> Pose:
    pose = pose_file.read(file)
    start, end = milliseconds(start, end)
    first = round(start / 1000 * pose.fps)
    last = min(len(pose), round(end / 1000 * pose.fps)) if end else len(pose)
    if last - first < _SHORTEST:
        raise SignerError(f"{file.name}: {start:g}…{end:g} ms leaves {max(0, last - first)} of its {len(pose)} frames")
    normalised, _, _ = skeleton.normalise(pose.slice(first, last))
    return trim(clean(normalised))


def milliseconds(start: float, end: float) -> tuple[float, float]:
    """A row's start and end in milliseconds; a sign of less than 100 ms is taken to be written in seconds."""
    return (start * 1000, end * 1000) if 0 < end < start + _SHORTEST_SIGN else (start, end)
