"""What a set has and its source no longer gives: somebody took rows out of a table, moved videos away, or a disk lacks
some. Hours may have gone into such a sample, so none is thrown away that nobody asks for.

A sample is known by its name in its split. What the source gives of it is told by what its reader finds, before any
file is read, and once more by what came of it. A part whose items have the names that they had stays as it was; where
the list is another one it cannot, since each part has as many items.
"""

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt64

from signer_jax.data.datasets.item import Found, Item, composed
from signer_jax.data.prepared.layout import PARTS, table_of
from signer_jax.errors import SignerError, Trouble, one_line

_TEXT, _GLOSSES, _POSE, _VIDEO, _MADE = 1, 2, 4, 8, 16  # made: a pose, of the video
_WORDS = {_TEXT: "text", _GLOSSES: "glosses", _POSE: "pose", _VIDEO: "video"}
_SHOWN = 10  # names


def mark_of(name: str) -> int:
    """By which a name is known, of 8 bytes: that of an item is longer than what tells that it was left out."""
    said = one_line(composed(name)[:200])[:200]
    return int.from_bytes(hashlib.sha256(said.encode("utf-8", "surrogateescape")).digest()[:8])


def given(found: Found) -> int:
    """What a dataset gives of a sample."""
    if not isinstance(found, Item):
        return 0
    media = _POSE * (found.pose is not None) | _VIDEO * (found.video is not None)
    return _TEXT * bool(found.text) | _GLOSSES * bool(found.glosses) | media


def had(row: Mapping[str, Any], glosses_by: str) -> int:
    """What a part's row has of the source: neither the glosses of the program `glosses_by` nor poses that were made."""
    made = row["frames"] > 0 and bool(row["pose_by"])
    return (
        _TEXT * (row["words"] > 0) | _GLOSSES * (row["glosses"] > 0 and row["glosses_by"] != glosses_by)
        | _POSE * (row["frames"] > 0 and not made) | _VIDEO * (row["video_fps"] > 0) | _MADE * made
    )  # fmt: skip


def lacking(before: int, now: int) -> int:
    """What a sample had and has no more; the pose that was made of a video may be made of it again, or be ready."""
    video = _VIDEO * bool(before & _MADE and not now & (_POSE | _VIDEO | _MADE))
    return before & ~now & ~_MADE | video


@dataclass(frozen=True)
class Lost:
    """A sample that the set has in a part, and what of it the source no longer gives: "c1", or "c1: its pose"."""

    name: str
    part: str
    had: int
    lacks: int

    def __str__(self) -> str:
        if self.lacks == self.had & ~_MADE:
            return self.name
        return f"{self.name}: its {' and '.join(word for bit, word in _WORDS.items() if self.lacks & bit)}"


class Before:
    """What a worker's parts of a split have, before it begins."""

    def __init__(self, out: Path, parts: Iterable[str], glosses_by: str) -> None:
        self._out, self._by = out, glosses_by
        self.parts = sorted(parts)
        marks, bits = array("Q"), bytearray()
        for name in self.parts:
            for row in self._kept(name):
                marks.append(mark_of(row["name"]))
                bits.append(had(row, glosses_by))
        self._marks, self._bits = _sorted(np.array(marks, np.uint64), np.frombuffer(bits, np.uint8))

    def _kept(self, part: str) -> list[dict[str, Any]]:
        table = _table(self._out, part)
        return [row for row in table["kept"] if not row["prompt_by"]] if table else []

    def gone(self, names: Sequence[int], gives: bytes) -> list[Lost]:
        """What of it a split no longer gives, whose items have these marks and give this."""
        marks, bits = _sorted(np.array(names, np.uint64), np.frombuffer(gives, np.uint8))
        now = _found(marks, bits, self._marks)
        if not any(lacking(int(one), int(other)) for one, other in zip(self._bits, now, strict=True)):
            return []
        lost = []
        for part in self.parts:
            for row in self._kept(part):
                now = _found(marks, bits, np.array([mark_of(row["name"])], np.uint64))
                if lacks := lacking(was := had(row, self._by), int(now[0])):
                    lost.append(Lost(row["name"], part, was, lacks))
        return lost

    def forget(self, lost: Iterable[Lost]) -> None:
        """Asks for these no more."""
        marks = np.array([mark_of(one.name) for one in lost], np.uint64)
        self._bits = np.where(np.isin(self._marks, marks), 0, self._bits).astype(np.uint8)

    def fewer(self, part: str, rows: Iterable[Mapping[str, Any]], chunk: Iterable[Found]) -> list[Lost]:
        """What of it is lacking in the rows that were made of a part's items."""
        now = {mark_of(row["name"]): had(row, self._by) for row in rows if not row["prompt_by"]}
        lost = []
        for found in chunk:
            mark = mark_of(found.name)
            was = int(_found(self._marks, self._bits, np.array([mark], np.uint64))[0])
            if lacks := lacking(was, now.get(mark, 0)):
                lost.append(Lost(found.name, part, was, lacks))
        return lost

    def is_of(self, part: str, names: Iterable[int]) -> bool:
        """Whether a part's items have these marks."""
        table = _table(self._out, part)
        if table is None:
            return False
        there = [*self._kept(part), *table["left"]]
        return sorted(mark_of(one["name"]) for one in there) == sorted(names)


def parts_of(out: Path, split: str, worker: int, workers: int, far: Iterable[str] = ()) -> set[str]:
    """The parts of a worker that are there, also a file of one alone; `far` are files in the bucket alone."""
    own = f"{split}-{worker:04d}of{workers:04d}-"
    names = [file.name for file in (out / PARTS).glob(f"{own}*")] + [name.rpartition("/")[2] for name in far]
    return {name.partition(".")[0] for name in names if name.startswith(own)}


def told(lost: Sequence[Lost]) -> str:
    """How many samples, and which."""
    shown = ", ".join(map(str, lost[:_SHOWN])) + (f", and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else "")
    return f"{len(lost)} sample{'s'[: len(lost) != 1]} that the source no longer gives ({shown})"


def _table(out: Path, part: str) -> dict[str, Any] | None:
    """None where there is none, or a damaged one, which is made anew."""
    try:
        return table_of(out, part)
    except Trouble:
        raise
    except SignerError:
        return None


def _sorted(
    marks: UInt64[np.ndarray, " n"], bits: UInt8[np.ndarray, " n"]
) -> tuple[UInt64[np.ndarray, " m"], UInt8[np.ndarray, " m"]]:
    """Each mark once, in order, with what is told of it in all."""
    if not len(marks):
        return marks, bits
    order = np.argsort(marks, kind="stable")
    marks, starts = np.unique(marks[order], return_index=True)
    return marks, np.bitwise_or.reduceat(bits[order], starts)


def _found(
    marks: UInt64[np.ndarray, " m"], bits: UInt8[np.ndarray, " m"], wanted: UInt64[np.ndarray, " n"]
) -> UInt8[np.ndarray, " n"]:
    """The bits of each wanted mark, 0 of what is not there."""
    if not len(marks):
        return np.zeros(len(wanted), np.uint8)
    at = np.minimum(np.searchsorted(marks, wanted), len(marks) - 1)
    return np.where(marks[at] == wanted, bits[at], 0).astype(np.uint8)
