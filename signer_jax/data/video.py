"""Reads and writes videos through PyAV: uint8 `[t, h, w, 3]` RGB frames beside their frame rate."""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Float, UInt8

from signer_jax import outside, storage
from signer_jax.data import containers, timing
from signer_jax.errors import SignerError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_QUALITY = {"crf": "18", "preset": "medium"}  # visually lossless for H.264
_LARGEST_DENOMINATOR = 1001  # 30000/1001 is the finest frame rate in use
_USUAL = ("yuv420p", "yuvj420p")  # what every browser decodes
_MOST_PIXELS = 7680 * 4320  # of a frame
_MOST_RATE = 1000  # frames a second
_SAME_TIME = 1e-4  # seconds
_Stamps = tuple[int | None, int | None]  # of a packet: when its frame is shown, and when it is decoded
_FURTHER = 1.0  # seconds that a seek goes further back, twice as many the next time
_THREADS, _LARGE = 4, 1920 * 1088  # each thread holds frames of its own, so that larger ones are read by one


def frame_rate(path: str | Path) -> float:
    """Frames per second of the file's first video stream. Raises `SignerError` as `frames` does."""
    with _opened(path) as (_, stream):
        return float(stream.average_rate or 0)  # `_opened` refuses a stream without one


def frames(path: str | Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames of the file's first video stream, one at a time: a full-size clip need not fit into memory.

    Raises `SignerError` where the file is missing, of another kind than mp4, mov, webm, mkv and avi, cut short or
    damaged, holds no video, or frames that are larger than 8K or of different sizes.
    """
    for _, frame in timed_frames(path):
        yield frame


def timed_frames(path: str | Path) -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
    """As `frames`, each with the time at which it is shown, in seconds after the first. A video that says how it is to
    be turned (a telephone's) comes upright.
    """
    with _opened(path) as (container, stream):
        yield from _timed(path, container, stream)


def decodable(path: str | Path) -> int:
    """How many frames can be decoded, all of them looked at and none kept. Raises `SignerError` as `frames`."""
    with _opened(path) as (container, stream):
        return sum(1 for _ in _decoded(path, container, stream))


def nearest(
    name: str, data: bytes, wanted: Float[np.ndarray, " n"]
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
    """Of a file's bytes the frames that are shown nearest to these times (seconds after the first, ascending), the
    earlier of two; each with how many of them it stands for. The last one stands for what lies behind it.

    A frame that none of them names is decoded alone, and nothing is behind the last that is taken. Raises as `frames`.
    """
    with _held(Path(name), io.BytesIO(data), len(data)) as (container, stream):
        upright = _converter()
        for count, frame in timing.shown_at(_decoded(name, container, stream), wanted):
            yield count, upright(frame)


def frames_of(name: str, data: bytes) -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
    """As `timed_frames`, of a file's bytes; `name` is what messages call it. Raises `SignerError` as `frames`."""
    with _held(Path(name), io.BytesIO(data), len(data)) as (container, stream):
        yield from _timed(name, container, stream)


@dataclass(frozen=True)
class Facts:
    """What a video file says of itself, its frames undecoded but for the first."""

    stamps: Float[np.ndarray, " t"]  # when each frame is shown, in seconds after the first
    fps: float  # the stream's average
    height: int  # upright
    width: int
    turned: bool  # shown otherwise than it is stored
    plain: bool  # an H.264 mp4, which every browser plays


def facts(path: str | Path) -> Facts:
    """The times of a video's frames and its size. Raises `SignerError` as `frames`, and where it holds no frame."""
    with _opened(path) as (container, stream):
        try:
            first = next((frame for frame in container.decode(stream) if isinstance(frame, av.VideoFrame)), None)
            container.seek(0)
            packets = [(one.pts, one.dts) for one in container.demux(stream) if _holds(one)]
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _damaged(path, outside.reason_of(error)) from None
        if first is None or not packets:
            raise SignerError(f"{path}: holds no frame; download or convert it again")
        times = _times(container, stream, packets, first)
        rate = float(stream.average_rate or 1)
        upright = _converter()(first)
        plain = "mov" in container.format.name and stream.codec_context.name == "h264"
        return Facts(times, rate, upright.shape[0], upright.shape[1], _turns(first) != 0, plain)


def _times(
    container: "InputContainer", stream: "VideoStream", packets: Sequence[_Stamps], first: "av.VideoFrame"
) -> Float[np.ndarray, " t"]:
    """When the frames of these packets are shown, in seconds after the first."""
    unstamped = _unstamped(container, packets)
    stamps = np.array([stamp for packet in packets if (stamp := packet[int(unstamped)]) is not None], np.float64)
    begin = first.dts if unstamped else first.pts
    # Packets before the first frame's are of frames that cannot be shown (`_decoded`); unstamped, they are a delay.
    known = stamps if begin is None else stamps[stamps >= begin]
    times = np.sort(known if len(known) else np.zeros(1)) * float(stream.time_base or 1)
    if unstamped:
        delay = len(packets) - len(times)
        times = np.append(times, times[-1] + np.arange(1, delay + 1) / float(stream.average_rate or 1))
    return times - times[0]


def between(path: str | Path, start: float, end: float) -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
    """Of `timed_frames` those that are shown from `start` up to `end` (excluded), but for the check that all of the
    file's frames came; what lies before the key frame of the first is not decoded where the file says when it is shown.
    """
    with _opened(path) as (container, stream):
        upright = _converter()
        for time, frame in _from(path, container, stream, start):
            if time >= end - _SAME_TIME:
                break
            if time >= start - _SAME_TIME:
                yield time, upright(frame)


def _turns(frame: "av.VideoFrame") -> int:
    """Quarter turns against the clock that bring a frame upright."""
    return round(frame.rotation / 90) % 4


def _converter() -> Callable[["av.VideoFrame"], UInt8[np.ndarray, "h w 3"]]:
    """What gives the frames of a video upright. One for all of them: what it sets up for their size takes longer than
    a small frame does.
    """
    formatter = VideoReformatter()

    def upright(frame: av.VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
        picture = formatter.reformat(frame, format="rgb24").to_ndarray()
        turns = _turns(frame)
        return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture

    return upright


def _timed(
    path: str | Path, container: "InputContainer", stream: "VideoStream"
) -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
    upright = _converter()
    for time, frame in _decoded(path, container, stream):
        yield time, upright(frame)


def _decoded(
    path: str | Path, container: "InputContainer", stream: "VideoStream"
) -> Iterator[tuple[float, "av.VideoFrame"]]:
    """Every frame, with its seconds after the first. Raises `SignerError` where one is lacking in an mp4."""
    seen, origin, first, interlaced = 0, 0.0, None, False
    packets: list[_Stamps] = []
    for time, frame in _in_order(path, container, stream, packets):
        if not seen:
            origin, first = time, frame.pts
        yield time - origin, frame
        seen, interlaced = seen + 1, interlaced or frame.interlaced_frame
    # In mp4 each packet is a frame (or one of its two fields). Those before the first that can be shown are what a
    # cut at an open group of pictures leaves behind.
    held = sum(shown is not None and (first is None or shown >= first) for shown, _ in packets)
    if seen * (1 + interlaced) < held and "mov" in container.format.name:
        raise _damaged(path, f"{seen} of its {held} frames can be read")


def _from(
    path: str | Path, container: "InputContainer", stream: "VideoStream", start: float
) -> Iterator[tuple[float, "av.VideoFrame"]]:
    """As `_decoded`, from some frame on that is shown at `start` or before; nothing is checked at the end."""
    packets: list[_Stamps] = []
    found = _in_order(path, container, stream, packets)
    origin, first = next(found, (0.0, None))
    if first is None:
        return
    if start > 0 and not _unstamped(container, packets):
        found = _sought(path, container, stream, origin + start)
    else:
        found = chain(((origin, first),), found)
    for time, frame in found:
        yield time - origin, frame


def _sought(
    path: str | Path, container: "InputContainer", stream: "VideoStream", start: float
) -> Iterator[tuple[float, "av.VideoFrame"]]:
    """As `_in_order`, from a key frame on that is shown at `start` or before, or from the first frame on.

    A seek may lead to a key frame that is shown later: it goes by when packets are decoded, and frames that are shown
    before the key frame but decoded behind it need those before it, too (an open group of pictures).
    """
    back = 0.0
    while start - back > 0:
        try:
            container.seek(int((start - back) / (stream.time_base or 1)), stream=stream, backward=True)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _damaged(path, outside.reason_of(error)) from None
        found = _in_order(path, container, stream, [])
        key = next((one for one in found if one[1].key_frame), None)
        if key is not None and key[0] <= start + _SAME_TIME:
            yield key
            yield from found
            return
        back = 2 * back or _FURTHER
    with _opened(path) as (container, stream):
        yield from _in_order(path, container, stream, [])


def _in_order(
    path: str | Path, container: "InputContainer", stream: "VideoStream", packets: list[_Stamps]
) -> Iterator[tuple[float, "av.VideoFrame"]]:
    """The frames from where the container stands, in the order and with the seconds at which it shows them; `packets`
    gets those that they came from.
    """
    shape, time, seen = None, 0.0, 0
    try:
        for packet in container.demux(stream):
            if _holds(packet):
                packets.append((packet.pts, packet.dts))
            for frame in packet.decode():
                if not isinstance(frame, av.VideoFrame):
                    continue
                if shape not in (None, (frame.height, frame.width)):
                    raise SignerError(f"{path}: its frames change their size (frame {seen}); convert it to one size")
                shape = (frame.height, frame.width)
                stamp = frame.dts if _unstamped(container, packets) else frame.pts
                if stamp is not None and stream.time_base:
                    time = float(stamp * stream.time_base)
                elif seen:
                    time += 1 / float(stream.average_rate or 1)
                yield time, frame
                seen += 1
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _damaged(path, outside.reason_of(error)) from None


def _holds(packet: "av.Packet") -> bool:
    """Whether there is a frame in it, or a part of one, that is to be shown."""
    return packet.size > 0 and not packet.is_discard


def _unstamped(container: "InputContainer", packets: Sequence[_Stamps]) -> bool:
    """Whether a file with these packets does not say when its frames are shown, as an avi does not (FFmpeg guesses, and
    wrongly): each then follows the one before it, as long after it as the packets do that complete the two.
    """
    return container.format.name == "avi" or (bool(packets) and packets[0][0] is None)


def read(path: str | Path) -> tuple[UInt8[np.ndarray, "t h w 3"], float]:
    """All frames of the file's first video stream and their rate. Raises `SignerError` as `frames` does."""
    rate = frame_rate(path)
    with outside.reading(path, "cut it into shorter clips"):
        video = list(frames(path))
        if not video:
            raise SignerError(f"{path}: holds no frame; download or convert it again")
        return np.stack(video), rate


def write(
    path: str | Path,
    video: UInt8[np.ndarray, "t h w 3"],
    fps: float,
    *,
    scale: int = 1,
    watch: Callable[[Iterable[np.ndarray]], Iterable[np.ndarray]] = iter,
) -> None:
    """Writes an H.264 yuv420p mp4 that browsers play.

    Every pixel becomes `scale` x `scale` (nearest), for small videos; an odd height or width is made even by repeating
    the last row or column. `watch` sees the frames go by (a progress bar). The file appears under its name only when
    complete. Raises `SignerError` for a video that is empty or not uint8 RGB, and where the file cannot be written.
    """
    path = Path(path)
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or not video.size:
        raise SignerError(f"{path}: a video is uint8 [t, h, w, 3] with frames, not {video.dtype} {list(video.shape)}")
    if not 0 < fps <= _MOST_RATE or scale < 1:
        raise SignerError(f"{path}: fps {fps:g} and scale {scale} must be positive, fps at most {_MOST_RATE}")
    with storage.new_file(path) as partial, partial.open("wb+") as file:
        try:
            _encode(
                file,
                (one.repeat(scale, 0).repeat(scale, 1) for one in watch(video)),
                fps,
                threads=0,
                options={"movflags": "faststart"},
            )
        except av.FFmpegError as error:
            reason = outside.reason_of(error)
            raise SignerError(f"{path}: cannot be written ({reason}); check its size and the space") from None


def encoded(pictures: Iterable[UInt8[np.ndarray, "h w 3"]], fps: float) -> bytes:
    """The bytes of what `write` writes, of frames that come one by one; the same on any number of processors, and
    nothing of no frame. Raises `SignerError` where they cannot be encoded.
    """
    file = io.BytesIO()
    try:
        _encode(file, pictures, fps, threads=1, options={})  # to move its index, FFmpeg opens a file again
    except av.FFmpegError as error:
        raise SignerError(f"a video cannot be encoded ({outside.reason_of(error)}); check its size") from None
    return file.getvalue()


def for_browsers(path: str | Path) -> bytes:
    """An mp4 of the file's frames alone that browsers play: without sound, and without what the file says of itself
    (title, encoder, dates). H.264 in the usual pixels stays as it is, anything else is encoded. Raises as `frames`.
    """
    found = facts(path)
    with _opened(path) as (container, stream):
        if not found.plain or found.turned or stream.codec_context.pix_fmt not in _USUAL:
            return encoded((frame for _, frame in _timed(path, container, stream)), found.fps)
        file = io.BytesIO()
        try:
            with av.open(file, "w", format="mp4") as target:
                copy = target.add_stream_from_template(stream)
                for packet in container.demux(stream):
                    if packet.dts is not None:
                        packet.stream = copy
                        target.mux(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _damaged(path, outside.reason_of(error)) from None
        return file.getvalue()


def as_written(fps: float) -> float:
    """The frame rate that a file of ours has for one that is asked for."""
    return float(Fraction(fps).limit_denominator(_LARGEST_DENOMINATOR))


def _encode(
    file: BinaryIO, pictures: Iterable[UInt8[np.ndarray, "h w 3"]], fps: float, *, threads: int, options: dict[str, str]
) -> None:
    """H.264 in an mp4; nothing where there is no picture. `threads` 0: as many as the processor has."""
    pictures = iter(pictures)
    first = next(pictures, None)
    if first is None:
        return
    height, width = first.shape[:2]
    with av.open(file, "w", format="mp4", options=options) as container:
        rate = Fraction(fps).limit_denominator(_LARGEST_DENOMINATOR)
        stream = container.add_stream("libx264", rate=rate, options=_QUALITY)
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        if threads:  # the encoder's choices depend on their number
            stream.codec_context.thread_count = threads
        for picture in chain((first,), pictures):
            even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """The container and its first video stream.

    FFmpeg sees an open file and the one demultiplexer that its first bytes ask for: a text that lists other files, or a
    name that looks like an address, means nothing to it.
    """
    path = outside.plain_file(path, "give a video file")
    with (
        outside.reading(path, "cut it into shorter clips"),
        path.open("rb") as file,
        _held(path, file, os.fstat(file.fileno()).st_size, threads=_THREADS) as opened,
    ):
        yield opened


@contextmanager
def _held(
    path: Path, file: BinaryIO, size: int, *, threads: int = 1
) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """As `_opened`, of a file that is open. One thread decodes what is in memory: training reads several films at once,
    and threads of each that wait for one another took twice as long.
    """
    # An index may lead to a fragment that stands where `containers` looks for none; they are read one after the other.
    limits = {"max_pixels": str(_MOST_PIXELS), "fflags": "+ignidx"}
    kind = containers.check(path, file, size)
    file.seek(0)
    try:
        container = av.open(file, "r", format=kind, options=limits, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise _damaged(path, outside.reason_of(error)) from None
    with container:
        yield container, _stream(path, container, limits, threads)


def _stream(path: Path, container: "InputContainer", limits: dict[str, str], threads: int) -> "VideoStream":
    if not container.streams.video:
        raise SignerError(f"{path}: holds no video stream; give a video file")
    stream = container.streams.video[0]
    if not stream.average_rate or not 0 < stream.average_rate <= _MOST_RATE:
        raise SignerError(f"{path}: its frame rate is not known ({stream.average_rate}); convert it to a constant one")
    codec = stream.codec_context
    if codec is None:
        raise SignerError(f"{path}: its video is in a format that FFmpeg cannot decode; convert it to H.264")
    if codec.width * codec.height > _MOST_PIXELS:
        raise SignerError(f"{path}: a frame has {codec.width}x{codec.height} pixels, more than 8K; resize it")
    codec.options = {"max_pixels": limits["max_pixels"]}
    # A damaged HEVC file can leave FFmpeg's frame threads waiting for each other for ever.
    codec.thread_type = "SLICE" if codec.name == "hevc" else "AUTO"
    codec.thread_count = threads if codec.width * codec.height <= _LARGE else 1
    end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    size = container.size
    if end > size > 0:
        raise SignerError(
            f"{path}: cut short (frames up to byte {end}, {size} are there); download or extract it again"
        )
    return stream


def _damaged(path: str | Path, reason: str) -> SignerError:
    return SignerError(f"{path}: damaged video ({reason}); download or convert it again")
