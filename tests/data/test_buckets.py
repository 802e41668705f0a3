"""Buckets: where clips go and which go nowhere, batches of one size, an order that is a function of the step."""

from collections import Counter

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from signer_jax.data import buckets as b
from signer_jax.data import streams
from signer_jax.data.buckets import Bucket, Clip
from signer_jax.errors import SignerError
from signer_jax.pose.skeleton import to_pixels

SIZES = b.read(
    ["81x480x832", "49x480x832", "81x832x480", "17x640x640"], temporal=4, spatial=16, where="config.vae.buckets"
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("80x480x832", "80 frames; take 1 more than a multiple of 4: 77 or 81"),
        ("2x480x832", "take 1 more than a multiple of 4: 1 or 5"),
        ("81x480x830", "side of 830 pixels; take a multiple of 16: 816 or 832"),
        ("81x8x832", "take a multiple of 16: 16"),
        ("81x480", "no FRAMESxHEIGHTxWIDTH"),
        ("0x480x832", "no FRAMES"),
        ("-3x480x832", "no FRAMES"),
    ],
)
def test_a_bucket_that_no_model_takes_is_refused_with_the_nearest(text, says):
    with pytest.raises(SignerError, match=says) as error:
        b.read([text], temporal=4, spatial=16, where="config.vae.buckets")
    assert str(error.value).startswith("config.vae.buckets: ") and "\n" not in str(error.value)
    with pytest.raises(SignerError, match="named twice"):
        b.read(["1x16x16", "1x16x16"], temporal=4, spatial=16, where="here")


@pytest.mark.parametrize(
    ("clip", "bucket", "resized", "corner"),
    [
        (Clip(100, 720, 1280), 0, (480, 853), (0, 10)),  # landscape, long
        (Clip(80, 720, 1280), 1, (480, 853), (0, 10)),  # one frame short of 81
        (Clip(200, 1920, 1080), 2, (853, 480), (10, 0)),  # portrait
        (Clip(500, 720, 720), 3, (640, 640), (0, 0)),  # square: least cut off, though shorter
        (Clip(81, 480, 832), 0, (480, 832), (0, 0)),
    ],
)
def test_a_clip_keeps_its_aspect_and_its_middle(clip, bucket, resized, corner):
    (placed,) = b.plan([clip], SIZES, crop=0.25, enlarge=1.0).placed
    assert placed == (0, bucket, *resized, *corner)


def test_clips_that_fit_nowhere_are_counted_with_the_reason():
    clips = [Clip(100, 720, 1280), Clip(16, 720, 1280), Clip(90, 240, 426), Clip(90, 2000, 700), Clip(12, 99, 99),
             Clip(0, 720, 1280)]  # fmt: skip
    plan = b.plan(clips, SIZES, crop=0.25, enlarge=1.0)
    assert [one.clip for one in plan.placed] == [0]
    assert plan.left_over == {
        "are shorter than 17 frames": (1, 4),
        "would be enlarged more than 1 times": (2,),
        "would lose too much at their sides": (3,),
        "are empty": (5,),
    }
    lines = b.told(plan, 4, "config.vae.buckets")
    short = "2 of 6 training clips are shorter than 17 frames and are in no bucket of config.vae.buckets"
    assert f"{short} (the first is clip 1)" in lines
    assert "training clips a bucket: 81x480x832 1, 49x480x832 0, 81x832x480 0, 17x640x640 0" in lines
    assert any("fewer clips than a batch of 4" in line for line in lines)
    assert len(b.plan(clips, SIZES, crop=0.25, enlarge=2.0).placed) == 2
    assert len(b.plan(clips, SIZES, crop=0.6, enlarge=1.0).placed) == 2
    with pytest.raises(SignerError, match="no training clip fits a bucket: 1 of 1 training clips are shorter"):
        b.told(b.plan(clips[1:2], SIZES, crop=0.25, enlarge=1.0), 4, "here")
    with pytest.raises(SignerError, match="no training clip fits"):
        b.told(b.plan([], SIZES, crop=0.25, enlarge=1.0), 4, "here")


sides = some.integers(1, 3000)


@settings(max_examples=200, deadline=None)
@given(
    some.lists(some.tuples(some.integers(0, 300), sides, sides), max_size=12), some.floats(0, 1), some.floats(0.5, 3)
)
def test_any_clip_is_somewhere_once_and_its_bucket_lies_inside_of_it(sizes, crop, enlarge):
    clips = [Clip(*size) for size in sizes]
    plan = b.plan(clips, SIZES, crop=crop, enlarge=enlarge)
    everywhere = [one.clip for one in plan.placed] + [i for which in plan.left_over.values() for i in which]
    assert sorted(everywhere) == list(range(len(clips)))
    for one in plan.placed:
        clip, bucket = clips[one.clip], SIZES[one.bucket]
        assert clip.frames >= bucket.frames
        assert 0 <= one.top <= one.height - bucket.height and 0 <= one.left <= one.width - bucket.width
        assert abs(one.height * clip.width - one.width * clip.height) <= max(clip) + max(one.height, one.width)


def test_frames_are_resized_and_the_middle_is_kept():
    video = np.zeros((2, 40, 80, 3), np.uint8)
    video[:, :, 20:60] = 200
    bucket = Bucket(1, 16, 16)
    (placed,) = b.plan([Clip(2, 40, 80)], [bucket], crop=0.5, enlarge=1).placed
    assert (placed.height, placed.width, placed.top, placed.left) == (16, 32, 0, 8)
    made = b.fitted(video, placed, bucket)
    assert made.shape == (2, 16, 16, 3) and made.dtype == np.uint8
    assert (np.abs(made.astype(int) - 200) <= 25).all() and (made[:, :, 3:-3] == 200).all()
    same = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    (placed,) = b.plan([Clip(1, 16, 16)], [bucket], crop=0, enlarge=1).placed
    np.testing.assert_array_equal(b.fitted(same, placed, bucket), same)


@pytest.mark.parametrize(
    ("frames", "length", "stride", "expected"),
    [(10, 5, 3, [0, 3, 5]), (11, 5, 3, [0, 3, 6]), (5, 5, 3, [0]), (4, 5, 3, []), (9, 5, 9, [0, 4])],
)
def test_windows_leave_no_frame_out(frames, length, stride, expected):
    assert b.starts(frames, length, stride) == expected


# ---- Order -----------------------------------------------------------------------------------------------------------


def test_in_a_cycle_every_clip_is_seen_equally_often_and_small_buckets_rarely():
    counts, batch = (6, 3, 0, 1), 4
    seen, turns = Counter(), Counter()
    for step in range(sum(counts)):
        bucket, rows = b.rows_at(step, counts, batch, seed=5)
        turns[bucket] += 1
        seen.update((bucket, row) for row in rows)
    assert turns == {0: 6, 1: 3, 3: 1}
    assert set(seen.values()) == {4} and len(seen) == 10
    first, again, other = (
        [b.bucket_at(step, counts, batch, seed)[0] for step in range(start, start + 30)]
        for start, seed in ((0, 5), (30, 5), (0, 6))
    )
    assert first != again and first != other  # each epoch has an order of its own


@pytest.mark.parametrize("counts", [(64, 36), (70, 27, 3), (41, 59), (4, 2, 1)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_epoch_shows_every_clip_but_for_less_than_a_batch_a_bucket(counts, seed):
    """What fills no batch in an epoch comes first in the next, before any clip of its bucket a second time."""
    batch, shown, begun = 4, Counter(), 0
    for epoch in range(1, 12):
        whole = sum(epoch * count // batch for count in counts)
        order = []
        for step in range(begun, whole):
            bucket, rows = b.rows_at(step, counts, batch, seed)
            order.append(bucket)
            shown.update((bucket, row) for row in rows)
        begun = whole
        for bucket, count in enumerate(counts):
            times = [shown[bucket, row] for row in range(count)]
            late = epoch * count - sum(times)
            assert late == epoch * count % batch and max(times) <= epoch and max(times) - min(times) <= 1
            if not epoch * count % batch:
                assert times == [epoch] * count
        if len(order) > 20:
            assert order != sorted(order)  # buckets come mixed


def test_an_epochs_clips_come_once_over_any_number_of_processes():
    """Rows of the stream itself, not of the functions behind it."""
    counts, batch, seed = (20, 12), 4, 3
    clips = [Clip(9, 32, 48)] * counts[0] + [Clip(5, 32, 32)] * counts[1]
    plan = b.plan(clips, SMALL, crop=0.35, enlarge=1.0)
    order = streams.visits(plan, streams.Reading(batch, seed, 1, 2))
    for epoch in range(3):
        rows = [order[i] for i in range(32 * epoch, 32 * epoch + 32)]
        assert sorted(rows) == list(range(32))
    for processes in (1, 2, 4):
        parts = []
        for process in range(processes):
            reading = streams.Reading(batch, seed, 1, 2, tuple(range(process, batch, processes)))
            named = streams.visits(plan, reading).map(lambda row: {"row": np.array(row)})
            parts.append(streams.batched(named, reading))
        steps = [[next(part)["row"].tolist() for part in parts] for _ in range(8)]
        assert sorted(row for step in steps for rows in step for row in rows) == list(range(32))


def test_a_bucket_shows_each_clip_once_before_any_again():
    counts, batch = (7, 2), 3
    shown = [
        row for step in range(90) for bucket, rows in [b.rows_at(step, counts, batch, 0)] if bucket == 0 for row in rows
    ]
    for epoch in range(len(shown) // 7):
        assert sorted(shown[7 * epoch : 7 * epoch + 7]) == list(range(7))


def test_a_pose_goes_with_its_frames_into_a_bucket():
    """A point's pixel in the clip, resized and cut, is its pixel in the bucket's view; nothing else is needed."""
    points = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    for clip, bucket in ((Clip(9, 96, 96), b.Bucket(5, 64, 96)), (Clip(9, 64, 96), b.Bucket(5, 64, 64)),
                         (Clip(9, 240, 416), b.Bucket(9, 96, 64)), (Clip(9, 32, 32), b.Bucket(9, 32, 32))):  # fmt: skip
        (placed,) = b.plan([clip], [bucket], crop=0.9, enlarge=2).placed
        scale, shift = b.seen(placed, clip, bucket)
        pixels = to_pixels(points, clip.height, clip.width) * (placed.width / clip.width, placed.height / clip.height)
        expected = pixels - (placed.left, placed.top)
        np.testing.assert_allclose(to_pixels(points * scale + shift, bucket.height, bucket.width), expected, atol=1e-4)
        assert scale[0] == pytest.approx(scale[1], rel=0.02)  # but for rounding to whole pixels


@pytest.mark.parametrize(
    ("text", "crop", "says"),
    [
        ("17x64x96", 0.25, "17x64x96 fits no training clip (height x width 64x64; at most 0.25 of it may be cut off, "
                           "config.data.crop, and it may grow 1 times, config.data.enlarge); the nearest that fits is "
                           "17x64x64"),
        ("17x64x16", 0.25, "the nearest that fits is 17x64x48"),
        ("5x96x96", 0.25, "the nearest that fits is 5x64x64"),
        ("5x128x64", 0.25, "the nearest that fits is 5x64x64"),
    ],
)  # fmt: skip
def test_an_aspect_that_no_clip_has_is_told_with_the_nearest(text, crop, says):
    clips, how = [Clip(3, 64, 64), Clip(90, 64, 64)], {"enlarge": 1.0, "spatial": 16, "where": "config.x"}
    buckets = b.read(["5x64x48", text], temporal=4, spatial=16, where="here")
    with pytest.raises(SignerError) as error:
        b.check_aspects(clips, buckets, crop=crop, **how)
    assert says in str(error.value) and "\n" not in str(error.value)
    nearest = b.read([str(error.value).rpartition(" ")[2]], temporal=4, spatial=16, where="here")
    b.check_aspects(clips, nearest, crop=crop, **how)  # it does fit
    b.check_aspects([], buckets, crop=crop, **how)
    with pytest.raises(SignerError, match="5x64x48 is larger than .* raise config.data.enlarge"):
        b.check_aspects([Clip(9, 8, 8)], buckets, crop=crop, **how)


def test_windows_leave_no_frame_of_a_placed_clip_out():
    clips = [Clip(9, 32, 32), Clip(23, 32, 32), Clip(4, 32, 32), Clip(12, 48, 48)]
    buckets = [b.Bucket(5, 32, 32), b.Bucket(9, 32, 32)]
    found = b.plan(clips, buckets, crop=0.25, enlarge=1)
    windows, starts = b.windows(found, clips, 8)
    shown = [(one.clip, one.bucket, start) for one, start in zip(windows.placed, starts, strict=True)]
    assert shown == [(0, 1, 0), (1, 1, 0), (1, 1, 8), (1, 1, 14), (3, 1, 0), (3, 1, 3)]
    assert windows.members(1) == tuple(range(6)) and windows.left_over == found.left_over
    # Batches are of these: what is told of them counts them, and of the clips who is where.
    *_, whole, cut = b.told(found, 4, "here", windows)
    assert (whole, cut) == (
        "training clips a bucket: 5x32x32 0, 9x32x32 3",
        "training windows a bucket: 5x32x32 0, 9x32x32 6",
    )
    assert b.told(found, 4, "here")[-1].startswith("9x32x32: fewer clips than a batch of 4")
    assert b.told(found, 7, "here", windows)[-1].startswith("9x32x32: fewer windows than a batch of 7")


VIDEOS = [np.full((n, h, w, 3), 10 * i, np.uint8) for i, (n, h, w) in enumerate(
    [(9, 32, 48), (12, 64, 96), (5, 32, 32), (6, 40, 40), (9, 48, 32), (3, 32, 32), (20, 32, 48)]
)]  # fmt: skip
SMALL = b.read(["9x32x48", "5x32x32"], temporal=4, spatial=16, where="here")


def stream(rows=None, seed=1, batch=4):
    plan = b.plan([Clip(*video.shape[:3]) for video in VIDEOS], SMALL, crop=0.35, enlarge=1.0)
    reading = streams.Reading(batch, seed, 1, 2, rows)

    def load(clip, length, start_of):
        return streams.take_frames(VIDEOS[clip], start_of(len(VIDEOS[clip])), length)

    return plan, streams.bucketed_videos(load, plan, reading)


def test_batches_are_of_one_bucket_and_a_restored_stream_goes_on_exactly():
    plan, batches = stream()
    assert set(plan.left_over) == {"are shorter than 5 frames"}
    whole = [next(batches)["video"] for _ in range(12)]
    assert {video.shape for video in whole} == {(4, 9, 32, 48, 3), (4, 5, 32, 32, 3)}
    _, again = stream()
    for _ in range(5):
        next(again)
    state = again.get_state()
    _, third = stream()
    third.set_state(state)
    for expected in whole[5:]:
        np.testing.assert_array_equal(next(third)["video"], expected)


def test_processes_share_a_batch_of_one_bucket():
    _, batches = stream()
    parts = [stream(rows)[1] for rows in ((0, 3), (1, 2))]
    for _ in range(6):
        whole = next(batches)["video"]
        one, other = (next(part)["video"] for part in parts)
        np.testing.assert_array_equal(whole[[0, 3, 1, 2]], np.concatenate([one, other]))


def test_a_step_is_compiled_once_a_bucket():
    traced = []

    @jax.jit
    def step(video):
        traced.append(video.shape)
        return video.mean()

    _, batches = stream()
    for _ in range(10):
        step(next(batches)["video"])
    assert sorted(traced) == [(4, 5, 32, 32, 3), (4, 9, 32, 48, 3)]
