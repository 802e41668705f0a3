"""`signer export`: two experts one after the other, the types of what is written, and the line that loads it."""

import json
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_pipeline
from flax.traverse_util import flatten_dict, unflatten_dict
from renderer import tiny_wan

from signer_jax import export
from signer_jax.cli.main import main
from signer_jax.interop import names, shards, state_dict, wan
from signer_jax.interop.names import BFLOAT16, FLOAT32
from signer_jax.opened import described
from signer_jax.training import partitioning, run
from signer_jax.training.checkpoints import Checkpoints
from signer_jax.training.held import Weights
from signer_jax.validation import read

VARIANT = "wan2.2-t2v-a14b"


class Place:
    """A place in data that there are none of."""

    def get_state(self) -> dict:
        return {}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of two experts, as the last step of a stage that trained all of it leaves it."""
    folder = tmp_path_factory.mktemp("export")
    tiny_pipeline.write(folder / "weights", VARIANT, encoders=False)
    c = tiny_wan.config_of(VARIANT, str(folder / "weights"), str(folder / "weights" / "vae"))
    c.train.renderer.trains, c.train.renderer.steps, c.train.renderer.warmup = ("full",), 1, 0
    settings = read(c)
    with run.claimed(settings, folder / "run"):
        weights = Weights.of(settings, 0, folder / "run", partitioning.own_mesh(asdict(settings.mesh)))
        shapes = flatten_dict(weights.shapes, sep="/")
        learned = tiny_wan.random(unflatten_dict({p: shapes[p] for p in weights.for_stage("renderer")[0]}, "/"), 7)
        with Checkpoints(folder / "run" / "checkpoints" / "renderer") as checkpoints:
            checkpoints.save(1, {"params": learned}, Place())
    return folder / "run"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_array_is_in_memory_at_a_time(trained, tmp_path, monkeypatch, dtype):
    """Of two published experts there are 114 GB in float32, of which the largest array has 11."""
    out, held, write, together = tmp_path / "out", [], shards.write, 1024
    monkeypatch.setattr(export, "_TOGETHER", together)
    before = {id(array) for array in jax.live_arrays()}

    def living() -> int:
        return sum(array.nbytes for array in jax.live_arrays() if id(array) not in before)

    def written(folder, name, entries, *, watch=None, **more):
        write(folder, name, entries, watch=lambda size: held.append(living()), **more)

    monkeypatch.setattr(shards, "write", written)
    assert main(["export", "wan", str(trained), "--out", str(out), "--dtype", dtype]) == 0
    sizes = {
        name: [tensor.entry().size for tensor in state_dict.read_tensors(out / name).values()]
        for name in ("transformer", "transformer_2", "vae", ".")
    }
    shapes = described(trained).shapes
    largest = max(4 * leaf.size for leaf in jax.tree.leaves(shapes))
    experts = shapes["renderer"]["transformer"].values()
    one = min(sum(4 * leaf.size for leaf in jax.tree.leaves(expert)) for expert in experts)
    print(f"at most {max(held):,} bytes held of {one:,} of an expert, the largest array {largest:,}")
    assert len(held) == sum(map(len, sizes.values())) and any(held)
    # What is being written, and what is left of a group or two whose arrays are written in another order.
    assert max(held) <= largest + 3 * together < one / 2


def test_what_training_never_rounds_is_float32_in_a_bfloat16_export(trained, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", "wan", str(trained), "--out", str(tmp_path / "exact")]) == 0
    assert main(["export", "wan", str(trained), "--out", str(out), "--dtype", "bfloat16"]) == 0
    described = wan.describe_transformer(out / "transformer_2")
    stored = described.stored()
    assert stored == {path: names.held_as(path, BFLOAT16) for path in stored}
    assert stored["layers/wi/kernel"] == BFLOAT16 and stored["layers/modulation"] == FLOAT32
    exact = flatten_dict(wan.load_transformer(tmp_path / "exact" / "transformer_2")[1], sep="/")
    for path, value in flatten_dict(described.load()[1], sep="/").items():
        np.testing.assert_array_equal(value, exact[path].astype(stored[path]), err_msg=path)
    kinds = {name: tensor.kind for name, tensor in state_dict.read_tensors(out / "transformer").items()}
    assert kinds["blocks.0.norm2.weight"] == kinds["condition_embedder.time_proj.weight"] == "F32"
    assert kinds["blocks.0.attn1.to_q.weight"] == kinds["condition_embedder.text_embedder.linear_1.bias"] == "BF16"
    assert {tensor.kind for tensor in state_dict.read_tensors(out / "vae").values()} == {"F32"}


@pytest.mark.parametrize(
    ("name", "index", "says"),
    [
        ("wan2.1-t2v-1.3b", {}, "WanPipeline.from_pretrained({out}, text_encoder=None, tokenizer=None)"),
        ("wan2.1-t2v-1.3b", {"tokenizer": ["transformers", "T5TokenizerFast"]},
         "WanPipeline.from_pretrained({out}, text_encoder=None, tokenizer=None)"),
        ("wan2.2-ti2v-5b", {"_class_name": "WanImageToVideoPipeline"},
         "WanImageToVideoPipeline.from_pretrained({out}, text_encoder=None, tokenizer=None)"),
        ("wan2.2-animate-14b", {"image_encoder": [None, None]},
         "WanAnimatePipeline.from_pretrained({out}, text_encoder=None, tokenizer=None, image_encoder=None, "
         "image_processor=None)"),
        ("wan2.1-t2v-1.3b", {"_class_name": "os.system('x') #Pipeline"}, None),
        ("wan2.1-t2v-1.3b", {"scheduler": [None, None]}, None),
    ],
)  # fmt: skip
def test_an_imported_folder_with_an_index_is_loaded_by_the_line(tmp_path, capsys, name, index, says):
    source, out = tiny_pipeline.write(tmp_path / "source", name, encoders=False), tmp_path / "out"
    file = source / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | index))
    assert main(["import", "wan", str(source), "--out", str(tmp_path / "imported")]) == 0
    capsys.readouterr()
    assert main(["export", "wan", str(tmp_path / "imported"), "--out", str(out)]) == 0
    line = capsys.readouterr().out.splitlines()[1:]
    assert line == ([] if says is None else ["load it with diffusers." + says.format(out=json.dumps(str(out)))])
