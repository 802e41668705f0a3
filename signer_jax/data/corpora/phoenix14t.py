"""RWTH-PHOENIX-Weather 2014 T: German weather forecasts and their glosses in German Sign Language (text only here).

Read from either form: `phoenix14t.<split>.tsv` (`name signer gloss text num_frames`), or the official
`PHOENIX-2014-T.<split>.corpus.csv` (`name|video|start|end|speaker|orth|translation`), in the folder itself or where the
release has it, in `annotations/manual`.
`signer prepare phoenix14t` reads the same tables, and the frames. Its names lack the split that they begin with in the
tsv, and a run that has read them here (the README's figures) is bound to these: so this stays a reader of its own.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from signer_jax import outside
from signer_jax.data import tables
from signer_jax.data.corpora.left_out import LeftOut
from signer_jax.errors import SignerError, piled
from signer_jax.types import Sample

LANGUAGE = "gsg"
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
            mend = "give the folder that it leads to, or copy it here"
            outside.check_inside(folder, (str(file.relative_to(folder)),), mend)
            with outside.reading(file, "divide it"):
                return _sentences(file, file.read_bytes(), delimiter, columns)
    names = " or ".join(name.format(split=split) for name, _, _ in _FORMS[:2])
    raise SignerError(f"{folder}: has no {names}; give the folder that holds the corpus")


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each line and its number, one after the other: a list of short ones takes thirty times their bytes."""
    start, number = 0, 1
    for number, end in enumerate(_LINE_END.finditer(data), start=1):
        yield number, data[start : end.start()]
        start = end.end()
    if start < len(data):
        yield number + bool(start), data[start:]


def _sentences(file: Path, data: bytes, delimiter: str, columns: tuple[str, ...]) -> Iterator[Sample]:
    """The sentences, one after the other, once all rows have been looked at."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        header = next(_lines(data), (1, b""))[1].decode().split(delimiter)
    except UnicodeDecodeError as error:
        raise SignerError(f"{file}: is no UTF-8 text ({error}); download it again") from None
    if missing := [column for column in columns if column not in header]:
        found = ", ".join(header)[:200] or "none"
        raise SignerError(f"{file}: lacks the column {missing[0]!r} (it has {found}); download it again")
    where = [header.index(column) for column in columns]
    count = sum(1 for number, line in _lines(data) if line and number > 1)
    if not count:
        raise SignerError(f"{file}: holds no row; download it again")
    last, line = max(_lines(data))
    if not data.endswith((b"\n", b"\r")) and line.count(delimiter.encode()) < len(header) - 1:
        raise SignerError(f"{file}: row {last}, the last, is cut short; download it again")
    left_out, width = LeftOut(file, "rows", count), len(header)
    bad = set()
    for number, line in _lines(data):
        try:
            if line and number > 1:
                _row(line, delimiter, width, where)
        except ValueError as error:
            left_out.add(f"row {number} {error}")
            bad.add(number)
    left_out.end()
    return (
        _sample(_row(line, delimiter, width, where))
        for number, line in _lines(data)
        if line and number > 1 and number not in bad
    )


def _sample(cells: list[str]) -> Sample:
    name, signer, glosses, text = cells
    return Sample(name, text, LANGUAGE, tuple(glosses.split()), signer)


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
    if (longest := max(map(len, read))) > tables.LONGEST:
        raise ValueError(f"has a cell of {longest} characters, more than {tables.LONGEST}")
    if any(ord(character) < 32 or ord(character) == 127 for cell in read for character in cell.replace("\t", "")):
        raise ValueError("has a control character")
    if any(map(piled, read)):
        raise ValueError("piles more than 30 marks on a letter")
    return read
