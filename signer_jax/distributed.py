"""One entry point for one process or many: `jax.distributed` starts where the launcher's variables say so.

SIGNER_COORDINATOR=host:port SIGNER_PROCESSES=N SIGNER_PROCESS=i     set by `launch/`; SLURM and TPU pods are found
                                                                     by jax itself with SIGNER_COORDINATOR=auto
SIGNER_WAIT=MINUTES                                                  how long processes wait for each other (a day)
SIGNER_STUCK=MINUTES                                                 how long a run may take no step (two hours)
"""

import atexit
import json
import math
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax._src import distributed as coordination  # of its client's barriers jax has no public form
from jax.experimental.multihost_utils import broadcast_one_to_all

from signer_jax.errors import RESTART, Absent, Preempted, SignerError, Trouble
from signer_jax.outside import code_of, line_of
from signer_jax.presence import Presence, named

Made = TypeVar("Made")

_DAY = 24 * 60.0  # minutes
_STUCK = 120.0  # minutes
_SEEN = 120.0  # seconds
_JOINING = 60.0  # seconds until it is said what a process waits for
_WAITING = 60.0  # seconds until it is said that a process waits, and twice as long until it is said again
_SILENT = 100.0  # seconds after which jax takes a process for lost that it hears nothing of, and ends the others
_ANSWER = 10.0  # seconds
_OF_A_PEER = re.compile(r"gloo|nccl|connection|socket|peer|remote process|heartbeat|barrier|unavailable", re.IGNORECASE)
_MISSING = re.compile(r"timed out task names:(.*?)(?:\n\s*\n|RPC:|$)", re.DOTALL)
_SILENCE = re.compile(r"Task (\d+) heartbeat timeout")


def slurm_devices(variables: Mapping[str, str]) -> list[int] | None:
    """The GPUs of a SLURM task, as it counts them: its even share of those that it sees. None elsewhere.

    Left to itself, jax gives task i GPU i alone: with one task a node the others are idle, and a task to which SLURM
    shows its own GPU only (`--gpus-per-task`) looks for one that is not there. Raises `SignerError` where the GPUs do
    not divide among the tasks.
    """
    tasks = _tasks_here(variables)
    task, visible = variables.get("SLURM_LOCALID", ""), variables.get("CUDA_VISIBLE_DEVICES", "")
    if not (tasks and task and visible):
        return None
    count, share = len(visible.split(",")), tasks
    if variables.get("SLURM_GPUS_PER_TASK") or (count == 1 and share > 1):
        return list(range(count))  # SLURM has shared them out
    if count % share:
        raise SignerError(
            f"SLURM: {count} GPUs do not divide among {share} tasks on this node; "
            f"give sbatch --ntasks-per-node={count} --gpus-per-node={count}"
        )
    each = count // share
    return list(range(int(task) * each, (int(task) + 1) * each))


def _tasks_here(variables: Mapping[str, str]) -> int:
    """The step's tasks on this node, of the list "2(x3),1" of all its nodes; 0 where SLURM says none."""
    listed = re.findall(r"(\d+)(?:\(x(\d+)\))?", variables.get("SLURM_STEP_TASKS_PER_NODE", ""))
    tasks = [int(each) for each, nodes in listed for _ in range(int(nodes or 1))]
    node = variables.get("SLURM_NODEID", "0")
    return tasks[int(node)] if node.isdecimal() and int(node) < len(tasks) else 0


def explicit(variables: Mapping[str, str]) -> tuple[str, int, int]:
    """The coordinator, how many processes there are and which this is. Raises `SignerError` where they cannot be so."""
    coordinator = variables["SIGNER_COORDINATOR"]
    _, _, port = coordinator.rpartition(":")
    if not (re.fullmatch(r"[^\s/]+:[0-9]{1,5}", coordinator) and 0 < int(port) < 1 << 16):
        raise SignerError(
            f"SIGNER_COORDINATOR={coordinator}: give host:port of process 0, or auto in a SLURM or TPU job"
        )
    try:
        count, index = int(variables["SIGNER_PROCESSES"]), int(variables["SIGNER_PROCESS"])
    except (KeyError, ValueError):
        raise SignerError(
            "SIGNER_COORDINATOR is set: SIGNER_PROCESSES and SIGNER_PROCESS must be whole numbers"
        ) from None
    if count < 1:
        raise SignerError(f"SIGNER_PROCESSES={count}: give how many processes the run has, 1 or more")
    if not 0 <= index < count:
        raise SignerError(f"SIGNER_PROCESS={index}: of {count} processes the numbers are 0 to {count - 1}")
    return coordinator, count, index


def start() -> None:
    """Joins the other processes; does nothing for a single one. Raises `SignerError` for variables that are wrong."""
    coordinator = os.environ.get("SIGNER_COORDINATOR")
    if not coordinator:
        return
    longest_wait(os.environ), longest_step(os.environ)
    if coordinator == "auto":
        mine = slurm_devices(os.environ)
        try:
            with _joining("its job"):
                jax.distributed.initialize(local_device_ids=mine, heartbeat_timeout_seconds=_silent())
        except ValueError as error:  # jax found nothing that says where the others are
            raise SignerError(
                f"SIGNER_COORDINATOR=auto: jax knows no job of several processes here ({str(error)[:120]}); give "
                "host:port with SIGNER_PROCESSES and SIGNER_PROCESS, or leave it unset"
            ) from None
        _present()
        return
    coordinator, count, index = explicit(os.environ)
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    with _joining(f"{count} at {coordinator}, of which it is number {index}"):
        jax.distributed.initialize(coordinator, count, index, heartbeat_timeout_seconds=_silent())
    _present()


_presence: Presence | None = None  # of this process among several


def _present() -> None:
    """Has this process known to the others, until it ends."""
    global _presence
    client = coordination.global_state.client
    if _presence is None and client is not None and jax.process_count() > 1:
        answer = min(_ANSWER, _silent() / 2)
        limit = 60 * longest_step(os.environ)
        _presence = Presence(client, jax.process_index(), jax.process_count(), limit, answer)
        atexit.register(_presence.over)  # before jax's own end of the client


@contextmanager
def _joining(others: str) -> Iterator[None]:
    """Says what is waited for: at its limit, of five minutes, jax ends the process and says little."""
    line = f"signer: this process still waits for the others ({others}) to begin; look whether all run and reach it"
    timer = threading.Timer(_JOINING, lambda: print(line, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def longest_wait(variables: Mapping[str, str]) -> float:
    """Minutes that processes wait for each other, `SIGNER_WAIT`. Raises `SignerError` where that is no such number."""
    return _minutes(variables, "SIGNER_WAIT", _DAY)


def longest_step(variables: Mapping[str, str]) -> float:
    """Minutes without a step, or with one that does not end, after which several processes end: `SIGNER_STUCK`. Its
    compilation, save and samples count. Raises `SignerError` as `longest_wait`.
    """
    return _minutes(variables, "SIGNER_STUCK", _STUCK)


def _minutes(variables: Mapping[str, str], name: str, default: float) -> float:
    given = variables.get(name, "")
    if not given:
        return default
    try:
        minutes = float(given)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= 366 * _DAY:
        raise SignerError(f"{name}={given}: give minutes, more than 0 and at most a year, or leave it unset")
    return minutes


def _silent() -> int:
    return math.ceil(min(_SILENT, 60 * longest_wait(os.environ)))


def first_makes(what: str, make: Callable[[], Made], opened: Callable[[], Made], there: Callable[[], bool]) -> Made:
    """Runs `make` on the first process; the others open with `opened` what it has written.

    The processes share a file system, as checkpoints need anyway, or a bucket. `there`: whether what `make` writes is
    there; the others wait until it is as on the first (`seen`). Where it writes nothing, they run `make` too.
    """
    if jax.process_index() == 0:
        made = make()
        wait_for_all(what)
        first_says(there())
        return made
    wait_for_all(what)
    if not first_says(False):
        return make()
    seen(what, there)
    return opened()


def seen(what: str, there: Callable[[], bool]) -> None:
    """Returns when what another process has written is to be seen: of a shared file system (NFS) a machine may keep for
    some time what it has seen before. Raises `Trouble` after two minutes.
    """
    end = time.monotonic() + _SEEN
    while not there():
        if time.monotonic() > end:
            raise Trouble(
                f"{what}: the first process has written it, and process {jax.process_index()} does not see it; all "
                "processes must share one file system, or a bucket, under the same path"
            )
        time.sleep(0.2)


def first_does(what: str, do: Callable[[], object]) -> None:
    """Runs `do` on the first process; the others go on when it is done."""
    if jax.process_index() == 0:
        do()
    wait_for_all(what)


def first_tells(what: str, make: Callable[[], Any]) -> Any:
    """What `make` gives on the first process, on every one: plain values as JSON has them."""
    if jax.process_count() == 1:
        return make()
    data = json.dumps(make()).encode() if jax.process_index() == 0 else b""
    wait_for_all(what)  # in no collective: it may take long
    data = data.ljust(first_says(len(data)))
    return json.loads(np.asarray(broadcast_one_to_all(np.frombuffer(data, np.uint8))).tobytes())


def first_says(number: int) -> int:
    """The first process's number, for all: each lists a shared folder by itself, and may see another state of it.

    Every process calls it.
    """
    return int(broadcast_one_to_all(np.int32(number))) if jax.process_count() > 1 else number


def wait_for_all(what: str) -> None:
    """Returns when every process has come here; `what` names the place. Nothing for a single process.

    They wait for as long as `longest_wait` says, in no collective: the first process may work alone for hours before it
    comes. Now and then each says that it waits. Raises `Absent`, which says who did not come.
    """
    if jax.process_count() == 1:
        return
    minutes, client = longest_wait(os.environ), coordination.global_state.client
    assert client is not None
    try:
        with _waiting(what, minutes):
            client.wait_at_barrier(what, round(minutes * 60_000))
    except jax.errors.JaxRuntimeError as error:
        raise Absent(_absent(what, minutes, str(error))) from None


def first_failure(what: str, mine: str, minutes: float) -> str:
    """Of what failed in each process, a line or "", the first one's that has any, in all of them. `what` is said once.

    They meet in no collective, in which one may hang still where another failed: raises `Absent` where one has not come
    within so many minutes.
    """
    if jax.process_count() == 1:
        return mine
    client = coordination.global_state.client
    assert client is not None
    if mine:
        client.key_value_set(f"{what}/{jax.process_index():08}", mine)
    minutes = min(minutes, longest_wait(os.environ))
    try:
        client.wait_at_barrier(what, round(minutes * 60_000))
    except jax.errors.JaxRuntimeError as error:
        why = f" ({mine})" if mine else ""
        raise Absent(
            f"at {what!r} {_who(str(error))} of {jax.process_count()} did not come within {minutes:g} minutes{why}; "
            "look at their own messages, and start all of them again"
        ) from None
    found = sorted(client.key_value_dir_get(f"{what}/"))
    return found[0][1] if found else ""


@contextmanager
def _waiting(what: str, most: float) -> Iterator[None]:
    """Says that this process waits, each time after twice as long: one that says nothing looks as if it hung."""
    over, since = threading.Event(), time.monotonic()

    def tell() -> None:
        pause = _WAITING
        while not over.wait(pause):
            print(
                f"signer: process {jax.process_index()} has waited {(time.monotonic() - since) / 60:.0f} of at most "
                f"{most:g} minutes (SIGNER_WAIT) at {what!r} for what others still do",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            pause *= 2

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _absent(what: str, minutes: float, said: str) -> str:
    """The line for a barrier that was not passed, of what jax says: the tasks that did not come are named there."""
    mend = "look at their own messages, or raise SIGNER_WAIT (minutes) if they are at work"
    if "DEADLINE_EXCEEDED" not in said:
        reason = " ".join(said.split())[:160]
        return f"at {what!r} the processes did not come together ({reason}); start all of them again"
    return f"at {what!r} {_who(said)} of {jax.process_count()} did not come within {minutes:g} minutes; {mend}"


def _who(said: str) -> str:
    """The processes that jax names in such an error."""
    names = [name for listed in _MISSING.findall(said) for name in re.findall(r"(\d+)\s*$", listed, re.M)]
    missing = {int(task) for task in (*names, *_SILENCE.findall(said))}
    return named(missing) if missing else "some process"


@contextmanager
def naming_the_lost() -> Iterator[None]:
    """Around what all processes compute together: where it fails since one of them has ended, it is said which.

    Raises `Absent` then. What hangs in place of failing jax ends when it has heard nothing of one (`_silent`).
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:  # gloo's at a program's start are of the second kind
        check_all_are_there(error)
        raise


def check_all_are_there(error: BaseException) -> None:
    """Raises `Absent`, and has all others end with it, where an error is of a process that is gone; each of the others
    answers from a thread of its own, whatever collective it still waits in.
    """
    if _presence is None or not _OF_A_PEER.search(str(error)):
        return
    silent = [int(task) for task in _SILENCE.findall(str(error))]  # as jax itself has found
    if missing := silent or _presence.missing():
        reason = " ".join(str(error).split())[:120]
        line = (
            f"{named(missing)} of {_presence.count} did not answer within {_presence.answer:g} seconds when a step "
            f"failed ({reason}); look at its own messages, and start all of them again"
        )
        _presence.tell(line)
        raise Absent(line) from error


@contextmanager
def in_steps() -> Iterator[Callable[[str, int], None]]:
    """Around steps: where several processes take none for `longest_step`, they say who is where, and end.

    Gives what a process calls when it comes to another phase of a step; that costs nothing.
    """
    if _presence is None:
        yield lambda phase, step: None
        return
    try:
        yield _presence.at
    finally:
        _presence.at("", 0)


def ask_to_stop() -> None:
    """Lets the other processes know that this one was asked to stop."""
    if _presence is not None:
        _presence.ask()


def asked_to_stop() -> bool:
    """Whether any of several processes was, as far as it is known here; False for a single one."""
    return _presence is not None and _presence.asked()


@contextmanager
def failing_at_once() -> Iterator[None]:
    """A process that fails among several ends here, with its message: at a normal exit it would wait for the others.

    They wait for it in turn, until the launcher, which sees it end, takes them down.
    """
    try:
        with naming_the_lost():
            yield
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        if isinstance(error, Preempted):
            _leave_together(str(error))
        if isinstance(error, KeyboardInterrupt):
            print("signer: interrupted; the same command resumes from the last checkpoint", file=sys.stderr, flush=True)
            os._exit(130)
        line = line_of(error)
        if isinstance(error, Absent) and _presence is not None:
            _presence.last_words()
        if line is not None:
            print(f"signer: {line}", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(1 if line is None else code_of(error))


def _leave_together(line: str) -> NoReturn:
    """All stop after the same step: each waits until the others have saved too, since the first one's end ends them."""
    if jax.process_index() == 0:
        print(f"signer: {line}", file=sys.stderr, flush=True)
    if _presence is not None:
        _presence.over()
    with suppress(Exception):  # somebody may have been taken away before; what is saved is saved
        jax.distributed.shutdown()
    os._exit(RESTART)
