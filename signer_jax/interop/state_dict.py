"""Reads and writes the folders that Hugging Face libraries save: `config.json` beside safetensors files."""

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from signer_jax import outside, storage
from signer_jax.errors import SignerError
from signer_jax.interop import shards
from signer_jax.interop.foreign import recognise
from signer_jax.interop.model_config import plain_inside, read_json
from signer_jax.interop.names import held_as
from signer_jax.interop.shards import Entry
from signer_jax.json_files import LISTS

_INDEX_ENDING = ".safetensors.index.json"
_ENDING = ".safetensors"
_NO_WEIGHTS = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")  # buffers such as position ids
_KIND = "model in Hugging Face's form"
_AGAIN = "download it again"
_PIECE = 1 << 20  # values
_MOST_HEADER = 1 << 23  # bytes


def read_config(path: str | Path) -> dict:
    """The folder's `config.json`. Raises `SignerError` where it is missing or holds no JSON object.

    What other projects write is named, with the conversion that reads it.
    """
    folder = Path(path)
    storage.recover(folder)
    if not (folder / "config.json").is_file():
        if what := recognise(folder):
            raise SignerError(f"{folder}: is {what}")
        if folder.is_file():
            raise SignerError(f"{folder}: is a file; give the folder that save_pretrained wrote")
    return read_json(folder / "config.json", "give the folder that save_pretrained wrote")


@dataclass(frozen=True)
class FileTensor:
    """A tensor in a file. What is indexed is read, and no more, as float32; nothing of it is kept."""

    file: Path
    name: str
    shape: tuple[int, ...]
    kind: str
    offset: int  # of its first byte in the file

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    def __getitem__(self, index: Any) -> np.ndarray:
        if 0 in self.shape:
            return np.zeros(self.shape, np.float32)[index]
        try:
            # A float64 beyond float32 becomes infinity.
            with outside.reading(self.file, "give a smaller model"), np.errstate(over="ignore"):
                # Mapped anew each time: pages that stay mapped count as the process's memory.
                stored = np.memmap(self.file, shards.TYPES[self.kind], "r", self.offset, self.shape)
                values = np.array(stored[index], np.float32)
                finite = _finite(values)
        except ValueError as error:
            raise _damaged(self.file, error) from None
        if not finite:
            raise self._not_finite()
        return values

    def entry(self, kind: str | None = None) -> Entry:
        """The tensor as it is written again, in its own type or in another one."""
        kind = kind or self.kind
        return Entry(self.name, self.shape, kind, lambda: self._pieces(kind))

    def _pieces(self, kind: str) -> Iterator[np.ndarray]:
        """Its numbers in order, some megabytes at a time; each is read once."""
        left, stored = math.prod(self.shape), shards.TYPES[self.kind]
        with outside.reading(self.file, "give a smaller model"), self.file.open("rb") as file:
            file.seek(self.offset)
            while left:
                part = np.fromfile(file, stored, min(left, _PIECE))
                if not len(part):
                    raise _damaged(self.file, ValueError("it ends within a tensor"))
                left -= len(part)
                with np.errstate(over="ignore"):
                    part = part.astype(shards.TYPES[kind], copy=False)
                    finite = _finite(part.astype(np.float32, copy=False))
                if not finite:
                    raise self._not_finite(kind)
                yield part

    def _not_finite(self, kind: str = "F32") -> SignerError:
        type_ = "float32" if kind in ("F32", "F64") else str(shards.TYPES[kind])
        return SignerError(
            f"{self.file}: tensor {self.name[:80]!r} holds a value that is not finite in {type_} (NaN or infinity); "
            f"{_AGAIN}"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[...] if dtype is None else self[...].astype(dtype, copy=False)


def read_tensors(path: str | Path) -> dict[str, FileTensor]:
    """All tensors of the folder's safetensors files (one file, or shards with an index), read when they are indexed.

    Integer buffers are left out. Raises `SignerError` where there are none, a shard is missing, lies elsewhere or is
    damaged, a tensor occurs twice, or has a type that is not read (8 bits and fewer).
    """
    folder = Path(path)
    storage.recover(folder)
    parts, _ = _parts(folder)
    tensors: dict[str, FileTensor] = {}
    for name, expected in parts.items():
        _read_file(plain_inside(folder / name, f"the folder's weights are in it; {_AGAIN}"), tensors, expected)
    return tensors


def read_file(path: str | Path) -> dict[str, np.ndarray]:
    """All tensors of one safetensors file, float32; see `read_tensors`."""
    tensors: dict[str, FileTensor] = {}
    _read_file(outside.plain_file(path, "give a .safetensors file"), tensors, set())
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}


def equal(one: FileTensor, other: FileTensor, rows: int = 1024) -> bool:
    """Whether two tensors hold the same numbers; some rows at a time, and no further than to the first difference."""
    if one.shape != other.shape or one is other:
        return one is other
    return all(np.array_equal(one[i : i + rows], other[i : i + rows]) for i in range(0, one.shape[0], rows))


def _parts(folder: Path) -> tuple[dict[str, set[str]], list[Path]]:
    """The names of a folder's safetensors files, with the tensors that an index says are in them, and the index."""
    indices = sorted(folder.glob(f"*{_INDEX_ENDING}"))
    if len(indices) > 1:
        raise SignerError(f"{folder}: holds {len(indices)} indices ({indices[0].name}, …); keep the one that is meant")
    parts = _shards(indices[0]) if indices else {file.name: set() for file in sorted(folder.glob(f"*{_ENDING}"))}
    if not parts:
        if what := recognise(folder):
            raise SignerError(f"{folder}: is {what}")
        raise SignerError(f"{folder}: holds no .safetensors file; save the model with safe_serialization=True")
    return parts, indices


def _shards(index: Path) -> dict[str, set[str]]:
    """The names of an index's files, with those of the tensors that each must hold."""
    names = read_json(index, _AGAIN, LISTS).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise SignerError(f"{index}: has no weight_map of tensors to files; {_AGAIN}")
    files: dict[str, set[str]] = {}
    for tensor, name in names.items():
        if Path(name).name != name or not name.endswith(_ENDING) or not name.isprintable() or "\\" in name:
            raise SignerError(f"{index}: names {name[:60]!r}, which is no {_ENDING} file beside it; {_AGAIN}")
        files.setdefault(name, set()).add(tensor)
    return dict(sorted(files.items()))


def _read_file(file: Path, tensors: dict[str, FileTensor], expected: set[str]) -> None:
    """Adds a file's tensors. The library holds every byte to belong to exactly one tensor before it opens any."""
    try:
        _check_header(file)
        with outside.reading(file, "give a smaller model"), safe_open(file, framework="np") as opened:
            names, offsets = list(opened.keys()), _offsets(file)
            if missing := sorted(expected - set(names)):
                raise SignerError(f"{file}: lacks the tensor {missing[0][:80]!r} that the index places there; {_AGAIN}")
            for name in names:
                part = opened.get_slice(name)
                kind, shape = part.get_dtype(), tuple(part.get_shape())
                if kind in _NO_WEIGHTS:
                    continue
                if kind not in shards.TYPES:
                    what = f"{file}: tensor {name[:80]!r} has type {kind}"
                    raise SignerError(f"{what}, which is not read; save it as bfloat16 or float32")
                if name in tensors:
                    raise SignerError(f"{file}: tensor {name[:80]!r} is in another file of the folder too; keep one")
                tensors[name] = FileTensor(file, name, shape, kind, offsets[name])
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(file, error) from None


def _offsets(file: Path) -> dict[str, int]:
    """Where in a file that the library has found whole each tensor begins."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    return {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"}


def _damaged(file: Path, error: BaseException) -> SignerError:
    return SignerError(f"{file}: is no whole safetensors file ({outside.reason_of(error)[:200]}); {_AGAIN}")


def _check_header(file: Path) -> None:
    """The library takes a header of 100 MB, and makes thirty times its bytes of it; a thousand tensors need 100 kB."""
    with file.open("rb") as data:
        length = int.from_bytes(data.read(8), "little")
    if _MOST_HEADER < length <= file.stat().st_size:
        raise SignerError(f"{file}: its header has {length >> 20} MB, {_MOST_HEADER >> 20} at most; {_AGAIN}")


def _finite(tensor: np.ndarray) -> bool:
    """Piece by piece: a table of a published model has gigabytes."""
    flat = tensor.reshape(-1)
    return all(bool(np.isfinite(flat[i : i + _PIECE]).all()) for i in range(0, len(flat), _PIECE))


def write(path: str | Path, config: Mapping, tensors: Mapping[str, Any], name: str = "model") -> None:
    """Writes a folder of ours that the original library loads (`write_into`), whole or not at all.

    Raises `SignerError` where the folder holds anything but what was written here before, or a value is not finite.
    """
    with storage.new_folder(path, _KIND) as folder:
        write_into(folder, config, entries_of(tensors, where=str(path)), name)


def write_into(
    folder: Path, config: Mapping, entries: Sequence[Entry], name: str = "model", watch: shards.Watch | None = None
) -> None:
    """Writes `config.json` and `NAME.safetensors`, or its shards, into a folder that is there."""
    text = json.dumps(dict(config), indent=2, sort_keys=True, allow_nan=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    shards.write(folder, name, entries, watch=watch)


def entries_of(tensors: Mapping[str, Any], kind: str = "F32", where: str = "weights") -> list[Entry]:
    """What is written of arrays, or of tensors that are made when it is their turn (`names.Theirs`).

    In `kind`, but for what is held in float32 whatever the others are (`names.held_as`).
    """

    def maker(value: Any) -> Callable[[], np.ndarray]:
        return getattr(value, "make", lambda: value)

    return [
        shards.of_array(key, tuple(value.shape), maker(value), kind_at(getattr(value, "ours", key), kind), where)
        for key, value in tensors.items()
    ]


def kind_at(path: str, kind: str) -> str:
    """The type that a parameter of ours is written in where `kind` is asked for (`names.held_as`)."""
    return shards.BY_NAME[str(held_as(path, shards.TYPES[kind]))]


def files_of(path: str | Path) -> list[Path]:
    """What `read_config` and `read_tensors` read of a folder: `config.json`, safetensors files and their index."""
    folder = Path(path)
    parts, indices = _parts(folder)
    return [folder / "config.json", *indices, *(folder / name for name in parts)]
