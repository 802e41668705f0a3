import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from signer_jax.errors import SignerError
from signer_jax.layout import parameter_spec
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


def test_batches_are_split_over_data_and_fsdp():
    mesh = partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    batch = partitioning.put_batch({"x": np.arange(8.0).reshape(8, 1)}, mesh)
    assert batch["x"].sharding.spec == P(("data", "fsdp"))
    assert {shard.data.shape for shard in batch["x"].addressable_shards} == {(2, 1)}
    np.testing.assert_array_equal(jax.device_get(batch["x"])[:, 0], np.arange(8.0))
    with pytest.raises(SignerError, match="batch 6 does not divide"):
        partitioning.put_batch({"x": np.zeros((6, 1))}, mesh)
