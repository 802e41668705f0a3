"""Which of a stage's checkpoints are there; a damaged one is set aside, so that the one before it is the newest."""

import itertools
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import jax

from signer_jax import outside
from signer_jax.distributed import first_says, wait_for_all
from signer_jax.errors import Absent
from signer_jax.object_store import holding, is_url, reaching
from signer_jax.outside import reason_of
from signer_jax.training.damage import MOVE, Damaged


def latest_step(directory: str | Path) -> int | None:
    """The newest complete step in a stage's folder, or None; writes nothing."""
    return max(steps_of(directory), default=None)


def steps_of(directory: str | Path) -> list[int]:
    """Those of the complete ones."""
    folder = absolute(directory)
    # In a bucket, where nothing is renamed, a save has its name from its beginning, and this file at its end.
    found = holding(folder, "commit_success.txt") if is_url(folder) else folder.glob("*")
    return [int(path.name) for path in found if path.name.isdecimal() and path.name.isascii()]


def absolute(directory: str | Path) -> Any:
    return directory if is_url(directory) else Path(directory).absolute()


def pass_over(damage: Damaged) -> None:
    """Sets a damaged checkpoint aside, to `STEP.damaged`, so that the one before it is the newest, and says so.

    Every process calls it. Raises `damage` where there is none before it.
    """
    folder = damage.folder
    before = first_says(max((step for step in steps_of(folder.parent) if step < int(folder.name)), default=-1))
    if before < 0:
        raise damage
    if jax.process_index() == 0:
        aside = set_aside(damage)
        print(f"signer: {damage.what}; it is now {aside.name}, and step {before} is gone on from", file=sys.stderr)
    wait_for_all("damaged checkpoint")


def leave_behind(damage: Damaged) -> NoReturn:
    """`pass_over` by one of several processes alone: sets the checkpoint aside and ends, so that all start again.

    Raises `Absent`, or `damage` where there is none before it.
    """
    before = max((step for step in steps_of(damage.folder.parent) if step < int(damage.folder.name)), default=-1)
    if before < 0:
        raise damage
    with suppress(FileNotFoundError):  # another process met it too
        set_aside(damage)
    raise Absent(f"{damage.what}; it is set aside, start all processes again to go on from step {before}") from damage


def set_aside(damage: Damaged) -> Path:
    folder = damage.folder
    names = (f"{folder.name}.damaged{f'-{k}' if k else ''}" for k in itertools.count())
    taken = (lambda path: path.exists()) if is_url(folder) else os.path.lexists
    try:
        with reaching(folder):
            aside = next(folder.parent / name for name in names if not taken(folder.parent / name))
            with suppress(FileNotFoundError):
                return folder.rename(aside)
    except OSError as error:
        said = f"{damage.what}, and cannot be set aside ({reason_of(error)}); {MOVE}"
        raise outside.told(error, said) from None
    raise FileNotFoundError(str(folder))
