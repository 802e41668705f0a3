"""Readers that fail, to see that the run sees it. Each one's name is a part of what is said of it."""

import ctypes
import time
import warnings
from pathlib import Path

from fuzz.reader import Reader
from signer_jax.errors import SignerError

SECONDS = 0.3  # for one case


def _error(folder: Path) -> None:
    raise ValueError("a traceback")


class _Raw(SignerError):
    """One that says its message as it is."""

    def __str__(self) -> str:
        return "two\nlines"


def _lines(folder: Path) -> None:
    raise _Raw("")


def _nameless(folder: Path) -> None:
    raise SignerError("bad file")


def _mendless(folder: Path) -> None:
    raise SignerError(f"{folder / '0'}: bad file")


def _slow(folder: Path) -> None:
    started = time.process_time()
    while time.process_time() - started < 2 * SECONDS:
        pass


def _stuck(folder: Path) -> None:
    time.sleep(60)


def _large(folder: Path) -> None:
    bytearray(b"x") * (440 << 20)


def _less_large(folder: Path) -> None:
    """No more than the process has had before."""
    bytearray(b"x") * (340 << 20)


def _crash(folder: Path) -> None:
    ctypes.string_at(0)


def _warns(folder: Path) -> None:
    warnings.warn("DeprecationWarning", DeprecationWarning, stacklevel=1)


def _of(name: str, fail) -> Reader:
    return Reader(
        name, 0, lambda folder: (folder / "0").write_bytes(b""), lambda folder, case, rng: {"0": bytes(case)},
        lambda folder, changes: fail(folder) if len(changes["0"]) == 2 else None,
    )  # fmt: skip


READERS = (
    _of("a traceback", _error), _of("no line to show", _lines), _of("names no file", _nameless),
    _of("says no mend", _mendless), _of("took", _slow), _of("hung", _stuck), _of("grew by 4", _large),
    _of("grew by 3", _less_large), _of("the process ended with -11", _crash), _of("DeprecationWarning", _warns),
)  # fmt: skip
