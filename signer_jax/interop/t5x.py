"""T5 checkpoints of t5x, by tensorstore: what the optimizer kept is passed over, a layer is read when it is asked for.

Facts are google-research/t5x's. `checkpoints.py`: the file `checkpoint` is flax's msgpack of {"version", "optimizer":
{"target", "state"}}, where an array stands itself or by the tensorstore spec of a folder beside it, in zarr's form;
newer ones are Orbax's, in `state/`, whose `_METADATA` has the names, and arrays in such folders or in one OCDBT store.
`examples/t5/network.py` has a group a layer, and attention kernels of two axes. `examples/scalable_t5/network.py` has
three axes there, a relative bias in every layer, and, where it scans them, the layers along axis 1.

There is no config. Sizes are the arrays'; relative distances are told apart up to 128 in all of t5x's networks, and
dropout is .1 in its T5Config. A head that is the table scales its states, another one does not.
"""

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from flax import serialization
from flax.traverse_util import flatten_dict

from signer_jax import outside
from signer_jax.errors import SignerError
from signer_jax.interop import names
from signer_jax.interop.names import TRANSPOSED, Row
from signer_jax.interop.shards import BY_NAME, Entry, of_array
from signer_jax.json_files import LISTS, read_json
from signer_jax.slul.t5 import T5

MSGPACK, ORBAX = "checkpoint", "_METADATA"
_INSIDE = ("", "state", "default")  # of a checkpoint's folder: where its tree lies
_PLACEHOLDER = "PLACEHOLDER://"  # how Orbax's msgpack names an array's folder
_AGAIN = "download it again"
_MOST_LAYERS = 1_000
_MOST_NUMBERS = 8  # a byte of the checkpoint: weights are hardly compressed
_MOST_GIN = 1 << 20  # letters
_CACHE = 256 << 20  # bytes: a chunk of a scanned array holds all layers, and these are read one by one
_LAYER = re.compile(r"(encoder|decoder)/layers_(\d{1,4})/(.+)")
_SCANNED = re.compile(r"(encoder)/encoder/(.+)|(decoder)/decoder/(.+)")
_GATE = re.compile(r"mlp_activations\s*=\s*[\[(]?\s*['\"](silu|swish)")
# Our sublayers, t5x's, and the norms in front of them.
_SUBLAYERS = {
    "encoder": {"self_attention": ("attention", "pre_attention_layer_norm"), "mlp": ("mlp", "pre_mlp_layer_norm")},
    "decoder": {
        "self_attention": ("self_attention", "pre_self_attention_layer_norm"),
        "cross_attention": ("encoder_decoder_attention", "pre_cross_attention_layer_norm"),
        "mlp": ("mlp", "pre_mlp_layer_norm"),
    },
}


@dataclass(frozen=True)
class Stored:
    """An array, or a layer of one, read as float32 where it is indexed; axes of heads and their width are one."""

    where: str  # for a message
    shape: tuple[int, ...]
    kind: str  # of `shards.TYPES`
    array: Any  # a numpy array or a tensorstore
    layer: int | None = None  # along axis 1

    def __getitem__(self, index: Any) -> np.ndarray:
        array = self.array if self.layer is None else self.array[:, self.layer]
        merged = tuple(array.shape) != self.shape
        array = array if merged else array[index]
        try:
            with outside.reading(self.where, "give a smaller model"), np.errstate(over="ignore"):
                found = array if isinstance(array, np.ndarray) else array.read().result()
                values = np.asarray(found, np.float32)
        except ValueError as error:  # what tensorstore says of a damaged chunk
            raise _damaged(self.where, error) from None
        if not np.isfinite(values).all():
            raise SignerError(f"{self.where}: holds a value that is not finite in float32 (NaN or infinity); {_AGAIN}")
        return values.reshape(self.shape)[index] if merged else values


@dataclass(frozen=True)
class Turned:
    """A tensor in another library's form, made when it is written."""

    name: str
    shape: tuple[int, ...]
    kind: str
    make: Any  # () -> float32

    def entry(self, kind: str | None = None) -> Entry:
        return of_array(self.name, self.shape, self.make, kind or self.kind)


def holds(path: str | Path) -> bool:
    """Whether a folder looks like a checkpoint of t5x, or one of Orbax's."""
    folder = Path(path)
    if next(folder.glob("*.safetensors"), None) or next(folder.glob("*.ckpt*"), None):
        return False  # transformers' form; or TensorFlow's, whose list of checkpoints has the same name
    return folder.is_dir() and _tree_of(folder) is not None


def describe(path: str | Path, *, dtype: jnp.dtype = jnp.float32) -> names.Described:
    """The model of a checkpoint's folder, before its arrays are read. Raises `SignerError` where it is none, is not
    whole, or is of another model than T5.
    """
    folder = Path(path)
    outside.check_tree(folder, "copy the file itself there")
    _check_gate(folder)
    arrays = dict(_arrays(folder))
    module = _module(folder, arrays).clone(dtype=dtype)
    ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    init = names.shapes_of(module, ids, ids)
    return names.Described(path, module, _table(module), arrays, init)


def in_form_of(described: names.Described, rows: list[Row]) -> dict[str, Turned]:
    """The tensors by the names and in the form of another table's rows, each made when it is written."""
    own = {row.ours: row for row in described.table}
    tensors: dict[str, Turned] = {}
    for row in rows:
        depth = getattr(described.module, f"{row.ours.partition('/')[0]}_layers", 0) if "{}" in row.theirs else 1
        for i in range(depth):
            source = described.tensors[own[row.ours].theirs.format(i)]
            make = functools.partial(_turned, own[row.ours], row, source)
            shape = source.shape if own[row.ours].turn == row.turn else source.shape[::-1]
            name = row.theirs.format(i)
            tensors[name] = Turned(name, tuple(shape), getattr(source, "kind", "F32"), make)
    return tensors


def _turned(own: Row, row: Row, source: names.Tensor) -> np.ndarray:
    return row.turn.write(own.turn.read(source[...]))


# ---- Names and sizes -------------------------------------------------------------------------------------------------


def _table(t5: T5) -> list[Row]:
    rows = [Row("token_embedding/embedding", "token_embedder/embedding")]
    if not t5.tie_embeddings:
        rows.append(Row("lm_head/kernel", "decoder/logits_dense/kernel"))
    for side, sublayers in _SUBLAYERS.items():
        rows.append(Row(f"{side}/final_norm/scale", f"{side}/{side}_norm/scale"))
        if t5.relative_bias_every_layer:
            theirs = f"{side}/layers_{{}}/relpos_bias/rel_embedding"
            rows.append(Row(f"{side}/layers/relative_bias/embedding", theirs, TRANSPOSED))
        else:
            rows.append(Row(f"{side}/relative_bias/embedding", f"{side}/relpos_bias/rel_embedding", TRANSPOSED))
        for ours, (name, norm) in sublayers.items():
            rows.append(Row(f"{side}/layers/{ours}_norm/scale", f"{side}/layers_{{}}/{norm}/scale"))
            gated = t5.activation == "gated-gelu"
            mlp = ("wi_0", "wi_1", "wo") if gated else ("wi", "wo")
            for kernel in mlp if ours == "mlp" else ("query", "key", "value", "out"):
                rows.append(Row(f"{side}/layers/{ours}/{kernel}/kernel", f"{side}/layers_{{}}/{name}/{kernel}/kernel"))
    return rows


def _module(folder: Path, arrays: Mapping[str, Stored]) -> T5:
    """The T5 that these arrays are of. Raises `SignerError` where they are of none."""

    def shape(name: str, axes: int) -> tuple[int, ...]:
        if name not in arrays or len(arrays[name].shape) != axes or 0 in arrays[name].shape:
            raise SignerError(f"{folder}: its checkpoint has no {name!r} of {axes} axes; give a T5 of t5x")
        return arrays[name].shape

    first = "encoder/layers_0"
    every = f"{first}/relpos_bias/rel_embedding" in arrays
    gated = f"{first}/mlp/wi_0/kernel" in arrays
    vocab_size, d_model = shape("token_embedder/embedding", 2)
    heads, buckets = shape(f"{first if every else 'encoder'}/relpos_bias/rel_embedding", 2)
    _, width = shape(f"{first}/attention/query/kernel", 2)
    _, d_ff = shape(f"{first}/mlp/{'wi_0' if gated else 'wi'}/kernel", 2)
    depth = {side: 1 + max((int(m[2]) for m in map(_LAYER.fullmatch, arrays) if m and m[1] == side), default=-1)
             for side in _SUBLAYERS}  # fmt: skip
    if not depth["decoder"]:
        raise SignerError(f"{folder}: holds the encoder of a T5 alone; give a whole one, as glosses need a decoder")
    if width % heads:
        raise SignerError(f"{folder}: its queries have width {width}, no multiple of {heads} heads; {_AGAIN}")
    return T5(
        vocab_size, d_model, width // heads, d_ff, heads, depth["encoder"], depth["decoder"], buckets, 128,
        "gated-gelu" if gated else "relu", tie_embeddings="decoder/logits_dense/kernel" not in arrays,
        relative_bias_every_layer=every, dropout=0.1,
    )  # fmt: skip


def _check_gate(folder: Path) -> None:
    """What gates a feed-forward layer is in no array, but in the gin file that lies beside published checkpoints."""
    for file in (*folder.glob("*.gin"), *folder.absolute().parent.glob("*.gin")):
        if not file.is_file():
            continue
        with outside.reading(file, "give another model"), file.open(errors="replace") as text:
            found = _GATE.search(text.read(_MOST_GIN))
        if found:
            raise SignerError(f"{file}: its layers are gated by {found[1]}, this T5's by gelu; give another model")


# ---- Files -----------------------------------------------------------------------------------------------------------


def _tree_of(folder: Path) -> Path | None:
    """The file that has the names."""
    places = (folder / inside / name for inside in _INSIDE for name in (ORBAX, MSGPACK))
    return next((place for place in places if place.is_file()), None)


def _arrays(folder: Path) -> Iterator[tuple[str, Stored]]:
    """The parameters by their names, those of a scanned array layer by layer under the names of unscanned ones."""
    file = _tree_of(folder)
    if file is None:
        raise SignerError(f"{folder}: is no t5x checkpoint; give its folder, which holds a file {MSGPACK!r} or state/")
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": _CACHE}})
    leaves = _of_orbax(file, context) if file.name == ORBAX else _of_msgpack(file, context)
    size = sum(one.stat().st_size for one in file.parent.rglob("*") if one.is_file())
    for name, array in leaves:
        where = f"{folder}: {name[:200]}"
        kind = BY_NAME.get(str(np.dtype(getattr(array.dtype, "numpy_dtype", array.dtype))))
        if kind is None:
            raise SignerError(f"{where}: has type {array.dtype}, which is not read; save it as bfloat16 or float32")
        if math.prod(array.shape) > _MOST_NUMBERS * size:  # before memory is asked for
            raise SignerError(f"{where}: has the shape {tuple(array.shape)}, which its files cannot hold; {_AGAIN}")
        if found := _SCANNED.fullmatch(name):
            side, rest = next((found[i], found[i + 1]) for i in (1, 3) if found[i])
            layers = array.shape[1] if len(array.shape) > 1 else 0
            if not 0 < layers <= _MOST_LAYERS:
                raise SignerError(f"{where}: has {layers} layers along its second axis; {_AGAIN}")
            shape = _merged(rest, (array.shape[0], *array.shape[2:]))
            for i in range(layers):
                yield f"{side}/layers_{i}/{rest}", Stored(where, shape, kind, array, i)
        else:
            yield name, Stored(where, _merged(name, tuple(array.shape)), kind, array)


def _merged(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Heads and their width as one axis: the last two of a query's, key's or value's kernel, an output's first two."""
    if len(shape) != 3 or not name.endswith("kernel"):
        return shape
    first, last = (math.prod(shape[:2]), shape[2]) if name.endswith("out/kernel") else (shape[0], math.prod(shape[1:]))
    return first, last


def _of_msgpack(file: Path, context: Any) -> Iterator[tuple[str, Any]]:
    with outside.reading(file, "give a smaller model"):
        data = file.read_bytes()
        try:
            tree = serialization.msgpack_restore(data)
            tree = tree.get("optimizer", tree)
            target = tree["target"]
            flat = flatten_dict(target, sep="/", is_leaf=lambda _, value: _is_spec(value))
        except Exception as error:  # the bytes are anybody's, and msgpack, flax and numpy each have errors
            raise _damaged(file, error) from None
    for name, value in flat.items():
        if isinstance(value, str) and value.startswith(_PLACEHOLDER):
            value = _opened(file.parent, value.removeprefix(_PLACEHOLDER), context)
        elif _is_spec(value):
            place = value["kvstore"].get("path", value.get("path", ""))
            value = _opened(file.parent, str(place).rstrip("/"), context)
        if not hasattr(value, "dtype"):
            raise _damaged(file, TypeError(f"{name[:80]} is no array"))
        yield name, value


def _is_spec(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("kvstore"), dict)


def _of_orbax(file: Path, context: Any) -> Iterator[tuple[str, Any]]:
    with outside.reading(file, "give a smaller model"):
        try:
            about = read_json(file, LISTS)
            found = [[str(key["key"]) for key in one["key_metadata"]] for one in about["tree_metadata"].values()]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(file, error, "Orbax") from None
    found = [keys for keys in found if keys and keys[0] == "target"]
    if not found:
        raise SignerError(f"{file.parent}: is an Orbax checkpoint without 'target', so of no t5x; give one of t5x")
    for keys in found:
        driver = "zarr3" if about.get("use_zarr3") else "zarr"
        yield "/".join(keys[1:]), _opened(file.parent, ".".join(keys), context, driver)


def _opened(folder: Path, name: str, context: Any, driver: str = "zarr") -> Any:
    """A tensorstore, whole: what of its chunks is missing would be read as zeros."""
    where = f"{folder / name}"
    if not name or Path(name).name != name or "\\" in name:
        raise SignerError(f"{folder}: names {name[:60]!r}, which is no array beside it; {_AGAIN}")
    ocdbt = (folder / "manifest.ocdbt").is_file()
    files: dict[str, Any] = {"driver": "file", "path": f"{(folder if ocdbt else folder / name).absolute()}/"}
    store = {"driver": "ocdbt", "base": files, "path": f"{name}/"} if ocdbt else files
    try:
        spec = {"driver": driver, "kvstore": store, "recheck_cached_data": "open"}
        array = tensorstore.open(spec, open=True, read=True, context=context).result()
        stored = array.storage_statistics(query_fully_stored=True).result().fully_stored
    except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
        raise _damaged(where, error) from None
    if not stored:
        raise SignerError(f"{where}: some of its chunks are missing; {_AGAIN}")
    return array


def _damaged(where: str | Path, error: BaseException, kind: str = "t5x") -> SignerError:
    return SignerError(f"{where}: is part of no whole {kind} checkpoint ({outside.reason_of(error)[:160]}); {_AGAIN}")
