"""The soft rasteriser: what it draws by hand, and its written-out gradient against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.pose import rasterise as module
from signer_jax.pose import skeleton
from signer_jax.pose.rasterise import rasterise

GROUPS = [("one", np.array([[0, 1]], np.int32), 0.1), ("two", np.array([[1, 2], [2, 3]], np.int32), 0.15)]


def _by_hand(coordinates, confidence, groups, size, softness):
    """The docstring's formula in float64, pixel by pixel."""
    points = coordinates.astype(np.float64) * size / skeleton.VIEW_SIDE
    points = points + np.array([size / 2, skeleton.VIEW_TOP * size / skeleton.VIEW_SIDE])
    picture = np.zeros((size, size, len(groups)))
    for g, (_, pairs, width) in enumerate(groups):
        for y in range(size):
            for x in range(size):
                clear = 1.0
                for a, b in pairs:
                    pixel, ab = np.array([x + 0.5, y + 0.5]), points[b] - points[a]
                    along = np.clip((pixel - points[a]) @ ab / max(ab @ ab, 1e-9), 0, 1)
                    distance = np.linalg.norm(pixel - points[a] - along * ab)
                    edge = 1 / (1 + np.exp(-(width * size / skeleton.VIEW_SIDE - distance) / softness))
                    clear *= 1 - min(confidence[a], confidence[b]) * edge
                picture[y, x, g] = 1 - clear
    return picture


def _pose(seed: int = 0):
    rng = np.random.default_rng(seed)
    coordinates = rng.uniform(-0.8, 0.8, (4, 2)).astype(np.float32)
    return coordinates, rng.uniform(0.3, 1, 4).astype(np.float32)


def test_equals_the_formula():
    coordinates, confidence = _pose()
    drawn = rasterise(coordinates, confidence, GROUPS, 12, softness=0.7)
    np.testing.assert_allclose(drawn, _by_hand(coordinates, confidence, GROUPS, 12, 0.7), atol=2e-4)


def test_batch_axes_and_range():
    coordinates = np.stack([_pose(i)[0] for i in range(6)]).reshape(2, 3, 4, 2)
    confidence = np.ones((2, 3, 4), np.float32)
    drawn = rasterise(coordinates, confidence, GROUPS, 10)
    assert drawn.shape == (2, 3, 10, 10, 2)
    assert float(drawn.min()) >= 0 and 0.5 < float(drawn.max()) <= 1
    np.testing.assert_allclose(drawn[1, 2], rasterise(coordinates[1, 2], confidence[1, 2], GROUPS, 10), atol=1e-6)


def test_missing_joints_draw_nothing():
    coordinates, confidence = _pose()
    confidence[1] = 0
    drawn = rasterise(coordinates, confidence, GROUPS, 10)
    assert float(drawn[..., 0].max()) == 0 and float(drawn[..., 1].max()) > 0


def test_an_empty_group_is_an_empty_channel():
    joints = skeleton.SUBSETS["upper_50"]  # has no ears or jaw
    groups = skeleton.limb_groups(joints)
    drawn = rasterise(np.zeros((1, len(joints), 2)), np.ones((1, len(joints))), groups, 8)
    assert drawn.shape == (1, 8, 8, len(groups))
    empty = [i for i, (_, limbs, _) in enumerate(groups) if not len(limbs)]
    assert empty and float(drawn[..., empty].max()) == 0


@pytest.mark.parametrize("seed", range(3))
def test_gradient_equals_finite_differences(seed):
    coordinates, confidence = _pose(seed)
    size, softness = 10, 0.8
    weight = np.random.default_rng(9).normal(size=(size, size, len(GROUPS)))

    def loss(coordinates, confidence):
        return (rasterise(coordinates, confidence, GROUPS, size, softness=softness) * weight).sum()

    by_hand = lambda x, c: (_by_hand(x, c, GROUPS, size, softness) * weight).sum()  # noqa: E731
    to_coordinates, to_confidence = jax.grad(loss, (0, 1))(jnp.asarray(coordinates), jnp.asarray(confidence))
    step = 1e-5
    for i in np.ndindex(coordinates.shape):
        moved = np.zeros(coordinates.shape)
        moved[i] = step
        slope = (by_hand(coordinates + moved, confidence) - by_hand(coordinates - moved, confidence)) / (2 * step)
        assert to_coordinates[i] == pytest.approx(slope, abs=3e-3)
    for i in range(len(confidence)):
        moved = np.zeros(len(confidence))
        moved[i] = step
        slope = (by_hand(coordinates, confidence + moved) - by_hand(coordinates, confidence - moved)) / (2 * step)
        assert to_confidence[i] == pytest.approx(slope, abs=3e-3)


def test_gradients_are_finite_where_the_formula_is_not_smooth():
    # All joints on one pixel centre: limbs of no length, distance 0; full and no confidence; saturated edges.
    size = 26
    coordinates = jnp.full((4, 2), 0.05)
    for confidence in (jnp.ones(4), jnp.zeros(4)):
        grads = jax.grad(lambda x, c: rasterise(x, c, GROUPS, size, softness=0.01).sum(), (0, 1))(
            coordinates, confidence
        )
        assert all(bool(jnp.isfinite(g).all()) for g in grads)


def test_gradient_pulls_a_limb_towards_its_target():
    groups = skeleton.limb_groups(("right_elbow", "right_wrist", "right_shoulder"))
    target = jnp.array([[-0.6, 0.6], [-0.2, 0.3], [-0.5, 0.0]])
    seen = jnp.ones(3)
    wanted = rasterise(target, seen, groups, 16, softness=2.0)
    loss = jax.jit(jax.value_and_grad(lambda x: ((rasterise(x, seen, groups, 16, softness=2.0) - wanted) ** 2).mean()))
    moved = target + 0.15
    first, _ = loss(moved)
    for _ in range(150):
        moved = moved - 2.0 * loss(moved)[1]
    assert float(loss(moved)[0]) < 0.05 * float(first)


def test_a_wide_picture_shows_the_square_one_in_its_middle():
    joints = skeleton.SUBSETS["upper_50"]
    groups = skeleton.limb_groups(joints)
    rng = np.random.default_rng(0)
    pose, seen = rng.normal(0, 0.4, (2, len(joints), 2)).astype(np.float32), np.ones((2, len(joints)), np.float32)
    square, wide = rasterise(pose, seen, groups, 24), rasterise(pose, seen, groups, (24, 40))
    assert wide.shape == (2, 24, 40, len(groups))
    np.testing.assert_allclose(wide[:, :, 8:32], square, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 7), (7,), (2, 1, 5)])
def test_large_pictures_are_drawn_some_frames_at_a_time_and_the_same(monkeypatch, shape):
    joints = skeleton.SUBSETS["upper_50"]
    groups, rng = skeleton.limb_groups(joints), np.random.default_rng(0)
    pose = rng.normal(0, 0.4, (*shape, len(joints), 2)).astype(np.float32)
    seen = rng.uniform(size=pose.shape[:-1]).astype(np.float32)
    weight = rng.normal(size=(*shape, 12, 20, len(groups)))

    def both() -> tuple:
        loss = lambda pose, seen: (rasterise(pose, seen, groups, (12, 20)) * weight).sum()  # noqa: E731
        return rasterise(pose, seen, groups, (12, 20)), *jax.grad(loss, (0, 1))(pose, seen)

    whole = both()
    monkeypatch.setattr(module, "_PIXELS", 12 * 20 * 4)  # of two clips two frames each
    for one, other in zip(whole, both(), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_memory_grows_with_the_pictures_alone(monkeypatch):
    """Forward and backward: beside the frames' pictures and their gradient, of 4 frames as of 40."""
    joints, size = skeleton.SUBSETS["signing_74"], (40, 64)
    groups = skeleton.limb_groups(joints)
    monkeypatch.setattr(module, "_PIXELS", 2 * 40 * 64)

    def temporary(frames: int, gradient: bool) -> float:
        pose, seen = np.zeros((1, frames, len(joints), 2), np.float32), np.ones((1, frames, len(joints)), np.float32)
        drawn = lambda pose: rasterise(pose, seen, groups, size)  # noqa: E731
        one = jax.grad(lambda pose: jnp.square(drawn(pose)).sum()) if gradient else drawn
        compiled = jax.jit(one).lower(pose).compile()
        return compiled.memory_analysis().temp_size_in_bytes / (4 * size[0] * size[1] * len(groups))  # in pictures

    for gradient, pictures in ((False, 1.1), (True, 2.1)):
        assert temporary(40, gradient) - temporary(4, gradient) < pictures * (40 - 4)


@pytest.mark.parametrize("gradient", [False, True])
def test_a_clip_of_full_size_is_planned_in_its_pictures_memory(gradient):
    """480 × 832, 81 frames, all 128 joints, compiled and not run: never frames × limbs × pixels at once."""
    joints, size, frames = skeleton.SUBSETS["full_128"], (480, 832), 81
    groups = skeleton.limb_groups(joints)
    drawn = lambda pose, seen: rasterise(pose, seen, groups, size)  # noqa: E731
    one = jax.grad(lambda pose, seen: jnp.square(drawn(pose, seen)).sum(), (0, 1)) if gradient else drawn
    shapes = [jax.ShapeDtypeStruct((1, frames, len(joints), *more), jnp.float32) for more in ((2,), ())]
    planned = jax.jit(one).lower(*shapes).compile().memory_analysis()
    picture = 4 * frames * size[0] * size[1]  # bytes of one channel
    limbs = sum(len(pairs) for _, pairs, _ in groups)
    assert limbs > 60
    # The pictures, with the gradient their own gradient too, and some frames' work beside them.
    assert planned.temp_size_in_bytes < (2.1 if gradient else 1.1) * picture * len(groups) < 0.4 * picture * limbs


def test_the_gradient_of_all_joints_equals_finite_differences():
    """Along random directions of a whole body of 128 joints, drawn as the control picture draws it."""
    joints, size = skeleton.SUBSETS["full_128"], (24, 40)
    groups, rng = skeleton.limb_groups(joints), np.random.default_rng(0)
    pose = rng.normal(0, 0.4, (1, 2, len(joints), 2)).astype(np.float32)
    seen = rng.uniform(0.3, 0.9, pose.shape[:-1]).astype(np.float32)
    weight = rng.normal(size=(1, 2, *size, len(groups)))
    loss = jax.jit(lambda pose, seen: (rasterise(pose, seen, groups, size, softness=1.0) * weight).sum())
    to_pose, to_seen = jax.grad(loss, (0, 1))(pose, seen)

    def slope(along: list, step: float) -> float:
        ends = [float(loss(pose + sign * step * along[0], seen + sign * step * along[1])) for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * step)

    for i, gradient in enumerate((to_pose, to_seen)):
        ways = [rng.normal(size=a.shape).astype(np.float32) for a in [(pose, seen)[i]] * 12]
        told = np.array([float((gradient * way).sum()) for way in ways])
        # Few steps pass a kink (a limb over a pixel's centre, two confidences that change places), so that each slope
        # is a little off; a wrong gradient is off in all of them.
        found = np.array([slope([way, 0 * seen] if i == 0 else [0 * pose, way], 1e-3) for way in ways])
        assert np.linalg.norm(found - told) < 0.03 * np.linalg.norm(told)
