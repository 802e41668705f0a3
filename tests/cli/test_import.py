"""`signer import`: what it copies, what it says, and what it refuses before anything is written."""

import json
import os
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_pipeline
from renderer import tiny_wan
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from slul.tiny_t5 import tiny, weights

from signer_jax import storage
from signer_jax.cli import import_
from signer_jax.cli.main import main
from signer_jax.errors import SignerError
from signer_jax.interop import clip, importing, shards, state_dict, t5, wan
from signer_jax.interop.prompts import load_tokenizer
from signer_jax.slul.tokenizer import Tokenizer

FILE = "diffusion_pytorch_model.safetensors"
# In the originals' names what training holds in float32: norms (but one that nothing reads), modulation, the layers of
# the time, T5's biases of place.
NEVER_ROUNDED = re.compile(
    r"(?<!post_layer)norm|layrnorm|scale_shift_table|time_|motion_encoder|relative_attention_bias"
)


def runs(capsys, *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def fails(capsys, out: Path, *arguments: object) -> str:
    """The one line of a command that must fail, and has written nothing."""
    assert main(["import", *map(str, arguments), "--out", str(out)]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()  # the last one, behind a bar where the copy had begun
    assert not captured.out and lines[-1].startswith("signer: ") and "signer" not in "".join(lines[:-1])
    assert not out.exists() and not list(out.parent.glob(f".{out.name}*"))
    return lines[-1]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return tiny_pipeline.write(tmp_path_factory.mktemp("made") / "animate", "wan2.2-animate-14b")


@pytest.fixture
def source(made, tmp_path) -> Path:
    """A copy that a test may harm."""
    shutil.copytree(made, tmp_path / "source")
    for file in (tmp_path / "source").rglob(storage.MANIFEST):  # of our own writers: published folders have none
        file.unlink()
    return tmp_path / "source"


def equal(one, other) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_whole_pipeline_reads_like_the_original(source, tmp_path, capsys):
    (source / "README.md").write_text("read me")
    out = tmp_path / "weights" / "animate"
    said = runs(capsys, "import", "wan", source, "--out", out)
    shutil.rmtree(source)
    assert storage.check_folder(out, importing.KIND, "", ["transformer/config.json", "scheduler/scheduler_config.json"])
    assert not any(file.is_symlink() for file in out.rglob("*"))
    module, params = wan.load_experts(out, ())
    expected = tiny_pipeline.tiny_wan.module_of("wan2.2-animate-14b")
    assert module.clone(dtype=expected.dtype) == expected
    equal(params, tiny_pipeline.tiny_wan.parameters(expected, 0))
    assert wan.load_vae(out / "vae")[0].z_dim == 4 and clip.load(out / "image_encoder", width=20)[0].layers == 2
    encoder, _ = t5.load_encoder(out / "text_encoder", width=16)
    load_tokenizer(out / "tokenizer", vocab_size=encoder.vocab_size)
    index = json.loads((out / "model_index.json").read_text())
    assert index["_class_name"] == "WanAnimatePipeline" and (out / "image_processor/preprocessor_config.json").exists()

    lines = said.splitlines()
    assert lines[0] == f"{out}: WanAnimatePipeline, laid out as wan2.2-animate-14b"
    row = next(line for line in lines if line.startswith("transformer"))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"{count:,}" in row and "17,274,816,884" in row and "float32" in row
    assert "left out: README.md" in lines
    assert lines[-1].startswith(
        f"next: signer train --config wan_animate_14b --workdir DIR --config.renderer.init={out}"
    )
    assert f"--config.vae.init={out / 'vae'}" in lines[-1]


def test_the_next_command_is_one(source, tmp_path, capsys):
    """Its config is shipped, of that variant, and its keys are the config's."""
    from signer_jax import configuration

    for variant, name in import_.CONFIGS.items():
        assert configuration.shipped(name).renderer.variant == variant
    said = runs(capsys, "import", "wan", source / "transformer", "--out", tmp_path / "one")
    config, *overrides = said.splitlines()[-1].split("--config ")[1].split()
    assert config == "wan_animate_14b"
    default = configuration.load("default")
    for override in overrides[2:]:
        configuration.apply(default, override)
    assert default.renderer.init == str(tmp_path / "one")


@pytest.mark.parametrize(("dtype", "kind"), [("bfloat16", "BF16"), ("float32", "F32"), (None, "F16")])
def test_numbers_keep_their_type_or_get_the_one_that_is_asked_for(source, tmp_path, capsys, dtype, kind):
    file = source / "transformer" / FILE
    tensors = {name: value.astype(np.float16) for name, value in load_file(file).items()}
    save_file(tensors, file)
    out = tmp_path / "out"
    runs(capsys, "import", "wan", source / "transformer", "--out", out, *(["--dtype", dtype] if dtype else []))
    with safe_open(out / FILE, framework="np") as opened:
        kinds = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
        assert opened.metadata() == {"format": "pt"}
    rounded = [name for name in kinds if not NEVER_ROUNDED.search(name) or kind == "F16"]
    assert {kinds.pop(name) for name in rounded} == {kind} and set(kinds.values()) <= {"F32"}
    for name, tensor in state_dict.read_tensors(out).items():
        np.testing.assert_allclose(tensor, tensors[name].astype(np.float32), rtol=2**-8 if dtype == "bfloat16" else 0)


def test_the_autoencoder_keeps_its_numbers(source, tmp_path, capsys):
    """It encodes in float32: rounded weights would be in all latents."""
    out = tmp_path / "out"
    said = runs(capsys, "import", "wan", source, "--out", out, "--dtype", "bfloat16")
    before, after = (state_dict.read_tensors(folder / "vae") for folder in (source, out))
    for name, tensor in before.items():
        assert after[name].kind == "F32"
        np.testing.assert_array_equal(np.asarray(after[name]), np.asarray(tensor))
    for part in ("text_encoder", "image_encoder"):
        for name, tensor in state_dict.read_tensors(out / part).items():
            assert tensor.kind == ("F32" if NEVER_ROUNDED.search(name) else "BF16"), name
    rows = {line.split()[0]: line for line in said.splitlines() if line}
    assert "float32" in rows["vae"] and "bfloat16" in rows["transformer"]
    assert (out / "vae" / "config.json").read_text() == (source / "vae" / "config.json").read_text()


@pytest.mark.parametrize("kind", [None, "BF16"])
def test_all_that_is_written_is_counted(made, tmp_path, kind):
    found, counts = importing.look_at_wan(made), []
    importing.copy(found, tmp_path / "out", kind=kind, watch=counts.append)
    assert sum(counts) == importing.written_size(found, kind)


def test_shards_there_and_shards_here_each_number_read_once(source, tmp_path, capsys, monkeypatch):
    folder, out = source / "transformer", tmp_path / "out"
    before = {name: np.asarray(tensor) for name, tensor in state_dict.read_tensors(folder).items()}
    monkeypatch.setattr(shards, "MOST", 30_000)
    asked: list[tuple[str, int]] = []
    fromfile = np.fromfile

    def counted(file, dtype, count):
        asked.append((file.name, file.tell()))
        return fromfile(file, dtype, count)

    monkeypatch.setattr(state_dict, "_PIECE", 1000)
    monkeypatch.setattr(np, "fromfile", counted)
    runs(capsys, "import", "wan", folder, "--out", out)
    assert len(asked) == len(set(asked)) == sum(-(-value.size // 1000) for value in before.values())
    files = sorted(file.name for file in out.glob("*.safetensors"))
    assert len(files) > 3 and files[0] == f"diffusion_pytorch_model-00001-of-{len(files):05d}.safetensors"
    assert all((out / name).stat().st_size < 40_000 for name in files)
    index = json.loads((out / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(before)
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in before.values())
    monkeypatch.undo()
    for name, tensor in state_dict.read_tensors(out).items():
        np.testing.assert_array_equal(tensor, before[name])
    runs(capsys, "import", "wan", out, "--out", tmp_path / "again")  # shards as they are published
    equal(wan.load_transformer(tmp_path / "again")[1], wan.load_transformer(folder)[1])


def test_links_of_hugging_faces_cache_become_files(source, tmp_path, capsys):
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "1234"
    blobs.mkdir(parents=True)
    for i, file in enumerate(sorted(file for file in source.rglob("*") if file.is_file())):
        file.rename(blobs / str(i))
        (snapshot / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / file.relative_to(source)).symlink_to(blobs / str(i))
    runs(capsys, "import", "wan", snapshot, "--out", tmp_path / "out")
    shutil.rmtree(tmp_path / "hub")
    assert wan.load_experts(tmp_path / "out", ())[0].layers == 2


def test_two_experts_and_one_that_is_missing(tmp_path, capsys):
    folder = tiny_pipeline.write(tmp_path / "a14b", "wan2.2-t2v-a14b", encoders=False)
    said = runs(capsys, "import", "wan", folder, "--out", tmp_path / "out")
    assert "laid out as wan2.2-t2v-a14b" in said and "--config wan_a14b" in said
    assert set(wan.load_experts(tmp_path / "out", ("high", "low"))[1]) == {"high", "low"}
    shutil.rmtree(folder / "transformer_2")
    assert "names 'transformer_2', and there is no such folder" in fails(capsys, tmp_path / "x", "wan", folder)


# ---- Wan's own form --------------------------------------------------------------------------------------------------


def original(folder: Path, name: str, **values) -> Path:
    """One transformer as Wan-AI and VideoX-Fun publish it."""
    tiny_wan.save_transformer(folder, module := tiny_wan.module_of(name), tiny_wan.parameters(module, seed=0))
    return tiny_wan.in_original_form(folder, **values)


def with_tensors(folder: Path, **tensors: np.ndarray) -> None:
    save_file({**load_file(folder / FILE), **tensors}, folder / FILE)


@pytest.mark.parametrize("name", ["wan2.1-t2v-1.3b", "wan2.1-i2v-14b", "wan2.1-fun-control-14b", "wan2.2-animate-14b"])
def test_wans_own_form_is_read_and_written_in_diffusers_names(name, tmp_path, capsys):
    source = original(tmp_path / "source", name)
    (source / "Wan2.1_VAE.pth").write_bytes(b"a pickle")
    equal(wan.load_transformer(source)[1], tiny_wan.parameters(tiny_wan.module_of(name), seed=0))
    said = runs(capsys, "import", "wan", source, "--out", tmp_path / "out")
    assert name in said.splitlines()[0] and "read in Wan's own names, written in diffusers'" in said
    assert "Wan2.1_VAE.pth is a pickle of Wan's own form, which may run any program and is not read; the fold" in said
    (again, read), (module, expected) = (wan.load_transformer(tmp_path / each) for each in ("out", "source"))
    assert again == module
    equal(read, expected)
    assert load_file(tmp_path / "out" / FILE).keys() == wan.theirs(module, expected)[1].keys()


@pytest.mark.parametrize("name", ["wan2.2-i2v-a14b", "wan2.2-fun-control-a14b"])
def test_two_experts_of_wans_own_form(name, tmp_path, capsys):
    for part in ("high_noise_model", "low_noise_model"):
        original(tmp_path / "a14b" / part, name)
    said = runs(capsys, "import", "wan", tmp_path / "a14b", "--out", tmp_path / "out")
    assert f"laid out as {name}" in said
    equal(*(wan.load_experts(tmp_path / each, ("high", "low"))[1] for each in ("a14b", "out")))
    assert (tmp_path / "out" / "transformer_2" / FILE).exists()
    with pytest.raises(SignerError, match=r"holds a model of two experts \(high_noise_model and low_noise_model\)"):
        wan.load_experts(tmp_path / "a14b", ())


def test_what_fun_control_has_no_place_for(tmp_path, capsys):
    source = original(tmp_path / "source", "wan2.1-fun-control-14b", add_ref_conv=True)
    with_tensors(source, **{"ref_conv.weight": np.zeros((24, 4, 2, 2)), "ref_conv.bias": np.zeros(24)})
    assert "ref_conv is left out: " in runs(capsys, "import", "wan", source, "--out", tmp_path / "out")
    assert not any("ref_conv" in name for name in load_file(tmp_path / "out" / FILE))
    with_tensors(source, **{"control_adapter.conv.weight": np.zeros(2)})
    assert "a camera control (control_adapter) is not sup" in fails(capsys, tmp_path / "camera", "wan", source)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: with_tensors(folder, surprise=np.zeros(2)), "has 1 unknown tensors, the first 'surprise'"),
        (
            lambda folder: with_tensors(folder, **{"head.head.bias": np.zeros(3)}),
            "head.head.bias makes patch_projection/bias of shape (3,), its config says (16,)",
        ),
        (
            lambda folder: with_tensors(folder, **{"img_emb.emb_pos": np.zeros((1, 2, 3))}),
            "a first-and-last-frame model (img_emb.emb_pos) is not supported",
        ),
        (
            lambda folder: (folder / f"{FILE}.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}'),
            "b.safetensors: no such file or directory; the folder's weights",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"_class_name": "WanModel", "dim": 24}'),
            "config.json: lacks 'num_heads'; give the folder of Wan's transformer in its own form",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"_class_name": "VaceWanModel"}'),
            "holds a VaceWanModel, not a WanTransformer3DModel",
        ),
    ],
)  # fmt: skip
def test_wans_own_form_is_refused_as_diffusers_is(harm, says, tmp_path, capsys):
    source = original(tmp_path / "source", "wan2.1-t2v-1.3b")
    harm(source)
    assert says in fails(capsys, tmp_path / "out", "wan", source)


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("face_adapter.fuser_blocks.0.linear1_kv.bias", "lacks 2 tensors, the first 'face_adapter.fuser_bl"),
        ("motion_encoder.dec.direction.weight", "lacks 'motion_encoder.dec.direction.weight', which says a size"),
        ("motion_encoder.enc.net_app.convs.1.conv2.1.weight", "lacks 'motion_encoder.enc.net_app.convs.1.weight', whi"),
        ("pose_patch_embedding.bias", "lacks 1 tensors, the first 'pose_patch_embedding.bias'"),
    ],
)  # fmt: skip
def test_animate_of_wans_own_form_is_refused_where_it_is_not_whole(lost, says, tmp_path, capsys):
    source = original(tmp_path / "source", "wan2.2-animate-14b")
    tensors = load_file(source / FILE)
    del tensors[lost]
    save_file(tensors, source / FILE)
    assert says in fails(capsys, tmp_path / "out", "wan", source)


def test_the_pickles_of_wans_own_form_are_named(tmp_path):
    source = original(tmp_path / "source", "wan2.1-t2v-1.3b")
    for load in (wan.load_vae, t5.load_encoder, clip.load):
        with pytest.raises(SignerError, match=r"holds Wan's transformer alone; each \.pth beside it is a pickle of W"):
            load(source, **({"width": 16} if load is not wan.load_vae else {}))


def test_a_byt5_needs_no_vocabulary_but_the_word_that_it_is_one(tmp_path, capsys):
    source = tmp_path / "byt5"
    t5.save(source, tiny(vocab_size=384), weights(tiny(vocab_size=384)))
    (source / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    assert "holds no spiece.model" in fails(capsys, tmp_path / "x", "t5", source)
    (source / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    said = runs(capsys, "import", "t5", source, "--out", tmp_path / "out")
    assert f"--config.tokenizer.path={tmp_path / 'out' / 'tokenizer_config.json'}" in said
    assert Tokenizer.load(tmp_path / "out" / "tokenizer_config.json", mask="<extra_id_0>").vocab_size == 384


def test_a_t5_with_its_vocabulary(tmp_path, capsys):
    source = tmp_path / "t5"
    t5.save(source, tiny(vocab_size=220), weights(tiny(vocab_size=220)))
    line = fails(capsys, tmp_path / "x", "t5", source)
    assert "holds no spiece.model, by which config.tokenizer.path reads the text" in line
    (tmp_path / "spm").mkdir()
    shutil.copy(tiny_pipeline.spiece(tmp_path / "spm"), source)
    said = runs(capsys, "import", "t5", source, "--out", tmp_path / "out")
    equal(t5.load(tmp_path / "out")[1], weights(tiny(vocab_size=220)))
    assert Tokenizer.load(tmp_path / "out" / "spiece.model", mask="<extra_id_0>").vocab_size == 220
    wanted = f"--config.slul.init={tmp_path}/out --config.tokenizer.path={tmp_path}/out/spiece.model"
    assert said.splitlines()[-1].endswith(f"{wanted} --config.tokenizer.mask='<extra_id_0>'")


# ---- Refused, with nothing written -----------------------------------------------------------------------------------


def _another_config(name, **values):
    def harm(source):
        config = json.loads((source / name / "config.json").read_text())
        (source / name / "config.json").write_text(json.dumps(config | values))

    return harm


def _without(name):
    def harm(source):
        tensors = load_file(source / "transformer" / FILE)
        del tensors[name]
        save_file(tensors, source / "transformer" / FILE)

    return harm


def _index(place):
    def harm(source):
        names = dict.fromkeys(load_file(source / "transformer" / FILE), place)
        (source / "transformer" / f"{FILE}.index.json").write_text(json.dumps({"weight_map": names}))

    return harm


def _not_finite(source):
    tensors = load_file(source / "vae" / FILE)
    tensors["quant_conv.bias"][0] = np.nan
    save_file(tensors, source / "vae" / FILE)


def _pickled(source):
    (source / "transformer" / FILE).rename(source / "transformer" / "diffusion_pytorch_model.bin")


def _originals(source):
    shutil.rmtree(source)
    source.mkdir()
    (source / "Wan2.1_VAE.pth").write_bytes(b"")
    (source / "config.json").write_text('{"_class_name": "WanModel"}')


def _small_vocabulary(source):
    (source / "tokenizer" / "tokenizer_config.json").write_text('{"extra_ids": 900}')


HARMS = {
    "missing shard": (_index("a.safetensors"), "a.safetensors: no such file or directory; the folder's weights"),
    "index outside": (_index("../a.safetensors"), "names '../a.safetensors', which is no .safetensors file beside it"),
    "missing tensor": (_without("proj_out.bias"), "lacks 1 tensors, the first 'proj_out.bias'"),
    "another class": (_another_config("transformer", _class_name="WanVACE"), "holds a WanVACE, not a WanTransformer3D"),
    "another vae": (_another_config("vae", _class_name="AutoencoderKL"), "holds a AutoencoderKL, not an Autoencoder"),
    "another shape": (_another_config("transformer", ffn_dim=40), "its config says (24, 40); take both files from one"),
    "another width": (_another_config("text_encoder", d_model=20), "d_model is 20, so its states have that width"),
    "not finite": (_not_finite, "tensor 'quant_conv.bias' holds a value that is not finite in float32"),
    "pickled": (_pickled, "is PyTorch's pickle, which may run any program and is not read"),
    "Wan's own": (_originals, "is a pickle of Wan's own form, which may run any program and is not read; the folder"),
    "vocabulary": (_small_vocabulary, "has 1020 ids, its text encoder 220; give the tokenizer and the text_encoder"),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_not_whole_or_not_of_one_model(source, tmp_path, capsys, harm):
    change, says = HARMS[harm]
    change(source)
    assert says in fails(capsys, tmp_path / "out", "wan", source)


def test_places_that_would_lose_something(source, tmp_path, capsys, monkeypatch):
    for arguments, says in (
        (("wan", tmp_path / "none"), "no such file or folder; give the folder of a diffusers pipeline"),
        (("wan", source / "model_index.json"), "is a file; give the folder"),
        (("wan", source / "tokenizer"), "holds no model (no config.json)"),
        (("t5", source / "text_encoder"), "holds the encoder of a T5 alone"),
    ):
        assert says in fails(capsys, tmp_path / "out", *arguments)
    inside = source / "new"
    assert "must not lie in SRC" in fails(capsys, inside, "wan", source)
    assert main(["import", "wan", str(source / "vae"), "--out", str(source)]) == 2
    assert "must not lie in" in capsys.readouterr().err and (source / "vae" / FILE).exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    assert main(["import", "wan", str(source / "vae"), "--out", str(tmp_path / "mine")]) == 2
    assert "exists and is no copy of published weights of signer_jax" in capsys.readouterr().err
    assert os.listdir(tmp_path / "mine") == ["file"]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert "there are 1.00 kB; choose another place" in fails(capsys, tmp_path / "full", "wan", source)


def test_an_older_copy_is_replaced(source, tmp_path, capsys):
    out = tmp_path / "out"
    runs(capsys, "import", "wan", source, "--out", out)
    runs(capsys, "import", "wan", source / "vae", "--out", out)
    assert not (out / "transformer").exists() and wan.load_vae(out)[0].z_dim == 4
