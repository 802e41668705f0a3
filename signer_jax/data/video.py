"""Reads and writes videos through PyAV: uint8 `[t, h, w, 3]` RGB frames beside their frame rate."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from jaxtyping import UInt8

from signer_jax import outside, storage
from signer_jax.data import containers
from signer_jax.errors import SignerError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_QUALITY = {"crf": "18", "preset": "medium"}  # visually lossless for H.264
_LARGEST_DENOMINATOR = 1001  # 30000/1001 is the finest frame rate in use
_MOST_PIXELS = 7680 * 4320  # of a frame
_MOST_RATE = 1000  # frames a second
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
    """As `frames`, each with the time at which it is shown, in seconds after the first."""
    with _opened(path) as (container, stream):
        start, shape, seen, first, interlaced = None, None, 0, None, False
        stamps: list[int] = []  # of the frames to be shown
        try:
            for packet in container.demux(stream):
                if packet.pts is not None and packet.size and not packet.is_discard:
                    stamps.append(packet.pts)
                for frame in packet.decode():
                    if not isinstance(frame, av.VideoFrame):
                        continue
                    if shape not in (None, (frame.height, frame.width)):
                        raise SignerError(
                            f"{path}: its frames change their size (frame {seen}); convert it to one size"
                        )
                    shape = (frame.height, frame.width)
                    time = seen / float(stream.average_rate or 1) if frame.time is None else frame.time
                    if start is None:
                        start, first = time, frame.pts
                    yield time - start, frame.to_ndarray(format="rgb24")
                    seen, interlaced = seen + 1, interlaced or frame.interlaced_frame
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _damaged(path, outside.reason_of(error)) from None
        # In mp4 each packet is a frame (or one of its two fields). Those before the first that can be shown are what a
        # cut at an open group of pictures leaves behind.
        held = sum(first is None or stamp >= first for stamp in stamps)
        if seen * (1 + interlaced) < held and "mov" in container.format.name:
            raise _damaged(path, f"{seen} of its {held} frames can be read")


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
    height, width = (side * scale for side in video.shape[1:3])
    even_height, even_width = height + height % 2, width + width % 2
    with storage.new_file(path) as partial, partial.open("wb+") as file:
        try:
            with av.open(file, "w", format="mp4", options={"movflags": "faststart"}) as container:
                rate = Fraction(fps).limit_denominator(_LARGEST_DENOMINATOR)
                stream = container.add_stream("libx264", rate=rate, options=_QUALITY)
                stream.height, stream.width, stream.pix_fmt = even_height, even_width, "yuv420p"
                for picture in watch(video):
                    large = picture.repeat(scale, 0).repeat(scale, 1)
                    even = np.pad(large, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
                container.mux(stream.encode())
        except av.FFmpegError as error:
            reason = outside.reason_of(error)
            raise SignerError(f"{path}: cannot be written ({reason}); check its size and the space") from None


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """The container and its first video stream.

    FFmpeg sees an open file and the one demultiplexer that its first bytes ask for: a text that lists other files, or a
    name that looks like an address, means nothing to it.
    """
    path = outside.plain_file(path, "give a video file")
    # An index may lead to a fragment that stands where `containers` looks for none; they are read one after the other.
    limits = {"max_pixels": str(_MOST_PIXELS), "fflags": "+ignidx"}
    with outside.reading(path, "cut it into shorter clips"), path.open("rb") as file:
        kind = containers.check(path, file, os.fstat(file.fileno()).st_size)
        file.seek(0)
        try:
            container = av.open(file, "r", format=kind, options=limits, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise _damaged(path, outside.reason_of(error)) from None
        with container:
            yield container, _stream(path, container, limits)


def _stream(path: Path, container: "InputContainer", limits: dict[str, str]) -> "VideoStream":
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
    codec.thread_type, codec.thread_count = "AUTO", _THREADS if codec.width * codec.height <= _LARGE else 1
    end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    size = container.size
    if end > size > 0:
        raise SignerError(
            f"{path}: cut short (frames up to byte {end}, {size} are there); download or extract it again"
        )
    return stream


def _damaged(path: str | Path, reason: str) -> SignerError:
    return SignerError(f"{path}: damaged video ({reason}); download or convert it again")
