"""Which of a dataset's items are a worker's: a range of each split's list, which is counted before the work begins.

Ranges, so that what lies side by side in a dataset is read by one worker (the sentences of a recording, the lines of a
file of poses), and the set has the order of its dataset however many make it. They go by the items' number alone, those
that are left out included, so that a file that somebody mended moves no other item to another worker.
"""

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from signer_jax.data.datasets.item import Found, Item
from signer_jax.data.prepared import gone
from signer_jax.data.prepared.layout import relative
from signer_jax.errors import SignerError
from signer_jax.progress import progress

RANGES = "ranges"
TURNS = "turns"  # every n-th item, as in sets that were begun before there were ranges
_HELD = 50_000  # items of a split, of about 1 KB: a longer list is walked again
_PATIENCE = 2.0  # seconds, after which a worker says that it counts
_MARK = 8  # bytes


@dataclass(frozen=True)
class Listing:
    """A split's items as they were counted. Each worker's list must be the same, else the shares are of no whole."""

    count: int
    sha256: str
    marks: "array[int]"  # of each item, by which it is known when it comes again
    efforts: bytes  # of each item, see `effort`
    names: "array[int]"  # of each item, as `gone` knows them
    gives: bytes  # of each item, see `gone.given`
    held: tuple[Found, ...] | None  # all of them, where they are few

    def json(self) -> dict[str, Any]:
        return {"items": self.count, "sha256": self.sha256}


def counted(items: Iterable[Found], source: Path, shares: str, what: str) -> Listing:
    """Walks a split's items; says so, as `what`, where it takes long."""
    said = hashlib.sha256(b"" if shares == TURNS else shares.encode())  # programs that share otherwise find others
    marks, names, efforts, gives, held = array("Q"), array("Q"), bytearray(), bytearray(), list[Found]()
    for found in progress(items, what, delay=_PATIENCE, unit="item"):
        told_of = told(found, source)
        said.update(told_of)
        marks.append(_mark(told_of))
        names.append(gone.mark_of(found.name))
        efforts.append(effort(found))
        gives.append(gone.given(found))
        if len(marks) <= _HELD:
            held.append(found)
    few = len(marks) <= _HELD
    kept = tuple(held) if few else None
    return Listing(len(marks), said.hexdigest(), marks, bytes(efforts), names, bytes(gives), kept)


def effort(found: Found) -> int:
    """Where an item's time goes: 2 to its video or pose, 1 to its text, 0 nowhere, as it is left out."""
    if not isinstance(found, Item):
        return 0
    return 1 if found.video is None and found.pose is None else 2


def share(count: int, worker: int, workers: int, shares: str) -> slice:
    """The places of a worker's items among `count`."""
    if shares == TURNS:
        return slice(worker, count, workers)
    return slice(count * worker // workers, count * (worker + 1) // workers, 1)


def own(
    listing: Listing, items: Callable[[], Iterable[Found]], source: Path, places: slice
) -> Iterator[Found]:  # fmt: skip
    """The items at these places, one after the other; `items` are walked where none are held, and no further than to
    the last. Raises `SignerError` where others come than were counted.
    """
    if listing.held is not None:
        yield from listing.held[places]
        return
    marks = listing.marks[places]
    place = 0
    for place, found in enumerate(islice(items(), places.start, places.stop, places.step), start=1):
        if _mark(told(found, source)) != marks[place - 1]:
            raise SignerError(f"{source}: changed while it was read, {found.name!r} is another item; start again")
        yield found
    if place < len(marks):
        raise SignerError(f"{source}: changed while it was read, {len(marks) - place} items are gone; start again")


def _mark(told_of: bytes) -> int:
    return int.from_bytes(hashlib.sha256(told_of).digest()[:_MARK])


def told(found: Found, source: Path) -> bytes:
    """What the dataset says of an item, wherever its folder lies."""
    if isinstance(found, Item):
        video, pose = (path and Path(relative(path, source)) for path in (found.video, found.pose))
        found = replace(found, video=video, pose=pose)
    else:
        found = replace(found, detail=found.detail.replace(f"{source}{os.sep}", ""))
    return repr(found).encode("utf-8", "surrogateescape")
