"""LoRA files: there and back, α and missing layers, other names, and what is refused in one line."""

import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from signer_jax.errors import SignerError
from signer_jax.interop import lora
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.slul.t5 import T5

WAN = VideoTransformer(
    in_channels=4, out_channels=4, dim=24, heads=2, ffn_dim=32, layers=3, text_dim=16, freq_dim=32, patch=(1, 2, 2),
    image_dim=None, eps=1e-6,
)  # fmt: skip
LINEAR = T5(
    vocab_size=40, d_model=16, d_kv=8, d_ff=24, heads=2, encoder_layers=2, decoder_layers=1, relative_buckets=8,
    relative_max_distance=16, activation="gated-gelu", tie_embeddings=False, relative_bias_every_layer=False,
    dropout=0.0,
)  # fmt: skip


def shapes(module):
    f, i = np.float32, np.int32
    spec = jax.ShapeDtypeStruct
    inputs = (
        (spec((1, 2), i),) * 2 if isinstance(module, T5)
        else (spec((1, 1, 2, 2, 4), f), spec((1,), f), spec((1, 3, 16), f))
    )  # fmt: skip
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]


def adapters(module, rank=2):
    flat = flatten_dict(shapes(module), sep="/")
    rng, made = np.random.default_rng(0), {}
    for name, leaf in flat.items():
        if any(part in name for part in ("attention/", "/wi", "/wo", "text_in")) and name.endswith("/kernel"):
            *stack, inputs, outputs = leaf.shape
            made[name.replace("kernel", "lora_a")] = rng.normal(size=(*stack, inputs, rank)).astype(np.float32)
            made[name.replace("kernel", "lora_b")] = rng.normal(size=(*stack, rank, outputs)).astype(np.float32)
    return lora.unflatten_dict(made, sep="/")


def same(one, other, atol=1e-6):
    one, other = flatten_dict(one, sep="/"), flatten_dict(other, sep="/")
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, atol=atol)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_there_and_back(tmp_path, scale):
    for module, save in ((WAN, lora.save_diffusers), (WAN, lora.save_peft), (LINEAR, lora.save_peft)):
        folder = tmp_path / f"{save.__name__}{module.__class__.__name__}"
        save(folder, module, adapters(module), scale)
        same(adapters(module), lora.load(folder, module, shapes(module), scale))
    file = tmp_path / "save_diffusersVideoTransformer" / lora.DIFFUSERS_FILE
    found = load_file(file)
    assert len(found) == (3 * 10 + 1) * 2
    a = adapters(WAN)["layers"]["self_attention"]["query"]
    np.testing.assert_array_equal(found["transformer.blocks.2.attn1.to_q.lora_A.weight"], a["lora_a"][2].T)
    np.testing.assert_allclose(found["transformer.blocks.2.attn1.to_q.lora_B.weight"], scale * a["lora_b"][2].T)
    same(adapters(WAN), lora.load(file, WAN, shapes(WAN), scale))


def saved(tmp_path, change):
    lora.save_diffusers(tmp_path / "whole", WAN, adapters(WAN), 1.0)
    tensors = change(load_file(tmp_path / "whole" / lora.DIFFUSERS_FILE))
    save_file(tensors, tmp_path / "changed.safetensors")
    return tmp_path / "changed.safetensors"


def test_wans_own_names_with_an_alpha_are_the_same_adapters(tmp_path):
    names = {"attn1": "self_attn", "attn2": "cross_attn", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o",
             "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2", "transformer.": "diffusion_model.",
             "condition_embedder.text_embedder.linear_1": "text_embedding.0",
             "lora_A": "lora_down", "lora_B": "lora_up"}  # fmt: skip

    def renamed(tensors):
        found = {}
        for name, value in tensors.items():
            for ours, theirs in names.items():
                name = name.replace(ours, theirs)
            found[name] = value
            found[name.partition(".lora_")[0] + ".alpha"] = np.array(6.0, np.float32)
        return found

    back = lora.load(saved(tmp_path, renamed), WAN, shapes(WAN))
    three_times = {n: v * 3 if n.endswith("lora_b") else v for n, v in flatten_dict(adapters(WAN), sep="/").items()}
    same(lora.unflatten_dict(three_times, sep="/"), back, atol=1e-5)  # alpha 6 over rank 2


@pytest.mark.parametrize("inside", ["", lora.DIFFUSERS_FILE])
def test_an_adapter_whose_replacement_was_cut_short_is_found(tmp_path, inside):
    lora.save_diffusers(tmp_path / "a", WAN, adapters(WAN), 1.0)
    room = tmp_path / ".a.abcdefgh.partial"
    room.mkdir()
    (room / ".signer_jax").write_text("a")
    (tmp_path / "a").rename(room / "old.0")
    assert lora.load(tmp_path / "a" / inside, WAN, shapes(WAN))


def test_an_adapters_files_are_no_links_out_of_its_folder(tmp_path):
    lora.save_peft(tmp_path / "a", LINEAR, adapters(LINEAR), 1.0)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (tmp_path / "a" / name).rename(tmp_path / name)
        (tmp_path / "a" / name).symlink_to(tmp_path / name)
        with pytest.raises(SignerError, match=f"{name}: is a link out of its folder"):
            lora.load(tmp_path / "a", LINEAR, shapes(LINEAR))
        (tmp_path / "a" / name).unlink()
        (tmp_path / name).rename(tmp_path / "a" / name)
    assert lora.load(tmp_path / "a", LINEAR, shapes(LINEAR))


def test_a_layer_without_an_adapter_gets_zeros(tmp_path):
    without = saved(tmp_path, lambda tensors: {n: v for n, v in tensors.items() if "blocks.1.attn1.to_q" not in n})
    found = lora.load(without, WAN, shapes(WAN))["layers"]["self_attention"]["query"]
    assert not found["lora_a"][1].any() and not found["lora_b"][1].any() and found["lora_b"][2].any()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: {n.removeprefix("transformer."): v for n, v in t.items()}, "prefix is missing.*load nothing"),
        (lambda t: {n.removeprefix("transformer.") if "blocks.0" in n else n: v for n, v in t.items()}, "prefix is m"),
        (lambda t: {"unet." + n: v for n, v in t.items()}, "which no loader knows.*'transformer.'"),
        (lambda t: {n.replace("blocks.2", "blocks.3"): v for n, v in t.items()}, "no adapter of this model.*did you"),
        (lambda t: {n: v for n, v in t.items() if "blocks.1.attn1.to_q.lora_A" not in n}, "to_q has one of lora_A"),
        (lambda t: {n: np.ones((2, 9), np.float32) if "ffn.net.2.lora_A" in n else v for n, v in t.items()},
         r"ffn.net.2 has lora_A \[2, 9\].*takes \[r, 32\]"),
        (lambda t: {n: v[:1] if "0.attn1.to_q.lora_A" in n else v[:, :1] if "0.attn1.to_q.lora_B" in n else v
                    for n, v in t.items()}, "differ in rank"),
        (lambda t: {"transformer.x.alpha": np.ones(1, np.float32)}, "holds no adapter"),
        (lambda t: t | {"transformer.x.alpha": np.ones(1, np.float32)}, "transformer.x has an alpha and no adapter"),
        (lambda t: t | {"transformer.blocks.0.attn1.to_q.alpha": np.zeros(1, np.float32)}, "is no number within"),
        (lambda t: t | {"transformer.blocks.0.attn1.to_q.alpha": np.full(1, 1e-30, np.float32)}, "is no number within"),
        (lambda t: t | {"transformer.blocks.0.attn1.to_q.dora_scale": np.ones(3, np.float32)}, "is no adapter of this"),
        (lambda t: t | {n.replace("lora_A", "lora_down"): v for n, v in t.items() if "0.attn1.to_q.lora_A" in n},
         "is the second adapter of its layer"),
        (lambda t: {n: v * np.float32(1e30) if "0.attn1.to_q.lora_B" in n else v for n, v in t.items()}
         | {"transformer.blocks.0.attn1.to_q.alpha": np.full(1, 9e8, np.float32),
            "transformer.blocks.1.attn1.to_q.alpha": np.full(1, 9e8, np.float32)},
         "blocks.0.attn1.to_q: alpha over r times lora_B is not finite"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(tmp_path, change, says):
    with pytest.raises(SignerError, match=says) as error:
        lora.load(saved(tmp_path, change), WAN, shapes(WAN))
    assert "\n" not in str(error.value) and "changed.safetensors" in str(error.value)


def test_an_adapters_config_is_read_and_what_it_changes_is_refused(tmp_path):
    lora.save_peft(tmp_path / "a", LINEAR, adapters(LINEAR), 1.0)
    file = tmp_path / "a" / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"lora_alpha": 4}))
    twice = lora.load(tmp_path / "a", LINEAR, shapes(LINEAR))["encoder"]["layers"]["mlp"]["wo"]["lora_b"]
    np.testing.assert_allclose(twice, 2 * adapters(LINEAR)["encoder"]["layers"]["mlp"]["wo"]["lora_b"])
    for change in ({"use_dora": True}, {"lora_alpha": None}, {"alpha_pattern": {"q": 3}}):
        file.write_text(json.dumps(config | change))
        with pytest.raises(SignerError, match=f"{next(iter(change))}"):
            lora.load(tmp_path / "a", LINEAR, shapes(LINEAR))
    lora.save_diffusers(tmp_path / "b", WAN, adapters(WAN), 1.0)
    file = tmp_path / "b" / lora.DIFFUSERS_FILE
    tensors = load_file(file)
    for header, factor in ((None, 1), ({"transformer.r": 2, "transformer.lora_alpha": 6}, 3)):
        save_file(tensors, file, metadata=header and {"lora_adapter_metadata": json.dumps(header)})
        found = lora.load(file, WAN, shapes(WAN))["layers"]["wo"]["lora_b"]
        np.testing.assert_allclose(found, factor * adapters(WAN)["layers"]["wo"]["lora_b"], rtol=1e-6)
    for header in ("[]", "{", json.dumps({"transformer.lora_alpha": 6, "transformer.use_dora": True})):
        save_file(tensors, file, metadata={"lora_adapter_metadata": header})
        with pytest.raises(SignerError, match="no JSON object|use_dora"):
            lora.load(file, WAN, shapes(WAN))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SignerError, match="give the file itself"):
        lora.load(tmp_path / "empty", WAN, shapes(WAN))


def test_nothing_to_export_or_no_name_for_it(tmp_path):
    with pytest.raises(SignerError, match="no adapter to export"):
        lora.save_diffusers(tmp_path / "a", WAN, {"layers": {}}, 1.0)
    strange = {"patch_embedding": {"lora_a": np.ones((16, 2)), "lora_b": np.ones((2, 24))}}
    with pytest.raises(SignerError, match="patch_embedding has no name there"):
        lora.save_diffusers(tmp_path / "a", WAN, strange, 1.0)
    assert not (tmp_path / "a").exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e38, float("inf"), float("nan")])
def test_an_adapter_that_is_not_finite_is_not_exported(tmp_path, scale):
    for module, save in ((WAN, lora.save_diffusers), (LINEAR, lora.save_peft)):
        with pytest.raises(SignerError, match=r"times alpha over r .* is not finite in float32; export an earlier"):
            save(tmp_path / "adapter", module, adapters(module), scale * 1e3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scale", [1.0, 0.7, 1e-3])
def test_what_is_written_is_read_back_to_the_bit(tmp_path, scale):
    """A B of some 1e-8 is not zeros: a short training at a low rate makes such."""
    small = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * np.float32(1e-7 if path[-1].key == "lora_b" else 1), adapters(WAN)
    )
    lora.save_diffusers(tmp_path / "a", WAN, small, scale)
    file = tmp_path / "a" / lora.DIFFUSERS_FILE
    assert lora.check_written(file, WAN, shapes(WAN), small, scale)
    tensors = load_file(file)
    name = next(name for name in tensors if ".lora_B." in name)
    save_file(tensors | {name: np.zeros_like(tensors[name])}, file, metadata={"format": "pt"})
    with pytest.raises(SignerError, match="does not read back as what was trained"):
        lora.check_written(file, WAN, shapes(WAN), small, scale)
