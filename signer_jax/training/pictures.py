"""Reference pictures of published models: frames of each signer as pixels, their latents, and CLIP's tokens of them.

A published model was shown pictures, each encoded by itself; the latents' own banks hold parts of encoded clips too.
`<workdir>/pictures` holds, for each signer, frames spread evenly over the training videos with their poses, latents and
tokens, and the tokens of each training window's first frame where that is what the model is shown.
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

KIND = "cache of reference pictures"
KEY = "config.renderer.image_encoder"
DTYPE = "float32"
_BATCH = 8  # pictures
_PART = 4096  # pictures whose tokens are kept on the way: a minute or so of an accelerator
_FILES = ("about.json", "pictures.npy", "latents.npy", "places.npz", "windows.npy")

Picture = UInt8[np.ndarray, "y x 3"]
Tokens = Float[np.ndarray, "i c"]


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

    def tokens_at(self, motion: int, start: int) -> Tokens:
        """CLIP's of a window's first frame. Raises `SignerError` for a window that is not there."""
        if self.shard is None or (motion, start) not in self.windows:
            raise SignerError(
                f"{self.directory}: knows no window from frame {start} of motion {motion}; {storage.REMAKE}"
            )
        return self.shard[self.windows[motion, start]]


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


def _decode(record: bytes) -> Tokens:
    tokens = unpack(record)["tokens"]
    if not isinstance(tokens, np.ndarray) or tokens.dtype != np.float32 or tokens.ndim != 2 or not plausible(tokens):
        raise ValueError("its tokens are no finite float32 [i, c]")
    return tokens


def prepare(
    directory: Path, corpus: Corpus, motions: MotionWindows, latents: LatentStore, vae: VideoVAE, params: dict,
    tower: Tower | None, *, references: int, first: bool, windows: Callable[[], Iterable[tuple[int, int]]],
    cut: Cut | None = None, most: int | None = None, shared: str = "",
) -> Pictures:  # fmt: skip
    """At most `references` frames a signer, and `most` in all; a folder that is there is used as it is.
    After a kill CLIP's tokens that were done are not made again, and several processes share them (`begun`).

    Args:
      motions: whose poses stand beside the frames.
      latents: which normalises; `vae` and `params` are its autoencoder's.
      first: whether a clip is shown with its own first frame, so that the tokens of the `windows` (motion, first frame)
        are wanted where there is a `tower`.
      cut: the bucket whose size they have; None for frames as the corpus has them.
      shared: the folder that has the windows' tokens already (`encodings`), "" to make them here.

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
            sorted(set(windows())) if first and tower else [],
        ],
    )
    starts = [(motion, start) for motion, start in starts]
    places = picture_places(corpus, references, cut, most)
    files = []
    if starts and tower:
        files = encodings.parts(directory, work(corpus, starts, tower, weights, cut), shared)

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


def work(corpus: Corpus, starts: Sequence[tuple[int, int]], tower: Tower, weights: str, cut: Cut | None) -> begun.Work:
    """CLIP's tokens of the windows' first frames; `weights` is the tower's `kept_hash`."""
    shown = [(motion, start, cut.placed[motion] if cut else None) for motion, start in starts]
    key = {
        "tower": weights, "corpus": corpus.hash(), "bucket": str(cut.bucket) if cut else "",
        "precision": precision.PRECISION,
        "windows": hashlib.sha256(json.dumps(shown).encode()).hexdigest(),
    }  # fmt: skip

    def records(first: int, end: int) -> Generator[bytes, None, None]:
        seer, rest = Seer(tower, shared_among(end - first, _BATCH)), starts[first:end]
        try:
            for tokens in _seen(seer, _frames(corpus, rest, cut), len(rest)):
                yield from (pack({"tokens": one}) for one in tokens)
        finally:
            seer.close()

    counts = [min(_PART, len(starts) - i) for i in range(0, len(starts), _PART)]
    return begun.Work(key, counts, records)


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
