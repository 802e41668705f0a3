"""The nearest pose of a bank, against brute force."""

import numpy as np
import pytest

from signer_jax.pose.nearest import nearest_frames


@pytest.mark.parametrize("chunk", [3, 4096])
def test_nearest_frames_is_the_brute_force_answer(chunk):
    rng = np.random.default_rng(0)
    query, bank = rng.normal(size=(7, 5, 2)), rng.normal(size=(20, 5, 2))
    query_confidence, bank_confidence = rng.uniform(size=(7, 5)), rng.uniform(size=(20, 5))
    query_confidence[rng.uniform(size=(7, 5)) < 0.2] = 0
    bank_confidence[rng.uniform(size=(20, 5)) < 0.2] = 0
    bank[bank_confidence == 0] = np.nan
    expected = []
    for q, c in zip(query, query_confidence, strict=True):
        square = np.where(bank_confidence > 0, ((bank - q) ** 2).sum(axis=-1), 1.0)
        expected.append((square * c).sum(axis=-1).argmin())
    result = nearest_frames(query, query_confidence, bank, bank_confidence, chunk=chunk)
    np.testing.assert_array_equal(result, expected)
