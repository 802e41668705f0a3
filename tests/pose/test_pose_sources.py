"""What a pose database is made of: WLASL, continuous corpora, recorded alphabets, a table of forms; told by their
files.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.entries import Entry
from signer_jax.pose.formats import pose_file
from signer_jax.pose.sources import kinds
from signer_jax.pose.sources.common import Cut, with_forms
from signer_jax.pose.sources.continuous import Gloss, pairs, pieces, read_continuous, spans_of
from signer_jax.pose.sources.wlasl import read_wlasl
from signer_jax.types import Pose


def person(frames: int, fps: float = 25.0, seed: int = 0) -> Pose:
    """Shoulders 200 pixels apart, hands that never rest; the nose's x counts the frames."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-0.2, 0.2, (1, 128, 3)).repeat(frames, 0) + rng.normal(0, 0.01, (frames, 128, 3))
    for name, x in (("right_shoulder", -0.5), ("left_shoulder", 0.5), ("right_wrist", -0.6), ("left_wrist", 0.6)):
        place[:, skeleton.INDEX[name]] = (x, 0, 0)
    place[:, skeleton.INDEX["nose"], 0] = np.arange(frames) / 100
    return Pose((place * 200 + 300).astype(np.float32), np.ones((frames, 128), np.float32), fps)


def numbers(pose: Pose) -> list[int]:
    return np.rint(pose.coordinates[:, skeleton.INDEX["nose"], 0] * 100).astype(int).tolist()


# ---- WLASL -----------------------------------------------------------------------------------------------------------


def instance(name: object, **more: object) -> dict:
    plain = {"frame_start": 1, "frame_end": -1, "signer_id": 7, "split": "train", "url": "x.mp4", "variation_id": 0}
    return {"video_id": name, **plain, **more}


@pytest.fixture
def wlasl(tmp_path: Path) -> Path:
    folder = tmp_path / "wlasl"
    (folder / "poses").mkdir(parents=True)
    for i, name in enumerate(("00001", "00002", "00003", "00004")):
        pose_file.write(folder / "poses" / f"{name}.pose", person(40, seed=i))
    instances = [
        instance("00001"),
        instance("00002", frame_start=11, frame_end=30, variation_id=1, signer_id=9, split="val"),
        instance("00003", frame_start=11, frame_end=30, url="https://www.youtube.com/watch?v=x"),  # not cut before
        instance("00003", frame_start=11, frame_end=60, url="https://youtu.be/x"),  # cut, nobody knows how
        instance("00004", frame_start=101, frame_end=140),  # as long as its pose: cut before
        instance("00004", frame_start=31, frame_end=41), instance("00001", split="test"),
        instance("00005"), instance("../00001"), instance(3),
        instance("00001", frame_start=9, frame_end=5), instance("00001", variation_id="x"),
        instance("00001", variation_id=True),
    ]  # fmt: skip
    about = [{"gloss": "ice cream", "instances": instances}, {"gloss": 3, "instances": []}, "x"]
    (folder / "WLASL_v0.3.json").write_text(json.dumps(about))
    return folder


def test_wlasl(wlasl):
    assert kinds.kind_of(str(wlasl)) == kinds.kind_of(str(wlasl / "WLASL_v0.3.json")) == "wlasl"
    cut = Cut()
    signs, problems = kinds.read(str(wlasl), "wlasl", splits=("train", "val"), trimmed=False, cut=cut)
    found = [(e.gloss, e.language, e.words, e.signer, e.variant, e.source, len(pose)) for e, pose in signs]
    same = ("ice cream", "ase", "ice cream")
    assert found == [
        (*same, "7", 0, "00001.pose", 40), (*same, "9", 1, "00002.pose", 20), (*same, "7", 0, "00003.pose", 20),
        (*same, "7", 0, "00003.pose", 40), (*same, "7", 0, "00004.pose", 40), (*same, "7", 0, "00004.pose", 10),
    ]  # fmt: skip
    said = [
        "00005.pose is missing",
        "does not lie in the source's folder",
        "no video_id",
        "frames 9 to 5",
        "no number",
        "no number",
    ]
    assert len(problems) == 8 and all(what in one for what, one in zip(said, problems, strict=False))
    assert problems[6:] == [f"entry {number}: has no gloss or no instances" for number in (2, 3)]
    assert cut.beyond == ["ice cream, 00004.pose: frame_end 41 lies beyond its 40 frames"]
    assert cut.whole == ["ice cream, 00003.pose: its 40 frames are not frames 11 to 60 of the json"]
    assert (cut.splits, cut.of_splits) == (("train", "val"), ("test", "train", "val"))
    signs, _ = read_wlasl(wlasl / "WLASL_v0.3.json", splits=("val",), trimmed=False)
    (only,) = signs
    assert numbers(only[1]) == list(range(10, 30))


def test_wlasls_dev_and_test_stay_out_unless_they_are_named(wlasl):
    file = wlasl / "WLASL_v0.3.json"
    assert [entry.source[:5] for entry, _ in read_wlasl(file)[0]] == ["00001", "00003", "00003", "00004", "00004"]
    with pytest.raises(SignerError, match="has no split 'dev'; its splits are test, train, val: give some with --spl"):
        read_wlasl(file, splits=("train", "dev"))
    file.write_text(json.dumps([{"gloss": "a", "instances": [{"video_id": "00001"}]}]))
    assert len(list(read_wlasl(file)[0])) == 1  # one that has no splits
    file.write_text(json.dumps([{"gloss": "a", "instances": [{"video_id": "00001"}, instance("00002", split="val")]}]))
    with pytest.raises(SignerError, match="has no split 'train'; its splits are val"):
        read_wlasl(file)
    signs, problems = read_wlasl(file, splits=("val",))
    assert len(list(signs)) == 1 and problems == ["entry 1 (a): an instance has no split"]


def test_wlasl_without_poses_or_of_another_kind_of_file(wlasl):
    (wlasl / "poses").rename(wlasl / "elsewhere")
    with pytest.raises(SignerError, match="has no folder poses; give the one that holds <video_id>.pose with --pose-"):
        kinds.read(str(wlasl), "wlasl")
    assert len(list(read_wlasl(wlasl / "WLASL_v0.3.json", wlasl / "elsewhere")[0])) == 5
    for data, said in ((b"{}", "holds no list of glosses"), (b"[", "is no JSON")):
        (wlasl / "WLASL_v0.3.json").write_bytes(data)
        with pytest.raises(SignerError, match=said):
            read_wlasl(wlasl / "WLASL_v0.3.json", wlasl / "elsewhere")


# ---- Continuous corpora ----------------------------------------------------------------------------------------------


def sentence(glosses: dict[str, tuple[int, int]], start: int, end: int, **more: object) -> dict:
    timed = {"gloss": list(glosses), "start": [a for a, _ in glosses.values()], "end": [b for _, b in glosses.values()]}
    return {"id": "1", **more, "sentence": {"start": start, "end": end, "glosses": timed}}


def test_a_sentence_is_cut_by_its_times(tmp_path):
    (tmp_path / "doc").mkdir()
    pose_file.write(tmp_path / "doc" / "a.pose", person(101))
    times = {"ICH1": (1000, 1400), "HAUS1A^": (2000, 3000), "SEHR7*": (3480, 3520)}
    (tmp_path / "doc" / "a.json").write_text(json.dumps(sentence(times, 1000, 5000, signer="A")))
    (tmp_path / "doc" / "other.json").write_text("{}")  # no pose beside it
    (tmp_path / "doc" / "b_metadata.json").write_text("{}")  # of this one there should be
    assert kinds.kind_of(str(tmp_path)) == "continuous"
    signs, problems = kinds.read(str(tmp_path), "continuous", language="gsg")
    found = [(e.gloss, e.language, e.signer, e.source, numbers(pose)) for e, pose in signs]
    assert found == [("ICH1", "gsg", "A", "doc/a", [*range(10)]), ("HAUS1A^", "gsg", "A", "doc/a", [*range(25, 50)])]
    assert problems == [
        "doc/a.pose, gloss 3 (SEHR7*): has 1 frames, a sign has 3 at least",
        "doc/b_original.pose: doc/b_original.pose is missing",
    ]  # fmt: skip
    with pytest.raises(SignerError, match="no file says its sign language; give the code"):
        kinds.read(str(tmp_path), "continuous")


def joined(lengths: list[int], between: int = 3) -> Pose:
    """Signs with straight lines between them, as one tool writes them."""
    signs = [person(length, seed=i).coordinates + 20 * i for i, length in enumerate(lengths)]
    parts = [signs[0]]
    for before, after in pairwise(signs):
        share = np.arange(1, between + 1)[:, None, None] / (between + 1)
        parts += [before[-1] + share * (after[0] - before[-1]), after]
    frames = np.concatenate(parts).astype(np.float32)
    return Pose(frames, np.ones(frames.shape[:2], np.float32), 25.0)


def test_joined_signs_are_told_by_the_straight_lines_and_their_lengths():
    pose = joined([6, 9, 5])
    assert pieces(pose) == [(0, 6), (9, 18), (21, 26)]
    whole = [Gloss("A", 0, 240), Gloss("B", 1000, 1400), Gloss("C", 2000, 2200)]
    assert spans_of(whole, 0, 4000, pose) == [(0, 6), (9, 18), (21, 26)]  # B has ten frames, of which one was cut
    for chance in (1040, 1000):  # the sentence lasts as long as the file, or as long but for a frame
        assert spans_of(whole, 0, chance, pose) == [(0, 6), (9, 18), (21, 26)]
    short = [whole[0], Gloss("X", 600, 640), *whole[1:]]  # one of a single frame is gone
    assert spans_of(short, 0, 4000, pose) == [(0, 6), None, (9, 18), (21, 26)]
    for glosses in (whole[:2], [*whole, Gloss("D", 3000, 3400)], [Gloss("A", 0, 900), *whole[1:]]):
        with pytest.raises(SignerError, match="the times are not this file's"):
            spans_of(glosses, 0, 4000, pose)


@pytest.mark.parametrize("about", [
    {}, [], {"sentence": {}}, sentence({"A": (0, 10)}, -1, 100), sentence({"A": (90, 80)}, 0, 100),
    sentence({"A": (50, 60), "B": (10, 20)}, 0, 100), sentence({"A": (0, 200)}, 50, 100), sentence({" ": (0, 9)}, 0, 9),
    sentence({"<rest>": (0, 10)}, 0, 100), sentence({"A": ("x", 10)}, 0, 100), sentence({"A": (float("nan"), 1)}, 0, 9),
])  # fmt: skip
def test_metadata_that_is_none_is_noted(tmp_path, about):
    pose_file.write(tmp_path / "a_original.pose", person(10))
    (tmp_path / "a_metadata.json").write_text(json.dumps(about))
    signs, problems = read_continuous(tmp_path, "gsg")
    assert list(signs) == [] and len(problems) == 1 and "a_metadata.json" in problems[0] and "\n" not in problems[0]


def test_the_real_stitched_corpus(samples):
    """Its originals are no recordings of sentences: their glosses' frames are joined, whose lengths tell them."""
    folder = samples / "stitching"
    assert kinds.kind_of(str(folder)) == "continuous" and len(list(pairs(folder))) == 4
    signs, problems = read_continuous(folder, "gsg")
    found = [(entry.gloss, len(pose)) for entry, pose in signs]
    assert len(found) == 24 and found[:3] == [("ES-GIBT3*", 3), ("$ALPHA1:L", 6), ("BEREICH1A^", 14)]
    assert ("PERSON1*", 10) in found and ("KNAPP1", 14) in found
    assert [one.partition(":")[0] for one in problems] == [
        "train_1_original.pose, gloss 5 (SEHR7*)", "train_4_original.pose, gloss 2 (ICH2)",
    ]  # fmt: skip


# ---- All -------------------------------------------------------------------------------------------------------------


def test_a_folder_of_no_kind_and_none(tmp_path):
    with pytest.raises(SignerError, match=r"has no index\.csv \(a lexicon\), no WLASL_v0\.3\.json, and no JSON"):
        kinds.kind_of(str(tmp_path))
    with pytest.raises(SignerError, match="there is no such folder; give one, or builtin or fingerspelling"):
        kinds.kind_of(str(tmp_path / "none"))
    assert kinds.kind_of("builtin") == "builtin" and kinds.kind_of("fingerspelling") == "fingerspelling"


def test_forms_of_words(tmp_path):
    table = "form,lemma\nwent,go\ngone,GO\nHäuser,Haus\n,x\na,b,c\npizzas,pizza\n"
    (tmp_path / "forms.csv").write_text(table, encoding="utf-8")
    entries = [Entry("GO1*", "ase"), Entry("HOUSE", "gsg", words="Haus, Heim"), Entry("TREE", "ase")]
    problems: list[str] = []
    pose = person(3)
    found = [entry.forms for entry, _ in with_forms([(entry, pose) for entry in entries], tmp_path, problems)]
    assert found == ["went, gone", "häuser", ""]
    assert problems == [f"forms.csv, row {row}: is no form and its lemma" for row in (5, 6)]
    (tmp_path / "forms.csv").write_text("a,b\n")
    with pytest.raises(SignerError, match="its columns are not form,lemma"):
        list(with_forms([], tmp_path, problems))
    (tmp_path / "forms.csv").write_text("form,lemma\n" + "".join(f"{'x' * 90}{i},go\n" for i in range(9)))
    ((entry, _),) = with_forms([(entries[0], pose)], tmp_path, problems)
    assert len(entry.forms) < 500 and "is a form too many of GO1*" in problems[-1]


def test_recorded_alphabets_are_found_where_they_are_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(SignerError, match=r"pip install 'signer-jax\[fingerspelling\]'"):
        kinds.read("fingerspelling", "fingerspelling")
    folder = tmp_path / "spoken_to_signed" / "assets" / "fingerspelling_lexicon"
    folder.mkdir(parents=True)
    (tmp_path / "spoken_to_signed" / "__init__.py").write_text("raise RuntimeError('never run')")
    pose_file.write(folder / "a.pose", person(30))
    (folder / "index.csv").write_text("path,signed_language,glosses\na.pose,ase,A\n")
    cut = Cut()
    ((entry, _),) = kinds.read("fingerspelling", "fingerspelling", cut=cut)[0]
    assert (entry.gloss, entry.language) == ("A", "ase")
