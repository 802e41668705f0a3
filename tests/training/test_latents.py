"""The cached latents of a tiny run: the reference banks, and that no example sees its own clip."""

import json

import numpy as np
import pytest

from signer_jax.data.streams import Reading
from signer_jax.data.windows import MotionWindows
from signer_jax.errors import SignerError
from signer_jax.pipeline import Signer
from signer_jax.renderer import latents as store
from signer_jax.training import latents as cache
from signer_jax.training.latents import _reference_places, latent_batches
from signer_jax.training.objectives import frames_from
from signer_jax.training.run import limits


def test_banks_hold_each_frame_once_with_its_pose(tiny_run):
    signer = Signer.load(tiny_run)
    listed = signer.corpus.listed("train")
    seen = 0
    for name, bank in signer.latents.banks.items():
        assert {listed[motion][2] for motion in bank.motion} == {name}
        assert len(bank.latents) == len(bank.pose) == len(bank.confidence) == len(bank.motion) == len(bank)
        seen += len(bank)
        # Every pose is one of its clip's.
        clip = signer.corpus.motions("train")[int(bank.motion[0])].pose
        theirs = clip.coordinates[:, signer.model.joints, : signer.settings.pose.dims]
        assert np.abs(theirs - bank.pose[0]).max(axis=(1, 2)).min() < 1e-6
    assert seen == len({(int(m), p.tobytes()) for bank in signer.latents.banks.values()
                        for m, p in zip(bank.motion, bank.pose, strict=True)})  # fmt: skip
    # Normalised by the windows' statistics, of which the banks hold nearly all.
    values = np.concatenate([bank.latents.reshape(-1, bank.latents.shape[-1])
                             for bank in signer.latents.banks.values()])  # fmt: skip
    assert np.abs(values.mean(axis=0)).max() < 0.5 and np.abs(values.std(axis=0) - 1).max() < 0.5


def test_the_noise_factor_is_stored_and_not_made_at_each_opening(tiny_run, monkeypatch):
    directory = tiny_run / "latents"
    stored = json.loads((directory / "statistics.json").read_text())["noise_factor"]
    made = store.noise_factor(np.load(directory / "references.npy"))
    np.testing.assert_array_equal(np.array(stored, np.float32), made)
    flat = np.load(directory / "references.npy").reshape(-1, len(made))
    np.testing.assert_allclose(made @ made.T, np.cov(flat, rowvar=False), atol=1e-4)

    def must_not(latents):
        raise AssertionError("the banks were read for their covariance")

    monkeypatch.setattr(store, "noise_factor", must_not)
    np.testing.assert_array_equal(store.LatentStore.open(directory).noise_factor, made)


def test_latents_are_normalised_by_given_constants(tiny_run, tmp_path, monkeypatch):
    """A published autoencoder's: then the corpus's own statistics normalise nothing, and others are refused."""
    signer = Signer.load(tiny_run)
    c, vae = signer.settings, signer.params["vae"]
    windows = MotionWindows(signer.corpus.motions("train"), signer.model.joints, c.pose.dims, limits(c.data))
    some = cache._items(signer.corpus, c.renderer.window, c.renderer.stride)[:3]
    monkeypatch.setattr(cache, "_items", lambda *_: some)
    z = signer.model.vae.z_dim
    mean, std = np.linspace(-1, 1, z).astype(np.float32), np.linspace(0.5, 2, z).astype(np.float32)

    def prepare(constants):
        return cache.prepare(
            tmp_path / "latents", signer.corpus, windows, signer.model.vae, vae,
            window=c.renderer.window, stride=c.renderer.stride, references=4, batch=2, constants=constants,
        )  # fmt: skip

    made = prepare((mean, std))
    np.testing.assert_allclose((made.mean, made.std), (mean, std), rtol=1e-6)
    video = signer.corpus.motions("train")[some[0][0]].video[some[0][1] : some[0][1] + c.renderer.window]
    raw = cache.encoder_of(signer.model.vae, vae)(video[None])[0]
    bank = made.banks[signer.corpus.listed("train")[some[0][0]][2]].latents
    assert np.abs((raw - mean) / std - bank[:, None]).max(axis=(2, 3, 4)).min() < 1e-4
    prepare((mean, std))  # as it is
    with pytest.raises(SignerError, match="normalised by other constants"):
        prepare((mean + 0.1, std))


def test_a_bank_is_thinned_evenly(tiny_run):
    corpus = Signer.load(tiny_run).corpus
    motions = [i for i, (_, has_video, _) in enumerate(corpus.listed("train")) if has_video]
    items = [(motion, start) for motion in motions for start in (0, 2, 4)]
    times = np.array([0, 2])  # windows overlap: (0, 2), (2, 4), (4, 6) are four frames, not six
    every = _reference_places(corpus, items, times, 1000)
    assert len(every) == 4 * len(motions)
    assert len(_reference_places(corpus, items, times, 2)) == sum(
        min(2, 4 * sum(corpus.listed("train")[m][2] == name for m in motions))
        for name in {corpus.listed("train")[m][2] for m in motions}
    )


def test_an_examples_reference_comes_from_another_clip(tiny_run):
    signer = Signer.load(tiny_run)
    c = signer.settings
    windows = MotionWindows(signer.corpus.motions("train"), signer.model.joints, c.pose.dims, limits(c.data))
    listed = signer.corpus.listed("train")
    batch = next(
        latent_batches(
            signer.latents, signer.corpus, windows, Reading(4, 0, 1, 1), length=c.renderer.window, temporal_ratio=2,
            reference_dropout=0.0,
        )
    )  # fmt: skip
    b, k, h, w, z = batch["latents"].shape
    assert k == 1 + (c.renderer.window - 1) // signer.model.vae.temporal_ratio
    assert batch["reference"].shape == (b, h, w, z)
    for row in range(b):
        # Which clip an example is from: the one whose poses it shows.
        pose = batch["pose"][row, 0]
        own = [m for m, (_, has_video, _) in enumerate(listed) if has_video and
               (np.abs(windows.sentence(m)["pose"] - pose).max(axis=(1, 2)) < 1e-6).any()]  # fmt: skip
        bank = signer.latents.banks[listed[own[0]][2]]
        if (bank.motion == own[0]).all():
            assert not batch["reference"][row].any()
        else:
            found = np.abs(bank.latents - batch["reference"][row]).max(axis=(1, 2, 3))
            assert found.min() == 0 and bank.motion[found.argmin()] not in own


def test_motion_around_a_clip_holds_the_clips_own_and_an_image_is_one_frame(tiny_run):
    signer = Signer.load(tiny_run)
    c = signer.settings
    windows = MotionWindows(signer.corpus.motions("train"), signer.model.joints, c.pose.dims, limits(c.data))

    def first(**options):
        return next(
            latent_batches(
                signer.latents, signer.corpus, windows, Reading(8, 0, 1, 1), reference_dropout=1.0, **options
            )
        )

    plain = first(length=c.renderer.window, temporal_ratio=2)
    assert not plain["reference"].any()  # the share of examples without a picture is 1
    wide = first(length=c.renderer.window, temporal_ratio=2, around=c.pose.window)
    assert wide["pose"].shape[1] == c.pose.window > c.renderer.window and wide["latents_start"].max() > 0
    np.testing.assert_array_equal(wide["latents"], plain["latents"])
    np.testing.assert_array_equal(frames_from(wide["pose"], wide["latents_start"], c.renderer.window), plain["pose"])
    # Where frames are put together, only the first latent frame of a window shows one frame alone.
    image = first(length=1, temporal_ratio=2)
    np.testing.assert_array_equal(image["latents"], plain["latents"][:, :1])
    np.testing.assert_array_equal(image["pose"], plain["pose"][:, :1])
    # Where they are not, any of them does.
    assert (first(length=1, temporal_ratio=1)["latents"] != plain["latents"][:, :1]).any()
