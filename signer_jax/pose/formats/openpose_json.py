"""OpenPose's JSON: a folder of `NAME_%012d_keypoints.json`, a file a frame, coordinates in pixels.

A person has `pose_keypoints_2d` (BODY_25, or COCO's 18), `face_keypoints_2d` (70), `hand_left_keypoints_2d` and
`hand_right_keypoints_2d` (21): x, y and confidence of each point, all 0 where it was not found.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signer_jax import outside, storage
from signer_jax.errors import SignerError
from signer_jax.json_files import read_json
from signer_jax.pose import skeleton
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats.clip import Clip, Person

KIND = "OpenPose's JSON"
FOLDER = "folder of OpenPose's JSON"
ENDING = "_keypoints.json"
_NUMBERED = re.compile(r"(?:(.*)_)?(\d{1,12})_keypoints\.json")
_MOST_BYTES = 1 << 20  # of a frame: one person takes 4 kB
_MOST_PEOPLE = 100
_HIGHEST = 1e6  # of a score: not yet a confidence
# Places of BODY_25 in which DWPose's order differs: the middle of the hips comes in between, eyes and ears follow it.
_BODY_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
# What the 128 joints lack: the middle of the hips and the feet, the pupils.
_BEYOND = (("pose_keypoints_2d", 25, (8, *range(19, 25))), ("face_keypoints_2d", 70, (68, 69)))
BEYOND = tuple((name, place) for name, _, places in _BEYOND for place in places)  # components, places in them
LEFT_OUT = "the middle of the hips, the feet and the pupils, which the 128 joints lack"
PARTS = {
    "pose_keypoints_2d": 25, "face_keypoints_2d": 70, "hand_left_keypoints_2d": 21, "hand_right_keypoints_2d": 21,
}  # fmt: skip
POINTS = sum(PARTS.values())
_FIRST = dict(zip(PARTS, np.cumsum([0, *PARTS.values()]).tolist(), strict=False))  # place of each part's first point
_WHERE = [*_BODY_25, *range(25, 25 + 68), *range(95, POINTS)]  # of each of the 128 joints
_COCO = 18
FROM_ONE = clips.Remark(clips.COUNTED, "frames are numbered from 1: the first is that of number 1")
_ANY_RATE = 25.0  # where it makes no difference
_MEND = "download or extract it again"


@dataclass(frozen=True)
class Shown:
    """A person of a frame: x, y and confidence `[137, 3]` float64 of all points, as they stand in the file."""

    points: np.ndarray
    person: Person
    fields: tuple[str, ...]  # that are not read, where they say something


def read(path: str | Path, fps: float | None, of: int = 0) -> Clip:
    """The clip of a folder, or the one frame of a file, in pixels.

    What the 128 joints lack goes beside them, for `write`. `of` is how many frames its video has, 0 where that is not
    known: see `first_number`. Of several people the most confident of the first frame is followed; a frame of nobody,
    and one whose file is missing before another, has confidence 0. Raises `SignerError` for what is no whole frame,
    and without `fps`.
    """
    path = Path(path)
    files = frame_files(path)
    rate = clips.rate(path, fps, KIND)
    frames: list[Person] = []
    people: list[int] = []
    beyond: list[np.ndarray] = []
    fields: dict[str, None] = {}
    counts = np.zeros(4, np.int64)  # numbers beyond float32, all; points and confidences that `clips.hidden` counts
    for shown, others, more in followed(path, files, of):
        fields |= dict.fromkeys(more)
        frames.append(clips.nobody() if shown is None else shown.person)
        people.append(-1 if others is None else len(others) + (shown is not None))
        beyond.append(_beyond(shown))
        if shown is not None:
            fields |= dict.fromkeys(shown.fields)
            hidden = clips.hidden(shown.points[:, :2], shown.points[:, 2])
            counts += (clips.not_in_float32(shown.points), shown.points.size, *hidden)
    kept = clips.Beyond(KIND, LEFT_OUT, np.stack(beyond)) if any(points[:, 2].any() for points in beyond) else None
    lost = [*clips.fields(fields), *clips.unseen(*counts[2:].tolist()), *clips.rounded(*counts[:2].tolist())]
    remarks = [FROM_ONE] if first_number(files, of) else []
    return clips.of_frames(path, frames, people, rate, clips.PIXELS, lost, kept, remarks)


def followed(
    path: Path, files: Sequence[tuple[int, Path]], of: int = 0
) -> Iterator[tuple[Shown | None, list[Shown] | None, tuple[str, ...]]]:
    """Of each frame who is followed, None where nobody is seen; the others of its list, None without a file; and its
    fields that are not read.
    """
    before: list[Person] = []
    for file in clips.placed(path, files, first_number(files, of)):
        people, fields = ([], ()) if file is None else read_frame(file)
        seen = [one for one in people if one.person[1].any()]
        taken = clips.followed([one.person for one in seen], before)
        before = [taken] if taken[1].any() else before
        found = next((one for one in seen if one.person is taken), None)
        yield found, None if file is None else [one for one in people if one is not found], fields


def first_number(files: Sequence[tuple[int, Path]], of: int) -> int:
    """Which number the clip's first frame has: OpenPose counts from 0, but of pictures that another program numbered
    from 1.

    A file of number 0 says 0. Where the first is 1, its video's frames tell: as many as the last number says, they are
    counted from 1; one more, and the first frame's file is missing. Without a video, or with another number of frames,
    from 1: OpenPose writes a file of every frame, and files are lost at an end less often than numbered so.
    """
    first, last = files[0][0], files[-1][0]
    return int(first == 1 and last + 1 != of)


def frame_files(path: Path) -> list[tuple[int, Path]]:
    """The frames' numbers and files in order."""
    if outside.is_folder(path):
        names = [entry.name for entry in path.iterdir() if entry.name.endswith(ENDING)]
        if len(names) > clips.MOST_FRAMES:
            raise SignerError(f"{path}: has more than {clips.MOST_FRAMES} frames; divide it")
        matched = {name: _NUMBERED.fullmatch(name) for name in names}
        files = [(int(match[2]), path / name) for name, match in matched.items() if match]
        if not files:
            raise SignerError(f"{path}: holds no file such as NAME_000000000000{ENDING}; give the folder of one clip")
        if len(stems := {match[1] or "" for match in matched.values() if match}) > 1:
            shown = ", ".join(sorted(stems)[:2])
            raise SignerError(f"{path}: holds frames of several clips ({shown}); give the folder of one")
    else:
        files = [(0, outside.plain_file(path, "give a folder of OpenPose's JSON"))]
    return sorted(files)


def read_frame(file: Path) -> tuple[list[Shown], tuple[str, ...]]:
    """All who are in a frame's list, in its order, seen or not; and its fields that are not read."""
    outside.plain_file(file, "give a file of OpenPose's JSON")
    try:
        with outside.reading(file, "divide it"):
            return people_of(read_json(file, _MOST_BYTES))
    except ValueError as error:
        raise SignerError(f"{file}: not a whole frame of OpenPose's JSON ({error}); {_MEND}") from None


def people_of(frame: Any) -> tuple[list[Shown], tuple[str, ...]]:
    if not isinstance(frame, dict) or not isinstance(frame.get("people"), list):
        raise ValueError("there is no list of people")
    if len(frame["people"]) > _MOST_PEOPLE:
        raise ValueError(f"there are more than {_MOST_PEOPLE} people")
    fields = tuple(name for name in frame if name not in ("version", "people") and _says(frame[name]))
    return [_shown(person) for person in frame["people"]], fields


def _says(value: Any) -> bool:
    """Whether a field holds anything: `part_candidates` is a list of empty ones where they were not asked for."""
    if isinstance(value, list | dict):
        return any(_says(item) for item in (value.values() if isinstance(value, dict) else value))
    return value is not None


def _shown(person: Any) -> Shown:
    if not isinstance(person, dict):
        raise ValueError("a person is no object")
    points = np.zeros((POINTS, 3))
    for name, count in PARTS.items():
        values = person.get(name) or []
        counts: dict[int, Sequence[int]] = {3 * count: range(count)}
        if name == "pose_keypoints_2d":
            counts[3 * _COCO] = _BODY_25
        elif name == "face_keypoints_2d":
            counts[3 * len(skeleton.FACE)] = range(len(skeleton.FACE))
        if not values:
            continue
        if not isinstance(values, list) or len(values) not in counts:
            raise ValueError(f"{name} has not {' or '.join(map(str, counts))} numbers")
        where = [_FIRST[name] + place for place in counts[len(values)]]
        points[where] = clips.exact(values, len(values)).reshape(-1, 3)
    said = [name for name in person if name not in (*PARTS, "person_id") and _says(person[name])]
    if person.get("person_id", [-1]) not in ([-1], -1, None, []):  # -1: nobody said which person it is
        said.append("person_id")
    with np.errstate(over="ignore", invalid="ignore"):
        ours = points[_WHERE].astype(np.float32)
    seen = np.where((ours[:, :2] == 0).all(-1), 0, ours[:, 2])
    return Shown(points, clips.clean(ours[:, :2], seen, _HIGHEST), tuple(said))


def _beyond(shown: Shown | None) -> np.ndarray:
    """The points `[p, 3]` that the 128 joints lack."""
    if shown is None:
        return np.zeros((len(BEYOND), 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return seen_points(shown.points[[_FIRST[name] + place for name, place in BEYOND]].astype(np.float32))


def seen_points(points: np.ndarray) -> np.ndarray:
    """x, y and confidence `[..., 3]`, all 0 of what was not found."""
    seen = np.where((points[..., :2] == 0).all(-1), 0, points[..., 2])
    cleaned = clips.clean(points[..., :2], seen, _HIGHEST)
    return np.concatenate([cleaned[0], cleaned[1][..., None]], axis=-1)


# ---- Writing ---------------------------------------------------------------------------------------------------------


def copy(path: str | Path, out: str | Path) -> tuple[int, list[str]]:
    """Writes the frames' files as they are, byte by byte, into a folder, or one frame's into a file of its kind.

    Returns how many frames there are, and what is lost. Raises `SignerError` as `read`.
    """
    path, out = Path(path), Path(out)
    if outside.is_folder(path):
        check_name(out)
    files = frame_files(path)
    frames = len(read(path, _ANY_RATE).pose)
    if out.name.endswith(ENDING):
        storage.write_file(out, files[0][1].read_bytes())
        return frames, []
    with storage.new_folder(out, FOLDER) as partial:
        for _, file in files:
            (partial / file.name).write_bytes(file.read_bytes())
    return frames, clips.other_files(path, [file.name for _, file in files])


def check_name(out: Path) -> None:
    """Raises `SignerError` where frames would be written under the name of one."""
    if out.name.endswith(ENDING):
        raise SignerError(f"{out}: is named as one frame of {KIND}, which is a folder; give a folder's name")


def write(path: str | Path, clip: Clip) -> list[str]:
    """Writes the folder; returns what of the clip it does not hold. `read` gives the same float32 numbers back."""
    path = Path(path)
    check_name(path)
    found = clips.in_pixels(clip, KIND).pose
    ours = clip.beyond is not None and clip.beyond.kind == KIND
    beyond = clip.beyond.points if clip.beyond is not None and ours else np.zeros((len(found), len(BEYOND), 3))
    frames = zip(found.coordinates[..., :2], clip.sure, beyond, strict=True)
    with storage.new_folder(path, FOLDER) as partial:
        for number, (xy, confidence, more) in enumerate(frames):
            frame = {"version": 1.3, "people": [_to_json(xy, confidence, more)] if confidence.any() else []}
            text = json.dumps(frame, separators=(",", ":"))
            (partial / f"{clip.name}_{number:012d}{ENDING}").write_text(text, encoding="utf-8")
    return [
        *clips.unread(clip, KIND),
        *clips.lost(clip, skeleton.JOINTS, depth=False, confidence=True),
        *clips.units_lost(clip),
        *clips.words_lost(clip),
        f"the frame rate of {clip.pose.fps:g}",
        *([] if clip.size is None else ["the picture's size"]),
    ]


def _to_json(xy: np.ndarray, confidence: np.ndarray, beyond: np.ndarray) -> dict[str, Any]:
    points = np.zeros((POINTS, 3), np.float32)
    points[[_FIRST[name] + place for name, place in BEYOND]] = beyond
    points[_WHERE] = np.concatenate([xy, confidence[:, None]], axis=-1)
    return as_json(points)


def as_json(points: np.ndarray) -> dict[str, Any]:
    """A person of `[137, 3]` float32, each number as the shortest decimals that are the same float32."""
    person: dict[str, Any] = {"person_id": [-1]}
    for name, count in PARTS.items():
        values = points[_FIRST[name] : _FIRST[name] + count].reshape(-1)
        person[name] = [float(str(value)) if value else 0 for value in values]
    return person | {name.replace("2d", "3d"): [] for name in PARTS}
