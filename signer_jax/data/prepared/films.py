"""The frames of a stored film as a run sees them, decoded in this process or in others.

FFmpeg decodes without Python's lock, but hands each frame over under it: threads of one interpreter wait for each other
between the frames of small films, processes do not (`docs/performance.md`).
"""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from signer_jax.data import framing
from signer_jax.data.video import nearest
from signer_jax.errors import Trouble


class Film(NamedTuple):
    """A video's bytes, and what of it is asked for."""

    name: str  # what messages call it
    data: bytes
    wanted: Float[np.ndarray, " t"]  # seconds after the first frame, ascending
    whole: bool  # decoded to its end, so that damage behind the last of them is found
    size: tuple[int, int]  # height and width
    centre: np.ndarray | None  # of the signer, where that is known
    scale: float


def frames(film: Film) -> UInt8[np.ndarray, "t h w 3"]:
    """The frame nearest to each time; none where it has no frame. Raises `SignerError` as `video.frames`."""
    counts: list[int] = []  # of each stored frame that is shown, how many times it stands for

    def shown() -> Iterator[UInt8[np.ndarray, "y x 3"]]:
        left = len(film.wanted)
        for count, frame in nearest(film.name, film.data, film.wanted):
            counts.append(count)
            yield frame
            left -= count
            if not left and not film.whole:
                return

    if film.centre is None:
        seen = list(framing.middle(shown(), film.size))
    else:
        seen = list(framing.around_signer(shown(), film.centre, film.scale, film.size))
    if not seen:
        return np.zeros((0, *film.size, 3), np.uint8)
    return np.stack([frame for frame, count in zip(seen, counts, strict=True) for _ in range(count)])


class Decoders:
    """`frames`, by as many processes as are asked for; by the calling thread with 0. They start with the first film."""

    def __init__(self, processes: int):
        # Spawned: a fork of a process with jax's threads may wait for ever.
        self._pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin) if processes else None

    def frames(self, film: Film) -> UInt8[np.ndarray, "t h w 3"]:
        """Raises as `frames`, and `Trouble` where a process has ended."""
        if self._pool is None:
            return frames(film)
        try:
            return self._pool.submit(frames, film).result()
        except BrokenProcessPool:
            raise Trouble(
                f"{film.name}: a process that decodes videos has ended, killed where memory ran out perhaps; start "
                "again, with less of config.data.decode_processes where it happens again"
            ) from None


def _begin() -> None:
    """Signals to all of a run's processes are the run's own to follow; where it is gone, so is what reads for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(parent) -> None:
    parent.join()
    os._exit(1)
