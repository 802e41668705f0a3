"""What the stored pieces of a checkpoint's arrays unpack to, told before tensorstore unpacks them.

`state` is an OCDBT database (tensorstore's) of zarr arrays, packed piece by piece with zstd: `NAME/.zarray` says into
which pieces an array is cut, `NAME/0.0` is one. The database's own nodes are packed as well.
"""

import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from signer_jax.json_files import CONFIG, parse_json
from signer_jax.mirror import is_url
from signer_jax.mirror import sizes as sizes_of
from signer_jax.packed import most_unpacked

_SMALL = 1 << 26  # bytes that a piece or a node may unpack to, however little it should hold
_SLACK = 4  # times what it should hold: blocks that are not full count as full
_LEAST_PIECE = 9  # bytes of a zstd frame
_HEADS = (b"\x0c\xdb\x20\xde", b"\x0c\xdb\x3a\x2a")  # of a node and of the manifest; then the length, uint64
_HEAD, _END = 14, 4  # bytes before and behind what is packed: version and kind of packing, a checksum
_ZSTD = 1
_READ = 1 << 24


def check_nodes(files: Iterable[Path]) -> None:
    """Raises `ValueError` where a node in these files of the database may unpack to more than one holds.

    All of its files are to be looked at before it is opened.
    """
    for file in files:
        _check_nodes(file)


def nodes(state: Path, index: int = 0, count: int = 1) -> list[Path]:
    """The files of the database that process `index` of `count` looks at: each is some one's.

    Raises `ValueError` where there is no database.
    """
    files = _files(state)
    return _dealt(list(files), list(files.values()), index, count)


def arrays(sizes: Mapping[str, int], index: int, count: int) -> list[str]:
    """The arrays that process `index` of `count` looks at, of these and their sizes: each is some one's."""
    return _dealt(sorted(sizes), [sizes[name] for name in sorted(sizes)], index, count)


def _dealt(all_: list[Any], sizes: list[int], index: int, count: int) -> list[Any]:
    order = sorted(range(len(all_)), key=lambda k: -sizes[k])  # the largest first, so that all have about as much
    return [all_[k] for k in order[index::count]]


def _files(state: Path) -> dict[Path, int]:
    if not (state / "manifest.ocdbt").is_file():
        raise ValueError("its arrays have no manifest.ocdbt")
    return sizes_of(state)


def check_arrays(state: Path, names: Iterable[str]) -> None:
    """Raises `ValueError` where a piece of one of the arrays `names` ("params/a/kernel") is not as it is written here,
    or may unpack to more than it should hold.
    """
    import tensorstore

    size = sum(_files(state).values())
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": _SMALL}})
    base = f"{state}/" if is_url(state) else f"file://{state}/"
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}, context=context).result()
    for name in names:
        _check_array(store, name.replace("/", "."), size)


def _check_nodes(file: Path) -> None:
    """Nodes are found wherever they stand in a file, by how they begin: another node says where they are."""
    place, before = 0, b""
    with file.open("rb") as data:
        size = data.seek(0, os.SEEK_END)
        data.seek(0)
        while part := data.read(_READ):
            window = before + part
            start = place - len(before)
            for head in _HEADS:
                found = window.find(head)
                while found >= 0:
                    _check_node(file, start + found, size)
                    found = window.find(head, found + 1)
            place += len(part)
            before = window[-3:]


def _check_node(file: Path, place: int, size: int) -> None:
    with file.open("rb") as data:
        data.seek(place)
        head = data.read(_HEAD)
        length = int.from_bytes(head[4:12], "little")
        if len(head) < _HEAD or not _HEAD + _END < length <= size - place or head[13] != _ZSTD:
            return  # such bytes happen to stand there, or the library refuses them
        if length > _SMALL or most_unpacked(data.read(length - _HEAD - _END)) > _SMALL:
            raise ValueError(
                f"a list of its pieces, byte {place} of {file.name}, unpacks to more than {_SMALL >> 20} MB"
            )


def _check_array(store, name: str, size: int) -> None:
    about = parse_json(_value(store, f"{name}/.zarray"), CONFIG)
    shape, chunks, packing = about["shape"], about["chunks"], about["compressor"]
    if (packing is not None and packing["id"] != "zstd") or about.get("filters"):
        raise ValueError(f"{name} is packed by {json.dumps(packing)[:60]}")
    if len(shape) != len(chunks) or not all(0 < part <= max(side, 1) for side, part in zip(shape, chunks, strict=True)):
        raise ValueError(f"{name} of {shape} is cut into pieces of {chunks}")
    held = math.prod(chunks) * np.dtype(_type(about["dtype"])).itemsize
    counts = [-(-side // part) for side, part in zip(shape, chunks, strict=True)]
    if math.prod(counts) > max(1, size // _LEAST_PIECE):
        raise ValueError(f"{name} is cut into {math.prod(counts)} pieces, {size} bytes are there")
    between = about.get("dimension_separator", ".")
    for places in itertools.product(*map(range, counts)):
        piece = _value(store, f"{name}/{between.join(map(str, places)) or 0}")
        most = most_unpacked(piece) if packing else len(piece)
        if most > max(_SMALL, _SLACK * held):
            raise ValueError(f"a piece of {name} of {held} bytes may unpack to {most}")


def _type(name: str) -> str:
    return "<u2" if name == "bfloat16" else name


def _value(store, key: str) -> bytes:
    found = store.read(key).result()
    if found.state != "value":
        raise ValueError(f"{key} is missing")
    return found.value
