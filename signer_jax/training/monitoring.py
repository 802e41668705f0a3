"""TensorBoard: scalars, glosses as text, pose strips as images, rendered clips as animated images."""

import io
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter
from tensorboardX.proto.summary_pb2 import Summary


def animation(video: np.ndarray, fps: float) -> bytes:
    """uint8 `[t, h, w, 3]` as an animated GIF that repeats."""
    frames = [Image.fromarray(frame) for frame in video]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)
    return buffer.getvalue()


class Monitor:
    """Writes what training shows, on the first process; the others write nothing."""

    def __init__(self, directory: str | Path):
        self._writer = SummaryWriter(str(directory)) if jax.process_index() == 0 else None

    def scalars(self, stage: str, step: int, values: dict[str, float]) -> None:
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(f"{stage}/{name}", value, step)

    def text(self, tag: str, step: int, rows: list[tuple[str, ...]], header: tuple[str, ...]) -> None:
        """A table, as TensorBoard's Markdown."""
        if self._writer:
            lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
            self._writer.add_text(tag, "\n".join(lines), step)

    def image(self, tag: str, step: int, picture: np.ndarray) -> None:
        """uint8 `[h, w, 3]`."""
        if self._writer:
            self._writer.add_image(tag, picture, step, dataformats="HWC")

    def video(self, tag: str, step: int, video: np.ndarray, fps: float) -> None:
        """uint8 `[t, h, w, 3]`, as an animated image: `SummaryWriter.add_video` needs moviepy and fails silently."""
        if self._writer:
            _, height, width, _ = video.shape
            image = Summary.Image(encoded_image_string=animation(video, fps), height=height, width=width, colorspace=3)
            self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def close(self) -> None:
        if self._writer:
            self._writer.close()
