"""The weights that a run starts from are its own: links or copies, whole, and of the folders that its config names."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_pipeline
from renderer.tiny_wan import config_of
from slul.tiny_t5 import tiny, weights

from signer_jax import model as models
from signer_jax import storage, workdir
from signer_jax.errors import SignerError
from signer_jax.interop import kept, t5
from signer_jax.settings import flatten
from signer_jax.validation import read

VARIANT = "wan2.2-t2v-a14b"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tiny_pipeline.write(tmp_path_factory.mktemp("made") / "pipeline", VARIANT)
    t5.save(folder / "t5", tiny(vocab_size=220), weights(tiny(vocab_size=220)))
    shutil.copy(folder / "tokenizer" / "spiece.model", folder / "t5")
    return folder


@pytest.fixture
def source(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "source")


def settings_of(source: Path):
    c = config_of(VARIANT, str(source), str(source / "vae"), slul=True)
    c.slul.init, c.tokenizer.path, c.tokenizer.mask = (
        str(source / "t5"), str(source / "t5" / "spiece.model"), "<extra_id_0>"
    )  # fmt: skip
    for name in ("text_encoder", "image_encoder"):
        if f"renderer.{name}" in flatten(c):
            c.renderer[name] = str(source) if name == "text_encoder" else ""
    return read(c)


def published(settings):
    return models.build(settings, 220)[1]


@pytest.mark.parametrize("links", [True, False])
def test_who_deletes_the_originals_breaks_nothing(source, tmp_path, monkeypatch, links):
    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    settings, run = settings_of(source), tmp_path / "run"
    run.mkdir()
    assert kept.local(settings, run) == settings
    before, size = published(settings), (source / "vae" / "diffusion_pytorch_model.safetensors").stat().st_size
    said = kept.keep(settings, run)
    file = run / "published" / "vae" / "diffusion_pytorch_model.safetensors"
    assert f"{run / 'published'}: keeps the published weights that this run starts from (0.00 GB, " in said
    assert ("linked to their files" if links else "copied") in said
    assert file.stat().st_nlink == 1 + links and file.stat().st_size == size and not file.is_symlink()
    assert kept.keep(settings, run) == ""  # once

    shutil.rmtree(source)
    local = kept.local(settings, run)
    changed = {key for key, value in flatten(local).items() if flatten(settings)[key] != value}
    assert changed >= {"slul.init", "tokenizer.path", "vae.init", "renderer.init"}
    assert all(str(flatten(local)[key]).startswith(str(run)) for key in changed)
    after = published(local)
    assert before["renderer"]["transformer"].keys() == {"high", "low"}
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert Path(local.tokenizer.path).exists()
    with pytest.raises(SignerError):
        published(settings)


def test_other_weights_are_other_weights(source, tmp_path):
    """What is kept stands for the folder that it was made from, and for no other."""
    settings = settings_of(source)
    kept.keep(settings, tmp_path)
    other = replace(settings, vae=replace(settings.vae, init=str(tmp_path / "other")))
    local = kept.local(other, tmp_path)
    assert local.vae.init == str(tmp_path / "other")
    assert local.renderer.init == str(tmp_path / "published")
    none = replace(settings, slul=replace(settings.slul, init=""))
    assert kept.local(none, tmp_path).slul.init == ""


def test_a_run_that_names_nothing_keeps_nothing(tmp_path):
    from signer_jax import configuration

    settings = read(configuration.load("demo"))
    assert kept.keep(settings, tmp_path) == "" and not list(tmp_path.iterdir())
    assert kept.local(settings, tmp_path) == settings


def test_a_file_that_is_missing_or_cut_short_is_told(source, tmp_path):
    settings = settings_of(source)
    kept.keep(settings, tmp_path)
    file = tmp_path / "published" / "vae" / "config.json"
    file.unlink()
    with pytest.raises(SignerError, match="is damaged .vae/config.json is missing.; remove the folder"):
        kept.local(settings, tmp_path)
    shutil.rmtree(tmp_path / "published")  # as the message has it
    kept.keep(settings, tmp_path)
    (tmp_path / "published" / kept._NOTE).unlink()
    (tmp_path / "published" / kept._NOTE).write_text("[]" + " " * (kept_size(tmp_path) - 2))
    with pytest.raises(SignerError, match="names no keys of a config"):
        kept.local(settings, tmp_path)


def kept_size(run: Path) -> int:
    import json

    return json.loads((run / "published" / storage.MANIFEST).read_text())["files"][kept._NOTE]


def test_a_run_that_trained_nothing_makes_it_anew_with_other_weights(source, tmp_path):
    settings = settings_of(source)
    with workdir.claimed(tmp_path / "run", settings):
        kept.keep(settings, tmp_path / "run")
    shutil.copytree(source / "vae", tmp_path / "vae2")
    other = replace(settings, vae=replace(settings.vae, init=str(tmp_path / "vae2")))
    assert "published" in workdir.outdated(tmp_path / "run", other)
    with workdir.claimed(tmp_path / "run", other):
        assert not (tmp_path / "run" / "published").exists()
        assert kept.keep(other, tmp_path / "run")
    assert "published" not in workdir.outdated(tmp_path / "run", replace(other, seed=3))
