"""RWTH-PHOENIX-Weather 2014 T: German weather forecasts in German Sign Language, with glosses by annotators.

Layout of the release (https://www-i6.informatik.rwth-aachen.de/~koller/RWTH-PHOENIX-2014-T/), in the folder itself or
under `PHOENIX-2014-T`:
- `annotations/manual/PHOENIX-2014-T.<split>.corpus.csv`: `name|video|start|end|speaker|orth|translation`, quotes are
  letters; start and end are -1, a row is a whole recording. Or the csv in the folder itself.
- `features/fullFrame-210x260px/<split>/<name>/*.png`: the frames, 25 a second; or `<name>.mp4` there.
Or `phoenix14t.<split>.tsv`: `name signer gloss text num_frames`, its names being `<split>/<name>`.
A copy without that folder of frames is text and glosses. A run on texts reads `sentences`: the same rows, without
their recordings (`data/corpora/phoenix14t.py`). A name is a broadcast's with the sentence's number behind it
(`11August_2010_Wednesday_tagesschau-3`): sentences of one are in several splits.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from signer_jax import outside
from signer_jax.data import tables
from signer_jax.data.datasets import finding
from signer_jax.data.datasets.finding import Lacking, Names
from signer_jax.data.datasets.item import Found, Item, Left
from signer_jax.errors import SignerError

LANGUAGE = "gsg"
SPOKEN = "de"
FPS = 25.0
_NUMBER = re.compile(r"-\d+$")
_OFFICIAL = "PHOENIX-2014-T.{0}.corpus.csv"
_COLUMNS = ("name", "speaker", "orth", "translation")
# (file, delimiter, columns of name, signer, glosses, text)
_TABLES = (
    (f"annotations/manual/{_OFFICIAL}", "|", _COLUMNS),
    (_OFFICIAL, "|", _COLUMNS),
    ("phoenix14t.{0}.tsv", "\t", ("name", "signer", "gloss", "text")),
)
_FRAMES = "features/fullFrame-210x260px/{0}"
_RELEASES = (".", "PHOENIX-2014-T", "PHOENIX-2014-T-release-v3/PHOENIX-2014-T")


def splits(source: str | Path) -> list[str]:
    folder = finding.check_folder(source)
    there = [split for split in finding.SPLITS if _table(folder, split)]
    if not there:
        raise SignerError(
            f"{folder}: has no annotations/manual/{_OFFICIAL.format('train')} (or dev, test) and no "
            "phoenix14t.train.tsv; give the folder that holds them"
        )
    return there


def sentences(source: str | Path, split: str) -> Iterator[Found]:
    """The rows of the split's table, in its order, by the names that it gives them: a tsv's begin with the split. No
    recording is looked for.

    Raises `SignerError`, before the first, for another split, and where the table cannot be read, lacks a column or its
    end.
    """
    folder = Path(source)
    finding.check_split(split, splits(folder), folder)
    found = _table(folder, split)
    assert found is not None
    _, file, delimiter, columns = found
    rows = tables.rows(file, columns, delimiter=delimiter)
    tables.check_end(file, delimiter)
    return _sentences(file, rows, columns, split)


def items(source: str | Path, split: str, *, media: bool = True) -> Iterator[Found]:
    """The rows of the split's table, in its order, with their recordings; without `media` none is looked for. Raises
    `SignerError` as `sentences`.
    """
    found = sentences(source, split)
    table = _table(Path(source), split)
    assert table is not None
    frames = table[0] / _FRAMES.format(split)
    there = frames if media and outside.is_folder(frames) else None
    return (_recorded(one, there, split) for one in found)


def _table(source: Path, split: str) -> tuple[Path, Path, str, tuple[str, ...]] | None:
    for release in _RELEASES:
        for place, delimiter, columns in _TABLES:
            if file := finding.first_there(source, (f"{release}/{place.format(split)}",)):
                return source / release, file, delimiter, columns
    return None


def _sentences(file: Path, rows: Iterator[tables.Row], columns: tuple[str, ...], split: str) -> Iterator[Found]:
    names = Names()
    for row in rows:
        if row.fault:
            yield finding.left(row, split, file, name=row.cells.get("name", ""))
            continue
        name, signer, glosses, text = (row.cells[column] for column in columns)
        try:
            names.new(_of_dataset(name, split))
            if not text:
                raise Lacking("no text")
            if not glosses:
                raise Lacking("no glosses")
        except Lacking as lacking:
            yield finding.left(row, split, file, lacking, name)
            continue
        yield Item(
            name, split, text, language=LANGUAGE, spoken=SPOKEN, glosses=tuple(glosses.split()), glosses_by="human",
            signer=signer, came_from=finding.place(file, row.line),
        )  # fmt: skip


def _recorded(found: Found, frames: Path | None, split: str) -> Found:
    name = _of_dataset(found.name, split)
    if isinstance(found, Left):
        return replace(found, name=name)
    try:
        video = None if frames is None else finding.recording_of(frames, name, (name, f"{name}/1"))
    except Lacking as lacking:
        return finding.lost(name, split, lacking, found.came_from)
    fps = FPS if video and outside.is_folder(video) else None
    return replace(found, name=name, recording=_NUMBER.sub("", name), video=video, fps=fps)


def _of_dataset(name: str, split: str) -> str:
    return name.removeprefix(f"{split}/")
