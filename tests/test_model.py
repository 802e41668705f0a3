"""A published autoencoder as a run's own: how it runs, its weights, and that nothing starts them anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax import configuration
from signer_jax import model as models
from signer_jax.interop.wan_vae import save_vae
from signer_jax.settings import Settings
from signer_jax.training import run as training
from signer_jax.validation import read


def settings_of(init: str = "", **vae) -> Settings:
    config = configuration.shipped("default")
    config.stages = ("vae",)
    config.data.size, config.data.guests = 8, 0
    config.data.sentences = config.data.poses = config.data.videos = {"train": 2, "dev": 1, "test": 1}
    config.vae.base_dim, config.vae.z_dim, config.vae.init = 8, 3, init
    for name, value in vae.items():
        config.vae[name] = value
    config.train.vae.batch = 8
    config.dtype, config.remat = "bfloat16", "offload"
    return read(config)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("vae") / "published"
    settings = settings_of(base_dim=12, z_dim=4, num_res_blocks=1)
    model, _ = models.build(settings, 0)
    save_vae(folder, model.vae, models.init(model, settings, {}, seed=7)["vae"])
    return str(folder)


def test_a_published_autoencoder_keeps_its_sizes_and_weights_and_runs_as_the_config_says(published):
    settings = settings_of(published)
    model, found = models.build(settings, 0)
    assert (model.vae.base_dim, model.vae.z_dim, model.vae.dtype, model.vae.remat) == (12, 4, jnp.bfloat16, True)
    params = models.init(model, settings, found, seed=0)["vae"]
    fresh = models.init(model, settings, {}, seed=7)["vae"]  # what was saved
    jax.tree.map(np.testing.assert_array_equal, params, fresh)
    video = np.random.default_rng(0).uniform(-1, 1, (1, 3, 8, 8, 3)).astype(np.float32)
    mean = model.vae.apply({"params": params}, video, method="encode")[0]
    assert mean.shape == (1, 3, 4, 4, 4) and np.isfinite(mean).all()


@pytest.mark.parametrize("init", [True, False])
def test_published_weights_are_not_started_anew(published, init, tmp_path, monkeypatch):
    """The principal components are for fresh weights alone."""
    seen = {}

    def fit(stage, params, batches, **_):
        seen.update(params)
        return params

    monkeypatch.setattr(training, "fit", fit)
    monkeypatch.setattr(training.input_pipeline, "open_tokenizer", lambda *_: None)
    settings = settings_of(published if init else "", principal_start=True)
    with training.claimed(settings, tmp_path):
        training.train(settings, tmp_path)
    model, found = models.build(settings, 0)
    before = models.init(model, settings, found, settings.seed)["vae"]
    same = jax.tree.leaves(jax.tree.map(lambda a, b: np.array_equal(a, b), seen["vae"], before))
    assert all(same) == init


@pytest.mark.parametrize(("name", "again"), [("none", False), ("dots", False), ("offload", True), ("full", True)])
def test_a_remat_policys_name_is_the_video_transformers_and_others_compute_all_again_or_nothing(name, again):
    config = configuration.shipped("default")
    config.remat = name
    model, _ = models.describe(read(config), 400)
    assert model.renderer.transformer.remat == name
    assert model.slul.remat == model.stabiliser.remat == model.vae.remat == again
