"""Reads and writes videos through PyAV: uint8 `[t, h, w, 3]` RGB frames beside their frame rate."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from signer_jax.errors import SignerError

_QUALITY = {"crf": "18", "preset": "medium"}  # visually lossless for H.264
_LARGEST_DENOMINATOR = 1001  # 30000/1001 is the finest frame rate in use


def frame_rate(path: str | Path) -> float:
    """Frames per second of the file's first video stream. Raises `SignerError` as `frames` does."""
    with _open(Path(path)) as container:
        return float(container.streams.video[0].average_rate or 0)  # `_open` refuses a stream without one


def frames(path: str | Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames of the file's first video stream, one at a time: a full-size clip need not fit into memory.

    Raises `SignerError` where the file is missing, holds no video or is damaged.
    """
    with _open(Path(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                yield frame.to_ndarray(format="rgb24")
        except av.FFmpegError as error:
            raise SignerError(f"{path}: damaged video ({error.strerror}); download or convert it again") from None


def read(path: str | Path) -> tuple[UInt8[np.ndarray, "t h w 3"], float]:
    """All frames of the file's first video stream and their rate. Raises `SignerError` as `frames` does."""
    rate = frame_rate(path)
    video = list(frames(path))
    if not video:
        raise SignerError(f"{path}: holds no frame; download or convert it again")
    return np.stack(video), rate


def write(path: str | Path, video: UInt8[np.ndarray, "t h w 3"], fps: float, *, scale: int = 1) -> None:
    """Writes an H.264 yuv420p mp4 that browsers play.

    Every pixel becomes `scale` x `scale` (nearest), for small videos; an odd height or width is made even by repeating
    the last row or column. The file appears under its name only when complete. Raises `SignerError` for a video that is
    empty or not uint8 RGB, and where the file cannot be written.
    """
    path = Path(path)
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or not video.size:
        raise SignerError(f"{path}: a video is uint8 [t, h, w, 3] with frames, not {video.dtype} {list(video.shape)}")
    if fps <= 0 or scale < 1:
        raise SignerError(f"{path}: fps {fps:g} and scale {scale} must be positive")
    height, width = (side * scale for side in video.shape[1:3])
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as container:
            rate = Fraction(fps).limit_denominator(_LARGEST_DENOMINATOR)
            stream = container.add_stream("libx264", rate=rate, options=_QUALITY)
            stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
            for picture in video:
                large = picture.repeat(scale, 0).repeat(scale, 1)
                even = np.pad(large, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            container.mux(stream.encode())
        partial.replace(path)
    except OSError as error:  # av.FFmpegError is one
        raise SignerError(f"{path}: cannot be written ({error.strerror}); check the folder and its space") from None
    finally:
        partial.unlink(missing_ok=True)


def _open(path: Path) -> "av.container.InputContainer":
    try:
        container = av.open(str(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SignerError(f"{path}: cannot be read as a video ({reason}); check the path") from None
    if not container.streams.video or not container.streams.video[0].average_rate:
        container.close()
        raise SignerError(f"{path}: holds no video stream; give a video file")
    return container
