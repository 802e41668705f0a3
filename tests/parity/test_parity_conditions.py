"""What the image models are given, against diffusers' pipelines on a tiny autoencoder: mask and image channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from renderer.tiny_wan import RATIO, TEXT, Z, built, config_of, write_transformer, write_vae

from signer_jax.renderer.conditions import encoder
from signer_jax.renderer.sampler import solve

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.parity

TOLERANCE = 1e-4
FRAMES, K, SIZE, GRID = 5, 2, 16, 4


@pytest.fixture(scope="module")
def vae(tmp_path_factory) -> str:
    return write_vae(tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="module")
def theirs(vae):
    """diffusers' autoencoder, and the numbers that its pipelines keep of one."""
    loaded = diffusers.AutoencoderKLWan.from_pretrained(vae).eval()
    loaded.register_to_config(scale_factor_temporal=RATIO, scale_factor_spatial=SIZE // GRID)
    return loaded


def chain(name: str, vae: str, place):
    model, params, _ = built(config_of(name, write_transformer(place / name, name), vae))
    return model.renderer, encoder(model.vae, params)


def given(r, encode, picture, **options):
    """Mask and image channels `[b, k, h, w, 4 + z]` of our chain: what follows the noise in the input."""
    b = len(picture)
    drawn, text = np.zeros((b, FRAMES, SIZE, SIZE, 3), np.float32), np.zeros((b, 4, 0), np.float32)
    reference = jnp.asarray(encode(picture[:, None]))[:, 0]
    said = r.conditions(reference, drawn, text, encode=encode, picture=picture, **options)
    noisy = np.zeros((b, K + r.variant.front, GRID, GRID, Z), np.float32)
    return np.asarray(r._inputs(noisy, jnp.zeros(b), said)[0])[..., Z:]


def channels_last(x: torch.Tensor) -> np.ndarray:
    return x.numpy().transpose(0, 2, 3, 4, 1)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (1, SIZE, SIZE, 3)).astype(np.float32)


def pixels(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(picture, -1, 1).copy())


@torch.no_grad()
@pytest.mark.parametrize("name", ["wan2.1-i2v-14b", "wan2.2-i2v-a14b"])
def test_i2v_is_given_what_diffusers_prepares(name, vae, theirs, picture, tmp_path):
    pipeline = diffusers.WanImageToVideoPipeline(None, None, theirs, diffusers.FlowMatchEulerDiscreteScheduler())
    _, condition = pipeline.prepare_latents(
        pixels(picture), 1, Z, SIZE, SIZE, FRAMES, torch.float32, torch.device("cpu"), None
    )
    ours = given(*chain(name, vae, tmp_path), picture)
    assert ours.shape == channels_last(condition).shape == (1, K, GRID, GRID, RATIO + Z)
    np.testing.assert_allclose(ours, channels_last(condition), atol=TOLERANCE)
    assert np.abs(ours[:, 1, ..., RATIO:]).max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("low", [3.0, 1.5])
def test_two_experts_are_guided_as_diffusers_guides_them(low, vae, tmp_path):
    """A guidance each, 4 for high noise: the latents that WanPipeline makes with `guidance_scale_2`."""
    name, levels = "wan2.2-t2v-a14b", np.array([1.0, 0.95, 0.875, 0.6, 0.3, 0.0], np.float32)

    class Levels(diffusers.FlowMatchEulerDiscreteScheduler):
        def set_timesteps(self, count, device=None, **_):
            super().set_timesteps(sigmas=list(levels[:-1]), device=device)

    config = config_of(name, write_transformer(tmp_path, name), vae)
    config.renderer.control = "none"
    model, params, _ = built(config)
    experts = [
        diffusers.WanTransformer3DModel.from_pretrained(tmp_path / part) for part in ("transformer", "transformer_2")
    ]
    pipeline = diffusers.WanPipeline(None, None, None, Levels(), experts[0], experts[1], boundary_ratio=0.875)
    pipeline.set_progress_bar_config(disable=True)
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(1, K, GRID, GRID, Z)).astype(np.float32)
    states, null = (np.zeros((1, 512, TEXT), np.float32) for _ in range(2))
    states[:, :7], null[:, :1] = rng.normal(size=(1, 7, TEXT)), rng.normal(size=(1, 1, TEXT))
    theirs = pipeline(
        prompt_embeds=torch.from_numpy(states), negative_prompt_embeds=torch.from_numpy(null),
        latents=torch.from_numpy(noise.transpose(0, 4, 1, 2, 3).copy()), height=8 * GRID, width=8 * GRID,
        num_frames=FRAMES, num_inference_steps=len(levels) - 1, guidance_scale=4.0, guidance_scale_2=low,
        output_type="latent",
    ).frames  # fmt: skip
    pose, confidence = np.zeros((1, FRAMES, 74, 2), np.float32), np.ones((1, FRAMES, 74), np.float32)
    seen = model.renderer.drawn_conditions(
        pose, confidence, np.zeros((1, GRID, GRID, Z), np.float32), np.zeros((1, 4, 0), np.float32), states=states,
        null=null,
    )  # fmt: skip
    led = {"apart": {"text": 4.0}, "apart_low": {"text": low}}
    field = model.renderer.field_of(params["renderer"], seen, guidance=1.0, **led)
    ours = np.asarray(jax.jit(lambda noise: solve(field, noise, levels, solver="euler"))(noise))
    print(f"guidance 4 and {low}: largest difference {np.abs(ours - channels_last(theirs)).max():.2e}")
    np.testing.assert_allclose(ours, channels_last(theirs), atol=TOLERANCE)
    assert np.abs(ours).max() > 0.5


@torch.no_grad()
def test_ti2v_is_given_what_diffusers_prepares(vae, theirs, picture, tmp_path):
    """The first frame clean and at timestep 0, which its mask says there."""
    pipeline = diffusers.WanImageToVideoPipeline(
        None, None, theirs, diffusers.FlowMatchEulerDiscreteScheduler(), expand_timesteps=True
    )
    _, condition, mask = pipeline.prepare_latents(
        pixels(picture), 1, Z, SIZE, SIZE, FRAMES, torch.float32, torch.device("cpu"), None
    )
    r, encode = chain("wan2.2-ti2v-5b", vae, tmp_path)
    noisy = np.random.default_rng(1).normal(size=(1, K, GRID, GRID, Z)).astype(np.float32)
    reference = jnp.asarray(encode(picture[:, None]))[:, 0]
    drawn, text = np.zeros((1, FRAMES, SIZE, SIZE, 12), np.float32), np.zeros((1, 4, 0), np.float32)
    latents, steps = r._inputs(noisy, jnp.array([700.0]), r.conditions(reference, drawn, text, encode=encode))
    expected = channels_last((1 - mask) * condition + mask * torch.from_numpy(noisy.transpose(0, 4, 1, 2, 3)))
    np.testing.assert_allclose(latents, expected, atol=TOLERANCE)
    np.testing.assert_allclose(steps, (mask[0][0][:, ::2, ::2] * 700.0).flatten()[None])


@torch.no_grad()
@pytest.mark.parametrize("kept", [0, 1, 5])
def test_animate_is_given_what_diffusers_prepares(kept, vae, theirs, picture, tmp_path):
    """The reference in front; behind it a grey video, or one that begins with the last frames of the segment before."""
    frames = 9
    pipeline = diffusers.WanAnimatePipeline(
        None, None, theirs, diffusers.UniPCMultistepScheduler(), None, None, None
    )  # fmt: skip
    before = np.random.default_rng(2).uniform(-1, 1, (1, max(kept, 1), SIZE, SIZE, 3)).astype(np.float32)
    behind = pipeline.prepare_prev_segment_cond_latents(
        torch.from_numpy(before.transpose(0, 4, 1, 2, 3).copy()) if kept else None,
        segment_frame_length=frames, start_frame=kept and 77, height=SIZE, width=SIZE,
        prev_segment_cond_frames=max(kept, 1), dtype=torch.float32, device="cpu",
    )  # fmt: skip
    front = pipeline.prepare_reference_image_latents(pixels(picture), 1, dtype=torch.float32, device="cpu")
    r, encode = chain("wan2.2-animate-14b", vae, tmp_path)
    drawn, text = np.zeros((1, frames, SIZE, SIZE, 3), np.float32), np.zeros((1, 4, 0), np.float32)
    reference = jnp.asarray(encode(picture[:, None]))[:, 0]
    said = r.conditions(reference, drawn, text, encode=encode, before=before if kept else None)
    noisy = np.zeros((1, 4, GRID, GRID, Z), np.float32)
    ours = np.asarray(r._inputs(noisy, jnp.zeros(1), said)[0])[..., Z:]
    np.testing.assert_allclose(ours, channels_last(torch.cat([front, behind], dim=2)), atol=TOLERANCE)
    shown = np.concatenate([np.ones(4), np.ones(4) * (kept > 0), np.ones(4) * (kept > 1), np.zeros(4)])
    np.testing.assert_array_equal(ours[0, :, 0, 0, :4].ravel(), shown)
