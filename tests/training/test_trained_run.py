"""A whole run whose stages train a part of their parameters: what is read of it is what was trained, resumed or not."""

import json
import re
from dataclasses import replace
from functools import partial
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY
from flax.traverse_util import flatten_dict
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from signer_jax import configuration, layout, samples
from signer_jax.cli.main import main
from signer_jax.cli.train import finish
from signer_jax.errors import SignerError
from signer_jax.evaluation import Evaluation
from signer_jax.pipeline import Signer
from signer_jax.samples import Samples
from signer_jax.scores import gloss_score
from signer_jax.training import partitioning, run
from signer_jax.training.checkpoints import read_params
from signer_jax.training.monitoring import Monitor
from signer_jax.validation import read


def config(**changes):
    c = configuration.load(TINY)
    c.stages = ("slul", "vae")
    c.train.slul.update(
        {"trains": ("lora", "final_norm"), "ema": 0.5, "accumulate": 2, "optimizer": "adafactor", "batch": 16,
         "frozen_dtype": "bfloat16", "rates": ("lora_b=4",)}
    )  # fmt: skip
    c.lora.rank = 2
    c.vae.buckets = ("5x32x32", "9x32x32", "201x32x32")
    for stage in c.stages:
        c.train[stage].steps = 4
    c.update_from_flattened_dict(changes)
    return read(c)


@pytest.mark.slow
def test_what_signs_is_what_was_trained(tmp_path, capfd):
    settings = config()
    with run.claimed(settings, tmp_path / "run"):
        _, params = run.train(settings, tmp_path / "run")
    assert "training clips a bucket: 5x32x32 0, 9x32x32 8, 201x32x32 0" in capfd.readouterr().err
    saved = flatten_dict(read_params(tmp_path / "run" / "checkpoints" / "slul"), sep="/")
    assert all(name.endswith(("/lora_a", "/lora_b", "final_norm/scale")) for name in saved)
    assert sum(name.endswith("lora_a") for name in saved) == 2 * (4 + 3) + 4  # both sides, and cross attention
    assert sum(leaf.size for leaf in saved.values()) < 0.4 * sum(leaf.size for leaf in jax.tree.leaves(params["slul"]))

    loaded = Signer.load(tmp_path / "run").params
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(loaded), params)
    assert "lora" not in " ".join(flatten_dict(params, sep="/"))
    with run.claimed(settings, tmp_path / "run"):  # all stages done: read, not trained
        _, again = run.train(settings, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_a_large_array_that_no_axis_splits_stops_a_run_before_its_stages(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "LARGE", 2**14)
    settings = config(**{"stages": ("slul",), "mesh.data": 1, "mesh.fsdp": 8, "slul.d_model": 36})
    with (
        pytest.raises(SignerError, match=r"slul/.* fsdp 8 does not divide its embed of 36"),
        run.claimed(settings, tmp_path / "run"),
    ):
        run.train(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_without_memory_of_the_hosts_the_optimizers_state_cannot_be_there(tmp_path, monkeypatch):
    monkeypatch.setattr(partitioning, "HOST", "none of these")
    settings = config(offload_optimizer=True)
    with (
        pytest.raises(SignerError, match="config.offload_optimizer: cpu devices reach no memory of the host's here"),
        run.claimed(settings, tmp_path / "run"),
    ):
        pass


def test_without_dev_texts_nothing_can_be_chosen_by_them(tmp_path):
    changes = {"stages": ("slul",), "data.sentences.dev": 0, "data.poses.dev": 0, "data.videos.dev": 0}
    settings = config(**changes, **{"train.slul.select_every": 2})
    with (
        pytest.raises(
            SignerError, match=r"select_by 'bleu4': scores texts of dev, and this corpus has none there; set"
        ),
        run.claimed(settings, tmp_path / "run"),
    ):
        run.train(settings, tmp_path / "run", scored=partial(gloss_score, settings, tmp_path / "run"))


@pytest.mark.slow
def test_a_run_that_is_over_writes_no_curves_and_samples_again(tmp_path):
    c = configuration.load(TINY)
    c.stages, c.train.slul.steps, c.evaluate.sentences = ("slul",), 2, 6
    c.train.slul.select_every, c.train.slul.select_sentences = 1, 3

    def curves() -> dict:
        return {file.name: file.read_bytes() for file in (tmp_path / "run" / "tensorboard").iterdir()}

    finish(c, tmp_path / "run")
    first, told = curves(), json.loads((tmp_path / "run" / "result.json").read_text())
    assert any(b"glosses/text_summary" in data for data in first.values())
    # It chose by dev, which is told wherever the figures are.
    chosen = told["selected"]["slul"]
    (first_score, last_score) = (score for _, score in chosen["looks"])
    assert [step for step, _ in chosen["looks"]] == [1, 2]
    assert chosen["given"] == [1 if first_score >= last_score else 2]
    by = re.match(
        r"BLEU-4 of 3 texts of dev(, the mean of .+)?, greedy \(the texts themselves: .*; nrefs:1", chosen["by"]
    )
    assert by is not None
    selected_on = told["facts"]["gloss/selected_on"]
    assert re.search(r"of the same texts, so they flatter, but for gloss/bleu4_unchosen, of [345] others$", selected_on)
    assert 0 <= told["metrics"]["gloss/bleu4_unchosen"] <= 100
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [[event.step, event.value] for event in events.Scalars("slul/dev_bleu4")] == [
        [step, pytest.approx(score, rel=1e-6)] for step, score in chosen["looks"]
    ]
    assert main(["evaluate", "--workdir", str(tmp_path / "run"), "--json", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert {name: again[name] for name in ("selected", "params_sha256")} == {
        name: told[name] for name in ("selected", "params_sha256")
    }
    finish(c, tmp_path / "run")
    assert curves() == first
    assert json.loads((tmp_path / "run" / "result.json").read_text())["params_sha256"] == told["params_sha256"]
    (tmp_path / "run" / "result.json").unlink()  # killed before it was written: they may not be there
    finish(c, tmp_path / "run")
    (new,) = curves().keys() - first.keys()
    assert b"glosses/text_summary" in curves()[new] and b"environment" not in curves()[new]


def pictured(folder) -> dict[str, list[int]]:
    """The steps of what TensorBoard shows beside curves, by name."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    found = {tag: events.Images(tag) for tag in events.Tags()["images"]}
    found |= {tag: events.Tensors(tag) for tag in events.Tags()["tensors"]}
    return {tag: [event.step for event in found[tag]] for tag in found if not tag.startswith("environment")}


@pytest.mark.slow
def test_samples_stand_in_tensorboard_while_a_stage_trains_and_change_nothing(tmp_path):
    c = configuration.load(TINY)
    c.stages, c.evaluate.split, c.train.slul.ema = ("slul",), "", 0.5
    finish(c, tmp_path / "without")
    c.samples_every = 3
    finish(c, tmp_path / "with")
    runs = tmp_path / "with", tmp_path / "without"
    one, other = (json.loads((run / "result.json").read_text())["params_sha256"] for run in runs)
    assert one == other
    assert [pictured(run / "tensorboard") for run in runs] == [{"slul/glosses/text_summary": [3, 4]}, {}]
    finish(c, tmp_path / "with")  # a stage that is over is not shown again
    assert pictured(tmp_path / "with" / "tensorboard") == {"slul/glosses/text_summary": [3, 4]}


def test_a_stage_shows_what_it_trains(tiny_run, tmp_path, capsys):
    loaded = Signer.load(tiny_run)
    monitor, shown = Monitor(tmp_path), Samples(loaded.settings, tiny_run)
    own = {"pose": ("slul", "slp_moe", "stabiliser"), "renderer": ("slul", "vae", "renderer"), "joint": loaded.params}
    programs = []
    for step, (stage, parts) in enumerate(own.items()):
        shown(stage, loaded.model, monitor, step, {part: loaded.params[part] for part in parts}, lambda: False)
        programs.append(shown._studio and shown._studio.film)
    assert programs[0] is None and programs[1] is programs[2]  # compiled once
    shown("joint", loaded.model, monitor, 4, loaded.params, lambda: True)  # the run was asked to stop: nothing more
    assert shown._studio.params == {}  # the next step uses them up
    poses, clips = {"pose/ground_truth", "pose/top_expert__stabilised"}, {"video/0", "video/1"}
    wanted = {f"pose/{one}": [0] for one in poses} | {f"renderer/{one}": [1] for one in clips}
    assert pictured(tmp_path) == wanted | {f"joint/{one}": [2] for one in (*poses, *clips, "glosses/text_summary")}
    nothing = Samples(loaded.settings, tiny_run, "none")
    for _ in range(2):
        nothing("slul", loaded.model, monitor, 3, {"slul": loaded.params["slul"]}, lambda: False)
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("signer: stage 'slul': no samples (") and line.endswith("; training goes on")


@pytest.mark.parametrize("where", ["gathering", "making", "another process"])
def test_training_goes_on_without_samples_whatever_hinders_them(where, tmp_path, monkeypatch, capsys):
    made, params = [], {"slul": {"a": jnp.ones(2)}}
    shown = Samples(config(), tmp_path)

    def full(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 9 bytes")

    def fails(*_: object) -> NoReturn:
        made.append(1)
        raise KeyError("nothing of the kind")

    if where == "gathering":
        monkeypatch.setattr(samples, "here", full)
    if where == "another process":
        monkeypatch.setattr(samples, "first_failure", lambda at, mine, _: "no room" if at.endswith("own") else mine)
    monkeypatch.setattr(shown, "_made", fails)
    for step in range(2):
        shown("slul", None, None, step, params, lambda: False)
    says = {
        "gathering": "takes more memory than there is; .*", "making": r"KeyError: 'nothing of the kind'",
        "another process": "no room",
    }  # fmt: skip
    _, line = capsys.readouterr().err.splitlines()  # the first is of the stage vae
    assert re.fullmatch(rf"signer: stage 'slul': no samples \({says[where]}\); training goes on", line)
    assert len(made) == 2 * (where == "making")


def test_only_what_is_shown_is_handed_over_and_the_rest_is_said(tmp_path, monkeypatch, capsys):
    settings = replace(config(), stages=("slul", "vae", "joint"))
    parts = ("slul", "slp_moe", "stabiliser", "vae", "renderer")
    gathered: list[set[str]] = []
    monkeypatch.setattr(samples, "here", lambda params, *_, **__: gathered.append({*params}) or params)
    monkeypatch.setattr(Samples, "_made", lambda *_: (Evaluation(), 25.0))
    for encoder in ("", "umt5"):
        shown = Samples(replace(settings, renderer=replace(settings.renderer, text_encoder=encoder)), tmp_path)
        for stage in ("slul", "vae", "renderer", "joint"):
            shown(stage, None, Monitor(tmp_path), 1, {part: {"a": jnp.ones(2)} for part in parts}, lambda: False)
    poses = {"slul", "slp_moe", "stabiliser"}
    assert gathered == [{"slul"}, {"slul", "vae", "renderer"}, {*parts}, {"slul"}, poses]
    nothing, clips = "stage 'vae' shows nothing", "stage 'joint' shows no clips: while it trains, config.renderer.text"
    said = [line.removeprefix("signer: config.samples_every: ") for line in capsys.readouterr().err.splitlines()]
    assert said[:2] == [nothing] * 2 and said[2].startswith(clips) and len(said) == 3


def test_a_process_without_room_for_what_others_hand_over_says_so_before(monkeypatch):
    mesh, free = partitioning.make_mesh({"data": 1, "fsdp": 8}), [2e9]
    params = {"a": jax.ShapeDtypeStruct((8, 1000, 1000), jnp.float32)}  # 32 MB
    monkeypatch.setattr(partitioning, "_free", lambda _: free[0])
    partitioning.check_room(params, mesh)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    partitioning.check_room(params, mesh)
    free[0] = None  # a platform that does not say
    partitioning.check_room(params, mesh)
    free[0] = 63e6
    says = r"^they need 0\.1 GB beside the training on each device of a process, and .* has 0\.1 GB$"
    with pytest.raises(SignerError, match=says):
        partitioning.check_room(params, mesh)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"train.slul.trains": ("encoder/layers/mpl",)},
            "config.train.slul.trains: .*did you mean 'slul/encoder/layers",
        ),
        ({"train.slul.trains": ("branch",)}, "config.train.slul.trains: 'branch' matches no parameter"),
        ({"train.slul.rates": ("mlp/wi_0/kernel=2",)}, "config.train.slul.rates"),
        ({"lora.targets": ("norm/scale$",)}, "config.lora.targets: .* no dense layer's kernel"),
        (
            {"mesh.data": 1, "mesh.fsdp": 8, "slul.d_model": 500, "tokenizer.vocab_size": 50_001},
            "layout: a large array stays whole: .*500.* fsdp 8 does not divide .*config.allow_whole=true",
        ),
        ({"train.slul.accumulate": 4}, "batch 16 / accumulate 4 does not divide among 8 devices"),
    ],
)
def test_a_rule_that_names_nothing_is_refused_before_the_folder_is_claimed(tmp_path, changes, says):
    with (
        pytest.raises(SignerError, match=says) as error,
        run.claimed(config(**changes), tmp_path / "run"),
    ):
        pass
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{"allow_whole": True, "slul.d_model": 500}, {"mesh.fsdp": 1, "mesh.tensor": 8}])
def test_what_a_corpus_decides_is_no_reason_to_begin_no_run(tmp_path, changes):
    """How many pieces its vocabulary has, at most so many."""
    whole = {"mesh.data": 1, "mesh.fsdp": 8, "slul.d_model": 96, "tokenizer.vocab_size": 50_001} | changes
    with run.claimed(config(**whole), tmp_path / "run"):
        assert (tmp_path / "run" / "config.json").exists()
