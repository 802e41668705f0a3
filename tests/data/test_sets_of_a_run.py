"""What a run takes of its prepared sets and says of them: what they share, texts without glosses, makers, frames."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from filmed import even, film, posed

from signer_jax import configuration
from signer_jax.cli.main import main
from signer_jax.data import framing, timing, video
from signer_jax.data.datasets.item import Item
from signer_jax.data.prepared import layout, leakage, reading, work
from signer_jax.data.prepared.taking import How
from signer_jax.data.records import Corpus
from signer_jax.data.shards import Shard
from signer_jax.data.streams import take_frames
from signer_jax.errors import SignerError
from signer_jax.training import run
from signer_jax.training.copies import Copies
from signer_jax.validation import read

HEAD = "name,pose,video,text,gloss,glosses_by,language,spoken,signer,split"


def prepared(folder: Path, name: str, *rows: str, head: str = HEAD) -> Path:
    """A set of a folder of one's own with this table; poses of 12 frames, and videos, that it names are made."""
    source = folder / f"{name} source"
    source.mkdir(parents=True)
    for file in re.findall(r"\w+\.(?:pose|mp4)", "\n".join(rows)):
        posed(source / file, 12) if file.endswith(".pose") else film(source / file, even(12), size=(32, 32))
    (source / "samples.csv").write_text("\n".join([head, *rows]) + "\n")
    assert main(["prepare", "folder", "--source", str(source), "--out", str(folder / name)]) == 0
    return folder / name


def corpus(folder: Path, *sets: Path, fps: float = 25, by: tuple[str, ...] = ()) -> Corpus:
    reading.write(folder, ",".join(map(str, sets)), fps=fps, size=(16, 16), glosses_by=by)
    return reading.opened(folder)


# ---- Several sets ----------------------------------------------------------------------------------------------------


def test_what_splits_of_two_sets_share_is_said_and_kept(tmp_path, capsys):
    one = prepared(
        tmp_path, "one", "x,x.pose,x.mp4,Same words here,ONE,human,ase,en,1,train", "y,,,alone,ONE,human,ase,en,2,train"
    )
    two = prepared(tmp_path, "two", "z,z.pose,z.mp4,same words  here!,TWO,human,ase,en,1,dev")
    capsys.readouterr()
    found = corpus(tmp_path / "run", one, two)
    lines = [line for line in capsys.readouterr().err.splitlines() if "of different sets" in line]
    assert [re.sub(".*: 'train' and", "'train' and", line) for line in lines] == [
        f"'train' and 'dev' of different sets share {what}, 1 in all, which 1 of train and 1 of dev have (one: x / "
        "two: z): what is measured there is not all new"
        for what in ("the same sentence", "the same signer", "the same video")
    ]  # fmt: skip
    kept = found.about["leakage"]
    assert [(row["what"], row["splits"], row["shared"]) for row in kept] == [
        (what, ["train", "dev"], 1) for what in leakage.KINDS.values()
    ]
    # ---- It is no other corpus for that, and one set alone has its own report ------------------------------------
    before = found.hash()
    found.about["leakage"], found.about["untaught"] = [], {}
    assert found.hash() == before and "leakage" not in corpus(tmp_path / "alone", one).about


def test_signers_of_two_folders_are_two_and_those_of_a_dataset_one(tmp_path):
    sets = [prepared(tmp_path, name, f"{name},{name}.pose,,,,,,,1,train") for name in ("a", "b")]
    found = corpus(tmp_path / "run", *sets)
    signers = ["folder/1", "folder-2/1"]
    motions = found.motions("train")
    assert [signer for *_, signer in found.listed("train")] == signers == [motions[i].signer for i in range(2)]
    file = tmp_path / "a source" / "a.pose"
    for name in ("c", "d"):
        items = [Item(name, "train", pose=file, signer="1")]
        own = work.Job("how2sign", tmp_path, tmp_path / name, How(), ("train",), lambda split, items=items: items)
        work.work(own)
    others = corpus(tmp_path / "others", tmp_path / "c", tmp_path / "d")
    assert [signer for *_, signer in others.listed("train")] == ["how2sign/1"] * 2


def test_a_run_of_before_keeps_its_signers(tmp_path):
    sets = [prepared(tmp_path, name, f"{name},{name}.pose,,,,,,,1,train") for name in ("a", "b")]
    corpus(tmp_path / "run", *sets)
    file = tmp_path / "run" / "corpus.json"
    about = json.loads(file.read_text())
    for one in about["sets"]:
        del one["name"]
    file.write_text(json.dumps(about).ljust(file.stat().st_size))
    assert [signer for *_, signer in reading.opened(tmp_path / "run").listed("train")] == ["folder/1"] * 2


def test_two_datasets_recordings_of_one_name_are_two():
    seen: list[leakage.Seen] = [{}, {}, {}]
    row = {"name": "x", "sentence": "", "signer": "1", "film": "00001", "prompt_by": ""}
    for one, dataset, split in zip(seen, ("wlasl", "how2sign", "wlasl"), ("train", "dev", "dev"), strict=True):
        leakage.see(one, dataset, split, row)
    assert leakage.between(seen[:2], ["a", "b"]) == []
    assert [row["examples"] for row in leakage.between(seen, ["a", "b", "c"])] == [["a: x / c: x"]] * 2


def test_samples_that_sets_share_are_counted_once_each():
    seen: list[leakage.Seen] = [{}, {}, {}]
    row = {"name": "x", "signer": "", "film": "", "prompt_by": ""}
    for k, split, sentence in (
        (0, "train", "a"), (0, "train", "a"), (0, "train", "b"), (1, "dev", "a"), (2, "dev", "a"), (2, "dev", "c"),
        (2, "train", "a"),
    ):  # fmt: skip
        leakage.see(seen[k], "folder", split, row | {"sentence": sentence})
    (found,) = leakage.between(seen, ["a", "b", "c"])
    assert (found["splits"], found["shared"], found["samples"]) == (["train", "dev"], 1, [3, 2])


# ---- Texts and glosses -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def makers(tmp_path_factory) -> Path:
    """Texts of which two can be learned by what people say, and signs of two makers."""
    rows = [
        "h,,,The dog,DOG,human,ase,en,1,train", "r,,,The robot,ROBOT OLD,rules,ase,en,1,train",
        "u,,,The stranger,STRANGER,unknown,ase,en,1,train", "n,,,Nothing signed,,,ase,en,1,train",
        "l,,,Nowhere,WHERE,human,,,1,train", "s,s.pose,,,SIGN,human,ase,en,1,train",
        "t,t.pose,,,OTHER,unknown,ase,en,1,train", "d,,,The dog,DOG,rules,ase,en,1,dev",
    ]  # fmt: skip
    return prepared(tmp_path_factory.mktemp("makers"), "set", *rows)


def test_texts_that_teach_nothing_are_counted_by_reason(makers, tmp_path, capsys):
    found = corpus(tmp_path / "run", makers, by=("human",))
    err = capsys.readouterr().err
    said = (
        "'train': no glosses are learned of 4 of 5 texts: 1 with glosses by rules, 1 with glosses by unknown, "
        "1 without a language, 1 without glosses\n"
    )
    assert f"signer: {makers}: {said}" in err and "'dev': no glosses are learned of 1 of 1 texts: 1 with" in err
    assert found.about["untaught"]["train"] == {
        "texts": 5, "with glosses by rules": 1, "with glosses by unknown": 1, "without glosses": 1,
        "without a language": 1,
    }  # fmt: skip
    assert found.count("train", "text") == 1 and len(found.texts("train")) == 1


def test_a_run_knows_the_words_and_glosses_of_the_makers_that_it_learns_of(makers, tmp_path):
    every = ("human", "rules", "unknown")
    everyone, people = corpus(tmp_path / "all", makers, by=every), corpus(tmp_path / "human", makers, by=("human",))
    assert everyone.about["glosses"] == {"ase": ["DOG", "OLD", "OTHER", "ROBOT", "SIGN", "STRANGER"]}
    assert {"robot", "stranger"} < set(everyone.about["words"]["ase"])
    assert people.about["glosses"] == {"ase": ["DOG", "SIGN"]}
    assert people.about["words"] == {"ase": ["dog", "nothing", "signed", "the"]}
    assert [len(one.signs("train")) for one in (everyone, people)] == [2, 1] and people.signs("train")[0].name == "s"
    assert [len(one.set_of("train", "sign")) for one in (everyone, people)] == [2, 1]
    assert reading.trains(str(makers), ("rules",)) == {"sentences": True, "poses": False, "videos": False}
    assert reading.trains(str(makers), ("slul",)) == {"sentences": False, "poses": False, "videos": False}


def test_a_stage_that_has_no_sentences_is_told_why(tmp_path):
    rows = [f"{i},text {i},TEXT" for i in range(3)]
    one = prepared(tmp_path, "set", *rows, head="name,text,gloss")
    settings = read(
        configuration.load(
            TINY, ["--config.data.corpus=prepared", f"--config.data.source={one}", "--config.stages=slul"]
        )
    )
    why = r"has none \(no glosses are learned of 3 of 3 texts: 3 without a language\); choose"
    with pytest.raises(SignerError, match=f"'slul' learns from sentences, .* of prepared {why}"):
        run.check_stages(settings)


# ---- Frames ----------------------------------------------------------------------------------------------------------


def test_a_motion_has_the_frames_that_are_listed(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    items = [
        Item(f"{n}", "train", pose=posed(folder / f"{n}.pose", n, 24), video=film(folder / f"{n}.mp4", even(n, 24)))
        for n in (13, 23, 25, 47)
    ]
    work.work(work.Job("own", folder, tmp_path / "set", How(), ("train",), lambda split: items))
    found = corpus(tmp_path / "run", tmp_path / "set", fps=12)
    motions, listed = found.motions("train"), found.listed("train")
    both = [(len(sample.pose), len(shown)) for sample, shown in (motions.filmed(i) for i in range(4))]
    assert both == [(frames, frames) for frames, *_ in listed]
    assert any(round(seconds, 6) != seconds for seconds in stored_seconds(tmp_path / "set"))


@pytest.mark.parametrize("fps", [8.0, 25.0, 40.0])
def test_a_window_of_a_film_is_its_own_frames_and_what_lies_behind_is_not_decoded(tmp_path, monkeypatch, fps):
    """Times of a variable rate, which the run's rate repeats and leaves out; also cut around a pose."""
    folder = tmp_path / "source"
    folder.mkdir()
    stamps = [time + 11 * (i % 3) for i, time in enumerate(even(30))]
    films = {name: film(folder / f"{name}.mp4", times) for name, times in
             {"a": stamps, "b": even(9), "c": even(30)}.items()}  # fmt: skip
    poses = {"c": posed(folder / "c.pose", 30)}
    items = [Item(name, "train", pose=poses.get(name), video=file) for name, file in films.items()]
    corpora = []
    for k, some in enumerate((items[:2], items[2:])):
        work.work(work.Job("own", folder, tmp_path / f"set{k}", How(), ("train",), lambda split, some=some: some))
        corpora.append(corpus(tmp_path / f"run{k}", tmp_path / f"set{k}", fps=fps))
    found = [one.motions("train") for one in corpora]
    made: list[int] = []
    real, decoded = video._converter, video._decoded

    def counted():
        upright = real()
        return lambda frame: made.append(1) or upright(frame)

    def watched(*given):
        for one in decoded(*given):
            seen.append(1)
            yield one

    monkeypatch.setattr(video, "_converter", counted)
    monkeypatch.setattr(video, "_decoded", watched)
    for motions, index in ((found[0], 0), (found[0], 1), (found[1], 0)):
        seen: list[int] = []
        whole = motions.video(index)
        all_seen, count = len(seen), len(whole)
        np.testing.assert_array_equal(whole, as_shown(motions, index, fps))
        for start, length in ((0, 1), (0, 3), (count // 2, 2), (count - 1, 3), (0, count), (0, count + 2)):
            made.clear(), seen.clear()
            told: list[int] = []
            part = motions.clip(index, length, lambda n, start=start, told=told: told.append(n) or start)
            np.testing.assert_array_equal(part, take_frames(whole, start, length))
            assert told == [count] and len(made) <= length
        made.clear(), seen.clear()
        motions.clip(index, 1, lambda _: 0)
        assert len(made) == 1 and len(seen) <= min(8, all_seen)  # of 9 or 30
    off = read(configuration.load("default")).data.augment
    for change, first in ((replace(off, colour=0.3, copies=2), 30), (replace(off, turn=8.0, copies=2), 3)):
        changed = Copies(corpora[1], change, 3).motions("train")
        for k, most in enumerate((first, 3, 3)):
            made.clear()
            part = changed.clip(1, 3, lambda n, k=k: n // 2 + k)
            assert len(made) <= most
            np.testing.assert_array_equal(part, take_frames(changed.video(1), len(changed.video(1)) // 2 + k, 3))


def as_shown(motions, index: int, fps: float) -> np.ndarray:
    """A film as the run sees it, of all frames of the file by their times."""
    motion = motions._motion(index)
    stamps, frames = zip(*video.frames_of("film", motion.video), strict=True)
    chosen = timing.nearest(np.array(stamps), timing.grid(0, motion.seconds, fps))
    if motion.centre is None:
        seen = list(framing.middle(frames, (16, 16)))
    else:
        seen = list(framing.around_signer(frames, motion.centre, motion.scale, (16, 16)))
    return np.stack([seen[i] for i in chosen])


def test_of_two_frames_as_near_the_earlier_is_shown(tmp_path):
    """Whatever rounding says: of 50 frames a second each second one lies between two of 25."""
    file = film(tmp_path / "a.mp4", even(120))
    stamps = np.array([time for time, _ in video.timed_frames(file)])
    wanted = timing.grid(0, 120 / 25, 50)
    shown = np.repeat(*zip(*[(frame[:8, :8].mean(), n) for n, frame in video.nearest("a", file.read_bytes(), wanted)],
                           strict=True))  # fmt: skip
    every = np.array([frame[:8, :8].mean() for frame in video.frames(file)])
    np.testing.assert_array_equal(shown, every[timing.nearest(stamps, wanted)])
    np.testing.assert_array_equal(timing.nearest(stamps, wanted)[:238], np.arange(238) // 2)


def stored_seconds(folder: Path) -> list[float]:
    one = layout.PreparedSet(folder)
    ((name, _),) = one.tables("train")
    motions = Shard(one.file(name, layout.MOTION), layout.read_motion, "")
    return [motions[i].seconds for i in range(len(motions))]
