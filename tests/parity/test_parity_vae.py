"""The one-pass VideoVAE against diffusers' chunked AutoencoderKLWan, random weights, float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from signer_jax.interop.wan_vae import load_vae, save_vae  # noqa: E402
from signer_jax.renderer import vae_chunks  # noqa: E402

pytestmark = pytest.mark.parity

WAN_21 = {"base_dim": 4, "z_dim": 6, "dim_mult": [1, 2, 2, 2], "num_res_blocks": 1,
          "temperal_downsample": [False, True, True]}  # fmt: skip
WAN_22 = {"base_dim": 4, "decoder_base_dim": 8, "z_dim": 6, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1,
          "temperal_downsample": [False, True, True], "is_residual": True, "patch_size": 2,
          "in_channels": 12, "out_channels": 12}  # fmt: skip
TWO_LEVELS = {"base_dim": 6, "z_dim": 5, "dim_mult": [1, 2], "num_res_blocks": 2, "temperal_downsample": [True],
              "patch_size": 2, "in_channels": 12, "out_channels": 12}  # fmt: skip
ONE_LEVEL = {"base_dim": 6, "z_dim": 5, "dim_mult": [2], "num_res_blocks": 1, "temperal_downsample": [],
             "patch_size": 4, "in_channels": 48, "out_channels": 48}  # fmt: skip
CONFIGS = {
    "wan_21": WAN_21,
    "wan_22": WAN_22,
    "two_levels": TWO_LEVELS,
    "one_level": ONE_LEVEL,
}
FRAMES = 13  # one chunk of 1 and three of 4


def _original(config):
    """The torch model with every parameter random, so that scales of one and biases of zero prove something."""
    z = config["z_dim"]
    model = diffusers.AutoencoderKLWan(
        **config, latents_mean=[0.1 * i for i in range(z)], latents_std=[1.0 + 0.1 * i for i in range(z)]
    ).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = max(1, parameter[0].numel())
            parameter.copy_(1 + 0.3 * noise if name.endswith("gamma") else noise * min(0.5, fan_in**-0.5))
    return model


@pytest.fixture(scope="module", params=CONFIGS)
def models(request, tmp_path_factory):
    original = _original(CONFIGS[request.param])
    path = tmp_path_factory.mktemp(request.param)
    original.save_pretrained(path)
    return original, *load_vae(path)


def _video(module, frames):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (2, frames, 2 * module.spatial_ratio, 3 * module.spatial_ratio, 3)).astype(np.float32)


def _theirs(array):
    return torch.from_numpy(np.moveaxis(np.asarray(array), -1, 1).copy())


def _ours(tensor):
    return np.moveaxis(tensor.numpy(), 1, -1)


def _error(ours, theirs):
    assert ours.shape == theirs.shape
    return np.abs(np.asarray(ours) - theirs).max()


def _run(module, params, method, *inputs):
    return jax.jit(lambda params, *inputs: module.apply({"params": params}, *inputs, method=method))(params, *inputs)


def test_encoding_over_several_chunks_is_equal(models):
    original, module, params = models
    video = _video(module, FRAMES)
    with torch.no_grad():
        posterior = original.encode(_theirs(video)).latent_dist
    mean, logvar = _run(module, params, "encode", video)
    assert _error(mean, _ours(posterior.mean)) < 2e-5
    assert _error(logvar, _ours(posterior.logvar)) < 2e-5
    assert np.std(mean) > 0.05
    chunked = jax.jit(lambda params, video: vae_chunks.encode(module, params, video))(params, video)
    assert _error(chunked[0], _ours(posterior.mean)) < 2e-5
    assert _error(chunked[1], _ours(posterior.logvar)) < 2e-5


def test_decoding_over_several_chunks_is_equal(models):
    original, module, params = models
    latents = np.random.default_rng(1).normal(size=(2, 4, 2, 3, module.z_dim)).astype(np.float32)
    with torch.no_grad():
        theirs = _ours(original.decode(_theirs(latents)).sample)
    ours = _run(module, params, "decode", latents)
    assert ours.shape[1] == 1 + module.temporal_ratio * 3
    assert _error(ours, theirs) < 2e-5
    assert np.std(ours) > 0.05 and (np.abs(ours) == 1).mean() < 0.9
    chunked = jax.jit(lambda params, latents: vae_chunks.decode(module, params, latents))(params, latents)
    assert _error(chunked, theirs) < 2e-5


def test_a_single_image_is_equal(tmp_path):
    original = _original(TWO_LEVELS | {"num_res_blocks": 1})
    original.save_pretrained(tmp_path)
    module, params = load_vae(tmp_path)
    video = _video(module, 1)
    with torch.no_grad():
        latents = original.encode(_theirs(video)).latent_dist.mode()
        theirs = original.decode(latents).sample
    assert _error(_run(module, params, "encode", video)[0], _ours(latents)) < 2e-5
    assert _error(_run(module, params, "decode", _ours(latents)), _ours(theirs)) < 2e-5


def test_gradients_are_equal(tmp_path):
    original = _original(TWO_LEVELS | {"num_res_blocks": 1})
    original.save_pretrained(tmp_path)
    module, params = load_vae(tmp_path)
    video = _video(module, 5)
    their_video = _theirs(video).requires_grad_()
    original.decode(original.encode(their_video).latent_dist.mean).sample.pow(2).mean().backward()

    def loss(params, video):
        mean, _ = module.apply({"params": params}, video, method="encode")
        return (module.apply({"params": params}, mean, method="decode") ** 2).mean()

    gradients, of_video = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, jnp.asarray(video))
    theirs = _ours(their_video.grad)
    assert _error(of_video, theirs) < 1e-4 * np.abs(theirs).max()
    kernel = original.encoder.conv_in.weight.grad.numpy().transpose(2, 3, 4, 1, 0)
    assert _error(gradients["encoder"]["conv_in"]["kernel"], kernel) < 1e-4 * np.abs(kernel).max()
    kernel = original.decoder.up_blocks[0].upsamplers[0].time_conv.weight.grad.numpy().transpose(2, 3, 4, 1, 0)
    assert _error(gradients["decoder"]["up_0"]["upsample"]["time_conv"]["kernel"], kernel) < 1e-4 * np.abs(kernel).max()


def test_saved_weights_load_into_the_original(models, tmp_path):
    original, module, params = models
    save_vae(tmp_path, module, params)
    back, report = diffusers.AutoencoderKLWan.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    for name, tensor in original.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[name]), name
    for name in ("latents_mean", "latents_std", "patch_size", "temperal_downsample", "dim_mult"):
        assert back.config[name] == original.config[name]
