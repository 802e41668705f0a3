"""WLASL as a source of a pose database: its json, and a folder with a pose `<video_id>.pose` of each video.

`WLASL_v0.3.json` lists glosses with their instances (https://github.com/dxli94/WLASL): signer, variation (the way to
sign the gloss, from 0) and, of the downloaded video, `frame_start` from 1 and `frame_end`, its last frame, -1 the
video's. The project's preprocess.py cuts the sign out of YouTube's videos and leaves any other whole: so does this
reader take the poses of these to be cut, and cuts the others.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from signer_jax import outside
from signer_jax.errors import SignerError, one_line
from signer_jax.json_files import LISTS, read_json
from signer_jax.pose.entries import NO_PRIORITY, Entry
from signer_jax.pose.sources.common import SHOWN, Cut, Files, cut_out, is_name, trimmed_to_sign
from signer_jax.types import Pose

LANGUAGE, SPOKEN = "ase", "en"
POSES = ("poses", "pose", "videos")  # where the poses may lie below the json's folder
JSON = re.compile(r"WLASL_v[\d.]+\.json")
_YOUTUBE = re.compile(r"youtube|youtu\.be")


def read_wlasl(
    file: Path, poses: Path | None = None, *, splits: Collection[str] = (), trimmed: bool = True, cut: Cut | None = None
) -> tuple[Iterator[tuple[Entry, Pose]], list[str]]:
    """The signs of the json's instances whose pose is there, as `read_lexicon`; of the named splits, of all where none
    is.

    An instance that has no readable pose, or a value that cannot be meant, is noted in the list.
    Raises `SignerError` at once for what is no json of the dataset's, or where there is no folder of poses.
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
    problems: list[str] = []
    return _signs(glosses, folder, frozenset(splits), problems, trimmed, cut or Cut()), problems


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
            if splits and str(one.get("split")) not in splits:
                continue
            try:
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
    start, end = _frames(about, len(whole))
    pose = cut_out(source, whole, start / whole.fps * 1000, end / whole.fps * 1000)
    if trimmed and len(pose) == len(whole):
        pose = trimmed_to_sign(pose, cut)
    entry = Entry(
        gloss, LANGUAGE, whose, variant=variation, source=source, priority=NO_PRIORITY, words=gloss,
        spoken=SPOKEN,
    )  # fmt: skip
    return entry, pose


def _frames(about: dict, frames: int) -> tuple[int, int]:
    """The first frame of the sign and the one past its last, from 0; 0 for the file's end."""
    first, last, url = about.get("frame_start", 1), about.get("frame_end", -1), about.get("url", "")
    if type(first) is not int or type(last) is not int or first < 1 or last < -1 or last in range(first):
        raise SignerError(f"{about['video_id'][:SHOWN]}: frames {str(first)[:SHOWN]} to {str(last)[:SHOWN]} are none")
    is_cut = bool(_YOUTUBE.search(url if isinstance(url, str) else "")) or frames == last - first + 1
    return (0, 0) if is_cut or (first, last) == (1, -1) else (first - 1, max(0, last))
