"""The rows of the experts' choice, by hand; the stabiliser's pose; text to pose."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from signer_jax.evaluation import Evaluation, poses
from signer_jax.evaluation.poses import (
    accuracy_figures,
    constant_expert,
    evaluate_poses,
    expert_order,
    expert_rows,
    followed_pose,
    shuffled,
)
from signer_jax.pose.prior import Entry
from signer_jax.types import Pose, Sample


def three_experts():
    """Variant 0 is the truth, performed as expert 2 does; variants 1 and 2 are the experts' 0 and 1 own ways."""
    distances = np.full((4, 3, 4), 0.9)
    for expert, variant in ((0, 1), (1, 2), (2, 0)):
        distances[expert, variant] = 0.1
    distances[3] = 0.5  # the mean pose
    mask = np.array([[True, True, True], [True, True, True], [False, True, True], [False, False, True]])
    return distances, mask, np.array([2, 2, 2, 2])


def test_rows_tell_a_right_gate_from_a_wrong_one():
    """Three experts who are all valid variants: only the distance to the followed one and the accuracy differ."""
    distances, mask, followed = three_experts()
    order = [0, 1, 2]
    right, wrong = np.tile([0.1, 0.2, 0.7], (4, 1)), np.tile([0.2, 0.7, 0.1], (4, 1))
    good, bad = (expert_rows(distances, gates, mask, followed, order) for gates in (right, wrong))
    # The last gloss has one candidate: nothing to choose there.
    assert good["expert_accuracy"] == [1, 1, 1] and bad["expert_accuracy"] == [0, 0, 0]
    np.testing.assert_allclose(good["expert_accuracy_chance"], [1 / 3, 1 / 3, 1 / 2])
    assert good["expert_accuracy_majority"] == [0, 0, 0]
    np.testing.assert_allclose(good["dtw_nearest_top_expert"], bad["dtw_nearest_top_expert"])
    np.testing.assert_allclose(good["dtw_followed_top_expert"], 0.1)
    np.testing.assert_allclose(bad["dtw_followed_top_expert"], 0.9)
    np.testing.assert_allclose(bad["dtw_followed_followed_expert"], 0.1)
    np.testing.assert_allclose(good["dtw_followed_random_expert"], [1.9 / 3, 1.9 / 3, 0.5])
    np.testing.assert_allclose(good["dtw_followed_mean_pose"], 0.5)


def test_gates_that_always_say_the_same_are_not_above_the_constant_expert():
    distances, mask, followed = three_experts()
    gates = np.tile([0.1, 0.2, 0.7], (4, 1))
    one = expert_rows(distances, gates, mask, followed, [0, 1, 2])
    # Training's most frequent expert is wrong, expert 2 is right: that is what gates have to be above.
    assert one["expert_accuracy_majority"] == [0, 0, 0] and one["expert_accuracy_always_2"] == [1, 1, 1]
    # Where expert 0 has no candidate the next in order stands in.
    np.testing.assert_allclose(one["dtw_nearest_always_0"], 0.1)
    assert one["expert_accuracy_always_0"] == [0, 0, 0]
    two = expert_rows(distances, gates, mask, np.array([2, 1, 2, 2]), [0, 1, 2])
    rows = {name: one[name] + two[name] for name in one}
    assert constant_expert(rows, 3) == 2
    assert rows["expert_accuracy_constant"] == [1, 1, 1, 1, 0, 1]
    assert len(rows["dtw_followed_constant_expert"]) == 6
    found = accuracy_figures([one, two], 2)
    assert found["expert_accuracy_over_constant"] == found["expert_accuracy_over_constant_error"] == 0
    assert found["expert_accuracy_error"] == pytest.approx(np.sqrt(2 * 2 * 0.5**2) / 6)
    # Gates that read the second sentence are above it by its one gloss of six.
    better = gates.copy()
    better[1] = [0.1, 0.7, 0.2]
    read = expert_rows(distances, better, mask, np.array([2, 1, 2, 2]), [0, 1, 2])
    assert accuracy_figures([one, read], 2)["expert_accuracy_over_constant"] == pytest.approx(1 / 6)
    assert constant_expert({f"expert_accuracy_always_{k}": [] for k in range(3)}, 3) is None
    assert accuracy_figures([], None) == {}


def test_experts_are_ordered_by_how_often_training_follows_them():
    listed = [(9, True, "b"), (9, False, "c"), (9, False, "b"), (9, False, "guest"), (9, False, "guest")]
    signer = SimpleNamespace(
        corpus=SimpleNamespace(listed=lambda split: {"train": listed}[split]),
        retrieval=SimpleNamespace(signers=["a", "b", "c"], experts=4),
    )
    assert expert_order(signer) == [1, 2, 0, 3]


def test_the_stabiliser_is_given_the_followed_expert():
    """A wrong expert's hands are far from the truth's whatever the stabiliser does; a letter stays as performed."""

    def still(level: float) -> Pose:
        return Pose(np.full((4, 128, 3), level, np.float32), np.ones((4, 128), np.float32), 16.0)

    a, b, letter = (Entry(gloss, "ase", who, source=gloss) for gloss, who in (("X", "a"), ("X", "b"), ("#A", "a")))
    levels = {a: 1.0, b: 2.0, letter: 3.0}
    prior = SimpleNamespace(pose=lambda entry: still(levels[entry]), rest=lambda name: None, fps=16.0)
    performed = SimpleNamespace(
        signs=(SimpleNamespace(slots=[a, b], gloss=0), SimpleNamespace(slots=[letter, None], gloss=1)),
        entries=(a, letter), spans=np.array([[0, 4], [4, 8]]),
    )  # fmt: skip
    pose = followed_pose(performed, np.array([1, -1]), 8, SimpleNamespace(prior=prior))
    np.testing.assert_allclose(pose.coordinates[:4], 2.0)
    np.testing.assert_allclose(pose.coordinates[4:], 3.0)


def test_another_text_is_of_the_same_language_and_says_something_else():
    told = [("a", "X Y"), ("b", "X"), ("a", "X Y"), ("a", "Z")]
    samples = [Sample(str(i), "", language, tuple(text.split())) for i, (language, text) in enumerate(told)]
    assert shuffled(samples) == [3, None, 3, 0]


def test_text_to_pose_goes_through_what_was_understood(tiny_run, monkeypatch):
    """Where the true glosses are understood, the pose is that of the true glosses; other texts' poses are farther."""
    from signer_jax import Signer

    signer = Signer.load(tiny_run)
    understand = poses.understand
    records = signer.corpus.motions("dev")
    truth = {records[i].text: records[i].glosses for i in range(len(records))}

    def understood(texts, languages, linker):
        found = understand(texts, languages, linker)
        return replace(found, sentences=tuple(replace(s, glosses=truth[texts[s.of]]) for s in found.sentences))

    monkeypatch.setattr(poses, "understand", understood)
    result = Evaluation(joints=signer.settings.pose.joints)
    evaluate_poses(signer, "dev", 4, result)
    found = result.metrics
    assert found["pose/text_dtw"] == pytest.approx(found["pose/text_dtw_true_glosses"], rel=1e-5)
    assert 0 < found["pose/text_dtw"] < found["pose/text_dtw_shuffled"]  # a run of four steps: in the demo a sixth
    assert {"pose/hand_before", "pose/hand_after", "pose/jerk_after"} <= set(found)
    assert found["pose/expert_accuracy_constant"] >= found["pose/expert_accuracy_majority"]
    # Where nothing is understood nothing is scored, and it is said how often.
    truth = dict.fromkeys(truth, ())
    again = Evaluation(joints=signer.settings.pose.joints)
    evaluate_poses(signer, "dev", 4, again)
    assert "pose/text_dtw" not in again.metrics and again.metrics["pose/text_dtw_unscored"] > 0
