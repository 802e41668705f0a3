"""Two folders change places in one step, where the system can: Linux's renameat2(2) with RENAME_EXCHANGE."""

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path

_HERE = -100  # AT_FDCWD: paths are taken from the current folder
_EXCHANGE = 2


@functools.cache
def _call() -> Callable[..., int] | None:
    try:
        call = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # another system, or a C library of before 2018
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call


def exchange(one: Path, other: Path) -> bool:
    """Whether the two have changed places; False, with both as they were, where the system, the file system or their
    state does not let them.
    """
    call = _call()
    return call is not None and call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0
