"""A prepared corpus on disk: ArrayRecord shards of samples beside one `corpus.json`.

`<dir>/<split>.text.arrayrecord` holds every sentence without its frames, `<dir>/<split>.motion.arrayrecord` those that
have a pose or a video, whole. A text of no language is no sentence: a video's caption, that stands beside it alone.
Values are msgpack of plain types and arrays; nothing in a record is ever executed.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from signer_jax import storage
from signer_jax.data.shards import BROKEN, MOST_BYTES, Shard, new_shard, pack, unpack
from signer_jax.errors import SignerError, piled
from signer_jax.json_files import LISTS, read_json
from signer_jax.pose import skeleton
from signer_jax.progress import progress
from signer_jax.types import Pose, Sample
from signer_jax.writing import words_of

KIND = "prepared corpus"
_MOST_RATE = 1000  # frames a second
_MOST_COUNT = 10**9
_MOST_SIDE = 8192  # pixels
_MOST_FRAMES = MOST_BYTES // (len(skeleton.JOINTS) * 3 * 4)  # of a motion: x, y and a confidence of each joint
FPS_TOLERANCE = 2e-3  # a share; 24 and 24000/1001 frames a second, a frame in 40 seconds apart, are one rate


def _pose_tree(pose: Pose) -> dict:
    return {"coordinates": pose.coordinates, "confidence": pose.confidence, "fps": float(pose.fps)}


def encode(sample: Sample, frames: bool = True) -> bytes:
    """One record; `frames=False` leaves out pose, spans, video and references."""
    tree: dict = {
        "name": sample.name,
        "text": sample.text,
        "language": sample.language,
        # One form of a letter: "Ö" and "O" with a combining diaeresis are the same gloss.
        "glosses": unicodedata.normalize("NFC", "\n".join(sample.glosses)),
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
    return pack(tree)


def decode(record: bytes) -> Sample:
    """The sample of a record. Raises one of msgpack's errors or a `ValueError` and its like where it holds none."""
    tree = unpack(record)
    references = tree.get("references", {})
    texts = {name: tree[name] for name in ("name", "text", "language", "glosses", "signer")}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{name} is no text")
        if piled(text):
            raise ValueError(f"{name} piles more than 30 marks on a letter")
    pose = _pose(tree["pose"]) if "pose" in tree else None
    frames = None if pose is None else len(pose)
    joined = texts.pop("glosses")
    glosses = tuple(joined.split("\n")) if joined else ()
    spans = _spans(tree["spans"], frames) if "spans" in tree else None
    if spans is not None and len(spans) != len(glosses):
        raise ValueError(f"{len(spans)} spans of {len(glosses)} glosses")
    return Sample(
        **texts,
        glosses=glosses,
        pose=pose,
        spans=spans,
        video=_video(tree["video"]) if "video" in tree else None,
        references=tuple(_reference(references[key]) for key in sorted(references, key=int)),
    )


def _pose(tree: dict) -> Pose:
    pose = Pose(**tree)
    if type(pose.fps) is not float or (fault := skeleton.fault(pose)):
        raise ValueError("its frame rate is no number" if type(pose.fps) is not float else fault)
    return pose


def _spans(spans: np.ndarray, frames: int | None) -> np.ndarray:
    if spans.dtype != np.int32 or spans.ndim != 2 or spans.shape[1] != 2:
        raise ValueError(f"spans are {spans.dtype} {spans.shape}")
    if (spans < 0).any() or (spans[:, 0] > spans[:, 1]).any() or (frames is not None and (spans > frames).any()):
        raise ValueError(f"a span does not lie within the {frames} frames")
    return spans


def _video(video: np.ndarray) -> np.ndarray:
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3 or not video.size:
        raise ValueError(f"its video is {video.dtype} {video.shape}")
    return video


def _reference(tree: dict) -> tuple[Pose, np.ndarray]:
    pose = _pose(tree["pose"])
    return pose, _spans(tree["spans"], len(pose))


def from_frame(start: int) -> Callable[[int], int]:
    """What says to `Records.clip` that it begins there, however many frames there are."""
    return lambda _: start


class Records(Shard):
    """The samples of one shard of a corpus: the source that Grain reads."""

    def __init__(self, path: Path, sizes: Sequence[tuple[int, int]] = (), unposed: float | None = None):
        """`sizes` are the height and width that each record's video has, none where they are not known; `unposed` their
        frame rate in a corpus of which `corpus.json` says that none has a pose.
        """
        super().__init__(path, decode, storage.REMAKE)
        self._sizes, self._unposed = sizes, unposed

    def posed(self, sample: Sample, index: int) -> Pose:
        """The pose of a motion, the sample of record `index`; of a video in a corpus without poses one of which no
        joint is seen. Raises `SignerError` where it has none.
        """
        if sample.pose is None and self._unposed is not None and sample.video is not None:
            seen = np.zeros((len(sample.video), len(skeleton.JOINTS)), np.float32)
            return Pose(np.zeros((*seen.shape, 3), np.float32), seen, self._unposed)
        if sample.pose is None:
            raise self._lacks(index, "pose")
        return sample.pose

    def video(self, index: int) -> np.ndarray:
        """The video of a motion that `corpus.json` says has one; raises as `filmed`."""
        return self.filmed(index)[1]

    def clip(self, index: int, length: int, start_of: Callable[[int], int]) -> np.ndarray:
        """`length` frames of `video(index)` from where `start_of` says, which is told how many it has; the last one
        repeated past the end.
        """
        return self.frames_at(index, lambda count: np.minimum(start_of(count) + np.arange(length), count - 1))

    def frames_at(self, index: int, places_of: Callable[[int], np.ndarray]) -> np.ndarray:
        """The frames of `video(index)` at these places, which do not go back; `places_of` is told how many it has."""
        video = self.video(index)
        return video[places_of(len(video))]

    def filmed(self, index: int) -> tuple[Sample, np.ndarray]:
        """A motion that `corpus.json` says has a video, and that: unpacking a record of many pixels takes a second.

        Raises `SignerError` where its record has none, or one of another size.
        """
        sample = self[index]
        if (video := sample.video) is None:
            raise self._lacks(index, "video")
        if self._sizes and video.shape[1:3] != self._sizes[index]:
            height, width = self._sizes[index]
            sides = f"its video is {video.shape[2]}x{video.shape[1]}, corpus.json's size {width}x{height}"
            raise self._damaged(f"record {index}", ValueError(sides))
        return sample, video

    def _lacks(self, index: int, what: str) -> SignerError:
        return self._damaged(f"record {index}", ValueError(f"it has no {what}, though corpus.json lists one"))


class Corpus:
    """A prepared corpus: `texts(split)`, `motions(split)`, and what `corpus.json` says of it."""

    def __init__(self, directory: str | Path):
        """Raises `SignerError` where the folder is missing, is no corpus of ours, or is not whole."""
        self.directory = storage.check_folder(directory, KIND, storage.REMAKE, ("corpus.json",))
        self._files = storage.files_of(self.directory)
        try:
            self.about: dict = read_json(self.directory / "corpus.json", LISTS)
            self._check()
        except BROKEN as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise SignerError(f"{self.directory / 'corpus.json'}: is damaged ({reason}); {storage.REMAKE}") from None

    def _check(self) -> None:
        about = self.about
        numbers = [n for count in about["counts"].values() for n in count.values()]
        rows = [row for rows in about["motions"].values() for row in rows]
        listed = [(frames, video, signer) for frames, video, signer, *_ in rows]
        if not all(type(n) is int and 0 <= n <= _MOST_COUNT for n in numbers):
            raise ValueError(f"a count is no number within 0 to {_MOST_COUNT}")
        if not all(type(frames) is int and 0 < frames <= _MOST_FRAMES for frames, _, _ in listed):
            raise ValueError(f"a motion's frames are no number within 1 to {_MOST_FRAMES}")
        if not all(type(video) is bool for _, video, _ in listed):
            raise ValueError("whether a motion has a video is neither true nor false")
        if type(about["fps"]) not in (int, float) or not 0 <= about["fps"] <= _MOST_RATE:
            raise ValueError("a frame rate that is none")
        if not all(
            len(size) == 2 and all(type(side) is int and 0 < side <= _MOST_SIDE for side in size) for size in self.sizes
        ):
            raise ValueError("a size that is none")
        several = len(about.get("sizes", ()))
        if not all(len(row) == 3 + bool(several) for row in rows) or not all(
            type(which) is int and 0 <= which < several for row in rows for which in row[3:]
        ):
            raise ValueError("a motion's size is none of the corpus's")
        known = [about[name].items() for name in ("words", "glosses")]
        texts = [
            *about["languages"],
            *about["languages"].values(),
            *about["signers"],
            *(signer for *_, signer in listed),
        ]
        texts += [word for items in known for language, words in items for word in (language, *words)]
        if not all(isinstance(words, list) for items in known for _, words in items):
            raise ValueError("the words or glosses of a language are no list")
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a word, gloss, language or signer is no text")
        "".join(texts).encode()  # JSON may hold halves of characters
        if any(map(piled, texts)):
            raise ValueError("a word, gloss, language or signer piles more than 30 marks on a letter")

    def hash(self) -> str:
        """Of what is said of it, and of its files' sizes: what is made of another corpus is told by it."""
        said = ((self.directory / name).read_bytes() for name in ("corpus.json", storage.MANIFEST))
        return hashlib.sha256(b"\n".join(said)).hexdigest()

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of its videos, where `corpus.json` says them; one number, of before, is a square's side."""
        size = self.about.get("size")
        return size if size is None else (size, size) if type(size) is int else tuple(size)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The heights and widths that its videos may have, `size` first; none where `corpus.json` says none."""
        one = [] if self.size is None else [self.size]
        return [tuple(size) for size in self.about["sizes"]] if "sizes" in self.about else one

    def sizes_of(self, split: str) -> list[tuple[int, int]]:
        """Height and width of the video of each motion record of a split; none where `corpus.json` says none."""
        sizes, rows = self.sizes, self.about["motions"].get(split, [])
        return [sizes[row[3]] for row in rows] if "sizes" in self.about else sizes * len(rows)

    def texts(self, split: str) -> Records:
        return Records(self._shard(split, "text"))

    def motions(self, split: str) -> Records:
        """Raises `SignerError` where the shard has another number of records than `corpus.json` lists."""
        without = self.about["fps"] if self.count(split, "video") and not self.count(split, "pose") else None
        records = Records(self._shard(split, "motion"), self.sizes_of(split), without)
        if len(records) != (listed := len(self.about["motions"].get(split, []))):
            raise SignerError(
                f"{self.directory}: corpus.json lists {listed} motions of {split!r}, {len(records)} are there; "
                f"{storage.REMAKE}"
            )
        return records

    def captions(self, split: str) -> Iterator[str]:
        """The text of each motion record of a split, in their order."""
        motions = self.motions(split)
        return (motions[i].text for i in range(len(motions)))

    def glosses(self, split: str) -> Iterator[tuple[str, ...]]:
        """The glosses of each motion record of a split, in their order."""
        motions = self.motions(split)
        return (motions[i].glosses for i in range(len(motions)))

    def signs(self, split: str) -> Records:
        """The motions that SLP-MoE learns from: those whose glosses have their places in time, here all."""
        return self.motions(split)

    def count(self, split: str, kind: str) -> int:
        """How many samples of a split have `text`, `pose` or `video`."""
        return self.about["counts"].get(split, {}).get(kind, 0)

    def listed(self, split: str) -> list[tuple[int, bool, str]]:
        """For each motion record of a split: its frames, whether it has a video, and its signer."""
        return [(frames, video, signer) for frames, video, signer, *_ in self.about["motions"].get(split, [])]

    def makers(self, split: str) -> list[str]:
        """By whom the glosses of each `text` record of a split are (`Sample.glosses_by`)."""
        return [""] * self.count(split, "text")

    def set_of(self, split: str, kind: str) -> np.ndarray:
        """Of each `text`, `motion` or `sign` record of a split, from which of the corpus's sets it comes: the one."""
        return np.zeros(self.count(split, "text") if kind == "text" else len(self.listed(split)), np.int64)

    def _shard(self, split: str, kind: str) -> Path:
        if split not in self.about["counts"]:
            raise SignerError(f"split {split!r}: the corpus has {', '.join(self.about['counts'])}")
        name = f"{split}.{kind}.arrayrecord"
        if name not in self._files:
            what = f"its {storage.MANIFEST} does not list {name}"
            raise SignerError(f"{self.directory}: the {KIND} is damaged ({what}); {storage.REMAKE}")
        return self.directory / name


def write(directory: str | Path, splits: dict[str, Callable[[], Iterable[Sample]]], about: dict) -> Corpus:
    """Writes a corpus: one pass over each split's samples, then `corpus.json`; the folder appears only when whole.

    `about` is kept in `corpus.json`, with the counts, the motions' frames, signers and frame rate added, and by
    language the words and the glosses of the training split: what a run may be said to know. Where no sample has a
    pose, the frame rate is `about`'s. Where it has `sizes`, videos have one of these, and each motion says which.
    Raises `SignerError` where a sample's frame rate is not the corpus's, its video has not its pose's frames, or not
    every gloss has a span where there are spans.
    """
    with storage.new_folder(directory, KIND) as partial:
        _write(partial, splits, about)
    return Corpus(directory)


def _check_frames(sample: Sample, fps: float) -> float:
    """The corpus's frame rate, on which every time counts: `fps`, or, where that is 0, the first sample's."""
    assert sample.pose is not None
    own = float(sample.pose.fps)
    if fps and abs(own - fps) > FPS_TOLERANCE * fps:
        raise SignerError(
            f"sample {sample.name!r}: {own:g} frames a second where the samples before it have {fps:g}; "
            "set config.data.fps to resample all of them to one rate"
        )
    if sample.video is not None and len(sample.video) != len(sample.pose):
        raise SignerError(
            f"sample {sample.name!r}: {len(sample.video)} frames of video beside {len(sample.pose)} of pose; "
            "both must show the same frames"
        )
    if sample.spans is not None and len(sample.spans) != len(sample.glosses):
        raise SignerError(
            f"sample {sample.name!r}: {len(sample.spans)} spans of {len(sample.glosses)} glosses; give each gloss one"
        )
    return fps or own


def _size_of(sample: Sample, sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Which of several sizes a sample's video has; nothing where there are not several."""
    if not sizes or sample.video is None:
        return [0] if sizes else []
    height, width = sample.video.shape[1:3]
    if (height, width) not in sizes:
        listed = ", ".join("x".join(map(str, size)) for size in sizes)
        raise SignerError(
            f"sample {sample.name!r}: its video of {height}x{width} (height x width) has none of the corpus's sizes "
            f"{listed}; prepare it at one of them"
        )
    return [sizes.index((height, width))]


def _write(partial: Path, splits: dict[str, Callable[[], Iterable[Sample]]], about: dict) -> None:
    counts: dict[str, dict[str, int]] = {}
    motions: dict[str, list] = {}
    signers: set[str] = set()
    words: dict[str, set[str]] = {}
    glosses: dict[str, set[str]] = {}
    fps = 0.0
    for split, samples in splits.items():
        count = counts[split] = {"text": 0, "pose": 0, "video": 0}
        listed = motions[split] = []
        with (
            new_shard(partial / f"{split}.text.arrayrecord") as write_text,
            new_shard(partial / f"{split}.motion.arrayrecord") as write_motion,
        ):
            for sample in progress(samples(), f"data {split}"):
                if sample.text and sample.language:
                    write_text(encode(sample, frames=False))
                    count["text"] += 1
                    if split == "train":
                        words.setdefault(sample.language, set()).update(word.key for word in words_of(sample.text))
                        known = glosses.setdefault(sample.language, set())
                        known.update(unicodedata.normalize("NFC", gloss) for gloss in sample.glosses)
                shown = sample.video if sample.pose is None else sample.pose
                if shown is not None:
                    fps = fps if sample.pose is None else _check_frames(sample, fps)
                    write_motion(encode(sample))
                    count["pose"] += sample.pose is not None
                    count["video"] += sample.video is not None
                    which = _size_of(sample, about.get("sizes", ()))
                    listed.append([len(shown), sample.video is not None, sample.signer, *which])
                    signers.add(sample.signer)
    about = {
        **about,
        "counts": counts,
        "motions": motions,
        "signers": sorted(signers),
        "fps": fps or about.get("fps", 0.0),
        "words": {language: sorted(known) for language, known in words.items()},
        "glosses": {language: sorted(known) for language, known in glosses.items()},
    }
    what = f"{partial.name}: corpus.json"
    storage.write_list(partial / "corpus.json", about, what, "divide the corpus, or give fewer sentences")
