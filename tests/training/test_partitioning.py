from dataclasses import dataclass
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from signer_jax.errors import SignerError
from signer_jax.layout import LayoutWarning, constrain, parameter_spec
from signer_jax.training import partitioning


def test_one_axis_takes_what_the_others_leave():
    mesh = partitioning.make_mesh({"data": -1, "fsdp": 2, "tensor": 2})
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "context": 1, "tensor": 2}


@pytest.mark.parametrize("shape", [(3, 1, 1, 1), (-1, 1, -1, 1), (2, 2, 1, 1), (0, 1, 1, 1), (-1, 1, 3, 1)])
def test_a_mesh_that_does_not_fit_the_devices(shape):
    with pytest.raises(SignerError, match="config.mesh"):
        partitioning.make_mesh(dict(zip(partitioning.AXES, shape, strict=True)))


def test_parameters_are_split_by_their_path():
    mesh, spec = {"data": 2, "fsdp": 2, "tensor": 2}, parameter_spec
    assert spec("slul/encoder/layers/self_attention/query/kernel", (4, 64, 32), mesh) == P(None, "fsdp", "tensor")
    assert spec("opt_state/1/mu/slul/encoder/layers/mlp/wo/kernel", (4, 64, 32), mesh) == P(None, "tensor", "fsdp")
    assert spec("slul/encoder/layers/norm/scale", (4, 64), mesh) == P()
    # What does not divide stays whole.
    assert spec("slul/encoder/layers/self_attention/query/kernel", (4, 63, 32), mesh) == P(None, None, "tensor")
    # The devices of `context` have the same examples: they share the parameters as those of `fsdp` do.
    mesh |= {"context": 3}
    name = "renderer/transformer/layers/wi/kernel"
    assert spec(name, (4, 60, 32), mesh) == P(None, ("fsdp", "context"), "tensor")
    assert spec(name, (4, 64, 32), mesh) == P(None, "fsdp", "tensor")


# ---- What stays whole ------------------------------------------------------------------------------------------------

LONG = 2**23  # numbers; 32 MiB in float32


def test_a_large_array_that_stays_whole_is_named_and_a_small_one_is_not():
    mesh = partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    shapes = {
        "wi/kernel": (2, 3, LONG), "conv/kernel": (3, LONG), "norm/scale": (1000,), "wo/kernel": (LONG, 4),
        "middle/attention/kernel": (LONG, 2), "vae/encoder/conv/kernel": (3, LONG),
    }  # fmt: skip
    tree = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    tree["opt"] = {"mu": {"lora_a": jax.ShapeDtypeStruct((LONG + 1, 2), jnp.float32)}}
    assert partitioning.left_whole(tree, mesh) == [
        "conv/kernel [3, 8388608], 96 MiB on each device: no rule of layout.PARAMETER_AXES finds it",
        "opt/mu/lora_a [8388609, 2], 64 MiB on each device: config.mesh's fsdp 2 does not divide its embed of 8388609",
        "wi/kernel [2, 3, 8388608], 96 MiB on each device: config.mesh's fsdp 2 does not divide its embed of 3",
    ]
    with pytest.warns(LayoutWarning, match=r"conv/kernel .* \(and 2 more\)"):
        partitioning.tree_shardings(tree, mesh)
    with pytest.raises(SignerError, match=r"conv/kernel .* \(and 2 more\); .* config.allow_whole=true") as error:
        partitioning.check_split(tree, mesh)
    assert "\n" not in str(error.value)
    assert partitioning.left_whole(tree, partitioning.make_mesh({"data": 8})) == []  # replicas, as asked for


def test_a_large_activation_that_stays_whole_is_named():
    mesh = partitioning.make_mesh({"data": 2, "context": 4})
    laid = partitioning.laid_out(lambda x: constrain(x, "batch", "tokens", None), mesh)
    with pytest.warns(LayoutWarning, match=r"\[2, 30, 262144\].*30 MiB.* context 4 does not divide its tokens of 30"):
        jax.eval_shape(laid, jax.ShapeDtypeStruct((2, 30, 2**18), jnp.float32))
    jax.eval_shape(laid, jax.ShapeDtypeStruct((2, 30, 2**16), jnp.float32))  # 8 MiB


def test_two_dimensions_along_one_axis_are_an_error_that_names_both():
    mesh = partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    laid = partitioning.laid_out(lambda x: constrain(x, "batch", "heads", "mlp"), mesh)
    with pytest.raises(
        ValueError, match="has the axes 'heads' and 'mlp', and both are split along the mesh's 'tensor'"
    ):
        jax.eval_shape(laid, jax.ShapeDtypeStruct((4, 4, 4), jnp.float32))


# ---- The mesh and the hardware ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chip:
    id: int
    coords: tuple[int, int, int]
    slice_index: int
    process_index: int = 0
    core_on_chip: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v5"


def chips(torus: tuple[int, int, int], slices: int = 1) -> list[Chip]:
    places = list(product(range(slices), *map(range, torus)))
    return [Chip(i, (x, y, z), part) for i, (part, x, y, z) in enumerate(places)]


def crossed(devices: np.ndarray, axis: int) -> set[int]:
    """Along how many of the torus' axes a line of devices runs."""
    lines = np.moveaxis(devices, axis, -1).reshape(-1, devices.shape[axis])
    return {sum(len({chip.coords[i] for chip in line}) > 1 for i in range(3)) for line in lines}


def test_a_mesh_follows_the_torus_and_cuts_an_axis_only_where_it_must():
    devices = partitioning.arranged((1, 16, 4, 1), chips((4, 4, 4)), "")
    assert crossed(devices, 2) == {1} and crossed(devices, 1) == {2}
    devices = partitioning.arranged((1, 8, 8, 1), chips((4, 4, 4)), "")
    assert devices.shape == (1, 8, 8, 1) and len(set(devices.flat)) == 64
    assert crossed(devices, 2) == {2}


@pytest.mark.parametrize("sizes", [(2, 8, 1, 1), (1, 16, 1, 1), (4, 1, 2, 2), (1, 4, 4, 1)])
def test_only_data_and_fsdp_go_from_slice_to_slice(sizes):
    devices = partitioning.arranged(sizes, chips((2, 2, 2), slices=2), "")
    assert devices.shape == sizes and len(set(devices.flat)) == 16
    for part in devices.reshape(sizes[0] * sizes[1], -1):
        assert len({chip.slice_index for chip in part}) == 1
    by_slice = [chip.slice_index for chip in devices[:, :, 0, 0].flat]
    assert by_slice == sorted(by_slice)  # a slice is left once


@pytest.mark.parametrize(
    ("sizes", "devices", "message"),
    [
        ((1, 1, 16, 1), chips((2, 2, 2), slices=2), "config.mesh ASKED: the devices are 2 slices of 8, .*only data"),
        ((1, 3, 1, 1), chips((2, 2, 1))[:3], "config.mesh ASKED: these 3 devices cannot be laid out so"),
    ],
)  # fmt: skip
def test_a_mesh_that_the_hardware_cannot_have_is_refused_in_a_line(sizes, devices, message):
    with pytest.raises(SignerError, match=message) as error:
        partitioning.arranged(sizes, devices, "config.mesh ASKED")
    assert "\n" not in str(error.value)


def test_batches_are_split_over_data_and_fsdp():
    mesh = partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    batch = partitioning.put_batch({"x": np.arange(8.0).reshape(8, 1)}, mesh)
    assert batch["x"].sharding.spec == P(("data", "fsdp"))
    assert {shard.data.shape for shard in batch["x"].addressable_shards} == {(2, 1)}
    np.testing.assert_array_equal(jax.device_get(batch["x"])[:, 0], np.arange(8.0))
    with pytest.raises(SignerError, match="batch 6 does not divide"):
        partitioning.put_batch({"x": np.zeros((6, 1))}, mesh)


def test_nothing_is_compiled_for_each_array_of_a_cpus():
    """Else it is a program a shape: fifty for the checksums alone, before the demo's run signs anything."""
    traced = []

    def total(x):
        traced.append(x.shape)
        return x.sum()

    sums = partitioning.each(total, np.sum)
    tree = {"a": jax.device_put(np.arange(5.0)), "b": [np.ones((2, 3)), jax.device_put(np.float32(4))]}
    assert jax.tree.map(float, sums(tree)) == {"a": 10.0, "b": [6.0, 4.0]} and not traced
    mesh = partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    split = jax.device_put(np.arange(8.0), jax.sharding.NamedSharding(mesh, P("fsdp")))
    assert jax.tree.map(float, sums({"c": split})) == {"c": 28.0} and traced == [(8,)]
    everywhere = jax.device_put(np.arange(3.0), jax.sharding.NamedSharding(mesh, P()))
    seen = partitioning.from_memory({"d": everywhere, "e": split})
    assert isinstance(seen["d"], np.ndarray) and seen["e"] is split
    assert jax.tree.map(float, sums({"d": seen["d"]})) == {"d": 3.0} and traced == [(8,)]
    # Beside a split one too.
    assert jax.tree.map(float, sums(seen)) == {"d": 3.0, "e": 28.0} and traced == [(8,)]
    mixed = partitioning.from_memory({"f": jax.device_put(np.arange(6.0), everywhere.sharding), "e": [split, split]})
    assert jax.tree.map(float, sums(mixed)) == {"f": 15.0, "e": [28.0, 28.0]} and set(traced) == {(8,)}


@pytest.mark.parametrize(
    ("batch", "accumulate", "says"),
    [
        (16, 4, "config.train.slul.batch 16 / accumulate 4 does not divide among 8 devices .*; nearest: 32"),
        (3, 1, "config.train.slul.batch 3 does not divide among 8 devices .*; nearest: 8"),
        (21, 1, "nearest: 24"),
    ],
)
def test_a_batch_is_refused_by_its_own_numbers(batch, accumulate, says):
    mesh = partitioning.make_mesh({"data": 2, "fsdp": 4, "tensor": 1})
    with pytest.raises(SignerError, match=says):
        partitioning.check_batch("slul", batch, accumulate, mesh)
    partitioning.check_batch("slul", 32, 4, mesh)
