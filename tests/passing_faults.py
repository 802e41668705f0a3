"""A disk that is in the way for one call and no longer."""

import errno
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from signer_jax.outside import code_of

_LOOKS = ("stat", "lstat", "listdir", "scandir")  # what all else of Python asks a folder by


def check_each(read: Callable[[], Any], source: Path) -> None:
    """Each call that looks at a file or folder below the source fails once, as on a network's disk: the reader gives
    what it gives, or ends with what starts it again.
    """
    wanted = read()
    for number in count():
        fault = _Fault(source, number)
        with pytest.MonkeyPatch.context() as patch:
            for name in _LOOKS:
                patch.setattr(os, name, fault.before(getattr(os, name)))
            try:
                found = read()
            except Exception as error:
                assert fault.came and code_of(error) == 1, error
                continue
        assert found == wanted
        if not fault.came:
            assert number  # it looked at something
            return


class _Fault:
    """What ends the call of this number, from 0, of those that look below a folder."""

    def __init__(self, below: Path, number: int) -> None:
        self.below, self.left, self.came = str(below), number, False
        self.errno = (errno.EIO, errno.ESTALE)[number % 2]

    def before(self, look: Callable) -> Callable:
        def looked(path: Any = ".", *given: Any, **named: Any) -> Any:
            if not isinstance(path, int) and str(os.fspath(path)).startswith(self.below):
                self.left -= 1
                if self.left == -1:
                    self.came = True
                    raise OSError(self.errno, os.strerror(self.errno), os.fspath(path))
            return look(path, *given, **named)

        return looked
