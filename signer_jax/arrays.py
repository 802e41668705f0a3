"""`.npy` and `.npz` files of numbers: what a header claims is checked against the bytes that are there.

numpy's own reader parses the header as Python, takes any type, allocates what it names and inflates what a zip holds;
here a header has exactly the form that `np.save` writes, and the bytes behind it are the array's, all of them.
"""

import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{'descr': '([<|](?:f[248]|[iu][1248]))', "
    rb"'fortran_order': False, 'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \} *\n"
)
_LONGEST = 1000  # bytes of a header


def open_npy(path: Path) -> np.ndarray:
    """The array of an `.npy` file, mapped, not read. Raises `ValueError` for what is none, `OSError` as `open` does."""
    with path.open("rb") as file:
        dtype, shape, start = _header(file.read(_LONGEST + 10), path.stat().st_size)
    if not np.prod(shape, dtype=object):
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an uncompressed `.npz` file by name. Raises `ValueError` for what is none, `OSError` as `open`."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("it is compressed")
            if sum(member.file_size for member in members) > size:
                raise ValueError("it claims more bytes than it has")
            return {member.filename.removesuffix(".npy"): array(archive.read(member)) for member in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"it is no whole archive: {error}") from None


def check_packing(member: zipfile.ZipInfo) -> None:
    """Raises `ValueError` for a zip's member that is packed otherwise than by deflate: neither numpy nor torch does,
    and what bz2 and lzma raise of damaged bytes, and take of memory, is theirs.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename[:100]!r} is packed otherwise than by deflate")


def pickle_of(data: bytes) -> bytes | None:
    """The pickle behind the header of an `.npy` file of objects, None where it is none; what it holds is not looked at.

    Raises `ValueError` where it is no `.npy` file at all.
    """
    place, start = _places(data)
    return data[start:] if b"'|O'" in data[place:start] else None


def array(data: bytes) -> np.ndarray:
    """The array of an `.npy` file of numbers, by its bytes. Raises `ValueError` for what is none."""
    dtype, shape, start = _header(data[: _LONGEST + 10], len(data))
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def _places(front: bytes) -> tuple[int, int]:
    """Where the header's text begins, and the first value."""
    version = front[6:8]
    if not front.startswith(_MAGIC) or version not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("it is no .npy array")
    place = 10 if version == b"\1\0" else 12
    return place, place + int.from_bytes(front[8:place], "little")


def _header(front: bytes, size: int) -> tuple[np.dtype, tuple[int, ...], int]:
    """Type, shape and the place of the first value, of a file of `size` bytes that begins with `front`."""
    place, start = _places(front)
    match = _HEADER.fullmatch(front, place, min(start, len(front)))
    if match is None or start > len(front):
        raise ValueError("its header is not as np.save writes it")
    dtype = np.dtype(match[1].decode())
    shape = tuple(int(side) for side in match[2].split(b",") if side.strip())
    claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(shape) > 8 or claimed != size - start:
        raise ValueError(f"its header names {claimed} bytes of values where {size - start} are there")
    return dtype, shape, start
