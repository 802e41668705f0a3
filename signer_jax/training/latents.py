"""Latents, encoded once: the renderer trains on them, so that the autoencoder is not run at every step.

`<workdir>/latents` holds the training windows' latents (ArrayRecord), the per-channel statistics that normalise them,
and for each signer a few reference frames with their latents, which give the style.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
from array_record.python import array_record_data_source, array_record_module
from flax import serialization

from signer_jax.data.pipeline import Reading, iterate, take_frames, to_model_range
from signer_jax.data.records import Corpus, Records
from signer_jax.data.windows import MotionWindows
from signer_jax.errors import SignerError
from signer_jax.progress import progress
from signer_jax.renderer.vae import VideoVAE

REFERENCES = 8  # reference frames kept a signer


@dataclass(frozen=True)
class Latents:
    """What `<workdir>/latents` says, but for the windows themselves."""

    directory: Path
    mean: np.ndarray  # [z]
    std: np.ndarray  # [z]
    references: dict[str, np.ndarray]  # signer -> [r, h, w, z], not normalised
    images: dict[str, np.ndarray]  # signer -> uint8 [r, h, w, 3]

    @classmethod
    def open(cls, directory: Path) -> "Latents":
        try:
            statistics = json.loads((directory / "statistics.json").read_text())
            arrays = np.load(directory / "references.npz", allow_pickle=False)
        except (FileNotFoundError, ValueError):
            raise SignerError(
                f"{directory}: no latents; delete the folder and run `signer train` to encode them"
            ) from None
        signers = statistics["signers"]
        return cls(
            directory,
            np.array(statistics["mean"], np.float32),
            np.array(statistics["std"], np.float32),
            {name: arrays[f"latents_{i}"] for i, name in enumerate(signers)},
            {name: arrays[f"images_{i}"] for i, name in enumerate(signers)},
        )

    def normalise(self, latents):
        return (latents - self.mean) / self.std

    def denormalise(self, latents):
        return latents * self.std + self.mean


def encoder(vae: VideoVAE, params: dict):
    """uint8 `[b, t, h, w, 3]` -> the posterior's mean `[b, t', h', w', z]`, jitted, in float32."""
    encode = jax.jit(lambda p, video: vae.apply({"params": p}, video, method="encode")[0])
    return lambda video: np.asarray(encode(params, jnp.asarray(to_model_range(video))))


def prepare(
    directory: Path, corpus: Corpus, vae: VideoVAE, params: dict, *, window: int, stride: int, batch: int
) -> Latents:
    """Encodes the training split's windows, `window` frames every `stride`; a folder that is there is used as it is."""
    if (directory / "statistics.json").exists():
        return Latents.open(directory)
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    encode = encoder(vae, params)
    writer = array_record_module.ArrayRecordWriter(str(partial / "train.arrayrecord"), "group_size:1,zstd:1")
    total = np.zeros((2, vae.z_dim), np.float64)
    count = 0
    for items, clips in progress(list(_batches(corpus, window, stride, batch)), "latents"):
        videos = _load(corpus, items, window, clips)
        latents = encode(videos)[: len(items)]
        total += [latents.sum(axis=(0, 1, 2, 3)), np.square(latents, dtype=np.float64).sum(axis=(0, 1, 2, 3))]
        count += latents[..., 0].size
        for (motion, start), value in zip(items, latents, strict=True):
            writer.write(serialization.msgpack_serialize({"motion": motion, "start": start, "latents": value}))
    writer.close()
    mean = total[0] / count
    std = np.sqrt(np.maximum(total[1] / count - mean**2, 1e-6))
    images = _references(corpus)
    arrays = {}
    for i, frames in enumerate(images.values()):
        arrays[f"images_{i}"] = frames
        arrays[f"latents_{i}"] = encode(frames[:, None])[:, 0]
    np.savez(partial / "references.npz", **arrays)  # type: ignore[arg-type]
    statistics = {"mean": mean.tolist(), "std": std.tolist(), "signers": list(images), "window": window}
    (partial / "statistics.json").write_text(json.dumps(statistics, indent=1) + "\n")
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)
    return Latents.open(directory)


def _batches(corpus: Corpus, window: int, stride: int, batch: int) -> Iterator[tuple[list[tuple[int, int]], int]]:
    """Batches of (motion, start), in order; the second value is the batch's full size (the last is padded to it)."""
    items = [
        (motion, start)
        for motion, (frames, video, _) in enumerate(corpus.listed("train"))
        if video
        for start in range(0, max(frames - window, 0) + 1, stride)
    ]
    if not items:
        raise SignerError("data: the training split holds no videos; raise data.videos, or check the source")
    for i in range(0, len(items), batch):
        yield items[i : i + batch], batch


def _load(corpus: Corpus, items: list[tuple[int, int]], window: int, rows: int) -> np.ndarray:
    records = corpus.motions("train")
    videos = {motion: _video(records, motion) for motion in {motion for motion, _ in items}}
    clips = [take_frames(videos[motion], start, window) for motion, start in items]
    return np.stack(clips + [clips[-1]] * (rows - len(clips)))


def _video(records: Records, motion: int) -> np.ndarray:
    video = records[motion].video
    if video is None:
        raise SignerError(f"data: motion {motion} has no video, though the corpus lists one; prepare the corpus again")
    return video


def _references(corpus: Corpus) -> dict[str, np.ndarray]:
    """For each signer some frames, one a clip while clips last, spread over the training split."""
    clips: dict[str, list[int]] = defaultdict(list)
    for motion, (_, has_video, signer) in enumerate(corpus.listed("train")):
        if has_video:
            clips[signer].append(motion)
    records = corpus.motions("train")
    references = {}
    for signer, motions in sorted(clips.items()):
        frames = []
        for r in range(REFERENCES):
            video = _video(records, motions[r * len(motions) // REFERENCES])
            frames.append(video[(r * len(video)) // REFERENCES])
        references[signer] = np.stack(frames)
    return references


class _LatentSource:
    def __init__(self, directory: Path):
        self._source = array_record_data_source.ArrayRecordDataSource(str(directory / "train.arrayrecord"))

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index) -> dict:
        return serialization.msgpack_restore(self._source[int(index)])

    def __repr__(self) -> str:
        return "_LatentSource()"


def latent_batches(
    latents: Latents, corpus: Corpus, windows: MotionWindows, length: int, reading: Reading
) -> grain.DatasetIterator:
    """`latents [b, t', h, w, z]` and `reference [b, h, w, z]`, normalised, beside the motion of the same frames."""
    signers = [signer for _, _, signer in corpus.listed("train")]

    def transform(record: dict, rng: np.random.Generator) -> dict:
        references = latents.references[signers[record["motion"]]]
        return {
            **windows.window(record["motion"], record["start"], length),
            "latents": latents.normalise(record["latents"]),
            "reference": latents.normalise(references[rng.integers(len(references))]),
        }

    return iterate(_LatentSource(latents.directory), transform, reading, "videos")
