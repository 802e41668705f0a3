"""Any harm to records, corpora, latents or texts: what they hold, or one line."""

import msgpack
import numpy as np
import pytest
from fuzz import files
from hypothesis import example, given
from hypothesis import strategies as st

from properties.harms import (
    NESTED,
    NO_JSON,
    Behind,
    Cell,
    Cut,
    Over,
    Put,
    Set,
    Whole,
    budget,
    gives,
    harms,
    names,
    odd_cells,
    odd_json,
    odd_values,
)
from signer_jax.data import records, shards

SAMPLES = [records.encode(sample) for sample in files.samples()]
TEXTS = {"name": "a", "text": "b", "language": "ase", "glosses": "C", "signer": ""}


@budget(80)
@given(st.sampled_from(SAMPLES), harms)
@example(SAMPLES[0], Cut(0.5))  # incomplete
@example(SAMPLES[0], Cut(0))
@example(SAMPLES[0], Behind(b"\xc0"))  # extra data
@example(SAMPLES[0], Over(3, b"\xff\xff"))  # bad UTF-8
@example(b"\x81\x80\xc0", Cut(1.0))
@example(b"\x81" * 5000, Behind(b""))  # deep
def test_any_harm_to_a_record(record, harm):
    gives("records", {"record": lambda _: harm(record)})


@budget(60)
@given(st.sampled_from([*TEXTS, "pose", "spans", "video", "references"]), odd_values)
@example("name", None)
@example("references", {"x": {}})
@example("video", {"a": [1]})
@example("pose", {"coordinates": None, "confidence": None, "fps": float("nan")})
def test_any_value_of_a_record(name, value):
    try:
        record = msgpack.packb({**TEXTS, name: value})
    except (ValueError, OverflowError, UnicodeEncodeError):  # beyond 64 bits, or half a character
        return
    gives("records", {"record": Whole(record)})


@pytest.mark.parametrize("lacking", TEXTS)
def test_a_record_that_lacks_a_text(lacking):
    record = msgpack.packb({name: text for name, text in TEXTS.items() if name != lacking})
    assert lacking in gives("records", {"record": Whole(record)})


@budget(50)
@given(st.sampled_from(["train.motion.arrayrecord", "train.text.arrayrecord"]), harms)
@example("train.motion.arrayrecord", Over(64 + 32, b"\xff" * 7))  # the unpacked size of the first chunk
@example("train.motion.arrayrecord", Over(64 + 25, b"\xff" * 6))  # its records
@example("train.motion.arrayrecord", Over(64 + 8, b"\0\0\0\0\0\0\0\x7f"))  # its size
@example("train.text.arrayrecord", Cut(0))
def test_any_harm_to_a_shard(name, harm):
    gives("records", {name: harm}, listed=True)


@budget(60)
@given(odd_json)
@example(Set("counts", []))
@example(Set("motions", {"train": [[0, True, "x"]]}))
@example(Set("fps", 1e999))
@example(Set("words", {"ase": ["e" + "\u0301" * 40]}))
@example(Put((), None))
def test_any_value_of_a_corpus(harm):
    gives("corpus.json", {"corpus.json": harm}, listed=True)


@pytest.mark.parametrize("data", [*NO_JSON, *NESTED], ids=lambda data: data[:12].hex())
def test_a_corpus_that_is_no_json(data):
    assert gives("corpus.json", {"corpus.json": Whole(data)}, listed=True)
    assert gives("latents", {"statistics.json": Whole(data)}, listed=True)


TABLES = {"phoenix14t.train.tsv": "\t", "PHOENIX-2014-T.dev.corpus.csv": "|"}


@budget(80)
@given(st.sampled_from(sorted(TABLES)), st.data())
def test_any_harm_to_a_corpus_table(name, data):
    gives("PHOENIX14T", {name: data.draw(st.one_of(odd_cells(TABLES[name]), harms))})


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    "harm",
    [
        lambda end: Cell(end, 1, 3, "y" * 200_000), lambda end: Cell(end, 1, 2, "e" + "\u0301" * 40),
        lambda end: Cell(end, 0, 0, "other"), lambda end: Cell(end, 2, 1, "\0"),
        lambda end: Cell(end, 0, 0, "ä", "utf-16"), lambda end: Cut(0), lambda end: Cut(0.6),
    ],
)  # fmt: skip
def test_named_harm_to_a_corpus_table(name, harm):
    gives("PHOENIX14T", {name: harm(TABLES[name])})


@budget(60)
@given(odd_json)
@example(Set("references", {"s1": -1}))
@example(Set("references", {"s1": 10**12}))
@example(Set("mean", [None] * 4))
@example(Set("std", [0.0] * 4))
@example(Set("noise_factor", [[1e999] * 4] * 4))
def test_any_value_of_latents(harm):
    gives("latents", {"statistics.json": harm}, listed=True)


@budget(60)
@given(st.sampled_from(["references.npy", "references.npz", "train.arrayrecord"]), harms)
@example("references.npz", Over(18, b"\xff\xff\xff\x7f"))
@example("train.arrayrecord", Over(64 + 32, b"\xff" * 7))
def test_any_harm_to_latents(name, harm):
    gives("latents", {name: harm}, listed=True)


@pytest.mark.parametrize(
    "value",
    [
        {"motion": -1, "start": 0}, {"motion": 0, "start": 0.5}, {"motion": None, "start": 0}, {},
        {"motion": 0, "start": 0, "latents": None},
        {"motion": 0, "start": 0, "latents": np.full((1, 1, 1, 4), np.nan, np.float32)},
        {"motion": 0, "start": 0, "latents": np.zeros((1, 4), np.float32)},
        {"motion": 0, "start": 0, "latents": np.zeros((1, 1, 1, 4), np.float64)},
    ],
    ids=str,
)  # fmt: skip
def test_latents_that_cannot_be_meant(tmp_path, value):
    with shards.new_shard(tmp_path / "x") as append:
        append(shards.pack(value))
    assert gives("latents", {"train.arrayrecord": Whole((tmp_path / "x").read_bytes())}, listed=True)


@budget(80)
@given(st.sampled_from(["ref.txt", "hyp.txt"]), st.one_of(harms, st.builds(Whole, st.binary(max_size=40))))
@example("hyp.txt", Whole("A\nB\nÄ\n".encode("latin-1")))
@example("hyp.txt", Whole("A\nB\nC\n".encode("utf-16")))
@example("ref.txt", Whole(b"A " * 6000 + b"\nB\nC\n"))  # long lines took minutes
@example("ref.txt", Whole(b"A " * 10_001 + b"\nB\nC\n"))
@example("hyp.txt", Whole(("e" + "\u0301" * 50_000 + "\nB\nC\n").encode()))
@example("ref.txt", Whole(b""))
def test_any_harm_to_texts(name, harm):
    gives("score text", {name: harm})


def test_what_is_whole_is_read():
    for reader in ("records", "corpus.json", "PHOENIX14T", "latents", "score text"):
        assert not gives(reader, {names(reader)[0]: lambda data: data})


@pytest.mark.parametrize("counts", [{"s1": 8.9, "s2": 4}, {"s1": "8", "s2": 4}, {"s1": True, "s2": 11}])
def test_a_number_of_references_is_a_whole_one(counts):
    assert "no whole number" in gives("latents", {"statistics.json": Set("references", counts)}, listed=True)


def test_a_noise_factor_beyond_float32_is_one_line():
    assert "noise_factor" in gives("latents", {"statistics.json": Set("noise_factor", [[1e39] * 4] * 4)}, listed=True)
