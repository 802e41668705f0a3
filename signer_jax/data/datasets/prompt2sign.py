"""Prompt2Sign: other datasets' texts beside their poses, in eight languages; and what its tools of 2025 make of videos.

Layout (https://github.com/SignLLM/Prompt2Sign, after https://github.com/BenSaunders27/ProgressiveTransformersSLP):
- Files whose lines belong together: `<split>.text`, `<split>.skels`, `<split>.files` (names), `<split>.gloss`,
  whichever there are; also `how2sign_<split>.skels` and its like. In the folder, or in one below for each language,
  whose name says which (`ASL_part`, `GSL`, …, see `LANGUAGES`); in others the languages are "".
- A line of `.skels` is a clip's numbers; a blank one is a clip without poses. In which of three normalisations they are
  `pose/formats/skels.py` tells by the numbers.
- Tools of 2025 (tools-new-2025/main/pipeline01_extract_dwpose_from_video.py): `<clip>/results_dwpose/json`, `npz` or
  `npy` with a file a frame beside `<clip>/crop_original_video.mp4`, in the folder or in a `<name>_results` of it. Where
  there is no `.skels`, the lines' clips are those that `.files` or `processed_video_name_by_dwpose.txt` name, beside
  the file or in a `<name>_results` of its split: that in the folder's name, or train. Clips of no line have no text.
Poses say no rate. The German part is PHOENIX14T's, of 25 a second. The American is How2Sign's: 24 is the rate of the
clips that were looked at, 31 of two recordings alone. Of other parts `--pose-fps` says it, and overrules both.
Glosses are those of PHOENIX14T's annotators in the German part; of others nobody says who made them.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

from signer_jax import outside
from signer_jax.data import tables
from signer_jax.data.datasets import finding, how2sign
from signer_jax.data.datasets.finding import Lacking, Names
from signer_jax.data.datasets.item import Found, Item
from signer_jax.errors import SignerError, one_line

# Part -> IANA codes of its sign language and of its texts' language.
LANGUAGES = {
    "asl": ("ase", "en"), "gsl": ("gsg", "de"), "dgs": ("gsg", "de"), "dsgs": ("sgg", "de"), "lsf-ch": ("ssr", "fr"),
    "lis-ch": ("slf", "it"), "lsa": ("aed", "es"), "ksl": ("kvk", "ko"), "tsl": ("tsm", "tr"),
}  # fmt: skip
FPS = {"ase": 24.0, "gsg": 25.0}  # of a sign language's part; ase as two recordings of it have
_LISTS = (".text", ".skels", ".files", ".gloss")
_STEM = re.compile(r"(?:(?P<set>[\w-]+?)[_.-])?(?P<split>train|dev|val|valid|validation|test)", re.IGNORECASE)
_DONE = "processed_video_name_by_dwpose.txt"
_VIDEO = "crop_original_video.mp4"
_FRAMES = tuple((f"results_dwpose/{kind}", f".{kind}") for kind in ("json", "npz", "npy"))  # the plainest first
# How PHOENIX14T names clips: `11August_2010_Wednesday_heute-3` is of the broadcast without the number.
_BROADCAST = re.compile(r"(.*\d{4}_[A-Z][a-z]+day_[a-z]+)-\d+")
_HEAD = 64  # bytes of a line, which tell whether it is blank


class _Lines(NamedTuple):
    """Files of one split whose lines belong together, by their endings."""

    split: str
    part: str  # the folder's name, "" for the dataset's own
    files: dict[str, Path]


def splits(source: str | Path) -> list[str]:
    folder = finding.check_folder(source)
    there = finding.in_order([*(lists.split for lists in _lists(folder)), *(split for split, _ in _clips(folder))])
    if not there:
        raise SignerError(
            f"{folder}: has no train.skels, train.text (or dev, test) and no clip with results_dwpose; give the folder "
            "that holds them"
        )
    return there


def items(source: str | Path, split: str, *, media: bool = True) -> Iterator[Found]:
    """The lines of the split, then the clips of which no line is. Without `media` a line is its text, and no poses are
    looked for; of a split without lines the clips come all the same.

    Raises `SignerError`, before the first, where files whose lines belong together have not as many.
    """
    folder = Path(source)
    finding.check_split(split, splits(folder), folder)
    found = [lists for lists in _lists(folder) if lists.split == split]
    lengths = [tables.check_parallel(list(lists.files.values())) for lists in found]
    return _items(folder, found, lengths, split, media)


def _items(folder: Path, found: list[_Lines], lengths: list[int], split: str, media: bool) -> Iterator[Found]:
    names, taken = Names(), set[Path]()
    for lists, length in zip(found, lengths, strict=True):
        yield from _of_lines(folder, lists, length, names, taken if media else None)
    if found and not media:
        return
    for theirs, clip in _clips(folder):
        if theirs == split and clip not in taken:
            yield _of_clip(folder, clip, split, names, bool(found))


def _of_lines(folder: Path, lists: _Lines, length: int, names: Names, taken: set[Path] | None) -> Iterator[Found]:
    """The lines' samples with their poses; clips become `taken`, of which None says that texts alone are wanted."""
    skels = lists.files.get(".skels") if taken is not None else None
    texts = {ending: file for ending, file in lists.files.items() if ending != ".skels"}
    file = next(iter(lists.files.values()))
    heads = chain(tables.heads(skels, _HEAD), repeat(b"")) if skels else repeat(b"")
    language, spoken = _languages(lists.part or folder.name)
    has_clips = taken is not None and not skels and any(_clips(folder))
    results = outside.entries(folder, "*_results")
    places = (file.parent, *(place for place in results if _split_of(place.name) == lists.split))
    lines = tables.parallel(list(texts.values()), length)
    for line, (cells, head) in enumerate(zip(lines, heads, strict=False), start=1):
        row = tables.Row(line, dict(zip(texts, (cell.strip() for cell in cells), strict=True)))
        name = row.cells.get(".files") or f"{file.stem}/{line:07d}"
        try:
            if fault := next(filter(None, map(tables.fault_of, row.cells.values())), ""):
                raise Lacking(fault)
            if ".files" in row.cells and not row.cells[".files"]:
                raise Lacking("no name")
            name = names.new(f"{lists.part}/{name}" if lists.part else name)
            if ".text" in row.cells and not row.cells[".text"]:
                raise Lacking("no text")
            media: dict = {}
            if skels:
                if not head.strip():
                    raise Lacking("no poses", "a blank line")
                media = {"pose": skels, "line": line - 1}
            elif taken is not None and (clip := _clip_of(places, row.cells.get(".files", ""))):
                if clip in taken:
                    raise Lacking("clip of another line", one_line(str(clip.relative_to(folder))))
                taken.add(clip)
                media = _media(clip)
            elif has_clips:
                raise Lacking("no poses")
        except Lacking as lacking:
            yield finding.left(row, lists.split, file, lacking, name)
            continue
        glosses = tuple(row.cells[".gloss"].split()) if row.cells.get(".gloss") else None
        by = ("human" if language == "gsg" else "unknown") if glosses else ""
        yield Item(
            name, lists.split, row.cells.get(".text", ""), language=language, spoken=spoken, glosses=glosses,
            glosses_by=by, recording=_recording(lists.part, row.cells.get(".files", "")), usual_fps=FPS.get(language),
            came_from=finding.place(file, line), **media,
        )  # fmt: skip


def _recording(part: str, name: str) -> str:
    """The video that a named clip was cut out of, "" where its name does not tell."""
    clip = name.rpartition("/")[2]
    broadcast = _BROADCAST.fullmatch(clip)
    video = broadcast[1] if broadcast else how2sign.video_of(clip)
    return f"{part}/{video}" if video else ""


def _of_clip(folder: Path, clip: Path, split: str, names: Names, has_lines: bool) -> Found:
    place = str(clip.relative_to(folder))
    language, spoken = _languages(clip.parent.name if clip.parent != folder else folder.name)
    try:
        if fault := tables.fault_of(place):
            raise Lacking(fault)
        if has_lines:
            raise Lacking("in no line of the texts")
        name = names.new(clip.name)
        media = _media(clip)
    except Lacking as lacking:
        return finding.lost(clip.name, split, lacking, place)
    recording = _recording(clip.parent.name if clip.parent != folder else "", name)
    return Item(
        name, split, language=language, spoken=spoken, recording=recording, usual_fps=FPS.get(language),
        came_from=place, **media,
    )  # fmt: skip


def _media(clip: Path) -> dict:
    """A clip's poses and, where it is there, its video. Raises `Lacking` where there are no poses."""
    lacking = Lacking("no poses")
    for place, ending in _FRAMES:
        try:
            media = {"pose": finding.folder_of(clip, (place,), (ending,), "folder of poses")}
            break
        except Lacking as other:
            lacking = lacking.or_rather(other)
    else:
        raise lacking
    try:
        return media | {"video": finding.file_of(clip, (_VIDEO,), "video file")}
    except Lacking as other:
        if not other.absent:
            raise
        return media


def _lists(folder: Path) -> list[_Lines]:
    """The files of each part and split whose lines belong together: a text, or poses, and what is beside them."""
    found: dict[tuple[Path, str], _Lines] = {}
    places = [folder, *outside.entries(folder)]
    for ending in _LISTS:
        for file in sorted(file for place in places for file in outside.entries(place, f"*{ending}")):
            if outside.is_file(file) and (match := _STEM.fullmatch(file.stem)):
                finding.first_there(folder, (str(file.relative_to(folder)),))
                part = file.parent.name if file.parent != folder else ""
                split = finding.our_split(match["split"].lower())
                lists = found.setdefault((file.parent, file.stem), _Lines(split, part, {}))
                lists.files[ending] = file
    for (parent, _), lists in found.items():  # the tools of 2025 name the clips of their .skels in this file
        done = parent / _DONE
        if ".files" not in lists.files and outside.is_file(done):
            lists.files[".files"] = done
    return [lists for lists in found.values() if lists.files.keys() & {".text", ".skels"}]


def _clips(folder: Path) -> Iterator[tuple[str, Path]]:
    """(split, folder) of each clip of the tools of 2025."""
    places = outside.entries(folder)
    clips = (*places, *(clip for place in places for clip in outside.entries(place)))
    for results in sorted(clip / "results_dwpose" for clip in clips):
        if not outside.is_there(results):
            continue
        clip = results.parent
        yield _split_of(clip.parent.name) if clip.parent != folder else "train", clip


def _split_of(results: str) -> str:
    """Of the clips in a folder of that name."""
    match = re.search(r"(?:^|[_-])(train|dev|val|valid|validation|test)(?:_results)?$", results)
    return finding.our_split(match[1]) if match else "train"


def _clip_of(places: Sequence[Path], name: str) -> Path | None:
    """The clip that a line names, in one of the places."""
    for place in places if name else ():
        for one in (name, name.rpartition("/")[2]):
            clip = finding.inside(place, one)
            if outside.is_folder(clip / "results_dwpose"):
                return clip
    return None


def _languages(part: str) -> tuple[str, str]:
    named = part.lower().removesuffix("_part")
    return next((codes for key, codes in LANGUAGES.items() if re.split(r"[_ .]", named)[0] == key), ("", ""))
