"""One table of names for a published model: reading and writing walk its rows, and one check holds every shape.

A row pairs our parameter's path with their tensor's name. Where `{}` stands in theirs, for the number of the layer,
ours is stacked over the layers: all of them, or those that the row names.
"""

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from signer_jax.errors import SignerError
from signer_jax.interop import model_config

Place = Callable[[str, tuple[int, ...]], jax.sharding.Sharding]  # a parameter's path and shape -> how it is split
FLOAT32, BFLOAT16 = np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)
# A parameter's path, and the type that holds what its files do -> the type that it is read in; None: it is not read.
Kind = Callable[[str, np.dtype], np.dtype | None]
Finish = Callable[[str, Any], Any]  # a parameter's path and value, as soon as it is read -> what is kept of it

# What the modules compute in float32 whatever `config.dtype` is, 1 % of a published model; and the autoencoder, whose
# latents training and signing must have alike. Rounding these would change what is computed.
_FLOAT32 = re.compile(r"^vae/|(^|/)(motion_encoder|[^/]*(norm|modulation|time|straight|relative_bias)[^/]*)(/|$)")
_LAYER = re.compile(r"\.\d+\.")  # a layer's number in their names


def held_as(path: str, dtype: np.dtype) -> np.dtype:
    """The type in which a parameter lies, in memory or in a file, where the others like it lie in `dtype`."""
    return FLOAT32 if _FLOAT32.search(path) else np.dtype(dtype)


def paths_of(table: Sequence["Row"], theirs: Iterable[str]) -> dict[str, str]:
    """The path of our parameter that each of their tensors is in, of those that are in one."""
    ours, found = {row.theirs: row.ours for row in table}, {}
    for name in theirs:
        path = ours.get(name, ours.get(_LAYER.sub(".{}.", name, count=1)))
        if path is not None:
            found[name] = path
    return found


def inside(place: Place | None, part: str) -> Place | None:
    """The place of parameters whose paths are given from `part` on."""
    return None if place is None else lambda name, shape: place(f"{part}/{name}", shape)


class Tensor(Protocol):
    """A numpy array, or a tensor of a file that is read where it is indexed (`state_dict.FileTensor`)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: Any) -> np.ndarray: ...


class Turn(NamedTuple):
    """How one of their tensors becomes one of ours, and back: axes change places, some are merged into one."""

    read: Callable[[np.ndarray], np.ndarray]
    write: Callable[[np.ndarray], np.ndarray]


SAME = Turn(lambda a: a, lambda a: a)
TRANSPOSED = Turn(lambda a: a.T, lambda a: a.T)
LEADING_ONE = Turn(lambda a: a[0], lambda a: a[None])


class Row(NamedTuple):
    ours: str
    theirs: str
    turn: Turn = SAME
    at: np.ndarray | None = None  # whole numbers, shaped as ours is stacked: the layers' numbers; None for 0, 1, 2, …

    def places(self, shape: tuple[int, ...]) -> np.ndarray:
        """The layers' numbers in the leading axes of ours, which has this shape; no axis where it is not stacked."""
        if "{}" not in self.theirs:
            return np.zeros((), int)
        return np.arange(shape[0]) if self.at is None else self.at

    def names(self, places: np.ndarray) -> list[str]:
        """Their tensors, one a layer where ours is stacked."""
        return [self.theirs.format(i) for i in places.ravel()]


def layer(ours: str, theirs: str, kernel: Turn = TRANSPOSED) -> list[Row]:
    """A kernel and its bias."""
    return [Row(f"{ours}/kernel", f"{theirs}.weight", kernel), Row(f"{ours}/bias", f"{theirs}.bias")]


def layer_norm(ours: str, theirs: str) -> list[Row]:
    return [Row(f"{ours}/scale", f"{theirs}.weight"), Row(f"{ours}/bias", f"{theirs}.bias")]


def stacked_at(rows: Sequence[Row], at: np.ndarray) -> list[Row]:
    """The rows, of the layers with these numbers."""
    return [row._replace(at=at) for row in rows]


class Described(NamedTuple):
    """A published model in a folder, looked at and not read: our module, and how its tensors become its parameters."""

    path: str | Path
    module: Any
    table: Sequence[Row]
    tensors: Mapping[str, Tensor]
    init: Callable[[], Any]  # the shapes of the module's variables (`shapes_of`)
    optional: tuple[str, ...] = ()  # endings of tensors that may be there and are not read

    def check(self) -> None:
        """Raises `SignerError` unless the folder has what the class needs; reads no tensor (`to_ours`)."""
        _checked(self.path, self.table, self.tensors, self.init, self.optional)

    def stored(self) -> dict[str, np.dtype]:
        """The type that each of our parameters is stored in. Raises `SignerError` as `check`."""
        _, _, names, _ = _checked(self.path, self.table, self.tensors, self.init, self.optional)
        return {ours: _stored([self.tensors[name] for name in theirs]) for ours, theirs in names.items()}

    def load(
        self, place: Place | None = None, kind: Kind | None = None, finish: Finish | None = None
    ) -> tuple[Any, dict]:
        """The module and its parameters (`to_ours`)."""
        read = to_ours(self.path, self.table, self.tensors, self.init, self.optional, place, kind, finish)
        return self.module, read


def shapes_of(
    module: Any, *inputs: jax.ShapeDtypeStruct, method: Callable | None = None, **options: jax.ShapeDtypeStruct
) -> Callable[[], Any]:
    """What gives the shapes of the variables that a Linen module has after a call with such inputs, without computing.

    The call is traced when they are first asked for, once a process for all modules that are equal: a folder is looked
    at several times before its tensors are read, and to trace takes longer than that.
    """
    return lambda: jax.tree.map(lambda leaf: leaf, _traced(module, method, inputs, tuple(sorted(options.items()))))


@functools.lru_cache(maxsize=64)
def _traced(module: Any, method: Callable | None, inputs: tuple, options: tuple) -> Any:
    init = functools.partial(module.init, method=method)
    return jax.eval_shape(init, jax.random.key(0), *inputs, **dict(options))


def to_ours(
    path: str | Path, table: Sequence[Row], tensors: Mapping[str, Tensor], init: Callable[[], Any],
    optional: tuple[str, ...] = (), place: Place | None = None, kind: Kind | None = None,
    finish: Finish | None = None,
) -> dict:  # fmt: skip
    """Our parameters from their tensors, float32 or as `kind` says; `init` gives their shapes (`shapes_of`).

    Numpy arrays; or, where `place` says how a parameter of a path and shape is split, arrays on the devices, of which
    this process reads what its own hold, every number once, and never has more than one shard on the host, in the type
    that it is read in. Of a split axis that a turn merges of several, which the layout table has nowhere, each shard
    reads all. `finish` is given each before the next is read.
    Raises `SignerError` for tensors that are missing, unknown (unless they end in one of `optional`) or of a shape that
    the config does not ask for, before any is read.
    """
    expected, places, names, axes = _checked(path, table, tensors, init, optional)
    flat: dict[str, Any] = {}
    for ours, _, turn, _ in table:
        shape, at = expected[ours], np.array(names[ours], object).reshape(places[ours].shape)
        dtype = FLOAT32 if kind is None else kind(ours, _stored([tensors[name] for name in names[ours]]))
        if dtype is None:
            continue

        def shard(
            index: tuple[slice, ...], at: np.ndarray = at, turn: Turn = turn, dtype: np.dtype = dtype
        ) -> np.ndarray:
            chosen, rest = np.asarray(at[index[: at.ndim]]), index[at.ndim :]
            parts = (_part(tensors[name], turn, axes[name], rest) for name in chosen.ravel())
            first = next(parts)
            if at.ndim == 0:
                return np.array(first, dtype, order="C")
            stack = np.empty((chosen.size, *first.shape), dtype)
            stack[0] = first
            for i, part in enumerate(parts, 1):
                stack[i] = part
            return stack.reshape(*chosen.shape, *first.shape)

        if place is None:
            flat[ours] = shard((slice(None),) * len(shape))
        else:
            flat[ours] = placed(shape, place(ours, shape), shard)
        if finish is not None:
            flat[ours] = finish(ours, flat[ours])
    return unflatten_dict(flat, sep="/")


def _stored(tensors: Sequence[Tensor]) -> np.dtype:
    """bfloat16 where all of these are stored in it, and float32, which holds that too, elsewhere."""
    return BFLOAT16 if all(getattr(tensor, "kind", "") == "BF16" for tensor in tensors) else FLOAT32


def placed(
    shape: tuple[int, ...], sharding: jax.sharding.Sharding, shard: Callable[[tuple[slice, ...]], np.ndarray]
) -> jax.Array:
    """An array on the devices, made shard by shard; a shard that several devices hold is made once."""
    holders: dict[tuple, list[jax.Device]] = {}
    indices = sharding.addressable_devices_indices_map(shape)
    for device, index in indices.items():
        holders.setdefault(tuple((cut.start, cut.stop) for cut in index or ()), []).append(device)
    on_devices: dict[jax.Device, jax.Array] = {}
    for devices in holders.values():
        made = shard(indices[devices[0]] or ())
        # Waited for: what is still on its way keeps its host memory.
        on_devices |= {device: jax.block_until_ready(jax.device_put(made, device)) for device in devices}
    return jax.make_array_from_single_device_arrays(shape, sharding, [on_devices[device] for device in indices])


def _checked(
    path: str | Path, table: Sequence[Row], tensors: Mapping[str, Tensor], init: Callable[[], Any],
    optional: tuple[str, ...],
) -> tuple[dict, dict, dict, dict]:  # fmt: skip
    """By our path the shape, the layers' numbers and their tensors' names; by these their axes (`_axes`)."""
    # Before a model of as many blocks as a config may ask for is traced, which takes a minute.
    alone = {row.theirs for row in table if "{}" not in row.theirs}
    check_names(alone, alone & tensors.keys(), path)
    leaves = flatten_dict(model_config.shapes(path, init)["params"], sep="/")
    expected = {ours: leaf.shape for ours, leaf in leaves.items()}
    assert expected.keys() == {row.ours for row in table}, expected.keys() ^ {row.ours for row in table}
    places = {row.ours: row.places(expected[row.ours]) for row in table}
    names = {row.ours: row.names(places[row.ours]) for row in table}
    check_names({name for some in names.values() for name in some}, set(tensors), path, optional)
    axes = {}
    for row in table:
        shape = expected[row.ours][places[row.ours].ndim :]
        for name in names[row.ours]:
            axes[name] = _check_shape(path, row, name, tuple(tensors[name].shape), shape)
    return expected, places, names, axes


def _check_shape(
    path: str | Path, row: Row, name: str, theirs: tuple[int, ...], ours: tuple[int, ...]
) -> tuple[int | None, ...]:
    """`_axes`. Raises `SignerError` where the tensor does not become what the config asks for."""
    try:
        axes, found = _axes(row.turn, theirs)
    except (ValueError, IndexError):  # it has not even the right number of dimensions
        axes, found = (), theirs
    if found != ours:
        raise SignerError(
            f"{path}: {name} makes {row.ours} of shape {found}, its config says {ours}; take both files from one model"
        )
    return axes


def _axes(turn: Turn, theirs: tuple[int, ...]) -> tuple[tuple[int | None, ...], tuple[int, ...]]:
    """Which axis of ours each of theirs becomes, and our shape; None for what is merged with others, or dropped.

    A turn only moves axes about, so it is tried on a small array, two along each axis, whose numbers say where they
    were.
    """
    small = tuple(min(size, 2) for size in theirs)
    turned = turn.read(np.arange(math.prod(small)).reshape(small))
    coordinates = np.unravel_index(turned, small)
    axes: list[int | None] = [
        next((i for i, along in enumerate(np.indices(turned.shape)) if size > 1 and (along == where).all()), None)
        for size, where in zip(small, coordinates, strict=True)
    ]
    merged = [size for size, axis in zip(theirs, axes, strict=True) if axis is None]
    shape = list(turned.shape)
    for size, axis in zip(theirs, axes, strict=True):
        if axis is not None:
            shape[axis] = size
    for i in set(range(turned.ndim)) - set(axes):
        # All that is merged goes into one axis, or is one number; what no turn does is caught by the shape's check.
        shape[i] = math.prod(merged) if turned.shape[i] > 1 else 1
    return tuple(axes), tuple(shape)


def _part(tensor: Tensor, turn: Turn, axes: tuple[int | None, ...], ours: tuple[slice, ...]) -> np.ndarray:
    """A slice of what `turn.read` makes of the tensor, from the slice of the tensor that it needs."""
    whole = slice(None)
    part = turn.read(np.asarray(tensor[tuple(whole if axis is None else ours[axis] for axis in axes)]))
    return part[tuple(whole if i in axes else cut for i, cut in enumerate(ours))]


class Theirs(NamedTuple):
    """One of their tensors as it is made of ours."""

    ours: str  # our parameter's path
    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]  # float32; the parameter is taken from the devices here, a layer of it alone


def theirs_of(table: Sequence[Row], params: Mapping) -> dict[str, Theirs]:
    """Their tensors of our parameters, none of them made yet."""
    flat = flatten_dict(dict(params), sep="/")
    tensors: dict[str, Theirs] = {}
    for row in table:
        value = flat[row.ours]
        places = row.places(value.shape)
        # A turn moves axes about: of an array without memory of its own it tells the shape.
        shape = row.turn.write(np.broadcast_to(np.float32(0), value.shape[places.ndim :])).shape
        for index, name in zip(np.ndindex(places.shape), row.names(places), strict=True):
            tensors[name] = Theirs(row.ours, shape, functools.partial(_written, row.turn, value, index))
    return tensors


def _written(turn: Turn, value: Any, index: tuple[int, ...]) -> np.ndarray:
    return turn.write(np.asarray(value[index] if index else value, np.float32))


def to_theirs(table: Sequence[Row], params: Mapping) -> dict[str, np.ndarray]:
    """Their tensors of our parameters, float32."""
    return {name: theirs.make() for name, theirs in theirs_of(table, params).items()}


def check_names(used: set[str], found: set[str], path: str | Path, optional: tuple[str, ...] = ()) -> None:
    """Raises `SignerError` unless exactly the `used` tensors were `found` (those ending in `optional` may be extra)."""
    if missing := sorted(used - found):
        raise SignerError(
            f"{path}: lacks {len(missing)} tensors, the first {missing[0]!r}; is it the right model class?"
        )
    if extra := sorted(name for name in found - used if not name.endswith(optional or ("\0",))):
        raise SignerError(f"{path}: has {len(extra)} unknown tensors, the first {extra[0]!r}; is it the right class?")
