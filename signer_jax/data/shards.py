"""ArrayRecord files of msgpack values: what they claim is checked against the bytes that are there.

The library unpacks a record to whatever its chunk says: 131 kB of packed zeros are 905 MB. So the chunks' headers,
which say how large each one is when it is unpacked, are read first, and records are msgpack of few plain values and
arrays, held to that form before an array is made of them.
"""

import errno
import os
import struct
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from array_record.python import array_record_data_source, array_record_module
from flax import serialization

from signer_jax import outside
from signer_jax.data import shard_index
from signer_jax.errors import SignerError, Trouble

MOST_BYTES = 1 << 30  # of a record: 5,400 frames of 256 pixels
_MOST_OPEN = 64  # files of a list of parts: a process has a few such lists, and often no more than 1,024 files
# What a chunk may grow to: drawn videos of 256 pixels, whose ground stands still, grow 11-fold, zeros 7,000-fold.
_MOST_GROWTH, _SMALL = 64, 1 << 26
_MOST_ITEMS = 100_000  # of all maps of a record: a sample's references
# What unpacking a record that is not whole raises: msgpack's own errors, and those of the values inside.
BROKEN = (
    msgpack.UnpackException, msgpack.exceptions.ExtraData, OSError, SyntaxError, ValueError, TypeError, KeyError,
    AttributeError, IndexError, RecursionError, OverflowError, MemoryError,
)  # fmt: skip

# Riegeli (https://github.com/google/riegeli, doc/riegeli_records_file_format.md): chunks, one after the other, between
# which and through which a header of 24 bytes stands at each multiple of 64 KiB. A chunk begins with 40 bytes: hash,
# size, hash of the data, its type (1 byte) and number of records (7), unpacked size. Simple chunks, padding and the
# signature are all that the writer below makes.
_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 1 << 16, 24, 40
_USABLE = _BLOCK - _BLOCK_HEADER
_SIMPLE, _KINDS = ord("r"), b"rsp"

_MOST_AXES = 8
_ARRAY = 1  # flax's extension of msgpack: (shape, type's name, bytes)
_WIDTHS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}  # of a number's bytes, of those above 127
_TYPES = {name.encode(): np.dtype(name) for name in ("float32", "float64", "int32", "int64", "uint8", "bool")}


class TooLarge(SignerError):
    """What no record may hold."""


def pack(tree: dict) -> bytes:
    """A record of a tree of texts, numbers and numpy arrays. Raises `TooLarge` for what is longer than any reader
    takes.
    """
    record = serialization.msgpack_serialize(tree)
    if len(record) > MOST_BYTES:
        raise TooLarge(
            f"data: {str(tree.get('name', 'a window'))[:80]!r} takes {len(record) >> 20} MB, a record at most "
            f"{MOST_BYTES >> 20}; cut it into shorter clips, or lower config.data.size"
        )
    return record


def unpack(record: bytes) -> dict:
    """The tree of a record. Raises one of `BROKEN` where it holds none, or other things than `pack` writes."""
    if len(record) > MOST_BYTES:
        raise ValueError(f"it has {len(record) >> 20} MB, more than {MOST_BYTES >> 20}")
    if len(record) > _MOST_ITEMS:  # an item takes a byte at least
        _check_items(record, _MOST_ITEMS, lists=False)
    tree = msgpack.unpackb(record, ext_hook=_array, list_hook=_no_list, max_array_len=0, max_map_len=_MOST_ITEMS)
    if not isinstance(tree, dict):
        raise ValueError("it holds no names and values")
    return tree


# https://github.com/msgpack/msgpack/blob/master/spec.md: a kind of value -> how many bytes say its length, and how many
# follow beside that length. Maps, lists, and small numbers and texts, whose kind holds their length, are told below.
_SIZED = {
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1), 0xD9: (1, 0), 0xDA: (2, 0),
    0xDB: (4, 0), 0xC0: (0, 0), 0xC2: (0, 0), 0xC3: (0, 0), 0xCA: (0, 4), 0xCB: (0, 8), 0xCC: (0, 1), 0xCD: (0, 2),
    0xCE: (0, 4), 0xCF: (0, 8), 0xD0: (0, 1), 0xD1: (0, 2), 0xD2: (0, 4), 0xD3: (0, 8), 0xD4: (0, 2), 0xD5: (0, 3),
    0xD6: (0, 5), 0xD7: (0, 9), 0xD8: (0, 17),
}  # fmt: skip


def _check_items(record: bytes, most: int, *, lists: bool) -> None:
    """Raises `ValueError` where the maps and lists of a record, one in another, have more than `most` items, or it has
    lists and may not.

    The library's limits are for one map, and what it makes of many takes thirty times their bytes and more.
    """
    place, left, items = 0, 1, 0  # values that are still to come
    while left and place < len(record):
        kind, place, left = record[place], place + 1, left - 1
        if kind in _SIZED:
            length, more = _SIZED[kind]
            place += length + more + int.from_bytes(record[place : place + length], "big")
        elif 0x80 <= kind < 0xA0 or 0xDC <= kind <= 0xDF:
            length = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}.get(kind, 0)
            count = int.from_bytes(record[place : place + length], "big") if length else kind & 0x0F
            is_list = kind in (0xDC, 0xDD) or 0x90 <= kind < 0xA0
            if is_list and not lists:
                raise ValueError("it holds a list")
            place, left, items = place + length, left + (count if is_list else 2 * count), items + count
            if items > most:
                raise ValueError(f"it has more than {most} items")
        elif 0xA0 <= kind < 0xC0:
            place += kind & 0x1F


def _no_list(_: list) -> None:
    """The library's limit lets empty ones pass."""
    raise ValueError("it holds a list")


def _array(code: int, data: bytes) -> np.ndarray:
    """The array of an extension's bytes: of their few kinds each is told here in less time than by the library."""
    if code != _ARRAY:
        raise ValueError(f"a value of the unknown kind {code}")
    if data[:1] != b"\x93" or not 0x90 <= data[1] <= 0x90 + _MOST_AXES:
        raise ValueError("an array of other items than its shape, type and values")
    shape, place = [], 2
    for _ in range(data[1] & 0x0F):
        kind, place = data[place], place + 1
        width = 0 if kind < 0x80 else _WIDTHS.get(kind, -1)
        if width < 0:
            raise ValueError("an array whose shape is no numbers")
        shape.append(int.from_bytes(data[place : place + width], "big") if width else kind)
        place += width
    length = data[place] & 0x1F
    name, place = bytes(data[place + 1 : place + 1 + length]), place + 1 + length
    if name not in _TYPES:
        raise ValueError(f"an array of {str(name)[:40]}")
    width = {0xC4: 1, 0xC5: 2, 0xC6: 4}[data[place]]
    start = place + 1 + width
    if start + int.from_bytes(data[place + 1 : start], "big") != len(data):
        raise ValueError("an array of other values than it says")
    return np.frombuffer(data[start:], _TYPES[name]).reshape(shape)  # a copy: within the record they lie anywhere


@contextmanager
def _writes(path: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise OSError(None, f"a record could not be written: {' '.join(str(error).split())[:100]}", str(path)) from None


@contextmanager
def new_shard(path: Path, *, compressed: bool = True) -> Iterator[Callable[[bytes], None]]:
    """Writes an ArrayRecord file: gives a function that appends a record.

    Not `compressed` is for what hardly becomes smaller, such as latents: reading is four times as fast.
    Raises `OSError` where not every record has reached the disk (the library's own errors name no reason), and
    `SignerError` where a record packs so well that no reader would take it.
    """
    writer = array_record_module.ArrayRecordWriter(
        str(path), f"group_size:1,{'zstd:1' if compressed else 'uncompressed'}"
    )
    written = 0

    def append(record: bytes) -> None:
        nonlocal written
        with _writes(path):
            writer.write(record)
        written += 1

    try:
        yield append
        with _writes(path):
            writer.close()
            whole = len(array_record_data_source.ArrayRecordDataSource(str(path))) == written
    finally:
        if writer.is_open():
            with suppress(RuntimeError):  # what stopped the block is the reason
                writer.close()
    if not whole:
        raise OSError(None, f"not all of the {written} records could be written", str(path))
    try:
        check_chunks(path)
    except ValueError as error:
        raise SignerError(f"{path.name}: {error}, which no video does; check the source's pictures") from None


class Shard:
    """Random access to the records of an ArrayRecord file, each turned by `decode` into what it holds.

    The file is open from the first record that is read until `close`, and again from the next. Raises `SignerError`
    where the file or a record is damaged; `mend` is its advice.
    """

    def __init__(self, path: Path, decode: Callable[[bytes], Any], mend: str):
        self._path, self._decode, self._mend = path, decode, mend
        outside.plain_file(path, mend)
        outside.check_inside(path.parent, (path.name,), mend)
        try:
            records = check_chunks(path)
            self._source = array_record_data_source.ArrayRecordDataSource(str(path))
            if len(self._source) > records:
                raise ValueError(f"its index names {len(self._source)} records, {records} are there")
        except (RuntimeError, *BROKEN) as error:
            raise self._damaged("the file", error) from None

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index):
        try:
            return self._decode(self._source[int(index)])
        except (RuntimeError, *BROKEN) as error:
            self.close()  # the library keeps a reader that could not open its file
            raise self._damaged(f"record {int(index)}", error) from None

    def close(self) -> None:
        """Lets go of the file; a thread that is reading from it ends with it first."""
        self._source = copy(self._source)  # which has no reader yet

    def __repr__(self) -> str:  # Grain compares sources by their text when it restores an iterator
        return f"{type(self).__name__}({self._path.name!r})"

    def _damaged(self, what: str, error: BaseException) -> SignerError:
        if _no_more_files(error):
            return Trouble(
                f"{self._path}: cannot be opened: this process has too many files open; raise its limit (`ulimit -n`)"
            )
        if isinstance(error, MemoryError):
            return Trouble(
                f"{self._path}: {what} takes more memory than there is; close other programs, or lower "
                "config.data.read_threads and config.data.prefetch"
            )
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        return SignerError(f"{self._path}: {what} is damaged ({reason}); {self._mend}")


def of_the_process(error: BaseException) -> bool:
    """Whether an error of reading a record says nothing of its bytes: too little memory, too many files, a disk's
    passing fault.
    """
    return isinstance(error, MemoryError) or outside.passing(error) or _no_more_files(error)


def _no_more_files(error: BaseException) -> bool:
    """The library's errors have the system's reason in their text alone."""
    numbers = (errno.EMFILE, errno.ENFILE)
    return getattr(error, "errno", None) in numbers or any(os.strerror(one) in str(error) for one in numbers)


def file_of(name: str, part: int) -> str:
    """The file of a part of the records `name`; the first one's has no number, and may be all there is."""
    return f"{name}.{part}.arrayrecord" if part else f"{name}.arrayrecord"


class Parts:
    """Several `Shard`s, one after the other, as one; `most` of their files are open, those that were read last."""

    def __init__(self, shards: Sequence[Shard], most: int = _MOST_OPEN):
        self._shards, self._most = tuple(shards), most
        self._open: dict[int, None] = {}  # the parts that are open, the last one read last
        self._lock = threading.Lock()
        self._ends = list(accumulate(map(len, self._shards)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index):
        if not 0 <= (place := int(index)) < len(self):
            raise IndexError(place)
        part = bisect_right(self._ends, place)
        self._use(part)
        return self._shards[part][place - (self._ends[part - 1] if part else 0)]

    def _use(self, part: int) -> None:
        with self._lock:
            self._open.pop(part, None)
            self._open[part] = None
            if len(self._open) > self._most:
                first = next(iter(self._open))
                del self._open[first]
                self._shards[first].close()

    def __repr__(self) -> str:  # as a shard's
        return f"{type(self).__name__}({self._shards[0] if self._shards else None!r}, {len(self._shards)})"


def open_parts(directory: Path, name: str, parts: int, decode: Callable[[bytes], Any], mend: str) -> Shard | Parts:
    """The records `name` of a folder that has them in so many files (`file_of`). Raises as `Shard`."""
    shards = [Shard(directory / file_of(name, part), decode, mend) for part in range(parts)]
    return shards[0] if parts == 1 else Parts(shards)


def check_chunks(path: Path) -> int:
    """The number of records in the file's chunks, its index's own among them.

    Raises `ValueError` as `chunks_of` does, and where the index leads to anything else than these chunks.
    """
    chunks = chunks_of(path)
    with path.open("rb") as file:
        shard_index.check(file.fileno(), {place: size for place, (size, _) in chunks.items()}, path.stat().st_size)
    return sum(records for _, records in chunks.values())


def chunks_of(path: Path) -> dict[int, tuple[int, int]]:
    """Where the file's chunks of records begin, the bytes of each and its number of records.

    Raises `ValueError` where the chunks are not those of a whole file, or one would unpack to more than a record may
    have or its bytes can hold. Reads 40 bytes a chunk, a chunk a record.
    """
    size, place = path.stat().st_size, 0
    found: dict[int, tuple[int, int]] = {}
    with path.open("rb") as file:
        while place < size:
            kind, records, packed, unpacked = _chunk(
                os.pread(file.fileno(), _CHUNK_HEADER + _BLOCK_HEADER, place), place
            )
            if kind not in _KINDS or place + packed > size:
                raise ValueError(f"there is no chunk at byte {place}")
            if kind == _SIMPLE:
                _check_growth(packed, unpacked, records, place)
                found[place] = packed, records
            place = _end(place, packed, records)
    if place != size:
        raise ValueError(f"its chunks end at byte {place} of {size}")
    return found


def chunk_at(data: bytes, place: int) -> None:
    """Raises `ValueError` where `data`, from byte `place` of a file, is no chunk of one record, or one that would
    unpack to more than a record may have or its bytes can hold.
    """
    kind, records, packed, unpacked = _chunk(data[: _CHUNK_HEADER + _BLOCK_HEADER], place)
    if kind != _SIMPLE or records != 1 or packed > len(data):
        raise ValueError(f"there is no record at byte {place}")
    _check_growth(packed, unpacked, records, place)


def _check_growth(packed: int, unpacked: int, records: int, place: int) -> None:
    grown = unpacked + 8 * records  # a record's own size takes a word while they are unpacked
    if grown > min(max(_SMALL, _MOST_GROWTH * packed), MOST_BYTES + 8):
        raise ValueError(f"{packed} bytes at byte {place} would unpack to {grown}")


def _chunk(head: bytes, place: int) -> tuple[int, int, int, int]:
    """Type, number of records, size, unpacked size of the chunk at `place`, whose first bytes are `head`."""
    before = -place % _BLOCK  # where the next block's own header stands
    head = head[:before] + head[before + _BLOCK_HEADER :]
    if len(head) < _CHUNK_HEADER:
        raise ValueError(f"it ends inside the header at byte {place}")
    _, packed, _, kind, unpacked = struct.unpack_from("<5Q", head)
    return kind & 0xFF, kind >> 8, packed, unpacked


def _end(place: int, packed: int, records: int) -> int:
    """Where the next chunk begins: each block on the way has a header, and each record a place of its own."""
    length = _CHUNK_HEADER + packed
    blocks = (length + (place + _USABLE - 1) % _BLOCK) // _USABLE
    last = place + records
    return max(place + length + blocks * _BLOCK_HEADER, last + max(0, -last % _BLOCK - (_USABLE - 1)))
