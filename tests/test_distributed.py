"""Processes that wait for each other: who does not come is named, and for how long they wait can be said."""

import os
import re
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from signer_jax import distributed
from signer_jax.errors import LOST, Absent, SignerError
from signer_jax.presence import Presence

# Both pass a place twice; to the next one process 1 does not come in time.
CODE = """
    import time
    import jax
    from signer_jax import distributed
    distributed.start()
    looks = []
    def there():  # as of a shared file system that shows late what another machine has written
        looks.append(1)
        return jax.process_index() == 0 or len(looks) > 3
    def make():
        return f"made by {jax.process_index()} after {len(looks)} looks"
    def opened():
        return make().replace("made", "opened")
    with distributed.failing_at_once():
        for k in range(2):  # what failed in one, all know; the next time nothing did
            print("FAILED", distributed.first_failure(f"at/{k}", "no room" * (k == 0) * jax.process_index(), 1.0))
        for _ in range(2):
            print(distributed.first_makes("the corpus", make, opened, there), flush=True)
        print(distributed.first_makes("nothing", make, opened, lambda: False), flush=True)
        if jax.process_index() == 1:
            time.sleep(600)
        distributed._WAITING = 4.0
        distributed.wait_for_all("latents")
"""


def test_who_does_not_come_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CODE)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {
                "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "SIGNER_COORDINATOR": address, "SIGNER_PROCESSES": "2",
                "SIGNER_PROCESS": str(i), "SIGNER_WAIT": "0.25",
            },
        )
        for i in range(2)
    ]  # fmt: skip
    try:
        said, told = processes[0].communicate(timeout=120)
    finally:
        processes[1].kill()
    both = said, processes[1].communicate()[0]
    assert all(re.findall("FAILED .*", text) == ["FAILED no room", "FAILED "] for text in both)
    made = [re.findall("(?:made|opened) by .*", text) for text in both]  # gloo speaks too
    assert made[0] == ["made by 0 after 0 looks", "made by 0 after 1 looks", "made by 0 after 2 looks"]
    assert made[1] == ["opened by 1 after 4 looks", "opened by 1 after 5 looks", "made by 1 after 5 looks"]
    assert processes[0].returncode == LOST  # its input is good: a launcher starts all of them again
    *waited, told = told.strip().splitlines()
    assert waited[-1] == (
        "signer: process 0 has waited 0 of at most 0.25 minutes (SIGNER_WAIT) at 'latents' for what others still do"
    )
    assert told == (
        "signer: at 'latents' process 1 of 2 did not come within 0.25 minutes; look at their own messages, or raise "
        "SIGNER_WAIT (minutes) if they are at work"
    )


def test_what_the_first_wrote_and_nobody_else_sees_is_told(monkeypatch):
    monkeypatch.setattr(distributed, "_SEEN", 0.3)
    with pytest.raises(SignerError, match="does not see it; all processes must share one file system"):
        distributed.seen("corpus", lambda: False)


def test_one_of_several_that_is_interrupted_says_so_in_a_line(monkeypatch, capsys):
    monkeypatch.setattr(distributed.jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended, distributed.failing_at_once():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "signer: interrupted; the same command resumes from the last checkpoint\n"


@pytest.mark.parametrize(
    ("names", "who"),
    [
        ("1\n12\n3", "processes 1, 3, 12"),
        ("/job:jax_worker/replica:0/task:7", "process 7"),
        ("", "some process"),
    ],
)
def test_the_names_that_jax_lists(names, who):
    said = (
        f"DEADLINE_EXCEEDED: Barrier timed out. Id: a 9::0. Some timed out task names:\n{names}\n\n\nRPC: /x/Barrier 4"
    )
    assert distributed._absent("a", 5.0, said).startswith(f"at 'a' {who} of ")


def test_another_failure_is_no_absence():
    line = distributed._absent("a", 5.0, "INTERNAL: Barrier (late::0) is invoked by the task\n\nRPC: x")
    assert "did not come together (INTERNAL: Barrier (late::0) is" in line and "\n" not in line


class Store:
    """Of jax's coordinator. `gone` have posted once and no more, the others post whenever somebody looks."""

    def __init__(self, count: int = 4, gone: tuple[int, ...] = ()):
        self.kept = {f"signer/at/{i}": f"0 7 {'data' if i in gone else 'compute'}" for i in range(count)}
        self.gone, self.closed = gone, False

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        if self.closed or not (allow_overwrite or key not in self.kept):
            raise distributed.jax.errors.JaxRuntimeError("ALREADY_EXISTS")
        self.kept[key] = value

    def key_value_dir_get(self, folder: str) -> list[tuple[str, str]]:
        if self.closed:
            raise distributed.jax.errors.JaxRuntimeError("UNAVAILABLE: Socket closed")
        for key in list(self.kept):
            if key.startswith("signer/at/") and int(key[10:]) not in self.gone:
                beats, rest = self.kept[key].split(" ", 1)
                self.kept[key] = f"{int(beats) + 1} {rest}"
        return [(key, value) for key, value in list(self.kept.items()) if key.startswith(folder)]


@pytest.fixture
def present(monkeypatch):
    """Makes this process one of several, by their store."""
    made = []

    def present(store: Store, index: int = 0, limit: float = 600.0, answer: float = 0.4) -> Presence:
        made.append(Presence(store, index, len(store.kept), limit, answer))
        monkeypatch.setattr(distributed, "_presence", made[-1])
        return made[-1]

    yield present
    for one in made:
        one.over()


GLOO = "UNKNOWN: Gloo all-reduce failed: Connection closed by peer"


@pytest.mark.parametrize("kind", [distributed.jax.errors.JaxRuntimeError, ValueError, RuntimeError])
def test_who_is_lost_in_a_step_is_named_and_nobody_else(kind, present):
    """Also where the others still wait in their collective, and ask nothing."""
    store = Store(gone=(2, 3))
    present(store, index=1)
    says = "^processes 2, 3 of 4 did not answer within 0.4 seconds when a step failed"
    with pytest.raises(Absent, match=says) as raised, distributed.naming_the_lost():
        raise kind(GLOO)
    assert store.kept["signer/last/line"] == str(raised.value)  # for those that are in a collective with this one


@pytest.mark.parametrize(
    "error",
    [
        distributed.jax.errors.JaxRuntimeError("UNKNOWN: Gloo all-reduce failed: timeout"),  # all are there
        ValueError("connection refused by a bucket"),
        distributed.jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"),  # its own
    ],
)
def test_another_error_stays_what_it_is(error, present):
    present(Store(gone=(2,) if "memory" in str(error) else ()))
    with pytest.raises(type(error)) as raised, distributed.naming_the_lost():
        raise error
    assert raised.value is error


def test_without_the_store_it_is_the_first_that_is_lost(present):
    store = Store()
    presence = present(store, index=2)
    store.closed = True
    assert presence.missing() == [0]
    with pytest.raises(Absent, match="^process 3 of 4 did not"), distributed.naming_the_lost():
        raise RuntimeError("INTERNAL: Barrier failed because: UNAVAILABLE: Task 3 heartbeat timeout.")  # jax says whom


def test_a_peer_that_is_lost_at_a_save_is_no_disks_fault(present, tmp_path):
    from signer_jax.training.checkpoints import Checkpoints
    from signer_jax.training.damage import readable

    present(Store(gone=(3,)))
    with Checkpoints(tmp_path / "part") as checkpoints:
        with pytest.raises(Absent, match="^process 3 of 4 did not"), checkpoints._saving():
            raise ValueError(GLOO)
        with pytest.raises(SignerError, match="could not be saved"), checkpoints._saving():
            raise ValueError("NOT_FOUND: no space")
    with pytest.raises(Absent, match="^process 3 of 4 did not"), readable(tmp_path):  # nor is a checkpoint damaged
        raise ValueError(GLOO)


@pytest.mark.parametrize("by", ["itself", "another"])
def test_a_run_that_takes_no_step_says_who_is_where_and_ends(by, present, monkeypatch, capsys):
    ended = []

    def end(code: int) -> None:
        ended.append(code)
        presence._over.set()

    monkeypatch.setattr(os, "_exit", end)
    store = Store(gone=(2,))
    presence = present(store, index=1, limit=0.3 if by == "itself" else 600.0)
    with distributed.in_steps() as at:
        at("compute", 8)
        if by == "another":
            store.kept["signer/last/line"] = "process 3 of 4 did not answer"
        assert presence._over.wait(20)
    assert ended == [LOST]
    line = capsys.readouterr().err
    if by == "another":
        assert line == "signer: process 3 of 4 did not answer\n"
        return
    assert re.fullmatch(
        r"signer: no step for 0\.0 of at most 0\.005 minutes \(SIGNER_STUCK\): process 2 in 'data' of step 7; "
        r"processes 0, 3 in 'compute' of step 7; process 1 in 'compute' of step 8; look what those that .*\n", line,
    )  # fmt: skip
    assert f"signer: {store.kept['signer/last/line']}\n" == line


def test_outside_of_steps_nobody_is_watched(present, monkeypatch):
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("ends"))
    presence = present(Store(), limit=0.01)
    with distributed.in_steps() as at:
        at("data", 1)
        presence.at("", 0)
    time.sleep(0.3)
    assert presence._thread.is_alive()


def test_one_that_is_told_to_stop_lets_the_others_know(present):
    store = Store()
    assert not distributed.asked_to_stop()
    present(store)
    assert not distributed.asked_to_stop()
    distributed.ask_to_stop()
    present(store, index=3)
    assert distributed.asked_to_stop()


def test_who_is_silent_is_taken_for_lost_no_later_than_others_wait(monkeypatch):
    for minutes, seconds in (("", 100), ("60", 100), ("0.1", 6), ("0.001", 1)):
        monkeypatch.setenv("SIGNER_WAIT", minutes)
        assert distributed._silent() == seconds


def test_how_long_they_wait():
    assert distributed.longest_wait({}) == distributed.longest_wait({"SIGNER_WAIT": ""}) == 24 * 60
    assert distributed.longest_wait({"SIGNER_WAIT": "90"}) == 90
    assert distributed.longest_step({}) == 120 and distributed.longest_step({"SIGNER_STUCK": "9"}) == 9
    with pytest.raises(SignerError, match="SIGNER_STUCK=x: give minutes"):
        distributed.longest_step({"SIGNER_STUCK": "x"})
    for value in ("0", "-1", "nan", "inf", "an hour"):
        with pytest.raises(SignerError, match="SIGNER_WAIT=.*: give minutes"):
            distributed.longest_wait({"SIGNER_WAIT": value})


@pytest.mark.parametrize(
    ("coordinator", "processes", "process", "says"),
    [
        ("garbage", "2", "0", "SIGNER_COORDINATOR=garbage: give host:port"),
        ("host:0", "2", "0", "SIGNER_COORDINATOR=host:0: give host:port"),
        ("host:port", "2", "0", "SIGNER_COORDINATOR=host:port: give host:port"),
        ("a:1", "2", "5", "SIGNER_PROCESS=5: of 2 processes the numbers are 0 to 1"),
        ("a:1", "2", "-1", "SIGNER_PROCESS=-1: of 2 "),
        ("a:1", "0", "0", "SIGNER_PROCESSES=0: give how many"),
        ("a:1", "-1", "0", "SIGNER_PROCESSES=-1: give how many"),
        ("a:1", "x", "0", "must be whole numbers"),
    ],
)
def test_variables_that_cannot_be_are_refused(monkeypatch, coordinator, processes, process, says):
    given = {"SIGNER_COORDINATOR": coordinator, "SIGNER_PROCESSES": processes, "SIGNER_PROCESS": process}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed.jax.distributed, "initialize", lambda *_: pytest.fail("joins"))
    with pytest.raises(SignerError, match=says):
        distributed.start()


def test_a_plain_machine_is_no_job(monkeypatch):
    def initialize(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setenv("SIGNER_COORDINATOR", "auto")
    monkeypatch.setattr(distributed.jax.distributed, "initialize", initialize)
    with pytest.raises(SignerError, match="auto: jax knows no job of several processes here"):
        distributed.start()


def test_a_config_is_looked_at_before_the_others_are_waited_for(monkeypatch, tmp_path):
    from signer_jax.cli.main import main

    monkeypatch.setattr(distributed, "start", lambda: pytest.fail("joins"))
    for wrong in (["--config", "nosuch"], ["--config", "demo", "--config.train.slul.steps=-1"]):
        assert main(["train", "--workdir", str(tmp_path / "w"), *wrong]) == 2


def test_tasks_of_an_uneven_slurm_step():
    step = {"SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_LOCALID": "0"}
    assert distributed.slurm_devices(step | {"SLURM_NODEID": "2"}) == [0, 1]
    assert distributed.slurm_devices(step | {"SLURM_NODEID": "3"}) == [0, 1, 2, 3]
    assert distributed.slurm_devices(step) == [0, 1]
