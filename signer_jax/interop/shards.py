"""Writes safetensors files as Hugging Face's libraries name them, some megabytes at a time: no model, and no shard of
one, is ever whole in memory.

A file is eight bytes (the length of what follows, little-endian), JSON that says where each tensor lies, and the
tensors' bytes without a gap (https://huggingface.co/docs/safetensors). Several shards have an index beside them.
"""

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from signer_jax.errors import SignerError

TYPES = {
    "F64": np.dtype(np.float64), "F32": np.dtype(np.float32), "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}  # fmt: skip
BY_NAME = {str(dtype): kind for kind, dtype in TYPES.items()}  # "float32" -> "F32"
MOST = 4 << 30  # bytes of a shard; a tensor that is larger has one of its own
_ALIGNED = 8
Watch = Callable[[int], object]  # told of so many bytes more


class Entry(NamedTuple):
    """A tensor to be written."""

    name: str
    shape: tuple[int, ...]
    kind: str  # of `TYPES`
    pieces: Callable[[], Iterable[np.ndarray]]  # its numbers in order (C), of that type; asked for once

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * TYPES[self.kind].itemsize


def of_array(
    name: str, shape: tuple[int, ...], make: Callable[[], np.ndarray], kind: str = "F32", where: str = "weights"
) -> Entry:
    """An entry of an array that is made when it is its turn, and is given back after it; `where` it goes is told of a
    value that is not finite.
    """

    def pieces() -> Iterable[np.ndarray]:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity
            made = np.ascontiguousarray(make()).astype(TYPES[kind], copy=False)
        if not np.isfinite(made).all():
            raise SignerError(
                f"{where}: {name!r} would hold a value that is not finite in {TYPES[kind]} "
                "(NaN or infinity); export an earlier checkpoint"
            )
        yield made

    return Entry(name, shape, kind, pieces)


def planned(entries: Sequence[Entry], name: str) -> dict[str, list[Entry]]:
    """The files, each with its tensors in the given order."""
    groups: list[list[Entry]] = [[]]
    filled = 0
    for entry in entries:
        if groups[-1] and filled + entry.size > MOST:
            groups.append([])
            filled = 0
        groups[-1].append(entry)
        filled += entry.size
    if len(groups) == 1:
        return {f"{name}.safetensors": groups[0]}
    return {f"{name}-{i:05d}-of-{len(groups):05d}.safetensors": group for i, group in enumerate(groups, 1)}


def write(
    folder: Path, name: str, entries: Sequence[Entry], *, watch: Watch | None = None,
    about: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Writes `NAME.safetensors`, or shards of at most `MOST` bytes with `NAME.safetensors.index.json`."""
    files = planned(entries, name)
    for file, group in files.items():
        _write_file(folder / file, group, watch, about or {"format": "pt"})
    if len(files) > 1:
        index = {
            "metadata": {"total_size": sum(entry.size for entry in entries)},
            "weight_map": {entry.name: file for file, group in files.items() for entry in group},
        }
        text = json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / f"{name}.safetensors.index.json").write_text(text + "\n", encoding="utf-8")


def _write_file(file: Path, entries: Sequence[Entry], watch: Watch | None, about: Mapping[str, str]) -> None:
    # Wide types first: then every tensor lies at a multiple of its type's size.
    entries = sorted(entries, key=lambda entry: -TYPES[entry.kind].itemsize)
    header: dict[str, object] = {"__metadata__": dict(about)}
    place = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": entry.kind, "shape": list(entry.shape), "data_offsets": [place, place + entry.size]
        }  # fmt: skip
        place += entry.size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNED)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for entry in entries:
            written = 0
            for piece in entry.pieces():
                assert piece.dtype == TYPES[entry.kind], (entry.name, piece.dtype)
                # As bytes: numpy has no buffer of bfloat16.
                out.write(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
                written += piece.nbytes
                if watch:
                    watch(piece.nbytes)
            assert written == entry.size, (entry.name, written, entry.size)
