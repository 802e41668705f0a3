"""Latents, a bucket's latents and text states of a small corpus, made whole or killed.

`python killed_encoding.py FOLDER`: for each kind a child of its process is killed, by itself and with SIGKILL, in the
middle of a part.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from signer_jax.data import buckets, records
from signer_jax.data.windows import Limits, MotionWindows
from signer_jax.renderer import vae_chunks
from signer_jax.training import begun, bucketed, input_pipeline, partitioning, text_states
from signer_jax.training import latents as cache
from signer_jax.types import Pose, Sample

TEXTS = [f"text {c}" for c in "abcdefghijklmnopqrstuvwxyz"]
KINDS = ("latents", "bucket", "texts")
# Records of each kind, how many a part has, and which one it is killed at: the second of its third part.
COUNTS = {"latents": (13, 4, 10), "bucket": (9, 2, 6), "texts": (26, 8, 18)}
_PARAMS = {"kernel": np.ones(3, np.float32)}
_VAE = SimpleNamespace(temporal_ratio=4, spatial_ratio=4, z_dim=3)


def pooled(video: np.ndarray) -> np.ndarray:
    """In the encoder's place: the mean of each latent's frames and pixels."""
    b, t, h, w, c = video.shape
    still = np.concatenate([np.repeat(video[:, :1], 3, 1), video], 1).astype(np.float32)
    return still.reshape(b, (t + 3) // 4, 4, h // 4, 4, w // 4, 4, c).mean((2, 4, 6)) / 127.5 - 1


def corpus(folder: Path) -> records.Corpus:
    if folder.exists():
        return records.Corpus(folder)
    rng = np.random.default_rng(0)

    def samples():
        for i, frames in enumerate((13, 9, 21, 13)):
            pose = Pose(rng.normal(size=(frames, 128, 3)).astype(np.float32), np.ones((frames, 128), np.float32), 16.0)
            video = rng.integers(0, 255, (frames, 16, 16, 3)).astype(np.uint8)
            yield Sample(f"s{i}", "", "ase", (), "ab"[i % 2], pose=pose, video=video)

    return records.write(folder, {"train": samples}, {"languages": {}, "size": [16, 16]})


def make(kind: str, folder: Path, pipeline: Path, wrote: Callable[[], None]) -> Path:
    """Makes what is of this kind in a run's folder; `wrote` is called before each record that is written anew."""
    real = begun.new_shard

    @contextmanager
    def told(path: Path, **how):
        with real(path, **how) as write:

            def append(record: bytes) -> None:
                wrote()
                write(record)

            yield append

    before = vae_chunks._MOST_ROWS, cache._PART_PIXELS, text_states._PART
    begun.new_shard = told
    cache.encoder_of = bucketed.encoder_of = lambda *_: pooled
    vae_chunks._MOST_ROWS, cache._PART_PIXELS, text_states._PART = 2, 4 * 5 * 16 * 16, 1
    try:
        if kind == "texts":
            source = text_states.TextEncoder.at(str(pipeline), 16, 512)
            mesh = partitioning.own_mesh({"data": -1, "fsdp": 1, "tensor": 1})
            return text_states.prepare(folder / "text_states", source, lambda: TEXTS, mesh).directory
        data = corpus(folder / "data")
        poses = MotionWindows(data.motions("train"), np.arange(5), 2, Limits(4, 4, 2))
        options = {"window": 5, "stride": 4, "references": 3, "batch": 2}
        base = cache.prepare(folder / "latents", data, poses, _VAE, _PARAMS, **options)
        if kind == "latents":
            return base.directory
        clips = input_pipeline.training_clips(data)
        sizes = buckets.read(("9x16x16",), temporal=4, spatial=4, where="here")
        most = {"crop": 0.5, "enlarge": 1.0}
        of = bucketed.Windows.of(data, clips, buckets.plan(clips, sizes, **most), stride=4)
        place = folder / "buckets" / "9x16x16"
        return bucketed.prepare(place, 0, of, base, data, poses, _VAE, _PARAMS, references=4, **most).directory
    finally:
        begun.new_shard, cache.encoder_of, bucketed.encoder_of = real, *_ENCODERS
        vae_chunks._MOST_ROWS, cache._PART_PIXELS, text_states._PART = before


_ENCODERS = cache.encoder_of, bucketed.encoder_of


def killed(kind: str, folder: Path) -> None:
    seen, at = 0, COUNTS[kind][2] + (COUNTS["latents"][0] if kind == "bucket" else 0)

    def wrote() -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

    make(kind, folder / kind, folder / "pipeline", wrote)


def main() -> None:
    for kind in KINDS:
        child = os.fork()
        if not child:
            killed(kind, Path(sys.argv[1]))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(kind, os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
