"""Any harm to a vocabulary, published weights, a checkpoint or a run's config: what it holds, or one line."""

import hashlib
import json
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from properties.harms import (
    NESTED,
    NO_JSON,
    Behind,
    Cut,
    Over,
    Put,
    Set,
    Whole,
    budget,
    bytes_of,
    gives,
    harms,
    names,
    odd_json,
)

SHARDS = ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]
INDEX = "model.safetensors.index.json"


@budget(60)
@given(harms)
@example(Cut(0))
@example(Cut(0.5))
@example(Whole(b"<pad>\t0\n</s>\t0\n"))
@example(Behind(b"\x0a\x20\x0a\x1e" + b"e" + b"\xcc\x81" * 14))
def test_any_harm_to_a_vocabulary(harm):
    gives("SentencePiece model", {"tokenizer.model": harm})


@budget(60)
@given(odd_json)
@example(Set("added_tokens", 5))
@example(Set("model", {"vocab": [["a" * 10_000, 0.0]], "unk_id": 0}))
@example(Whole(b"{}"))
def test_any_value_of_a_prompts_tokenizer(harm):
    gives("prompts' tokenizer", {"fast/tokenizer.json": harm})


@budget(40)
@given(harms)
@example(Cut(0))
@example(Cut(0.5))
def test_any_harm_to_a_prompts_vocabulary(harm):
    gives("prompts' tokenizer", {"slow/spiece.model": harm})


@budget(40)
@given(odd_json)
@example(Set("num_hidden_layers", 10**9))
@example(Set("image_size", 8192))
def test_any_value_of_a_towers_config(harm):
    gives("CLIP folder", {"clip/config.json": harm})


@budget(60)
@given(st.sampled_from(SHARDS), harms)
@example(SHARDS[0], Cut(0))
@example(SHARDS[0], Cut(7))
@example(SHARDS[0], Over(0, struct.pack("<Q", 2**63)))
@example(SHARDS[0], Over(9, b"\xff\xfe"))
@example(SHARDS[0], Over(-8, struct.pack("<q", -1)))
def test_any_harm_to_tensors(name, harm):
    gives("safetensors and index", {name: harm})


def tensors(header: object, body: int = 24) -> Whole:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return Whole(struct.pack("<Q", len(text)) + text + bytes(body))


def one(**change) -> dict:
    return {"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24], **change}}


offsets = st.one_of(st.integers(-1, 2**70), st.sampled_from([0, 24, 0.5, "24", None, True]))
shapes = st.lists(st.one_of(st.integers(-1, 2**62), st.sampled_from([6, "6", None, 0.5])), max_size=3)


@budget(60)
@given(st.builds(one, data_offsets=st.lists(offsets, max_size=3), shape=shapes))
@example(one(data_offsets=[-24, 0]))
@example(one(data_offsets=[0.0, 24.0]))
@example(one(data_offsets=["0", "24"]))
@example(one(shape=["6"]))
@example(one(shape=[-1]))
@example(one(shape=None))
@example({"a": None})
@example({f"t{i}": one()["a"] for i in range(1000)})  # all on the same bytes
@example(
    {
        "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        "b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
    }
)
def test_any_header_of_a_tensor(header):
    assert gives("safetensors and index", {SHARDS[0]: tensors(header)})


@budget(50)
@given(odd_json)
@example(Set("weight_map", {"a": "../x.safetensors"}))
@example(Set("weight_map", {"a": "/etc/passwd.safetensors"}))
@example(Set("weight_map", {"a": 3}))
@example(Put((1, 0), "e" + "\u0301" * 40))
def test_any_value_of_an_index(harm):
    gives("safetensors and index", {INDEX: harm})


@budget(50)
@given(st.sampled_from(["t5", "wan", "vae"]), odd_json)
@example("t5", Set("d_model", 10**9))
@example("vae", Set("latents_mean", [float("nan")]))
@example("wan", Set("patch_size", [0, 2, 2]))
def test_any_value_of_a_models_config(model, harm):
    gives("T5, Wan, VAE folder", {f"{model}/config.json": harm})


@pytest.mark.parametrize("data", [*NO_JSON, *NESTED], ids=lambda data: data[:12].hex())
def test_what_is_no_json(data):
    assert gives("T5, Wan, VAE folder", {"t5/config.json": Whole(data)})
    assert gives("safetensors and index", {INDEX: Whole(data)})
    assert gives("run's config.json", {"config.json": Whole(data)})


@budget(60)
@given(odd_json)
@example(Set("made_by", "other"))
@example(Set("slul", None))
@example(Set("seed", 10**400))
@example(Set("stages", ["../x"]))
@example(Put((0,), {"\U00014647": None}, False))  # a letter that no Unicode has yet
def test_any_value_of_a_runs_config(harm):
    gives("run's config.json", {"config.json": harm})


CHECKPOINT = "checkpoint (Orbax)"
ABOUT = "part/3/about/metadata"


@budget(25)
@given(st.deferred(lambda: st.sampled_from(names(CHECKPOINT))), harms)
def test_any_harm_to_a_checkpoint(name, harm):
    gives(CHECKPOINT, {name: harm})


class Sealed:
    """What a checkpoint says of itself, changed and sealed anew."""

    def __init__(self, harm):
        self.harm = harm

    def __repr__(self):
        return f"Sealed({self.harm!r})"

    def __call__(self, data: bytes) -> bytes:
        about = json.loads(self.harm(data))
        if not isinstance(about, dict):
            return json.dumps(about).encode()
        about.pop("seal", None)
        return json.dumps(
            {**about, "seal": hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()}
        ).encode()


@budget(25)
@given(odd_json.map(Sealed))
@example(Sealed(Put((0,), None, gone=True)))  # without its arrays
@example(Sealed(Put((1,), None, gone=True)))  # without its place in the data
@example(Sealed(Set("arrays", {"params/part/bias": {"dtype": "float32", "shape": [10**6, 10**6], "sum": ""}})))
@example(Sealed(Put((), [])))
def test_any_value_of_what_a_sealed_checkpoint_says(harm):
    try:
        harm(bytes_of(CHECKPOINT, ABOUT))
    except UnicodeDecodeError:  # half a character, which this way of sealing cannot write
        return
    gives(CHECKPOINT, {ABOUT: harm})


def test_what_is_whole_is_read():
    for reader in (
        "SentencePiece model", "prompts' tokenizer", "CLIP folder", "safetensors and index", "run's config.json",
        CHECKPOINT,
    ):  # fmt: skip
        assert not gives(reader, {names(reader)[0]: lambda data: data})
    assert not gives("T5, Wan, VAE folder", {"t5/config.json": lambda data: data})
