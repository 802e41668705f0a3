"""Parameters that are read when it is their turn to be written: some at a time, each given back when all of it was
taken, so that no model is ever whole in memory.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

Read = Callable[[list[str]], Mapping[str, Any]]  # parameters by these paths, arrays of any kind


class Later:
    """An array that is read when it is first indexed. What is taken of it is taken once."""

    def __init__(self, shape: tuple[int, ...], take: Callable[[], Any], give_back: Callable[[], None]) -> None:
        self.shape = shape
        self._take, self._give_back, self._left = take, give_back, math.prod(shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        part = np.asarray(self._take()[index])
        self._left -= part.size
        if self._left <= 0:
            self._give_back()
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype)


def later(shapes: Mapping[str, tuple[int, ...]], read: Read, *, together: int) -> dict[str, Later]:
    """The parameters of these paths, none read yet. Neighbours of at most `together` bytes in float32 are read in one
    call, a larger one alone; each path is asked for once.
    """
    group_of: dict[str, list[str]] = {}
    for group in grouped({name: 4 * math.prod(shape) for name, shape in shapes.items()}, together):
        group_of |= dict.fromkeys(group, group)
    there: dict[str, Any] = {}

    def take(name: str) -> Any:
        if name not in there:
            there.update(read(group_of[name]))
        return there[name]

    def one(name: str, shape: tuple[int, ...]) -> Later:
        return Later(shape, lambda: take(name), lambda: there.pop(name, None))

    return {name: one(name, shape) for name, shape in shapes.items()}


def grouped(sizes: Mapping[str, int], together: int) -> Iterable[list[str]]:
    """The names, in their order, those of at most so many bytes together."""
    groups: list[list[str]] = []
    size = 0
    for name, bytes_ in sizes.items():
        if not groups or size + bytes_ > together:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += bytes_
    return groups
