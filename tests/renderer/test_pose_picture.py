"""Pose pictures in DWPose's convention: where, in which colours, what is left out, and their gradient and memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.pose import skeleton
from signer_jax.renderer.pose_picture import draw, plain, shapes

JOINTS = skeleton.JOINTS
BODY = shapes(skeleton.BODY, face=True)


def standing() -> tuple[np.ndarray, np.ndarray]:
    """Both shoulders, an elbow and a wrist, the rest missing: `[1, 1, 18, 2]` and its confidence."""
    pose, seen = np.zeros((1, 1, 18, 2), np.float32), np.zeros((1, 1, 18), np.float32)
    for name, x, y in (
        ("neck", 0, 0), ("right_shoulder", -0.5, 0), ("left_shoulder", 0.5, 0), ("left_elbow", 0.5, 0.8),
        ("left_wrist", 0.0, 1.0),
    ):  # fmt: skip
        i = skeleton.BODY.index(name)
        pose[0, 0, i], seen[0, 0, i] = (x, y), 1.0
    return pose, seen


def picture(size=(96, 160), threshold=0.3, confidence=1.0, drawn=BODY) -> np.ndarray:
    pose, seen = standing()
    return np.asarray(draw(pose, seen * confidence, drawn, size, threshold=threshold, softness=0.3))[0, 0]


def at(shown: np.ndarray, x: float, y: float) -> np.ndarray:
    column, row = skeleton.to_pixels(np.array([x, y], np.float32), *shown.shape[:2])
    return shown[int(row), int(column)]


def test_limbs_are_darker_than_joints_and_the_rest_is_black():
    shown = picture((384, 640))
    upper_arm = np.array(shapes(skeleton.BODY, face=True).colours[4])  # left shoulder to elbow, the fifth limb
    np.testing.assert_allclose(upper_arm, 0.6 * np.array([170, 255, 0]) / 255, atol=1e-6)
    np.testing.assert_allclose(at(shown, 0.5, 0.4), upper_arm, atol=0.01)
    np.testing.assert_allclose(at(shown, 0.5, 0.8), [0, 1, 0], atol=0.02)  # the elbow, the seventh
    assert at(shown, -0.9, 0.8).max() == 0 and shown.max() <= 1.0


def test_a_wide_picture_shows_the_square_one_in_its_middle():
    # A joint's place is rounded to some 1e-5 pixels, and an edge fades within .3.
    np.testing.assert_allclose(picture((96, 160))[:, 32:-32], picture((96, 96)), atol=1e-4)
    points = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    np.testing.assert_array_equal(skeleton.to_pixels(points, 64, 64), skeleton.to_pixels(points, 64))
    assert picture((96, 160))[:, :30].max() == 0


@pytest.mark.parametrize(("confidence", "threshold", "drawn"), [(0.4, 0.3, True), (0.4, 0.5, False), (0.3, 0.3, False)])
def test_what_is_not_surely_seen_is_not_drawn(confidence, threshold, drawn):
    """0.3 is DWPose's threshold, 0.5 Animate's."""
    assert (picture(confidence=confidence, threshold=threshold).max() > 0.5) == drawn


def test_a_limb_needs_both_ends():
    pose, seen = standing()
    seen[0, 0, skeleton.BODY.index("left_elbow")] = 0.0
    shown = np.asarray(draw(pose, seen, BODY, (384, 384), threshold=0.3, softness=0.3))[0, 0]
    assert at(shown, 0.5, 0.4).max() < 1e-3 and at(shown, 0.25, 0.9).max() < 1e-3 and at(shown, 0, 1).max() > 0.9


def test_hands_run_over_the_hues_with_blue_joints_and_animate_draws_no_face():
    full, without_face = shapes(JOINTS, face=True), shapes(JOINTS, face=False)
    white = (full.colours == 1).all(1)
    assert white.sum() == 68 and len(full.widths) - len(without_face.widths) == 68
    assert len(without_face.widths) == 17 + 18 + 2 * (20 + 21)
    blue = [tuple(colour) for colour in without_face.colours].count((0.0, 0.0, 1.0))
    assert blue >= 42
    np.testing.assert_array_equal(without_face.colours[35], [1, 0, 0])  # the thumb's first: hue 0
    assert len({tuple(colour) for colour in without_face.colours[35:55]}) == 20
    np.testing.assert_array_equal(shapes(("neck", "left_wrist"), face=True).ends, [[0, 0], [1, 1]])


def test_gradients_move_a_joint_towards_the_light_and_are_finite():
    pose, seen = standing()
    wrist = skeleton.BODY.index("left_wrist")
    target = pose.copy()
    target[0, 0, wrist, 0] += 0.05
    goal = draw(target, seen, BODY, (96, 96), threshold=0.3, softness=1.0)

    def distance(pose):
        return jnp.square(draw(pose, seen, BODY, (96, 96), threshold=0.3, softness=1.0) - goal).sum()

    slope = np.asarray(jax.jit(jax.grad(distance))(pose))[0, 0]
    assert slope[wrist, 0] < 0 and np.isfinite(slope).all()
    assert not slope[seen[0, 0] == 0].any()


def test_memory_of_the_backward_pass_does_not_grow_with_the_frames():
    """But for the pictures: beside the frames' pixels a few pictures' worth, of 5 frames as of 41."""
    size = (48, 80)

    def temporary(frames: int) -> float:
        pose, seen = np.zeros((1, frames, 128, 2), np.float32), np.ones((1, frames, 128), np.float32)
        drawn = shapes(JOINTS, face=True)

        def loss(pose):
            return jnp.square(draw(pose, seen, drawn, size, threshold=0.3, softness=0.5)).sum()

        compiled = jax.jit(jax.grad(loss)).lower(pose).compile()
        return compiled.memory_analysis().temp_size_in_bytes / (4 * 3 * size[0] * size[1])  # in pictures

    few, many = temporary(5), temporary(41)
    assert many - few < 4 * (41 - 5)  # the pictures and their gradients
    assert few < 150  # a frame's 185 shapes are not held at once


def test_plain_limbs_are_white():
    pose, seen = standing()
    arm = np.array([[skeleton.BODY.index("left_shoulder"), skeleton.BODY.index("left_elbow")]])
    shown = np.asarray(draw(pose, seen, plain([(arm, 0.1)]), (96, 96), threshold=0.0, softness=0.3))[0, 0]
    np.testing.assert_allclose(at(shown, 0.5, 0.4), 1.0, atol=1e-3)
    assert at(shown, 0.57, 0.4).min() > 0.85  # a pixel within the edge
    assert at(shown, 0.66, 0.4).max() < 0.01
