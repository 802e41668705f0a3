"""The cached latents of a tiny run: the reference banks, and that no example sees its own clip."""

import json
import warnings
from collections import Counter
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from fuzz.files import make_latents

from signer_jax.data.shards import new_shard, pack
from signer_jax.data.streams import Reading, spread_over
from signer_jax.data.windows import MotionWindows
from signer_jax.errors import SignerError
from signer_jax.pipeline import Signer
from signer_jax.renderer import latents as store
from signer_jax.renderer import vae_chunks
from signer_jax.renderer.vae import VideoVAE
from signer_jax.training import latents as cache
from signer_jax.training import pictures
from signer_jax.training.input_pipeline import limits
from signer_jax.training.latents import latent_batches, reference_places, shares
from signer_jax.training.objectives import frames_from


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
    some = cache.training_windows(signer.corpus, c.renderer.window, c.renderer.stride)[:3]
    monkeypatch.setattr(cache, "training_windows", lambda *_: some)
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
    every = reference_places(corpus, items, times, 1000)
    assert len(every) == 4 * len(motions)
    assert len(reference_places(corpus, items, times, 2)) == sum(
        min(2, 4 * sum(corpus.listed("train")[m][2] == name for m in motions))
        for name in {corpus.listed("train")[m][2] for m in motions}
    )


def test_where_no_bank_is_read_few_frames_are_kept_of_all_signers():
    """Of 300 signers of a clip each, and of two of many: no frame is listed one by one."""
    for signers, clips, rows in ((300, 1, 8), (2, 50, 8), (3, 1, 3)):
        listed = [(10**6, True, f"s{k:03}") for k in range(signers) for _ in range(clips)]
        corpus = SimpleNamespace(listed=lambda split, listed=listed: listed, sizes_of=lambda split: [])
        items = [(motion, 0) for motion in range(len(listed))]
        kept = reference_places(corpus, items, np.array([0, 2]), 1, 8)
        of = Counter(listed[items[row][0]][2] for row, _ in kept)
        assert len(kept) == min(rows, signers) and set(of.values()) == {1}
        places = pictures.picture_places(corpus, 1, None, 8)
        assert places == sorted(places) and len(places) == min(rows, signers)
        assert len(pictures.picture_places(corpus, 3, None, None)) == 3 * signers
    assert shares({"b": [1], "a": [2]}, 9, 8) == [([2], 4), ([1], 4)]
    assert spread_over([3, 0, 2], 9) == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1)]
    assert spread_over([10, 10], 2) == [(0, 0), (1, 9)] and spread_over([], 4) == []


def test_the_covariance_is_of_parts(monkeypatch):
    values = np.random.default_rng(0).normal(size=(50, 3, 2, 4)).astype(np.float32)
    whole = store.noise_factor(values)
    monkeypatch.setattr(store, "_AT_ONCE", 100)
    np.testing.assert_allclose(store.noise_factor(values), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole @ whole.T, np.cov(values.reshape(-1, 4), rowvar=False), atol=1e-5)


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
    clip = frames_from(wide["pose"], wide["latents_start"], wide["last"], c.renderer.window)
    np.testing.assert_array_equal(clip, plain["pose"])
    # Where frames are put together, only the first latent frame of a window shows one frame alone.
    image = first(length=1, temporal_ratio=2)
    np.testing.assert_array_equal(image["latents"], plain["latents"][:, :1])
    np.testing.assert_array_equal(image["pose"], plain["pose"][:, :1])
    # Where they are not, any of them does.
    assert (first(length=1, temporal_ratio=1)["latents"] != plain["latents"][:, :1]).any()


@pytest.mark.parametrize(
    ("record", "shape", "said"),
    [
        ({"motion": 99}, (2, 4, 4, 4), "no frame 0 of a motion 99"),
        ({"motion": 1}, (2, 4, 4, 4), "no frame 0 of a motion 1"),  # without a video
        ({"motion": 2}, (2, 4, 4, 4), "no frame 0 of a motion 2"),  # of a signer without references
        ({"start": 5}, (2, 4, 4, 4), "no frame 5 of a motion 0"),
        ({"start": 2**64 - 1}, (2, 4, 4, 4), "no frame 18446744073709551615"),
        ({}, (2, 4, 4, 3), r"latents are \[2, 4, 4, 3\] where"),
        ({}, (2, 8, 4, 4), r"latents are \[2, 8, 4, 4\] where"),
        ({}, (3, 4, 4, 4), r"latents are \[3, 4, 4, 4\] where"),
    ],
    ids=str,
)
def test_a_window_that_does_not_fit_the_corpus_or_the_references_is_one_line(tmp_path, record, shape, said):
    make_latents(tmp_path / "latents")
    opened = store.LatentStore.open(tmp_path / "latents")
    corpus = SimpleNamespace(listed=lambda split: [(5, True, "s1"), (5, False, "s1"), (5, True, "s9")])
    shown = SimpleNamespace(window=lambda motion, start, length: {})

    def first():
        return next(
            latent_batches(
                opened, corpus, shown, Reading(1, 0, 1, 1), length=5, temporal_ratio=4, reference_dropout=0.0
            )
        )

    for values, of in (({}, (2, 4, 4, 4)), (record, shape)):
        with new_shard(tmp_path / "latents" / "train.arrayrecord") as write:
            write(pack({"motion": 0, "start": 0, "latents": np.zeros(of, np.float32), **values}))
        if not values and of == (2, 4, 4, 4):
            assert first()["latents"].shape == (1, 2, 4, 4, 4)
    with pytest.raises(SignerError, match=f"record 0 is damaged .*{said}"):
        first()


def test_statistics_that_nothing_can_be_normalised_by_are_one_line_at_once(tmp_path, monkeypatch):
    make_latents(tmp_path / "latents")
    file = tmp_path / "latents" / "statistics.json"
    about = json.loads(file.read_text())

    def said(references: int, z: int, **change) -> str:
        rows = np.zeros((references, 1, 1, z), np.float32)
        np.save(tmp_path / "latents" / "references.npy", rows)
        seen = {"pose": np.zeros((references, 1, 2), np.float32), "confidence": np.ones((references, 1), np.float32)}
        np.savez(tmp_path / "latents" / "references.npz", **seen, motion=np.zeros(references, int))
        file.write_text(json.dumps({**about, "references": {"s": references}, "mean": [0] * z, **change}))
        manifest = tmp_path / "latents" / "manifest.json"
        sizes = {p.name: p.stat().st_size for p in file.parent.iterdir() if p.name != "manifest.json"}
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "files": sizes}))
        with warnings.catch_warnings(), pytest.raises(SignerError) as error:
            warnings.simplefilter("error")
            store.LatentStore.open(tmp_path / "latents")
        return str(error.value)

    assert "a covariance needs two latents" in said(1, 4, std=[1] * 4)
    assert "a deviation is below 0.0001" in said(2, 4, std=[1e-40] * 4)
    assert "a deviation is below 0.0001" in said(2, 4, std=[1, 1, 1, 0])

    def must_not(latents):
        raise AssertionError("the time of this grows with the square of the channels")

    monkeypatch.setattr(store, "noise_factor", must_not)
    assert "statistics (1025,) are not of 1 to 1024 channels" in said(2, 1025, std=[1] * 1025)


def test_what_windows_leave_out_or_fill_up_is_told():
    def corpus(*frames):
        listed = [(count, True, "a") for count in frames] + [(1, False, "a")]  # no video, no window
        return SimpleNamespace(listed=lambda split: listed if split == "train" else [])

    assert cache.told(corpus(81, 121, 161), 81, 40) == []
    assert cache.told(corpus(120), 81, 40) == [
        "39 of the training clips' 120 frames are in no window of 81 frames every 40; a smaller config.renderer.stride "
        "shows more of them"
    ]
    (line,) = cache.told(corpus(80, 9, 81), 81, 40)
    assert line.startswith("2 of 3 training clips are shorter than config.renderer.window 81")
    assert cache.told(corpus(9), 3, 6) == [  # a gap between windows: 0-2 and 6-8
        "3 of the training clips' 9 frames are in no window of 3 frames every 6; a smaller config.renderer.stride "
        "shows more of them"
    ]
    assert cache.told(corpus(100), 3, 3) == []  # one frame of a hundred


def test_a_process_encodes_on_all_of_its_devices(monkeypatch):
    """Each as many windows as one alone at a time: its share of the work, to the bit."""
    vae = VideoVAE(4, 4, 3, (1, 1), 1, (True,), 3, 3, None, False, (0.0,) * 3, (1.0,) * 3)
    shapes = jax.eval_shape(vae.init, jax.random.key(0), np.zeros((1, 1, 8, 8, 3), np.float32))["params"]
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: draw.normal(scale=0.1, size=leaf.shape).astype(np.float32), shapes)
    video = draw.integers(0, 255, (8, 5, 8, 8, 3), np.uint8)
    made, jit = [], jax.jit

    def noted(function):
        def call(*args):
            made.append(jit(function).lower(*args).compile())
            return made[-1](*args)

        return call

    monkeypatch.setattr(jax, "jit", noted)
    alone, among = cache.encoder_of(vae, params), cache.encoder_of(vae, params, 4)
    np.testing.assert_array_equal(among(video), np.concatenate([alone(video[i : i + 2]) for i in range(0, 8, 2)]))
    split, one = (program.cost_analysis()["flops"] for program in made[:2])
    assert split == pytest.approx(one, rel=0.01)
    assert [cache.shared_among(count, 2) for count in (1, 2, 3, 16, 99)] == [1, 1, 2, 8, 8]


def test_windows_are_encoded_by_chunks_and_no_more_at_once_than_fit(by_chunks_alone):
    vae = VideoVAE(4, 4, 3, (1, 1), 1, (True,), 3, 3, None, False, (0.0,) * 3, (1.0,) * 3)
    shapes = jax.eval_shape(vae.init, jax.random.key(0), np.zeros((1, 1, 8, 8, 3), np.float32))["params"]
    by_chunks_alone.clear()
    video = np.random.default_rng(0).integers(0, 255, (1, 9, 8, 8, 3), np.uint8)
    made = cache.encoder_of(vae, jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes))(video)
    assert made.shape == (1, 5, 4, 4, 3) and made.dtype == np.float32
    assert set(by_chunks_alone) == {"encode_chunk"}
    assert vae_chunks.rows_at_once(3, 64, 64) == 8 and vae_chunks.rows_at_once(1, 480, 832) == 8
    assert vae_chunks.rows_at_once(17, 256, 256) == 8 and vae_chunks.rows_at_once(41, 256, 256) == 6
    assert vae_chunks.rows_at_once(81, 480, 832) == vae_chunks.rows_at_once(121, 704, 1280) == 1
