"""The stage `joint` on published Wan models: the video's loss reaches SLUL and SLP-MoE, and a run resumes and signs.

Data, SLUL and SLP-MoE are the tiny run's, whose stages are done; the video model is of random tiny weights.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_pipeline
from conftest import TINY
from flax.traverse_util import flatten_dict, unflatten_dict

from signer_jax import configuration, storage
from signer_jax.cli.import_ import CONFIGS
from signer_jax.pipeline import Signer
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.training import input_pipeline, partitioning, run, trained
from signer_jax.training.checkpoints import read_params
from signer_jax.training.held import Weights
from signer_jax.training.objectives import make_objective
from signer_jax.training.there import latest_step
from signer_jax.validation import read

STEPS = 2
DATA = ("data", "tokenizer", "slul", "pose", "loss", "evaluate", "mesh")


def config_of(variant: str, folder: Path, **changes):
    """The variant's shipped config at the tiny run's sizes."""
    c = configuration.shipped(CONFIGS.get(variant, "wan"), *(() if variant in CONFIGS else (variant,)))
    small = read(configuration.load(TINY))
    for section in DATA:
        c[section].update(asdict(getattr(small, section)))
    c.train.slul.update(asdict(small.train.slul))
    c.train.pose.update(asdict(small.train.pose))
    c.stages = ("slul", "pose", "renderer", "joint")
    c.seed, c.log_every, c.checkpoint_every, c.keep_checkpoints = small.seed, small.log_every, 1, STEPS
    c.dtype, c.remat = "float32", False
    c.renderer.init, c.vae.init = str(folder), str(folder / "vae")
    c.renderer.window, c.renderer.stride, c.renderer.steps, c.renderer.references = 5, 32, 2, 4
    c.renderer.overlap = 0
    c.renderer.solver, c.renderer.control_size, c.renderer.control_channels = "euler", 32, (8, 8, 8)
    c.renderer.control_fold = 1
    for stage in ("renderer", "joint"):
        c.train[stage].steps, c.train[stage].warmup, c.train[stage].batch = STEPS, 0, 8
    c.lora.rank, c.lora.alpha = 2, 3.0
    c.update_from_flattened_dict(changes)
    return read(c)


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("joint")


@pytest.fixture
def weights_of(base):
    """A variant's weights as they are published."""

    def folder(variant: str) -> Path:
        path = base / variant
        return path if path.exists() else tiny_pipeline.write(path, variant, encoders=False)

    return folder


def claimed(tiny_run: Path, workdir: Path, settings) -> None:
    """A run whose first stages are the tiny run's."""
    workdir.mkdir()
    for name in ("data", "prior", "checkpoints/slul", "checkpoints/pose"):
        shutil.copytree(tiny_run / name, workdir / name)
    shutil.copy(tiny_run / "tokenizer.model", workdir)
    (workdir / "config.json").write_text(json.dumps({"made_by": storage.MADE_BY, **asdict(settings)}))


def flat(tree) -> dict:
    return flatten_dict(jax.device_get(tree), sep="/")


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    ["wan2.1-t2v-1.3b", "wan2.1-i2v-14b", "wan2.1-fun-control-14b", "wan2.2-t2v-a14b", "wan2.2-ti2v-5b",
     "wan2.2-animate-14b"],
)  # fmt: skip
def test_the_videos_loss_reaches_slul_and_slp_moe(tiny_run, tmp_path, weights_of, variant):
    """By the semantics beside the text, and by the pose picture: each alone."""
    silent = {f"loss.{name}": 0.0 for name in asdict(read(configuration.load(TINY)).loss) if name != "diffusion"}
    settings, workdir = config_of(variant, weights_of(variant), **silent), tmp_path / "run"
    claimed(tiny_run, workdir, settings)
    mesh, corpus = run.mesh_of(settings), run.Corpus(workdir / "data")
    tokenizer = Tokenizer.load(workdir / "tokenizer.model", mask=settings.tokenizer.mask)
    weights = Weights.of(settings, tokenizer.vocab_size, workdir, mesh)
    params = weights.ready({}, weights.whole(), ("slul", "pose"))
    batches = input_pipeline.stage_batches(
        "joint", settings, workdir, corpus, tokenizer, weights.model, params, settings.seed, mesh
    )  # fmt: skip
    batch = partitioning.put_batch(next(batches), mesh)
    objective = make_objective("joint", weights.model, settings, tokenizer.mask_id)
    parts = ("slul", "slp_moe", "stabiliser")
    whole = flat(params)
    # Published models start with what SLUL's features and the pose say at zero.
    rng = np.random.default_rng(0)
    for path in whole:
        if "semantics" in path:
            whole[path] = 0.5 * rng.standard_normal(whole[path].shape).astype(np.float32)
    params = unflatten_dict(whole, sep="/")
    moving, frozen = ({part: params[part] for part in params if (part in parts) == wanted} for wanted in (True, False))

    @jax.jit
    def gradient(moving, batch):
        return jax.grad(lambda moving: objective({**frozen, **moving}, batch, jax.random.key(0))[0])(moving)

    def sizes(batch) -> dict[str, float]:
        found = gradient(moving, batch)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
        return {part: max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(found[part])) for part in parts}

    found = sizes(batch)
    assert min(found.values()) > 0, found
    # Without a candidate beside the first the gates have nothing to choose, so SLUL is reached by its features alone.
    one = np.array(batch["candidate_mask"])
    one[..., 1:] = False
    alone = sizes(batch | {"candidate_mask": jax.device_put(one, batch["candidate_mask"].sharding)})
    assert alone["slul"] > 0, alone


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["wan2.1-t2v-1.3b", "wan2.2-animate-14b"])
def test_a_joint_run_on_published_weights_resumes_exactly_and_signs(
    tiny_run, tmp_path, weights_of, variant, monkeypatch
):
    there, made = [], input_pipeline.stage_batches

    def noted(name, *others):
        there.append((name, set(others[5])))
        return made(name, *others)

    monkeypatch.setattr(input_pipeline, "stage_batches", noted)
    settings, workdir = config_of(variant, weights_of(variant)), tmp_path / "run"
    claimed(tiny_run, workdir, settings)

    def go():
        with run.claimed(settings, workdir):
            return flat(run.train(settings, workdir)[1])

    uninterrupted = go()
    # While text, pictures and clips are encoded the video model is not there yet.
    assert there[0] == ("renderer", {"vae"}) and there[1][0] == "joint"
    checkpoints = workdir / "checkpoints" / "joint"
    shutil.rmtree(checkpoints / str(STEPS))  # as a kill after the first step leaves it
    resumed = go()
    assert latest_step(checkpoints) == STEPS
    for path, value in uninterrupted.items():
        np.testing.assert_array_equal(resumed[path], value, err_msg=path)

    # What trains is the chain before the video model, and in this what its own stage trains.
    learned = flat(read_params(checkpoints))
    assert {path.partition("/")[0] for path in learned} == {"slul", "slp_moe", "stabiliser", "renderer"}
    own = flat(read_params(workdir / "checkpoints" / "renderer"))
    assert {path for path in learned if path.startswith("renderer/")} == set(own)
    before = flat(read_params(workdir / "checkpoints" / "slul"))
    assert any(not np.array_equal(value, learned[path]) for path, value in before.items())

    signer = Signer.load(workdir)
    for path, value in flat(signer.params).items():
        np.testing.assert_array_equal(value, uninterrupted[path], err_msg=path)
    signed = signer.sign("the house is old")
    assert signed.glosses and signed.video.shape[1:] == (32, 32, 3) and signed.video.std() > 0


@pytest.mark.parametrize("name", [*CONFIGS.values(), "wan"])
def test_joint_trains_the_chain_and_in_the_video_model_what_its_own_stage_trains(name):
    """In full it would be the whole published model, with its optimizer's state."""
    c = configuration.shipped(name)
    assert set(c.train.renderer.trains) < set(c.train.joint.trains)
    assert c.train.joint.frozen_dtype == c.train.renderer.frozen_dtype == "bfloat16"
    params = {part: {"a": {"kernel": np.zeros(1)}} for part in ("slul", "slp_moe", "stabiliser")}
    params["renderer"] = {"transformer": {"layers": {"semantics_gate": np.zeros(1), "wi": {"kernel": np.zeros(1)}}}}
    params["renderer"]["control"] = {"kernel": np.zeros(1)}
    chosen = trained.chosen(params, tuple(params), tuple(c.train.joint.trains), name)
    assert "renderer/transformer/layers/wi/kernel" not in chosen
    assert {"slul/a/kernel", "slp_moe/a/kernel", "stabiliser/a/kernel"} < chosen
