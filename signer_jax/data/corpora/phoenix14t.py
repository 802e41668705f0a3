"""RWTH-PHOENIX-Weather 2014 T: German weather forecasts and their glosses in German Sign Language (text only here).

Read from either form: `phoenix14t.<split>.tsv` (`name signer gloss text num_frames`), or the official
`PHOENIX-2014-T.<split>.corpus.csv` (`name|video|start|end|speaker|orth|translation`), in the folder itself or where the
release has it, in `annotations/manual`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from signer_jax import storage
from signer_jax.data.corpora.left_out import LeftOut
from signer_jax.errors import SignerError, piled
from signer_jax.types import Sample

LANGUAGE = "gsg"
_LONGEST = 100_000  # characters of a cell
_LINE_END = re.compile(rb"\r\n|\n|\r")
SPLITS = ("train", "dev", "test")
_OFFICIAL = "PHOENIX-2014-T.{split}.corpus.csv"
# (file, delimiter, columns of name, signer, glosses, text)
_FORMS = (
    ("phoenix14t.{split}.tsv", "\t", ("name", "signer", "gloss", "text")),
    (_OFFICIAL, "|", ("name", "speaker", "orth", "translation")),
    (f"annotations/manual/{_OFFICIAL}", "|", ("name", "speaker", "orth", "translation")),
)


def splits(source: str | Path) -> tuple[str, ...]:
    """The splits of the corpus in the folder `source`; "test" only where its file is there."""
    there = [
        split for split in SPLITS if any((Path(source) / form[0].format(split=split)).is_file() for form in _FORMS)
    ]
    return tuple(split for split in SPLITS if split in there or split != "test")


def samples(source: str | Path, split: str) -> Iterator[Sample]:
    """The sentences of a split ("train", "dev", "test") of the corpus in the folder `source`, in the file's order.

    A row that cannot be meant is left out, with a line on standard error. Raises `SignerError`, before the first
    sentence, where no file of the split is there, it lacks a column or its end, or more than half of its rows are such.
    """
    folder = Path(source)
    for name, delimiter, columns in _FORMS:
        file = folder / name.format(split=split)
        if file.is_file():
            return iter(_read(file, delimiter, columns))
    names = " or ".join(name.format(split=split) for name, _, _ in _FORMS[:2])
    raise SignerError(f"{folder}: has no {names}; give the folder that holds the corpus")


def _read(file: Path, delimiter: str, columns: tuple[str, ...]) -> list[Sample]:
    with storage.reading(file, "divide it"):
        return _sentences(file, file.read_bytes(), delimiter, columns)


def _sentences(file: Path, data: bytes, delimiter: str, columns: tuple[str, ...]) -> list[Sample]:
    data = data.removeprefix(b"\xef\xbb\xbf")
    first, *lines = _LINE_END.split(data)
    try:
        header = first.decode().split(delimiter)
    except UnicodeDecodeError as error:
        raise SignerError(f"{file}: is no UTF-8 text ({error}); download it again") from None
    if missing := [column for column in columns if column not in header]:
        found = ", ".join(header)[:200] or "none"
        raise SignerError(f"{file}: lacks the column {missing[0]!r} (it has {found}); download it again")
    where = [header.index(column) for column in columns]
    rows = [(number, line) for number, line in enumerate(lines, start=2) if line]
    if not rows:
        raise SignerError(f"{file}: holds no row; download it again")
    if lines[-1] and lines[-1].count(delimiter.encode()) < len(header) - 1:  # no line end behind it either
        raise SignerError(f"{file}: row {rows[-1][0]}, the last, is cut short; download it again")
    left_out = LeftOut(file, "rows", len(rows))
    samples = []
    for number, line in rows:
        try:
            name, signer, glosses, text = _row(line, delimiter, len(header), where)
        except ValueError as error:
            left_out.add(f"row {number} {error}")
            continue
        samples.append(Sample(name, text, LANGUAGE, tuple(glosses.split()), signer))
    left_out.end()
    return samples


def _row(line: bytes, delimiter: str, width: int, where: list[int]) -> list[str]:
    """The cells of the columns that are read. Raises `ValueError` with what is wrong with the row."""
    try:
        cells = line.decode().split(delimiter)
    except UnicodeDecodeError as error:
        raise ValueError(f"is no UTF-8 (byte 0x{line[error.start]:02x})") from None
    if len(cells) != width:
        what = "is cut short" if len(cells) < width else f"has a {delimiter!r} inside a cell"
        raise ValueError(f"{what} ({len(cells)} cells where the header has {width})")
    read = [cells[i] for i in where]
    if (longest := max(map(len, read))) > _LONGEST:
        raise ValueError(f"has a cell of {longest} characters, more than {_LONGEST}")
    if any(ord(character) < 32 or ord(character) == 127 for cell in read for character in cell.replace("\t", "")):
        raise ValueError("has a control character")
    if any(map(piled, read)):
        raise ValueError("piles more than 30 marks on a letter")
    return read
