"""What a file of poses gives, whatever its format: named clips, in the units of the file; and how units meet."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from signer_jax.errors import SignerError
from signer_jax.object_store import MANIFEST
from signer_jax.pose import skeleton
from signer_jax.types import Pose

PIXELS = "pixels"
SHARES = "shares of the picture"  # 0 to 1, both of x and of y: not square, unless the picture is
OWN = "the file's own units"
FARTHEST = 1e6  # units of any kind
_LOWEST, _HIGHEST = 1.0, 1000.0  # frames a second
MOST_FRAMES = 1_000_000
_NOT_MOVED = 1e-5  # units of a file's own
_NAMED = 3  # joints that are lost: more are counted
_MOST_GAP = 1000  # frames
_SAME_PERSON = 0.3  # overlap of two boxes of one person, a frame apart
# Kinds of remarks that other modules ask for.
SEVERAL, FIRST, NOBODY, NO_FILE, OVERRULED, COUNTED = "several", "first", "nobody", "no file", "overruled", "counted"
_PEOPLE = (SEVERAL, FIRST)  # of whom all but one are lost

Person: TypeAlias = tuple[Float[np.ndarray, "j 2"], Float[np.ndarray, " j"]]  # on the 128 joints, with scores


class NobodySeen(SignerError):
    """Poses of nobody: no frame shows a person."""


class Remark(str):
    """What a reader says of what it read, and of which kind it is."""

    kind: str

    def __new__(cls, kind: str, text: str) -> "Remark":
        remark = super().__new__(cls, text)
        remark.kind = kind
        return remark


@dataclass(frozen=True)
class Beyond:
    """Points of a file that the 128 joints lack, for a target of the same kind. `said`: how they are told as lost."""

    kind: str
    said: str
    points: Float[np.ndarray, "t p c"]


@dataclass(frozen=True)
class Clip:
    """One sequence. `layout` says which of the layouts that share an ending the file has; it is written so again.

    `remarks` say what was read otherwise than it stands in the file, `lost` what of the file is in none of this.
    `scores` are the detector's, where one is above 1: the pose's confidence is at most that.
    """

    name: str
    pose: Pose
    unit: str
    size: tuple[int, int] | None = None  # height and width of the picture in pixels, where they are known
    layout: str = ""
    text: str = ""
    gloss: str = ""
    speaker: str = ""
    remarks: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    beyond: Beyond | None = None
    scores: Float[np.ndarray, "t j"] | None = None

    @property
    def sure(self) -> Float[np.ndarray, "t j"]:
        """The confidences as they stand in the file."""
        return self.pose.confidence if self.scores is None else self.scores


def rate(path: Path, fps: float | None, kind: str) -> float:
    """The frame rate that was given. Raises `SignerError` where none was, or an impossible one."""
    if fps is None:
        raise SignerError(f"{path}: {kind} says nothing of the frame rate; give it with --fps")
    if not _LOWEST <= fps <= _HIGHEST:
        raise SignerError(f"--fps {fps:g}: is no frame rate; give {_LOWEST:g} to {_HIGHEST:g}")
    return float(fps)


def numbers(value: Any, *shape: int) -> np.ndarray:
    """As `exact`, in float32; what that cannot hold is infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return exact(value, *shape).astype(np.float32)


def exact(value: Any, *shape: int) -> np.ndarray:
    """A list of lists, or an array, as float64 of this shape. Raises `ValueError` for anything else."""
    if isinstance(value, np.ndarray):
        if value.shape != shape or value.dtype.kind not in "fiu":
            raise ValueError(f"{value.dtype} of shape {list(value.shape)} where numbers of shape {list(shape)} belong")
        with np.errstate(invalid="ignore"):  # a NaN that signals
            return value.astype(np.float64)
    flat: list[float] = []
    _flatten(value, shape, flat)
    return np.array(flat, np.float64).reshape(shape)


def not_in_float32(values: np.ndarray) -> int:
    """How many of the numbers do not come back from float32: neither as they are, nor as its shortest decimals, which
    are what is written as text (so 648.937 does, and 0.5234704260965662 does not).
    """
    values = np.reshape(values, -1)
    values = values[np.isfinite(values)].astype(np.float64)
    with np.errstate(over="ignore"):
        values = values[values.astype(np.float32) != values]
    if not len(values):
        return 0
    # Texts of numbers take long: up to six digits always come back, more than nine never do.
    size = np.abs(values)
    power = 5 - np.floor(np.log10(size))

    def has_digits(more: int) -> np.ndarray:
        scale = 10.0 ** np.clip(power + more, 0, 22)
        return np.rint(values * scale) / scale == values

    plain = (size < 1e6) & (size > 1e-12)
    six, nine = plain & has_digits(0), ~plain | has_digits(3)
    unsure = values[nine & ~six]
    with np.errstate(over="ignore"):
        return int((~nine).sum() + (unsure.astype(np.float32).astype(str).astype(np.float64) != unsure).sum())


def rounded(count: int, total: int) -> list[str]:
    """As `lost`, of numbers that float32 does not hold."""
    return [f"digits that float32 has no room for, of {count} of {total} numbers"] if count else []


def hidden(points: np.ndarray, scores: np.ndarray) -> tuple[int, int]:
    """Of how many points `[… 2]` a reader keeps no place because they have no confidence, and of how many no confidence
    because they have no place (x = y = 0).
    """
    nowhere = (points == 0).all(-1)
    return int((~nowhere & ~(scores > 0)).sum()), int((nowhere & (scores > 0)).sum())


def unseen(places: int, confidences: int) -> list[str]:
    """As `lost`, of what `hidden` counts."""
    said = [f"where {places} points of confidence 0 lie"] if places else []
    return said + ([f"confidences of {confidences} points at x = y = 0"] if confidences else [])


def fields(names: Iterable[str]) -> list[str]:
    """As `lost`, of what a file has beside what is read of it."""
    found = sorted({name[:40] for name in names})
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return [f"fields beside those of the format ({', '.join(found[:_NAMED])}{more})"] if found else []


def _flatten(value: Any, shape: tuple[int, ...], flat: list[float]) -> None:
    if not shape:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("something else than a number where a number belongs")
        try:
            flat.append(float(value))
        except OverflowError:
            flat.append(np.inf)
    elif not isinstance(value, list | tuple) or len(value) != shape[0]:
        raise ValueError(f"no list of {shape[0]} where one belongs")
    else:
        for item in value:
            _flatten(item, shape[1:], flat)


def nobody() -> Person:
    joints = len(skeleton.JOINTS)
    return np.zeros((joints, 2), np.float32), np.zeros(joints, np.float32)


def overlaps(box: Float[np.ndarray, " c"], others: Float[np.ndarray, "m c"]) -> Float[np.ndarray, " m"]:
    """Intersection over union of a box (left, top, right, bottom) with each of others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:4], others[:, 2:4])
    both = np.clip(high - low, 0, None).prod(1)
    area = (box[2:4] - box[:2]).prod() + (others[:, 2:4] - others[:, :2]).prod(1) - both
    return both / np.maximum(area, 1e-9)


def same_person(boxes: Float[np.ndarray, "m c"], before: Float[np.ndarray, " c"] | None) -> int | None:
    """Which of the boxes is the person's of the frame before, None where none overlaps enough with that one's."""
    shared = np.zeros(1) if before is None else overlaps(before, boxes)
    return int(shared.argmax()) if shared.max() >= _SAME_PERSON else None


def followed(people: Sequence[Person], before: Sequence[Person]) -> Person:
    """Whom of a frame to take: the person of the last frame that shows one; without that one here the foremost: whose
    confidences sum up to most, of several such the largest. Nobody of none.
    """
    if not people:
        return nobody()
    if len(people) > 1 and (last := next((one for one in reversed(before) if one[1].any()), None)) is not None:
        same = same_person(np.stack([_box(one) for one in people]), _box(last))
        if same is not None:
            return people[same]
    return max(
        people, key=lambda one: (float(np.minimum(one[1], 1).sum()), float((_box(one)[2:] - _box(one)[:2]).prod()))
    )


def _box(person: Person) -> Float[np.ndarray, " c"]:
    """Left, top, right, bottom of what is seen."""
    seen = person[0][person[1] > 0].astype(np.float64)  # whose products are finite
    return np.concatenate([seen.min(0), seen.max(0)]) if len(seen) else np.zeros(4)


def clean(coordinates: np.ndarray, confidence: np.ndarray, most: float = 1) -> tuple[np.ndarray, np.ndarray]:
    """What is no number is missing, and what is missing lies at 0; confidences above `most` are that."""
    finite = np.isfinite(coordinates).all(-1)
    confidence = np.clip(np.nan_to_num(confidence, nan=0.0), 0, most) * finite
    seen = confidence > 0
    return np.where(seen[..., None], coordinates, 0).astype(np.float32), confidence.astype(np.float32)


def above_one(scores: Float[np.ndarray, "t j"]) -> Float[np.ndarray, "t j"] | None:
    """A clip's `scores`."""
    return scores if (scores > 1).any() else None


def checked(where: str, pose: Pose) -> Pose:
    """The pose. Raises `NobodySeen` where nobody is in it, `SignerError` for somebody beyond what a camera sees."""
    far = np.abs(pose.coordinates).max(-1, initial=0) > FARTHEST
    if far.any():
        frame, joint = (int(i) for i in np.argwhere(far)[0])
        at = pose.coordinates[frame, joint].tolist()
        raise SignerError(
            f"{where}: {skeleton.JOINTS[joint]} lies at {at} in frame {frame}, beyond {FARTHEST:g}; "
            "extract the poses again"
        )
    if not (pose.confidence > 0).any():
        raise NobodySeen(f"{where}: no frame shows anybody; check the detector")
    return pose


def placed(path: Path, files: Sequence[tuple[int, Path]], first: int) -> Iterator[Path | None]:
    """The files of a file a frame in order, None in the place of each that is missing; `first` is the number of the
    first frame. Raises `SignerError` where many are missing on end, or two have a number.
    """
    expected = first
    for number, file in files:
        if number < expected:
            raise SignerError(f"{path}: has two files of frame {number}; remove one")
        if number > expected + _MOST_GAP:
            raise SignerError(
                f"{path}: no frames from {expected} to {number - 1}; extract them again, or number them from {first}"
            )
        for _ in range(number - expected):
            yield None
        yield file
        expected = number + 1


def other_files(folder: Path, names: Iterable[str]) -> list[str]:
    """As `lost`, of a folder whose files of these names are its frames."""
    others = {entry.name for entry in folder.iterdir()} - {*names, MANIFEST} if folder.is_dir() else ()
    return [f"files that are no frames: {len(others)}"] if others else []


def of_frames(
    path: Path, frames: Sequence[Person], people: Sequence[int], fps: float, unit: str,
    lost: Sequence[str] = (), beyond: Beyond | None = None, remarks: Sequence[str] = (),
) -> Clip:  # fmt: skip
    """A clip of what each frame shows; `people` are how many there were in each, of which one was followed, -1 where
    the frame has no file.
    """
    scores = np.stack([seen for _, seen in frames])
    coordinates, confidence = clean(np.stack([xy for xy, _ in frames]), scores)
    counts = {
        NO_FILE: (sum(count < 0 for count in people), "have no file: confidence 0"),
        SEVERAL: (sum(count > 1 for count in people), "show several people: one was followed"),
        NOBODY: (sum(count == 0 for count in people), "show nobody: confidence 0"),
    }
    said = [Remark(kind, f"{count} of {len(frames)} frames {what}") for kind, (count, what) in counts.items() if count]
    pose = checked(str(path), Pose(coordinates, confidence, fps))
    name = path.stem if path.is_file() else path.name
    return Clip(
        name, pose, unit, remarks=(*remarks, *said), lost=tuple(lost), beyond=beyond,
        scores=above_one(np.where(confidence > 0, scores, 0)),
    )  # fmt: skip


# ---- Units -----------------------------------------------------------------------------------------------------------


def scaled(clip: Clip, target: str) -> Clip:
    """Shares of the picture as pixels; anything else stays. Raises `SignerError` where the size is not known."""
    if clip.unit != SHARES:
        return clip
    height, width = _size(clip, target)
    return _moved(clip, clip.pose.coordinates[..., :2] * np.array([width, height], np.float32), PIXELS)


def in_pixels(clip: Clip, target: str) -> Clip:
    """As `scaled`; units of a file's own are put into the view of a picture of the given size."""
    if clip.unit != OWN:
        return scaled(clip, target)
    height, width = _size(clip, target)
    pose, _, _ = normalised(clip)
    xy = skeleton.to_pixels(pose.coordinates[..., :2], height, width)
    return _moved(clip, xy * (pose.confidence[..., None] > 0), PIXELS)


def in_shares(clip: Clip, target: str) -> Clip:
    if clip.unit == SHARES:
        return clip
    height, width = _size(clip, target)
    found = in_pixels(clip, target)
    return _moved(found, found.pose.coordinates[..., :2] / np.array([width, height], np.float32), SHARES)


def normalised(clip: Clip) -> tuple[Pose, np.ndarray, float]:
    """As `skeleton.normalise`, whose error then names the clip."""
    try:
        return skeleton.normalise(clip.pose)
    except SignerError as error:
        raise SignerError(f"{clip.name}: {error}") from None


def _moved(clip: Clip, coordinates: np.ndarray, unit: str) -> Clip:
    return replace(clip, pose=Pose(coordinates.astype(np.float32), clip.pose.confidence, clip.pose.fps), unit=unit)


def _size(clip: Clip, target: str) -> tuple[int, int]:
    if clip.size is None:
        raise SignerError(
            f"{clip.name}: its coordinates are {clip.unit}, {target} takes another unit; give the picture's size with "
            "--size HxW"
        )
    return clip.size


def unread(clip: Clip, kind: str = "") -> list[str]:
    """What of a clip's file a target of this kind cannot get, because the clip has it not: a few words each."""
    beyond = [clip.beyond.said] if clip.beyond is not None and clip.beyond.kind != kind else []
    people = [remark for remark in clip.remarks if isinstance(remark, Remark) and remark.kind in _PEOPLE]
    return [*beyond, *clip.lost, *people]


def words_lost(clip: Clip) -> list[str]:
    """As `lost`, of a target that has no place for words."""
    words = {"texts": clip.text, "glosses": clip.gloss, "signers' names": clip.speaker}
    return [what for what, there in words.items() if there]


def place_lost(clip: Clip, written: Pose) -> list[str]:
    """As `lost`, of a target that measures from the signer's own body; `written` is the pose as that has it."""
    if clip.unit != OWN:
        return ["where in the picture the signer stands, and how large"]
    axes = min(clip.pose.coordinates.shape[-1], written.coordinates.shape[-1])
    moved = np.abs(clip.pose.coordinates[..., :axes] - written.coordinates[..., :axes])[clip.pose.confidence > 0]
    return units_lost(clip) if (moved > _NOT_MOVED).any() else []


def units_lost(clip: Clip) -> list[str]:
    """As `lost`, of a target that measures in a picture."""
    return ["place and scale of the file's own units"] if clip.unit == OWN else []


def lost(clip: Clip, joints: Sequence[str], *, depth: bool, confidence: bool) -> list[str]:
    """What of a clip's pose a target does not hold that has these joints: a few words each."""
    said, pose = [], clip.pose
    shown = {skeleton.JOINTS[joint] for joint in np.flatnonzero((pose.confidence > 0).any(0))}
    missing = shown - set(joints)
    parts = {
        "the body": skeleton.BODY,
        "the face": skeleton.FACE,
        "the hands": skeleton.LEFT_HAND + skeleton.RIGHT_HAND,
    }
    for part, names in parts.items():
        gone = [name for name in names if name in missing]
        if len(gone) > _NAMED:
            said.append(f"{len(gone)} joints of {part}")
        else:
            said += gone
    if not depth and pose.coordinates.shape[-1] > 2 and pose.coordinates[..., 2].any():
        said.append("depth")
    if not confidence and not np.isin(clip.sure, (0, 1)).all():
        said.append("confidences (what is seen stays told from what is not)")
    return said
