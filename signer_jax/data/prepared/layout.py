"""A prepared set on disk: which files it has, what a record and a part's table hold (docs/files.md has the schema).

A part is some items of one split: `parts/<name>.text.arrayrecord` has a record for every item with a text,
`parts/<name>.motion.arrayrecord` one for every item with a pose or a video, and `parts/<name>.json` a row for each item
that is kept or left out, with the two files' sizes and SHA-256. The table is written last.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from signer_jax import mirror, outside, storage
from signer_jax.data import far_shards, records
from signer_jax.data.datasets.item import Item
from signer_jax.data.glossing import MACHINES
from signer_jax.data.prepared.checksums import checksum
from signer_jax.data.prepared.taking import Taken
from signer_jax.data.shards import BROKEN, Shard, pack, unpack
from signer_jax.errors import SignerError, piled
from signer_jax.json_files import LISTS, read_json
from signer_jax.pose import skeleton
from signer_jax.types import Pose, Sample
from signer_jax.writing import runs_of, words_of

KIND = "prepared set"
VERSION = 3
PARTS = "parts"
REMAKE = "prepare it again with the same `signer prepare`, which keeps what is whole"
TEXT, MOTION = "text", "motion"


# ---- Records ---------------------------------------------------------------------------------------------------------


def text_record(taken: Taken, dataset: str, origin: dict[str, str]) -> bytes:
    return pack(_about(taken, dataset, origin))


def motion_record(taken: Taken, dataset: str, origin: dict[str, str]) -> bytes:
    tree = _about(taken, dataset, origin) | {"seconds": float(taken.seconds)}
    if taken.pose is not None:
        pose = taken.pose
        tree["pose"] = {"coordinates": pose.coordinates, "confidence": pose.confidence, "fps": float(pose.fps)}
        tree["pose_by"] = taken.pose_by
    if taken.video is not None:
        tree |= {"video": taken.video, "video_fps": float(taken.video_fps), "size": np.array(taken.size, np.int32)}
    if taken.centre is not None:
        tree |= {"centre": np.asarray(taken.centre, np.float32), "scale": float(taken.scale)}
    return pack(tree)


def origin_of(taken: Taken, source: Path) -> dict[str, str]:
    """Where an item came from: its row, its files below the source and their SHA-256."""
    item = taken.item
    files = {what: path for what, path in (("video", item.video), ("pose", item.pose)) if path is not None}
    return {
        "row": item.came_from,
        **{what: relative(path, source) for what, path in files.items()},
        **{f"{what}_sha256": checksum(path) for what, path in files.items()},
        **({"pose_layout": taken.pose_layout} if taken.pose_layout else {}),
    }


def _about(taken: Taken, dataset: str, origin: dict[str, str]) -> dict[str, Any]:
    item = taken.item
    return {
        "name": item.name, "text": item.text, "prompt": item.prompt, "prompt_by": item.prompt_by,
        "language": item.language, "spoken": item.spoken,
        "glosses": "\n".join(item.glosses or ()), "glosses_by": item.glosses_by, "dataset": dataset,
        "signer": item.signer, "came_from": origin,
    }  # fmt: skip


def relative(path: Path, source: Path) -> str:
    """As it is below the source; the whole path of what lies elsewhere. Bytes that are no UTF-8 stand as `\\udcff`."""
    place = str(path.relative_to(source)) if path.is_relative_to(source) else str(path)
    return place.encode("utf-8", "backslashreplace").decode()


def asked(text: str, prompt: str, prompt_by: str) -> str:
    """What a sample asks to be signed: its prompt where it is one, or has no text, else its text."""
    return prompt if prompt and (prompt_by or not text) else text


def _asked(tree: Mapping[str, Any]) -> str:
    prompt = tree["prompt"]
    if not isinstance(prompt, str) or piled(prompt):
        raise ValueError("prompt is no text")
    return asked(tree["text"], prompt, tree.get("prompt_by", ""))  # of sets of before there are others without


def read_text(record: bytes) -> Sample:
    """A text record's sample, its text what is `asked`. Raises one of `shards.BROKEN`."""
    tree = unpack(record)
    sample = records.decode(record)
    return replace(sample, text=_asked(tree), glosses_by=str(tree["glosses_by"]))


@dataclass(frozen=True)
class Motion:
    """A motion record: the sample without its video, and that as it is stored."""

    sample: Sample
    seconds: float
    video: bytes | None
    video_fps: float
    centre: np.ndarray | None  # of the pose in the video's pixels
    scale: float


def read_motion(record: bytes) -> Motion:
    """What a motion record holds. Raises one of `shards.BROKEN` where it holds none."""
    tree = unpack(record)
    pose = None
    if "pose" in tree:
        pose = Pose(**tree["pose"])
        if type(pose.fps) is not float or (fault := skeleton.fault(pose)):
            raise ValueError("its frame rate is no number" if type(pose.fps) is not float else fault)
    seconds, video = tree["seconds"], tree.get("video")
    if type(seconds) is not float or not 0 < seconds < 1e6 or (video is not None and type(video) is not bytes):
        raise ValueError("its seconds are no number, or its video no bytes")
    centre = tree.get("centre")
    if centre is not None and (centre.shape != (2,) or not np.isfinite(centre).all() or not tree["scale"] > 0):
        raise ValueError("its pose lies nowhere in its video")
    texts = {name: tree[name] for name in ("name", "text", "language", "glosses", "signer")}
    for name, text in texts.items():
        if not isinstance(text, str) or piled(text):
            raise ValueError(f"{name} is no text")
    joined = texts.pop("glosses")
    texts["text"] = _asked(tree)
    by = tree["glosses_by"]
    sample = Sample(**texts, glosses=tuple(joined.split("\n")) if joined else (), glosses_by=str(by), pose=pose)
    return Motion(sample, seconds, video, tree.get("video_fps", 0.0), centre, tree.get("scale", 0.0))


# ---- A part's table --------------------------------------------------------------------------------------------------


def row(taken: Taken, origin: dict[str, str]) -> dict[str, Any]:
    """What a part's table says of an item that is kept: by `text` it has a text record, by `sentence` words; `film` is
    the same for what was cut out of one video, by the dataset's name of it or by the file's checksum, "" where neither
    tells, and `film_by` says which of these it is; `same` is the same for the same part of the same files.
    """
    item, pose = taken.item, taken.pose
    text = item.text or item.prompt
    file = origin.get("video_sha256") or origin.get("pose_sha256", "")
    part = (origin.get("video_sha256"), origin.get("pose_sha256"), item.line, item.seconds, item.frames)
    return {
        "name": item.name, "language": item.language, "spoken": item.spoken, "signer": item.signer,
        "text": bool(text or item.glosses), "glosses": len(item.glosses or ()),
        "words": len(words_of(text)), "glosses_by": item.glosses_by, "prompt_by": item.prompt_by,
        "sentence": sentence_key(text),
        "film": item.recording or (file if item.line is None else ""), "film_by": _film_by(item, origin),
        "same": hashlib.sha256(repr(part).encode()).hexdigest()[:16] if file else "",
        "seconds": round(taken.seconds, 6), "frames": 0 if pose is None else len(pose), "pose_by": taken.pose_by,
        "fps": 0 if pose is None else float(pose.fps), "video_fps": float(taken.video_fps),
        "height": taken.size[0], "width": taken.size[1],
    }  # fmt: skip


def _film_by(item: Item, origin: Mapping[str, str]) -> str:
    if item.recording:
        return "name"
    return next((what for what in ("video", "pose") if f"{what}_sha256" in origin and item.line is None), "")


def is_sign(row: Mapping[str, Any]) -> bool:
    """Whether a row has the pose of one sign that is shown alone, as people say."""
    return row["frames"] > 0 and row["glosses"] == 1 and row["glosses_by"] not in MACHINES


def sentence_key(text: str) -> str:
    """The same for the same words, however they are written; nothing of no text."""
    words = " ".join(run.key for run in runs_of(text))
    return hashlib.sha256(words.encode("utf-8", "backslashreplace")).hexdigest()[:16] if words else ""


def part_name(split: str, worker: int, workers: int, part: int) -> str:
    return f"{split}-{worker:04d}of{workers:04d}-{part:05d}"


def table_of(directory: Path, name: str) -> dict[str, Any]:
    """A part's table. Raises `SignerError` where it is damaged, `Trouble` where the disk is in the way, and `NotThere`
    where there is none.
    """
    path = directory / PARTS / f"{name}.json"
    try:
        table = read_json(path, LISTS)
        if table["version"] != VERSION or not isinstance(table["kept"], list) or not isinstance(table["files"], dict):
            raise ValueError("it is of another version")
        return table
    except FileNotFoundError:
        raise NotThere(f"{path}: is missing; {REMAKE}") from None
    except BROKEN as error:
        if isinstance(error, OSError):
            outside.check_lasting(path, error)
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise SignerError(f"{path}: is damaged ({reason}); {REMAKE}") from None


def stays(name: str) -> bool:
    """Whether a file of a set in a bucket is read there: poses and videos, which are large."""
    return name.endswith(f".{MOTION}.arrayrecord")


class NotThere(SignerError):
    """A part has no table: not yet, or no more."""


class PreparedSet:
    """A whole prepared set, by its index; raises `SignerError` where the folder is none, or not whole."""

    def __init__(self, directory: str | Path):
        """Of one in a bucket `directory` is its mirror, into which nothing is copied of what is no set."""
        far = mirror.bring(Path(directory), stays) if storage.kind_of(directory) == KIND else {}
        self.directory = storage.check_folder(directory, KIND, REMAKE, ("index.json",), far)
        self._far = far  # poses and videos that lie in a bucket alone, and their bytes
        self.far_bytes = sum(far.values())
        try:
            self.index: dict[str, Any] = read_json(self.directory / "index.json", LISTS)
            self.dataset = str(self.index["dataset"])
            self.counts: dict[str, dict[str, int]] = self.index["splits"]
            self.parts: dict[str, list[str]] = self.index["parts"]
            if self.index["version"] != VERSION:
                raise ValueError(f"version {self.index['version']!r}, this program reads {VERSION}")
        except BROKEN as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise SignerError(f"{self.directory / 'index.json'}: is damaged ({reason}); {REMAKE}") from None

    def tables(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The name and the table of each part of a split, one after the other: all would fill the memory."""
        return ((name, table_of(self.directory, name)) for name in self.parts.get(split, []))

    def shard(self, name: str, kind: str, records: int, decode: Callable[[bytes], Any]) -> Shard:
        """A part's records of a kind, of which its table says how many there are."""
        file = self.file(name, kind)
        return far_shards.opened(file, records, decode, REMAKE, self._far.get(f"{PARTS}/{file.name}"))

    def file(self, name: str, kind: str) -> Path:
        return self.directory / PARTS / f"{name}.{kind}.arrayrecord"
