"""The `.pose` format (the pose-format library's): any of its common layouts in, version 0.2 with our 128 joints out, or
with what another `.pose` file has (`copy`).

Layouts are recognised by the names of components and points, never by counts: MediaPipe Holistic (586, 576, 543 or
178 points) and OpenPose 137 occur in the wild, and the canonical layout that `write` makes. The MediaPipe face mesh is
mapped to the 68 iBUG points through their known correspondence (`MESH_OF_IBUG`).
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool
from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

from signer_jax import outside, storage
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.draw import BODY_LIMBS, HAND_LIMBS
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats import openpose_json, pose_layout
from signer_jax.pose.formats.clip import Clip
from signer_jax.pose.formats.foreign import recognise
from signer_jax.types import Pose

UNSAID = (1000, 1000)  # height and width in the header where nobody says them, as pose_format's load_openpose writes

# MediaPipe face mesh index of each iBUG point; "right" (the signer's) is on the picture's left in both.
MESH_OF_IBUG = (
    127, 234, 132, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 361, 454, 356,  # jaw 0-16
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows 17-26
    168, 197, 5, 4, 98, 97, 2, 326, 327,  # nose 27-35
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes 36-47
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips 48-59
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips 60-67
)  # fmt: skip
_MESH_EYES = {"right_eye": (33, 160, 158, 133, 153, 144), "left_eye": (362, 385, 387, 263, 373, 380)}
_MESH_EARS = {"right_ear": (234,), "left_ear": (454,)}  # the mesh's edge, just in front of the ear
_MESH_UPPER_LIP = 0
# Where the nose tip lies on the way from between the eyes to the upper lip; 29 real full-mesh clips: 0.48 to 0.65.
_NOSE_SHARE = 0.55

_HOLISTIC_BODY = {
    "nose": "NOSE", "right_eye": "RIGHT_EYE", "left_eye": "LEFT_EYE", "right_ear": "RIGHT_EAR", "left_ear": "LEFT_EAR",
    **{f"{side}_{part}": f"{side}_{part}".upper() for side in ("right", "left")
       for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
}  # fmt: skip
_HOLISTIC_FINGERS = {
    "thumb": ("THUMB_CMC", "THUMB_MCP", "THUMB_IP", "THUMB_TIP"),
    **{f.lower(): tuple(f"{f}{middle}_{part}" for part in ("MCP", "PIP", "DIP", "TIP"))
       for f, middle in (("INDEX", "_FINGER"), ("MIDDLE", "_FINGER"), ("RING", "_FINGER"), ("PINKY", ""))},
}  # fmt: skip
_HOLISTIC_HAND = ("WRIST", *(point for finger in skeleton.FINGERS for point in _HOLISTIC_FINGERS[finger]))
_BODY_LANDMARKS = (  # in MediaPipe's order
    "NOSE", *(f"{side}_EYE{where}" for side in ("LEFT", "RIGHT") for where in ("_INNER", "", "_OUTER")),
    "LEFT_EAR", "RIGHT_EAR", "MOUTH_LEFT", "MOUTH_RIGHT",
    *(f"{side}_{part}" for part in ("SHOULDER", "ELBOW", "WRIST", "PINKY", "INDEX", "THUMB", "HIP", "KNEE", "ANKLE",
                                    "HEEL", "FOOT_INDEX") for side in ("LEFT", "RIGHT")),
)  # fmt: skip
_OPENPOSE_BODY = {
    "nose": "Nose", "neck": "Neck", "right_eye": "REye", "left_eye": "LEye", "right_ear": "REar", "left_ear": "LEar",
    **{f"{side}_{part}": f"{side[0].upper()}{part.capitalize()}" for side in ("right", "left")
       for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
}  # fmt: skip
_BODY_25 = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip", "RHip", "RKnee",
    "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar", "LBigToe", "LSmallToe", "LHeel", "RBigToe",
    "RSmallToe", "RHeel",
)  # fmt: skip
_COMPONENTS = (
    ("BODY", skeleton.BODY), ("FACE", skeleton.FACE),
    ("LEFT_HAND", skeleton.LEFT_HAND), ("RIGHT_HAND", skeleton.RIGHT_HAND),
)  # fmt: skip
_DEPTH = 3
_FRAME_BYTES = 4 * len(skeleton.JOINTS) * (_DEPTH + 1)
_MOST_GROWTH, _SMALL = 16, 1 << 26  # a layout of two joints grows 85-fold; the smallest real one, 33 points, fourfold
# MediaPipe gives z in picture widths, and pose-format writes it beside x and y in pixels. 75 real files: within 2.4,
# or, where somebody moved and scaled the poses since (the width no longer fits), around 250 and more.
_MOST_WIDTHS = 10
_FARTHEST = 1e6  # units of any kind: real files stay below 5,000 pixels
_NORMALISED = 16  # pixels no coordinate goes beyond: what does not is in shoulder widths or other units
_Names: TypeAlias = dict[str, tuple[tuple[str, str], ...]]  # the (component, point)s whose mean a joint is


def read(path: str | Path) -> Pose:
    """The pose of the file's first person (others are ignored), on the canonical 128 joints.

    Coordinates `[t, 128, 3]` float32 are in the file's units (pixels), confidence `[t, 128]` in 0…1. z is 0 where the
    file has x and y only; MediaPipe's comes times the width of the picture, and is measured from the hips for the body,
    the wrist for a hand and the head for the face; where the file's poses have been moved it is left as it is. A
    non-finite point gets confidence 0 and coordinate 0, and so does one at exactly x = y = 0 of another project's
    layout, whatever confidence it has: detectors write so what they did not find. The neck is the middle of the
    shoulders where the layout has none; with the 178-point layout, whose body lacks the head, eyes and ears are read
    off the face mesh and the nose lies between the eyes and the upper lip. iBUG points that a contour subset of the
    mesh lacks (the nose, 27-35) keep confidence 0.

    Raises `SignerError` where the file is missing, cut short, of an unknown layout, without a person or frame, or has
    an impossible frame rate or coordinate.
    """
    return read_with_layout(path)[0]


def read_with_layout(path: str | Path) -> tuple[Pose, Bool[np.ndarray, " j"]]:
    """As `read`, and which of the 128 joints the file's layout has at all, seen or not."""
    path = outside.plain_file(path, "give a .pose file")
    with outside.reading(path, "cut it into shorter clips"):
        found = _read(path, path.read_bytes())
        return found.pose, found.has


def read_clip(path: str | Path, fps: float | None = None) -> Clip:
    """As `read`, with what the header says of the picture; `fps` takes the place of the file's rate, which is told."""
    path = outside.plain_file(path, "give a .pose file")
    with outside.reading(path, "cut it into shorter clips"):
        found = _read(path, path.read_bytes())
    pose, file = found.pose, found.file
    said = [clips.Remark(clips.FIRST, f"{file.people} people: the first was taken")] if file.people > 1 else []
    if fps is not None and fps != pose.fps:
        said.append(_overruled(pose.fps, fps))
        pose = Pose(pose.coordinates, pose.confidence, clips.rate(path, fps, ".pose"))
    farthest = float(np.abs(pose.coordinates[..., :2]).max(initial=0))
    unit = clips.PIXELS if farthest > _NORMALISED and file.width and file.height else clips.OWN
    size = (file.height, file.width) if unit == clips.PIXELS else None
    beyond = _of_openpose(file) if unit == clips.PIXELS else None
    lost = _lost(found, len(openpose_json.BEYOND) if beyond else 0, sized=size is not None)
    return Clip(path.stem, pose, unit, size, remarks=tuple(said), lost=tuple(lost), beyond=beyond, scores=found.scores)


def _overruled(theirs: float, fps: float) -> clips.Remark:
    instead = f"the file says {theirs:g} frames a second; --fps {fps:g} was taken instead"
    return clips.Remark(clips.OVERRULED, instead)


def _lost(found: "_Found", beside: int, *, sized: bool) -> list[str]:
    """What of a file a clip has no place for; `beside` points are told by it."""
    file, points = found.file, sum(len(names) for _, names in found.file.names)
    unused = found.unused - beside
    said = [f"{unused} of the file's {points} points, which the 128 joints lack"] if unused else []
    if (more := file.values.shape[-1] - _DEPTH) > 0:
        said.append(f"{more} values a point beside x, y and z")
    said += clips.unseen(*found.hidden)
    if file.components not in (_described("XYC"), _described("XYZC")) and pose_layout.drawn(file):
        said.append("the header's limbs and colours")
    if not sized and max(file.width, file.height) > _NORMALISED:
        said.append(f"the header's picture of {file.height}x{file.width}")
    said += [f"the header's depth of {file.depth}"] if file.depth else []
    return said + (["the people's numbers"] if pose_layout.numbered(file) else [])


def _of_openpose(file: pose_layout.Layout) -> clips.Beyond | None:
    """The points of OpenPose's 137 that the 128 joints lack, where the file has them all by name and shows one."""
    components = dict(file.names)
    if components.get("pose_keypoints_2d", ()) != _BODY_25 or len(components.get("face_keypoints_2d", ())) != 70:
        return None
    start = dict(zip(components, np.cumsum([0, *map(len, components.values())]).tolist(), strict=False))
    where = [start[name] + place for name, place in openpose_json.BEYOND]
    points = np.concatenate([file.values[:, where, :2], file.confidence[:, where, None]], axis=-1)
    points = openpose_json.seen_points(points)
    return clips.Beyond(openpose_json.KIND, openpose_json.LEFT_OUT, points) if points[..., 2].any() else None


def copy(
    path: str | Path, out: str | Path, fps: float | None = None, size: tuple[int, int] | None = None
) -> tuple[int, list[str], list[str]]:
    """Writes a `.pose` file as version 0.2 with its own layout: all people, points, axes, limbs and colours, every
    number as it is. `fps` and `size` (height, width) take the place of the file's. Returns how many frames it has, what
    is written otherwise, and what is lost.

    Any layout is taken; raises `SignerError` as `read` for what is no whole file, or has an impossible coordinate.
    """
    path = outside.plain_file(path, "give a .pose file")
    said: list[str] = []
    with outside.reading(path, "cut it into shorter clips"):
        file = _parsed(path, path.read_bytes())
        if file.all_bytes > max(_SMALL, _MOST_GROWTH * len(file.data)):
            raise SignerError(
                f"{path}: {len(file.values)} frames of {file.people} people would take {file.all_bytes >> 20} MB; "
                "cut it into shorter clips"
            )
        values, confidence = pose_layout.everybody(file)
        seen = np.isfinite(values[..., :_DEPTH]).all(-1) & (confidence > 0)
        plausible(path, _shown(values, seen), file.names)
        rate = file.fps if fps is None else clips.rate(path, fps, ".pose")
        said += [_overruled(file.fps, rate)] if rate != file.fps else []
        height, width = (file.height, file.width) if size is None else size
        if (height, width) != (file.height, file.width):
            said.append(f"the file says a picture of {file.height}x{file.width}; --size {height}x{width} was taken")
        data = pose_layout.as_version_02(file, rate, width, height)
        lost = ["the people's numbers"] if pose_layout.numbered(file) else []
    storage.write_file(out, data)
    return len(values), said, lost


@dataclass(frozen=True)
class _Found:
    pose: Pose
    has: Bool[np.ndarray, " j"]  # which joints the layout has
    scores: np.ndarray | None  # as a clip's
    unused: int  # how many of the file's points no joint is made of
    hidden: tuple[int, int]  # as `clips.hidden`
    file: pose_layout.Layout


def _read(path: Path, data: bytes) -> _Found:
    file = _parsed(path, data)
    frames = len(file.values)
    if (ours := frames * _FRAME_BYTES) > max(_SMALL, _MOST_GROWTH * len(data)):
        raise SignerError(
            f"{path}: {frames} frames of few joints would take {ours >> 20} MB; cut it into shorter clips"
        )
    values = file.values[..., :_DEPTH]  # [t, points, c]
    confidence = np.array(file.confidence, np.float32)
    finite = np.isfinite(values).all(-1)
    confidence[~finite] = 0
    canonical = file.names == _COMPONENTS
    places, confidences = clips.hidden(values[..., :2][finite], confidence[finite])
    if not canonical:  # ours says what is missing by its confidence, and a normalised neck lies at the origin
        confidence[(values[..., :2] == 0).all(-1)] = 0
    confidence = np.clip(np.nan_to_num(confidence), 0, None)
    xyz = _shown(values, confidence)
    plausible(path, xyz, file.names)

    if any(name == "POSE_LANDMARKS" for name, _ in file.names) and np.abs(xyz[..., 2]).max(initial=0) <= _MOST_WIDTHS:
        xyz[..., 2] *= file.width or 1

    source = _Points(xyz, confidence, dict(file.names))
    if canonical:
        names: _Names = {joint: ((component, joint),) for component, joints in _COMPONENTS for joint in joints}
    elif "POSE_LANDMARKS" in source.components:
        names = _holistic_names()
    elif "pose_keypoints_2d" in source.components:
        names = _openpose_names(source.components)
    else:
        known = "MediaPipe Holistic, OpenPose 137 or this project's 128 joints"
        found = ", ".join(f"{name[:40]} ({len(points)})" for name, points in file.names[:8])
        raise SignerError(f"{path}: unknown pose layout [{found}]; convert it to {known}")
    coordinates, confidence, has = source.gather(names)
    _fill_head(coordinates, confidence, has, source)
    pose = Pose(coordinates * (confidence[..., None] > 0), np.minimum(confidence, 1), file.fps)
    unused = len(source.where) - len(source.used)
    hidden = (places, 0 if canonical else confidences)
    return _Found(pose, has, clips.above_one(confidence), unused, hidden, file)


def _parsed(path: Path, data: bytes) -> pose_layout.Layout:
    try:
        return pose_layout.parse(data)
    except pose_layout.Broken as error:
        if what := recognise(data):
            raise SignerError(f"{path}: no .pose file but {what}") from None
        kind = clips.NobodySeen if isinstance(error, pose_layout.Empty) else SignerError
        raise kind(f"{path}: not a whole .pose file ({error}); download or extract it again") from None


def _shown(values: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """x, y and z `[..., 3]` of what is seen, 0 elsewhere: a NaN would survive a product with 0."""
    xyz = np.zeros((*confidence.shape, _DEPTH), np.float32)
    depth = min(values.shape[-1], _DEPTH)
    xyz[..., :depth] = np.where(confidence[..., None] > 0, values[..., :depth], 0)
    return xyz


def write(path: str | Path, pose: Pose, *, size: tuple[int, int] | None = None) -> None:
    """Writes `.pose` v0.2 with the 128 joints as four components; `read` gives the same float32 numbers back.

    Coordinates are written as they are. `size` (width, height) goes into the header for viewers; by default it is the
    farthest coordinate. The file appears under its name only when complete. Raises `SignerError` for a pose that is not
    on the canonical joints or a place that cannot be written to.
    """
    joints, axes = pose.coordinates.shape[1:]
    if joints != len(skeleton.JOINTS) or axes not in (2, 3):
        raise SignerError(f"{path}: .pose takes {len(skeleton.JOINTS)} joints of 2 or 3 axes, not {joints} of {axes}")
    confidence = np.asarray(pose.confidence, np.float32)
    seen = confidence > 0
    coordinates = np.asarray(pose.coordinates, np.float32)
    if not seen.all():
        coordinates = np.where(seen[..., None], coordinates, np.float32(0))
    if size is None:
        farthest = coordinates.reshape(-1, axes).max(0, initial=1) if len(pose) else np.ones(axes)
        size = (int(np.ceil(farthest[0])), int(np.ceil(farthest[1])))
    width, height = (min(max(value, 1), 65535) for value in size)
    header = struct.pack("<fHHH", 0.2, width, height, 0) + _described("XYC" if axes == 2 else "XYZC")
    body = struct.pack("<fIH", pose.fps, len(pose), 1)
    with storage.new_file(path) as partial, partial.open("wb") as file:
        file.write(header + body)
        for values in (coordinates, confidence):
            file.write(values.astype("<f4", copy=False).tobytes())


def write_clip(path: str | Path, clip: Clip) -> list[str]:
    """Writes a clip, of which the format holds all but shares of the picture (they become pixels), texts and glosses;
    returns what it does not hold.
    """
    found = clips.scaled(clip, ".pose")
    pose = Pose(found.pose.coordinates, found.sure, found.pose.fps)
    write(path, pose, size=found.size[::-1] if found.size else None)
    return [*clips.unread(clip), *clips.words_lost(clip)]


class _Points:
    """A file's points, found by (component, point) name."""

    def __init__(self, xyz: np.ndarray, confidence: np.ndarray, components: Mapping[str, Sequence[str]]) -> None:
        self.xyz, self.confidence, self.components = xyz, confidence, components
        names = [(component, point) for component, points in components.items() for point in points]
        self.where = {name: i for i, name in enumerate(names)}
        self.used: set[int] = set()  # places of those that a joint was made of

    def mean(self, names: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean position `[t, c]` and least confidence `[t]` of the named points; None where the file lacks one."""
        if not names or any(name not in self.where for name in names):
            return None
        where = [self.where[name] for name in names]
        self.used.update(where)
        return self.xyz[:, where].mean(1, dtype=np.float32), self.confidence[:, where].min(1)

    def gather(self, names: Mapping[str, Sequence[tuple[str, str]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates `[t, 128, 3]`, confidence `[t, 128]` and presence `[128]` of the joints that `names` and the file
        know.
        """
        frames = len(self.xyz)
        coordinates = np.zeros((frames, len(skeleton.JOINTS), _DEPTH), np.float32)
        confidence = np.zeros((frames, len(skeleton.JOINTS)), np.float32)
        has = np.zeros(len(skeleton.JOINTS), bool)
        for i, joint in enumerate(skeleton.JOINTS):
            if (found := self.mean(names.get(joint, ()))) is not None:
                coordinates[:, i], confidence[:, i] = found
                has[i] = True
        return coordinates, confidence, has


def of_landmarks(frames: Sequence[Mapping[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates `[t, 128, 3]` and confidence `[t, 128]` of what MediaPipe's Holistic found in each frame: by
    component (`POSE_LANDMARKS`, …) its points' x, y, z and confidence `[p, 4]`, in MediaPipe's order; none of a part
    that was not found.
    """
    counts = {name: max(len(frame[name]) for frame in frames) for name in frames[0]}
    components = {name: _landmark_names(name, count) for name, count in counts.items() if count}
    values = np.zeros((len(frames), sum(map(len, components.values())), 4), np.float32)
    start = 0
    for name, points in components.items():
        for t, frame in enumerate(frames):
            if len(frame[name]):
                values[t, start : start + len(points)] = frame[name][: len(points)]
        start += len(points)
    source = _Points(values[..., :3], np.clip(np.nan_to_num(values[..., 3]), 0, 1), components)
    coordinates, confidence, _ = source.gather(_holistic_names())
    return clips.clean(coordinates, confidence)


def _landmark_names(component: str, count: int) -> list[str]:
    if component == "POSE_LANDMARKS":
        return list(_BODY_LANDMARKS)
    return list(_HOLISTIC_HAND) if "HAND" in component else [str(i) for i in range(count)]


def plausible(path: Path, xyz: np.ndarray, names: pose_layout.Names) -> None:
    """Raises `SignerError` for the first coordinate that no camera sees."""
    far = np.abs(xyz).max(-1, initial=0) > _FARTHEST
    if far.any():
        first = tuple(np.argwhere(far)[0].tolist())  # frame, where there are several the person, point
        component, point = [(name, point) for name, points in names for point in points][first[-1]]
        raise SignerError(
            f"{path}: point {point[:40]!r} of {component[:40]!r} lies at {xyz[first].tolist()} in frame {first[0]},"
            f" beyond {_FARTHEST:g}; extract the poses again"
        )


def _holistic_names() -> _Names:
    body: _Names = {joint: (("POSE_LANDMARKS", point),) for joint, point in _HOLISTIC_BODY.items()}
    neck = tuple(("POSE_LANDMARKS", f"{side}_SHOULDER") for side in ("RIGHT", "LEFT"))
    face = {f"face_{i}": (("FACE_LANDMARKS", str(mesh)),) for i, mesh in enumerate(MESH_OF_IBUG)}
    hands = {
        joint: ((f"{side}_HAND_LANDMARKS", point),)
        for side, joints in (("LEFT", skeleton.LEFT_HAND), ("RIGHT", skeleton.RIGHT_HAND))
        for joint, point in zip(joints, _HOLISTIC_HAND, strict=True)
    }
    return {**body, "neck": neck, **face, **hands}


def _openpose_names(components: Mapping[str, Sequence[str]]) -> _Names:
    names: _Names = {joint: (("pose_keypoints_2d", point),) for joint, point in _OPENPOSE_BODY.items()}
    # Face and hands come in iBUG and OpenPose order under names that differ between writers: taken by position.
    parts = (
        ("face_keypoints_2d", skeleton.FACE),
        ("hand_left_keypoints_2d", skeleton.LEFT_HAND),
        ("hand_right_keypoints_2d", skeleton.RIGHT_HAND),
    )
    for component, joints in parts:
        names |= {joint: ((component, point),) for joint, point in zip(joints, components.get(component, ()))}  # noqa: B905
    return names


def _fill_head(coordinates: np.ndarray, confidence: np.ndarray, has: np.ndarray, source: _Points) -> None:
    """Sets, in place, the eyes, ears and nose that the body component lacks from the face mesh, where there is one."""
    if ("POSE_LANDMARKS", "NOSE") in source.where or "FACE_LANDMARKS" not in source.components:
        return
    for joint, points in {**_MESH_EYES, **_MESH_EARS}.items():
        if (found := source.mean([("FACE_LANDMARKS", str(point)) for point in points])) is not None:
            coordinates[:, skeleton.INDEX[joint]], confidence[:, skeleton.INDEX[joint]] = found
            has[skeleton.INDEX[joint]] = True
    eyes = [skeleton.INDEX["right_eye"], skeleton.INDEX["left_eye"]]
    if (lip := source.mean([("FACE_LANDMARKS", str(_MESH_UPPER_LIP))])) is not None:
        between = coordinates[:, eyes].mean(1)
        nose = skeleton.INDEX["nose"]
        coordinates[:, nose] = between + _NOSE_SHARE * (lip[0] - between)
        confidence[:, nose] = np.minimum(lip[1], confidence[:, eyes].min(1))
        has[nose] = True


@cache
def _described(point_format: str) -> bytes:
    """The components as a header has them, behind the picture's size: always the same."""
    file = BytesIO()
    PoseHeader(0.2, PoseHeaderDimensions(1, 1, 0), _components(point_format)).write(file)
    return file.getvalue()[struct.calcsize("<fHHH") :]


def _components(point_format: str) -> list[PoseHeaderComponent]:
    components = []
    for name, joints in _COMPONENTS:
        where = {joint: i for i, joint in enumerate(joints)}
        limbs = {"BODY": BODY_LIMBS, "FACE": ()}.get(name, HAND_LIMBS["left" if name == "LEFT_HAND" else "right"])
        pairs = [(where[a], where[b]) for a, b, _ in limbs]
        colours = [colour for *_, colour in limbs] or [(255, 255, 255)]
        components.append(PoseHeaderComponent(name, list(joints), pairs, colours, point_format))
    return components
