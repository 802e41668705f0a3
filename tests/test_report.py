"""The report: self-contained, escaped, whole or absent, and its curves where the numbers say."""

import base64
import io
import re
import stat
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from signer_jax import report, showcase, storage
from signer_jax.errors import SignerError
from signer_jax.evaluation.videos import BASELINES
from signer_jax.showcase import TARGETS, by_signer

VOID = {"meta", "img", "br", "link", "line", "circle", "path"}
HOSTILE = "<script>alert(1)</script> \" onload='x' &amp;"


class Page(HTMLParser):
    """Tags with their attributes, the texts, and a check that every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def png(shade=7):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(range(32))


def written(tmp_path, **parts):
    path = tmp_path / "report.html"
    report.write(path, title=parts.pop("title", "a run"), **parts)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    return text, page


def test_page_holds_everything_and_loads_nothing(tmp_path):
    text, page = written(
        tmp_path,
        tables=[("scores", ["system", "BLEU-4"], [["ours", 25.554]], "a note")],
        curves=[("loss", {"train": [(0, 3.0), (10, 1.0)]})],
        pictures=[("a picture", png())],
        videos=[("a video", MP4)],
        facts={"device": "CPU", "steps": 100},
    )
    sources = [a["src"] for _, a in page.tags if "src" in a]
    assert base64.b64decode(sources[0].removeprefix("data:video/mp4;base64,")) == MP4
    assert base64.b64decode(sources[1].removeprefix("data:image/png;base64,")) == png()
    assert len(sources) == 2
    assert not re.search(r"https?:|url\(|@import|href=", text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "default-src 'none'" in page.all("meta")[1]["content"]
    for shown in ("a run", "scores", "25.55", "a note", "loss", "a picture", "a video", "device", "CPU", "100"):
        assert shown in page.texts


def test_every_text_is_escaped(tmp_path):
    _, page = written(
        tmp_path,
        title=HOSTILE,
        tables=[(HOSTILE, [HOSTILE], [[HOSTILE]], HOSTILE)],
        curves=[(HOSTILE, {HOSTILE: [(0, 1.0), (1, 2.0)]})],
        pictures=[(HOSTILE, png())],
        videos=[(HOSTILE, MP4)],
        facts={HOSTILE: HOSTILE},
    )
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert page.all("img")[0]["alt"] == HOSTILE
    # Title, heading, 2 of the facts, 4 of the table, curve's caption, series and legend, picture, video.
    assert sum(text.strip() == HOSTILE for text in page.texts) == 13


def test_numbers_in_tables(tmp_path):
    row = ["x", 12.345, 0.12345, float("nan"), None, np.float32(3), 7, -1.5, 2.5e-5, np.float64(1.0), True]
    _, page = written(tmp_path, tables=[("t", [f"c{i}" for i in range(11)], [row], "")])
    cells = page.texts[page.texts.index("x") :]
    shown = ["x", "12.35", "0.123", "–", "–", "3.00", "7", "−1.50", "2.50e−05", "1.00", "True"]
    assert [cell for cell in cells if cell.strip()][:11] == shown
    numeric = ["number" in cell.get("class", "") for cell in page.all("td")]
    assert numeric == [False, True, True, True, False, True, True, True, True, True, False]


def test_arrays_of_no_dimension_are_numbers(tmp_path):
    _, page = written(tmp_path, tables=[("t", ["loss"], [[np.array(0.25)]], "")], facts={"dtw": np.array(1.5)})
    assert "0.250" in page.texts and "1.50" in page.texts


def test_curve_passes_through_its_points(tmp_path):
    _, page = written(tmp_path, curves=[("loss", {"a": [(0, 0.0), (50, 5.0), (100, 10.0)]})])
    (path,) = (a["d"] for a in page.all("path"))
    (x0, y0), (x1, y1), (x2, y2) = ((float(v) for v in p.split(",")) for p in path[1:].split("L"))
    assert x0 < x1 < x2 and y0 > y1 > y2  # to the right and up
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1) and y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    view = page.all("svg")[0]["viewbox"].split()
    assert x0 > 0 and x2 < float(view[2]) and y2 > 0 and y0 < float(view[3])


def test_curve_breaks_at_values_that_are_not_finite(tmp_path):
    values = [(0, 1.0), (1, 2.0), (2, float("nan")), (3, 2.0), (4, float("inf")), (5, 1.0), (6, 1.0)]
    text, page = written(tmp_path, curves=[("loss", {"a": values, "empty": []}), ("none", {"b": [(0, float("nan"))]})])
    assert len(page.all("path")) == 2  # 0-1 and 5-6
    assert len(page.all("circle")) == 1  # 3
    assert "No values." in page.texts
    assert "nan" not in text.split("</style>")[1].lower().replace("finance", "")


def test_long_curves_are_thinned_without_losing_a_spike(tmp_path):
    values = [(i, 1.0 + 0.001 * (i % 7)) for i in range(20_000)]
    values[12_345] = (12_345, 100.0)
    _, page = written(tmp_path, curves=[("loss", {"a": values})])
    heights = [float(p.split(",")[1]) for p in page.all("path")[0]["d"][1:].split("L")]
    assert len(heights) < 1000
    assert min(heights) < 30 and sorted(heights)[1] > 200


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-9, 1e12])
def test_flat_curves_and_odd_scales_have_distinct_ticks(tmp_path, value):
    _, page = written(tmp_path, curves=[("flat", {"a": [(0, value), (1, value)]})])
    marks = [text for text in page.texts if text.strip()][-12:]
    assert len(page.all("path")) == 1
    y = [a["y1"] for a in page.all("line") if a["class"] == "grid"]
    assert len(set(y)) == len(y) >= 2, marks


def test_bad_parts_are_refused_and_leave_the_old_report(tmp_path):
    written(tmp_path, title="old")
    with pytest.raises(SignerError, match="'clip'"):
        report.write(tmp_path / "report.html", title="new", videos=[("clip", b"no video")])
    with pytest.raises(SignerError, match="2 columns but a row of 1"):
        report.write(tmp_path / "report.html", title="new", tables=[("t", ["a", "b"], [["x"]], "")])
    assert "<title>old</title>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_nothing_is_left_when_writing_fails(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", full)
    with pytest.raises(SignerError, match="cannot be written .no space left"):
        report.write(tmp_path / "report.html", title="x")
    assert list(tmp_path.iterdir()) == []


def test_file_is_readable_by_others_as_the_umask_says(tmp_path):
    written(tmp_path)
    (tmp_path / "plain").write_text("")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("report.html", "plain")}
    assert len(modes) == 1


def test_videos_have_the_whole_width_and_pictures_share_it(tmp_path):
    path = tmp_path / "report.html"
    report.write(path, title="a run", videos=[("sign", MP4)], pictures=[("pose", png())])
    text = path.read_text(encoding="utf-8")
    films, media = text.index('<div class="films">'), text.index('<div class="media">')
    assert films < text.index("<video") < media < text.index("<img")
    assert "grid-template-columns" in re.search(r"\.media {[^}]*}", text)[0]
    assert "grid-template-columns" not in re.search(r"\.films {[^}]*}", text)[0]


def test_each_signer_stands_beside_the_mean():
    metrics = {
        "gloss/bleu4": 1.0, "pose/dtw_top": 0.5, "pose/dtw_top/ann": 0.25, "pose/dtw_top/bea": 0.75,
        "video/ssim": 0.6, "video/bea/ssim": 0.6, "pose/dtw_top/bea_unscored": 2.0,
    }  # fmt: skip
    header, rows = by_signer(metrics)
    assert header == ["figure", "mean", "ann", "bea"]
    assert rows == [("pose/dtw_top", 0.5, 0.25, 0.75), ("video/ssim", 0.6, None, 0.6)]
    assert by_signer({"pose/dtw_top": 0.5, "pose/dtw_top/ann": 0.5})[1] == []


def test_the_table_says_how_many_were_scored():
    metrics = {"pose/sentences": 120.0, "video/clips": 8.0, "video_unseen/clips": 2.0, "video/ssim": 0.9}
    assert showcase.counted(metrics) == ("120 sentences for poses, 8 clips, 2 clips of signers that training never saw")


def test_every_label_says_what_it_is_measured_against():
    names = [name for _, name, _ in TARGETS]
    assert len(set(names)) == len(names)
    labels = {name: (label, goal) for label, name, goal in TARGETS}
    assert all("%" in label for name, (label, _) in labels.items() if name.startswith("gloss/bleu"))
    # What a still picture, noise or a constant choice reaches stands beside each figure that it reaches.
    for row in ("video/sharpness_untrained", "video/detail_untrained", "video/flicker_nearest_pose",
                "pose/expert_accuracy_constant", "pose/form_accuracy_constant", "pose/text_dtw_shuffled",
                "pose/expert_accuracy_word_counts", "pose/form_accuracy_nearest_text",
                "pose/text_dtw_nearest_text", "pose/text_dtw_failed"):  # fmt: skip
        assert row in labels
    # An untrained renderer shows a blur.
    assert all("blur" in labels[f"video/{kind}_untrained"][1] for kind in ("sharpness", "detail"))
    # Whatever is compared with baselines is compared with all of them, and they are counted rightly.
    for kind in ("ssim", "hand_ssim", "detail"):
        assert all(f"video/{kind}{baseline}" in labels for baseline in BASELINES)
        assert "above the five baselines" in labels[f"video/{kind}"][1] and len(BASELINES) == 5
    assert {"video/sharpness_composite", "video/flicker_composite"} <= labels.keys()
    assert "signer" in labels["pose/expert_accuracy"][0] and "form" in labels["pose/form_accuracy"][0]
    assert "true poses" in showcase.MEASURED and "truth's poses" in labels["video/ssim"][1]
