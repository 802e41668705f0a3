"""What a checkpoint says of itself, and whether its arrays are what it says: types, shapes, checksums, and the seal."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from signer_jax import outside
from signer_jax.errors import SignerError
from signer_jax.json_files import LISTS, check_bounds, read_json
from signer_jax.object_store import is_url, sizes
from signer_jax.training.base import is_base
from signer_jax.training.damage import Damaged, readable
from signer_jax.training.partitioning import each, path_name

_MOST_GROWTH, _SMALL = 64, 1 << 26  # of parameters over the bytes on disk, where only zeros are packed well
_NOTES = ("_CHECKPOINT_METADATA", "state/_METADATA", "state/_sharding", "state/array_metadatas/*")
_OUTSIDE = "move what it leads to here, or take it away"
_PIECE = 1 << 18  # words of an array that are summed at a time: what stays in the cache
_WEIGHTS = 0x9E37, 0x79B9


def checksum(x: jax.Array) -> jax.Array:
    """Two words `[2]` uint32 over an array's bits: Σ bits · odd(place) mod 2³², with two different weights.

    A changed word always changes both, since odd weights are invertible; several changed words go unseen once in 2⁶⁴.
    Integer sums do not depend on their order, so the words are the same on any mesh, and no array leaves its devices.
    """
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    bits = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
    place = jnp.zeros(bits.shape, jnp.uint32)
    for axis, size in enumerate(bits.shape):
        place = place * np.uint32(size & 0xFFFFFFFF) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    return jnp.stack([(bits * (_mixed(place + np.uint32(k)) | 1)).sum(dtype=jnp.uint32) for k in _WEIGHTS])


def _mixed(x: Any) -> Any:
    """The finaliser of MurmurHash3 (Austin Appleby, public domain): neighbouring places get unrelated weights."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def checksum_here(x: np.ndarray) -> np.ndarray:
    """`checksum` of an array in this process's memory, piece by piece: nothing is compiled for its shape."""
    flat = np.ascontiguousarray(x).reshape(-1)
    bits = flat.view({1: np.uint8, 2: np.uint16}.get(flat.itemsize, np.uint32))
    words = np.zeros(2, np.uint32)
    for start in range(0, len(bits), _PIECE):
        part = bits[start : start + _PIECE].astype(np.uint32)
        place = np.arange(start, start + len(part)).astype(np.uint32)
        words += np.array([(part * (_mixed(place + np.uint32(k)) | 1)).sum(dtype=np.uint32) for k in _WEIGHTS])
    return words


_checksums = each(checksum, checksum_here)


def described(tree: Any) -> dict[str, dict]:
    """`{path: {dtype, shape, sum}}` of a tree of arrays, as JSON has it."""
    words = _named(jax.device_get(_checksums(tree)))
    return {
        name: {**array, "sum": "".join(f"{word:08x}" for word in words[name])} for name, array in shapes(tree).items()
    }


def fingerprint(tree: Any) -> str:
    """One hash of a tree of arrays: what was made with other ones is told by it."""
    return hashlib.sha256(json.dumps(described(tree), sort_keys=True).encode()).hexdigest()


def shapes(tree: Any) -> dict[str, dict]:
    return {name: {"dtype": str(leaf.dtype), "shape": list(leaf.shape)} for name, leaf in _named(tree).items()}


def _named(tree: Any) -> dict[str, Any]:
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def sealed(about: dict) -> dict:
    return {**about, "seal": hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()}


def read_about(folder: Path) -> dict:
    """What a checkpoint says of itself, by plain reading: nothing in it waits for other processes. Raises `Damaged`."""
    check_tree(folder)
    if not (folder / "about").is_dir():
        raise Damaged(folder, "does not say what it holds (no 'about')")
    with readable(folder):
        for note in _NOTES:  # which Orbax parses whole
            for file in folder.glob(note):
                with file.open("rb") as data:
                    check_bounds(data.read(LISTS + 1), LISTS)
        about = dict(read_json(folder / "about" / "metadata", LISTS))
    seal = about.pop("seal", None)
    if seal != sealed(about)["seal"]:
        raise Damaged(folder, "is damaged (what it says of itself has changed)")
    arrays = about.get("arrays")
    if "data" not in about or not isinstance(arrays, dict) or not all(map(_describes, arrays.values())):
        raise Damaged(folder, "is damaged (it lists no arrays, or no place in the data)")
    if not is_base(about.get("base", {})):
        raise Damaged(folder, "is damaged (it does not say which weights it belongs to)")
    return about


def check_tree(folder: Path) -> None:
    if not is_url(folder):  # a bucket has no links
        outside.check_tree(folder, _OUTSIDE)


def _describes(array: Any) -> bool:
    """Whether it is what `described` says of an array."""
    return (
        isinstance(array, dict)
        and array.keys() == {"dtype", "shape", "sum"}
        and isinstance(array["dtype"], str)
        and isinstance(array["sum"], str)
        and isinstance(array["shape"], list)
        and all(type(side) is int and side >= 0 for side in array["shape"])
    )


def check_claims(folder: Path, item: Any, saved: dict[str, dict]) -> None:
    """Raises `SignerError` unless the arrays' own headers name the types and shapes of the list, of a size that the
    bytes on disk can hold: what is not stored is filled with zeros, of whatever shape is claimed.
    """
    found = shapes(item)
    listed = {name: {key: array[key] for key in ("dtype", "shape")} for name, array in saved.items()}
    if found != listed:
        name = min(name for name in found.keys() | listed.keys() if found.get(name) != listed.get(name))
        raise Damaged(folder, f"is damaged (its list and its arrays differ in {name})")
    claimed = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in _named(item).values())
    there = sum(sizes(folder / "state").values())
    if claimed > max(_SMALL, _MOST_GROWTH * there):
        raise Damaged(folder, f"is damaged ({claimed >> 20} MB of arrays in {there >> 20} MB of files)")


def check_same_arrays(folder: Path, saved: dict[str, dict], wanted: dict[str, dict]) -> None:
    for name in sorted(saved.keys() | wanted.keys()):
        theirs, ours = ({k: of[name][k] for k in ("dtype", "shape")} if name in of else None for of in (saved, wanted))
        if theirs != ours:
            raise SignerError(
                f"{folder}: this checkpoint is of another model: it has {_spoken(theirs)} for {name}, this config "
                f"makes {_spoken(ours)}; give the config it was trained with, or another --workdir"
            )


def _spoken(array: dict | None) -> str:
    return "nothing" if array is None else f"{array['dtype']} {array['shape']}"


def check_sums(folder: Path, saved: dict[str, dict], found: dict[str, dict]) -> None:
    if changed := [name for name in sorted(saved.keys() | found.keys()) if saved.get(name) != found.get(name)]:
        raise Damaged(
            folder,
            f"is damaged (the bytes of {changed[0]} have changed since they were saved, {len(changed)} arrays in all)",
        )
