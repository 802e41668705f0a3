"""RWTH-PHOENIX-Weather 2014 T: German weather forecasts and their glosses in German Sign Language (text only here).

Read from either form: `phoenix14t.<split>.tsv` (`name signer gloss text num_frames`), or the official
`PHOENIX-2014-T.<split>.corpus.csv` (`name|video|start|end|speaker|orth|translation`), in the folder itself or where the
release has it, in `annotations/manual`.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from signer_jax import storage
from signer_jax.errors import SignerError
from signer_jax.types import Sample

LANGUAGE = "gsg"
_LONGEST = 100_000  # characters of a cell
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

    Raises `SignerError`, before the first sentence, where no file of the split is there or one lacks a column.
    """
    folder = Path(source)
    for name, delimiter, columns in _FORMS:
        file = folder / name.format(split=split)
        if file.is_file():
            return iter(_read(file, delimiter, columns))
    names = " or ".join(name.format(split=split) for name, _, _ in _FORMS[:2])
    raise SignerError(f"{folder}: has no {names}; give the folder that holds the corpus")


def _read(file: Path, delimiter: str, columns: tuple[str, ...]) -> list[Sample]:
    rows = []
    limit = csv.field_size_limit(_LONGEST)
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, quoting=csv.QUOTE_NONE)
            header = next(reader, [])
            if missing := [column for column in columns if column not in header]:
                found = ", ".join(header)[:200] or "none"
                raise SignerError(f"{file}: lacks the column {missing[0]!r} (it has {found}); download it again")
            where = [header.index(column) for column in columns]
            for row in filter(None, reader):
                if len(row) != len(header):
                    what = "is cut short" if len(row) < len(header) else f"has a {delimiter!r} inside a cell"
                    found = f"{len(row)} cells where the header has {len(header)}"
                    raise SignerError(f"{file}: row {reader.line_num} {what} ({found}); mend it or download it again")
                rows.append([row[i] for i in where])
    except UnicodeDecodeError as error:
        raise SignerError(f"{file}: is no UTF-8 text ({error}); download it again") from None
    except csv.Error as error:
        raise SignerError(f"{file}: line {reader.line_num} cannot be read ({error}); download it again") from None
    except OSError as error:
        raise SignerError(f"{file}: cannot be read ({storage.reason_of(error)}); check the file") from None
    finally:
        csv.field_size_limit(limit)
    return [Sample(name, text, LANGUAGE, tuple(glosses.split()), signer) for name, signer, glosses, text in rows]
