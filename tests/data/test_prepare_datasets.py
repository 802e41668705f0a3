"""Every dataset from its own layout, in miniature, by `signer prepare` to what a run reads of it."""

import importlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import passing_faults
import pytest
from filmed import even, film, levels, openpose, posed
from PIL import Image

from signer_jax import stand_ins
from signer_jax.cli.main import main
from signer_jax.cli.prepare import DATASETS
from signer_jax.data.datasets.finding import is_media
from signer_jax.data.prepared import layout, reading, sharing
from signer_jax.data.prepared.pictures import GAPS
from signer_jax.data.prepared.taking import ASSUMED, CUT, HOLES, OTHER_TIMES, SEVERAL
from signer_jax.data.records import Corpus
from signer_jax.data.shards import Shard
from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file, skels


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def filmed(path: Path, frames: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return film(path, even(frames))


def pictures(folder: Path, numbers) -> None:
    folder.mkdir(parents=True)
    for i in numbers:
        Image.fromarray(np.full((48, 64, 3), 6 * i, np.uint8)).save(folder / f"images{i:04d}.png")


def noses(sample) -> np.ndarray:
    """In pixels of what `openpose` and `filmed.posed` make."""
    return sample.pose.coordinates[:, skeleton.INDEX["nose"], 1] * 12 + 24


def listing(dataset: str, source: Path) -> list[bytes]:
    reader = importlib.import_module(f"signer_jax.data.datasets.{dataset}")
    return [sharing.told(found, source) for split in reader.splits(source) for found in reader.items(source, split)]


def stood_in(source: Path) -> Path:
    """The dataset as a worker lists it that lies in a bucket: of videos, pictures and poses there is no byte."""
    copy = source.parent / "stood_in" / source.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy, symlinks=True)
    media = [file for file in copy.rglob("*") if file.is_file() and is_media(file.relative_to(copy).as_posix())]
    for file in media:
        stand_ins.put(file, file.stat().st_size, "1")
    assert media or all(file.suffix in (".tsv", ".txt", ".skels", ".text", ".files", ".gloss", ".en", ".asl", ".csv")
                        for file in copy.rglob("*") if file.is_file())  # fmt: skip
    return copy


class Set:
    """A dataset that was prepared, and a run's corpus of it."""

    def __init__(self, dataset: str, source: Path, *words: str) -> None:
        out = source.parent / "set"
        assert main(["prepare", dataset, "--source", str(source), "--out", str(out), *words]) == 0
        self.report = json.loads((out / "report.json").read_text())
        self.counts, self.out = self.report["counts"], out
        self.left = {row["name"]: row["reason"] for row in self.report["left_out"]}
        self.otherwise = self.report["kept_otherwise"]
        assert all(count["items"] == count["kept"] + count["left_out"] for count in self.counts.values())
        assert sum(count["left_out"] for count in self.counts.values()) == len(self.report["left_out"])
        assert listing(dataset, stood_in(source)) == listing(dataset, source)
        passing_faults.check_each(lambda: listing(dataset, source), source)

    def corpus(self, fps: float = 25) -> Corpus:
        shutil.rmtree(self.out.parent / "data", ignore_errors=True)
        reading.write(self.out.parent / "data", str(self.out), fps=fps, size=(16, 16))
        return reading.opened(self.out.parent / "data")

    def kinds(self, split: str) -> tuple[int, ...]:
        return tuple(self.counts[split][kind] for kind in ("texts", "glossed", "poses", "videos"))


def motions(corpus: Corpus, split: str) -> dict:
    records = corpus.motions(split)
    return {sample.name: sample for sample in (records[i] for i in range(len(records)))}


HOW2SIGN = "VIDEO_ID\tVIDEO_NAME\tSENTENCE_ID\tSENTENCE_NAME\tSTART{0}\tEND{0}\tSENTENCE\n"


def how2sign_row(i: int, start: float, end: float, text: str, video: str = "v-5-rgb_front") -> str:
    return f"v\t{video}\tv_{i}\tv_{i}-5-rgb_front\t{start}\t{end}\t{text}\n"


def test_how2sign_sentence_level(tmp_path):
    source = tmp_path / "source"
    front = source / "sentence_level/val/rgb_front"
    rows = [how2sign_row(i, 0, 1, f'say "{i}"') for i in range(4)]
    write(source / "how2sign_realigned_val.csv", HOW2SIGN.format("_REALIGNED") + "".join(rows))
    for i in range(3):
        filmed(front / f"raw_videos/v_{i}-5-rgb_front.mp4")
    openpose(front / "features/openpose_output/json/v_0-5-rgb_front", 12, lambda frame: {3: 0, 5: 2}.get(frame, 1))
    posed(front / "raw_videos/v_1-5-rgb_front.pose", 12)
    cut = front / "raw_videos/v_2-5-rgb_front.mp4"
    cut.write_bytes(cut.read_bytes()[:-90])
    made = Set("how2sign", source)
    assert made.kinds("dev") == (2, 0, 2, 2) and made.left == {
        "v_2-5-rgb_front": "video is damaged or cut short", "v_3-5-rgb_front": "no video and no pose"
    }  # fmt: skip
    assert made.otherwise == {
        HOLES: ["v_0-5-rgb_front"], SEVERAL: ["v_0-5-rgb_front"],
        OTHER_TIMES: [f"v_{i}-5-rgb_front" for i in range(2)],
    }  # fmt: skip
    assert made.report["details"][OTHER_TIMES] == {f"v_{i}-5-rgb_front": "0.48, 1.00" for i in range(2)}
    corpus = made.corpus()
    found = motions(corpus, "dev")
    assert {name: (one.text, one.signer, len(one.pose)) for name, one in found.items()} == {
        "v_0-5-rgb_front": ('say "0"', "5", 12), "v_1-5-rgb_front": ('say "1"', "5", 12)
    }  # fmt: skip
    np.testing.assert_allclose(noses(found["v_1-5-rgb_front"]), np.arange(12), atol=1e-3)
    assert corpus.motions("dev").filmed(0)[1].shape == (12, 16, 16, 3) and corpus.count("dev", "text") == 0


def test_how2sign_clips_are_cut_to_their_texts(tmp_path):
    source = tmp_path / "source"
    front = source / "sentence_level/train/rgb_front"
    write(source / "how2sign_realigned_train.csv", HOW2SIGN.format("_REALIGNED") + how2sign_row(0, 10.2, 11, "one"))
    write(source / "how2sign_train.csv", HOW2SIGN.format("") + how2sign_row(0, 10, 10.8, "one"))
    filmed(front / "raw_videos/v_0-5-rgb_front.mp4", 20)
    openpose(front / "features/openpose_output/json/v_0-5-rgb_front", 20)
    made = Set("how2sign", source)
    assert made.otherwise == {OTHER_TIMES: ["v_0-5-rgb_front"]}
    assert made.report["details"] == {OTHER_TIMES: {"v_0-5-rgb_front": "0.60, 0.80"}}
    (one,) = motions(made.corpus(), "train").values()
    np.testing.assert_allclose(noses(one), np.arange(5, 20), atol=1e-3)


def test_how2sign_video_level(tmp_path):
    source = tmp_path / "source"
    front = source / "sentence_level/{}/rgb_front/features/openpose_output/json"
    filmed(source / "video_level/train/rgb_front/raw_videos/v-5-rgb_front.mp4", 40)
    shutil.copytree(source / "video_level/train", source / "video_level/val")
    aligned = [how2sign_row(0, 0.4, 0.8, "one"), how2sign_row(1, 0.8, 9, "two")]
    write(source / "how2sign_realigned_train.csv", HOW2SIGN.format("_REALIGNED") + "".join(aligned))
    write(source / "how2sign_train.csv", HOW2SIGN.format("") + how2sign_row(0, 0.2, 0.8, "one"))
    openpose(Path(str(front).format("train")) / "v_0-5-rgb_front", 15)
    openpose(Path(str(front).format("train")) / "v_1-5-rgb_front", 15)
    write(source / "how2sign_realigned_val.csv", HOW2SIGN.format("_REALIGNED") + how2sign_row(2, 0, 0.4, "three"))
    made = Set("how2sign", source)
    assert made.kinds("train") == (1, 0, 1, 1) and made.kinds("dev") == (1, 0, 0, 1)
    assert made.left == {"v_1-5-rgb_front": "no times of the poses"}
    shared = {row["what"]: row["shared"] for row in made.report["leakage"]}
    assert shared == {"the same sentence": 0, "the same signer": 1, "the same video": 1}
    (one,) = motions(made.corpus(), "train").values()
    np.testing.assert_allclose(noses(one), np.arange(5, 15), atol=1e-3)  # the pose begins five frames before the sample
    (name,) = made.out.glob("parts/train*.motion.arrayrecord")
    video = Shard(name, layout.read_motion, "")[0].video
    np.testing.assert_allclose(levels(video), 6 * np.arange(10, 20), atol=4)


def test_prompt2sign(tmp_path):
    source = tmp_path / "source" / "ASL_part"
    source.mkdir(parents=True)
    posed(tmp_path / "a.pose", 8)
    skels.write(source / "train.skels", [pose_file.read_clip(tmp_path / "a.pose")])
    line = (source / "train.skels").read_text().strip()
    for file in source.iterdir():
        file.unlink()
    write(source / "train.skels", f"{line}\n\n{line.rsplit(' ', 200)[0]}\n")
    write(source / "train.text", "one\ntwo\nthree\n")
    write(source / "train.files", "a\nb\nc\n")
    made = Set("prompt2sign", source.parent, "--pose-fps", "25")
    assert made.kinds("train") == (1, 0, 1, 0) and made.otherwise == {ASSUMED: ["ASL_part/a"]}
    assert made.left == {"ASL_part/b": "no poses", "ASL_part/c": "pose cannot be read"}
    (one,) = motions(made.corpus(), "train").values()
    assert (one.text, one.language, len(one.pose), one.pose.fps) == ("one", "ase", 8, 25)


def test_wlasl(tmp_path):
    source = tmp_path / "source"
    url = "https://www.youtube.com/watch?v=PPmQd2zWdP0"

    def sign(name: str, split: str, start: int, end: int, url: str = "http://a.org/a") -> dict:
        return {"video_id": name, "split": split, "frame_start": start, "frame_end": end, "url": url, "fps": 25,
                "signer_id": 9}  # fmt: skip

    entries = [
        {"gloss": "book", "instances": [sign("1", "train", 5, 14), sign("2", "train", 1, -1), sign("3", "val", 1, 99)]},
        {"gloss": "drink", "instances": [sign("4", "train", 5, 14, url), sign("5", "test", 15, 20, url)]},
    ]
    write(source / "WLASL_v0.3.json", json.dumps(entries))
    write(source / "nslt_100.json", json.dumps({str(i): {"subset": "train", "action": [0, 1, 9]} for i in (1, 2, 3)}))
    for name in ("1", "3"):
        filmed(source / f"videos/{name}.mp4", 20)
    filmed(source / "raw_videos/PPmQd2zWdP0.mp4", 20)
    made = Set("wlasl", source)
    assert [made.kinds(split) for split in ("train", "dev", "test")] == [(0, 2, 0, 2), (0, 1, 0, 1), (0, 1, 0, 1)]
    assert made.left == {"2": "no video file"} and made.otherwise == {
        CUT: ["3"], "same part of the same files as another sample of its split: kept twice": ["4"],
    }  # fmt: skip
    assert list(made.report["details"].values()) == [{"4": "1"}]  # other urls
    shared = {(row["what"], *row["splits"]): row["examples"] for row in made.report["leakage"]}
    assert shared["the same video", "train", "test"] == ["4 / 5"] and shared["the same video", "train", "dev"] == [
        "1 / 3"  # of which the test made two copies
    ]
    corpus = made.corpus()
    found = motions(corpus, "train")
    assert {name: one.glosses for name, one in found.items()} == {"1": ("book",), "4": ("drink",)}
    assert [frames for frames, *_ in corpus.listed("train")] == [10, 10]
    assert reading.trains(str(made.out)) == {"sentences": False, "poses": False, "videos": True}
    shutil.rmtree(made.out)
    subset = Set("wlasl", source, "--subset", "100")
    assert [subset.counts[split]["kept"] for split in ("train", "dev", "test")] == [1, 1, 0]
    words = ["prepare", "wlasl", "--source", str(source), "--out", str(subset.out)]
    assert main(words) == 2 and main([*words, "--subset", "300"]) == 2  # begun with another, and one that is not there


def test_phoenix14t(tmp_path):
    source = tmp_path / "source"
    for split, count in (("train", 3), ("dev", 1)):
        rows = [f"{split}-{i}|x/*.png|-1|-1|Signer0{i}|REGEN MORGEN|morgen regen {i}" for i in range(count)]
        head = "name|video|start|end|speaker|orth|translation"
        write(source / f"annotations/manual/PHOENIX-2014-T.{split}.corpus.csv", "\n".join([head, *rows]) + "\n")
    frames = source / "features/fullFrame-210x260px"
    pictures(frames / "train/train-0", range(1, 11))
    pictures(frames / "train/train-1", [1, 2, 3, *range(5, 11)])
    pictures(frames / "dev/dev-0", range(1, 3))
    made = Set("phoenix14t", source)
    assert made.kinds("train") == (2, 2, 0, 2) and made.otherwise == {GAPS: ["train-1"]}
    assert made.left == {"train-2": "no folder of frames", "dev-0": "too short"}
    corpus = made.corpus()
    assert [frames for frames, *_ in corpus.listed("train")] == [10, 10]
    assert [corpus.texts("train")[i].glosses for i in range(2)] == [("REGEN", "MORGEN")] * 2
    assert corpus.about["languages"] == {"gsg": "de"} and len(corpus.motions("train").filmed(1)[1]) == 10


def test_sentences_of_one_broadcast_are_a_leak(tmp_path):
    for split, number in (("train", 1), ("dev", 22)):
        name = f"11August_2010_Wednesday_tagesschau-{number}"
        rows = f"name\tsigner\tgloss\ttext\n{split}/{name}\tSigner08\tREGEN\tregen {number}\n"
        write(tmp_path / f"phoenix/phoenix14t.{split}.tsv", rows)
        write(tmp_path / f"skels/{split}.files", f"{split}/{name}\n")
        write(tmp_path / f"skels/{split}.text", "regen\n")
    for dataset, source in (("phoenix14t", "phoenix"), ("prompt2sign", "skels")):
        made = Set(dataset, tmp_path / source, "--poses", "none")
        shared = {row["what"]: row["shared"] for row in made.report["leakage"]}
        assert shared["the same video"] == 1
        shutil.rmtree(made.out)


def test_csl_daily(tmp_path):
    source = tmp_path / "source"
    names = ["S000000_P0004_T00", "S000001_P0000_T00", "S000002_P0001_T00"]
    notes = [{"name": name, "label_gloss": ["你们", "好"], "label_char": ["你", "好"], "signer": i}
             for i, name in enumerate(names)]  # fmt: skip
    write(source / "sentence_label/csl2020ct_v2.pkl", pickle.dumps({"info": notes, "gloss_map": ["好"], "n": {}}))
    write(source / "sentence_label/split_1.txt", f"name|split\n{names[0]}|train\n{names[1]}|dev\n{names[2]}|train\n")
    for name in names[:2]:
        pictures(source / "sentence/frames_512x512" / name, range(9))
    made = Set("csl_daily", source)
    assert made.kinds("train") == made.kinds("dev") == (1, 1, 0, 1) and made.left == {names[2]: "no folder of frames"}
    assert made.report["gloss_coverage"]["csl"]["dev"]["human"]["seen_in_training"] == 1
    assert made.report["frame_rates"] == {"video 30": 2}
    corpus = made.corpus(fps=30)
    assert corpus.texts("dev")[0].text == "你好" and corpus.listed("dev") == [(9, True, "1")]


def test_aslg_pc12(tmp_path):
    source = tmp_path / "source"
    write(source / "ENG-ASL_Train_0.046.en", "the item\n\nnext\n")
    write(source / "ENG-ASL_Train_0.046.asl", "ITEM\nX\nNEXT\n")
    write(source / "ENG-ASL_Dev_0.046.en", "the item\n")
    write(source / "ENG-ASL_Dev_0.046.asl", "ITEM\n")
    made = Set("aslg_pc12", source)
    assert made.kinds("train") == (2, 2, 0, 0) and list(made.left.values()) == ["no text"]
    assert made.report["glosses_by"] == {"rules": 3}
    assert [row["shared"] for row in made.report["leakage"]] == [1, None, None]  # no signers, no videos
    assert (made.out / "report.html").read_text().count("not known") == 2
    corpus = made.corpus()
    assert [corpus.texts("train")[i].glosses for i in range(2)] == [("ITEM",), ("NEXT",)]
    assert len(corpus.motions("train")) == 0 and corpus.about["glosses"] == {"ase": ["ITEM", "NEXT"]}


def test_openvid(tmp_path):
    source = tmp_path / "source"
    write(source / "OpenVidHD.csv", 'video,caption\na.mp4,"a dog, running"\nb.mp4,two\ngone.mp4,three\n')
    filmed(source / "video/a.mp4", 10)
    film(source / "video/b.mp4", even(10, 20))
    filmed(source / "video/c.mp4", 4)
    made = Set("openvid", source)
    assert made.kinds("train") == (2, 0, 0, 2)
    assert made.left == {"gone.mp4": "no video file", "c.mp4": "in no row of the table"}
    corpus = made.corpus(fps=10)
    assert {name: one.text for name, one in motions(corpus, "train").items()} == {
        "a.mp4": "a dog, running", "b.mp4": "two"
    }  # fmt: skip
    assert [frames for frames, *_ in corpus.listed("train")] == [4, 5] and not reading.posed(str(made.out))
    sample, shown = corpus.motions("train").filmed(1)
    assert len(shown) == 5 and not corpus.motions("train").posed(sample, 1).confidence.any()


def test_a_folder_of_ones_own(tmp_path):
    source = tmp_path / "source"
    rows = ["name,video,fps,pose,text,gloss,split,start,end", "a,frames,20,,one,EINS,train,,",
            "b,frames,,,two,ZWEI,train,,", "c,v.mp4,,,three,DREI,dev,0.2,0.6", "d,frames,0,,four,VIER,train,,",
            "e,,20,json,five,FUENF,train,,", "f,v.mp4,,v.pose,six,SECHS,dev,0.2,0.6"]  # fmt: skip
    write(source / "samples.csv", "\n".join(rows) + "\n")
    pictures(source / "frames", range(8))
    filmed(source / "v.mp4", 20)
    openpose(source / "json", 8)
    posed(source / "v.pose", 20)
    made = Set("folder", source)
    assert made.kinds("train") == (2, 2, 1, 1) and made.kinds("dev") == (2, 2, 1, 2)
    assert made.left == {"b": "no frame rate", "d": "fps is no frame rate"}
    assert made.otherwise == {
        "no pose, which others of its split have": ["a", "c"], "no video, which others of its split have": ["e"]
    }  # fmt: skip
    assert "name it in a column fps" in next(row["detail"] for row in made.report["left_out"] if row["name"] == "b")
    assert made.report["frame_rates"] == {"video 20": 1, "pose 20": 1, "video 25": 2, "pose 25": 1}
    assert not reading.trains(str(made.out))["videos"]  # the only one has no pose, where "e" has
    corpus = made.corpus()
    assert list(motions(corpus, "train")) == ["e"] and corpus.about["unposed"] == {"train": 1, "dev": 1}
    np.testing.assert_allclose(noses(motions(corpus, "dev")["f"]), np.arange(5, 15), atol=1e-3)


@pytest.mark.parametrize("dataset", DATASETS)
def test_only_wlasl_has_subsets(dataset, tmp_path, capsys):
    words = ["prepare", dataset, "--source", str(tmp_path), "--out", str(tmp_path / "x"), "--subset", "100"]
    assert main(words) == 2
    assert ("has no subsets, wlasl alone" in capsys.readouterr().err) == (dataset != "wlasl")
