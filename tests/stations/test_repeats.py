"""How often a gloss may follow itself, and what goes beyond that."""

from signer_jax.data.builtin.corpus import sentences
from signer_jax.stations.repeats import beyond, most_in_a_row


def test_twice_or_as_often_as_training():
    assert most_in_a_row([]) == most_in_a_row([()]) == most_in_a_row([("A", "B", "A")]) == 2
    assert most_in_a_row([("A", "A"), ("B", "A", "A", "A", "A", "B", "B")]) == 4


def test_what_goes_beyond():
    assert beyond("AAABBAAAA", 2) == [2, 7, 8] and beyond("AAABBAAAA", 3) == [8] and beyond("", 2) == []
    assert beyond(["#N", "#N", "#N", "#OK", "#OK", "#OK"], 2) == [5]  # letters are what they spell


def test_no_truth_of_the_built_in_corpus_is_touched():
    assert not any(beyond(one.glosses, 2) for split in ("train", "dev", "test") for one in sentences(split, 500, 0))
