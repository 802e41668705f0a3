"""The boxes of an mp4 changed by hand: the lengths around them, and the places of the frames, follow."""

import struct
from collections.abc import Mapping


def box(name: str, inside: bytes) -> bytes:
    return struct.pack(">I4s", len(inside) + 8, name.encode()) + inside


def _found(data: bytes, path: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where the boxes of a path, one in another, start, and how long they are."""
    chain, start, end = [], 0, len(data)
    for name in path:
        while True:
            (length,) = struct.unpack_from(">I", data, start)
            if data[start + 4 : start + 8] == name.encode():
                break
            start += length
            assert start < end, path
        chain.append((start, length))
        start, end = start + 8, start + length
    return chain


def size(data: bytes, *path: str) -> int:
    return _found(data, path)[-1][1]


def inside(data: bytes, *path: str) -> bytes:
    start, length = _found(data, path)[-1]
    return data[start + 8 : start + length]


def replaced(data: bytes, new: Mapping[tuple[str, ...], bytes]) -> bytes:
    """The file with other contents in some of its boxes."""
    for path, contents in new.items():
        *around, (start, length) = _found(data, path)
        more = len(contents) + 8 - length
        changed = bytearray(data[:start] + box(path[-1], contents) + data[start + length :])
        for outer, outer_length in around:
            struct.pack_into(">I", changed, outer, outer_length + more)
        data = _moved(bytes(changed), more)
    return data


def _moved(data: bytes, more: int) -> bytes:
    """Where the frames lie behind the index, its offsets are `more`."""
    try:
        start, _ = _found(data, ("moov", "trak", "mdia", "minf", "stbl", "stco"))[-1]
    except (AssertionError, struct.error):  # packed, or in fragments
        return data
    out = bytearray(data)
    (count,) = struct.unpack_from(">I", out, start + 12)
    for place in range(start + 16, start + 16 + 4 * count, 4):
        struct.pack_into(">I", out, place, struct.unpack_from(">I", out, place)[0] + more)
    return bytes(out)
