"""What a dataset says of one of its samples, before any video or pose of it is decoded; and what it leaves out."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from signer_jax.errors import piled

Seconds = tuple[float, float | None]  # from, to (excluded; None: the end)


def composed(text: str) -> str:
    """In Unicode's composed form (NFC): a table, or a disk, may hold a letter and its marks as one or apart."""
    # The time that normalising piled marks takes grows with the square of their number; such a text is refused.
    return text if text.isascii() or piled(text) else unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class Item:
    """One sample of a dataset, as its tables and folders have it: light, nothing is decoded. Its texts and glosses come
    in Unicode's composed form, however the dataset writes them.
    """

    name: str  # of its own in the dataset
    split: str  # train, dev or test ("val" of others is dev); of `folder` any
    text: str = ""  # in the spoken language
    prompt: str = ""
    language: str = ""  # IANA code of the sign language
    spoken: str = ""  # IANA code of the text's language
    glosses: tuple[str, ...] | None = None  # None: the dataset has none
    glosses_by: str = ""  # human | rules | slul | unknown; "" where there are none
    signer: str = ""
    video: Path | None = None  # a file, or a folder of frames, which their names number
    pose: Path | None = None  # a file, or a folder of a file a frame (OpenPose's json, DWPose's json, npz or npy)
    line: int | None = None  # which sequence of a pose file that holds several (.skels), from 0
    recording: str = ""  # the dataset's name of the video that this one was cut out of; samples of one share it
    seconds: Seconds | None = None  # of the video and the pose
    frames: tuple[int, int | None] | None = None  # the same in frames, from 0, where the dataset counts these
    pose_seconds: Seconds | None = None  # of the video, which the pose was cut by; None: it is of the whole video
    lasts: float | None = None  # seconds of its text, where the files were cut by other times
    fps: float | None = None  # of a folder of pictures, else of the pose, as the dataset says; None: the files say it
    usual_fps: float | None = None  # of the dataset's poses, where neither files nor --pose-fps say it
    came_from: str = ""  # file and row, for the record's provenance
    prompt_by: str = ""  # dataset or templates, where it is a prompt for another sample's text

    def __post_init__(self) -> None:
        for name in ("name", "text", "prompt", "signer", "recording"):
            object.__setattr__(self, name, composed(getattr(self, name)))
        if self.glosses is not None:
            object.__setattr__(self, "glosses", tuple(map(composed, self.glosses)))


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
