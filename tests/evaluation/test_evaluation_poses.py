"""The rows of the experts' choice, by hand; what is scored; the stabiliser's pose."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from signer_jax.evaluation import Evaluation
from signer_jax.evaluation.experts import Choice, choice_figures, expert_order, expert_rows, form_limit
from signer_jax.evaluation.poses import evaluate_poses, followed_pose, scorable
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


LIMIT = 0.2  # between .1, the same form, and .9, another


def choice(weights, followed=None, *, signer: str = "a") -> Choice:
    distances, mask, usual = three_experts()
    return Choice(signer, distances, weights, mask, usual if followed is None else np.array(followed))


def test_rows_tell_a_right_gate_from_a_wrong_one():
    """Three experts who are all valid variants: only the distance to the followed one and the accuracy differ."""
    order = [0, 1, 2]
    right, wrong = np.tile([0.1, 0.2, 0.7], (4, 1)), np.tile([0.2, 0.7, 0.1], (4, 1))
    good, bad = (expert_rows(choice(gates), order, LIMIT) for gates in (right, wrong))
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


def test_another_signer_of_the_same_form_is_the_wrong_signer_and_the_right_form():
    """Expert 1 signs the first gloss as expert 2 does, whom the truth follows: who chooses 1 has the form there."""
    gates = np.tile([0.2, 0.7, 0.1], (4, 1))
    one = choice(gates)
    one.distances[1, 0, 0] = 0.12
    found = expert_rows(one, [0, 1, 2], LIMIT)
    assert found["expert_accuracy"] == [0, 0, 0] and found["form_accuracy"] == [1, 0, 0]
    assert found["form_accuracy_majority"] == [0, 0, 0] and found["form_accuracy_always_1"] == [1, 0, 0]
    np.testing.assert_allclose(found["form_accuracy_random"], [2 / 3, 1 / 3, 1 / 2])
    # The followed one has the truth's form, however far its performance is.
    assert expert_rows(choice(np.tile([0, 0, 1.0], (4, 1))), [0, 1, 2], 0.01)["form_accuracy"] == [1, 1, 1]


def test_one_form_is_what_the_truths_own_signer_keeps_to():
    """19 of 20 own performances are within the limit, whatever the other experts do."""
    choices = []
    for own in np.linspace(0.1, 0.2, 20):
        one = choice(np.tile([0, 0, 1.0], (4, 1)))
        one.distances[2, 0, :3] = own
        one.distances[2, 0, 3] = 9.0  # a gloss without a choice
        choices.append(one)
    assert form_limit(choices) == pytest.approx(np.quantile(np.linspace(0.1, 0.2, 20).repeat(3), 0.95))
    unseen = choice(np.tile([0, 0, 1.0], (4, 1)))
    unseen.distances[:] = np.nan
    assert np.isnan(form_limit([unseen]))


def test_gates_that_always_say_the_same_are_not_above_the_constant_expert():
    gates = np.tile([0.1, 0.2, 0.7], (4, 1))
    one = expert_rows(choice(gates), [0, 1, 2], LIMIT)
    # Training's most frequent expert is wrong, expert 2 is right: that is what gates have to be above.
    assert one["expert_accuracy_majority"] == [0, 0, 0] and one["expert_accuracy_always_2"] == [1, 1, 1]
    # Where expert 0 has no candidate the next in order stands in.
    np.testing.assert_allclose(one["dtw_nearest_always_0"], 0.1)
    assert one["expert_accuracy_always_0"] == [0, 0, 0]
    sentences = [choice(gates), choice(gates, [2, 1, 2, 2], signer="b")]
    found, facts = choice_figures(sentences, [0, 1, 2], ["ann", "bea", "cy"])
    assert facts["expert_accuracy_constant"] == facts["dtw_followed_constant_expert"] == "cy"
    assert found["expert_accuracy_constant"] == found["expert_accuracy"] == pytest.approx(5 / 6)
    assert found["expert_accuracy_constant/b"] == pytest.approx(2 / 3) and found["glosses"] == 6
    assert found["expert_accuracy_over_constant"] == found["expert_accuracy_over_constant_error"] == 0
    assert found["dtw_followed_top_expert_over_constant"] == 0
    assert found["expert_accuracy_error"] == pytest.approx(np.sqrt(2 * 2 * 0.5**2) / 6)
    # Gates that read the second sentence are above it by its one gloss of six.
    better = gates.copy()
    better[1] = [0.1, 0.7, 0.2]
    sentences = [choice(gates), choice(better, [2, 1, 2, 2])]
    sentences[1].distances[1, 0, 1], sentences[1].distances[2, 0, 1] = (
        0.1,
        0.9,
    )  # the truth of that gloss is as he signs
    read, _ = choice_figures(sentences, [0, 1, 2], ["ann", "bea", "cy"])
    assert read["expert_accuracy_over_constant"] == read["form_accuracy_over_constant"] == pytest.approx(1 / 6)
    assert read["dtw_followed_top_expert_over_constant"] == pytest.approx(-0.8 / 6)
    assert read["dtw_followed_top_expert_over_constant_error"] == pytest.approx(0.8 / 6)
    assert choice_figures([], [0, 1, 2], []) == ({}, {})


def test_readers_of_the_text_stand_beside_the_gates():
    """One reads the second sentence rightly, the other never; an expert without a candidate gives way to the next."""
    gates = np.tile([0.1, 0.2, 0.7], (4, 1))
    sentences = [
        replace(choice(gates), readers={"nearest_text": [0, 1, 2], "word_counts": [2, 1, 0]}),
        replace(choice(gates, [2, 1, 1, 2]), readers={"nearest_text": [0, 1, 2], "word_counts": [1, 0, 2]}),
    ]
    found, _ = choice_figures(sentences, [0, 1, 2], ["ann", "bea", "cy"])
    assert found["expert_accuracy"] == pytest.approx(4 / 6)
    assert found["expert_accuracy_word_counts"] == pytest.approx(5 / 6)
    assert found["expert_accuracy_nearest_text"] == pytest.approx(1 / 6)  # expert 1 stands in for 0 in the third gloss
    assert found["expert_accuracy_over_word_counts"] == pytest.approx(-1 / 6)
    assert found["dtw_followed_word_counts_expert"] == pytest.approx((3 * 0.1 + 3 * 0.9) / 6)
    assert 0 < found["expert_accuracy_over_word_counts_error"] < 1
    without, _ = choice_figures([choice(gates)], [0, 1, 2], ["ann", "bea", "cy"])
    assert not any("word_counts" in name or "nearest_text" in name for name in without)


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
    rests: list[tuple[str, str]] = []
    levels = {a: 1.0, b: 2.0, letter: 3.0}
    prior = SimpleNamespace(
        pose=lambda entry: still(levels[entry]), rest=lambda name, without: rests.append((name, without)), fps=16.0
    )
    performed = SimpleNamespace(
        signs=(SimpleNamespace(slots=[a, b], gloss=0), SimpleNamespace(slots=[letter, None], gloss=1)),
        entries=(a, letter), spans=np.array([[0, 4], [4, 8]]),
    )  # fmt: skip
    pose = followed_pose(performed, np.array([1, -1]), 8, SimpleNamespace(prior=prior), without="own")
    assert rests == [("b", "own")]
    np.testing.assert_allclose(pose.coordinates[:4], 2.0)
    np.testing.assert_allclose(pose.coordinates[4:], 3.0)


def test_guests_take_no_places_of_what_can_be_scored():
    """Twelve sentences and two videos without a text: all twelve are scored where twelve are asked for."""
    still = Pose(np.zeros((4, 128, 3), np.float32), np.ones((4, 128), np.float32), 16.0)
    told = Sample("", "the house", "ase", ("HOUSE",), pose=still, spans=np.array([[0, 4]]))
    records = [told] * 6 + [replace(told, text="", glosses=(), spans=None)] + [told] * 6 + [replace(told, pose=None)]
    assert scorable(records, 12) == [*range(6), *range(7, 13)]
    assert scorable(records, 2) == [0, 12] and scorable(records[6:7], 2) == []


def test_no_sample_is_given_its_own_rest_pose_and_the_run_says_how_it_is_labelled(tiny_run, monkeypatch):
    """On the training split, whose first frames are the database's rest poses; gates that choose once a sentence are
    scored on the labels that they were trained on.
    """
    from signer_jax import Signer
    from signer_jax.evaluation import poses
    from signer_jax.pose.prior import Prior

    asked = []
    rest = Prior.rest

    def counted(self, signer, *, without=""):
        asked.append(without)
        return rest(self, signer, without=without)

    labels, chosen_candidates = [], poses.chosen_candidates
    monkeypatch.setattr(
        poses, "chosen_candidates", lambda *given: labels.append(given[3:]) or chosen_candidates(*given)
    )
    monkeypatch.setattr(Prior, "rest", counted)
    result = Evaluation(joints="full_128")
    evaluate_poses(Signer.load(tiny_run), "train", 3, result)
    assert set(labels) == {("sentence",)}
    assert asked and all(asked) and result.metrics["pose/sentences"] == 3
