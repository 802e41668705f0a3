"""Records of a file in a bucket, each fetched by its range of bytes when it is asked for.

The library reads files of this machine. So a file of the bucket has one here, as long and with holes: its index is put
into it first, then each record that is asked for, which stays while the disk has room (`_SPARE`).

SIGNER_CACHE/NAME-HASH/ranges/HASH-TAG        what was read of the file, in its places
                              HASH-TAG.have   a byte a record, and one for the index: whether it is there

Processes of one machine share both: what two of them fetch are the same bytes.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from array_record.python.array_record_data_source import ArrayRecordDataSource

from signer_jax import mirror
from signer_jax.data import shard_index
from signer_jax.data.shards import BROKEN, Shard, chunk_at
from signer_jax.object_store import reaching, store
from signer_jax.outside import reason_of, told

_SPARE = 10  # a part of the disk of so many is left free; what is read beyond that is fetched each time
_END = 1 << 16  # of a file: what says where its index is


def opened(path: Path, records: int, decode: Callable[[bytes], Any], mend: str) -> Shard:
    """The records of a file, which has so many; where it is not here, those of the bucket that it is a mirror of."""
    place = mirror.place_of(path)
    return (
        Shard(path, decode, mend) if place is None or path.is_file() else FarShard(path, place, records, decode, mend)
    )


def kept(directory: Path) -> str:
    """What to say of where records that are read stay."""
    place = mirror.place_of(directory)
    assert place is not None
    return f"what was read is kept in {_folder(place)} while a tenth of that disk is free"


@dataclass(frozen=True)
class _Here:
    """What is here of a file."""

    url: str
    path: Path
    places: list[int]  # where each record begins, and where the last one ends
    size: int

    @property
    def have(self) -> Path:
        return _have(self.path)


class FarShard(Shard):
    """As `Shard`, of a file in a bucket. Raises `Trouble` where that cannot be reached."""

    def __init__(
        self, path: Path, place: mirror.Place, records: int, decode: Callable[[bytes], Any], mend: str
    ) -> None:
        self._path, self._decode, self._mend, self._records = path, decode, mend, records
        self._place, self._lock = place, threading.Lock()
        self._here: _Here | None = None
        self._source: Any = None

    def __len__(self) -> int:
        return self._records

    def __getitem__(self, index):
        number = int(index)
        if not 0 <= number < self._records:
            raise IndexError(number)
        try:
            return self._decode(self._record(number))
        except (RuntimeError, *BROKEN) as error:
            self._forget()
            raise self._damaged(f"record {number}", error) from None

    def close(self) -> None:
        self._source = None

    def _record(self, number: int) -> bytes:
        here = self._opened()
        start, end = here.places[number : number + 2]
        source = self._source
        if not _has(here, number):
            with reaching(here.url):
                data = store(here.url).cat_file(here.url, start=start, end=end)
            if len(data) != end - start:
                raise ValueError(f"{len(data)} of {end - start} bytes came")
            chunk_at(data, start)
            if not _roomy(here.path.parent, len(data)):
                return self._passing(here, number, start, data)
            _write(here.path, start, data)
            _note(here, number)
            source = None  # a reader of before may hold the hole that was there
        if source is None:
            source = self._source = self._reader(here.path)
        return source[number]

    def _reader(self, path: Path) -> ArrayRecordDataSource:
        return ArrayRecordDataSource(f"{path}[0:{self._records}]")

    def _passing(self, here: _Here, number: int, start: int, data: bytes) -> bytes:
        """A record that does not stay."""
        with _writes(here.path.parent), tempfile.NamedTemporaryFile(dir=here.path.parent, suffix=".partial") as file:
            os.truncate(file.name, here.size)
            with here.path.open("rb") as index:
                index.seek(here.places[-1])
                _write(Path(file.name), here.places[-1], index.read())
            _write(Path(file.name), start, data)
            return self._reader(Path(file.name))[number]

    def _opened(self) -> _Here:
        with self._lock:
            if self._here is None:
                self._here = self._open()
            return self._here

    def _open(self) -> _Here:
        url = self._place.object()
        with reaching(url):
            about = store(url).info(url)
        folder, size = _folder(self._place), about["size"]
        name = self._place.note().name
        path = folder / f"{name}-{mirror.tag_of(about)}"
        with _writes(folder):
            folder.mkdir(exist_ok=True)
            for other in folder.glob(f"{name}-*"):
                if other not in (path, _have(path)):
                    other.unlink(missing_ok=True)
            for made, length in ((path, size), (_have(path), self._records + 1)):
                if not made.exists():
                    _write(made, 0, b"")
                    os.truncate(made, length)
        index_has = _byte(_have(path), self._records)
        with path.open("rb") as file:
            if not index_has:
                self._bring(url, path, max(size - _END, 0), size)
            start = shard_index.start(file.fileno(), size)
            if not index_has:
                self._bring(url, path, start, max(size - _END, start))
            places = shard_index.places(file.fileno(), start)
        here = _Here(url, path, [*places, start], size)
        if len(places) != self._records or sorted(here.places) != here.places:
            raise ValueError(f"its index names {len(places)} records, {self._records} are listed")
        _note(here, self._records)
        return here

    def _bring(self, url: str, path: Path, start: int, end: int) -> None:
        if end > start:
            with reaching(url):
                _write(path, start, store(url).cat_file(url, start=start, end=end))

    def _forget(self) -> None:
        """Takes away what is here, which may be what is damaged; the next start fetches it again."""
        self._source, here, self._here = None, self._here, None
        for file in (here.have, here.path) if here else ():
            file.unlink(missing_ok=True)


def _folder(place: mirror.Place) -> Path:
    return place.home / "ranges"


def _have(path: Path) -> Path:
    return path.with_name(f"{path.name}.have")


def _has(here: _Here, number: int) -> bool:
    return _byte(here.have, number)


def _byte(file: Path, number: int) -> bool:
    with suppress(FileNotFoundError), file.open("rb") as opened:
        opened.seek(number)
        return opened.read(1) == b"\1"
    return False


def _note(here: _Here, number: int) -> None:
    _write(here.have, number, b"\1")


def _write(file: Path, start: int, data: bytes) -> None:
    with _writes(file):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            while data:
                done = os.pwrite(descriptor, data, start)
                data, start = data[done:], start + done
        finally:
            os.close(descriptor)


@contextmanager
def _writes(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise told(
            error, f"SIGNER_CACHE {file}: cannot be written ({reason_of(error)}); name another folder by SIGNER_CACHE"
        ) from None


def _roomy(folder: Path, size: int) -> bool:
    disk = shutil.disk_usage(folder)
    return disk.free - size > disk.total // _SPARE
