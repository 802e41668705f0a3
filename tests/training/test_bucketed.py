"""The renderer's buckets: latents a bucket, batches of one, poses that go with their frames, resumed exactly."""

import gc
import json
import shutil
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY

from signer_jax import configuration
from signer_jax import model as models
from signer_jax.data import buckets, records
from signer_jax.data.streams import Reading, take_frames
from signer_jax.data.windows import Limits, MotionWindows
from signer_jax.errors import SignerError
from signer_jax.renderer.render import Renderer
from signer_jax.training import bucketed, input_pipeline, loop, objectives, run
from signer_jax.training import latents as cache
from signer_jax.training.contents import fingerprint
from signer_jax.training.there import latest_step
from signer_jax.types import Pose, Sample
from signer_jax.validation import read

PARAMS = {"kernel": np.ones(3, np.float32)}
SIZES = ("9x16x16", "5x16x8")  # frames x height x width; clips are 16 x 16, latents 4 frames and 4 pixels
MOST = {"crop": 0.5, "enlarge": 1.0}


class Vae:
    """As far as caching needs one."""

    temporal_ratio, spatial_ratio, z_dim = 4, 4, 3


def pooled(video: np.ndarray) -> np.ndarray:
    """In the encoder's place: the mean of each latent's frames and pixels."""
    b, t, h, w, c = video.shape
    still = np.concatenate([np.repeat(video[:, :1], 3, 1), video], 1).astype(np.float32)
    return still.reshape(b, (t + 3) // 4, 4, h // 4, 4, w // 4, 4, c).mean((2, 4, 6)) / 127.5 - 1


@pytest.fixture
def corpus(tmp_path) -> records.Corpus:
    rng = np.random.default_rng(0)

    def samples():
        for i, (frames, signer) in enumerate([(14, "a"), (6, "a"), (11, "b"), (9, "b"), (7, "b"), (3, "a")]):
            pose = Pose(rng.normal(size=(frames, 128, 3)).astype(np.float32), np.ones((frames, 128), np.float32), 16.0)
            video = rng.integers(0, 255, (frames, 16, 16, 3)).astype(np.uint8)
            yield Sample(f"s{i}", "", "ase", (), signer, pose=pose, video=video)

    return records.write(tmp_path / "data", {"train": samples}, {"languages": {}, "size": [16, 16]})


@pytest.fixture
def parts(corpus, tmp_path, monkeypatch):
    """What a run has: the base's latents, the buckets' windows, and a function that gives a bucket's latents."""
    calls: list[tuple[int, ...]] = []

    def encoder_of(vae, params, ways):
        def encode(video):
            calls.append(video.shape)
            return pooled(video)

        return encode

    for module in (cache, bucketed):
        monkeypatch.setattr(module, "encoder_of", encoder_of)
    poses = MotionWindows(corpus.motions("train"), np.arange(5), 2, Limits(4, 4, 2))
    base = cache.prepare(
        tmp_path / "latents", corpus, poses, Vae(), PARAMS, window=5, stride=4, references=3, batch=2, banks_only=True
    )
    sizes = buckets.read(SIZES, temporal=4, spatial=4, where="here")
    clips = input_pipeline.training_clips(corpus)
    of = bucketed.Windows.of(corpus, clips, buckets.plan(clips, sizes, **MOST), stride=4)

    def made(k: int, base=base):
        place = tmp_path / "buckets" / str(sizes[k])
        return bucketed.prepare(place, k, of, base, corpus, poses, Vae(), PARAMS, references=4, **MOST)

    return of, poses, base, made, calls


def stream(corpus, parts, rows=None, *, single=False, around=0):
    of, poses, _, made, _ = parts
    return bucketed.batches(
        of, [made(0), made(1)], corpus, poses, Reading(4, 1, 1, 2, rows),
        single=single, temporal_ratio=4, reference_dropout=0.0, around=around,
    )  # fmt: skip


def test_latents_are_cached_a_bucket_and_kept_by_what_they_depend_on(corpus, parts, tmp_path):
    of, _, base, made, calls = parts
    assert of.plan.left_over == {"are shorter than 5 frames": (5,)}
    assert [of.plan.members(k) for k in (0, 1)] == [(0, 1, 2, 3, 4, 5), (6, 7, 8, 9)]
    before = len(calls)
    stores = [made(0), made(1)]
    assert {shape[1:4] for shape in calls[before:]} == {(9, 16, 16), (1, 16, 16), (5, 16, 8), (1, 16, 8)}
    for k, (store, grid) in enumerate(zip(stores, ((4, 4), (4, 2)), strict=True)):
        told = json.loads((store.directory / "statistics.json").read_text())
        assert (told["bucket"], told["dtype"], told["encoder"]) == (SIZES[k], "float32", fingerprint(PARAMS))
        np.testing.assert_array_equal(store.mean, base.mean)
        np.testing.assert_array_equal(store.noise_factor, base.noise_factor)
        # Of each signer, from clips of any length: also of the one that is too short for a bucket.
        assert {name: bank.latents.shape for name, bank in store.banks.items()} == dict.fromkeys("ab", (4, *grid, 3))
        assert 5 in store.banks["a"].motion
    seen = len(calls)
    for k in (0, 1):  # they are there: nothing is encoded
        made(k)
    assert len(calls) == seen

    place = stores[0].directory
    for name, value, says in (
        ("bucket", SIZES[1], "holds latents of 5x16x8 in float32, this run needs 9x16x16 in float32"),
        ("dtype", "bfloat16", "holds latents of 9x16x16 in bfloat16"), ("encoder", "0", "by another autoencoder"),
        ("mean", [9.0, 9.0, 9.0], "was normalised by others"),
    ):  # fmt: skip
        statistics = place / "statistics.json"
        kept = statistics.read_text()
        write_statistics(statistics, json.loads(kept) | {name: value})
        with pytest.raises(SignerError, match=says):
            made(0)
        write_statistics(statistics, json.loads(kept))


def test_a_bank_keeps_no_batch_in_memory(corpus, tmp_path, monkeypatch):
    """Each bank's frame goes to the disk as its batch is encoded; a signer without any is shown none."""
    alive = []

    def encode(video):
        gc.collect()
        assert sum(one() is not None for one in alive) <= 1  # the batch before, still named
        latents = pooled(video)
        alive.append(weakref.ref(latents))
        return latents

    monkeypatch.setattr(cache, "encoder_of", lambda *_: encode)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    poses = MotionWindows(corpus.motions("train"), np.arange(5), 2, Limits(4, 4, 2))

    def prepared(name, **options):
        return cache.prepare(
            tmp_path / name, corpus, poses, Vae(), PARAMS, window=5, stride=4, references=9, batch=2, **options
        )

    whole = prepared("whole")
    assert len(alive) > 3 and {name: len(bank) for name, bank in whole.banks.items()} == {"a": 9, "b": 9}
    raw = pooled(take_frames(corpus.motions("train").video(0), 0, 5)[None])[0]
    np.testing.assert_allclose(whole.banks["a"].latents[0], whole.normalise(raw[0]), atol=1e-5)
    few = prepared("few", most=1)
    assert [len(bank) for bank in few.banks.values()] == [1]
    options = {"length": 5, "temporal_ratio": 4, "reference_dropout": 0.0}
    batch = next(cache.latent_batches(few, corpus, poses, Reading(8, 0, 1, 1), **options, referenced=False))
    assert batch["reference"].shape == (8, 4, 4, 3)
    with pytest.raises(SignerError, match="with a video and references"):
        next(cache.latent_batches(few, corpus, poses, Reading(8, 0, 1, 1), **options))


def write_statistics(file: Path, values: dict) -> None:
    """As the manifest has it, too."""
    file.write_text(json.dumps(values, indent=1) + "\n")
    manifest = file.parent / "manifest.json"
    values = json.loads(manifest.read_text())
    values["files"][file.name] = file.stat().st_size
    manifest.write_text(json.dumps(values))


def test_a_batch_is_of_one_bucket_with_the_poses_of_its_frames(corpus, parts):
    of, poses, base, _, _ = parts
    videos, sizes = corpus.motions("train"), set()
    batches = stream(corpus, parts)
    for _ in range(10):
        batch = next(batches)
        b, k, h, w, _ = batch["latents"].shape
        frames = 4 * (k - 1) + 1
        sizes.add((frames, 4 * h, 4 * w))
        assert batch["pose"].shape == (b, frames, 5, 2) and batch["reference"].shape == (b, h, w, 3)
        for row in range(b):
            raw = batch["latents"][row] * base.std + base.mean
            found = None
            for i, window in enumerate(of.plan.placed):
                if of.plan.buckets[window.bucket] == (frames, 4 * h, 4 * w):
                    motion, start = of.motion(i), of.starts[i]
                    shown = buckets.fitted(
                        take_frames(videos.video(motion), start, frames), window, of.plan.buckets[window.bucket]
                    )
                    if np.allclose(pooled(shown[None])[0], raw, atol=1e-4):
                        found = motion, start, window
            assert found is not None, "these are no latents of a window of this bucket"
            motion, start, window = found
            np.testing.assert_array_equal(batch["pose"][row], poses.window(motion, start, frames)["pose"])
            view = buckets.seen(window, of.clips[window.clip], of.plan.buckets[window.bucket])
            np.testing.assert_array_equal(batch["view"][row], view)
    assert sizes == {(9, 16, 16), (5, 16, 8)}


def test_single_frames_and_frames_around(corpus, parts):
    batch = next(stream(corpus, parts, single=True))
    assert batch["latents"].shape[1] == batch["pose"].shape[1] == 1
    batches = stream(corpus, parts, around=8)
    shapes = {(batch["latents"].shape[1], batch["pose"].shape[1]) for batch in (next(batches) for _ in range(10))}
    assert shapes == {(3, 9), (2, 8)}


def test_a_restored_stream_goes_on_exactly_and_processes_share_a_batch(corpus, parts):
    whole = stream(corpus, parts)
    expected = [next(whole) for _ in range(8)]
    first, second = stream(corpus, parts), stream(corpus, parts)
    for _ in range(3):
        next(first)
    second.set_state(first.get_state())
    halves = [stream(corpus, parts, rows) for rows in ((0, 3), (1, 2))]
    for i, batch in enumerate(expected):
        if i >= 3:
            jax.tree.map(np.testing.assert_array_equal, next(second), batch)
        one, other = (next(half) for half in halves)
        np.testing.assert_array_equal(
            batch["latents"][[0, 3, 1, 2]], np.concatenate([one["latents"], other["latents"]])
        )
        np.testing.assert_array_equal(batch["reference"][[0, 3]], one["reference"])


def test_the_renderer_is_shown_the_pose_as_its_bucket_has_it(monkeypatch):
    config = configuration.load(TINY)
    config.stages = ("vae", "renderer")
    settings = read(config)
    model, _ = models.build(settings, 0)
    rng = np.random.default_rng(0)
    view = np.array([[[1.5, 1.4], [0.1, -0.2]], [[1, 1], [0, 0]]], np.float32)
    batch = {
        "latents": np.zeros((2, 3, 4, 8, 4), np.float32), "reference": np.zeros((2, 4, 8, 4), np.float32), "view": view,
        "noise_factor": np.tile(np.eye(4, dtype=np.float32), (2, 1, 1)),
    }  # fmt: skip
    pose = rng.normal(size=(2, 5, 74, 2)).astype(np.float32)
    shown = []

    def draw(self, pose, confidence, grid):
        shown.append((np.asarray(pose), grid))
        raise StopIteration

    monkeypatch.setattr(Renderer, "draw", draw)
    confidence = np.ones((2, 5, 74), np.float32)
    with pytest.raises(StopIteration):
        objectives.diffusion(
            model, {}, batch, jnp.asarray(pose), confidence, None, None, jax.random.key(0), settings.renderer
        )
    expected = np.stack([pose[0] * view[0, 0] + view[0, 1], pose[1]])
    np.testing.assert_allclose(shown[0][0], expected, atol=1e-6)
    assert shown[0][1] == (4, 8)  # the picture is of the bucket's aspect


def config_of(*overrides: str):
    c = configuration.load(TINY, [f"--config.{one}" for one in overrides])
    c.stages = ("vae", "images", "renderer")
    for stage in c.stages:
        c.train[stage].steps = 2
    return c


@pytest.mark.parametrize(
    ("bucket", "says"),
    [
        ("16x32x32", "config.renderer.buckets: 16x32x32 has 16 frames; take 1 more than a multiple of 2: 15 or 17"),
        ("9x32x24", "config.renderer.buckets: 9x32x24 has a side of 24 pixels; take a multiple of 16: 16 or 32"),
        ("9x32", "each FRAMESxHEIGHTxWIDTH"),
    ],
)
def test_a_bucket_that_does_not_fit_the_model_is_one_line_before_the_folder_is_claimed(tmp_path, bucket, says):
    with pytest.raises(SignerError, match=says) as error:
        settings = read(config_of(f"renderer.buckets={bucket},"))
        with run.claimed(settings, tmp_path / "run"):
            pass
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_on_buckets_compiles_once_a_bucket_and_resumes_exactly(tmp_path, capfd, monkeypatch):
    traced, made = [], run.make_objective

    def recorded(stage, *others):
        objective = made(stage, *others)

        def traces(params, batch, rng):
            if stage != "vae":
                traced.append((stage, batch["latents"].shape))
            return objective(params, batch, rng)

        return traces

    monkeypatch.setattr(run, "make_objective", recorded)
    monkeypatch.setattr(loop, "needed_flops", lambda *_: 0.0)  # which traces it too, and compiles nothing
    c = config_of()
    c.keep_checkpoints = 9
    c.renderer.buckets, c.data.crop = ("81x32x32", "49x32x16", "301x32x32"), 0.5
    c.train.images.steps = c.train.renderer.steps = 8
    c.train.images.optimizer, c.train.images.learning_rate = "adamw", 2e-3  # Muon takes longest to compile
    settings, place = read(c), tmp_path / "run"
    with run.claimed(settings, place):
        _, params = run.train(settings, place)
    shapes = [("images", (8, 1, 8, 8, 4)), ("images", (8, 1, 8, 4, 4)), ("renderer", (8, 41, 8, 8, 4))]
    assert sorted(traced) == sorted([*shapes, ("renderer", (8, 25, 8, 4, 4))])
    assert "training clips a bucket: 81x32x32 4, 49x32x16 3, 301x32x32 0" in capfd.readouterr().err
    assert sorted(folder.name for folder in (place / "buckets").iterdir()) == ["49x32x16", "81x32x32"]
    for step in (place / "checkpoints" / "renderer").iterdir():
        if step.name in ("6", "8"):
            shutil.rmtree(step)
    assert latest_step(place / "checkpoints" / "renderer") == 4
    with run.claimed(settings, place):
        _, again = run.train(settings, place)
    jax.tree.map(np.testing.assert_array_equal, again, params)
