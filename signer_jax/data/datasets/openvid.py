"""OpenVid-1M and OpenVidHD: captioned videos of anything, without poses or glosses; what they show is no sign language.

Layout (https://huggingface.co/datasets/nkp37/OpenVid-1M): a csv with quotes, whose columns `video` and `caption` are
read by their names, in the folder or in `data/train`; the videos that it names lie in `video/`. One split, "train".
"""

from collections.abc import Iterator
from pathlib import Path

from signer_jax import outside
from signer_jax.data import tables
from signer_jax.data.datasets import finding
from signer_jax.data.datasets.finding import Lacking, Names
from signer_jax.data.datasets.item import Found, Item
from signer_jax.errors import SignerError

LANGUAGE = ""
SPOKEN = "en"
VIDEOS = "video"
_FILE = "video file"
ABSENT, SPARE = f"no {_FILE}", "in no row of the table"  # reasons: of a copy that has but some of the archives, many
_KNOWN = ("OpenVidHD.csv", "OpenVid-1M.csv")
_PLACES = ("", "data/train")


def splits(source: str | Path) -> list[str]:
    find_table(finding.check_folder(source))
    return ["train"]


def items(source: str | Path, split: str) -> Iterator[Found]:
    """The rows in the table's order, then the videos that no row names."""
    folder = Path(source)
    finding.check_split(split, splits(folder), folder)
    file = find_table(folder)
    return _items(file, tables.rows(file, ("video", "caption")), folder / VIDEOS, split)


def find_table(folder: Path) -> Path:
    mend = "give the folder that holds OpenVidHD.csv and video/"
    there = [file for place in _PLACES for file in outside.entries(folder / place, "*.csv")]
    known = [file for name in _KNOWN for file in there if file.name == name]
    if not known and len(there) > 1:
        raise SignerError(f"{folder}: has several tables ({', '.join(f.name for f in there)[:200]}); leave one of them")
    if not there:
        raise SignerError(f"{folder}: has no csv; {mend}")
    table = (known or there)[0]
    outside.check_inside(folder, (str(table.relative_to(folder)),), mend)
    if not outside.is_folder(folder / VIDEOS):
        raise SignerError(f"{folder}: has no folder {VIDEOS}; extract the archives there")
    return outside.plain_file(table, mend)


def _items(file: Path, rows: Iterator[tables.Row], videos: Path, split: str) -> Iterator[Found]:
    names = Names()
    for row in rows:
        name = row.cells.get("video", "")
        if row.fault:
            names.mark(name)
            yield finding.left(row, split, file, name=name)
            continue
        try:
            name = names.new(name)
            if "/" in name or name.startswith("."):
                raise Lacking("path out of the folder")
            if not row.cells["caption"]:
                raise Lacking("no text")
            video = finding.file_of(videos, (name,), _FILE)
        except Lacking as lacking:
            yield finding.left(row, split, file, lacking, name)
            continue
        yield Item(
            name, split, row.cells["caption"], spoken=SPOKEN, video=video, came_from=finding.place(file, row.line)
        )
    for path in outside.entries(videos):
        if path.name not in names and outside.is_file(path):
            yield finding.lost(path.name, split, Lacking(SPARE), path.name)
