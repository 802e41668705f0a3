"""What a dataset says of one of its samples, before any video or pose of it is decoded; and what it leaves out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """One sample of a dataset, as its tables and folders have it: light, nothing is decoded."""

    name: str  # of its own in the dataset
    split: str  # train, dev or test ("val" of others is dev); of `folder` any
    text: str = ""  # in the spoken language
    prompt: str = ""
    language: str = ""  # IANA code of the sign language
    spoken: str = ""  # IANA code of the text's language
    glosses: tuple[str, ...] | None = None  # None: the dataset has none
    glosses_by: str = ""  # human | rules | unknown; "" where there are none
    signer: str = ""
    video: Path | None = None  # a file, or a folder of frames in the order of their names
    pose: Path | None = None  # a file, or a folder of a file a frame (OpenPose's json, DWPose's json, npz or npy)
    line: int | None = None  # which sequence of a pose file that holds several (.skels), from 0
    seconds: tuple[float, float | None] | None = None  # from, to (excluded; None: the end) of the video and the pose
    frames: tuple[int, int | None] | None = None  # the same in frames, from 0, where the dataset counts these
    pose_is_cut: bool = False  # the pose is of these seconds or frames already: they cut the video alone
    fps: float | None = None  # as the dataset says; None: the files say it
    came_from: str = ""  # file and row, for the record's provenance


@dataclass(frozen=True)
class Left:
    """What a dataset names and cannot give: never dropped in silence."""

    name: str
    split: str
    reason: str  # a few words, the same for all of a kind: "no video file", "end before start"
    where: str  # file and row
    detail: str = ""


Found = Item | Left
Splits = Sequence[str]
