"""TensorBoard: scalars, glosses as text, pose strips as images, rendered clips as animated images."""

import io
import os
import sys
import time
import uuid
from collections.abc import Sequence
from html import escape
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from signer_jax.storage import reason_of


def animation(video: np.ndarray, fps: float) -> bytes:
    """uint8 `[t, h, w, 3]` as an animated GIF that repeats."""
    frames = [Image.fromarray(frame) for frame in video]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)
    return buffer.getvalue()


class Monitor:
    """Writes what training shows, on the first process; the others write nothing. A context.

    It may fail (a full disk), and says so once; training goes on, and each later event tries a new file. Events are
    written at once, not by `SummaryWriter`: its thread dies of a full disk or a clock set back, then its queue blocks.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        self._writes = jax.process_index() == 0
        self._writer: EventsWriter | None = None
        self._failing = False

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def scalars(self, stage: str, step: int, values: dict[str, float]) -> None:
        self._write(step, *(Summary.Value(tag=f"{stage}/{name}", simple_value=value) for name, value in values.items()))

    def text(self, tag: str, step: int, rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> None:
        """A table, as TensorBoard's Markdown."""
        cells = [header, tuple("---" for _ in header), *rows]
        lines = [" | ".join(escape(" ".join(cell.split())).replace("|", "\\|") for cell in row) for row in cells]
        self._write(step, *summary.text(tag, "\n".join(lines)).value)

    def image(self, tag: str, step: int, picture: np.ndarray) -> None:
        """uint8 `[h, w, 3]`."""
        self._write(step, *summary.image(tag, picture, dataformats="HWC").value)

    def video(self, tag: str, step: int, video: np.ndarray, fps: float) -> None:
        """uint8 `[t, h, w, 3]`, as an animated image: TensorBoard plays no other."""
        _, height, width, _ = video.shape
        image = Summary.Image(encoded_image_string=animation(video, fps), height=height, width=width, colorspace=3)
        self._write(step, Summary.Value(tag=tag, image=image))

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer:
            self._try(writer.close)

    def _write(self, step: int, *values: Summary.Value) -> None:
        if self._writes:
            self._try(lambda: self._append(Event(wall_time=time.time(), step=step, summary=Summary(value=values))))

    def _append(self, event: Event) -> None:
        if self._writer is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            # A name of its own: two files of one second would be one.
            self._writer = EventsWriter(str(self.directory / "events"), f".{os.getpid()}.{uuid.uuid4().hex[:8]}")
        self._writer.write_event(event)
        self._writer.flush()

    def _try(self, write) -> None:
        try:
            write()
            self._failing = False
        except OSError as error:
            self._writer = None
            if not self._failing:
                print(
                    f"signer: {self.directory}: no curves for now ({reason_of(error)}); training goes on",
                    file=sys.stderr,
                    flush=True,
                )
            self._failing = True
