"""PHOENIX14T as a run's texts: both forms of its table, and what is said when one is broken."""

import os
from pathlib import Path

import pytest
from fuzz import memory

from signer_jax.data.corpora import phoenix14t
from signer_jax.data.datasets import phoenix14t as dataset
from signer_jax.errors import SignerError

DATA = os.environ.get("SIGNER_DATA")
TSV = 'name\tsigner\tgloss\ttext\tnum_frames\ndev/a-1\tSigner08\tDRUCK TIEF  KOMMEN\ttiefer "luftdruck .\t42\n'
CSV = (
    "name|video|start|end|speaker|orth|translation\n"
    "a-1|a-1/1/*.png|-1|-1|Signer08|DRUCK TIEF KOMMEN|tiefer luftdruck .\n"
)


def test_tsv(tmp_path):
    (tmp_path / "phoenix14t.dev.tsv").write_text(TSV, encoding="utf-8")
    (sample,) = phoenix14t.samples(tmp_path, "dev")
    assert (sample.name, sample.signer, sample.language) == ("dev/a-1", "Signer08", "gsg")
    assert sample.glosses == ("DRUCK", "TIEF", "KOMMEN") and sample.text == 'tiefer "luftdruck .'
    assert sample.pose is None and sample.video is None


@pytest.mark.parametrize("place", [".", "annotations/manual"])
def test_official_csv(tmp_path, place):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "PHOENIX-2014-T.train.corpus.csv").write_text(CSV, encoding="utf-8")
    (sample,) = phoenix14t.samples(tmp_path, "train")
    assert sample.glosses == ("DRUCK", "TIEF", "KOMMEN") and sample.signer == "Signer08"


def test_faults_are_named_at_once(tmp_path):
    with pytest.raises(SignerError, match=r"PHOENIX-2014-T\.train\.corpus\.csv \(or dev, test\) and no phoenix14t\."):
        phoenix14t.samples(tmp_path, "dev")
    (tmp_path / "phoenix14t.train.tsv").write_text(TSV, encoding="utf-8")
    with pytest.raises(SignerError, match="has no split 'dev'; it has train"):
        phoenix14t.samples(tmp_path, "dev")
    file = tmp_path / "phoenix14t.dev.tsv"
    file.write_text(TSV.replace("gloss", "glosses"), encoding="utf-8")
    with pytest.raises(SignerError, match="lacks the column 'gloss'"):
        phoenix14t.samples(tmp_path, "dev")
    file.write_text(TSV + "dev/a-2\tSigner01", encoding="utf-8")
    with pytest.raises(SignerError, match="line 3, the last, is cut short"):
        phoenix14t.samples(tmp_path, "dev")
    file.write_text(TSV.partition("\n")[0] + "\n", encoding="utf-8")
    with pytest.raises(SignerError, match="holds no row"):
        phoenix14t.samples(tmp_path, "dev")
    file.write_bytes(TSV.encode("utf-16"))
    with pytest.raises(SignerError, match="its first line is no UTF-8 text; download it again"):
        phoenix14t.samples(tmp_path, "dev")


GOOD = b"dev/b-%d\tSigner08\tDRUCK\ttiefer\t42\n"
BAD = {
    ": row cut short (2 cells where the header has 5)": b"dev/a-2\tSigner01",
    ": too many cells (6 cells where the header has 5)": b"dev/a-2\tSigner01\tA\tein\tzwei\t9",
    ", a-2: too long a text (in text)": b"a-2\tb\tC\t" + b"x" * 200_000 + b"\t9",
    ", a-2: no UTF-8 (in text)": b"a-2\tb\tC\t\xff\t9",
    ", a-2: control character (in text)": b"a-2\tb\tC\ta\x1b[2J\t9",
    ", a-2: no text": b"a-2\tb\tC\t \t9",
    ", a-2: no glosses": b"a-2\tb\t\tein\t9",
    ", dev/a-1: named twice": b"dev/a-1\tb\tC\tein\t9",
    ", a-1: named twice": b"a-1\tb\tC\tein\t9",
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_row_is_left_out_and_named(tmp_path, capsys, what):
    file = tmp_path / "phoenix14t.dev.tsv"
    file.write_bytes(TSV.encode() + BAD[what] + b"\n" + GOOD % 2)
    assert len(list(phoenix14t.samples(tmp_path, "dev"))) == 2
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"signer: {tmp_path}: left out: {file.name}, line 3{what}"
    assert last == f"signer: {tmp_path}: 1 of 3 rows left out"


def test_a_corpus_of_bad_rows_is_refused(tmp_path, capsys):
    file = tmp_path / "phoenix14t.dev.tsv"
    good = [GOOD % k for k in range(2, 21)]
    file.write_bytes(TSV.encode() + b"short\n" * 20 + b"".join(good))
    assert len(list(phoenix14t.samples(tmp_path, "dev"))) == 20
    assert len(capsys.readouterr().err.splitlines()) == 6  # five of them, and the count
    file.write_bytes(TSV.encode() + b"short\n" * 20 + b"".join(good[1:]))
    with pytest.raises(SignerError, match=r"more than half of its 39 rows .*first: phoenix14t.dev.tsv, line 3: row c"):
        phoenix14t.samples(tmp_path, "dev")


def test_the_test_split_is_there_where_its_file_is(tmp_path):
    (tmp_path / "PHOENIX-2014-T.dev.corpus.csv").write_text(CSV, encoding="utf-8")
    assert phoenix14t.splits(tmp_path) == ("train", "dev")  # what is missing of these two is said by `samples`
    (tmp_path / "PHOENIX-2014-T.test.corpus.csv").write_text(CSV, encoding="utf-8")
    assert phoenix14t.splits(tmp_path) == ("train", "dev", "test")
    assert [sample.name for sample in phoenix14t.samples(tmp_path, "test")] == ["a-1"]


def test_a_runs_texts_are_those_of_prepare_without_their_recordings(tmp_path):
    """By the names that the table gives them, also those of which a release with frames has none."""
    (tmp_path / "phoenix14t.dev.tsv").write_bytes(TSV.encode() + GOOD % 2)
    (tmp_path / "features/fullFrame-210x260px/dev/a-1").mkdir(parents=True)
    (tmp_path / "features/fullFrame-210x260px/dev/a-1/images0001.png").touch()
    assert [sample.name for sample in phoenix14t.samples(tmp_path, "dev")] == ["dev/a-1", "dev/b-2"]
    kept, left = dataset.items(tmp_path, "dev")
    assert (kept.name, kept.text, kept.glosses) == ("a-1", 'tiefer "luftdruck .', ("DRUCK", "TIEF", "KOMMEN"))
    assert (left.name, left.reason, left.where) == ("b-2", "no folder of frames", "phoenix14t.dev.tsv, line 3")


@pytest.mark.skipif(not DATA, reason="SIGNER_DATA is unset: no real samples")
@pytest.mark.parametrize(("split", "count"), [("train", 7096), ("dev", 519)])
def test_real_files(split, count):
    samples = list(phoenix14t.samples(Path(DATA) / "text2gloss", split))
    assert len(samples) == count
    assert all(sample.text and sample.glosses and sample.signer for sample in samples)


def test_short_rows_take_little(tmp_path):
    with (tmp_path / "phoenix14t.dev.tsv").open("w") as file:
        file.write("name\tsigner\tgloss\ttext\n")
        file.writelines(f"{k}\tb\tc\td\n" for k in range(100_000))
    counts = []
    # Of a row its name is kept: each comes once. A list of rows takes 60 MB.
    assert memory.grown(lambda: counts.append(sum(1 for _ in phoenix14t.samples(tmp_path, "dev")))) < 20 << 20
    assert counts == [100_000]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_are_numbered_by_any_line_end(tmp_path, capsys, end):
    rows = ["name\tsigner\tgloss\ttext", "a\tb\tc\td", "", "x", "e\tf\tg\th"]
    (tmp_path / "phoenix14t.dev.tsv").write_bytes(end.join(rows).encode())
    assert [sample.name for sample in phoenix14t.samples(tmp_path, "dev")] == ["a", "e"]
    assert "line 4: row cut short" in capsys.readouterr().err


def test_a_table_lies_in_its_folder(tmp_path):
    (tmp_path / "elsewhere.tsv").write_text(TSV)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "phoenix14t.dev.tsv").symlink_to("../elsewhere.tsv")
    with pytest.raises(SignerError, match="is a link out of its folder; give the folder that it leads to"):
        phoenix14t.samples(tmp_path / "corpus", "dev")
