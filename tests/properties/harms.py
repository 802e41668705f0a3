"""Harm to a file as hypothesis draws it, and what a reader may make of it: what the file holds, or one line."""

import atexit
import contextlib
import functools
import json
import math
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz import memory
from fuzz.child import SECONDS, judge, put
from fuzz.reader import Reader
from fuzz.readers import READERS
from hypothesis import settings
from hypothesis import strategies as st


def budget(examples: int) -> settings:
    """The same examples each time; `gives` has a limit of the process's own time, and a slow case is read again."""
    return settings(derandomize=True, max_examples=examples, deadline=None, database=None)


# ---- Bytes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """The file ends after a share of its bytes, or so many of them."""

    at: float

    def __call__(self, data: bytes) -> bytes:
        return data[: int(self.at) if self.at > 1 else int(self.at * len(data))]


@dataclass(frozen=True)
class Bits:
    """Some bits of a byte are others."""

    at: float
    bits: int

    def __call__(self, data: bytes) -> bytes:
        place = min(int(self.at * len(data)), len(data) - 1)
        return data[:place] + bytes([data[place] ^ self.bits]) + data[place + 1 :]


@dataclass(frozen=True)
class Over:
    """Other bytes stand from a place on: a length, a value. `at` as in `Cut`, negative from the end."""

    at: float
    new: bytes

    def __call__(self, data: bytes) -> bytes:
        place = int(self.at * len(data)) if abs(self.at) < 1 else int(self.at)
        place = max(0, len(data) + place) if place < 0 else place
        return data[:place] + self.new + data[place + len(self.new) :]


@dataclass(frozen=True)
class Doubled:
    """A stretch stands twice, or not at all."""

    at: float
    length: int
    times: int

    def __call__(self, data: bytes) -> bytes:
        place = int(self.at * len(data))
        return data[:place] + data[place : place + self.length] * self.times + data[place + self.length :]


@dataclass(frozen=True)
class Behind:
    """Something follows the end."""

    more: bytes

    def __call__(self, data: bytes) -> bytes:
        return data + self.more


@dataclass(frozen=True)
class Whole:
    """Other bytes altogether."""

    new: bytes

    def __call__(self, data: bytes) -> bytes:
        return self.new


Harm = Callable[[bytes], bytes]
_shares = st.one_of(st.floats(0, 0.999), st.floats(0, 0.02))  # headers stand in front
_numbers = st.sampled_from([0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
_lengths = st.builds(
    lambda number, width, order: (number % 256**width).to_bytes(width, order),
    _numbers, st.sampled_from([1, 2, 4, 8]), st.sampled_from(["little", "big"]),
)  # fmt: skip
harms: st.SearchStrategy[Harm] = st.one_of(
    st.builds(Cut, _shares), st.builds(Bits, _shares, st.integers(1, 255)), st.builds(Over, _shares, _lengths),
    st.builds(Doubled, _shares, st.integers(1, 200), st.sampled_from([0, 2, 3])),
    st.builds(Behind, st.binary(max_size=9)),
)  # fmt: skip
floats = st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -3e38, 1e7, -0.0, 1e-45])


# ---- JSON ------------------------------------------------------------------------------------------------------------

odd_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20),
        st.sampled_from(["../x", "/etc/passwd", "a\0b", "\x1b[2J", "\ud800", "e" + "\u0301" * 40, "x" * 100_000]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=6,
)  # fmt: skip
NESTED = (b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}")
NO_JSON = (b"", b"null", b"[1]", b'"text"', b"{", b'{"a": NaN}', b'{"a": "\xff"}', '{"a": 1}'.encode("utf-16"))


@dataclass(frozen=True)
class Put:
    """Another value stands at a place of the tree; the choices are taken modulo what is there."""

    path: tuple[int, ...]
    value: Any
    gone: bool = False

    def __call__(self, data: bytes) -> bytes:
        tree = json.loads(data)
        holder, key, value = None, None, tree
        for choice in self.path:
            if not isinstance(value, dict | list) or not value:
                break
            holder = value
            key = sorted(value)[choice % len(value)] if isinstance(value, dict) else choice % len(value)
            value = holder[key]
        if holder is None:
            tree = self.value
        elif self.gone:
            del holder[key]
        else:
            holder[key] = self.value
        return json.dumps(tree, ensure_ascii=False).encode("utf-8", "surrogatepass")


odd_json: st.SearchStrategy[Harm] = st.builds(
    Put, st.lists(st.integers(0, 60), max_size=6).map(tuple), odd_values, st.booleans()
)


@dataclass(frozen=True)
class Set:
    """The value of a key of the outermost object."""

    key: str
    value: Any

    def __call__(self, data: bytes) -> bytes:
        return json.dumps({**json.loads(data), self.key: self.value}).encode()


# ---- Tables ----------------------------------------------------------------------------------------------------------

cells = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["", " ", "nan", "1e400", "-1", "../a.pose", "/etc/passwd", "A\nB", '"', "\0", "\x1b[2J", "x" * 501,
         "y" * 200_000, "e" + "\u0301" * 40, "\u202eevil", "\ufeff", "\u2028"]
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """Another cell of a table whose cells end at `delimiter`; an encoding of it."""

    delimiter: str
    row: int
    column: int
    text: str
    encoding: str = "utf-8"

    def __call__(self, data: bytes) -> bytes:
        rows = [row.split(self.delimiter) for row in data.decode().splitlines()]
        row = rows[self.row % len(rows)]
        row[self.column % len(row)] = self.text
        return "\n".join(map(self.delimiter.join, rows)).encode(self.encoding, "replace")


def odd_cells(delimiter: str) -> st.SearchStrategy[Harm]:
    encodings = st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"])
    return st.builds(Cell, st.just(delimiter), st.integers(0, 9), st.integers(0, 9), cells, encodings)


# ---- What a reader makes of it ---------------------------------------------------------------------------------------


@functools.cache
def _kept(name: str) -> tuple[Reader, Path, dict[str, bytes]]:
    """A reader, its folder of valid files, and their bytes."""
    reader = next(reader for reader in READERS if reader.name == name)
    base = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    folder = Path(base) / "files"
    folder.mkdir()
    reader.make(folder)
    kept = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    memory.keep_little()
    for file, data in sorted(kept.items()):  # what is imported, or compiled, is no part of a case
        with contextlib.suppress(Exception):
            reader.read(folder, {file: data})
    return reader, folder, kept


def names(reader: str, ending: str = "") -> list[str]:
    return sorted(name for name in _kept(reader)[2] if name.endswith(ending))


def bytes_of(reader: str, name: str) -> bytes:
    return _kept(reader)[2][name]


def gives(reader: str, changes: dict[str, Harm], *, listed: bool = False) -> str:
    """ "" where the harmed files are read (and hold what `fuzz.readers` asks for), else the line that refuses them.

    Fails as the long run does (`fuzz.child.judge`): also for a warning, more than 2 s or more than 300 MB.
    `listed` has the manifest give the new sizes, so that the next check sees the harm.
    """
    how, folder, kept = _kept(reader)
    files = {name: harm(kept.get(name, b"")) for name, harm in changes.items()}
    if listed:
        manifest = json.loads(kept["manifest.json"])
        manifest["files"].update({name: len(data) for name, data in files.items() if name != "manifest.json"})
        files.setdefault("manifest.json", json.dumps(manifest).encode())
    for name, data in files.items():
        put(folder / name, data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            outcome, said = judge(how, folder, files, SECONDS, memory.used())
    finally:
        for name in files:
            if name in kept:
                put(folder / name, kept[name])
            else:
                (folder / name).unlink()
    assert outcome != "failed", said
    return said
