"""Video files: what is written is read back, and browsers can play it."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from fuzz import boxes, memory

from signer_jax.data import containers, sample_tables, video
from signer_jax.errors import SignerError


def _clip(frames: int = 6, height: int = 32, width: int = 48) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    pictures = [np.stack([x * 4 + 8 * t, y * 5, np.full_like(x, 90)], -1) for t in range(frames)]
    return np.clip(np.stack(pictures), 0, 255).astype(np.uint8)


def test_round_trip(tmp_path):
    clip = _clip()
    video.write(tmp_path / "a.mp4", clip, 24.0)
    back, fps = video.read(tmp_path / "a.mp4")
    assert fps == 24.0 and back.shape == clip.shape and back.dtype == np.uint8
    assert np.abs(back.astype(int) - clip).mean() < 4
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("fps", [30000 / 1001, 12.5, 25])
def test_frame_rates(tmp_path, fps):
    video.write(tmp_path / "a.mp4", _clip(), fps)
    assert video.frame_rate(tmp_path / "a.mp4") == pytest.approx(fps, rel=1e-5)
    assert len(list(video.frames(tmp_path / "a.mp4"))) == 6


def test_browsers_play_it(tmp_path):
    video.write(tmp_path / "a.mp4", _clip(), 24.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays before it is loaded whole


def test_odd_sizes_and_scale(tmp_path):
    clip = _clip(height=31, width=33)
    video.write(tmp_path / "a.mp4", clip, 24.0)
    assert video.read(tmp_path / "a.mp4")[0].shape == (6, 32, 34, 3)
    video.write(tmp_path / "b.mp4", clip, 24.0, scale=3)
    large, _ = video.read(tmp_path / "b.mp4")
    assert large.shape == (6, 94, 100, 3)
    assert np.abs(large[:, 1:93:3, 1:99:3].astype(int) - clip).mean() < 4


def _message(function, *arguments) -> str:
    with pytest.raises(SignerError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_errors_are_one_line(tmp_path):
    assert "none.mp4" in _message(video.read, tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    assert "text.mp4" in _message(video.read, tmp_path / "text.mp4")
    assert "uint8" in _message(video.write, tmp_path / "a.mp4", _clip().astype(np.float32), 24.0)
    assert "frames" in _message(video.write, tmp_path / "a.mp4", _clip()[:0], 24.0)
    assert "fps" in _message(video.write, tmp_path / "a.mp4", _clip(), 0.0)
    assert "cannot be written" in _message(video.write, tmp_path / "text.mp4" / "a.mp4", _clip(), 24.0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["text.mp4"]


CODECS = {"mp4": "libx264", "mov": "libx264", "webm": "libvpx", "matroska": "libx264", "avi": "mpeg4"}


def _encode(path: Path, kind: str, *, options: dict[str, str] | None = None, frames: int = 12) -> bytes:
    """A clip in any container; twelve frames of noise, so that half of the bytes are half of the frames."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format=kind, options=options or {}) as container:
        stream = container.add_stream(CODECS[kind], rate=25, options={"g": "4"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(frames):
            picture = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mp4", {}), ("mp4", {"movflags": "faststart"}), ("mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("mov", {}), ("webm", {}), ("matroska", {}), ("avi", {}),
    ],
)  # fmt: skip
def test_every_cut_is_noticed(tmp_path, kind, options):
    whole = _encode(tmp_path / "whole", kind, options=options)
    assert len(list(video.frames(tmp_path / "whole"))) == 12
    for length in {0, 1, 7, *range(8, len(whole), max(1, len(whole) // 60)), len(whole) - 8, len(whole) - 1}:
        (tmp_path / "cut").write_bytes(whole[:length])
        message = _message(video.read, tmp_path / "cut")
        assert "no video stream" not in message and str(tmp_path / "cut") in message
        if length > len(whole) // 8:
            assert "cut short" in message


def test_boxes_that_end_where_the_file_is_cut(tmp_path):
    whole = _encode(tmp_path / "whole", "mp4", options={"movflags": "frag_keyframe+empty_moov"})
    starts, place = [], 0
    while place < len(whole):
        starts.append(place)
        place += struct.unpack(">I", whole[place : place + 4])[0]
    assert len(starts) >= 9  # ftyp, moov, three fragments of two boxes each, mfra
    for start in starts[1:]:
        (tmp_path / "cut").write_bytes(whole[:start])
        assert "cut short" in _message(video.read, tmp_path / "cut")
    # A box behind the last, or padding, is nothing that is missing.
    for more in (struct.pack(">I4s", 12, b"free") + b"more", bytes(100)):
        (tmp_path / "more").write_bytes(_encode(tmp_path / "plain", "mp4") + more)
        assert len(list(video.frames(tmp_path / "more"))) == 12


def test_an_edit_list_is_no_cut(tmp_path):
    _encode(tmp_path / "whole.mp4", "mp4")
    with av.open(str(tmp_path / "whole.mp4")) as source, av.open(str(tmp_path / "a.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                step = packet.duration
                packet.pts, packet.dts, packet.stream = packet.pts - 3 * step, packet.dts - 3 * step, stream
                target.mux(packet)
    assert b"elst" in (tmp_path / "a.mp4").read_bytes()
    assert len(list(video.frames(tmp_path / "a.mp4"))) == 9


@pytest.mark.parametrize(
    "text",
    ["ffconcat version 1.0\nfile whole.mp4\n", "#EXTM3U\n#EXTINF:1,\nwhole.mp4\n#EXT-X-ENDLIST\n", "P6 1 1 255 abc"],
)
def test_a_text_names_no_other_file(tmp_path, text):
    _encode(tmp_path / "whole.mp4", "mp4")
    (tmp_path / "a.mp4").write_text(text)
    assert "no video of a known kind" in _message(video.read, tmp_path / "a.mp4")


def test_names_are_names_and_pipes_are_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file:a.mp4").write_bytes(_encode(Path("whole.mp4"), "mp4"))
    assert len(video.read("file:a.mp4")[0]) == 12
    os.mkfifo("pipe.mp4")
    assert "no regular file" in _message(video.read, "pipe.mp4")
    assert "folder" in _message(video.read, ".")


def test_large_frames_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    _encode(tmp_path / "a.mp4", "mp4")
    monkeypatch.setattr(video, "_MOST_PIXELS", 64 * 48 - 1)
    assert "64x48 pixels, more than 8K" in _message(video.read, tmp_path / "a.mp4")
    monkeypatch.setattr(video, "_MOST_PIXELS", 64 * 48)
    assert len(video.read(tmp_path / "a.mp4")[0]) == 12


def test_time_stamps_are_of_the_file(tmp_path):
    video.write(tmp_path / "a.mp4", _clip(), 12.5)
    assert [time for time, _ in video.timed_frames(tmp_path / "a.mp4")] == pytest.approx(np.arange(6) / 12.5)


@pytest.mark.parametrize("tail", [b"\0\0\0\0SEFT tail of a telephone", b"plain text behind the end\n", b"\0" * 9])
def test_what_a_camera_writes_behind_the_last_box_is_no_cut(tmp_path, tail):
    whole = _encode(tmp_path / "clip.mp4", "mp4")
    (tmp_path / "clip.mp4").write_bytes(whole + tail)
    assert len(video.read(tmp_path / "clip.mp4")[0]) == 12


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.mkv", b"\x1a\x45\xdf\xa3\x80" + b"\xec\x80" * 2_000_000),
        ("a.avi", b"RIFF\x04\0\0\0AVI " * 420_000),
        ("a.mp4", b"\0\0\0\x08free" * 2_000_000),
    ],
    ids=["mkv", "avi", "mp4"],
)
def test_parts_without_end_are_not_walked(tmp_path, name, data):
    """4 MB of empty elements took 4.6 s; the system's calls of a walk are counted, which no busy machine changes."""
    (tmp_path / name).write_bytes(data)
    reads = 0
    with (tmp_path / name).open("rb") as file:

        class Counted:
            tell = file.tell
            seek = file.seek

            def read(self, count):
                nonlocal reads
                reads += 1
                return file.read(count)

        with pytest.raises(SignerError, match="more than|among its first"):
            containers.check(tmp_path / name, Counted(), len(data))  # type: ignore[arg-type]
    assert reads <= 400_001


MANY = 5_000_000
_STBL = ("moov", "trak", "mdia", "minf", "stbl")


def _one_size(count: int, each: int = 20) -> dict[tuple[str, ...], bytes]:
    """So many samples of one size, in one stretch."""
    return {
        (*_STBL, "stsz"): struct.pack(">III", 0, each, count),
        (*_STBL, "stsc"): struct.pack(">IIIII", 0, 1, 1, count, 1),
        (*_STBL, "stts"): struct.pack(">IIII", 0, 1, count, 512),
    }


def _edits(count: int) -> dict[tuple[str, ...], bytes]:
    return {("moov", "trak", "edts", "elst"): struct.pack(">II", 0, count) + struct.pack(">IIHH", 240, 0, 1, 0) * count}


def _fragments(count: int) -> tuple[bytes, dict[tuple[str, ...], bytes]]:
    return (
        _fragmented(),
        {("moof", "traf", "trun"): struct.pack(">IIi", 1, count, 200)},
    )


def _fragmented() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for picture in _clip():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def _pictures() -> bytes:
    numbers = struct.pack(">BBHI", 1, 0, 0, 100_000_000), struct.pack(">BBHHI", 2, 0, 0, 0x4400, 100_000_000)
    kind = boxes.box("hdlr", bytes(8) + b"pict" + bytes(13)) + boxes.box("pitm", bytes(6))
    return boxes.box("meta", bytes(4) + kind + boxes.box("iinf", numbers[0]) + boxes.box("iloc", numbers[1]))


def _packed(movie: bytes) -> bytes:
    large = movie + boxes.box("free", bytes(100_000_000))
    whole = boxes.box("moov", large)
    inner = boxes.box("dcom", b"zlib") + boxes.box("cmvd", struct.pack(">I", len(whole)) + zlib.compress(whole, 9))
    return boxes.box("cmov", inner)


@pytest.mark.parametrize("kind", ["samples", "edits", "fragments", "behind", "pictures", "packed"])
def test_what_tables_claim_is_not_held(tmp_path, kind):
    """Each takes hundreds of megabytes in FFmpeg, and gigabytes with larger numbers."""
    video.write(tmp_path / "a.mp4", _clip(), 24.0)
    whole = (tmp_path / "a.mp4").read_bytes()
    if kind == "samples":
        data = boxes.replaced(whole, _one_size(MANY))
    elif kind == "edits":
        data = boxes.replaced(whole, _one_size(6_000) | _edits(1_000))
    elif kind in ("fragments", "behind"):
        data = boxes.replaced(*_fragments(MANY))
        if kind == "behind":  # where the last box is longer than the file: what cameras write so is passed over
            start = data.index(b"moof") - 4
            data = whole + struct.pack(">I", 10**6) + data[start + 4 :]
    elif kind == "pictures":
        data = whole.replace(struct.pack(">I", boxes.size(whole, "moov")) + b"moov", _pictures() + b"....moov", 1)
        data = data.replace(b"....moov", struct.pack(">I", boxes.size(whole, "moov")) + b"moov")
    else:
        data = boxes.replaced(whole, {("moov",): _packed(boxes.inside(whole, "moov"))})
    (tmp_path / "b.mp4").write_bytes(data)
    said = []
    assert memory.grown(lambda: said.append(_message(lambda: list(video.frames(tmp_path / "b.mp4"))))) < 100 << 20
    assert "is not read so; write it again" in said[0] and str(tmp_path) in said[0]


@pytest.mark.parametrize("long", [struct.pack(">I4s", 28, b"stsz"), struct.pack(">I4sQ", 1, b"stsz", 36)])
@pytest.mark.parametrize("count", [1 << 20, (1 << 20) + 1])
def test_a_table_is_found_in_any_form(long, count):
    found = sample_tables.fault([b"moov" + long + struct.pack(">III", 0, 20, count)], 1000)
    assert found == ("" if count == 1 << 20 else f"its tables claim {count} frames")


def test_tables_that_are_true_are_read(tmp_path):
    (tmp_path / "a.mp4").write_bytes(_fragmented())
    assert len(list(video.frames(tmp_path / "a.mp4"))) == 6
    video.write(tmp_path / "b.mp4", _clip(), 24.0)
    (tmp_path / "c.mp4").write_bytes(boxes.replaced((tmp_path / "b.mp4").read_bytes(), _edits(2)))
    assert list(video.frames(tmp_path / "c.mp4"))


def test_sound_has_as_many_samples_as_its_bytes(tmp_path):
    """Sound that is not packed: a sample of two bytes for each point in time, 2 million of them."""
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream, sound = container.add_stream("mpeg4", rate=25), container.add_stream("pcm_s16le", rate=48_000)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        sound.layout = "mono"
        for picture in _clip():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2_000_000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    assert len(list(video.frames(tmp_path / "a.mov"))) == 6


def _element(name: int, inside: bytes) -> bytes:
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + struct.pack(">Q", len(inside) | 1 << 56) + inside


def _segment(inside: bytes) -> bytes:
    return _element(0x1A45DFA3, b"\x42\x82\x88matroska") + _element(0x18538067, inside)


MANY_ENTRIES = {
    "tracks": _element(0x1654AE6B, b"\xae\x80" * 700_000),
    "encodings": _element(0x1654AE6B, _element(0xAE, _element(0x6D80, b"\x62\x40\x80" * 700_000))),
    "tags": _element(0x1254C367, _element(0x7373, b"\x67\xc8\x80" * 700_000)),
    "cues": _element(0x1C53BB6B, b"\xbb\x80" * 700_000),
    "many heads": _element(0x114D9B74, b"\x4d\xbb\x80" * 40_000) * 10,
    "attached files": _element(0x1941A469, b"\x61\xa7\x80" * 700_000),
    "hidden": _element(0x114D9B74, _element(0x4DBB, b"\x53\xac\x81\x20"))
    + _element(0xEC, _element(0x1254C367, _element(0x7373, b"\x67\xc8\x80" * 700_000))),
}


@pytest.mark.parametrize("kind", MANY_ENTRIES)
def test_what_a_segment_lists_is_not_held(tmp_path, kind):
    """Two or three bytes of a list are a hundred in FFmpeg."""
    (tmp_path / "a.mkv").write_bytes(_segment(MANY_ENTRIES[kind]))
    said = []
    assert memory.grown(lambda: said.append(_message(video.frame_rate, tmp_path / "a.mkv"))) < 60 << 20
    assert "is not read so; write it again" in said[0] and str(tmp_path) in said[0]


def test_a_damaged_hevc_file_is_read_to_its_end():
    # FFmpeg's frame threads wait for each other for ever in this one.
    code = "import sys\nfrom signer_jax.data import video\nprint(sum(1 for _ in video.frames(sys.argv[1])))"
    file = Path(__file__).with_name("damaged_hevc.mkv")
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, timeout=120)
    assert int(done.stdout) > 0
