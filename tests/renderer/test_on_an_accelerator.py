"""What an accelerator computes with kernels of its own, against a CPU in float32.

JAX_PLATFORMS=cuda,cpu pytest -n0 -m accelerator
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.renderer import vae_chunks
from signer_jax.renderer.attention import attention, plain_attention
from signer_jax.renderer.exact import exact
from signer_jax.renderer.remat import POLICIES
from signer_jax.renderer.vae import VideoVAE
from signer_jax.renderer.video_transformer import VideoTransformer

pytestmark = pytest.mark.accelerator


@pytest.fixture(scope="module", autouse=True)
def here():
    if jax.default_backend() == "cpu":
        pytest.skip("no accelerator here")


def apart(a, b) -> float:
    """How far two arrays are apart, as a share of the second's size."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def on_the_cpu(function, *arrays):
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        return jax.device_get(jax.jit(function)(*(jax.device_put(x, cpu) for x in jax.device_get(arrays))))


@pytest.mark.parametrize(("l", "m"), [(768, 768), (1560, 512), (1000, 257)])
@pytest.mark.parametrize("size", [64, 128])
def test_attention_of_its_own_is_the_formula_with_its_gradients(l, m, size):
    """The relative error of bfloat16 arithmetic is about its last bit, .004."""
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, w = (
        jax.random.normal(key, (2, n, 3, size), jnp.bfloat16) for key, n in zip(keys, (l, m, m, l), strict=True)
    )

    def of(attend):
        def weighed(q, k, v, w):
            out = attend(q, k, v)
            return (out.astype(jnp.float32) * w.astype(jnp.float32)).sum(), out

        return jax.grad(weighed, argnums=(0, 1, 2), has_aux=True)

    gradients, out = jax.jit(of(attention))(q, k, v, w)
    wide = tuple(x.astype(jnp.float32) for x in (q, k, v, w))
    true_gradients, truth = on_the_cpu(of(plain_attention), *wide)
    assert apart(out, truth) < 0.006
    for mine, true in zip(gradients, true_gradients, strict=True):
        assert apart(mine, true) < 0.012


def small(**changes):
    return VideoTransformer(
        **{
            "in_channels": 16, "out_channels": 16, "dim": 256, "heads": 2, "ffn_dim": 512, "layers": 3, "text_dim": 64,
            "freq_dim": 64, "patch": (1, 2, 2), "image_dim": None, "eps": 1e-6, **changes,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    inputs = (
        rng.standard_normal((2, 5, 16, 16, 16), np.float32), np.array([300.0, 900.0], np.float32),
        rng.standard_normal((2, 32, 64), np.float32),
    )  # fmt: skip
    shapes = jax.eval_shape(lambda: small().init(jax.random.key(0), *inputs))["params"]
    params = jax.tree.map(lambda x: rng.normal(0.0, 0.05, x.shape).astype(np.float32), shapes)
    return params, inputs


def test_the_transformer_in_float32_is_the_cpus(given):
    params, inputs = given
    run = exact(lambda params, *inputs: small().apply({"params": params}, *inputs))
    assert apart(jax.jit(run)(params, *inputs), on_the_cpu(run, params, *inputs)) < 2e-5


def _gradients(module):
    def loss(params, inputs):
        return jnp.square(module.apply({"params": params}, *inputs) - 1).mean()

    return jax.jit(jax.value_and_grad(loss))


@pytest.mark.parametrize("remat", POLICIES)
def test_in_bfloat16_it_learns_what_the_cpu_does_whatever_is_computed_again(given, remat):
    module = small(remat=remat, dtype=jnp.bfloat16)
    loss, gradients = _gradients(module)(*given)
    wide = small()
    true_loss, true = on_the_cpu(lambda *given: _gradients(wide)(*given), *given)
    assert abs(float(loss) / float(true_loss) - 1) < 0.01
    flat = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (gradients, true)]
    assert apart(*flat) < 0.04


def test_twice_the_same_step_gives_the_same_bits(given):
    """A GPU sums some gradients in an order that changes, unless it is told not to (docs/training.md)."""
    if jax.default_backend() == "gpu" and "xla_gpu_deterministic_ops=true" not in os.environ.get("XLA_FLAGS", ""):
        pytest.skip("give XLA_FLAGS=--xla_gpu_deterministic_ops=true")
    run = _gradients(small(remat="attention", dtype=jnp.bfloat16))
    first, second = (jax.device_get(run(*given)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("residual", [False, True])
def test_the_autoencoder_encodes_and_decodes_as_the_cpu_does(residual):
    module = VideoVAE(
        base_dim=16, decoder_base_dim=16, z_dim=4, dim_mult=(1, 2, 2), num_res_blocks=1,
        temporal_downsample=(True, True),
        in_channels=12 if residual else 3, out_channels=12 if residual else 3, patch_size=2 if residual else 1,
        is_residual=residual, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    video = rng.uniform(-1, 1, (1, 9, 32, 48, 3)).astype(np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), video)["params"]
    params = jax.tree.map(lambda x: rng.normal(0, min(0.5, np.prod(x.shape[:-1]) ** -0.5), x.shape).astype("f"), shapes)
    encode = exact(lambda params, video: vae_chunks.encode(module, params, video))
    latents = jax.jit(encode)(params, video)
    true = on_the_cpu(encode, params, video)
    assert apart(jax.tree.leaves(latents)[0], jax.tree.leaves(true)[0]) < 2e-5
    z = rng.standard_normal((1, 3, 4 * (1 + residual), 6 * (1 + residual), 4)).astype(np.float32)
    decode = exact(lambda params, z: vae_chunks.decode(module, params, z))
    assert apart(jax.jit(decode)(params, z), on_the_cpu(decode, params, z)) < 2e-5
