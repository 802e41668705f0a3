"""Scores of a choice among experts, by hand."""

import numpy as np

from signer_jax.metrics.experts import first_present, of_choice, of_random_choice

MASK = np.array([[True, True, True], [False, True, True], [False, False, False]])


def test_the_most_frequent_expert_that_is_there():
    np.testing.assert_array_equal(first_present([0, 2, 1], MASK), [0, 2, -1])
    np.testing.assert_array_equal(first_present([1, 0, 2], MASK), [1, 1, -1])


def test_values_of_a_choice_and_of_chance():
    values = np.array([[3.0, 9.0, 9.0], [6.0, 2.0, 9.0], [0.0, 4.0, 9.0]])  # [e, n]
    np.testing.assert_array_equal(of_choice(values, np.array([2, 1, -1])), [0, 2, np.nan])
    np.testing.assert_array_equal(of_random_choice(values, MASK), [3, 3, np.nan])
