"""Which container a video file is, by its first bytes, and whether all of it is there, by the sizes it states.

FFmpeg plays what it gets: a video that was cut short is a shorter video to it. Every container here states how long its
outermost parts are, so that a file with an end missing is told from a whole one without decoding it.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from signer_jax.data import sample_tables, segments
from signer_jax.errors import SignerError

_KINDS = "mp4, mov, webm, mkv or avi"
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # what a QuickTime or mp4 file starts with
# A box each quarter of a second for a day; what stands before a video's one segment; a gigabyte each.
_MOST_BOXES, _MOST_ELEMENTS, _MOST_RIFFS = 400_000, 1000, 1000
_MOST_TAIL = 1 << 26  # bytes
_NO_TABLES = (b"mdat", b"free", b"skip", b"wide")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", 0x18538067


def check(path: Path, file: BinaryIO, size: int) -> str:
    """The name of the file's demultiplexer in FFmpeg. Raises `SignerError` for another kind, or where the end lacks."""
    first = file.read(12)
    if not first:
        raise SignerError(f"{path}: is empty; download it again")
    if first[4:8] in _BOXES:
        _boxes(path, file, size)
        return "mov"
    if first[:4] == _EBML:
        _segment(path, file, size)
        return "matroska"
    if first[:4] == b"RIFF" and first[8:12] == b"AVI ":
        _riffs(path, file, size)
        return "avi"
    if path.suffix == ".pose":
        raise SignerError(f"{path}: is a .pose file, no video; compare poses with `signer score pose`")
    raise SignerError(f"{path}: is no video of a known kind; give {_KINDS}")


def _cut(path: Path, end: int, size: int) -> SignerError:
    return SignerError(f"{path}: cut short ({end} bytes long by its own account, {size} are there); download it again")


def _boxes(path: Path, file: BinaryIO, size: int) -> None:
    """ISO/IEC 14496-12: a box is its size (uint32; 1: a uint64 follows; 0: up to the end), its type, its contents."""
    place = 0
    found: set[str] = set()
    tables: list[bytes] = []
    for _ in range(_MOST_BOXES):
        if place >= size:
            break
        file.seek(place)
        head = file.read(16)
        kind = head[4:8]
        if len(kind) < 4 or not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind):
            if "moov" in found and "mdat" in found:
                tables.append(_tail(path, file, place, size))
                break  # padding behind the last box
            raise SignerError(f"{path}: damaged or cut short (no box at byte {place}); download it again")
        length = struct.unpack(">I", head[:4])[0]
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        length = size - place if length == 0 else max(length, 8)
        if place + length > size:
            if {"moov", "mdat"} <= found and kind not in _BOXES:
                tables.append(_tail(path, file, place, size))
                break  # what a camera wrote behind the last box
            raise _cut(path, place + length, size)
        found.add(kind.decode("latin-1"))
        if kind not in _NO_TABLES:
            file.seek(place)
            tables.append(file.read(length))
        place += length
    else:
        raise SignerError(f"{path}: has more than {_MOST_BOXES} boxes; write it again with ffmpeg -i FILE -c copy NEW")
    if "moov" not in found:
        raise SignerError(f"{path}: cut short (its index, the moov box, is missing); download it again")
    if "mdat" not in found:
        raise SignerError(f"{path}: cut short (its frames, the mdat box, are missing); download it again")
    if "moof" in found and "mfra" not in found:
        raise SignerError(
            f"{path}: is in fragments without an end mark (mfra), so it may be cut short; "
            "write it again with ffmpeg -i FILE -c copy NEW"
        )
    if what := sample_tables.fault(tables, size):
        raise SignerError(f"{path}: {what}, and is not read so; write it again with ffmpeg -i FILE NEW.mp4")


def _tail(path: Path, file: BinaryIO, place: int, size: int) -> bytes:
    """What follows the last box: FFmpeg goes on there too."""
    if size - place > _MOST_TAIL:
        raise SignerError(
            f"{path}: {size - place} bytes follow its last box; write it again with ffmpeg -i FILE -c copy NEW"
        )
    file.seek(place)
    return file.read()


def _segment(path: Path, file: BinaryIO, size: int) -> None:
    """Matroska: the EBML header, then one Segment; an element is its identifier, its size, its contents."""
    file.seek(4)
    length, place = _number(path, file, size)
    place += length
    for _ in range(_MOST_ELEMENTS):
        if place >= size:
            break
        file.seek(place)
        identifier, start = _identifier(path, file, size)
        length, start = _number(path, file, size)
        if identifier == _SEGMENT:
            if length < 0:
                raise SignerError(
                    f"{path}: was written as a stream and does not say how long it is, so it may be cut short; "
                    "write it again with ffmpeg -i FILE -c copy NEW"
                )
            if start + length > size:
                raise _cut(path, start + length, size)
            what = segments.fault(
                file, start, start + length, lambda file: _identifier(path, file, size)[0],
                lambda file: _number(path, file, size)[0],
            )  # fmt: skip
            if what:
                raise SignerError(f"{path}: {what}, and is not read so; write it again with ffmpeg -i FILE -c copy NEW")
            return
        place = start + max(length, 0)
    else:
        raise SignerError(f"{path}: damaged (no segment among its first {_MOST_ELEMENTS} elements); download it again")
    raise SignerError(f"{path}: cut short (it has no segment); download it again")


def _identifier(path: Path, file: BinaryIO, size: int) -> tuple[int, int]:
    first = file.read(1)
    width = 9 - first[0].bit_length() if first and first[0] else 9
    rest = file.read(width - 1)
    if width > 4 or len(rest) < width - 1:
        raise SignerError(f"{path}: damaged or cut short (byte {file.tell()} of {size}); download it again")
    return int.from_bytes(first + rest, "big"), file.tell()


def _number(path: Path, file: BinaryIO, size: int) -> tuple[int, int]:
    """An element's size (-1: not known) and where its contents start."""
    first = file.read(1)
    width = 9 - first[0].bit_length() if first and first[0] else 9
    rest = file.read(width - 1)
    if width > 8 or len(rest) < width - 1:
        raise SignerError(f"{path}: damaged or cut short (byte {file.tell()} of {size}); download it again")
    bits = 7 * width
    value = int.from_bytes(first + rest, "big") & ((1 << bits) - 1)
    return (-1 if value == (1 << bits) - 1 else value), file.tell()


def _riffs(path: Path, file: BinaryIO, size: int) -> None:
    """AVI: one RIFF chunk, or several where it is longer than a gigabyte."""
    place = 0
    for _ in range(_MOST_RIFFS):
        if place + 12 > size:
            break
        file.seek(place)
        name, length, _ = struct.unpack("<4sI4s", file.read(12))
        if name != b"RIFF":
            break  # something else behind the last one
        end = place + 8 + length
        if end > size or length < 4:
            raise _cut(path, end, size)
        place = end + end % 2
    else:
        raise SignerError(f"{path}: damaged (more than {_MOST_RIFFS} RIFF chunks); download it again")
