"""OpenPose's JSON: a folder of `NAME_%012d_keypoints.json`, a file a frame, coordinates in pixels.

A person has `pose_keypoints_2d` (BODY_25, or COCO's 18), `face_keypoints_2d` (70), `hand_left_keypoints_2d` and
`hand_right_keypoints_2d` (21): x, y and confidence of each point, all 0 where it was not found.
"""

import json
import re
from collections.abc import Sequence
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
_PARTS = (
    ("face_keypoints_2d", skeleton.FACE, 70), ("hand_left_keypoints_2d", skeleton.LEFT_HAND, 21),
    ("hand_right_keypoints_2d", skeleton.RIGHT_HAND, 21),
)  # fmt: skip
# What the 128 joints lack: the middle of the hips and the feet, the pupils.
_BEYOND = (("pose_keypoints_2d", 25, (8, *range(19, 25))), ("face_keypoints_2d", 70, (68, 69)))
BEYOND = tuple((name, place) for name, _, places in _BEYOND for place in places)  # components, places in them
LEFT_OUT = "the middle of the hips, the feet and the pupils, which the 128 joints lack"
_DEPTHS = "points in space (*_keypoints_3d)"
_MEND = "download or extract it again"


def read(path: str | Path, fps: float | None) -> Clip:
    """The clip of a folder, or the one frame of a file, in pixels.

    What the 128 joints lack goes beside them, for `write`. Frames are numbered from 0. Of several people the most
    confident of the first frame is followed; a frame of nobody, and one whose file is missing before another, has
    confidence 0. Raises `SignerError` for what is no whole frame, and without `fps`.
    """
    path = Path(path)
    rate, files = rate_and_files(path, fps)
    frames: list[Person] = []
    people: list[int] = []
    beyond: list[np.ndarray] = []
    depths = False
    for file in clips.placed(path, files, 0):
        shown, more, deep = ([], [], False) if file is None else read_frame(file)
        depths = depths or deep
        frames.append(clips.followed(shown, frames))
        theirs = [points for one, points in zip(shown, more, strict=True) if one is frames[-1]]
        beyond.append(theirs[0] if theirs else np.zeros((len(BEYOND), 3), np.float32))
        people.append(-1 if file is None else len(shown))
    kept = clips.Beyond(KIND, LEFT_OUT, np.stack(beyond)) if any(points[:, 2].any() for points in beyond) else None
    return clips.of_frames(path, frames, people, rate, clips.PIXELS, [_DEPTHS] if depths else [], kept)


def rate_and_files(path: Path, fps: float | None) -> tuple[float, list[tuple[int, Path]]]:
    """The frame rate, and the frames' numbers and files in order."""
    if path.is_dir():
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
    return clips.rate(path, fps, KIND), sorted(files)


def read_frame(file: Path) -> tuple[list[Person], list[np.ndarray], bool]:
    """The people of a frame, the points `[p, 3]` of each that the 128 joints lack (`BEYOND`), and whether there are
    points in space too.
    """
    outside.plain_file(file, "give a file of OpenPose's JSON")
    try:
        with outside.reading(file, "divide it"):
            return people_of(read_json(file, _MOST_BYTES))
    except ValueError as error:
        raise SignerError(f"{file}: not a whole frame of OpenPose's JSON ({error}); {_MEND}") from None


def people_of(frame: Any) -> tuple[list[Person], list[np.ndarray], bool]:
    if not isinstance(frame, dict) or not isinstance(frame.get("people"), list):
        raise ValueError("there is no list of people")
    if len(frame["people"]) > _MOST_PEOPLE:
        raise ValueError(f"there are more than {_MOST_PEOPLE} people")
    people, beyond, depths = [], [], False
    for person in frame["people"]:
        if not isinstance(person, dict):
            raise ValueError("a person is no object")
        depths = depths or any(values for name, values in person.items() if name.endswith("_keypoints_3d"))
        if (shown := _person(person))[1].any():
            people.append(shown)
            beyond.append(_beyond(person))
    return people, beyond, depths


def _beyond(person: dict) -> np.ndarray:
    """The points `[p, 3]` that the 128 joints lack, of a person whose numbers have been looked at."""
    points = np.zeros((len(BEYOND), 3), np.float32)
    start = 0
    for name, count, places in _BEYOND:
        values = person.get(name) or []
        if len(values) == 3 * count:
            points[start : start + len(places)] = clips.numbers(values, 3 * count).reshape(-1, 3)[list(places)]
        start += len(places)
    return seen_points(points)


def seen_points(points: np.ndarray) -> np.ndarray:
    """x, y and confidence `[..., 3]`, all 0 of what was not found."""
    seen = np.where((points[..., :2] == 0).all(-1), 0, points[..., 2])
    return np.concatenate([(cleaned := clips.clean(points[..., :2], seen))[0], cleaned[1][..., None]], axis=-1)


def _person(person: dict) -> Person:
    xy, confidence = clips.nobody()

    def put(name: str, joints: Sequence[str], places: Sequence[int], counts: Sequence[int]) -> None:
        values = person.get(name) or []
        if not values:
            return
        if not isinstance(values, list) or len(values) not in [3 * count for count in counts]:
            raise ValueError(f"{name} has not {' or '.join(str(3 * count) for count in counts)} numbers")
        points = clips.numbers(values, len(values)).reshape(-1, 3)[list(places)]
        where = [skeleton.INDEX[joint] for joint in joints]
        seen = np.where((points[:, :2] == 0).all(-1), 0, points[:, 2])
        xy[where], confidence[where] = clips.clean(points[:, :2], seen, _HIGHEST)

    body = person.get("pose_keypoints_2d")
    coco = isinstance(body, list) and len(body) == 3 * 18
    put("pose_keypoints_2d", skeleton.BODY, range(18) if coco else _BODY_25, (25, 18))
    for name, joints, count in _PARTS:
        put(name, joints, range(len(joints)), (count, len(joints)))
    return xy, confidence


def write(path: str | Path, clip: Clip) -> list[str]:
    """Writes the folder; returns what of the clip it does not hold. `read` gives the same float32 numbers back."""
    path = Path(path)
    found = clips.in_pixels(clip, KIND).pose
    ours = clip.beyond is not None and clip.beyond.kind == KIND
    beyond = clip.beyond.points if clip.beyond is not None and ours else np.zeros((len(found), len(BEYOND), 3))
    frames = zip(found.coordinates[..., :2], found.confidence, beyond, strict=True)
    with storage.new_folder(path, FOLDER) as partial:
        for number, (xy, confidence, more) in enumerate(frames):
            frame = {"version": 1.3, "people": [_to_json(xy, confidence, more)] if confidence.any() else []}
            text = json.dumps(frame, separators=(",", ":"))
            (partial / f"{clip.name}_{number:012d}{ENDING}").write_text(text, encoding="utf-8")
    return [
        *clips.unread(clip, KIND),
        *clips.lost(clip.pose, skeleton.JOINTS, depth=False, confidence=True),
        *clips.words_lost(clip),
        f"the frame rate of {clip.pose.fps:g}",
        *([] if clip.size is None else ["the picture's size"]),
    ]


def _to_json(xy: np.ndarray, confidence: np.ndarray, beyond: np.ndarray) -> dict[str, Any]:
    def triples(name: str, joints: Sequence[str], places: Sequence[int], count: int) -> list[float]:
        points = np.zeros((count, 3), np.float32)
        for (component, place), values in zip(BEYOND, beyond, strict=True):
            if component == name:
                points[place] = values
        where = [skeleton.INDEX[joint] for joint in joints]
        points[list(places)] = np.concatenate([xy[where], confidence[where, None]], axis=-1)
        # The shortest decimals that are the same float32.
        return [float(str(value)) if value else 0 for value in points.reshape(-1)]

    person: dict[str, Any] = {"person_id": [-1]}
    for name, joints, places, count in (
        ("pose_keypoints_2d", skeleton.BODY, _BODY_25, 25), *((n, j, range(len(j)), count) for n, j, count in _PARTS),
    ):  # fmt: skip
        person[name] = triples(name, joints, places, count)
    return person | {f"{name}_keypoints_3d": [] for name in ("pose", "face", "hand_left", "hand_right")}
