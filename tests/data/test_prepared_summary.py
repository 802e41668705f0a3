"""The report of a prepared set: its figures by hand, and that its memory does not grow with the set."""

import csv
import json
import sqlite3
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from signer_jax.data.prepared import layout, leakage, summary
from signer_jax.data.prepared.taking import CUT, MOVED, OTHER_TIMES
from signer_jax.errors import SignerError

ABOUT = {"made_by": "x", "kind": "k", "version": layout.VERSION, "dataset": "d", "source": "s",
         "how": {"glosses": "none"}}  # fmt: skip


def row(number: int, **others) -> dict:
    """A sample as `layout.row` tells of it, whose name, sentence, files and recording nothing else has."""
    text = f"{number:064x}"
    return {
        "name": f"clip {number}", "language": "ase", "spoken": "en", "signer": "a", "text": True, "glosses": 0,
        "words": 3, "glosses_by": "", "prompt_by": "", "sentence": text[-16:], "film": text, "film_by": "name",
        "same": text[-16:], "seconds": 2.0, "frames": 48, "pose_by": "", "fps": 24.0, "video_fps": 24.0,
        "height": 4, "width": 4,
    } | others  # fmt: skip


def written(out: Path, **splits: list[dict]) -> dict[str, list[str]]:
    """Parts of at most 500 of these rows."""
    (out / layout.PARTS).mkdir(parents=True)
    parts: dict[str, list[str]] = {split: [] for split in splits}
    for split, rows in splits.items():
        for k in range(0, len(rows), 500):
            parts[split].append(name := layout.part_name(split, 0, 1, k // 500))
            table = {"version": layout.VERSION, "split": split, "files": {}, "left": [], "mended": {}, "glosses_by": {},
                     "kept": rows[k : k + 500]}  # fmt: skip
            (out / layout.PARTS / f"{name}.json").write_text(json.dumps(table))
    return parts


def gathered(out: Path, **splits: list[dict]) -> dict:
    """The report of these rows."""
    parts = written(out, **splits)
    try:
        return summary.gathered(out, ABOUT, parts)[1]
    finally:
        left = {file.name for file in out.iterdir()} - {summary.LEFT_OUT, summary.OTHERWISE}
        assert left == {layout.PARTS}, "what the samples are compared by goes"


def test_the_memory_of_a_report_does_not_grow_with_its_samples(tmp_path):
    def most(count: int) -> int:
        rows = [row(i, frames=48 * (i % 2), seconds=1 + i / 7e3) for i in range(count)]
        parts = written(tmp_path / str(count), train=rows[: count // 2], dev=rows[count // 2 :])
        del rows
        tracemalloc.start()
        counts = summary.gathered(tmp_path / str(count), ABOUT, parts)[1]["counts"]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert counts["dev"]["kept"] == count // 2
        return peak

    small, large = most(2400), most(5400)  # of both more than a thousand lack a pose
    assert large - small < 3000 * 40  # bytes a sample; a set of names alone takes 100


def test_figures_of_rows_by_hand(tmp_path):
    rng = np.random.default_rng(0)
    seconds = rng.uniform(0.1, 70, 501).round(6)
    train = [row(i, seconds=float(one)) for i, one in enumerate(seconds)]
    dev = [row(1000 + i, seconds=0.0, frames=0, video_fps=0.0) for i in range(3)]
    dev[1] |= {"name": "clip 3", "film": train[7]["film"], "sentence": train[9]["sentence"]}
    dev[2] |= {"film": train[8]["film"], "frames": 9}
    train[5]["same"] = train[4]["same"]
    dev.append(row(1003, signer="b", sentence=train[9]["sentence"], seconds=0.0, video_fps=0.0))
    train.append(row(4000, name="~prompt", prompt_by="templates", sentence=train[9]["sentence"]))
    report = gathered(tmp_path / "set", train=train, dev=dev)
    (lengths,) = report["lengths"].values()
    assert lengths["median"] == np.median(seconds) and lengths["hours"] == pytest.approx(seconds.sum() / 3600)
    assert (lengths["count"], lengths["shortest"], lengths["longest"]) == (501, seconds.min(), seconds.max())
    counts, _ = np.histogram(seconds, (0, 1, 2, 4, 8, 16, 32, 64, np.inf))
    assert list(lengths["histogram"].values()) == counts.tolist()
    shared = {row["what"]: (row["shared"], row["samples"], row["examples"]) for row in report["leakage"]}
    assert shared == {
        "the same sentence": (1, [1, 2], ["clip 9 / clip 3"]),
        "the same signer": (1, [501, 3], ["clip 0 / clip 1000"]),
        "the same video": (2, [2, 2], ["clip 7 / clip 3", "clip 8 / clip 1002"]),
    }  # fmt: skip
    assert leakage.samples_of(report["leakage"][0]) == "1 of train and 2 of dev"
    assert report["named_twice"] == ["clip 3"] and report["counted"]["named_twice"] == 1
    assert report["kept_otherwise"] == {
        summary._TWICE: ["clip 5"], "no pose, which others of its split have": ["clip 1000", "clip 3"]
    }  # fmt: skip
    assert report["details"] == {summary._TWICE: {"clip 5": "clip 4"}}


def test_what_is_kept_otherwise_has_names_details_and_sums(tmp_path):
    """Also of parts of before, in which a detail stood behind its name."""
    parts = written(tmp_path, train=[row(i, name=f"a ({i})") for i in range(3)])
    (file,) = (tmp_path / layout.PARTS).iterdir()
    table = json.loads(file.read_text())
    moved = {"a (0)": "22 of 1300", "a (2)": "3 of 900"}
    for mended in (
        {MOVED: moved, OTHER_TIMES: {"a (1)": "4.50, 3.20"}, CUT: {"a (1)": ""}},
        {MOVED: [f"{name} ({detail})" for name, detail in moved.items()], OTHER_TIMES: ["a (1) (4.50, 3.20)"],
         CUT: ["a (1)"]},
    ):  # fmt: skip
        file.write_text(json.dumps(table | {"mended": mended}))
        report = summary.gathered(tmp_path, ABOUT, parts)[1]
        rows = list(csv.DictReader((tmp_path / summary.OTHERWISE).read_text().splitlines()))
        assert {(one["what"], one["name"], one["detail"]) for one in rows} == {
            (MOVED, "a (0)", "22 of 1300"), (MOVED, "a (2)", "3 of 900"), (OTHER_TIMES, "a (1)", "4.50, 3.20"),
            (CUT, "a (1)", ""),
        }  # fmt: skip
        assert report["kept_otherwise"][MOVED] == ["a (0)", "a (2)"]
        assert report["cleaned"] == {MOVED: {"joints": 25, "of": 2200}}
        told = {one["what"]: (one["samples"], one["joints"], one["first"]) for one in summary.kept_otherwise(report)}
        assert told[MOVED] == (2, "25 of 2200", ["a (0) (22 of 1300)", "a (2) (3 of 900)"])
        assert told[CUT] == (1, "", ["a (1)"])


def test_coverage_by_hand(tmp_path):
    """Of each maker how many glosses there are, how many occur once, and which share of them training has seen."""
    parts = written(tmp_path, train=[row(0)], dev=[row(1)])
    made = {"train": {"human": {"DOG": 3, "CAT": 1, "SUN": 1}}, "dev": {"human": {"DOG": 1, "RAIN": 3}}}
    for file in (tmp_path / layout.PARTS).iterdir():
        table = json.loads(file.read_text())
        file.write_text(json.dumps(table | {"glosses_by": {"ase": made[table["split"]]}}))
    found = summary.gathered(tmp_path, ABOUT, parts)[1]["gloss_coverage"]["ase"]
    assert found == {
        "train": {"human": {"glosses": 5, "different": 3, "once": 2, "seen_in_training": 1}},
        "dev": {"human": {"glosses": 4, "different": 2, "once": 1, "seen_in_training": 0.25}},
    }  # fmt: skip


def test_a_name_that_a_split_has_twice_is_refused_and_odd_ones_are_kept(tmp_path):
    odd = [row(0, name="a\udcff"), row(1, name="\x00?#%"), row(2, name="é")]
    report = gathered(tmp_path / "odd ?#%é", train=odd, dev=odd[:1])
    assert report["named_twice"] == ["a\udcff"]
    with pytest.raises(SignerError, match="train has two samples named é; prepare it into another folder"):
        gathered(tmp_path / "twice", train=[*odd, odd[2]])


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(summary.Compared, "first", full)
    with pytest.raises(SignerError, match=r"cannot be written \(database or disk is full\); check the place"):
        gathered(tmp_path / "set", train=[row(0)])
