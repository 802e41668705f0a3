"""An item of a dataset as a prepared set keeps it: cut by real times, in one picture with its pose, or left out."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filmed import HEIGHT, WIDTH, even, film, levels, openpose, posed
from PIL import Image

from signer_jax.data import timing, video
from signer_jax.data.datasets.item import Item
from signer_jax.data.prepared.pictures import GAPS, SPACED, TWINS, UNNUMBERED
from signer_jax.data.prepared.taking import (
    ASSUMED,
    COUNTED,
    CUT,
    DISAGREE,
    FILLED,
    FRAMES,
    HELD,
    HOLES,
    LONG,
    MOVED,
    NOBODY,
    PADDED,
    RATE,
    SHORTER,
    STILL,
    STRETCHED,
    TURNED,
    UNSIZED,
    VARIABLE,
    How,
    LeftOut,
    take,
)
from signer_jax.errors import Trouble
from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file
from signer_jax.types import Pose


def test_a_whole_video_keeps_its_own_bytes(tmp_path):
    file = film(tmp_path / "a.mp4", even(12))
    taken = take(Item("a", "train", "hello", video=file, pose=posed(tmp_path / "a.pose", 12)), How())
    assert taken.video == file.read_bytes() and taken.mended == ()
    assert (taken.size, taken.video_fps, taken.seconds) == ((HEIGHT, WIDTH), 25, pytest.approx(12 / 25))
    assert taken.pose is not None and len(taken.pose) == 12 and taken.scale == pytest.approx(12)
    np.testing.assert_allclose(taken.centre, (WIDTH / 2, HEIGHT / 2))


def test_a_part_of_a_video_is_cut_by_its_times(tmp_path):
    file = film(tmp_path / "a.mp4", even(40))
    item = Item("a", "train", video=file, pose=posed(tmp_path / "a.pose", 40), seconds=(0.4, 0.8))
    taken = take(item, How())
    assert taken.video is not None and taken.pose is not None
    np.testing.assert_allclose(levels(taken.video), 6 * np.arange(10, 20), atol=4)
    noses = taken.pose.coordinates[:, skeleton.INDEX["nose"], 1]
    np.testing.assert_allclose(noses, (np.arange(10, 20) - HEIGHT / 2) / 12, atol=1e-5)


def test_frames_are_counted_from_0_and_a_cut_pose_is_not_cut_again(tmp_path):
    file = film(tmp_path / "a.mp4", even(40))
    whole = Item("a", "train", video=file, frames=(10, 20))
    taken = take(replace(whole, pose=posed(tmp_path / "a.pose", 10), pose_seconds=(0.4, 0.8)), How())
    assert taken.video is not None and taken.pose is not None
    np.testing.assert_allclose(levels(taken.video), 6 * np.arange(10, 20), atol=4)
    np.testing.assert_allclose(
        taken.pose.coordinates[:, skeleton.INDEX["nose"], 1], (np.arange(10) - HEIGHT / 2) / 12, atol=1e-5
    )


def test_a_variable_rate_is_brought_to_one_by_the_frames_times(tmp_path):
    gaps = [40] * 10 + [120] * 10 + [40] * 10  # what a telephone does in the dark
    stamps = np.concatenate([[0], np.cumsum(gaps)])
    file = film(tmp_path / "a.mp4", stamps)
    taken = take(Item("a", "train", video=file, pose=posed(tmp_path / "a.pose", len(stamps))), How())
    assert VARIABLE in taken.mended and taken.video_fps == pytest.approx(25)
    assert taken.video is not None and taken.pose is not None
    wanted = np.arange(len(taken.pose)) / 25
    shown = np.abs(stamps[None] / 1000 - wanted[:, None]).argmin(1)
    assert len(taken.pose) == len(levels(taken.video)) == pytest.approx(stamps[-1] / 40 + 1, abs=1)
    np.testing.assert_allclose(levels(taken.video), 6 * shown, atol=5)
    noses = taken.pose.coordinates[:, skeleton.INDEX["nose"], 1] * 12 + HEIGHT / 2
    np.testing.assert_allclose(noses, np.interp(wanted, stamps / 1000, np.arange(len(stamps))), atol=0.1)


def test_a_sample_in_a_gap_between_two_frames_has_none(tmp_path):
    file = film(tmp_path / "a.mp4", [*even(20), *(4000 + stamp for stamp in even(20))])
    for pose in (None, posed(tmp_path / "a.pose", 40)):
        with pytest.raises(LeftOut, match=STILL):
            take(Item("a", "train", video=file, pose=pose, seconds=(2.0, 3.0)), How())
        assert take(Item("a", "train", video=file, pose=pose, seconds=(0.5, 4.2)), How()).seconds == pytest.approx(3.7)


def test_a_turned_video_comes_upright(tmp_path):
    file = film(tmp_path / "a.mp4", even(8), corner=255)
    data = bytearray(file.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the matrix: x' = -y, y' = x, a quarter turn with the clock
    quarter = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter)
    file.write_bytes(data)
    taken = take(Item("a", "train", video=file), How())
    assert taken.size == (WIDTH, HEIGHT) and taken.mended == (TURNED,) and taken.video is not None
    _, frame = next(video.frames_of("x", taken.video))
    assert frame[:8, -8:].mean() > 240 and frame[:8, :8].mean() < 140
    np.testing.assert_array_less(200, next(video.frames(file))[2:6, -6:-2])  # of whoever reads videos


def test_odd_sizes_become_even_and_a_size_is_cut_around_the_signer(tmp_path):
    file, pose = film(tmp_path / "a.mkv", even(8), size=(46, 62)), posed(tmp_path / "a.pose", 8)
    taken = take(Item("a", "train", video=film(tmp_path / "b.mp4", even(8)), pose=pose), How(size=(31, 21)))
    assert taken.size == (32, 22) and taken.video is not None
    unit, x, y = skeleton.view(31, 21)
    assert taken.scale == pytest.approx(unit)
    np.testing.assert_allclose(taken.centre, (x, y), rtol=1e-6)
    assert next(video.frames_of("x", taken.video))[1].shape == (32, 22, 3)
    assert take(Item("a", "train", video=file), How(fps=10)).video_fps == 10


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"seconds": (9.0, 10.0)}, "begins beyond its end"),
        ({"seconds": (0.6, 0.4)}, "end before start"),
        ({"seconds": (0.2, 0.24)}, "too short"),
        ({"pose": 60}, DISAGREE),
        ({"pose": "nobody"}, NOBODY),
        ({"pose": "broken"}, "pose cannot be read"),
        ({"video": "cut"}, "video is damaged or cut short"),
        ({"video": None}, "no text, pose or video"),
        ({"text": "a" + "\u0301" * 40}, "text is damaged"),
    ],
)
def test_what_cannot_be_kept_says_why(fields, reason, tmp_path):
    made = {"video": film(tmp_path / "a.mp4", even(20)), **fields}
    if made["video"] == "cut":
        made["video"] = tmp_path / "a.mp4"
        made["video"].write_bytes(made["video"].read_bytes()[:-200])
    if isinstance(made.get("pose"), int):
        made["pose"] = posed(tmp_path / "a.pose", made["pose"])
    elif made.get("pose") == "nobody":
        made["pose"] = posed(tmp_path / "a.pose", 20, seen=False)
    elif "pose" in made:
        made["pose"] = tmp_path / "a.pose"
        made["pose"].write_bytes(posed(tmp_path / "b.pose", 20).read_bytes()[:-9])
    with pytest.raises(LeftOut) as left:
        take(Item("a", "train", **made), How())
    assert left.value.reason == reason


def test_what_is_kept_otherwise_than_it_came_says_so(tmp_path):
    file = film(tmp_path / "a.mp4", even(20))
    taken = take(Item("a", "train", video=file, seconds=(0.4, 5.0)), How())
    assert taken.mended == (CUT,) and taken.seconds == pytest.approx(0.4)
    wrong = take(Item("a", "train", video=file, pose=posed(tmp_path / "a.pose", 20, fps=50)), How())
    assert wrong.mended == (RATE,) and wrong.pose is not None and wrong.pose.fps == 25
    half = take(Item("a", "train", video=file, pose=posed(tmp_path / "b.pose", 10, fps=12.5)), How())
    assert half.pose is not None and len(half.pose) == pytest.approx(20, abs=1)


def test_a_folder_of_frames_is_a_video_at_the_datasets_rate(tmp_path):
    for i in range(12):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 6 * i, np.uint8)).save(tmp_path / f"images{i:04d}.png")
    taken = take(Item("a", "train", video=tmp_path, fps=25, frames=(2, 10)), How())
    assert taken.video is not None and taken.video_fps == 25
    np.testing.assert_allclose(levels(taken.video), 6 * np.arange(2, 10), atol=4)
    with pytest.raises(LeftOut, match="no frame rate"):
        take(Item("a", "train", video=tmp_path), How())


def test_pictures_that_are_missing_leave_the_others_at_their_times(tmp_path):
    for i in (*range(3), *range(4, 12)):  # 10 comes after 9, without zeros before them
        Image.fromarray(np.full((HEIGHT - 1, WIDTH, 3), 6 * i, np.uint8)).save(tmp_path / f"frame{i + 1}.png")
    taken = take(Item("a", "train", video=tmp_path, fps=25), How())
    assert taken.video is not None and taken.mended == (GAPS, PADDED) and taken.seconds == pytest.approx(12 / 25)
    np.testing.assert_allclose(levels(taken.video), 6 * np.array([0, 1, 2, 2, *range(4, 12)]), atol=4)
    every_second = tmp_path / "even"
    every_second.mkdir()
    for i in range(0, 20, 2):
        (every_second / f"{i:03d}.png").write_bytes((tmp_path / "frame1.png").read_bytes())
    spaced = take(Item("a", "train", video=every_second, fps=25), How())
    assert spaced.seconds == pytest.approx(10 / 25) and spaced.mended == (SPACED, PADDED)


def pictures(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for i, name in enumerate(names):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 6 * i, np.uint8)).save(folder / name)
    return folder


def test_a_picture_that_the_disk_does_not_give_leaves_nothing_out(tmp_path, monkeypatch):
    item = Item("a", "train", video=pictures(tmp_path / "a", *(f"{i}.png" for i in range(8))), fps=25)

    def fails(*_given, **_named):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Image, "open", fails)
    with pytest.raises(Trouble, match=r"\.png: cannot be read \(stale file handle\)"):
        take(item, How())


def test_a_frame_in_two_formats_is_one_and_told(tmp_path):
    names = [f"{i:04d}.{ending}" for i in range(10) for ending in ("png", "jpg")]
    taken = take(Item("a", "train", video=pictures(tmp_path / "a", *names), fps=25), How())
    assert taken.mended == (TWINS,) and taken.seconds == pytest.approx(10 / 25) and taken.video is not None
    np.testing.assert_allclose(levels(taken.video), 12 * np.arange(10), atol=4)  # the lossless one of each


def test_pictures_without_numbers_are_in_their_order_and_told(tmp_path):
    for k, names in enumerate((("a.png", "b.png", "c.png", "d.png"), [f"fn{i:06d}-0.png" for i in range(4)])):
        taken = take(Item("a", "train", video=pictures(tmp_path / f"{k}", *names), fps=25), How())
        assert taken.mended == (UNNUMBERED,) and taken.seconds == pytest.approx(4 / 25) and taken.video is not None
        np.testing.assert_allclose(levels(taken.video), 6 * np.arange(4), atol=4)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ([f"{i:04d}.png" for i in (*range(1, 11), *range(100, 111))], "21 pictures have numbers from 1 to 110"),
        ([f"{i}.png" for i in (0, 33, 67, 100, 133, 167)], "6 pictures have numbers from 0 to 167"),  # milliseconds
        ([f"{side}{i}.png" for side in ("left", "right") for i in range(4)], "left0 and right0 have one number"),
        (["1.png", "01.png", "2.png", "3.png", "4.png"], "01 and 1 have one number"),
        (["cover.png", "1.png", "2.png", "3.png", "4.png"], "the picture cover has no number, and others have one"),
    ],
)
def test_pictures_of_which_nobody_can_say_when_they_are_shown_are_left_out(names, what, tmp_path):
    with pytest.raises(LeftOut) as left:
        take(Item("a", "train", video=pictures(tmp_path / "a", *names), fps=25), How())
    assert left.value.reason == "no telling which frame a picture is" and what in left.value.detail


def test_what_cleaning_changes_is_told_and_may_be_left(tmp_path):
    coordinates = np.zeros((12, len(skeleton.JOINTS), 3), np.float32)
    coordinates[:, skeleton.INDEX["right_shoulder"], 0], coordinates[:, skeleton.INDEX["left_shoulder"], 0] = 26, 38
    coordinates[..., :2] += 20
    confidence = np.ones(coordinates.shape[:2], np.float32)
    left = [skeleton.INDEX[name] for name in skeleton.LEFT_HAND]
    confidence[4:6, left] = 0  # a hand blinks for two frames
    coordinates[9, left[8], :2] += 9  # and a finger jumps
    file = tmp_path / "a.pose"
    pose_file.write(file, Pose(coordinates, confidence, 25), size=(100, 100))
    seen = 12 * len(skeleton.JOINTS) - 42
    for how, split, told in (
        (How(), "dev", {FILLED: f"42 of {seen}", MOVED: f"1 of {seen}"}),
        (How(clean="train"), "train", {FILLED: f"42 of {seen}", MOVED: f"1 of {seen}"}),
        (How(clean="train"), "dev", {}),
        (How(clean="none"), "train", {}),
    ):
        taken = take(Item("a", split, pose=file), how)
        assert taken.mended == tuple(told) and taken.details == told and taken.pose is not None
        assert (taken.pose.confidence[4:6, left] > 0).all() == bool(told)
        jump = taken.pose.coordinates[9, left[8]] - taken.pose.coordinates[8, left[8]]
        assert (np.abs(jump).max() > 0.5) != bool(told)


def holed(monkeypatch, lost) -> None:
    """Videos of which the frames with these numbers cannot be read."""
    between = video.between

    def others(*given):
        return (one for one in between(*given) if round(one[0] * 25) not in lost)

    monkeypatch.setattr(video, "between", others)


@pytest.mark.parametrize(
    ("lost", "shown"),
    [
        ((), {}), ((4,), {4: 3}), ((5, 6, 7), {5: 4, 6: 4, 7: 8}), ((0, 1), {0: 2, 1: 2}),
        ((139, 138), {139: 137, 138: 137}),
    ],
)  # fmt: skip
def test_a_frame_that_cannot_be_read_is_told_and_the_nearest_is_in_its_place(tmp_path, monkeypatch, lost, shown):
    file, pose = film(tmp_path / "a.mp4", even(150)), posed(tmp_path / "a.pose", 150)
    holed(monkeypatch, [10 + i for i in lost])
    taken = take(Item("a", "train", video=file, pose=pose, seconds=(0.4, 6.0)), How())
    assert taken.mended == ((HELD,) if lost else ()) and taken.video is not None
    wanted = [10 + shown.get(i, i) for i in range(140)]
    np.testing.assert_allclose(levels(taken.video), np.minimum(6 * np.array(wanted), 255), atol=5)


@pytest.mark.parametrize(
    "lost", [range(60, 66), range(6), range(94, 100), range(7, 100, 16), [i for i in range(100) if i % 10]]
)
@pytest.mark.parametrize("how", [How(size=(48, 64)), How(fps=24)])
def test_of_a_video_that_is_encoded_anew_few_frames_may_lack_wherever_they_lie(tmp_path, monkeypatch, lost, how):
    file = film(tmp_path / "a.mp4", even(100))
    holed(monkeypatch, lost)
    with pytest.raises(LeftOut) as left:
        take(Item("a", "train", video=file), how)
    assert left.value.reason == "video is damaged or cut short"
    assert f"{file}: " in left.value.detail and "frames can be read; download it again" in left.value.detail
    holed(monkeypatch, range(100))
    with pytest.raises(LeftOut, match="0 of its 1 frames"):
        take(Item("a", "train", video=file, seconds=(0, 0.4)), replace(how, fps=2))


def test_a_single_wrong_time_makes_no_video_without_end(tmp_path):
    file = film(tmp_path / "a.mp4", [*even(20), 2**33 / 90])  # as a counter of 33 bits leaves it
    with pytest.raises(LeftOut) as left:
        take(Item("a", "train", video=file, pose=posed(tmp_path / "a.pose", 21)), How())
    assert left.value.reason == LONG and "a frame's time may be wrong" in left.value.detail
    assert take(Item("a", "train", video=file, seconds=(0, 0.4)), How()).seconds == pytest.approx(0.4)


def test_a_pose_that_was_cut_by_other_times_lies_where_these_say(tmp_path):
    file, pose = film(tmp_path / "a.mp4", even(40)), posed(tmp_path / "a.pose", 20)
    item = Item("a", "train", video=file, pose=pose, seconds=(0.4, 1.2), pose_seconds=(0.2, 1.0))
    taken = take(item, How())
    assert taken.video is not None and taken.pose is not None and taken.mended == (SHORTER,)
    np.testing.assert_allclose(levels(taken.video), 6 * np.arange(10, 25), atol=4)
    noses = taken.pose.coordinates[:, skeleton.INDEX["nose"], 1] * 12 + HEIGHT / 2
    np.testing.assert_allclose(noses, np.arange(10, 25) - 5, atol=1e-4)
    later = take(replace(item, seconds=(0.0, 0.8)), How())  # of which the pose has the end alone
    assert later.video is not None and later.mended == (SHORTER,)
    np.testing.assert_allclose(levels(later.video), 6 * np.arange(5, 20), atol=4)
    with pytest.raises(LeftOut, match=DISAGREE):
        take(replace(item, seconds=(1.0, 1.6)), How())


def test_a_pose_of_a_picture_of_another_shape_lies_on_its_videos(tmp_path):
    file, there = film(tmp_path / "a.mp4", even(8)), posed(tmp_path / "a.pose", 8)
    found = pose_file.read(there)
    wide = Pose(found.coordinates * np.array([2.5, 0.5, 1], np.float32), found.confidence, 25.0)
    pose_file.write(tmp_path / "b.pose", wide, size=(WIDTH * 5 // 2, HEIGHT // 2))
    for size in (None, (24, 24)):
        one, other = (
            take(Item("a", "train", video=file, pose=pose), How(size=size)) for pose in (there, tmp_path / "b.pose")
        )
        assert one.mended == () and other.mended == (STRETCHED,) and one.video is not None and other.video is not None
        frames = [[frame for _, frame in video.frames_of("x", data)] for data in (one.video, other.video)]
        np.testing.assert_allclose(frames[0], frames[1], atol=2)
        assert one.pose is not None and other.pose is not None and one.centre is not None and other.centre is not None
        np.testing.assert_allclose(other.centre, one.centre, rtol=1e-6)
        np.testing.assert_allclose(other.pose.coordinates[..., :2], one.pose.coordinates[..., :2], atol=1e-5)
    pose_file.write(tmp_path / "c.pose", found, size=(1000, 1000))
    unsized = take(Item("a", "train", video=file, pose=tmp_path / "c.pose"), How())
    assert unsized.mended == (UNSIZED,) and unsized.centre is not None
    np.testing.assert_allclose(unsized.centre, (WIDTH / 2, HEIGHT / 2))


def test_frames_that_lack_their_files_leave_the_others_at_their_times(tmp_path):
    file = film(tmp_path / "a.mp4", even(40))
    folder = openpose(tmp_path / "pose", 40)
    for lost in sorted(folder.iterdir())[:3]:
        lost.unlink()
    for seconds, first in (((0.4, 0.8), 10), ((0.0, 0.4), 0)):
        taken = take(Item("a", "train", video=file, pose=folder, seconds=seconds), How())
        assert taken.pose is not None and taken.centre is not None and taken.mended == (HOLES,)
        noses = taken.pose.coordinates[:, skeleton.INDEX["nose"], 1] * 12 + HEIGHT / 2
        seen = taken.pose.confidence[:, skeleton.INDEX["nose"]] > 0
        np.testing.assert_allclose(noses[seen], np.arange(first, first + 10)[seen], atol=1e-4)
        assert seen.sum() >= 7


def test_frames_of_openpose_that_are_numbered_from_1_lie_at_their_videos(tmp_path):
    """As many as the video's frames, from 1 on; one fewer, and it is the file of frame 0 that is missing."""
    file = film(tmp_path / "a.mp4", even(20))
    whole = openpose(tmp_path / "pose", 20)
    for path in sorted(whole.iterdir(), reverse=True):
        number = int(path.name.split("_")[1]) + 1
        path.rename(whole / f"pose_{number:012d}_keypoints.json")
    for gone, told, first in ((None, (COUNTED,), 0), (20, (HOLES,), 1)):
        if gone is not None:
            (whole / f"pose_{gone:012d}_keypoints.json").unlink()
        taken = take(Item("a", "train", video=file, pose=whole), How())
        assert taken.pose is not None and taken.mended == told and len(taken.pose) == 20
        noses = taken.pose.coordinates[:, skeleton.INDEX["nose"], 1] * 12 + HEIGHT / 2
        seen = taken.pose.confidence[:, skeleton.INDEX["nose"]] > 0
        assert seen[first:].all() and seen.sum() == 20 - first
        np.testing.assert_allclose(noses[seen], np.arange(20 - first), atol=1e-4)


def test_a_pose_has_two_frames_more_or_fewer_at_most(tmp_path):
    file = film(tmp_path / "a.mp4", even(300))
    for frames, told in ((302, (FRAMES,)), (300, ()), (298, (FRAMES, SHORTER))):
        taken = take(Item("a", "train", video=file, pose=posed(tmp_path / f"{frames}.pose", frames)), How(video="none"))
        assert taken.mended == told, frames
    for frames in (297, 303):
        with pytest.raises(LeftOut, match=DISAGREE):
            take(Item("a", "train", video=file, pose=posed(tmp_path / f"{frames}.pose", frames)), How())
    half = take(Item("a", "train", video=file, pose=posed(tmp_path / "b.pose", 150, fps=12.49)), How(video="none"))
    assert half.mended == () and half.pose is not None and len(half.pose) == 300


def test_a_pose_of_its_videos_rate_may_not_lack_three_frames_of_a_long_clip(tmp_path):
    """They are .12 of 60 seconds, by which a pose of another rate may be off."""
    file = film(tmp_path / "a.mp4", even(1500), size=(16, 16))
    for frames in (1497, 1503):
        with pytest.raises(LeftOut, match=DISAGREE):
            take(Item("a", "train", video=file, pose=posed(tmp_path / f"{frames}.pose", frames)), How())
    half = take(Item("a", "train", video=file, pose=posed(tmp_path / "b.pose", 749, fps=12.5)), How(video="none"))
    assert half.pose is not None and len(half.pose) == 1498


def _noses(taken) -> np.ndarray:
    return taken.pose.coordinates[:, skeleton.INDEX["nose"], 1] * 12 + HEIGHT / 2


def test_the_rate_of_poses_beside_a_video_can_be_given(tmp_path):
    """Every second frame of the video has a pose."""
    shown = Item("a", "train", video=film(tmp_path / "a.mp4", even(40)), pose=openpose(tmp_path / "half", 20))
    frames = pictures(tmp_path / "frames", *[f"{i:04d}.png" for i in range(40)])
    for item, how, told in (
        (shown, How(pose_fps=12.5), (ASSUMED,)),
        (replace(shown, fps=12.5), How(), ()),
        (replace(shown, fps=12.5), How(pose_fps=25), ()),  # the row's own
        (replace(shown, video=frames, fps=25), How(pose_fps=12.5), (ASSUMED,)),
        (replace(shown, video=frames, fps=25, pose=posed(tmp_path / "a.pose", 20, fps=12.5)), How(), ()),
    ):
        taken = take(item, how)
        assert taken.mended == told and taken.video_fps == 25 and len(levels(taken.video)) == 40
        np.testing.assert_allclose(_noses(taken)[:39], np.arange(39) / 2, atol=1e-4)
        part = take(replace(item, seconds=(0.4, 1.2)), how)
        np.testing.assert_allclose(_noses(part), 5 + np.arange(20) / 2, atol=1e-4)
    for item, how in ((shown, How()), (shown, How(pose_fps=24)), (replace(shown, video=frames, fps=25), How())):
        with pytest.raises(LeftOut, match="give the pose's rate with --pose-fps") as left:
            take(item, how)
        assert left.value.reason == DISAGREE


def test_poses_of_each_of_a_videos_frames_have_its_times_whatever_rate_is_given(tmp_path):
    item = Item("a", "train", video=film(tmp_path / "a.mp4", even(20)), pose=openpose(tmp_path / "pose", 20))
    for one, how, told in (
        (item, How(), ()),
        (item, How(pose_fps=25.2), ()),
        (item, How(pose_fps=12.5), (RATE,)),
        (replace(item, fps=50), How(), (RATE,)),
    ):
        taken = take(one, how)
        assert taken.mended == told and taken.pose is not None and taken.pose.fps == 25
        np.testing.assert_allclose(_noses(taken), np.arange(20), atol=1e-4)


def test_frames_by_their_times_by_hand():
    stamps = np.array([0, 0.1, 0.2, 0.6])
    assert timing.nearest(stamps, np.array([0, 0.04, 0.06, 0.3, 0.5, 0.9])).tolist() == [0, 0, 1, 2, 3, 3]
    assert timing.constant_rate(np.arange(5) / 24, 24.0) == 24
    assert timing.constant_rate(stamps, 10.0) == 0
    pose = Pose(np.arange(4.0, dtype=np.float32).reshape(4, 1, 1), np.ones((4, 1), np.float32), 10)
    found = timing.at_times(pose, stamps, np.array([0.05, 0.2, 0.4]), 5.0)
    np.testing.assert_allclose(found.coordinates.ravel(), [0.5, 2, 2.5])
