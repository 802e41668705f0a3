"""DWPose's results, in both layouts in use, as `.json`, `.npz` and `.npy`; coordinates are shares of the picture.

Prompt2Sign 2025, a file a frame, `NUMBER.json` and so on in a folder `json`, `npz` or `npy`: `{num_persons, person_0:
{body_keypoints 18x2, body_scores 18, face_… 68, left_hand_… 21, right_hand_… 21}}`; or the detector's own arrays:
`bodies` 18nx2, `body_scores` nx18, `hands` 2nx21x2 (all left ones, then all right ones), `hands_scores`, `faces`,
`faces_scores`. A body's scores are the joints' own numbers, -1 for what was not found: no confidences. Those of hands
and faces are, and may exceed 1. A single file may hold several frames: a list, or an object of frames by name.
`.npz` and `.npy` hold pickles, which are read as data (`pickles.py`).
"""

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from signer_jax import arrays, outside, pickles, storage
from signer_jax.errors import SignerError
from signer_jax.json_files import LISTS, parse_json
from signer_jax.pose import skeleton
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats.clip import Clip, Person

KIND = "DWPose"
KINDS = ("json", "npz", "npy")  # endings, and the names of folders
FOLDER = "folder of DWPose results"
_KIND_OF_FOLDER = (*KINDS, "results_dwpose")  # names that say what is in a folder, and not of which clip
_FRAME = re.compile(r"(?:.*\D)?(\d{1,12})\.(json|npz|npy)")
_MOST_BYTES = 1 << 25  # of a file
_MOST_MEMORY = 1 << 28
_MOST_PEOPLE = 100
_LONGEST = 1000  # letters of a field's name
# Of a pickle as JSON: numbers of arrays, letters, and other values, each as many times as it is named (a pickle has at
# most a million steps).
_MOST_VALUES, _VALUE = 1 << 23, 8
_HIGHEST = 1e6  # of a score: not yet a confidence
_ANY_RATE = 25.0  # where it makes no difference
_PARTS = (
    ("face", skeleton.FACE), ("left_hand", skeleton.LEFT_HAND), ("right_hand", skeleton.RIGHT_HAND),
)  # fmt: skip
_MEND = "download or extract it again"
WHOLE_BODY = 133  # points of COCO-WholeBody: COCO's 17, the feet's 6, the face's 68, 21 of each hand
# Of our body joints but the neck, COCO's.
_COCO = {"nose": 0, "left_eye": 1, "right_eye": 2, "left_ear": 3, "right_ear": 4,
         **{f"{side}_{part}": 5 + 2 * row + (side == "right") for side in ("left", "right")
            for row, part in enumerate(("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))}}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """A person of a frame, and what of it is not read."""

    person: Person
    # Numbers that float32 has no room for, points of no confidence, scores of the body that say more than which joint.
    counts: tuple[int, int, int]
    fields: tuple[str, ...] = ()  # that are not read


@dataclass(frozen=True)
class Frame:
    people: list[Shown]  # who are seen
    fields: tuple[str, ...]  # that are not read


def read(path: str | Path, fps: float | None) -> Clip:
    """The clip of a folder or of one file, in shares of the picture.

    A folder's frames are numbered from 1, or from 0 where there is one. Of several people the one of the first frame
    whose scores sum up to most is followed; a frame of nobody, and one whose file is missing before another, has
    confidence 0. Raises `SignerError` for what is no whole frame, and without `fps`.
    """
    path = Path(path)
    if not outside.is_folder(path):
        found = frames_of(outside.plain_file(path, "give a file or a folder of DWPose results"))
        rate = clips.rate(path, fps, "DWPose's results")
        return _clip(path, found, rate)
    files = frame_files(path)
    rate = clips.rate(path, fps, "DWPose's results")
    clip = _clip(path, map(_frame, clips.placed(path, files, _first(files))), rate)
    return replace(clip, name=_name(path) or clip.name)


def _name(folder: Path) -> str:
    """The clip's, of its frames' folder: Prompt2Sign's tools name that by its kind, `CLIP/results_dwpose/npz`."""
    there = folder.absolute()
    while there.name in _KIND_OF_FOLDER:
        there = there.parent
    return there.name


def frame_files(path: Path) -> list[tuple[int, Path]]:
    """The numbers and files of a folder's frames, in order."""
    matched = {entry.name: match for entry in path.iterdir() if (match := _FRAME.fullmatch(entry.name))}
    if not matched:
        raise SignerError(f"{path}: holds no frames of DWPose, such as 00000001.json; give the folder of one clip")
    if len(matched) > clips.MOST_FRAMES:
        raise SignerError(f"{path}: has more than {clips.MOST_FRAMES} frames; divide it")
    if len(kinds := sorted({match[2] for match in matched.values()})) > 1:
        raise SignerError(f"{path}: holds .{kinds[0]} and .{kinds[1]}; give a folder with one of them")
    return sorted((int(match[1]), path / name) for name, match in matched.items())


def _first(files: Sequence[tuple[int, Path]]) -> int:
    return min(files[0][0], 1)


def _frame(file: Path | None) -> Frame | None:
    """A folder's frame, None of one without a file."""
    if file is None:
        return None
    shown = frames_of(file)
    if len(shown) != 1:
        raise SignerError(f"{file}: holds {len(shown)} frames where its folder has a file a frame; give it alone")
    return shown[0]


def _clip(path: Path, found: Iterable[Frame | None], rate: float) -> Clip:
    frames: list[Person] = []
    people: list[int] = []
    taken: list[Shown] = []
    fields: dict[str, None] = {}
    for frame in found:
        shown = [] if frame is None else frame.people
        frames.append(clips.followed([one.person for one in shown], frames))
        taken += [one for one in shown if one.person is frames[-1]]
        people.append(-1 if frame is None else len(shown))
        fields |= dict.fromkeys(() if frame is None else frame.fields)
    return clips.of_frames(path, frames, people, rate, clips.SHARES, unread(taken, fields))


def unread(taken: Sequence[Shown], fields: Iterable[str] = ()) -> list[str]:
    """As `lost`, of those who are followed, and of the frames' fields."""
    counts = np.array([(0, 0, 0), *(one.counts for one in taken)]).sum(0).tolist()
    size = sum(one.person[1].size for one in taken) * 3
    scores = [f"{counts[2]} scores of the body that are not the joints' numbers"] if counts[2] else []
    named = {*fields, *(name for one in taken for name in one.fields)}
    return [*clips.fields(named), *clips.unseen(counts[1], 0), *scores, *clips.rounded(counts[0], size)]


def frames_of(file: Path) -> list[Frame]:
    """Each frame of a file."""
    outside.plain_file(file, "give a file of DWPose results")
    try:
        with outside.reading(file, "divide it"):
            frames = [_shown(frame) for frame in _frames(_value(file))]
    except ValueError as error:
        raise SignerError(f"{file}: no whole DWPose results ({error}); {_MEND}") from None
    if not frames:
        raise SignerError(f"{file}: no whole DWPose results (there is no frame); {_MEND}")
    return frames


# ---- What a file holds -----------------------------------------------------------------------------------------------


def _value(file: Path) -> Any:
    with file.open("rb") as opened:
        data = opened.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES >> 20} MB")
    if data.startswith(b"PK"):
        return {name.removesuffix(".npy"): _array(member) for name, member in _members(data).items()}
    return _array(data) if data.startswith(b"\x93NUMPY") else parse_json(data, LISTS)


def _members(data: bytes) -> dict[str, bytes]:
    """A zip's files, unpacked within the limit."""
    found: dict[str, bytes] = {}
    left = _MOST_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                arrays.check_packing(member)
                with archive.open(member) as opened:
                    found[member.filename] = opened.read(left + 1)
                left -= len(found[member.filename])
                if left < 0:
                    raise ValueError(f"it unpacks to more than {_MOST_BYTES >> 20} MB")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ValueError(f"it is no whole archive: {error}") from None
    return found


def _array(data: bytes) -> Any:
    packed = arrays.pickle_of(data)
    return arrays.array(data) if packed is None else pickles.read(packed, _MOST_MEMORY)


def _frames(value: Any) -> list[dict]:
    if isinstance(value, dict) and not ("num_persons" in value or "bodies" in value):
        value = list(value.values())  # frames by name, in the file's order
    frames = value if isinstance(value, list) else [value]
    if not all(isinstance(frame, dict) and ("num_persons" in frame or "bodies" in frame) for frame in frames):
        raise ValueError("it holds neither num_persons nor bodies")
    return frames


def _shown(frame: dict) -> Frame:
    people, known = _people_of_arrays(frame) if "bodies" in frame else _people_by_name(frame)
    seen = [one for one in people if one.person[1].any()]
    return Frame(seen, tuple(name for name in frame if name not in {*known, "num_persons"}))


def _people_by_name(frame: dict) -> tuple[list[Shown], set[str]]:
    """The people, and which of the frame's names are theirs."""
    count = frame["num_persons"]
    count = count.item() if isinstance(count, np.ndarray) and count.shape == () else count
    if type(count) is not int or not 0 <= count <= _MOST_PEOPLE:
        raise ValueError(f"num_persons is not 0 to {_MOST_PEOPLE}")
    people = []
    for i in range(count):
        person = frame.get(f"person_{i}")
        if not isinstance(person, dict):
            raise ValueError(f"there is no person_{i}")
        hands = [("left_hand", skeleton.LEFT_HAND), ("right_hand", skeleton.RIGHT_HAND)]
        parts, known = [], set()
        for name, joints in [("body", skeleton.BODY), ("face", skeleton.FACE), *hands]:
            if f"{name}_keypoints" not in person or f"{name}_scores" not in person:
                raise ValueError(f"person_{i} lacks {name}_keypoints or {name}_scores")
            known |= {f"{name}_keypoints", f"{name}_scores"}
            parts.append((
                clips.exact(person[f"{name}_keypoints"], len(joints), 2),
                clips.exact(person[f"{name}_scores"], len(joints)),
            ))  # fmt: skip
        people.append(replace(shown_of(parts), fields=tuple(name for name in person if name not in known)))
    return people, {f"person_{i}" for i in range(count)}


def _people_of_arrays(frame: dict) -> tuple[list[Shown], set[str]]:
    """As `_people_by_name`."""
    scores = frame.get("body_scores")
    count = len(scores) if isinstance(scores, list | np.ndarray) and np.ndim(scores) else -1
    if not 0 <= count <= _MOST_PEOPLE:
        raise ValueError(f"body_scores are not those of 0 to {_MOST_PEOPLE} people")

    def part(name: str, *shape: int) -> np.ndarray:
        if name not in frame:
            raise ValueError(f"there are no {name}")
        return clips.exact(frame[name], *shape)

    known = {"bodies", "body_scores", "hands", "hands_scores", "faces", "faces_scores"}
    if not count:
        return [], known
    bodies, found = part("bodies", 18 * count, 2).reshape(count, 18, 2), part("body_scores", count, 18)
    hands, sure = part("hands", 2 * count, 21, 2), part("hands_scores", 2 * count, 21)
    faces, clear = part("faces", count, 68, 2), part("faces_scores", count, 68)
    return [
        shown_of(
            [(bodies[i], found[i]), (faces[i], clear[i]), (hands[i], sure[i]), (hands[count + i], sure[count + i])]
        )
        for i in range(count)
    ], known


def shown_of(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> Shown:
    """On the canonical joints, which have the order of these parts: body, face, left and right hand; float64.

    A joint that the detector took away lies at (-1, -1).
    """
    (body, indices), *others = parts
    xy = np.concatenate([body, *(points for points, _ in others)])
    scores = np.concatenate([indices, *(scores for _, scores in others)])
    confidence = np.concatenate([(indices >= 0).astype(np.float64), *(scores for _, scores in others)])
    away = (xy == -1).all(-1)
    confidence = np.where(away, 0, confidence)
    places = int((~away & ~(confidence > 0) & (xy != 0).any(-1)).sum())
    odd = int(((indices != -1) & (indices != np.arange(len(indices)))).sum())
    beyond = clips.not_in_float32(xy) + clips.not_in_float32(scores)
    with np.errstate(over="ignore", invalid="ignore"):
        person = clips.clean(xy.astype(np.float32), confidence.astype(np.float32), _HIGHEST)
    return Shown(person, (beyond, places, odd))


def of_whole_body(points: np.ndarray, scores: np.ndarray) -> Person:
    """On the canonical joints, of DWPose's own 133 `points` `[133, 2]` and their confidences.

    The neck is the middle of the shoulders, and as sure as the less sure of the two; the feet are left out.
    """
    shoulders = [_COCO["right_shoulder"], _COCO["left_shoulder"]]
    neck, sure = points[shoulders].mean(0), scores[shoulders].min()
    others = [_COCO[joint] for joint in skeleton.BODY if joint != "neck"]
    at = skeleton.BODY.index("neck")
    xy = np.concatenate([np.insert(points[others], at, neck, 0), points[23:]])
    return clips.clean(xy, np.concatenate([np.insert(scores[others], at, sure), scores[23:]]).astype(np.float32))


# ---- Writing ---------------------------------------------------------------------------------------------------------


def copy(path: str | Path, out: str | Path, kind: str) -> tuple[int, list[str]]:
    """Writes DWPose's results as another file or folder of DWPose's, as `write`, with all people, names and numbers.

    A file that is of this kind already is written byte by byte. Returns how many frames there are, and what is lost.
    Raises `SignerError` as `read`.
    """
    path, out = Path(path), Path(out)
    frames = len(read(path, _ANY_RATE).pose)
    lost: dict[str, None] = {}
    try:
        with outside.reading(path, "divide it"):
            if outside.is_folder(path):
                _copy_folder(path, out, kind, lost)
            elif out.name == kind:
                _copy_frames(path, out, kind, lost)
            else:
                _write_one(out, _copied(path, kind, lost), kind)
    except ValueError as error:
        raise SignerError(f"{path}: does not fit into .{kind} ({error}); give another ending") from None
    return frames, list(lost)


def _write_one(out: Path, data: bytes, kind: str) -> None:
    if len(data) > _MOST_BYTES:
        raise SignerError(
            f"{out}: would have {len(data) >> 20} MB, more than {_MOST_BYTES >> 20} are read of a file; give a folder "
            f"named {kind}, which has a file a frame"
        )
    storage.write_file(out, data)


def _copy_frames(path: Path, out: Path, kind: str, lost: dict[str, None]) -> None:
    value = _held(path, kind, lost)
    frames = _frames(value)
    names = [f"{number:08d}" for number in range(1, len(frames) + 1)]
    if isinstance(value, dict) and not ("num_persons" in value or "bodies" in value):
        numbers = [int(name) if re.fullmatch(r"[0-9]{1,12}", name) else -1 for name in value]
        if numbers[0] in (0, 1) and numbers == [*range(numbers[0], numbers[0] + len(numbers))]:
            names = list(value)
        else:
            lost["the frames' names"] = None
    with storage.new_folder(out, FOLDER) as partial:
        for name, frame in zip(names, frames, strict=True):
            (partial / f"{name}.{kind}").write_bytes(_bytes(frame, kind))


def _copy_folder(path: Path, out: Path, kind: str, lost: dict[str, None]) -> None:
    files = frame_files(path)
    lost |= dict.fromkeys(clips.other_files(path, [file.name for _, file in files]))
    if out.name == kind:
        with storage.new_folder(out, FOLDER) as partial:
            for _, file in files:
                (partial / f"{file.stem}.{kind}").write_bytes(_copied(file, kind, lost))
        return
    values = {}
    for number, placed in enumerate(clips.placed(path, files, _first(files)), start=_first(files)):
        frame = {"num_persons": 0} if placed is None else _frames(_held(placed, kind, lost))[0]
        values[f"{number:08d}"] = frame
    if any(not file.stem.isdecimal() for _, file in files):
        lost["the files' names"] = None
    several = values if kind == "npz" else [*values.values()]
    _write_one(out, _bytes(next(iter(values.values())) if len(values) == 1 else several, kind), kind)


def _copied(file: Path, kind: str, lost: dict[str, None]) -> bytes:
    """The bytes of a file that has been read, as one of this kind."""
    return file.read_bytes() if _kind_of(file) == kind else _bytes(_held(file, kind, lost), kind)


def _kind_of(file: Path) -> str:
    """Which of the kinds a file's bytes are, whatever its ending."""
    with file.open("rb") as opened:
        data = opened.read(8)
    return "npz" if data.startswith(b"PK") else "npy" if data.startswith(b"\x93NUMPY") else "json"


def _held(file: Path, kind: str, lost: dict[str, None]) -> Any:
    """What a file holds as this kind holds it: lists of numbers in JSON, arrays of what JSON holds else.

    What comes out of a pickle is left as it is, for its parts may be parts of others.
    """
    value = _value(file)
    if kind == "json":
        return _as_json(value, lost, [_MOST_VALUES])
    return _as_arrays(value) if _kind_of(file) == "json" else value


def _as_json(value: Any, lost: dict[str, None], left: list[int]) -> Any:
    """`left` is how much more there may be: a pickle may name one thing many times."""
    left[0] -= _VALUE + (value.size if isinstance(value, np.ndarray) else len(value) if isinstance(value, str) else 0)
    if left[0] < 0:
        raise ValueError("it has too many values, each as often as it is named")
    if isinstance(value, dict):
        held = {name: item for name, item in value.items() if not isinstance(item, bytes | bytearray)}
        lost |= {f"{name[:40]} (bytes, which JSON has none of)": None for name in value if name not in held}
        return {name: _as_json(item, lost, left) for name, item in held.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item, lost, left) for item in value]
    if isinstance(value, bytes | bytearray):
        raise ValueError("JSON has no bytes")
    return value.tolist() if isinstance(value, np.ndarray) else value


def _as_arrays(value: Any) -> Any:
    """What JSON holds, with arrays of the same numbers for lists of numbers, where there are such."""
    if isinstance(value, dict):
        return {name: _as_arrays(item) for name, item in value.items()}
    if not isinstance(value, list):
        return value
    if value and isinstance(value[0], dict):
        return [_as_arrays(item) for item in value]
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        return value
    return array if array.dtype.kind in "iuf" and array.tolist() == value else value


def write(path: str | Path, clip: Clip, kind: str) -> list[str]:
    """Writes one file of that kind, or, where the path's name is the kind, a folder with a file a frame; returns what
    of the clip it does not hold.

    A single file of several frames is a list of them, an `.npz` has them by their numbers. Coordinates are
    written as the shortest decimals that are the same float32: `read` gives the same float32 numbers back.
    """
    path = Path(path)
    found = clips.in_shares(clip, "DWPose").pose
    frames = [_to_frame(xy, sure, kind) for xy, sure in zip(found.coordinates[..., :2], clip.sure, strict=True)]
    if path.name == kind:
        with storage.new_folder(path, FOLDER) as partial:
            for number, frame in enumerate(frames, start=1):
                (partial / f"{number:08d}.{kind}").write_bytes(_bytes(frame, kind))
    else:
        several = {f"{i:08d}": frame for i, frame in enumerate(frames, start=1)} if kind == "npz" else frames
        _write_one(path, _bytes(frames[0] if len(frames) == 1 else several, kind), kind)
    body = clip.sure[:, : len(skeleton.BODY)]
    said = [*clips.unread(clip), *clips.lost(clip, skeleton.JOINTS, depth=False, confidence=True)]
    if not np.isin(body, (0, 1)).all():
        said.append("confidences of the body (what is seen stays told from what is not)")
    size = [] if clip.size is None else ["the picture's size"]
    said += [*clips.units_lost(clip), *clips.words_lost(clip)]
    return [*said, f"the frame rate of {clip.pose.fps:g}", *size]


def _to_frame(xy: np.ndarray, confidence: np.ndarray, kind: str) -> dict[str, Any]:
    if not confidence.any():
        return {"num_persons": 0}
    shown = _decimals(np.where(confidence[:, None] > 0, xy, -1))
    body = len(skeleton.BODY)
    person: dict[str, Any] = {
        "body_keypoints": shown[:body],
        "body_scores": np.where(confidence[:body] > 0, np.arange(body), -1).astype(np.float64),
    }
    for name, joints in _PARTS:
        where = [skeleton.INDEX[joint] for joint in joints]
        person |= {f"{name}_keypoints": shown[where], f"{name}_scores": _decimals(confidence[where])}
    if kind == "json":
        person = {name: values.tolist() for name, values in person.items()}
    return {"num_persons": 1, "person_0": person}


def _decimals(values: np.ndarray) -> np.ndarray:
    """Float32 as the shortest decimals that are the same in it: 0.52347, not 0.5234699845314026."""
    return values.astype(np.float32).astype(str).astype(np.float64)


def _bytes(value: Any, kind: str) -> bytes:
    if kind == "json":
        return json.dumps(value, separators=(",", ":")).encode()
    if kind == "npy":
        return _npy(value)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        several = value if isinstance(value, dict) else {f"{i:08d}": one for i, one in enumerate(value, start=1)}
        for name, member in several.items():
            if "\0" in name or len(name) > _LONGEST:
                raise ValueError(f"{name[:40]!r} is no name of a file")
            archive.writestr(f"{name}.npy", _npy(member))
    return file.getvalue()


def _npy(value: Any) -> bytes:
    """As `np.save` writes it, objects as a pickle."""
    file = io.BytesIO()
    if isinstance(value, np.ndarray):
        array = value
    elif isinstance(value, list):
        array = np.empty(len(value), object)
        array[:] = value
    else:
        array = np.empty((), object)
        array[()] = value
        array = np.array(value) if isinstance(value, int) else array
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()
