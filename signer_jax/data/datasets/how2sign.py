"""How2Sign: instructional texts in American Sign Language, with English sentences and without glosses.

Layout, by https://github.com/how2sign/how2sign-data (download_how2sign.sh), with the dataset's `val` as "dev":
- `sentence_level/<split>/text/en/raw_text/re_aligned/how2sign_realigned_<split>.csv`, or that file in the folder
  itself: tab-separated, quotes are letters; START_REALIGNED and END_REALIGNED are seconds of the whole video.
  Where it is absent, `…/raw_text/how2sign_<split>.csv` with START and END.
- `sentence_level/<split>/rgb_front/raw_videos/<SENTENCE_NAME>.mp4`: clips. They were cut by How2's own times, not by
  the re-aligned ones (https://how2sign.github.io, "Green Screen RGB clips*"): where both csvs are there, a sample is
  what its clip and its text have in common.
- `video_level/<split>/rgb_front/raw_videos/<VIDEO_NAME>.mp4`: whole videos, cut here where there is no clip.
- `sentence_level/<split>/rgb_front/features/openpose_output/json/<SENTENCE_NAME>/`: OpenPose's json, a file a frame; or
  `…/features/holistic_pose/<SENTENCE_NAME>.pose`, or a .pose file beside the clip. They are of the clips, so cut by the
  times that are not re-aligned ("B-F-H 2D Keypoints clips*" there): where they lie in a whole video only these say.
A split without a csv is the clips and poses that it has, without text. One without any video or pose is its text.
The number before `-rgb_front` in a name is the signer's: val has five, and some of its videos of two, from one side.
A recording is known by the video that was signed, `ID` of a clip `ID_3-5-rgb_front`, whoever signs it: 17 of val's 115
are signed by two.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from signer_jax import outside
from signer_jax.data import tables
from signer_jax.data.datasets import finding
from signer_jax.data.datasets.finding import Lacking, Names
from signer_jax.data.datasets.item import Found, Item, Seconds, composed
from signer_jax.errors import SignerError

LANGUAGE = "ase"
SPOKEN = "en"
_THEIRS = {"train": "train", "dev": "val", "test": "test"}
_TABLES = (
    ("how2sign_realigned_{0}.csv", "_REALIGNED"),
    ("sentence_level/{0}/text/en/raw_text/re_aligned/how2sign_realigned_{0}.csv", "_REALIGNED"),
    ("how2sign_{0}.csv", ""),
    ("sentence_level/{0}/text/en/raw_text/how2sign_{0}.csv", ""),
)
_CLIPS = "sentence_level/{0}/rgb_front/raw_videos"
_WHOLE = "video_level/{0}/rgb_front/raw_videos"
_JSON = "sentence_level/{0}/rgb_front/features/openpose_output/json"
_POSE = "sentence_level/{0}/rgb_front/features/holistic_pose"
_SIGNER = re.compile(r".*-(\d{1,4})-rgb_(?:front|side)")
# `ID-5-rgb_front`, and a sentence of it: `ID_3-5-rgb_front`, `ID_0_1-5-rgb_front`, `ID_3` in copies.
_VIDEO = re.compile(r"(.{11})(?:((?:_\d+)*)-\d+-rgb_(?:front|side)|((?:_\d+)+))")


class _Folders:
    """Where a split's files are, those that are not there being None."""

    def __init__(self, source: Path, split: str, places: Sequence[str] = (_CLIPS, _WHOLE, _JSON, _POSE)) -> None:
        self.clips, self.whole, self.json, self.pose = (
            folder if place in places and outside.is_folder(folder := source / place.format(_THEIRS[split])) else None
            for place in (_CLIPS, _WHOLE, _JSON, _POSE)
        )

    def any(self) -> bool:
        return any((self.clips, self.whole, self.json, self.pose))

    def sentences(self) -> dict[str, Path]:
        """What there is of each sentence, by its name: a clip or its poses, the first that there is."""
        found: dict[str, Path] = {}
        for folder, endings in ((self.clips, (*finding.VIDEOS, ".pose")), (self.pose, (".pose",)), (self.json, None)):
            for path in outside.entries(folder) if folder else ():
                if outside.is_folder(path) if endings is None else path.suffix.lower() in endings:
                    name = path.name if endings is None else path.stem
                    found.setdefault(composed(name), path)
        return found


def splits(source: str | Path) -> list[str]:
    folder = finding.check_folder(source)
    there = [split for split in _THEIRS if _table(folder, split) or _Folders(folder, split).any()]
    if not there:
        raise SignerError(
            f"{folder}: has no how2sign_realigned_train.csv (or _val, _test) and no sentence_level; give the "
            "folder that holds them"
        )
    return there


def items(source: str | Path, split: str, *, media: bool = True) -> Iterator[Found]:
    """The rows of the split's table in its order, then what no row names; without a table the clips by their names.

    Without `media` a row is its text, whatever files there are, and none is looked for.
    """
    folder = Path(source)
    finding.check_split(split, splits(folder), folder)
    found = _table(folder, split)
    if not found:
        return _without_table(_Folders(folder, split), split)
    file, times = found
    columns = ("VIDEO_NAME", "SENTENCE_NAME", f"START{times}", f"END{times}", "SENTENCE")
    rows = tables.rows(file, columns, delimiter="\t")
    folders = _Folders(folder, split) if media else _Folders(folder, split, ())
    return _with_table(file, rows, columns, folders, split, _cut_times(folder, split) if folders.any() else {})


def clips(source: str | Path, split: str) -> Iterator[Found]:
    """The split's clips by their names, each with its video, its .pose file, or both, and no text: neither tables nor
    OpenPose's json are looked at. Raises `SignerError`, before the first, where there is no such folder.
    """
    return _without_table(_Folders(finding.check_folder(source), split, (_CLIPS, _POSE)), split)


def _table(source: Path, split: str, found: Sequence[tuple[str, str]] = _TABLES) -> tuple[Path, str] | None:
    for place, times in found:
        if file := finding.first_there(source, (place.format(_THEIRS[split]),)):
            return file, times
    return None


def _cut_times(source: Path, split: str) -> dict[str, Seconds]:
    """By which seconds of the whole video each sentence's clip and poses were cut, where a table says it."""
    found = _table(source, split, [one for one in _TABLES if not one[1]])
    cut: dict[str, Seconds] = {}
    for row in tables.rows(found[0], ("SENTENCE_NAME", "START", "END"), delimiter="\t") if found else ():
        if not row.fault:
            with suppress(Lacking):
                seconds = finding.seconds_of(row.cells["START"], row.cells["END"])
                cut.setdefault(composed(row.cells["SENTENCE_NAME"]), seconds)
    return cut


def _with_table(
    file: Path, rows: Iterator[tables.Row], columns: tuple[str, ...], folders: _Folders, split: str,
    cut_times: dict[str, Seconds],
) -> Iterator[Found]:  # fmt: skip
    names = Names()
    for row in rows:
        if row.fault:
            names.mark(row.cells.get("SENTENCE_NAME", ""))
            yield finding.left(row, split, file, name=row.cells.get("SENTENCE_NAME", ""))
            continue
        video_name, name, start, end, text = (row.cells[column] for column in columns)
        try:
            name = names.new(name)
            if not text:
                raise Lacking("no text")
            seconds = finding.seconds_of(start, end)
            media = _media(folders, name, video_name, seconds, cut_times.get(name)) if folders.any() else {}
        except Lacking as lacking:
            yield finding.left(row, split, file, lacking, name)
            continue
        yield Item(
            name, split, text, language=LANGUAGE, spoken=SPOKEN, signer=_signer(name),
            recording=video_of(video_name) or video_name, came_from=finding.place(file, row.line), **media,
        )  # fmt: skip
    for name, path in folders.sentences().items():
        if name not in names:
            yield finding.lost(name, split, Lacking("in no row of the table"), path.name)


def _without_table(folders: _Folders, split: str) -> Iterator[Found]:
    for name, path in folders.sentences().items():
        try:
            if fault := tables.fault_of(path.name):
                raise Lacking(fault)
            media = _media(folders, name, "", (0.0, None), None)
        except Lacking as lacking:
            yield finding.lost(name, split, lacking, path.name)
        else:
            yield Item(
                name, split, language=LANGUAGE, signer=_signer(name), recording=video_of(name), came_from=path.name,
                **media,
            )  # fmt: skip


def _media(folders: _Folders, name: str, video_name: str, seconds: Seconds, cut: Seconds | None) -> dict:
    """The item's fields of video and pose, one of which there must be, and neither damaged; `seconds` are the text's in
    the whole video, `cut` those by which the clip and the poses were cut, where they are known. Raises `Lacking`.
    """
    media: dict = {}
    lacking = Lacking("no video and no pose")
    for take in (lambda: _video(folders, name, video_name, seconds), lambda: {"pose": _pose(folders, name)}):
        try:
            media |= take()
        except Lacking as other:
            lacking = lacking.or_rather(other)
    if not media or not lacking.absent:  # what is there and damaged is told, and not passed over for the other
        raise lacking
    if "seconds" not in media:
        return media | _in_clip(seconds, cut)
    if "pose" not in media:
        return media
    if cut is None:
        detail = "the table that is not re-aligned says them: copy it here, or move the poses elsewhere"
        raise Lacking("no times of the poses", detail)
    return media | {"pose_seconds": cut}


def _in_clip(text: Seconds, cut: Seconds | None) -> dict:
    """Which part of a clip a text is, and how long the text is. Raises `Lacking` where they have no time in common."""
    start, end = text
    lasts = {} if end is None else {"lasts": end - start}
    if cut is None:
        return lasts
    first, last = cut
    till = min((one for one in (end, last) if one is not None), default=None)
    begin = max(start, first)
    if till is not None and till <= begin:
        detail = f"the text from {start:.2f} to {math.inf if end is None else end:.2f} s, the clip from {first:.2f} s"
        raise Lacking("clip of other times than its text", detail)
    if begin == first and till == last:
        return lasts
    return lasts | {"seconds": (begin - first, None if till is None or till == last else till - first)}


def _video(folders: _Folders, name: str, video_name: str, seconds: Seconds) -> dict:
    lacking = Lacking("no video file")
    for folder, stem, cut in ((folders.clips, name, {}), (folders.whole, video_name, {"seconds": seconds})):
        if folder and stem:
            try:
                return {"video": finding.file_of(folder, [stem + end for end in finding.VIDEOS], "video file"), **cut}
            except Lacking as other:
                lacking = lacking.or_rather(other)
    raise lacking


def _pose(folders: _Folders, name: str) -> Path:
    lacking = Lacking("no pose file")
    if folders.json:
        try:
            return finding.folder_of(folders.json, (name,), (".json",), "folder of poses")
        except Lacking as other:
            lacking = lacking.or_rather(other)
    for folder in (folders.pose, folders.clips):
        if folder:
            try:
                return finding.file_of(folder, (f"{name}.pose",), "pose file")
            except Lacking as other:
                lacking = lacking.or_rather(other)
    raise lacking


def video_of(name: str) -> str:
    """The video that a clip or a recording of this name is of, "" where the name does not tell."""
    match = _VIDEO.fullmatch(name)
    return match[1] if match else ""


def clip_of(name: str) -> tuple[int, ...]:
    """The numbers of a clip of this name in its video: (3,) of `ID_3-5-rgb_front`, (0, 1) of `ID_0_1-5-rgb_front`."""
    match = _VIDEO.fullmatch(name)
    return tuple(map(int, (match[2] or match[3] or "").split("_")[1:])) if match else ()


def _signer(name: str) -> str:
    match = _SIGNER.fullmatch(name)
    return match[1] if match else ""
