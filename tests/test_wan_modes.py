"""Modes of training on published Wan models: what a mode changes, all of it; and what is refused.

`semantics` on one config of each layout, branch, full and lora on one of them each: what trains is a rule on paths, the
same for all. The modes that the configs are shipped with go all the way in test_wan_configs.
"""

import re
from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from wan_runs import VARIANTS, Weights, claimed, config_of, shipped

from signer_jax.data.records import Corpus
from signer_jax.errors import SignerError
from signer_jax.interop import kept
from signer_jax.renderer import variants
from signer_jax.renderer.variants import find
from signer_jax.training import input_pipeline, lora, partitioning, run
from signer_jax.training.checkpoints import Checkpoints, read_params
from signer_jax.training.loop import Program, cut, fit
from signer_jax.training.monitoring import Monitor
from signer_jax.validation import read

STEPS = 2  # an adapter's A learns from the second on, and so does what stands behind the branch's zeros
SEED = 1  # with it, and with 0 below, the two batches have the levels of one expert each: both must learn
CONFIGS = ("wan_ti2v_5b", "wan_a14b", "wan_animate_14b")  # what the others are laid out like is among these
MODES = {
    "branch": r"renderer/control/|semantics|renderer/transformer/pose_patch_embedding/",
    "full": "",
    "lora": "/lora_[ab]$",
}
# By themselves; test_wan_configs has branch, full and lora of the small T2V, and what the configs are shipped with.
CASES = [
    ("wan_ti2v_5b", "lora"), ("wan_a14b", "branch"), ("wan_animate_14b", "full"),
]  # fmt: skip


def settings_of(name: str, folder, trains: tuple[str, ...], stages: tuple[str, ...] = ("slul", "renderer")):
    c = config_of(name, folder, trains)
    c.stages, c.remat, c.train.renderer.steps, c.train.renderer.warmup = stages, False, STEPS, 0
    c.train.renderer.weight_decay = 0.0  # so that what moves has a gradient
    c.train.renderer.learning_rate = 1e-2
    c.seed = SEED
    return c


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Weights:
    return Weights(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def started(tiny_run, weights, tmp_path_factory):
    """A config's run with SLUL and its encoders, in the mode `semantics`: settings, folder, modules, parameters."""

    @cache
    def of(name: str):
        workdir = tmp_path_factory.mktemp("modes") / "run"
        settings = read(settings_of(name, weights.of(VARIANTS[name], encoders=True), ("semantics",)))
        claimed(tiny_run, workdir, settings, weights)
        with run.claimed(settings, workdir):
            model, params = run.train(settings, workdir)
        weights.keep(workdir)
        return kept.local(settings, workdir), workdir, model, jax.device_get(params)

    return of


def flat(tree) -> dict:
    return flatten_dict(jax.device_get(tree), sep="/")


def with_open_gates(params):
    """Behind a closed gate an expert learns from the second batch on that has its levels: here from the first."""
    return jax.tree_util.tree_map_with_path(
        lambda path, value: np.full_like(value, 0.1) if path[-1].key == "semantics_gate" else value, params
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_the_mode_semantics_trains_what_reads_slul(started, name):
    """By a whole run, which opens the gates."""
    _, workdir, _, params = started(name)
    held = flat(read_params(workdir / "checkpoints" / "renderer"))
    assert held.keys() == {path for path in flat({"renderer": params["renderer"]}) if re.search("semantics", path)}
    gates = {path: value for path, value in held.items() if path.endswith("semantics_gate")}
    moved = {path for path, value in gates.items() if value.any()}  # from zero
    assert gates and moved == set(gates)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), CASES)
def test_a_mode_trains_all_that_it_names_and_nothing_else(started, tmp_path, name, mode):
    settings, workdir, model, at_first = started(name)
    if mode == "branch":
        assert (model.renderer.control is None) == (find(VARIANTS[name]).pose == "tokens")
    changed = replace(settings.train.renderer, trains=(mode,))
    settings = replace(settings, train=replace(settings.train, renderer=changed))
    corpus, mesh = Corpus(workdir / "data"), run.mesh_of(settings)
    at_first = with_open_gates(at_first)
    params = jax.device_put(at_first, partitioning.tree_shardings(at_first, mesh))  # which training uses up
    stage = run.stage_of("renderer", model, settings, 0)
    tokenizer = input_pipeline.open_tokenizer(settings, workdir, corpus)
    batches = input_pipeline.stage_batches("renderer", settings, workdir, corpus, tokenizer, model, params, 0, mesh)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        learned = fit(
            Program(stage, params, mesh), params, batches, seed=0, checkpoints=checkpoints,
            monitor=Monitor(tmp_path / "curves"), log_every=1, checkpoint_every=STEPS,
        )  # fmt: skip
    before, now = flat(cut(stage, at_first, 0)[0]), flat(learned)
    held = flat(read_params(tmp_path / "checkpoints"))
    at = lora.places(at_first, ("renderer",), settings.lora.targets, "here")
    known = set(flat({"renderer": at_first["renderer"]}))
    if mode == "lora":
        known |= {f"{place}/lora_{side}" for place in at for side in "ab"}
    assert held.keys() == {path for path in known if re.search(MODES[mode], path)}
    assert now.keys() == held.keys()
    moved = {path for path, value in now.items() if not np.array_equal(value, before[path])}
    assert moved == set(held), sorted(set(held) - moved)[:9]


@pytest.mark.parametrize(
    ("name", "trains", "changes", "says"),
    [
        ("wan_t2v_1_3b", ("semantics",), {}, "'semantics' matches no parameter: .*no SLUL.*'slul' to config.stages"),
        ("wan_t2v_1_3b", ("branch",), {"control": "none"}, "'branch' matches no parameter: .*config.renderer.control"),
        ("wan:wan2.1-fun-control-14b", ("branch",), {}, "'branch' matches no parameter: .*channels.*lora"),
        ("wan_animate_14b", ("branch",), {"control": "none"}, "control 'none' the model is shown no pose; set"),
        ("wan_animate_14b", ("branch", "lora"), {"control": "none"}, "'branch' trains what reads the pose"),
    ],
)
def test_a_mode_that_could_change_nothing_is_refused(weights, tmp_path, name, trains, changes, says):
    variant = VARIANTS.get(name, name.partition(":")[2])
    c = settings_of(name, weights.of(variant), trains, ("renderer",))
    c.renderer.update(changes)
    with pytest.raises(SignerError, match=says) as error, run.claimed(read(c), tmp_path / "run"):
        raise AssertionError("it was claimed")
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("variant", [name for name in variants.VARIANTS if name != "own"])
def test_a_config_of_every_variant_shows_it_the_pose_in_its_own_way(variant):
    c, branch = shipped(f"wan:{variant}"), find(variant).pose == "branch"
    assert c.renderer.control == ("branch" if branch else "variant")
    assert tuple(c.train.renderer.trains) == (("branch",) if branch else ("lora", "semantics"))
