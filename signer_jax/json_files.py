"""JSON from outside: never more memory than the limit, whatever a file holds.

Python makes thirty times its bytes of a file of `{"":0},`, so a file's size alone bounds little: 20 MB are 600. What it
would take is counted from its marks before it is parsed.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONFIG = 1 << 20  # bytes of a config, a note: published ones have kilobytes
MANIFEST = 1 << 23  # bytes of a manifest: a prepared set of a million samples has one of one to five
LISTS = 1 << 26  # bytes of what lists clips, signs, words or pieces: UMT5's vocabulary has 17 million
MOST_MEMORY = 1 << 28  # a corpus of 500,000 clips
# Bytes that CPython 3.10 to 3.13 takes at most for an object, a list, a name with its value, and an item.
_COSTS = {b"{": 64, b"[": 80, b":": 144, b",": 64}


def read_json(path: Path, most: int) -> Any:
    """The value of a plain file of at most `most` bytes of UTF-8, with or without a byte order mark.

    Raises `OSError` where it cannot be read, `ValueError` (or `RecursionError`) where it is too large or no JSON.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    return parse_json(data, most)


def parse_json(data: bytes, most: int, *, constants: Callable[[str], Any] | None = None) -> Any:
    """The value of JSON of at most `most` bytes; `constants` is given NaN and the infinities. Raises as `read_json`."""
    check_bounds(data, most)
    return json.loads(data.decode("utf-8-sig"), parse_constant=constants)


def check_bounds(data: bytes, most: int) -> None:
    """Raises `ValueError` for more than `most` bytes, or what takes more than `MOST_MEMORY` when it is parsed."""
    if len(data) > most:
        raise ValueError(f"it has more than {most >> 20} MB")
    # Letters beyond ASCII may take the whole text four bytes each.
    memory = len(data) * (2 if data.isascii() else 5) + sum(data.count(mark) * cost for mark, cost in _COSTS.items())
    if memory > MOST_MEMORY:
        raise ValueError(f"its {len(data)} bytes may take {memory >> 20} MB of memory, more than {MOST_MEMORY >> 20}")
