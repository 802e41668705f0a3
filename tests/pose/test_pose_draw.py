"""Skeleton pictures: colours where the joints are, nothing where they are missing."""

import numpy as np

from signer_jax.pose import draw, skeleton
from signer_jax.types import Pose


def _pose(**places) -> Pose:
    coordinates = np.zeros((2, 128, 3), np.float32)
    confidence = np.zeros((2, 128), np.float32)
    for name, place in places.items():
        coordinates[:, skeleton.INDEX[name], :2] = place
        confidence[0, skeleton.INDEX[name]] = 1
    confidence[1] = 0.3 * confidence[0]  # at the threshold: not drawn
    return Pose(coordinates, confidence, 25.0)


def test_an_upper_arm_by_hand():
    size = 260  # 100 pixels a shoulder width
    video = draw.draw(_pose(right_shoulder=(-0.5, 0.0), right_elbow=(-0.5, 0.8)), size)
    assert video.shape == (2, size, size, 3) and video.dtype == np.uint8
    assert video[1].max() == 0
    shade = np.round(0.6 * np.array(draw.BODY_LIMBS[2][2]))
    np.testing.assert_array_equal(video[0, 110 + 40, 130 - 50], shade)  # the limb's middle
    np.testing.assert_array_equal(video[0, 110, 130 - 50], draw.BODY_COLOURS[2])  # the shoulder joint
    assert video[0, :, 130:].max() == 0


def test_hands_and_face_have_their_colours():
    video = draw.draw(_pose(right_hand_wrist_root=(0, 0.3), right_hand_thumb_1=(0.4, 0.3), face_30=(0.0, -0.5)), 520)
    np.testing.assert_array_equal(video[0, 220 + 60, 260 + 40], (255, 0, 0))  # the first hue is red
    np.testing.assert_array_equal(video[0, 220 + 60, 260], (0, 0, 255))
    np.testing.assert_array_equal(video[0, 220 - 100, 260], (255, 255, 255))


def test_joints_far_outside_and_no_frames_are_fine():
    video = draw.draw(_pose(right_shoulder=(-50.0, 0.0), right_elbow=(60.0, 0.8)), 32)
    assert video[0].max() > 0
    empty = Pose(np.zeros((0, 128, 3), np.float32), np.zeros((0, 128), np.float32), 25.0)
    assert draw.draw(empty, 16).shape == (0, 16, 16, 3)
