"""A prepared corpus on disk: ArrayRecord shards of samples beside one `corpus.json`.

`<dir>/<split>.text.arrayrecord` holds every sentence without its frames, `<dir>/<split>.motion.arrayrecord` those that
have a pose or a video, whole. Values are msgpack of plain types and arrays; nothing in a record is ever executed.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from array_record.python import array_record_data_source, array_record_module
from flax import serialization

from signer_jax.errors import SignerError
from signer_jax.progress import progress
from signer_jax.types import Pose, Sample


def _pose_tree(pose: Pose) -> dict:
    return {"coordinates": pose.coordinates, "confidence": pose.confidence, "fps": float(pose.fps)}


def encode(sample: Sample, frames: bool = True) -> bytes:
    """One record; `frames=False` leaves out pose, spans, video and references."""
    tree: dict = {
        "name": sample.name,
        "text": sample.text,
        "language": sample.language,
        "glosses": "\n".join(sample.glosses),
        "signer": sample.signer,
    }
    if frames:
        if sample.pose is not None:
            tree["pose"] = _pose_tree(sample.pose)
        if sample.spans is not None:
            tree["spans"] = np.asarray(sample.spans, np.int32)
        if sample.video is not None:
            tree["video"] = sample.video
        tree["references"] = {
            str(i): {"pose": _pose_tree(pose), "spans": np.asarray(spans, np.int32)}
            for i, (pose, spans) in enumerate(sample.references)
        }
    return serialization.msgpack_serialize(tree)


def decode(record: bytes) -> Sample:
    tree = serialization.msgpack_restore(record)
    references = tree.get("references", {})
    return Sample(
        name=tree["name"],
        text=tree["text"],
        language=tree["language"],
        glosses=tuple(tree["glosses"].split("\n")) if tree["glosses"] else (),
        signer=tree["signer"],
        pose=Pose(**tree["pose"]) if "pose" in tree else None,
        spans=tree.get("spans"),
        video=tree.get("video"),
        references=tuple(
            (Pose(**references[key]["pose"]), references[key]["spans"]) for key in sorted(references, key=int)
        ),
    )


class Records:
    """Random access to the samples of one shard: the source that Grain reads."""

    def __init__(self, path: Path):
        if not path.exists():
            raise SignerError(f"{path}: not found; prepare the corpus again (delete its folder and start the run)")
        self._path = path
        self._source = array_record_data_source.ArrayRecordDataSource(str(path))

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index) -> Sample:
        return decode(self._source[int(index)])

    def __repr__(self) -> str:  # Grain compares sources by their text when it restores an iterator
        return f"Records({self._path.name!r})"


class Corpus:
    """A prepared corpus: `texts(split)`, `motions(split)`, and what `corpus.json` says of it."""

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        try:
            self.about: dict = json.loads((self.directory / "corpus.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            raise SignerError(f"{self.directory}: holds no prepared corpus; run `signer train` to prepare it") from None

    def texts(self, split: str) -> Records:
        return Records(self._shard(split, "text"))

    def motions(self, split: str) -> Records:
        return Records(self._shard(split, "motion"))

    def count(self, split: str, kind: str) -> int:
        """How many samples of a split have `text`, `pose` or `video`."""
        return self.about["counts"].get(split, {}).get(kind, 0)

    def listed(self, split: str) -> list[tuple[int, bool, str]]:
        """For each motion record of a split: its frames, whether it has a video, and its signer."""
        return [(frames, video, signer) for frames, video, signer in self.about["motions"].get(split, [])]

    def _shard(self, split: str, kind: str) -> Path:
        if split not in self.about["counts"]:
            raise SignerError(f"split {split!r}: the corpus has {', '.join(self.about['counts'])}")
        return self.directory / f"{split}.{kind}.arrayrecord"


def words_of(text: str) -> list[str]:
    """The words of a text, lower-cased, without the punctuation around them."""
    return [word.strip(".,;:!?'\"()").lower() for word in text.split()]


def write(directory: str | Path, splits: dict[str, Callable[[], Iterable[Sample]]], about: dict) -> Corpus:
    """Writes a corpus: one pass over each split's samples, then `corpus.json`; the folder appears only when whole.

    `about` is kept in `corpus.json`, with the counts, the motions' frames, signers, frame rate and words added.
    """
    directory = Path(directory)
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    counts: dict[str, dict[str, int]] = {}
    motions: dict[str, list] = {}
    signers: set[str] = set()
    words: dict[str, set[str]] = {}
    fps = 0.0
    for split, samples in splits.items():
        text_writer = _writer(partial / f"{split}.text.arrayrecord")
        motion_writer = _writer(partial / f"{split}.motion.arrayrecord")
        count = counts[split] = {"text": 0, "pose": 0, "video": 0}
        listed = motions[split] = []
        for sample in progress(samples(), f"data {split}"):
            if sample.text:
                text_writer.write(encode(sample, frames=False))
                count["text"] += 1
                words.setdefault(sample.language, set()).update(words_of(sample.text))
            if sample.pose is not None:
                motion_writer.write(encode(sample))
                count["pose"] += 1
                count["video"] += sample.video is not None
                listed.append([len(sample.pose), sample.video is not None, sample.signer])
                signers.add(sample.signer)
                fps = float(sample.pose.fps)
        text_writer.close()
        motion_writer.close()
    about = {
        **about,
        "counts": counts,
        "motions": motions,
        "signers": sorted(signers),
        "fps": fps,
        "words": {language: sorted(known - {""}) for language, known in words.items()},
    }
    (partial / "corpus.json").write_text(json.dumps(about, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)
    return Corpus(directory)


def _writer(path: Path) -> array_record_module.ArrayRecordWriter:
    return array_record_module.ArrayRecordWriter(str(path), "group_size:1,zstd:1")
