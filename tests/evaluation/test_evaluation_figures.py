"""Means over what could be scored; what could not is counted; how sure a mean is."""

import numpy as np
import pytest

from signer_jax.data.streams import spread
from signer_jax.evaluation.figures import differences, error_of, means, ratio_error, standard_error


def test_one_nan_does_not_take_the_mean_away():
    found = means({"a": [1.0, float("nan"), 3.0], "b": [2.0], "c": [float("nan")] * 2, "d": []})
    assert found == {"a": 2.0, "a_unscored": 1.0, "b": 2.0, "c_unscored": 2.0}


def test_what_is_scored_is_spread_over_all():
    np.testing.assert_array_equal(spread(10, 4), [0, 3, 6, 9])
    np.testing.assert_array_equal(spread(3, 8), [0, 1, 2])
    assert len(spread(0, 4)) == 0


def test_a_sentence_counts_as_one_draw():
    """Values that come in groups of equals say no more than one of each; alone it is the textbook's error."""
    alone = [[0.0], [1.0], [1.0], [0.0], [1.0]]
    textbook = np.std([0, 1, 1, 0, 1], ddof=1) / np.sqrt(5)
    assert standard_error(alone) == pytest.approx(textbook)
    assert standard_error([group * 3 for group in alone]) == pytest.approx(textbook)
    # Of unequal groups, by hand: mean 3/4, what is left .25 · 3 - … = (3 - 9/4, 0 - 3/4).
    assert standard_error([[1, 1, 1], [0]]) == pytest.approx(np.sqrt(2 * (0.75**2 + 0.75**2)) / 4)
    assert np.isnan(standard_error([[1.0, 0.0], []]))


def test_a_ratio_of_sums_over_clips():
    """A clip that weighs more counts for more; clips of one ratio leave nothing to be unsure of."""
    assert ratio_error([1.0, 2.0], [2.0, 4.0]) == 0
    # By hand: the ratio is 1/2, what is left 1 - 2/2 · … = (0, 1, -1).
    assert ratio_error([1, 2, 0], [2, 2, 2]) == pytest.approx(np.sqrt(3 / 2 * 2) / 6)
    assert np.isnan(ratio_error([1.0], [2.0])) and np.isnan(ratio_error([1.0, 1.0], [0.0, 0.0]))


def test_pairs_are_compared_with_what_they_share():
    """What both share is no doubt of their difference; what could not be scored is no pair."""
    own, other = [[5.0, 1.0], [9.0]], [[4.0, 0.0], [8.0]]
    assert differences("a", own, other) == {"a": 1.0, "a_error": 0.0}
    assert differences("a", [[1.0, np.nan], [2.0]], [[0.0, 0.0], [np.nan]]) == {"a": 1.0}
    assert differences("a", [[np.nan]], [[0.0]]) == {}
    assert error_of("a", [[1.0, np.nan], [0.0]]) == {"a_error": pytest.approx(0.5)} and error_of("a", [[1.0]]) == {}
