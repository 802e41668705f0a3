"""Records of a file in a bucket, each fetched by its range of bytes when it is asked for.

The library reads files of this machine. So a file of the bucket has one here, as long and with holes: its index is put
into it first, then each record that is asked for, which stays while the disk has room (`_SPARE`), and a quota too, and
all such files have fewer bytes than SIGNER_CACHE_BYTES, where that is given. What does not stay is read from a file in
memory.

SIGNER_CACHE/NAME-HASH/ranges/HASH-TAG        what was read of the file, in its places
                              HASH-TAG.have   a byte a record, and one for the index: whether it is there

Processes of one machine share both: what two of them fetch are the same bytes, since each range is asked of the object
of that tag alone. Where the files are taken away, whoever reads them makes them anew.
"""

import errno
import math
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from array_record.python.array_record_data_source import ArrayRecordDataSource

from signer_jax import mirror
from signer_jax.data import shard_index
from signer_jax.data.shards import BROKEN, Shard, chunk_at, of_the_process
from signer_jax.errors import SignerError, Trouble
from signer_jax.object_store import bytes_of, cache_folder, reaching, store, tag_of
from signer_jax.outside import reason_of, told

_SPARE = 10  # a part of the disk of so many is left free; what is read beyond that is fetched each time
_LIMIT = "SIGNER_CACHE_BYTES"
# What all processes of the machine keep is not added up again for so many seconds, and so many times what that took.
_LOOKED, _RESTED = 1.0, 20.0
_END = 1 << 16  # of a file: what says where its index is
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def opened(path: Path, records: int, decode: Callable[[bytes], Any], mend: str, size: int | None = None) -> Shard:
    """The records of a file, which has so many; where it is not here, those of the bucket that it is a mirror of, where
    it has `size` bytes if that is known.
    """
    place = mirror.place_of(path)
    if place is None or path.is_file():
        return Shard(path, decode, mend)
    return FarShard(path, place, records, decode, mend, size)


def kept(directory: Path) -> str:
    """What to say of where records that are read stay."""
    place = mirror.place_of(directory)
    assert place is not None
    most = _most_bytes()
    limit = "" if most == math.inf else (
        f" and all that is kept has less than {most / 1e9:g} GB ({_LIMIT}), of which {_taken() / 1e9:.2f} are taken"
    )  # fmt: skip
    return f"what was read is kept in {_folder(place)} while a tenth of that disk is free{limit}"


@dataclass(frozen=True)
class _Here:
    """What is here of a file."""

    url: str
    tag: str
    path: Path
    places: list[int]  # where each record begins, and where the last one ends
    size: int
    files: tuple[int, int] | None  # which files on the disk they are (`_files`)
    tail: bytes  # the index and what is behind it, where the disk had no room for it

    @property
    def have(self) -> Path:
        return _have(self.path)


class FarShard(Shard):
    """As `Shard`, of a file in a bucket. Raises `Trouble` where that cannot be reached, or has another file by now."""

    def __init__(
        self, path: Path, place: mirror.Place, records: int, decode: Callable[[bytes], Any], mend: str,
        size: int | None = None,
    ) -> None:  # fmt: skip
        self._path, self._decode, self._mend, self._records = path, decode, mend, records
        self._place, self._size, self._lock = place, size, threading.Lock()
        self._here: _Here | None = None
        self._source: Any = None

    def __len__(self) -> int:
        return self._records

    def __getitem__(self, index):
        number = int(index)
        if not 0 <= number < self._records:
            raise IndexError(number)
        for last in (False, True):
            here = self._here
            try:
                here = self._opened()
                return self._decode(self._record(here, number))
            except (RuntimeError, *BROKEN) as error:
                self._source = None
                if here is not None and not last and _files(here.path) != here.files:
                    self._here = None  # somebody took the files away: they are made anew
                    continue
                if here is not None and not of_the_process(error):
                    _mark(here.have, number, b"\0")  # what is here of it may be what is damaged
                raise self._damaged(f"record {number}", error) from None
        raise AssertionError

    def close(self) -> None:
        self._source = None

    def _record(self, here: _Here, number: int) -> bytes:
        start, end = here.places[number : number + 2]
        source = self._source
        if here.tail or not _byte(here.have, number):
            data = _range(here.url, start, end, here.tag)
            chunk_at(data, start)
            if here.tail or not _keep(here, number, start, data):
                return self._passing(here, number, start, data)
            source = None  # a reader of before may hold the hole that was there
        if source is None:
            source = self._source = self._reader(here.path)
        return source[number]

    def _reader(self, path: Path) -> ArrayRecordDataSource:
        return ArrayRecordDataSource(f"{path}[0:{self._records}]")

    def _passing(self, here: _Here, number: int, start: int, data: bytes) -> bytes:
        """A record that does not stay."""
        tail = here.tail
        if not tail:
            with here.path.open("rb") as file:
                file.seek(here.places[-1])
                tail = file.read()
        with _in_memory(here.size) as (descriptor, path):
            _put(descriptor, here.places[-1], tail)
            _put(descriptor, start, data)
            return self._reader(path)[number]

    def _opened(self) -> _Here:
        with self._lock:
            if self._here is None:
                self._here = self._open()
            return self._here

    def _open(self) -> _Here:
        url = self._place.object()
        with reaching(url):
            about = store(url).info(url)
        size, tag = about["size"], tag_of(about)
        if self._size not in (None, size):
            raise Trouble(f"{url}: has {size} bytes where {self._size} are listed: it was made anew; start again")
        name = self._place.note().name
        path = _folder(self._place) / f"{name}-{tag}"
        room = self._begin(path, f"{name}-*", size)
        try:
            if room and _byte(_have(path), self._records):
                with path.open("rb") as file:
                    start, tail = shard_index.start(file.fileno(), size), b""
                    places = shard_index.places(file.fileno(), start)
            else:
                with _in_memory(size) as (descriptor, _):
                    for begin, end in ((max(size - _END, 0), size), (None, max(size - _END, 0))):
                        begin = shard_index.start(descriptor, size) if begin is None else begin
                        if end > begin:
                            _put(descriptor, begin, _range(url, begin, end, tag))
                    start = shard_index.start(descriptor, size)
                    places = shard_index.places(descriptor, start)
                    tail = os.pread(descriptor, size - start, start)
            if len(places) != self._records or sorted([*places, start]) != [*places, start]:
                raise ValueError(f"its index names {len(places)} records, {self._records} are listed")
        except ValueError:
            _mark(_have(path), self._records, b"\0")
            raise
        here = _Here(url, tag, path, [*places, start], size, _files(path), b"")
        stays = not tail or (room and _keep(here, self._records, start, tail))
        return here if stays else replace(here, tail=tail)

    def _begin(self, path: Path, older: str, size: int) -> bool:
        """Makes the files that are not there, of holes; whether the disk had room for them."""
        try:
            path.parent.mkdir(exist_ok=True)
            for other in path.parent.glob(older):
                if other not in (path, _have(path)):
                    other.unlink(missing_ok=True)
            if not path.exists():  # then nothing is there of what this says
                _have(path).unlink(missing_ok=True)
            for made, length in ((path, size), (_have(path), self._records + 1)):
                with suppress(FileExistsError), made.open("xb") as file:
                    file.truncate(length)
        except OSError as error:
            if error.errno in _FULL:
                return False
            raise _unwritten(path, error) from None
        return True


def _range(url: str, start: int, end: int, tag: str) -> bytes:
    """Bytes of the object of this tag. Raises `Trouble` where there is another one, or fewer came."""
    data = bytes_of(url, start, end, tag)
    if data is None:
        raise Trouble(f"{url}: was made anew while it was read; start again")
    if len(data) != end - start:
        raise Trouble(f"{url}: {len(data)} of {end - start} bytes came; try again")
    return data


def _folder(place: mirror.Place) -> Path:
    return place.home / "ranges"


def _have(path: Path) -> Path:
    return path.with_name(f"{path.name}.have")


def _files(path: Path) -> tuple[int, int] | None:
    """Which files lie there; None where one is missing."""
    with suppress(FileNotFoundError):
        return os.stat(path).st_ino, os.stat(_have(path)).st_ino
    return None


def _byte(file: Path, number: int) -> bool:
    with suppress(FileNotFoundError), file.open("rb") as opened:
        opened.seek(number)
        return opened.read(1) == b"\1"
    return False


def _keep(here: _Here, number: int, start: int, data: bytes) -> bool:
    """Whether it stays: a full disk and the end of a quota are no faults. Raises `FileNotFoundError` where the files
    were taken away.
    """
    try:
        if not _roomy(here.path.parent, len(data)):
            return False  # which it has told
        _write(here.path, start, data)
        _write(here.have, number, b"\1")
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            _KEPT.tell(here.path.parent, f"the disk or a quota is full ({reason_of(error)})")
            return False
        raise _unwritten(here.path, error) from None
    return True


def _mark(have: Path, number: int, value: bytes) -> None:
    with suppress(OSError):  # it is gone, or cannot be written, which whoever writes there next says
        _write(have, number, value)


def _write(file: Path, start: int, data: bytes) -> None:
    """Into a file that is there."""
    descriptor = os.open(file, os.O_WRONLY)
    try:
        _put(descriptor, start, data)
    finally:
        os.close(descriptor)


def _put(descriptor: int, start: int, data: bytes) -> None:
    while data:
        done = os.pwrite(descriptor, data, start)
        data, start = data[done:], start + done


@contextmanager
def _in_memory(size: int) -> Iterator[tuple[int, Path]]:
    """A file of holes that takes memory for what is put into it, by its descriptor and its path; where the system has
    none in memory, one of its temporary files.
    """
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as file:
            file.truncate(size)
            yield file.fileno(), Path(file.name)
        return
    descriptor = os.memfd_create("records")
    try:
        os.truncate(descriptor, size)
        yield descriptor, Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _unwritten(path: Path, error: OSError) -> Exception:
    return told(
        error, f"SIGNER_CACHE {path}: cannot be written ({reason_of(error)}); name another folder by SIGNER_CACHE"
    )


def _roomy(folder: Path, size: int) -> bool:
    disk = shutil.disk_usage(folder)
    if disk.free - size <= disk.total // _SPARE:
        _KEPT.tell(folder, "a tenth of that disk alone is free")
        return False
    return _KEPT.grows(folder, size)


def _most_bytes() -> float:
    """What all kept files may take. Raises `SignerError` where it is no number."""
    said = os.environ.get(_LIMIT, "").strip()
    try:
        most = float(said or math.inf)
    except ValueError:
        most = math.nan
    if not most >= 0:
        raise SignerError(f"{_LIMIT} {said}: is no number of bytes; give one, such as 200e9, or leave it out")
    return most


class _Kept:
    """How many bytes the kept files of this machine take, as far as this process knows."""

    def __init__(self) -> None:
        self._lock, self._told = threading.Lock(), False
        self._bytes, self._added = math.inf, 0  # inf before they are first added up; what was added since that began
        self._next = -math.inf  # when they are added up again

    def grows(self, folder: Path, size: int) -> bool:
        """Counts so many more; whether the limit allows them. Each process may be beyond it by what the others add
        before they look again.
        """
        if (most := _most_bytes()) == math.inf:
            return True
        self._look()
        with self._lock:
            if self._bytes == math.inf:  # another thread adds up
                return False
            if self._bytes + size <= most:
                self._bytes, self._added = self._bytes + size, self._added + size
                return True
        self.tell(folder, f"all that is kept has reached the {most / 1e9:g} GB of {_LIMIT}")
        return False

    def _look(self) -> None:
        """Adds up where it is time, one thread for all, while the others go by what is known."""
        with self._lock:
            if (began := time.monotonic()) < self._next:
                return
            self._next, self._added = math.inf, 0
        try:
            taken = _taken()
            with self._lock:
                self._bytes = taken + self._added
        finally:
            now = time.monotonic()
            self._next = now + max(_LOOKED, _RESTED * (now - began))

    def tell(self, folder: Path, why: str) -> None:
        """Says once that records no longer stay, and why."""
        with self._lock:
            told, self._told = self._told, True
        if not told:
            print(
                f"signer: {folder}: {why}; records that are not here yet are fetched each time they are read",
                file=sys.stderr, flush=True,
            )  # fmt: skip


_KEPT = _Kept()


def _taken() -> int:
    found = 0
    for file in cache_folder().glob("*/ranges/*"):
        with suppress(FileNotFoundError):
            found += file.stat().st_blocks * 512
    return found
