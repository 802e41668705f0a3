"""Files that others made: only plain ones are opened, none outside of the folder that was given, and what any of them
may make a reader run into is one line.
"""

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from signer_jax.errors import LOST, Absent, SignerError, Trouble, one_line

# What a disk or a network gives as its reason today, and may not tomorrow; the rest is as true the next time.
_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "EAGAIN", "EINTR", "EBUSY", "ETIMEDOUT", "ENETDOWN", "ENETUNREACH", "ENETRESET", "EHOSTDOWN",
        "EHOSTUNREACH", "ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "ENOTCONN", "EPIPE", "ESHUTDOWN", "EREMOTEIO",
        "EMFILE", "ENFILE", "ENOLCK", "ENOSPC", "EDQUOT", "ENOMEM",
    )
    if hasattr(errno, name)
)  # fmt: skip

_URL = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+)://")


def passing(error: BaseException) -> bool:
    """Whether an error of the system's may be gone when the same is tried again."""
    return isinstance(error, OSError) and (
        error.errno in _PASSING or isinstance(error, TimeoutError | ConnectionError | BlockingIOError)
    )


def told(error: OSError, message: str) -> SignerError:
    """The message as `Trouble` where the error is `passing`, as any mistake else."""
    return (Trouble if passing(error) else SignerError)(message)


def check_lasting(path: str | Path, error: OSError) -> None:
    """Raises `Trouble` where an error is `passing`: what is there cannot be told from what is not."""
    if passing(error):
        raise told(
            error, f"{path}: cannot be read ({reason_of(error)}); check the disk or the network, and start again"
        ) from None


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there. Raises `Trouble` where a disk or a network is in the way, which Python's own of this
    name, from 3.14 on of paths too, take for no.
    """
    return stat.S_ISDIR(_mode(path))


def is_file(path: str | Path) -> bool:
    """Whether a plain file is there. Raises `Trouble` as `is_folder`."""
    return stat.S_ISREG(_mode(path))


def is_there(path: str | Path) -> bool:
    """Whether anything is there. Raises `Trouble` as `is_folder`."""
    return bool(_mode(path))


def _mode(path: str | Path, look: Callable[[str | Path], os.stat_result] | None = None) -> int:
    """0 of what is not there, or may not be looked at."""
    try:
        return (look or os.stat)(path).st_mode
    except OSError as error:
        check_lasting(path, error)
    except ValueError:  # a null in its name
        pass
    return 0


def unlisted(error: OSError) -> SignerError:
    """What becomes of a folder that cannot be listed, as `os.walk` tells it: what is in it is not passed over."""
    return told(error, f"{error.filename}: cannot be listed ({reason_of(error)}); check the disk and its rights")


def entries(folder: str | Path, pattern: str = "*") -> list[Path]:
    """What a folder holds whose names match, by name; nothing of what is no folder.

    Raises `Trouble` as `is_folder`, and `SignerError` for what may not be listed: `Path.glob` gives nothing of these.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unlisted(error) from None
    return [Path(folder, name) for name in sorted(names) if fnmatch.fnmatchcase(name, pattern)]


def check_local(path: str, name: str) -> None:
    """Raises `SignerError` for a URL (`gs://bucket/run`): as a path it would name a folder "gs:" of this machine."""
    if found := _URL.match(path):
        raise SignerError(
            f"{name} {path}: {found[1]}:// is no path of this machine's file system; mount what it names (a bucket by "
            "Cloud Storage FUSE, for example), and give the folder"
        )


def plain_file(path: str | Path, give: str) -> Path:
    """The path, where it is a regular file that can be opened; `give` says what to give instead.

    Raises `SignerError` for what is missing, a folder, or neither (a FIFO would be waited for without end).
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise told(error, f"{path}: {reason_of(error)}; {give}") from None
    except ValueError as error:
        raise SignerError(f"{path}: {reason_of(error)}; {give}") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file (a pipe, a socket or a device)"
        raise SignerError(f"{path}: is {kind}; {give}")
    if not os.access(path, os.R_OK):
        raise SignerError(f"{path}: may not be read (permission denied); {give}")
    return path


@contextmanager
def reading(path: str | Path, mend: str) -> Iterator[None]:
    """Around a reader's work on one file: what any file may make it run into becomes one line, with `mend`."""
    try:
        yield
    except OSError as error:
        raise told(error, f"{path}: cannot be read ({reason_of(error)}); check the file") from None
    except MemoryError:
        raise SignerError(f"{path}: takes more memory than there is; {mend}") from None
    except RecursionError:
        raise SignerError(f"{path}: is nested too deeply; {mend}") from None


def check_inside(folder: str | Path, names: Iterable[str], mend: str) -> None:
    """Raises `SignerError` where one of these names in a folder of ours is a link that leads out of it.

    What a name is in a folder that somebody gave is theirs to say, where it leads is not: a link would have other files
    read, or written over, than those of the folder. The folder's own path may be a link. Raises `Trouble` where the
    disk does not say where one leads.
    """
    folder = Path(folder)
    home = _real(folder)
    for name in names:
        place = os.path.join(folder, name)
        if not _within(_real(place), home) and _mode(place, os.lstat):
            raise SignerError(f"{place}: is a link out of its folder; {mend}")


def _real(path: str | Path) -> str:
    """Without links. Raises `Trouble` as `is_folder`: what cannot be looked at would be taken for no link."""
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        check_lasting(path, error)
        return os.path.realpath(path)


def check_tree(folder: str | Path, mend: str) -> None:
    """Raises `SignerError` where a folder of ours, at any depth, has a link that leads out of it, or what is neither a
    file nor a folder (a FIFO would be waited for without end). What goes away while it looks is passed over.
    """
    home = os.path.realpath(folder)
    left = [os.fspath(folder)]
    while left:
        try:
            entries = list(os.scandir(left.pop()))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise told(error, f"{folder}: cannot be read ({reason_of(error)}); check its rights") from None
        for entry in entries:
            if entry.is_symlink() and not _within(os.path.realpath(entry.path), home):
                raise SignerError(f"{entry.path}: is a link out of its folder; {mend}")
            if entry.is_dir(follow_symlinks=False):
                left.append(entry.path)
            elif not (entry.is_file() or entry.is_dir()) and os.path.exists(entry.path):
                raise SignerError(f"{entry.path}: is no regular file (a pipe, a socket or a device); {mend}")


def _within(path: str, folder: str) -> bool:
    """Both without links."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def reason_of(error: BaseException) -> str:
    """The system's reason in lower case, without the path, which the message around it names."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return f"{text[:1].lower()}{text[1:]}"


def line_of(error: BaseException) -> str | None:
    """What no reader or writer has put into words, in one line; None for what is none of the system's or a user's."""
    if isinstance(error, SignerError):
        return str(error)
    if _of_memory(error):
        return (
            "takes more memory than there is; close other programs, or give less at once (config.train.STAGE.batch, "
            "config.data.size and the widths of a config are what takes most)"
        )
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return one_line(f"{where}{reason_of(error)}; check the place, its rights and its space")
    return None


def code_of(error: BaseException) -> int:
    """The exit code of what `line_of` has a line for: 2 for bad input, 1 where the same command may do next time (with
    other programs ended, where it was memory), `LOST` where others have to be started with it.
    """
    if isinstance(error, Absent):
        return LOST
    return 1 if isinstance(error, Trouble) or passing(error) or _of_memory(error) else 2


def _of_memory(error: BaseException) -> bool:
    """Whether a program, or a device, has run out of memory where no reader says of what file."""
    return not isinstance(error, SignerError) and (isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error))
