"""Folders and files on disk: written whole or not at all, never in place of others'.

Whatever is written comes into being in a *room*, a hidden folder `.<name>.<random>.partial` beside its final name, and
moves there by one rename. A room carries a mark that its writer keeps locked, so that what a killed writer left behind
is told from what a living one is writing, and swept by the next one. A folder that is ours holds `manifest.json`, which
names its kind and the size of its files: only such a folder, with nothing else in it, is ever replaced or removed, and
one that lacks a file or holds a shorter one is not taken for whole. Other projects' readers know nothing of that, so an
old folder and its new one change places in one step where the system can.

A run in a bucket is a folder here too (`mirror`): what is written goes to the bucket first.
"""

import errno
import fcntl
import json
import math
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from signer_jax import json_files, mirror
from signer_jax.errors import SignerError, Trouble
from signer_jax.json_files import CONFIG, LISTS, check_bounds, read_json
from signer_jax.machine_lock import NO_LOCKS
from signer_jax.object_store import MANIFEST
from signer_jax.outside import check_inside, plain_file, reason_of, told
from signer_jax.renames import exchange

MADE_BY = "signer_jax"
REMAKE = "remove the folder, if it is there, and run the same `signer train` to make it anew"
# What a run writes beside its config: where one of these stands without the config, somebody else put it there.
RUN_FILES = (
    "data", "tokenizer.model", "published", "prior", "latents", "buckets", "text_states", "pictures", "begun",
    "checkpoints", "tensorboard", "stopped", "environment.json", "wall_time.json", "result.json", "report.html",
    "sign.mp4", "back_translation.json",
)  # fmt: skip
_MARK = ".signer_jax"  # in a room; locked while its writer lives
_NEW = "new"  # the mark before it is locked
_ENDING = ".partial"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


# ---- Writing ---------------------------------------------------------------------------------------------------------


def to_json(value: Any) -> str:
    """JSON that every reader takes: what is not finite is null."""
    return json.dumps(_finite(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_file(path: str | Path, data: str | bytes) -> None:
    """Writes a file that appears whole or not at all; text as UTF-8. Raises `SignerError` where it cannot.

    A lone surrogate, which JSON may hold and UTF-8 may not, is written as `\\ud800`: JSON's own way.
    """
    with new_file(path) as partial:
        partial.write_bytes(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)


def write_list(path: Path, value: Any, what: str, mend: str) -> None:
    """Writes a JSON file of a folder that is being made, where its reader will take it.

    Raises `SignerError`, which begins with `what`, for a longer list than `json_files.LISTS`: the folder would be
    there, in an older one's place, and nothing could open it.
    """
    path.write_bytes(list_bytes(value, what, mend))


def list_bytes(value: Any, what: str, mend: str, most: int = LISTS) -> bytes:
    """What `write_list` writes; raises as it does, before anything long is begun."""
    data = (json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode("utf-8", "backslashreplace")
    try:
        check_bounds(data, most)
    except ValueError as error:
        raise SignerError(f"{what} is too long to be read again ({error}); {mend}") from None
    return data


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Where to write a file that gets its name, and takes the place of an older one, when the block ends well."""
    path = _followed(path)
    if path.is_dir():
        raise SignerError(f"{path}: is a folder; give a file's name")
    with _room(path) as room:
        partial = room / path.name
        yield partial
        _flush(partial)
        with mirror.sending(partial, path):
            os.replace(partial, path)


@contextmanager
def new_folder(path: str | Path, kind: str) -> Iterator[Path]:
    """Where to write a folder of ours that gets its name, and a manifest, when the block ends well.

    An older folder of the same kind is replaced, in one step where the system can; where it takes two renames, a kill
    between them leaves one that `recover` finds. Raises `SignerError`, before the block and after, where the name is
    taken by anything else.
    """
    path = _followed(path)
    recover(path)
    _replaceable(path, kind)
    with _room(path) as room:
        partial = room / path.name
        partial.mkdir()
        yield partial
        files = {str(file.relative_to(partial)): file for file in sorted(partial.rglob("*")) if file.is_file()}
        manifest = {"made_by": MADE_BY, "kind": kind, "files": {name: f.stat().st_size for name, f in files.items()}}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        for file in (*files.values(), partial / MANIFEST, partial):
            _flush(file)
        with mirror.sending(partial, path):
            _put(partial, path, kind, room)


def check_folder(
    path: str | Path, kind: str, mend: str, needs: Iterable[str] = (), far: Mapping[str, int] | None = None
) -> Path:
    """The path, where it is a whole folder of ours: every file of its manifest is there at its size, a plain file that
    lies in the folder, and the files that it `needs` are among them. `far`: those that lie in the bucket alone, with
    their bytes.

    Raises `SignerError`, with `mend` as its advice, where it is missing, of another kind, or not whole.
    """
    path = Path(path)
    recover(path)
    far = far or {}
    if not path.is_dir():
        raise SignerError(f"{path}: no {kind} here; {mend}")
    manifest = _manifest(path)
    if manifest is None:
        raise SignerError(f"{path}: no {kind} here (no {MANIFEST} of signer_jax says so); {mend}")
    if manifest["kind"] != kind:
        raise SignerError(f"{path}: is a {manifest['kind']}, not a {kind}; {mend}")
    mirror.fetch(path, {name: size for name, size in manifest["files"].items() if name not in far})
    for name, size in manifest["files"].items():
        found = far.get(name, _size(path / name))
        if found != size:
            what = "is missing" if found is None else f"has {found} bytes where {size} were written"
            raise SignerError(f"{path}: the {kind} is damaged ({name} {what}); {mend}")
    check_inside(path, (MANIFEST, *(name for name in manifest["files"] if name not in far)), mend)
    if unlisted := [name for name in needs if name not in manifest["files"]]:
        raise SignerError(f"{path}: the {kind} is damaged (its {MANIFEST} does not list {unlisted[0]}); {mend}")
    return path


def _size(file: Path) -> int | None:
    """Bytes of a plain file, None where it is none."""
    try:
        return file.stat().st_size if file.is_file() else None
    except OSError:  # a name that is too long, for one
        return None


def files_of(path: str | Path) -> set[str]:
    """The names that make up a folder of ours, its manifest among them; none where it is no such folder."""
    manifest = _manifest(Path(path))
    return {MANIFEST, *(Path(name).parts[0] for name in manifest["files"])} if manifest else set()


def kind_of(path: str | Path) -> str:
    """What kind of folder of ours it is, "" where it is none."""
    recover(path)
    manifest = _manifest(Path(path))
    return manifest["kind"] if manifest else ""


def check_is_folder(path: Path, what: str) -> None:
    """Raises `SignerError` where a path, or the place that it would lie in, is there and no folder."""
    for folder in (path, *path.parents):
        if os.path.lexists(folder):
            if not folder.is_dir():
                where = "is" if folder == path else f"cannot lie in {folder}, which is"
                raise SignerError(f"{what}: {where} no folder; choose another place")
            return


def check_replaceable(path: str | Path, kind: str) -> None:
    """Raises `SignerError` where `new_folder` would not take the name, before there is anything to write."""
    path = _followed(path)
    recover(path)
    _replaceable(path, kind)


def check_room(out: str | Path, size: int) -> None:
    """Raises `SignerError` where a file system has less room than so many bytes for a command's --out."""
    place = next(folder for folder in (Path(out).absolute(), *Path(out).absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < size:
        raise SignerError(f"--out {out}: needs {gigabytes(size)}, there are {gigabytes(free)}; choose another place")


def gigabytes(size: int) -> str:
    """Bytes in the unit that files of weights are told in."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}" if size < 10 * unit else f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def check_outside(path: str | Path, what: str) -> None:
    """Raises `SignerError` where a path lies in a folder of ours or a lexicon's, or is a part of a run: written there,
    it would replace a part, or have the folder taken for somebody else's. `what` begins the message.
    """
    place = Path(os.path.realpath(path))
    for folder in place.parents:
        if manifest := _manifest(folder):
            whose = f"lies in {folder}, a {manifest['kind']} of signer_jax"
        elif _lexicon(folder):
            whose = f"lies in the lexicon {folder}"
        elif place.relative_to(folder).parts[0] in ("config.json", *RUN_FILES) and is_run(folder):
            whose = f"is a part of the run {folder}"
        else:
            continue
        raise SignerError(f"{what}: {whose}, where nothing else may be written; choose another place")


def is_run(folder: Path) -> bool:
    """Whether a run of ours has claimed the folder."""
    try:
        config = read_json(plain_file(folder / "config.json", ""), CONFIG)
    except (SignerError, OSError, ValueError, RecursionError, MemoryError):
        return False
    return isinstance(config, dict) and config.get("made_by") == MADE_BY


def _lexicon(folder: Path) -> bool:
    """Whether the folder's index has the columns of a lexicon."""
    try:
        with plain_file(folder / "index.csv", "").open("rb") as file:
            header = {name.strip() for name in file.readline(10_000).decode("utf-8-sig").split(",")}
    except (SignerError, OSError, ValueError):
        return False
    return {"path", "signed_language", "glosses"} <= header


def discard(path: Path) -> None:
    """Removes a file that a run made, or a folder of ours with nothing else in it; nothing where there is none.

    Raises `SignerError` for a folder that is not ours alone.
    """
    if path.is_dir() and not path.is_symlink():
        manifest = _manifest(path)
        _replaceable(path, manifest["kind"] if manifest else "folder")
        mirror.remove(path, [MANIFEST, *manifest["files"]] if manifest else ())
        shutil.rmtree(path)
    else:
        mirror.remove(path)
        path.unlink(missing_ok=True)


def recover(path: str | Path) -> None:
    """Puts back a folder of ours whose replacement was cut short between two renames; removes nothing. In a bucket's
    mirror, what stands here is then what stands there.
    """
    try:
        path = _followed(path)
    except SignerError:  # a loop of links, which whoever reads or writes it says
        return
    for room in _rooms(path):
        for old in _kept(room, path):
            with suppress(OSError):
                old.rename(path)
    mirror.fresh(path)


def sweep(path: Path) -> None:
    """Removes what killed writers of this path left beside it."""
    for left in _rooms(path):
        _sweep(left, path)
    _sweep_unmarked(path)


# ---- Locking ---------------------------------------------------------------------------------------------------------


@contextmanager
def locked(path: str | Path, holder: str, refusal: str) -> Iterator[None]:
    """Holds a lock file; it ends with the process, however that ends. `holder` is written into it for others to read.

    Raises `Trouble` where another process holds it: its holder's words, then `refusal`; and `SignerError` where the
    name is no plain file (its content is replaced, so that a link would lose what it leads to). A file system without
    locks is said on standard error, and the block runs.
    """
    path = Path(path)
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise SignerError(f"{path}: is no plain file, though it should be a lock; remove it")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with open(descriptor, "a+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Trouble(  # also of the run before this one, which is still ending
                f"{path.parent}: in use by {file.read(200).strip() or 'another process'}; {refusal}"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            print(
                f"signer: {path.parent}: this file system has no locks; start one run at a time here", file=sys.stderr
            )
        try:  # past the file's buffer, which would be written, and fail, once more where the file is closed
            os.ftruncate(descriptor, 0)
            line = f"{holder}\n".encode()
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise told(
                error, f"{path}: cannot be written ({reason_of(error)}); check the place, its rights and its space"
            ) from None
        yield


# ---- Below -----------------------------------------------------------------------------------------------------------


def _followed(path: str | Path) -> Path:
    """The place that is written: what a link names is replaced, not the link."""
    path = Path(path)
    try:
        return path.resolve() if path.is_symlink() else path
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise SignerError(f"{path}: cannot be written ({reason_of(error)}); choose another place") from None


@contextmanager
def _room(path: Path) -> Iterator[Path]:
    """A marked folder beside `path` for what is to become it; gone when the block ends, however it ends."""
    if not path.name:
        raise SignerError(f"{path}: is no name; give a folder or a file of its own")
    room: Path | None = None
    try:
        recover(path)
        sweep(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        room, mark = _marked(path)
        with mark:
            yield room
    except OSError as error:
        ours = room is None or str(error.filename or "").startswith(str(room)) or error.filename == str(path)
        if not (ours or error.errno in _NO_SPACE):
            raise
        raise told(
            error, f"{path}: cannot be written ({reason_of(error)}); check the place, its rights and its space"
        ) from None
    finally:
        if room is not None and not _kept(room, path):
            shutil.rmtree(room, ignore_errors=True)


def _marked(path: Path) -> tuple[Path, TextIO]:
    """A new room with its mark, locked while the file is open."""
    for _ in range(100):
        room = Path(tempfile.mkdtemp(prefix=_prefix(path), suffix=_ENDING, dir=path.parent))
        # Locked before it gets the mark's name: a sweeper that finds a mark unlocked knows that its writer is gone.
        with suppress(FileNotFoundError, BlockingIOError):  # another one sweeps it, since it has no mark yet: once more
            mark = (room / _NEW).open("w", encoding="utf-8", errors="surrogateescape")
            try:
                mark.write(path.name)
                mark.flush()
                try:
                    fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise
                except OSError:  # a file system without locks
                    pass
                os.replace(room / _NEW, room / _MARK)
            except BaseException:
                mark.close()
                shutil.rmtree(room, ignore_errors=True)
                raise
            return room, mark
    raise SignerError(f"{path}: other processes keep writing it; start one at a time")


def _prefix(path: Path) -> str:
    """What a room's name begins with: names are counted in bytes, and the mark has the whole of it."""
    return f".{path.name.encode(errors='surrogateescape')[:100].decode(errors='ignore')}."


def _rooms(path: Path) -> list[Path]:
    """Rooms beside `path` that are, or were, for it, by their marks."""
    prefix = _prefix(path)
    try:
        names = [name for name in os.listdir(path.parent) if name.startswith(prefix) and name.endswith(_ENDING)]
    except OSError:
        return []
    return [path.parent / name for name in names if _target(path.parent / name) == path.name]


def _target(room: Path) -> str | None:
    mark = room / _MARK
    try:
        return mark.read_text(encoding="utf-8", errors="surrogateescape") if mark.is_file() else None
    except OSError:
        return None


def _own(mark: Path) -> TextIO:
    """A mark of ours, opened: never what a link of its name leads to. Raises `OSError`."""
    return open(os.open(mark, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "r+")


def _kept(room: Path, path: Path) -> list[Path]:
    """The folders that a replacement of `path` moved into the room, where nothing has taken their place."""
    return [] if os.path.lexists(path) else sorted(room.glob("old.*"))


def _sweep(room: Path, path: Path) -> None:
    """Removes a room whose writer is gone, unless it holds the last copy of something."""
    with suppress(OSError), _own(room / _MARK) as mark:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _kept(room, path):
            shutil.rmtree(room, ignore_errors=True)


def _sweep_unmarked(path: Path) -> None:
    """Removes rooms whose writer was killed before it could mark them: empty, or with no more than the mark to be."""
    prefix = _prefix(path)
    with suppress(OSError):
        for name in os.listdir(path.parent):
            random = name[len(prefix) : -len(_ENDING)]  # as mkdtemp makes it
            if not (name.startswith(prefix) and name.endswith(_ENDING) and len(random) == 8):
                continue
            room = path.parent / name
            with suppress(OSError):
                if os.listdir(room) == [_NEW]:
                    with _own(room / _NEW) as mark:
                        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        (room / _NEW).unlink()
                room.rmdir()  # only where it is empty


def _flush(path: Path) -> None:
    """To the disk, before the rename says that it is there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(partial: Path, path: Path, kind: str, room: Path) -> None:
    try:
        for attempt in range(100):  # another writer may put its own there in between: the last one stays
            try:
                partial.rename(path)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            _replaceable(path, kind)
            if exchange(partial, path):  # the old one goes with the room
                return
            with suppress(FileNotFoundError):
                path.rename(room / f"old.{attempt}")
        raise SignerError(f"{path}: other processes keep writing it; start one at a time")
    finally:
        for old in _kept(room, path):  # an error, or an interruption, between the two renames
            with suppress(OSError):
                old.rename(path)


def _replaceable(path: Path, kind: str) -> None:
    """Raises `SignerError` unless the path is free, an empty folder, or a folder of this kind alone."""
    if not path.exists():
        return
    if not path.is_dir():
        raise SignerError(f"{path}: exists and is no {kind}; choose another folder")
    there = {str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir() or file.is_symlink()}
    if not there and not any(path.iterdir()):
        return
    manifest = _manifest(path)
    if manifest is None or manifest["kind"] != kind:
        raise SignerError(f"{path}: exists and is no {kind} of signer_jax; choose another folder")
    if foreign := sorted(there - manifest["files"].keys() - {MANIFEST}):
        raise SignerError(f"{path}: also holds {foreign[0]!r}, which is none of the {kind}'s; choose another folder")


def _manifest(path: Path) -> dict | None:
    """A folder's manifest, None where it has none of ours."""
    try:
        manifest = read_json(plain_file(path / MANIFEST, ""), json_files.MANIFEST)
        files = manifest["files"]
        whole = manifest["made_by"] == MADE_BY and isinstance(manifest["kind"], str)
        inside = all(isinstance(size, int) and ".." not in Path(name).parts for name, size in files.items())
    except (SignerError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError):
        return None
    return manifest if whole and inside and not any(Path(name).is_absolute() for name in files) else None
