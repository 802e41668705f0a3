"""`VideoTransformer` beside diffusers' `WanTransformer3DModel` on random tiny weights, in float32."""

import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from renderer import tiny_wan

from signer_jax.errors import SignerError
from signer_jax.interop.wan import load_transformer, save_transformer

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.parity

TOLERANCE = 2e-5
TINY = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 256,
    "ffn_dim": 32,
    "num_layers": 2,
}
IMAGE = {"in_channels": 8, "image_dim": 20, "added_kv_proj_dim": 24}


@cache
def original(image: bool):
    """A tiny random model; parameters that start at zero or one are random too, or parity would prove nothing."""
    torch.manual_seed(int(image))
    model = diffusers.WanTransformer3DModel(**(TINY | (IMAGE if image else {}))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            elif name.endswith("bias") or "scale_shift_table" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def folder(tmp_path):
    def save(image: bool):
        original(image).save_pretrained(tmp_path / f"image_{image}")
        return tmp_path / f"image_{image}"

    return save


def inputs(channels: int, text_rows: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((2, 3, 8, 12, channels), np.float32)  # [b, t, h, w, c]; h and w differ on purpose
    text = rng.standard_normal((2, text_rows, 16), np.float32)
    text[1, text_rows // 2 :] = 0.0  # past a text's true length the rows are zeros, and nothing masks them
    return latents, text


def their_output(model, latents, timestep, text, image=None):
    to_torch = lambda x: None if x is None else torch.from_numpy(np.ascontiguousarray(x))  # noqa: E731
    with torch.no_grad():
        output = model(
            to_torch(latents.transpose(0, 4, 1, 2, 3)),
            to_torch(timestep),
            to_torch(text),
            encoder_hidden_states_image=to_torch(image),
            return_dict=False,
        )[0]
    return output.numpy().transpose(0, 2, 3, 4, 1)


def our_output(module, params, latents, timestep, text, image=None):
    return np.asarray(jax.jit(module.apply)({"params": params}, latents, jnp.asarray(timestep), text, image=image))


def assert_equal(ours, theirs, what: str):
    error = float(np.abs(ours - theirs).max())
    print(f"{what}: largest difference {error:.2e}, their largest value {np.abs(theirs).max():.2f}")
    assert np.abs(theirs).std() > 0.1
    assert error < TOLERANCE


@pytest.mark.parametrize("timestep", [(0.0, 37.25), (873.6, 999.0)])
def test_text_to_video(folder, timestep):
    module, params = load_transformer(folder(False))
    latents, text = inputs(4, 12)
    timestep = np.array(timestep, np.float32)
    ours = our_output(module, params, latents, timestep, text)
    assert_equal(ours, their_output(original(False), latents, timestep, text), f"T2V at {timestep}")


def test_image_to_video(folder):
    module, params = load_transformer(folder(True))
    latents, text = inputs(8, 512)  # with image tokens, the original takes exactly 512 rows as the text
    image = np.random.default_rng(1).standard_normal((2, 5, 20), np.float32)
    timestep = np.array([250.0, 750.0], np.float32)
    ours = our_output(module, params, latents, timestep, text, image)
    theirs = their_output(original(True), latents, timestep, text, image)
    assert ours.shape == (2, 3, 8, 12, 4)
    assert_equal(ours, theirs, "I2V")


@pytest.mark.parametrize("image", [False, True])
def test_wans_own_names_are_the_same_model(folder, image):
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
    from safetensors.torch import load_file

    path = tiny_wan.in_original_form(folder(image))
    tensors = load_file(path / "diffusion_pytorch_model.safetensors")
    converted = convert_wan_transformer_to_diffusers(dict(tensors))  # the names are indeed Wan's
    assert not tensors.keys() & (converted.keys() - {"patch_embedding.weight", "patch_embedding.bias"})
    for name, value in original(image).state_dict().items():
        torch.testing.assert_close(converted[name], value, rtol=0, atol=0)
    module, params = load_transformer(path)
    latents, text = inputs(module.in_channels, 512)
    pictures = np.random.default_rng(1).standard_normal((2, 5, 20), np.float32) if image else None
    timestep = np.array([250.0, 750.0], np.float32)
    ours = our_output(module, params, latents, timestep, text, pictures)
    assert_equal(ours, their_output(original(image), latents, timestep, text, pictures), "Wan's own names")


def test_a_timestep_per_token(folder):
    module, params = load_transformer(folder(False))
    latents, text = inputs(4, 12)
    timestep = np.full((2, 3 * 4 * 6), 812.5, np.float32)
    timestep[:, : 4 * 6] = 0.0  # TI2V: the first frame is given
    timestep[1] *= 0.5
    ours = our_output(module, params, latents, timestep, text)
    assert_equal(ours, their_output(original(False), latents, timestep, text), "TI2V, timestep per token")


def with_semantics(module, params, width: int):
    """The module with tokens of this width beside its text, the published weights, and fresh ones of the rest."""
    module = module.clone(semantics_dim=width)
    latents, text = inputs(module.in_channels, 12)
    image = None if module.image_dim is None else np.zeros((2, 5, module.image_dim), np.float32)
    step, H = np.zeros(2, np.float32), np.zeros((2, 7, width), np.float32)
    fresh = jax.jit(lambda: module.init(jax.random.key(0), latents, step, text, image=image, semantics=H))()["params"]
    fresh, known = (flatten_dict(tree, sep="/") for tree in (fresh, params))
    assert sorted(name.rpartition("/")[2] for name in fresh.keys() - known.keys()) == [
        "bias",
        "kernel",
        "semantics_gate",
    ]
    return module, unflatten_dict(fresh | known, sep="/")


@pytest.mark.parametrize(("image", "width"), [(False, 5), (False, 33), (True, 16)])
def test_semantics_of_any_width_change_a_published_model_by_nothing_at_the_start(folder, image, width):
    module, params = with_semantics(*load_transformer(folder(image)), width)
    latents, text = inputs(module.in_channels, 512)
    pictures = np.random.default_rng(1).standard_normal((2, 5, 20), np.float32) if image else None
    timestep = np.array([250.0, 750.0], np.float32)
    H = np.random.default_rng(2).standard_normal((2, 7, width), np.float32)

    def ours(params):
        return module.apply({"params": params}, latents, timestep, text, image=pictures, semantics=H)

    without = our_output(module, params, latents, timestep, text, pictures)
    np.testing.assert_allclose(jax.jit(ours)(params), without, atol=1e-6)
    assert_equal(
        np.asarray(jax.jit(ours)(params)), their_output(original(image), latents, timestep, text, pictures), "H"
    )
    # But it learns: the gate has a gradient, and once it is open the features have one too.
    slope = jax.jit(jax.grad(lambda params: jnp.sum(ours(params) ** 2)))(params)
    gate = slope["layers"]["cross_attention"]["semantics_gate"]
    assert gate.shape == (2, 2) and np.abs(gate).min() > 1e-3
    params["layers"]["cross_attention"]["semantics_gate"] = np.ones((2, 2), np.float32)
    assert np.abs(jax.jit(ours)(params) - without).max() > 1e-2


def test_what_diffusers_has_no_place_for_is_not_lost_in_silence(folder, tmp_path):
    module, params = with_semantics(*load_transformer(folder(False)), 5)
    save_transformer(tmp_path / "ours", module, params)  # as published: its gates are closed
    _, read = load_transformer(tmp_path / "ours")
    assert "semantics" not in read
    params["layers"]["cross_attention"]["semantics_gate"] = np.full((2, 2), 0.1, np.float32)
    with pytest.raises(SignerError, match="SLUL's features") as error:
        save_transformer(tmp_path / "other", module, params)
    assert "\n" not in str(error.value) and not (tmp_path / "other").exists()


@pytest.mark.parametrize("changes", [{"remat": "attention"}, {"scan_unroll": 2}])
def test_how_it_runs_does_not_change_the_output(folder, changes):
    module, params = load_transformer(folder(False))
    latents, text = inputs(4, 12)
    timestep = np.array([37.0, 999.0], np.float32)
    ours = our_output(module.clone(**changes), params, latents, timestep, text)
    assert_equal(ours, their_output(original(False), latents, timestep, text), str(changes))


def test_gradients_of_the_latents_equal_theirs(folder):
    module, params = load_transformer(folder(False))
    latents, text = inputs(4, 12)
    timestep = np.array([37.0, 999.0], np.float32)
    cotangent = np.random.default_rng(3).standard_normal(latents.shape, np.float32)

    def loss(latents):
        return jnp.sum(module.clone(remat="attention").apply({"params": params}, latents, timestep, text) * cotangent)

    ours = np.asarray(jax.jit(jax.grad(loss))(latents))
    their_latents = torch.from_numpy(np.ascontiguousarray(latents.transpose(0, 4, 1, 2, 3))).requires_grad_()
    output = original(False)(
        their_latents, torch.from_numpy(timestep), torch.from_numpy(text), return_dict=False
    )[0]  # fmt: skip
    (output * torch.from_numpy(np.ascontiguousarray(cotangent.transpose(0, 4, 1, 2, 3)))).sum().backward()
    theirs = their_latents.grad.numpy().transpose(0, 2, 3, 4, 1)
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("image", [False, True])
def test_what_we_save_diffusers_loads(folder, tmp_path, image):
    module, params = load_transformer(folder(image))
    changed = jax.tree.map(lambda x: x * 1.5 + 0.25, params)  # not the weights that the original wrote
    save_transformer(tmp_path / "ours", module, changed)
    loaded, info = diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    expected = {k: 1.5 * v + 0.25 for k, v in original(image).state_dict().items()}
    for name, value in loaded.state_dict().items():
        np.testing.assert_allclose(value.numpy(), expected[name].numpy(), atol=1e-6, err_msg=name)
    same = {key: original(image).config[key] for key in ("ffn_dim", "image_dim", "added_kv_proj_dim", "eps")}
    assert {key: loaded.config[key] for key in same} == same
    again, read = load_transformer(tmp_path / "ours")
    assert again == module
    jax.tree.map(np.testing.assert_array_equal, read, changed)


def test_an_unused_query_norm_of_the_image_is_ignored(folder):
    from safetensors.numpy import load_file, save_file

    path = folder(True)
    file = path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "blocks.0.attn2.norm_added_q.weight": np.ones(24, np.float32)}, file)
    load_transformer(path)
    save_file({**tensors, "blocks.0.attn2.surprise": np.ones(24, np.float32)}, file)
    with pytest.raises(SignerError, match="surprise"):
        load_transformer(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "AutoencoderKLWan"}, "AutoencoderKLWan"),
        ({"ffn_dim": 33}, "layers/wi/"),
        ({"num_layers": 3}, "lacks"),
        ({"pos_embed_seq_len": 514}, "first-and-last-frame"),
        ({"cross_attn_norm": False}, "cross_attn_norm"),
        ({"added_kv_proj_dim": 24}, "added_kv_proj_dim"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_in_one_line(folder, changes, message):
    path = folder(False)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(SignerError, match=message) as error:
        load_transformer(path)
    assert "\n" not in str(error.value)


def test_a_config_without_a_size_is_refused(folder):
    path = folder(False)
    config = json.loads((path / "config.json").read_text())
    del config["ffn_dim"]
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SignerError, match="ffn_dim"):
        load_transformer(path)
