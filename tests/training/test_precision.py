"""What is encoded for caches is float32 on every device: its products ask for it, and the caches say that they did."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from renderer.tiny_wan import CLIP, TEXT, write_image_encoder, write_text_encoder

from signer_jax.data.buckets import Bucket
from signer_jax.data.streams import to_model_range
from signer_jax.errors import SignerError
from signer_jax.interop import clip
from signer_jax.renderer import conditions
from signer_jax.renderer.vae import VideoVAE
from signer_jax.training import latents, partitioning, pictures, precision, text_states
from signer_jax.training.conditions import _grey

MESH = {"data": -1, "fsdp": 1, "tensor": 1}


@pytest.fixture
def traced(monkeypatch) -> list[Any]:
    """The jaxprs of what is called under `jax.jit` from here on."""
    made, jit = [], jax.jit

    def noted(function, static_argnums=()):
        def call(*args):
            made.append(jax.make_jaxpr(function, static_argnums=static_argnums)(*args).jaxpr)
            return jit(function, static_argnums=static_argnums)(*args)

        return call

    monkeypatch.setattr(jax, "jit", noted)
    return made


def products(jaxpr: Any) -> Iterator[Any]:
    """The precision of each product and convolution, those in loops, branches and jitted parts among them."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation.params["precision"]
        for value in jax.tree.leaves(equation.params, is_leaf=lambda one: hasattr(one, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from products(inner)


def check(traced: list[Any], most: int) -> None:
    found = [one for jaxpr in traced for one in products(jaxpr)]
    assert len(found) >= most and set(found) == {(jax.lax.Precision.HIGHEST,) * 2}


@pytest.mark.parametrize("ratio", [1, 2])  # in one pass, and by chunks
def test_the_autoencoders_products(traced, ratio):
    vae = VideoVAE(4, 4, 3, (1, 1), 1, (ratio > 1,), 3, 3, None, False, (0.0,) * 3, (1.0,) * 3, dtype=jnp.bfloat16)
    shapes = jax.eval_shape(vae.init, jax.random.key(0), np.zeros((1, 1, 8, 8, 3), np.float32))["params"]
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    latents.encoder_of(vae, params)(np.zeros((1, 3, 8, 8, 3), np.uint8))
    check(traced, 8)


@pytest.mark.parametrize("ratio", [1, 2])
def test_what_is_encoded_beside_the_latents_is_encoded_as_they_are(traced, ratio):
    """A step's pictures (`conditions.encoder`) and a grey video, of an autoencoder that trains in half precision."""
    made = [(ratio > 1,), 3, 3, None, False, (0.0,) * 3, (1.0,) * 3]
    vae = VideoVAE(4, 4, 3, (1, 1), 1, *made, dtype=jnp.bfloat16)
    shapes = jax.eval_shape(vae.init, jax.random.key(0), np.zeros((1, 1, 8, 8, 3), np.float32))["params"]
    keys = iter(jax.random.split(jax.random.key(1), 100))
    params = jax.tree.map(lambda leaf: 0.1 * jax.random.normal(next(keys), leaf.shape), shapes)
    video = np.asarray(jax.random.randint(jax.random.key(2), (1, 3, 8, 8, 3), 0, 256), np.uint8)
    cached = latents.encoder_of(vae, params)(video)
    encode = conditions.encoder(vae, {"vae": params})
    np.testing.assert_array_equal(jax.jit(encode)(to_model_range(video)), cached)
    own = SimpleNamespace(normalise=lambda latents: latents)
    _grey(vae, params, own, Bucket(3, 8, 8))
    check(traced, 3 * 8)


def test_clips_products(traced, tmp_path, monkeypatch):
    """Its weights go to the device as they are read, like a text encoder's: never all on the host."""
    load, placed = clip.load, []

    def noted(*args, place, **options):
        placed.append(place)
        return load(*args, place=place, **options)

    monkeypatch.setattr(clip, "load", noted)
    seer = pictures.Seer(pictures.Tower.at(write_image_encoder(tmp_path), CLIP))
    seer([np.zeros((20, 20, 3), np.uint8)])
    check(traced, 6)
    assert placed[0]("layers/wi/kernel", (1, 2, 3)).device_set == {jax.local_devices()[0]}
    seer.close()


def test_a_text_encoders_products(traced, tmp_path):
    source = text_states.TextEncoder.at(write_text_encoder(tmp_path), TEXT, 512)
    dict(text_states.encode(source, ["yes"], partitioning.own_mesh(MESH)))
    check(traced, 6)


def test_a_cache_of_before_is_taken_where_there_is_one_precision(tmp_path, monkeypatch):
    precision.check(tmp_path, precision.PRECISION)
    precision.check(tmp_path, "")  # a CPU's
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    precision.check(tmp_path, precision.PRECISION)
    with pytest.raises(SignerError, match="products of default precision, this run needs highest; remove the folder"):
        precision.check(tmp_path, "")
    monkeypatch.undo()
    with pytest.raises(SignerError, match="products of high precision"):
        precision.check(tmp_path, "high")


def test_the_caches_say_it(tiny_run, tmp_path, monkeypatch):
    assert json.loads((tiny_run / "latents" / "statistics.json").read_text())["precision"] == precision.PRECISION
    source = text_states.TextEncoder.at(write_text_encoder(tmp_path), TEXT, 512)
    mesh = partitioning.own_mesh(MESH)
    assert text_states.prepare(tmp_path / "t", source, lambda: ["yes"], mesh).precision == precision.PRECISION
    about = json.loads((tmp_path / "t" / "about.json").read_text())
    monkeypatch.setattr(text_states.precision, "PRECISION", "high")
    with pytest.raises(SignerError, match="was encoded in products of highest precision, this run needs high"):
        text_states.prepare(tmp_path / "t", source, lambda: ["yes"], mesh)
    assert about["precision"] == "highest"
