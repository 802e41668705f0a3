"""A sign-to-text model trained by its command, and a run that it judges: ceiling, floor, intervals, refusals."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TINY
from flax.traverse_util import flatten_dict

from signer_jax.back_translation import examples
from signer_jax.back_translation.translator import ABOUT, BackTranslator, Read, at_rate
from signer_jax.cli.common import judgement
from signer_jax.cli.main import main
from signer_jax.data.estimators.opening import Estimator
from signer_jax.data.prepared.reading import opened
from signer_jax.errors import SignerError
from signer_jax.evaluation import back_translation as judging
from signer_jax.evaluation.figures import Evaluation
from signer_jax.pipeline import Signer
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.skeleton import JOINTS
from signer_jax.training.checkpoints import read_params
from signer_jax.types import Pose, Sample


def train(workdir: Path, *words: str) -> int:
    return main(
        ["back-translate", "--config", str(TINY), "--workdir", str(workdir), "--config.keep_checkpoints=2", *words]
    )  # fmt: skip


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of a few steps; tests may read it, not change it."""
    workdir = tmp_path_factory.mktemp("reader") / "reader"
    assert train(workdir) == 0
    return workdir


@pytest.fixture
def copied(reader, tmp_path) -> Path:
    return Path(shutil.copytree(reader, tmp_path / "reader"))


def checkpoints(workdir: Path) -> Path:
    return workdir / "checkpoints" / "back_translation"


def test_the_command_trains_it_alone_and_says_ceiling_and_floor(copied, capsys):
    assert [folder.name for folder in (copied / "checkpoints").iterdir()] == ["back_translation"]
    assert set(read_params(checkpoints(copied))) == {"back_translation"}
    assert not (copied / "prior").exists() and not (copied / "latents").exists()
    before = (checkpoints(copied) / "4").stat().st_mtime_ns
    assert train(copied) == 0  # which is over
    assert (checkpoints(copied) / "4").stat().st_mtime_ns == before
    output = capsys.readouterr().out
    for row in (
        "ground truth, unseen recordings", "nearest training text's recording (retrieval)",
        "another's ground truth (floor)", "ground truth less another's", "ground truth less retrieval",
    ):  # fmt: skip
        assert f"\n{row}" in output
    assert "back/bleu_signature: " in output and "the run's" not in output
    written = json.loads((copied / "result.json").read_text())
    assert written["metrics"]["back/bleu4_truth"] >= 0 and written["facts"]["back/model"] and written["step"] == 4


def test_nothing_to_judge_is_said_and_no_error(copied, capsys):
    """After a training of hours."""
    assert train(copied, "--config.evaluate.split=") == 0
    assert capsys.readouterr().out == "back/poses: not scored: config.evaluate.split is empty\n"
    assert train(copied, "--config.evaluate.poses=0") == 0
    output = capsys.readouterr().out
    assert "back/poses: not scored: config.evaluate.poses is 0" in output and "back/model: " in output
    assert json.loads((copied / "result.json").read_text())["metrics"] == {}


def test_a_corpus_without_the_split_is_said(reader):
    corpus, result = SimpleNamespace(about={"counts": {"train": {}, "test": {}}}), Evaluation()
    judging.evaluate_truth(BackTranslator.open(reader), corpus, "dev", 4, result)
    assert result.facts == {"back/poses": "not scored: the corpus has no dev, but train, test"}


def test_a_training_that_was_cut_short_ends_the_same(copied):
    whole = flatten_dict(read_params(checkpoints(copied)))
    shutil.rmtree(checkpoints(copied) / "4")
    with pytest.raises(SignerError, match="stands at step 2 of 4; run the same `signer back-translate`"):
        BackTranslator.open(copied)
    assert train(copied) == 0
    resumed = flatten_dict(read_params(checkpoints(copied)))
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name])


def test_folders_are_told_apart(copied, tiny_run, capsys):
    assert train(copied, "--config.back_translation.d_ff=16") == 2
    assert "belongs to a run with another config (back_translation.d_ff was 32, is now 16)" in capsys.readouterr().err
    assert main(["train", "--config", str(TINY), "--workdir", str(copied)]) == 2
    assert "belongs to a run with another config (stages was" in capsys.readouterr().err
    out = str(copied.parent / "x.mp4")
    for command in (["evaluate"], ["gloss", "a dog"], ["sign", "a dog", "--out", out]):
        assert main([*command, "--workdir", str(copied)]) == 2
        assert "holds a back translation, which judges runs" in capsys.readouterr().err
    assert train(tiny_run) == 2
    assert "belongs to a run with another config" in capsys.readouterr().err
    assert main(["evaluate", "--workdir", str(tiny_run), "--back-translation", str(tiny_run)]) == 2
    assert "holds a run and no back translation" in capsys.readouterr().err
    given = ["evaluate", "--workdir", str(tiny_run), "--poses", "dwpose"]
    assert main(given) == 2 and "are of --back-translation" in capsys.readouterr().err
    assert main([*given, "--back-translation", str(copied)]) == 2
    assert "--pose-weights is not given" in capsys.readouterr().err


@pytest.mark.parametrize("harm", ["{}", "[", '{"corpus": 1}', None], ids=["empty", "cut", "other", "missing"])
def test_a_damaged_note_is_one_line(copied, harm):
    if harm is None:
        (copied / ABOUT).unlink()
    else:
        (copied / ABOUT).write_text(harm)
    with pytest.raises(SignerError, match=ABOUT):
        BackTranslator.open(copied)


def test_a_note_of_another_model_is_one_line(copied):
    about = json.loads((copied / ABOUT).read_text())
    (copied / ABOUT).write_text(json.dumps(about | {"glosses": about["glosses"][1:]}))
    with pytest.raises(SignerError, match="its checkpoint is of other glosses"):
        BackTranslator.open(copied)


def test_any_number_of_poses_of_any_length_are_read_each_as_alone(reader):
    translator = BackTranslator.open(reader)
    records = opened(reader / "data").motions("dev")
    poses = [records[i].pose for i in range(3)]
    long = Pose.joined([*poses, *poses, *poses, *poses])
    assert len(long) > translator.settings.back_translation.max_frames
    assert translator.cut([*poses, long, Pose.joined([long])]) == 2 and translator.cut([]) == 0
    together = translator.read([*poses, long, poses[0].slice(0, 1)], ["ase", "gsg", "ase", "ase", "ase"])
    assert together[1:3] == [*translator.read(poses[1:2], ["gsg"]), *translator.read(poses[2:3], ["ase"])]
    assert translator.read([], []) == []
    twice = at_rate(Pose(poses[0].coordinates, poses[0].confidence, 32.0), 16.0)
    assert (len(twice), twice.fps) == (round(len(poses[0]) / 2), 16.0)
    with pytest.raises(SignerError, match="learned ase, gsg, not bfi"):
        translator.read(poses[:1], ["bfi"])


# ---- A run that is judged --------------------------------------------------------------------------------------------

SCORES = [
    f"{score}{row}{end}"
    for score in ("bleu1", "bleu2", "bleu3", "bleu4", "rouge", "wer")
    for row in (
        "",
        "_truth",
        "_shuffled",
        "_nearest_text",
        "_over_truth",
        "_over_shuffled",
        "_over_nearest_text",
    )
    for end in ("", "_low", "_high")
]


def found(name: str, frames, fps: float) -> clips.Clip:
    """Nobody in every second video."""
    count = sum(1 for _ in frames)
    found.calls += 1
    if found.calls % 2:
        raise clips.NobodySeen(f"{name}: nobody")
    coordinates = np.zeros((count, len(JOINTS), 2), np.float32)
    coordinates[:, [2, 5], 0] = 26, 38
    return clips.Clip(name, Pose(coordinates, np.ones(coordinates.shape[:2], np.float32), fps), clips.PIXELS, (48, 64))


def test_a_runs_poses_and_videos_are_read_beside_the_truths(tiny_run, reader):
    signer, translator = Signer.load(tiny_run), BackTranslator.open(reader)
    signer.settings = replace(signer.settings, evaluate=replace(signer.settings.evaluate, videos=2))
    result = Evaluation()
    judging.evaluate_back_translation(signer, translator, "dev", result)
    assert set(result.metrics) >= {f"back/{name}" for name in (*SCORES, "bleu4_true_glosses", "failed", "sentences")}
    assert result.facts["back_video/videos"] == judging.NO_ESTIMATOR
    assert "tok:none" in result.facts["back/bleu_signature"] and str(reader) in result.facts["back/model"]
    assert result.facts["back/interval"] == "none of 4 different sentences: 6 at least are needed"
    assert np.isnan(result.metrics["back/bleu4_low"])
    found.calls = 0
    judging.evaluate_back_translation(signer, translator, "dev", result, Estimator("fake 1", found))
    assert set(result.metrics) >= {f"back_video/{name}" for name in SCORES}
    assert (result.metrics["back_video/failed"], result.metrics["back_video/sentences"]) == (1, 2)
    assert "fake 1" in result.facts["back_video/videos"] and "stored poses" in result.facts["back_video/videos"]
    table = judgement(result.metrics, "dev", "back_video")
    assert "\nthe run's videos " in table and "\nground truth, stored poses " in table and "[-]" in table
    # ---- A run that makes no pose films true ones, which are not its own ---------------------------------------------
    signer.model = replace(signer.model, slp_moe=None)
    again = Evaluation()
    judging.evaluate_back_translation(signer, translator, "dev", again, Estimator("fake 1", found))
    assert "back_video/bleu4_true_poses_over_truth" in again.metrics and "back_video/bleu4" not in again.metrics
    assert "the run's" not in judgement(again.metrics, "dev", "back_video")


def test_the_command_prints_what_was_read(tiny_run, reader, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("signer_jax.evaluation.evaluate", lambda signer, split: Evaluation({"gloss/bleu4": 1.0}))
    words = ["evaluate", "--workdir", str(tiny_run), "--back-translation", str(reader)]
    assert main([*words, "--json", str(tmp_path / "x.json")]) == 0
    output = capsys.readouterr().out
    assert "\nback (dev, " in output and "\nthe run's less ground truth" in output and "\nback/bleu4" not in output
    assert "gloss/bleu4" in output and judging.NO_ESTIMATOR in output
    assert json.loads((tmp_path / "x.json").read_text())["metrics"]["back/bleu4_truth"] >= 0
    # ---- Of sentences that were learned nothing is said ----------------------------------------------------------
    assert main([*words, "--split", "train"]) == 0
    output = capsys.readouterr().out
    assert "\nback (" not in output and "are left out: the model was trained on them" in output
    assert "back/poses: not scored: train has no pose with a sentence that the model did not learn" in output


def test_what_was_scored_is_kept_whatever_comes_after(tiny_run, reader, tmp_path, monkeypatch, capsys):
    """A language that the reader lacks is told before; an estimator's fault, after hours of videos, loses nothing."""
    figures, kept = tmp_path / "x.json", []

    def evaluate(signer, split):
        kept.append(split)
        return Evaluation({"gloss/bleu4": 1.0})

    def broken(*_, **__):
        kept.append(json.loads(figures.read_text())["metrics"])
        raise RuntimeError("the estimator")

    monkeypatch.setattr("signer_jax.evaluation.evaluate", evaluate)
    monkeypatch.setattr(judging, "filmed", broken)
    monkeypatch.setattr("signer_jax.cli.evaluate._estimator", lambda _: Estimator("fake 1", found))
    monkeypatch.setattr(judging, "progress", lambda what, _: what)
    words = ["evaluate", "--workdir", str(tiny_run), "--back-translation", str(reader), "--json", str(figures)]
    with pytest.raises(RuntimeError, match="the estimator"):
        main(words)
    output = capsys.readouterr().out
    assert "gloss/bleu4" in output and "\nback (dev, " in output
    split, before = kept
    assert split == "dev" and before["gloss/bleu4"] == 1.0 and "back/bleu4" not in before
    assert {"gloss/bleu4", "back/bleu4"} <= set(json.loads(figures.read_text())["metrics"])
    about = BackTranslator.open(reader).about
    monkeypatch.setattr("signer_jax.back_translation.translator.read_about", lambda _: replace(about, languages=["xx"]))
    monkeypatch.setattr("signer_jax.back_translation.translator._sizes", lambda _: {})
    assert main(words) == 2 and "learned xx, not ase" in capsys.readouterr().err
    assert len(kept) == 2


class Parrot:
    """Reads what it is told that a pose says."""

    def __init__(self, said: dict[float, Read]):
        self.said = said

    def read(self, poses, languages):
        return [self.said[float(pose.coordinates[0, 0, 0])] for pose in poses]

    def cut(self, poses):
        return sum(len(pose) > 2 for pose in poses)


def performed(texts: list[str]) -> tuple[list[Sample], Parrot]:
    poses = [Pose(np.full((2, 1, 2), k, np.float32), np.ones((2, 1), np.float32), 16.0) for k in range(len(texts))]
    samples = [
        Sample(str(k), text, "ase", tuple(text.upper().split()), pose=pose)
        for k, (text, pose) in enumerate(zip(texts, poses, strict=True))
    ]
    return samples, Parrot({float(k): Read(text, text.upper()) for k, text in enumerate(texts)})


def test_each_row_is_of_its_own_poses():
    """The truth is read as it is, the run says two of six, one cannot be signed, and others' truths are none's."""
    texts = ["the dog is old today", "i closed the door again", "we will learn with her", "a cat never sleeps alone",
             "my mother works on mondays", "they sold his red car"]  # fmt: skip
    samples, translator = performed(texts)
    result, first = Evaluation(), samples[0].pose
    rows = {
        "": judging.read(translator, [first, None, samples[2].pose, first, first, first], samples),
        "_truth": judging.read(translator, [sample.pose for sample in samples], samples),
    }
    judging.score(result, "back", samples, judging.with_shuffled(rows, samples, "folder"), "folder")
    figures = result.metrics
    assert [figures[f"back/{score}_truth"] for score in ("bleu4", "rouge", "wer")] == pytest.approx([100, 100, 0])
    assert figures["back/bleu4_shuffled"] < 20 and figures["back/wer_shuffled"] > 70
    assert 100 / 3 <= figures["back/rouge"] < 50
    assert figures["back/wer_over_truth"] == figures["back/wer"] > 50
    assert figures["back/rouge_low"] < figures["back/rouge"] < figures["back/rouge_high"]
    assert figures["back/bleu4_truth_low"] == figures["back/bleu4_truth_high"] == pytest.approx(100)
    assert "over 6 different sentences" in result.facts["back/interval"]
    assert judging.other_sentences(samples, "folder") == [1, 2, 3, 4, 5, 0]
    assert judging.other_sentences(samples[:1], "folder") is None  # one sentence has no other
    assert examples.by_people(samples[0])


def test_another_sentence_is_no_other_way_to_write_it():
    samples, _ = performed(["The dog is old.", "the dog is old", "we learn", "WE LEARN!"])
    assert judging.other_sentences(samples, "folder") == [2, 2, 0, 0]
    result = Evaluation()
    judging.score(result, "back", samples, {"_truth": [Read("", "")] * 4}, "folder")
    assert result.facts["back/interval"].startswith("none of 2 different sentences")


def test_poses_that_are_read_in_part_are_counted():
    samples, translator = performed(["we learn", "he works"])
    translator.settings = SimpleNamespace(back_translation=SimpleNamespace(max_frames=2))
    long, result = Pose.joined([samples[0].pose] * 2), Evaluation()
    judging.read_rows(translator, {"": [long, None], "_truth": [one.pose for one in samples]}, samples, "back", result)
    assert result.facts["back/cut"].startswith("of 2 poses, longer than config.back_translation.max_frames = 2")
    assert result.facts["back/cut"].endswith("read no further: the run's 1")


def test_chinese_is_scored_by_characters():
    samples, translator = performed(["我们学习手语"])
    translator.said[0.0] = Read("我们学手语", "")
    result = Evaluation()
    judging.score(result, "back", samples, {"_truth": judging.read(translator, [samples[0].pose], samples)}, "folder")
    assert result.metrics["back/bleu1_truth"] == pytest.approx(100 * np.exp(1 - 6 / 5))
    assert "|han:characters" in result.facts["back/bleu_signature"]
