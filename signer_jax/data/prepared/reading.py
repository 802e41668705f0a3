"""Prepared sets as the corpus of a run: read where they are, at the run's frame rate and size, nothing copied.

The run's `data/corpus.json` says which sets, by their indexes' checksums, and what a run asks of a corpus: the motions'
frames at its rate, signers, words and glosses. A video is decoded where it is asked for.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from signer_jax import storage
from signer_jax.data import framing, records
from signer_jax.data.prepared import layout, timing
from signer_jax.data.shards import Parts, Shard
from signer_jax.data.video import frames_of
from signer_jax.errors import SignerError
from signer_jax.types import Pose, Sample

NAME = "prepared"


def sets_of(source: str) -> list[layout.PreparedSet]:
    """The sets that `config.data.source` names, with commas between them. Raises `SignerError`."""
    names = [name.strip() for name in source.split(",")]
    if not all(names):
        raise SignerError(
            f"config.data.source {source!r}: give the folders of prepared sets, commas between them (`signer prepare` "
            "makes one)"
        )
    if len(set(names)) < len(names):
        raise SignerError(f"config.data.source {source!r}: names a set twice; name each once")
    return [layout.PreparedSet(name) for name in names]


def trains(source: str) -> dict[str, bool]:
    """Whether the training splits have glossed sentences, poses of single signs, videos."""
    totals = {"glossed": 0, "signs": 0, "videos": 0}
    for one in sets_of(source):
        for kind in totals:
            totals[kind] += one.counts.get("train", {}).get(kind, 0)
    return {"sentences": totals["glossed"] > 0, "poses": totals["signs"] > 0, "videos": totals["videos"] > 0}


def posed(source: str) -> bool:
    """Whether motions of the training splits have poses."""
    return any(one.counts.get("train", {}).get("poses", 0) > 0 for one in sets_of(source))


def opened(directory: str | Path) -> records.Corpus:
    """A run's corpus, wherever its samples lie. Raises `SignerError` as `Corpus`."""
    corpus = records.Corpus(directory)
    return PreparedCorpus(directory) if corpus.about.get("corpus") == NAME else corpus


def write(directory: Path, source: str, *, fps: float, size: tuple[int, int]) -> None:
    """The run's corpus: a folder with `corpus.json` alone. Raises `SignerError` as `sets_of`, and where `fps` is 0 and
    samples have several rates.
    """
    sets = sets_of(source)
    splits = list(dict.fromkeys(["train", "dev", "test", *(split for one in sets for split in one.counts)]))
    counts: dict[str, dict[str, int]] = {}
    motions: dict[str, list] = {}
    words: dict[str, set[str]] = {}
    glosses: dict[str, set[str]] = {}
    languages: dict[str, str] = {}  # code -> the spoken language beside it
    fps = fps or _one_rate(sets)
    for split in splits:
        count = counts[split] = {"text": 0, "pose": 0, "video": 0}
        listed = motions[split] = []
        for one in sets:
            for _, table in one.tables(split):
                for row in table["kept"]:
                    if row["language"] and not languages.get(row["language"]):
                        languages[row["language"]] = row["spoken"]
                    count["text"] += _read_as_text(row)
                    if row["seconds"]:
                        count["pose"] += row["frames"] > 0
                        count["video"] += row["video_fps"] > 0
                        frames = len(timing.grid(0, row["seconds"], fps))
                        listed.append([frames, row["video_fps"] > 0, _signer(one, row["signer"], len(sets))])
                if split == "train":
                    for language, known in table["words"].items():
                        words.setdefault(language, set()).update(known)
                    for language, known in table["glosses"].items():
                        glosses.setdefault(language, set()).update(known)
    about = {
        "corpus": NAME, "size": list(size), "fps": fps, "counts": counts, "motions": motions,
        "signers": sorted({signer for rows in motions.values() for _, _, signer in rows}),
        "languages": dict(sorted(languages.items())),
        "words": {language: sorted(known) for language, known in words.items()},
        "glosses": {language: sorted(known) for language, known in glosses.items()},
        "sets": [{"folder": str(one.directory.resolve()), "index_sha256": _index_sum(one.directory)} for one in sets],
    }  # fmt: skip
    with storage.new_folder(directory, records.KIND) as folder:
        storage.write_list(folder / "corpus.json", about, f"{directory}: corpus.json", "take fewer sets")


def _index_sum(directory: Path) -> str:
    return layout.file_sum(directory / "index.json")


def _signer(one: layout.PreparedSet, signer: str, sets: int) -> str:
    """Two datasets' signers of one name are two."""
    return f"{one.dataset}/{signer}" if sets > 1 else signer


def _read_as_text(row: dict[str, Any]) -> bool:
    """Whether a run learns glosses of it: a sentence has words, a sign that is shown alone has a gloss alone."""
    return bool(row["sentence"] and row["glosses"] and row["language"])


def _one_rate(sets: Sequence[layout.PreparedSet]) -> float:
    rates = {row["fps"] or row["video_fps"] for one in sets for split in one.counts for _, table in one.tables(split)
             for row in table["kept"] if row["seconds"]}  # fmt: skip
    if rates and max(rates) - min(rates) > records.FPS_TOLERANCE * max(rates):
        listed = ", ".join(f"{rate:.5g}" for rate in sorted(rates)[:8])
        raise SignerError(
            f"config.data.fps 0: the samples of the prepared sets have several rates ({listed}); name one that all are "
            "brought to, --config.data.fps=25"
        )
    return max(rates, default=0.0)


class PreparedCorpus(records.Corpus):
    """A run's corpus whose samples lie in prepared sets."""

    def __init__(self, directory: str | Path):
        """Raises `SignerError` as `Corpus`, and where a set is gone or is another than it was."""
        super().__init__(directory)
        self.sets = []
        for said in self.about["sets"]:
            one = layout.PreparedSet(said["folder"])
            if _index_sum(one.directory) != said["index_sha256"]:
                raise SignerError(
                    f"{one.directory}: this {layout.KIND} is another than the run began with; give the run another "
                    "--workdir"
                )
            self.sets.append(one)

    def hash(self) -> str:
        """Of what is said of it, wherever its sets lie: their indexes' checksums say what is in them."""
        sets = [said["index_sha256"] for said in self.about["sets"]]
        return hashlib.sha256(json.dumps({**self.about, "sets": sets}, sort_keys=True).encode()).hexdigest()

    def texts(self, split: str) -> records.Records:
        found = self._parts(split, layout.TEXT, lambda one, record: self._named(one, records.decode(record)))
        rows = (row for one in self.sets for _, table in one.tables(split) for row in table["kept"] if row["text"])
        chosen = np.flatnonzero([_read_as_text(row) for row in rows])
        return _Texts(self.directory, found, chosen)

    def captions(self, split: str) -> Iterator[str]:
        """As a corpus's, from the records of texts: those of motions hold the videos too."""
        texts, place = self._parts(split, layout.TEXT, lambda _, record: records.decode(record).text), 0
        for one in self.sets:
            for _, table in one.tables(split):
                for row in table["kept"]:
                    if row["seconds"]:
                        yield texts[place] if row["text"] else ""
                    place += row["text"]

    def motions(self, split: str) -> records.Records:
        found = self._parts(split, layout.MOTION, self._motion)
        listed = self.about["motions"].get(split, [])
        if len(found) != len(listed):
            raise SignerError(
                f"{self.directory}: corpus.json lists {len(listed)} motions of {split!r}, {len(found)} are there; "
                f"{storage.REMAKE}"
            )
        without = self.count(split, "video") and not self.count(split, "pose")
        return _Motions(self.directory, found, self.about["fps"], self.size or (0, 0), bool(without))

    def _motion(self, one: layout.PreparedSet, record: bytes) -> layout.Motion:
        motion = layout.read_motion(record)
        return replace(motion, sample=self._named(one, motion.sample))

    def _named(self, one: layout.PreparedSet, sample: Sample) -> Sample:
        return replace(sample, signer=_signer(one, sample.signer, len(self.sets)))

    def _parts(self, split: str, kind: str, decode: Callable[[layout.PreparedSet, bytes], Any]) -> Parts:
        if split not in self.about["counts"]:
            raise SignerError(f"split {split!r}: the corpus has {', '.join(self.about['counts'])}")
        shards = []
        for one in self.sets:
            for name, table in one.tables(split):
                if f"{name}.{kind}.arrayrecord" in table["files"]:
                    shards.append(Shard(one.file(name, kind), partial(decode, one), layout.REMAKE))
        return Parts(shards)


class _Texts(records.Records):
    """Some of the texts of all parts, as one."""

    def __init__(self, directory: Path, found: Parts, chosen: np.ndarray):
        self._path, self._mend, self._found, self._chosen = directory, storage.REMAKE, found, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index) -> Sample:
        return self._found[int(self._chosen[int(index)])]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)})"


class _Motions(records.Records):
    """The motions of all parts at the run's frame rate; `filmed` decodes a video, `[i]` has none."""

    def __init__(self, directory: Path, found: Parts, fps: float, size: tuple[int, int], without: bool):
        self._path, self._mend, self._sizes = directory, storage.REMAKE, ()
        self._found, self._fps, self._size = found, fps, size
        self._unposed = fps if without else None

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index) -> Sample:
        return self._sample(self._found[int(index)])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)}, {self._fps:g})"

    def posed(self, sample: Sample, index: int) -> Pose:
        if sample.pose is None and self._unposed is not None and sample.video is None:
            sample = self.filmed(index)[0]
        return super().posed(sample, index)

    def filmed(self, index: int) -> tuple[Sample, UInt8[np.ndarray, "t h w 3"]]:
        motion: layout.Motion = self._found[int(index)]
        if motion.video is None:
            raise self._lacks(index, "video")
        video = self._decoded(motion)
        if video is None:
            raise self._lacks(index, "frame")
        return replace(self._sample(motion), video=video), video

    def _sample(self, motion: layout.Motion) -> Sample:
        """Its pose at the run's rate; the one sign of a sample with one gloss lasts as long as it does."""
        sample = motion.sample
        if sample.pose is None:
            return sample
        pose = sample.pose
        times = timing.grid(0, motion.seconds, self._fps)
        pose = timing.at_times(pose, np.arange(len(pose)) / pose.fps, times, self._fps)
        spans = np.array([[0, len(pose)]], np.int32) if len(sample.glosses) == 1 else None
        return replace(sample, pose=pose, spans=spans)

    def _decoded(self, motion: layout.Motion) -> UInt8[np.ndarray, "t h w 3"] | None:
        """The frames that are shown at the run's times, each the nearest; None of a video without any."""
        wanted = timing.grid(0, motion.seconds, self._fps)
        kept: list[np.ndarray] = []
        before: tuple[float, np.ndarray] | None = None
        stamps: list[float] = []  # of the stored frames, as they come
        for frame in self._seen(motion, stamps):
            time = stamps[-1]
            while before and len(kept) < len(wanted) and wanted[len(kept)] - before[0] <= time - wanted[len(kept)]:
                kept.append(before[1])
            before = time, frame
        return np.stack(kept + [before[1]] * (len(wanted) - len(kept))) if before else None

    def _seen(self, motion: layout.Motion, stamps: list[float]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """The stored frames as the run sees them; each one's time is added to `stamps`."""

        def stored() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
            for time, frame in frames_of(motion.sample.name, motion.video or b""):
                stamps.append(time)
                yield frame

        if motion.centre is not None:
            return framing.around_signer(stored(), motion.centre, motion.scale, self._size)
        return framing.middle(stored(), self._size)
