"""Reference pictures of published models: frames of each signer as pixels, their latents, and CLIP's tokens of them.

A published model was shown pictures, each encoded by itself; the latents' own banks hold parts of encoded clips too.
`<workdir>/pictures` holds, for each signer, frames spread evenly over the training videos with their poses, latents and
tokens, and a record of each training window where the model is shown some of it: its first frame, in pixels and as
tokens, or the filmed faces. So an example unpacks its own window and not the whole video's pixels.
`<workdir>/buckets/BUCKET.pictures` is the same at the size of a bucket: what training on buckets is shown.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import Float, UInt8

from signer_jax import storage
from signer_jax.arrays import open_npy, read_npz
from signer_jax.data.buckets import Bucket, Placed, fitted
from signer_jax.data.faces import face_crops
from signer_jax.data.records import Corpus
from signer_jax.data.shards import BROKEN, Parts, Shard, open_parts, pack, unpack
from signer_jax.data.streams import indices_of_size, spread_over
from signer_jax.data.windows import MotionWindows
from signer_jax.errors import SignerError, piled
from signer_jax.interop import clip, state_dict
from signer_jax.json_files import LISTS, read_json
from signer_jax.progress import progress
from signer_jax.renderer.exact import exact
from signer_jax.renderer.image_encoder import ImageEncoder, preprocess
from signer_jax.renderer.latents import LatentStore, plausible
from signer_jax.renderer.references import ReferenceBank
from signer_jax.renderer.vae import VideoVAE
from signer_jax.training import base, begun, encodings, precision
from signer_jax.training.latents import encoder_of, shared_among, shares, write_array
from signer_jax.training.partitioning import by_rows, free
from signer_jax.training.published import hash_of, hashed
from signer_jax.types import Pose

KIND = "cache of reference pictures"
KEY = "config.renderer.image_encoder"
DTYPE = "float32"
_BATCH = 8  # pictures
_PART = 4096  # pictures whose tokens are kept on the way: a minute or so of an accelerator
_PART_READ = 256  # windows that are kept on the way where videos are read alone: as many seconds, of large ones
_MOST_FACES = 1 << 14  # frames of a window
_FILES = ("about.json", "pictures.npy", "latents.npy", "places.npz", "windows.npy")

Picture = UInt8[np.ndarray, "y x 3"]
Tokens = Float[np.ndarray, "i c"]


class Shown(NamedTuple):
    """What is kept of a window; None for what is not."""

    tokens: Tokens | None  # CLIP's of its first frame
    picture: Picture | None  # that frame
    faces: list[Picture] | None  # of each of its frames, as they were filmed (`faces.face_crops`)


class Cut(NamedTuple):
    """A bucket, and how the frames of each motion that it is for are brought to its size."""

    bucket: Bucket
    placed: Mapping[int, Placed]


@dataclass(frozen=True)
class Tower:
    """Where CLIP's vision tower lies, and the width that the video transformer takes."""

    folder: Path
    width: int

    @classmethod
    def at(cls, path: str, width: int) -> "Tower":
        """Of a pipeline's folder, or its `image_encoder/`. Raises `SignerError` where it is none, or of another width;
        weights are not read.
        """
        inside = Path(path) / "image_encoder"
        folder = inside if inside.is_dir() else Path(path)
        clip.check_width(folder, width)
        return cls(folder, width)

    def check(self) -> None:
        """Raises `SignerError` unless the folder is whole; no weights are read."""
        clip.describe(self.folder, width=self.width).check()

    def hash(self) -> str:
        return hashed(self.folder)

    def kept_hash(self) -> str:
        """Of the files that a run keeps of it: the same of a pipeline and of the run's copy of it."""
        return hash_of(state_dict.files_of(self.folder))


class Seer:
    """CLIP's tower with its weights on the first of this process's devices, or on several: pictures to tokens, float32.

    At most `rows` pictures at a time.
    """

    def __init__(self, tower: Tower, ways: int = 1):
        first = jax.local_devices()[:ways]
        alone, all_of_them = SingleDeviceSharding(first[0]), NamedSharding(Mesh(first, ("data",)), PartitionSpec())
        here: Any = alone if ways == 1 else all_of_them
        module, params = clip.load(tower.folder, width=tower.width, place=lambda *_: here)
        self._params = params
        self._module: ImageEncoder = module

        def see(params: dict, pictures: jax.Array) -> Any:
            return module.apply({"params": params}, pictures)

        self._see, self.rows = by_rows(exact(see), params, ways), ways * _BATCH

    def __call__(self, pictures: list[Picture]) -> Float[np.ndarray, "b i c"]:
        seen = np.stack([preprocess(picture, self._module.image_size) for picture in pictures])
        return self._see(np.pad(seen, ((0, self.rows - len(seen)), *((0, 0),) * 3)))[: len(seen)]

    def close(self) -> None:
        free(self._params)


@dataclass(frozen=True)
class Pictures:
    """What `<workdir>/pictures` holds."""

    directory: Path
    vae: str  # the fingerprint of the autoencoder's parameters
    tower: str  # the hash of CLIP's, "" for none
    banks: dict[str, ReferenceBank]
    windows: dict[tuple[int, int], int]  # (motion, first frame) -> its record
    shard: Shard | Parts | None
    bucket: str = ""  # to whose size they were brought
    dtype: str = DTYPE  # that their latents were encoded in
    precision: str = ""  # of the products in that, and in CLIP; "": not noted, of a folder of before
    files: Any = None  # of the tower, as they were then (`base.noted`)

    @classmethod
    def open(cls, directory: Path) -> "Pictures":
        """Raises `SignerError` where the folder is missing, is none of ours, or is damaged."""
        storage.check_folder(directory, KIND, storage.REMAKE, _FILES)
        try:
            about = read_json(directory / "about.json", LISTS)
            vae, tower, own = str(about["vae"]), str(about["tower"]), bool(about["own"])
            of = {name: str(about[name]) for name in ("bucket", "dtype", "precision") if name in about}
            parts = about.get("parts", 1)
            if type(parts) is not int or parts < 1:
                raise ValueError("the number of its parts is none")
            counts = {str(signer): int(count) for signer, count in about["signers"].items()}
            windows = _windows(directory / "windows.npy")
            if min(counts.values(), default=0) < 1 or any(map(piled, counts)):
                raise ValueError("a signer has no picture, or a name that piles more than 30 marks on a letter")
            pictures, latents = (open_npy(directory / f"{name}.npy") for name in ("pictures", "latents"))
            tokens = open_npy(directory / "tokens.npy") if tower else None
            bank = read_npz(directory / "places.npz")
            whole = ReferenceBank(
                latents, bank["pose"], bank["confidence"], bank["motion"], pictures, tokens, own, bank["frame"]
            )
            _check(whole, sum(counts.values()))
        except BROKEN as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise SignerError(f"{directory}: the {KIND} is damaged ({reason}); {storage.REMAKE}") from None
        banks, first = {}, 0
        for signer, count in counts.items():
            banks[signer] = whole.of(slice(first, first + count))
            first += count
        shard = open_parts(directory, "windows", parts, _decode, storage.REMAKE) if windows else None
        if shard is not None and len(shard) != len(windows):
            raise SignerError(f"{directory}: the {KIND} is damaged (records of other windows); {storage.REMAKE}")
        return cls(directory, vae, tower, banks, windows, shard, files=about.get("tower_files"), **of)

    def window(self, motion: int, start: int, *, tokens: bool = False) -> Shown:
        """What is kept of a window, if anything. Raises `SignerError` where `tokens` are asked for and not there."""
        row = self.windows.get((motion, start))
        found = Shown(None, None, None) if self.shard is None or row is None else self.shard[row]
        if tokens and found.tokens is None:
            raise SignerError(
                f"{self.directory}: knows no window from frame {start} of motion {motion}; {storage.REMAKE}"
            )
        return found


def _windows(file: Path) -> dict[tuple[int, int], int]:
    """(motion, first frame) -> its record: as many as the corpus has windows. Raises `ValueError` for what is none."""
    windows = open_npy(file)
    if windows.dtype != np.int64 or windows.ndim != 2 or windows.shape[1] != 2:
        raise ValueError(f"its windows are {windows.dtype} {list(windows.shape)}")
    return {(motion, start): i for i, (motion, start) in enumerate(windows.tolist())}


def _check(bank: ReferenceBank, rows: int) -> None:
    """Raises `ValueError` where the arrays of a bank do not fit each other, or are no numbers."""
    assert bank.pictures is not None
    for name, value in vars(bank).items():
        if isinstance(value, np.ndarray) and len(value) != rows:
            raise ValueError(f"{name} has {len(value)} rows of {rows}")
    if bank.pictures.dtype != np.uint8 or bank.pictures.ndim != 4 or bank.pictures.shape[3] != 3:
        raise ValueError(f"its pictures are {bank.pictures.dtype} {list(bank.pictures.shape)}")
    numbers = {"latents": (bank.latents, 4), "pose": (bank.pose, 3), "confidence": (bank.confidence, 2)}
    for name, (value, axes) in (numbers | ({} if bank.clip is None else {"tokens": (bank.clip, 3)})).items():
        if value.dtype != np.float32 or value.ndim != axes or not plausible(value):
            raise ValueError(f"{name} is {value.dtype} {list(value.shape)}, or no numbers")
    if bank.frame is None or bank.frame.dtype.kind not in "iu" or bank.frame.ndim != 1:
        raise ValueError("a frame is no number")
    if bank.confidence.shape != bank.pose.shape[:2] or bank.motion.dtype.kind not in "iu" or bank.motion.ndim != 1:
        raise ValueError("its poses do not fit their confidences, or a motion is no number")


def _encode(tokens: Tokens | None, picture: Picture | None, faces: list[Picture] | None) -> bytes:
    """A window's record (`_decode`)."""
    tree = {} if tokens is None else {"tokens": tokens}
    if picture is not None:
        tree["picture"] = picture
    if faces is not None:
        tree["faces"] = np.concatenate([face.reshape(-1) for face in faces])
        tree["sizes"] = np.array([face.shape[:2] for face in faces], np.int32)
    return pack(tree)


def _decode(record: bytes) -> Shown:
    tree = unpack(record)
    tokens, picture, faces = (tree.get(name) for name in ("tokens", "picture", "faces"))
    for name, value, dtype, axes in (
        ("tokens", tokens, np.float32, 2), ("picture", picture, np.uint8, 3), ("faces", faces, np.uint8, 1)
    ):  # fmt: skip
        if value is not None and not (isinstance(value, np.ndarray) and value.dtype == dtype and value.ndim == axes):
            raise ValueError(f"its {name} are no {np.dtype(dtype)} of {axes} axes")
    if tokens is not None and not plausible(tokens):
        raise ValueError("its tokens are not finite")
    if picture is not None and (not picture.size or picture.shape[2] != 3):
        raise ValueError(f"its picture is {list(picture.shape)}")
    return Shown(tokens, picture, None if faces is None else _faces(faces, tree["sizes"]))


def _faces(pixels: np.ndarray, sizes: np.ndarray) -> list[Picture]:
    if sizes.dtype != np.int32 or sizes.ndim != 2 or sizes.shape[1] != 2 or (sizes < 0).any():
        raise ValueError("its faces' sizes are none")
    if not 0 < len(sizes) <= _MOST_FACES:
        raise ValueError(f"its faces are {len(sizes)}")
    ends = (3 * sizes.astype(np.int64).prod(axis=1)).cumsum()
    if ends[-1] != len(pixels):
        raise ValueError("its faces have other sizes than they say")
    return [part.reshape(*size, 3) for part, size in zip(np.split(pixels, ends[:-1]), sizes, strict=True)]


def prepare(
    directory: Path, corpus: Corpus, motions: MotionWindows, latents: LatentStore, vae: VideoVAE, params: dict,
    tower: Tower | None, *, references: int, first: bool, windows: Callable[[], Iterable[tuple[int, int]]],
    cut: Cut | None = None, most: int | None = None, pixels: bool = False, faces: int = 0, shared: str = "",
) -> Pictures:  # fmt: skip
    """At most `references` frames a signer, and `most` in all; a folder that is there is used as it is.
    After a kill windows that were done are not made again, and several processes share them (`begun`).

    Args:
      motions: whose poses stand beside the frames.
      latents: which normalises; `vae` and `params` are its autoencoder's.
      first: whether a clip is shown with its own first frame, so that the tokens of the `windows` (motion, first frame)
        are wanted where there is a `tower`.
      cut: the bucket whose size they have; None for frames as the corpus has them.
      pixels: whether the first frame of each of the `windows` is wanted itself.
      faces: of how many frames of each of the `windows` the face is wanted.
      shared: the folder that has the windows' already (`encodings`), "" to make them here.

    Raises `SignerError` where the folder was made by another autoencoder or another tower, or is of another bucket or
    type.
    """
    bucket = str(cut.bucket) if cut else ""
    if begun.there(directory):
        known = Pictures.open(directory)
        if known.vae != latents.encoder:
            raise SignerError(f"{directory}: was encoded by another autoencoder than this run's; {storage.REMAKE}")
        check_same(known, tower)
        if (known.bucket, known.dtype) != (bucket, DTYPE):
            raise SignerError(
                f"{directory}: holds pictures of {known.bucket or 'no bucket'} in {known.dtype}, this run needs "
                f"{bucket or 'no bucket'} in {DTYPE}; {storage.REMAKE}"
            )
        precision.check(directory, known.precision)
        return known
    noted, digest, weights, starts = begun.told(
        directory.name,
        lambda: [
            base.noted(tower.folder) if tower else [],
            tower.hash() if tower else "",
            tower.kept_hash() if tower else "",
            sorted(set(windows())) if (first and tower) or pixels or faces else [],
        ],
    )
    starts = [(motion, start) for motion, start in starts]
    places = picture_places(corpus, references, cut, most)
    seen_by, files = tower if first else None, list[Path]()
    if starts:
        files = encodings.parts(directory, work(corpus, starts, seen_by, weights, cut, pixels, faces), shared)

    def whole() -> None:
        with storage.new_folder(directory, KIND) as partial:
            shown = [motions.window(motion, frame, 1) for motion, frame in places]
            pictures = write_array(
                partial / "pictures.npy", ([one] for one in _frames(corpus, places, cut)), len(places)
            )
            ways = shared_among(len(pictures), _BATCH)
            encode, rows = encoder_of(vae, params, ways), ways * _BATCH
            parts = progress(range(0, len(pictures), rows), f"reference pictures {bucket}".rstrip())
            made = (encode(_filled(pictures[i : i + rows], rows)[:, None])[: len(pictures) - i, 0] for i in parts)
            normal = (latents.normalise(one).astype(np.float32) for one in made)
            write_array(partial / "latents.npy", normal, len(places))
            np.savez(
                partial / "places.npz",
                pose=np.concatenate([one["pose"] for one in shown]),
                confidence=np.concatenate([one["confidence"] for one in shown]),
                motion=np.array([motion for motion, _ in places]),
                frame=np.array([frame for _, frame in places]),
            )
            if tower:
                seer = Seer(tower, ways)
                write_array(partial / "tokens.npy", _seen(seer, pictures, len(places)), len(places))
                seer.close()
            begun.take(files, partial, "windows")
            signers = Counter(corpus.listed("train")[motion][2] for motion, _ in places)
            about = {
                "vae": latents.encoder, "tower": digest, "bucket": bucket, "dtype": DTYPE,
                "tower_files": noted, "precision": precision.PRECISION, "own": True, "signers": signers,
                "parts": max(1, len(files)),
            }  # fmt: skip
            np.save(partial / "windows.npy", np.array(starts, np.int64).reshape(-1, 2))
            storage.write_list(partial / "about.json", about, f"{directory}: its signers", "divide the corpus")

    begun.put_together(directory, whole)
    return Pictures.open(directory)


def work(
    corpus: Corpus, starts: Sequence[tuple[int, int]], tower: Tower | None, weights: str, cut: Cut | None,
    pixels: bool, faces: int,
) -> begun.Work:  # fmt: skip
    """What is kept of the windows; tokens where there is a `tower`, `weights` being its `kept_hash`."""
    shown = [(motion, start, cut.placed[motion] if cut else None) for motion, start in starts]
    key = {
        "tower": weights if tower else "", "corpus": corpus.hash(), "bucket": str(cut.bucket) if cut else "",
        "precision": precision.PRECISION, "pixels": pixels, "faces": faces,
        "windows": hashlib.sha256(json.dumps(shown).encode()).hexdigest(),
    }  # fmt: skip

    def records(first: int, end: int) -> Generator[bytes, None, None]:
        seer = Seer(tower, shared_among(end - first, _BATCH)) if tower else None
        rows, rest = seer.rows if seer else _BATCH, _filmed(corpus, starts[first:end], cut, faces)
        what = "pictures seen by CLIP" if seer else "windows' pictures"
        try:
            for _ in progress(range(first, end, rows), what):
                some = list(islice(rest, rows))
                seen = seer([picture for picture, _ in some]) if seer else [None] * len(some)
                for tokens, (picture, crops) in zip(seen, some, strict=True):
                    yield _encode(tokens, picture if pixels else None, crops)
        finally:
            if seer:
                seer.close()

    part = _PART if tower else _PART_READ
    counts = [min(part, len(starts) - i) for i in range(0, len(starts), part)]
    return begun.Work(key, counts, records)


def _filmed(
    corpus: Corpus, starts: Iterable[tuple[int, int]], cut: Cut | None, faces: int
) -> Iterator[tuple[Picture, list[Picture] | None]]:
    """Each window's first frame as the bucket has it, and its faces; neighbours of one clip read it once."""
    records = corpus.motions("train")
    for motion, some in groupby(starts, key=lambda place: place[0]):
        sample, video = records.filmed(motion)
        pose = records.posed(sample, motion) if faces else None
        for _, start in some:
            at = np.minimum(np.arange(start, start + max(faces, 1)), len(video) - 1)
            picture, crops = video[at[:1]], None
            if pose is not None:
                found = face_crops(video[at], Pose(pose.coordinates[at], pose.confidence[at], pose.fps))
                crops = [face.copy() for face in found]  # which else keep the window's pixels
            yield (fitted(picture, cut.placed[motion], cut.bucket) if cut else picture)[0], crops


def check_same(pictures: Pictures, tower: Tower | None) -> None:
    """Raises `SignerError` where the tokens are not this tower's."""
    if pictures.tower if tower is None else not base.same(pictures.files, pictures.tower, tower.folder):
        where = f"{KEY} {tower.folder}" if tower else "this run's, which has none"
        raise SignerError(f"{pictures.directory}: was seen by another image encoder than {where}; {storage.REMAKE}")


def picture_places(corpus: Corpus, limit: int, cut: Cut | None, most: int | None) -> list[tuple[int, int]]:
    """(motion, frame) of at most `limit` frames a signer, spread evenly over the training videos, signer by signer;
    of those that can be brought to the bucket's size, or else have `corpus.size`, and `most` in all."""
    found: dict[str, list[int]] = defaultdict(list)
    listed = corpus.listed("train")
    for motion in indices_of_size(corpus, "train") if cut is None else sorted(cut.placed):
        found[listed[motion][2]].append(motion)
    return [
        (motions[k], frame)
        for motions, each in shares(found, limit, most)
        for k, frame in spread_over([listed[motion][0] for motion in motions], each)
    ]


def _frames(corpus: Corpus, places: Iterable[tuple[int, int]], cut: Cut | None) -> Iterator[Picture]:
    """The frames of these places, as the bucket has them; neighbours of one clip read it once."""
    records = corpus.motions("train")
    for motion, some in groupby(places, key=lambda place: place[0]):
        video = records.video(motion)
        for _, frame in some:
            at = min(frame, len(video) - 1)
            picture = video[at : at + 1]
            yield (fitted(picture, cut.placed[motion], cut.bucket) if cut else picture)[0].copy()


def _seen(seer: Seer, pictures: Iterable[Picture], total: int) -> Iterator[Float[np.ndarray, "b i c"]]:
    rest = iter(pictures)
    parts = progress(
        iter(lambda: list(islice(rest, seer.rows)), []), "pictures seen by CLIP", total=-(-total // seer.rows)
    )
    yield from map(seer, parts)


def _filled(pictures: np.ndarray, rows: int) -> np.ndarray:
    """A batch's pictures, the last one repeated up to a whole batch."""
    return pictures[np.minimum(np.arange(rows), len(pictures) - 1)]
