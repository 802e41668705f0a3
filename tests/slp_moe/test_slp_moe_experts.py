"""Experts: features, blending and selection of candidates, and the whole of SLP-MoE."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.slp_moe.experts import SLPMoE, blend, candidate_features, top
from signer_jax.types import Pose

# Two glosses over four frames and one frame of padding; frame 2 is the transition, half and half.
FRAME_GLOSS = jnp.array([[[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 0.0]]])


def example(b=2, n=3, e=4, t=9, j=5, c=2, d=8, s=6, seed=0):
    """Random inputs of SLPMoE; gloss 1 of example 0 lacks candidate 2, the last gloss of example 1 is padding."""
    rng = np.random.default_rng(seed)
    frame_gloss = np.zeros((b, t, n), np.float32)
    for i in range(t):
        frame_gloss[:, i, i * n // t] = 1
    mask = np.ones((b, n, e), bool)
    mask[0, 1, 2] = False
    mask[1, 2] = False
    return {
        "H": rng.normal(size=(b, s, d)).astype(np.float32),
        "source_mask": np.ones((b, s), bool),
        "candidates": rng.normal(size=(b, e, t, j, c)).astype(np.float32),
        "candidate_confidence": np.ones((b, e, t, j), np.float32),
        "candidate_features": rng.normal(size=(b, n, e, 3 * j * c + j)).astype(np.float32),
        "candidate_mask": mask,
        "frame_gloss": frame_gloss,
    }


def test_blend_is_the_weighted_sum_of_the_experts():
    # One joint, one coordinate; expert 0 stands at 1, expert 1 at 5.
    candidates = jnp.stack([jnp.full((1, 5, 1, 1), 1.0), jnp.full((1, 5, 1, 1), 5.0)], axis=1)
    confidence = jnp.stack([jnp.full((1, 5, 1), 0.8), jnp.full((1, 5, 1), 0.4)], axis=1)
    weights = jnp.array([[[0.75, 0.25], [0.0, 1.0]]])
    pose, blended = blend(weights, FRAME_GLOSS, candidates, confidence)
    # Transition: 0.5·(0.75, 0.25) + 0.5·(0, 1) = (0.375, 0.625).
    np.testing.assert_allclose(pose[0, :, 0, 0], [2.0, 2.0, 0.375 + 3.125, 5.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(blended[0, :, 0], [0.7, 0.7, 0.375 * 0.8 + 0.625 * 0.4, 0.4, 0.0], rtol=1e-6)


def test_blend_leaves_out_an_expert_that_misses_the_joint():
    candidates = jnp.array([1.0, jnp.nan, 9.0]).reshape(1, 3, 1, 1, 1)
    confidence = jnp.array([1.0, 0.0, 0.5]).reshape(1, 3, 1, 1)
    weights = jnp.array([[[0.3, 0.6, 0.1]]])
    pose, blended = blend(weights, jnp.ones((1, 1, 1)), candidates, confidence)
    np.testing.assert_allclose(pose.item(), (0.3 * 1 + 0.1 * 9) / 0.4, rtol=1e-6)
    np.testing.assert_allclose(blended.item(), 0.3 * 1.0 + 0.1 * 0.5, rtol=1e-6)


def test_blend_of_nothing_is_missing_with_a_finite_gradient():
    candidates, confidence = jnp.full((1, 2, 1, 1, 1), jnp.nan), jnp.zeros((1, 2, 1, 1))

    def value(weights):
        pose, blended = blend(weights, jnp.ones((1, 1, 1)), candidates, confidence)
        return pose.sum() + blended.sum()

    result, gradient = jax.jit(jax.value_and_grad(value))(jnp.array([[[0.5, 0.5]]]))
    assert result == 0
    np.testing.assert_array_equal(gradient, np.zeros((1, 1, 2)))


def test_top_takes_one_expert_a_gloss():
    weights = jnp.array([[[0.4, 0.6], [0.7, 0.3]]])
    np.testing.assert_array_equal(top(weights), [[[0, 1], [1, 0]]])
    np.testing.assert_array_equal(top(jnp.zeros((1, 1, 2))), [[[0, 0]]])
    candidates = jnp.stack([jnp.full((1, 5, 1, 1), 1.0), jnp.full((1, 5, 1, 1), 5.0)], axis=1)
    pose, confidence = blend(top(weights), FRAME_GLOSS, candidates, jnp.ones((1, 2, 5, 1)))
    np.testing.assert_allclose(pose[0, :, 0, 0], [5.0, 5.0, 3.0, 1.0, 0.0])
    np.testing.assert_allclose(confidence[0, :, 0], [1.0, 1.0, 1.0, 1.0, 0.0])


def moving(*places: float, missing: tuple[int, ...] = ()) -> Pose:
    """One joint on a line."""
    confidence = np.ones((len(places), 1), np.float32)
    confidence[list(missing)] = 0
    return Pose(np.array(places, np.float32).reshape(-1, 1, 1), confidence, 16.0)


def test_features_of_a_steady_motion_by_hand():
    features = candidate_features(moving(0, 1, 2))
    assert features.shape == (4,) and features.dtype == np.float32
    # Frames 0, 1, 2 have u = 1/6, 3/6, 5/6.
    start, end = np.array([5, 3, 1.0]) ** 4, np.array([1, 3, 5.0]) ** 4
    place = np.array([0, 1, 2.0])
    expected = [1.0, (start * place).sum() / start.sum(), (end * place).sum() / end.sum(), 1.0]
    np.testing.assert_allclose(features, expected, rtol=1e-5)
    np.testing.assert_allclose(candidate_features(moving(7)), [7, 7, 7, 0], rtol=1e-5)


def test_features_ignore_missing_joints():
    seen = candidate_features(moving(3, 3, np.nan, 5, missing=(2,)))
    # The mean of 3, 3, 5; the one step that is shown whole, of length 0.
    np.testing.assert_allclose(seen[[0, 3]], [11 / 3, 0], rtol=1e-5)
    np.testing.assert_array_equal(candidate_features(moving(np.inf, np.inf, missing=(0, 1))), np.zeros(4))


def test_sentence_gating_gives_every_gloss_the_same_weights():
    data = example()
    model = SLPMoE(experts=4, gating="sentence", hidden=16, layers=2)
    params = jax.jit(model.init)(jax.random.key(0), **data)
    pose, confidence, weights = jax.jit(model.apply)(params, **data)
    assert pose.shape == (2, 9, 5, 2) and confidence.shape == (2, 9, 5) and weights.shape == (2, 3, 4)
    np.testing.assert_allclose(weights[0, 0], weights[0, 2], rtol=1e-6)
    without = weights[0, 0].at[2].set(0)
    np.testing.assert_allclose(weights[0, 1], without / without.sum(), rtol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=-1), [[1, 1, 1], [1, 1, 0]], rtol=1e-6)
    np.testing.assert_array_equal(confidence[1, 6:], 0)
    whole = ("H", "source_mask", "candidate_features", "candidate_mask")
    alone = jax.jit(lambda params: model.apply(params, **{name: data[name] for name in whole}, method="weigh"))(params)
    np.testing.assert_allclose(alone, weights, rtol=1e-6)


def test_gloss_gating_follows_the_gloss_query():
    data = example()
    query = np.random.default_rng(1).normal(size=(2, 3, 8)).astype(np.float32)
    model = SLPMoE(experts=4, gating="gloss", hidden=16, layers=1)
    params = jax.jit(model.init)(jax.random.key(0), **data, gloss_query=query)
    apply = jax.jit(model.apply)
    _, _, weights = apply(params, **data, gloss_query=query)
    changed = query.copy()
    changed[0, 2] += 5
    _, _, moved = apply(params, **data, gloss_query=changed)
    np.testing.assert_allclose(moved[0, :2], weights[0, :2], rtol=1e-6)
    assert np.abs(moved[0, 2] - weights[0, 2]).max() > 1e-3
    with pytest.raises(ValueError, match="gloss_query"):
        model.apply(params, **data)


def test_unknown_gating_is_refused():
    with pytest.raises(ValueError, match="'frame'"):
        SLPMoE(experts=4, gating="frame", hidden=16, layers=1).init(jax.random.key(0), **example())


@pytest.mark.parametrize(("gating", "pool"), [("sentence", 0), ("sentence", 12), ("gloss", 0)])
def test_gradients_reach_the_semantic_features_and_every_parameter(gating, pool):
    data = example()
    semantic = data.pop("H")
    target = np.random.default_rng(2).normal(size=(2, 9, 5, 2)).astype(np.float32)
    model = SLPMoE(experts=4, gating=gating, hidden=16, layers=2, pool_hidden=pool)

    def query(H):
        return H[:, :3] if gating == "gloss" else None

    params = jax.jit(model.init)(jax.random.key(0), semantic, **data, gloss_query=query(semantic))

    def loss(params, H):
        pose, _, _ = model.apply(params, H, **data, gloss_query=query(H))
        return jnp.square(pose - target).mean()

    for gradient in jax.tree.leaves(jax.jit(jax.grad(loss, argnums=(0, 1)))(params, semantic)):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


def test_bfloat16_compute_keeps_float32_parameters_and_weights():
    data = example()
    model = SLPMoE(experts=4, gating="sentence", hidden=16, layers=2, dtype=jnp.bfloat16)
    params = jax.jit(model.init)(jax.random.key(0), **data)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    exact = SLPMoE(experts=4, gating="sentence", hidden=16, layers=2)
    exact = jax.jit(exact.apply)(params, **data)[2]
    weights = jax.jit(model.apply)(params, **data)[2]
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights, exact, atol=5e-3)


@pytest.mark.parametrize(("seen", "dims"), [(1.0, 2), (1.0, 3), (0.6, 2), (0.6, 3)])
def test_a_candidates_mean_speed_is_that_of_the_plain_form(seen, dims):
    rng = np.random.default_rng(0)
    confidence = (rng.random((9, 5)) < seen).astype(np.float32)
    pose = Pose(rng.normal(size=(9, 5, dims)).astype(np.float32), confidence, 16.0)
    place, shown = np.where(confidence[..., None] > 0, pose.coordinates, 0), confidence > 0
    both = shown[1:] & shown[:-1]
    way = np.linalg.norm(place[1:] - place[:-1], axis=-1) * both
    np.testing.assert_allclose(candidate_features(pose)[-5:], way.sum(0) / np.maximum(both.sum(0), 1), rtol=1e-6)
