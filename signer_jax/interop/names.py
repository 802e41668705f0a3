"""One table of names for a published model: reading and writing walk its rows, and one check holds every shape.

A row pairs our parameter's path with their tensor's name. Where `{}` stands in theirs, for the number of the layer,
ours is stacked over the layers: all of them, or those that the row names.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from signer_jax.errors import SignerError
from signer_jax.interop import model_config


class Turn(NamedTuple):
    """How one of their tensors becomes one of ours, and back."""

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


def to_ours(
    path: str | Path, table: Sequence[Row], tensors: dict[str, np.ndarray], init: Callable[[], Any],
    optional: tuple[str, ...] = (),
) -> dict:  # fmt: skip
    """Our parameters, float32 numpy, from their tensors, which are used up; `init` is the module's `jax.eval_shape`.

    Raises `SignerError` for tensors that are missing, unknown (unless they end in one of `optional`) or of a shape that
    the config does not ask for.
    """
    leaves = flatten_dict(model_config.shapes(path, init)["params"], sep="/")
    expected = {ours: leaf.shape for ours, leaf in leaves.items()}
    assert expected.keys() == {row.ours for row in table}, expected.keys() ^ {row.ours for row in table}
    places = {row.ours: row.places(expected[row.ours]) for row in table}
    names = {row.ours: row.names(places[row.ours]) for row in table}
    check_names({name for some in names.values() for name in some}, set(tensors), path, optional)
    flat = {}
    for ours, _, turn, _ in table:
        leading = places[ours].shape
        shape, arrays = expected[ours][len(leading) :], []
        for name in names[ours]:
            arrays.append(turn.read(tensors.pop(name)))
            if arrays[-1].shape != shape:
                raise SignerError(
                    f"{path}: {name} makes {ours} of shape {arrays[-1].shape}, its config says {shape}; take both "
                    "files from one model"
                )
        flat[ours] = np.stack(arrays).reshape(leading + shape) if leading else np.ascontiguousarray(arrays[0])
    return unflatten_dict(flat, sep="/")


def to_theirs(table: Sequence[Row], params: Mapping) -> dict[str, np.ndarray]:
    """Their tensors of our parameters, float32."""
    flat = flatten_dict(dict(params), sep="/")
    tensors: dict[str, np.ndarray] = {}
    for row in table:
        value = np.asarray(flat[row.ours], np.float32)
        places = row.places(value.shape)
        one_each = value.reshape(places.size, *value.shape[places.ndim :])
        tensors |= {name: row.turn.write(one) for name, one in zip(row.names(places), one_each, strict=True)}
    return tensors


def check_names(used: set[str], found: set[str], path: str | Path, optional: tuple[str, ...] = ()) -> None:
    """Raises `SignerError` unless exactly the `used` tensors were `found` (those ending in `optional` may be extra)."""
    if missing := sorted(used - found):
        raise SignerError(
            f"{path}: lacks {len(missing)} tensors, the first {missing[0]!r}; is it the right model class?"
        )
    if extra := sorted(name for name in found - used if not name.endswith(optional or ("\0",))):
        raise SignerError(f"{path}: has {len(extra)} unknown tensors, the first {extra[0]!r}; is it the right class?")
