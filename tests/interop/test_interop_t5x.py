"""T5 checkpoints in t5x's form: miniature ones, written by the libraries that t5x writes with, come back number by
number.
"""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from interop.t5x_files import target_of, tree_of, write
from slul.tiny_t5 import tiny, weights

from signer_jax.cli.main import main
from signer_jax.errors import SignerError
from signer_jax.interop import state_dict, t5
from signer_jax.slul.tokenizer import Tokenizer

# decoder_layers differ from encoder_layers, and no two sizes are equal, or a swapped axis would not show.
SIZES = {"vocab_size": 13, "d_model": 10, "d_kv": 3, "d_ff": 7, "heads": 2, "encoder_layers": 2, "decoder_layers": 3,
         "relative_buckets": 8, "relative_max_distance": 128, "dropout": 0.1}  # fmt: skip
KINDS = {
    "v1.0": tiny(**SIZES, activation="relu", tie_embeddings=True),
    "v1.1": tiny(**SIZES, activation="gated-gelu", tie_embeddings=False),
    "umt5": tiny(**SIZES, activation="gated-gelu", tie_embeddings=False, relative_bias_every_layer=True),
}
CASES = [
    ("v1.0", "zarr", False, False), ("v1.1", "msgpack", False, False), ("v1.1", "orbax", False, True),
    ("umt5", "zarr", True, True), ("umt5", "orbax zarr3", True, True), ("umt5", "orbax folders", False, True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "layout", "scanned", "apart"), CASES)
def test_every_layout_comes_back(kind, layout, scanned, apart, tmp_path):
    module = KINDS[kind]
    params = weights(module)
    folder = write(tmp_path / "checkpoint_1000", tree_of(target_of(module, params, scanned=scanned, heads_apart=apart)),
                   layout)  # fmt: skip
    back, read = t5.load(folder)
    assert back == module
    jax.tree.map(np.testing.assert_array_equal, read, params)
    # Some rows of a stack of layers, as a device of a mesh reads them.
    described = t5.describe(folder)
    tensor = described.tensors["decoder/layers_2/self_attention/out/kernel"]
    expected = params["decoder"]["layers"]["self_attention"]["out"]["kernel"][2]
    np.testing.assert_array_equal(tensor[slice(2, 5), slice(1, 9)], expected[2:5, 1:9])


def test_bfloat16_stays_what_it_is(tmp_path):
    module = KINDS["v1.1"]
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), weights(module))
    folder = write(tmp_path / "c", tree_of(target_of(module, params, scanned=False, heads_apart=False)), "zarr")
    _, read = t5.load(folder)
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(one, other.astype(np.float32)), read, params)
    assert set(map(str, t5.describe(folder).stored().values())) == {"bfloat16"}


def test_it_is_imported_in_transformers_form(tmp_path, capsys):
    module = tiny(**{**SIZES, "vocab_size": 220}, relative_bias_every_layer=True)
    params = weights(module)
    tree = tree_of(target_of(module, params, scanned=True, heads_apart=True))
    source = write(tmp_path / "checkpoint_1", tree, "zarr")
    out = tmp_path / "out"
    assert main(["import", "t5", str(source), "--out", str(out)]) == 2 and not out.exists()
    assert "holds no spiece.model" in capsys.readouterr().err
    texts, glosses = ["how do you sign I carried it"] * 5, [("IX", "CARRY")] * 5
    Tokenizer.train(texts, tmp_path / "v.model", 120, ("ase",), glosses=glosses)
    # As a published one, which has no mask of its own.
    data = (tmp_path / "v.model").read_bytes()
    (source / "spiece.model").write_bytes(data.replace(b"<mask>", b"<musk>"))
    assert main(["import", "t5", str(source), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "UMT5ForConditionalGeneration" in said and "what its optimizer kept was left out" in said
    assert json.loads((out / "config.json").read_text())["model_type"] == "umt5"
    assert "encoder.block.1.layer.0.SelfAttention.q.weight" in state_dict.read_tensors(out)
    back, read = t5.load(out)
    assert back.clone(scale_logits=None) == module
    jax.tree.map(np.testing.assert_array_equal, read, params)


def line(call, *arguments) -> str:
    with pytest.raises(SignerError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_run_starts_from_what_was_imported(tmp_path):
    """A run keeps the files of its weights; of t5x's, most of which the optimizer's are, it says what to do."""
    tree = {"target": target_of(KINDS["v1.0"], weights(KINDS["v1.0"]), scanned=False, heads_apart=False)}
    assert "signer import t5 reads" in line(state_dict.files_of, write(tmp_path / "c", tree, "zarr"))


def test_what_is_not_whole_is_one_line(tmp_path):
    module = KINDS["v1.1"]
    tree = tree_of(target_of(module, weights(module), scanned=False, heads_apart=False))
    whole = write(tmp_path / "whole", tree, "zarr")
    name = "target.encoder.layers_0.mlp.wi_0.kernel"

    def harmed(harm) -> str:
        folder = tmp_path / "harmed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        harm(folder)
        return line(t5.load, folder)

    assert "some of its chunks are missing" in harmed(lambda folder: (folder / name / "0.0").unlink())
    assert name in harmed(lambda folder: shutil.rmtree(folder / name))
    assert "no whole t5x checkpoint" in harmed(lambda folder: (folder / name / "0.0").write_bytes(b"torn"))
    assert "no whole t5x checkpoint" in harmed(lambda folder: (folder / name / ".zarray").write_text("{"))
    about = json.loads((whole / name / ".zarray").read_text())
    huge = json.dumps(about | {"shape": [10**9, 10**9], "chunks": [10**9, 10**9]})
    assert "its files cannot hold" in harmed(lambda folder: (folder / name / ".zarray").write_text(huge))
    data = (whole / "checkpoint").read_bytes()
    for part in (b"", data[:-1], data[: len(data) // 2], b"\x81", b"model_checkpoint_path: x", b"\xdd\xff\xff\xff\xff"):
        message = harmed(lambda folder, part=part: (folder / "checkpoint").write_bytes(part))
        assert "no whole t5x checkpoint" in message
    outside = tmp_path / "elsewhere"
    shutil.copytree(whole / name, outside)
    assert "is a link out of its folder" in harmed(
        lambda folder: (shutil.rmtree(folder / name), (folder / name).symlink_to(outside))
    )
    assert "gated by silu" in harmed(
        lambda folder: (folder / "model.gin").write_text("network.T5Config.mlp_activations = ('silu', 'linear')")
    )


def test_other_models_are_named(tmp_path):
    module = KINDS["v1.1"]
    target = target_of(module, weights(module), scanned=False, heads_apart=False)
    cases = {
        "lacks 1 tensors, the first 'encoder/layers_1/mlp/wo": lambda t: t["encoder"]["layers_1"]["mlp"].pop("wo"),
        "holds the encoder of a T5 alone": lambda t: t.pop("decoder"),
        "has no 'token_embedder/embedding'": lambda t: t.pop("token_embedder"),
        "unknown tensors, the first 'side/scale'": lambda t: t.update(side={"scale": np.ones(3, np.float32)}),
        "has type int32": lambda t: t["decoder"]["decoder_norm"].update(scale=np.ones(10, np.int32)),
        "of shape (9,)": lambda t: t["decoder"]["decoder_norm"].update(scale=np.ones(9, np.float32)),
        "not finite": lambda t: t["decoder"]["decoder_norm"].update(scale=np.full(10, np.nan, np.float32)),
        "is no array": lambda t: t["decoder"]["decoder_norm"].update(scale="far"),
    }
    for number, (words, change) in enumerate(cases.items()):
        changed = jax.tree.map(lambda leaf: leaf, target)
        change(changed)
        assert words in line(t5.load, write(tmp_path / f"{number}", {"target": changed}, "msgpack"))
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(tmp_path / "other", {"params": {"a": np.ones(3)}})
    assert "without 'target'" in line(t5.load, tmp_path / "other")
