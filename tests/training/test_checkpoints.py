"""Checkpoints of a small model: restored exactly, damage told from another model, nothing bad saved over the good."""

import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_stage

from signer_jax import workdir
from signer_jax.errors import SignerError, Trouble
from signer_jax.training import checkpoints as ckpt
from signer_jax.training import contents, partitioning, there
from signer_jax.training.checkpoints import Checkpoints, Damaged, read_params
from signer_jax.training.contents import checksum
from signer_jax.training.loop import Program, Stage, fit
from signer_jax.training.monitoring import Monitor
from signer_jax.training.there import latest_step

MESH = {"data": 1, "fsdp": -1, "tensor": 1}


def objective(params, batch, rng):
    error = batch["x"] @ params["part"]["kernel"] + params["part"]["bias"]
    return jnp.square(error).mean(), {}


def stage(steps: int = 6, rate: float = 1e-2) -> Stage:
    return small_stage.stage(objective, steps=steps, learning_rate=rate)


def params(width: int = 16) -> dict:
    rng = np.random.default_rng(0)
    return {"part": {"kernel": rng.normal(size=(8, width)).astype(np.float32), "bias": np.ones(width, np.float32)}}


def batches(poison: int | tuple = -1) -> grain.DatasetIterator:
    bad = poison if isinstance(poison, tuple) else (poison,)

    def example(i: int, rng: np.random.Generator) -> dict:
        return {"x": np.full(8, np.nan if i in bad else rng.normal(), np.float32)}

    dataset = grain.MapDataset.range(1000).seed(0).random_map(example).batch(8)
    return iter(dataset.to_iter_dataset(grain.ReadOptions(1, 1)))


def train(folder: Path, *, poison: int = -1, every: int = 2, log: int = 1, width: int = 16, **values) -> dict:
    monitor = Monitor(folder / "tensorboard")
    with Checkpoints(folder / "part") as checkpoints:
        program = Program(stage(**values), params(width), partitioning.make_mesh(MESH))
        return fit(
            program, params(width), batches(poison), seed=0,
            checkpoints=checkpoints, monitor=monitor, log_every=log, checkpoint_every=every,
        )  # fmt: skip


def test_nothing_is_compiled_to_save_what_every_cpu_device_has(tmp_path):
    """Else it is a program a shape. The shapes are this test's own: another's programs would be there."""
    mesh = partitioning.make_mesh(MESH)
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    values = {"x": np.arange(8.0 * 27).reshape(8, 27).astype(np.float32), "y": np.arange(16.0 * 29).reshape(16, 29)}
    state = {"params": {"part": jax.device_put(values, whole)}}
    compiled = []

    def heard(event: str, seconds: float, **more) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    class Place:
        def get_state(self) -> dict:
            return {}

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        with Checkpoints(tmp_path / "part") as checkpoints:
            checkpoints.save(1, state, Place())
        assert not compiled
        jax.block_until_ready(jax.jit(lambda x: x + 1)(np.zeros(31)))
        assert compiled  # the event has this name
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    saved = read_params(tmp_path / "part")["part"]
    jax.tree.map(np.testing.assert_array_equal, saved, jax.device_get(state["params"]["part"]))


def test_a_run_in_two_parts_is_the_whole_run(tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(SignerError):  # stopped by a bad batch after step 4, resumed without it
        train(tmp_path / "two", poison=4 * 8 + 3)
    assert latest_step(tmp_path / "two" / "part") == 4
    two = train(tmp_path / "two")
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(two["part"][name], whole["part"][name])
        np.testing.assert_array_equal(read_params(tmp_path / "two" / "part")["part"][name], whole["part"][name])


def test_a_nan_between_two_logs_is_never_saved(tmp_path):
    with pytest.raises(SignerError, match=r"not finite at step 4; the checkpoint of step 2 is whole"):
        train(tmp_path, poison=3 * 8, log=100, steps=30)  # the batch of step 4; logs are at 3 and 6
    assert latest_step(tmp_path / "part") == 2
    kept = read_params(tmp_path / "part")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept))


def test_flipped_bytes_never_load_as_other_weights(tmp_path):
    train(tmp_path / "good")
    truth = read_params(tmp_path / "good" / "part")
    files = [f for f in (tmp_path / "good" / "part" / "6").rglob("*") if f.is_file() and f.stat().st_size]
    chance = random.Random(0)
    refused = 0
    for _ in range(60):
        file = chance.choices(files, [f.stat().st_size for f in files])[0]
        copy = tmp_path / "bad" / "part"
        shutil.copytree(tmp_path / "good" / "part", copy)
        target = copy / file.relative_to(tmp_path / "good" / "part")
        data = bytearray(target.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        target.write_bytes(data)
        try:
            found = read_params(copy)
            jax.tree.map(np.testing.assert_array_equal, found, truth)
        except SignerError as error:
            assert "damaged" in str(error) or "say what it holds" in str(error), error
            assert "\n" not in str(error)
            refused += 1
        shutil.rmtree(copy)
    assert refused > 10  # the others hit what is not read here: the optimizer, time stamps, white space


def test_the_checksum_sees_every_word_whatever_the_mesh(monkeypatch):
    monkeypatch.setattr(contents, "_PIECE", 5)
    rng = np.random.default_rng(0)
    for array in (
        rng.normal(size=(8, 6)).astype(np.float32), rng.integers(0, 9, (8,), np.int32), np.ones((8, 2), bool),
        jnp.asarray(rng.normal(size=(8, 3)), jnp.bfloat16), np.float32(2.5),
    ):  # fmt: skip
        plain = np.asarray(checksum(jnp.asarray(array)))
        np.testing.assert_array_equal(contents.checksum_here(np.asarray(array)), plain)
        if np.ndim(array):
            mesh = partitioning.make_mesh(MESH)
            sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
            np.testing.assert_array_equal(jax.jit(checksum)(jax.device_put(array, sharding)), plain)
        raw = np.array(array)
        for place in range(raw.size):
            changed = raw.copy()
            changed.reshape(-1).view(np.uint8)[place * raw.itemsize] ^= 1
            assert (np.asarray(checksum(jnp.asarray(changed))) != plain).all()
    swapped = np.arange(6, dtype=np.float32)[::-1].copy()
    assert (np.asarray(checksum(jnp.asarray(swapped))) != np.asarray(checksum(jnp.arange(6.0)))).all()
    # By hand: one word at place 0 is weighted by the odd hash of its place.
    word = np.float32(1.5).view(np.uint32)
    weight = int(np.asarray(contents._mixed(jnp.uint32(0x9E37)))) | 1
    assert int(checksum(jnp.asarray([1.5], jnp.float32))[0]) == int(word) * weight % 2**32


def test_another_model_is_told_from_damage(tmp_path):
    train(tmp_path)
    with pytest.raises(SignerError, match=r"another model: it has float32 \[\d+(, \d+)?\] for .*float32 \[") as error:
        train(tmp_path, width=24, steps=8)
    assert "damaged" not in str(error.value)
    with pytest.raises(SignerError, match="holds no checkpoint"):
        read_params(tmp_path / "none")
    shutil.rmtree(tmp_path / "part" / "6" / "about")
    with pytest.raises(SignerError, match="does not say what it holds"):
        read_params(tmp_path / "part")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(116, "Stale file handle"), "could not be read (stale file handle)"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "could not be read (too little memory)"),
        (TimeoutError("timed out"), "could not be read (timed out)"),
        (ValueError("PERMISSION_DENIED: Opening: x [os_error_code='13']"), "could not be read (ValueError: PERMISSION"),
        (
            ValueError("RESOURCE_EXHAUSTED: Too many open files [os_error_code='24']"),
            "could not be read (ValueError: RES",
        ),
        (ValueError("UNKNOWN: Reading: Input/output error [os_error_code='5']"), "could not be read (ValueError: UNKN"),
        (ValueError("ABORTED: Stale file handle [os_error_code='116']"), "could not be read (ValueError: ABORTED"),
        (ValueError("UNAVAILABLE: connection lost"), "could not be read (ValueError: UNAVAILABLE: connection lost)"),
        (ValueError("NOT_FOUND: d/1 [os_error_code='2']"), "is damaged (ValueError: NOT_FOUND"),
        (ValueError("DATA_LOSS: checksum of d/1"), "is damaged (ValueError: DATA_LOSS"),
        (ValueError("bad chunk"), "is damaged (ValueError: bad chunk)"),
    ],
)
def test_only_damage_is_called_damage(tmp_path, error, says):
    with pytest.raises(SignerError) as raised, ckpt.readable(tmp_path):
        raise error
    assert says in str(raised.value)
    assert ("move that folder away" in str(raised.value)) == ("damaged" in says)


@pytest.mark.parametrize(
    ("error", "damage"),
    [
        (TypeError("restore() got an unexpected keyword argument 'x'"), False),
        (ValueError("sharding is not compatible with 3 processes"), False),
        (ValueError("restore item and on-disk value metadata tree structures do not match: usual"), False),
        (ValueError("Error decoding chunk: zstd"), True),
    ],
    ids=str,
)
def test_a_whole_checkpoint_that_cannot_be_put_here_is_not_called_damaged(tmp_path, monkeypatch, error, damage):
    train(tmp_path)

    def refuse(*_, **__):
        raise error

    about = ckpt.read_about(tmp_path / "part" / "6")
    monkeypatch.setattr(ckpt, "read_about", lambda _: about)
    monkeypatch.setattr(ckpt.ocp.PyTreeCheckpointHandler, "restore", refuse)
    with pytest.raises(SignerError) as raised:
        read_params(tmp_path / "part")
    assert ("damaged" in str(raised.value)) == ("move that folder away" in str(raised.value)) == damage
    assert damage or "leave it where it is" in str(raised.value)


def test_a_path_says_nothing_of_where_arrays_lie(tmp_path):
    folder = tmp_path / "mesh-4x4" / "2"
    with pytest.raises(Damaged), ckpt.readable(folder, whole=True):
        raise ValueError(f"Error decoding chunk of file://{folder}/state/d/1")


def test_which_checkpoint_is_the_newest_is_the_first_process_to_say(tmp_path, monkeypatch):
    """Of a shared folder each may list another state."""
    for step in "24":
        (tmp_path / "part" / step).mkdir(parents=True)
    with Checkpoints(tmp_path / "part") as checkpoints:
        assert checkpoints.latest() == 4
        for said, step in ((2, 2), (-1, None)):
            for module in (ckpt, there):
                monkeypatch.setattr(module, "first_says", lambda _, said=said: said)
            assert checkpoints.latest() == step
        with pytest.raises(SignerError, match="holds no checkpoint"):
            checkpoints.restore({}, None)
        with pytest.raises(Damaged):  # it has one before it here, but not there
            there.pass_over(Damaged(tmp_path / "part" / "4", "is damaged"))


def test_a_save_that_fails_is_no_bad_input(tmp_path):
    checkpoints = Checkpoints(tmp_path / "part")
    with checkpoints, pytest.raises(Trouble, match="could not be saved"), checkpoints._saving():
        raise ValueError("UNAVAILABLE: the disk is gone")


def test_a_save_that_orbax_declines_is_told(tmp_path):
    """It saves none before one that it lists."""
    (tmp_path / "part" / "6").mkdir(parents=True)
    with Checkpoints(tmp_path / "part") as checkpoints:
        with pytest.raises(Trouble, match=r"step 4 was not saved, as one of step 6 is there; look whether another run"):
            checkpoints.save(4, {"x": jnp.ones(3)}, batches())
        checkpoints.save(8, {"x": jnp.ones(3)}, batches())
    assert latest_step(tmp_path / "part") == 8


def test_what_one_of_several_cannot_read_is_no_damage_to_any(tmp_path, monkeypatch):
    """They go the same way, each with a line, whatever each met itself."""
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    for other, own, kind, line in (
        ([1, 1], None, Damaged, "is damaged .as another process reads it"),
        ([0, 1], None, Trouble, "another process cannot read this checkpoint"),
        ([0, 1], Damaged(tmp_path, "is damaged"), Trouble, "another process cannot read this checkpoint"),
        ([1, 1], SignerError("of another model"), SignerError, "of another model"),
        ([0, 0], Damaged(tmp_path, "is damaged"), Damaged, "is damaged"),
    ):
        monkeypatch.setattr(ckpt, "process_allgather", lambda mine, other=other: np.array([mine, other, [0, 0]]))
        with pytest.raises(kind, match=line) as met, ckpt._for_all(tmp_path):
            if own:
                raise own
        assert type(met.value) is kind
    with ckpt._for_all(tmp_path, together=False):
        pass


def test_a_save_takes_as_long_as_processes_wait(tmp_path, monkeypatch):
    """Orbax's own limits are 20 minutes, and 5 where processes meet."""
    made = []
    monkeypatch.setenv("SIGNER_WAIT", "90")
    monkeypatch.setattr(ckpt.coordination, "_DEFAULT_BARRIER_TIMEOUT", 300)
    monkeypatch.setattr(ckpt.ocp, "CheckpointManager", lambda directory, options: made.append(options))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(Checkpoints, "_list", lambda _: None)
    Checkpoints(tmp_path / "part")
    assert made[0].async_options.timeout_secs == ckpt.coordination.coordination_timeout() == 5400


def test_an_error_keeps_the_pending_save_and_stays_short(tmp_path):
    code = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import test_checkpoints
        test_checkpoints.train(Path({str(tmp_path)!r}), poison=2 * 8, every=2)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 1 and "SignerError" in done.stderr.splitlines()[-1]
    assert "step 2 is whole" in done.stderr and "Event loop" not in done.stderr
    assert latest_step(tmp_path / "part") == 2 and read_params(tmp_path / "part")


def kept_after(folder: Path, losses: list[float | None], keep: int, best: bool) -> list[int]:
    """The steps that are there after saves of these losses, at steps 1, 2, …; each by a process of its own."""
    state = {"x": jnp.ones(3)}
    before = max(there.steps_of(folder), default=0)
    for step, loss in enumerate(losses, before + 1):
        with Checkpoints(folder, keep, best) as checkpoints:
            checkpoints.save(step, state, batches(), loss)
    return sorted(there.steps_of(folder))


def test_the_best_checkpoint_stays_beside_the_last_ones(tmp_path):
    losses = [3.0, 1.0, 2.0, None, 2.5]
    assert kept_after(tmp_path / "last", losses, 2, False) == [4, 5]
    assert kept_after(tmp_path / "best", losses, 2, True) == [2, 4, 5]
    assert kept_after(tmp_path / "best", [0.5, 0.75], 2, True) == [6, 7]
    # One whose list has changed is not held to be the best; it goes with its turn.
    about = next(path for path in (tmp_path / "best" / "6" / "about").iterdir() if b"0.5" in path.read_bytes())
    about.write_bytes(about.read_bytes().replace(b"0.5", b"0.1"))
    assert kept_after(tmp_path / "best", [0.75, 0.6, 0.7], 2, True) == [9, 10]


def test_a_stage_keeps_the_checkpoint_before_which_its_loss_was_lowest_in_the_mean(tmp_path):
    """The losses follow the data: here 4, 4, 1, 3, 9, 9, 4, 4, with a rate that changes nothing."""
    sizes = (2.0, 2.0, 1.0, 3**0.5, 3.0, 3.0, 2.0, 2.0)

    def example(i: int) -> dict:
        return {"x": np.full(8, sizes[i // 8 % 8], np.float32)}

    def measured(params, batch, rng):
        return jnp.square(batch["x"] * params["part"]["scale"]).mean(), {}

    stream = iter(grain.MapDataset.range(64).map(example).batch(8).to_iter_dataset(grain.ReadOptions(1, 1)))
    with Checkpoints(tmp_path / "part", keep=1, best=True) as checkpoints:
        made, given = small_stage.stage(measured, steps=8, learning_rate=1e-9), {"part": {"scale": np.float32(1)}}
        fit(
            Program(made, given, partitioning.make_mesh(MESH)), given, stream, seed=0, checkpoints=checkpoints,
            monitor=Monitor(tmp_path / "tensorboard"), log_every=3, checkpoint_every=2,
        )  # fmt: skip
    assert sorted(there.steps_of(tmp_path / "part")) == [4, 8]
    assert ckpt.read_about(tmp_path / "part" / "4")["loss"] == pytest.approx(2, rel=1e-5)
    assert ckpt.read_about(tmp_path / "part" / "8")["loss"] == pytest.approx(4, rel=1e-5)


def test_a_full_disk_stops_with_one_line_and_the_old_checkpoint(tmp_path):
    code = f"""
        import resource, signal, sys
        from signer_jax.cli import logs
        logs.keep_to_one_line()
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import test_checkpoints
        from signer_jax.errors import SignerError
        folder = Path({str(tmp_path)!r})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        test_checkpoints.train(folder, steps=2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        try:
            test_checkpoints.train(folder, steps=6)
        except SignerError as error:
            print("ERROR", error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "could not be saved" in done.stdout and "the one of step 2 is whole" in done.stdout
    assert "Event loop" not in done.stderr and "Traceback" not in done.stderr, done.stderr[-3000:]
    assert done.stderr.count("no curves for now") >= 1  # monitoring failed too, and training went on
    assert latest_step(tmp_path / "part") == 2 and read_params(tmp_path / "part")


def test_a_folder_whose_name_is_a_digit_of_no_number_is_no_step(tmp_path):
    (tmp_path / "²").mkdir()
    assert latest_step(tmp_path) is None


def test_a_workdir_that_vanishes_in_mid_run_is_not_made_anew(tmp_path, capsys):
    run = tmp_path / "run"
    (run / "tensorboard").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    workdir.check_there(run)
    monitor = Monitor(run / "tensorboard")
    with Checkpoints(run / "checkpoints" / "part") as checkpoints:
        shutil.rmtree(run)
        with pytest.raises(Trouble, match="has gone since the run began, so step 4 is not saved"):
            checkpoints.save(4, {}, None)
        monitor.scalars("part", 4, {"loss": 1.0})
        assert "no curves for now (no such file or directory)" in capsys.readouterr().err
    with pytest.raises(Trouble, match="the workdir has gone since the run began"):
        workdir.check_there(run)
    assert not run.exists()
