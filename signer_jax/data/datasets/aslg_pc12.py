"""ASLG-PC12: English sentences and glosses of American Sign Language that rules made of them; text only.

Layout (https://achrafothman.net/site/english-asl-gloss-parallel-corpus-2012-aslg-pc12/): pairs of files whose lines
belong together, `<name>.en` and `<name>.asl`, or with `.txt` behind (`corpus_0001.clean.en.txt`), in the folder or one
below; a name with Train, Dev or Test in it is of that split, another of train (`ENG-ASL_Dev_0.046.en`).
Or `aslg-pc12.<split>.tsv`: `name signer gloss text num_frames`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from signer_jax import outside
from signer_jax.data import tables
from signer_jax.data.datasets import finding
from signer_jax.data.datasets.finding import Lacking, Names
from signer_jax.data.datasets.item import Found, Item
from signer_jax.errors import SignerError

LANGUAGE = "ase"
SPOKEN = "en"
_TSV = "aslg-pc12.{0}.tsv"
_ENGLISH = re.compile(r"(.+)\.en(\.txt)?")
_SPLIT = re.compile(r"(?<![a-z])(train|dev|val|valid|validation|test)(?![a-z])", re.IGNORECASE)


def splits(source: str | Path) -> list[str]:
    folder = finding.check_folder(source)
    there = [split for split in finding.SPLITS if finding.first_there(folder, (_TSV.format(split),))]
    there = there or finding.in_order(split for split, _, _ in _pairs(folder))
    if not there:
        raise SignerError(
            f"{folder}: has no {_TSV.format('train')} and no pair of files such as ENG-ASL_Train_0.046.en and .asl; "
            "give the folder that holds them"
        )
    return there


def items(source: str | Path, split: str) -> Iterator[Found]:
    """The sentences of the split in the files' order. A sentence may be there more than once, as the corpus has it."""
    folder = Path(source)
    finding.check_split(split, splits(folder), folder)
    if file := finding.first_there(folder, (_TSV.format(split),)):
        return _of_table(file, tables.rows(file, ("name", "gloss", "text"), delimiter="\t"), split)
    found = [(english, asl) for theirs, english, asl in _pairs(folder) if theirs == split]
    return _of_pairs([(english, asl, tables.check_parallel((english, asl))) for english, asl in found], split)


def _pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    """(split, English, glosses) of each pair."""
    found = []
    places = [folder, *outside.entries(folder)]
    for english in sorted(
        file for place in places for end in (".en", ".en.txt") for file in outside.entries(place, f"*{end}")
    ):
        match = _ENGLISH.fullmatch(english.name)
        if match and outside.is_file(english):
            asl = english.with_name(f"{match[1]}.asl{match[2] or ''}")
            if not outside.is_file(asl):
                raise SignerError(f"{english}: has no {asl.name} beside it; download both again")
            named = _SPLIT.search(match[1])
            found.append((finding.our_split(named[1].lower()) if named else "train", english, asl))
    return found


def _of_table(file: Path, rows: Iterator[tables.Row], split: str) -> Iterator[Found]:
    names = Names()
    for row in rows:
        yield _found(row, split, file, row.cells.get("name", ""), names)


def _of_pairs(pairs: list[tuple[Path, Path, int]], split: str) -> Iterator[Found]:
    names = Names()
    for english, asl, length in pairs:
        for line, (text, glosses) in enumerate(tables.parallel((english, asl), length), start=1):
            fault = tables.fault_of(text) or tables.fault_of(glosses)
            row = tables.Row(line, {"text": text.strip(), "gloss": glosses.strip()}, fault)
            yield _found(row, split, english, f"{english.name.partition('.en')[0]}/{line:07d}", names)


def _found(row: tables.Row, split: str, file: Path, name: str, names: Names) -> Found:
    if row.fault:
        return finding.left(row, split, file, name=name)
    text, glosses = row.cells["text"], row.cells["gloss"]
    try:
        name = names.new(name)
        if not text:
            raise Lacking("no text")
        if not glosses:
            raise Lacking("no glosses")
    except Lacking as lacking:
        return finding.left(row, split, file, lacking, name)
    return Item(
        name, split, text, language=LANGUAGE, spoken=SPOKEN, glosses=tuple(glosses.split()), glosses_by="rules",
        came_from=finding.place(file, row.line),
    )  # fmt: skip
