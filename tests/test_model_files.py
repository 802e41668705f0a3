"""Published models' files: configs that cannot be meant, safetensors that claim too much, folders kept whole."""

import json
import os
import struct

import jax
import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from signer_jax.errors import SignerError
from signer_jax.interop import model_config, prompts, state_dict, t5, wan, wan_vae
from signer_jax.slul.t5 import T5
from signer_jax.slul.tokenizer import Tokenizer


def line(function, *arguments) -> str:
    with pytest.raises(SignerError) as error:
        function(*arguments)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    return str(error.value)


# ---- Configs ---------------------------------------------------------------------------------------------------------

T5_CONFIG = {
    "model_type": "t5", "vocab_size": 61, "d_model": 8, "d_kv": 4, "d_ff": 10, "num_heads": 2, "num_layers": 2,
    "feed_forward_proj": "relu",
}  # fmt: skip
WAN_CONFIG = {
    "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "ffn_dim": 8,
    "num_layers": 2, "text_dim": 8, "freq_dim": 8, "patch_size": [1, 2, 2], "eps": 1e-6,
}  # fmt: skip
VAE_CONFIG = {
    "base_dim": 8, "z_dim": 2, "dim_mult": [1, 2], "num_res_blocks": 1, "temperal_downsample": [True],
    "latents_mean": [0, 0.5], "latents_std": [1, 2.5],
}  # fmt: skip
READERS = {
    "t5": (T5_CONFIG, t5.load), "wan": (WAN_CONFIG, wan.load_transformer), "vae": (VAE_CONFIG, wan_vae.load_vae),
}  # fmt: skip
WRONG = (10**9, 10**400, -1, 0.5, "2", [2], {}, [[]], "x" * 10_000, True)


@pytest.mark.parametrize("model", READERS)
def test_a_value_that_cannot_be_meant_is_one_line_at_once(tmp_path, model):
    config, load = READERS[model]
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "x.safetensors")
    for key in config:
        for value in WRONG:
            (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
            message = line(load, tmp_path)
            if value == [2] and isinstance(config[key], list):
                continue  # a list of the right kind, of a length that another key decides
            assert f"config.json: {key} is " in message and " it must be " in message, (key, value)
        (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != key}))
        line(load, tmp_path)


def test_a_configs_lists_have_their_lengths(tmp_path):
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "x.safetensors")
    for key, value in (("latents_mean", [0]), ("latents_std", [1] * 3), ("temperal_downsample", []), ("dim_mult", [])):
        (tmp_path / "config.json").write_text(json.dumps({**VAE_CONFIG, key: value}))
        assert key in line(wan_vae.load_vae, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**WAN_CONFIG, "patch_size": [1, 2]}))
    assert "patch_size is [1, 2], it must be a list of 3 items" in line(wan.load_transformer, tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"[1]", b"null", b"3", b'"t5"', b"{", b"", b'{"d_model": NaN}', b'{"d_model": -Infinity}',
        b"[" * 100_000, b'{"a":' * 100_000, '{"a": 1}'.encode("utf-16"), b'{"a": "\xff"}',
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_object(tmp_path, data):
    (tmp_path / "config.json").write_bytes(data)
    message = line(state_dict.read_config, tmp_path)
    assert str(tmp_path / "config.json") in message and ("JSON" in message or "not the names" in message)


def test_a_config_in_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    assert "no regular file" in line(state_dict.read_config, tmp_path)


def test_kinds_say_what_they_take():
    assert model_config.whole(9).describe() == "a whole number within 1 to 9"
    assert model_config.several(bool, 0, 7).describe() == "a list of 0 to 7 items, each a true or false"
    assert model_config.number(0, 1).fits(1) and not model_config.number(0, 1).fits(True)
    assert not model_config.whole(9).fits(2.0) and not model_config.flag().fits(1)


# ---- Tensors ---------------------------------------------------------------------------------------------------------


def _write(file, header: dict | bytes, body: bytes) -> None:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(data)) + data + body)


def _entry(kind: str, shape: list[int], start: int, end: int) -> dict:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


def test_types_are_read_as_float32(tmp_path):
    values = np.array([1.5, -2, 1024], np.float64)
    kinds = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I64": np.int64}
    arrays = {kind: values.astype(dtype) for kind, dtype in kinds.items()}
    save_file(arrays, tmp_path / "a.safetensors")
    tensors = state_dict.read_tensors(tmp_path)
    assert tensors.keys() == arrays.keys() - {"I64"}
    for array in tensors.values():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, values)


def test_overlapping_tensors_take_no_memory(tmp_path):
    header = {f"t{i}": _entry("F32", [250_000], 0, 1_000_000) for i in range(1000)}  # four thousand times the file
    _write(tmp_path / "a.safetensors", header, bytes(1_000_000))
    assert "no whole safetensors file" in line(state_dict.read_tensors, tmp_path)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ({"a": _entry("F32", [2], 0, 8)}, bytes(7)), ({"a": _entry("F32", [2], 0, 8)}, bytes(9)),
        ({"a": _entry("F32", [3], 0, 8)}, bytes(8)), ({"a": _entry("F32", [2**62], 0, 8)}, bytes(8)),
        ({"a": _entry("F32", [-2], 0, 8)}, bytes(8)), ({"a": {"dtype": "F32"}}, bytes(8)), ([], b""), ({"a": 3}, b""),
        (b"[" * 9999, b""), (b"{}   {", b""),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
         bytes(8)),
    ],
)  # fmt: skip
def test_damaged_headers_are_one_line(tmp_path, header, body):
    _write(tmp_path / "a.safetensors", header, body)
    assert "no whole safetensors file" in line(state_dict.read_tensors, tmp_path)


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "C64"])
def test_types_that_are_not_read_are_named(tmp_path, kind):
    size = 8 if kind == "C64" else 1
    _write(tmp_path / "a.safetensors", {"w": _entry(kind, [2], 0, 2 * size)}, bytes(2 * size))
    assert f"tensor 'w' has type {kind}" in line(state_dict.read_tensors, tmp_path)


def test_shards_are_plain_files_of_the_folder(tmp_path):
    folder, index = tmp_path / "m", tmp_path / "m" / "model.safetensors.index.json"
    folder.mkdir()
    save_file({"a": np.ones(2, np.float32)}, folder / "one.safetensors")
    save_file({"b": np.ones(3, np.float32)}, tmp_path / "two.safetensors")

    def message(content) -> str:
        index.write_text(content if isinstance(content, str) else json.dumps({"weight_map": content}))
        return line(state_dict.read_tensors, folder)

    for name in (
        "../two.safetensors",
        str(tmp_path / "two.safetensors"),
        "m/../one.safetensors",
        "..",
        "",
        "a\0.safetensors",
    ):
        assert "no .safetensors file beside it" in message({"a": "one.safetensors", "b": name})
    for content in ("{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "[" * 100_000):
        assert "model.safetensors.index.json" in message(content)
    assert "two.safetensors" in message({"a": "one.safetensors", "b": "two.safetensors"})  # missing
    (folder / "two.safetensors").symlink_to(tmp_path / "two.safetensors")
    assert "is a link out of its folder" in message({"a": "one.safetensors", "b": "two.safetensors"})
    (folder / "two.safetensors").unlink()
    save_file({"b": np.ones(3, np.float32)}, folder / "two.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    assert {name: array.shape for name, array in state_dict.read_tensors(folder).items()} == {"a": (2,), "b": (3,)}
    assert "lacks the tensor 'c'" in message({"a": "one.safetensors", "c": "two.safetensors"})
    save_file({"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}, folder / "two.safetensors")
    assert "'a' is in another file" in message({"a": "one.safetensors", "b": "two.safetensors"})


def test_the_cache_of_the_hub_links_to_its_store(tmp_path):
    snapshot, store = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    store.mkdir()
    save_file({"a": np.ones(2, np.float32)}, store / "0123")
    (snapshot / "one.safetensors").symlink_to("../../blobs/0123")
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    assert state_dict.read_tensors(snapshot)["a"].shape == (2,)


def test_no_link_leads_out_of_a_folder(tmp_path):
    """With an index or without, weights or settings."""
    state_dict.write(tmp_path / "other", {"value": 1}, {"a": np.ones(2, np.float32)})
    for name, read in (("model.safetensors", state_dict.read_tensors), ("config.json", state_dict.read_config)):
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        (folder / name).symlink_to(tmp_path / "other" / name)
        assert f"{folder / name}: is a link out of its folder" in line(read, folder)
        (folder / name).unlink()
        (folder / "real").write_bytes((tmp_path / "other" / name).read_bytes())
        (folder / name).symlink_to("real")
        assert read(folder)
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    for name in ("tokenizer.json", "spiece.model"):
        (tokenizer / name).symlink_to(tmp_path / "other" / "config.json")
        assert f"{tokenizer / name}: is a link out of its folder" in line(prompts.load_tokenizer, tokenizer)
        (tokenizer / name).unlink()


def test_a_replacement_that_was_cut_short_is_found(tmp_path):
    """Where the system cannot exchange two names, a kill may come between the two renames."""

    def killed(path):
        room = path.with_name(f".{path.name}.abcdefgh.partial")
        room.mkdir()
        (room / ".signer_jax").write_text(path.name)
        path.rename(room / "old.0")

    state_dict.write(tmp_path / "m", {"value": 1}, {"a": np.ones(2, np.float32)})
    for read in (state_dict.read_config, state_dict.read_tensors):
        killed(tmp_path / "m")
        assert read(tmp_path / "m")
        (tmp_path / ".m.abcdefgh.partial" / ".signer_jax").unlink()
        (tmp_path / ".m.abcdefgh.partial").rmdir()


def test_what_is_written_replaces_only_its_own_kind(tmp_path):
    tensors = {"a": np.ones(2, np.float32)}
    for value in (1, 2):
        state_dict.write(tmp_path / "m", {"value": value}, tensors)
        assert state_dict.read_config(tmp_path / "m") == {"value": value}
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    (tmp_path / "m" / "notes.txt").write_text("mine")
    assert "choose another folder" in line(state_dict.write, tmp_path / "m", {}, tensors)
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"


def test_a_whole_model_comes_back(tmp_path):
    module = T5(
        61, 8, 4, 10, 2, 2, 2, 12, 20, "relu", tie_embeddings=False, relative_bias_every_layer=False, dropout=0.1
    )
    ids = np.zeros((1, 3), np.int32)
    params = jax.jit(module.init)(jax.random.key(0), ids, ids)["params"]
    t5.save(tmp_path / "m", module, params)
    _, back = t5.load(tmp_path / "m")
    for key, value in flatten_dict(params).items():
        np.testing.assert_array_equal(flatten_dict(back)[key], value)


# ---- Weights in other forms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("checkpoint_1000000/", "model.gin"), "t5x checkpoint"), (("operative_config.gin",), "t5x checkpoint"),
        (("checkpoint", "target.encoder.layers_0.mlp.wi.kernel/", "target.decoder.norm/"), "t5x checkpoint"),
        (("checkpoint",), "t5x checkpoint"), ((".zarray", "0.0"), "zarr's form"),
        (("_METADATA", "manifest.ocdbt", "d/"), "Orbax checkpoint"), (("flax_model.msgpack",), "from_flax=True"),
        (("model.ckpt-1000000.index", "model.ckpt-1000000.data-00000-of-00002", "checkpoint"), "TensorFlow checkpoint"),
        (("tf_model.h5",), "from_tf=True"), (("pytorch_model.bin",), "PyTorch's pickle"),
        (("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"), "-Diffusers"), (("model.gguf",), "gguf"),
    ],
)  # fmt: skip
def test_weights_in_another_form_are_named_with_what_converts_them(tmp_path, names, words):
    for name in names:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_bytes(b"\x81")
    for load in (t5.load, wan.load_transformer, wan_vae.load_vae):
        message = line(load, tmp_path)
        assert words in message and str(tmp_path) in message
    if not any(name.endswith("/") for name in names):
        assert words in line(t5.load, tmp_path / names[0]) or len(names) > 1  # the file itself
    (tmp_path / "config.json").write_text(json.dumps(T5_CONFIG))  # as people put it beside them
    assert words in line(t5.load, tmp_path)


def test_a_file_where_a_folder_belongs(tmp_path):
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "a.safetensors")
    assert "is a file; give the folder that save_pretrained wrote" in line(t5.load, tmp_path / "a.safetensors")
    assert "no such file" in line(t5.load, tmp_path / "none")


def test_tokenizers_that_are_none(tmp_path):
    texts, glosses = ["how do you sign I carried it"] * 5, [("IX", "CARRY")] * 5
    Tokenizer.train(texts, tmp_path / "a.model", 120, ("ase",), glosses=glosses)
    whole = (tmp_path / "a.model").read_bytes()
    assert Tokenizer.load(tmp_path / "a.model").languages == ("ase",)
    pieces = whole.index(b"\x12", whole.rindex(b"CARRY"))  # where the trainer's record follows the last piece
    for data in (*(whole[:length] for length in range(0, pieces, 3)), b"<pad>\t0\n</s>\t0\n"):
        (tmp_path / "b.model").write_bytes(data)
        assert str(tmp_path / "b.model") in line(Tokenizer.load, tmp_path / "b.model")
    (tmp_path / "b.model").write_bytes(whole)
    assert "b.model: tokenizer: the vocabulary has no piece" in line(Tokenizer.load, tmp_path / "b.model", "<other>")
    os.mkfifo(tmp_path / "pipe.model")
    assert "no regular file" in line(Tokenizer.load, tmp_path / "pipe.model")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_is_not_exported(tmp_path, value):
    with pytest.raises(SignerError, match=r"model: 'b' would hold a value that is not finite in float32"):
        state_dict.write(tmp_path / "model", {}, {"a": np.ones(2), "b": np.array([1, value])})
    assert not list(tmp_path.iterdir())


def test_a_header_is_as_long_as_tensors_need(tmp_path):
    names = ",".join(f'"{i:x}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(160_000))
    header = f"{{{names}}}".encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "its header has 8 MB, 8 at most" in line(state_dict.read_file, tmp_path / "x.safetensors")


def test_many_blocks_are_not_traced_for_a_folder_without_them(tmp_path, monkeypatch):
    monkeypatch.setattr(model_config, "shapes", None)
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "x.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**VAE_CONFIG, "num_res_blocks": 100}))
    assert "lacks" in line(wan_vae.load_vae, tmp_path)
