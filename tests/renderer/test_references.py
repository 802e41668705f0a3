"""Reference frames: found part by part, put together, and mixed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.renderer.references import References, latent_frame_times, part_positions
from signer_jax.renderer.render import source_weights

JOINTS = skeleton.subset("signing_74")
RIGHT, LEFT = (skeleton.positions(skeleton.PARTS[f"{side}_arm"], skeleton.SUBSETS["signing_74"])
               for side in ("right", "left"))  # fmt: skip


def bank() -> References:
    """Four frames of two clips; the right arm is at 0, 1, 2, 3 and the left one at 3, 2, 1, 0."""
    pose = np.zeros((4, len(JOINTS), 2), np.float32)
    pose[:, RIGHT] = np.arange(4.0)[:, None, None]
    pose[:, LEFT] = np.arange(3.0, -1, -1)[:, None, None]
    latents = np.arange(4.0, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 3), np.float32)
    parts = part_positions(("arms", "right_arm", "left_arm"), JOINTS)
    return References(latents, pose, np.ones((4, len(JOINTS)), np.float32), np.array([0, 0, 1, 1]), parts)


def wanted(right: float, left: float) -> tuple[np.ndarray, np.ndarray]:
    pose = np.zeros((1, len(JOINTS), 2), np.float32)
    pose[:, RIGHT], pose[:, LEFT] = right, left
    return pose, np.ones((1, len(JOINTS)), np.float32)


def test_each_part_finds_its_own_frame():
    np.testing.assert_array_equal(bank().nearest(*wanted(0.9, 0.1))[0, 1:], [1, 3])
    # Clip 0 may not be taken: the right arm's nearest is in clip 1.
    np.testing.assert_array_equal(bank().nearest(*wanted(0.9, 0.1), exclude=0)[0, 1:], [2, 3])
    one_clip = References(*(getattr(bank(), name)[:2] for name in ("latents", "pose", "confidence", "motion")),
                          bank().parts)  # fmt: skip
    assert one_clip.nearest(*wanted(3, 0), exclude=0).shape == (1, 3)  # nothing else: the clip itself


def test_the_references_pose_is_put_together_from_the_parts():
    taken = bank().take(np.array([[2, 1, 3]]))
    assert taken["reference"].shape == (1, 2, 2, 3, 3)
    np.testing.assert_array_equal(taken["reference"][0, 0, 0, :, 0], [2, 1, 3])
    assert (taken["reference_pose"][0, RIGHT] == 1).all() and (taken["reference_pose"][0, LEFT] == 0).all()
    assert bank().pose[2, RIGHT[0], 0] == 2  # the bank itself stays


def test_a_picture_is_a_bank_of_one_without_a_pose():
    picture = bank().of_picture(np.full((2, 2, 3), 7, np.float32))
    taken = picture.take(picture.nearest(*wanted(1, 1)))
    assert (taken["reference"] == 7).all() and not taken["reference_confidence"].any()


def test_unknown_parts_are_named():
    with pytest.raises(SignerError, match="right_arm"):
        part_positions(("right_arn",), JOINTS)


@pytest.mark.parametrize(("frames", "ratio", "times"), [(5, 1, [0, 1, 2, 3, 4]), (9, 4, [0, 2, 6]), (1, 4, [0])])
def test_latent_frames_stand_in_the_middle_of_what_they_cover(frames, ratio, times):
    np.testing.assert_array_equal(latent_frame_times(frames, ratio), times)


def test_sources_start_as_the_first_reference_and_end_as_one_alone():
    start = source_weights(jnp.zeros((1, 3)))[0]
    np.testing.assert_allclose(start.sum(), 1, rtol=1e-6)
    assert start[0] > 0.6 and (start > 0).all()
    # A clear choice is exact: what is copied has no trace of the others.
    np.testing.assert_array_equal(source_weights(jnp.array([[0.0, 2.0, 0.0], [-3.0, -3.0, -3.0]])),
                                  [[0, 1, 0, 0], [0, 0, 0, 1]])  # fmt: skip
    gradient = jax.grad(lambda x: (source_weights(x) * jnp.arange(4.0)).sum())(jnp.zeros((1, 3)))
    assert np.isfinite(gradient).all() and (np.abs(gradient) > 0).all()
