"""What a corpus had to leave out: a line for each of the first, a count at the end, an error where it is too much."""

import sys
from pathlib import Path

from tqdm import tqdm

from signer_jax.errors import SignerError, one_line

_SHOWN = 5


class LeftOut:
    """Counts the `items` ("rows") of a source of `total` that are left out; says so on standard error."""

    def __init__(self, source: Path, items: str, total: int) -> None:
        self._source, self._items, self._total = source, items, total
        self._first, self._count = "", 0

    def add(self, what: str) -> None:
        """Leaves one out; `what` names it and says why. Raises `SignerError` once they are more than half of all."""
        self._first, self._count = self._first or what, self._count + 1
        if 2 * self._count > self._total:
            raise SignerError(
                f"{self._source}: more than half of its {self._total} {self._items} cannot be read (the first: "
                f"{self._first}); check or download them again"
            )
        if self._count <= _SHOWN:
            _say(f"{self._source}: left out: {what}")

    def end(self) -> None:
        """Says how many were left out."""
        if self._count:
            _say(f"{self._source}: {self._count} of {self._total} {self._items} left out")

    def say(self, what: str) -> None:
        """A line of what is to be known of the source."""
        _say(f"{self._source}: {what}")


def _say(line: str) -> None:
    tqdm.write(f"signer: {one_line(line)}", file=sys.stderr)  # above a progress bar
