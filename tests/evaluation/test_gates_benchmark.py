"""What `tests/benchmarks/gates.py` scores the gates on, and the regression that stands beside them."""

import numpy as np
import pytest
from benchmarks import gates

from signer_jax.data.builtin.corpus import SIGNERS, read, split_of
from signer_jax.types import Sample


@pytest.mark.parametrize("split", ["dev", "test"])
def test_fresh_texts_stay_within_their_split(split, monkeypatch):
    monkeypatch.setattr(gates, "TEXTS", 60)
    samples, likeliest = gates.fresh(split, list(SIGNERS))
    assert len({(one.text, one.language) for one in samples}) == 60
    assert {split_of(read(one.text, one.language).core) for one in samples} == {split}
    right = [list(SIGNERS)[ranked[0]] == one.signer for one, ranked in zip(samples, likeliest, strict=True)]
    assert np.mean(right) > 0.7 and all(sorted(ranked) == [0, 1, 2, 3] for ranked in likeliest)


def test_the_regression_reads_words():
    train = [
        Sample(f"{i}", text, "ase", (), who) for i, (text, who) in enumerate([("the dog", "a"), ("my cat?", "b")] * 5)
    ]
    logits = gates.logistic(
        train, ["a", "b"], [Sample("x", "old dog", "ase", (), ""), Sample("y", "cat", "ase", (), "")]
    )
    assert logits.argmax(axis=1).tolist() == [0, 1]
