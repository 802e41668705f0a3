"""The planned batches are those that the data streams make, and what their steps are made of."""

from dataclasses import replace
from pathlib import Path

import jax
import pytest
from conftest import TINY

from signer_jax import configuration
from signer_jax import model as models
from signer_jax.data.prepare import prepare as prepare_corpus
from signer_jax.planning import examples, steps, weightless
from signer_jax.training import input_pipeline, partitioning, run
from signer_jax.validation import read


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> tuple:
    """The tiny chain, untrained, on its corpus."""
    workdir: Path = tmp_path_factory.mktemp("examples")
    settings = read(configuration.load(TINY))
    corpus = prepare_corpus(settings.data, settings.data.seed, workdir / "data")
    tokenizer = input_pipeline.open_tokenizer(settings, workdir, corpus)
    model, published = models.build(settings, tokenizer.vocab_size)
    mesh = run.mesh_of(settings)
    params = models.init(model, settings, published, 0)
    params = jax.device_put(params, partitioning.tree_shardings(params, mesh))
    return settings, workdir, corpus, tokenizer, model, params, mesh


def same_as_the_streams(stage: str, settings, workdir, corpus, tokenizer, model, params, mesh) -> None:
    batch = next(input_pipeline.stage_batches(stage, settings, workdir, corpus, tokenizer, model, params, 0, mesh))
    planned = examples.batch(stage, settings, model)
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in planned.items()} == {
        name: (array.shape, array.dtype) for name, array in batch.items()
    }


@pytest.mark.parametrize("stage", models.TRAINED)
def test_each_stages_batch_is_its_streams(ready, stage):
    same_as_the_streams(stage, *ready)


def test_of_buckets_the_largest_is_planned(ready):
    settings, workdir, *rest, model, params, mesh = ready
    settings = replace(settings, vae=replace(settings.vae, buckets=("9x32x32",)))
    same_as_the_streams("vae", settings, workdir, *rest, model, params, mesh)
    sizes = ("5x32x32", "9x32x32", "5x32x16")
    more = replace(settings, vae=replace(settings.vae, buckets=sizes))
    assert str(examples.largest_bucket("vae", more, model)) == "9x32x32"
    settings = replace(settings, renderer=replace(settings.renderer, buckets=("9x32x32",)))
    same_as_the_streams("joint", settings, workdir, *rest, model, params, mesh)


def test_a_step_chooses_between_no_programs():
    """XLA's CPU client puts the sums over devices in a branch in no order with the others: two devices may then each
    wait for the other's. (`jnp.diagonal`'s gradient has such branches.)
    """
    settings = read(configuration.load(TINY))
    step = steps.make("joint", settings, weightless.described(settings), run.mesh_of(settings))
    text = step.program.trace(step.batch).lower().compile().as_text()
    assert "all-gather(" in text and "conditional(" not in text
