"""The progress bar of every long work."""

from collections.abc import Iterable
from typing import Any

import jax
from tqdm import tqdm


def progress(items: Iterable, what: str, **options: Any) -> tqdm:
    """A bar on standard error; silent on every process but the first."""
    return tqdm(items, desc=what, dynamic_ncols=True, mininterval=0.5, disable=jax.process_index() != 0, **options)
