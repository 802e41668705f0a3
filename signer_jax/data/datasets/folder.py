"""A folder of any videos and poses, with a csv of one's own or without.

Layout: `samples.csv`, or the only csv, in the folder: quoted, comma-separated, with those of these columns that there
are, in any order:
- `name`: of its own; without it the video's or pose's path, with its start where there is one.
- `video`, `pose`: paths within the folder. A video is a file or a folder of pictures; a pose is a file, or a folder of
  a file a frame.
- `text`, `prompt` (how somebody asks for it: a sample of its own beside its text's, or in the place of one), `gloss`
  (glosses between spaces), `glosses_by` (human, rules, slul or unknown; without it unknown).
- `language`, `spoken`: IANA codes, or what else people write for them (ASL, English); what is none is left out.
- `signer`; `recording`: a name of what the video was cut out of, the same for all of one.
- `split`: train where it is empty; val is dev.
- `start`, `end`: in seconds, of the video and the pose; an empty end is the end.
- `fps`: frames a second of a folder of pictures, else of poses that do not say it, beside a video or without; a video
  says its own.
A column of another name is not read, and told (`remarks`).
Without a csv: all videos and .pose files at any depth; the first folder of a path is the split where it is named train,
dev, val or test. A video and a pose of one name up to the ending are a pair in one folder, and in two where no other
file of the split has that name. A name of several samples stands with its folders.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from signer_jax import outside
from signer_jax.data import tables
from signer_jax.data.datasets import finding
from signer_jax.data.datasets.finding import Lacking, Names
from signer_jax.data.datasets.item import Found, Item
from signer_jax.data.language_codes import iana_of, spoken_code
from signer_jax.errors import SignerError, closest, one_line

_TABLE = "samples.csv"
_COLUMNS = (
    "name", "video", "pose", "text", "prompt", "gloss", "glosses_by", "language", "spoken", "signer", "recording",
    "split", "start", "end", "fps",
)  # fmt: skip
_BY = ("human", "rules", "slul", "unknown")
_POSES = (".pose",)
_POSE_FRAMES = (".json", ".npz", ".npy")
_PLAIN = re.compile(r"[\w.-]{1,64}")


def splits(source: str | Path) -> list[str]:
    """Those that the table names. Raises `SignerError` where there is neither a table nor a video nor a pose."""
    folder = finding.check_folder(source)
    file = _table(folder)
    if file:
        found = {_split(row) for row in _rows(file)}
    else:
        found = {split for split, _, _ in _files(folder)}
        if not found:
            raise SignerError(f"{folder}: has no csv, no video and no .pose file; give the folder that holds them")
    return finding.in_order(found) or ["train"]


def remarks(source: str | Path) -> list[str]:
    """What is to be told of the folder, in lines: the columns of its table that are not read."""
    file = _table(Path(source))
    unread = [name for name in tables.columns(file) if name not in _COLUMNS] if file else []
    if not unread:
        return []
    named = ", ".join(
        f"{name[:40]!r}{closest(name, _COLUMNS)}" if name else "one without a name" for name in unread[:20]
    )
    more = f" and {len(unread) - 20} more" if len(unread) > 20 else ""
    return [one_line(f"{file}: columns that are not read: {named}{more}; known: {', '.join(_COLUMNS)}")]


def items(source: str | Path, split: str, *, media: bool = True) -> Iterator[Found]:
    """The rows of the split in the table's order; without a table what is found, by its names. Without `media` a row is
    its text and glosses, and what else it names is not looked for.
    """
    folder = Path(source)
    finding.check_split(split, splits(folder), folder)
    file = _table(folder)
    return _of_table(folder, file, _rows(file), split, media) if file else _of_files(folder, split)


def _table(folder: Path) -> Path | None:
    found = [file.name for file in outside.entries(folder, "*.csv")]
    if _TABLE not in found and len(found) > 1:
        raise SignerError(f"{folder}: has several csv files ({', '.join(found)[:200]}); name yours {_TABLE}")
    return finding.first_there(folder, [_TABLE] if _TABLE in found else found)


def _rows(file: Path) -> Iterator[tables.Row]:
    return tables.rows(file, (), _COLUMNS)


def _split(row: tables.Row) -> str:
    """A row that names none that can be one is told with those of train."""
    split = finding.our_split(row.cells.get("split", ""))
    return split if not row.fault and _PLAIN.fullmatch(split) else "train"


def _of_table(folder: Path, file: Path, rows: Iterator[tables.Row], split: str, media: bool) -> Iterator[Found]:
    names = Names()
    for row in rows:
        if _split(row) != split:
            continue
        if row.fault:
            yield finding.left(row, split, file, name=row.cells.get("name", ""))
            continue
        given = row.cells.get
        name = given("name") or _default_name(row)
        try:
            if not _PLAIN.fullmatch(given("split") or "train"):
                raise Lacking("unknown split", given("split", "")[:40])
            name = names.new(name)
            glosses = tuple(given("gloss", "").split()) if given("gloss") else None
            by = (given("glosses_by") or "unknown") if glosses else ""
            if by and by not in _BY:
                raise Lacking("unknown glosses_by", by[:40])
            seconds = finding.seconds_of(given("start", ""), given("end", ""))
            video = _place(folder, given("video") if media else None, finding.PICTURES, "video file")
            pose = _place(folder, given("pose") if media else None, _POSE_FRAMES, "pose file")
            fps = _rate(given("fps", ""))
            language = _code(given("language", ""), iana_of, "language is no sign language", "ase or gsg")
            spoken = _code(given("spoken", ""), spoken_code, "spoken is no language", "en or de")
            if not (video or pose or given("text") or given("prompt")):
                raise Lacking("no video, pose, text or prompt")
        except Lacking as lacking:
            yield finding.left(row, split, file, lacking, name)
            continue
        yield Item(
            name, split, given("text", ""), given("prompt", ""), language, spoken, glosses, by, given("signer", ""),
            video, pose, recording=given("recording", ""),
            seconds=seconds if seconds != (0.0, None) and (video or pose) else None,
            fps=fps if _says_no_rate(video) or _says_no_rate(pose) else None, came_from=finding.place(file, row.line),
        )  # fmt: skip


def _default_name(row: tables.Row) -> str:
    path = row.cells.get("video") or row.cells.get("pose") or f"line {row.line}"
    stem = path.removesuffix(Path(path).suffix)
    return f"{stem}@{start}" if (start := row.cells.get("start")) else stem


def _place(folder: Path, name: str | None, frames: tuple[str, ...], what: str) -> Path | None:
    if not name:
        return None
    path = finding.inside(folder, name)
    if outside.is_folder(path):
        return finding.folder_of(folder, (name,), frames, what.replace("file", "folder"))
    return finding.file_of(folder, (name,), what)


def _rate(text: str) -> float | None:
    try:
        rate = float(text) if text else None
    except ValueError:
        rate = 0.0
    if rate is not None and not 1 <= rate <= 1000:
        raise Lacking("fps is no frame rate", text[:40])
    return rate


def _code(text: str, code_of: Callable[[str], str], fault: str, codes: str) -> str:
    """The code of the language that a cell names, "" where it names none."""
    if text and not (code := code_of(text)):
        raise Lacking(fault, f"{text[:40]}: give its IANA code, such as {codes}")
    return code if text else ""


def _says_no_rate(path: Path | None) -> bool:
    return path is not None and (outside.is_folder(path) or path.suffix.lower() not in (*finding.VIDEOS, *_POSES))


def _refuse(error: OSError) -> None:
    raise outside.unlisted(error)


def _files(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """(split, name, path) of each video and pose. Links to folders are not followed, hidden ones are passed over."""
    for where, below, files in os.walk(folder, onerror=_refuse):
        below[:] = sorted(name for name in below if not name.startswith("."))
        first = Path(where).relative_to(folder).parts[:1]
        split = finding.our_split(first[0]) if first else ""
        for name in sorted(files):
            path = Path(where, name)
            if path.suffix.lower() in (*finding.VIDEOS, *_POSES) and not name.startswith("."):
                yield split if split in finding.SPLITS else "train", finding.composed(path.stem), path


def _of_files(folder: Path, split: str) -> Iterator[Found]:
    found: dict[str, dict[Path, dict[str, Path]]] = {}  # by name and folder
    for theirs, name, path in _files(folder):
        if theirs == split:
            kind = "pose" if path.suffix.lower() in _POSES else "video"
            here = found.setdefault(name, {}).setdefault(path.parent, {})
            if kind in here:
                other = f"{here[kind].relative_to(folder)} has the same name"
                yield finding.lost(name, split, Lacking("named twice", other), str(path.relative_to(folder)))
                continue
            here[kind] = path
    for name, folders in sorted(found.items()):
        alone = {kind: [there[kind] for there in folders.values() if [*there] == [kind]] for kind in ("video", "pose")}
        if len(folders) == 2 and len(alone["video"]) == len(alone["pose"]) == 1:
            yield _of_pair(folder, name, split, {kind: paths[0] for kind, paths in alone.items()})
            continue
        unclear = all(alone.values())
        for where, paths in sorted(folders.items()):
            own = name if len(folders) == 1 else (where.relative_to(folder) / name).as_posix()
            if unclear and len(paths) == 1:
                (path,) = paths.values()
                detail = "put each video and its pose into one folder, or name them in samples.csv"
                yield finding.lost(own, split, Lacking("no telling whose pose", detail), str(path.relative_to(folder)))
            else:
                yield _of_pair(folder, own, split, paths)


def _of_pair(folder: Path, name: str, split: str, paths: dict[str, Path]) -> Found:
    """The sample of a video and a pose, or of one of them."""
    place = str(paths[max(paths)].relative_to(folder))  # the video's, if there is one
    try:
        if fault := tables.fault_of(place):
            raise Lacking(fault)
        media = {
            kind: finding.file_of(folder, (str(path.relative_to(folder)),), f"{kind} file")
            for kind, path in paths.items()
        }
    except Lacking as lacking:
        return finding.lost(name, split, lacking, place)
    return Item(name, split, came_from=place, video=media.get("video"), pose=media.get("pose"))
