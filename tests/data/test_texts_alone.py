"""`signer prepare --video none --poses none`: a dataset's texts, whatever videos and poses lie beside them."""

import json
from pathlib import Path

import pytest
from filmed import even, film

from signer_jax.cli.main import main
from signer_jax.data.datasets import csl_daily, how2sign, phoenix14t, prompt2sign
from signer_jax.data.prepared import work

_WEATHER = "name|video|start|end|speaker|orth|translation\n"
_HOW2SIGN = "VIDEO_NAME\tSENTENCE_NAME\tSTART_REALIGNED\tEND_REALIGNED\tSENTENCE\n"
# Of each dataset its table of four samples, and files of the first of them, of which the others have none.
_COPIES = {
    "how2sign": (
        {"how2sign_realigned_train.csv": _HOW2SIGN
         + "".join(f"v-5-rgb_front\tv_{i}-5-rgb_front\t{i}\t{i + 1}\tsay {i}\n" for i in range(4))},
        ("sentence_level/train/rgb_front/raw_videos/v_0-5-rgb_front.mp4",
         "sentence_level/train/rgb_front/raw_videos/in_no_row-5-rgb_front.mp4"),
    ),
    "phoenix14t": (
        {"PHOENIX-2014-T.train.corpus.csv": _WEATHER + "".join(f"w-{i}|x|-1|-1|S|REGEN|regen {i}\n" for i in range(4))},
        ("features/fullFrame-210x260px/train/w-0.mp4",),
    ),
    "csl_daily": (
        {"video_map.txt": "index|name|length|gloss|char|word|postag\n"
         + "".join(f"{i}|S{i}|9|你 好|你 好|你好|n\n" for i in range(4)),
         "split_1.txt": "name|split\n" + "".join(f"S{i}|train\n" for i in range(4))},
        ("frames_512x512/S0/000.jpg", "frames_512x512/S1/notes.txt"),
    ),
    "prompt2sign": (
        {"train.text": "one\ntwo\nthree\nfour\n", "train.skels": "0\n\n\n0\n"},
        ("train_results/clip/results_dwpose/json/0.json",),
    ),
    "folder": (
        {"samples.csv": "name,video,pose,text,gloss\n"
         + "".join(f"c{i},c{i}.mp4,c{i},hello {i},HI\n" for i in range(4))},
        ("c0.mp4", "c0/0.json"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("dataset", _COPIES)
def test_rows_keep_their_texts(dataset, tmp_path):
    tables, media = _COPIES[dataset]
    source = tmp_path / "source"
    for name, content in {**tables, **dict.fromkeys(media, "no video and no pose")}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    words = ["prepare", dataset, "--source", str(source), "--out", str(tmp_path / "set")]
    assert main([*words, "--video", "none", "--poses", "none"]) == 0
    report = json.loads((tmp_path / "set" / "report.json").read_text())
    count = report["counts"]["train"]
    assert (count["items"], count["kept"], count["texts"]) == (4, 4, 4) and not report["left_out"]
    if dataset != "prompt2sign":  # whose German part alone has some
        assert count["glossed"] == (0 if dataset == "how2sign" else 4)
    words[-1] = str(tmp_path / "asked")
    main([*words, "--video", "none"])  # but poses
    assert json.loads((tmp_path / "asked" / "report.json").read_text())["counts"]["train"]["left_out"] >= 3


def test_what_has_no_text_is_told_all_the_same(tmp_path, monkeypatch):
    """Clips of a split without a table are no texts, and not read."""
    monkeypatch.setattr(work, "checksum", lambda path: pytest.fail(f"{path} is read"))
    (tmp_path / "source/sentence_level/train/rgb_front/raw_videos").mkdir(parents=True)
    film(tmp_path / "source/sentence_level/train/rgb_front/raw_videos/v_0-5-rgb_front.mp4", even(9))
    (tmp_path / "source/how2sign_val.csv").write_text(_HOW2SIGN.replace("_REALIGNED", "") + "v\tv_1\t0\t1\tsay it\n")
    words = ["prepare", "how2sign", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "set")]
    assert main([*words, "--video", "none", "--poses", "none"]) == 0
    report = json.loads((tmp_path / "set" / "report.json").read_text())
    assert report["counts"]["dev"]["kept"] == 1
    assert [(one["name"], one["reason"]) for one in report["left_out"]] == [
        ("v_0-5-rgb_front", "no text, pose or video")
    ]


@pytest.mark.parametrize("reader", [how2sign, phoenix14t, csl_daily, prompt2sign])
def test_no_file_of_a_sample_is_looked_for(reader, tmp_path):
    """In a bucket each one would be fetched, to know its checksum."""
    tables, media = _COPIES[reader.__name__.rpartition(".")[2]]
    for name, content in {**tables, **dict.fromkeys(media, "x")}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = list(reader.items(tmp_path, "train", media=False))
    assert [(one.video, one.pose, bool(one.text)) for one in found] == [(None, None, True)] * 4
    assert list(reader.items(Path(tmp_path), "train")) != found
