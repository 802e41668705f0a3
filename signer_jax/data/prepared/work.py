"""`signer prepare`'s work: each worker takes its share of a dataset's items and writes parts, the last one the index.

A part is whole or not there, and is made of the same items whoever makes it, so that a killed worker's next start keeps
what is whole and makes the rest, to the same bytes. Memory holds one item's pose and video at a time.
"""

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from signer_jax import mirror, storage
from signer_jax.data import prompts
from signer_jax.data.datasets.item import Found, Item, Left
from signer_jax.data.estimators.opening import Estimator
from signer_jax.data.glossing import UNGLOSSED, Glosses, english, glossed, unglossed
from signer_jax.data.prepared import sharing, summary
from signer_jax.data.prepared.checksums import checksum, file_sum, is_coming
from signer_jax.data.prepared.layout import (
    KIND,
    MOTION,
    PARTS,
    TEXT,
    VERSION,
    NotThere,
    asked,
    motion_record,
    origin_of,
    part_name,
    row,
    table_of,
    text_record,
)  # fmt: skip
from signer_jax.data.prepared.taking import LARGE, How, LeftOut, Taken, take
from signer_jax.data.shards import TooLarge, new_shard
from signer_jax.errors import SignerError
from signer_jax.json_files import CONFIG, LISTS, MANIFEST, read_json
from signer_jax.object_store import reaching, store
from signer_jax.outside import reason_of, told
from signer_jax.progress import progress
from signer_jax.writing import words_of

_SPLIT = re.compile(r"\w+")
# Items of a part, which a kill costs at most: of some that take seconds each fewer. A number, and no time, decides, so
# that a set's bytes do not depend on how fast a machine is.
PER_PART, PER_SLOW_PART = 256, 32
_UNITS = ("item", "text", "clip")  # by `sharing.effort`


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


def usual_part(how: How) -> int:
    """How many items a part has where nobody says it: fewer where poses are made, or all videos are encoded anew."""
    encoded = how.video == "bytes" and (how.size is not None or how.fps > 0)
    return PER_SLOW_PART if how.poses_by or encoded else PER_PART


def work(job: Job, worker: int = 0, workers: int = 1) -> bool:
    """Makes the parts of one of several workers, keeps those that are whole, and puts the set together where all
    workers are done: whether this one did.

    Raises `SignerError` where the folder holds another set, or something else.
    """
    begun = claim(job, workers)
    shares = begun.get("shares", sharing.TURNS)
    what = f"prepare {worker}/{workers}" if workers > 1 else "prepare"
    own = f"-{worker:04d}of{workers:04d}"
    far = mirror.bring(job.out, _is_large, lambda name: own in name)
    # Until this pass is over nobody has a whole set; the worker's own file first, so that none puts it together now.
    storage.discard(_done_file(job.out, worker, workers))
    storage.discard(job.out / "index.json")
    listings = {
        split: sharing.counted(job.items(split), job.source, shares, f"{what}: counting {split}")
        for split in job.splits
    }
    places = {split: sharing.share(one.count, worker, workers, shares) for split, one in listings.items()}
    made: list[str] = []
    # Of what takes the time alone: of rows without files a thousand pass while one video is decoded.
    efforts = b"".join(one.efforts[places[split]] for split, one in listings.items())
    most = max(efforts, default=0)
    with progress((), what, total=efforts.count(most), unit=_UNITS[most]) as bar:

        def tick(found: Found) -> None:
            bar.update(int(sharing.effort(found) == most))

        for split, listing in listings.items():
            found = sharing.own(listing, partial(job.items, split), job.source, places[split])
            part = 0
            while chunk := list(islice(found, begun["per_part"])):
                name = part_name(split, worker, workers, part)
                if _whole(job.out, name, chunk, key := _key(chunk, job), far):
                    kept = sum(sharing.effort(found) == most for found in chunk)
                    bar.update(kept)
                    bar.initial += kept  # the estimate is of what is made
                else:
                    _make(job, name, split, chunk, key, tick)
                made.append(name)
                part += 1
    listed = {split: listing.json() for split, listing in listings.items()}
    done = {"version": VERSION, "parts": made, "listed": listed, "remarks": list(job.remarks)}
    storage.write_file(_done_file(job.out, worker, workers), storage.to_json(done))
    return merge(job.out, wait=False)


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
    # Another machine has the source elsewhere: the items say whether it is the same. A set is shared as it was begun.
    del about["source"], about["shares"]
    if job.per_part is None and isinstance(there.get("per_part"), int):
        about["per_part"] = there["per_part"]
    usual = {f"how: {name}": value for name, value in asdict(How()).items()}  # of what an older program did not ask
    begun, asked = (_by_name(one) for one in (there, about))
    for name, value in asked.items():
        if (was := begun.get(name, usual.get(name))) != value:
            raise SignerError(
                f"--out {job.out}: was begun with {name} {was!r}, not {value!r}; go on as it was begun, or choose "
                "another folder"
            )
    (job.out / PARTS).mkdir(parents=True, exist_ok=True)
    return there


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
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise SignerError(
            f"{out}: no {KIND} here (no about.json of signer_jax says so); choose another folder"
        ) from None


def _key(chunk: Sequence[Found], job: Job) -> str:
    """Of what a part depends on: what the dataset says of its items, and their files' names and sizes, of a folder
    those of the files in it. So what was left out is looked at again where somebody mended it; and so is what was made
    by other rules before, of a program's glosses for all, of poses in folders, of prompts and of long texts' glosses.
    """
    by_rules = job.how.glosses == "rules"
    rules = f"{VERSION}" + " or none" * (job.how.glosses_for == "all")
    said = hashlib.sha256(rules.encode())
    for found in chunk:
        said.update(sharing.told(found, job.source))
        if isinstance(found, Item) and found.pose is not None and found.pose.is_dir():
            said.update(b"counted from its first number")
        if isinstance(found, Item) and found.text and found.prompt:
            said.update(b"its own prompt is a sample")
        if by_rules and isinstance(found, Item) and len(english(found.text)) > 64:
            said.update(b"all glosses of a text")
        for file, there in _files_of(found):
            said.update(f"{file.name} {there.st_size}".encode("utf-8", "surrogateescape"))
    return said.hexdigest()


def _times(chunk: Sequence[Found]) -> str:
    """Of when the files of a part were changed: where these are the same, the bytes are taken to be."""
    times = [there.st_mtime_ns for found in chunk for _, there in _files_of(found)]
    return hashlib.sha256(repr(times).encode()).hexdigest()


def _sums(found: Found) -> list[str]:
    """SHA-256 of the files of an item."""
    _arrive(found)
    sums = []
    for path in (found.video, found.pose) if isinstance(found, Item) else ():
        if path is not None:
            with suppress(FileNotFoundError):
                sums.append(checksum(path))
    return sums


def _arrive(found: Found) -> None:
    """Fetches what an item is read of, where its dataset lies in a bucket."""
    for path in (found.video, found.pose) if isinstance(found, Item) else ():
        if path is not None and mirror.place_of(path) is not None:
            mirror.arrive(_files(path))


def _files_of(found: Found) -> Iterator[tuple[Path, os.stat_result]]:
    for path in (found.video, found.pose) if isinstance(found, Item) else ():
        for file in _files(path):
            with suppress(FileNotFoundError):
                yield file, file.stat()


def _files(path: Path | None) -> list[Path]:
    if path is None:
        return []
    if not path.is_dir():
        return [path]
    return [file for file in sorted(path.iterdir()) if file.is_file() and not is_coming(file)]


def _whole(out: Path, name: str, chunk: Sequence[Found], key: str, far: Mapping[str, int]) -> bool:
    """Whether a part is there, of these items, with the bytes that were written; `far` are in the bucket alone, which
    keeps bytes or loses a file. Items whose files have other times than they had are read for their checksums.
    """
    try:
        table = table_of(out, name)
    except SignerError:
        return False
    if table.get("items") != key:
        return False
    if table.get("times") != _times(chunk) and table.get("sums") != _sum_of(map(_sums, chunk)):
        return False
    for file, said in table["files"].items():
        path = out / PARTS / file
        if far.get(f"{PARTS}/{file}") == said["bytes"]:
            continue
        if not path.is_file() or path.stat().st_size != said["bytes"] or file_sum(path) != said["sha256"]:
            return False
    return True


def _sum_of(sums: Iterable[Sequence[str]]) -> str:
    return hashlib.sha256(repr(list(sums)).encode()).hexdigest()


def _make(job: Job, name: str, split: str, chunk: Sequence[Found], key: str, tick: Callable[[Found], None]) -> None:
    """Writes a part: its two files, then its table."""
    folder = job.out / PARTS
    table = folder / f"{name}.json"
    storage.discard(table)  # of other items, or damaged
    files = {kind: folder / f"{name}.{kind}.arrayrecord" for kind in (TEXT, MOTION)}
    said = _Table()
    times = _times(chunk)  # what is changed while it is read is read again
    with (
        storage.new_file(files[TEXT]) as texts, storage.new_file(files[MOTION]) as motions,
        new_shard(texts) as write_text, new_shard(motions) as write_motion,
    ):  # fmt: skip
        glossed_by = job.how.glosses.split(" ")[0]
        named = [_named(found, job.how) for found in chunk]
        every = job.how.glosses_for == "all"
        given = glossed(named, job.glosses, glossed_by, every) if job.glosses else named
        for own, found in zip(named, given, strict=True):
            _arrive(found)
            text, motion = said.records(found, job)
            said.sums.append(_sums(found))
            if text is not None:
                write_text(text)
            if motion is not None:
                write_motion(motion)
            if (text or motion) is not None and unglossed(own, found):
                said.mend(UNGLOSSED, found.name)
            if isinstance(found, Item) and (text or motion) is not None:  # prompts of what is kept alone
                for one in prompts.of_item(found, job.how.prompts if split == "train" else 0):
                    text, _ = said.records(one, job)
                    if text is not None:
                        write_text(text)
            tick(found)
    records = {TEXT: sum(one["text"] for one in said.kept), MOTION: sum(one["seconds"] > 0 for one in said.kept)}
    written = {}
    for kind, path in files.items():
        if not records[kind]:
            storage.discard(path)
            continue
        written[path.name] = {"records": records[kind], "bytes": path.stat().st_size, "sha256": file_sum(path)}
    depends = {"items": key, "times": times, "sums": _sum_of(said.sums)}
    whole = {"version": VERSION, "split": split, **depends, "files": written, **said.json()}
    storage.write_file(table, storage.list_bytes(whole, f"{table}", "give --per-part a smaller number"))
    mirror.leave_there(files[MOTION])


def _named(found: Found, how: How) -> Found:
    """With the languages of the set where it names none."""
    if isinstance(found, Left) or not (how.language or how.spoken):
        return found
    spoken = found.spoken or (how.spoken if found.text or found.prompt else "")
    return replace(found, language=found.language or how.language, spoken=spoken)


class _Table:
    """What becomes of the items of a part."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []
        self.left: list[dict[str, str]] = []
        self.mended: dict[str, dict[str, str]] = {}  # what -> name -> detail
        self.sums: list[list[str]] = []  # of each item's files
        self.words: dict[str, set[str]] = {}
        self.glosses: dict[str, Counter[str]] = {}
        self.made: dict[str, dict[str, Counter[str]]] = {}  # the same by who made them, once for a text's prompts

    def records(self, found: Found, job: Job) -> tuple[bytes | None, bytes | None]:
        """The text's and the motion's record of an item, None of what it has not."""
        if isinstance(found, Left):
            self._leave(found.name, found.reason, found.where, found.detail, "named")
            return None, None
        try:
            taken = take(found, job.how, job.estimator)
            origin = origin_of(taken, job.source)
            kept = row(taken, origin)
            moves = taken.pose is not None or taken.video is not None
            text = text_record(taken, job.dataset, origin) if kept["text"] else None
            motion = motion_record(taken, job.dataset, origin) if moves else None
        except LeftOut as why:
            self._leave(found.name, why.reason, found.came_from, why.detail, "taken")
            return None, None
        except TooLarge as why:
            self._leave(found.name, LARGE, found.came_from, str(why), "taken")
            return None, None
        self._keep(kept, taken)
        return text, motion

    def _leave(self, name: str, reason: str, where: str, detail: str, by: str) -> None:
        self.left.append({"name": name, "reason": reason, "where": where, "detail": detail[:500], "by": by})

    def mend(self, what: str, name: str, detail: str = "") -> None:
        self.mended.setdefault(what, {})[name] = detail

    def _keep(self, kept: dict[str, Any], taken: Taken) -> None:
        item = taken.item
        self.kept.append(kept)
        for what in taken.mended:
            self.mend(what, item.name, taken.details.get(what, ""))
        if item.language:
            said = asked(item.text, item.prompt, item.prompt_by)
            self.words.setdefault(item.language, set()).update(word.key for word in words_of(said))
        if item.glosses and not item.prompt_by:
            made = self.made.setdefault(item.language, {})
            made.setdefault(item.glosses_by or "unknown", Counter()).update(item.glosses)
        if item.language or item.glosses:
            self.glosses.setdefault(item.language, Counter()).update(item.glosses or ())

    def json(self) -> dict[str, Any]:
        return {
            "kept": self.kept, "left": self.left, "mended": self.mended,
            "words": {language: sorted(words) for language, words in self.words.items()},
            "glosses": {language: dict(sorted(count.items())) for language, count in self.glosses.items()},
            "glosses_by": {language: {by: dict(sorted(count.items())) for by, count in made.items()}
                           for language, made in self.made.items()},
        }  # fmt: skip


# ---- The whole set ---------------------------------------------------------------------------------------------------


def _is_large(name: str) -> bool:
    """Whether a file is not needed here to make a set in a bucket: records, of texts too, whose sizes tell enough."""
    return name.endswith(".arrayrecord")


def _done_file(out: Path, worker: int, workers: int) -> Path:
    return out / PARTS / f"done-{worker:04d}of{workers:04d}.json"


def merge(out: Path, *, wait: bool) -> bool:
    """Writes `index.json`, the report and the manifest of all workers' parts; the same however often.

    Where a worker is not done, or has begun again, False; with `wait`, that is a `SignerError`, which names the first.
    Raises `SignerError` where two workers found other samples, or a split has two of one name.
    """
    about = about_of(out)
    workers = about["workers"]
    ends = [f"{PARTS}/{_done_file(out, worker, workers).name}" for worker in range(workers)]
    mirror.bring(out, _is_large, ends.__contains__)
    if all((out / name).is_file() for name in ends):
        mirror.bring(out, _is_large)  # the tables of all workers, which the whole set is put together from
    parts: dict[str, list[str]] = {split: [] for split in about["splits"]}
    listings: list[dict[str, dict[str, Any]]] = []
    remarks: dict[str, None] = {}
    for worker in range(workers):
        try:
            done = read_json(_done_file(out, worker, workers), LISTS)
            listed = done["parts"]
            listings.append(done["listed"])
            remarks |= dict.fromkeys(map(str, done.get("remarks", ())))
        except (FileNotFoundError, KeyError, ValueError):  # or it is of an older program, or damaged
            if wait:
                raise SignerError(
                    f"{out}: worker {worker} of {workers} is not done; run the same `signer prepare` with "
                    f"--shard {worker}/{workers}"
                ) from None
            return False
        for name in listed:
            parts[name.rsplit("-", 2)[0]].append(name)
    _check_same(out, listings)
    try:
        index, report = summary.gathered(out, about, {split: sorted(names) for split, names in parts.items()})
    except NotThere:
        if wait:
            raise
        return False
    mend = "divide the dataset into several sets"
    storage.write_file(out / "index.json", storage.list_bytes(index, f"{out}: index.json", mend))
    report["remarks"] = [*remarks, *report["remarks"]]
    storage.write_file(out / "report.json", storage.to_json(report))
    summary.write_page(out, index, report)
    names = ["about.json", "index.json", "report.json", "report.html", summary.LEFT_OUT, summary.OTHERWISE]
    names += [f"{PARTS}/{name}.json" for listed in parts.values() for name in listed]
    names += [f"{PARTS}/{_done_file(out, worker, workers).name}" for worker in range(workers)]
    sizes = {name: (out / name).stat().st_size for name in names}
    sizes |= {f"{PARTS}/{name}": said["bytes"] for name, said in index["files"].items()}
    manifest = {"made_by": storage.MADE_BY, "kind": KIND, "files": dict(sorted(sizes.items()))}
    data = storage.list_bytes(manifest, f"{out}: {storage.MANIFEST}", "give --per-part a larger number", MANIFEST)
    storage.write_file(out / storage.MANIFEST, data)
    return True


def _check_same(out: Path, listings: Sequence[dict[str, dict[str, Any]]]) -> None:
    """Raises `SignerError` where a worker found other samples in a split than the first one."""
    for worker, listed in enumerate(listings):
        for split, found in listed.items():
            if found != (first := listings[0][split]):
                raise SignerError(
                    f"{out}: the source changed between the workers' starts (worker 0 found {first['items']} samples "
                    f"in {split}, worker {worker} {found['items']}, or others), or they are of two versions of signer; "
                    "run the same `signer prepare` of each worker again, which keeps what is whole"
                )
