"""The paper's configs, each trained end to end on miniature prepared copies of the datasets that it names, by the
commands of its docstring.
"""

import ast
import json
import re
import shlex
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import ROOT
from data import test_estimators, test_prepare
from data.test_datasets_how2sign import FRONT, row, table
from data.test_datasets_prompt2sign import make, skels
from data.test_prepare_datasets import noses

from signer_jax import configuration
from signer_jax.back_translation import model as sign_to_text
from signer_jax.cli.main import main
from signer_jax.data import video
from signer_jax.data.estimators import dwpose
from signer_jax.data.glossing import english
from signer_jax.data.prepared import layout, reading
from signer_jax.planning import steps, weightless
from signer_jax.training import partitioning

FPS = 24.0
SIGNS = ("mother", "open", "door", "dog")
SENTENCES = ("The mother opens the door.", "The dog opens a door.", "My mother has a dog.", "A door opened.")
TINY = (
    "dtype=float32", "data.max_source=40", "data.max_target=40", "data.max_glosses=6", "data.read_threads=0",
    "tokenizer.vocab_size=70", "slul.d_model=32", "slul.d_kv=8", "slul.d_ff=32", "slul.heads=4",
    "slul.encoder_layers=1", "slul.decoder_layers=1", "slul.beams=2", "pose.window=12", "pose.gate_hidden=8",
    "pose.stabiliser_hidden=8", "evaluate.sentences=2", "evaluate.poses=2", "evaluate.videos=1",
    *(f"train.{stage}.{value}" for stage in ("slul", "pose", "vae", "images", "renderer")
      for value in ("steps=2", "batch=8", "warmup=1", "optimizer=adamw", "learning_rate=1e-3")),
)  # fmt: skip
RENDERER = (
    "data.size=32", "vae.base_dim=26", "vae.z_dim=12", "vae.patch_size=2", "vae.window=1", "renderer.dim=32",
    "renderer.heads=4", "renderer.ffn_dim=32", "renderer.layers=1", "renderer.stem_features=8,8",
    "renderer.control_size=32", "renderer.control_channels=8,8", "renderer.steps=1", "renderer.references=4",
)  # fmt: skip


def commands(config: str, *name: str) -> list[list[str]]:
    """The words of those commands in a config's docstring that begin so, `signer` aside."""
    text = ast.get_docstring(ast.parse((ROOT / "configs" / f"{config}.py").read_text())) or ""
    lines = [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line.startswith("signer ")]
    return [words[1:] for words in lines if tuple(words[1 : 1 + len(name)]) == name]


def prepared(config: str, dataset: str, source: Path, out: Path, **given: object) -> Path:
    """A set as the docstring makes it, but of this source and with these values of flags that stand there."""
    (words,) = commands(config, "prepare", dataset)
    for flag, value in {"source": source, "out": out, **given}.items():
        words[words.index(f"--{flag.replace('_', '-')}") + 1] = str(value)
    assert main(words) == 0
    return out


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    test_estimators.detector(folder / dwpose.FILES[0])
    test_estimators.poser(folder / dwpose.FILES[1])
    return folder


@pytest.fixture(scope="module")
def wlasl(tmp_path_factory) -> Path:
    """WLASL in miniature: three videos of each of four glosses, by two signers."""
    source = tmp_path_factory.mktemp("wlasl") / "source"
    (source / "videos").mkdir(parents=True)
    entries = []
    for i, gloss in enumerate(SIGNS):
        instances = []
        for k in range(3):
            pictures = [test_estimators.frame((40 + 4 * i + 2 * min(t, 4), 32 + 4 * k, 255)) for t in range(10)]
            video.write(source / "videos" / f"{10 * i + k:05d}.mp4", np.stack(pictures), FPS)
            instances.append({"video_id": f"{10 * i + k:05d}", "split": "train" if k < 2 else "val", "signer_id": k % 2,
                              "frame_start": 1, "frame_end": -1, "fps": 25, "url": ""})  # fmt: skip
        instances.append({"video_id": f"9{i:04d}", "split": "train", "url": ""})  # missing, as most are
        entries.append({"gloss": gloss, "instances": instances})
    (source / "WLASL_v0.3.json").write_text(json.dumps(entries))
    return source


@pytest.fixture(scope="module")
def signs(weights, wlasl) -> Path:
    """The signs with their videos, and poses that DWPose's graphs make."""
    out = wlasl.parent / "set"
    prepared("paper_how2sign", "wlasl", wlasl, out, size="32x32", pose_weights=weights)
    counts = layout.PreparedSet(out).counts
    assert counts["train"] | {"left_out": 4, "signs": 8, "videos": 8} == counts["train"] and counts["dev"]["signs"] == 4
    return out


@pytest.fixture(scope="module")
def how2sign(tmp_path_factory) -> Path:
    """How2Sign in miniature: clips with `.pose` files beside them, and a row whose clip is missing. Clip i has two
    frames more than the one before; frame t is a grey of 10 t, where the nose is t pixels down.
    """
    source = tmp_path_factory.mktemp("how2sign") / "source"
    for split, count in (("train", 4), ("val", 2)):
        names = [f"{split}_{i}-5-rgb_front" for i in range(count)]
        table(
            source,
            *(row(name, text=SENTENCES[i % 4]) for i, name in enumerate([*names, f"gone_{split}-5"])),
            split=split,
        )
        for i, name in enumerate(names):
            frames, folder = 14 + 2 * i, source / FRONT.format(split)
            for place in ("raw_videos", "features/holistic_pose"):
                (folder / place).mkdir(parents=True, exist_ok=True)
            shown = np.broadcast_to(10 * np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, 48, 64, 3))
            video.write(folder / "raw_videos" / f"{name}.mp4", shown, FPS)
            test_prepare.posed(folder / "features/holistic_pose" / f"{name}.pose", frames, FPS)
    out = prepared("paper_how2sign", "how2sign", source, source.parent / "set", size="32x32")
    report = json.loads((out / "report.json").read_text())
    assert report["glosses_by"] == {"rules": 6} and report["counts"]["train"]["left_out"] == 1
    return out


@pytest.fixture(scope="module")
def prompt2sign(tmp_path_factory) -> Path:
    source = tmp_path_factory.mktemp("prompt2sign") / "source"
    for split in ("train", "dev"):
        lines = [skels("progressive", 8 + 2 * i) for i in range(len(SENTENCES))]
        make(source / "ASL_part", split, text=list(SENTENCES), skels=lines, files=[f"{split}/{i}" for i in range(4)])
    return prepared("paper_prompt2sign", "prompt2sign", source, source.parent / "set")


def trained(config: str, workdir: Path, *sets: Path, values: tuple[str, ...]) -> dict:
    """Trained as the docstring says, on these sets in the place of its own, and without T5's weights and pieces."""
    (words,) = commands(config, "train")
    theirs = next(word for word in words if word.startswith("--config.data.source="))
    assert len(theirs.split(",")) == len(sets)
    words = [word for word in words if word != theirs and not word.startswith(("--config.slul", "--config.tokenizer"))]
    words[words.index("--config") + 1] = str(ROOT / words[words.index("--config") + 1])
    words[words.index("--workdir") + 1] = str(workdir)
    source = f"--config.data.source={','.join(map(str, sets))}"
    assert main([*words, source, *(f"--config.{value}" for value in values)]) == 0
    return json.loads((workdir / "result.json").read_text())


def test_what_belongs_together_in_how2sign_stays_together(how2sign, tmp_path):
    """At half the rate: a text has its glosses, a clip shows its text, picture and pose one moment."""
    reading.write(tmp_path / "data", str(how2sign), fps=FPS / 2, size=(32, 32))
    corpus = reading.opened(tmp_path / "data")
    texts, motions = corpus.texts("train"), corpus.motions("train")
    for one in (texts[i] for i in range(len(texts))):
        sentence = SENTENCES[int(re.findall(r"train_(\d)", one.name)[0])]
        assert one.glosses == english(sentence) and sentence in one.text
    assert len(texts) == len(motions) == 4
    for sample, shown in (motions.filmed(i) for i in range(4)):
        number = SENTENCES.index(sample.text)
        frames = 2 * np.arange(7 + number)
        assert np.abs(shown[:, 16, 16, 0] / 10 - frames).max() < 0.5 and len(shown) == len(frames)
        np.testing.assert_allclose(noses(sample), frames, atol=0.1)


def test_what_belongs_together_in_prompt2sign_stays_together(prompt2sign, tmp_path):
    reading.write(tmp_path / "data", str(prompt2sign), fps=FPS, size=(32, 32))
    corpus = reading.opened(tmp_path / "data")
    texts, motions = corpus.texts("train"), corpus.motions("train")
    for one in (texts[i] for i in range(len(texts))):
        sentence = SENTENCES[int(re.findall(r"train/(\d)", one.name)[0])]
        assert one.glosses == english(sentence) and sentence in one.text
    assert len(texts) == 3 * len(motions), "each with two prompts"
    for one in (motions[i] for i in range(len(motions))):
        assert one.pose is not None and len(one.pose) == 8 + 2 * SENTENCES.index(one.text)
        assert one.glosses == english(one.text)
    assert len(motions) == len(SENTENCES)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["paper_how2sign", "paper_prompt2sign"])
def test_every_stage_is_traced_and_lowered_at_full_size(config):
    """Its training step, of shapes alone: a value that does not fit another is an error here, not after a day."""
    settings = configuration.load_without_weights(config, ["--config.data.corpus=builtin"])  # no model is of its size
    described = weightless.described(settings)
    mesh = partitioning.make_mesh(asdict(settings.mesh), jax.devices()[:1])
    assert steps.numbers(described.params["slul"]) == pytest.approx(247.6e6, rel=0.01)  # T5 base
    for stage in settings.stages:
        step = steps.make(stage, settings, described, mesh)
        assert step.needed > 0
        step.program.trace(step.batch).lower()
    c = settings.back_translation
    reader = sign_to_text.build(c, settings.dtype, 8000, 1000, 2)
    shapes = jax.eval_shape(reader.init, jax.random.key(0), *sign_to_text.example(c))
    assert 10e6 < steps.numbers(shapes) < 60e6


@pytest.mark.slow
def test_how2sign_trains_to_the_renderer(how2sign, signs, tmp_path):
    result = trained("paper_how2sign", tmp_path / "run", how2sign, signs, values=(*TINY, *RENDERER))
    assert result["facts"]["gloss/references_by"] == "rules"
    assert {"gloss/bleu4", "video/ssim"} <= result["metrics"].keys()
    assert (tmp_path / "run" / "prior").is_dir() and (tmp_path / "run" / "latents").is_dir()


@pytest.mark.slow
def test_prompt2sign_trains_to_poses(prompt2sign, wlasl, weights, tmp_path):
    signs = prepared("paper_prompt2sign", "wlasl", wlasl, tmp_path / "signs", pose_weights=weights)
    result = trained("paper_prompt2sign", tmp_path / "run", prompt2sign, signs, values=TINY)
    assert "gloss/bleu4" in result["metrics"] and (tmp_path / "run" / "prior").is_dir()
