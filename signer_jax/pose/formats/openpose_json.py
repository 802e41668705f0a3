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
# Places of BODY_25 in which DWPose's order differs: the middle of the hips comes in between, eyes and ears follow it.
_BODY_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
_PARTS = (
    ("face_keypoints_2d", skeleton.FACE, 70), ("hand_left_keypoints_2d", skeleton.LEFT_HAND, 21),
    ("hand_right_keypoints_2d", skeleton.RIGHT_HAND, 21),
)  # fmt: skip
_BEYOND = (("pose_keypoints_2d", 25, (8, *range(19, 25))), ("face_keypoints_2d", 70, (68, 69)))
_LEFT_OUT = "the middle of the hips, the feet and the pupils, which the 128 joints lack, were left out"
_MEND = "download or extract it again"


def read(path: str | Path, fps: float | None) -> Clip:
    """The clip of a folder, or the one frame of a file, in pixels.

    Frames are numbered from 0. Of several people the most confident of the first frame is followed; a frame of nobody,
    and one whose file is missing before another, has confidence 0. Raises `SignerError` for what is no whole frame, and
    without `fps`.
    """
    path = Path(path)
    rate, files = rate_and_files(path, fps)
    frames: list[Person] = []
    people: list[int] = []
    beyond = False
    for file in clips.placed(path, files, 0):
        shown, more = ([], False) if file is None else read_frame(file)
        beyond = beyond or more
        frames.append(clips.followed(shown, frames))
        people.append(-1 if file is None else len(shown))
    return clips.of_frames(path, frames, people, rate, clips.PIXELS, [_LEFT_OUT] if beyond else [])


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


def read_frame(file: Path) -> tuple[list[Person], bool]:
    """The people of a frame, and whether it shows points that the canonical skeleton lacks."""
    outside.plain_file(file, "give a file of OpenPose's JSON")
    try:
        with outside.reading(file, "divide it"):
            return people_of(read_json(file, _MOST_BYTES))
    except ValueError as error:
        raise SignerError(f"{file}: not a whole frame of OpenPose's JSON ({error}); {_MEND}") from None


def people_of(frame: Any) -> tuple[list[Person], bool]:
    if not isinstance(frame, dict) or not isinstance(frame.get("people"), list):
        raise ValueError("there is no list of people")
    if len(frame["people"]) > _MOST_PEOPLE:
        raise ValueError(f"there are more than {_MOST_PEOPLE} people")
    people, beyond = [], False
    for person in frame["people"]:
        if not isinstance(person, dict):
            raise ValueError("a person is no object")
        people.append(_person(person))
        for name, count, places in _BEYOND:  # their numbers have been looked at
            values = person.get(name) or []
            beyond = beyond or (len(values) == 3 * count and any(values[3 * place + 2] for place in places))
    return [person for person in people if person[1].any()], beyond


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
        xy[where], confidence[where] = clips.clean(points[:, :2], seen)

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
    with storage.new_folder(path, FOLDER) as partial:
        for number, (xy, confidence) in enumerate(zip(found.coordinates[..., :2], found.confidence, strict=True)):
            frame = {"version": 1.3, "people": [_to_json(xy, confidence)] if confidence.any() else []}
            text = json.dumps(frame, separators=(",", ":"))
            (partial / f"{clip.name}_{number:012d}{ENDING}").write_text(text, encoding="utf-8")
    return [
        *clips.lost(clip.pose, skeleton.JOINTS, depth=False, confidence=True),
        *clips.words_lost(clip),
        f"the frame rate of {clip.pose.fps:g}",
    ]


def _to_json(xy: np.ndarray, confidence: np.ndarray) -> dict[str, Any]:
    def triples(joints: Sequence[str], places: Sequence[int], count: int) -> list[float]:
        points = np.zeros((count, 3), np.float32)
        where = [skeleton.INDEX[joint] for joint in joints]
        points[list(places)] = np.concatenate([xy[where], confidence[where, None]], axis=-1)
        # The shortest decimals that are the same float32.
        return [float(str(value)) if value else 0 for value in points.reshape(-1)]

    person: dict[str, Any] = {"person_id": [-1], "pose_keypoints_2d": triples(skeleton.BODY, _BODY_25, 25)}
    for name, joints, count in _PARTS:
        person[name] = triples(joints, range(len(joints)), count)
    return person | {f"{name}_keypoints_3d": [] for name in ("pose", "face", "hand_left", "hand_right")}
