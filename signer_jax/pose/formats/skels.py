"""`.skels`: a sequence a line, a frame as numbers with decimals and a counter, separated by spaces. Three layouts:

    progressive (Progressive Transformers)   151  50 joints x, y, z divided by 3, neck at 0; counter 0 ... (T-1)/T
    prompt2sign-v1                           151  the same joints divided by 9, missing = 0.01600; counter 1/T ... 1
    prompt2sign-2025                         385  DWPose: body xy 36 and scores 18, hands 84 and 42, face 136 and 68;
                                                  counter i/(T-1); shares of the picture

The 50 joints: nose, neck, right shoulder, elbow, wrist, left ones, left hand, right hand, in their names. The ten real
sequences of Progressive Transformers at hand have their "right" arm at the viewer's right, and the other, whose hand
moves more in seven of them and less in two, at the left: a signer who is seen from the front has the left arm there. So
sides are named by where they lie, and a file is written as it was. Their depth grows towards the viewer, ours away;
version 1's is left as it is.

Beside `x.skels` lie `x.files`, `x.text` and `x.gloss`, a line a sequence. A blank line is a sequence without poses.
"""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from signer_jax import outside, storage
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats import dwpose
from signer_jax.pose.formats.clip import Clip
from signer_jax.types import Pose

KIND = ".skels"
PROGRESSIVE, V1, V2025 = "progressive", "prompt2sign-v1", "prompt2sign-2025"
JOINTS = (*skeleton.BODY[:8], *skeleton.LEFT_HAND, *skeleton.RIGHT_HAND)
_WHERE = [skeleton.INDEX[joint] for joint in JOINTS]
_NECK = skeleton.INDEX["neck"]
_SHOULDERS = [skeleton.INDEX["right_shoulder"], skeleton.INDEX["left_shoulder"]]
_OTHER_SIDE = {"left": "right", "right": "left"}
_MIRRORED = [
    skeleton.INDEX["_".join([_OTHER_SIDE.get(side := joint.split("_")[0], side), *joint.split("_")[1:]])]
    for joint in JOINTS
]  # of each of the 50, the joint of the other side
_SWAPPED = " swapped"  # behind a layout's name: its right is the signer's left
_SCALES = {PROGRESSIVE: 3, V1: 9}
_DEPTHS = {PROGRESSIVE: -1, V1: 1}
_MISSING = 0.016  # of version 1, in all three coordinates
_SIZES = {151: (PROGRESSIVE, V1), 385: (V2025,)}
_COUNTED = 1e-3  # how far a counter may be off: they have four or five decimals
_UNIT = 0.01  # how far a shoulder width may be off 1 to be taken for it
_LONGEST = 1 << 24  # bytes of a line: 12,000 frames of 151
_MOST_NAMES = 1 << 25  # bytes of a file of names or texts
_BESIDE = {".files": "names", ".text": "texts", ".gloss": "glosses"}
_DECIMALS = 5
_NO_DIFFERENCE = 1e-6  # of a value that was printed so, then float32
_ANY_RATE = 25.0  # where it makes no difference
_MEND = "download or extract it again"


def read(path: str | Path, fps: float | None) -> Iterator[Clip]:
    """The sequences of a file, one after the other, without the factor by which theirs are divided.

    Raises `SignerError` for a line that is no whole sequence, with its number, and without `fps`.
    """
    path = outside.plain_file(path, "give a .skels file")
    rate = clips.rate(path, fps, ".skels")
    columns = {ending: _lines_of(path.with_suffix(ending)) for ending in _BESIDE}
    blank: list[int] = []
    last = None
    with outside.reading(path, "divide it"), path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), start=1):
            if len(line) > _LONGEST:
                raise SignerError(f"{path}: line {number} has more than {_LONGEST >> 20} MB; divide it")
            if not line.strip():
                blank.append(number)
                continue
            beside = {ending: lines[number - 1] if number <= len(lines) else "" for ending, lines in columns.items()}
            if last:
                yield last
            last = _sequence(path, number, line, rate, beside)
    if last is None:
        raise SignerError(f"{path}: holds no sequence; {_MEND}")
    if blank:
        empty = f"{len(blank)} blank lines, the first line {blank[0]}: sequences without poses"
        last = replace(last, lost=(*last.lost, empty))
    yield last


def read_line(path: str | Path, line: int, fps: float | None) -> Clip:
    """The sequence of one line, from 0, blank ones counted: a file of many is read through once, for its lines' places.

    Raises `SignerError` as `read`, and where there is no such line or it is blank.
    """
    path = outside.plain_file(path, "give a .skels file")
    rate, there = clips.rate(path, fps, ".skels"), path.stat()
    with outside.reading(path, "divide it"), path.open("rb") as file:
        starts = _starts(path, there.st_size, there.st_mtime_ns)
        if not 0 <= line < len(starts):
            raise SignerError(f"{path}: has {len(starts)} lines, none is number {line + 1}; {_MEND}")
        file.seek(starts[line])
        values = file.readline(_LONGEST + 1)
        if len(values) > _LONGEST:
            raise SignerError(f"{path}: line {line + 1} has more than {_LONGEST >> 20} MB; divide it")
        if not values.strip():
            raise SignerError(f"{path}: line {line + 1} is blank; {_MEND}")
        return _sequence(path, line + 1, values, rate, dict.fromkeys(_BESIDE, ""))


@lru_cache(maxsize=8)
def _starts(path: Path, size: int, changed: int) -> list[int]:
    """Where each line begins."""
    starts: list[int] = []
    place, ended = 0, True
    with path.open("rb") as file:
        for part in iter(lambda: file.readline(_LONGEST), b""):
            starts += [place] if ended else []
            place, ended = place + len(part), part.endswith(b"\n")
    return starts


def _lines_of(path: Path) -> list[str]:
    """A parallel file's lines, none where there is no such file."""
    if not path.exists():
        return []
    outside.plain_file(path, "remove it, or make it a file")
    with outside.reading(path, "divide it"), path.open("rb") as file:
        data = file.read(_MOST_NAMES + 1)
    if len(data) > _MOST_NAMES:
        raise SignerError(f"{path}: has more than {_MOST_NAMES >> 20} MB; divide it")
    return [line.strip() for line in data.decode("utf-8", "replace").split("\n")]


def _sequence(path: Path, number: int, line: bytes, fps: float, beside: dict[str, str]) -> Clip:
    where = f"{path}: line {number}"
    try:
        values = np.array(line.split(), np.float64)
    except ValueError:
        raise SignerError(f"{where} holds something else than numbers; {_MEND}") from None
    for size, layouts in _SIZES.items():
        if len(values) % size:
            continue
        frames = values.reshape(-1, size)
        for layout in layouts:
            if _counts(frames[:, -1], layout):
                clip = _clip(where, frames[:, :-1], layout, fps)
                return replace(
                    clip, name=beside[".files"] or f"{path.stem}-{number}", text=beside[".text"], gloss=beside[".gloss"]
                )
    raise SignerError(
        f"{where} has {len(values)} numbers, no frames of 151 or 385 with a counter at the end of each; {_MEND}"
    )


def _counts(counter: np.ndarray, layout: str) -> bool:
    """Whether the counters are those of the layout: a line that was cut between two frames has others."""
    return bool((np.abs(counter - _counter(len(counter), layout)) < _COUNTED).all() and _ends(counter, layout))


def _ends(counter: np.ndarray, layout: str) -> bool:
    """Of a long sequence the first and the last counter tell the layouts apart."""
    if layout == V1:
        return counter[0] > 0 and counter[-1] == 1
    return counter[0] == 0 and (layout == V2025 or counter[-1] < 1)


def _counter(frames: int, layout: str) -> np.ndarray:
    if layout == V2025:
        return np.arange(frames) / max(frames - 1, 1)
    return (np.arange(frames) + (layout == V1)) / frames


def _clip(where: str, values: np.ndarray, layout: str, fps: float) -> Clip:
    """The clip, without a name; its layout ends with `_SWAPPED` where its sides have each other's names."""
    frames = len(values)
    if layout == V2025:
        body, hands, face = np.split(values, [54, 180], axis=1)
        parts = [
            [(b[:36].reshape(18, 2), b[36:]), (f[:136].reshape(68, 2), f[136:]),
             (h[:42].reshape(21, 2), h[84:105]), (h[42:84].reshape(21, 2), h[105:])]
            for b, h, f in zip(body, hands, face, strict=True)
        ]  # fmt: skip
        shown = [dwpose.shown_of(part) for part in parts]
        scores = np.stack([one.person[1] for one in shown])
        pose = Pose(np.stack([one.person[0] for one in shown]), np.minimum(scores, 1), fps)
        return Clip(
            "", clips.checked(where, pose), clips.SHARES, layout=layout, lost=tuple(dwpose.unread(shown)),
            scores=clips.above_one(scores),
        )  # fmt: skip
    xyz = values.reshape(frames, len(JOINTS), 3)
    missing = (xyz == (_MISSING if layout == V1 else 0)).all(-1)
    if layout == PROGRESSIVE:  # all 0 of a neck is its place, unless there is nobody
        missing[:, 1] = missing.all(-1)
    coordinates = np.zeros((frames, len(skeleton.JOINTS), 3), np.float32)
    confidence = np.zeros((frames, len(skeleton.JOINTS)), np.float32)
    both = ~missing[:, 2] & ~missing[:, 5]
    swapped = both.any() and np.median(xyz[both, 2, 0]) > np.median(xyz[both, 5, 0])
    places = _MIRRORED if swapped else _WHERE
    with np.errstate(over="ignore", invalid="ignore"):
        coordinates[:, places] = xyz * _SCALES[layout] * [1, 1, _DEPTHS[layout]]
    confidence[:, places] = ~missing
    pose = Pose(*clips.clean(coordinates, confidence), fps)
    sides = _SWAPPED if swapped else ""
    beyond = tuple(clips.rounded(clips.not_in_float32(values), values.size))
    return Clip("", clips.checked(where, pose), clips.OWN, layout=layout + sides, lost=beyond)


def copy(path: str | Path, out: str | Path) -> tuple[int, int, list[str]]:
    """Writes the file's lines and those beside it as they are, byte by byte, blank ones too.

    Returns how many sequences and frames there are, and what is lost. Raises `SignerError` as `read` and `write`.
    """
    path, out = Path(path), Path(out)
    _check_beside(out)
    lengths = [len(clip.pose) for clip in read(path, _ANY_RATE)]
    with outside.reading(path, "divide it"), storage.new_file(out) as partial:
        shutil.copyfile(path, partial)
        with partial.open("rb") as file:
            lines = sum(1 for _ in file)
    for ending in _BESIDE:
        theirs, ours = path.with_suffix(ending), out.with_suffix(ending)
        if theirs.exists():
            storage.write_file(ours, theirs.read_bytes())
        elif ours.exists():  # of the file that was replaced
            storage.write_file(ours, "\n" * lines)
    return len(lengths), sum(lengths), []


def _check_beside(out: Path) -> None:
    if theirs := [ending for ending in _BESIDE if not out.exists() and out.with_suffix(ending).exists()]:
        raise SignerError(
            f"{out}: {out.with_suffix(theirs[0]).name} stands there already and would be replaced; choose another name"
        )


def write(path: str | Path, found: Iterable[Clip]) -> tuple[int, list[str]]:
    """Writes the file, and `.files`, `.text` and `.gloss` beside it; returns how many sequences it holds, and what it
    does not hold of them.

    A clip that was read from a `.skels` is written in the layout that it had, to its printed decimals; another one as
    Progressive Transformers': in shoulder widths from the neck of each frame.
    """
    path = Path(path)
    said: dict[str, None] = {}
    beside: dict[str, list[str]] = {ending: [] for ending in _BESIDE}
    _check_beside(path)
    with storage.new_file(path) as partial, partial.open("w", encoding="ascii") as file:
        for clip in found:
            layout, _, swapped = clip.layout.partition(" ")
            ours = layout in (*_SCALES, V2025)
            layout = layout if ours else PROGRESSIVE
            pose = clip.pose if ours else _from_the_neck(clips.scaled(clip, KIND))
            values = _values(clip, pose, layout, ours=ours, swapped=bool(swapped) or not ours)
            file.write(_line(values, layout) + "\n")
            joints = skeleton.JOINTS if layout == V2025 else JOINTS
            lost = clips.lost(clip, joints, depth=layout != V2025, confidence=False)
            others = clips.words_lost(replace(clip, text="", gloss=""))
            others += [*_place_lost(clip, pose, layout), f"the frame rate of {clip.pose.fps:g}"]
            if not ours and (np.abs(values - np.round(values, _DECIMALS)) > _NO_DIFFERENCE).any():
                others.append(f"digits behind the {_DECIMALS}th decimal")
            for ending, words in zip(_BESIDE, (clip.name, clip.text, clip.gloss), strict=True):
                beside[ending].append(line := " ".join(words.split()))
                others += [f"white space in {_BESIDE[ending]}"] * (line != words)
            said |= dict.fromkeys([*clips.unread(clip), *lost, *others])
    for ending, lines in beside.items():
        if any(lines) or path.with_suffix(ending).exists():
            storage.write_file(path.with_suffix(ending), "\n".join(lines) + "\n")
    return len(beside[".files"]), list(said)


def _place_lost(clip: Clip, written: Pose, layout: str) -> list[str]:
    return clips.place_lost(clip, written) if layout != V2025 else [] if clip.size is None else ["the picture's size"]


def _values(clip: Clip, pose: Pose, layout: str, *, ours: bool, swapped: bool) -> np.ndarray:
    """A line's numbers `[t, …]` but for the counters, of a clip, or of its pose in the line's units."""
    if layout == V2025:
        found = clips.in_shares(clip, KIND)
        return _shares(found.pose.coordinates[..., :2], found.sure)
    places = _MIRRORED if swapped else _WHERE
    seen = pose.confidence[:, places, None] > 0
    xyz = np.zeros((len(pose), len(JOINTS), 3))
    xyz[..., : pose.coordinates.shape[-1]] = pose.coordinates[:, places]
    if ours or xyz[..., 2].any():  # else -0 would be printed
        xyz[..., 2] *= _DEPTHS[layout]
    return np.where(seen, xyz / _SCALES[layout], _MISSING if layout == V1 else 0).reshape(len(pose), -1)


def _line(values: np.ndarray, layout: str) -> str:
    decimals = 4 if layout == PROGRESSIVE else 5
    counter = [f"{count:.{decimals}f}" for count in _counter(len(values), layout)]
    frames = (" ".join(f"{value:.{_DECIMALS}f}" for value in frame) for frame in values.tolist())
    return " ".join(f"{frame} {count}" for frame, count in zip(frames, counter, strict=True))


def _from_the_neck(clip: Clip) -> Pose:
    """In shoulder widths, the neck of each frame at 0 (of one that lacks it, the middle of the necks)."""
    pose = clip.pose
    _, _, scale = clips.normalised(clip)
    scale = 1.0 if abs(scale - 1) < _UNIT else scale
    neck = pose.coordinates[:, _NECK].copy()
    shown = pose.confidence[:, _NECK] > 0
    if not shown.any():
        raise SignerError(f"{clip.name}: no frame shows the neck, from which .skels are measured; check the detector")
    neck[~shown] = np.median(neck[shown], axis=0)
    moved = (pose.coordinates - neck[:, None]) / np.float32(scale)
    return Pose(moved * (pose.confidence[..., None] > 0), pose.confidence, pose.fps)


def _shares(xy: np.ndarray, scores: np.ndarray) -> np.ndarray:
    seen = scores > 0
    xy = np.where(seen[..., None], xy, -1)
    parts = {"body": skeleton.BODY, "hands": skeleton.LEFT_HAND + skeleton.RIGHT_HAND, "face": skeleton.FACE}
    values = []
    for part, joints in parts.items():
        where = [skeleton.INDEX[joint] for joint in joints]
        sure = np.where(seen[:, where], np.arange(len(joints)), -1) if part == "body" else scores[:, where]
        values += [xy[:, where].reshape(len(xy), -1), sure]
    return np.concatenate(values, axis=1)
