"""What signer imports and exports, in the original libraries: they load it by the printed line and give our output."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_pipeline
from renderer import tiny_wan
from test_parity_wan_transformer import assert_equal, original, our_output, their_output

from signer_jax import storage
from signer_jax.cli.main import main
from signer_jax.interop import lora as interop
from signer_jax.interop import pipelines, wan
from signer_jax.renderer.variants import find
from signer_jax.training import lora

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

TARGETS = ("attention/(query|key|value|out)/kernel$", "/(wi|wo)/kernel$")


def case(channels: int):
    rng = np.random.default_rng(5)
    latents = rng.standard_normal((2, 2, 8, 8, channels), np.float32)
    text = rng.standard_normal((2, 12, tiny_wan.TEXT), np.float32)
    return latents, np.array([37.0, 999.0], np.float32), text


@pytest.mark.parametrize("shards", [False, True])
def test_diffusers_loads_what_was_imported(tmp_path, shards):
    size = "20KB" if shards else "1GB"
    original(False).save_pretrained(tmp_path / "theirs", max_shard_size=size)
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1 or not shards
    assert main(["import", "wan", str(tmp_path / "theirs"), "--out", str(tmp_path / "out")]) == 0
    shutil.rmtree(tmp_path / "theirs")
    loaded, info = diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    for name, value in original(False).state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name].numpy(), value.numpy())


def exported(tmp_path: Path, variant: str):
    """A pipeline's folder as `signer export wan` writes it, its parameters, and what diffusers makes of the line."""
    record, module = find(variant), tiny_wan.module_of(variant)
    parts = {name: tiny_wan.parameters(module, seed=i) for i, name in enumerate(record.experts or ("",))}
    params = {"transformer": parts if record.experts else parts[""], "control": {"kernel": np.ones((2, 2), np.float32)}}
    source = tiny_pipeline.write(tmp_path / "source", variant)
    shutil.rmtree(source / "tokenizer")
    shutil.rmtree(source / "image_processor", ignore_errors=True)
    out = tmp_path / "out"
    with storage.new_folder(out, "test") as folder:
        rest = pipelines.write_transformers(folder, record, module, params, "F32", None)
        pipelines.write_vae(folder, *wan.load_vae(source / "vae"), "F32", None)
        there = pipelines.copy_encoders(folder, source, None, None)
        code = pipelines.write_index(folder, record, 3.0, there)
    assert set(rest) == {"control/kernel"} and "text_encoder" in there
    pipe = eval(code.replace("FOLDER", repr(str(out))), {"diffusers": diffusers})
    return module, parts, pipe, out


@pytest.mark.parametrize(
    "variant", ["wan2.1-t2v-1.3b", "wan2.2-t2v-a14b", "wan2.2-ti2v-5b", "wan2.1-i2v-14b", "wan2.2-animate-14b"]
)
def test_diffusers_loads_an_exported_pipeline(tmp_path, variant):
    record = find(variant)
    module, parts, pipe, _ = exported(tmp_path, variant)
    assert type(pipe).__name__ == pipelines.pipeline_class(record)
    assert pipe.scheduler.config.flow_shift == 3.0 and pipe.scheduler.config.prediction_type == "flow_prediction"
    assert pipe.vae.config.z_dim == tiny_wan.Z and type(pipe.text_encoder).__name__ == "UMT5EncoderModel"
    theirs = [pipe.transformer] + ([pipe.transformer_2] if record.experts else [])
    if type(pipe).__name__ != "WanAnimatePipeline":
        assert pipe.config.boundary_ratio == record.boundary
        assert pipe.config.expand_timesteps == (record.time == "token")
    for model, params in zip(theirs, parts.values(), strict=True):
        _, tensors, _ = wan.theirs(module, params)
        state = model.state_dict()
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(state[name].numpy(), tensor.make(), err_msg=name)
        if module.image_dim is None:
            given = case(module.in_channels)
            assert_equal(our_output(module, params, *given), their_output(model.eval(), *given), variant)


def test_a_pipeline_loads_an_exported_adapter(tmp_path):
    module, parts, pipe, _ = exported(tmp_path, "wan2.2-t2v-a14b")
    for second, (name, params) in enumerate(parts.items()):
        at = lora.places({"part": params}, ("part",), TARGETS, "here")
        fresh = lora.fresh({"part": params}, at, 3, jax.random.key(second))["part"]
        rng = np.random.default_rng(second)
        trees = [
            jax.tree.map(lambda x, rng=rng: rng.normal(0, 0.4, x.shape).astype(np.float32), fresh) for _ in range(2)
        ]
        trees[1]["layers"].pop("wi")  # a stage that left some layers out
        adapters = interop.combined(trees)
        folder = tmp_path / name
        interop.save_diffusers(folder, module, adapters, 0.5)
        assert interop.check_written(folder, module, params, adapters, 0.5) == 2 * 10
        merged = lora.merged(lora.merged(params, trees[0], 0.5), trees[1], 0.5)
        plain = our_output(module, params, *case(module.in_channels))
        ours = our_output(module, merged, *case(module.in_channels))
        assert np.abs(ours - plain).max() > 0.05
        pipe.load_lora_weights(str(folder), load_into_transformer_2=bool(second), adapter_name=name)
        model = (pipe.transformer_2 if second else pipe.transformer).eval()
        assert_equal(ours, their_output(model, *case(module.in_channels)), "LoRA in a pipeline")
