"""The renderer's training on clips of several sizes (`renderer.buckets`): latents cached a bucket, batches of one each.

`data.buckets` says which clip goes where and in what order batches come. A bucket's folder, `<workdir>/buckets/BUCKET`,
is a latent cache as `<workdir>/latents` is, of windows and reference frames at that bucket's size. It is kept by what
its latents depend on: the autoencoder's hash, the bucket, and the type that they were encoded in, which is float32.
All of them are normalised by the statistics of `<workdir>/latents`, which signing reads.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import grain
import numpy as np

from signer_jax import storage
from signer_jax.data.buckets import Bucket, Clip, Placed, Plan, fitted, plan, seen, windows
from signer_jax.data.records import Corpus, from_frame
from signer_jax.data.shards import Parts, Shard, pack
from signer_jax.data.streams import Mixture, Reading, batched, spread_over, video_indices, visits
from signer_jax.data.windows import MotionWindows
from signer_jax.errors import SignerError
from signer_jax.progress import progress
from signer_jax.renderer.latents import KIND, LatentStore
from signer_jax.renderer.vae import VideoVAE
from signer_jax.renderer.vae_chunks import rows_at_once
from signer_jax.training import begun, encodings, precision
from signer_jax.training.latents import (
    DTYPE,
    Beside,
    any_reference,
    decode,
    encoder_of,
    key_of,
    one_frame,
    part_sizes,
    shared_among,
    shares,
    windows_of,
    write_array,
    write_shown,
)  # fmt: skip

Shown = tuple[int, int, Placed]  # motion, first frame, place in a bucket


@dataclass(frozen=True)
class Windows:
    """The training windows of all buckets, one bucket after the other."""

    plan: Plan  # `placed` are windows
    starts: tuple[int, ...]  # the first frame of each
    motions: tuple[int, ...]  # the motion record of each clip that the plan names
    clips: tuple[Clip, ...]

    @classmethod
    def of(cls, corpus: Corpus, clips: Sequence[Clip], found: Plan, stride: int) -> "Windows":
        """`found` says where `clips` go, the corpus's training videos in their order."""
        one_each, starts = windows(found, clips, stride)
        return cls(one_each, starts, tuple(video_indices(corpus, "train")), tuple(clips))

    def motion(self, row: int) -> int:
        return self.motions[self.plan.placed[row].clip]

    def brought_to(self, size: Bucket, *, crop: float, enlarge: float) -> dict[int, Placed]:
        """How each motion that can be brought to the size of a bucket is, whatever its length."""
        found = plan(self.clips, [size._replace(frames=1)], crop=crop, enlarge=enlarge).placed
        return {self.motions[placed.clip]: placed for placed in found}


def prepare(
    directory: Path, bucket: int, of: Windows, base: LatentStore, corpus: Corpus, poses: MotionWindows, vae: VideoVAE,
    params: dict, *, references: int, crop: float, enlarge: float, most: int | None = None, shared: str = "",
) -> LatentStore:  # fmt: skip
    """The latents of a bucket's windows, encoded where they are not yet, and reference frames of its size.

    `references`: the most frames that a signer's bank keeps, spread evenly over the clips that can be brought to the
    size, whatever their length; `most`: those of all signers. `shared`: the folder that has the windows' already
    (`encodings`), "" to encode them here. Raises `SignerError` where a folder that is there has another encoder,
    bucket, type or precision.
    """
    size = of.plan.buckets[bucket]
    if begun.there(directory):
        return _opened(directory, size, base)
    encoded = _encoding(corpus, vae, params, size)
    files = encodings.parts(directory, work(bucket, of, base.encoder, corpus, vae, params), shared)
    frames = reference_frames(corpus, of, size, references, crop=crop, enlarge=enlarge, most=most)

    def whole() -> None:
        with storage.new_folder(directory, KIND) as folder:
            begun.take(files, folder, "train")
            normal = (base.normalise(one).astype(np.float32) for _, one in encoded(frames, 1))
            write_array(folder / "references.npy", normal, len(frames))
            write_shown(folder, [(motion, frame) for motion, frame, _ in frames], poses)
            signers = [signer for _, _, signer in corpus.listed("train")]
            statistics = {
                "encoder": base.encoder,
                "bucket": str(size),
                "dtype": DTYPE,
                "precision": precision.PRECISION,
                "mean": base.mean.tolist(),
                "std": base.std.tolist(),
                "noise_factor": base.noise_factor.tolist(),
                "window": size.frames,
                "parts": len(files),
                "references": Counter(signers[motion] for motion, _, _ in frames),
            }
            storage.write_list(folder / "statistics.json", statistics, f"{directory}: its signers", "divide the corpus")

    begun.put_together(directory, whole)
    return LatentStore.open(directory)


def work(bucket: int, of: Windows, encoder: str, corpus: Corpus, vae: VideoVAE, params: dict) -> begun.Work:
    """Encoding a bucket's windows; `encoder` is the hash of `params`."""
    size, rows = of.plan.buckets[bucket], of.plan.members(bucket)
    items = [(of.motion(row), of.starts[row], of.plan.placed[row]) for row in rows]
    batch, encoded = rows_at_once(*size), _encoding(corpus, vae, params, size)

    def packed(first: int, end: int) -> Generator[bytes, None, None]:
        for (motion, start, _), latents in encoded(items[first:end], size.frames):
            yield pack({"motion": motion, "start": start, "latents": latents})

    key = key_of(encoder, corpus, items, size.frames, batch) | {"bucket": str(size)}
    return begun.Work(key, part_sizes(len(items), batch, size.frames, size[1:]), packed)


def _encoding(
    corpus: Corpus, vae: VideoVAE, params: dict, size: Bucket
) -> Callable[[Sequence[Shown], int], Iterator[tuple[Shown, np.ndarray]]]:
    """Windows of so many frames, at a bucket's size -> each with its latents."""
    encoders, records = cache(partial(encoder_of, vae, params)), corpus.motions("train")

    def encoded(shown: Sequence[Shown], frames: int) -> Iterator[tuple[Shown, np.ndarray]]:
        """Some at a time and always as many: one program."""
        each = rows_at_once(frames, size.height, size.width)
        ways = shared_among(len(shown), each)
        encode, batch = encoders(ways), ways * each
        for i in progress(range(0, len(shown), batch), f"latents {size}"):
            clips = [
                fitted(records.clip(motion, frames, from_frame(start)), placed, size)
                for motion, start, placed in shown[i : i + batch]
            ]
            latents = encode(np.stack(clips + [clips[-1]] * (batch - len(clips))))
            yield from zip(shown[i : i + batch], latents, strict=False)

    return encoded


def _opened(directory: Path, bucket: Bucket, base: LatentStore) -> LatentStore:
    store = LatentStore.open(directory)
    if store.encoder != base.encoder:
        raise SignerError(f"{directory}: was encoded by another autoencoder than this run's; {storage.REMAKE}")
    if (store.bucket, store.dtype) != (str(bucket), DTYPE):
        raise SignerError(
            f"{directory}: holds latents of {store.bucket or 'no bucket'} in {store.dtype}, this run needs {bucket} in "
            f"{DTYPE}; {storage.REMAKE}"
        )
    precision.check(directory, store.precision)
    if not (np.array_equal(store.mean, base.mean) and np.array_equal(store.std, base.std)):
        raise SignerError(f"{directory}: was normalised by others than {base.directory}; {storage.REMAKE}")
    return store


def reference_frames(
    corpus: Corpus, of: Windows, bucket: Bucket, limit: int, *, crop: float, enlarge: float, most: int | None
) -> list[Shown]:
    """The reference frames, one signer after the other; `most` in all."""
    listed = corpus.listed("train")
    there: dict[str, list[tuple[int, Placed]]] = defaultdict(list)
    for motion, placed in of.brought_to(bucket, crop=crop, enlarge=enlarge).items():
        there[listed[motion][2]].append((motion, placed))
    return [
        (motions[k][0], frame, motions[k][1])
        for motions, each in shares(there, limit, most)
        for k, frame in spread_over([listed[motion][0] for motion, _ in motions], each)
    ]


def batches(
    of: Windows, stores: Sequence[LatentStore | None], corpus: Corpus, poses: MotionWindows, reading: Reading, *,
    single: bool, temporal_ratio: int, reference_dropout: float, around: int = 0, beside: Beside | None = None,
    referenced: bool = True, mixture: Mixture | None = None,
) -> grain.DatasetIterator:  # fmt: skip
    """As `latents.latent_batches`, each batch of one bucket; `view [b, 2, 2]` brings a pose to its bucket's picture.

    `stores`: of each bucket, None of an empty one. `single`: one latent frame that shows one video frame.
    """
    listed = corpus.listed("train")
    signers = [signer for _, _, signer in listed]
    shards: list[Shard | Parts | None] = []
    firsts: list[int] = []
    for k, store in enumerate(stores):
        firsts.append(min(of.plan.members(k), default=0))
        shards.append(None if store is None else _shard(store, of, k, listed, temporal_ratio, referenced))

    def transform(row: int, rng: np.random.Generator) -> dict:
        placed = of.plan.placed[row]
        bucket, store, shard = of.plan.buckets[placed.bucket], stores[placed.bucket], shards[placed.bucket]
        assert store is not None and shard is not None
        record = shard[row - firsts[placed.bucket]]
        motion, start, encoded, length = record["motion"], record["start"], record["latents"], bucket.frames
        if single:
            length = 1
            start, encoded = one_frame(start, encoded, temporal_ratio, rng)
        before = min(start, max(around - length, 0) // 2)
        shown = poses.window(motion, start - before, max(length, around))
        return {
            **shown,
            "view": seen(placed, of.clips[placed.clip], bucket),
            "latents": store.normalise(encoded),
            "latents_start": np.int32(before),
            "reference": any_reference(store, signers[motion], motion, rng, reference_dropout),
            "noise_factor": store.noise_factor,
            **(beside(motion, start, length, rng, (placed, bucket)) if beside else {}),
        }

    return batched(visits(of.plan, reading, mixture).random_map(transform), reading)


def _shard(
    store: LatentStore,
    of: Windows,
    bucket: int,
    listed: list[tuple[int, bool, str]],
    temporal_ratio: int,
    referenced: bool,
) -> Shard | Parts:
    """A bucket's windows. Raises `SignerError` where they are not as many as the plan has."""
    size, rows = of.plan.buckets[bucket], of.plan.members(bucket)
    motions = {
        i: frames
        for i, (frames, video, signer) in enumerate(listed)
        if video and (not referenced or signer in store.banks)
    }
    shape = (1 + (size.frames - 1) // temporal_ratio, *store.grid)
    shard = windows_of(store, lambda record: decode(record, motions, shape))
    if len(shard) != len(rows):
        raise SignerError(
            f"{store.directory}: has {len(shard)} windows where the corpus gives {len(rows)}; {storage.REMAKE}"
        )
    return shard
