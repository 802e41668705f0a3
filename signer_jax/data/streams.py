"""The Grain streams, one for each kind of training example.

Every stream is shuffled anew each epoch from one seed and repeats without end. Example k·B + r is row r of global
batch k; a process reads the rows that its devices hold (`partitioning.local_rows`), and each example's generator is its
own, so that a global batch is the same for any number of processes and any mesh. The iterator's state is a few integers
(`get_state`, `set_state`); the checkpoint keeps it, and a resumed run goes on with the very next batch.

Of several sets with weights (`Mixture`) each is shuffled anew in epochs of its own, and they take turns by the weights.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import grain
import jax
import numpy as np
from grain.experimental import RngPool, index_shuffle
from jaxtyping import Int

from signer_jax.data import augmentation, lengths
from signer_jax.data.buckets import Plan, Visits, fitted
from signer_jax.data.records import Corpus, Records
from signer_jax.data.windows import Limits, MotionWindows, token_counts, tokens
from signer_jax.errors import SignerError
from signer_jax.pose.skeleton import JOINTS
from signer_jax.settings import Augment
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


@dataclass(frozen=True)
class Mixture:
    """Several sets in one stream: which one each example is of, and how often each one's examples come."""

    sets: Int[np.ndarray, " n"]
    weights: tuple[float, ...]


def by_language(languages: Sequence[str], temperature: float, mixture: Mixture | None) -> Mixture | None:
    """The mixture in which, within each set, a language of n texts is drawn in proportion to n ** (1 / temperature)
    (Arivazhagan et al. 2019): as often as it occurs at 1, the more alike the higher. One language is left as it is.
    """
    if len(set(languages)) < 2:
        return mixture
    sets = np.zeros(len(languages), int) if mixture is None else mixture.sets
    weights = (1.0,) if mixture is None else mixture.weights
    groups = Counter(zip(sets.tolist(), languages, strict=True))
    order = sorted(groups)
    places = {group: k for k, group in enumerate(order)}
    drawn = {group: groups[group] ** (1 / temperature) for group in order}
    among = {k: sum(drawn[group] for group in order if group[0] == k) for k in range(len(weights))}
    return Mixture(
        np.array([places[group] for group in zip(sets.tolist(), languages, strict=True)]),
        tuple(weights[group[0]] * drawn[group] / among[group[0]] for group in order),
    )


class _Batches:
    """Some rows of every global batch of an endless dataset, as a random-access source of batches.

    A batch is one item of Grain's: each item of a dataset costs it as much as a sentence takes to read.
    """

    def __init__(self, dataset: "grain.MapDataset | _Examples", batch: int, rows: tuple[int, ...]):
        self.dataset, self.batch, self.rows = dataset, batch, rows

    def __len__(self) -> int:
        return len(self.dataset) // self.batch

    def __getitem__(self, index):
        examples = [self.dataset[int(index) * self.batch + row] for row in self.rows]
        return jax.tree.map(lambda *parts: np.stack(parts), *examples)

    def __repr__(self) -> str:
        return f"_Batches(batch={self.batch}, rows={self.rows})"


def endless(source, seed: int, mixture: Mixture | None = None) -> grain.MapDataset:
    """The examples in random order, without end: all of them once before any comes again.

    Of a mixture this holds for each set alone. A set without any of these examples has no turn, and the others keep
    their weights.
    """
    if mixture is None:
        return grain.MapDataset.source(source).seed(seed).shuffle().repeat()
    assert len(mixture.sets) == len(source)
    parts, weights = [], []
    for k, weight in enumerate(mixture.weights):
        if len(rows := np.flatnonzero(mixture.sets == k)):
            own = int(np.random.SeedSequence((seed, k)).generate_state(1)[0])
            parts.append(grain.MapDataset.source(_Some(source, rows)).seed(own).shuffle().repeat())
            weights.append(weight)
    return grain.MapDataset.mix(parts, weights).seed(seed)


class _Some:
    """Some examples of a source, by their places, as a source of their own."""

    def __init__(self, source, places: np.ndarray):
        self.source, self.places = source, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index):
        return self.source[int(self.places[int(index)])]

    def __repr__(self) -> str:
        return f"_Some({len(self)})"


def iterate(
    source, transform: Callable, reading: Reading, what: str, mixture: Mixture | None = None
) -> grain.DatasetIterator:
    """Shuffle, repeat, transform (with a generator of its own an example), take this process's rows, batch."""
    _check_any(source, what)
    # The transform comes before the choice of rows: its generator is seeded by the example's place among all.
    if mixture is None:
        return batched(_Examples(source, transform, reading.seed), reading)
    return batched(endless(source, reading.seed, mixture).random_map(transform), reading)


class _Examples:
    """The examples of `endless(source, seed).random_map(transform)`, in the same order and with the same generators.
    It saves some 16 µs an example, of which sentences alone feel anything.

    Each of the datasets in that chain takes as long for an example as a sentence takes to read. What they compute, a
    permutation an epoch and a generator by the example's place, is computed here by the same functions.
    """

    def __init__(self, source, transform: Callable, seed: int):
        self.source, self.transform = source, transform
        self.order, self.generators = _seed_at(seed, 1), RngPool(_seed_at(seed, 3))

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int):
        epoch, place = divmod(index, count := len(self.source))
        row = index_shuffle(place, max_index=count - 1, seed=(self.order + epoch) % 2**32, rounds=4)
        generator = self.generators.acquire_rng(index)
        example = self.transform(self.source[row], generator)
        self.generators.release_rng(generator)
        return example


def _seed_at(seed: int, place: int) -> int:
    """The seed that Grain gives to the transformation so many places behind `MapDataset.seed`."""
    return int(np.random.SeedSequence((seed, place)).generate_state(1)[0])


def _check_any(source, what: str) -> None:
    if len(source) == 0:
        raise SignerError(
            f"data: the training split holds no {what}; raise data.poses or data.videos, or check the source"
        )


def batched(examples: grain.MapDataset | _Examples, reading: Reading) -> grain.DatasetIterator:
    """This process's rows of the global batches of endless examples."""
    rows = tuple(range(reading.batch)) if reading.rows is None else reading.rows
    dataset = grain.MapDataset.source(_Batches(examples, reading.batch, rows))
    return iter(dataset.to_iter_dataset(grain.ReadOptions(reading.threads, reading.prefetch)))


def in_order(records: Records, at_once: int) -> grain.DatasetIterator:
    """Each record once, `at_once` of them read side by side."""
    return iter(grain.MapDataset.source(records).to_iter_dataset(grain.ReadOptions(at_once, 2 * at_once)))


def text_batches(
    records: Records, tokenizer: Tokenizer, limits: Limits, reading: Reading, mixture: Mixture | None = None,
    dropout: float = 0.0,
) -> grain.DatasetIterator:  # fmt: skip
    """`source [b, s]`, `target [b, g]`, `target_gloss [b, g]`; `dropout` is `Tokenizer.encode_source`'s."""

    def transform(sample: Sample, rng: np.random.Generator) -> dict:
        return tokens(sample, tokenizer, limits, dropout, rng)

    return iterate(records, transform, reading, "sentences", mixture)


def bucketed_texts(
    records: Records, tokenizer: Tokenizer, limits: Limits, buckets: Sequence[lengths.Bucket], reading: Reading,
    mixture: Mixture | None = None, dropout: float = 0.0,
) -> grain.DatasetIterator:  # fmt: skip
    """As `text_batches`, each batch as long as its bucket; the last one is as long as the limits."""
    order = alike(lengths.shortest(token_counts(records, tokenizer)[:, :2], buckets), reading, mixture)

    def transform(one: tuple[int, int], rng: np.random.Generator) -> dict:
        row, bucket = one
        return tokens(records[row], tokenizer, replace(limits, **buckets[bucket]._asdict()), dropout, rng)

    return batched(grain.MapDataset.source(order).seed(reading.seed).random_map(transform), reading)


def alike(bucket_of: Int[np.ndarray, " n"], reading: Reading, mixture: Mixture | None = None) -> lengths.Alike:
    """The order of `bucketed_texts`, by the bucket of each text."""
    _check_any(bucket_of, "sentences")
    order = endless(_Range(len(bucket_of)), reading.seed, mixture)
    return lengths.Alike(order, bucket_of, reading.batch, reading.seed)


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


def pose_batches(
    windows: MotionWindows, length: int, reading: Reading, mixture: Mixture | None = None,
    augment: Augment | None = None,
) -> grain.DatasetIterator:  # fmt: skip
    """Windows of `length` frames at random starts: `MotionWindows.window`, batched, changed as `augment` says."""
    mirror = augmentation.mirror_permutation([JOINTS[joint] for joint in windows.joints] if augment else ())

    def transform(index: int, rng: np.random.Generator) -> dict:
        frames, needed, change = len(windows.sentence(index)["pose"]), length, None
        if augment is not None:
            # A record is read again where its glosses decide.
            asks = augment.mirror and augment.not_mirrored
            may = not asks or augmentation.may_mirror(windows.records[index].glosses, augment)
            change = augmentation.drawn(rng, augment, may_mirror=may)
            needed = augmentation.frames_needed(length, change)
        window = windows.window(index, int(rng.integers(0, max(frames - needed, 0) + 1)), needed)
        return window if change is None else augmentation.on_window(window, change, length, mirror)

    return iterate(_Range(len(windows.records)), transform, reading, "poses", mixture)


def video_indices(corpus: Corpus, split: str) -> list[int]:
    """The motion records of a split that have a video."""
    return [i for i, (_, video, _) in enumerate(corpus.listed(split)) if video]


def indices_of_size(corpus: Corpus, split: str) -> list[int]:
    """Of `video_indices` those whose video has `corpus.size`, at which a run signs: all but where videos have several
    sizes.
    """
    sizes = corpus.sizes_of(split)
    return [i for i in video_indices(corpus, split) if not sizes or sizes[i] == corpus.size]


def video_batches(
    corpus: Corpus, split: str, length: int, reading: Reading, mixture: Mixture | None = None,
    augment: Augment | None = None,
) -> grain.DatasetIterator:  # fmt: skip
    """`video [b, t, h, w, 3]` float32 in [-1, 1]: `length` frames at random starts, for the autoencoder."""
    records, indices = corpus.motions(split), video_indices(corpus, split)

    def transform(item: int, rng: np.random.Generator) -> dict:
        frames, change = _random_frames(partial(records.clip, indices[item]), length, rng, augment)
        return {"video": to_model_range(frames if change is None else augmentation.on_pictures(frames, change))}

    return iterate(_Range(len(indices)), transform, reading, "videos", mixture)


def _random_frames(
    clip: Callable[[int, Callable[[int], int]], np.ndarray], length: int, rng: np.random.Generator,
    augment: Augment | None,
) -> tuple[np.ndarray, augmentation.Change | None]:  # fmt: skip
    """`length` frames of a `clip` (`Records.clip`) from a random start, at the speed of what is changed in them."""
    change = None if augment is None else augmentation.drawn(rng, augment)
    needed = length if change is None else augmentation.frames_needed(length, change)
    frames = clip(needed, lambda count: int(rng.integers(0, max(count - needed, 0) + 1)))
    return frames if change is None else augmentation.at_speed(frames, 0, length, change), change


def bucketed_videos(
    load: Callable[[int, int, Callable[[int], int]], np.ndarray], plan: Plan, reading: Reading,
    mixture: Mixture | None = None, augment: Augment | None = None,
) -> grain.DatasetIterator:  # fmt: skip
    """`video [b, t, h, w, 3]` float32 in [-1, 1], each batch of one bucket; clips from random starts.

    `load` gives frames of clip i of those that the plan was made for (`Records.clip`); a mixture's sets are of these.
    """

    def transform(row: int, rng: np.random.Generator) -> dict:
        placed = plan.placed[row]
        bucket = plan.buckets[placed.bucket]
        frames, change = _random_frames(partial(load, placed.clip), bucket.frames, rng, augment)
        frames = fitted(frames, placed, bucket)
        return {"video": to_model_range(frames if change is None else augmentation.on_pictures(frames, change))}

    if mixture is not None:
        mixture = replace(mixture, sets=mixture.sets[[placed.clip for placed in plan.placed]])
    return batched(visits(plan, reading, mixture).random_map(transform), reading)


def visits(plan: Plan, reading: Reading, mixture: Mixture | None = None) -> grain.MapDataset:
    """Endless rows of `plan.placed`, each batch of one bucket; a mixture's sets are of these rows."""
    source = Visits(plan, reading.batch, reading.seed) if mixture is None else _Turns(plan, reading, mixture)
    return grain.MapDataset.source(source).seed(reading.seed)


class _Turns:
    """As `Visits`, of a mixture: buckets take turns by what the weights give each, and in a bucket its sets do."""

    def __init__(self, plan: Plan, reading: Reading, mixture: Mixture):
        self.batch, self.parts = reading.batch, list[grain.MapDataset]()
        each = np.array(mixture.weights) / np.maximum(np.bincount(mixture.sets, minlength=len(mixture.weights)), 1)
        turns: list[grain.MapDataset] = []
        shares = []
        for k in range(len(plan.buckets)):
            if rows := plan.members(k):
                sets = mixture.sets[list(rows)]
                # A set's share of this bucket's turns is what of it lies here.
                here = tuple(each * np.bincount(sets, minlength=len(each)))
                self.parts.append(endless(rows, reading.seed + k, Mixture(sets, here)))
                turns.append(grain.MapDataset.range(1 << 60).map(partial(_pair, len(turns))))
                shares.append(sum(here))
        self.turns = grain.MapDataset.mix(turns, shares)

    def __len__(self) -> int:
        return 1 << 60

    def __getitem__(self, index) -> int:
        step, row = divmod(int(index), self.batch)
        part, before = self.turns[step]
        return int(self.parts[part][before * self.batch + row])

    def __repr__(self) -> str:
        return f"_Turns({len(self.parts)}, batch={self.batch})"


def _pair(part: int, before: int) -> tuple[int, int]:
    return part, before


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
