"""A lock among the processes of one machine, for which the second waits: it then finds done what the first has done."""

import errno
import fcntl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # a file system without flock
_SOON = 10.0  # seconds until it is said what a process waits for

_threads: dict[str, threading.RLock] = {}  # by the file's name; another thread of this process waits too
_held: set[str] = set()


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Holds a lock file, which ends with the process, however that ends; who holds it may do so again inside.

    On a file system without locks the block runs, beside those of other processes.
    """
    name = str(file)
    with _threads.setdefault(name, threading.RLock()):
        if name in _held:  # further out
            yield
            return
        with file.open("ab") as opened:
            _lock(opened.fileno(), file)
            _held.add(name)
            try:
                yield
            finally:
                _held.discard(name)


def _lock(descriptor: int, file: Path) -> None:
    line = f"signer: {file.parent}: another process of this machine copies to it; this one waits for that"
    timer = threading.Timer(_SOON, lambda: print(line, file=sys.stderr, flush=True))
    timer.daemon = True
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            timer.start()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    finally:
        timer.cancel()
