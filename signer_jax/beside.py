"""Calls of one program beside each other, where one alone leaves processors idle."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from typing import TypeVar

import jax

T = TypeVar("T")
R = TypeVar("R")
_AT_ONCE = 2  # calls


def beside(call: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map`, in order, for calls that compute on the devices and return host arrays; on one CPU device two at a time.

    XLA keeps little more than one core busy with a program of many small operations. The first call is made alone, for
    it may compile. Over several devices the calls follow each other: two programs with collectives would have to meet
    in the same order on each. On an accelerator nothing is won.
    """
    items = iter(items)
    if jax.default_backend() != "cpu" or jax.device_count() > 1 or (os.cpu_count() or 1) < 2:
        yield from map(call, items)
        return
    yield from map(call, islice(items, 1))
    mesh = jax.sharding.get_abstract_mesh()  # a thread's own: what is traced on another one is compiled anew

    def there(item: T) -> R:
        with nullcontext() if mesh.empty else jax.sharding.use_abstract_mesh(mesh):
            return call(item)

    begun: deque[Future[R]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for item in items:
            begun.append(pool.submit(there, item))
            if len(begun) > _AT_ONCE:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
