"""Long encodings in parts that outlive a kill: a part is written whole or not at all, and is not encoded again.

Beside the folder that is to be stands `begun/`, with the parts that are done: ArrayRecord files `NAME.KEY.PART`, where
KEY is a hash of all that their records depend on. The whole folder takes them over as they are, by links, so that they
are on the disk once; then they are gone from `begun/`. Parts of another key are of no use, and are removed.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from signer_jax import storage
from signer_jax.data.shards import Shard, file_of, new_shard
from signer_jax.errors import SignerError

FOLDER = "begun"


def made(
    directory: Path,
    key: Mapping[str, Any],
    counts: Sequence[int],
    records: Callable[[int], Generator[bytes, None, None]],
) -> list[Path]:
    """The files of the parts of `directory`, of `counts` records each, those that were done before among them.

    `key`: what the records depend on, plain values. `records(first)` gives them from number `first` on, to the end; it
    is asked where a part is missing, of the first that is.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    place = directory.parent / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    files = [place / f"{directory.name}.{digest}.{part}.arrayrecord" for part in range(len(counts))]
    clear(directory, but=files)
    done = 0
    while done < len(files) and _whole(files[done], counts[done]):
        done += 1
    first = sum(counts[:done])
    if done:
        print(
            f"signer: {directory}: {first} of {sum(counts)} records were made before a stop, and are kept",
            file=sys.stderr,
        )
    if done == len(files):
        return files
    rest = records(first)
    try:
        for file, count in zip(files[done:], counts[done:], strict=True):
            with storage.new_file(file) as partial, new_shard(partial) as write:
                written = 0
                for record in islice(rest, count):
                    write(record)
                    written += 1
                if written < count:
                    raise ValueError(f"{file.name}: {written} records of {count}")
        if next(rest, None) is not None:  # its end also ends its progress bar
            raise ValueError(f"{directory.name}: more than {sum(counts)} records")
    finally:
        rest.close()
    return files


def take(files: Sequence[Path], folder: Path, name: str) -> None:
    """Puts the parts into the folder that is being made, as the records `name`: by links where there are any."""
    for part, file in enumerate(files):
        target = folder / file_of(name, part)
        try:
            os.link(file, target)
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
            (place / name).unlink(missing_ok=True)
    if not but:
        with suppress(OSError):  # other folders' are in it
            place.rmdir()


def _whole(file: Path, count: int) -> bool:
    """Whether a part is there, with all of its records."""
    try:
        return file.exists() and len(Shard(file, bytes, storage.REMAKE)) == count
    except SignerError:  # it is made anew
        return False
