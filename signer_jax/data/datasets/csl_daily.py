"""CSL-Daily: everyday sentences in Chinese Sign Language, with glosses by annotators, each signed by several people.

Layout (https://ustc-slr.github.io/datasets/2021_csl_daily/ and the readme in its `sentence_label`):
- `sentence_label/video_map.txt`: `index|name|length|gloss|char|word|postag`, or `sentence_label/csl2020ct_v2.pkl`,
  whose "info" has a dict for each recording: name, label_gloss, label_char, signer. A pickle is read as data, never
  executed.
- `sentence_label/split_1.txt`: `name|split`. The published one names S000005_P0004_T00, and nothing else does.
- `sentence/frames_512x512/<name>/*.jpg`: the frames, 30 a second.
Or `csl-daily.<split>.tsv`: `name signer gloss text num_frames`.
The text is that of the characters; `_P0004_` in a name is the signer. A copy without frames is text and glosses.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from signer_jax import outside, pickles
from signer_jax.data import tables
from signer_jax.data.datasets import finding
from signer_jax.data.datasets.finding import Lacking, Names
from signer_jax.data.datasets.item import Found, Item
from signer_jax.errors import SignerError

LANGUAGE = "csl"
SPOKEN = "zh"
FPS = 30.0
_SPLIT_FILES = ("sentence_label/split_1.txt", "split_1.txt")
_TABLES = ("sentence_label/video_map.txt", "video_map.txt")
_PICKLES = ("sentence_label/csl2020ct_v2.pkl", "csl2020ct_v2.pkl")
_FRAMES = ("sentence/frames_512x512", "sentence_frames-512x512/frames_512x512", "frames_512x512")
_TSV = "csl-daily.{0}.tsv"
_INSTEAD = "give its text form, video_map.txt, instead"
_MOST_BYTES = 1 << 26  # of the pickle
_MOST_STEPS = 10_000_000  # 20,654 recordings take over two million
_MOST_MEMORY = 1 << 30
_SIGNER = re.compile(r"S\d+_P0*(\d{1,9})_T\d+")


class _Note(NamedTuple):
    """What is noted of a recording, as a row of whichever file says it."""

    row: tables.Row
    name: str
    glosses: str
    text: str
    signer: str


def splits(source: str | Path) -> list[str]:
    folder = finding.check_folder(source)
    if finding.first_there(folder, _SPLIT_FILES) and finding.first_there(folder, _TABLES + _PICKLES):
        return list(finding.SPLITS)
    there = [split for split in finding.SPLITS if finding.first_there(folder, (_TSV.format(split),))]
    if not there:
        raise SignerError(
            f"{folder}: has no sentence_label with split_1.txt and csl2020ct_v2.pkl (or video_map.txt) and no "
            f"{_TSV.format('train')}; give the folder that holds them"
        )
    return there


def items(source: str | Path, split: str, *, media: bool = True) -> Iterator[Found]:
    """The recordings of the split in the order of the file that notes them. Those of no split, or of one that is none,
    come out of the first split as left out. Without `media` they are texts and glosses, and no frames are looked for.
    """
    folder = Path(source)
    finding.check_split(split, splits(folder), folder)
    places = _FRAMES if media else ()
    frames = next((folder / place for place in places if outside.is_folder(folder / place)), None)
    split_file = finding.first_there(folder, _SPLIT_FILES)
    noted = finding.first_there(folder, _TABLES + _PICKLES)
    if split_file and noted:
        rows = tables.rows(split_file, ("name", "split"), delimiter="|")
        return _official(noted, split_file, rows, frames, split)
    file = folder / _TSV.format(split)
    columns = ("name", "gloss", "text", "signer")
    rows = tables.rows(file, columns, delimiter="\t")
    notes = (_Note(row, *(row.cells.get(column, "") for column in columns)) for row in rows)
    return _items(file, notes, frames, split, Names())


def _official(
    noted: Path, split_file: Path, rows: Iterator[tables.Row], frames: Path | None, split: str
) -> Iterator[Found]:
    split_of: dict[str, tuple[str, int]] = {}
    for row in rows:
        name = finding.composed(row.cells.get("name", ""))
        theirs = finding.our_split(row.cells.get("split", ""))
        known = theirs in finding.SPLITS
        if row.fault or not known or not name or name in split_of:
            if split == (theirs if known else finding.SPLITS[0]):
                fault = (
                    Lacking("named twice" if name else "no name") if known else Lacking("unknown split", theirs[:40])
                )
                yield finding.left(row, split, split_file, None if row.fault else fault, name)
        else:
            split_of[name] = theirs, row.line
    names = Names()
    notes = _notes_of(noted)
    yield from _items(noted, notes, frames, split, names, split_of)
    for name, (theirs, line) in split_of.items():
        if theirs == split and name not in names:
            yield finding.lost(name, split, Lacking("no annotation"), finding.place(split_file, line))


def _notes_of(file: Path) -> Iterator[_Note]:
    if file.suffix != ".pkl":
        columns = ("name", "gloss", "char")
        for row in tables.rows(file, columns, delimiter="|"):
            name, glosses, characters = (row.cells.get(column, "") for column in columns)
            yield _Note(row, name, glosses, "".join(characters.split()), "")
        return
    value = _unpickled(file)
    info = value.get("info") if isinstance(value, dict) else None
    if not isinstance(info, list):
        raise SignerError(f"{file}: has no list 'info'; download it again")
    for number, about in enumerate(info, start=1):
        about = about if isinstance(about, dict) else {}
        named, signer = about.get("name"), about.get("signer", "")
        gloss, char = (_texts(about.get(key)) for key in ("label_gloss", "label_char"))
        if not isinstance(named, str) or gloss is None or char is None:
            yield _Note(tables.Row(number, {}, "unreadable row"), named if isinstance(named, str) else "", "", "", "")
            continue
        text = "".join(char)
        signer = str(signer)[:40] if isinstance(signer, int | str) else ""
        fault = next(filter(None, map(tables.fault_of, (named, text, signer, *gloss))), "")
        yield _Note(tables.Row(number, {}, fault), named, " ".join(gloss), text, signer)


def _unpickled(file: Path) -> Any:
    with outside.reading(file, _INSTEAD):
        with outside.plain_file(file, "give the folder that holds it").open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise SignerError(f"{file}: has more than {_MOST_BYTES >> 20} MB; {_INSTEAD}")
        try:
            return pickles.read(data, _MOST_MEMORY, most_steps=_MOST_STEPS)
        except pickles.Refused as error:
            raise SignerError(f"{file}: is damaged ({error}); {_INSTEAD}") from None


def _texts(value: Any) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(one, str) for one in value) else None


def _items(
    file: Path, notes: Iterator[_Note], frames: Path | None, split: str, names: Names,
    split_of: dict[str, tuple[str, int]] | None = None,
) -> Iterator[Found]:  # fmt: skip
    for row, name, glosses, text, signer in notes:
        if split_of is not None:
            theirs = split_of.get(name if row.fault else finding.composed(name), ("", 0))[0]
            if theirs != split and (theirs or split != finding.SPLITS[0]):
                continue
            if not theirs and not row.fault:
                yield finding.left(row, split, file, Lacking("in no split"), name)
                continue
        if row.fault:
            names.mark(name)
            yield finding.left(row, split, file, name=name)
            continue
        try:
            name = names.new(name)
            if not text:
                raise Lacking("no text")
            if not glosses:
                raise Lacking("no glosses")
            video = None if frames is None else finding.recording_of(frames, name, (name,))
        except Lacking as lacking:
            yield finding.left(row, split, file, lacking, name)
            continue
        match = _SIGNER.fullmatch(name)
        yield Item(
            name, split, text, language=LANGUAGE, spoken=SPOKEN, glosses=tuple(glosses.split()), glosses_by="human",
            signer=signer or (match[1] if match else ""), video=video,
            fps=FPS if video and outside.is_folder(video) else None, came_from=finding.place(file, row.line),
        )  # fmt: skip
