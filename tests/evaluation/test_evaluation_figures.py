"""Means over what could be scored; what could not is counted."""

from signer_jax.evaluation.figures import means


def test_one_nan_does_not_take_the_mean_away():
    found = means({"a": [1.0, float("nan"), 3.0], "b": [2.0], "c": [float("nan")] * 2, "d": []})
    assert found == {"a": 2.0, "a_unscored": 1.0, "b": 2.0, "c_unscored": 2.0}
