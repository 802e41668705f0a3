"""`signer prepare`'s work: each worker takes its share of a dataset's items and writes parts, the last one the index.

A part is whole or not there, and is made of the same items whoever makes it, so that a killed worker's next start keeps
what is whole and makes the rest, to the same bytes. Memory holds one item's pose and video at a time.
"""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av

from signer_jax import mirror, outside, storage
from signer_jax.data import prompts
from signer_jax.data.datasets.item import Found, Item, Left
from signer_jax.data.glossing import UNGLOSSED, english, glossed, unglossed
from signer_jax.data.prepared import gone, sharing, summary
from signer_jax.data.prepared.checksums import checksum, file_sum, is_coming
from signer_jax.data.prepared.claim import Job, about_of, claim
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
from signer_jax.errors import SignerError, Trouble, one_line
from signer_jax.json_files import LISTS, MANIFEST, read_json
from signer_jax.mirror_places import shown
from signer_jax.progress import progress
from signer_jax.writing import words_of

_UNITS = ("item", "text", "clip")  # by `sharing.effort`


def work(job: Job, worker: int = 0, workers: int = 1) -> bool:
    """Makes the parts of one of several workers, keeps those that are whole, and puts the set together where all
    workers are done: whether this one did.

    Raises `SignerError` where the folder holds another set, or something else; where the set has samples that the
    source no longer gives (`gone`), unless the job forgets them: before anything is changed if they cannot stay, else
    when all the rest is done.
    """
    begun = claim(job, workers)
    shares = begun.get("shares", sharing.TURNS)
    what = f"prepare {worker}/{workers}" if workers > 1 else "prepare"
    own = f"-{worker:04d}of{workers:04d}"
    far = mirror.bring(job.out, _is_large, lambda name: own in name)
    listings = {
        split: sharing.counted(job.items(split), job.source, shares, f"{what}: counting {split}")
        for split in job.splits
    }
    places = {split: sharing.share(one.count, worker, workers, shares) for split, one in listings.items()}
    before, stay = _before(job, worker, workers, begun["per_part"], listings, places, far)
    # Until this pass is over nobody has a whole set; the worker's own file first, so that none puts it together now.
    storage.discard(_done_file(job.out, worker, workers))
    storage.discard(job.out / "index.json")
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
                if name in stay or _whole(job.out, name, chunk, key := _key(chunk, job), far):
                    kept = sum(sharing.effort(found) == most for found in chunk)
                    bar.update(kept)
                    bar.initial += kept  # the estimate is of what is made
                else:
                    try:
                        _make(job, name, split, chunk, key, tick, before[split])
                    except _Fewer as fewer:
                        stay[name] = _staying(job.out, name, fewer.lost, before[split], chunk, far)
                made.append(name)
                part += 1
            _sweep(job.out, gone.parts_of(job.out, split, worker, workers, far).difference(made))
    listed = {split: listing.json() for split, listing in listings.items()}
    remarks = list(job.remarks)
    if lost := [one for name in made for one in stay.get(name, ())]:
        remarks.append(
            f"the set has {gone.told(lost)}: their parts stay as they were, without what else is new there; bring it "
            "back, or add --forget to take them out"
        )
    done = {"version": VERSION, "parts": made, "listed": listed, "remarks": remarks}
    storage.write_file(_done_file(job.out, worker, workers), storage.to_json(done))
    whole = merge(job.out, wait=False)
    if lost:
        raise SignerError(f"{job.out}: {remarks[-1]}")
    return whole


def _before(
    job: Job, worker: int, workers: int, per_part: int, listings: Mapping[str, sharing.Listing],
    places: Mapping[str, slice], far: Mapping[str, int],
) -> tuple[dict[str, gone.Before], dict[str, list[gone.Lost]]]:  # fmt: skip
    """What the worker's parts of each split have, and which of them stay, as the source no longer gives all of it."""
    try:
        listed = set(read_json(_done_file(job.out, worker, workers), LISTS)["parts"])
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        listed = None  # of a pass that was not over all that there are
    before: dict[str, gone.Before] = {}
    stay: dict[str, list[gone.Lost]] = {}
    for split, listing in listings.items():
        parts = gone.parts_of(job.out, split, worker, workers)
        there = before[split] = gone.Before(job.out, parts if listed is None else parts & listed, _maker(job.how))
        lost = there.gone(listing.names, listing.gives)
        if job.forget:
            _say_forgotten(job.out, lost)
            there.forget(lost)
            continue
        own = listing.names[places[split]]
        for name in sorted({one.part for one in lost}):
            at = int(name.rpartition("-")[2]) * per_part
            if not (there.is_of(name, own[at : at + per_part]) and _intact(job.out, table_of(job.out, name), far)):
                raise SignerError(
                    f"{job.out}: nothing was changed, as the set has {gone.told(lost)}, which cannot stay beside what "
                    "is new: the list is another one, or their part is damaged; bring it back, or add --forget to take "
                    "them out"
                )
            stay[name] = [one for one in lost if one.part == name]
    return before, stay


def _say_forgotten(out: Path, lost: Sequence[gone.Lost]) -> None:
    if lost:
        print(one_line(shown(f"signer: {out}: forgets {gone.told(lost)}")), file=sys.stderr)


def _staying(
    out: Path, name: str, lost: list[gone.Lost], before: gone.Before, chunk: Sequence[Found], far: Mapping[str, int]
) -> list[gone.Lost]:  # fmt: skip
    """The samples for which a part stays that would have fewer. Raises `SignerError` where it cannot."""
    if before.is_of(name, [gone.mark_of(found.name) for found in chunk]) and _intact(out, table_of(out, name), far):
        return lost
    raise SignerError(
        f"{out}: the set has {gone.told(lost)}, which cannot stay beside what is new: the list is another one; bring "
        "it back and run the same command, or add --forget to take them out"
    )


def _sweep(out: Path, beyond: Iterable[str]) -> None:
    """Removes parts beyond the end of a list that has become shorter, whose samples are in others by now, or gone."""
    for name in (names := sorted(beyond)):
        for ending in ("json", f"{TEXT}.arrayrecord", f"{MOTION}.arrayrecord"):
            storage.discard(out / PARTS / f"{name}.{ending}")
    if names:
        print(
            one_line(shown(f"signer: {out}: removed beyond the end of the source's list: {', '.join(names)}")),
            file=sys.stderr,
        )


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
        if isinstance(found, Item) and found.pose is not None and outside.is_folder(found.pose):
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
    if not outside.is_folder(path):
        return [path]
    return [file for file in sorted(path.iterdir()) if outside.is_file(file) and not is_coming(file)]


def _whole(out: Path, name: str, chunk: Sequence[Found], key: str, far: Mapping[str, int]) -> bool:
    """Whether a part is there, of these items, with the bytes that were written; `far` are in the bucket alone, which
    keeps bytes or loses a file. Items whose files have other times than they had are read for their checksums.
    """
    try:
        table = table_of(out, name)
    except Trouble:  # nobody knows what is there
        raise
    except SignerError:
        return False
    if table.get("items") != key:
        return False
    if table.get("times") != _times(chunk) and table.get("sums") != _sum_of(map(_sums, chunk)):
        return False
    return _intact(out, table, far)


def _intact(out: Path, table: Mapping[str, Any], far: Mapping[str, int]) -> bool:
    """Whether a part has the bytes that were written."""
    for file, said in table["files"].items():
        path = out / PARTS / file
        if far.get(f"{PARTS}/{file}") == said["bytes"]:
            continue
        if not path.is_file() or path.stat().st_size != said["bytes"] or file_sum(path) != said["sha256"]:
            return False
    return True


def _sum_of(sums: Iterable[Sequence[str]]) -> str:
    return hashlib.sha256(repr(list(sums)).encode()).hexdigest()


class _Fewer(Exception):
    """A part would lack what the set has."""

    def __init__(self, lost: list[gone.Lost]) -> None:
        super().__init__()
        self.lost = lost


def _maker(how: How) -> str:
    """By whom glosses are that a program makes."""
    return how.glosses.partition(" ")[0]


def _make(
    job: Job, name: str, split: str, chunk: Sequence[Found], key: str, tick: Callable[[Found], None],
    before: gone.Before,
) -> None:  # fmt: skip
    """Writes a part: its two files, then its table. Raises `_Fewer`, and leaves what is there, where it would have less
    than was there `before`.
    """
    folder = job.out / PARTS
    table = folder / f"{name}.json"
    files = {kind: folder / f"{name}.{kind}.arrayrecord" for kind in (TEXT, MOTION)}
    said = _Table()
    times = _times(chunk)  # what is changed while it is read is read again
    with (
        storage.new_file(files[TEXT]) as texts, storage.new_file(files[MOTION]) as motions,
        new_shard(texts) as write_text, new_shard(motions) as write_motion,
    ):  # fmt: skip
        glossed_by = _maker(job.how)
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
        if (lost := before.fewer(name, said.kept, chunk)) and not job.forget:
            raise _Fewer(lost)
        _say_forgotten(job.out, lost)
        storage.discard(table)  # of other items, or damaged
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


def _check_lasting(item: Item, why: LeftOut) -> None:
    """Raises `Trouble` where a disk or a network was in the way of a reader that took it for a damaged file. FFmpeg's
    own errors, some of which have the same numbers, are of the file's bytes.
    """
    cause: BaseException | None = why
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, av.FFmpegError):
            outside.check_lasting(item.video or item.pose or item.came_from, cause)
        cause = cause.__context__


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
            _check_lasting(found, why)
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
