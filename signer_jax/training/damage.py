"""What hinders the reading of a checkpoint: damage, of which another one is the way out, or what has nothing to do with
its bytes, and leaves it where it is.
"""

import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from signer_jax import outside
from signer_jax.distributed import naming_the_lost
from signer_jax.errors import SignerError, Trouble
from signer_jax.object_store import is_url
from signer_jax.outside import reason_of

MOVE = "move that folder away to go on from the checkpoint before it, or from the stage's start"


class Damaged(SignerError):
    """A checkpoint does not hold what was saved. `what` is the message without how to mend it, `found` its end."""

    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self.found, self.what = folder, what, f"{folder}: this checkpoint {what}"
        super().__init__(f"{self.what}; {MOVE}")


@contextmanager
def without_stragglers() -> Iterator[None]:
    """Where one array fails, those under way report to Orbax's event loop, which is closed by then: a traceback each.

    They come late, so after a failure they stay unheard to the end.
    """
    heard = sys.unraisablehook

    def hook(straggler: Any) -> None:
        if str(straggler.exc_value) != "Event loop is closed":
            heard(straggler)

    sys.unraisablehook = hook
    yield
    if sys.unraisablehook is hook:
        sys.unraisablehook = heard


@contextmanager
def readable(folder: Path, *, whole: bool = False) -> Iterator[None]:
    """Around a call of Orbax's that reads, and nothing else: it raises many kinds of errors for damaged files.

    With `whole` the files' form has been looked at: what is then refused for how it was called, or for where the arrays
    would lie, is no damage.
    """
    try:
        with without_stragglers(), naming_the_lost():
            yield
    except SignerError:
        raise
    except Exception as error:
        if (reason := _not_read(error, remote=is_url(folder))) is not None:
            raise Trouble(f"{folder}: this checkpoint could not be read ({reason}); mend that and try again") from error
        said = str(error).replace(str(folder), "").replace(os.path.realpath(folder), "")  # a path says nothing here
        if whole and (isinstance(error, _CALLED_WRONGLY) or _ELSEWHERE.search(said)):
            raise SignerError(
                f"{folder}: this checkpoint is whole, but could not be restored here ({short(error)}); leave it where "
                "it is, and use the devices, the number of processes and the versions that saved it"
            ) from error
        raise Damaged(folder, f"is damaged ({short(error)})") from error


def _not_read(error: BaseException, *, remote: bool) -> str | None:
    """Why a file could not be read that may be whole; None where what was read is damaged, or missing.

    tensorstore passes on the system's errors as ValueErrors that begin with a status and name the error's number. In a
    bucket all other errors than of a missing file are its own, or the network's.
    """
    if remote and (isinstance(error, OSError) or type(error).__module__.startswith(_NETWORK)):
        return None if isinstance(error, FileNotFoundError) else short(error)
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := _SYSTEM.search(text)):
        number = int(found[1])
    status = found[1] if (found := _STATUS.search(text)) else None
    exhausted = status == "RESOURCE_EXHAUSTED" and number is None
    if isinstance(error, MemoryError) or number == errno.ENOMEM or exhausted:
        return "too little memory"
    if isinstance(error, OSError) and (number not in (None, *_MISSING) or outside.passing(error)):
        return reason_of(error)
    if number not in (None, *_MISSING) or (number is None and status in _NOT_READ):
        return short(error)
    return None


_NETWORK = ("gcsfs", "aiohttp", "google", "requests")
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
_SYSTEM = re.compile(r"os_error_code='(\d+)'")
_NOT_READ = (
    "CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "ABORTED", "UNAVAILABLE",
    "UNAUTHENTICATED",
)  # fmt: skip
_STATUS = re.compile(rf"\b({'|'.join(_NOT_READ)}):")
_CALLED_WRONGLY = (TypeError, AttributeError, NotImplementedError, ImportError)
_ELSEWHERE = re.compile(r"\b(shardings?|process(es)?|devices?|mesh|tree structures)\b", re.IGNORECASE)


def short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


@contextmanager
def only_errors() -> Iterator[None]:
    """Orbax warns when one item of a checkpoint is read alone, or arrays are written otherwise: it was told to."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
