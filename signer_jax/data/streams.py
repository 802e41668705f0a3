"""The Grain streams, one for each kind of training example.

Every stream is shuffled anew each epoch from one seed and repeats without end. Example k·B + r is row r of global
batch k; a process reads the rows that its devices hold (`partitioning.local_rows`), and each example's generator is its
own, so that a global batch is the same for any number of processes and any mesh. The iterator's state is a few integers
(`get_state`, `set_state`); the checkpoint keeps it, and a resumed run goes on with the very next batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np

from signer_jax.data.buckets import Plan, Visits, fitted
from signer_jax.data.records import Corpus, Records
from signer_jax.data.windows import Limits, MotionWindows, tokens
from signer_jax.errors import SignerError
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.types import Sample


@dataclass(frozen=True)
class Reading:
    """How a stream is read: global batch size, seed, threads and records ahead, and which rows are read here."""

    batch: int
    seed: int
    threads: int
    prefetch: int
    rows: tuple[int, ...] | None = None  # of the global batch; None for all


class _Share:
    """Some rows of every global batch of an endless dataset, as a random-access source."""

    def __init__(self, dataset: grain.MapDataset, batch: int, rows: tuple[int, ...]):
        self.dataset, self.batch, self.rows = dataset, batch, rows

    def __len__(self) -> int:
        return len(self.dataset) // self.batch * len(self.rows)

    def __getitem__(self, index):
        k, i = divmod(int(index), len(self.rows))
        return self.dataset[k * self.batch + self.rows[i]]

    def __repr__(self) -> str:
        return f"_Share(batch={self.batch}, rows={self.rows})"


def iterate(source, transform: Callable, reading: Reading, what: str) -> grain.DatasetIterator:
    """Shuffle, repeat, transform (with a generator of its own an example), take this process's rows, batch."""
    if len(source) == 0:
        raise SignerError(
            f"data: the training split holds no {what}; raise data.poses or data.videos, or check the source"
        )
    # The transform comes before the choice of rows: its generator is seeded by the example's place among all.
    examples = grain.MapDataset.source(source).seed(reading.seed).shuffle().repeat().random_map(transform)
    return batched(examples, reading)


def batched(examples: grain.MapDataset, reading: Reading) -> grain.DatasetIterator:
    """This process's rows of the global batches of endless examples."""
    rows = tuple(range(reading.batch)) if reading.rows is None else reading.rows
    dataset = grain.MapDataset.source(_Share(examples, reading.batch, rows)).batch(len(rows), drop_remainder=True)
    return iter(dataset.to_iter_dataset(grain.ReadOptions(reading.threads, reading.prefetch)))


def text_batches(
    records: Records, tokenizer: Tokenizer, limits: Limits, reading: Reading, temperature: float
) -> grain.DatasetIterator:
    """`source [b, s]`, `target [b, g]`, `target_gloss [b, g]`.

    A language of n sentences is drawn in proportion to n ** (1 / temperature) (Arivazhagan et al. 2019): as often as it
    occurs at 1, where all languages are one shuffled stream, and the more alike the higher.
    """

    def transform(sample: Sample, rng: np.random.Generator) -> dict:
        return tokens(sample, tokenizer, limits)

    places: dict[str, list[int]] = {}
    for place in range(len(records)) if temperature != 1.0 else ():
        places.setdefault(records[place].language, []).append(place)
    if len(places) < 2:
        return iterate(records, transform, reading, "sentences")
    languages = sorted(places)
    weights = [len(places[language]) ** (1 / temperature) for language in languages]
    streams = [
        grain.MapDataset.source(_Some(records, places[language])).seed(reading.seed + number).shuffle().repeat()
        for number, language in enumerate(languages)
    ]
    mixed = grain.MapDataset.mix(streams, [weight / sum(weights) for weight in weights])
    return batched(mixed.seed(reading.seed).random_map(transform), reading)


class _Some:
    """The records at some places, as a random-access source."""

    def __init__(self, records: Records, places: Sequence[int]):
        self.records, self.places = records, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index) -> Sample:
        return self.records[self.places[int(index)]]

    def __repr__(self) -> str:
        return f"_Some({len(self.places)})"


class _Range:
    """The integers below `size` as a random-access source."""

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index) -> int:
        return int(index)

    def __repr__(self) -> str:
        return f"_Range({self.size})"


def pose_batches(windows: MotionWindows, length: int, reading: Reading) -> grain.DatasetIterator:
    """Windows of `length` frames at random starts: `MotionWindows.window`, batched."""

    def transform(index: int, rng: np.random.Generator) -> dict:
        frames = len(windows.sentence(index)["pose"])
        return windows.window(index, int(rng.integers(0, max(frames - length, 0) + 1)), length)

    return iterate(_Range(len(windows.records)), transform, reading, "poses")


def video_indices(corpus: Corpus, split: str) -> list[int]:
    """The motion records of a split that have a video."""
    return [i for i, (_, video, _) in enumerate(corpus.listed(split)) if video]


def indices_of_size(corpus: Corpus, split: str) -> list[int]:
    """Of `video_indices` those whose video has `corpus.size`, at which a run signs: all but where videos have several
    sizes.
    """
    sizes = corpus.sizes_of(split)
    return [i for i in video_indices(corpus, split) if not sizes or sizes[i] == corpus.size]


def video_batches(corpus: Corpus, split: str, length: int, reading: Reading) -> grain.DatasetIterator:
    """`video [b, t, h, w, 3]` float32 in [-1, 1]: `length` frames at random starts, for the autoencoder."""
    records, indices = corpus.motions(split), video_indices(corpus, split)

    def transform(item: int, rng: np.random.Generator) -> dict:
        video = records.video(indices[item])
        start = int(rng.integers(0, max(len(video) - length, 0) + 1))
        return {"video": to_model_range(take_frames(video, start, length))}

    return iterate(_Range(len(indices)), transform, reading, "videos")


def bucketed_videos(load: Callable[[int], np.ndarray], plan: Plan, reading: Reading) -> grain.DatasetIterator:
    """`video [b, t, h, w, 3]` float32 in [-1, 1], each batch of one bucket; clips from random starts.

    `load` gives clip i of those that the plan was made for, uint8 `[t, h, w, 3]`.
    """

    def transform(row: int, rng: np.random.Generator) -> dict:
        placed = plan.placed[row]
        bucket = plan.buckets[placed.bucket]
        video = load(placed.clip)
        start = int(rng.integers(0, max(len(video) - bucket.frames, 0) + 1))
        return {"video": to_model_range(fitted(take_frames(video, start, bucket.frames), placed, bucket))}

    examples = grain.MapDataset.source(Visits(plan, reading.batch, reading.seed)).seed(reading.seed)
    return batched(examples.random_map(transform), reading)


def spread(count: int, limit: int) -> np.ndarray:
    """At most `limit` places among `count`, evenly over all of them, `[k]`."""
    return np.linspace(0, count - 1, min(limit, count)).round().astype(int)


def spread_over(counts: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """At most `limit` of the items of groups of so many each, evenly over all of them: (group, its item)."""
    ends = np.cumsum(counts, dtype=np.int64)
    places = spread(int(ends[-1]), limit) if len(ends) else np.zeros(0, int)
    groups = np.searchsorted(ends, places, side="right")
    return [(int(k), int(at - ends[k] + counts[k])) for k, at in zip(groups, places, strict=True)]


def take_frames(video: np.ndarray, start: int, length: int) -> np.ndarray:
    """`length` frames from `start`, the last one repeated past the end."""
    return video[np.minimum(np.arange(start, start + length), len(video) - 1)]


def to_model_range(video: Any) -> Any:
    """uint8 to float32 in [-1, 1], of numpy's arrays and of jax's."""
    return video.astype(np.float32) / 127.5 - 1.0


def to_pixels_range(video: np.ndarray) -> np.ndarray:
    """[-1, 1] to uint8, rounded."""
    return np.clip(np.round((np.asarray(video, np.float32) + 1.0) * 127.5), 0, 255).astype(np.uint8)
