"""What is prepared, and the note in a folder that says so: the first command's counts for all that come to it later."""

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from signer_jax import mirror, storage
from signer_jax.data.datasets.item import Found
from signer_jax.data.estimators.opening import Estimator
from signer_jax.data.glossing import Glosses
from signer_jax.data.prepared import sharing
from signer_jax.data.prepared.layout import KIND, PARTS, VERSION
from signer_jax.data.prepared.taking import How
from signer_jax.errors import SignerError
from signer_jax.json_files import CONFIG, read_json
from signer_jax.object_store import reaching, store
from signer_jax.outside import check_lasting, reason_of, told

_SPLIT = re.compile(r"\w+")
_OF_RUN = re.compile(r"(\w+) \(.*, (parameters [0-9a-f]{64})\)", re.DOTALL)  # glosses by one, with its folder
# Items of a part, which a kill costs at most: of some that take seconds each fewer. A number, and no time, decides, so
# that a set's bytes do not depend on how fast a machine is.
PER_PART, PER_SLOW_PART = 256, 32


@dataclass(frozen=True)
class Job:
    """What is prepared, how and into which folder."""

    dataset: str
    source: Path
    out: Path
    how: How
    splits: Sequence[str]
    items: Callable[[str], Iterable[Found]]  # those of a split, in the same order each time
    per_part: int | None = None  # None: as the set was begun, a new one by `usual_part`
    subset: int | None = None  # of a dataset that has some
    estimator: Estimator | None = None  # of poses that the dataset lacks
    glosses: Glosses | None = None  # for texts without any
    remarks: Sequence[str] = ()  # what is to be told of the source, in lines
    forget: bool = False  # takes out what the set has and the source no longer gives


def usual_part(how: How) -> int:
    """How many items a part has where nobody says it: fewer where poses are made, or all videos are encoded anew."""
    encoded = how.video == "bytes" and (how.size is not None or how.fps > 0)
    return PER_SLOW_PART if how.poses_by or encoded else PER_PART


def claim(job: Job, workers: int) -> dict[str, Any]:
    """Notes in the folder what is made in it, and returns what is noted there. Raises `SignerError` where that is
    something else already.
    """
    about = {
        "made_by": storage.MADE_BY, "kind": KIND, "version": VERSION, "dataset": job.dataset,
        "source": str(job.source), "workers": workers, "per_part": job.per_part or usual_part(job.how),
        "subset": job.subset, "splits": list(job.splits), "shares": sharing.RANGES,
        "how": {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(job.how).items()},
    }  # fmt: skip
    if odd := [split for split in job.splits if not _SPLIT.fullmatch(split)]:
        raise SignerError(f"{job.source}: a split is named {odd[0]!r}; rename it with letters, digits and _")
    file = job.out / "about.json"
    if not file.exists():
        storage.check_is_folder(job.out, f"--out {job.out}")
        if _holds_others(job.out, file.name):
            mirror.fresh(file)
            if not file.exists():  # another worker's, by now
                raise SignerError(f"--out {job.out}: exists and is no {KIND}; choose another folder")
        else:
            _begin(file, storage.to_json(about))
    there = about_of(job.out)
    # Another machine has the source elsewhere: the items say whether it is the same. So it may have a run, of which the
    # parameters' checksum says it. A set is shared as it was begun.
    del about["source"], about["shares"]
    if job.per_part is None and isinstance(there.get("per_part"), int):
        about["per_part"] = there["per_part"]
    usual = {f"how: {name}": value for name, value in asdict(How()).items()}  # of what an older program did not ask
    begun, asked = (_by_name(one) for one in (there, about))
    for name, value in asked.items():
        if (was := begun.get(name, usual.get(name))) != value and _without_place(was) != _without_place(value):
            raise SignerError(
                f"--out {job.out}: was begun with {name} {was!r}, not {value!r}; go on as it was begun, or choose "
                "another folder"
            )
    (job.out / PARTS).mkdir(parents=True, exist_ok=True)
    return there


def _without_place(value: Any) -> Any:
    """What glosses are by, wherever the run lies and however its folder is written; all else as it is."""
    found = _OF_RUN.fullmatch(value) if isinstance(value, str) else None
    return found.groups() if found else value


def _by_name(about: Mapping[str, Any]) -> dict[str, Any]:
    """With each value of `how` by a name of its own."""
    how = about.get("how")
    if not isinstance(how, dict):
        return {}
    return {**about, "how": None} | {f"how: {name}": value for name, value in how.items()}


def _holds_others(folder: Path, name: str) -> bool:
    """Whether a folder, in the bucket where it is a mirror's, has anything but a file of this name."""
    if (place := mirror.place_of(folder)) is None:
        there = os.listdir(folder) if folder.exists() else []
    else:
        with reaching(place.object()):
            try:
                found = store(place.url).ls(place.object(), detail=False)
            except FileNotFoundError:
                found = []
        there = [one.rstrip("/").rpartition("/")[2] for one in found]
    return any(one != name and not one.startswith(".") for one in there)


def _begin(file: Path, about: str) -> None:
    """Writes the file where none is there: of workers that begin at once and differ, one's counts for all."""
    if mirror.place_of(file) is not None:
        mirror.begin(file, about.encode("utf-8", "backslashreplace"))
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as opened:
            try:
                opened.write(about.encode("utf-8", "backslashreplace"))
                opened.flush()
                os.fsync(opened.fileno())
            except BaseException:
                file.unlink(missing_ok=True)
                raise
    except FileExistsError:
        return
    except OSError as error:
        raise told(
            error, f"{file}: cannot be written ({reason_of(error)}); check the place, its rights and its space"
        ) from None


def about_of(out: Path) -> dict[str, Any]:
    """What is made in a folder. Raises `SignerError` where that is no prepared set."""
    try:
        for _ in range(50):
            if (out / "about.json").stat().st_size:
                break
            time.sleep(0.1)  # another worker is writing it
        about = read_json(out / "about.json", CONFIG)
        if about["made_by"] != storage.MADE_BY or about["kind"] != KIND:
            raise ValueError("another program's")
        return about
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, OSError):
            check_lasting(out / "about.json", error)
        raise SignerError(
            f"{out}: no {KIND} here (no about.json of signer_jax says so); choose another folder"
        ) from None
