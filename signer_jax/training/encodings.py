"""Encodings that runs share: a folder of parts which `signer encode` makes and every run takes whose key is the same.

FOLDER/NAME.KEY/about.json            what the records depend on, and how many each part has
                PART.arrayrecord      whole or not there

NAME is what a run calls it (`latents`, `81x480x832`, `text_states`, …), KEY the hash of all that the records depend on:
weights, corpus, windows, bucket, type and precision (`begun.Work`). Any number of machines make it, each a share of the
parts that is its own, so that none waits for another. Nothing in it is ever changed or removed, and what a run reads of
it are links, or copies on another disk. In a bucket a worker sends each part there and keeps none; a run fetches them.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from signer_jax import mirror, storage
from signer_jax.distributed import first_does
from signer_jax.errors import SignerError
from signer_jax.json_files import LISTS, read_json
from signer_jax.mirror_places import shown
from signer_jax.outside import plain_file
from signer_jax.training import begun

KEY = "config.data.encoded"
KIND = "parts of an encoding"
_ABOUT = "about.json"
_HASH = "[0-9a-f]" * 16  # `Work.hash`
_SHOWN = 12  # letters of a hash


class Made(NamedTuple):
    """What a job has made of an encoding."""

    place: Path
    parts: int  # of the whole
    made: int  # by this job just now
    absent: int  # that are other workers', or lost


def parts(directory: Path, work: begun.Work, folder: str) -> list[Path]:
    """The parts of what a run keeps in `directory`: those in the shared `folder`; where it is "", made (`begun`)."""
    return found(mirror.set_of(folder, KEY), directory.name, work) if folder else begun.made(directory, work)


def found(folder: Path, name: str, work: begun.Work) -> list[Path]:
    """The files of an encoding that has been made. Raises `SignerError` where it is not there, or not whole."""
    place, files = _files(folder, name, work)

    def look() -> None:
        absent = _absent(files, work.counts)
        if not place.is_dir():
            raise SignerError(_other(folder, name, work.key))
        if absent:
            raise SignerError(
                f"{KEY} {folder}: {len(absent)} of {len(files)} parts of {place.name} are not there yet (the "
                f"first is {files[absent[0]].name}); the same `signer encode` makes them"
            )

    first_does(f"{name} found", look)
    return files


def make(folder: Path, name: str, work: begun.Work, worker: int, workers: int) -> Made:
    """Makes the parts that are missing of one worker's share, all processes of the job together."""
    place, files = _files(folder, name, work)
    mine = begun.share(range(len(files)), worker, workers)

    def missing() -> list[int]:
        place.mkdir(parents=True, exist_ok=True)
        about = {"made_by": storage.MADE_BY, "kind": KIND, "key": dict(work.key), "counts": list(work.counts)}
        if not mirror.there(place / _ABOUT):
            storage.write_file(place / _ABOUT, storage.to_json(about))
        absent = set(_absent(files, work.counts)) & set(mine)
        for part in absent:
            storage.sweep(files[part])  # what a killed start left
        if len(absent) < len(mine):
            kept = len(mine) - len(absent)
            where = shown(str(place))
            print(f"signer: {where}: {kept} of {len(mine)} parts were made before, and are kept", file=sys.stderr)
        return sorted(absent)

    made = begun.make(name, work, files, missing, mirror.leave_there)
    return Made(place, len(files), len(made), len(_absent(files, work.counts)))


def _absent(files: Sequence[Path], counts: Sequence[int]) -> list[int]:
    """As `begun.not_whole`. In a bucket a part is whole or not there, so none is fetched to be looked at."""
    if not files or mirror.place_of(files[0]) is None:
        return begun.not_whole(files, counts)
    there = mirror.bring(files[0].parent, _is_part)
    return [part for part, file in enumerate(files) if file.name not in there]


def _is_part(name: str) -> bool:
    return name.endswith(".arrayrecord")


def _files(folder: Path, name: str, work: begun.Work) -> tuple[Path, list[Path]]:
    """The place of an encoding, and the files of its parts."""
    place = folder / f"{name}.{work.hash()}"
    return place, [place / f"{part}.arrayrecord" for part in range(len(work.counts))]


def _other(folder: Path, name: str, key: Mapping[str, Any]) -> str:
    """The line for an encoding that is not there: what is nearest to it, and what that depends on otherwise."""
    mend = f"run `signer encode` with this run's config, or set {KEY}= to encode in the run"
    mirror.bring(folder, _is_part)
    if mirror.empty(folder):
        lacks = "nothing is there" if mirror.place_of(folder) else "no such folder"
        return f"{KEY} {folder}: {lacks}; {mend}"
    there = [(place.name, _key(place)) for place in sorted(folder.glob(f"{name}.{_HASH}")) if _key(place)]
    if not there:
        return f"{KEY} {folder}: holds no {name}; {mend}"
    apart = {place: _differing(theirs, key) for place, theirs in there}
    nearest = min(apart, key=lambda place: len(apart[place]))
    return f"{KEY} {folder}: the {name} there are others ({nearest}: {', '.join(apart[nearest])}); {mend}"


def _differing(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """What two keys do not have alike, in words."""
    names = [name for name in {**ours, **theirs} if theirs.get(name) != ours.get(name)]
    return [f"{name} {_short(theirs.get(name))}, this run's is {_short(ours.get(name))}" for name in names]


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:_SHOWN]}…" if len(text) > 2 * _SHOWN else text


def _key(place: Path) -> dict[str, Any]:
    """What an encoding depends on; nothing where the folder is none."""
    try:
        about = read_json(plain_file(place / _ABOUT, ""), LISTS)
        ours = about["made_by"] == storage.MADE_BY and about["kind"] == KIND and isinstance(about["key"], dict)
        return about["key"] if ours else {}
    except (SignerError, OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
        return {}
