"""WLASL as a source of a pose database: its json, and a folder with a pose `<video_id>.pose` of each video.

`WLASL_v0.3.json` lists glosses with their instances (https://github.com/dxli94/WLASL): signer, variation (the way to
sign the gloss, from 0) and, of the downloaded video, `frame_start` from 1 and `frame_end`, its last frame, -1 the
video's. The project's preprocess.py cuts the sign out of YouTube's videos and leaves any other whole. A pose of just so
many frames was cut; of a longer one the frames are cut here, and one of YouTube's that does not reach to `frame_end` is
taken whole, and noted.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from signer_jax import outside
from signer_jax.errors import SignerError, one_line
from signer_jax.json_files import LISTS, read_json
from signer_jax.pose.entries import NO_PRIORITY, Entry
from signer_jax.pose.sources.common import SHOWN, Cut, Files, as_sign, cut_out, is_name
from signer_jax.types import Pose

TRAIN = ("train",)
LANGUAGE, SPOKEN = "ase", "en"
POSES = ("poses", "pose", "videos")  # where the poses may lie below the json's folder
JSON = re.compile(r"WLASL_v[\d.]+\.json")
_YOUTUBE = re.compile(r"youtube|youtu\.be")


def read_wlasl(
    file: Path, poses: Path | None = None, *, splits: Collection[str] = (), trimmed: bool = True, cut: Cut | None = None
) -> tuple[Iterator[tuple[Entry, Pose]], list[str]]:
    """The signs of the json's instances whose pose is there, as `read_lexicon`; of the named splits, where none is of
    `train`: what a database is tried on must not be in it. Where no instance has a split, all are taken.

    An instance that has no readable pose, or a value that cannot be meant, is noted in the list.
    Raises `SignerError` at once for what is no json of the dataset's, a split that it has not, or where there is no
    folder of poses.
    """
    file = outside.plain_file(file, "give WLASL_v0.3.json, or the folder that holds it")
    folder = poses or next((file.parent / name for name in POSES if (file.parent / name).is_dir()), None)
    if folder is None or not folder.is_dir():
        where = f"{folder}: is no folder" if folder else f"{file.parent}: has no folder {POSES[0]}"
        raise SignerError(f"{where}; give the one that holds <video_id>.pose with --pose-folder")
    with outside.reading(file, "download it again"):
        try:
            glosses = read_json(file, LISTS)
        except ValueError as error:
            raise SignerError(f"{file}: is no JSON ({outside.reason_of(error)}); download it again") from None
    if not isinstance(glosses, list):
        raise SignerError(f"{file}: holds no list of glosses; download it again")
    cut = cut or Cut()
    cut.of_splits = tuple(sorted({one["split"] for one in _instances(glosses) if is_name(one.get("split"))}))
    cut.splits = tuple(dict.fromkeys(splits)) or (TRAIN if cut.of_splits else ())
    if lacking := [split for split in cut.splits if split not in cut.of_splits]:
        there = ", ".join(cut.of_splits)[: 3 * SHOWN] or "none"
        raise SignerError(f"{file}: has no split {lacking[0]!r}; its splits are {there}: give some with --splits")
    problems: list[str] = []
    return _signs(glosses, folder, frozenset(cut.splits), problems, trimmed, cut), problems


def _instances(glosses: list) -> Iterator[dict]:
    for about in glosses:
        instances = about.get("instances") if isinstance(about, dict) else None
        yield from (one for one in (instances if isinstance(instances, list) else ()) if isinstance(one, dict))


def _signs(
    glosses: list, folder: Path, splits: frozenset[str], problems: list[str], trimmed: bool, cut: Cut
) -> Iterator[tuple[Entry, Pose]]:
    files = Files(folder)
    for number, about in enumerate(glosses, start=1):
        gloss: Any = about.get("gloss") if isinstance(about, dict) else None
        instances = about.get("instances") if isinstance(about, dict) else None
        if not is_name(gloss) or not isinstance(instances, list):
            problems.append(f"entry {number}: has no gloss or no instances")
            continue
        gloss = " ".join(gloss.split())
        for one in instances:
            one = one if isinstance(one, dict) else {}
            try:
                if splits and not is_name(one.get("split")):
                    raise SignerError("an instance has no split")
                if splits and one["split"] not in splits:
                    continue
                yield _sign(gloss, one, files, trimmed, cut)
            except SignerError as error:
                problems.append(f"entry {number} ({one_line(gloss[:SHOWN])}): {error}")


def _sign(gloss: str, about: dict, files: Files, trimmed: bool, cut: Cut) -> tuple[Entry, Pose]:
    name: Any = about.get("video_id")
    signer, variation = about.get("signer_id", ""), about.get("variation_id", 0)
    if not is_name(name):
        raise SignerError("an instance has no video_id")
    whose = str(signer) if type(signer) is int else signer
    if type(variation) is not int or not 0 <= variation < NO_PRIORITY or not (whose == "" or is_name(whose)):
        raise SignerError(f"{name[:SHOWN]}: its variation_id or signer_id is no number")
    source = f"{name}.pose"
    whole = files.read(source)
    start, end = _frames(about, len(whole), cut, f"{gloss[:SHOWN]}, {source[:SHOWN]}")
    detected = cut_out(source, whole, start / whole.fps * 1000, end / whole.fps * 1000)
    pose, worth = as_sign(detected, trimmed and len(detected) == len(whole), cut)
    entry = Entry(
        gloss, LANGUAGE, whose, variant=variation, source=source, priority=NO_PRIORITY, words=gloss,
        spoken=SPOKEN, quality=worth,
    )  # fmt: skip
    return entry, pose


def _frames(about: dict, frames: int, cut: Cut, which: str) -> tuple[int, int]:
    """The first frame of the sign and the one past its last, from 0; 0 for the file's end. What the json says and the
    pose does not fit is noted in `cut`.
    """
    first, last, url = about.get("frame_start", 1), about.get("frame_end", -1), about.get("url", "")
    if type(first) is not int or type(last) is not int or first < 1 or last < -1 or last in range(first):
        raise SignerError(f"{about['video_id'][:SHOWN]}: frames {str(first)[:SHOWN]} to {str(last)[:SHOWN]} are none")
    if frames == last - first + 1 or (first, last) == (1, -1):
        return 0, 0
    if last > frames or last == -1:
        if _YOUTUBE.search(url if isinstance(url, str) else ""):
            cut.whole.append(f"{which}: its {frames} frames are not frames {first} to {last} of the json")
            return 0, 0
        if last > frames:
            cut.beyond.append(f"{which}: frame_end {last} lies beyond its {frames} frames")
    return first - 1, max(0, last)
