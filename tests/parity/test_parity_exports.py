"""What signer imports and exports, in the original libraries: they load it by the printed line and give our output."""

import json
import shutil
from copy import deepcopy
from dataclasses import asdict
from functools import cache

import jax
import numpy as np
import pytest
import tiny_pipeline
from flax.traverse_util import flatten_dict, unflatten_dict
from renderer import tiny_wan
from test_parity_wan_transformer import assert_equal, original

from signer_jax import configuration, storage
from signer_jax.cli.main import main
from signer_jax.data import video
from signer_jax.errors import SignerError
from signer_jax.interop import lora as interop
from signer_jax.interop import pipelines, wan
from signer_jax.pipeline import Signer
from signer_jax.renderer.variants import VARIANTS, find
from signer_jax.training import lora, partitioning, run
from signer_jax.training.checkpoints import Checkpoints
from signer_jax.training.held import Weights
from signer_jax.validation import read

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")
sentencepiece = pytest.importorskip("sentencepiece")
safetensors = pytest.importorskip("safetensors.torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

TARGETS = tuple(configuration.shipped("default").lora.targets)
# Of the 14B T2V the layout is the small one's.
LAID_OUT = [
    "wan2.1-t2v-1.3b", "wan2.1-i2v-14b", "wan2.2-t2v-a14b", "wan2.2-i2v-a14b", "wan2.2-ti2v-5b", "wan2.2-animate-14b",
]  # fmt: skip
FRAMES = 3  # latent frames


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


# ---- The same inputs on both sides -----------------------------------------------------------------------------------


def case(variant: str) -> dict[str, np.ndarray]:
    """What the variant's transformer takes, random; of TI2V a timestep a token, the first frame's 0."""
    record, module, rng = find(variant), tiny_wan.module_of(variant), np.random.default_rng(5)
    text = rng.standard_normal((2, 512 if module.image_dim else 12, tiny_wan.TEXT), np.float32)
    text[1, 7:] = 0.0
    given = {
        "latents": rng.standard_normal((2, FRAMES, 8, 8, module.in_channels), np.float32),
        "timestep": np.array([37.0, 999.0], np.float32),
        "text": text,
    }
    if record.time == "token":
        given["timestep"] = np.repeat(given["timestep"][:, None], FRAMES * 16, axis=1)
        given["timestep"][:, :16] = 0.0
    if module.image_dim:
        given["image"] = rng.standard_normal((2, 5, module.image_dim), np.float32)
    if module.face:
        size = module.face.size
        given["pose"] = rng.standard_normal((2, FRAMES - 1, 8, 8, tiny_wan.Z), np.float32)
        given["face"] = rng.uniform(-1, 1, (2, 4 * (FRAMES - 2) + 1, size, size, 3)).astype(np.float32)
    return given


def theirs_of(model, given: dict[str, np.ndarray]) -> np.ndarray:
    names = {
        "timestep": "timestep", "text": "encoder_hidden_states", "image": "encoder_hidden_states_image",
        "latents": "hidden_states", "pose": "pose_hidden_states", "face": "face_pixel_values",
    }  # fmt: skip
    first = ("latents", "pose", "face")  # whose channels they have in front
    taken = {
        names[name]: torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1) if name in first else x))
        for name, x in given.items()
    }
    with torch.no_grad():
        return np.moveaxis(model.eval()(**taken, return_dict=False)[0].numpy(), 1, -1)


@cache
def program_of(variant: str):
    module = tiny_wan.module_of(variant)
    return jax.jit(lambda params, given: module.apply({"params": params}, **given))


def ours_of(variant: str, params) -> np.ndarray:
    return np.asarray(program_of(variant)(params, case(variant)))


# ---- A pipeline's folder ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A pipeline's folder as `signer export wan` writes it, its parameters, and what diffusers makes of the line."""

    @cache
    def of(variant: str):
        place, record, module = tmp_path_factory.mktemp("exported"), find(variant), tiny_wan.module_of(variant)
        parts = {name: tiny_wan.parameters(module, seed=i) for i, name in enumerate(record.experts or ("",))}
        source = tiny_pipeline.write(place / "source", variant)
        shutil.rmtree(source / "tokenizer")
        shutil.rmtree(source / "image_processor", ignore_errors=True)
        out = place / "out"
        with storage.new_folder(out, "test") as folder:
            for inside, given in zip(wan.PIPELINE, parts.values(), strict=False):
                rest = pipelines.write_transformer(folder, inside, module, given, "F32", None)
                assert not rest
            pipelines.write_vae(folder, *wan.load_vae(source / "vae"), "F32", None)
            there = pipelines.copy_encoders(folder, source, None, None)
            code = pipelines.write_index(folder, record, 3.0, there)
        assert "text_encoder" in there
        return module, parts, eval(code.replace("FOLDER", repr(str(out))), {"diffusers": diffusers})

    return of


def transformers_of(pipe, variant: str) -> list:
    return [pipe.transformer] + ([pipe.transformer_2] if find(variant).experts else [])


@pytest.mark.parametrize("variant", LAID_OUT)
def test_diffusers_loads_an_exported_pipeline(exported, variant):
    record = find(variant)
    module, parts, pipe = exported(variant)
    assert type(pipe).__name__ == pipelines.pipeline_class(record)
    assert pipe.scheduler.config.flow_shift == 3.0 and pipe.scheduler.config.prediction_type == "flow_prediction"
    assert pipe.vae.config.z_dim == tiny_wan.Z and type(pipe.text_encoder).__name__ == "UMT5EncoderModel"
    if record.clip_dim:
        assert type(pipe.image_encoder).__name__.startswith("CLIPVisionModel")
    if type(pipe).__name__ != "WanAnimatePipeline":
        assert pipe.config.boundary_ratio == record.boundary
        assert pipe.config.expand_timesteps == (record.time == "token")
    for model, params in zip(transformers_of(pipe, variant), parts.values(), strict=True):
        _, tensors, _ = wan.theirs(module, params)
        state = model.state_dict()
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(state[name].numpy(), tensor.make(), err_msg=name)
        assert_equal(ours_of(variant, params), theirs_of(model, case(variant)), variant)


@pytest.mark.parametrize("has_index", [False, True])
def test_the_printed_line_loads_tokenizer_and_image_processor(tmp_path, capsys, has_index):
    """As transformers saves both; with our index and with the one that was imported, in either type."""
    source, imported, out = (tmp_path / name for name in ("source", "imported", "out"))
    tiny_pipeline.write(source, "wan2.2-animate-14b")
    model = sentencepiece.SentencePieceProcessor(model_file=str(source / "tokenizer" / "spiece.model"))
    pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(model.get_piece_size())]
    tokenizer = transformers.T5Tokenizer(vocab=pieces)
    size = {"height": 8, "width": 8}
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 8}, crop_size=size)
    for name, component in (("tokenizer", tokenizer), ("image_processor", processor)):
        shutil.rmtree(source / name)
        component.save_pretrained(source / name)
    file = source / "model_index.json"
    entries = {
        "text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "T5TokenizerFast"],
        "image_encoder": ["transformers", "CLIPVisionModel"], "image_processor": ["transformers", "CLIPImageProcessor"],
    }  # fmt: skip
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))
    if not has_index:
        file.unlink()
    assert main(["import", "wan", str(source), "--out", str(imported), "--dtype", "bfloat16"]) == 0
    assert main(["export", "wan", str(imported), "--out", str(out)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("load it with ")]
    pipe = eval(line.removeprefix("load it with "), {"diffusers": diffusers})
    assert pipe.tokenizer(tiny_pipeline.TEXTS).input_ids == tokenizer(tiny_pipeline.TEXTS).input_ids
    assert pipe.image_processor.crop_size == size and pipe.image_encoder.config.image_size == 8
    # Each library makes one type of it; diffusers in bfloat16 keeps in float32 what the file has in float32.
    half = diffusers.WanAnimateTransformer3DModel.from_pretrained(out / "transformer", torch_dtype=torch.bfloat16)
    assert {value.dtype for value in pipe.transformer.state_dict().values()} == {torch.float32}
    assert half.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    exact = tiny_wan.parameters(tiny_wan.module_of("wan2.2-animate-14b"), 0)["modulation"]
    np.testing.assert_array_equal(half.scale_shift_table.detach().float().numpy()[0], exact)


# ---- A run of one's own ----------------------------------------------------------------------------------------------


class Place:
    """A place in data that there are none of."""

    def get_state(self) -> dict:
        return {}


@pytest.mark.parametrize("variant", [name for name, record in VARIANTS.items() if record.sizes])
def test_every_variants_trained_run_goes_to_diffusers(tmp_path, variant):
    """As the last step of a stage that trained all of it leaves it; the steps themselves are the next test's."""
    weights, workdir, out = (tmp_path / name for name in ("weights", "run", "out"))
    tiny_pipeline.write(weights, variant, encoders=False)
    c = tiny_wan.config_of(variant, str(weights), str(weights / "vae"))
    c.train.renderer.trains, c.train.renderer.steps, c.train.renderer.warmup = ("full",), 1, 0
    if find(variant).pose != "branch":
        c.renderer.control = "variant"
    settings = read(c)
    with run.claimed(settings, workdir):
        held = Weights.of(settings, 0, workdir, partitioning.own_mesh(asdict(settings.mesh)))
        shapes, moving = flatten_dict(held.shapes, sep="/"), held.for_stage("renderer")[0]
        learned = tiny_wan.random(unflatten_dict({path: shapes[path] for path in moving}, "/"), 7)
        with Checkpoints(workdir / "checkpoints" / "renderer") as checkpoints:
            checkpoints.save(1, {"params": learned}, Place())
    assert main(["export", "wan", str(workdir), "--out", str(out)]) == 0
    shutil.rmtree(weights)

    experts, parts = find(variant).experts, learned["renderer"]["transformer"]
    kind = getattr(diffusers, wan.class_of(find(variant).face is not None))
    for folder, params in zip(wan.PIPELINE, [parts[name] for name in experts] or [parts], strict=False):
        model, info = kind.from_pretrained(out / folder, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
        assert_equal(ours_of(variant, params), theirs_of(model, case(variant)), f"{variant}, {folder} of a trained run")
    assert (out / "transformer_2").exists() == bool(experts)
    vae, info = diffusers.AutoencoderKLWan.from_pretrained(out / "vae", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and vae.config.latents_mean[1] == -0.2


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["wan2.1-t2v-1.3b", "wan2.2-animate-14b"])
def test_what_a_run_has_learned_diffusers_has_too(tmp_path, variant):
    """Trained and exported by the commands: in full, and by adapters, which the export merges into the kernels."""
    weights, videos, run, out = (tmp_path / name for name in ("weights", "videos", "run", "out"))
    tiny_pipeline.write(weights, variant, encoders=False)
    (videos / "video").mkdir(parents=True)
    coarse = np.random.default_rng(0).integers(0, 255, (4, 12, 2, 2, 3), np.uint8)
    for i, frames in enumerate(coarse.repeat(8, axis=2).repeat(8, axis=3)):
        video.write(videos / "video" / f"{i}.mp4", frames, 16.0)
    (videos / "OpenVidHD.csv").write_text("video,caption\n" + "".join(f"{i}.mp4,rain\n" for i in range(len(coarse))))
    overrides = {
        "data.source": videos, "renderer.init": weights, "vae.init": weights / "vae", "data.size": "16,16",
        "renderer.window": 5, "renderer.stride": 4, "renderer.control_size": 16, "renderer.overlap": 0,
        "renderer.text_encoder": "", "renderer.image_encoder": "", "train.renderer.steps": 3,
        "train.renderer.warmup": 1, "train.renderer.batch": 8, "train.renderer.learning_rate": 0.03,
        "train.renderer.ema": 0.0, "lora.rank": 2, "dtype": "float32", "remat": False, "checkpoint_every": 3,
        "log_every": 1,
    }  # fmt: skip
    given = [f"--config.{name}={value}" for name, value in overrides.items()]
    assert main(["train", "--config", f"wan_general:{variant}", "--workdir", str(run), *given]) == 0
    assert main(["export", "wan", str(run), "--out", str(out)]) == 0

    signer, kind = Signer.load(run), json.loads((out / "model_index.json").read_text())["transformer"][1]
    model, info = getattr(diffusers, kind).from_pretrained(out / "transformer", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    module = signer.model.renderer.transformer
    learned = signer.params["renderer"]["transformer"]
    ours = np.asarray(jax.jit(lambda params, given: module.apply({"params": params}, **given))(learned, case(variant)))
    assert np.abs(ours - ours_of(variant, tiny_wan.parameters(tiny_wan.module_of(variant), seed=0))).max() > 0.05
    assert_equal(ours, theirs_of(model, case(variant)), f"{variant}, a run's export")


# ---- Adapters --------------------------------------------------------------------------------------------------------


def adapters_of(params, seed: int):
    """Adapters that two stages leave beside each other, one of which left some layers out; and the merged weights."""
    at = lora.places({"part": params}, ("part",), TARGETS, "here")
    fresh, rng = lora.fresh({"part": params}, at, 3, jax.random.key(seed))["part"], np.random.default_rng(seed)
    trees = [jax.tree.map(lambda x: rng.normal(0, 0.4, x.shape).astype(np.float32), fresh) for _ in range(2)]
    left_out = trees[1]["layers"]
    left_out.get("first", left_out).pop("wi")
    merged = lora.merged(lora.merged(params, trees[0], 0.5), trees[1], 0.5)
    return interop.combined(trees), merged


def layers_with_adapters(model) -> set[str]:
    return {name.partition(".lora_A")[0] for name, _ in model.named_modules() if name.endswith(".lora_A")}


@pytest.mark.parametrize("variant", LAID_OUT)
def test_every_loader_gives_the_merged_models_output(exported, tmp_path, variant):
    """diffusers' pipeline and model, PEFT's model and its bare state dict: none loads nothing, or half."""
    module, parts, pipe = exported(variant)
    given = case(variant)
    for second, (name, params) in enumerate(parts.items()):
        adapters, merged = adapters_of(params, second)
        folder, peft_folder = tmp_path / f"a{name}", tmp_path / f"p{name}"
        interop.save_diffusers(folder, module, adapters, 0.5)
        interop.save_peft(peft_folder, module, adapters, 0.5)
        count = interop.check_written(folder, module, params, adapters, 0.5)
        assert count == 2 * 10 + (4 if module.face else 0) == interop.check_written(
            peft_folder, module, params, adapters, 0.5
        )  # fmt: skip
        ours, plain = ours_of(variant, merged), ours_of(variant, params)
        assert np.abs(ours - plain).max() > 0.05
        bare = transformers_of(pipe, variant)[second]
        config = peft.LoraConfig.from_pretrained(str(peft_folder))

        def check(model, what: str, ours=ours, count=count) -> None:
            assert len(layers_with_adapters(model)) == count, what
            assert_equal(ours, theirs_of(model, given), f"{variant}, {what}")

        model = deepcopy(bare)
        model.load_lora_adapter(str(folder), weight_name=interop.DIFFUSERS_FILE, prefix="transformer")
        check(model, "load_lora_adapter")
        check(peft.PeftModel.from_pretrained(deepcopy(bare), str(peft_folder)).base_model.model, "PeftModel")
        wrapped, state = (
            peft.get_peft_model(deepcopy(bare), config),
            safetensors.load_file(peft_folder / interop.PEFT_FILE),
        )
        assert not peft.set_peft_model_state_dict(wrapped, state).unexpected_keys
        check(wrapped.base_model.model, "set_peft_model_state_dict")

        # What a missing prefix would do: both loaders take nothing, and our reader refuses the file.
        nothing = {
            key.removeprefix("transformer."): value
            for key, value in safetensors.load_file(folder / interop.DIFFUSERS_FILE).items()
        }
        safetensors.save_file(nothing, tmp_path / "bare.safetensors")
        with pytest.raises(SignerError, match="the prefix is missing, and diffusers would load nothing of it"):
            interop.check_written(tmp_path / "bare.safetensors", module, params, adapters, 0.5)
        model = deepcopy(bare)
        model.load_lora_adapter(nothing, prefix="transformer")
        assert not layers_with_adapters(model)
        assert_equal(plain, theirs_of(model, given), f"{variant}, no prefix in diffusers")
        wrapped = peft.get_peft_model(deepcopy(bare), config)
        stripped = {key.removeprefix("base_model.model."): value for key, value in state.items()}
        assert len(peft.set_peft_model_state_dict(wrapped, stripped).unexpected_keys) == len(state)
        assert_equal(plain, theirs_of(wrapped.base_model.model, given), f"{variant}, no prefix in PEFT")

    # The line that `signer export lora` prints, at last: it changes the pipeline, which this module shares.
    pipe = copy_of(pipe)
    for second, name in enumerate(parts):
        pipe.load_lora_weights(
            str(tmp_path / f"a{name}"), load_into_transformer_2=bool(second), adapter_name=f"a{second}"
        )
    for second, (model, params) in enumerate(zip(transformers_of(pipe, variant), parts.values(), strict=True)):
        ours = ours_of(variant, adapters_of(params, second)[1])
        assert layers_with_adapters(model)
        assert_equal(ours, theirs_of(model, given), f"{variant}, load_lora_weights")


def copy_of(pipe):
    """A pipeline of the same class with transformers of its own."""
    own = {name: deepcopy(part) for name, part in pipe.components.items() if name.startswith("transformer")}
    return type(pipe)(**{**pipe.components, **own})
