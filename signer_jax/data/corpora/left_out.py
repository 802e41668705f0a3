"""What a corpus had to leave out: a line for each of the first, a count at the end, an error where it is too much."""

import sys
from pathlib import Path

from tqdm import tqdm

from signer_jax.data.datasets.item import Left
from signer_jax.errors import SignerError, one_line

_SHOWN = 5


class LeftOut:
    """Counts the `items` ("rows") of a source that are left out; says so on standard error.

    `total` is how many there are, where that is known before the end.
    """

    def __init__(self, source: Path, items: str, total: int | None = None) -> None:
        self._source, self._items, self._total = source, items, total
        self._first, self.count = "", 0

    def add(self, what: Left | str) -> None:
        """Leaves one out: what a dataset's reader says of it, or a line that names it and says why.

        Raises `SignerError` once they are more than half of all.
        """
        line = _line(what) if isinstance(what, Left) else what
        self._first, self.count = self._first or line, self.count + 1
        self._check()
        if self.count <= _SHOWN:
            _say(f"{self._source}: left out: {line}")

    def end(self, total: int | None = None) -> None:
        """Says how many were left out, of `total` where that is known only now. Raises `SignerError` as `add`."""
        self._total = self._total if total is None else total
        self._check()
        if self.count:
            _say(f"{self._source}: {self.count} of {self._total} {self._items} left out")

    def say(self, what: str) -> None:
        """A line of what is to be known of the source."""
        _say(f"{self._source}: {what}")

    def _check(self) -> None:
        if self._total is not None and 2 * self.count > self._total:
            raise SignerError(
                f"{self._source}: more than half of its {self._total} {self._items} cannot be read (the first: "
                f"{self._first}); check or download them again"
            )


def _line(left: Left) -> str:
    named = "" if left.name in left.where else f", {left.name}"
    return f"{left.where}{named}: {left.reason}" + (f" ({left.detail})" if left.detail else "")


def _say(line: str) -> None:
    tqdm.write(f"signer: {one_line(line)}", file=sys.stderr)  # above a progress bar
