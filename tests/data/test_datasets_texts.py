"""PHOENIX14T, CSL-Daily and ASLG-PC12 in miniature: tables, frames, pickles as data, parallel texts."""

import os
import pickle
from collections import Counter
from pathlib import Path

import pytest

from signer_jax.data.datasets import aslg_pc12, csl_daily, phoenix14t
from signer_jax.data.datasets.item import Item, Left
from signer_jax.errors import SignerError

DATA = os.environ.get("SIGNER_DATA")


def write(path: Path, content: bytes | str = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def found(module, folder: Path, split: str = "train") -> tuple[list[Item], list[Left]]:
    got = list(module.items(folder, split))
    return [one for one in got if isinstance(one, Item)], [one for one in got if isinstance(one, Left)]


# ---- PHOENIX14T ------------------------------------------------------------------------------------------------------

HEADER = "name|video|start|end|speaker|orth|translation\n"


def phoenix(folder: Path, *rows: str, split: str = "train") -> None:
    write(
        folder / f"annotations/manual/PHOENIX-2014-T.{split}.corpus.csv", HEADER + "".join(row + "\n" for row in rows)
    )


def weather(name: str, glosses: str = "JETZT WETTER", text: str = 'nun "das wetter .') -> str:
    return f"{name}|{name}/1/*.png|-1|-1|Signer08|{glosses}|{text}"


@pytest.mark.parametrize("release", [".", "PHOENIX-2014-T-release-v3/PHOENIX-2014-T"])
def test_phoenix_as_released(tmp_path, release):
    home = tmp_path / release
    phoenix(home, weather("a-1"), weather("a-2"), weather("a-3"), weather("a-4"), weather("a-5"))
    phoenix(home, weather("b-1"), split="dev")
    frames = home / "features/fullFrame-210x260px/train"
    write(frames / "a-1/images0001.png")
    write(frames / "a-2/1/images0001.png")
    write(frames / "a-3.mp4")
    write(frames / "a-4/notes.txt")
    assert phoenix14t.splits(tmp_path) == ["train", "dev"]
    items, left = found(phoenix14t, tmp_path)
    assert [one.video for one in items] == [frames / "a-1", frames / "a-2/1", frames / "a-3.mp4"]
    assert [one.fps for one in items] == [25.0, 25.0, None]
    one = items[0]
    assert (one.name, one.text, one.glosses, one.glosses_by) == (
        "a-1",
        'nun "das wetter .',
        ("JETZT", "WETTER"),
        "human",
    )
    assert (one.signer, one.language, one.spoken) == ("Signer08", "gsg", "de")
    assert {one.name: one.reason for one in left} == {"a-4": "empty folder of frames", "a-5": "no folder of frames"}
    assert found(phoenix14t, tmp_path, "dev")[0][0].video is None  # of this split there are no frames at all


def test_phoenix_as_a_table_of_tabs_with_faults(tmp_path):
    rows = [
        'dev/a\tSigner01\tDRUCK TIEF\ttiefer "druck', "dev/a\tSigner01\tB\tb", "dev/c\tSigner01\t\tb",
        "dev/d\tSigner01\tD\t", "", "dev/e\tSigner01", "dev/f\tSigner01\tF\tf\x07",
    ]  # fmt: skip
    write(tmp_path / "phoenix14t.dev.tsv", "\ufeff" + "\r\n".join(["name\tsigner\tgloss\ttext", *rows]))
    (one,), left = found(phoenix14t, tmp_path, "dev")
    assert (one.name, one.text, one.came_from) == ("a", 'tiefer "druck', "phoenix14t.dev.tsv, line 2")
    assert [(one.reason, one.where.rpartition(" ")[2]) for one in left] == [
        ("named twice", "3"), ("no glosses", "4"), ("no text", "5"), ("row cut short", "7"), ("control character", "8")
    ]  # fmt: skip


def test_phoenix_that_breaks_off(tmp_path):
    write(tmp_path / "phoenix14t.dev.tsv", "name\tsigner\tgloss\ttext\ndev/a\tSigner01\tA\ta\ndev/b\tSign")
    with pytest.raises(SignerError, match="line 3, the last, is cut short; download it again"):
        phoenix14t.items(tmp_path, "dev")


def test_phoenix_another_folder(tmp_path):
    with pytest.raises(
        SignerError, match="has no annotations/manual/PHOENIX-2014-T.train.corpus.csv .* give the folder"
    ):
        phoenix14t.splits(tmp_path)
    phoenix(tmp_path, weather("../../a"), weather("a"))
    (tmp_path / "features/fullFrame-210x260px/train").mkdir(parents=True)
    (tmp_path / "features/fullFrame-210x260px/train/a").symlink_to("/etc")
    assert [one.reason for one in found(phoenix14t, tmp_path)[1]] == ["path out of the folder"] * 2
    with pytest.raises(SignerError, match="has no split 'test'"):
        phoenix14t.items(tmp_path, "test")


# ---- CSL-Daily -------------------------------------------------------------------------------------------------------


def note(name: str, gloss=("你们", "好"), char=("你", "们", "好", "！"), **more) -> dict:
    return {"name": name, "length": 52, "label_gloss": list(gloss), "label_char": list(char), "label_word": [],
            "label_postag": [], "signer": 4, "time": 0, **more}  # fmt: skip


def csl(folder: Path, splits: str, *notes: object) -> None:
    write(folder / "sentence_label/split_1.txt", "name|split\n" + splits)
    write(folder / "sentence_label/csl2020ct_v2.pkl", pickle.dumps({"info": list(notes), "gloss_map": ["好"]}))


def test_csl_as_released(tmp_path):
    csl(tmp_path, "S000000_P0004_T00|train\nS000001_P0000_T00|dev\nS000005_P0004_T00|train\n",
        note("S000001_P0000_T00"), note("S000000_P0004_T00"), note("S000007_P0003_T00"))  # fmt: skip
    frames = tmp_path / "sentence/frames_512x512"
    write(frames / "S000000_P0004_T00/000000.jpg")
    assert csl_daily.splits(tmp_path) == ["train", "dev", "test"]
    (one,), left = found(csl_daily, tmp_path)
    assert (one.name, one.text, one.glosses, one.glosses_by) == (
        "S000000_P0004_T00",
        "你们好！",
        ("你们", "好"),
        "human",
    )
    assert (one.signer, one.video, one.fps) == ("4", frames / "S000000_P0004_T00", 30.0)
    assert (one.language, one.spoken, one.came_from) == ("csl", "zh", "csl2020ct_v2.pkl, line 2")
    assert [(one.name, one.reason) for one in left] == [
        ("S000007_P0003_T00", "in no split"), ("S000005_P0004_T00", "no annotation")
    ]  # fmt: skip
    assert [one.reason for one in found(csl_daily, tmp_path, "dev")[1]] == ["no folder of frames"]
    assert found(csl_daily, tmp_path, "test") == ([], [])


def test_csl_every_row_comes_out_of_one_split(tmp_path):
    rows = "a|train\nb|dev\nb|dev\na|dev\nc|valid\nd|holdout\ne\nf|train\ng|train\nh|train\ni|train\nj|dev\n"
    csl(tmp_path, rows, note("a"), note("a"), note("b"), note("c"), 5, note(7), note("f", gloss=()), note("g", char=()),
        note("h", gloss=("好", 5)), note("i", char=("\ud800",)), note("d"), note("j", signer=["x"]))  # fmt: skip
    got = {split: found(csl_daily, tmp_path, split) for split in ("train", "dev", "test")}
    assert {split: [one.name for one in items] for split, (items, _) in got.items()} == {
        "train": ["a"], "dev": ["b", "c", "j"], "test": []
    }  # fmt: skip
    assert got["dev"][0][2].signer == ""
    assert Counter(one.reason for one in got["train"][1]) == {
        "unknown split": 1, "row cut short": 1, "named twice": 1, "unreadable row": 3, "no glosses": 1, "no text": 1,
        "no UTF-8": 1, "in no split": 1,
    }  # fmt: skip
    assert [(one.name, one.reason) for one in got["dev"][1]] == [("b", "named twice"), ("a", "named twice")]


def test_csl_text_is_read_rather_than_the_pickle(tmp_path):
    csl(tmp_path, "S000001_P0012_T00|test\n")
    write(tmp_path / "sentence_label/csl2020ct_v2.pkl", b"cos\nsystem\n(S'touch /tmp/x'\ntR.")
    with pytest.raises(SignerError, match="csl2020ct_v2.pkl: is damaged .*would run .* give its text form"):
        found(csl_daily, tmp_path, "test")
    text = "index|name|length|gloss|char|word|postag\n0|S000001_P0012_T00|9|他 今天|他 今 年|他 今年|r t\n"
    write(tmp_path / "sentence_label/video_map.txt", text)
    (one,), _ = found(csl_daily, tmp_path, "test")
    assert (one.text, one.glosses, one.signer, one.video) == ("他今年", ("他", "今天"), "12", None)


def test_csl_another_folder_and_another_pickle(tmp_path):
    with pytest.raises(SignerError, match="has no sentence_label with split_1.txt"):
        csl_daily.splits(tmp_path)
    csl(tmp_path, "a|train\n", note("a"))
    write(tmp_path / "sentence_label/csl2020ct_v2.pkl", pickle.dumps(["info"]))
    with pytest.raises(SignerError, match="has no list 'info'; download it again"):
        found(csl_daily, tmp_path)


def test_csl_a_signer_that_is_no_text_is_told(tmp_path):
    csl(tmp_path, "a|train\nb|train\n", note("a", signer="\ud800"), note("b"))
    items, left = found(csl_daily, tmp_path)
    assert [one.name for one in items] == ["b"] and [(one.name, one.reason) for one in left] == [("a", "no UTF-8")]


# ---- ASLG-PC12 -------------------------------------------------------------------------------------------------------


def test_aslg_pairs_of_files(tmp_path):
    for name in ("ENG-ASL_Train_0.046", "dev/ENG-ASL_Dev_0.046"):
        write(tmp_path / f"{name}.en", 'the "next" item\r\n\r\nnext\nlast\n')
        write(tmp_path / f"{name}.asl", "NEXT ITEM\r\nX\r\n\nLAST\n")
    write(tmp_path / "corpus_0001.clean.en.txt", "the test works\n")
    write(tmp_path / "corpus_0001.clean.asl.txt", "TEST WORK\n")
    assert aslg_pc12.splits(tmp_path) == ["train", "dev"]
    items, left = found(aslg_pc12, tmp_path)
    assert [(one.name, one.text, one.glosses) for one in items] == [
        ("ENG-ASL_Train_0.046/0000001", 'the "next" item', ("NEXT", "ITEM")),
        ("ENG-ASL_Train_0.046/0000004", "last", ("LAST",)),
        ("corpus_0001.clean/0000001", "the test works", ("TEST", "WORK")),
    ]
    assert {one.glosses_by for one in items} == {"rules"} and {one.language for one in items} == {"ase"}
    assert [(one.reason, one.where) for one in left] == [
        ("no text", "ENG-ASL_Train_0.046.en, line 2"), ("no glosses", "ENG-ASL_Train_0.046.en, line 3")
    ]  # fmt: skip
    assert len(found(aslg_pc12, tmp_path, "dev")[0]) == 2


def test_aslg_faults(tmp_path):
    with pytest.raises(SignerError, match="has no aslg-pc12.train.tsv and no pair of files"):
        aslg_pc12.splits(tmp_path)
    write(tmp_path / "ENG-ASL_Test_0.046.en", "a\nb\n")
    with pytest.raises(SignerError, match=r"has no ENG-ASL_Test_0.046.asl beside it"):
        aslg_pc12.splits(tmp_path)
    write(tmp_path / "ENG-ASL_Test_0.046.asl", "A\n")
    with pytest.raises(SignerError, match=r"asl: has 1 lines, ENG-ASL_Test_0.046.en 2, and they belong together"):
        aslg_pc12.items(tmp_path, "test")
    write(tmp_path / "ENG-ASL_Test_0.046.asl", b"A\n\xff\n")
    items, left = found(aslg_pc12, tmp_path, "test")
    assert len(items) == 1 and [one.reason for one in left] == ["no UTF-8"]


@pytest.mark.skipif(not DATA, reason="SIGNER_DATA is unset: no real samples")
@pytest.mark.parametrize(
    ("module", "split", "count", "by"),
    [
        (phoenix14t, "train", 7096, "human"), (phoenix14t, "dev", 519, "human"), (csl_daily, "train", 18401, "human"),
        (csl_daily, "dev", 1077, "human"), (aslg_pc12, "train", 23277, "rules"), (aslg_pc12, "dev", 4000, "rules"),
    ],
)  # fmt: skip
def test_real_files(module, split, count, by):
    items, left = found(module, Path(DATA) / "text2gloss", split)
    assert len(items) == count and not left
    assert all(one.text and one.glosses and one.glosses_by == by for one in items)


def test_pairs_of_files_lie_in_the_folder_or_one_below(tmp_path):
    for place in ("", "one/"):
        for end in ("", ".txt"):
            name = f"{place}corpus_{len(place)}{len(end)}.clean"
            (tmp_path / place).mkdir(exist_ok=True)
            (tmp_path / f"{name}.en{end}").write_text("a b\n")
            (tmp_path / f"{name}.asl{end}").write_text("A B\n")
    assert len(list(aslg_pc12.items(tmp_path, "train"))) == 4
