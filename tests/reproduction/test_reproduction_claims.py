"""Sums, seeds, intervals and verdicts by hand; the paper's figures against its text; what is written."""

import csv
import io
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from signer_jax import configuration
from signer_jax.errors import SignerError
from signer_jax.metrics import text as text_metrics
from signer_jax.reproduction import claims, depends, making, paper, plots, rows, written
from signer_jax.reproduction.claims import FAILS, HOLDS, OPEN, judged, verdicts
from signer_jax.reproduction.curves import Point, keep, quarter
from signer_jax.reproduction.curves import read as points
from signer_jax.reproduction.paper import EXPERTS, TABLES, Claim, Table, direction
from signer_jax.reproduction.scored import (
    Difference,
    Scored,
    difference,
    of_means,
    of_texts,
    over_seeds,
    read,
    value,
    write,
)

NAMES = [str(k) for k in range(8)]
TEXTS = [f"the house number {k} is old and grey" for k in range(8)]


def clips(*values: float) -> Scored:
    return of_means({"dev/ssim": [[v] for v in values]}, NAMES[: len(values)])


def test_figures_are_those_of_the_corpus():
    said = [text.replace("old", "new") if k % 3 else text for k, text in enumerate(TEXTS)]
    one = of_texts("dev", said, TEXTS, NAMES)
    bleu = text_metrics.bleu(said, TEXTS)
    for order in (1, 4):
        assert value(one, f"dev/bleu{order}") == pytest.approx(bleu[f"bleu{order}"])
    assert value(one, "dev/rouge") == pytest.approx(text_metrics.rouge_l(said, TEXTS))
    assert np.isnan(value(one, "test/bleu4")) and np.isnan(value(one, "dev/ssim"))
    two = of_means({"dev/ssim": [[1.0, 0.0], [0.5, float("nan")]]}, NAMES[:2])
    assert value(two, "dev/ssim") == 0.5  # over values, not over clips


def test_seeds_have_a_mean_and_a_deviation():
    mean = over_seeds([clips(0.2), clips(0.4), clips(0.6)], "dev/ssim")
    assert mean is not None and (mean.mean, mean.deviation) == pytest.approx((0.4, 0.2))
    alone = over_seeds([clips(0.2)], "dev/ssim")
    assert alone is not None and np.isnan(alone.deviation)
    assert over_seeds([clips(0.2)], "dev/fid") is None and over_seeds([], "dev/ssim") is None


def test_a_difference_is_paired_and_a_row_without_seeds_stands_beside_each():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 1, 8)  # clips differ much more than the systems do
    apart = difference([clips(*(low + 0.1)), clips(*(low + 0.12))], [clips(*low)], "dev/ssim")
    assert apart is not None and apart.each == pytest.approx((0.1, 0.12)) and apart.mean == pytest.approx(0.11)
    assert apart.low == pytest.approx(0.11) and apart.high == pytest.approx(0.11)
    few = difference([clips(0.1, 0.2)], [clips(0.0, 0.3)], "dev/ssim")
    assert few is not None and np.isnan(few.low)  # of two clips there is no interval
    assert difference([clips(0.1)], [], "dev/ssim") is None
    assert difference([clips(0.1)] * 3, [clips(0.1)] * 2, "dev/ssim") is None
    others = of_means({"dev/ssim": [[0.1]] * 8}, [f"other {k}" for k in range(8)])
    unpaired = difference([clips(*low)], [others], "dev/ssim")
    assert unpaired is not None and np.isnan(unpaired.low)


@pytest.mark.parametrize(
    ("each", "low", "high", "sign", "says"),
    [
        ((1.0, 2.0, 3.0), 0.5, 3.5, 1, HOLDS),
        ((1.0, 2.0, 3.0), 0.5, 3.5, -1, FAILS),
        ((-1.0, -2.0), -3.0, -0.1, -1, HOLDS),
        ((1.0, -2.0, 3.0), 0.5, 3.5, 1, OPEN),  # the seeds do not agree
        ((1.0, 2.0, 3.0), -0.5, 3.5, 1, OPEN),  # the interval has 0 in it
        ((1.0, 2.0, 3.0), np.nan, np.nan, 1, HOLDS),
        ((1.0, 2.0), np.nan, np.nan, 1, OPEN),  # no interval, and few seeds
        ((0.0,), 0.0, 0.0, 1, OPEN),
    ],
)
def test_a_claim_is_judged_by_seeds_and_interval(each, low, high, sign, says):
    assert judged(Difference(each, float(np.mean(each)), low, high), sign)[0] == says


def test_what_was_not_scored_cannot_be_told_and_one_training_is_said():
    assert judged(None, 1)[0] == OPEN
    assert judged(Difference((1.0,), 1.0, 0.5, 1.5), 1) == (HOLDS, "of one training")


TABLE = Table(
    "A table", ("dev/ssim",), {"old": {"dev/ssim": 0.8}, "new_1": {"dev/ssim": 0.9}}, ("a", "b"),
    (Claim(("new_1", "old"), ("b", "a"), ("dev/ssim",), "b stands for it"),), extra=("dev/fid",), note="A note.",
)  # fmt: skip
ROWS = {"a": [clips(*np.full(8, 0.5))], "b": [clips(*np.full(8, 0.6)), clips(*np.full(8, 0.7))]}


def test_the_words_are_made_of_the_figures():
    (found,) = verdicts(TABLE, ROWS)
    assert found.said == HOLDS
    assert found.text == (
        "new_1 above old in SSIM (dev): the paper's +0.100; here “b” less “a” (b stands for it): "
        "+0.150 [+0.150, +0.150] (seeds +0.100, +0.200). It holds here."
    )
    (other,) = verdicts(TABLE, {"a": ROWS["b"], "b": ROWS["a"]})
    assert other.said == FAILS and "-0.150" in other.text
    assert claims.summary([found]).startswith(
        "Comparisons here: 1, of 1 differences in the paper's figures. 1 hold, 0 are the other way round, 0 cannot"
    )


def test_the_best_baseline_is_found_figure_by_figure():
    claim = Claim(("new_1", "old"), ("b", "a"), ("dev/ssim", "dev/fid"), best_of=("a", "c"))
    scored = {"a": [clips(0.2).joined(Scored(values={"dev/fid": 1.0}))],
              "c": [clips(0.3).joined(Scored(values={"dev/fid": 2.0}))]}  # fmt: skip
    assert [claims.beside(claim, figure, scored) for figure in claim.figures] == ["c", "a"]
    assert claims.beside(claim, "dev/hand_ssim", scored) == "a"


def test_what_is_no_better_than_the_floor_stands_for_nobody():
    """Anything is above a stand-in that reads as the floor does."""
    claim = replace(TABLE.claims[0], floor="floor")
    table, noise = replace(TABLE, claims=(claim,)), [0.0, 0.02, -0.02, 0.01, -0.01, 0.02, -0.02, 0.0]
    scored = {**ROWS, "floor": [clips(*(np.array(noise) + 0.5))]}
    (found,) = verdicts(table, scored)
    assert found.said == OPEN and "“a” is not told from “floor”: +0.000 [-0.0" in found.text
    (found,) = verdicts(table, {**ROWS, "floor": [clips(*(np.array(noise) + 0.3))]})
    assert found.said == HOLDS


def test_curves_are_judged_by_where_they_end():
    """Three seeds that agree, or nothing is told: there is no interval."""
    ends = lambda *values: [Scored(values={"dev/dtw_to_nearest": one}) for one in values]  # noqa: E731
    table = paper.CURVES["figure6"]
    for without, said in (((0.6, 0.7, 0.8), HOLDS), ((0.6, 0.7, 0.2), OPEN), ((0.1, 0.2, 0.1), FAILS)):
        (found,) = verdicts(table, {rows.MOE: ends(0.5, 0.5, 0.5), rows.SAGM: ends(*without)})
        assert found.said == said


def test_without_a_difference_few_clips_seldom_show_one():
    """The interval of eight clips leaves 0 out in one of twenty draws, the bootstrap's in one of eight."""
    rng = np.random.default_rng(1)
    told = 0
    for _ in range(400):
        a, b = rng.normal(0.6, 0.1, (2, 8))
        found = difference([clips(*a)], [clips(*b)], "dev/ssim")
        assert found is not None
        told += not found.low <= 0 <= found.high
    assert 0.02 < told / 400 < 0.09
    apart = a - b
    half = 2.364624 * apart.std(ddof=1) / np.sqrt(8)  # Student's t, 7 degrees of freedom
    assert (found.low, found.high) == pytest.approx((apart.mean() - half, apart.mean() + half))


def test_from_text_stands_beside_the_papers_videos():
    (claim,) = TABLES["table6"].claims
    assert all("/text_" in figure for figure in claim.figures)  # no gate touches a video of a true pose
    assert paper.reported(claim, "dev/text_ssim", TABLES["table6"]) == (0.892, 0.872)


def test_a_point_is_made_once_a_quarter_whatever_the_steps():
    assert [quarter(k / 10) for k in range(11)] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4]
    assert [quarter(k / 180) for k in (44, 45, 135, 180)] == [0, 1, 3, 4]


def test_a_quarters_point_takes_the_place_of_an_older_one(tmp_path):
    for share, dtw in ((0.3, 3.0), (0.5, 2.0), (0.25, 1.0)):
        keep(tmp_path / "c" / "a.json", Point("slul", share, dtw))
    assert [(one.share, one.dtw) for one in points(tmp_path / "c" / "a.json")] == [(0.25, 1.0), (0.5, 2.0)]


def test_a_table_is_written_four_times(tmp_path):
    written.write(tmp_path, "table9", TABLE, ROWS, {"seeds": "0, 1"})
    lines = (tmp_path / "table9.md").read_text().splitlines()
    assert "| new_1 | the paper | 0.900 | – |" in lines and "| b | here | 0.650 ± 0.071 | – |" in lines
    assert "Comparisons here: 1, of 1 differences" in "\n".join(lines) and "seeds: 0, 1" in lines
    said = written.claims_in(tmp_path, "table9").splitlines()
    assert said[0].startswith("Comparisons here: 1") and said[-1].endswith("It holds here.") and len(said) == 3
    assert written.claims_in(tmp_path, "table8") == ""
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table9.csv").read_text())))
    assert [row["of"] for row in rows] == ["paper", "paper", "here", "here", "fact", "fact"]
    assert [(row["row"], row["said"], row["value"]) for row in rows[4:]] == [
        ("note", TABLE.note, ""),
        ("seeds", "0, 1", ""),
    ]
    assert float(rows[3]["value"]) == pytest.approx(0.65) and rows[3]["seeds"] == "2"
    tex = (tmp_path / "table9.tex").read_text()
    assert tex.index("seeds: 0, 1") > tex.index(r"\end{tabular}") and "seeds" in (tmp_path / "table9.html").read_text()
    assert r"new\_1 & 0.900 & -- \\" in tex and r"$\pm$ 0.071" in tex and tex.count("\\midrule") == 2
    page = (tmp_path / "table9.html").read_text()
    assert "0.650 ± 0.071" in page and "It holds here." in page


def test_each_figure_of_a_table_says_what_it_depends_on():
    """But FID and Hand Pose, which are not scored, and the text's, which the facts have of themselves."""
    settings = configuration.load("reproduce")
    known: dict[str, str] = {}
    for table in (*TABLES.values(), EXPERTS):
        known |= depends.signatures(written.columns(table), settings)
    titled = {paper.TITLES[figure.partition("/")[2]] for table in (*TABLES.values(), EXPERTS)
              for figure in written.columns(table)}  # fmt: skip
    without = titled - {name.removesuffix(" signature") for name in known}
    assert without == {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "Hand Pose", "FID"}
    assert known["SSIM signature"].startswith("window:gaussian-11|sigma:1.5|range:255|over:rgb")
    assert known["Hand SSIM signature"].startswith("crop:15|")  # 60 of 256, of 64 pixels
    assert known["DTW signature"].startswith("joints:74|dims:2|hands:x3|norm:median-shoulders|fill:1-")
    assert all("|version:" in said for said in known.values())


def test_the_papers_own_text_agrees_with_the_figures():
    """Its gains in Table 3 and 4 are those of its rows."""
    three, four = TABLES["table3"].rows, TABLES["table4"].rows
    for better, worse, figure, gain in (
        (three["Stable Signer"], three["Fast-SLP Transformers"], "dev/bleu4", 48.6),
        (three["Stable Signer"], three["Fast-SLP Transformers"], "test/bleu4", 63.7),
        (three["Stable Signer"], three["Fast-SLP Transformers"], "test/rouge", 39.2),
        (four["Stable Signer"], four["SignLLM"], "dev/bleu4", 38.9),
        (four["Stable Signer"], four["SignLLM"], "test/rouge", 23.5),
    ):
        assert 100 * (better[figure] / worse[figure] - 1) == pytest.approx(gain, abs=0.5)
    six = TABLES["table6"].rows
    assert 100 * (1 - six["Stable Signer"]["dev/hand_pose"] / six["Stable Signer (No SLP-MoE)"]["dev/hand_pose"]) == (
        pytest.approx(8.1, abs=0.1)
    )


def test_every_claim_names_rows_and_figures_that_there_are():
    for table in (*TABLES.values(), EXPERTS):
        for claim in table.claims:
            assert set(claim.of) <= set(table.ours)
            assert set(claim.figures) <= {*table.figures, *table.extra}
            if table.rows:
                assert set(claim.rows) <= table.rows.keys()
        assert all(set(figures) <= set(table.figures) for figures in table.rows.values())
        assert all(figure.partition("/")[2] in paper.TITLES for figure in written.columns(table))
    # The paper's SAGM row is below its SLUL row on test, whatever its text says.
    sagm = next(claim for claim in TABLES["table2"].claims if claim.rows[0] == "SLUL + SAGM Loss")
    assert direction(sagm, "dev/bleu4", TABLES["table2"]) == 1
    assert direction(sagm, "test/bleu4", TABLES["table2"]) == -1
    assert direction(EXPERTS.claims[0], "dev/dtw_to_nearest", EXPERTS) == -1


def test_a_score_is_read_back_and_another_ones_is_not(tmp_path):
    file, one = tmp_path / "scores" / "a.json", of_texts("dev", TEXTS[:3], TEXTS[:3], NAMES[:3])
    one = one.joined(Scored(values={"dev/frechet_cells": 2.5}, notes={"dev": "3 sentences, 0 not signed"}))
    write(file, one, "this")
    found = read(file, "this")
    assert found is not None and value(found, "dev/bleu4") == pytest.approx(100) and found.names == one.names
    assert value(found, "dev/frechet_cells") == 2.5 and found.notes == one.notes
    assert read(file, "that") is None and read(tmp_path / "none.json", "this") is None
    file.write_text(file.read_text().replace('"dev/text": [', '"dev/text": ["x", ', 1))
    with pytest.raises(SignerError, match="is damaged .*remove it to score anew"):
        read(file, "this")


def test_a_plot_has_its_curves_and_its_words():
    curve = plots.Curve([(0.0, 1.0), (0.5, 0.4), (1.0, 0.2)], [(0.9, 1.1), (0.3, 0.5), (0.1, 0.3)])
    panels = [plots.Panel("A & B", "step", "loss", {"x < y": curve, "b": plots.Curve([(0.0, 0.5)], dashed=True)})]
    drawn = plots.svg(panels)
    assert "A &amp; B" in drawn and "x &lt; y" in drawn and drawn.count("<polygon") == 1 and "dasharray" in drawn
    assert plots.png(panels)[:4] == b"\x89PNG"
    assert plots.ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert not re.search("nan|inf", plots.svg([plots.Panel("empty", "", "", {})]))


def test_each_row_has_a_file_of_its_own(tmp_path):
    shop = SimpleNamespace(folder=tmp_path)
    assert len({making.score_file(shop, row, 0) for row in making.RUNS}) == len(making.RUNS)
