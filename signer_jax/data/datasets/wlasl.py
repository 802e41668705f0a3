"""WLASL: single signs of American Sign Language, each a gloss and a video; no text.

Layout (https://github.com/dxli94/WLASL, README.md and start_kit/preprocess.py):
- `WLASL_v0.3.json` (or another version): glosses with their instances. frame_start counts from 1, frame_end is the last
  frame of the sign, -1 the video's last; both are of the downloaded video, at `fps`.
- `nslt_<K>.json`: video id -> subset and class, of the first K glosses; `wlasl_class_list.txt` names the classes. What
  the largest of these has beyond the json is read too.
- `videos/<video_id>.mp4` (or `WLASL2000/`): what preprocess.py made. It cuts the sign out of a YouTube video and copies
  any other, so that only the latter's frames are cut here. Many videos are missing in practice.
- `raw_videos_mp4/` or `raw_videos/`: the downloaded videos, YouTube's by their own ids, where `videos/` lacks one.
The dataset's `val` is "dev". A sample of a split that is none comes out of "train" as left out.
"""

import re
from collections.abc import Container, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from signer_jax import json_files, outside
from signer_jax.data import tables
from signer_jax.data.datasets import finding
from signer_jax.data.datasets.finding import Lacking, Names
from signer_jax.data.datasets.item import Found, Item
from signer_jax.errors import SignerError, one_line

LANGUAGE = "ase"
SPOKEN = "en"
_CUT = ("videos", "WLASL2000")
_RAW = ("raw_videos_mp4", "raw_videos")
_JSON = re.compile(r"WLASL_v[\d.]+\.json")
_SUBSET = re.compile(r"nslt_(\d{1,6})\.json")
_CLASSES = "wlasl_class_list.txt"
_YOUTUBE = re.compile(r"youtube|youtu\.be")
_MOST = 10**9  # frames: no video has as many


def splits(source: str | Path, *, subset: int | None = None) -> list[str]:
    """Raises `SignerError` where there is no json of the dataset's, or not that of the subset."""
    folder = finding.check_folder(source)
    if not _instances_file(folder) and not _subsets(folder):
        raise SignerError(f"{folder}: has no WLASL_v0.3.json and no nslt_2000.json; give the folder that holds them")
    subsets = _subsets(folder)
    if subset is not None and subset not in subsets:
        known = ", ".join(map(str, sorted(subsets))) or "none"
        raise SignerError(f"{folder}: has no nslt_{subset}.json (subsets here: {known}); copy it there")
    return list(finding.SPLITS)


def items(source: str | Path, split: str, *, subset: int | None = None) -> Iterator[Found]:
    """The signs of the split, by gloss, then what only `nslt_<K>.json` has; with `subset` K those of its file alone.

    Raises `SignerError` where there is no folder of videos, no such subset, or a json that is none of the dataset's.
    """
    folder = Path(source)
    finding.check_split(split, splits(folder, subset=subset), folder)
    cut, raw = (next((folder / p for p in places if outside.is_folder(folder / p)), None) for places in (_CUT, _RAW))
    if not cut and not raw:
        raise SignerError(f"{folder}: has no folder videos; put the videos there, as WLASL's preprocess.py does")
    subsets = _subsets(folder)
    instances = _instances_file(folder)
    largest = subsets[subset or max(subsets)] if subsets else None
    glosses = _read(instances, list) if instances else []
    classed = _read(largest, dict) if largest else {}
    chosen = None if subset is None else classed.keys()
    names = Names()
    return chain(
        _listed(instances, glosses, chosen, (cut, raw), split, names),
        _classed(largest, classed, _classes(folder) if classed else {}, _ids(glosses), cut, split, names),
    )


def _listed(
    file: Path | None, glosses: list, chosen: Container | None, folders: tuple[Path | None, Path | None], split: str,
    names: Names,
) -> Iterator[Found]:  # fmt: skip
    for number, entry in enumerate(glosses, start=1):
        where = f"{file.name if file else ''}, entry {number}"
        gloss, instances = (
            (entry.get(key) for key in ("gloss", "instances")) if isinstance(entry, dict) else (None, None)
        )
        if not isinstance(gloss, str) or not isinstance(instances, list):
            if split == "train":
                yield finding.lost(f"entry {number}", split, Lacking("unreadable entry"), where)
            continue
        for about in instances:
            about = about if isinstance(about, dict) else {}
            name = about.get("video_id")
            if chosen is None or not isinstance(name, str) or name in chosen:  # what has no id is told
                yield from _sign(name, gloss, about, about.get("split"), where, folders, split, names)


def _ids(glosses: list) -> set[str]:
    """The video ids of all instances."""
    return {
        about["video_id"]
        for entry in glosses
        if isinstance(entry, dict) and isinstance(entry.get("instances"), list)
        for about in entry["instances"]
        if isinstance(about, dict) and isinstance(about.get("video_id"), str)
    }


def _classed(
    file: Path | None, classed: dict, of_class: Mapping[int, str], listed: set[str], cut: Path | None, split: str,
    names: Names,
) -> Iterator[Found]:  # fmt: skip
    for name, about in classed.items():
        if name not in listed:
            about = about if isinstance(about, dict) else {}
            action = about.get("action")
            number = action[0] if isinstance(action, list) and action else None
            gloss = of_class.get(number, "") if isinstance(number, int) else ""
            where = f"{file.name if file else ''}, {one_line(name[:80])}"
            yield from _sign(name, gloss, {}, about.get("subset"), where, (cut, None), split, names)


def _sign(
    name: Any, gloss: str, about: Mapping, theirs: Any, where: str, folders: tuple[Path | None, Path | None],
    split: str, names: Names,
) -> Iterator[Found]:  # fmt: skip
    ours = finding.our_split(theirs) if isinstance(theirs, str) else ""
    if split != (ours if ours in finding.SPLITS else "train"):
        return
    shown = name if isinstance(name, str) else "?"
    try:
        if not isinstance(name, str) or tables.fault_of(name) or tables.fault_of(gloss):
            raise Lacking("unreadable entry")
        if ours not in finding.SPLITS:
            raise Lacking("unknown split", str(theirs)[:40])
        name = names.new(name)
        if not gloss.strip():
            raise Lacking("no gloss")
        media = _media(name, about, folders)
    except Lacking as lacking:
        yield finding.lost(shown, split, lacking, where)
        return
    signer = about.get("signer_id", "")
    yield Item(
        name, split, language=LANGUAGE, glosses=(" ".join(gloss.split()),), glosses_by="human",
        signer=str(signer) if isinstance(signer, int) else "", came_from=where, **media,
    )  # fmt: skip


def _media(name: str, about: Mapping, folders: tuple[Path | None, Path | None]) -> dict:
    cut, raw = folders
    url = about.get("url")
    url = url if isinstance(url, str) else ""
    if tables.fault_of(url):
        raise Lacking("unreadable entry", "its url")
    youtube = bool(_YOUTUBE.search(url))
    recording = url[-11:] if youtube else ""  # a YouTube video's signs are of one recording
    frames = _frames(about)
    lacking = Lacking("no video file")
    for folder, stem, whole in ((cut, name, not youtube), (raw, recording or name, True)):
        if folder:
            try:
                found = finding.file_of(folder, [stem + ending for ending in finding.VIDEOS], "video file")
            except Lacking as other:
                lacking = lacking.or_rather(other)
                continue
            if not whole or not frames:
                return {"video": found, "recording": recording}
            rate = about.get("fps")
            fps = float(rate) if isinstance(rate, int | float) and 0 < rate < 1000 else None
            return {"video": found, "recording": recording, "frames": frames, "fps": fps}
    raise lacking


def _frames(about: Mapping) -> tuple[int, int | None] | None:
    """From 0, the end excluded; None where the sign is the whole video."""
    first, last = about.get("frame_start", 1), about.get("frame_end", -1)
    numbers = isinstance(first, int) and isinstance(last, int)
    if not numbers or not (0 < first < _MOST and -1 <= last < _MOST and last):
        raise Lacking("start or end is no frame", f"{first!s:.40}, {last!s:.40}")
    if last != -1 and last < first:
        raise Lacking("end before start", f"{first}, {last}")
    return None if (first, last) == (1, -1) else (first - 1, None if last == -1 else last)


def _instances_file(folder: Path) -> Path | None:
    named = [file.name for file in outside.entries(folder, "WLASL_v*.json") if _JSON.fullmatch(file.name)]
    return finding.first_there(folder, named[::-1])


def _subsets(folder: Path) -> dict[int, Path]:
    files = outside.entries(folder, "nslt_*.json")
    found = {int(match[1]): file for file in files if (match := _SUBSET.fullmatch(file.name))}
    return {k: file for k, file in found.items() if finding.first_there(folder, (file.name,))}


def _read(file: Path, kind: type) -> Any:
    with outside.reading(file, "download it again"):
        try:
            value = json_files.read_json(outside.plain_file(file, "download it again"), json_files.LISTS)
        except ValueError as error:
            raise SignerError(f"{file}: is no JSON ({outside.reason_of(error)}); download it again") from None
    if not isinstance(value, kind):
        raise SignerError(f"{file}: holds no {'list' if kind is list else 'object'}; download it again")
    return value


def _classes(folder: Path) -> dict[int, str]:
    file = finding.first_there(folder, (_CLASSES,))
    if not file:
        return {}
    with outside.reading(file, "download it again"):
        named = [line.strip().split("\t") for line in tables.lines(outside.plain_file(file, "download it again"))]
    return {int(cells[0]): cells[1] for cells in named if len(cells) == 2 and re.fullmatch(r"\d{1,6}", cells[0])}
