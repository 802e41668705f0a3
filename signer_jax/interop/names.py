"""One table of names for a published model: reading and writing walk its rows, and one check holds every shape.

A row pairs our parameter's path with their tensor's name. Where `{}` stands in theirs, for the number of the layer,
ours is stacked over the layers.
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

    def names(self, layers: int) -> list[str]:
        """Their tensors, one a layer where ours is stacked."""
        return [self.theirs.format(i) for i in range(layers)] if "{}" in self.theirs else [self.theirs]


def layer(ours: str, theirs: str, kernel: Turn = TRANSPOSED) -> list[Row]:
    """A kernel and its bias."""
    return [Row(f"{ours}/kernel", f"{theirs}.weight", kernel), Row(f"{ours}/bias", f"{theirs}.bias")]


def layer_norm(ours: str, theirs: str) -> list[Row]:
    return [Row(f"{ours}/scale", f"{theirs}.weight"), Row(f"{ours}/bias", f"{theirs}.bias")]


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
    names = {row.ours: row.names(expected[row.ours][0]) for row in table}
    check_names({name for some in names.values() for name in some}, set(tensors), path, optional)
    flat = {}
    for ours, theirs, turn in table:
        stacked = "{}" in theirs
        shape, arrays = expected[ours][stacked:], []
        for name in names[ours]:
            arrays.append(turn.read(tensors.pop(name)))
            if arrays[-1].shape != shape:
                raise SignerError(
                    f"{path}: {name} makes {ours} of shape {arrays[-1].shape}, its config says {shape}; take both "
                    "files from one model"
                )
        flat[ours] = np.stack(arrays) if stacked else np.ascontiguousarray(arrays[0])
    return unflatten_dict(flat, sep="/")


def to_theirs(table: Sequence[Row], params: Mapping) -> dict[str, np.ndarray]:
    """Their tensors of our parameters, float32."""
    flat = flatten_dict(dict(params), sep="/")
    tensors: dict[str, np.ndarray] = {}
    for ours, theirs, turn in table:
        value = np.asarray(flat[ours], np.float32)
        if "{}" in theirs:
            tensors |= {theirs.format(i): turn.write(one) for i, one in enumerate(value)}
        else:
            tensors[theirs] = turn.write(value)
    return tensors


def check_names(used: set[str], found: set[str], path: str | Path, optional: tuple[str, ...] = ()) -> None:
    """Raises `SignerError` unless exactly the `used` tensors were `found` (those ending in `optional` may be extra)."""
    if missing := sorted(used - found):
        raise SignerError(
            f"{path}: lacks {len(missing)} tensors, the first {missing[0]!r}; is it the right model class?"
        )
    if extra := sorted(name for name in found - used if not name.endswith(optional or ("\0",))):
        raise SignerError(f"{path}: has {len(extra)} unknown tensors, the first {extra[0]!r}; is it the right class?")
