"""Paths of a warping, beside the libraries'."""

import numpy as np
import pytest
from dtaidistance import dtw_ndim
from fastdtw import dtw as library_dtw
from fastdtw import fastdtw
from scipy.spatial.distance import cdist, euclidean

from signer_jax.metrics.alignment import exact_path, fast_path
from signer_jax.pose.warping import warp

SIZES = [(1, 1), (1, 6), (6, 1), (2, 9), (9, 2), (3, 3), (17, 40), (41, 16), (64, 64), (33, 90)]


def walks(t, u, seed=0):
    rng = np.random.default_rng(seed + 100 * t + u)
    return (rng.normal(size=(n, 4)).cumsum(axis=0) for n in (t, u))


@pytest.mark.parametrize("size", SIZES)
def test_the_fast_path_is_fastdtws(size):
    for seed in range(3):
        ours, theirs = walks(*size, seed)
        _, path = fastdtw(ours, theirs, dist=euclidean)
        np.testing.assert_array_equal(fast_path(ours, theirs), path)


def test_of_equally_cheap_steps_the_librarys_are_taken():
    ours, theirs = np.ones((21, 2)), np.ones((34, 2))
    np.testing.assert_array_equal(fast_path(ours, theirs), fastdtw(ours, theirs, dist=euclidean)[1])


@pytest.mark.parametrize("size", SIZES)
def test_the_exact_path_costs_what_it_should(size):
    ours, theirs = walks(*size)
    cost = cdist(ours, theirs)
    path = exact_path(cost)
    best, _ = library_dtw(ours, theirs, dist=euclidean)
    assert cost[tuple(path.T)].sum() == pytest.approx(best) == pytest.approx(float(warp(cost)))
    assert path[0].tolist() == [0, 0] and path[-1].tolist() == [size[0] - 1, size[1] - 1]
    assert set(map(tuple, np.diff(path, axis=0).tolist())) <= {(1, 0), (0, 1), (1, 1)}
    squares = cdist(ours, theirs, "sqeuclidean")
    assert np.sqrt(squares[tuple(exact_path(squares).T)].sum()) == pytest.approx(dtw_ndim.distance(ours, theirs))


def test_equal_sequences_go_along_the_diagonal():
    ours, _ = walks(50, 1)
    np.testing.assert_array_equal(exact_path(cdist(ours, ours)), np.arange(50)[:, None].repeat(2, 1))
