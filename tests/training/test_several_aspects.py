"""Videos of several aspects in one run (`data.other_sizes`): each in the bucket of its own, none stretched."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from test_bucketed import PARAMS, Vae, pooled
from test_general_video import T2V, general, weights  # noqa: F401

from signer_jax.data import buckets, records, video
from signer_jax.data.streams import Reading
from signer_jax.data.windows import Limits, MotionWindows
from signer_jax.errors import SignerError
from signer_jax.pose.skeleton import to_pixels
from signer_jax.training import bucketed, input_pipeline, loop, pictures, run
from signer_jax.training import latents as cache
from signer_jax.types import Pose, Sample
from signer_jax.validation import read

LEAST = {"crop": 0.1, "enlarge": 1.0}


@pytest.fixture
def corpus(tmp_path) -> records.Corpus:
    rng = np.random.default_rng(0)

    def samples():
        for i, size in enumerate([(16, 24), (24, 16), (16, 24), (24, 16), (16, 24), (24, 24)]):
            pose = Pose(rng.normal(size=(9, 128, 3)).astype(np.float32), np.ones((9, 128), np.float32), 16.0)
            frames = rng.integers(0, 255, (9, *size, 3)).astype(np.uint8)
            yield Sample(f"s{i}", "", "ase", (), "ab"[i % 2], pose=pose, video=frames)

    about = {"languages": {}, "size": [16, 24], "sizes": [(16, 24), (24, 16), (24, 24)]}
    return records.write(tmp_path / "data", {"train": samples}, about)


def direct(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resized by one number, nothing cut."""
    assert frames.shape[1] * width == frames.shape[2] * height
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.LANCZOS)) for one in frames]
    )


def test_each_clip_is_in_the_bucket_of_its_aspect_and_its_pose_lies_on_its_frames(corpus, tmp_path, monkeypatch):
    for module in (cache, bucketed):
        monkeypatch.setattr(module, "encoder_of", lambda *_: pooled)
    motions = corpus.motions("train")
    poses = MotionWindows(motions, np.arange(5), 2, Limits(4, 4, 2))
    base = cache.prepare(
        tmp_path / "latents", corpus, poses, Vae(), PARAMS, window=5, stride=4, references=3, batch=2, banks_only=True
    )
    # What signing has is of the first size.
    assert base.grid == (4, 6, 3) and set(base.banks) == {"a"} and set(base.banks["a"].motion) == {0, 2, 4}
    assert {motion for motion, _ in pictures.picture_places(corpus, 9, None, None)} == {0, 2, 4}

    sizes = buckets.read(["5x8x12", "5x24x16"], temporal=4, spatial=4, where="here")
    clips = input_pipeline.training_clips(corpus)
    found = buckets.plan(clips, sizes, **LEAST)
    of = bucketed.Windows.of(corpus, clips, found, stride=4)
    assert {k: {of.motion(row) for row in of.plan.members(k)} for k in (0, 1)} == {0: {0, 2, 4}, 1: {1, 3}}
    assert buckets.told(found, 2, "here") == [
        "1 of 6 training clips would lose too much at their sides and are in no bucket of here (the first is clip 5)",
        "training clips a bucket: 5x8x12 3, 5x24x16 2",
    ]
    stores = [
        bucketed.prepare(tmp_path / "buckets" / str(size), k, of, base, corpus, poses, Vae(), PARAMS, references=4,
                         **LEAST)
        for k, size in enumerate(sizes)
    ]  # fmt: skip
    stream = bucketed.batches(
        of, stores, corpus, poses, Reading(4, 1, 1, 2), single=False, temporal_ratio=4, reference_dropout=0.0
    )
    seen = set()
    for batch in (next(stream) for _ in range(8)):
        _, _, h, w, _ = batch["latents"].shape
        bucket = buckets.Bucket(5, 4 * h, 4 * w)
        for row, latents in enumerate(batch["latents"]):
            ((motion, start),) = [
                (motion, start)
                for motion in ((0, 2, 4) if bucket == sizes[0] else (1, 3)) for start in (0, 4)
                if np.allclose(pooled(direct(motions.video(motion)[start : start + 5], *bucket[1:])[None])[0],
                               latents * base.std + base.mean, atol=1e-4)
            ]  # fmt: skip
            seen.add(motion)
            pose = poses.window(motion, start, 5)["pose"]
            np.testing.assert_array_equal(batch["pose"][row], pose)
            scale, shift = batch["view"][row]
            size = motions.video(motion).shape[1:3]
            expected = to_pixels(pose, *size) * (bucket.height / size[0])
            np.testing.assert_allclose(to_pixels(pose * scale + shift, *bucket[1:]), expected, atol=1e-4)
    assert seen == {0, 1, 2, 3, 4}


def test_a_size_to_sign_at_that_no_video_has_is_one_line(tmp_path):
    def samples():
        yield Sample("tall", "", "", (), "tall", video=np.zeros((9, 24, 16, 3), np.uint8))

    about = {"languages": {}, "fps": 16.0, "size": [16, 24], "sizes": [(16, 24), (24, 16)]}
    tall = records.write(tmp_path / "data", {"train": samples}, about)
    says = r"config.data.size 16,24: no training video fits it, .* config.data.other_sizes \(24,16\) that has some"
    with pytest.raises(SignerError, match=says):
        cache.training_windows(tall, 5, 4)


def write_videos(folder: Path) -> Path:
    (folder / "video").mkdir(parents=True)
    rng, rows = np.random.default_rng(0), ["video,caption"]
    for name, (height, width) in {"a": (32, 48), "b": (48, 32), "c": (32, 48), "d": (48, 32), "e": (16, 96)}.items():
        frames = rng.integers(0, 255, (20, height // 8, width // 8, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
        video.write(folder / "video" / f"{name}.mp4", frames, 25.0)
        rows.append(f"{name}.mp4,a thing")
    (folder / "OpenVidHD.csv").write_text("\n".join(rows) + "\n")
    return folder


def config_of(source: Path, folder: Path, sizes=("5x16x24", "5x24x16")):
    c = general(T2V, source, folder)
    c.data.size, c.data.other_sizes, c.renderer.buckets = (16, 24), ("24x16",), sizes
    c.train.renderer.steps = 6
    return c


@pytest.mark.slow
def test_a_run_on_wide_and_tall_videos_compiles_once_a_bucket(weights, tmp_path, capfd, monkeypatch):  # noqa: F811
    traced, made = [], run.make_objective

    def recorded(stage, *others):
        objective = made(stage, *others)

        def traces(params, batch, rng):
            traced.append(batch["latents"].shape[1:4])
            return objective(params, batch, rng)

        return traces

    monkeypatch.setattr(run, "make_objective", recorded)
    monkeypatch.setattr(loop, "needed_flops", lambda *_: 0.0)  # which traces it too, and compiles nothing
    source, place = write_videos(tmp_path / "openvid"), tmp_path / "run"
    settings = read(config_of(source, weights(T2V)))
    with run.claimed(settings, place):
        _, params = run.train(settings, place)
    assert sorted(traced) == [(2, 4, 6), (2, 6, 4)]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(params)))
    said = capfd.readouterr().err
    assert "training clips a bucket: 5x16x24 2, 5x24x16 2" in said and "e.mp4: its frames of 96x16 would lose" in said
    assert sorted(folder.name for folder in (place / "buckets").iterdir()) == ["5x16x24", "5x24x16"]


def test_what_cannot_go_together_is_one_line(weights, tmp_path):  # noqa: F811
    source, folder = write_videos(tmp_path / "openvid"), weights(T2V)

    def refused(config, says: str) -> None:
        with pytest.raises(SignerError, match=says) as error, run.claimed(read(config), tmp_path / "run"):
            pass
        assert "\n" not in str(error.value) and not (tmp_path / "run").exists()

    refused(
        config_of(source, folder, ()), r"config.renderer.buckets is \(\): videos of several sizes .* come in buckets"
    )
    config = config_of(source, folder)
    config.data.other_sizes = ()
    says = "5x24x16 fits no training clip .* or name its height x width in config.data.other_sizes"
    refused(config, says)
