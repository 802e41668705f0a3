"""What the samples of a set are compared by, in a file: as many rows as there are samples, which no memory is to hold.

Names, parts of files, sentences, signers, recordings and lengths, one row a value and split with the first sample that
has it and the number of those that do. The file is SQLite's, of one process, and goes when the report is written.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

_PAGES = -8192  # KiB of the file that are held
_TABLES = (
    "CREATE TABLE first (kind TEXT, split TEXT, value BLOB, name BLOB, times INTEGER, "
    "PRIMARY KEY (kind, split, value)) WITHOUT ROWID",
    "CREATE TABLE length (split TEXT, micros INTEGER, times INTEGER, PRIMARY KEY (split, micros)) WITHOUT ROWID",
)
_BOTH = "first one JOIN first other ON other.kind = one.kind AND other.split = ? AND other.value = one.value"


class Compared:
    """Raises `sqlite3.Error` where the file cannot be written."""

    def __init__(self, file: Path) -> None:
        # No file system's locks, which some lack, and no journal: nobody else has the file, and no kill leaves it.
        self._file = sqlite3.connect(f"{file.absolute().as_uri()}?nolock=1", uri=True, isolation_level=None)
        for words in (f"PRAGMA cache_size = {_PAGES}", "PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF",
                      *_TABLES, "BEGIN"):  # fmt: skip
            self._file.execute(words)

    def __enter__(self) -> "Compared":
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def first(self, kind: str, split: str, value: str, name: str) -> str | None:
        """The first sample of a split with this value, None where that is the one of this name, just now."""
        row = (kind, split, _bytes(value))
        if self._file.execute("INSERT OR IGNORE INTO first VALUES (?, ?, ?, ?, 1)", (*row, _bytes(name))).rowcount:
            return None
        where = "WHERE kind = ? AND split = ? AND value = ?"
        self._file.execute(f"UPDATE first SET times = times + 1 {where}", row)
        return _text(self._file.execute(f"SELECT name FROM first {where}", row).fetchone()[0])

    def has(self, kind: str, split: str) -> bool:
        words = "SELECT 1 FROM first WHERE kind = ? AND split = ? LIMIT 1"
        return self._file.execute(words, (kind, split)).fetchone() is not None

    def shared(self, kind: str, one: str, other: str, most: int) -> tuple[int, list[int], list[tuple[str, str]]]:
        """How many values two splits have in common, how many samples of each split have one of these, and samples of
        the first values, in their order.
        """
        where = f"FROM {_BOTH} WHERE one.kind = ? AND one.split = ?"
        asked = (other, kind, one)
        sums = "COUNT(*), TOTAL(one.times), TOTAL(other.times)"
        count, *samples = map(int, self._file.execute(f"SELECT {sums} {where}", asked).fetchone())
        words = f"SELECT one.name, other.name {where} ORDER BY one.value LIMIT ?"
        return count, samples, [(_text(a), _text(b)) for a, b in self._file.execute(words, (*asked, most))]

    def in_several(self, kind: str, most: int) -> tuple[int, list[str]]:
        """How many values are in more than one split, and the first in their order."""
        where = "FROM first WHERE kind = ? GROUP BY value HAVING COUNT(*) > 1"
        (count,) = self._file.execute(f"SELECT COUNT(*) FROM (SELECT value {where})", (kind,)).fetchone()
        found = self._file.execute(f"SELECT value {where} ORDER BY value LIMIT ?", (kind, most))
        return count, [_text(value) for (value,) in found]

    def lasts(self, split: str, seconds: float) -> None:
        words = "INSERT INTO length VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1"
        self._file.execute(words, (split, round(seconds * 1e6)))

    def lengths(self, split: str) -> Iterator[tuple[int, int]]:
        """Microseconds from the shortest on, and how many samples have them."""
        yield from self._file.execute("SELECT micros, times FROM length WHERE split = ? ORDER BY micros", (split,))


def _bytes(text: str) -> bytes:
    """In the texts' own order; a name may hold what is no UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
