"""Published weights, from files straight onto the devices: the same numbers, each read once, no model on the host."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from safetensors.numpy import save_file

from signer_jax import layout
from signer_jax.errors import SignerError
from signer_jax.interop import names, state_dict, wan
from signer_jax.interop.names import LEADING_ONE, SAME, TRANSPOSED, Row, Turn
from signer_jax.training import partitioning

PATCH = Turn(lambda a: a.transpose(2, 3, 4, 1, 0).reshape(-1, a.shape[0]), lambda a: a)
VECTOR = Turn(lambda a: a.reshape(-1), lambda a: a)
# Our path, the axes that split it on a mesh of data 2, fsdp 2, tensor 2, their tensor, its shape, and the turn.
ROWS = [
    ("layers/wi/kernel", P(None, "fsdp", "tensor"), "blocks.{}.wi", (6, 4), TRANSPOSED),
    ("layers/scale", P(), "blocks.{}.scale", (5,), SAME),
    ("patches/kernel", P("tensor", "fsdp"), "patches", (8, 2, 1, 3, 2), PATCH),
    ("table", P(("data", "fsdp")), "table", (1, 4, 3), LEADING_ONE),
    ("gamma", P("fsdp"), "gamma", (6, 1, 1, 1), VECTOR),
    ("one", P(), "one", (), SAME),
]
TABLE = [Row(ours, theirs, turn) for ours, _, theirs, _, turn in ROWS]
LAYERS = 3


def _folder(folder: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tensors = {
        theirs.format(i): rng.normal(size=shape).astype(np.float32)
        for _, _, theirs, shape, _ in ROWS
        for i in range(LAYERS if "{}" in theirs else 1)
    }
    kept = sorted(tensors)
    files = {"a.safetensors": kept[::2], "b.safetensors": kept[1::2]}
    for file, some in files.items():
        save_file({name: tensors[name] for name in some}, folder / file)
    index = {"weight_map": {name: file for file, some in files.items() for name in some}}
    (folder / "m.safetensors.index.json").write_text(json.dumps(index))
    return tensors


def _init(tensors: dict[str, np.ndarray]):
    def shape(row: Row) -> jax.ShapeDtypeStruct:
        one = row.turn.read(tensors[row.theirs.format(0)]).shape
        return jax.ShapeDtypeStruct((LAYERS, *one) if "{}" in row.theirs else one, np.float32)

    nested: dict = {}
    for row in TABLE:
        *folders, leaf = row.ours.split("/")
        inner = nested
        for name in folders:
            inner = inner.setdefault(name, {})
        inner[leaf] = shape(row)
    return lambda: {"params": nested}


def test_shards_hold_what_the_host_would_and_every_number_of_a_plain_axis_is_read_once(tmp_path, monkeypatch):
    tensors = _folder(tmp_path)
    init = _init(tensors)
    whole = names.to_ours(tmp_path, TABLE, tensors, init)
    mesh = partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    specs = {ours: spec for ours, spec, *_ in ROWS}
    read, original = dict.fromkeys(tensors, 0), state_dict.FileTensor.__getitem__

    def counted(self, index):
        part = original(self, index)
        read[self.name] += part.size
        return part

    monkeypatch.setattr(state_dict.FileTensor, "__getitem__", counted)
    split = names.to_ours(
        tmp_path, TABLE, state_dict.read_tensors(tmp_path), init,
        place=lambda name, shape: NamedSharding(mesh, specs[name]),
    )  # fmt: skip
    for (path, ours), theirs in zip(jax.tree_util.tree_leaves_with_path(split), jax.tree.leaves(whole), strict=True):
        assert ours.sharding.spec == specs[partitioning.path_name(path)]
        np.testing.assert_array_equal(ours, theirs)
    # Of a merged axis that is split, each shard needs a part of every row, and reads all of them. No model has one.
    assert {name for name in read if read[name] != tensors[name].size} == {"patches"}
    assert read["patches"] == 2 * tensors["patches"].size
    for name in ("patch_embedding", "pose_patch_embedding"):
        assert layout.parameter_spec(f"renderer/transformer/{name}/kernel", (64, 1536), mesh.shape) == P(None, "fsdp")


def test_the_shape_is_checked_before_anything_is_read(tmp_path, monkeypatch):
    tensors = _folder(tmp_path)
    monkeypatch.setattr(state_dict.FileTensor, "__getitem__", lambda *_: pytest.fail("was read"))
    for name, ours in (("patches", "patches/kernel"), ("blocks.2.wi", "layers/wi/kernel"), ("gamma", "gamma")):
        wrong = {**tensors, name: np.zeros((*tensors[name].shape[:-1], tensors[name].shape[-1] + 1))}
        found = {**state_dict.read_tensors(tmp_path), name: wrong[name]}
        with pytest.raises(SignerError, match=f"{name} makes {ours} of shape .* its config says"):
            names.to_ours(tmp_path, TABLE, found, _init(tensors))


def test_equal_tensors_are_told_from_others(tmp_path):
    table = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    other = table.copy()
    other[2999, 3] += 1
    save_file({"a": table, "b": table.copy(), "c": other, "d": table[:2999]}, tmp_path / "m.safetensors")
    tensors = state_dict.read_tensors(tmp_path)
    assert [state_dict.equal(tensors["a"], tensors[name]) for name in "bcd"] == [True, False, False]


MEASURED = """
import json, sys
import jax, jax.numpy as jnp
from signer_jax.interop import wan
from signer_jax.training import partitioning

def high_water():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

mesh = partitioning.make_mesh({"data": 1, "fsdp": 8, "tensor": 1})
jax.block_until_ready([jax.device_put(jnp.zeros(8), device) for device in jax.devices()])
wan._init(wan._module(wan.state_dict.read_config(sys.argv[1]), sys.argv[1]))()  # tracing has its own memory
before = high_water()
place = partitioning.placing(mesh)
_, params = wan.load_transformer(sys.argv[1], lambda name, shape: place(f"transformer/{name}", shape))
jax.block_until_ready(params)
print(json.dumps({"size": sum(leaf.nbytes for leaf in jax.tree.leaves(params)), "taken": high_water() - before}))
"""


@pytest.mark.slow
def test_a_model_of_a_gigabyte_takes_little_more_than_itself(tmp_path, record_property):
    """On eight virtual devices of a CPU, whose memory is the host's: what is taken beyond the size is the reading's."""
    write_model(tmp_path)
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    measured = json.loads(run.stdout.splitlines()[-1])
    size, taken = measured["size"], measured["taken"]
    record_property("table", f"a model of {size / 1e9:.2f} GB took {taken / 1e9:.2f} GB")
    assert size > 1e9
    assert taken <= 1.3 * size


def write_model(folder: Path) -> None:
    """A Wan transformer of 1 GB, random numbers, a file every few layers."""
    heads, layers, ffn = 12, 6, 8960
    config = {"_class_name": "WanTransformer3DModel", "num_attention_heads": heads, "attention_head_dim": 128,
              "in_channels": 16, "out_channels": 16, "ffn_dim": ffn, "num_layers": layers, "text_dim": 4096,
              "freq_dim": 256, "patch_size": [1, 2, 2], "eps": 1e-6}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    rng, weights = np.random.default_rng(0), {}
    module = wan._module(config, folder)
    shapes = flatten_dict(wan._init(module)()["params"], sep="/")
    for file, layer in [("model.safetensors", None), *((f"model-{i}.safetensors", i) for i in range(layers))]:
        tensors = {}
        for row in wan.table_of(module):
            stacked = "{}" in row.theirs
            if stacked == (layer is not None):
                values = rng.standard_normal(shapes[row.ours].shape[stacked:], np.float32)
                tensors[row.theirs.format(layer)] = np.ascontiguousarray(row.turn.write(values))
        save_file(tensors, folder / file)
        weights |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
