"""The progress bar of every long work."""

from collections.abc import Iterable
from typing import Any

import jax
from tqdm import tqdm


def progress(items: Iterable, what: str, *, shown: bool = True, **options: Any) -> tqdm:
    """A bar on standard error, where it is `shown`; silent on every process but the first."""
    silent = not shown or jax.process_index() != 0
    return tqdm(items, desc=what, dynamic_ncols=True, mininterval=0.5, disable=silent, **options)
