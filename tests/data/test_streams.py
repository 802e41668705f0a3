import threading
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from signer_jax.data import buckets, lengths, records, streams
from signer_jax.data.shards import new_shard
from signer_jax.data.windows import Limits, MotionWindows, pad, token_counts, tokens, too_long
from signer_jax.errors import SignerError
from signer_jax.slul.tokenizer import EOS, Tokenizer
from signer_jax.types import Pose, Sample

READING = streams.Reading(batch=4, seed=3, threads=1, prefetch=2)


class Numbers:
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return int(index)


def batches(count: int, iterator) -> list[np.ndarray]:
    return [np.asarray(next(iterator)["x"]) for _ in range(count)]


def numbers(reading: streams.Reading = READING):
    return streams.iterate(Numbers(), lambda i, rng: {"x": np.array([i, rng.integers(1 << 30)])}, reading, "numbers")


def test_records_in_their_order_are_read_side_by_side():
    """Else a set in a bucket is read one request after the other."""
    meet = threading.Barrier(4, timeout=20)

    class Together:
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index):
            meet.wait()  # no record comes before four are asked for
            return int(index)

    assert list(streams.in_order(Together(), 4)) == list(range(8))


def test_an_epoch_shows_every_example_once_and_epochs_differ():
    seen = np.concatenate(batches(5, numbers()))[:, 0]
    assert sorted(seen[:10]) == list(range(10)) and sorted(seen[10:]) == list(range(10))
    assert list(seen[:10]) != list(seen[10:])


def test_a_restored_iterator_goes_on_exactly():
    first = numbers()
    batches(3, first)
    state = first.get_state()
    expected = batches(4, first)
    again = numbers()
    again.set_state(state)
    for a, b in zip(batches(4, again), expected, strict=True):
        np.testing.assert_array_equal(a, b)  # the order, and what each record's generator drew


@pytest.mark.parametrize("rows", [(0, 1), (2, 3), (0, 2), (3,), (0, 1, 2, 3)])
def test_a_process_reads_its_rows_of_the_global_batches(rows):
    """The same examples, and what each one's generator drew, whatever else is read by the process."""
    whole, mine = batches(4, numbers()), batches(4, numbers(replace(READING, rows=rows)))
    for batch, part in zip(whole, mine, strict=True):
        np.testing.assert_array_equal(part, batch[list(rows)])
    # Where one stands does not depend on the rows either.
    iterator = numbers(replace(READING, rows=rows))
    batches(2, iterator)
    other = numbers()
    other.set_state(iterator.get_state())
    np.testing.assert_array_equal(next(other)["x"], whole[2])


def test_sets_come_by_their_weights_and_each_one_in_epochs_of_its_own():
    mixture = streams.Mixture(np.array([0] * 4 + [1] * 6), (3.0, 1.0))
    transform = lambda i, rng: {"x": np.array([i, rng.integers(1 << 30)])}  # noqa: E731
    mixed = streams.iterate(Numbers(), transform, READING, "numbers", mixture)
    seen = np.concatenate(batches(12, mixed))
    first, second = (seen[np.isin(seen[:, 0], some), 0] for some in (range(4), range(4, 10)))
    assert (len(first), len(second)) == (36, 12)
    assert all(sorted(first[k : k + 4]) == list(range(4)) for k in range(0, 36, 4))
    assert sorted(second[:6]) == sorted(second[6:]) == list(range(4, 10))
    assert len(set(seen[:, 1])) == len(seen)  # the same example draws anew each time
    # The rows of two processes are one's.
    halves = [
        batches(3, streams.iterate(Numbers(), transform, replace(READING, rows=rows), "numbers", mixture))
        for rows in ((0, 1), (2, 3))
    ]
    np.testing.assert_array_equal(
        np.concatenate([np.concatenate(both) for both in zip(*halves, strict=True)]), seen[:12]
    )


def test_a_set_without_such_examples_has_no_turn():
    mixed = streams.endless(Numbers(), 3, streams.Mixture(np.array([0] * 4 + [2] * 6), (1.0, 5.0, 1.0)))
    assert sorted([mixed[i] for i in range(8)])[:4] == list(range(4))


def test_buckets_of_videos_take_turns_by_the_weights_of_what_lies_in_them():
    clips = [buckets.Clip(5, 8, 8)] * 8 + [buckets.Clip(9, 8, 8)] * 4
    found = buckets.plan(clips, [buckets.Bucket(5, 8, 8), buckets.Bucket(9, 8, 8)], crop=0.1, enlarge=1.0)
    rows = streams.visits(found, READING, streams.Mixture(np.array([0] * 6 + [1] * 6), (3.0, 1.0)))
    seen = [rows[i] for i in range(480)]
    assert all(len({found.placed[row].bucket for row in seen[k : k + 4]}) == 1 for k in range(0, 480, 4))
    counts = np.bincount(seen)
    np.testing.assert_allclose(counts, [60] * 6 + [20] * 6, atol=2)


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_examples_are_those_of_grains_own_chain(count):
    """Order, epochs and generators: a run of before goes on with the very examples that it would have had."""

    def transform(item: int, rng: np.random.Generator) -> tuple:
        return item, rng.integers(0, 2**63, 2).tolist(), rng.random()

    chain = streams.endless(range(count), 11).random_map(transform)
    ours = streams._Examples(range(count), transform, 11)
    places = [*range(3 * count), 2**31 + 5, 10**12]
    assert [ours[i] for i in places] == [chain[i] for i in places] and len(ours) == len(chain)


def test_batches_of_like_lengths_show_what_the_order_shows():
    """Within each group of batches, here an epoch; every one in a bucket that holds it."""
    sizes = lengths.read(("3x2", "6x4"), lengths.Bucket(9, 8), "here")
    counts = np.array([[1 + i % 9, 1 + i % 5] for i in range(24)])
    of = lengths.shortest(counts, sizes)
    np.testing.assert_array_equal(of[:6], [0, 0, 1, 1, 2, 1])
    order = streams.alike(of, READING)
    plain = streams.endless(range(24), READING.seed)
    seen = [order[i] for i in range(72)]
    for k in range(0, 72, 24):
        assert sorted(row for row, _ in seen[k : k + 24]) == sorted(plain[i] for i in range(k, k + 24))
    assert [row for row, _ in seen] != [plain[i] for i in range(72)]
    for k in range(0, 72, 4):
        (bucket,) = {bucket for _, bucket in seen[k : k + 4]}
        assert bucket == max(of[row] for row, _ in seen[k : k + 4])
    # Not from short to long: a group's batches come in random order.
    groups = [[order[i][1] for i in range(k, k + 24, 4)] for k in range(0, 480, 24)]
    assert sum(buckets == sorted(buckets) for buckets in groups) <= 2 and {0, 2} <= {*groups[0]}
    # Rows by hand: six batches, as many rooms of their buckets, and what is in them.
    room = sum(sum(sizes[bucket]) for _, bucket in seen[:24])
    assert lengths.padding(counts, sizes, order) == pytest.approx(1 - counts.sum() / room)
    assert room < 24 * 17


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("12",), "no SOURCExTARGET"),
        (("9x8",), "9x8 is not shorter than config.data.max_source x max_target, 9x8"),
        (("10x2",), "not shorter"),
        (("6x4", "7x3"), "7x3 does not hold what 6x4 does"),
        (("6x4", "6x4"), "does not hold"),
    ],
)
def test_buckets_of_texts_that_are_none_are_refused(texts, said):
    with pytest.raises(SignerError, match=f"^config.data.text_buckets: .*{said}"):
        lengths.read(texts, lengths.Bucket(9, 8), "config.data.text_buckets")


def test_texts_come_in_the_length_of_their_bucket(tmp_path):
    """Two short ones and two long ones: of each batch all that a model is given, and none of it cut."""
    tokenizer = Tokenizer.train(["the old house is red"], tmp_path / "t", 60, ["ase"], glosses=[["OLD", "HOUSE"]])
    kinds = ("the old house is red " * 2, ("OLD",) * 4), ("the old", ("OLD",))
    samples = [Sample(f"s{i}", kinds[i % 2][0], "ase", kinds[i % 2][1]) for i in range(8)]
    corpus = records.write(tmp_path / "data", {"train": lambda: samples}, {"languages": {"ase": "English"}})
    texts, counts = corpus.texts("train"), token_counts(corpus.texts("train"), tokenizer)
    most, short = counts.max(axis=0), counts[1]
    sizes = (lengths.Bucket(*short[:2].tolist()), lengths.Bucket(*most[:2].tolist()))
    limits = Limits(*sizes[1], 4)
    reading = replace(READING, batch=2)
    whole = list(islice(streams.bucketed_texts(texts, tokenizer, limits, sizes, reading), 4))
    assert sorted(batch["source"].shape for batch in whole) == sorted([(2, size.source) for size in sizes] * 2)
    assert all(batch["source"].all() and batch["target"].all() for batch in whole)  # there is no padding at all
    for rows in ((0,), (1,)):
        mine = islice(streams.bucketed_texts(texts, tokenizer, limits, sizes, replace(reading, rows=rows)), 4)
        for batch, part in zip(whole, mine, strict=True):
            np.testing.assert_array_equal(part["source"], batch["source"][list(rows)])
    again = streams.bucketed_texts(texts, tokenizer, limits, sizes, replace(reading, rows=(1,)))
    next(again)
    other = streams.bucketed_texts(texts, tokenizer, limits, sizes, reading)
    other.set_state(again.get_state())
    np.testing.assert_array_equal(next(other)["target"], whole[1]["target"])


def test_texts_in_pieces_by_chance_are_whole_in_their_bucket(tmp_path):
    """In other pieces in every epoch, as many as there is room for; with no room in the usual ones."""
    tokenizer = Tokenizer.train(["the old house is red"] * 4, tmp_path / "t", 60, ["ase"], glosses=[["OLD", "HOUSE"]])
    texts = [Sample("s", "the old house is red", "ase", ("OLD",))]
    usual = tokenizer.encode_source(texts[0].text, "ase")
    for more in (0, 4, 9):
        bucket = lengths.Bucket(len(usual) + more, 3)
        batches = streams.text_batches(texts, tokenizer, Limits(*bucket, 4), READING, dropout=0.2)
        read = [tuple(row[row > 0].tolist()) for batch in islice(batches, 4) for row in batch["source"]]
        same = iter(streams.text_batches(texts, tokenizer, Limits(*bucket, 4), READING, dropout=0.2))
        assert read == [tuple(row[row > 0].tolist()) for batch in islice(same, 4) for row in batch["source"]]
        assert all(tokenizer._pieces.decode(list(ids[1:])) == "the old house is red" for ids in read)
        assert max(map(len, read)) <= bucket.source and (len(set(read)) > 4) == bool(more)


def test_texts_of_several_sets_come_in_epochs_of_their_buckets_too():
    """A group of batches is 32 of them, here 16 epochs of each set."""
    mixture = streams.Mixture(np.array([0] * 4 + [1] * 4), (1.0, 1.0))
    order = streams.alike(np.arange(8) % 2, READING, mixture)
    rows = [order[i] for i in range(2 * 32 * READING.batch)]
    for group in (rows[:128], rows[128:]):
        assert np.bincount([row for row, _ in group]).tolist() == [16] * 8
    assert all(bucket >= row % 2 for row, bucket in rows)


def test_an_empty_source_is_one_clear_line():
    with pytest.raises(SignerError, match="holds no videos"):
        streams.iterate([], lambda i, rng: i, READING, "videos")


def test_pixels_and_model_range_are_inverse():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(streams.to_pixels_range(streams.to_model_range(levels)), levels)
    assert streams.to_model_range(levels).min() == -1 and streams.to_model_range(levels).max() == 1


def test_padding_cuts_and_fills():
    np.testing.assert_array_equal(pad([5, 6], 4), [5, 6, 0, 0])
    np.testing.assert_array_equal(pad([5, 6, 7], 2), [5, 6])


def test_what_is_too_long_is_counted_and_cut_behind_a_word_with_its_end(tmp_path):
    tokenizer = Tokenizer.train(["the old house"], tmp_path / "t", 60, ["ase"], glosses=[["OLD", "HOUSE"]])
    texts = [Sample("a", "the old house", "ase", ("OLD", "HOUSE")),
             Sample("b", "the old house the old house", "ase", ("OLD", "HOUSE") * 3)]  # fmt: skip
    source, target = (len(tokenizer.encode_source(texts[0].text, "ase")), len(tokenizer.encode_gloss(texts[0].glosses)))
    limits = Limits(source + 1, target, 4)
    corpus = records.write(tmp_path / "data", {"train": lambda: texts}, {"languages": {"ase": "English"}})
    longest = [len(tokenizer.encode_source(texts[1].text, "ase")), len(tokenizer.encode_gloss(texts[1].glosses))]
    counts = token_counts(corpus.texts("train"), tokenizer)
    lines = too_long(counts, limits, frames=True)
    assert [line.split(" training")[0] for line in lines] == ["1 of 2"] * 3
    assert all(
        line.endswith(f"; what is longer is cut behind a whole {unit}")
        for line, unit in zip(lines, ("word", "gloss"), strict=False)
    )
    assert f"data.max_source = {source + 1} tokens (the longest has {longest[0]})" in lines[0]
    assert f"data.max_target = {target} tokens (the longest has {longest[1]})" in lines[1]
    assert "1 of 2" in lines[2] and "data.max_glosses = 4 glosses (the longest has 6)" in lines[2]
    assert too_long(counts, limits, frames=False) == lines[:-1]
    assert too_long(counts, Limits(99, 99, 6), frames=True) == [] == too_long(counts[:0], limits, frames=True)
    row, goal = (tokens(texts[1], tokenizer, limits)[side] for side in ("source", "target"))
    np.testing.assert_array_equal(goal, tokenizer.encode_gloss(("OLD", "HOUSE")))
    kept = [tokenizer.encode_source(" ".join(texts[1].text.split()[:n]), "ase") for n in range(1, 6)]
    best = max((ids for ids in kept if len(ids) <= source + 1), key=len)
    np.testing.assert_array_equal(row[: len(best)], best)
    assert best[-1] == EOS and not row[len(best) :].any()


def test_windows_past_the_end_repeat_the_last_frame(tmp_path):
    coordinates = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((5, 128, 3), np.float32)
    motion = Sample("s", "", "ase", pose=Pose(coordinates, np.ones((5, 128), np.float32), 16.0))
    corpus = records.write(tmp_path / "data", {"train": lambda: [motion]}, {"languages": {}})
    windows = MotionWindows(corpus.motions("train"), np.array([0, 1]), 2, Limits(4, 4, 2))
    window = windows.window(0, 3, 4)
    np.testing.assert_array_equal(window["pose"][:, 0, 0], [3, 4, 4, 4])
    np.testing.assert_array_equal(window["valid"], [True, True, False, False])
    assert window["pose"].shape == (4, 2, 2)


def test_a_record_that_lacks_what_the_corpus_lists_is_one_line(tmp_path):
    """Its pose, its video, and a video of the corpus's size."""
    pose = Pose(np.zeros((5, 128, 3), np.float32), np.ones((5, 128), np.float32), 16.0)
    whole = Sample("s", "", "ase", pose=pose, video=np.zeros((5, 8, 8, 3), np.uint8))

    def corpus(name: str, change: Sample, size: int = 8) -> records.Corpus:
        made = records.write(tmp_path / name, {"train": lambda: [whole]}, {"languages": {}, "size": size})
        file, manifest = tmp_path / name / "train.motion.arrayrecord", tmp_path / name / "manifest.json"
        size = file.stat().st_size
        with new_shard(file) as write:
            write(records.encode(change))
        manifest.write_text(manifest.read_text().replace(f": {size}", f": {file.stat().st_size}"))
        return made

    for name, change, size, said in (
        ("a", replace(whole, video=None), 8, "it has no video, though corpus.json lists one"),
        ("b", whole, 16, "its video is 8x8, corpus.json's size 16"),
    ):
        with pytest.raises(SignerError, match=said):
            next(streams.video_batches(corpus(name, change, size), "train", 2, READING))
    windows = MotionWindows(corpus("c", replace(whole, pose=None)).motions("train"), np.array([0]), 2, Limits(4, 4, 2))
    with pytest.raises(SignerError, match="it has no pose, though corpus.json lists one"):
        windows.window(0, 0, 2)


def test_languages_are_drawn_by_temperature(monkeypatch):
    """30 texts of one language and 10 of another: each language's own are shown once an epoch of its own."""
    texts = [Sample(str(i), "a", "ase" if i % 4 else "gsg", ("A",)) for i in range(40)]
    monkeypatch.setattr(
        streams, "tokens",
        lambda sample, *_: {"x": np.array([int(sample.name), sample.language == "gsg"])},
    )  # fmt: skip

    def read(temperature: float, reading: streams.Reading = READING):
        mixed = streams.by_language([sample.language for sample in texts], temperature, None)
        return streams.text_batches(texts, None, None, reading, mixed if temperature != 1.0 else None)

    plain = batches(10, streams.iterate(texts, lambda s, rng: {"x": np.array([int(s.name)])}, READING, "texts"))
    np.testing.assert_array_equal(np.concatenate(batches(10, read(1.0)))[:, :1], np.concatenate(plain))
    for temperature, share in ((1e6, 0.5), (2.0, 10**0.5 / (10**0.5 + 30**0.5))):
        seen = np.concatenate(batches(40, read(temperature)))
        assert abs(seen[:, 1].mean() - share) < 0.02
        rare = seen[seen[:, 1] == 1][:20, 0]
        assert sorted(rare[:10]) == sorted(rare[10:]) == list(range(0, 40, 4)) and list(rare[:10]) != list(rare[10:])
    whole = batches(4, read(2.0))
    for batch, part in zip(whole, batches(4, read(2.0, replace(READING, rows=(1, 3)))), strict=True):
        np.testing.assert_array_equal(part, batch[[1, 3]])
    iterator = read(2.0)
    batches(2, iterator)
    again = read(2.0)
    again.set_state(iterator.get_state())
    np.testing.assert_array_equal(next(again)["x"], whole[2])
