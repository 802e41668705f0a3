"""What a Matroska file makes FFmpeg hold before its first frame, told by the sizes of its segment's parts.

FFmpeg makes a structure of some hundred bytes of each entry of a list (a track, a tag, an encoding), which takes two or
three in the file. So what is neither frames nor an attached file is held to a size that no real file needs.
"""

from collections.abc import Callable
from typing import BinaryIO

Number = Callable[[BinaryIO], int]  # at the file's place: an element's identifier, or its size (-1: not known)

_SEEK_HEAD, _CLUSTER, _CUES, _ATTACHMENTS = 0x114D9B74, 0x1F43B675, 0x1C53BB6B, 0x1941A469
_VOID, _SEEK, _SEEK_POSITION = 0xEC, 0x4DBB, 0x53AC
_MOST_LISTS = 1 << 20  # bytes, of all lists of one kind: tracks, tags, chapters, places
_CUES_SHARE = 32  # places of frames take no more than this part of the file
_MOST_ATTACHED, _MOST_PARTS = 1000, 1_000_000


def fault(file: BinaryIO, start: int, end: int, identifier: Number, length: Number) -> str:
    """What is wrong with a segment of the bytes from `start` to `end`, in words; "" where nothing is."""
    sizes: dict[int, int] = {}
    starts, seeks, place = set(), [], start
    while place < end:
        file.seek(place)
        starts.add(place - start)
        kind, size = identifier(file), length(file)
        inside = file.tell()
        if size < 0:
            return "a part of it does not say how long it is"
        place = inside + size
        if kind in (_CLUSTER, _VOID):
            size = 0
        elif kind == _ATTACHMENTS:
            size = 0
            if _count(file, inside, min(place, end), identifier, length) > _MOST_ATTACHED:
                return f"it has more than {_MOST_ATTACHED} attached files"
        sizes[kind] = sizes.get(kind, 0) + size
        most = max(_MOST_LISTS, (end - start) // _CUES_SHARE) if kind == _CUES else _MOST_LISTS
        if sizes[kind] > most or len(starts) > _MOST_PARTS:
            return f"its lists (element {kind:X}) take {sizes[kind]} bytes"
        if kind == _SEEK_HEAD:
            seeks += _positions(file, inside, min(place, end), identifier, length)
    # FFmpeg reads whatever such a place leads to.
    lost = not all(seek in starts or seek >= end - start for seek in seeks)
    return "it names a place where no part begins" if lost else ""


def _count(file: BinaryIO, place: int, end: int, identifier: Number, length: Number) -> int:
    """The attached files, or elements of any kind, up to one more than there may be."""
    count = 0
    while place < end and count <= _MOST_ATTACHED:
        file.seek(place)
        identifier(file)
        size = length(file)
        place, count = file.tell() + max(size, 0), count + 1
    return count


def _positions(file: BinaryIO, place: int, end: int, identifier: Number, length: Number) -> list[int]:
    """Where a list of places says that parts begin."""
    found = []
    while place < end:
        file.seek(place)
        kind, size = identifier(file), length(file)
        inside = file.tell()
        if kind == _SEEK:
            size = 0  # its own elements come next
        elif kind == _SEEK_POSITION:
            found.append(int.from_bytes(file.read(min(max(size, 0), 8)), "big"))
        place = inside + max(size, 0)
    return found
