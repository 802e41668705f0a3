"""Tables that others made, row by row in constant memory: csv with quotes, and delimited lines without.

A row that cannot be meant comes with what is wrong with it, in the same few words for all of a kind; only a table
without its header or a column is refused as a whole.
"""

import csv
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from signer_jax import outside
from signer_jax.errors import SignerError, piled

LONGEST = 100_000  # characters of a cell
_LONGEST_LINE = 20 * LONGEST
_PIECE = 1 << 16
_CUTS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


class Row(NamedTuple):
    """The cells of the columns that were asked for, without spaces around them; with a fault there may be none."""

    line: int  # where it ends
    cells: dict[str, str]
    fault: str = ""
    detail: str = ""


def rows(file: Path, needs: Sequence[str], may_have: Sequence[str] = (), *, delimiter: str = "") -> Iterator[Row]:
    """The table's rows: lines cut at the delimiter, quotes being letters as others; without one, csv, where white space
    within a cell becomes one space.

    Raises `SignerError`, before the first row, where the file cannot be read, has no header or no row, or lacks a
    column that it needs, or all of those that it may have.
    """
    file = outside.plain_file(file, "give the folder that holds it")
    found = _cut(file, delimiter) if delimiter else csv_cells(file)
    header = _header(file, found)
    if len(header) == 1 and not {*header} & {*needs, *may_have}:
        own = delimiter or ","
        if other := next((cut for cut in _CUTS if cut != own and cut in header[0]), ""):
            raise SignerError(f"{file}: is cut by {_CUTS[other]}, and {_CUTS[own]} are needed; save it with these")
    if missing := [column for column in needs if column not in header]:
        names = ", ".join(header)[:200] or "none"
        raise SignerError(f"{file}: lacks the column {missing[0]!r} (it has {names}); download it again")
    if twice := [column for column in {*needs, *may_have} if header.count(column) > 1]:
        raise SignerError(f"{file}: has the column {twice[0]!r} twice; remove one of them")
    where = {column: header.index(column) for column in (*needs, *may_have) if column in header}
    if not where:
        raise SignerError(f"{file}: has none of the columns {', '.join(may_have)}; name them in its first line")
    with outside.reading(file, "divide it"):
        first = next(found, None)
    if first is None:
        raise SignerError(f"{file}: holds no row; download it again")
    return _rows(file, chain([first], found), where, len(header), quoted=not delimiter)


def columns(file: Path) -> list[str]:
    """The names in the first line of a csv. Raises `SignerError` as `rows`."""
    return _header(file, csv_cells(outside.plain_file(file, "give the folder that holds it")))


def _header(file: Path, found: Iterator[tuple[int, list[str] | str]]) -> list[str]:
    with outside.reading(file, "divide it"):
        _, header = next(found, (1, "it is empty"))
        if isinstance(header, str):
            raise SignerError(f"{file}: has no header ({header}); download it again")
        if any(fault_of(cell) == "no UTF-8" for cell in header):
            raise SignerError(f"{file}: its first line is no UTF-8 text; download it again")
    return [cell.strip() for cell in header]


def _rows(
    file: Path, found: Iterator[tuple[int, list[str] | str]], where: dict[str, int], width: int, *, quoted: bool
) -> Iterator[Row]:
    with outside.reading(file, "divide it"):
        for line, cells in found:
            if isinstance(cells, str):
                yield Row(line, {}, "unreadable row", cells)
            elif len(cells) != width:
                fault = "row cut short" if len(cells) < width else "too many cells"
                yield Row(line, {}, fault, f"{len(cells)} cells where the header has {width}")
            else:
                picked = {column: cells[i] for column, i in where.items()}
                picked = {column: " ".join(c.split()) if quoted else c.strip() for column, c in picked.items()}
                faults = [(fault, column) for column, cell in picked.items() if (fault := fault_of(cell))]
                fault, column = faults[0] if faults else ("", "")
                yield Row(line, picked, fault, f"in {column}" if fault else "")


def fault_of(text: str) -> str:
    """Why a text cannot be meant, in a few words; "" where it can."""
    if len(text) > LONGEST:
        return "too long a text"
    if text.isascii() and text.isprintable():
        return ""
    if any("\ud800" <= c <= "\udfff" for c in text):  # so does what is no UTF-8 come
        return "no UTF-8"
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        return "control character"
    return "more than 30 marks on a letter" if piled(text) else ""


def csv_cells(file: Path) -> Iterator[tuple[int, list[str] | str]]:
    """The line at which each row ends, and its cells; what is wrong with it, of one that is no csv. What is no UTF-8
    comes as lone surrogates.
    """
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as opened:
        reader = csv.reader(opened, strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, f"is no csv ({error})"
                continue
            if row:
                yield reader.line_num, row


def lines(file: Path, *, end: str | None = "\n") -> Iterator[str]:
    """Each line, blank ones too, without its end: only a line feed ends one, as only that does in parallel files; with
    None a carriage return does too. Of a line that is longer than any text its beginning comes, which `fault_of`
    refuses. What is no UTF-8 comes as lone surrogates.
    """
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline=end) as opened:
        while line := opened.readline(_LONGEST_LINE):
            rest = line
            while not rest.endswith("\n") and (rest := opened.readline(_LONGEST_LINE)):
                pass
            yield line.rstrip("\n").removesuffix("\r")


def _cut(file: Path, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    for number, line in enumerate(lines(file, end=None), start=1):
        if len(line) >= _LONGEST_LINE - 1:
            yield number, f"it has more than {_LONGEST_LINE} characters"
        elif line.strip():
            yield number, line.split(delimiter)


def check_end(file: Path, delimiter: str) -> None:
    """Raises `SignerError` where a table breaks off: its last line lacks cells, and nothing ends it. How many rows were
    behind it nobody can say; of tables whose releases have an end.
    """
    file, header, line, width = outside.plain_file(file, "give the folder that holds it"), 0, 1, 0
    with outside.reading(file, "divide it"):
        for number, cells in _cut(file, delimiter):
            line, width = number, len(cells) if isinstance(cells, list) else sys.maxsize  # one that is too long
            header = header or width
        with file.open("rb") as opened:
            opened.seek(max(opened.seek(0, os.SEEK_END) - 1, 0))
            ended = opened.read(1) in (b"\n", b"\r")
    if width < header and not ended:
        raise SignerError(f"{file}: line {line}, the last, is cut short; download it again")


def heads(file: Path, size: int) -> Iterator[bytes]:
    """The first `size` bytes of each line, of any length, in constant memory; without its end where it is whole."""
    with file.open("rb") as opened:
        head, kept = b"", False
        while piece := opened.readline(_PIECE):
            head, kept = (head + piece)[:size] if len(head) < size else head, True
            if piece.endswith(b"\n"):
                yield head.rstrip(b"\r\n")
                head, kept = b"", False
        if kept:
            yield head.rstrip(b"\r\n")


def check_parallel(files: Sequence[Path]) -> int:
    """How many lines files have whose lines belong together. Blank ones at the end of any may lack or be too many.

    Raises `SignerError` where the files differ by more: from some line on each would be beside another's.
    """
    counts = {}
    for file in files:
        total, used = 0, 0
        with outside.reading(file, "divide it"):
            for total, head in enumerate(heads(file, 64), start=1):
                used = total if head.strip() else used
        counts[file] = (total, used)
    length = max(used for _, used in counts.values())
    for file, (total, _) in counts.items():
        if total < length:
            longest = next(other for other, (_, used) in counts.items() if used == length)
            raise SignerError(
                f"{file}: has {total} lines, {longest.name} {length}, and they belong together line by line; "
                "download them again"
            )
    return length


def parallel(files: Sequence[Path], length: int) -> Iterator[tuple[str, ...]]:
    """The texts of the files, line by line."""
    readers = [chain(lines(file), iter(lambda: "", None)) for file in files]
    for _ in range(length):
        yield tuple(next(reader) for reader in readers)
