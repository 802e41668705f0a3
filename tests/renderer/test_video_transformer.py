import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.renderer.attention import plain_attention
from signer_jax.renderer.remat import POLICIES, check_offload
from signer_jax.renderer.video_transformer import (
    VideoTransformer,
    patchify,
    rotate,
    rotation_3d,
    unpatchify,
)

WAN = {"text_dim": 4096, "freq_dim": 256, "patch": (1, 2, 2), "eps": 1e-6}
PUBLISHED = {
    "T2V-1.3B": (12, 30, 8960, 16, 16, None, 1_418_996_800),
    "T2V-14B": (40, 40, 13824, 16, 16, None, 14_288_491_584),
    "I2V-14B": (40, 40, 13824, 36, 16, 1280, 16_394_878_784),
    "2.2 I2V-A14B": (40, 40, 13824, 36, 16, None, 14_288_901_184),
    "TI2V-5B": (24, 30, 14336, 48, 48, None, 4_999_787_712),
}
TINY = {
    "in_channels": 4,
    "out_channels": 3,
    "dim": 24,
    "heads": 2,
    "ffn_dim": 32,
    "layers": 2,
    "text_dim": 16,
    "freq_dim": 32,
    "patch": (1, 2, 2),
    "image_dim": None,
    "eps": 1e-6,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes_have_exactly_their_parameters(name):
    heads, layers, ffn, in_channels, out_channels, image_dim, count = PUBLISHED[name]
    module = VideoTransformer(
        in_channels=in_channels, out_channels=out_channels, dim=128 * heads, heads=heads, ffn_dim=ffn, layers=layers,
        image_dim=image_dim, **WAN,
    )  # fmt: skip

    def init():
        latents, text = jnp.zeros((1, 5, 8, 8, in_channels)), jnp.zeros((1, 512, 4096))
        image = None if image_dim is None else jnp.zeros((1, 257, image_dim))
        return module.init_with_output(jax.random.key(0), latents, jnp.zeros(1), text, image=image)

    output, variables = jax.eval_shape(init)
    assert output.shape == (1, 5, 8, 8, out_channels)
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == count
    assert variables["params"]["layers"]["self_attention"]["query"]["kernel"].shape == (
        layers,
        128 * heads,
        128 * heads,
    )


def test_patches_by_hand_and_back():
    x = jnp.arange(2 * 4 * 4 * 2.0).reshape(1, 2, 4, 4, 2)
    patches = patchify(x, (1, 2, 2))
    assert patches.shape == (1, 2, 2, 2, 8)
    np.testing.assert_array_equal(patches[0, 1, 0, 1], x[0, 1, :2, 2:].reshape(-1))
    for patch in ((1, 2, 2), (2, 1, 4)):
        np.testing.assert_array_equal(unpatchify(patchify(x, patch), patch), x)


def test_rotation_splits_a_head_of_128_into_44_42_42():
    cos, sin = rotation_3d((3, 4, 5), 128)
    assert cos.shape == sin.shape == (60, 64)
    t, h, w = 2, 1, 3
    row = (t * 4 + h) * 5 + w
    angles = np.concatenate([
        t * 1e4 ** (-np.arange(22) / 22), h * 1e4 ** (-np.arange(21) / 21), w * 1e4 ** (-np.arange(21) / 21)
    ])  # fmt: skip
    np.testing.assert_allclose(cos[row], np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(sin[row], np.sin(angles), atol=1e-6)


def test_rotate_turns_neighbouring_pairs():
    x = jnp.array([1.0, 0.0, 0.0, 2.0]).reshape(1, 1, 1, 4)
    angles = jnp.array([[np.pi / 2, np.pi]])
    np.testing.assert_allclose(rotate(x, (jnp.cos(angles), jnp.sin(angles)))[0, 0, 0], [0, 1, 0, -2], atol=1e-6)


def test_rotated_products_depend_on_the_distance_alone():
    rotation = rotation_3d((4, 4, 4), 12)
    q, k = (jnp.broadcast_to(jax.random.normal(jax.random.key(i), (12,)), (1, 64, 1, 12)) for i in range(2))
    product = jnp.einsum("blhd,bmhd->lm", rotate(q, rotation), rotate(k, rotation))
    index = lambda t, h, w: (t * 4 + h) * 4 + w  # noqa: E731
    near = product[index(0, 1, 0), index(1, 1, 2)]
    np.testing.assert_allclose(near, product[index(2, 3, 1), index(3, 3, 3)], atol=1e-5)
    assert abs(near - product[index(0, 1, 0), index(1, 2, 2)]) > 1e-3


def randomised(module, *args, **kwargs):
    """Parameters without the zeros and ones of initialisation, which hide mistakes."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args, **kwargs)["params"]
    rng = np.random.default_rng(1)

    def draw(path, x):
        return jnp.asarray((path[-1].key == "scale") + 0.3 * rng.standard_normal(x.shape, np.float32))

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def tiny():
    module = VideoTransformer(**TINY)
    keys = jax.random.split(jax.random.key(2), 3)
    inputs = {
        "latents": jax.random.normal(keys[0], (2, 3, 4, 8, 4)),
        "timestep": jnp.array([40.0, 900.0]),
        "text": jax.random.normal(keys[1], (2, 5, 16)),
    }
    control = jax.random.normal(keys[2], (2, 3, 2, 4, 24))
    return module, {"params": randomised(module, **inputs)}, inputs, control


@pytest.fixture(scope="module")
def apply(tiny):
    return jax.jit(tiny[0].apply)


def gradients(module, inputs):
    """The gradient of a random projection of the output, to the parameters and to the control."""
    weight = jax.random.normal(jax.random.key(5), (2, 3, 4, 8, 3))
    loss = lambda params, control: jnp.sum(weight * module.apply(params, **inputs, control=control))  # noqa: E731
    return jax.jit(jax.grad(loss, argnums=(0, 1)))


@pytest.fixture(scope="module")
def plain_gradients(tiny):
    return gradients(tiny[0], tiny[2])


def test_the_output_has_the_size_of_the_latents(tiny, apply):
    _, params, inputs, _ = tiny
    output = apply(params, **inputs)
    assert output.shape == (2, 3, 4, 8, 3) and output.dtype == jnp.float32


def test_an_untrained_model_predicts_zero(tiny):
    module, _, inputs, _ = tiny
    last = jax.jit(lambda: module.init(jax.random.key(0), **inputs)["params"]["patch_projection"])()
    assert not last["kernel"].any() and not last["bias"].any()


def test_gradients_reach_the_control_and_are_finite(tiny, plain_gradients):
    _, params, _, control = tiny
    for picture in (control, jnp.zeros_like(control)):  # also where the picture is empty
        gradient = plain_gradients(params, picture)[1]
        assert np.isfinite(gradient).all() and (np.abs(gradient).max((2, 3, 4)) > 0).all()


def test_control_scale_zero_is_no_control_and_one_is_the_default(tiny, apply):
    _, params, inputs, control = tiny
    without, full = apply(params, **inputs), apply(params, **inputs, control=control)
    mixed = apply(params, **inputs, control=control, control_scale=jnp.array([0.0, 1.0]))
    assert np.abs(without - full).max((1, 2, 3, 4)).min() > 1e-2
    np.testing.assert_allclose(mixed[0], without[0], atol=1e-5)
    np.testing.assert_allclose(mixed[1], full[1], atol=1e-5)


def test_one_timestep_per_token_equals_one_per_example_where_they_agree(tiny, apply):
    _, params, inputs, _ = tiny
    per_token = jnp.broadcast_to(inputs["timestep"][:, None], (2, 3 * 2 * 4))
    one, many = (apply(params, **inputs | {"timestep": t}) for t in (inputs["timestep"], per_token))
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_zero_rows_of_the_text_take_part(tiny, apply):
    _, params, inputs, _ = tiny
    padded = jnp.pad(inputs["text"], ((0, 0), (0, 3), (0, 0)))
    short, long = (apply(params, **inputs | {"text": text}) for text in (inputs["text"], padded))
    assert np.abs(short - long).max() > 1e-3


@pytest.mark.parametrize("remat", POLICIES)
def test_gradients_do_not_depend_on_remat_or_unroll(tiny, plain_gradients, remat):
    module, params, inputs, control = tiny
    plain = jax.tree.leaves(plain_gradients(params, control))
    unroll = 2 if remat == "attention" else 1
    changed = jax.tree.leaves(gradients(module.clone(remat=remat, scan_unroll=unroll), inputs)(params, control))
    for a, b in zip(changed, plain, strict=True):
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, float(np.abs(b).max())))


def test_the_hosts_memory_is_asked_for_where_there_is_some():
    class Device:
        platform = "tpu"

        def addressable_memories(self) -> list:
            return []

    check_offload("offload", jax.devices()[0])
    check_offload("attention", Device())
    with pytest.raises(SignerError, match=r"^config.remat 'offload': tpu devices reach no memory of the host's here"):
        check_offload("offload", Device())


def test_half_precision_stays_close_and_returns_float32(tiny, apply):
    module, params, inputs, control = tiny
    full = apply(params, **inputs, control=control)
    half = jax.jit(module.clone(dtype=jnp.bfloat16).apply)(params, **inputs, control=control)
    assert half.dtype == jnp.float32
    assert np.abs(half - full).mean() < 0.05 * np.abs(full).mean()


def test_the_caller_may_bring_its_own_attention(tiny, apply):
    module, params, inputs, _ = tiny
    shapes = []

    def attend(q, k, v, lengths, keys=None):
        shapes.append((q.shape, k.shape, lengths, keys))
        return plain_attention(q, k, v)

    ours = jax.jit(module.clone(attend=attend).apply)(params, **inputs)
    np.testing.assert_allclose(ours, apply(params, **inputs), atol=1e-5)
    assert set(shapes) == {
        ((2, 24, 2, 12), (2, 24, 2, 12), ("tokens", "tokens"), 24),
        ((2, 24, 2, 12), (2, 5, 2, 12), ("tokens", "length"), None),
    }


def test_what_does_not_fit_is_refused_in_one_line(tiny):
    module, params, inputs, control = tiny
    cases = [
        (inputs | {"latents": jnp.zeros((2, 3, 4, 7, 4))}, "patches"),
        (inputs | {"latents": jnp.zeros((2, 3, 4, 8, 5))}, "channels"),
        (inputs | {"image": jnp.zeros((2, 5, 20))}, "no image"),
        (inputs | {"control": control[:, :1]}, "token grid"),
        (inputs | {"control": control[:, :, :1]}, "token grid"),
    ]
    for case, message in cases:
        with pytest.raises(SignerError, match=message) as error:
            jax.eval_shape(lambda case=case: module.apply(params, **case))
        assert "\n" not in str(error.value)
    with pytest.raises(SignerError, match="needs image"):
        jax.eval_shape(lambda: module.clone(image_dim=20).apply(params, **inputs))
