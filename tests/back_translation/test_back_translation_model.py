"""The sign-to-text model and its losses: formulas by hand, padding that changes nothing, the size at the defaults."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from signer_jax.back_translation import losses, model
from signer_jax.configuration import shipped
from signer_jax.pose.skeleton import SUBSETS
from signer_jax.slul.t5 import T5
from signer_jax.validation import read

JOINTS = SUBSETS["signing_74"]


def tiny(**changes) -> model.SignTranslator:
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
    c = shipped("default")
    c.back_translation.update(sizes | changes)
    return model.build(read(c).back_translation, "float32", pieces=11, glosses=3, languages=2)


def test_a_hands_joints_are_seen_from_its_wrist_and_the_face_from_the_nose():
    names = ("nose", "left_shoulder", "right_eye", "left_hand_wrist_root", "left_hand_thumb_1")
    anchor = model.anchors(names)
    assert anchor.tolist() == [-1, -1, 0, -1, 3]
    points = np.array([[0.0, -1.0], [0.5, 0.0], [0.1, -1.2], [1.0, 1.0], [1.25, 0.75]], np.float32)
    seen = np.ones((1, 5), np.float32)
    features = np.asarray(model.frame_features(points[None], seen, anchor)).reshape(5, 2)
    np.testing.assert_allclose(features, [[0, -1], [0.5, 0], [0.4, -0.8], [1, 1], [1, -1]], atol=1e-6)
    # ---- A joint that is missing is 0, and so is one that is measured from it ------------------------------------
    seen[0, 3] = 0
    points[3] = np.nan
    features = np.asarray(model.frame_features(points[None], seen, anchor)).reshape(5, 2)
    np.testing.assert_allclose(features, [[0, -1], [0.5, 0], [0.4, -0.8], [0, 0], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("subset", SUBSETS)
def test_every_subset_has_the_joints_that_others_are_measured_from(subset):
    names = SUBSETS[subset]
    anchor = model.anchors(names)
    alone = [name for name, at in zip(names, anchor, strict=True) if at < 0]
    assert all("wrist_root" in name or name in model.skeleton.BODY[:14] for name in alone)


def test_what_lies_behind_a_pose_changes_nothing():
    module = tiny()
    rng = np.random.default_rng(0)
    frames, valid = 9, np.arange(9)[None] < 5
    points = rng.normal(size=(1, frames, len(JOINTS), 2)).astype(np.float32)
    seen, language = np.ones((1, frames, len(JOINTS)), np.float32), np.array([1])
    given = points, seen, valid, language
    params = module.init(jax.random.key(0), *given, np.zeros((1, 3), np.int32))
    H, mask = module.apply(params, *given, method="encode")
    assert H.shape == (1, 5, 8) and mask.tolist() == [[True, True, True, False, False]]  # ceil(5 / 2) steps
    other = points.copy()
    other[:, 5:] = 7.0
    again, _ = module.apply(params, other, seen, valid, language, method="encode")
    short, few = module.apply(params, points[:, :5], seen[:, :5], valid[:, :5], language, method="encode")
    np.testing.assert_allclose(again[:, :3], H[:, :3], atol=1e-6)
    assert few.all()
    np.testing.assert_allclose(short, H[:, :3], atol=1e-5)
    told, _ = module.apply(params, points, seen, valid, np.array([0]), method="encode")
    assert np.abs(np.asarray(told - H)[:, :3]).max() > 1e-4  # another language's signs are read otherwise


def test_words_and_frames_go_through_one_encoder():
    t5 = T5(7, 8, 4, 8, 2, 1, 1, 32, 128, "gated-gelu", True, False, 0.0)
    source = jnp.array([[3, 4, 1, 0]])
    params = t5.init(jax.random.key(0), source, jnp.zeros((1, 2), jnp.int32))
    embedded = params["params"]["token_embedding"]["embedding"][source]
    H = t5.apply(params, source, method=T5.encode)
    np.testing.assert_array_equal(H, t5.apply(params, embedded, source != 0, method=T5.encode_embedded))


def test_the_model_of_the_defaults_is_small():
    settings = read(shipped("default"))
    module = model.build(settings.back_translation, "float32", pieces=1000, glosses=330, languages=3)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *model.example(settings.back_translation)))
    flat = flatten_dict(shapes["params"], sep="/")
    assert 3e5 < sum(leaf.size for leaf in flat.values()) < 8e5
    assert not [name for name in flat if name.startswith("t5/lm_head")]  # tied


# ---- Losses ----------------------------------------------------------------------------------------------------------


def test_the_gloss_loss_is_ctcs():
    """Two steps, one gloss: it is said at both, or beside a blank."""
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    logits = jnp.log(jnp.array([probabilities, probabilities, probabilities, probabilities]))
    steps = jnp.array([[True, True]] * 4)
    classes = jnp.array([[1, 0], [0, 0], [1, 1], [2, 1]])
    loss, there = losses.gloss_loss(logits, steps, classes)
    one = 0.3 * 0.6 + 0.5 * 0.6 + 0.3 * 0.1
    both = 0.2 * 0.6  # gloss 2, then gloss 1
    np.testing.assert_allclose(loss, [-np.log(one), 0, 0, -np.log(both) / 2], rtol=1e-4)
    # ---- None of no glosses, nor of two that are the same on two steps: a blank has no room between them ----------
    assert there.tolist() == [True, False, False, True]
    assert losses.gloss_loss(logits, jnp.array([[True, False]] * 4), classes)[1].tolist() == [True, False, False, False]


def test_no_gradient_comes_from_what_ctc_cannot_say():
    logits = jnp.zeros((1, 2, 3))
    gradient = jax.grad(lambda x: losses.gloss_loss(x, jnp.ones((1, 2), bool), jnp.array([[1, 1, 2]]))[0].sum())(logits)
    assert np.isfinite(gradient).all() and not np.asarray(gradient).any()


def test_the_text_loss_is_of_the_pieces_up_to_the_end():
    logits = jnp.log(jnp.array([[[0.1, 0.6, 0.3], [0.2, 0.5, 0.3], [0.9, 0.05, 0.05]]]))
    np.testing.assert_allclose(
        losses.text_loss(logits, jnp.array([[2, 1, 0]])), [-(np.log(0.3) + np.log(0.5)) / 2], rtol=1e-5
    )


def test_the_best_path_says_a_gloss_once_and_again_after_a_blank():
    logits = np.eye(4)[[0, 2, 2, 0, 2, 3, 3, 1]]
    assert losses.best_path(logits, np.ones(8, bool)) == [1, 1, 2, 0]
    assert losses.best_path(logits, np.arange(8) < 4) == [1]
    assert losses.best_path(logits, np.zeros(8, bool)) == []
