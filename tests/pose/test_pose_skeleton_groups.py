"""The limb groups name the joints that they should, in every subset."""

import numpy as np
import pytest

from signer_jax.pose import skeleton
from signer_jax.pose.skeleton import LIMB_GROUPS, SUBSETS, limb_groups
from signer_jax.types import Pose

LIMBS = {name: limbs for name, limbs, _ in LIMB_GROUPS}


def test_jaw_runs_along_the_jaw():
    assert [a for a, _ in LIMBS["jaw"]] == [f"face_{i}" for i in (0, 3, 6, 8, 10, 13)]
    assert LIMBS["jaw"][-1][1] == "face_16"


def test_face_is_two_brows_and_closed_lips():
    ibug = [(int(a[5:]), int(b[5:])) for a, b in LIMBS["face"]]
    assert ibug == [(17, 19), (19, 21), (22, 24), (24, 26), (48, 51), (51, 54), (54, 57), (57, 48)]


def test_all_groups_are_whole_in_signing_74():
    for (name, pairs, _), (_, limbs, _) in zip(limb_groups(SUBSETS["signing_74"]), LIMB_GROUPS, strict=True):
        names = [(SUBSETS["signing_74"][a], SUBSETS["signing_74"][b]) for a, b in pairs]
        assert names == limbs, name


@pytest.mark.parametrize("subset", SUBSETS)
def test_subsets_index_the_joints(subset):
    assert [skeleton.JOINTS[i] for i in skeleton.subset(subset)] == list(SUBSETS[subset])
    assert len(np.unique(skeleton.subset(subset))) == int(subset.rsplit("_", 1)[1])


@pytest.mark.parametrize(("axes", "dims"), [(3, 2), (3, 3), (2, 3), (2, 2)])
def test_on_joints_takes_the_columns_that_indexing_takes(axes, dims):
    rng = np.random.default_rng(0)
    whole = Pose(rng.normal(size=(9, 128, axes)).astype(np.float32), rng.random((9, 128)).astype(np.float32), 16.0)
    for pose in (whole, whole.slice(4, 4), Pose(whole.coordinates[::-2], whole.confidence[::-2], 16.0)):
        for joints in (skeleton.subset("signing_74"), np.array([90, 2, 2])):
            taken = skeleton.on_joints(pose, joints, dims)
            np.testing.assert_array_equal(taken.coordinates, pose.coordinates[:, joints, :dims])
            np.testing.assert_array_equal(taken.confidence, pose.confidence[:, joints])
            assert not np.shares_memory(taken.coordinates, pose.coordinates)
