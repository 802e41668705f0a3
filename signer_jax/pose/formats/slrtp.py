"""The dictionary of the SLRTP 2025 challenge, pickled (`.pkl`, `.pickle`, also gzipped) or by `torch.save` (`.pt`).

By the sentence's id: `{name, text, gloss, poses_3d [t, 178, 3], speaker}` at 25 frames a second. Joints: right
shoulder, elbow, wrist, left ones, right and left hip; 8-28 the right hand, 29-49 the left one; 50-177 a face around a
centre of its own, in an order of its own, which has no place on the body: it is kept for another such dictionary alone.
What is 0 in x, y and z is missing.

No pickle is executed (`pickles.py`).
"""

import gzip
import pickle
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from signer_jax import arrays, outside, pickles, storage
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats.clip import Clip
from signer_jax.types import Pose

KIND = "an SLRTP dictionary"
LAYOUT = "slrtp"
ENDINGS = (".pkl", ".pickle", ".gz", ".pt")
FPS = 25.0
_BODY = (
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
    "left_hip",
)  # fmt: skip
JOINTS = (*_BODY, *skeleton.RIGHT_HAND, *skeleton.LEFT_HAND)
_POINTS = 178
_WHERE = [skeleton.INDEX[joint] for joint in JOINTS]
_SHOULDERS = [skeleton.INDEX[f"{side}_shoulder"] for side in ("right", "left")]
_NECK = skeleton.INDEX["neck"]
_MOST_BYTES = 1 << 32  # PHOENIX14T's training split is 1.8 GB
_MOST_GROWTH, _SMALL = 16, 1 << 26  # of what is gzipped or zipped
_MOST_BUILT = 1 << 28  # beside the arrays' bytes
_NO_DIFFERENCE = 1e-5  # shoulder widths
_MEND = "download it again"
FACE = "the face (its points lie around a centre of their own)"


def read(path: str | Path, fps: float | None = None) -> Iterator[Clip]:
    """The sequences of a file, in the file's units. The neck is the middle of the shoulders.

    Raises `SignerError` for what is no such dictionary, or would run anything.
    """
    path = Path(path)
    rate = FPS if fps is None else clips.rate(path, fps, KIND)
    value = _sentences(path)
    for name in list(value):
        yield _clip(path, name, value.pop(name), rate)


def _sentences(path: Path) -> dict:
    outside.plain_file(path, "give an SLRTP dictionary")
    try:
        with outside.reading(path, "divide it"):
            value = _value(path)
    except ValueError as error:
        raise SignerError(f"{path}: no whole SLRTP dictionary ({error}); {_MEND}") from None
    if not isinstance(value, dict) or not value:
        raise SignerError(f"{path}: no SLRTP dictionary (no dict of sentences); give one, or another ending")
    return value


def _value(path: Path) -> Any:
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES >> 30} GB")
    most = min(_MOST_BYTES, max(_SMALL, _MOST_GROWTH * size))
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(b"PK"):
        return _saved_by_torch(path, most)
    try:
        with gzip.open(path) if head.startswith(b"\x1f\x8b") else path.open("rb") as opened:
            data = opened.read(most + 1)
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"it is not wholly gzipped: {error}") from None
    if len(data) > most:
        raise ValueError(f"it unpacks to more than {most >> 20} MB")
    return pickles.read(data, len(data) + _MOST_BUILT)


def _saved_by_torch(path: Path, most: int) -> Any:
    packed, storages = None, {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                folder, _, name = member.filename.rpartition("/")
                if name != "data.pkl" and not folder.endswith("/data"):
                    continue
                arrays.check_packing(member)
                with archive.open(member) as opened:
                    data = opened.read(most + 1)
                most -= len(data)
                if most < 0:
                    raise ValueError("it unpacks to many times its size")
                if name == "data.pkl":
                    packed = data
                else:
                    storages[name] = data
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"it is no whole archive: {error}") from None
    if packed is None:
        raise ValueError("it holds no data.pkl")
    return pickles.read(packed, len(packed) + _MOST_BUILT, storages)


def _clip(path: Path, key: str, entry: Any, fps: float) -> Clip:
    where = f"{path}: {key[:100]!r}"
    poses = entry.get("poses_3d") if isinstance(entry, dict) else None
    if not isinstance(poses, np.ndarray) or poses.dtype.kind != "f" or not poses.size:
        raise SignerError(f"{where} has no poses_3d of decimals; {_MEND}")
    if poses.shape[1:] not in ((_POINTS, 3), (3 * _POINTS,)):
        raise SignerError(f"{where} has poses_3d of shape {list(poses.shape)}, not [t, {_POINTS}, 3]; {_MEND}")
    with np.errstate(over="ignore", invalid="ignore"):
        points, face = np.split(poses.reshape(len(poses), _POINTS, 3).astype(np.float32), [len(JOINTS)], axis=1)
    coordinates = np.zeros((len(points), len(skeleton.JOINTS), 3), np.float32)
    confidence = np.zeros((len(points), len(skeleton.JOINTS)), np.float32)
    coordinates[:, _WHERE], confidence[:, _WHERE] = points, ~(points == 0).all(-1)
    coordinates, confidence = clips.clean(coordinates, confidence)
    coordinates[:, _NECK] = coordinates[:, _SHOULDERS].mean(1)
    confidence[:, _NECK] = confidence[:, _SHOULDERS].min(1)
    pose = clips.checked(where, Pose(*clips.clean(coordinates, confidence), fps))
    words = {name: entry.get(name) for name in ("text", "gloss", "speaker")}
    text, gloss, speaker = (value if isinstance(value, str) else "" for value in words.values())
    others = [f"a {name} that is no text" for name, value in words.items() if not isinstance(value, str | None)]
    others += clips.fields(entry.keys() - {*words, "name", "poses_3d"})
    if entry.get("name", key) != key:
        others.append("a name that is not the sentence's key")
    others += clips.rounded(clips.not_in_float32(poses), poses.size)
    beyond = clips.Beyond(KIND, FACE, face) if np.nan_to_num(face).any() else None
    return Clip(
        key, pose, clips.OWN, layout=LAYOUT, text=text, gloss=gloss, speaker=speaker, lost=tuple(others), beyond=beyond
    )


def copy(path: str | Path, out: str | Path) -> tuple[int, int, list[str]]:
    """Writes the dictionary with all that is in it: every field, number and type of number as it is.

    Returns how many sequences and frames there are, and what is lost. Raises `SignerError` as `read`.
    """
    path = Path(path)
    value = _sentences(path)
    lengths = [len(_clip(path, key, entry, FPS).pose) for key, entry in value.items()]
    _dump(Path(out), value)
    return len(lengths), sum(lengths), []


def _neck_between(pose: Pose) -> bool:
    """Whether the neck is the middle of the shoulders, wherever it is seen: then reading makes it anew."""
    seen = pose.confidence > 0
    shown = seen[:, _NECK] & seen[:, _SHOULDERS].all(1)
    away = np.abs(pose.coordinates[:, _NECK] - pose.coordinates[:, _SHOULDERS].mean(1))[shown]
    return bool((seen[:, _NECK] == shown).all() and (away <= _NO_DIFFERENCE).all())


def write(path: str | Path, found: Iterable[Clip]) -> tuple[int, list[str]]:
    """Writes the dictionary; returns how many sequences it holds, and what it does not hold of them.

    Coordinates that were read from one, the face's too, are written as they were; others in shoulder widths. Raises
    `SignerError` for two sequences of one name.
    """
    path = Path(path)
    said: dict[str, None] = {}
    sentences = {}
    for clip in found:
        pose = clip.pose if clip.layout == LAYOUT else clips.normalised(clips.scaled(clip, KIND))[0]
        points = np.zeros((len(pose), _POINTS, 3), np.float32)
        points[:, : len(JOINTS), : pose.coordinates.shape[-1]] = pose.coordinates[:, _WHERE]
        if clip.beyond is not None and clip.beyond.kind == KIND:
            points[:, len(JOINTS) :] = clip.beyond.points
        if clip.name in sentences:
            raise SignerError(f"{path}: two sequences are named {clip.name[:100]!r}; give each a name of its own")
        sentences[clip.name] = {
            "name": clip.name, "text": clip.text, "gloss": clip.gloss, "poses_3d": points, "speaker": clip.speaker,
        }  # fmt: skip
        held = (*JOINTS, "neck") if _neck_between(pose) else JOINTS
        lost = clips.lost(clip, held, depth=True, confidence=False)
        rate = [] if clip.pose.fps == FPS else [f"the frame rate of {clip.pose.fps:g} (the format's is {FPS:g})"]
        said |= dict.fromkeys([*clips.unread(clip, KIND), *lost, *rate, *clips.place_lost(clip, pose)])
    _dump(path, sentences)
    return len(sentences), list(said)


def _dump(path: Path, sentences: dict) -> None:
    with storage.new_file(path) as partial, partial.open("wb") as file:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                pickle.dump(sentences, packed, protocol=4)
        else:
            pickle.dump(sentences, file, protocol=4)
