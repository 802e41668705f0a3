"""The commands, as a user runs them, on one tiny run; and the user's mistakes, one line each."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import TINY
from PIL import Image

import signer_jax
from signer_jax import configuration, storage
from signer_jax.cli.common import figures
from signer_jax.cli.main import COMMANDS, COPIED, PATHS, main, parser, with_equals
from signer_jax.data import video
from signer_jax.data.records import Corpus
from signer_jax.errors import SignerError
from signer_jax.pose.formats import pose_file
from signer_jax.training import run as training
from signer_jax.types import Pose
from signer_jax.validation import read

# A run says so of its clips before it reads a checkpoint.
TOLD = ("are in no window", "are shown no reference picture")


def fails(capsys, *arguments: str, code: int = 2) -> str:
    """Runs a command that must fail; returns its one line."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    said = [line for line in captured.err.splitlines() if line.startswith("signer:")]
    lines = [line for line in said if not any(told in line for told in TOLD)]
    assert len(lines) == 1 and "Traceback" not in captured.err
    return lines[0]


@pytest.mark.parametrize(
    "command", [command.__name__.rsplit(".", 1)[1].rstrip("_").replace("_", "-") for command in COMMANDS]
)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args([command, "--help"])
    assert exit_.value.code == 0
    assert f"example: signer {command}" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0 and capsys.readouterr().out == f"signer {signer_jax.__version__}\n"


@pytest.mark.parametrize("command", ["train", "demo", "plan"])
def test_the_help_says_how_a_value_is_overridden(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    examples = [word for line in shown.splitlines() for word in line.split() if word.startswith("--config.")]
    assert "--config.KEY=VALUE" in examples
    whole = [word for word in examples if "KEY" not in word and "DIR" not in word and '"' not in word]
    config = configuration.load("default")
    for override in whole:  # what the help shows is taken
        configuration.apply(config, override)
    assert len(whole) >= 3


def test_a_value_may_stand_after_a_space(tmp_path, capsys):
    arguments = ["--config.seed", "-1", "--config.a=b", "--config.b", "--workdir", "w", "--config.c"]
    joined = ["--config.seed=-1", "--config.a=b", "--config.b", "--workdir", "w", "--config.c"]
    assert with_equals(arguments) == joined
    train = ["train", "--config", str(TINY), "--workdir", str(tmp_path / "w")]
    assert "slul.beams is 0: it must be" in fails(capsys, *train, "--config.slul.beams", "0")
    assert "give a value" in fails(capsys, *train, "--config.slul.beams")


@pytest.mark.parametrize(
    ("flag", "arguments"),
    [
        ("--workdir", ["gloss", "hello", "--workdir", ""]),
        ("--workdir", ["demo", "--workdir", " "]),
        ("--config", ["train", "--config", "", "--workdir", "w"]),
        ("--prior", ["sign", "hello", "--prior", "", "--out", "x.mp4"]),
        ("--out", ["sign", "hello", "--workdir", "w", "--out", ""]),
        ("--pose", ["sign", "hello", "--workdir", "w", "--out", "x.mp4", "--pose", ""]),
        ("--style", ["sign", "hello", "--workdir", "w", "--out", "x.mp4", "--style", ""]),
        ("--json", ["evaluate", "--workdir", "w", "--json", ""]),
        ("--ref", ["score", "text", "--ref", "", "--hyp", "x"]),
        ("--hyp", ["score", "text", "--ref", "x", "--hyp", ""]),
        ("--source", ["prior", "build", "--source", "", "--out", "x"]),
        ("--out", ["prior", "build", "--source", "x", "--out", ""]),
        ("the path", ["prior", "info", ""]),
        ("the src", ["import", "wan", "", "--out", "x"]),
        ("--out", ["import", "t5", "x", "--out", ""]),
        ("the dir", ["export", "lora", "", "--out", "x"]),
        ("the input", ["convert", "", "x.pose"]),
        ("the output", ["convert", "x.pose", ""]),
        ("the files", ["view", "x.pose", ""]),
        ("--video", ["view", "x.pose", "--video", ""]),
        ("--png", ["view", "x.pose", "--png", ""]),
        ("--videos", ["study", "--videos", "x", "", "--out", "y"]),
        ("--votes", ["study", "--votes", "x", "", "--study", "y"]),
        ("--study", ["study", "--votes", "x", "--study", ""]),
        ("--config", ["plan", "--config", "", "--topology", "cpu:8"]),
        ("--workdir", ["reproduce", "table4", "--workdir", ""]),
    ],
)
def test_an_empty_path_and_a_url_are_one_line(flag, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert fails(capsys, *arguments).startswith(f"signer: {flag} is empty; give a path")
    only_read = flag.removeprefix("the ").strip("-").replace("-", "_") in COPIED  # which may lie in s3:// too
    for scheme in ("az",) if only_read else ("az", "s3"):
        remote = [argument.strip() or f"{scheme}://bucket/run" for argument in arguments]
        said = f"signer: {flag} {scheme}://bucket/run: {scheme}:// is no path of this machine's file system; mount what"
        assert fails(capsys, *remote).startswith(said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["data.source", "data.encoded", "vae.init", "renderer.text_encoder", "tokenizer.path"])
def test_a_url_in_a_config_is_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said = fails(capsys, "train", "--config", "demo", "--workdir", "w", f"--config.{name}=https://x.org/a")
    assert said.startswith(f"signer: config.{name} https://x.org/a: https:// is no path of this machine's file system")
    assert not list(tmp_path.iterdir())


def test_every_path_of_every_command_is_among_those():
    """What an argument's help calls no folder and no file is in this list; all else must be looked at."""
    plain = {
        "help",
        "version",
        "command",
        "action",
        "text",
        "language",
        "split",
        "kind",
        "steps",
        "fps",
        "trim",
        "dtype",
        "topology",
        "stage",
        "search",
        "profile",
        "size",
        "dataset",
        "shard",
        "pose_fps",
        "poses",
        "per_part",
        "pose_size",
        "spoken",
        "clean",
        "subset",
        "glosses",
        "glosses_for",
        "prompts",
        "samples",
        "name",
        "start",
        "threshold",
        "pairs",
        "seed",
        "question",
        "splits",
        "sentences",
        "variants",
        "fallback",
        "hand_crop",
        "han",
        "sample",
        "temperature",
        "top_k",
        "top_p",
        "as_recorded",
        "tables",
        "seeds",
        "canonical",
        "force",
        "forget",
    }
    found = set()
    for command in arguments_of(parser()):
        found |= command
    assert found - plain == set(PATHS)


def arguments_of(top) -> list[set[str]]:
    sets = [{action.dest for action in top._actions}]
    for action in top._actions:
        if isinstance(action.choices, dict):
            for sub in action.choices.values():
                sets += arguments_of(sub)
    return sets


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "takes more memory than there is; "),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"), "more memory than"),
        (OSError(13, "Permission denied", "a/b"), "signer: a/b: permission denied; check the place"),
    ],
)
def test_what_the_system_says_is_one_line(error, says, monkeypatch, capsys):
    def check(_):
        raise error

    monkeypatch.setattr("signer_jax.cli.gloss.check_text", check)
    code = 2 if isinstance(error, OSError) else 1  # too little memory is no bad input
    assert says in fails(capsys, "gloss", "hello", "--workdir", "w", code=code)


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    def check(_):
        raise AssertionError("ours")

    monkeypatch.setattr("signer_jax.cli.gloss.check_text", check)
    with pytest.raises(AssertionError, match="ours"):
        main(["gloss", "hello", "--workdir", "w"])


def test_an_interruption_says_what_it_may(monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    for name, arguments, more in (
        ("gloss.check_text", ["gloss", "hello", "--workdir", "w"], ""),
        ("train.finish", ["train", "--config", "demo", "--workdir", "w"], "; the same command resumes"),
    ):
        monkeypatch.setattr(f"signer_jax.cli.{name}", stop)
        assert main(arguments) == 130
        assert capsys.readouterr().err.startswith(f"signer: interrupted{more}")


def test_a_reader_who_has_enough_is_no_error(tmp_path):
    (tmp_path / "a.txt").write_text("A B\n" * 10)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "signer_jax", "score", "text", "--ref", "a.txt", "--hyp", "a.txt"]
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_interruption_in_a_finaliser_comes_again(monkeypatch, capsys):
    """Python prints what is raised there and goes on; so does it in callbacks of its garbage collector."""

    class Last:
        def __del__(self):
            raise KeyboardInterrupt

    def check(_):
        last = Last()
        del last
        time.sleep(60)
        raise AssertionError("it went on")

    monkeypatch.setattr("signer_jax.cli.gloss.check_text", check)
    started = time.monotonic()
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        assert main(["gloss", "hello", "--workdir", "w"]) == 130
    finally:
        signal.signal(signal.SIGINT, heard)
    assert time.monotonic() - started < 45 and "Exception ignored" not in capsys.readouterr().err


def test_no_split_and_an_empty_one_are_said():
    assert figures({}, "").startswith("no evaluation was asked for")
    assert figures({}, "dev").startswith("nothing to evaluate: dev")
    assert figures({"a": 1.0}, "dev").splitlines()[0] == "metric (dev)  value"


def test_no_output_is_written_into_what_is_ours(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kinds = ("pose database", "prepared corpus", "latent cache")
    for name, kind in zip(("a", "b", "c"), kinds, strict=True):
        with storage.new_folder(name, kind) as folder:
            (folder / "x").write_text("x")
    Path("lexicon").mkdir()
    Path("lexicon/index.csv").write_text("path,signed_language,glosses\n")
    Path("run").mkdir()
    Path("run/config.json").write_text('{"made_by": "signer_jax"}')
    Path("ref").write_text("a\n")
    before = sorted(Path().rglob("*"))
    score = ["score", "text", "--ref", "ref", "--hyp", "ref", "--json"]
    sign = ["sign", "hello", "--prior", "a", "--out"]
    for arguments, place in (
        ([*score, "b/j.json"], "a prepared corpus of signer_jax"),
        ([*score, "lexicon/j.json"], "lies in the lexicon"),
        ([*score, "run/result.json"], "is a part of the run"),
        ([*sign, "c/x.mp4"], "a latent cache of signer_jax"),
        ([*sign, "x.mp4", "--pose", "a/x.pose"], "a pose database of signer_jax"),
        (["prior", "build", "--source", "lexicon", "--out", "run/prior"], "is a part of the run"),
        (["prior", "build", "--source", "lexicon", "--out", "lexicon/new"], "lies in the lexicon"),
    ):
        line = fails(capsys, *arguments)
        assert place in line and line.endswith("; choose another place")
    assert sorted(Path().rglob("*")) == before


def test_an_output_that_may_not_be_written_is_refused_before_the_work(tmp_path, capsys, monkeypatch):
    (tmp_path / "ref").write_text("a\n")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    ref = str(tmp_path / "ref")
    line = fails(capsys, "score", "text", "--ref", ref, "--hyp", ref, "--json", str(tmp_path / "j"))
    assert "may not be written" in line


def test_the_module_is_the_program():
    run = subprocess.run([sys.executable, "-m", "signer_jax", "--help"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and "Text or a prompt in" in run.stdout


def test_a_run_leaves_its_result(tiny_run):
    result = json.loads((tiny_run / "result.json").read_text())
    assert result["step"] == 24 and len(result["params_sha256"]) == 64
    experts = ("top_expert", "random_expert", "majority_expert", "followed_expert", "mean_pose")
    names = ("gloss/bleu4", "gloss/bleu4_copy", "gloss/bleu4_nearest_text", "gloss/rouge", "pose/expert_accuracy",
             "pose/expert_accuracy_chance", "pose/expert_accuracy_majority", "pose/jerk_after", "pose/jerk_truth",
             *(f"pose/dtw_{kind}_{name}" for kind in ("followed", "nearest") for name in experts),
             *(f"pose/{kind}_{name}" for kind in ("smooth", "hand")
               for name in ("before", "after", "binomial", "savitzky_golay")),
             "video/ssim", "video/hand_ssim", "video/ssim_mean_frame", "video/ssim_nearest_pose")  # fmt: skip
    for name in names:
        assert np.isfinite(result["metrics"][name]), name
    signers = {key.rsplit("/", 1)[1] for key in result["metrics"] if key.startswith("pose/jerk_after/")}
    assert signers and {f"pose/hand_after/{s}" for s in signers} <= result["metrics"].keys()
    assert result["mesh"] == {"data": 8, "fsdp": 1, "context": 1, "tensor": 1}
    assert set(result["wall_seconds"]) == {"data", "slul", "pose", "vae", "images", "renderer", "joint", "evaluate"}
    assert (
        "nrefs:1" in result["facts"]["gloss/bleu_signature"] and "tok:none" in result["facts"]["gloss/bleu_signature"]
    )


def test_tensorboard_holds_the_curves(tiny_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tiny_run / "tensorboard"))
    events.Reload()
    scalars = events.Tags()["scalars"]
    for stage in ("slul", "pose", "vae", "images", "renderer", "joint"):
        # Every second step is asked for; a stage this short is logged at each.
        assert [event.step for event in events.Scalars(f"{stage}/loss")] == [1, 2, 3, 4]
    assert {"joint/diffusion", "joint/moe", "joint/sagm", "slul/kl", "slul/contrastive"} <= set(scalars)
    # The dev figures stand beside them, at the step of all stages.
    result = json.loads((tiny_run / "result.json").read_text())
    for name in ("gloss/bleu4", "pose/expert_accuracy", "video/ssim"):
        (event,) = events.Scalars(f"dev/{name}")
        assert event.step == result["step"] and event.value == pytest.approx(result["metrics"][name])
    # And samples of all three: what the model says, signs and shows.
    assert "glosses/text_summary" in events.Tags()["tensors"]
    assert {"pose", "video"} <= {tag.split("/")[0] for tag in events.Tags()["images"]}


def test_evaluate_prints_what_it_writes(tiny_run, tmp_path, capsys):
    words = ["--split", "dev", "--json", str(tmp_path / "f.json"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", "--workdir", str(tiny_run), *words]) == 0
    out = capsys.readouterr().out
    written = json.loads((tmp_path / "f.json").read_text())
    assert all(name in out for name in written["metrics"])
    # The run's own figures, from checkpoints alone.
    before = json.loads((tiny_run / "result.json").read_text())
    assert written["params_sha256"] == before["params_sha256"]
    same = {name: written["metrics"][name] for name in before["metrics"]}
    assert same == pytest.approx(before["metrics"], rel=1e-3, abs=1e-3)
    # And what the end of a training does not wait for: published scores and videos of the texts.
    more = written["metrics"].keys() - before["metrics"].keys()
    assert {name.partition("/")[0] for name in more} == {"published", "video_text"}
    assert {"published/dtw_pt", "published/ndtw_p_still", "video_text/ssim_reference", "video_text/psnr"} <= more
    assert written["metrics"]["published/sentences"] == 4 >= written["metrics"]["published/failed"]
    assert "|warp:fastdtw-1|" in written["facts"]["published/dtw_mje_slrtp"]
    # The files of the same: what is scored frame by frame has as many.
    folders = {path.relative_to(tmp_path / "out").as_posix(): {file.stem for file in path.iterdir()}
               for path in (tmp_path / "out").glob("*/*")}  # fmt: skip
    assert len(folders["videos/truth"]) == 2 and folders["videos/truth"] == folders["videos/rendered"]
    assert folders["poses/truth"] > folders["videos/truth"] and len(folders["poses/truth"]) >= 4
    assert folders["poses/signed"] <= folders["poses/truth"] and folders["videos/signed"] <= folders["poses/signed"]
    path = {name: str(tmp_path / "out" / name) for name in folders}
    words = ["--ref", path["videos/truth"], "--hyp", path["videos/rendered"], "--pose", path["poses/truth"]]
    assert main(["score", "video", *words]) == 0
    out = capsys.readouterr().out
    assert "hand_ssim" in out and "hands are not scored" not in out


def test_figures_are_kept_whatever_becomes_of_the_videos_of_texts(tiny_run, tmp_path, capsys, monkeypatch):
    from signer_jax import evaluation

    def full(signer, split, result):
        result.metrics["published/sentences"] = 1.0
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluation, "evaluate", lambda signer, split: evaluation.Evaluation({"gloss/bleu4": 12.5}))
    monkeypatch.setattr(evaluation, "from_texts", full)
    assert main(["evaluate", "--workdir", str(tiny_run), "--json", str(tmp_path / "f.json")]) != 0
    assert json.loads((tmp_path / "f.json").read_text())["metrics"] == {"gloss/bleu4": 12.5, "published/sentences": 1.0}
    assert "12.5" in capsys.readouterr().out


def test_figures_are_kept_where_the_runs_mesh_does_not_fit_the_machine(tiny_run, tmp_path, capsys, monkeypatch):
    """A run of three devices' mesh, on a machine of another number: its figures are printed and written."""
    from signer_jax import evaluation

    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    config = json.loads((run / "config.json").read_text())
    config["mesh"]["data"] = 3
    (run / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(evaluation, "evaluate", lambda signer, split: evaluation.Evaluation({"gloss/bleu4": 12.5}))
    monkeypatch.setattr(evaluation, "from_texts", lambda signer, split, result: None)
    assert main(["evaluate", "--workdir", str(run), "--json", str(tmp_path / "f.json")]) == 0
    written = json.loads((tmp_path / "f.json").read_text())
    assert written["metrics"] == {"gloss/bleu4": 12.5} and "12.5" in capsys.readouterr().out
    assert written["mesh"] == {"data": 1, "fsdp": 1, "context": 1, "tensor": 1}  # where the parameters lay


def test_gloss_prints_one_line(tiny_run, capsys):
    from signer_jax import Signer

    text = "how do you sign 'the house of Qwertz'?"
    assert main(["gloss", text, "--workdir", str(tiny_run), "--language", "ASE"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1
    signer = Signer.load(tiny_run)
    assert set(printed.out.split()) <= {*signer.corpus.about["glosses"]["ase"], "#QWERTZ"}
    assert "Qwertz" in printed.err or "#QWERTZ" in printed.err


def test_gloss_draws_a_line_each_by_its_seed(tiny_run, capsys):
    from signer_jax import Signer

    def lines(*flags: str) -> list[str]:
        assert main(["gloss", "the house of Qwertz", "--workdir", str(tiny_run), *flags]) == 0
        printed = capsys.readouterr()
        assert printed.err.count("not in the training texts") == 1  # of the reading, which all draws share
        return printed.out.splitlines()

    five = lines("--sample", "5")
    assert len(five) == 5 and len(set(five)) > 1
    assert set(" ".join(five).split()) <= {*Signer.load(tiny_run).corpus.about["glosses"]["ase"], "#QWERTZ"}
    assert lines("--sample", "3") == five[:3] and lines("--sample", "3", "--seed", "1") != five[:3]
    assert len(set(lines("--sample", "3", "--top-k", "1"))) == 1  # the likeliest piece each time


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--temperature", "1"], "--temperature: glosses are drawn only with --sample N"),
        (["--sample", "0"], "--sample 0: give how many draws, 1 to 1000"),
        (["--sample", "1", "--temperature", "0"], "--temperature 0.0: give a number from 0.01 to 100"),
        (["--sample", "1", "--temperature", "nan"], "--temperature nan: give a number"),
        (["--sample", "1", "--top-k", "-1"], "--top-k -1: give a number from 0 to 1000000"),
        (["--sample", "1", "--top-p", "1.5"], "--top-p 1.5: give a number from 1e-06 to 1"),
        (["--sample", "1", "--seed", "-3"], "--seed -3: give a number from 0 to 2147483647"),
    ],
)
def test_what_means_no_drawing_is_refused_before_a_run_is_read(flags, says, capsys):
    assert says in fails(capsys, "gloss", "hello", "--workdir", "nowhere", *flags)


def test_sign_makes_a_video_and_a_pose(tiny_run, tmp_path, capsys, monkeypatch):
    from signer_jax import Signer, pipeline

    # A few training steps do not teach glosses; what is tested here is everything after them.
    known = Signer.load(tiny_run).retrieval.prior.glosses("ase")[-1]
    understand = pipeline.understand

    def understood(texts, languages, linker):
        found = understand(texts, languages, linker)
        return replace(found, sentences=(replace(found.sentences[0], glosses=(known, "§§")),))

    monkeypatch.setattr(pipeline, "understand", understood)
    style = np.full((40, 50, 3), 90, np.uint8)
    Image.fromarray(style).save(tmp_path / "style.png")
    out, pose = tmp_path / "x.mp4", tmp_path / "x.pose"
    arguments = ["sign", "the house", "--workdir", str(tiny_run), "--out", str(out), "--pose", str(pose)]
    assert main([*arguments, "--style", str(tmp_path / "style.png")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{known} §§"
    assert any(line.startswith("skipped") and "§§" in line for line in printed)
    frames, fps = video.read(out)
    performed = pose_file.read(pose)
    assert fps == 16 and len(frames) == len(performed) > 5 and frames.shape[1:] == (256, 256, 3)
    assert frames.std() > 0
    # A picture gives the look, no training signer does.
    signer = Signer.load(tiny_run)
    picture = np.full((32, 32, 3), 90, np.uint8)
    assert not any("shown as" in line for line in printed)
    assert signer.sign("the house", style=picture).look == ""
    assert signer.sign("the house").look in signer.latents.banks


def test_what_is_known_without_weights_is_refused_before_they_are_read(tiny_run, tmp_path, capsys, monkeypatch):
    from signer_jax import pipeline
    from signer_jax.renderer.variants import find
    from signer_jax.training.held import Weights

    def must_not(*_, **__):
        raise AssertionError("weights were read")

    monkeypatch.setattr(Weights, "ready", must_not)
    places = np.random.default_rng(0).normal(size=(3, 128, 3)).astype(np.float32)
    pose_file.write(tmp_path / "some.pose", Pose(places, np.ones((3, 128), np.float32), 16.0))
    (tmp_path / "text.pose").write_text("no pose")
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(tmp_path / "style.png")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    sign = ["sign", "--workdir", str(tiny_run), "--out", str(tmp_path / "x.mp4")]
    export = ["export", "t5", str(tiny_run), "--out"]
    given = [*sign, "--from-pose", str(tmp_path / "some.pose")]
    cases = [
        ([*sign, "the house", "--language", "xyz"], "--language xyz: not a sign language of this run"),
        ([*sign, "--from-pose", str(tmp_path / "text.pose")], "text.pose"),
        ([*given, "the house"], "this run has no text encoder"),
        ([*export, str(tmp_path / "taken")], "exists and is no set of exported weights of signer_jax; choose another"),
        (
            ["export", "lora", str(tiny_run), "--out", str(tmp_path / "taken")],
            "exists and is no set of exported weights",
        ),
    ]
    for arguments, says in cases:
        assert main(arguments) == 2, arguments
        told = capsys.readouterr().err.strip().splitlines()
        assert len(told) == 1 and says in told[0], told
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        assert main([*export, str(tmp_path / "new")]) == 2
        assert "needs " in (said := capsys.readouterr().err) and "there are 1.00 kB; choose another place" in said
    with monkeypatch.context() as patch:
        patch.setitem(pipeline.VARIANTS, "own", find("wan2.1-t2v-1.3b"))
        assert main([*sign, "the house", "--style", str(tmp_path / "style.png")]) == 2
        assert "is shown no picture of a signer, so a style has no effect" in capsys.readouterr().err
    assert not (tmp_path / "x.mp4").exists() and not (tmp_path / "new").exists()


def test_score_text(tmp_path, capsys):
    (tmp_path / "ref").write_text("A B C D\nE F G H\n")
    (tmp_path / "hyp").write_text("A B C D\nE F G X\n")
    assert (
        main(
            [
                "score",
                "text",
                "--ref",
                str(tmp_path / "ref"),
                "--hyp",
                str(tmp_path / "hyp"),
                "--json",
                str(tmp_path / "j"),
            ]
        )
        == 0
    )
    assert json.loads((tmp_path / "j").read_text())["metrics"]["exact"] == 50
    assert "tok:none" in capsys.readouterr().out


def test_wrong_config_key(tmp_path, capsys):
    line = fails(capsys, "train", "--config", str(TINY), "--workdir", str(tmp_path / "w"), "--config.slul.d_modle=3")
    assert "did you mean 'slul.d_model'" in line and not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("--config.train.slul.steps=0", "train.slul.steps"),
        ("--config.train.slul.learning_rate=nan", "finite"),
        ("--config.data.corpus=builtni", "did you mean 'builtin'"),
        ("--config.stages=slull", "unknown stage 'slull'"),
        ("--config.renderer.control_size=33", "control_size 33"),
        ("--config.data.size=33", "data.size 33"),
        ("--config.train.slul.batch=3", "batch 3 does not divide"),
        ("--config.mesh.fsdp=3", "config.mesh"),
        ("--config.slul.init=nowhere", "no such file or folder"),
        ("--config.stages=renderer,vae", "'renderer' needs 'vae' before it"),
        ("--config.stages=images,vae,renderer", "'images' needs 'vae' before it"),
        ("--config.stages=renderer", "'renderer' needs 'vae' before it, or config.vae.init"),
        ("--config.stages=vae,renderer,slul", "'renderer' needs 'slul' before it"),
        ("--config.stages=pose,slul", "'pose' needs 'slul' before it"),
        ("--config.stages=slul,pose,vae,joint", "'joint' needs 'renderer' before it"),
        ("--config.stages=slul,slul", "'slul' is named twice"),
        ("--config.vae.principal_start=true", "config.vae.principal_start=false"),
        ("--config.renderer.condition_dropout=0", "config.renderer.condition_dropout above 0"),
        ("--config.data.sentences={'train': 0}", "'slul' learns from sentences.*raise config.data.sentences.train"),
        ("--config.data.poses={'train': 0}", "'pose' learns from poses"),
        ("--config.data.videos={'train': 0}", "'vae' learns from videos"),
        ("--config.data.corpus=phoenix14t", "'pose' learns from poses"),
        ("--config.data.source=/", "the built-in corpus reads no folder"),
        ("--config.tokenizer.mask=<extra_id_0>", "the vocabulary that the run trains itself has '<mask>'"),
    ],
)
def test_a_mistake_claims_no_folder(wrong, says, tmp_path, capsys):
    """After a typo the corrected command must not be refused as another config."""
    workdir = tmp_path / "w"
    line = fails(capsys, "train", "--config", str(TINY), "--workdir", str(workdir), wrong)
    assert says in line or re.search(says, line)
    assert not workdir.exists()


def test_a_study_over_seeds_keeps_its_corpus(tmp_path, monkeypatch):
    """config.seed is the training's, config.data.seed the corpus's."""

    def dev(*overrides: str) -> list[str]:
        workdir = tmp_path / overrides[0]
        settings = read(configuration.load(TINY, ["--config.stages=slul", *overrides]))
        monkeypatch.setattr(training.input_pipeline, "open_tokenizer", no_further)
        with pytest.raises(SignerError, match="far enough"):
            training.train(settings, workdir)
        records = Corpus(workdir / "data").texts("dev")
        return [records[i].text for i in range(len(records))]

    def no_further(*_):
        raise SignerError("far enough")

    small = "--config.data.sentences={'train':2}", "--config.data.poses={'train':0,'dev':0,'test':0}"
    none = "--config.data.videos={'train':0,'dev':0,'test':0}"
    first = dev("--config.seed=0", *small, none)
    assert len(first) == 8 and dev("--config.seed=1", *small, none) == first
    assert dev("--config.data.seed=1", *small, none) != first


def test_missing_folders(tmp_path, capsys):
    assert "holds no run" in fails(capsys, "evaluate", "--workdir", str(tmp_path / "nowhere"))
    source = str(tmp_path / "nowhere")
    line = fails(
        capsys, "train", "--config", "phoenix14t", "--workdir", str(tmp_path / "w"), f"--config.data.source={source}"
    )
    assert "no such folder" in line
    assert "does not exist" in fails(
        capsys, "sign", "hello", "--workdir", source, "--out", str(tmp_path / "no" / "x.mp4")
    )
    assert "no pose database" in fails(capsys, "prior", "info", source)
    assert "no such file" in fails(capsys, "train", "--config", "demmo", "--workdir", str(tmp_path / "w"))


def test_a_long_text_shows_how_far_it_is(tiny_run, tmp_path, capsys):
    text = " ".join(["the house is new."] * 8)
    sign = ["sign", text, "--workdir", str(tiny_run), "--language", "us", "--out", str(tmp_path / "long.mp4")]
    assert main(sign) == 0
    shown = capsys.readouterr().err
    assert "8/8" in shown and "sentences performed" in shown and "sentences rendered" in shown


def test_a_missing_tokenizer_is_named_and_made_anew(tiny_run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    made = (copy / "tokenizer.model").read_bytes()
    (copy / "tokenizer.model").unlink()
    line = fails(capsys, "gloss", "the house", "--workdir", str(copy))
    assert "tokenizer.model: the tokenizer of this run is missing; run the same `signer train`" in line
    assert main(["train", "--config", str(TINY), "--workdir", str(copy)]) == 0
    assert (copy / "tokenizer.model").read_bytes() == made


def test_texts_that_cannot_be_signed(tiny_run, tmp_path, capsys):
    out = ["--workdir", str(tiny_run), "--out", str(tmp_path / "x.mp4")]
    assert "the text is empty" in fails(capsys, "sign", "  ", *out)
    assert "in no language that this run knows: ase (English), gsg (German)" in fails(
        capsys, "sign", "щука плывёт", *out
    )
    assert "knows no word of it to sign in ase, nor" in fails(capsys, "sign", "щука плывёт", *out, "--language", "ASL")
    # A language that nobody chose is not named.
    assert "'the zzzz': this run knows no word of it to sign, nor" in fails(capsys, "sign", "the zzzz", *out)
    assert "--language xyz" in fails(capsys, "sign", "the house", *out, "--language", "xyz")
    assert "must end in .mp4" in fails(
        capsys, "sign", "the house", "--workdir", str(tiny_run), "--out", str(tmp_path / "x.gif")
    )
    assert "no such file" in fails(capsys, "sign", "the house", *out, "--style", str(tmp_path / "none.png"))
    assert not list(tmp_path.iterdir())


def test_a_workdir_of_another_config(tiny_run, capsys):
    line = fails(capsys, "train", "--config", str(TINY), "--workdir", str(tiny_run), "--config.slul.d_model=48")
    assert "slul.d_model was 32, is now 48" in line


def test_an_unfinished_run_signs_nothing(tiny_run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    (copy / "checkpoints" / "pose" / "4").rename(copy / "checkpoints" / "pose" / "2")
    for command in (["gloss", "the house"], ["sign", "the house", "--out", str(tmp_path / "x.mp4")], ["evaluate"]):
        line = fails(capsys, *command, "--workdir", str(copy))
        assert "stage 'pose' stands at step 2 of 4" in line and "signer train" in line


def test_a_corrupt_checkpoint_is_named_and_nothing_is_lost(tiny_run, tmp_path, capsys):
    copy = tmp_path / "copy"  # of whose SLUL the last stage has the newest; that of "slul" is not read any more
    shutil.copytree(tiny_run, copy)
    state = copy / "checkpoints" / "joint" / "4" / "state"
    for file in state.rglob("*"):
        if file.is_file():
            file.write_bytes(b"\0" * 16)
    before = sorted(path.relative_to(copy) for path in copy.rglob("*"))
    for command in (["gloss", "the house"], ["train", "--config", str(TINY)]):
        line = fails(capsys, *command, "--workdir", str(copy))
        assert str(copy / "checkpoints" / "joint" / "4") in line and "is damaged" in line
    after = sorted(path.relative_to(copy) for path in copy.rglob("*"))
    assert set(before) <= set(after)
    # Its own advice mends it: without that stage, training starts it again.
    shutil.rmtree(copy / "checkpoints" / "joint" / "4")
    assert main(["train", "--config", str(TINY), "--workdir", str(copy)]) == 0
    again, first = (json.loads((folder / "result.json").read_text()) for folder in (copy, tiny_run))
    assert again["params_sha256"] == first["params_sha256"]
