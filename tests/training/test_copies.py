"""Changed copies of the renderer's windows: video, pose and reference by one draw, counted in what is encoded."""

import json
from collections import defaultdict
from dataclasses import replace
from functools import cache as cache_of_calls

import numpy as np
import pytest
from conftest import TINY
from test_bucketed import MOST, PARAMS, SIZES, Vae, pooled

from signer_jax import configuration
from signer_jax.cli.main import main
from signer_jax.data import augmentation, buckets, records
from signer_jax.data.streams import Reading, take_frames
from signer_jax.data.windows import Limits, MotionWindows
from signer_jax.errors import SignerError
from signer_jax.opened import Opened
from signer_jax.pose.skeleton import JOINTS
from signer_jax.renderer.latents import COPY
from signer_jax.training import bucketed, input_pipeline
from signer_jax.training import copies as copied
from signer_jax.training import latents as cache
from signer_jax.training.copies import Copies
from signer_jax.types import Pose, Sample
from signer_jax.validation import read

DEFAULT = read(configuration.load("default"))
OFF = DEFAULT.data.augment
SOME = replace(OFF, mirror=0.5, turn=8.0, grow=0.1, shift=0.05, colour=0.2, speed=0.5, copies=3)
CLIPS = 6
MIRROR = augmentation.mirror_permutation(JOINTS)


@pytest.fixture
def plain(tmp_path) -> records.Corpus:
    rng = np.random.default_rng(0)

    def samples():
        for i, (frames, signer) in enumerate([(14, "a"), (6, "a"), (11, "b"), (9, "b"), (7, "b"), (9, "a")]):
            pose = Pose(rng.normal(size=(frames, 128, 3)).astype(np.float32), np.ones((frames, 128), np.float32), 16.0)
            video = rng.integers(0, 255, (frames, 16, 16, 3)).astype(np.uint8)
            yield Sample(f"s{i}", f"text {i}", "ase", ("LEFT",) if i == 1 else ("X",), signer, pose=pose, video=video,
                         spans=np.array([[0, frames]], np.int32))  # fmt: skip

    return records.write(tmp_path / "data", {"train": samples}, {"languages": {}, "size": [16, 16]})


def test_video_pose_and_window_are_changed_by_one_draw(plain):
    copies = Copies(plain, SOME, 7)
    motions, known = copies.motions("train"), plain.motions("train")
    windows = MotionWindows(known, np.arange(128), 2, Limits(4, 4, 4))
    shown = copies.windows(windows)
    assert len(motions) == 3 * CLIPS and list(copies.captions("train")) == [f"text {i}" for i in range(CLIPS)] * 3
    for index in range(len(motions)):
        motion, change = index % CLIPS, copies.change(index)
        sample, video = motions.filmed(index)
        before, frames = known.filmed(motion)
        assert sample.name == before.name and len(video) == len(frames) == copies.listed("train")[index][0]
        window = shown.window(index, 2, 4)
        if index < CLIPS:
            assert change is None and np.array_equal(video, frames)
            assert np.array_equal(window["pose"], windows.window(motion, 2, 4)["pose"])
            continue
        assert change.speed == 1
        np.testing.assert_array_equal(video, augmentation.on_pictures(frames, change))
        moved, _ = augmentation.on_points(before.pose.coordinates, before.pose.confidence, change, MIRROR)
        np.testing.assert_array_equal(motions.posed(sample, index).coordinates, moved)
        np.testing.assert_array_equal(motions[index].pose.coordinates, moved)
        np.testing.assert_allclose(window["pose"], moved[2:6, :, :2], atol=1e-6)
    again = Copies(plain, SOME, 7)  # as a resumed run, and another process
    assert all(repr(again.change(i)) == repr(copies.change(i)) for i in range(3 * CLIPS))


def test_a_signers_copy_has_one_side_and_colours_and_moves_of_its_own(plain):
    copies = Copies(plain, SOME, 7)
    of = defaultdict(list)
    for index, (*_, signer) in enumerate(copies.listed("train")):
        of[signer].append(copies.change(index))
    assert set(of) == {f"{signer}{copy}" for signer in "ab" for copy in ("", f"{COPY}1", f"{COPY}2")}
    for signer, changes in of.items():
        if COPY in signer:
            assert len({(one.mirrored, *one.colours) for one in changes}) == 1
            assert len({tuple(one.shift) for one in changes}) == len(changes)
    assert len({changes[0].colours.tobytes() for signer, changes in of.items() if COPY in signer}) == 4


def test_what_may_not_be_mirrored_is_not_and_has_pictures_of_its_own(plain):
    copies = Copies(plain, replace(SOME, mirror=1.0, not_mirrored=("LEFT",)), 7)
    mirrored = [copies.change(index).mirrored for index in range(CLIPS, 2 * CLIPS)]
    assert mirrored == [True, False, True, True, True, True]
    signers = [signer for *_, signer in copies.listed("train")][CLIPS : 2 * CLIPS]
    assert signers == [f"a{COPY}1", f"a{COPY}1n", f"b{COPY}1", f"b{COPY}1", f"b{COPY}1", f"a{COPY}1"]


def test_by_mirror_alone_there_is_one_copy_of_what_may_be_mirrored(plain):
    """No window is encoded twice as it is."""
    with pytest.raises(
        SignerError, match=r"copies 3: by mirror alone a window has two versions; set it to 2, or raise"
    ):
        read(configuration.load("default", ["--config.data.augment.copies=3", "--config.data.augment.mirror=0.5"]))
    copies = Copies(plain, replace(OFF, mirror=0.1, not_mirrored=("LEFT",), copies=2), 7)
    listed = copies.listed("train")
    assert [video for _, video, _ in listed] == [True] * CLIPS + [i != 1 for i in range(CLIPS)]
    videos = copies.motions("train")
    shown = [videos.video(i).tobytes() for i, (_, video, _) in enumerate(listed) if video]
    assert len(set(shown)) == len(shown) == 2 * CLIPS - 1
    assert {motion for motion, _ in cache.training_windows(copies, 9, 4)} == set(range(2 * CLIPS)) - {CLIPS + 1}


def test_what_copies_cannot_do_is_told(plain, tmp_path):
    def told(corpus, augment) -> list[str]:
        settings = replace(DEFAULT, data=replace(DEFAULT.data, augment=augment))
        return input_pipeline._told_of_copies(settings, input_pipeline.as_rendered(settings, corpus), corpus)

    assert told(plain, SOME) == told(plain, replace(OFF, mirror=0.5, copies=2)) == []
    assert "1 of 6 training clips may not be mirrored" in told(
        plain, replace(OFF, mirror=0.5, not_mirrored=("LEFT",), copies=2)
    )[0]  # fmt: skip
    plain.about["motions"]["train"] = [[row[0], row[1], "" if row[2] == "a" else "set/b", *row[3:]]
                                       for row in plain.about["motions"]["train"]]  # fmt: skip
    said = told(plain, SOME)[0]
    assert "3 of 6 training clips name no signer; looks (side and colours) that a changed copy has for them: 1;" in said


def filmed(folder, signers, unfilmed=frozenset(), left=frozenset()) -> records.Corpus:
    """A motion of each of these signers, with a video but for some, and of some it may not be mirrored."""
    pose = Pose(np.zeros((2, 128, 3), np.float32), np.ones((2, 128), np.float32), 16.0)
    video = np.zeros((2, 16, 16, 3), np.uint8)

    def samples():
        for i, signer in enumerate(signers):
            yield Sample(f"s{i}", "", "", ("LEFT",) if i in left else ("X",), signer,
                         pose=pose, video=None if i in unfilmed else video)  # fmt: skip

    return records.write(folder, {"train": samples}, {"languages": {}, "size": [16, 16]})


@pytest.mark.parametrize(
    ("signers", "unfilmed", "left", "looks"),
    [
        (["a/"] * 40 + ["b/"] * 10, (), (), 6),
        (["b/", *["a/"] * 7, "a/x"] * 8, (), (), 8),  # each eighth of one set, beside one that names its signer
        ([""] * 64, range(8, 64), (), 1),
        ([""] * 64, [i for i in range(64) if i % 4], (), 2),
        (["a/"] * 34, (), range(10), 3),  # 24 and 10, which are of one of these looks
        (["a/"] * 3 + ["b/"] * 2, (), (), 2),
        (["", "a"] * 150, (), (), 16),
    ],
)
def test_clips_without_a_signer_have_looks_each_with_other_clips_for_references(
    tmp_path, signers, unfilmed, left, looks
):
    """By sets, and of what has a video; what names its signer is as before."""
    corpus = filmed(tmp_path / "data", signers, frozenset(unfilmed), frozenset(left))
    copies, count = Copies(corpus, replace(SOME, not_mirrored=("LEFT",)), 7), len(signers)
    banks: dict[str, list[int]] = defaultdict(list)
    for copy in (1, 2):
        for motion, (_, video, signer) in enumerate(copies.listed("train")[copy * count : (copy + 1) * count]):
            assert video == (motion not in unfilmed)
            if video:
                banks[signer].append(motion + copy * count)
    for signer, of in banks.items():
        name = signers[of[0] % count]
        assert all(signers[motion % count] == name for motion in of)
        alone = [name == one and i not in unfilmed for i, one in enumerate(signers)]
        assert len(of) >= min(8, sum(alone[i] for i in range(count) if (i in left) == (of[0] % count in left)))
        assert len({(copies.change(motion).mirrored, *copies.change(motion).colours) for motion in of}) == 1
        assert ("?" in signer) <= (not copied.named(name))
    unnamed = {signer.removesuffix("n") for signer, of in banks.items() if not copied.named(signers[of[0] % count])}
    assert len(unnamed) == 2 * looks == 2 * copies.looks
    one = Copies(corpus, replace(OFF, mirror=0.5, copies=2), 7)  # by mirror alone there is one look of each set
    assert not any("?" in signer for *_, signer in one.listed("train"))


def test_a_window_of_a_changed_film_is_read_as_one_of_the_film(plain):
    """Its own frames alone, once the grey of the whole is known; the same as of the whole, in all copies."""
    read_of: list[tuple[int, int]] = []

    class Watched(records.Records):
        def video(self, index):
            read_of.append((index, -1))
            return super().video(index)

        def frames_at(self, index, places_of):
            video = super().video(index)
            places = places_of(len(video))
            read_of.append((index, len(places)))
            return video[places]

    for augment, whole in ((SOME, 1), (replace(OFF, mirror=0.5, turn=8.0, copies=3), 0)):
        copies = Copies(plain, augment, 7)
        motions = copies.motions("train")
        motions._motions.__class__ = Watched
        for index in range(len(motions)):
            video = motions.filmed(index)[1]
            read_of.clear()
            for start in (0, 2, 4):
                part = motions.clip(index, 2, records.from_frame(start))
                np.testing.assert_array_equal(part, video[start : start + 2])
            motion, whole_of = index % CLIPS, whole if index >= CLIPS else 0
            assert read_of == [(motion, -1)] * whole_of + [(motion, 2)] * (3 - whole_of)
    read_of.clear()
    shown = cache._load(motions, [(CLIPS, 0), (CLIPS, 1), (CLIPS, 9)], 4, 5)
    video = motions.video(CLIPS)
    assert read_of[0] == (0, 9)  # what the windows show, not what lies between
    np.testing.assert_array_equal(shown, [video[k : k + 4] for k in (0, 1, 9, 9, 9)])
    ends = motions.clip(CLIPS, 9, records.from_frame(12))
    np.testing.assert_array_equal(ends, motions.video(CLIPS)[[12, *[13] * 8]])


def test_where_no_reference_is_read_copies_take_no_room_from_signers():
    signers = {f"{k:03d}{copy}": [k] for k in range(100) for copy in ("", f"{COPY}1", f"{COPY}2n")}
    some = cache.shares(signers, 50, cache.FEW)
    assert some == cache.shares({name: signers[name] for name in signers if COPY not in name}, 50, cache.FEW)
    assert [found for found, _ in some] == [[k] for k in range(100)]
    assert len(cache.shares(signers, 50, None)) == 300  # of one that reads references each copy has its own


def test_copies_are_other_encodings(plain):
    hashes = {Copies(plain, augment, seed).hash() for augment, seed in
              ((SOME, 7), (SOME, 8), (replace(SOME, copies=2), 7), (replace(SOME, turn=9.0), 7))}  # fmt: skip
    assert len(hashes | {plain.hash()}) == 5


def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cache, bucketed):
        monkeypatch.setattr(module, "encoder_of", lambda vae, params, ways=1: pooled)


def store_of(folder, copies: Copies, windows: MotionWindows):
    return cache.prepare(folder, copies, windows, Vae, PARAMS, window=9, stride=4, references=50, batch=3)


@pytest.mark.parametrize("in_buckets", [False, True])
def test_examples_show_the_changed_pose_on_the_changed_latents(plain, tmp_path, monkeypatch, in_buckets):
    encoder(monkeypatch)
    copies = Copies(plain, SOME, 7)
    windows = copies.windows(MotionWindows(plain.motions("train"), np.arange(128), 2, Limits(4, 4, 4)))
    store = store_of(tmp_path / "latents", copies, windows)
    signers = [signer for *_, signer in copies.listed("train")]
    assert set(store.banks) == set(signers)
    for signer, bank in store.banks.items():
        assert {signers[motion] for motion in bank.motion} == {signer}
    reading = Reading(4, 0, 0, 1)
    if in_buckets:
        sizes = buckets.read(SIZES, temporal=4, spatial=4, where="buckets")
        clips = input_pipeline.training_clips(copies)
        of = bucketed.Windows.of(copies, clips, buckets.plan(clips, sizes, **MOST), 4)
        stores = [
            bucketed.prepare(tmp_path / str(k), k, of, store, copies, windows, Vae, PARAMS, references=9, **MOST)
            if of.plan.members(k) else None for k in range(len(sizes))
        ]  # fmt: skip
        batches = bucketed.batches(of, stores, copies, windows, reading, single=False, temporal_ratio=4,
                                   reference_dropout=0.0, beside=lambda *a: {"motion": np.int32(a[0])})  # fmt: skip
    else:
        batches = cache.latent_batches(store, copies, windows, reading, length=9, temporal_ratio=4,
                                       reference_dropout=0.0, beside=lambda *a: {"motion": np.int32(a[0])})  # fmt: skip
    videos, poses = copies.motions("train"), plain.motions("train")

    @cache_of_calls
    def encoded(grid: tuple[int, int], motion: int) -> tuple[np.ndarray, np.ndarray]:
        """The first latents of a motion's windows, and what may be shown of it, at a size."""
        video = videos.video(motion)
        if not in_buckets:
            made = [pooled(take_frames(video, start, 9)[None])[0]
                    for one, start in cache.training_windows(copies, 9, 4) if one == motion]  # fmt: skip
            return np.stack([one[0] for one in made]), np.concatenate(made)
        size = next(one for one in sizes if (one.height // 4, one.width // 4) == grid)
        placed = of.brought_to(size, **MOST)[motion]
        frames = pooled(buckets.fitted(video, placed, size)[:, None])[:, 0]
        starts = [of.starts[row] for row in of.plan.members(sizes.index(size)) if of.motion(row) == motion]
        return frames[starts], frames

    seen = set()
    for _ in range(8):
        batch = next(batches)
        for motion, pose, latents, reference in zip(
            batch["motion"], batch["pose"], batch["latents"], batch["reference"], strict=True
        ):  # fmt: skip
            seen.add(int(motion) // CLIPS)
            change, sample = copies.change(int(motion)), poses[int(motion) % CLIPS]
            true = sample.pose.coordinates
            if change is not None:
                true = augmentation.on_points(true, sample.pose.confidence, change, MIRROR)[0]
            assert min(np.abs(true[t, :, :2] - pose[0]).max() for t in range(len(true))) < 1e-5
            # What is shown beside is a latent of another clip of the same signer in the same copy.
            others = [i for i, signer in enumerate(signers) if signer == signers[int(motion)] and i != int(motion)]
            own, _ = encoded(latents.shape[1:3], int(motion))
            shown = np.concatenate([encoded(latents.shape[1:3], i)[1] for i in others])
            assert np.abs(own - store.denormalise(latents)[0]).max((1, 2, 3)).min() < 1e-5
            assert np.abs(shown - store.denormalise(reference)).max((1, 2, 3)).min() < 1e-5
    assert seen == {0, 1, 2}


def test_copies_that_would_be_alike_are_refused_and_others_are_told(tmp_path):
    with pytest.raises(SignerError, match=r"config.data.augment.copies 2: the copies would all be alike; raise mirror"):
        read(configuration.load("default", ["--config.data.augment.copies=2", "--config.data.augment.speed=0.2"]))


@pytest.mark.slow
def test_a_run_trains_on_copies_and_signs_by_its_signers_alone(tmp_path, capfd):
    def train(name: str, *more: str) -> dict:
        assert main(["train", "--config", str(TINY), "--workdir", str(tmp_path / name), "--config.stages=vae,renderer",
                     "--config.evaluate.split=", "--config.data.augment.mirror=0.5", *more]) == 0  # fmt: skip
        return json.loads((tmp_path / name / "result.json").read_text())

    one = train("one")
    assert "config.data.augment.copies=3, for one" in capfd.readouterr().err
    assert train("written", "--config.data.augment.copies=1")["params_sha256"] == one["params_sha256"]
    three = train("three", "--config.data.augment.copies=3", "--config.data.augment.colour=0.2")
    assert "renderer read each window as it is and in 2 changed copies" in capfd.readouterr().err
    assert three["params_sha256"] != one["params_sha256"]
    stored = json.loads((tmp_path / "three" / "latents" / "statistics.json").read_text())["references"]
    opened = Opened.load(tmp_path / "three")
    assert len(stored) == 3 * len(opened.latents.banks) and not any(COPY in name for name in opened.latents.banks)
