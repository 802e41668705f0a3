"""A run in a bucket (`gs://BUCKET/RUN`), worked on here as a folder: its mirror.

SIGNER_CACHE/NAME-HASH/.signer_jax.bucket   the URL that the mirror stands for
                       run/                 what commands on this machine have read or written of the run
                       objects/             which object of the bucket each file there is
                       lock                 held by the one process of this machine that looks and copies

Records and memory maps need files, so what is read is copied here first: the files at the run's top when it is opened,
a folder of ours when that is (`storage.check_folder`). The bucket is what counts: a file that is another one there is
copied anew, one that is no longer there goes. What is written goes there before it gets its name here (`storage`), a
folder's manifest last, so that neither ever holds half of something (`object_store`). Checkpoints alone are not
mirrored: Orbax reads and writes them in the bucket (`checkpoints`).

What others made and a command only reads, weights or a corpus, is copied the same way (`copied`), but for videos and
poses of a dataset that is prepared, which come when they are read (`arrive`, `stand_ins`). A prepared set is a mirror
too, but for its poses and videos, which are read there (`bring`, `data/far_shards.py`).

All functions do nothing, or the plain thing, for a path that lies in no mirror.
"""

import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from signer_jax import stand_ins
from signer_jax.errors import SignerError, Trouble
from signer_jax.machine_lock import held
from signer_jax.mirror_places import RUN, Place, home_of, place_of, replace
from signer_jax.object_store import (
    AT,
    HIDDEN,
    MANIFEST,
    as_json,
    checked,
    in_bucket,
    is_manifest,
    is_url,
    listed,
    look,
    named,
    parted,
    reaching,
    sizes,
    store,
    tag_of,
)
from signer_jax.outside import check_local

_LOCK = "lock"
_NOTED_AT = f"{MANIFEST}/{AT}"  # the note that says the hidden folder here
_AT_ONCE = 8  # files
_OF_A_SET = frozenset((MANIFEST, "about.json"))
_DAY = 86400.0  # seconds: a download that nothing was written to for so long is nobody's


def path_of(path: str | Path, what: str = "") -> Path:
    """The folder that a user's string names: itself, or of a bucket's the mirror, with the files at its top.

    `what` begins the message. Raises `SignerError` for a URL that is no place in a bucket of Google's, and `Trouble`
    where the bucket cannot be reached.
    """
    if not is_url(path):
        check_local(str(path), what)
        return Path(path)
    return _mirrored(checked(path, what))


def set_of(path: str | Path, what: str = "") -> Path:
    """As `path_of`, of a prepared set, which may lie in other buckets too. Of what is there only the two files that say
    whether it is one are copied: `bring` does the rest.
    """
    return _mirrored(checked(path, what), _OF_A_SET) if in_bucket(path) else path_of(path, what)


def _mirrored(url: str, of_these: frozenset[str] | None = None) -> Path:
    """`of_these`: the files to copy, where not all at the top are."""
    run = home_of(url, url) / RUN
    with reaching(url):
        try:
            entries = store(url).ls(url, detail=True)
        except FileNotFoundError:  # nothing is there yet
            entries = []
    there = {entry["name"].rstrip("/").rpartition("/")[2]: entry["type"] for entry in entries}
    for name, kind in there.items():
        if kind == "directory":
            (run / name).mkdir(exist_ok=True)
    for name in {*there, *os.listdir(run)}:
        if not name.startswith(".") and (of_these is None or name in of_these or name not in there):
            fresh(run / name)
    return run


def copied(path: str, what: str, later: Callable[[str], bool] | None = None) -> Path:
    """What a user's string names and is only read: itself, or of a file or a folder in a bucket a copy here.

    It is the bucket's as it is now. Of the files that `later` names a stand-in comes, which `arrive` makes a copy.
    `what` begins the message. Raises `SignerError` where nothing is there.
    """
    if not in_bucket(path):
        check_local(str(path), what)
        return Path(path)
    url = checked(path, what)
    parent, _, name = url.rpartition("/")
    place = Place(home_of(url, parent), parent, name)
    with held(place.home / _LOCK):
        wanted = look(url, what)
        for file in sizes(place.path()) if place.path().is_dir() else ():
            if file.relative_to(place.path()).as_posix() not in wanted and not _coming(file):
                _drop(file)
        lacking = {name: about for name, about in wanted.items() if not _is_here(place, name, about)}
        left = _left(place, lacking, later) if later else {}
        _copy_all(place, {name: about for name, about in lacking.items() if name not in left}, dated=True)
        if later:
            for inside, about in wanted.items():  # of copies that an older program made
                stand_ins.date(place.path(inside), tag_of(about))
    return place.path()


def _left(
    place: Place, files: Mapping[str, Mapping[str, Any]], later: Callable[[str], bool]
) -> Mapping[str, Mapping[str, Any]]:  # fmt: skip
    """Puts stand-ins for those of the files that may come later: which lie there by their own names."""
    left = {
        name: about for name, about in files.items()
        if later(name) and not is_manifest(name) and named(place.url, about["name"]) == place.object(name)
    }  # fmt: skip
    for name, about in left.items():
        place.note(name).unlink(missing_ok=True)
        stand_ins.put(place.path(name), about["size"], tag_of(about))
    if left:
        much = sum(about["size"] for about in left.values()) / 1e9
        print(f"signer: {place.object()}: {len(left)} files are copied when they are read, of {much:.2f} GB",
              file=sys.stderr, flush=True)  # fmt: skip
    return left


def arrive(files: Iterable[Path]) -> None:
    """Copies those files of a source that a stand-in is here of, each whole or not at all; for others nothing.

    Raises `SignerError` where the bucket has another one by now, `Trouble` where it cannot be reached.
    """
    places = [(file, place) for file in files if (place := place_of(file)) is not None]
    if lacking := [place for file, place in places if not _arrived(file, place)]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(_arrive, lacking))


def _arrived(file: Path, place: Place) -> bool:
    tag = _read(place.note())
    return bool(tag) and file.is_file() and file.stat().st_mtime_ns == stand_ins.time_of(tag)


def _arrive(place: Place) -> None:
    about = _about(place, place.object())
    if about is None or about["type"] != "file" or not stand_ins.is_of(place.path(), about["size"], tag_of(about)):
        raise SignerError(f"{place.object()}: is another one by now, or gone; start again, which looks what is there")
    _copy(place, "", about, dated=True)


def _is_here(place: Place, inside: str, about: Mapping[str, Any]) -> bool:
    size = _size(place.path(inside))
    whole = size is not None if is_manifest(inside) else size == about["size"]  # which is another one here
    return whole and _read(place.note(inside)) == tag_of(about)


def _coming(file: Path) -> bool:
    """Whether it is another process's download, as where a file system has no locks."""
    return file.name.endswith(".partial") and time.time() - file.stat().st_mtime < _DAY


def empty(folder: Path) -> bool:
    """Whether a folder is none; of a bucket's, where each place is one here, whether nothing lies below it there."""
    if (place := place_of(folder)) is None:
        return not folder.is_dir()
    with reaching(place.object()):
        try:
            return not store(place.url).ls(place.object())
        except FileNotFoundError:
            return True


def checkpoints(workdir: Path) -> Any:
    """The folder of a run's checkpoints: of a bucket's there, as a path of `epath`."""
    if (place := place_of(workdir)) is None:
        return workdir / "checkpoints"
    from etils import epath

    store()  # which says how epath opens it
    return epath.Path(place.object("checkpoints"))


def there(path: Path) -> bool:
    """Whether a file is there, in the bucket where it is a mirror's."""
    place = place_of(path)
    return path.exists() if place is None else _about(place, place.object()) is not None


# ---- From the bucket -------------------------------------------------------------------------------------------------


def fresh(path: Path) -> None:
    """Brings a file, or of a folder of ours the manifest, to what the bucket has; nothing is left of what it lacks."""
    if (place := place_of(path)) is not None:
        with held(place.home / _LOCK):
            _fresh(place, path)


def _fresh(place: Place, path: Path) -> None:
    about, inside = _about(place, place.object()), ""
    if about is None or about["type"] == "directory":
        about, inside = (_about(place, place.object(MANIFEST)) if about else None), MANIFEST
    file = place.path(inside)
    if about is None:
        noted = [one for one in ("", MANIFEST) if place.note(one).exists()]
        for one in noted:
            place.note(one).unlink(missing_ok=True)
        if noted:
            _drop(path)
        return
    if file.is_file() and _read(place.note(inside)) == tag_of(about):
        return
    if inside and file.exists():  # the files beside it are those of the folder before
        _drop(path)
    _copy(place, inside, about)


def fetch(folder: Path, files: Mapping[str, int]) -> None:
    """Copies the files of a folder's manifest that are not here yet, each whole or not at all."""
    if (place := place_of(folder)) is not None:
        with held(place.home / _LOCK):
            _fetch(place, folder, files)


def _fetch(place: Place, folder: Path, files: Mapping[str, int]) -> None:
    missing = [name for name, size in files.items() if _size(folder / name) != size]
    if not missing:
        return
    at = _read(place.note(_NOTED_AT))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = dict(zip(missing, pool.map(lambda name: _about(place, place.object(at + name)), missing), strict=True))
    # What is of another size is left to whoever checks the folder.
    _copy_all(place, {name: about for name, about in found.items() if about and about["size"] == files[name]})


def _copy_all(place: Place, files: Mapping[str, Mapping[str, Any]], *, dated: bool = False) -> None:
    """Copies files, by their names in a place, some at a time; says so. `dated` as of `_copy`."""
    if not files:
        return
    needed, free = sum(about["size"] for about in files.values()), shutil.disk_usage(place.home).free
    if free < needed:
        raise SignerError(
            f"{place.object()}: {needed / 1e9:.2f} GB are to be copied to {place.path()}, where there are "
            f"{free / 1e9:.2f} GB; name a folder with more room by SIGNER_CACHE"
        )
    print(f"signer: {place.object()}: copied to this machine ({needed / 1e9:.2f} GB)", file=sys.stderr, flush=True)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda name: _copy(place, name, files[name], dated=dated), files))


def bring(folder: Path, stays: Callable[[str], bool], wanted: Callable[[str], bool] = lambda _: True) -> dict[str, int]:
    """Makes a folder, which has no hidden one, what the bucket has at any depth, but for the files that `stays` names:
    their bytes, by their names in it. Of the others those are copied that are `wanted`, and none is left of what they
    were before. What never came from the bucket nor went there is left as it is.
    """
    if (place := place_of(folder)) is None:
        return {}
    with held(place.home / _LOCK):
        with reaching(place.object()):
            found = store(place.url).find(place.object(), detail=True)
        there = {named(place.url, name).removeprefix(f"{place.object()}/"): one for name, one in found.items()}
        for file in sizes(folder):
            name = file.relative_to(folder).as_posix()
            if name not in there:
                gone = place.note(name).exists()
            else:
                gone = (stays(name) or not wanted(name)) and not _is_here(place, name, there[name])
            if gone:
                _drop(file)
        lacking = {
            name: about for name, about in there.items()
            if not stays(name) and wanted(name) and not _is_here(place, name, about)
        }  # fmt: skip
        _copy_all(place, lacking)
    return {name: about["size"] for name, about in there.items() if stays(name)}


def fetch_plain(folder: Path) -> None:
    """Copies the files right in a folder without a manifest that are not here."""
    if (place := place_of(folder)) is None:
        return
    with reaching(place.object()):
        try:
            entries = store(place.url).ls(place.object(), detail=True)
        except FileNotFoundError:
            return
    for about in entries:
        name = about["name"].rpartition("/")[2]
        if about["type"] == "file" and not (folder / name).exists():
            _copy(place, name, about)


# ---- To the bucket ---------------------------------------------------------------------------------------------------


@contextmanager
def sending(partial: Path, path: Path) -> Iterator[None]:
    """Around what gives `partial`, a file or a folder, its name `path`: before, it goes to the bucket."""
    if (place := place_of(path)) is None:
        yield
        return
    if partial.is_dir():
        tags = _send_folder(partial, place)
    else:
        tags = {"": _send(partial, place, "")}
    with held(place.home / _LOCK):  # another process would take it for another one than the bucket's, until the note
        yield
        for name, tag in tags.items():
            replace(place.note(name), tag.encode())


def begin(file: Path, data: bytes) -> None:
    """Makes a file of the bucket where none is there, and copies what is there then: of several, one's counts."""
    place = place_of(file)
    assert place is not None
    with reaching(place.object()):
        try:
            store(place.url).pipe_file(place.object(), data, mode="create")
        except OSError:  # another one's is there, for which S3's library has no error of its own
            if _about(place, place.object()) is None:
                raise
    fresh(file)


def leave_there(file: Path) -> None:
    """Frees the room of a file that the bucket has."""
    if place_of(file) is not None:
        file.unlink(missing_ok=True)


def send(file: Path) -> None:
    """A file of a mirror that grew, to the bucket. Raises `Trouble` where that cannot be reached."""
    if (place := place_of(file)) is not None and file.is_file():
        replace(place.note(), _send(file, place, "").encode())


def send_all(folder: Path) -> None:
    """The files of a folder without a manifest whose size there is another, at any depth."""
    if (place := place_of(folder)) is None or not folder.is_dir():
        return
    with reaching(place.object()):
        found = store(place.url).find(place.object(), detail=True)
    there = {named(place.url, name): about["size"] for name, about in found.items()}
    for file, size in sizes(folder).items():
        inside = file.relative_to(folder).as_posix()
        if there.get(place.object(inside)) != size:
            _send(file, place, inside)


def remove(path: Path, files: Iterable[str] = ("",)) -> None:
    """Takes a file out of the bucket, or these files of a folder, its manifest first."""
    if (place := place_of(path)) is None:
        return
    files = set(files)
    if MANIFEST in files:
        at = _read(place.note(_NOTED_AT))
        _take_away(place, [MANIFEST])
        files = {at + name for name in files - {MANIFEST}} | _hidden(place)
    _take_away(place, files)


def remove_matching(folder: Path, patterns: Sequence[str]) -> None:
    """Takes what these patterns name in a folder out of the bucket."""
    if (place := place_of(folder)) is None:
        return
    with reaching(place.object()):
        for pattern in patterns:
            for found in store(place.url).glob(place.object(pattern)):
                with suppress(FileNotFoundError):
                    store(place.url).rm(found, recursive=True)


# ---- Below -----------------------------------------------------------------------------------------------------------


def _about(place: Place, name: str) -> dict[str, Any] | None:
    with reaching(place.object()):
        try:
            return store(place.url).info(name)
        except FileNotFoundError:
            return None


def _copy(place: Place, inside: str, about: Mapping[str, Any], *, dated: bool = False) -> None:
    """Copies the object that this is said of, in whatever folder it lies there; `dated`, with the time of its tag."""
    file, where = place.path(inside), named(place.url, about["name"])
    partial = file.parent / f".{uuid.uuid4().hex}.partial"
    try:
        with reaching(where):
            file.parent.mkdir(parents=True, exist_ok=True)
            store(place.url).get_file(where, str(partial))
        if (size := _size(partial)) != about["size"]:
            raise Trouble(f"{where}: {size} of {about['size']} bytes came; try again")
        if is_manifest(inside):
            manifest, at = parted(partial.read_bytes())
            partial.write_bytes(manifest)
            if inside == MANIFEST:
                replace(place.note(_NOTED_AT), at.encode())
        if dated:
            stand_ins.date(partial, tag_of(about))
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    replace(place.note(inside), tag_of(about).encode())


def _send(file: Path, place: Place, inside: str) -> str:
    where = place.object(inside)
    with reaching(where):
        store(place.url).put_file(str(file), where)
        return tag_of(store(place.url).info(where))


def _send_folder(partial: Path, place: Place) -> dict[str, str]:
    """Without a manifest a folder is none, so that comes last; until then an older folder is as it was."""
    with reaching(place.object()):
        try:
            before = store(place.url).cat_file(place.object(MANIFEST))
        except FileNotFoundError:
            before = b""
    at = f".{uuid.uuid4().hex}/" if before else ""
    names = [file.relative_to(partial).as_posix() for file in sizes(partial)]
    first = [name for name in names if name != MANIFEST]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        sent = pool.map(lambda name: _send(partial / name, place, at + name), first)
        tags = {**dict(zip(first, sent, strict=True)), _NOTED_AT: at}
    tags[MANIFEST] = _send_manifest(partial / MANIFEST, place, at)
    older = {parted(before)[1] + name for name in listed(before)} if before else set()
    _take_away(place, (older | _hidden(place)) - {at + name for name in names})
    return tags


def _send_manifest(file: Path, place: Place, at: str) -> str:
    if not at:
        return _send(file, place, MANIFEST)
    there = file.with_name(f".{MANIFEST}")
    there.write_bytes(as_json({**json.loads(file.read_bytes()), AT: at}))
    with reaching(place.object()):
        store(place.url).put_file(str(there), place.object(MANIFEST))
        there.unlink()
        return tag_of(store(place.url).info(place.object(MANIFEST)))


def _hidden(place: Place) -> set[str]:
    """What lies in hidden folders of a folder."""
    with reaching(place.object()):
        names = store(place.url).find(place.object())
        found = [named(place.url, name).removeprefix(f"{place.object()}/") for name in names]
    return {name for name in found if HIDDEN.match(name)}


def _take_away(place: Place, names: Iterable[str]) -> None:
    for name in names:
        with reaching(place.object()), suppress(FileNotFoundError):
            store(place.url).rm_file(place.object(name))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size if file.is_file() else None
    except OSError:
        return None


def _drop(path: Path) -> None:
    """A file or a folder, which is gone at once: other processes may read it."""
    aside = path.with_name(f".{uuid.uuid4().hex}.partial")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink()
