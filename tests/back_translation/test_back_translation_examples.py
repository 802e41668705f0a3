"""What the sign-to-text model learns from: people's performances of the training split, no sentence of another one."""

import ast
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import TINY
from filmed import even, film, openpose, posed
from PIL import Image

import signer_jax
from signer_jax.back_translation import examples, training
from signer_jax.cli.main import main
from signer_jax.data import records
from signer_jax.data.estimators import opening
from signer_jax.data.streams import Reading
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats import pose_file, skels
from signer_jax.pose.skeleton import JOINTS
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.training.loop import loss_of
from signer_jax.types import Pose, Sample

ROOM = Path(signer_jax.__file__).parent / "back_translation"
ABOUT = {"corpus": "folder", "languages": {"ase": "English", "gsg": "German"}}


def sample(name: str, text: str, *glosses: str, frames: int = 12, language: str = "ase", **more) -> Sample:
    coordinates = np.full((frames, len(JOINTS), 3), len(name) / 10, np.float32)
    pose = Pose(coordinates, np.ones(coordinates.shape[:2], np.float32), 16.0)
    return Sample(name, text, language, glosses, f"signer of {name}", pose=pose, **more)


def written(folder: Path, about=ABOUT, **splits) -> records.Corpus:
    return records.write(folder, {name: lambda some=some: iter(some) for name, some in splits.items()}, about)


TRAIN = [
    sample("a", "The dog is old.", "DOG", "OLD"),
    sample("b", "I closed the door", "DOOR", "IX-1", "CLOSE"),
    sample("c", "i  closed THE door !", "DOOR", "IX-1", "CLOSE", language="gsg"),  # b's, otherwise written
    sample("d", "We learn", "IX-WE", "LEARN", frames=99),
    sample("e", "He works today", "TODAY", "WORK"),
    sample("f", "", "WORK"),
]
DEV = [sample("x", "i closed the door.", "DOOR")]
TEST = [Sample("y", "“He works, today!”", "ase", ("WORK",))]  # a text alone


def test_no_sentence_of_another_split_is_learned(tmp_path):
    corpus = written(tmp_path / "corpus", train=TRAIN, dev=DEV, test=TEST)
    chosen = examples.choose(corpus, most=50)
    assert chosen.places == (0,) and chosen.sentences == ("the dog is old .",)
    assert (chosen.held_out, chosen.too_long) == (3, 1)
    told = chosen.told(50)
    assert len(told) == 2 and told[0].startswith("3 training poses") and told[1].startswith("1 training poses")
    assert not examples.Chosen((0,), ("a",), 0, 0).told(50)


def test_every_batch_is_of_the_chosen_performances_and_of_no_others(tmp_path, monkeypatch):
    """Two epochs of all that reaches a step: these samples of the training split, whole, and no other record read."""
    corpus = written(tmp_path / "corpus", train=TRAIN, dev=DEV, test=TEST)
    chosen = examples.choose(corpus, most=200)
    assert [TRAIN[place].name for place in chosen.places] == ["a", "d"]
    tokenizer = Tokenizer.train(chosen.sentences, tmp_path / "tokenizer.model", 60, (), glosses=())
    glosses = examples.glosses_of(corpus)
    coding = examples.Coding(
        tokenizer, {gloss: k + 1 for k, gloss in enumerate(glosses)}, {"": 0, "ase": 1, "gsg": 2}, "signing_74",
        frames=120, pieces=30, most_glosses=4,
    )  # fmt: skip
    asked, read = [], []
    motions, texts = corpus.motions, corpus.texts
    get = records.Records.__getitem__
    monkeypatch.setattr(records.Corpus, "motions", lambda self, split: asked.append(split) or motions(split))
    monkeypatch.setattr(records.Corpus, "texts", lambda self, split: asked.append(split) or texts(split))
    monkeypatch.setattr(records.Records, "__getitem__", lambda self, i: read.append(int(i)) or get(self, i))
    batches = examples.batches(corpus, chosen, coding, Reading(2, 0, 0, 1))
    said = set()
    for _ in range(2):
        batch = next(batches)
        for row, target in enumerate(batch["target"]):
            one = TRAIN[0] if "dog" in " ".join(tokenizer.decode_gloss(target)) else TRAIN[3]
            said.add(one.name)
            assert " ".join(tokenizer.decode_gloss(target)) == examples.sentence_of(one.text, "folder")
            assert batch["valid"][row].sum() == len(one.pose) and batch["language"][row] == 1
            np.testing.assert_allclose(batch["coordinates"][row][batch["valid"][row]], one.pose.coordinates[0, 0, 0])
            assert [glosses[k - 1] for k in batch["classes"][row] if k] == list(one.glosses)
    assert said == {"a", "d"} and set(asked) == {"train"} and set(read) == set(chosen.places)


def test_nothing_that_makes_a_pose_is_known_here():
    """Stations, the runs that are opened, the prior and its lookup: the room imports none of them."""
    making = ("stations", "opened", "pipeline", "showcase", "samples", "evaluation", "slp_moe", "renderer", "model",
              "pose.prior", "pose.lookup", "pose.lexicon", "pose.fingerspelling")  # fmt: skip
    files = sorted(ROOM.glob("*.py"))
    assert len(files) >= 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                assert not any(f"{name}.".startswith(f"signer_jax.{room}.") for room in making), f"{file}: {name}"


def test_a_prompt_of_the_built_in_corpus_is_signed_by_nobody():
    for text in ("how do you sign 'i carried it'?", "i carried it.", "please sign: I carried it"):
        assert examples.sentence_of(text, "builtin") == "i carried it"
    assert examples.sentence_of("wie gebärdet man 'ich habe es getragen'?", "builtin") == "ich habe es getragen"
    assert examples.sentence_of("Please sign: I carried it.", "prepared") == "please sign : i carried it ."
    assert examples.sentence_of("我们学习ASL", "prepared") == "我 们 学 习 asl"
    assert examples.key_of("i carried it .") == examples.key_of("I CARRIED it!") != examples.key_of("it carried i")
    assert examples.key_of("...") == examples.key_of("") == ""


def test_glosses_of_programs_are_no_truth():
    made = sample("a", "x", "DOG", glosses_by="rules")
    assert examples.by_people(made) == () and examples.by_people(TRAIN[0]) == ("DOG", "OLD")
    assert examples.by_people(sample("a", "x", "O\u0308L")) == ("\u00d6L",)


def test_poses_are_cut_and_padded():
    long, short = sample("long name", "x", frames=9).pose, sample("s", "x", frames=2).pose
    shown = examples.shown([long, short], "upper_50", 4)
    assert shown["coordinates"].shape == (2, 4, 50, 2) and shown["valid"].sum(axis=1).tolist() == [4, 2]
    assert shown["confidence"][1, 2:].max() == 0 == shown["coordinates"][1, 2:].max()


# ---- Prepared sets of every layout with texts and poses --------------------------------------------------------------


def how2sign(source: Path) -> list[str]:
    """Sentences without glosses, poses by OpenPose."""
    for split, texts in (("train", ["One thing.", "Two things", "TWO things!"]), ("val", ["Another thing"])):
        front = source / f"sentence_level/{split}/rgb_front"
        rows = ["VIDEO_ID\tVIDEO_NAME\tSENTENCE_ID\tSENTENCE_NAME\tSTART_REALIGNED\tEND_REALIGNED\tSENTENCE"]
        for i, text in enumerate(texts):
            name = f"v_{split}{i}-5-rgb_front"
            (front / "raw_videos").mkdir(parents=True, exist_ok=True)
            film(front / f"raw_videos/{name}.mp4", even(12))
            openpose(front / "features/openpose_output/json" / name, 12)
            rows.append(f"v\tv-5-rgb_front\tv_{i}\t{name}\t0\t1\t{text}")
        (source / f"how2sign_realigned_{split}.csv").write_text("\n".join(rows) + "\n")
    return []


def prompt2sign(source: Path) -> list[str]:
    """Parallel files with .skels, of no rate."""
    for split, texts in (("train", ["one thing", "two things", "two things"]), ("dev", ["another thing"])):
        (source / "ASL_part").mkdir(parents=True, exist_ok=True)
        clip = pose_file.read_clip(posed(source.parent / "x.pose", 12))
        skels.write(source / f"ASL_part/{split}.skels", [clip] * len(texts))
        (source / f"ASL_part/{split}.text").write_text("\n".join(texts) + "\n")
        (source / f"ASL_part/{split}.files").write_text("\n".join(map(str, range(len(texts)))) + "\n")
    return ["--pose-fps", "25"]


def phoenix14t(source: Path) -> list[str]:
    """Sentences with glosses, and frames of which an estimator makes the poses."""
    for split, texts in (("train", ["ein regen", "zwei regen", "zwei  regen"]), ("dev", ["noch ein regen"])):
        rows = ["name|video|start|end|speaker|orth|translation"]
        for i, text in enumerate(texts):
            frames = source / f"features/fullFrame-210x260px/{split}/{split}-{i}"
            frames.mkdir(parents=True)
            for k in range(12):
                Image.fromarray(np.full((48, 64, 3), 6 * k, np.uint8)).save(frames / f"images{k:04d}.png")
            rows.append(f"{split}-{i}|x/*.png|-1|-1|Signer0{i}|REGEN ZWEI|{text}")
        notes = source / "annotations/manual"
        notes.mkdir(parents=True, exist_ok=True)
        (notes / f"PHOENIX-2014-T.{split}.corpus.csv").write_text("\n".join(rows) + "\n")
    return ["--poses", "dwpose", "--pose-weights", str(source)]


def estimated(name: str, frames, fps: float) -> clips.Clip:
    """What no weights are needed for: shoulders 12 pixels apart, in as many frames as there are."""
    count = sum(1 for _ in frames)
    coordinates = np.zeros((count, len(JOINTS), 2), np.float32)
    coordinates[:, [2, 5], 0] = 26, 38
    return clips.Clip(name, Pose(coordinates, np.ones(coordinates.shape[:2], np.float32), fps), clips.PIXELS, (48, 64))


@pytest.mark.parametrize("make", [how2sign, prompt2sign, phoenix14t], ids=lambda make: make.__name__)
def test_the_same_command_takes_every_layout(tmp_path, monkeypatch, make):
    """From a dataset's own files to a step of training on its poses, as shapes."""
    monkeypatch.setattr(opening, "opened", lambda name, weights: opening.Estimator(name, estimated))
    seen = []

    def fit(program, params, batches, **named):
        batch = next(batches)
        seen.append((batch, jax.eval_shape(loss_of(program.stage), params, {}, batch, jax.random.key(0))))

    monkeypatch.setattr(training, "fit", fit)
    source, name = tmp_path / "source", make.__name__
    source.mkdir()
    words = make(source)
    assert main(["prepare", name, "--source", str(source), "--out", str(tmp_path / "set"), *words]) == 0
    of = ["--config.data.corpus=prepared", f"--config.data.source={tmp_path / 'set'}", "--config.data.fps=25"]
    command = ["back-translate", "--config", str(TINY), "--workdir", str(tmp_path / "reader"), *of]
    assert main([*command, "--config.evaluate.split="]) == 0
    ((batch, (loss, terms)),) = seen
    assert loss.shape == () and set(terms) == {"text", "glosses"}
    assert batch["coordinates"].shape == (8, 160, 74, 2) and set(batch["valid"].sum(axis=1)) == {12}
    about = json.loads((tmp_path / "reader/back_translation.json").read_text())
    assert (about["poses"], about["held_out"], about["fps"], len(about["sentences"])) == (3, 0, 25, 2)
    assert about["glosses"] == (["REGEN", "ZWEI"] if name == "phoenix14t" else [])
    assert bool(batch["classes"].any()) == (name == "phoenix14t")
