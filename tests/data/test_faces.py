"""The face's pictures: the box around the face's points, its growth, frames without a face."""

import numpy as np

from signer_jax.data.faces import face_boxes, face_video
from signer_jax.pose import skeleton
from signer_jax.types import Pose

SIDE = 260  # a hundred pixels a shoulder width, the origin at (130, 110)
FACE = skeleton.positions(skeleton.FACE, skeleton.JOINTS)


def pose(frames: int = 3) -> Pose:
    """Face points over a box of 40 x 60 pixels at (110, 20); the rest unseen."""
    coordinates = np.zeros((frames, 128, 3), np.float32)
    confidence = np.zeros((frames, 128), np.float32)
    corners = np.array([[-0.2, -0.9], [0.2, -0.3]], np.float32)
    coordinates[:, FACE, :2] = corners[np.arange(68) % 2]
    confidence[:, FACE] = 1.0
    return Pose(coordinates, confidence, 25.0)


def test_the_box_is_the_public_preprocessings():
    """Area times 1.3: each side times its root; three quarters of the added height above, a quarter below."""
    grown = np.sqrt(1.3) - 1
    expected = [110 - 20 * grown, 20 - 3 * 15 * grown, 150 + 20 * grown, 80 + 15 * grown]
    np.testing.assert_array_equal(face_boxes(pose(), SIDE, SIDE), np.tile(np.int64(expected), (3, 1)))


def test_the_box_stays_in_the_frame_and_unseen_points_count_for_nothing():
    high = pose()
    high.coordinates[0, FACE, 1] -= 0.5
    high.coordinates[1, FACE[0]] = 7.0
    high.confidence[1, FACE[0]] = 0.0
    boxes = face_boxes(high, SIDE, SIDE)
    assert boxes[0, 1] == 0 and boxes[0, 3] < 60
    np.testing.assert_array_equal(boxes[1], boxes[2])


def test_a_frame_without_a_face_has_the_nearest_ones_and_a_clip_without_any_is_black():
    some = pose(5)
    some.confidence[[0, 2, 3], :] = 0
    some.coordinates[4, FACE, 0] += 0.5
    boxes = face_boxes(some, SIDE, SIDE)
    np.testing.assert_array_equal(boxes[[0, 2]], boxes[[1, 1]])
    np.testing.assert_array_equal(boxes[3], boxes[4])
    video = np.full((5, SIDE, SIDE, 3), 200, np.uint8)
    assert (face_video(video, some, 16) == 200).all()
    some.confidence[:] = 0
    assert not face_video(video, some, 16).any() and not face_boxes(some, SIDE, SIDE).any()


def test_what_is_cut_out_is_the_face():
    video = np.zeros((3, SIDE, SIDE, 3), np.uint8)
    video[:, 20:80, 110:130], video[:, 20:80, 130:150] = 100, 250
    faces = face_video(video, pose(), 32)
    assert faces.shape == (3, 32, 32, 3)
    assert (faces[:, 16, 8] == 100).all() and (faces[:, 16, 24] == 250).all() and not faces[:, 0].any()
