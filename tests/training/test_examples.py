"""The planned batches are those that the data streams make."""

from dataclasses import replace
from pathlib import Path

import jax
import pytest
from conftest import TINY

from signer_jax import configuration
from signer_jax import model as models
from signer_jax.data.prepare import prepare as prepare_corpus
from signer_jax.training import ahead, examples, partitioning, run
from signer_jax.training.held import Weights
from signer_jax.training.trained import join, split
from signer_jax.validation import read


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> tuple:
    """The tiny chain, untrained, on its corpus."""
    workdir: Path = tmp_path_factory.mktemp("examples")
    settings = read(configuration.load(TINY))
    corpus = prepare_corpus(settings.data, settings.data.seed, workdir / "data")
    tokenizer = run.open_tokenizer(settings, workdir, corpus)
    model, published = models.build(settings, tokenizer.vocab_size)
    mesh = run.mesh_of(settings)
    params = models.init(model, settings, published, 0)
    params = jax.device_put(params, partitioning.tree_shardings(params, mesh))
    return settings, workdir, corpus, tokenizer, model, params, mesh


def same_as_the_streams(stage: str, settings, workdir, corpus, tokenizer, model, params, mesh) -> None:
    batch = next(run.stage_batches(stage, settings, workdir, corpus, tokenizer, model, params, 0, mesh))
    planned = examples.batch(stage, settings, model)
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in planned.items()} == {
        name: (array.shape, array.dtype) for name, array in batch.items()
    }


@pytest.mark.parametrize("stage", models.TRAINED)
def test_each_stages_batch_is_its_streams(ready, stage):
    same_as_the_streams(stage, *ready)


@pytest.mark.parametrize("stage", models.TRAINED)
def test_each_stages_program_is_for_its_parameters(ready, stage):
    """Made before they are there, as it is compiled while an earlier stage trains."""
    settings, workdir, _, tokenizer, model, params, mesh = ready
    weights = Weights.of(settings, tokenizer.vocab_size, workdir, mesh)
    made, _ = run.program_of(run.stage_of(stage, model, settings, tokenizer.mask_id), weights)
    theirs = {part: params[part] for part in {*models.TRAINED[stage], *models.READ.get(stage, ())}}
    assert made.is_for(theirs)
    moving, frozen = weights.for_stage(stage)  # where there is a checkpoint, shapes stand for what trains
    assert made.is_for(join(weights.shapes_of(moving), split(theirs, frozen)[0]))
    part = models.TRAINED[stage][0]
    rounded = theirs | {part: jax.tree.map(lambda leaf: leaf.astype("bfloat16"), theirs[part])}
    assert not made.is_for(rounded)


def test_what_is_compiled_ahead(ready, monkeypatch):
    settings, workdir, _, tokenizer, model, _, mesh = ready
    monkeypatch.setattr(ahead, "worth", lambda mesh: True)

    def ahead_of(settings, profile=0) -> set[str]:
        weights = Weights.of(settings, tokenizer.vocab_size, workdir, mesh)
        stages = [run.stage_of(name, model, settings, 0) for name in settings.stages]
        return set(run.programs_ahead(stages, weights, profile))

    first, *later = settings.stages
    assert ahead_of(settings) == set(later)
    assert not ahead_of(settings, profile=3)
    assert "vae" not in ahead_of(replace(settings, vae=replace(settings.vae, buckets=("9x32x32",))))
    bucketed = replace(settings, renderer=replace(settings.renderer, buckets=("9x32x32",)))
    assert ahead_of(bucketed) == set(later) - {"images", "renderer", "joint"}
    monkeypatch.setattr(run, "is_over", lambda workdir, stage: stage.name == first)
    assert ahead_of(settings) == set(later[1:])  # of a run that goes on
    monkeypatch.setattr(ahead, "worth", lambda mesh: False)
    assert not ahead_of(settings)


def test_of_buckets_the_largest_is_planned(ready):
    settings, workdir, *rest, model, params, mesh = ready
    settings = replace(settings, vae=replace(settings.vae, buckets=("9x32x32",)))
    same_as_the_streams("vae", settings, workdir, *rest, model, params, mesh)
    sizes = ("5x32x32", "9x32x32", "5x32x16")
    more = replace(settings, vae=replace(settings.vae, buckets=sizes))
    assert str(examples.largest_bucket("vae", more, model)) == "9x32x32"
    settings = replace(settings, renderer=replace(settings.renderer, buckets=("9x32x32",)))
    same_as_the_streams("joint", settings, workdir, *rest, model, params, mesh)
