"""`VideoTransformer` with a face branch beside diffusers' `WanAnimateTransformer3DModel`, tiny weights, float32."""

import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
    "in_channels": 12,
    "latent_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 256,
    "ffn_dim": 32,
    "num_layers": 4,
    "image_dim": 16,
    "added_kv_proj_dim": 24,
    "motion_encoder_channel_sizes": {"4": 16, "8": 12, "16": 8},
    "motion_encoder_size": 16,
    "motion_style_dim": 10,
    "motion_dim": 4,
    "motion_encoder_dim": 14,
    "face_encoder_hidden_dim": 12,
    "face_encoder_num_heads": 2,
    "inject_face_latents_blocks": 2,
}
FRAMES = 5  # latent frames, the reference's with them: 13 frames of the face


@cache
def original(every: int = 2, size: int = 16):
    """A tiny random model; parameters that start at zero or one are random too, or parity would prove nothing."""
    torch.manual_seed(every)
    config = TINY | {"inject_face_latents_blocks": every, "num_layers": 2 * every, "motion_encoder_size": size}
    config["motion_encoder_channel_sizes"] = {str(4 << i): 16 - 4 * min(i, 2) for i in range(8)}
    model = diffusers.WanAnimateTransformer3DModel(**config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            elif name.endswith("bias") or "scale_shift_table" in name or "padding_tokens" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def folder(tmp_path):
    original().save_pretrained(tmp_path / "animate")
    return tmp_path / "animate"


def inputs(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    text = rng.standard_normal((2, 512, 16), np.float32)
    text[1, 7:] = 0.0
    return {
        "latents": rng.standard_normal((2, FRAMES, 8, 12, 12), np.float32),
        "timestep": np.array([250.0, 873.5], np.float32),
        "text": text,
        "image": rng.standard_normal((2, 5, 16), np.float32),
        "pose": rng.standard_normal((2, FRAMES - 1, 8, 12, 4), np.float32),
        "face": rng.uniform(-1, 1, (2, 4 * (FRAMES - 2) + 1, 16, 16, 3)).astype(np.float32),
    }


def their_output(model, given: dict) -> np.ndarray:
    first = lambda x: torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))  # noqa: E731
    with torch.no_grad():
        output = model(
            first(given["latents"]),
            torch.from_numpy(given["timestep"]),
            torch.from_numpy(given["text"]),
            encoder_hidden_states_image=torch.from_numpy(given["image"]),
            pose_hidden_states=first(given["pose"]),
            face_pixel_values=first(given["face"]),
            return_dict=False,
        )[0]
    return np.moveaxis(output.numpy(), 1, -1)


def our_output(module, params, given: dict) -> np.ndarray:
    return np.asarray(jax.jit(lambda p, given: module.apply({"params": p}, **given))(params, given))


def assert_equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    error = float(np.abs(ours - theirs).max())
    print(f"largest difference {error:.2e}, their largest value {np.abs(theirs).max():.2f}")
    assert np.abs(theirs).std() > 0.1
    assert error < TOLERANCE


@pytest.mark.parametrize("every", [1, 2, 3])
def test_animate(tmp_path, every):
    original(every).save_pretrained(tmp_path / "m")
    module, params = load_transformer(tmp_path / "m")
    assert_equal(our_output(module, params, inputs()), their_output(original(every), inputs()))


def test_wans_own_names_are_the_same_model(tmp_path):
    """Of Wan's published picture size, the only one that diffusers' converter knows."""
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
    from safetensors.torch import load_file

    model = original(size=512)
    model.save_pretrained(tmp_path / "m")
    path = tiny_wan.in_original_form(tmp_path / "m")
    tensors = load_file(path / "diffusion_pytorch_model.safetensors")
    converted = convert_wan_transformer_to_diffusers(dict(tensors))
    blurs = {name for name in converted if name.endswith(".kernel")}
    assert converted.keys() - blurs == model.state_dict().keys() and len(blurs) == 2 * 7
    for name, value in model.state_dict().items():
        torch.testing.assert_close(converted[name], value, rtol=0, atol=0)
    module, params = load_transformer(path)
    rng = np.random.default_rng(4)
    given = {name: x[:1, :2] if name in ("latents", "pose") else x[:1] for name, x in inputs().items()}
    given |= {"pose": given["pose"][:, :1], "face": rng.uniform(-1, 1, (1, 1, 512, 512, 3)).astype(np.float32)}
    assert_equal(our_output(module, params, given), their_output(model, given))


def test_every_input_takes_part_and_is_read_alike(folder):
    """Each alone changed, against theirs: none is ignored, none is mixed up with another."""
    module, params = load_transformer(folder)
    before = their_output(original(), inputs())
    for name in ("pose", "face", "image", "timestep"):
        given = inputs() | {name: inputs(1)[name] if name != "timestep" else np.array([3.0, 999.0], np.float32)}
        theirs = their_output(original(), given)
        assert np.abs(theirs - before).max() > 1e-3, name
        assert_equal(our_output(module, params, given), theirs)


def test_no_face_is_a_black_one(folder):
    """As the original's guidance has it."""
    module, params = load_transformer(folder)
    given = inputs()
    theirs = their_output(original(), given | {"face": np.full_like(given["face"], -1.0)})
    assert_equal(our_output(module, params, given | {"face": None}), theirs)


def test_how_it_runs_does_not_change_the_output(folder):
    module, params = load_transformer(folder)
    theirs = their_output(original(), inputs())
    assert_equal(our_output(module.clone(remat="attention", scan_unroll=2), params, inputs()), theirs)


def test_gradients_of_the_face_and_the_pose_equal_theirs(folder):
    module, params = load_transformer(folder)
    given = inputs()
    cotangent = np.random.default_rng(3).standard_normal((2, FRAMES, 8, 12, 4), np.float32)

    def loss(face, pose):
        return jnp.sum(module.apply({"params": params}, **given | {"face": face, "pose": pose}) * cotangent)

    ours = jax.jit(jax.grad(loss, argnums=(0, 1)))(given["face"], given["pose"])
    first = lambda x: torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))  # noqa: E731
    face, pose = (first(given[name]).requires_grad_() for name in ("face", "pose"))
    output = original()(
        first(given["latents"]), torch.from_numpy(given["timestep"]), torch.from_numpy(given["text"]),
        encoder_hidden_states_image=torch.from_numpy(given["image"]), pose_hidden_states=pose, face_pixel_values=face,
        return_dict=False,
    )[0]  # fmt: skip
    (output * first(cotangent)).sum().backward()
    for one, theirs in zip(ours, (face.grad, pose.grad), strict=True):
        theirs = np.moveaxis(theirs.numpy(), 1, -1)
        assert np.abs(theirs).max() > 1e-3
        np.testing.assert_allclose(one, theirs, atol=1e-4 * max(1, np.abs(theirs).max()), rtol=1e-4)


def test_what_we_save_diffusers_loads(folder, tmp_path):
    module, params = load_transformer(folder)
    changed = jax.tree.map(lambda x: x * 1.5 + 0.25, params)  # not the weights that the original wrote
    save_transformer(tmp_path / "ours", module, changed)
    loaded, info = diffusers.WanAnimateTransformer3DModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    expected = {k: 1.5 * v + 0.25 for k, v in original().state_dict().items()}
    for name, value in loaded.state_dict().items():
        np.testing.assert_allclose(value.numpy(), expected[name].numpy(), atol=1e-6, err_msg=name)
    assert {key: loaded.config[key] for key in TINY} == {**TINY, "patch_size": [1, 2, 2]}
    again, read = load_transformer(tmp_path / "ours")
    assert again == module
    jax.tree.map(np.testing.assert_array_equal, read, changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 16}, "must be 2 \\* 4 \\+ 4"),
        ({"num_layers": 3}, "no multiple of inject_face_latents_blocks"),
        ({"motion_encoder_size": 24}, "power of two"),
        ({"motion_encoder_channel_sizes": {"16": 8, "4": 16}}, "must give channels for 16, 8, 4"),
        ({"motion_encoder_channel_sizes": [8, 16]}, "must give channels for"),
        ({"motion_dim": 20}, "more than motion_encoder_dim"),
        ({"motion_style_dim": 9}, "motion_encoder/weights/conv_out"),
        ({"_class_name": "WanTransformer3DModel"}, "unknown tensors"),
        ({"face_encoder_num_heads": None}, "lacks 'face_encoder_num_heads'"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_in_one_line(folder, changes, message):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(SignerError, match=message) as error:
        load_transformer(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pose": None}, "needs pose latents"),
        ({"pose": inputs()["pose"][:, 1:]}, "one frame fewer"),
        ({"face": inputs()["face"][:, :-1]}, "need 13"),
        ({"face": inputs()["face"][:, :, :8]}, "faces of 16x16"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(folder, changes, message):
    module, params = load_transformer(folder)
    with pytest.raises(SignerError, match=message) as error:
        jax.eval_shape(lambda: module.apply({"params": params}, **inputs() | changes))
    assert "\n" not in str(error.value)
