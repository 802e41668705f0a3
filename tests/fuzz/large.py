"""Valid files of one to twenty megabytes: what tiny ones hide is memory that grows with the file."""

import csv
import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from fuzz import files
from signer_jax.data import records, video
from signer_jax.pose.formats import pose_file
from signer_jax.pose.prior import Entry, Prior
from signer_jax.types import Pose, Sample

PICTURES = ("a.png", "a.jpeg", "passes.jpeg", "a.webp", "deep.png", "alpha.png")
_COLUMNS = ("path", "spoken_language", "signed_language", "start", "end", "words", "glosses", "priority")


def make_poses(folder: Path) -> None:
    files.make_poses(folder, frames=4_000)  # 8 MB of ours, 1 of the others


def make_lexicon(folder: Path) -> None:
    pose_file.write(folder / "a.pose", files.pose(2_500))  # 5 MB
    pose_file.write(folder / "b.pose", files.pose(8))
    good = [["a.pose", "en", "ase", "0", "4000", "good", "GOOD", "1"]]
    good += [["b.pose", "en", "ase", "0", "0", "bad", "BAD", ""]]
    lost = [["none.pose", "en", "ase", "0", "0", f"gone {i}", f"GONE-{i}", "0"] for i in range(5_000)]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_COLUMNS, *good, *lost])
    (folder / "index.csv").write_text(text.getvalue(), encoding="utf-8", newline="")


def make_prior(folder: Path) -> None:
    one = files.pose(2)
    small = Pose(one.coordinates / 100, one.confidence, one.fps)
    Prior.build(((Entry(f"GLOSS-{i}", "ase", words=f"word {i}"), small) for i in range(4_000)), folder, 25.0)  # 17 MB


def samples() -> list[Sample]:
    """A clip of 5 MB."""
    clip = np.random.default_rng(0).integers(0, 255, (100, 128, 128, 3), np.uint8)
    spans = np.array([[0, 50], [50, 100]], np.int32)
    return [
        Sample("a", "the house is old", "ase", ("HOUSE", "OLD"), "s1", pose=files.pose(100), spans=spans, video=clip)
    ]


def make_corpus(folder: Path) -> None:
    records.write(folder, {"train": lambda: iter(samples())}, {"languages": {"ase": "English"}})


def make_listing(folder: Path) -> None:
    """60,000 words, glosses and sentences: 2 MB of `corpus.json`."""
    texts = (Sample(f"s{i}", f"word{i} again{i}", "ase", (f"GLOSS-{i}",)) for i in range(30_000))
    records.write(folder, {"train": lambda: texts, "dev": lambda: iter(())}, {"languages": {"ase": "English"}})


def make_phoenix(folder: Path) -> None:
    files.make_phoenix(folder, 20_000)  # 1 MB each


def make_videos(folder: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 255, (16, 480, 640, 3), np.uint8)
    video.write(folder / "a.mp4", clip, 25.0)  # noise: 10 MB


def make_pictures(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (2_400, 2_400, 4), np.uint8)
    noise[:, :, :3] //= 4
    rgb = Image.fromarray(noise[..., :3])
    rgb.save(folder / "a.png", compress_level=1)
    rgb.save(folder / "a.jpeg", quality=90)
    rgb.save(folder / "passes.jpeg", quality=80, progressive=True, subsampling=0)
    Image.fromarray(noise[:1_400, :1_400]).save(folder / "a.webp", method=0)
    Image.fromarray(noise.view(np.uint16)[..., 0]).save(folder / "deep.png", compress_level=1)
    Image.fromarray(noise[:2_000, :2_000]).save(folder / "alpha.png", compress_level=1)


def make_tokenizer(folder: Path) -> None:
    files.make_tokenizer(folder)
    path = folder / "tokenizer.model"
    more = []
    for i in range(40_000):  # protobuf: field 1 of the model, a piece: its text and its score
        text = f"\u2581piece{i}".encode()
        piece = bytes([0x0A, len(text)]) + text + struct.pack("<Bf", 0x15, -float(i))
        more.append(bytes([0x0A, len(piece)]) + piece)
    path.write_bytes(path.read_bytes() + b"".join(more))  # 1 MB


def make_tensors(folder: Path) -> None:
    files.make_tensors(folder, 4_000_000)  # 16 MB and 4


def make_checkpoint(folder: Path) -> None:
    files.make_checkpoint(folder, 1_000)  # 4 MB


def make_latents(folder: Path) -> None:
    files.make_latents(folder, 200)  # 8 MB of references, 4 of windows


def make_texts(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("ref", "hyp"):
        rows = [" ".join(f"W{word}" for word in rng.integers(0, 3_000, 12)) for _ in range(1_000)]
        rows[7] = " ".join(f"W{word}" for word in rng.integers(0, 3_000, 4_000))
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")


def make_pose_pair(folder: Path) -> None:
    files.make_pose_pair(folder, 600)  # 1.2 MB each


def make_video_pair(folder: Path) -> None:
    files.make_video_pair(folder, 640)
