"""What the stored pieces of a checkpoint's arrays unpack to, told before tensorstore unpacks them.

`state` is an OCDBT database (tensorstore's) of zarr arrays, packed piece by piece with zstd: `NAME/.zarray` says into
which pieces an array is cut, `NAME/0.0` is one. The database's own nodes, which name each other and the places of the
pieces, are packed as well: each is looked at before tensorstore unpacks it (`ocdbt.dump`). Of the pieces the headers of
their blocks are read alone, a few bytes of each 128 KiB; in a bucket, where that is a request each, all of it.
"""

import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from signer_jax.json_files import CONFIG, parse_json
from signer_jax.object_store import is_url, store
from signer_jax.object_store import sizes as sizes_of
from signer_jax.packed import most_unpacked

_SMALL = 1 << 26  # bytes that a piece or a node may unpack to, however little it should hold
_SLACK = 4  # times what it should hold: blocks that are not full count as full
_HEAD, _END = 14, 4  # bytes of a node before and behind what is packed: its kind and length, how; a checksum
_ZSTD = 1
_MANIFEST = "manifest.ocdbt"


@dataclass(frozen=True)
class Stored:
    """Bytes that lie in a file."""

    file: Any
    start: int
    length: int

    def __len__(self) -> int:
        return self.length

    def read(self) -> bytes:
        if is_url(self.file):
            return store().cat_file(str(self.file), start=self.start, end=self.start + self.length)
        with self.file.open("rb") as data:
            data.seek(self.start)
            return data.read(self.length)

    def most_unpacked(self) -> int:
        """As `packed.most_unpacked`."""
        if is_url(self.file):
            return most_unpacked(self.read())
        with self.file.open("rb", buffering=0) as data:
            return most_unpacked(_Parts(data.fileno(), self.start, self.length))


@dataclass(frozen=True)
class _Parts:
    """Of an open file what is asked for, as of bytes."""

    descriptor: int
    start: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: Any) -> Any:
        first, end, _ = at.indices(self.length) if isinstance(at, slice) else (at, at + 1, 1)
        part = os.pread(self.descriptor, max(0, end - first), self.start + first)
        return part if isinstance(at, slice) else part[0]


Values = Mapping[str, "bytes | Stored"]  # of the database, by key: those in a node, and where the others lie


def values(state: Any) -> Values:
    """Of the database in this folder. Raises `ValueError` where there is none, or a node of it may unpack to more than
    one holds.
    """
    import tensorstore

    files = sizes_of(state)
    if (manifest := state / _MANIFEST) not in files:
        raise ValueError(f"its arrays have no {_MANIFEST}")
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": _SMALL}})
    base = tensorstore.KvStore.open(f"{state}/" if is_url(state) else f"file://{state}/").result()

    def dumped(node: Stored, *place: str) -> Any:
        _check_node(node)
        return tensorstore.ocdbt.dump(base, *place, context=context).result()

    root = dumped(Stored(manifest, 0, files[manifest]))["versions"][-1]["root"].get("location")
    left, seen, found = [(root, b"")] if root else [], set(), dict[str, bytes | Stored]()
    while left:
        place, before = left.pop()
        if place in seen:
            raise ValueError("a list of its pieces names itself")
        seen.add(place)
        for entry in dumped(_placed(state, files, place), place)["entries"]:
            if "location" in entry:
                left.append((entry["location"], before + entry["subtree_common_prefix"]))
                continue
            key = (before + entry["key"]).decode()
            if key in found:
                raise ValueError(f"{key} is there twice")
            inline, indirect = entry.get("inline_value"), entry.get("indirect_value")
            found[key] = _placed(state, files, indirect) if inline is None else inline
    return found


def _placed(state: Any, files: Mapping[Any, int], place: str) -> Stored:
    """What tensorstore calls "KIND:FOLDER/:FILE:START:LENGTH"."""
    _, folder, name, start, length = place.split(":")
    stored = Stored(state / f"{folder}{name}", int(start), int(length))
    if stored.start + stored.length > files.get(stored.file, -1):
        raise ValueError(f"{folder}{name} has no {length} bytes at {start}")
    return stored


def _check_node(node: Stored) -> None:
    if len(node) <= _SMALL:
        data = node.read()
        if len(data) < _HEAD or max(data[_HEAD - 2 : _HEAD]) > _ZSTD:
            raise ValueError(f"a list of its pieces, byte {node.start} of {node.file.name}, is packed in another way")
        if data[_HEAD - 1] != _ZSTD:
            return  # not packed
        if most_unpacked(data[_HEAD:-_END]) <= _SMALL:
            return
    raise ValueError(
        f"a list of its pieces, byte {node.start} of {node.file.name}, unpacks to more than {_SMALL >> 20} MB"
    )


def arrays(sizes: Mapping[str, int], index: int, count: int) -> list[str]:
    """The arrays that process `index` of `count` looks at, of these and their sizes: each is some one's."""
    return _dealt(sorted(sizes), [sizes[name] for name in sorted(sizes)], index, count)


def _dealt(all_: list[Any], sizes: list[int], index: int, count: int) -> list[Any]:
    order = sorted(range(len(all_)), key=lambda k: -sizes[k])  # the largest first, so that all have about as much
    return [all_[k] for k in order[index::count]]


def check_arrays(values: Values, names: Iterable[str]) -> None:
    """Raises `ValueError` where a piece of one of the arrays `names` ("params/a/kernel") is not as it is written here,
    or may unpack to more than it should hold.
    """
    for name in names:
        _check_array(values, name.replace("/", "."))


def _check_array(values: Values, name: str) -> None:
    said = _value(values, f"{name}/.zarray")
    about = parse_json(said if isinstance(said, bytes) else said.read(), CONFIG)
    shape, chunks, packing = about["shape"], about["chunks"], about["compressor"]
    if (packing is not None and packing["id"] != "zstd") or about.get("filters"):
        raise ValueError(f"{name} is packed by {json.dumps(packing)[:60]}")
    if len(shape) != len(chunks) or not all(0 < part <= max(side, 1) for side, part in zip(shape, chunks, strict=True)):
        raise ValueError(f"{name} of {shape} is cut into pieces of {chunks}")
    held = math.prod(chunks) * np.dtype(_type(about["dtype"])).itemsize
    counts = [-(-side // part) for side, part in zip(shape, chunks, strict=True)]
    if math.prod(counts) > len(values):
        raise ValueError(f"{name} is cut into {math.prod(counts)} pieces, {len(values)} values are there")
    between = about.get("dimension_separator", ".")
    for places in itertools.product(*map(range, counts)):
        piece = _value(values, f"{name}/{between.join(map(str, places)) or 0}")
        most = len(piece)
        if packing:
            most = most_unpacked(piece) if isinstance(piece, bytes) else piece.most_unpacked()
        if most > max(_SMALL, _SLACK * held):
            raise ValueError(f"a piece of {name} of {held} bytes may unpack to {most}")


def _type(name: str) -> str:
    return "<u2" if name == "bfloat16" else name


def _value(values: Values, key: str) -> bytes | Stored:
    if key not in values:
        raise ValueError(f"{key} is missing")
    return values[key]
