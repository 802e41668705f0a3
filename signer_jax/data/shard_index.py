"""The index at the end of an ArrayRecord file leads to the file's own chunks, and to nothing else.

The library reads a record wherever the index says that its chunk begins. A chunk that is hidden in another record's
bytes unpacks to whatever its header says, and no walk from chunk to chunk comes across it.

The last 64 KiB begin with a chunk that is not packed, whose records all say in their field 1 where the index begins.
The index is one chunk: a record about the file, which says in field 2 of its field 1 how many chunks it has, then for
each of them a record whose field 1 is the chunk's place.
"""

import os
from collections.abc import Mapping

from signer_jax import packed

_END, _CHUNK_HEADER = 1 << 16, 40
_PLAIN, _ZSTD = 0, ord("z")
_MOST_GROWTH, _SMALL = 64, 1 << 20  # of an index
_MOST_BYTES = 1 << 26  # of an index: some millions of chunks


def check(descriptor: int, chunks: Mapping[int, int], size: int) -> None:
    """`chunks`: where each chunk of records begins -> its bytes, without the headers of blocks that stand in it.

    Raises `ValueError` where the index, or what leads to it, is not as the writer makes it, or leads elsewhere.
    """
    begins = _start(_records(descriptor, size - _END, chunks))
    if not all(place in chunks for place in _listed(_records(descriptor, begins, chunks))):
        raise ValueError("its index leads to a place where no chunk begins")


def start(descriptor: int, size: int) -> int:
    """Where the index begins, of a file of which no more than its end is there. Raises `ValueError` as `check`."""
    begins = _start(_records(descriptor, size - _END, _packed(descriptor, size - _END)))
    if not 0 <= begins <= size - _END:
        raise ValueError(f"its index would be at byte {begins}")
    return begins


def places(descriptor: int, begins: int) -> list[int]:
    """Where the chunks begin of which the index, itself at `begins`, says so. Raises `ValueError` as `check`."""
    return _listed(_records(descriptor, begins, _packed(descriptor, begins)))


def _start(records: list[bytes]) -> int:
    ends = {_place(record) for record in records}
    if len(ends) != 1:
        raise ValueError("its end does not say where its index is")
    return ends.pop()


def _listed(index: list[bytes]) -> list[int]:
    about, *records = index
    if _fields(_fields(about).get(1, b"")).get(2, 0) != len(records):
        raise ValueError("its index does not list its chunks")
    return [_place(record) for record in records]


def _packed(descriptor: int, begins: int) -> dict[int, int]:
    """The bytes of one chunk, as it says itself."""
    if begins < 0:
        raise ValueError("it is too short")
    size = int.from_bytes(_read(descriptor, begins, _CHUNK_HEADER)[8:16], "little")
    if size > _MOST_BYTES:
        raise ValueError(f"its index would have {size} bytes")
    return {begins: size}


def _place(record: bytes) -> int:
    place = _fields(record).get(1)
    return place if isinstance(place, int) else -1


def _records(descriptor: int, start: int, chunks: Mapping[int, int]) -> list[bytes]:
    """The records of the chunk that begins at `start`: how they are packed, the length of their lengths, both."""
    if start not in chunks:
        raise ValueError(f"its index would be at byte {start}, where no chunk begins")
    data = _read(descriptor, start, _CHUNK_HEADER + chunks[start])[_CHUNK_HEADER:]
    kind = data[0] if data else -1
    length, place = _varint(data, 1)
    lengths, values = data[place : place + length], data[place + length :]
    if kind == _ZSTD:
        lengths, values = _unpacked(lengths), _unpacked(values)
    elif kind != _PLAIN:
        raise ValueError(f"its index is packed in another way than zstd ({kind})")
    records, place, start = [], 0, 0
    while place < len(lengths):
        length, place = _varint(lengths, place)
        records.append(values[start : start + length])
        start += length
    if start != len(values) or not records:
        raise ValueError("the records of its index are not whole")
    return records


def _read(descriptor: int, start: int, length: int) -> bytes:
    """`length` bytes from `start`, without the 24 of each block's own header on the way."""
    found = bytearray()
    while len(found) < length:
        start += 24 * (start % _END == 0)
        part = os.pread(descriptor, min(length - len(found), _END - start % _END), start)
        if not part:
            raise ValueError("its index is cut short")
        found += part
        start += len(part)
    return bytes(found)


def _unpacked(data: bytes) -> bytes:
    size, place = _varint(data, 0)
    return packed.unpacked(data[place:], size, max(_SMALL, _MOST_GROWTH * len(data)))


def _fields(message: bytes | int) -> dict[int, bytes | int]:
    """The whole numbers and texts of a protobuf message by their fields."""
    found: dict[int, bytes | int] = {}
    place = 0
    if isinstance(message, int):
        return found
    while place < len(message):
        key, place = _varint(message, place)
        if key & 7 == 0:
            found[key >> 3], place = _varint(message, place)
        elif key & 7 == 2:
            length, place = _varint(message, place)
            found[key >> 3], place = message[place : place + length], place + length
        elif key & 7 == 1:
            place += 8
        else:
            raise ValueError("its index is of another form")
    return found


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 64:
        byte = data[place]
        value, place, shift = value | (byte & 0x7F) << shift, place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ValueError("its index is cut short")
