"""What a step does: parts of a batch, running means, steps that are left out, and what is saved of it."""

from dataclasses import replace

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_stage
from flax.traverse_util import flatten_dict
from fuzz import memory
from test_checkpoints import MESH, batches

from signer_jax.dense import Dense
from signer_jax.errors import SignerError
from signer_jax.training import partitioning
from signer_jax.training.checkpoints import Checkpoints, read_params, read_sizes
from signer_jax.training.loop import Program, TrainState, cut, finished, fit, make_step, mean_of
from signer_jax.training.monitoring import Monitor
from signer_jax.training.optimizer import optimizer
from signer_jax.training.there import latest_step

MODULE = Dense(16)


def objective(params, batch, rng):
    """A mean over examples, each with a mask of its own: uneven weights within an example are its own matter."""
    error = jnp.square(MODULE.apply({"params": params["part"]["dense"]}, batch["x"])) + params["part"]["other"].sum()
    each = (error * batch.get("mask", 1.0)).sum(-1) / jnp.maximum(jnp.sum(batch.get("mask", jnp.ones(1))), 1)
    return each.mean(), {"largest": each.max()}


def params() -> dict:
    rng = np.random.default_rng(0)
    dense = {"kernel": rng.normal(size=(8, 16)).astype(np.float32), "bias": np.ones(16, np.float32)}
    return {"part": {"dense": dense, "other": np.ones(3, np.float32)}, "frozen": {"a": np.ones(4, np.float32)}}


LORA = small_stage.replace(small_stage.LORA, rank=2, alpha=4.0, targets=("dense/kernel$",))


def stage(**changes):
    return small_stage.stage(objective, lora=LORA, **changes)


def train(folder, *, poison=(), every=2, log=1, profile=0, **changes):
    made, given = stage(**changes), params()
    given["frozen"]["a"] = given["frozen"]["a"].astype(made.training.frozen_dtype)
    with Checkpoints(folder / "part") as checkpoints:
        learned = fit(
            Program(made, given, partitioning.make_mesh(MESH)), given, batches(poison), seed=0,
            checkpoints=checkpoints, monitor=Monitor(folder / "tensorboard"), log_every=log, checkpoint_every=every,
            profile=profile,
        )  # fmt: skip
    return finished(made, params(), learned)


def state_of(made, params):
    tx = optimizer(made.training, made.optimizers)
    moving, frozen = cut(made, params, 0)
    none = jnp.zeros((), jnp.int32)
    ema = moving if made.training.ema else {}
    return TrainState(none, moving, ema, tx.init(moving), jax.random.key(0), none, none), frozen, tx


def scalars(folder, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return [event.value for event in found.Scalars(f"part/{name}")]


# ---- Parts of a batch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_parts_of_a_batch_make_the_step_of_the_whole(parts):
    rng = np.random.default_rng(1)
    batch = {"x": jnp.asarray(rng.normal(size=(16, 8)), jnp.float32)}
    batch["mask"] = jnp.asarray(rng.uniform(size=(16, 16)) < rng.uniform(0.1, 1, (16, 1)), jnp.float32)

    def masked(params, batch, rng):  # as many values as each example's mask leaves
        error = jnp.square(MODULE.apply({"params": params["part"]["dense"]}, batch["x"]))
        each = (error * batch["mask"]).sum(-1) / jnp.maximum(batch["mask"].sum(-1), 1)
        return each.mean(), {"mean": each.mean()}

    results = []
    for accumulate in (1, parts):
        # SGD-like: Adam would hide a gradient of another size.
        made = small_stage.stage(masked, accumulate=accumulate, batch=16, warmup=0, optimizer="adamw", clip=1e9)
        state, frozen, tx = state_of(made, params())
        state, metrics = jax.jit(make_step(made, tx))(state, frozen, batch)
        results.append((jax.device_get(state), jax.device_get(metrics)))
    (whole, one), (cut_up, other) = results
    for name in ("loss", "mean", "gradient_norm"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-6)
    # The first moment is the gradient itself, times a tenth.
    for a, b in zip(jax.tree.leaves(whole.opt_state), jax.tree.leaves(cut_up.opt_state), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(cut_up.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_each_part_draws_anew_and_parts_lie_on_the_mesh_as_the_batch_does():
    seen = []

    def drawing(params, batch, rng):
        noise = jax.random.normal(rng, (len(batch["x"]),))
        jax.debug.callback(lambda n: seen.append(np.asarray(n)), noise)
        return (params["part"]["dense"]["kernel"].sum() * noise).mean(), {}

    made = small_stage.stage(drawing, accumulate=2, batch=16)
    state, frozen, tx = state_of(made, params())
    mesh = partitioning.make_mesh(MESH)
    batch = partitioning.put_batch({"x": np.zeros((16, 8), np.float32)}, mesh)
    jax.block_until_ready(jax.jit(make_step(made, tx))(state, frozen, batch))
    jax.effects_barrier()
    assert len({noise.tobytes() for noise in seen}) == 2


# ---- Steps that are left out -----------------------------------------------------------------------------------------


def test_a_step_without_finite_gradients_changes_nothing_and_is_counted(tmp_path, capsys):
    """Three bad batches, never three in a row: the run ends as one that never saw them, told in one line."""
    result = train(tmp_path / "bad", poison=(2 * 8, 3 * 8 + 5, 5 * 8), nonfinite_steps=3, steps=8, ema=0.9)
    assert "stage 'part': 3 of 8 steps were left out" in capsys.readouterr().err
    assert scalars(tmp_path / "bad", "skipped_steps") == [0, 0, 1, 2, 2, 3, 3, 3]
    assert len(scalars(tmp_path / "bad", "loss")) == 5 and np.isfinite(scalars(tmp_path / "bad", "loss")).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))

    made = stage(nonfinite_steps=3, steps=8, ema=0.9)
    state, frozen, tx = state_of(made, params())
    step = jax.jit(make_step(made, tx))
    good, bad = {"x": jnp.ones((8, 8))}, {"x": jnp.full((8, 8), jnp.nan)}
    for _ in range(2):
        state, _ = step(state, frozen, good)
    after, _ = step(state, frozen, bad)
    for name in ("params", "opt_state", "ema"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(state, name))
    assert (int(after.step), int(after.skipped), int(after.skipped_in_row)) == (3, 1, 1)
    after, _ = step(after, frozen, good)
    assert (int(after.skipped), int(after.skipped_in_row)) == (1, 0)
    assert not np.array_equal(after.params["part"]["dense"]["kernel"], state.params["part"]["dense"]["kernel"])


def test_too_many_in_a_row_stop_the_run_though_good_ones_follow_before_anybody_looks(tmp_path):
    with pytest.raises(
        SignerError, match=r"not finite at step 4 and the 1 after it; the checkpoint of step 3 is whole"
    ):
        train(tmp_path, poison=(3 * 8, 4 * 8), nonfinite_steps=2, steps=40, every=3, log=100)
    assert latest_step(tmp_path / "part") == 3


# ---- The running mean ------------------------------------------------------------------------------------------------


def test_the_running_mean_by_hand():
    ema, kept = {"a": jnp.array(1.0)}, []
    for k in range(200):
        ema = mean_of(ema, {"a": jnp.array(0.0)}, jnp.array(k), 0.9)
        kept.append(float(ema["a"]))
    assert kept[0] == pytest.approx(0.1) and kept[1] == pytest.approx(0.1 * 2 / 11)
    assert kept[199] == pytest.approx(kept[198] * 0.9)  # from step 81 on, (1 + k) / (10 + k) is above .9


def test_the_running_mean_is_what_the_stage_gives_and_what_is_read(tmp_path):
    result = train(tmp_path, ema=0.9)
    read = read_params(tmp_path / "part")
    jax.tree.map(np.testing.assert_array_equal, read["part"], result["part"])
    plain = train(tmp_path / "plain")
    assert not np.array_equal(plain["part"]["other"], result["part"]["other"])

    made = stage(ema=0.9)
    state, frozen, tx = state_of(made, params())
    step, mean, stream = jax.jit(make_step(made, tx)), params()["part"]["other"], batches(())
    for k in range(6):
        state, _ = step(state, frozen, {"x": jnp.asarray(next(stream)["x"])})
        kept = min(0.9, (1 + k) / (10 + k))
        mean = kept * mean + (1 - kept) * np.asarray(state.params["part"]["other"])
    np.testing.assert_allclose(result["part"]["other"], mean, rtol=1e-4)


# ---- What is saved ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trains", [("lora",), ("other",), ("lora", "bias")])
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_run_in_two_parts_is_the_whole_run_whatever_trains(tmp_path, trains, ema):
    values = {"trains": trains, "ema": ema, "frozen_dtype": "bfloat16", "accumulate": 1}
    whole = train(tmp_path / "whole", **values)
    with pytest.raises(SignerError):
        train(tmp_path / "two", poison=(4 * 8 + 3,), **values)
    assert latest_step(tmp_path / "two" / "part") == 4
    two = train(tmp_path / "two", **values)
    jax.tree.map(np.testing.assert_array_equal, two, whole)
    changed = {
        name for name, value in flatten_dict(whole, sep="/").items()
        if not np.array_equal(value, flatten_dict(params(), sep="/")[name])
    }  # fmt: skip
    expected = {"lora": "part/dense/kernel", "other": "part/other", "bias": "part/dense/bias"}
    assert changed == {expected[rule] for rule in trains}
    assert all(value.dtype == np.float32 for value in jax.tree.leaves(whole))
    saved = set(flatten_dict(read_params(tmp_path / "whole" / "part"), sep="/"))
    leaves = {"lora": {"part/dense/lora_a", "part/dense/lora_b"}, "other": {"part/other"}, "bias": {"part/dense/bias"}}
    assert saved == set().union(*(leaves[rule] for rule in trains))
    sizes = read_sizes(tmp_path / "whole" / "part")
    assert sizes == {name: value.size for name, value in _flat(read_params(tmp_path / "whole" / "part")).items()}


def _flat(tree) -> dict:
    return flatten_dict(tree, sep="/")


def test_what_is_frozen_is_used_as_it_lies_and_stays(tmp_path):
    seen, mesh = {}, partitioning.make_mesh(MESH)
    given = params()
    given["frozen"]["a"] = given["frozen"]["a"].astype(jnp.bfloat16)
    given = jax.device_put(given, partitioning.tree_shardings(given, mesh))

    def noting(params, batch, rng):
        seen.update(jax.tree.map(lambda leaf: leaf.dtype, params["frozen"]))
        return objective(params, batch, rng)

    noted = replace(stage(trains=("lora",)), objective=noting)
    with Checkpoints(tmp_path / "part") as checkpoints:
        fit(
            Program(noted, given, mesh), given, batches(), seed=0, checkpoints=checkpoints,
            monitor=Monitor(tmp_path / "tensorboard"), log_every=1, checkpoint_every=8,
        )  # fmt: skip
    assert seen == {"a": jnp.bfloat16} and not given["frozen"]["a"].is_deleted()
    assert all(not leaf.is_deleted() for leaf in jax.tree.leaves(given["part"]))  # of adapters it is the base


def test_where_there_is_a_checkpoint_shapes_of_what_trains_will_do(tmp_path):
    whole = train(tmp_path / "whole", trains=("other",))
    with pytest.raises(SignerError):
        train(tmp_path / "two", trains=("other",), poison=(4 * 8 + 3,))
    given = params()
    given["part"]["other"] = jax.ShapeDtypeStruct((3,), jnp.float32)
    made = stage(trains=("other",))
    with Checkpoints(tmp_path / "two" / "part") as checkpoints:
        learned = fit(
            Program(made, given, partitioning.make_mesh(MESH)), given, batches(), seed=0, checkpoints=checkpoints,
            monitor=Monitor(tmp_path / "tensorboard"), log_every=1, checkpoint_every=8,
        )  # fmt: skip
    np.testing.assert_array_equal(learned["part"]["other"], whole["part"]["other"])


def test_adapters_start_from_the_stages_seed_and_learn(tmp_path):
    made = stage(trains=("lora",), steps=60, learning_rate=3e-2)
    state, frozen, tx = state_of(made, params())
    step, batch = jax.jit(make_step(made, tx)), {"x": jnp.ones((8, 8))}
    first = float(jax.jit(objective)(params(), batch, None)[0])
    for k in range(60):
        state, metrics = step(state, frozen, batch)
        if k == 0:
            assert float(metrics["loss"]) == first  # exactly: B is zero
    assert float(metrics["loss"]) < 0.5 * first


# ---- What is shown ---------------------------------------------------------------------------------------------------


def test_the_curves_say_what_a_step_did(tmp_path):
    """Norms, rates and speed, against what can be reckoned from the parameters."""
    before, after = params()["part"], jax.device_get(train(tmp_path, steps=2, warmup=1, schedule="constant"))["part"]
    norm = {name: scalars(tmp_path, f"optimizer/{name}") for name in ("update_norm", "parameter_norm", "learning_rate")}
    assert norm["learning_rate"] == [0.0, pytest.approx(1e-2)]
    assert norm["update_norm"][0] == 0.0  # at the first step's rate
    moved = [np.asarray(new) - old for new, old in zip(*map(jax.tree.leaves, (after, before)), strict=True)]
    assert norm["update_norm"][1] == pytest.approx(np.sqrt(sum(np.sum(one**2) for one in moved)), rel=1e-4)
    length = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(after)))
    assert norm["parameter_norm"][1] == pytest.approx(length, rel=1e-5)
    # The first step, which compiles, is in no figure of speed.
    (steps,), (examples,) = (scalars(tmp_path, f"speed/{name}_per_second") for name in ("steps", "examples"))
    assert examples == pytest.approx(8 * steps)
    parts = [scalars(tmp_path, f"speed/{name}_seconds")[0] for name in ("data", "compute", "checkpoint")]
    assert min(parts) >= 0 and sum(parts) == pytest.approx(1 / steps, rel=1e-3)
    (tflops,) = scalars(tmp_path, "speed/model_tflops")
    # Forward, and the kernel's gradient; nobody asks for the inputs'.
    assert tflops * 1e12 / steps == pytest.approx(2 * (2 * 8 * 8 * 16), rel=1e-4)
    assert len(scalars(tmp_path, "memory/host_peak_gb")) == 2


def test_muon_has_a_rate_beside_its_own(tmp_path):
    train(tmp_path, steps=2, optimizer="muon")
    own, beside = (scalars(tmp_path, f"optimizer/{name}") for name in ("learning_rate", "adam_rate"))
    assert own[1] > 0 and beside[1] == pytest.approx(small_stage.OPTIMIZERS.muon.adam_rate * own[1])


class Weighed(Monitor):
    """Notes how much memory the process has in use at every fiftieth step."""

    def __init__(self, directory):
        super().__init__(directory)
        self.sizes: dict[int, int] = {}

    def scalars(self, stage, step, values) -> None:
        super().scalars(stage, step, values)
        if step % 50 == 0:
            self.sizes[step] = memory.settle()


def test_a_long_run_takes_no_more_memory_than_a_short_one(tmp_path):
    """Steps, logs and saves; what is kept of each batch of half a megabyte would be 150 of them."""
    width = 1 << 14

    def example(i: int, rng: np.random.Generator) -> dict:
        return {"x": rng.normal(size=width).astype(np.float32)}

    def wide(params, batch, rng):
        return jnp.square(batch["x"] @ params["part"]["kernel"] / width).mean(), {}

    examples = grain.MapDataset.range(2800).seed(0).random_map(example).batch(8)
    stream = iter(examples.to_iter_dataset(grain.ReadOptions(1, 1)))  # else it reads 500 ahead
    made, given = small_stage.stage(wide, steps=350), {"part": {"kernel": np.ones((width, 8), np.float32)}}
    monitor = Weighed(tmp_path / "tensorboard")
    with Checkpoints(tmp_path / "part", keep=2) as checkpoints:
        mesh = partitioning.make_mesh({"data": 1}, jax.devices()[:1])
        fit(
            Program(made, given, mesh), given, stream, seed=0, checkpoints=checkpoints, monitor=monitor, log_every=10,
            checkpoint_every=25,
        )  # fmt: skip
    sizes = monitor.sizes
    assert list(sizes) == list(range(50, 351, 50))
    assert max(sizes.values()) - sizes[50] < 16 << 20, sizes
