"""The records of the Wan variants: counts, channels, boundaries and lengths."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.model import published_transformer
from signer_jax.renderer.control import ControlBranch
from signer_jax.renderer.schedule import high_noise, shift_sigma
from signer_jax.renderer.variants import VARIANTS, find, frames_fault, overlap_fault

PUBLISHED = [name for name, variant in VARIANTS.items() if variant.sizes is not None]


def shapes_of(variant, frames: int = 5):
    """Output and parameters of the full size, by `jax.eval_shape`: nothing is computed."""
    module = published_transformer(variant)
    given = {
        "latents": jnp.zeros((1, frames, 4, 4, module.in_channels)),
        "timestep": jnp.zeros((1, frames * 4) if variant.time == "token" else (1,)),
        "text": jnp.zeros((1, variant.text_rows, variant.text_dim)),
    }
    if variant.clip_dim is not None:
        given["image"] = jnp.zeros((1, 257, variant.clip_dim))
    if variant.face is not None:
        given["pose"] = jnp.zeros((1, frames - 1, 4, 4, variant.latent_channels))
        given["face"] = jnp.zeros((1, 4 * (frames - 2) + 1, 512, 512, 3))
    return jax.eval_shape(lambda given: module.init_with_output(jax.random.key(0), **given), given)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_full_size_has_the_published_parameters(name):
    variant = VARIANTS[name]
    output, variables = shapes_of(variant)
    assert output.shape == (1, 5, 4, 4, variant.latent_channels)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == variant.sizes.parameters


def test_the_published_parameters_by_hand():
    """Of diffusers' classes at these sizes (WanTransformer3DModel, WanAnimateTransformer3DModel)."""
    counts = {name: VARIANTS[name].sizes.parameters for name in PUBLISHED}
    assert counts["wan2.1-t2v-1.3b"] == 1_418_996_800
    assert counts["wan2.1-t2v-14b"] == counts["wan2.2-t2v-a14b"] == 14_288_491_584
    assert counts["wan2.1-i2v-14b"] == 16_394_878_784
    assert counts["wan2.2-i2v-a14b"] == 14_288_901_184
    assert counts["wan2.2-ti2v-5b"] == 4_999_787_712
    assert counts["wan2.2-animate-14b"] == 17_274_816_884
    # Twelve more input channels than I2V, 2x2 to a patch, 5120 wide.
    assert counts["wan2.1-fun-control-14b"] == 16_394_878_784 + 12 * 4 * 5120
    # Mask, control and picture beside the text models' noise: 36 and 100 channels more.
    assert counts["wan2.2-fun-control-a14b"] == 14_288_491_584 + 36 * 4 * 5120
    assert counts["wan2.2-fun-control-5b"] == 4_999_787_712 + 100 * 4 * 3072


def test_the_input_channels():
    channels = {
        "wan2.1-t2v-1.3b": 16, "wan2.1-t2v-14b": 16, "wan2.1-i2v-14b": 36, "wan2.1-fun-control-14b": 48,
        "wan2.2-t2v-a14b": 16, "wan2.2-i2v-a14b": 36, "wan2.2-ti2v-5b": 48, "wan2.2-animate-14b": 36,
        "wan2.2-fun-control-a14b": 52, "wan2.2-fun-control-5b": 148,
    }  # fmt: skip
    assert {name: VARIANTS[name].channels(VARIANTS[name].latent_channels, 4) for name in PUBLISHED} == channels
    assert VARIANTS["own"].channels(12, 1) == 24
    assert VARIANTS["wan2.2-animate-14b"].channels(4, 4) == 12  # of a tiny one


def test_who_is_shown_a_picture():
    assert {name for name in VARIANTS if not VARIANTS[name].takes_picture} == {
        "wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan2.2-t2v-a14b"
    }  # fmt: skip


def test_records_are_plain_and_frozen():
    for name, variant in VARIANTS.items():
        hash(variant)
        assert variant.streams[0] == "noise", name
        with pytest.raises(dataclasses.FrozenInstanceError):
            variant.shift = 1.0
    assert find("own") is VARIANTS["own"]
    with pytest.raises(SignerError, match=r"did you mean.*wan2.2-animate-14b|wan2.2-animate-14b"):
        find("wan2.2-animate")


@pytest.mark.parametrize(
    ("name", "boundary"),
    [("wan2.2-t2v-a14b", 0.875), ("wan2.2-i2v-a14b", 0.9), ("wan2.2-fun-control-a14b", 0.9)],
)
def test_the_experts_share_the_levels_half_open(name, boundary):
    assert VARIANTS[name].boundary == boundary and VARIANTS[name].experts == ("high", "low")
    below, at = np.nextafter(np.float32(boundary), np.float32(0)), np.float32(boundary)
    np.testing.assert_array_equal(high_noise(jnp.array([0.0, below, at, 1.0]), boundary), [False, False, True, True])


def test_the_shift_is_the_published_one_of_the_size():
    small, large = (480, 832), (720, 1280)
    for name in PUBLISHED:
        by_size = name.startswith("wan2.1") and name != "wan2.1-t2v-1.3b"
        other = {"wan2.1-t2v-1.3b": 3.0, "wan2.2-t2v-a14b": 12.0}.get(name, 5.0)
        assert [VARIANTS[name].shift_at(size) for size in (small, large)] == [3.0 if by_size else other, other], name
    t2v = VARIANTS["wan2.1-t2v-14b"]
    assert t2v.shift_at((832, 480)) == 3.0 and t2v.shift_at((1280, 720)) == 5.0


def test_the_boundary_lies_on_shifted_levels():
    """A level before the shift of .5 is .923 after it at 12: the first expert's, in training and in sampling."""
    assert high_noise(shift_sigma(jnp.array([0.5]), 12.0), 0.875).all()
    assert not high_noise(jnp.array([0.5]), 0.875).any()


@pytest.mark.parametrize(("frames", "nearest"), [(80, "77 and 81"), (82, "81 and 85"), (3, "1 and 5")])
def test_lengths_that_are_not_4n_plus_1_name_the_nearest(frames, nearest):
    fault = frames_fault(frames, 4)
    assert "4n + 1" in fault and f"nearest are {nearest}" in fault
    assert not any(frames_fault(right, 4) for right in (1, 5, 77, 81)) and not frames_fault(frames, 1)


@pytest.mark.parametrize(("window", "ratio", "most"), [(81, 4, 40), (5, 4, 4), (1, 4, 0), (3, 1, 1), (9, 2, 4)])
def test_an_overlap_is_of_whole_latents_and_at_most_half(window, ratio, most):
    right = [shared for shared in range(window + 1) if not overlap_fault(shared, window, ratio)]
    assert right == list(range(0, most + 1, ratio)) and 2 * (most // ratio) <= 1 + (window - 1) // ratio
    assert f"a multiple of {ratio} " in overlap_fault(most + 1, window, ratio)
    assert f"window {window}: 0 to {most}" in overlap_fault(most + ratio, window, ratio)


def test_a_control_branch_is_a_hundredth_of_the_smallest_model():
    """At 480 rows the token grid is a sixteenth of the picture: four halvings, a stage each."""
    branch = ControlBranch((64, 128, 256, 512), (2, 2, 2, 2), dim=1536, groups=8, freq_dim=128, time_dim=512)
    picture = jnp.zeros((1, 1, 32, 48, 48))
    shapes = jax.eval_shape(lambda: branch.init_with_output(jax.random.key(0), picture, jnp.zeros(1)))
    assert shapes[0].shape == (1, 1, 2, 3, 1536)
    share = sum(leaf.size for leaf in jax.tree.leaves(shapes[1])) / VARIANTS["wan2.1-t2v-1.3b"].sizes.parameters
    assert 0.009 < share < 0.011


def test_a_variant_without_sizes_is_built_by_its_config_alone():
    with pytest.raises(ValueError, match="sizes"):
        published_transformer(VARIANTS["own"])
