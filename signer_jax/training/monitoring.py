"""TensorBoard: scalars, glosses as text, pose strips as images, rendered clips as animated images."""

import errno
import io
import os
import re
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from html import escape
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from signer_jax import mirror
from signer_jax.errors import SignerError, one_line
from signer_jax.outside import reason_of

_MARKDOWN = re.compile(r"[\\`*_{}\[\]()!#+|]")
_MINUTE = 60.0  # seconds
_VERSION = "brain.Event:2"  # the first record of every event file


def animation(video: np.ndarray, fps: float) -> bytes:
    """uint8 `[t, h, w, 3]` as an animated GIF that repeats."""
    frames = [Image.fromarray(frame) for frame in video]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)
    return buffer.getvalue()


def _plain(cell: str) -> str:
    """A text that Markdown and HTML show as it is: no link, no picture, no emphasis."""
    return escape(_MARKDOWN.sub(r"\\\g<0>", one_line(" ".join(cell.split()))))


class Monitor:
    """Writes what training shows, on the first process; the others write nothing.

    It may fail (a full disk), and says so once; training goes on, and later events are written again. Each is written
    at once, not by `SummaryWriter`: its thread dies of a full disk or a clock set back, and then its queue blocks. To a
    bucket the file goes once a minute, and when the run ends (`workdir.claimed`): there it cannot grow.
    """

    def __init__(self, directory: str | Path):
        # A name of its own: two runs of one second must not share a file.
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self.directory = Path(directory)
        self._file = self.directory / name
        self._writes = jax.process_index() == 0
        self._failing = False
        self._sent = time.monotonic()

    def scalars(self, stage: str, step: int, values: dict[str, float]) -> None:
        self._write(step, *(Summary.Value(tag=f"{stage}/{name}", simple_value=value) for name, value in values.items()))

    def text(self, tag: str, step: int, rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> None:
        """A table, as TensorBoard's Markdown."""
        cells = [header, tuple("---" for _ in header), *rows]
        lines = [" | ".join(_plain(cell) for cell in row) for row in cells]
        self._write(step, *summary.text(tag, "\n".join(lines)).value)

    def image(self, tag: str, step: int, picture: np.ndarray) -> None:
        """uint8 `[h, w, 3]`."""
        self._write(step, *summary.image(tag, picture, dataformats="HWC").value)

    def video(self, tag: str, step: int, video: np.ndarray, fps: float) -> None:
        """uint8 `[t, h, w, 3]`, as an animated image: TensorBoard plays no other."""
        _, height, width, _ = video.shape
        image = Summary.Image(encoded_image_string=animation(video, fps), height=height, width=width, colorspace=3)
        self._write(step, Summary.Value(tag=tag, image=image))

    def _write(self, step: int, *values: Summary.Value) -> None:
        if not self._writes:
            return
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        try:
            self._append(event)
            if time.monotonic() > self._sent + _MINUTE:
                self._sent = time.monotonic()
                mirror.send(self._file)
            self._failing = False
        except (OSError, SignerError) as error:
            if not self._failing:
                line = f"signer: {self._file.parent}: no curves for now ({reason_of(error)}); training goes on"
                print(line, file=sys.stderr, flush=True)
            self._failing = True

    def _append(self, event: Event) -> None:
        self._file.parent.mkdir(exist_ok=True)  # alone: a workdir that has gone is not made anew
        records = io.BytesIO()
        with self._file.open("ab", buffering=0) as file:
            start = file.tell()
            if start == 0:
                RecordWriter(records).write(Event(file_version=_VERSION).SerializeToString())
            RecordWriter(records).write(event.SerializeToString())
            try:
                if file.write(records.getvalue()) < len(records.getvalue()):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(start)  # half a record would hide all that follow it
                raise
