"""What a run leaves in its folder, and how it is found again.

<workdir>/config.json        the run's config, marked as ours; another config is refused
         .signer_jax.lock    held by the one command that writes here
         data/               the prepared corpus
         tokenizer.model     the SentencePiece model
         prior/              the pose prior database
         latents/            the training videos' latents
         checkpoints/STAGE/  Orbax
         tensorboard/
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

import jax

from signer_jax import storage
from signer_jax.distributed import wait_for_all
from signer_jax.errors import SignerError
from signer_jax.settings import Settings, flatten, read

_CENTURY = 100 * 366 * 86400.0  # seconds: what no run takes
LOCK = ".signer_jax.lock"

# Values that may change between the start of a run and its resumption: they do not change what is trained.
FREE = (
    "mesh.", "evaluate.", "log_every", "checkpoint_every", "keep_checkpoints", "data.read_threads", "data.prefetch",
    "data.source", "renderer.steps", "renderer.guidance", "slul.beams", "slul.length_penalty",
)  # fmt: skip


@contextmanager
def claimed(workdir: Path, settings: Settings) -> Iterator[None]:
    """Holds a run's folder against any other command that writes there; a new run's config is written first of all.

    The first of several processes holds it for all. Raises `SignerError` where the folder is in use, belongs to another
    config, or holds files of the names that a run writes which no run wrote.
    """
    if jax.process_index():
        wait_for_all("workdir")
        yield
        return
    check_claim(workdir, settings)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SignerError(f"--workdir {workdir}: cannot be made ({storage.reason_of(error)}); choose another") from None
    holder = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    with storage.locked(workdir / LOCK, holder, "wait for it or stop it: the lock ends with its process"):
        check_claim(workdir, settings)  # it may have been made in between
        values = {"made_by": storage.MADE_BY, **asdict(settings)}
        storage.write_file(workdir / "config.json", json.dumps(values, indent=1) + "\n")
        wait_for_all("workdir")
        yield


def check_claim(workdir: Path, settings: Settings) -> None:
    """Raises `SignerError` unless the folder is free for a run of this config, or holds one to resume."""
    check_links(workdir)
    if not (workdir / "config.json").exists():
        if taken := [name for name in storage.RUN_FILES if os.path.lexists(workdir / name)]:
            raise SignerError(
                f"--workdir {workdir}: holds {taken[0]!r}, which no run wrote (there is no config.json) and a run "
                "would write over; choose another --workdir"
            )
        return
    before, now = flatten(load_settings(workdir)), flatten(settings)
    changed = [
        name for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and not name.startswith(FREE)
    ]  # fmt: skip
    if changed:
        name = changed[0]
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise SignerError(
            f"{workdir}: belongs to a run with another config ({name} was {before.get(name)!r}, "
            f"is now {now.get(name)!r}{more}); choose another --workdir, or give the values it was started with"
        )


def check_links(workdir: Path) -> None:
    """Raises `SignerError` where a link stands for one of a run's files, or folders, that leads out of its folder."""
    mend = "move what it leads to here, or make the whole workdir a link"
    stages = (f"checkpoints/{stage.name}" for stage in (workdir / "checkpoints").glob("*"))
    storage.check_inside(workdir, ("config.json", LOCK, *storage.RUN_FILES, *stages), mend)


def load_settings(workdir: Path) -> Settings:
    """The config of a run, as settings. Raises `SignerError` where the folder holds none."""
    file = workdir / "config.json"
    if not file.exists():
        raise SignerError(f"{workdir}: holds no run (no config.json); train one with `signer train` or `signer demo`")
    check_links(workdir)
    try:
        with storage.reading(storage.plain_file(file, "give the folder of a run"), "restore it"):
            text = file.read_bytes()
            values = json.loads(text.decode("utf-8"))
    except ValueError:
        raise SignerError(f"{file}: is not valid JSON; restore it, it names what the checkpoints hold") from None
    if not isinstance(values, dict) or values.pop("made_by", None) != storage.MADE_BY:
        raise SignerError(f"{file}: was written by no run of signer_jax; choose another --workdir")
    try:
        with storage.reading(file, "restore it"):
            return read(values)
    except SignerError as error:
        if str(file) in str(error):
            raise
        raise SignerError(f"{file}: {error} (another version of signer_jax may have written it)") from None


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
        times = json.loads(storage.plain_file(workdir / "wall_time.json", "").read_text(encoding="utf-8"))
        return {str(stage): float(seconds) for stage, seconds in times.items() if 0 <= float(seconds) < _CENTURY}
    except (SignerError, OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError):
        return {}
