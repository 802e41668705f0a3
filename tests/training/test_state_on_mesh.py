"""State stays on the mesh: made there, trained there, restored onto it, and hashed without coming off it as a whole."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_stage
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from test_checkpoints import batches

from signer_jax import layout, result
from signer_jax.pipeline import Signer
from signer_jax.training import partitioning
from signer_jax.training.checkpoints import Checkpoints, read_params
from signer_jax.training.loop import Program, fit, starting
from signer_jax.training.monitoring import Monitor

SPLIT = {"part": {"wi": {"kernel": P("fsdp", "tensor"), "bias": P("tensor")}, "scale": P()}}


def init() -> dict:
    keys = jax.random.split(jax.random.key(0))
    wi = {"kernel": jax.random.normal(keys[0], (8, 16)), "bias": jax.random.normal(keys[1], (16,))}
    return {"part": {"wi": wi, "scale": jnp.ones(8)}}


def made_on(mesh: jax.sharding.Mesh) -> dict:
    shapes = flatten_dict(jax.eval_shape(init), sep="/")
    return unflatten_dict(partitioning.made(init, shapes, mesh), sep="/")


def objective(params: dict, batch: dict, _) -> tuple[jax.Array, dict]:
    part = params["part"]
    return jnp.square((batch["x"] * part["scale"]) @ part["wi"]["kernel"] + part["wi"]["bias"]).mean(), {}


def train(folder: Path, params: dict, mesh: jax.sharding.Mesh, steps: int) -> dict:
    stage = small_stage.stage(objective, steps=steps)
    with Checkpoints(folder / "part") as checkpoints:
        return fit(
            Program(stage, params, mesh), params, batches(), seed=0, checkpoints=checkpoints,
            monitor=Monitor(folder / "tensorboard"), log_every=10, checkpoint_every=2,
        )  # fmt: skip


@pytest.fixture
def mesh() -> jax.sharding.Mesh:
    return partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})


def assert_split(params: dict, mesh: jax.sharding.Mesh) -> None:
    for leaf, spec in zip(jax.tree.leaves(params), jax.tree.leaves(SPLIT), strict=True):
        assert leaf.sharding.is_equivalent_to(NamedSharding(mesh, spec), leaf.ndim)


def test_parameters_are_made_where_they_lie_those_that_are_asked_for_in_their_types(mesh):
    assert_split(made_on(mesh), mesh)
    alone = flatten_dict(init(), sep="/")
    jax.tree.map(np.testing.assert_array_equal, made_on(mesh), init())
    wanted = {"part/wi/kernel": jax.ShapeDtypeStruct((8, 16), jnp.bfloat16)}
    made = partitioning.made(init, wanted, mesh)
    assert made.keys() == wanted.keys() and made["part/wi/kernel"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(made["part/wi/kernel"], alone["part/wi/kernel"].astype(jnp.bfloat16))


def test_a_stage_takes_and_gives_arrays_of_the_mesh_and_resumes_onto_it(mesh, tmp_path):
    given = made_on(mesh)
    trained = train(tmp_path / "run", given, mesh, steps=4)
    assert_split(trained, mesh)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))  # there is never room for two
    read = read_params(tmp_path / "run" / "part", partitioning.placing(mesh))
    assert_split(read, mesh)
    # Further than the first run went: its checkpoint is what goes on, and what was given makes room.
    given = made_on(mesh)
    longer = train(tmp_path / "run", given, mesh, steps=6)
    assert_split(longer, mesh)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    for one, other in zip(jax.tree.leaves(read), jax.tree.leaves(trained), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (1, 2, 2, 2), (8, 1, 1, 1)])
def test_the_hash_of_split_parameters_is_that_of_whole_ones(shape, monkeypatch):
    mesh = partitioning.make_mesh(dict(zip(partitioning.AXES, shape, strict=True)))
    params = made_on(mesh)
    whole = result.params_sha256(jax.device_get(params))
    monkeypatch.setattr(result, "_PIECE", 100)  # bytes: a row or two at a time
    assert result.params_sha256(params) == whole
    assert result.params_sha256(partitioning.here(params, mesh)) == whole


def test_what_is_whole_on_every_device_is_used_on_one(mesh):
    replicas = partitioning.make_mesh({"data": 8, "fsdp": 1, "tensor": 1})
    here = partitioning.here(made_on(replicas), replicas)
    assert {device for leaf in jax.tree.leaves(here) for device in leaf.devices()} == {jax.devices()[0]}
    assert partitioning.own_mesh(replicas.shape).size == 1
    split = made_on(mesh)
    assert partitioning.here(split, mesh) is split
    assert dict(partitioning.own_mesh(mesh.shape).shape) == {"data": 1, "fsdp": 8, "context": 1, "tensor": 1}


@pytest.mark.parametrize("shape", [{"fsdp": 8}, {"fsdp": 4, "context": 2}])
def test_parameters_are_taken_along_the_tokens_where_they_lie(shape):
    mesh = partitioning.make_mesh(shape)
    params = made_on(mesh)
    assert partitioning.here(params, partitioning.make_mesh({"context": 8}), along="context") is params
    taken = partitioning.here(params, mesh, along="context")
    kernel, before = taken["part"]["wi"]["kernel"], params["part"]["wi"]["kernel"]
    assert kernel.sharding.mesh.shape == partitioning.own_mesh(mesh.shape, along="context").shape
    assert kernel.sharding.mesh.shape["context"] == 8 and kernel.addressable_shards[0].data.shape == (1, 16)
    for one, other in zip(kernel.addressable_shards, before.addressable_shards, strict=True):
        assert one.data.unsafe_buffer_pointer() == other.data.unsafe_buffer_pointer()
    jax.tree.map(np.testing.assert_array_equal, taken, params)
    with partitioning.on_mesh_of(taken):
        assert layout.ways("tokens") == 8 and layout.ways("batch") == 1


def test_a_process_gets_each_slice_where_its_own_mesh_has_it(monkeypatch):
    """Also where a mesh follows the hardware and not the devices' numbers, as on four chips of a TPU v5e or v6e."""
    mesh, plain = partitioning.make_mesh({"fsdp": -1}), partitioning.arranged
    params = made_on(mesh)
    halves = [list(mesh.devices.flat[:4]), list(mesh.devices.flat[4:])]

    def crossed(sizes, devices, asked):
        order = [*devices[:2], devices[3], devices[2]] if len(devices) == 4 else devices
        return plain(sizes, order, asked)

    monkeypatch.setattr(partitioning, "arranged", crossed)
    monkeypatch.setattr(partitioning, "_processes", lambda mesh: halves)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for half in halves:
        monkeypatch.setattr(jax, "local_devices", lambda half=half: half)
        found = partitioning.here(params, mesh)
        assert [device.id for device in partitioning.own_mesh(mesh.shape).devices.flat] == [
            half[k].id for k in (0, 1, 3, 2)
        ]
        jax.tree.map(np.testing.assert_array_equal, found, params)


def test_programs_of_parameters_on_a_mesh_are_traced_with_it(mesh):
    split = made_on(mesh)
    seen = []
    for params in (split, jax.tree.map(np.asarray, split), partitioning.here(split, mesh)):
        with partitioning.on_mesh_of(params):
            seen.append(layout.on_one_device())
    assert seen == [False, True, False] and layout.on_one_device()


@pytest.mark.slow
def test_a_run_signs_alike_on_one_device_and_on_several(tiny_run):
    signer = Signer.load(tiny_run)
    mesh = partitioning.make_mesh({"data": 1, "fsdp": 2, "tensor": 1}, jax.devices()[:2])
    params = jax.device_put(signer.params, partitioning.tree_shardings(signer.params, mesh))
    split = Signer(signer.settings, tiny_run, signer.model, params).sign("i see you")
    alone = signer.sign("i see you")
    assert split.glosses == alone.glosses
    np.testing.assert_allclose(split.pose.coordinates, alone.pose.coordinates, atol=1e-4)
    assert np.abs(split.video.astype(int) - alone.video.astype(int)).max() <= 1  # grey levels


# ---- The optimizer's state in the host's memory ----------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "muon"])
def test_an_optimizer_state_in_the_hosts_memory_gives_the_same_numbers(tmp_path, mesh, optimizer):
    def trained(folder: str, steps: int, offload: bool) -> dict:
        values = {"steps": steps, "optimizer": optimizer, "schedule": "constant"}
        stage = small_stage.stage(objective, offload_optimizer=offload, **values)
        program = Program(stage, made_on(mesh), mesh)
        kinds = {leaf.sharding.memory_kind for leaf in jax.tree.leaves(program.state.opt_state) if leaf.ndim}
        assert kinds == {"pinned_host"} if offload else "pinned_host" not in kinds
        with Checkpoints(tmp_path / folder / "part") as checkpoints:
            return fit(
                program, made_on(mesh), batches(), seed=0, checkpoints=checkpoints,
                monitor=Monitor(tmp_path / folder / "tensorboard"), log_every=10, checkpoint_every=2,
            )  # fmt: skip

    here = trained("here", 6, False)
    there = trained("there", 6, True)
    jax.tree.map(np.testing.assert_array_equal, here, there)
    trained("on", 4, True)  # a checkpoint is the same wherever the state lay
    jax.tree.map(np.testing.assert_array_equal, here, trained("on", 6, False))


def test_the_state_lies_there_between_steps(mesh):
    stage = small_stage.stage(objective, offload_optimizer=True)
    program = Program(stage, made_on(mesh), mesh)
    state = jax.jit(starting(stage, program.tx, 0), out_shardings=program.shardings)(made_on(mesh))
    for _ in range(2):
        batch = partitioning.put_batch({"x": np.ones((8, 8), np.float32)}, mesh)
        state, *_ = program.step(state, {}, batch, None)
        lies = {leaf.sharding.memory_kind for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim}
        assert lies == {"pinned_host"}
        assert all(leaf.sharding.memory_kind != "pinned_host" for leaf in jax.tree.leaves(state.params))
