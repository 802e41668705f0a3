"""What goes wrong with a checkpoint in one process of a small run alone: "KIND:STEP" (FAULT0 is the first one's)."""

import os
import time
from pathlib import Path

import orbax.checkpoint as ocp

from signer_jax.training import checkpoints
from signer_jax.training.damage import Damaged

LATE = 0.7  # seconds


def begin(faults: str) -> None:
    for fault in faults.split():
        kind, step = fault.split(":")
        KINDS[kind](step)


def about(step: str) -> None:
    """It does not say what it holds."""
    is_dir = Path.is_dir
    Path.is_dir = lambda path: path.parts[-2:] != (step, "about") and is_dir(path)


def read(step: str) -> None:
    """Its arrays cannot be read."""
    restore = ocp.StandardCheckpointHandler.restore

    def read(handler, directory, *given, **named):
        if directory.parent.name == step:
            raise ValueError("DATA_LOSS: checksum of d/1")
        return restore(handler, directory, *given, **named)

    ocp.StandardCheckpointHandler.restore = read


def sums(step: str) -> None:
    """Its bytes are others than were saved."""
    check = checkpoints.check_sums

    def sums(folder, *given):
        if folder.name == step:
            raise Damaged(folder, "is damaged (the bytes have changed)")
        check(folder, *given)

    checkpoints.check_sums = sums


def late(step: str) -> None:
    """For some time from the first look on it is not there, as on a shared file system."""
    until, stat, listdir, scandir = [0.0], os.stat, os.listdir, os.scandir

    def hidden(path) -> bool:
        place = str(path)
        if not (place.endswith(f"/part/{step}") or f"/part/{step}/" in place):
            return False
        until[0] = until[0] or time.monotonic() + LATE
        return time.monotonic() < until[0]

    class Scanned(list):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        close = __exit__

    def look(path, *given, **named):
        if hidden(path):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return stat(path, *given, **named)

    def scan(path="."):
        with scandir(path) as entries:
            return Scanned(entry for entry in entries if not hidden(entry.path))

    os.stat, os.scandir = look, scan
    os.listdir = lambda path=".": [name for name in listdir(path) if not hidden(f"{path}/{name}")]


KINDS = {kind.__name__: kind for kind in (about, read, sums, late)}
