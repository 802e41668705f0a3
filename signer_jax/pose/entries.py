"""The signs of a pose database, and its index: which frames are a sign's, and which signs a name finds.

The index is a few arrays that are mapped, not read. `texts.npy` holds every text once, UTF-8 on end, `text_ends.npy`
where each ends; `entries.npy` a row a field of `Entry` and a column a sign (texts by their numbers, the quality in
millionths); `keys.npy` the hashes of all names, sorted, and `postings.npy` beside each the sign that it names, the
preferred first. So opening reads nothing of it, and a name is found by a binary search. Two names of one hash would
find each other's signs: of a million names that happens once in 40 million databases.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np

from signer_jax.arrays import open_npy
from signer_jax.errors import piled
from signer_jax.pose import gloss_marks
from signer_jax.writing import plain

REST = "<rest>"  # the gloss of a signer's rest pose: one frame, from which and to which a sentence moves
LONGEST = 500  # characters of an entry's text
NO_PRIORITY = 1_000_000  # of an entry that has none: after all that have one
FILES = ("entries.npy", "texts.npy", "text_ends.npy", "keys.npy", "postings.npy")
# What a name may be to a sign.
GLOSS, FOLDED, NAME, MEANING, FORM, RESTING = "gloss", "folded", "name", "meaning", "form", "rest"

_TEXTS = ("gloss", "language", "signer", "source", "words", "spoken", "forms")
_NUMBERS = ("start", "end", "variant", "priority", "quality")
_ROWS = {name: row for row, name in enumerate((*_TEXTS, *_NUMBERS))}
_PARTS = 1_000_000  # of a quality
_REMEMBERED = 4096  # signs that were asked for: a bound of memory
_BETWEEN_PARTS = re.compile(r"[-_+^\s]+")  # of a compound: ICE_CREAM, ICE-CREAM, ICE CREAM
_I = str.maketrans("İı", "ii")
_BETWEEN_MEANINGS = re.compile(r"[,;|]")


@dataclass(frozen=True)
class Entry:
    """One way to sign a gloss. `start` (included) and `end` (excluded) are frames of the database, set by `build`.

    `language` is the IANA code of the sign language; `variant` counts the ways to sign a gloss from 0; a lower
    `priority` is preferred, of equals the higher `quality` (0 to 1, see `quality.py`; where it is 0, `build` measures
    it); `source` says where the pose came from. `words` are what the sign means, separated by commas, in the spoken
    language `spoken` (as the lexicon names it), `forms` other forms of these (went for go), separated likewise.
    """

    gloss: str
    language: str
    signer: str = ""
    start: int = 0
    end: int = 0
    variant: int = 0
    source: str = ""
    priority: int = 0
    words: str = ""
    spoken: str = ""
    forms: str = ""
    quality: float = 0.0


def check_entry(entry: Entry) -> Entry:
    """The entry, where every field is of its type and its texts can be kept. Raises `TypeError` or `ValueError`."""
    for field in fields(Entry):
        if type(getattr(entry, field.name)) is not type(field.default if field.default is not MISSING else ""):
            raise TypeError(f"{field.name} of an entry is {getattr(entry, field.name)!r}")
    texts = [getattr(entry, name) for name in _TEXTS]
    "".join(texts).encode()  # JSON may hold half characters
    if max(map(len, texts)) > LONGEST:
        raise ValueError(f"{entry.gloss[:20]!r} has a text of more than {LONGEST} characters")
    if any(map(piled, texts)):
        raise ValueError(f"{entry.gloss[:20]!r} piles more than 30 marks on a letter")
    if not 0 <= entry.quality <= 1:
        raise ValueError(f"the quality of {entry.gloss[:20]!r} is {entry.quality}")
    return entry


def ranked(entries: Sequence[Entry]) -> list[int]:
    """The places of the entries, the preferred first: by priority, quality, signer, variant.

    What is shorter than the gloss's signs usually are may be cut off: its quality counts by the share of their median
    length (of two, the longer) that it has.
    """
    lengths: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in entries:
        lengths[one.gloss, one.language].append(one.end - one.start)
    usual = {name: max(1, sorted(found)[len(found) // 2]) for name, found in lengths.items()}

    def preference(place: int) -> tuple[int, float, str, int]:
        one = entries[place]
        whole = min(1.0, (one.end - one.start) / usual[one.gloss, one.language])
        return one.priority, -one.quality * whole, one.signer, one.variant

    return sorted(range(len(entries)), key=preference)


def folded(text: str) -> str:
    """Without case; the dotted and the dotless i of Turkish are one."""
    return plain(text).translate(_I).casefold().strip()


def bare(gloss: str) -> str:
    return _BETWEEN_PARTS.sub("-", folded(gloss))


def names(gloss: str) -> list[str]:
    """What else a gloss may be asked for as."""
    whole = plain(gloss).strip()
    found = [name for one in (whole, *gloss_marks.alternatives(whole)) for name in (one, *gloss_marks.names(one))]
    return [*found, shown] if (shown := gloss_marks.shown(whole)) else found


def several(text: str) -> Iterator[str]:
    """The meanings, or the forms, of which a text has several; folded."""
    return filter(None, map(folded, _BETWEEN_MEANINGS.split(text)))


def _keys(entry: Entry) -> set[tuple[str, str]]:
    if entry.gloss == REST:
        return {(RESTING, entry.signer)}
    found = {(GLOSS, entry.gloss), (FOLDED, folded(entry.gloss))}
    found |= {(NAME, bare(name)) for name in names(entry.gloss)}
    found |= {(MEANING, meaning) for meaning in several(entry.words)}
    return found | {(FORM, form) for form in several(entry.forms)}


def _hash(kind: str, key: str) -> int:
    return int.from_bytes(blake2b(f"{kind} {key}".encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def arrays_of(entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """The index of these entries: an array for each of `FILES`."""
    numbers = {REST: 0}  # so that a rest pose is known by its number
    table = np.zeros((len(_ROWS), len(entries)), np.int64)
    for i, entry in enumerate(entries):
        for name in _TEXTS:
            table[_ROWS[name], i] = numbers.setdefault(getattr(entry, name), len(numbers))
        for name in _NUMBERS[:-1]:
            table[_ROWS[name], i] = getattr(entry, name)
        table[_ROWS["quality"], i] = round(entry.quality * _PARTS)
    hashes: list[int] = []
    postings: list[int] = []
    for i in ranked(entries):
        for kind, key in sorted(_keys(entries[i])):
            hashes.append(_hash(kind, key))
            postings.append(i)
    keys = np.array(hashes, np.uint64)
    order = np.argsort(keys, kind="stable")
    texts = [text.encode() for text in numbers]
    return {
        "entries.npy": table,
        "texts.npy": np.frombuffer(b"".join(texts), np.uint8),
        "text_ends.npy": np.cumsum([len(text) for text in texts], dtype=np.int64),
        "keys.npy": keys[order],
        "postings.npy": np.array(postings, np.int32)[order],
    }


class Index:
    """An opened index. Whatever is asked for may raise `ValueError`: what is damaged is found where it is read."""

    def __init__(self, arrays: dict[str, np.ndarray], frames: int) -> None:
        """Looks at the arrays' shapes alone. Raises `ValueError` for others than `arrays_of` makes."""
        # Of plain views: a slice of numpy's class of mapped files is ten times as dear.
        table, texts, ends, keys, postings = (np.asarray(arrays[name]) for name in FILES)
        for array, dtype, ndim in ((table, "i8", 2), (texts, "u1", 1), (ends, "i8", 1), (keys, "u8", 1)):
            if array.dtype != np.dtype(dtype) or array.ndim != ndim:
                raise ValueError(f"an array of the index is {array.dtype} {array.shape}")
        if postings.dtype != np.int32 or postings.shape != keys.shape or len(table) != len(_ROWS) or not len(ends):
            raise ValueError(f"the index has {len(table)} rows, {len(keys)} names of {len(postings)} signs")
        self._table, self._texts, self._ends, self._keys, self._postings = table, texts, ends, keys, postings
        self._frames = frames
        self.entry = lru_cache(_REMEMBERED)(self._entry)

    @classmethod
    def open(cls, folder: Path, frames: int) -> "Index":
        return cls({name: open_npy(folder / name) for name in FILES}, frames)

    def __len__(self) -> int:
        return self._table.shape[1]

    def column(self, name: str) -> np.ndarray:
        """A field of all entries; a text's number for its text."""
        return self._table[_ROWS[name]]

    def signs(self) -> np.ndarray:
        """The numbers of the entries that are no rest poses, in the database's order."""
        return np.flatnonzero(self.column("gloss"))

    def text(self, number: int) -> str:
        """Raises `ValueError` for what is none."""
        if not 0 <= number < len(self._ends):
            raise ValueError(f"there is no text {number}")
        start, end = int(self._ends[number - 1]) if number else 0, int(self._ends[number])
        if not 0 <= start <= end <= min(len(self._texts), start + 4 * LONGEST):
            raise ValueError(f"a text goes from byte {start} to {end}")
        return self._texts[start:end].tobytes().decode()

    def _entry(self, number: int) -> Entry:
        row = self._table[:, number].tolist()
        texts = {name: self.text(row[_ROWS[name]]) for name in _TEXTS}
        start, end, variant, priority, quality = row[len(_TEXTS) :]
        entry = check_entry(
            Entry(**texts, start=start, end=end, variant=variant, priority=priority, quality=quality / _PARTS)
        )
        if not 0 <= entry.start < entry.end <= self._frames:
            raise ValueError(f"{entry.gloss!r} has frames {entry.start} to {entry.end} of {self._frames}")
        return entry

    def find(self, kind: str, key: str) -> list[Entry]:
        """The entries that a name of this kind finds, the preferred first."""
        wanted = np.uint64(_hash(kind, key))
        first = int(self._keys.searchsorted(wanted))
        if first == len(self._keys) or self._keys[first] != wanted:
            return []
        last = int(self._keys.searchsorted(wanted, "right"))
        numbers = self._postings[first:last].tolist()
        if numbers and not 0 <= min(numbers) <= max(numbers) < len(self):
            raise ValueError(f"{key[:40]!r} names a sign {numbers}")
        return [self.entry(number) for number in numbers]
