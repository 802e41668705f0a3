"""VideoVAE by hand: the published sizes, causality, frame counts, round trips, losses; and the convolution's forms."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.interop.wan_vae import load_vae, save_vae
from signer_jax.renderer import vae_losses
from signer_jax.renderer.convolution import channel_form, column_form, conv3d, native_form, tap_form
from signer_jax.renderer.vae import (
    VideoVAE,
    average_down,
    duplicate_up,
    frame_attention,
    patchify,
    rms_norm,
    unpatchify,
)
from signer_jax.renderer.vae_initialisation import initialise_from_frames, principal_patches


def _vae(z_dim=4, **changes):
    fields = {
        "base_dim": 4,
        "decoder_base_dim": 4,
        "z_dim": z_dim,
        "dim_mult": (1, 2),
        "num_res_blocks": 1,
        "temporal_downsample": (True,),
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "is_residual": False,
        "latents_mean": (0.0,) * z_dim,
        "latents_std": (1.0,) * z_dim,
    }
    return VideoVAE(**(fields | changes))


@pytest.fixture(scope="module")
def tiny():
    module = _vae(latents_mean=(0.5, 0.0, -1.0, 2.0), latents_std=(1.0, 2.0, 0.5, 3.0))
    # Random arrays of the right shapes: compiling the initialiser would take longer than all the tests.
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 3, 8, 8, 3)))["params"]
    rng = np.random.default_rng(0)

    def draw(leaf):
        fan_in = np.prod(leaf.shape[:-1])
        return rng.normal(0.0, min(0.5, fan_in**-0.5), leaf.shape).astype(np.float32)

    return module, jax.tree.map(draw, shapes)


def _video(frames, size=8):
    return np.random.default_rng(0).uniform(-1, 1, (1, frames, size, size, 3)).astype(np.float32)


PUBLISHED = {
    "2.1": (
        {"base_dim": 96, "decoder_base_dim": 96, "z_dim": 16, "dim_mult": (1, 2, 4, 4), "num_res_blocks": 2,
         "temporal_downsample": (False, True, True), "in_channels": 3, "out_channels": 3, "patch_size": None},
        126_892_531, (1, 3, 4, 4, 16),
    ),
    "2.2": (
        {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "dim_mult": (1, 2, 4, 4), "num_res_blocks": 2,
         "temporal_downsample": (False, True, True), "in_channels": 12, "out_channels": 12, "patch_size": 2,
         "is_residual": True},
        704_688_668, (1, 3, 2, 2, 48),
    ),
}  # fmt: skip


@pytest.mark.parametrize("version", PUBLISHED)
def test_published_sizes(version):
    fields, count, latent_shape = PUBLISHED[version]
    z = fields["z_dim"]
    module = _vae(**(fields | {"latents_mean": (0.0,) * z, "latents_std": (1.0,) * z}))
    video = jax.ShapeDtypeStruct((1, 9, 32, 32, 3), np.float32)
    (reconstruction, mean, logvar), variables = jax.eval_shape(module.init_with_output, jax.random.key(0), video)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count
    assert mean.shape == logvar.shape == latent_shape
    assert reconstruction.shape == video.shape


def test_frames_that_fill_no_latent_are_refused_with_the_nearest_lengths(tiny):
    module, params = tiny
    encode = lambda video: jax.eval_shape(lambda v: module.apply({"params": params}, v, method="encode")[0], video)  # noqa: E731
    assert encode(_video(7)).shape == (1, 4, 2, 2, 4)  # 2k + 1 frames are kept, not only 4k + 1
    with pytest.raises(SignerError, match="a video of 6 frames .* give 5 or 7 frames"):
        encode(_video(6))
    four = module.clone(dim_mult=(1, 1, 2), temporal_downsample=(True, True))
    with pytest.raises(SignerError, match="a video of 80 frames .* give 77 or 81 frames"):
        four.check((80, 8, 8, 3))
    four.check((81, 8, 8, 3))


def test_latents_and_frames_see_no_later_frame(tiny):
    module, params = tiny
    encode = jax.jit(lambda video: module.apply({"params": params}, video, method="encode")[0])
    decode = jax.jit(lambda latents: module.apply({"params": params}, latents, method="decode"))
    video, changed = _video(9), _video(9)
    changed[:, 5:] *= -1
    latents, other = encode(video), encode(changed)
    np.testing.assert_allclose(latents[:, :3], other[:, :3], atol=1e-6)
    assert np.abs(latents[:, 3] - other[:, 3]).max() > 1e-3
    # Latent k decodes to the frames 2k - 1 and 2k.
    frames, other_frames = decode(latents), decode(latents.at[:, 3:].multiply(-1))
    np.testing.assert_allclose(frames[:, :5], other_frames[:, :5], atol=1e-6)
    assert np.abs(frames[:, 5] - other_frames[:, 5]).max() > 1e-3


def test_training_pass_reaches_every_parameter(tiny):
    module, params = tiny
    noise = jax.random.normal(jax.random.key(1), (1, 2, 2, 2, 4))

    def loss(params):
        video, mean, logvar = module.apply({"params": params}, _video(3), noise)
        return (vae_losses.reconstruction(video, _video(3)) + 0.1 * vae_losses.kl(mean, logvar)).mean()

    gradients = jax.jit(jax.grad(loss))(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))


def test_encoding_is_exact_whatever_the_compute_dtype(tiny):
    """bfloat16 encoding drifts; the decoder may compute in it."""
    module, params = tiny
    fast = module.clone(dtype=jnp.bfloat16)
    video = _video(5)
    for exact, ours in zip(*(m.apply({"params": params}, video, method="encode") for m in (module, fast)), strict=True):
        np.testing.assert_array_equal(ours, exact)
    latents = module.apply({"params": params}, video, method="encode")[0]
    whole, rough = (np.asarray(m.apply({"params": params}, latents, method="decode")) for m in (module, fast))
    assert 0 < np.abs(whole - rough).max() < 0.2


def test_remat_recomputes_the_residual_blocks(tiny):
    module, params = tiny

    def checkpoints(module):
        loss = lambda params: module.apply({"params": params}, _video(3))[0].sum()  # noqa: E731
        return str(jax.make_jaxpr(jax.grad(loss))(params)).count("remat2[")

    assert checkpoints(module) == 0
    # 2 in either middle, 1 a level of the encoder, 2 a level of the decoder; each recomputed once.
    assert checkpoints(module.clone(remat=True)) == 4 + 2 + 4


def test_decoding_clips_only_when_asked(tiny):
    module, params = tiny
    params = jax.tree.map(lambda leaf: 3.0 * leaf, params)
    latents = jax.random.normal(jax.random.key(1), (1, 1, 2, 2, 4))
    decode = jax.jit(
        lambda clip: module.apply({"params": params}, latents, clip=clip, method="decode"), static_argnums=0
    )
    bound, free = decode(True), decode(False)
    assert np.abs(free).max() > 1.0
    np.testing.assert_allclose(bound, np.clip(free, -1, 1), atol=1e-6)


def test_normalise_by_hand_and_back(tiny):
    module, _ = tiny
    latents = np.array([[1.5, 2.0, -1.0, 5.0]], np.float32)
    np.testing.assert_allclose(module.normalise(latents), [[1.0, 1.0, 0.0, 1.0]])
    np.testing.assert_allclose(module.denormalise(module.normalise(latents)), latents)


def test_wrong_input_is_one_clear_line(tiny):
    module, params = tiny
    with pytest.raises(SignerError, match="height and width that 4 divides, and 3 channels"):
        module.apply({"params": params}, np.zeros((1, 3, 10, 8, 3), np.float32), method="encode")
    with pytest.raises(SignerError, match="temporal_downsample has 0 entries, dim_mult 2"):
        jax.eval_shape(_vae(temporal_downsample=()).init, jax.random.key(0), _video(1))
    with pytest.raises(SignerError, match="need z_dim = 4 entries"):
        jax.eval_shape(_vae(latents_std=(1.0,)).init, jax.random.key(0), _video(1))


def test_save_and_load_give_the_same_model(tiny, tmp_path):
    module, params = tiny
    save_vae(tmp_path, module, params)
    loaded, loaded_params = load_vae(tmp_path)
    assert loaded == module
    jax.tree.map(np.testing.assert_array_equal, dict(params), loaded_params)


def test_loading_says_what_is_wrong_with_the_folder(tiny, tmp_path):
    module, params = tiny
    save_vae(tmp_path, module, params)
    config = json.loads((tmp_path / "config.json").read_text())
    cases = [
        ("base_dim", 8, "of shape .* its config says"),
        ("attn_scales", [1.0], "attn_scales"),
        ("dim_mult", [1, 2, 2], "temperal_downsample has 1 items where 2 belong"),
    ]
    for name, value, message in cases:
        (tmp_path / "config.json").write_text(json.dumps(config | {name: value}))
        with pytest.raises(SignerError, match=message):
            load_vae(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 4}))
    with pytest.raises(SignerError, match="lacks 'base_dim'"):
        load_vae(tmp_path)


def test_rms_norm_by_hand():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(rms_norm(x, jnp.array([1.0, 2.0])), [[0.6 * 2**0.5, 1.6 * 2**0.5], [0, 0]], rtol=1e-6)


def test_patches_are_ordered_channel_x_y():
    video = jnp.arange(2 * 2 * 3.0).reshape(1, 1, 2, 2, 3)  # pixel (y, x), channel c = 6 y + 3 x + c
    np.testing.assert_array_equal(patchify(video, 2)[0, 0, 0, 0], [0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11])
    video = _video(2)
    np.testing.assert_array_equal(unpatchify(patchify(video, 4), 4), video)


def test_shortcuts_by_hand():
    x = jnp.arange(1.0, 4.0).reshape(1, 3, 1, 1, 1)
    # A zero frame is put in front: (0 + 1) / 2, (2 + 3) / 2.
    np.testing.assert_allclose(average_down(x, 1, (2, 1, 1)).ravel(), [0.5, 2.5])
    np.testing.assert_allclose(duplicate_up(x, 1, (2, 1, 1), first=True).ravel(), [1, 2, 2, 3, 3])
    np.testing.assert_allclose(duplicate_up(x, 1, (2, 1, 1), first=False).ravel(), [1, 1, 2, 2, 3, 3])
    np.testing.assert_allclose(duplicate_up(x[:, :1], 1, (1, 2, 2), first=True).ravel(), [1, 1, 1, 1])


def test_large_frames_attend_one_after_another_to_the_same_result(monkeypatch):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 3, 6, 4))
    at_once = frame_attention(q, k, v)
    weights = jax.nn.softmax(q[1, 2] @ k[1, 2].T / 2.0, -1)
    np.testing.assert_allclose(at_once[1, 2], weights @ v[1, 2], rtol=1e-5, atol=1e-6)
    monkeypatch.setattr("signer_jax.renderer.vae.MAX_PIXELS_AT_ONCE", 4)
    np.testing.assert_allclose(frame_attention(q, k, v), at_once, rtol=1e-5, atol=1e-6)


CASES = {
    "causal": ((3, 3, 3), (1, 1, 1), ((2, 0), (1, 1), (1, 1))),
    "pointwise": ((1, 1, 1), (1, 1, 1), ((0, 0), (0, 0), (0, 0))),
    "in time": ((3, 1, 1), (1, 1, 1), ((2, 0), (0, 0), (0, 0))),
    "time down": ((3, 1, 1), (2, 1, 1), ((0, 0), (0, 0), (0, 0))),
    "space down": ((1, 3, 3), (1, 2, 2), ((0, 0), (0, 1), (0, 1))),
    "wide padding": ((1, 1, 3), (1, 1, 1), ((0, 1), (2, 0), (3, 3))),
}


@pytest.mark.parametrize("name", CASES)
def test_all_forms_of_the_convolution_are_equal(name):
    size, strides, padding = CASES[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 6, 4, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*size, 3, 4)), jnp.float32)
    expected, transpose = jax.vjp(lambda x, kernel: native_form(x, kernel, strides, padding), x, kernel)
    for form in (channel_form, tap_form, column_form, conv3d):
        np.testing.assert_allclose(form(x, kernel, strides, padding), expected, atol=1e-4)
    gradient = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    ours = jax.vjp(lambda x, kernel: conv3d(x, kernel, strides, padding), x, kernel)[1](gradient)
    for a, b in zip(ours, transpose(gradient), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_kernel_gradients_frame_by_frame_are_the_same_in_less_memory(monkeypatch):
    size, strides, padding = CASES["causal"]
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, 8, 16, 16, 4), (*size, 4, 6)))

    def compiled(most):
        monkeypatch.setattr("signer_jax.renderer.convolution._PIXELS_AT_ONCE", most)
        loss = lambda x, kernel: jnp.sin(conv3d(x, kernel, strides, padding)).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, argnums=1)).lower(x, kernel).compile()

    at_once, by_frame = compiled(4096), compiled(4095)
    np.testing.assert_allclose(by_frame(x, kernel), at_once(x, kernel), rtol=1e-4, atol=1e-3)
    sizes = [one.memory_analysis().temp_size_in_bytes for one in (at_once, by_frame)]
    assert sizes[1] < 0.7 * sizes[0]


def test_convolution_of_too_few_frames_is_empty():
    strides, padding = (2, 1, 1), ((0, 0),) * 3
    x, kernel = jnp.ones((1, 1, 4, 4, 3)), jnp.ones((3, 1, 1, 3, 2))
    out, transpose = jax.vjp(lambda x, kernel: conv3d(x, kernel, strides, padding), x, kernel)
    assert out.shape == (1, 0, 4, 4, 2)
    assert all(np.all(np.asarray(g) == 0) for g in transpose(out))


@pytest.mark.parametrize(("platform", "native"), [("cpu", False), ("tpu", True)])
def test_the_platform_compiled_for_decides_the_form(platform, native):
    x, kernel = jnp.ones((1, 3, 4, 4, 3)), jnp.ones((3, 3, 3, 3, 2))
    step = jax.jit(lambda x, kernel: conv3d(x, kernel, (1, 1, 1), ((2, 0), (1, 1), (1, 1))))
    text = step.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert ("[b, 0, 1, 2, f]" in text) == native
    assert ("[b, 0, 1, f]" in text) != native


def test_losses_by_hand():
    target = jnp.zeros((2, 1, 2, 2, 1))
    video = target.at[0, 0, 0, 0, 0].set(1.0)
    np.testing.assert_allclose(vae_losses.reconstruction(video, target), [0.25, 0.0])
    # One of two vertical and one of two horizontal neighbour differences is off by one.
    np.testing.assert_allclose(vae_losses.sharpness(video, target), [1.0, 0.0])
    np.testing.assert_allclose(vae_losses.sharpness(video + 3.0, video), [0.0, 0.0])
    mean, logvar = jnp.ones((1, 1, 1, 1, 2)), jnp.array([0.0, 1.0]).reshape(1, 1, 1, 1, 2)
    np.testing.assert_allclose(vae_losses.kl(mean, logvar), [0.5 * (1.0 + (1.0 + np.e - 2.0)) / 2], rtol=1e-6)


def test_principal_patches_are_the_best_linear_code_with_unit_latents():
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 12)) + 1.0  # rank 3
    mean, encode, decode = principal_patches(patches, 3, rng)
    latents = (patches - mean) @ encode
    np.testing.assert_allclose(latents @ decode + mean, patches, atol=1e-6)
    np.testing.assert_allclose((latents**2).mean(), 1.0, rtol=0.01)
    mean, encode, decode = principal_patches(patches, 2, rng)
    error = (((patches - mean) @ encode @ decode + mean - patches) ** 2).sum() / (len(patches) - 1)
    np.testing.assert_allclose(error, np.linalg.eigvalsh(np.cov(patches.T))[::-1][2], rtol=1e-6)


def test_initialised_from_frames_the_autoencoder_is_that_code_at_once():
    module = _vae(base_dim=8, decoder_base_dim=8, z_dim=3, dim_mult=(1,), num_res_blocks=0, temporal_downsample=())
    module = module.clone(latents_mean=(0.0,) * 3, latents_std=(1.0,) * 3)
    rng = np.random.default_rng(0)
    # Frames whose 2x2 patches have rank 3: a colour of its own for every patch.
    frames = rng.uniform(-0.8, 0.8, (40, 4, 4, 3)).repeat(2, axis=1).repeat(2, axis=2).astype(np.float32)
    fresh = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
        jax.eval_shape(module.init, jax.random.key(0), frames[None, :1])["params"],
    )
    params = initialise_from_frames(module, fresh, frames)
    assert jax.tree.structure(params) == jax.tree.structure(fresh)
    video, mean, logvar = jax.jit(lambda video: module.apply({"params": params}, video))(frames[None, :4])
    assert np.abs(video - frames[None, :4]).max() < 0.02
    assert 0.5 < np.std(mean) < 1.5
    np.testing.assert_allclose(logvar, -8.0, atol=1e-3)
    with pytest.raises(SignerError, match="2 \\* z_dim \\+ 1 channels"):
        initialise_from_frames(module.clone(base_dim=6), fresh, frames)
