"""The progress bar of every long work."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
from tqdm import tqdm


class _Bar(tqdm):
    """A bar that appears with its first item: what is refused before there is one leaves its line alone.

    With a `delay` (seconds) it appears after that time.
    """

    iterable: Iterable
    delay: float

    def __init__(self, items: Iterable, *, delay: float = 0.0, **options: Any) -> None:
        self.at_once = not delay
        super().__init__(items, delay=delay or 1e-3, **options)  # a delay keeps tqdm from drawing without an item

    def __iter__(self) -> Iterator:
        self.iterable = self._begun(self.iterable)
        return super().__iter__()

    def update(self, n: float | None = 1) -> bool | None:
        """Counts by hand; the bar appears with the first count."""
        self._begin()
        return super().update(n)

    def _begin(self) -> None:
        if self.at_once and not self.disable and self.delay:
            self.delay = 0.0  # from here on as ever, the last state at the end too
            self.refresh()

    def _begun(self, items: Iterable) -> Iterator:
        for count, item in enumerate(items):
            if count == 0:
                self._begin()
            yield item


def progress(items: Iterable, what: str, *, shown: bool = True, **options: Any) -> tqdm:
    """A bar on standard error from the first item on, where it is `shown`; silent on every process but the first."""
    silent = not shown or jax.process_index() != 0
    return _Bar(items, desc=what, dynamic_ncols=True, mininterval=0.5, disable=silent, **options)
