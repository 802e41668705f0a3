"""SIGTERM: the step under way is saved, the run ends with the code that launchers restart on, and goes on exactly."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_run
from conftest import HEARING, QUICK, ROOT, TINY

from signer_jax.errors import LOST, RESTART, Preempted
from signer_jax.training import partitioning, preemption
from signer_jax.training.checkpoints import Checkpoints
from signer_jax.training.preemption import Notice
from signer_jax.training.there import latest_step

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK, "TQDM_DISABLE": "1", "PYTHONUNBUFFERED": "1"}


def start(*command: object, **more: str) -> subprocess.Popen:
    arguments = [sys.executable, *map(str, command)]
    pipe = subprocess.PIPE
    return subprocess.Popen([*HEARING, *arguments], env=ENVIRONMENT | more, stdout=pipe, stderr=pipe, text=True)


def read_until(process: subprocess.Popen, line: str) -> None:
    for said in process.stdout:
        if said.strip() == line:
            return
    raise AssertionError(process.stderr.read()[-3000:])


def small(folder: Path, **more: str) -> subprocess.Popen:
    return start(HERE / "small_run.py", folder, 12, 4, **more)


OWN = ("DIES", "DIES_BEFORE", "STUCK")


def two_processes(
    folder: Path, steps: int, every: int, dies: int = -1, *axes: str, count: int = 2, **more: str
) -> list[subprocess.Popen]:
    """A small run by two processes, or so many, each with one device; one of them alone may be killed, or stuck."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        more["SIGNER_COORDINATOR"] = f"127.0.0.1:{free.getsockname()[1]}"
    command = (HERE / "small_run.py", folder, steps, every, *axes)
    both = {name: value for name, value in more.items() if name not in OWN}
    return [
        start(*command, **(more if i == dies else both), SIGNER_PROCESSES=str(count), SIGNER_PROCESS=str(i))
        for i in range(count)
    ]


def ended(run: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Of each process its code and what it said."""
    try:
        said = [process.communicate(timeout=300) for process in run]
    finally:
        for process in run:
            process.kill()
    return [(process.returncode, *one) for process, one in zip(run, said, strict=True)]


def test_a_run_that_is_stopped_saves_between_two_steps_and_goes_on_as_if_it_had_not_been(tmp_path):
    mesh = partitioning.make_mesh(small_run.WHOLE)
    whole = small_run.train(tmp_path / "whole", mesh, steps=10)
    notice = Notice()

    def say(step: int) -> None:
        notice.asked |= step == 5

    with pytest.raises(Preempted, match=r"stage 'part': stopped by SIGTERM; step 6 of 10 is saved, the same command"):
        small_run.train(tmp_path / "two", mesh, steps=10, notice=notice, say=say)
    assert latest_step(tmp_path / "two" / "part") == 6
    two = small_run.train(tmp_path / "two", mesh, steps=10, notice=Notice())
    jax.tree.map(np.testing.assert_array_equal, two, whole)


def test_a_run_that_is_stopped_in_its_last_step_is_saved_and_ends_too(tmp_path):
    """Else the next stage would begin."""
    mesh, notice = partitioning.make_mesh(small_run.WHOLE), Notice()

    def say(step: int) -> None:
        notice.asked |= step == 3

    with pytest.raises(Preempted, match="step 3 of 3 is saved"):
        small_run.train(tmp_path, mesh, steps=3, notice=notice, say=say)
    assert latest_step(tmp_path / "part") == 3


def test_a_process_ends_with_the_code_for_a_restart_and_resumes_exactly(tmp_path):
    with small(tmp_path / "whole") as process:
        whole = process.communicate(timeout=300)[0].splitlines()[-1]
    assert whole.startswith("params ")
    with small(tmp_path / "two", PAUSE="0.5") as process:
        read_until(process, "step 5")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=300)
    assert process.returncode == RESTART, said[-3000:]
    step = latest_step(tmp_path / "two" / "part")
    assert step in (5, 6, 7) and f"step {step} of 12 is saved" in said and "Traceback" not in said
    with small(tmp_path / "two") as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert said.splitlines()[0] == f"step {step + 1}" and said.splitlines()[-1] == whole


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, RESTART), (signal.SIGINT, 130)])
def test_a_second_signal_ends_at_once(tmp_path, second, code):
    """Whatever the main thread does: here it sleeps, and would save after that."""
    with small(tmp_path, PAUSE="1,600") as process:
        read_until(process, "step 2")
        process.send_signal(signal.SIGTERM)
        for line in process.stderr:
            if "10 seconds later ends it at once" in line:
                break
        if second == signal.SIGTERM:
            process.send_signal(second)  # the same question, which a launcher may pass on twice
            time.sleep(10.5)
        assert process.poll() is None
        process.send_signal(second)
        assert process.wait(timeout=60) == code
    assert latest_step(tmp_path / "part") is None


def test_a_signal_during_the_last_save_waits_for_it(tmp_path, monkeypatch):
    """It is written beside the steps, and those are over by then."""
    mesh, notice, wait, ended = partitioning.make_mesh(small_run.WHOLE), Notice(), Checkpoints.wait, []
    monkeypatch.setattr(os, "_exit", ended.append)

    def told(checkpoints: Checkpoints) -> None:
        if not notice.asked:
            notice.hear(signal.SIGTERM)
        wait(checkpoints)

    monkeypatch.setattr(Checkpoints, "wait", told)
    with pytest.raises(Preempted, match="step 3 of 3 is saved"):
        small_run.train(tmp_path, mesh, steps=3, notice=notice)
    assert not ended and latest_step(tmp_path / "part") == 3


def test_a_signal_during_samples_is_known_there(tmp_path):
    """They may take longer than the cluster waits, and come back at once; the next step is saved."""
    notice, known = Notice(), []

    def show(step: int, params: dict, asked) -> None:
        known.append(asked())
        notice.hear(signal.SIGTERM)
        known.append(asked())

    with pytest.raises(Preempted, match="step 4 of 9 is saved"):
        mesh = partitioning.make_mesh(small_run.WHOLE)
        small_run.train(tmp_path, mesh, steps=9, every=9, notice=notice, show=show, show_every=3)
    assert known == [False, True]


def test_of_several_a_signal_in_the_last_step_is_heard_by_all(monkeypatch):
    """No step comes after it in which they could tell each other."""
    mesh, said = partitioning.make_mesh(small_run.WHOLE), []
    monkeypatch.setattr(jax, "process_count", lambda: 2)

    def gather(asked: np.ndarray) -> np.ndarray:
        said.append(int(asked))
        return np.array([1, asked])  # the other one was told

    monkeypatch.setattr(preemption, "process_allgather", gather)
    told, not_told = Notice(), Notice()
    told.asked = True
    for notice in (told, not_told):
        agreement = preemption.Agreement(notice, mesh)
        assert not agreement.stops(np.zeros((), np.int32))  # of the last step, before it was told
        assert agreement.over()
    assert said == [1, 0]
    monkeypatch.setattr(preemption, "process_allgather", lambda asked: np.array([0, asked]))
    assert not preemption.Agreement(not_told, mesh).over()


def test_two_signals_in_a_row_are_one(monkeypatch):
    now, ended, notice = [100.0], [], Notice()
    monkeypatch.setattr(preemption.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "_exit", ended.append)
    steps = notice.during(range(3))
    next(steps), next(steps)
    for now[0] in (100.0, 100.1, 109.0):
        notice.hear(signal.SIGTERM)
    assert notice.asked and not ended
    now[0] = 110.5
    notice.hear(signal.SIGTERM)
    assert ended == [RESTART]


def test_before_the_second_step_there_is_nothing_to_save(tmp_path):
    """The first one compiles, for longer than a cluster waits."""
    with small(tmp_path, PAUSE="600") as process:
        read_until(process, "step 1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == RESTART
    assert latest_step(tmp_path / "part") is None


def test_outside_of_steps_a_run_ends_at_once():
    code = """
        import time
        from signer_jax.training import preemption
        with preemption.watched():
            print("ready", flush=True)
            time.sleep(600)
    """
    with start("-c", "\n".join(line[8:] for line in code.splitlines())) as process:
        read_until(process, "ready")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == RESTART
    assert said.strip() == "signer: ended by SIGTERM; the same command goes on from the last checkpoint"


def test_what_watched_before_watches_after():
    before = signal.getsignal(signal.SIGTERM)
    with preemption.watched():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.slow
def test_of_two_processes_one_is_killed_and_both_go_on_as_if_it_had_not_been(tmp_path):
    """The other one ends too, and says whom it misses; of the first process's end jax itself says it."""
    whole = ended(two_processes(tmp_path / "whole", 12, 4))
    folder, soon = tmp_path / "killed", {"SIGNER_WAIT": "0.3"}  # of a busy machine a process may be silent for long
    run = two_processes(folder, 12, 4, PAUSE="0.2", **soon)
    read_until(run[0], "step 6")
    run[0].send_signal(signal.SIGKILL)
    assert ended(run)[1][0] in (LOST, -signal.SIGABRT)
    (code, _, said), dead = ended(two_processes(folder, 12, 4, dies=1, DIES="8", **soon))  # in a save
    assert (code, dead[0]) == (LOST, -signal.SIGKILL) and "Traceback" not in said, said[-3000:]
    assert "signer: process 1 of 2 did not answer within 9 seconds when a step failed (" in said
    assert latest_step(folder / "part") == 4
    last = ended(two_processes(folder, 12, 4))
    assert [code for code, *_ in (*whole, *last)] == [0] * 4
    assert "step 5" in last[0][1] and len({out.splitlines()[-1] for _, out, _ in (*whole, *last)}) == 1


@pytest.mark.slow
def test_of_four_processes_only_the_one_that_is_killed_is_named(tmp_path):
    """An instant before its save; some of the others are in a collective with each other then."""
    run = two_processes(tmp_path, 40, 4, 3, "data=4", "fsdp=1", count=4, DIES_BEFORE="8")
    *others, dead = ended(run)
    assert dead[0] == -signal.SIGKILL
    for code, _, said in others:
        assert code == LOST and "Traceback" not in said, said[-3000:]
        lines = [line for line in said.splitlines() if line.startswith("signer: ") and "has waited" not in line]
        assert len(lines) == 1 and lines[0].startswith("signer: process 3 of 4 did not answer within 10 seconds when")
    assert latest_step(tmp_path / "part") == 4


@pytest.mark.slow
def test_of_two_processes_one_never_gets_its_data_and_both_end(tmp_path):
    """It is alive, so that nothing else ends them."""
    (code, _, said), (stuck, _, told) = ended(two_processes(tmp_path, 12, 4, 1, SIGNER_STUCK="0.5", STUCK="6"))
    assert code == stuck == LOST, said[-3000:]
    line = r"no step for 0\.[5-9] of at most 0\.5 minutes \(SIGNER_STUCK\): process 1 in 'data' of step 6; process 0 in"
    assert re.search(line, said) and re.search(line, told), said[-3000:]


# ---- The launcher of several processes -------------------------------------------------------------------------------

# Stands in for `python -m signer_jax train …`: it listens for TERM, and ends as we do when that came for the last time.
TASK = """#!/usr/bin/env bash
if [ "$1" = -c ]; then echo 1; exit; fi
heard=0
trap 'heard=$((heard + 1))' TERM
echo ready
while [ "$heard" -lt "$SIGNALS" ]; do sleep 0.1; done
exit 75
"""


@pytest.mark.parametrize("signals", [1, 2])
def test_the_launcher_passes_on_what_it_is_told(tmp_path, signals):
    """Every time: the first one asks, the second one ends."""
    (tmp_path / "python").write_text(TASK)
    (tmp_path / "python").chmod(0o755)
    command = ["bash", ROOT / "launch" / "local.sh", TINY, tmp_path / "run", "3"]
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SIGNALS": str(signals)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            assert process.stdout.readline() == "ready\n"
        for k in range(signals):
            if k:
                time.sleep(1)
                assert process.poll() is None
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == RESTART


@pytest.mark.slow
def test_several_processes_stop_after_one_step_though_one_alone_was_told(tmp_path):
    """`signer train` through the launcher: one process is told, all save; a single one goes on from there."""
    workdir = tmp_path / "run"
    steps = 100
    command = [
        "bash", ROOT / "launch" / "local.sh", TINY, workdir, "2", "--config.stages=slul", "--config.evaluate.split=",
        f"--config.train.slul.steps={steps}", "--config.checkpoint_every=2", "--config.tokenizer.vocab_size=300",
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = ENVIRONMENT | {"PATH": path, "SIGNER_RESTARTS": "0"}  # else the launcher goes on by itself
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while latest_step(workdir / "checkpoints" / "slul") is None and process.poll() is None:
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[1]), signal.SIGTERM)
        _, said = process.communicate(timeout=600)
    assert process.returncode == RESTART, said[-3000:]
    (saved,) = re.findall(rf"signer: stage 'slul': stopped by SIGTERM; step (\d+) of {steps} is saved", said)
    assert latest_step(workdir / "checkpoints" / "slul") == int(saved) < steps
    command[4] = "1"
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert latest_step(workdir / "checkpoints" / "slul") == steps


def test_nobody_is_asked_before_the_steps_own_sums_are_done():
    """gloo tells messages by their order: the answer waits for the step, whatever the step found."""

    def step(state, frozen, batch):
        return state, {"norm": jnp.sin(batch).sum(), "skipped": jnp.int32(0)}

    both = preemption.with_question(step)
    answer = jax.jit(lambda *given: both(*given)[2])
    given = (jnp.zeros(()), {}, jnp.full(2, jnp.nan))
    assert [int(answer(*given, jnp.array(asked, jnp.int32))) for asked in ((0, 0), (0, 1))] == [0, 1]
    shown = answer.lower(*given, jnp.zeros(2, jnp.int32)).compile().as_text()
    assert "sine(" in shown  # which nothing but the order asks for
    assert both(*given, None)[2] is None
