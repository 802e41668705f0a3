"""zstd frames (RFC 8878): how many bytes one unpacks to at most, told by its blocks' headers, and small ones unpacked.

A frame says how long it is, or does not; a library believes neither, and unpacks to the end, which is 128 KiB for each
few bytes of a block. Nothing is unpacked to tell that.
"""

from typing import Any

_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 17  # bytes that a block holds at most
_RAW, _REPEATED, _PACKED = 0, 1, 2
_CONTENT_SIZES = (0, 2, 4, 8)  # bytes of the field, by its flag
_DICTIONARIES = (0, 1, 2, 4)


def most_unpacked(frame: Any) -> int:
    """No fewer bytes than the one frame unpacks to. Raises `ValueError` for what is none, or is not whole.

    `frame`: bytes, or what gives parts of itself as they do: its magic number and its blocks' headers are read alone.
    """
    if frame[:4] != _MAGIC or len(frame) < 5:
        raise ValueError("there is no zstd frame")
    flags = frame[4]
    single = bool(flags & 0x20)
    place = 5 + (not single) + _DICTIONARIES[flags & 3] + (_CONTENT_SIZES[flags >> 6] or single)
    most, last = 0, False
    while not last:
        head = int.from_bytes(frame[place : place + 3], "little")
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        place += 3 + (1 if kind == _REPEATED else size)
        if place > len(frame) or kind > _PACKED:
            raise ValueError(f"its zstd frame has no block at byte {place}")
        most += _BLOCK if kind == _PACKED else min(size, _BLOCK)
    if place + 4 * (flags >> 2 & 1) != len(frame):
        raise ValueError("its zstd frame does not end where it should")
    return most


def unpacked(frame: bytes, size: int, most: int) -> bytes:
    """The `size` bytes of a frame. Raises `ValueError` where it is none, holds another number, or may hold more than
    `most` and a block.

    Python has no zstd before 3.14; tensorstore, which reads checkpoints, has.
    """
    import tensorstore

    if max(size, most_unpacked(frame)) > most + _BLOCK:
        raise ValueError(f"it may unpack to more than {most} bytes")
    if not size:
        return b""
    spec = {
        "driver": "zarr", "kvstore": {"driver": "memory"},
        "metadata": {"shape": [size], "chunks": [size], "dtype": "|u1", "compressor": {"id": "zstd", "level": 1}},
    }  # fmt: skip
    array = tensorstore.open(spec, create=True, context=tensorstore.Context()).result()
    assert array.kvstore is not None
    array.kvstore.write("0", frame).result()
    return array.read().result().tobytes()
