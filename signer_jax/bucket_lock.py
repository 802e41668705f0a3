"""The lock of a run in a bucket: an object that one alone can make, by who already holds the mirror's own.

It goes when the process ends, also at once (`let_go`), and stays where that is killed. Who then comes takes it over on
the same machine, since no other process there holds the mirror, or in the same launch: a launcher gives all that it
starts one SIGNER_RUN, which no other launch has, and starts no process before those of the last start are gone. One
that cannot know that they are (SLURM, of a node that does not answer) numbers its starts, SIGNER_RUN=NAME@N: a later
one takes over from an earlier one, which finds before its next checkpoint that the lock is another's, and ends.
"""

import json
import os
import re
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from signer_jax import mirror, object_store
from signer_jax.errors import Trouble
from signer_jax.json_files import parse_json

_LONGEST = 4096  # bytes
_NUMBERED = re.compile(r"(.+)@([0-9]{1,9})", re.DOTALL)  # a launch, and which of its starts
_held: dict[str, str] = {}  # the object's URL -> what this process has written there


@contextmanager
def locked(path: Path, holder: str) -> Iterator[None]:
    """Holds the lock of this name; nothing for a path in no mirror. Raises `Trouble` where another one has it."""
    if (place := mirror.place_of(path)) is None:
        yield
        return
    where, run = place.object(), os.environ.get("SIGNER_RUN", "")
    mine = {
        "holder": holder, "host": socket.gethostname(), "mirror": str(place.home), "run": run, "id": uuid.uuid4().hex
    }  # fmt: skip
    data = json.dumps(mine).encode()
    with object_store.reaching(where):
        try:
            object_store.store().pipe_file(where, data, mode="create")
        except FileExistsError:
            _check(_lock(where), mine, place.url, where)
            object_store.store().pipe_file(where, data)
    _held[where] = mine["id"]
    try:
        yield
    finally:
        try:
            _release(where)
        except Trouble as error:
            print(f"signer: {error}", file=sys.stderr)


def _check(theirs: dict[str, Any], mine: dict[str, str], url: str, where: str) -> None:
    """Raises `Trouble` where the lock is not to be taken over."""
    holder = theirs.get("holder") or "another machine"
    # They are equal also where an answer was lost and it was tried again.
    if all(theirs.get(name) == mine[name] for name in ("host", "mirror")):
        return
    if _follows(mine["run"], theirs.get("run")):
        print(f"signer: {url}: was held by {holder}, of this launch too; its lock is taken over", file=sys.stderr)
        return
    raise Trouble(
        f"{url}: in use by {holder}; wait for it or stop it; if it has ended without a word, as when its machine is "
        f"gone: gcloud storage rm {where}"
    )


def _follows(mine: str, theirs: object) -> bool:
    """Whether what holds a lock as `theirs` is gone, or to go, where `mine` comes."""
    if not (mine and isinstance(theirs, str)):
        return False
    now, before = _NUMBERED.fullmatch(mine), _NUMBERED.fullmatch(theirs)
    if now is None or before is None:
        return mine == theirs
    return now[1] == before[1] and int(now[2]) > int(before[2])


def check() -> None:
    """Raises `Trouble` where a lock that this process holds is no longer its own; nothing where it holds none."""
    for where, mine in list(_held.items()):
        with object_store.reaching(where):
            try:
                found = _lock(where)
            except FileNotFoundError:
                found = {}
        if found.get("id") != mine:
            now = f"is held by {found.get('holder') or 'another process'}" if found else "has been removed"
            raise Trouble(
                f"{where}: the lock of this run {now}, so nothing more is saved here; if nobody else goes on with it, "
                "run the same command again"
            )


def let_go(seconds: float = 5.0) -> None:
    """Gives up what this process holds, before it ends without unwinding; a network that does not answer is not waited
    for any longer.
    """

    def all_of_them() -> None:
        for where in list(_held):
            with suppress(Exception):
                _release(where)

    if _held:
        thread = threading.Thread(target=all_of_them, name="locks", daemon=True)
        thread.start()
        thread.join(seconds)


def _release(where: str) -> None:
    """Takes the object away, unless another process has it by now."""
    mine = _held.pop(where, None)
    with object_store.reaching(where), suppress(FileNotFoundError):
        if mine and _lock(where).get("id") == mine:
            object_store.store().rm_file(where)


def _lock(where: str) -> dict[str, Any]:
    try:
        found = parse_json(object_store.store().cat_file(where, end=_LONGEST), _LONGEST)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
