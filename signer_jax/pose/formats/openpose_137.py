"""OpenPose's 137 points between its JSON and a `.pose` of the same points: all people, each number as it is."""

import json
import struct
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from pose_format.pose_header import PoseHeader, PoseHeaderDimensions

from signer_jax import outside, storage
from signer_jax.errors import SignerError
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats import openpose_json, pose_file, pose_layout
from signer_jax.pose.formats.clip import Clip

_FRAME_BYTES = 4 * 3 * openpose_json.POINTS  # of a person in a `.pose`
_MOST_GROWTH, _SMALL = 16, 1 << 26  # a frame of many people makes as many places of every frame
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a backslash in a text of that module, once, when Python compiles it
    from pose_format.utils.openpose import OpenPose_Components
_NAMES = tuple((component.name, tuple(component.points)) for component in OpenPose_Components)


def to_pose(
    path: str | Path, out: str | Path, fps: float | None, size: tuple[int, int] | None
) -> tuple[int, list[str], list[str]]:
    """Writes a folder of OpenPose's JSON, or one frame's file, as a `.pose` (version 0.2) of the 137 points.

    Whom `openpose_json.read` follows is its first person, whom readers of `.pose` take; the others come after, in the
    order of the frame's list. A body of COCO's 18 points is in BODY_25's places. `size` (height, width) is the
    picture's; without it the header says what readers take for unsaid. Returns how many frames there are, what was read
    otherwise, and what is lost. Raises `SignerError` as `openpose_json.read`.
    """
    path = Path(path)
    clip = openpose_json.read(path, fps)
    frames: list[list[np.ndarray]] = []
    fields: dict[str, None] = {}
    beyond = 0
    for first, others, more in openpose_json.followed(path, openpose_json.frame_files(path)):
        fields |= dict.fromkeys(more)
        people = [one for one in (first, *(others or ())) if one is not None and one.points.any()]
        fields |= dict.fromkeys(field for one in people for field in one.fields)
        beyond += sum(clips.not_in_float32(one.points) for one in people)
        frames.append([_float32(one.points) for one in people])
    held, most = sum(map(len, frames)), max(map(len, frames))
    if (takes := len(frames) * most * _FRAME_BYTES) > max(_SMALL, _MOST_GROWTH * held * _FRAME_BYTES):
        raise SignerError(
            f"{path}: {len(frames)} frames of {most} people would take {takes >> 20} MB; cut it into shorter clips"
        )
    points = np.zeros((len(frames), most, openpose_json.POINTS, 3), np.float32)
    for frame, people_of in zip(points, frames, strict=True):
        frame[: len(people_of)] = people_of if people_of else 0
    seen = np.isfinite(points).all(-1) & (points[..., 2] > 0)
    shown = np.where(seen[..., None], points[..., :2], 0)
    pose_file.plausible(path, shown, _NAMES)
    height, width = pose_file.UNSAID if size is None else (min(side, 65535) for side in size)
    head = struct.pack("<fHHH", 0.2, width, height, 0) + _described()
    head += struct.pack("<fIH", clip.pose.fps, len(frames), most)
    storage.write_file(out, head + points[..., :2].astype("<f4").tobytes() + points[..., 2].astype("<f4").tobytes())
    lost = [*clips.fields(fields), *clips.rounded(beyond, held * 3 * openpose_json.POINTS)]
    return len(frames), _said(clip), [*lost, *clips.other_files(path, _names_of(path))]


def from_pose(path: str | Path, out: str | Path, fps: float | None) -> tuple[int, list[str], list[str]] | None:
    """Writes a `.pose` of the 137 points as a folder of OpenPose's JSON; None, and nothing, of another layout.

    Each number is written as the shortest decimals that are the same float32; who is 0 throughout a frame is not in it.
    Returns how many frames there are, what was read otherwise, and what is lost. Raises `SignerError` as
    `pose_file.read_clip`.
    """
    path = Path(path)
    openpose_json.check_name(Path(out))
    clip = pose_file.read_clip(path, fps)
    with outside.reading(path, "cut it into shorter clips"):
        file = pose_layout.parse(path.read_bytes())
        if [(name, len(points)) for name, points in file.names] != [*openpose_json.PARTS.items()]:
            return None
        if file.names[0] != _NAMES[0]:
            return None
        values, confidence = pose_layout.everybody(file)
    lost = [] if values.shape[-1] == 2 or not np.nan_to_num(values[..., 2:]).any() else ["depth"]
    if nothing := int((~np.isfinite(values)).sum() + (~np.isfinite(confidence)).sum()):
        lost.append(f"{nothing} values that are no numbers")
    if file.components != _described() and pose_layout.drawn(file):
        lost.append("the header's limbs and colours")
    with storage.new_folder(out, openpose_json.FOLDER) as partial:
        for number, (xy, sure) in enumerate(zip(values[..., :2], confidence, strict=True)):
            points = np.nan_to_num(np.concatenate([xy, sure[..., None]], axis=-1), nan=0, posinf=0, neginf=0)
            frame = {"version": 1.3, "people": [openpose_json.as_json(one) for one in points if one.any()]}
            text = json.dumps(frame, separators=(",", ":"))
            name = f"{path.stem}_{number:012d}{openpose_json.ENDING}"
            (partial / name).write_text(text, encoding="utf-8")
    lost += ["the people's numbers"] if pose_layout.numbered(file) else []
    lost += [f"the frame rate of {clip.pose.fps:g}", "the picture's size"]
    return len(values), _said(clip), lost + ([f"the header's depth of {file.depth}"] if file.depth else [])


def _said(clip: Clip) -> list[str]:
    """What was read otherwise, where all people are kept."""
    kinds = (clips.SEVERAL, clips.FIRST)
    return [remark for remark in clip.remarks if not (isinstance(remark, clips.Remark) and remark.kind in kinds)]


def _names_of(path: Path) -> list[str]:
    return [file.name for _, file in openpose_json.frame_files(path)]


def _float32(points: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return points.astype(np.float32)


@cache
def _described() -> bytes:
    """The components as a header has them, behind the picture's size."""
    file = BytesIO()
    PoseHeader(0.2, PoseHeaderDimensions(1, 1, 0), OpenPose_Components).write(file)
    return file.getvalue()[struct.calcsize("<fHHH") :]
