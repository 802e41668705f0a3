"""Models that are shown pictures, on buckets: what they are shown has each bucket's size, and runs resume exactly."""

import json
import shutil
from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
from renderer.tiny_wan import built, config_of, write_image_encoder, write_transformer, write_vae

from signer_jax.data import buckets
from signer_jax.data.prepare import prepare as prepare_corpus
from signer_jax.data.streams import to_model_range
from signer_jax.errors import SignerError
from signer_jax.pipeline import Signer
from signer_jax.renderer.conditions import encoder
from signer_jax.training import conditions, encoders, input_pipeline, loop, objectives, partitioning, pictures, run
from signer_jax.training import latents as cached
from signer_jax.training.latents import training_windows
from signer_jax.training.there import latest_step
from signer_jax.validation import read

I2V, ANIMATE, TI2V, FUN = "wan2.1-i2v-14b", "wan2.2-animate-14b", "wan2.2-ti2v-5b", "wan2.1-fun-control-14b"
ALL = [I2V, TI2V, FUN, ANIMATE]
ONE = ("5x16x16",)  # as a run without buckets has it
TWO = ("37x16x16", "13x16x8")  # clips are of 16 x 16: the shorter ones lose half of their width


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    place = tmp_path_factory.mktemp("weights")
    vae, pipeline = write_vae(place / "vae"), write_image_encoder(place / "pipeline")

    def of(name: str, sizes: tuple[str, ...] = ()):
        folder = place / name
        c = config_of(name, str(folder) if folder.exists() else write_transformer(folder, name), vae)
        c.renderer.control, c.renderer.references, c.renderer.reference_dropout = "variant", 6, 0.5
        c.renderer.dropout_each.face, c.renderer.buckets, c.data.crop, c.data.fps = 0.5, sizes, 0.5, 4.0
        c.renderer.image_encoder = "" if name == TI2V else pipeline
        c.train.renderer.batch, c.train.renderer.steps, c.keep_checkpoints = 8, 6, 9
        return c

    return of


@pytest.fixture(scope="module")
def signers(config, tmp_path_factory):
    """A model on buckets beside its corpus, nothing trained."""
    corpus = tmp_path_factory.mktemp("corpus")

    @cache
    def of(name: str, sizes: tuple[str, ...]) -> Signer:
        model, params, settings = built(config(name, sizes))
        prepare_corpus(settings.data, settings.data.seed, corpus / "data")
        workdir = tmp_path_factory.mktemp("run")
        shutil.copytree(corpus / "data", workdir / "data")
        return Signer(settings, workdir, model, params)

    return of


def batches_of(signer: Signer, stage: str = "renderer"):
    mesh = run.mesh_of(signer.settings)
    params = jax.device_put(signer.params, partitioning.tree_shardings(signer.params, mesh))
    return input_pipeline.stage_batches(
        stage, signer.settings, signer.workdir, signer.corpus, None, signer.model, params, 1, mesh
    )


def without_buckets(signer: Signer) -> Signer:
    settings = replace(signer.settings, renderer=replace(signer.settings.renderer, buckets=()))
    return Signer(settings, signer.workdir, signer.model, signer.params)


def sources_of(signer: Signer, monkeypatch) -> conditions.Sources:
    """What the signer's training stream takes from."""
    found, prepare = [], conditions.prepare

    def prepared(*arguments):
        found.append(prepare(*arguments))
        return found[-1]

    monkeypatch.setattr(conditions, "prepare", prepared)
    next(batches_of(signer))
    monkeypatch.undo()
    return found[0]


@pytest.mark.parametrize("name", ALL)
def test_one_bucket_of_the_runs_size_gives_what_no_bucket_gives(signers, monkeypatch, name):
    signer = signers(name, ONE)
    plain = without_buckets(signer)
    expected = sources_of(plain, monkeypatch).beside()
    given = sources_of(signer, monkeypatch).beside()
    of = input_pipeline.bucket_windows(signer.settings, signer.model, signer.corpus)
    placed = {(of.motion(row), of.starts[row]): one for row, one in enumerate(of.plan.placed)}
    starts = training_windows(plain.corpus, plain.settings.renderer.window, plain.settings.renderer.stride)
    assert set(starts) <= set(placed) and len(starts) > 20
    for k, (motion, start) in enumerate(starts[:40]):
        ours = given(motion, start, 5, np.random.default_rng(k), (placed[motion, start], of.plan.buckets[0]))
        theirs = expected(motion, start, 5, np.random.default_rng(k), None)
        assert ours.keys() == theirs.keys() and ours
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5), ours, theirs)

    # ---- The batches: the same latents, the poses unmoved ------------------------------------------------------------
    known = [batch for batch, _ in zip(batches_of(plain), range(12), strict=False)]
    theirs = np.concatenate([batch["latents"] for batch in known])
    poses = np.concatenate([batch["pose"] for batch in known])
    found = 0
    for batch, _ in zip(batches_of(signer), range(6), strict=False):
        assert {name: value.shape for name, value in batch.items() if name != "view"} == {
            name: value.shape for name, value in known[0].items()
        }
        np.testing.assert_array_equal(batch["view"], np.tile(np.array([[1, 1], [0, 0]], np.float32), (8, 1, 1)))
        for latents, pose in zip(batch["latents"], batch["pose"], strict=True):
            rows = np.flatnonzero(np.abs(theirs - latents).max(axis=(1, 2, 3, 4)) < 1e-4)
            found += any((poses[row] == pose).all() for row in rows)
    assert found > 10


@pytest.mark.parametrize("name", ALL)
def test_what_is_shown_is_of_the_bucket(signers, name):
    signer = signers(name, TWO)
    encode = encoder(signer.model.vae, signer.params)
    seen: dict[tuple[int, ...], dict] = {}
    stream = batches_of(signer)
    while len(seen) < 2:
        batch = next(stream)
        seen.setdefault(batch["latents"].shape[1:4], batch)
    assert set(seen) == {(10, 4, 4), (4, 4, 2)}
    seer = None if name == TI2V else pictures.Seer(encoders.tower(signer.settings))
    objective = objectives.make_objective("renderer", signer.model, signer.settings, 0)
    for (k, h, w), batch in seen.items():
        loss, _ = jax.eval_shape(objective, signer.params, batch, jax.random.key(0))  # every condition is of its size
        assert loss.shape == ()
        bucket = buckets.Bucket(4 * k - 3, 4 * h, 4 * w)
        known = pictures.Pictures.open(signer.workdir / "buckets" / f"{bucket}.pictures")
        told = json.loads((known.directory / "about.json").read_text())
        assert (told["bucket"], told["dtype"], told["vae"]) == (str(bucket), "float32", signer.latents.encoder)
        if name == ANIMATE:
            grey = np.asarray(encode(np.zeros((1, *bucket, 3), np.float32)))
            np.testing.assert_allclose(batch["blank"], np.repeat(grey, 8, 0), atol=1e-5)
            given = 0
            for reference, tokens in zip(batch["reference"], batch["clip"], strict=True):
                assert reference.shape == (h, w, 4) and reference.any() == tokens.any()
                if reference.any():
                    ((bank, at),) = [
                        (bank, i) for bank in known.banks.values() for i in range(len(bank))
                        if (bank.latents[i] == reference).all()
                    ]  # fmt: skip
                    assert bank.pictures[at].shape == (4 * h, 4 * w, 3)
                    own = np.asarray(encode(to_model_range(bank.pictures[at])[None, None]))[0, 0]
                    np.testing.assert_allclose(reference, own, atol=1e-4)
                    np.testing.assert_allclose(tokens, seer([bank.pictures[at]])[0], atol=1e-5)
                    given += 1
            assert given and batch["face"].shape[1] == bucket.frames
            continue
        assert set(batch["shown"]) == {0.0, 1.0}
        if name == I2V:  # the very first frame of these latents, cut as they are
            assert batch["picture"].shape == (8, 4 * h, 4 * w, 3)
            for picture, tokens, shown, latents in zip(
                batch["picture"], batch["clip"], batch["shown"], batch["latents"], strict=True
            ):
                own = np.asarray(encode(to_model_range(picture)[None, None]))[0, 0]
                np.testing.assert_allclose(latents[0], own, atol=1e-4)
                np.testing.assert_allclose(tokens, shown * seer([picture])[0], atol=1e-5)
    single = next(batches_of(signer, "images"))
    assert single["latents"].shape[1] == 1
    assert name == ANIMATE or not single["shown"].any()  # a single frame would be given whole
    assert name != ANIMATE or single["blank"].shape[1] == 1


def test_pictures_of_another_bucket_or_type_are_refused(signers):
    signer = signers(I2V, TWO)
    next(batches_of(signer))
    place = signer.workdir / "buckets" / "13x16x8.pictures"
    about, manifest = place / "about.json", place / "manifest.json"
    kept = about.read_text()

    def written(text: str) -> None:
        about.write_text(text)
        files = json.loads(manifest.read_text())
        files["files"]["about.json"] = about.stat().st_size
        manifest.write_text(json.dumps(files))

    for name, value, says in (
        ("bucket", "37x16x16", "holds pictures of 37x16x16 in float32, this run needs 13x16x8 in float32"),
        ("dtype", "bfloat16", "holds pictures of 13x16x8 in bfloat16"), ("vae", "0", "by another autoencoder"),
        ("tower", "0", "seen by another image encoder"),
    ):  # fmt: skip
        changed = {name: value} | ({"tower_files": []} if name == "tower" else {})
        written(json.dumps(json.loads(kept) | changed))
        with pytest.raises(SignerError, match=says):
            batches_of(signer)
    written(kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", [I2V, ANIMATE])
def test_a_run_compiles_once_a_bucket_and_resumes_exactly(config, signers, tmp_path, monkeypatch, name):
    traced, made = [], run.make_objective

    def recorded(stage, *others):
        objective = made(stage, *others)

        def traces(params, batch, rng):
            traced.append(batch["latents"].shape)
            return objective(params, batch, rng)

        return traces

    monkeypatch.setattr(run, "make_objective", recorded)
    monkeypatch.setattr(loop, "needed_flops", lambda *_: 0.0)  # which traces it too, and compiles nothing
    settings, place = read(config(name, TWO)), tmp_path / "run"
    with run.claimed(settings, place):
        _, params = run.train(settings, place)
    assert sorted(traced) == [(8, 4, 4, 2, 4), (8, 10, 4, 4, 4)]
    made_there = sorted(folder.name for folder in (place / "buckets").iterdir())
    assert made_there == ["13x16x8", "13x16x8.pictures", "37x16x16", "37x16x16.pictures"]
    checkpoints = place / "checkpoints" / "renderer"
    for step in checkpoints.iterdir():
        if step.name in ("4", "6"):
            shutil.rmtree(step)
    assert latest_step(checkpoints) == 2
    encoded = []
    monkeypatch.setattr(cached, "encoder_of", lambda *_: encoded.append)
    with run.claimed(settings, place):
        _, again = run.train(settings, place)
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert not encoded  # all of it was there
