"""When a video's frames are shown, and stretches of them: the same whatever the codec, the container and the groups."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from filmed import HEIGHT, WIDTH, level, posed

from signer_jax.data import video
from signer_jax.data.datasets.item import Item
from signer_jax.data.prepared.taking import How, take
from signer_jax.pose import skeleton

FRAMES = 48
VARIABLE = [*range(12), *range(14, 26, 2), *range(30, 60)]  # in frames of 25 a second
FINE = {"g": "12", "qmin": "1", "qmax": "1"}
OPEN_265 = {"x265-params": "log-level=none:keyint=12:min-keyint=12:open-gop=1"}
# Container, codec, frames that are shown between two others, options, times (in frames).
KINDS = {
    "closed groups": ("mp4", "libx264", 3, {"g": "12"}, range(FRAMES)),
    "open groups": ("mp4", "libx264", 3, {"g": "12", "x264-params": "open-gop=1"}, range(FRAMES)),
    "open groups in mov": ("mov", "libx264", 2, {"g": "8", "x264-params": "open-gop=1"}, range(FRAMES)),
    "open groups in mkv": ("matroska", "libx264", 3, {"g": "12", "x264-params": "open-gop=1"}, range(FRAMES)),
    "hevc": ("mp4", "libx265", 3, OPEN_265, range(FRAMES)),
    "hevc in mkv": ("matroska", "libx265", 3, OPEN_265, range(FRAMES)),
    "no key frame but the first": ("mp4", "libx264", 3, {"g": "999"}, range(FRAMES)),
    "all of it key frames": ("mov", "mjpeg", 0, {}, range(FRAMES)),
    "mpeg-2": ("matroska", "mpeg2video", 2, FINE, range(FRAMES)),
    "mpeg-4": ("mp4", "mpeg4", 2, FINE, range(FRAMES)),
    "avi": ("avi", "mpeg4", 0, FINE, range(FRAMES)),
    "avi with gaps": ("avi", "mpeg4", 0, FINE, VARIABLE),
    "avi out of order": ("avi", "mpeg4", 2, FINE, range(FRAMES)),
    "avi with gaps out of order": ("avi", "mpeg4", 2, FINE, VARIABLE),
    "avi with h264": ("avi", "libx264", 3, {"g": "12"}, range(FRAMES)),
    "avi with open groups": ("avi", "libx264", 3, {"g": "12", "x264-params": "open-gop=1"}, range(FRAMES)),
    "vp9": ("webm", "libvpx-vp9", 0, {"g": "12", "cpu-used": "8"}, range(FRAMES)),
    "av1": ("mp4", "libsvtav1", 0, {"g": "12", "preset": "12", "svtav1-params": "irefresh-type=1"}, range(FRAMES)),
    "variable": ("mp4", "libx264", 3, {"g": "12", "x264-params": "open-gop=1"}, VARIABLE),
    "variable in mkv, from 9 s on": ("matroska", "libx264", 3, {"g": "12"}, [225 + time for time in VARIABLE]),
}


def coded(path: Path, kind: str) -> Path:
    """Frame i has the grey level 5 i."""
    container, codec, between, options, times = KINDS[kind]
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        if codec not in ("libvpx-vp9", "libsvtav1"):
            stream.codec_context.max_b_frames = between
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 5 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def cut_at_a_key_frame(source: Path, path: Path, options: dict[str, str]) -> Path:
    """The file from its second key frame on, as a tool cuts that copies packets."""
    with av.open(str(source)) as file, av.open(str(path), "w", options=options) as target:
        stream = target.add_stream_from_template(file.streams.video[0])
        keys = 0
        for packet in file.demux(video=0):
            keys += packet.is_keyframe and packet.size > 0
            if keys > 1 and packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def check(path: Path, frames: list[int], times: np.ndarray) -> None:
    """That all of the file is these frames at these seconds, and any stretch of it those of the whole."""
    whole = list(video.timed_frames(path))
    np.testing.assert_allclose([level(frame) / 5 for _, frame in whole], frames, atol=0.5)
    np.testing.assert_allclose([time for time, _ in whole], times, atol=1e-3)
    np.testing.assert_allclose(video.facts(path).stamps[: len(times)], times, atol=1e-3)
    rng = np.random.default_rng(0)
    starts = [*times[:-1], *rng.uniform(0, times[-1], 12)]
    for start in starts:
        end = start + rng.choice([0.04, 0.2, 0.7, 9])
        wanted = [one for one in whole if start - 1e-4 <= one[0] < end - 1e-4]
        found = list(video.between(path, start, end))
        assert [time for time, _ in found] == [time for time, _ in wanted], (start, end)
        for (_, one), (_, other) in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stretch_is_the_wholes_frames_of_its_time(tmp_path, kind):
    times = np.array(KINDS[kind][-1])
    check(coded(tmp_path / "a", kind), [*range(len(times))], (times - times[0]) / 25)


@pytest.mark.parametrize("kind", ["open groups", "hevc", "open groups in mov"])
@pytest.mark.parametrize(("name", "options"), [("a.mp4", {}), ("a.mp4", {"use_editlist": "0"}), ("a.mkv", {})])
def test_a_file_that_was_cut_at_an_open_group_begins_with_what_can_be_shown(tmp_path, kind, name, options):
    path = cut_at_a_key_frame(coded(tmp_path / "whole", kind), tmp_path / name, options)
    first = round(level(next(video.frames(path))) / 5)
    assert 8 <= first <= 14
    check(path, [*range(first, FRAMES)], np.arange(FRAMES - first) / 25)
    assert len(video.facts(path).stamps) == FRAMES - first == video.decodable(path)


@pytest.mark.parametrize("kind", ["avi", "avi out of order", "avi with h264"])
def test_the_frames_of_an_avi_lie_at_their_poses(tmp_path, kind):
    path = coded(tmp_path / "a.avi", kind)
    taken = take(Item("a", "train", video=path, pose=posed(tmp_path / "a.pose", FRAMES)), How())
    assert taken.mended == () and taken.video is not None and taken.pose is not None
    shown = [level(frame) / 5 for _, frame in video.frames_of("a", taken.video)]
    noses = taken.pose.coordinates[:, skeleton.INDEX["nose"], 1] * 12 + 24
    np.testing.assert_allclose(noses, np.arange(FRAMES), atol=1e-3)
    np.testing.assert_allclose(shown, noses, atol=0.6)
