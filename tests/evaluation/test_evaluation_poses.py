"""The rows of the experts' choice, by hand."""

import numpy as np

from signer_jax.evaluation.poses import expert_rows


def test_rows_tell_a_right_gate_from_a_wrong_one():
    """Three experts who are all valid variants: only the distance to the followed one and the accuracy differ."""
    # Variant 0 is the truth, performed as expert 2 does; variants 1 and 2 are the experts' 0 and 1 own ways.
    distances = np.full((4, 3, 4), 0.9)
    for expert, variant in ((0, 1), (1, 2), (2, 0)):
        distances[expert, variant] = 0.1
    distances[3] = 0.5  # the mean pose
    mask = np.array([[True, True, True], [True, True, True], [False, True, True], [False, False, True]])
    followed = np.array([2, 2, 2, 2])
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
