"""An item of a dataset -> what a prepared set keeps of it: its pose and its video, cut to the sample by real times.

Nothing is dropped in silence: what cannot be kept raises `LeftOut` with one of `FILTERS`, and what is kept otherwise
than it came says so in `Taken.mended`.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from signer_jax import outside
from signer_jax.data import framing, timing, video
from signer_jax.data.datasets.item import Item
from signer_jax.data.estimators.opening import Estimator
from signer_jax.data.prepared import pictures, poses
from signer_jax.errors import SignerError, Trouble, piled
from signer_jax.pose import skeleton
from signer_jax.pose.clean import cleaned
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats import pose_file
from signer_jax.pose.formats.clip import Clip
from signer_jax.types import Pose

# Why an item is left out, in the order in which it is asked.
FILTERS = (
    "text is damaged", "no text, pose or video", "video is damaged or cut short", "no frame rate",
    "no telling which frame a picture is", "pose cannot be read", "no person in the pose", "no size of the picture",
    "begins beyond its end",
    "end before start", "pose and video disagree", "too short", "no frame of its time", "too long", "too large",
)  # fmt: skip
(
    _BAD_TEXT, _NOTHING, _BAD_VIDEO, _NO_RATE, _NO_TELLING, _BAD_POSE, NOBODY, _NO_SIZE, _BEYOND, _BACKWARDS, DISAGREE,
    _SHORT, STILL, LONG, LARGE,
) = FILTERS  # fmt: skip
# What is kept otherwise than it came, each told of every item of which it holds.
CUT = "end beyond the video's end: cut there"
SHORTER = "pose of a part of the sample alone: cut to it"
VARIABLE = "variable frame rate: brought to one by the frames' times"
TURNED = "video says that it is to be turned: upright"
HELD = "frames of the video cannot be read: the nearest is shown in their place"
PADDED = "odd height or width: the last row or column is repeated"
RATE = "pose is said to have another frame rate than its video: the video's times are taken"
OVERRULED = "pose names another frame rate than the dataset: the dataset's is taken"
ASSUMED = "pose says no frame rate: that of --pose-fps is taken"
USUAL = "pose says no frame rate: the dataset's usual one is taken"
SIZED = "pose is in shares of a picture of which nothing says the size: that of --pose-size is taken"
SEVERAL = "several people in the pose or the video: one of them is followed"
FIRST = "several people in the pose file: the first is taken"
COUNTED = "frames of the pose are numbered from 1: number 1 is the first"
HOLES = "frames of the pose are missing or show nobody: no joint is seen in them"
FRAMES = "pose has one or two frames more or fewer than its video: frame for frame from the first"
STRETCHED = "pose is of a picture of another shape than its video's: brought to the video's"
UNSIZED = "pose names a picture of 1000x1000, as where nobody said its size: taken in its video's pixels"
OTHER_TIMES = "clip was cut by other times than its text: the seconds of both"
UNITS = "pose is not in its video's pixels: the whole picture is taken"
# What cleaning did to a pose, with the number of joints, each in a frame.
DROPPED = "hand found twice: dropped where it is far from its arm (joints of those that are seen)"
FILLED = "hand's joints missing for one or two frames: filled in by a straight line (joints of those that are seen)"
MOVED = "finger's joints off their hand for one frame: put between the frames around (joints of those that are seen)"
# What a reader of poses remarks on -> how it is told here.
_REMARKS = {
    clips.SEVERAL: SEVERAL, clips.FIRST: FIRST, clips.NOBODY: HOLES, clips.NO_FILE: HOLES, clips.OVERRULED: OVERRULED,
    clips.COUNTED: COUNTED,
}  # fmt: skip

_LEAST_FRAMES = 4  # windows' third differences need them
_MOST_FRAMES = 200_000  # over two hours: a single time stamp may be days off
_SAME_TIME = 0.1  # seconds, of a clip and its text
_SAME_FRAME = 1e-3  # seconds
_SAME_RATE = 0.02  # a share: 23.976 is written as 24
_SAME_COUNT = 2  # frames that extractors lose at an end
_SAME_LENGTH = 0.002  # a share: half of 23.976 is written as 12
_MOST_BYTES = 1 << 28  # of a video file that is kept as it is


@dataclass(frozen=True)
class How:
    """How a set is prepared: one for all of its items, kept in `about.json`."""

    fps: float = 0.0  # 0: each item's own
    pose_fps: float = 0.0  # of poses whose rate nothing says; 0: these are left out
    pose_size: tuple[int, int] | None = None  # height and width of the pictures of poses of which nothing says them
    size: tuple[int, int] | None = None  # height and width of the videos; None: their own
    poses: str = "ready"  # or none, or how those are made that the dataset lacks: dwpose, mediapipe
    poses_by: str = ""  # the estimator and its weights' checksums
    video: str = "bytes"  # or none
    prompts: int = 0  # a training text, by templates
    glosses: str = "none"  # how those are made that the dataset lacks: rules, or slul with the run and its checksum
    glosses_for: str = "lacking"  # which texts have those: lacking, or all, in place of the dataset's own
    language: str = ""  # IANA codes of the sign language and of the texts' of what names none
    spoken: str = ""
    clean: str = "all"  # or train, or none: of which splits poses are cleaned


@dataclass(frozen=True)
class Taken:
    """What is kept of an item. The pose is normalised, and cleaned where `How` says so."""

    item: Item
    seconds: float = 0.0
    pose: Pose | None = None
    video: bytes | None = None
    video_fps: float = 0.0
    size: tuple[int, int] = (0, 0)  # height and width of the video
    centre: Float[np.ndarray, " c"] | None = None  # of the pose in the video's pixels, None where it is not in these
    scale: float = 0.0  # pixels a shoulder width
    pose_layout: str = ""  # of a pose file whose ending stands for several
    mended: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)  # of some of `mended`
    pose_by: str = ""  # the estimator that made the pose; "" of the dataset's own


class LeftOut(Exception):
    """An item that cannot be kept: one of `FILTERS`, and what is wrong with this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


def take(item: Item, how: How, estimator: Estimator | None = None) -> Taken:
    """What is kept of an item; the estimator makes the pose of a video without one. Raises `LeftOut`."""
    if any(piled(text) for text in (item.text, item.prompt, item.name, *(item.glosses or ()))):
        raise LeftOut(_BAD_TEXT, "more than 30 marks on a letter")
    wants_pose = item.pose is not None and how.poses != "none"
    wants_video = item.video is not None and how.video != "none"
    if not (item.text or item.prompt or item.glosses or wants_pose or wants_video):
        raise LeftOut(_NOTHING)
    estimates = estimator is not None and item.pose is None and item.video is not None
    shown = _shown(item) if item.video is not None and (wants_video or wants_pose or estimates) else None
    if estimator is not None and estimates and shown is not None:
        of = _interval(item, shown.stamps, shown.end, shown.rate, [])
        made = _estimated(item, shown, of, estimator)
        taken = _cut(replace(item, pose_seconds=of, fps=None), how, made, shown, [], keep=wants_video)
        return replace(taken, item=item, pose_by=estimator.made_by)
    mended: list[str] = []
    clip = _pose(item, how, shown, mended) if wants_pose else None
    if clip is None and shown is None:
        return Taken(item)
    return _cut(item, how, clip, shown, mended, keep=wants_video)


def _left(reason: str, error: SignerError) -> Exception:
    """What a reader's error becomes; a disk or a network that is in the way leaves nothing out."""
    return error if isinstance(error, Trouble) else LeftOut(reason, str(error))


# ---- What the files hold ---------------------------------------------------------------------------------------------


def _pose(item: Item, how: How, shown: "_Shown | None", mended: list[str]) -> Clip:
    fps, _ = _rate_of_pose(item, how, shown)
    if not (poses.says_rate(item) or fps):
        raise LeftOut(_NO_RATE, f"{item.pose}: says none, nor do the dataset and a video; give it with --pose-fps")
    try:
        of = 0 if shown is None else len(_frames_of_pose(shown, item.pose_seconds)[0])
        clip = poses.read(item, fps, of)
    except SignerError as error:
        raise _left(NOBODY if isinstance(error, clips.NobodySeen) else _BAD_POSE, error) from None
    if clip.unit != clips.SHARES:
        return clip
    size = shown.size if shown is not None else clip.size or how.pose_size
    if size is None:
        raise LeftOut(
            _NO_SIZE, f"{item.pose}: has shares of a picture whose size nothing says; give it with --pose-size"
        )
    mended += [SIZED] * (shown is None and clip.size is None)
    return clips.scaled(replace(clip, size=size), "a prepared set")


def _rate_of_pose(item: Item, how: How, shown: "_Shown | None") -> tuple[float | None, str]:
    """The frame rate of poses whose file says none, and what is told of where it comes from."""
    if item.fps and not (shown is not None and shown.pictures):  # which of a folder of pictures is that of these
        return item.fps, ""
    if how.pose_fps:
        return how.pose_fps, ASSUMED
    return (item.usual_fps, USUAL) if shown is None else (shown.rate, "")


def _estimated(item: Item, shown: "_Shown", interval: tuple[float, float], estimator: Estimator) -> Clip:
    """The pose in each of the sample's own frames, which are decoded for it one after the other."""
    start, end = interval
    inside = shown.stamps[_inside(shown.stamps, start, end)]
    times: list[float] = []

    def frames() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for time, frame in shown.between(start, end):
            times.append(time)
            yield frame

    try:
        clip = estimator.estimate(item.name, frames(), shown.rate)
        _check_all(shown, len(times), len(inside))
    except SignerError as error:
        raise _left(NOBODY if isinstance(error, clips.NobodySeen) else _BAD_VIDEO, error) from None
    # A frame that could not be read has the pose of the one beside it.
    found = timing.nearest(np.array(times), inside)
    return replace(clip, pose=Pose(clip.pose.coordinates[found], clip.pose.confidence[found], shown.rate))


@dataclass(frozen=True)
class _Shown:
    """A video file, or a folder of pictures, by the times of its frames."""

    path: Path
    stamps: np.ndarray
    rate: float  # what it is stored at where nothing else is asked for
    even: bool  # whether its frames are evenly spaced
    size: tuple[int, int]
    turned: bool = False
    plain: bool = False  # a file that can be kept as it is
    told: tuple[str, ...] = ()  # of a folder of pictures
    pictures: tuple[Path, ...] = ()

    @property
    def end(self) -> float:
        return timing.total(self.stamps, self.rate)

    def between(self, start: float, end: float) -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
        if not self.pictures:
            yield from video.between(self.path, start, end)
            return
        for time, file in zip(self.stamps, self.pictures, strict=True):
            if start - 1e-4 <= time < end - 1e-4:
                yield float(time), pictures.picture(file)


def _shown(item: Item) -> _Shown:
    path = item.video
    assert path is not None
    try:
        if outside.is_folder(path):
            return _frames_folder(path, item.fps)
        facts = _facts(path)
    except SignerError as error:
        raise _left(_BAD_VIDEO, error) from None
    even = timing.constant_rate(facts.stamps, facts.fps)
    rate = video.as_written(even or timing.usual_rate(facts.stamps, facts.fps))
    size = (facts.height, facts.width)
    return _Shown(path, facts.stamps, rate, bool(even), size, facts.turned, facts.plain)


def _frames_folder(path: Path, fps: float | None) -> _Shown:
    if not fps:
        raise LeftOut(_NO_RATE, f"{path}: a folder of pictures says none; name it in a column fps")
    try:
        found = pictures.listed(path)
    except pictures.NoTelling as why:
        raise LeftOut(_NO_TELLING, f"{why}; name them by the frames' numbers") from None
    size = pictures.picture(found.files[0]).shape[:2]
    return _Shown(path, found.frames / fps, fps, not found.gaps, size, told=found.told, pictures=found.files)


def _facts(path: Path) -> video.Facts:
    """Those of a whole video are kept while its sentences are cut out of it, one after the other."""
    try:
        there = os.stat(path)
    except OSError:
        return video.facts(path)  # which says what is wrong
    return _known_facts(path, there.st_size, there.st_mtime_ns)


@lru_cache(maxsize=4)
def _known_facts(path: Path, size: int, changed: int) -> video.Facts:
    return video.facts(path)


# ---- What is kept of them --------------------------------------------------------------------------------------------


def _cut(item: Item, how: How, clip: Clip | None, shown: _Shown | None, mended: list[str], *, keep: bool) -> Taken:
    pose = None if clip is None else clip.pose
    rate_by = "" if poses.says_rate(item) else _rate_of_pose(item, how, shown)[1]
    if clip is not None:
        kinds = (remark.kind for remark in clip.remarks if isinstance(remark, clips.Remark))
        mended += dict.fromkeys(_REMARKS[kind] for kind in kinds)
        mended += [rate_by] * (shown is None and bool(rate_by))
        pose = clip.pose if shown is None else _in_video(clip, shown, mended)
    if shown is not None:
        stamps, rate, whole = shown.stamps, shown.rate, shown.end
        mended += [*shown.told] + [VARIABLE] * (not shown.even and not shown.pictures) + [TURNED] * shown.turned
    else:
        assert pose is not None
        stamps, rate = np.arange(len(pose)) / pose.fps, float(pose.fps)
        whole = timing.total(stamps, rate)
    start, end = _interval(item, stamps, whole, rate, mended)
    if pose is not None:
        times = stamps
        if shown is not None:
            times = _pose_times(pose, item, shown, rate_by, mended)
        start, end = _overlap(start, end, times, 1 / rate, mended)
    if (end - start) * rate < _LEAST_FRAMES - 0.5:
        raise LeftOut(_SHORT, f"{max(end - start, 0):.2f} seconds, {max(end - start, 0) * rate:.1f} frames")
    _inside(stamps, start, end)
    fps = how.fps or rate
    seconds = end - start
    details: dict[str, str] = {}
    if item.lasts is not None and abs(seconds - item.lasts) > _SAME_TIME:
        mended.append(OTHER_TIMES)
        details[OTHER_TIMES] = f"{seconds:.2f}, {item.lasts:.2f}"
    if timing.count(seconds, fps) > _MOST_FRAMES:
        raise LeftOut(LONG, f"{seconds:.0f} seconds, {timing.count(seconds, fps)} frames; a frame's time may be wrong")
    centre, scale = None, 0.0
    if pose is not None:
        _inside(times, start, end)
        inside = (times >= start - 1e-4) & (times < end + 1e-4)
        cut = Pose(pose.coordinates[inside], pose.confidence[inside], rate)
        try:
            moved, centre, scale = skeleton.normalise(cut)
        except SignerError as error:
            raise _left(NOBODY, error) from None
        centre = centre[:2]
        moved = _deep(moved)
        if how.clean == "all" or (how.clean == "train" and item.split == "train"):
            moved = _cleaned(moved, mended, details)
        pose = timing.at_times(moved, times[inside], timing.grid(start, end, fps), fps)
    layout = "" if clip is None else clip.layout
    if shown is None or not keep:
        return Taken(item, seconds, pose, pose_layout=layout, mended=tuple(mended), details=details)
    height, width = shown.size
    if centre is not None and not (scale > 2 and 0 <= centre[0] <= width and 0 <= centre[1] <= height):
        # Units of its own, or another picture's.
        centre, scale = None, 0.0
        mended.append(UNITS)
    data, size, centre, scale = _video(shown, how, start, end, whole, fps, centre, scale, mended)
    return Taken(item, seconds, pose, data, fps, size, centre, scale, layout, tuple(mended), details)


def _cleaned(pose: Pose, mended: list[str], details: dict[str, str]) -> Pose:
    found = cleaned(pose)
    seen = int((pose.confidence > 0).sum())
    for what, count in ((DROPPED, found.dropped), (FILLED, found.filled), (MOVED, found.moved)):
        if count:
            mended.append(what)
            details[what] = f"{count} of {seen}"
    return found.pose


def _inside(times: np.ndarray, start: float, end: float) -> np.ndarray:
    """Which frames a stretch has. Raises `LeftOut` where it has none, as in a gap of a variable rate."""
    inside = (times >= start - 1e-4) & (times < end - 1e-4)
    if not inside.any():
        raise LeftOut(STILL, f"none from {start:.2f} to {end:.2f} seconds")
    return inside


def _deep(pose: Pose) -> Pose:
    """With a depth of 0 where there is none."""
    lacking = 3 - pose.coordinates.shape[2]
    return Pose(np.pad(pose.coordinates, ((0, 0), (0, 0), (0, lacking))), pose.confidence, pose.fps)


def _in_video(clip: Clip, shown: _Shown, mended: list[str]) -> Pose:
    """The pose in its video's pixels, where it was found in a picture of another size: each axis by its own factor, as
    the picture was.
    """
    if clip.unit != clips.PIXELS or clip.size in (None, shown.size, pose_file.UNSAID):
        mended += [UNSIZED] * (clip.unit == clips.PIXELS and clip.size == pose_file.UNSAID != shown.size)
        return clip.pose
    assert clip.size is not None
    tall, wide = (there / here for there, here in zip(shown.size, clip.size, strict=True))
    mended += [STRETCHED] * (abs(tall / wide - 1) > _SAME_RATE)
    pose = clip.pose
    axes = np.array([wide, tall, wide][: pose.coordinates.shape[2]], np.float32)  # a depth has the width's unit
    return Pose(pose.coordinates * axes, pose.confidence, pose.fps)


def _interval(item: Item, stamps: np.ndarray, whole: float, rate: float, mended: list[str]) -> tuple[float, float]:
    """Where the sample begins and ends, in seconds after the first frame."""
    start, end = 0.0, whole
    if item.frames is not None:
        first, last = item.frames
        if first >= len(stamps):
            raise LeftOut(_BEYOND, f"at frame {first} of {len(stamps)}")
        start = float(stamps[first])
        if last is not None:
            end = float(stamps[last]) if last < len(stamps) else whole + (last - len(stamps)) / rate
    elif item.seconds is not None:
        start, given = item.seconds
        end = whole if given is None else given
    if start >= whole:
        raise LeftOut(_BEYOND, f"at {start:.2f} of {whole:.2f} seconds")
    if end <= start:
        raise LeftOut(_BACKWARDS, f"from {start:.2f} to {end:.2f} seconds")
    if end > whole + 0.5 / rate:
        mended.append(CUT)
    return start, min(end, whole)


def _overlap(start: float, end: float, times: np.ndarray, frame: float, mended: list[str]) -> tuple[float, float]:
    """From when to when there are both the sample and its pose; `frame` is how long one of the video is shown."""
    gap = float(times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    first, last = float(times[0]), float(times[-1]) + max(gap, frame)
    if first >= end or last <= start:
        raise LeftOut(DISAGREE, f"the pose is of {first:.2f} to {last:.2f} s, the sample of {start:.2f} to {end:.2f} s")
    later, sooner = first > start + frame / 2, last < end - frame / 2
    mended += [SHORTER] * (later or sooner)
    return first if later else start, min(end, last)


def _frames_of_pose(shown: _Shown, cut: tuple[float, float | None] | None) -> tuple[np.ndarray, float, float]:
    """The times of the frames that a pose of this part of a video is of, when the part begins and how long it is."""
    if cut is None:
        return shown.stamps, 0.0, shown.end
    origin, end = cut[0], shown.end if cut[1] is None else min(cut[1], shown.end)
    return shown.stamps[(shown.stamps >= origin - 1e-4) & (shown.stamps < end - 1e-4)], origin, end - origin


def _pose_times(pose: Pose, item: Item, shown: _Shown, rate_by: str, mended: list[str]) -> np.ndarray:
    """When each frame of an item's pose is shown in its video, in seconds after the video's first frame; `rate_by` is
    what is told where the pose's rate is needed.
    """
    count, fps = len(pose), float(pose.fps)
    stamps, origin, seconds = _frames_of_pose(shown, item.pose_seconds)
    # A frame for a frame, or the same time at another rate.
    same_rate = abs(fps / shown.rate - 1) <= _SAME_RATE
    if len(stamps) and abs(count - len(stamps)) <= _SAME_COUNT:
        mended += [RATE] * (shown.even and not same_rate) + [FRAMES] * (count != len(stamps))
        beyond = stamps[-1] + np.arange(1, max(count - len(stamps), 0) + 1) / shown.rate
        return np.concatenate([stamps, beyond])[:count]
    if abs(count / fps - seconds) <= max(_SAME_COUNT / fps, _SAME_LENGTH * seconds) and not (shown.even and same_rate):
        mended += [rate_by] * bool(rate_by)
        return origin + np.arange(count) / fps
    mend = "" if poses.says_rate(item) else "; give the pose's rate with --pose-fps"
    raise LeftOut(
        DISAGREE, f"{count} frames of pose at {fps:g} a second ({count / fps:.2f} s) beside {len(stamps)} of video "
        f"({seconds:.2f} s){mend}",
    )  # fmt: skip


def _video(
    shown: _Shown, how: How, start: float, end: float, whole: float, fps: float, centre: np.ndarray | None,
    scale: float, mended: list[str],
) -> tuple[bytes, tuple[int, int], np.ndarray | None, float]:  # fmt: skip
    """The bytes of the sample's video, its size, and where the pose lies in it."""
    all_of_it = start == 0 and end > whole - 0.5 / shown.rate
    same_rate = abs(fps / shown.rate - 1) < 1e-3 and shown.even
    try:
        as_it_is = all_of_it and same_rate and shown.plain and not shown.turned and how.size is None
        if as_it_is and shown.path.stat().st_size <= _MOST_BYTES:
            seen = video.decodable(shown.path)
            _check_all(shown, seen, len(shown.stamps))
            mended += [HELD] * (seen < len(shown.stamps))
            return shown.path.read_bytes(), shown.size, centre, scale
        frames = _at_rate(shown, start, end, fps, mended)
        if how.size is not None and centre is not None:
            frames = framing.around_signer(frames, centre, scale, how.size)
            unit, x, y = skeleton.view(*how.size)
            centre, scale = np.array([x, y], np.float32), unit
        elif how.size is not None:
            frames = framing.middle(frames, how.size)
        height, width = how.size or shown.size
        mended += [PADDED] * (how.size is None and bool(height % 2 or width % 2))
        data = video.encoded(frames, fps)
    except SignerError as error:
        raise _left(_BAD_VIDEO, error) from None
    if len(data) > _MOST_BYTES:
        raise LeftOut(LARGE, f"{len(data) >> 20} MB of video")
    return data, (height + height % 2, width + width % 2), centre, scale


def _check_all(shown: _Shown, seen: int, count: int) -> None:
    if not seen or seen < count * (1 - _SAME_RATE) - 1:
        raise SignerError(f"{shown.path}: {seen} of its {count} frames can be read; download it again")


def _at_rate(
    shown: _Shown, start: float, end: float, fps: float, mended: list[str]
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames of a stretch at a rate, by their times: a frame that is wanted twice comes twice, and in the place of
    one that cannot be read the nearest of the others. Raises `SignerError` where too many cannot.
    """
    wanted = shown.stamps[timing.nearest(shown.stamps, timing.grid(start, end, fps))]
    came: list[float] = []

    def found() -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
        for time, frame in shown.between(float(wanted[0]), float(wanted[-1]) + 0.5 / shown.rate):
            came.append(time)
            yield time, frame
            if time > wanted[-1] - _SAME_FRAME:
                return

    for count, frame in timing.shown_at(found(), wanted):
        for _ in range(count):
            yield frame
    needed = np.unique(wanted)
    off = np.array(came)[timing.nearest(np.array(came), needed)] - needed if came else np.full(len(needed), np.inf)
    seen = int((np.abs(off) <= _SAME_FRAME).sum())
    _check_all(shown, seen, len(needed))
    mended += [HELD] * (seen < len(needed))
