"""`signer data`: the figures of a prepared set, and its page, as a browser shows it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from data import test_prepare
from PIL import Image

from signer_jax.cli.main import main
from signer_jax.data import video
from signer_jax.data.prepared import layout, looking

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Ten clips of two signers in two splits: with a pose and a video, one of them alone, or a text alone."""
    folder = tmp_path_factory.mktemp("own") / "source"
    folder.mkdir()
    rows = ["name,split,video,pose,text,gloss,language,spoken,signer"]
    for i in range(9):
        split = "dev" if i > 6 else "train"
        named = [f"{i}.mp4" if i != 1 else "", f"{i}.pose" if i != 2 else ""]
        if named[0]:
            test_prepare.film(
                folder / named[0], test_prepare.even(12 + 25 * (i == 4)), size=(96, 128), corner=40 * i % 255
            )
        if named[1]:
            test_prepare.posed(folder / named[1], 12 + 25 * (i == 4))
        gloss = "TEXT <b>" if i else ""
        rows.append(f'c{i},{split},{",".join(named)},"text {"very " * i}<i>long</i>",{gloss},ase,en,{"ab"[i % 2]}')
    rows += ["t,train,,,only words,ONLY WORDS,gsg,de,", "gone,train,gone.mp4,,x,X,ase,en,a"]
    (folder / "samples.csv").write_text("\n".join(rows) + "\n")
    out = folder.parent / "set"
    assert main(["prepare", "folder", "--source", str(folder), "--out", str(out), "--prompts", "1"]) == 0
    return out


def test_the_figures_are_those_of_the_rows(prepared):
    found = looking.figures(layout.PreparedSet(prepared))
    assert found["splits"]["train"]["kept"] == 8 and found["splits"]["train"]["prompts"] == 8
    assert found["hours"]["train"] == pytest.approx((7 * 12 + 25) / 25 / 3600)
    by = {(row["split"], row["language"]): row for row in found["by_language"]}
    assert by["train", "gsg"]["samples"] == 1 and by["train", "ase"]["glosses"] == 6 * 2
    signers = {(row["split"], row["signer"]): row["samples"] for row in found["by_signer"]}
    assert signers == {("train", "a"): 4, ("train", "b"): 3, ("train", "not said"): 1, ("dev", "a"): 1, ("dev", "b"): 1}
    histograms = found["histograms"]
    assert histograms["seconds"] == {"bins": ["0 – 1", "1 – 2"], "counts": {"train": [6, 1], "dev": [2, 0]}}
    words = histograms["words of a text"]
    assert words["bins"][:3] == ["2 – 3", "4 – 5", "6 – 7"] and sum(words["counts"]["train"]) == 8
    assert words["counts"]["train"][words["bins"].index("2 – 3")] == 3  # "text long", "text very long", "only words"
    assert histograms["frames a second of videos"] == {"bins": ["25"], "counts": {"train": [6], "dev": [2]}}
    assert histograms["glosses by"]["counts"]["train"] == [7, 1]


def test_many_signers_are_one_bar():
    counts = {"train": {f"{i:03d}": 100 - i for i in range(40)}}
    from collections import Counter

    made = looking._histogram("signers", {split: Counter(one) for split, one in counts.items()})
    assert len(made["bins"]) == 16 and made["bins"][-1] == "25 others" and made["bins"][0] == "000"
    assert sum(made["counts"]["train"]) == sum(counts["train"].values())


def test_the_video_is_beside_its_skeleton(prepared):
    one = layout.PreparedSet(prepared)
    seen = {}
    for split, file, at in looking._places(one, layout.MOTION, 100, layout.read_motion):
        motion = file[at]
        frames = [frame for _, frame in video.frames_of("x", looking.animation(motion))]
        seen[motion.sample.name] = (split, len(frames), frames[0].shape[:2])
    assert len(seen) == 9
    side = looking._SIDE
    assert seen["c0"] == ("train", 12, (side, 2 * side)) and seen["c4"] == ("train", 37, (side, 2 * side))
    assert seen["c1"][2] == seen["c2"][2] == (side, side)
    assert [split for split, *_ in looking._places(one, layout.MOTION, 4, bytes)].count("dev") == 2


def test_the_command_writes_a_page_and_its_figures(prepared, tmp_path, capsys):
    words = ["data", str(prepared), "--out", str(tmp_path / "page.html"), "--json", str(tmp_path / "f.json")]
    assert main([*words, "--samples", "4"]) == 0
    said = capsys.readouterr().out
    assert "seconds: 0 – 1 (8), 1 – 2 (1)" in said and "page.html: its figures and samples" in said
    assert "kept otherwise: no pose, which others of its split have: 2 samples" in said
    assert "shared by train and dev: the same signer: at least 2, in samples: 7 of train and 2 of dev" in said
    page = (tmp_path / "page.html").read_text()
    assert page.count("<video ") == 4 and "&lt;i&gt;long" in page and "<i>long" not in page and "no video file" in page
    assert not re.search(r"https?:|<script", page)
    assert json.loads((tmp_path / "f.json").read_text())["hours"].keys() == {"train", "dev"}
    assert main(["data", str(prepared)]) == 0 and (prepared / "data.html").is_file()
    layout.PreparedSet(prepared)  # still whole
    for wrong, what in ((["data", str(tmp_path)], "prepared set"), ([*words[:3], str(tmp_path)], "is a folder"),
                        ([*words, "--samples", "101"], "give 0 to 100")):  # fmt: skip
        assert main(wrong) == 2 and what in capsys.readouterr().err


def test_texts_alone_are_shown_as_texts(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "samples.csv").write_text(
        "name,text,gloss,language\na,one two,ONE TWO,ase\nb,three,THREE,ase\n"
    )
    out = str(tmp_path / "set")
    assert main(["prepare", "folder", "--source", str(tmp_path / "source"), "--out", out]) == 0
    assert main(["data", out]) == 0
    page = (tmp_path / "set" / "data.html").read_text()
    assert "Some texts" in page and "ONE TWO" in page and "<video" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_all_of_it(prepared, tmp_path):
    assert main(["data", str(prepared), "--out", str(tmp_path / "page.html"), "--samples", "4"]) == 0
    shots = {}
    for width in (1200, 420):
        shot = tmp_path / f"{width}.png"
        words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                 f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},2400", f"--screenshot={shot}",
                 "--virtual-time-budget=3000", (tmp_path / "page.html").as_uri()]  # fmt: skip
        subprocess.run(words, check=True, capture_output=True, timeout=120)
        shots[width] = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    wide = shots[1200]
    assert wide.shape[:2] == (2400, 1200)
    # The grey of a film, and the colours of a skeleton on black beside it.
    assert ((wide == 128).all(-1) | (abs(wide - 128).max(-1) < 4)).mean() > 0.01
    assert (wide.max(-1) < 8).mean() > 0.01
    # Bars in the first series' colour; nothing is wider than a telephone.
    assert (wide == (0x2F, 0x6F, 0xDE)).all(-1).mean() > 1e-4
    edge = shots[420][:, -3:]
    assert (abs(edge - edge[0, 0]).max(-1) < 3).mean() > 0.99
