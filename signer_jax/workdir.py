"""What a run leaves in its folder, and how it is found again.

<workdir>/config.json        the run's config, marked as ours; another config is refused
         .signer_jax.lock    held by the one command that writes here
         data/               the prepared corpus
         tokenizer.model     the SentencePiece model
         published/          the weights from elsewhere that it starts from
         prior/              the pose prior database
         latents/            the training videos' latents
         buckets/BUCKET/     these of each of the renderer's buckets, BUCKET.pictures/ the pictures of its size
         pictures/           reference pictures of a published image model, CLIP's tokens, what a window shows
         text_states/        what a published text encoder makes of their texts
         checkpoints/STAGE/  Orbax
         tensorboard/
         stopped/            the batch of a step that ended the run
         environment.json    versions, source, devices and flags of its newest start
         result.json, report.html, sign.mp4
"""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from signer_jax import bucket_lock, mirror, object_store, outside, storage
from signer_jax.configuration import shipped
from signer_jax.distributed import seen, wait_for_all
from signer_jax.errors import SignerError, Trouble, closest
from signer_jax.json_files import CONFIG, read_json
from signer_jax.settings import Settings, flatten, known
from signer_jax.validation import read

_CENTURY = 100 * 366 * 86400.0  # seconds: what no run takes
LOCK = ".signer_jax.lock"

# Values that may change between the start of a run and its resumption: they do not change what is trained. Of
# `accumulate` that is so of `pose` alone: the other stages draw noise, levels or masks for each part of a batch.
FREE = (
    "mesh.", "evaluate.", "log_every", "checkpoint_every", "keep_checkpoints", "keep_best", "samples_every",
    "data.read_threads", "data.decode_processes", "data.prefetch", "data.source", "data.encoded", "renderer.steps",
    "renderer.solver", "renderer.overlap", "renderer.guidance", "renderer.temperature", "renderer.dtype",
    "renderer.context_attention", "slul.beams", "slul.length_penalty", "slul.search", "slul.unknown", "remat",
    "scan_unroll", "offload_optimizer", "compiled", "allow_whole", "train.pose.accumulate",
)  # fmt: skip
# Stages of folders that are no runs of the pipeline: their values are no other's.
_APART = ("back_translation", "progressive")
_PUBLISHED = ("slul.init", "tokenizer.path", "vae.init", "renderer.")  # what says which weights are kept


@contextmanager
def claimed(workdir: Path, settings: Settings) -> Iterator[None]:
    """Holds a run's folder against any other command that writes there; a new run's config is written first of all.

    The first of several processes holds it for all. Raises `SignerError` where the folder is in use, belongs to another
    config, or holds files of the names that a run writes which no run wrote.
    """
    if jax.process_index():
        wait_for_all("workdir")
        seen(f"{workdir}", lambda: mirror.there(workdir / "config.json"))
        yield
        return
    check_claim(workdir, settings)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = f"--workdir {workdir}: cannot be made ({outside.reason_of(error)}); choose another"
        raise outside.told(error, said) from None
    holder = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    ends = (
        "wait for it or stop it: the lock ends with its process (of a machine that is gone, a shared file system may "
        f"keep it: when you know that nothing runs there, remove {LOCK})"
    )
    alone = storage.locked(workdir / LOCK, holder, ends)
    with alone, bucket_lock.locked(workdir / LOCK, holder):
        for note in check_claim(workdir, settings):  # it may have been made in between
            print(f"signer: {note}", file=sys.stderr)
        _make_room(workdir, settings)
        values = {"made_by": storage.MADE_BY, **asdict(settings)}
        storage.write_file(workdir / "config.json", json.dumps(values, indent=1) + "\n")
        wait_for_all("workdir")
        try:
            yield
        finally:
            _send_curves(workdir)


def _send_curves(workdir: Path) -> None:
    """What was written of a bucket's run and is not there yet; where that is impossible it is told."""
    try:
        mirror.send_all(workdir / "tensorboard")
    except SignerError as error:
        print(f"signer: {error}", file=sys.stderr)


def check_there(workdir: Path) -> None:
    """Raises `Trouble` where a claimed folder has gone in mid-run: what a run then wrote could never be resumed."""
    if not mirror.there(workdir / "config.json"):
        raise Trouble(
            f"{workdir}: the workdir has gone since the run began (its config.json is not there); mount it again, or "
            "put it back, then run the same command"
        )


def check_claim(workdir: Path, settings: Settings) -> list[str]:
    """What is to be said of the folder's config, where it is free for a run of this config or holds one to resume.

    A folder in which nothing was trained yet is free: a run that failed on its first config goes on with the corrected
    one. Raises `SignerError` for any other.
    """
    storage.check_is_folder(workdir, f"--workdir {workdir}")
    storage.check_outside(workdir / "x", f"--workdir {workdir}")  # nor is it such a folder itself
    check_links(workdir)
    if not (workdir / "config.json").exists():
        if taken := [name for name in storage.RUN_FILES if os.path.lexists(workdir / name)]:
            raise SignerError(
                f"--workdir {workdir}: holds {taken[0]!r}, which no run wrote (there is no config.json) and a run "
                "would write over; choose another --workdir"
            )
        return []
    before, filled = _read(workdir)
    changed = _changed(before, settings)
    was, now = before.data.source, settings.data.source
    if not changed:
        notes = [_said(workdir, filled, before)] if filled else []
        if was != now and _trained(workdir) and os.path.lexists(workdir / "data"):
            notes.append(f"{workdir}: keeps the data that were prepared from {was!r}; nothing is read from {now!r}")
        return notes
    (name, then, today), *others = changed
    old = " by default, since that run is older than the key" if name in filled else ""
    more = f" and {len(others)} more" if others else ""
    what = f"{name} was {then!r}{old}, is now {today!r}{more}"
    if _trained(workdir):
        raise SignerError(
            f"{workdir}: belongs to a run with another config ({what}); choose another --workdir, or give the values "
            "it was started with"
        )
    return [f"{workdir}: nothing was trained there yet, so it is this config's from now on ({what})"]


def _changed(before: Settings, now: Settings) -> list[tuple[str, Any, Any]]:
    """(name, value before, value now) of what may not change within a run."""
    old, new = flatten(before), flatten(now)
    others = [name for name in _APART if name not in before.stages]
    free = (*FREE, *(f"{place}{name}." for name in others for place in ("", "train.")))
    return [
        (name, old[name], new[name]) for name in sorted(old) if old[name] != new[name] and not name.startswith(free)
    ]


def _trained(workdir: Path) -> bool:
    """Whether a stage of the run has a checkpoint."""
    checkpoints = mirror.checkpoints(workdir)
    with object_store.reaching(checkpoints):
        return any(step.name.isdecimal() for step in checkpoints.glob("*/*"))


def outdated(workdir: Path, settings: Settings) -> list[str]:
    """What a run that trained nothing made with other values, by name: it is made anew with these."""
    if not (workdir / "config.json").exists() or _trained(workdir):
        return []
    before = _read(workdir)[0]
    changed = tuple(name for name, _, _ in _changed(before, settings))
    if before.data.source != settings.data.source:  # free only where something was trained on it
        changed = (*changed, "data.source")
    data, tokenizer = (any(name.startswith(of) for name in changed) for of in ("data.", ("data.", "tokenizer.")))
    of = {
        "data": data,
        "prior": data,
        "tokenizer.model": tokenizer,
        "published": any(name.startswith(_PUBLISHED) for name in changed),
        "latents": bool(changed),
        "buckets": bool(changed),
        "text_states": bool(changed),
        "pictures": bool(changed),
        "begun": bool(changed),
        "tensorboard": bool(changed),
    }
    return [name for name, remove in of.items() if remove and os.path.lexists(workdir / name)]


def _make_room(workdir: Path, settings: Settings) -> None:
    for name in outdated(workdir, settings):
        # Folders of ours without a manifest, where a user may have put other files.
        inside = {
            "tensorboard": ("events.out.tfevents.*",),
            "buckets": ("[0-9]*x[0-9]*x[0-9]*", "begun/*.arrayrecord"),
            "begun": ("*.arrayrecord",),
        }.get(name)
        found = [workdir / name] if inside is None else [path for one in inside for path in (workdir / name).glob(one)]
        for path in found:
            storage.discard(path)
        mirror.remove_matching(workdir / name, inside or ())


def check_links(workdir: Path) -> None:
    """Raises `SignerError` where a link stands for one of a run's files, or folders, that leads out of its folder."""
    mend = "move what it leads to here, or make the whole workdir a link"
    stages = (f"checkpoints/{stage.name}" for stage in (workdir / "checkpoints").glob("*"))
    outside.check_inside(workdir, ("config.json", LOCK, *storage.RUN_FILES, *stages), mend)


def load_settings(workdir: Path) -> Settings:
    """The config of a run, as settings. Raises `SignerError` where the folder holds none.

    A key that the run's version did not have yet takes its default, which is said on standard error.
    """
    settings, filled = _read(workdir)
    if filled:
        print(f"signer: {_said(workdir, filled, settings)}", file=sys.stderr)
    return settings


def _said(workdir: Path, filled: list[str], settings: Settings) -> str:
    values = flatten(settings)
    listed = ", ".join(f"{name} = {values[name]!r}" for name in filled[:3])
    more = f" and {len(filled) - 3} more" if len(filled) > 3 else ""
    return f"{workdir}: its config.json lacks keys that came later; their defaults are taken: {listed}{more}"


def _read(workdir: Path) -> tuple[Settings, list[str]]:
    """A run's settings, and the keys that its `config.json` lacks and that are taken from the default config."""
    storage.check_is_folder(workdir, str(workdir))
    file = workdir / "config.json"
    if not file.exists():
        raise SignerError(f"{workdir}: holds no run (no config.json); train one with `signer train` or `signer demo`")
    check_links(workdir)
    try:
        with outside.reading(outside.plain_file(file, "give the folder of a run"), "restore it"):
            values = read_json(file, CONFIG)
    except ValueError:
        raise SignerError(f"{file}: is not valid JSON; restore it, it names what the checkpoints hold") from None
    if not isinstance(values, dict) or values.pop("made_by", None) != storage.MADE_BY:
        raise SignerError(f"{file}: was written by no run of signer_jax; choose another --workdir")
    try:
        with outside.reading(file, "restore it"):
            filled = _fill(values, file)
            return read(values), filled
    except SignerError as error:
        if str(file) in str(error):
            raise
        raise SignerError(
            f"{file}: {error} (another version of signer_jax may have written it); give a value that fits, or train "
            "anew in another --workdir"
        ) from None


def _fill(values: dict[str, Any], file: Path) -> list[str]:
    """Gives the keys that a run's config lacks their defaults, in place; returns their names.

    Raises `SignerError` for keys that are no longer there, and where it does not even say which stages were trained.
    """
    keys, found = known(), flatten(values)
    if extra := [name for name in found if name not in keys]:
        raise SignerError(
            f"{file}: config.{extra[0]} is no key of this version of signer_jax{closest(extra[0], keys)}; use the "
            "version that wrote it, or delete the key there to go on as this version does"
        )
    if "stages" not in found:
        raise SignerError(f"{file}: the config lacks 'stages', so it is no whole config of a run; restore it")
    missing = [name for name in keys if name not in found]
    defaults = flatten(shipped("default")) if missing else {}
    for name in missing:
        *parents, leaf = name.split(".")
        holder = values
        for part in parents:
            holder = holder.setdefault(part, {})
        holder[leaf] = defaults[name]
    return missing


class Clock:
    """Adds the seconds of a block to `<workdir>/wall_time.json`, over all the times that a run was resumed."""

    def __init__(self, workdir: Path, name: str):
        self.file, self.name = workdir / "wall_time.json", name

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if jax.process_index() == 0:
            times = read_times(self.file.parent)
            times[self.name] = round(times.get(self.name, 0.0) + time.perf_counter() - self.started, 1)
            try:
                storage.write_file(self.file, json.dumps(times) + "\n")
            except SignerError as error:  # a note for people: the work goes on without it
                print(f"signer: {error}", file=sys.stderr)


def read_times(workdir: Path) -> dict[str, float]:
    """Seconds by stage; none where the note is missing or damaged."""
    try:
        times = read_json(outside.plain_file(workdir / "wall_time.json", ""), CONFIG)
        return {str(stage): float(seconds) for stage, seconds in times.items() if 0 <= float(seconds) < _CENTURY}
    except (SignerError, OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError):
        return {}
