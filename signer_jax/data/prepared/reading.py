"""Prepared sets as the corpus of a run: read where they are, at the run's frame rate and size, nothing copied.

The run's `data/corpus.json` says which sets, by their indexes' checksums, and what a run asks of a corpus: rate,
signers, words and glosses. It does not grow with the samples: what is to be known of each motion is read from the sets'
own tables, whose index is that of the checksum. A video is decoded where it is asked for.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from signer_jax import mirror, storage
from signer_jax.data import far_shards, records, timing
from signer_jax.data.glossing import MACHINES
from signer_jax.data.prepared import films, layout, leakage, learned
from signer_jax.data.prepared.checksums import file_sum
from signer_jax.data.shards import BROKEN, Parts
from signer_jax.errors import SignerError, one_line
from signer_jax.types import Pose, Sample

NAME = "prepared"
_OWN = "folder"  # the dataset whose signers have names of a user's own
_TOLD = ("leakage", "untaught")  # of `corpus.json`: what changes nothing in what a run reads


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
    return [layout.PreparedSet(mirror.set_of(name, "config.data.source")) for name in names]


def trains(source: str, glosses_by: Sequence[str] = ()) -> dict[str, bool]:
    """Whether the training splits have glossed sentences, poses of single signs, videos; `glosses_by` as in `write`."""
    totals = {"sentences": 0, "signs": 0, "poses": 0, "videos": 0, "posed_videos": 0}
    sets = sets_of(source)
    for one in sets:
        for kind in totals:
            totals[kind] += one.counts.get("train", {}).get(kind, 0)
    if glosses_by:
        totals["sentences"] = totals["signs"] = 0
        for row in (row for one in sets for row in _rows(one, "train")):
            totals["sentences"] += learned.is_sentence(row, glosses_by)
            totals["signs"] += learned.is_sign(row, glosses_by)
    videos = totals["posed_videos" if totals["poses"] else "videos"]  # as `_motions_of` leaves them out
    return {"sentences": totals["sentences"] > 0, "poses": totals["signs"] > 0, "videos": videos > 0}


def untaught(source: str, glosses_by: Sequence[str] = ()) -> str:
    """Of how many texts of the training splits a run learns no glosses, and why; "" where there are none."""
    return learned.told(learned.untaught((row for one in sets_of(source) for row in _rows(one, "train")), glosses_by))


def posed(source: str) -> bool:
    """Whether motions of the training splits have poses."""
    return any(one.counts.get("train", {}).get("poses", 0) > 0 for one in sets_of(source))


def opened(directory: str | Path, decode_processes: int = 0) -> records.Corpus:
    """A run's corpus, wherever its samples lie; videos of sets are decoded by so many processes (`films.Decoders`).

    Raises `SignerError` as `Corpus`.
    """
    corpus = records.Corpus(directory)
    return PreparedCorpus(directory, decode_processes) if corpus.about.get("corpus") == NAME else corpus


def write(directory: Path, source: str, *, fps: float, size: tuple[int, int], glosses_by: Sequence[str] = ()) -> None:
    """The run's corpus: a folder with `corpus.json` alone. Glosses are learned of texts whose glosses are by one of
    `glosses_by`, of all where it names none; how many texts that leaves out is said, by whom the others are where they
    are by several, and what splits of different sets share. Raises `SignerError` as `sets_of`, where `fps` is 0 and
    samples have several rates, and where programs' glosses would mix with others' unasked.
    """
    sets = sets_of(source)
    makers = learned.makers((row for one in sets for row in _rows(one, "train")), glosses_by)
    learned.check_makers(makers, glosses_by)
    names = _names(sets)
    seen: list[leakage.Seen] = [{} for _ in sets]
    untaught: dict[str, dict[str, int]] = {}
    say = partial(_say, source)
    for language, of in learned.mixed(makers).items():
        say(f"'train': glosses of {language} are by {of}")
    splits = list(dict.fromkeys(["train", "dev", "test", *(split for one in sets for split in one.counts)]))
    counts: dict[str, dict[str, int]] = {}
    signers: set[str] = set()
    unposed: dict[str, int] = {}
    words: dict[str, set[str]] = {}
    glosses: dict[str, set[str]] = {}
    languages: dict[str, str] = {}  # code -> the spoken language beside it
    fps = fps or _one_rate(sets)
    for split in splits:
        count = counts[split] = {"text": 0, "pose": 0, "video": 0}
        lacking: Counter[str] = Counter()
        for k, one in enumerate(sets):
            for name, table in one.tables(split):
                for row in table["kept"]:
                    if row["language"] and not languages.get(row["language"]):
                        languages[row["language"]] = row["spoken"]
                    count["text"] += learned.is_sentence(row, glosses_by)
                    if len(sets) > 1:
                        leakage.see(seen[k], one.dataset, split, row)
                lacking.update(learned.untaught(table["kept"], glosses_by))
                if split == "train":
                    for language, known in learned.words(one, name, table, glosses_by).items():
                        words.setdefault(language, set()).update(known)
                    for language, made in learned.glosses(table, glosses_by).items():
                        if language:
                            glosses.setdefault(language, set()).update(made)
        if told := learned.told(lacking):
            untaught[split] = dict(sorted(lacking.items()))
            say(f"{split!r}: {told}")
        motions = _motions_of(sets, names, split, fps)
        count["pose"] = motions.posed
        count["video"] = sum(filmed for _, filmed, _ in motions.listed)
        signers.update(signer for *_, signer in motions.listed)
        if left := motions.stored - len(motions.listed):
            unposed[split] = left
            say(f"{left} of {motions.stored} motions of {split!r} have a video and no pose: left out of this run")
    shared = leakage.between(seen, [one.directory.name for one in sets])
    for line in leakage.told(shared):
        say(line)
    about = {
        "corpus": NAME, "size": list(size), "fps": fps, "glosses_by": list(glosses_by), "counts": counts,
        "motions": {split: [] for split in splits},
        "unposed": unposed, "signers": sorted(signers), "languages": dict(sorted(languages.items())),
        "words": {language: sorted(known) for language, known in words.items()},
        "glosses": {language: sorted(known) for language, known in glosses.items()},
        "untaught": untaught, **({"leakage": shared} if len(sets) > 1 else {}),
        "sets": [{"folder": _folder(one), "index_sha256": _index_sum(one.directory), "name": name}
                 for one, name in zip(sets, names, strict=True)],
    }  # fmt: skip
    with storage.new_folder(directory, records.KIND) as folder:
        storage.write_list(folder / "corpus.json", about, f"{directory}: corpus.json", "take fewer sets")


def _say(source: str, line: str) -> None:
    print(one_line(f"signer: {source}: {line}"), file=sys.stderr)


class _Listed(NamedTuple):
    """The motions of a split that a run reads."""

    listed: list[list]  # of each its frames, whether it has a video, and its signer
    places: list[int]  # among all that are stored
    posed: int  # how many have a pose: all, or none
    stored: int


def _motions_of(sets: Sequence[layout.PreparedSet], names: Sequence[str], split: str, fps: float) -> _Listed:
    """Where some have a pose, a video without one is left out: nothing that is trained with poses could read it."""
    rows = [
        (row["frames"] > 0,
         [timing.count(row["seconds"], fps), row["video_fps"] > 0, _signer(name, row["signer"])])
        for one, name in zip(sets, names, strict=True) for row in _rows(one, split) if row["seconds"]
    ]  # fmt: skip
    posed = sum(has for has, _ in rows)
    places = [i for i, (has, _) in enumerate(rows) if has or not posed]
    return _Listed([rows[i][1] for i in places], places, posed, len(rows))


def _folder(one: layout.PreparedSet) -> str:
    """Where a set lies, as any process of the run finds it."""
    place = mirror.place_of(one.directory)
    return str(one.directory.resolve()) if place is None else place.url


def _index_sum(directory: Path) -> str:
    return file_sum(directory / "index.json")


def _names(sets: Sequence[layout.PreparedSet]) -> list[str]:
    """What stands before each set's signers: two datasets' of one name are two, and so are those of two folders of
    one's own, the second of which is `folder-2`; a published dataset has its signers in all its sets.
    """
    if len(sets) == 1:
        return [""]
    names: list[str] = []
    for one in sets:
        before = sum(other.dataset == _OWN for other in sets[: len(names)])
        names.append(f"{_OWN}-{before + 1}" if one.dataset == _OWN and before else one.dataset)
    return names


def _signer(name: str, signer: str) -> str:
    return f"{name}/{signer}" if name else signer


def _rows(one: layout.PreparedSet, split: str) -> Iterator[dict[str, Any]]:
    """The rows of what a set keeps of a split."""
    return (row for _, table in one.tables(split) for row in table["kept"])


def _one_rate(sets: Sequence[layout.PreparedSet]) -> float:
    rates = {row["fps"] or row["video_fps"] for one in sets for split in one.counts for row in _rows(one, split)
             if row["seconds"]}  # fmt: skip
    if rates and max(rates) - min(rates) > records.FPS_TOLERANCE * max(rates):
        listed = ", ".join(f"{rate:.5g}" for rate in sorted(rates)[:8])
        raise SignerError(
            f"config.data.fps 0: the samples of the prepared sets have several rates ({listed}); name one that all are "
            "brought to, --config.data.fps=25"
        )
    return max(rates, default=0.0)


class PreparedCorpus(records.Corpus):
    """A run's corpus whose samples lie in prepared sets."""

    def __init__(self, directory: str | Path, decode_processes: int = 0):
        """Raises `SignerError` as `Corpus`, and where a set is gone or is another than it was."""
        super().__init__(directory)
        self._decoders = films.Decoders(decode_processes)
        self.sets, self._names = [], []
        for said in self.about["sets"]:
            one = layout.PreparedSet(mirror.set_of(said["folder"]))
            if _index_sum(one.directory) != said["index_sha256"]:
                raise SignerError(
                    f"{one.directory}: this {layout.KIND} is another than the run began with; give the run another "
                    "--workdir"
                )
            if one.far_bytes:
                where = f"{said['folder']}: {one.far_bytes / 1e9:.2f} GB of poses and videos are read there"
                print(f"signer: {where}; {far_shards.kept(one.directory)}", file=sys.stderr)
            self.sets.append(one)
            self._names.append(said.get("name", one.dataset if len(self.about["sets"]) > 1 else ""))
        self._by = tuple(self.about.get("glosses_by", ()))
        fps = self.about["fps"]
        try:
            self._found = {split: _motions_of(self.sets, self._names, split, fps) for split in self.about["counts"]}
            self.about["motions"] = {split: found.listed for split, found in self._found.items()}
            self._check()
        except BROKEN as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise SignerError(f"{self.directory}: a table of its sets is damaged ({reason}); {layout.REMAKE}") from None

    def hash(self) -> str:
        """Of what is said of it, wherever its sets lie: their indexes' checksums say what is in them."""
        said = {key: value for key, value in self.about.items() if key not in _TOLD}
        said["sets"] = [one["index_sha256"] for one in self.about["sets"]]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def texts(self, split: str) -> records.Records:
        found = self._parts(split, layout.TEXT, lambda name, record: _named(name, layout.read_text(record)))
        rows = (row for one in self.sets for row in _rows(one, split) if row["text"])
        chosen = np.flatnonzero([learned.is_sentence(row, self._by) for row in rows])
        return _Texts(self.directory, found, chosen)

    def captions(self, split: str) -> Iterator[str]:
        """As a corpus's, from the records of texts: those of motions hold the videos too."""
        return (sample.text if sample else "" for sample in self._said(split))

    def glosses(self, split: str) -> Iterator[tuple[str, ...]]:
        """As `captions`."""
        return (sample.glosses if sample else () for sample in self._said(split))

    def _said(self, split: str) -> Iterator[Sample | None]:
        """The text record of each motion that the run reads, None of one that has none."""
        texts, place = self._parts(split, layout.TEXT, lambda _, record: layout.read_text(record)), 0
        read, stored = set(self._found[split].places), 0
        for one in self.sets:
            for _, table in one.tables(split):
                for row in table["kept"]:
                    if row["seconds"]:
                        if stored in read:
                            yield texts[place] if row["text"] else None
                        stored += 1
                    place += row["text"]

    def motions(self, split: str) -> records.Records:
        found = self._parts(split, layout.MOTION, _motion)
        known = self._found[split]
        if len(found) != known.stored:
            raise SignerError(
                f"{self.directory}: the sets' tables list {known.stored} motions of {split!r}, {len(found)} are there; "
                f"{layout.REMAKE}"
            )
        without = self.count(split, "video") and not known.posed
        return _Motions(
            self.directory, found, np.array(known.places, np.int64), self.about["fps"], self.size or (0, 0),
            bool(without), self._decoders,
        )  # fmt: skip

    def signs(self, split: str) -> records.Records:
        every = self._parts(split, layout.MOTION, _motion)
        rows = (row for one in self.sets for row in _rows(one, split) if row["seconds"])
        chosen = np.flatnonzero([learned.is_sign(row, self._by) for row in rows])
        return _Motions(self.directory, every, chosen, self.about["fps"], self.size or (0, 0), False, self._decoders)

    def makers(self, split: str) -> list[str]:
        rows = (row for one in self.sets for row in _rows(one, split))
        return [row["glosses_by"] for row in rows if learned.is_sentence(row, self._by)]

    def set_of(self, split: str, kind: str) -> np.ndarray:
        """Its place in `sets`."""
        rows = [(k, row) for k, one in enumerate(self.sets) for row in _rows(one, split)]
        if kind == "text":
            return np.array([k for k, row in rows if learned.is_sentence(row, self._by)], np.int64)
        stored = [(k, row) for k, row in rows if row["seconds"]]
        if kind == "sign":
            return np.array([k for k, row in stored if learned.is_sign(row, self._by)], np.int64)
        return np.array([stored[i][0] for i in self._found[split].places], np.int64)

    def _parts(self, split: str, kind: str, decode: Callable[[str, bytes], Any]) -> Parts:
        if split not in self.about["counts"]:
            raise SignerError(f"split {split!r}: the corpus has {', '.join(self.about['counts'])}")
        shards = []
        for one, before in zip(self.sets, self._names, strict=True):
            for name, table in one.tables(split):
                if said := table["files"].get(f"{name}.{kind}.arrayrecord"):
                    shards.append(one.shard(name, kind, said["records"], partial(decode, before)))
        return Parts(shards)


def _motion(name: str, record: bytes) -> layout.Motion:
    """Of a set whose signers have `name` before theirs; as long as its table says, by which its frames are counted."""
    motion = layout.read_motion(record)
    return replace(motion, seconds=round(motion.seconds, 6), sample=_named(name, motion.sample))


def _named(name: str, sample: Sample) -> Sample:
    return replace(sample, signer=_signer(name, sample.signer))


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

    def __init__(
        self, directory: Path, found: Parts, places: np.ndarray, fps: float, size: tuple[int, int], without: bool,
        decoders: films.Decoders,
    ):  # fmt: skip
        self._path, self._mend, self._sizes = directory, storage.REMAKE, ()
        self._found, self._places, self._fps, self._size = found, places, fps, size
        self._unposed, self._decoders = fps if without else None, decoders

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index) -> Sample:
        return self._sample(self._motion(index))

    def _motion(self, index) -> layout.Motion:
        return self._found[int(self._places[int(index)])]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)}, {self._fps:g})"

    def posed(self, sample: Sample, index: int) -> Pose:
        if sample.pose is None and self._unposed is not None and sample.video is None:
            sample = self.filmed(index)[0]
        return super().posed(sample, index)

    def filmed(self, index: int) -> tuple[Sample, UInt8[np.ndarray, "t h w 3"]]:
        motion = self._motion(index)
        if motion.video is None:
            raise self._lacks(index, "video")
        wanted = timing.grid(0, motion.seconds, self._fps)
        video = self._seen(index, motion, wanted, whole=True)
        return replace(self._sample(motion), video=video), video

    def _sample(self, motion: layout.Motion) -> Sample:
        """Its pose at the run's rate; the one sign of a sample with one gloss lasts as long as it does."""
        sample = motion.sample
        if sample.pose is None:
            return sample
        pose = sample.pose
        times = timing.grid(0, motion.seconds, self._fps)
        pose = timing.at_times(pose, np.arange(len(pose)) / pose.fps, times, self._fps)
        sign = len(sample.glosses) == 1 and sample.glosses_by not in MACHINES
        spans = np.array([[0, len(pose)]], np.int32) if sign else None
        return replace(sample, pose=pose, spans=spans)

    def frames_at(self, index: int, places_of: Callable[[int], np.ndarray]) -> UInt8[np.ndarray, "t h w 3"]:
        """As `Records.frames_at`; the file is decoded up to the last of them, and they alone are made pictures."""
        motion = self._motion(index)
        if motion.video is None:
            raise self._lacks(index, "video")
        times = timing.grid(0, motion.seconds, self._fps)
        wanted = times[places_of(len(times))]
        return self._seen(index, motion, wanted)

    def _seen(
        self, index: int, motion: layout.Motion, wanted: Float[np.ndarray, " t"], whole: bool = False
    ) -> UInt8[np.ndarray, "t h w 3"]:
        assert motion.video is not None
        name = motion.sample.name
        seen = self._decoders.frames(
            films.Film(name, motion.video, wanted, whole, self._size, motion.centre, motion.scale)
        )
        if not len(seen):
            raise self._lacks(index, "frame")
        return seen
