"""Lexicon folders: `index.csv` beside `.pose` files, the convention of spoken-to-signed-translation.

Columns `path,spoken_language,signed_language,start,end,words,glosses,priority`; start and end in milliseconds, end 0 =
the whole file; a lower priority is preferred. That project's own downloader writes end in seconds and an empty
priority; both are read, the empty one as the least preferred. A column `signer` may name who signs.
"""

import csv
import io
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from signer_jax import outside
from signer_jax.errors import SignerError, piled
from signer_jax.pose.entries import LONGEST, NO_PRIORITY, REST, Entry
from signer_jax.pose.sources.common import SHOWN, Cut, Files, as_sign, cut_out
from signer_jax.types import Pose

INDEX = "index.csv"
_NEEDED = ("path", "signed_language", "glosses")
_READ = {*_NEEDED, "spoken_language", "words", "start", "end", "priority", "signer"}
_SHORTEST_SIGN = 100  # milliseconds: a shorter sign means that the row is written in seconds
_MOST_ROWS = 200_000


def read_lexicon(
    folder: str | Path, *, trimmed: bool = True, cut: Cut | None = None
) -> tuple[Iterator[tuple[Entry, Pose]], list[str]]:
    """The lexicon's signs, one after the other: (entry, pose normalised, cleaned and trimmed to the sign).

    A row that cuts its sign out of a file by start or end is left as it is cut; with `trimmed` False all are.
    `cut` counts what trimming took. What is trimmed is measured anew by the frames that are left, so that a lexicon of
    this one's signs has the same signs.
    The gloss is the row's `glosses` (the `words` where that is empty) as written; several rows for one gloss and
    language are its variants, in the file's order. A row that names no readable file, or has a value that cannot be
    meant, is left out and noted in the returned list ("row 28: …"), which is complete once the iterator is exhausted.
    Raises `SignerError` at once where the folder has no readable index.
    """
    folder = Path(folder)
    text, paths = _read_index(folder / INDEX)
    problems: list[str] = []
    return _signs(folder, _rows(text), paths, problems, trimmed, cut or Cut()), problems


def _read_index(file: Path) -> tuple[str, Counter[str]]:
    """The index's text, and how many rows name each file."""
    outside.plain_file(file, f"a lexicon folder has an {INDEX}")
    outside.check_inside(file.parent, (file.name,), "give the folder that it leads to, or copy the file here")
    with outside.reading(file, "divide it"):
        text = _text(file, file.read_bytes())
        return text, Counter(row["path"] for _, row in _rows(text) if isinstance(row, dict))


def _text(file: Path, data: bytes) -> str:
    """The file's text, where it has the columns that are needed, and is a csv of not too many rows to its end."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SignerError(f"{file}: is no UTF-8 csv (byte {error.start}); save it as one") from None
    try:
        header = next(_records(text), [])
        rows = sum(1 for _ in _records(text)) - 1
    except csv.Error as error:
        raise SignerError(f"{file}: is no csv ({error}); save it as one") from None
    if rows > _MOST_ROWS:
        raise SignerError(f"{file}: has {rows} rows, {_MOST_ROWS} at most; divide it")
    columns = [name.strip() for name in header]
    for name in _NEEDED:
        if name not in columns:
            found = ", ".join(columns)[: 3 * SHOWN] or "none"
            raise SignerError(f"{file}: lacks the column {name!r}; it has {found}")
    name, count = Counter(columns).most_common(1)[0]
    if count > 1:
        raise SignerError(f"{file}: has the column {name[:SHOWN]!r} twice; keep one")
    return text


def _records(text: str) -> Iterator[list[str]]:
    """The rows of a csv, one after the other: all of them at once take hundreds of times their bytes."""
    reader = csv.reader(io.StringIO(text, newline=""))
    while True:
        limit = csv.field_size_limit(len(text) + 1)  # a long field is one row's fault, not the file's
        try:
            cells = next(reader, None)
        finally:
            csv.field_size_limit(limit)
        if cells is None:
            return
        yield cells


def _rows(text: str) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Each row's number as a spreadsheet counts, and its cells by column, or what is wrong with it."""
    records = _records(text)
    columns = [name.strip() for name in next(records)]
    for number, cells in enumerate(records, start=2):
        if cells:
            yield number, _row(columns, cells)


def _row(columns: list[str], cells: list[str]) -> dict[str, str] | str:
    if len(cells) > len(columns):
        return f"has {len(cells)} cells where the header has {len(columns)}; quote a cell with a comma"
    # Only the columns that are read: rows of a wide table would take rows times columns of memory.
    filled = zip_longest(columns, cells, fillvalue="")
    row = {name: cell.strip() for name, cell in filled if name in _READ}
    for name, cell in row.items():
        if len(cell) > LONGEST or any(unicodedata.category(character) == "Cc" for character in cell):
            what = f"{len(cell)} characters" if len(cell) > LONGEST else "a line break or control character"
            return f"{name or 'a cell'} has {what}; is a quote missing?"
        if piled(cell):
            return f"{name} piles more than 30 marks on a letter; is it text?"
    return row


def _signs(
    folder: Path,
    rows: Iterator[tuple[int, dict[str, str] | str]],
    paths: Counter[str],
    problems: list[str],
    trimmed: bool,
    cut: Cut,
) -> Iterator[tuple[Entry, Pose]]:
    variants: Counter[tuple[str, str]] = Counter()
    poses = Files(folder, paths)
    for number, row in rows:
        if isinstance(row, str):
            problems.append(f"row {number}: {row}")
            continue
        gloss = row["glosses"] or row.get("words", "")
        language = row["signed_language"]
        try:
            if not gloss or not language:
                raise SignerError("has no gloss or no signed_language")
            if gloss == REST:
                raise SignerError(f"the gloss {REST} is reserved for rest poses; give it another")
            priority = _priority(row)
            whole = poses.read(row["path"])
            times = _time(row, "start"), _time(row, "end")
            start, end = milliseconds(*times)
            cut.seconds += (start, end) != times
            detected = cut_out(row["path"], whole, start, end)
            if round(end / 1000 * whole.fps) > len(whole):
                cut.beyond.append(
                    f"row {number} ({language[:SHOWN]} {gloss[:SHOWN]}): end {end:g} ms lies beyond the "
                    f"{len(whole)} frames of {row['path'][:SHOWN]}; clipped to {len(detected)} frames"
                )
            # From 0 to the file's end or beyond is no cut: published lexicons have the times of the videos from which
            # their files were cut.
            is_whole = start == 0 and len(detected) == len(whole)
            pose, worth = as_sign(detected, trimmed and is_whole, cut)
        except SignerError as error:
            problems.append(f"row {number} ({language[:SHOWN]} {gloss[:SHOWN]}): {error}")
            continue
        variant = variants[gloss, language]
        variants[gloss, language] += 1
        words, spoken = row.get("words", ""), row.get("spoken_language", "")
        entry = Entry(
            gloss, language, row.get("signer", ""), variant=variant, source=row["path"], priority=priority, words=words,
            spoken=spoken, quality=worth,
        )  # fmt: skip
        yield entry, pose


def _number(row: dict[str, str], column: str) -> float:
    text = row.get(column, "")
    try:
        number = float(text) if text else 0.0
    except ValueError:
        raise SignerError(f"{column} {text[:SHOWN]!r} is no number") from None
    if not math.isfinite(number):
        raise SignerError(f"{column} {text[:SHOWN]!r} is not finite")
    return number


def _time(row: dict[str, str], column: str) -> float:
    if (number := _number(row, column)) < 0:
        raise SignerError(f"{column} {number:g} is negative")
    return number


def _priority(row: dict[str, str]) -> int:
    if not row.get("priority"):
        return NO_PRIORITY
    number = _number(row, "priority")
    if abs(number) >= NO_PRIORITY or number != round(number):
        raise SignerError(f"priority {number:g} is no whole number within ±{NO_PRIORITY - 1}")
    return round(number)


def milliseconds(start: float, end: float) -> tuple[float, float]:
    """A row's start and end in milliseconds; a sign of less than 100 ms is taken to be written in seconds."""
    return (start * 1000, end * 1000) if start < end < start + _SHORTEST_SIGN else (start, end)
