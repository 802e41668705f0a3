"""Latents, encoded once: the renderer trains on them, so that the autoencoder is not run at every step.

`renderer.latents` says what their folder holds, and reads it.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import grain
import jax
import numpy as np

from signer_jax import storage
from signer_jax.beside import beside
from signer_jax.data.buckets import Bucket, Placed
from signer_jax.data.records import Corpus, Records
from signer_jax.data.shards import Parts, Shard, open_parts, pack, unpack
from signer_jax.data.streams import (
    Mixture,
    Reading,
    indices_of_size,
    iterate,
    spread,
    spread_over,
    to_model_range,
)
from signer_jax.data.windows import MotionWindows
from signer_jax.errors import SignerError
from signer_jax.progress import progress
from signer_jax.renderer import vae_chunks
from signer_jax.renderer.latents import COPY, KIND, LatentStore, noise_factor, plausible
from signer_jax.renderer.references import latent_frame_times
from signer_jax.renderer.vae import VideoVAE
from signer_jax.training import begun, encodings, partitioning, precision
from signer_jax.training.contents import fingerprint

T = TypeVar("T")
FEW = 256  # reference frames of all signers, where training reads none of them: looks to sign with, and baselines
_PART_PIXELS = 1 << 30  # of a part (`begun`): 32 windows of 81 x 480 x 832, a minute or so of an accelerator
_SIDE = 256  # pixels, of a corpus that does not say its size
DTYPE = "float32"
_UNSEEN = 0.05  # share of the frames that no window shows, above which it is said
# (motion, its first frame, frames, the example's generator, its place in a bucket where there are buckets) -> arrays
# that stand beside a window's latents.
Beside = Callable[[int, int, int, np.random.Generator, tuple[Placed, Bucket] | None], dict[str, Any]]


def encoder_of(vae: VideoVAE, params: dict, ways: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 `[b, t, h, w, 3]` -> the posterior's mean `[b, t', h', w', z]`, jitted (`vae_chunks.to_latents`); b is a
    multiple of `ways`, the devices that share it.
    """

    def to_latents(params: dict, video: jax.Array) -> jax.Array:
        return vae_chunks.to_latents(vae, params, video)

    encode = partitioning.by_rows(to_latents, params, ways)
    return lambda video: encode(to_model_range(video))


def shared_among(count: int, rows: int) -> int:
    """Among how many of this process's devices `count` windows are encoded, each `rows` of them at a time."""
    return max(1, min(jax.local_device_count(), -(-count // rows)))


def prepare(
    directory: Path, corpus: Corpus, windows: MotionWindows, vae: VideoVAE, params: dict, *,
    window: int, stride: int, references: int, batch: int, constants: tuple[np.ndarray, np.ndarray] | None = None,
    banks_only: bool = False, most: int | None = None, shared: str = "",
) -> LatentStore:  # fmt: skip
    """Encodes the training split's windows, `window` frames every `stride`; a folder that is there is used as it is.
    After a kill the parts that were done are not encoded again, and several processes share the work (`begun`).

    `references` is the most latent frames that a signer's bank keeps, spread evenly over what there is, and `most` the
    most of all banks, where not every signer needs one (`FEW`). `constants` are
    the mean and deviation that latents are normalised by, where they are not those of these videos. `banks_only`: only
    the windows whose first latent, which shows one frame, is in a bank; a training on buckets reads no others.
    `shared`: the folder that has them already (`encodings`), "" to encode here. Raises `SignerError` where a folder
    that is there was encoded by another autoencoder, or normalised by others.
    """
    encoder = fingerprint(params)
    if begun.there(directory):
        latents = LatentStore.open(directory)
        if latents.encoder != encoder:
            raise SignerError(f"{directory}: was encoded by another autoencoder than this run's; {storage.REMAKE}")
        if constants is not None and not np.allclose((latents.mean, latents.std), constants, rtol=1e-5):
            raise SignerError(f"{directory}: was normalised by other constants than this variant's; {storage.REMAKE}")
        precision.check(directory, latents.precision)
        return latents
    # ---- Which windows, and which of their latent frames go into a bank -------------------------------------------
    times = latent_frame_times(window, vae.temporal_ratio)
    items, kept = windows_and_places(
        corpus, times, window=window, stride=stride, references=references, banks_only=banks_only, most=most
    )
    # One signer after the other.
    signers = [signer for _, _, signer in corpus.listed("train")]
    places = sorted(kept, key=lambda place: (signers[items[place[0]][0]], place))
    order = {place: i for i, place in enumerate(places)}
    # ---- Encode ---------------------------------------------------------------------------------------------------
    files = encodings.parts(directory, work(corpus, items, vae, params, encoder, window=window, batch=batch), shared)

    def whole() -> None:
        with storage.new_folder(directory, KIND) as partial:
            total = np.zeros((2, vae.z_dim), np.float64)
            count = 0
            bank: np.memmap | None = None
            begun.take(files, partial, "train")
            encoded = open_parts(partial, "train", len(files), unpack, storage.REMAKE)
            # Where no mean of all is asked for, what no bank holds is not read: it may be the size of the disk.
            needed = range(len(items)) if constants is None else sorted({row for row, _ in kept})
            for i in dict.fromkeys(row // batch * batch for row in needed):
                means = np.stack([encoded[row]["latents"] for row in range(i, min(i + batch, len(items)))])
                total += [means.sum(axis=(0, 1, 2, 3)), np.square(means, dtype=np.float64).sum(axis=(0, 1, 2, 3))]
                count += means[..., 0].size
                if bank is None:  # on disk: it may be larger than the memory
                    shape = (len(places), *means.shape[2:])
                    bank = np.lib.format.open_memmap(partial / "references.npy", "w+", np.float32, shape)
                for row, value in enumerate(means, start=i):
                    for k in range(len(times)):
                        if (row, k) in order:
                            bank[order[row, k]] = value[k]
            mean = total[0] / count
            std = np.sqrt(np.maximum(total[1] / count - mean**2, 1e-6))
            if constants is not None:
                mean, std = constants
            # ---- The banks ----------------------------------------------------------------------------------------
            assert bank is not None
            if bank[..., 0].size < 2:
                raise SignerError("data: the videos make one latent alone; give more of them, or larger ones")
            for one in bank:
                one[...] = (one - mean) / std
            bank.flush()
            write_shown(partial, [(items[row][0], items[row][1] + int(times[k])) for row, k in places], windows)
            statistics = {
                "encoder": encoder,
                "precision": precision.PRECISION,
                "mean": mean.tolist(),
                "std": std.tolist(),
                "noise_factor": noise_factor(bank).tolist(),
                "window": window,
                "parts": len(files),
                "references": Counter(signers[items[row][0]] for row, _ in places),
            }
            storage.write_list(
                partial / "statistics.json", statistics, f"{directory}: its signers", "divide the corpus"
            )

    begun.put_together(directory, whole)
    return LatentStore.open(directory)


def windows_and_places(
    corpus: Corpus, times: np.ndarray, *, window: int, stride: int, references: int, banks_only: bool, most: int | None
) -> tuple[list[tuple[int, int]], set[tuple[int, int]]]:
    """(motion, start) of the windows that `prepare` encodes, whose latent frames show `times`, and (row, latent frame)
    of those that go into a bank.
    """
    items = training_windows(corpus, window, stride)
    kept = reference_places(corpus, items, times[:1] if banks_only else times, references, most)
    if banks_only:
        items = [items[row] for row, _ in sorted(kept)]
        kept = {(row, 0) for row in range(len(items))}
    return items, kept


def work(
    corpus: Corpus, items: Sequence[tuple[int, int]], vae: VideoVAE, params: dict, encoder: str, *,
    window: int, batch: int,
) -> begun.Work:  # fmt: skip
    """Encoding these windows (motion, start); `encoder` is the hash of `params`."""
    motions = corpus.motions("train")

    def records(first: int, end: int) -> Generator[bytes, None, None]:
        ways = shared_among(end - first, batch)
        encode, rows = encoder_of(vae, params, ways), ways * batch
        starts = range(first, end, rows)
        loaded = (_load(motions, items[i : min(i + rows, end)], window, rows) for i in starts)
        made = beside(encode, loaded) if batch > 1 else map(encode, loaded)  # of large ones memory has no two
        for i, encoded in zip(progress(starts, "latents"), made, strict=True):
            for (motion, start), value in zip(items[i : min(i + rows, end)], encoded, strict=False):
                yield pack({"motion": motion, "start": start, "latents": value})

    counts = part_sizes(len(items), batch, window, corpus.size)
    return begun.Work(key_of(encoder, corpus, items, window, batch), counts, records, compressed=False)


def key_of(encoder: str, corpus: Corpus, shown: Sequence[Any], frames: int, batch: int) -> dict[str, Any]:
    """What the latents of windows depend on (`begun.made`): plain values. `shown` says which windows, in order."""
    rows = hashlib.sha256(json.dumps(shown).encode()).hexdigest()
    return {
        "encoder": encoder, "corpus": corpus.hash(), "windows": rows, "frames": frames, "batch": batch, "dtype": DTYPE,
        "precision": precision.PRECISION,
    }  # fmt: skip


def part_sizes(windows: int, batch: int, frames: int, size: tuple[int, int] | None) -> list[int]:
    """How many windows of this size go into each part: whole batches, so that a resumed run encodes the same ones."""
    height, width = size or (_SIDE, _SIDE)
    each = batch * max(1, _PART_PIXELS // (frames * height * width * batch))
    return [min(each, windows - first) for first in range(0, windows, each)]


def write_shown(partial: Path, frames: Sequence[tuple[int, int]], windows: MotionWindows) -> None:
    """What a bank's frames (motion, frame) show, one signer after the other: their poses, and whose they are."""
    shown = [windows.window(motion, frame, 1) for motion, frame in frames]
    np.savez(
        partial / "references.npz",
        pose=np.concatenate([one["pose"] for one in shown]),
        confidence=np.concatenate([one["confidence"] for one in shown]),
        motion=np.array([motion for motion, _ in frames]),
    )


def write_array(file: Path, parts: Iterable[Any], total: int) -> np.ndarray:
    """Writes an array of `total` rows part by part, as `np.save` would; returns it, mapped."""
    whole, place = None, 0
    for part in map(np.asarray, parts):
        if whole is None:
            whole = np.lib.format.open_memmap(file, "w+", part.dtype, (total, *part.shape[1:]))
        whole[place : place + len(part)] = part
        place += len(part)
    assert whole is not None and place == total
    whole.flush()
    return whole


def shares(found: Mapping[str, list[T]], limit: int, most: int | None) -> list[tuple[list[T], int]]:
    """What each signer has, in the order of their names, and how many of it are kept: at most `limit` of each, and
    `most` of all, for which signers are left out only where they are more. `most` is of what training reads none of: of
    a changed copy's pictures nothing is kept then, since nobody signs by them.
    """
    names = sorted(found if most is None else (name for name in found if COPY not in name))
    if most is not None and names:
        limit = min(limit, max(1, most // len(names)))
        names = [names[i] for i in spread(len(names), most)]
    return [(found[name], limit) for name in names]


def training_windows(corpus: Corpus, window: int, stride: int) -> list[tuple[int, int]]:
    """(motion, start) of every training window, in order: of the videos of `corpus.size`."""
    listed = corpus.listed("train")
    items = [
        (motion, start)
        for motion in indices_of_size(corpus, "train")
        for start in range(0, max(listed[motion][0] - window, 0) + 1, stride)
    ]
    if not items and corpus.count("train", "video"):
        first, *others = (f"{height},{width}" for height, width in corpus.sizes)
        raise SignerError(
            f"config.data.size {first}: no training video fits it, and the run signs at it; set it to one of "
            f"config.data.other_sizes ({' or '.join(others)}) that has some"
        )
    if not items:
        raise SignerError("data: the training split holds no videos; raise data.videos, or check the source")
    return items


def told(corpus: Corpus, window: int, stride: int) -> list[str]:
    """What the windows do to the training clips, in lines: how many are filled up, and what no window shows."""
    clips = [frames for frames, video, _ in corpus.listed("train") if video]
    short = sum(frames < window for frames in clips)
    # Behind the last window, and between two where the stride is longer than they are.
    starts = [range(0, max(frames - window, 0) + 1, stride) for frames in clips]
    seen = sum(
        min(frames, (len(own) - 1) * min(stride, window) + window) for frames, own in zip(clips, starts, strict=True)
    )
    lines = []
    if short:
        lines.append(
            f"{short} of {len(clips)} training clips are shorter than config.renderer.window {window}: their last "
            "frame is repeated up to it; config.renderer.buckets gives several lengths"
        )
    if sum(clips) - seen > _UNSEEN * sum(clips):
        lines.append(
            f"{sum(clips) - seen} of the training clips' {sum(clips)} frames are in no window of {window} frames every "
            f"{stride}; a smaller config.renderer.stride shows more of them"
        )
    return lines


def reference_places(
    corpus: Corpus, items: list[tuple[int, int]], times: np.ndarray, limit: int, most: int | None = None
) -> set[tuple[int, int]]:
    """(row of `items`, latent frame) of the banks: each video frame once, at most `limit` a signer, spread evenly, and
    `most` in all."""
    signers = [signer for _, _, signer in corpus.listed("train")]

    @cache
    def once(starts: tuple[int, ...]) -> np.ndarray:
        """Places in `[windows, times]` of a motion's frames, each where it is first."""
        return np.sort(np.unique(np.add.outer(starts, times), return_index=True)[1])

    found: dict[str, list[tuple[int, np.ndarray]]] = defaultdict(list)
    row = 0
    for motion, some in groupby(items, key=lambda item: item[0]):
        starts = tuple(start for _, start in some)
        found[signers[motion]].append((row, once(starts)))
        row += len(starts)
    return {
        (clips[c][0] + int(place) // len(times), int(place) % len(times))
        for clips, each in shares(found, limit, most)
        for c, place in ((c, clips[c][1][at]) for c, at in spread_over([len(places) for _, places in clips], each))
    }


def _up_to_the_last(places: np.ndarray) -> Callable[[int], np.ndarray]:
    """Frames of a video of any length (`Records.frames_at`), the last one for those behind it."""
    return lambda count: np.minimum(places, count - 1)


def _load(records: Records, items: Sequence[tuple[int, int]], window: int, rows: int) -> np.ndarray:
    """The windows' frames; the last window is repeated up to `rows`."""
    clips = []
    for motion, some in groupby(items, key=lambda item: item[0]):  # in order: of each what its windows show
        own = np.array([start for _, start in some])[:, None] + np.arange(window)  # [windows, frames]
        frames, places = np.unique(own, return_inverse=True)
        shown = records.frames_at(motion, _up_to_the_last(frames))
        clips += list(shown[places.reshape(own.shape)])
    return np.stack(clips + [clips[-1]] * (rows - len(clips)))


def decode(record: bytes, motions: Mapping[int, int], shape: tuple[int | None, ...]) -> dict:
    """A window of the cache: `motion`, one of `motions`; `start`, below its number of frames there; `latents`, whose
    shape is `shape` (None for any number). Raises one of `shards.BROKEN` for what is none.
    """
    values = unpack(record)
    motion, start, latents = values["motion"], values["start"], values["latents"]
    if type(motion) is not int or type(start) is not int or motion < 0 or start < 0:
        raise ValueError(f"motion {motion!r}, start {start!r}")
    if start >= motions.get(motion, 0):
        raise ValueError(f"the corpus has no frame {start} of a motion {motion} with a video and references")
    if (
        not isinstance(latents, np.ndarray)
        or latents.dtype != np.float32
        or latents.ndim != 4
        or not plausible(latents)
    ):
        raise ValueError("its latents are no finite float32 [t, h, w, z]")
    if any(side not in (None, found) for side, found in zip(shape, latents.shape, strict=True)):
        raise ValueError(f"its latents are {list(latents.shape)} where the references and windows are {list(shape)}")
    return {"motion": motion, "start": start, "latents": latents}


def windows_of(latents: LatentStore, decode: Callable[[bytes], Any]) -> Shard | Parts:
    """The cached windows, each turned by `decode` into what it holds."""
    return open_parts(latents.directory, "train", latents.parts, decode, storage.REMAKE)


def latent_batches(
    latents: LatentStore, corpus: Corpus, windows: MotionWindows, reading: Reading, *,
    length: int, temporal_ratio: int, reference_dropout: float, around: int = 0, beside: Beside | None = None,
    referenced: bool = True, mixture: Mixture | None = None,
) -> grain.DatasetIterator:  # fmt: skip
    """`latents [b, t', h, w, z]`, normalised, the motion of the same frames, `reference [b, h, w, z]`, `noise_factor`.

    With `around`, the motion is of so many frames around those of the latents, which begin at `latents_start [b]`. With
    `length` 1 one latent frame of a window that shows one video frame alone: the first, or any where no frames are put
    together. The reference is a random frame of the signer's other clips, and for a share `reference_dropout` none
    (`ReferenceBank.any_but`); every signer has some, but where they are not `referenced`. What `beside` gives for a
    window comes with it.
    """
    listed = corpus.listed("train")
    signers = [signer for _, _, signer in listed]
    motions = {
        i: frames
        for i, (frames, video, signer) in enumerate(listed)
        if video and (not referenced or signer in latents.banks)
    }
    times = None if length == 1 else len(latent_frame_times(length, temporal_ratio))
    shape = (times, *latents.grid)

    def transform(record: dict, rng: np.random.Generator) -> dict:
        motion = record["motion"]
        start, encoded = record["start"], record["latents"]
        if length == 1:
            start, encoded = one_frame(start, encoded, temporal_ratio, rng)
        before = min(start, max(around - length, 0) // 2)
        shown = windows.window(motion, start - before, max(length, around))
        reference = any_reference(latents, signers[motion], motion, rng, reference_dropout)
        return {
            **shown,
            "latents": latents.normalise(encoded),
            "latents_start": np.int32(before),
            "reference": reference,
            "noise_factor": latents.noise_factor,
            **(beside(motion, start, length, rng, None) if beside else {}),
        }

    records = windows_of(latents, lambda record: decode(record, motions, shape))
    return iterate(records, transform, reading, "videos", mixture)


def any_reference(
    latents: LatentStore, signer: str, motion: int, rng: np.random.Generator, dropout: float
) -> np.ndarray:
    """`ReferenceBank.any_but` of a signer's bank, `[h, w, z]`; zeros where none is kept, since none is read."""
    bank = latents.banks.get(signer)
    return np.zeros(latents.grid, np.float32) if bank is None else bank.any_but(motion, rng, dropout=dropout)


def one_frame(
    start: int, encoded: np.ndarray, temporal_ratio: int, rng: np.random.Generator
) -> tuple[int, np.ndarray]:  # fmt: skip
    """A latent frame of a window that shows one video frame alone, and which one: the first, or any where no frames
    are put together."""
    one = int(rng.integers(len(encoded))) if temporal_ratio == 1 else 0
    return start + one, encoded[one : one + 1]
