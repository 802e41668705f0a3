"""Long encodings in parts that outlive a kill: a part is written whole or not at all, and is not encoded again.

Beside the folder that is to be stands `begun/`, with the parts that are done: ArrayRecord files `NAME.KEY.PART`, where
KEY is a hash of all that their records depend on. The whole folder takes them over as they are, by links, so that they
are on the disk once; then they are gone from `begun/`. Parts of another key are of no use, and are removed.

Of several processes, which share the folder, each makes a share of the parts that are missing. So all of them call
`there`, `made` and `put_together`, in that order; the first alone removes, and makes the folder of the parts.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import jax

from signer_jax import mirror, storage
from signer_jax.data.shards import Shard, file_of, new_shard
from signer_jax.distributed import first_does, first_tells, wait_for_all
from signer_jax.errors import SignerError
from signer_jax.mirror_places import shown
from signer_jax.progress import progress

FOLDER = "begun"
_SOON = 5.0  # seconds


class Work(NamedTuple):
    """A long encoding in parts."""

    key: Mapping[str, Any]  # what its records depend on, plain values
    counts: Sequence[int]  # how many records each part has
    # Those of some missing parts in a row, from number `first` to before `end`.
    records: Callable[[int, int], Generator[bytes, None, None]]
    compressed: bool = True  # as they are written: latents are not, which hardly become smaller

    def hash(self) -> str:
        """Of the key."""
        return hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()[:16]


def there(directory: Path) -> bool:
    """Whether the folder is there already, as the first process sees it."""

    def look() -> bool:
        storage.recover(directory)
        if not (directory.exists() and any(directory.iterdir())):
            return False
        clear(directory)  # of a run that was killed when it had made it whole
        return True

    return first_tells(f"{directory.name} there", look)


def told(name: str, make: Callable[[], Any]) -> Any:
    """What the first process makes (plain values) of what takes long to read, on all."""
    return first_tells(f"{name} told", make)


def made(directory: Path, work: Work) -> list[Path]:
    """The files of the parts of `directory`, those that were done before among them.

    Returns when all processes have made theirs.
    """
    place, counts = directory.parent / FOLDER, work.counts
    files = [place / f"{directory.name}.{work.hash()}.{part}.arrayrecord" for part in range(len(counts))]

    def missing() -> list[int]:
        place.mkdir(parents=True, exist_ok=True)
        clear(directory, but=files)
        absent = not_whole(files, counts)
        if kept := sum(counts) - sum(counts[part] for part in absent):
            where = shown(str(directory))
            print(
                f"signer: {where}: {kept} of {sum(counts)} records were made before a stop, and are kept",
                file=sys.stderr,
            )
        return absent

    make(directory.name, work, files, missing)
    return files


def make(
    name: str,
    work: Work,
    files: Sequence[Path],
    missing: Callable[[], list[int]],
    then: Callable[[Path], object] = lambda _: None,
) -> list[int]:
    """Makes the parts that are `missing`, as the first process finds them, each process a share of them; `then` sees
    each that it has made.

    Returns their numbers when all are made.
    """
    absent, counts = first_tells(f"{name} missing", missing), work.counts
    for run in _in_a_row(share(absent, jax.process_index(), jax.process_count())):
        _make([files[part] for part in run], [counts[part] for part in run],
              work.records(sum(counts[: run[0]]), sum(counts[: run[-1] + 1])), work.compressed, then)  # fmt: skip
    wait_for_all(f"{name} made")
    return absent


def share(parts: Sequence[int], process: int, processes: int) -> Sequence[int]:
    """A process's share of the parts: neighbours, as many as another's or one more; the first, whose bar is seen, has
    the single one.
    """
    ends = [-(-len(parts) * k // processes) for k in (process, process + 1)]
    return parts[ends[0] : ends[1]]


def _in_a_row(parts: Sequence[int]) -> Iterator[list[int]]:
    """The parts, those together that follow on each other."""
    for _, run in groupby(enumerate(parts), key=lambda one: one[1] - one[0]):
        yield [part for _, part in run]


def _make(
    files: Sequence[Path], counts: Sequence[int], rest: Generator[bytes, None, None], compressed: bool,
    then: Callable[[Path], object],
) -> None:  # fmt: skip
    """Writes parts in a row, of so many of these records each."""
    try:
        for file, count in zip(files, counts, strict=True):
            with storage.new_file(file) as partial, new_shard(partial, compressed=compressed) as write:
                written = 0
                for record in islice(rest, count):
                    write(record)
                    written += 1
                if written < count:
                    raise ValueError(f"{file.name}: {written} records of {count}")
            then(file)
        if next(rest, None) is not None:  # its end also ends its progress bar
            raise ValueError(f"{files[0].name}: more than {sum(counts)} records")
    finally:
        rest.close()


def put_together(directory: Path, do: Callable[[], object]) -> None:
    """Has the first process make the folder, of the parts and whatever else it has; then nothing of it is begun."""

    def whole() -> None:
        do()
        clear(directory)

    first_does(f"{directory.name} whole", whole)
    if mirror.place_of(directory):  # which each machine has one of
        clear(directory)


def take(files: Sequence[Path], folder: Path, name: str) -> None:
    """Puts the parts into the folder that is being made, as the records `name`: by links where there are any."""
    names = {file.name for file in files}
    for place in {file.parent for file in files}:
        mirror.bring(place, lambda _: False, names.__contains__)  # those of other machines
    for part, file in enumerate(progress(files, f"{name} taken", delay=_SOON)):  # copies of large ones take long
        target = folder / file_of(name, part)
        try:
            os.link(os.path.realpath(file), target)
        except OSError:
            shutil.copyfile(file, target)


def clear(directory: Path, but: Sequence[Path] = ()) -> None:
    """Removes what is begun of a folder, also what killed writers left of it, except some files."""
    place, kept = directory.parent / FOLDER, {file.name for file in but}
    if not place.is_dir():
        return
    # A part, or a writer's room for one (`storage`).
    form = re.compile(rf"\.?({re.escape(directory.name)}\.[0-9a-f]{{16}}\.\d+\.arrayrecord)(\..*\.partial)?")
    for name in {found[1] for path in place.iterdir() if (found := form.fullmatch(path.name))}:
        storage.sweep(place / name)
        if name not in kept:
            mirror.remove(place / name)
            (place / name).unlink(missing_ok=True)
    if not but:
        mirror.remove_matching(place, [f"{directory.name}.*.arrayrecord"])
        with suppress(OSError):  # other folders' are in it
            place.rmdir()


def not_whole(files: Sequence[Path], counts: Sequence[int]) -> list[int]:
    """The numbers of the parts that are not there, or not with all of their records."""
    return [part for part, (file, count) in enumerate(zip(files, counts, strict=True)) if not _whole(file, count)]


def _whole(file: Path, count: int) -> bool:
    """Whether a part is there, with all of its records."""
    try:
        mirror.fresh(file)
        return file.exists() and len(Shard(file, bytes, storage.REMAKE)) == count
    except SignerError:  # it is made anew
        return False
