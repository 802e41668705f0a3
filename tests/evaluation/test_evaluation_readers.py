"""Readers of the text that are no model: what they find where there is something to find, and nothing where not."""

from dataclasses import replace

import numpy as np
import pytest

from signer_jax.evaluation.readers import by_word_counts, performed_texts, readers
from signer_jax.types import Sample

SIGNERS = ["ann", "bea", "cy"]
EXPERT = {name: k for k, name in enumerate(SIGNERS)}
ORDER = [1, 0, 2]
CUES = {"ann": "please", "bea": "maybe", "cy": "hurry"}


def told(count: int, seed: int, name: str) -> list[Sample]:
    """Texts of common words in which one word says whose they are."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        signer = SIGNERS[rng.integers(3)]
        words = [f"w{k}" for k in rng.integers(12, size=6)]
        words.insert(int(rng.integers(7)), CUES[signer])
        made.append(Sample(f"{name}{i}", " ".join(words).capitalize() + ".", "ase", ("X",), signer))
    return made


def right(samples: list[Sample], ranked: list[list[int]]) -> float:
    return float(np.mean([row[0] == EXPERT[one.signer] for one, row in zip(samples, ranked, strict=True)]))


def test_word_counts_find_the_word_that_tells_and_nothing_in_shuffled_labels():
    bank, samples = told(300, 0, "train"), told(300, 1, "dev")
    ranked = by_word_counts(samples, bank, EXPERT, ORDER)
    assert all(sorted(row) == [0, 1, 2] for row in ranked) and right(samples, ranked) > 0.98
    names = np.random.default_rng(2).permutation([one.signer for one in bank])
    mixed = [replace(one, signer=str(name)) for one, name in zip(bank, names, strict=True)]
    assert right(samples, by_word_counts(samples, mixed, EXPERT, ORDER)) == pytest.approx(1 / 3, abs=0.12)


def test_word_counts_by_hand():
    """Two texts of ann's, one of bea's, none of cy's; the likelihoods with one added to every count."""
    bank = [Sample(str(i), text, "ase", ("X",), who) for i, (text, who) in enumerate(
        [("red red", "ann"), ("red", "ann"), ("blue", "bea")]
    )]  # fmt: skip
    asked = [Sample("q", text, "ase", ("X",)) for text in ("Red!", "blue blue", "zebra")]
    # red: ann 3/6 4/5, bea 2/6 1/3, cy 1/6 1/2. blue twice: ann 3/6 (1/5)^2, bea 2/6 (2/3)^2, cy 1/6 (1/2)^2.
    assert by_word_counts(asked, bank, EXPERT, ORDER) == [[0, 1, 2], [1, 2, 0], [0, 1, 2]]
    # Another language's words say nothing: equals stand as in the order.
    assert by_word_counts([replace(asked[0], language="gsg")], bank, EXPERT, ORDER) == [ORDER]
    # No sample is its own example: without its own text nobody signs blue, and ann has two texts.
    assert by_word_counts([bank[2]], bank, EXPERT, ORDER) == [[0, 1, 2]]


def test_readers_rank_every_expert_by_the_texts_of_those_who_are_experts():
    bank = [
        Sample("a", "red house", "ase", ("X",), "cy"),
        Sample("b", "blue house", "ase", ("X",), "ann"),
        Sample("c", "green sea", "ase", ("X",), "guest"),
    ]
    samples = [Sample("q", "red", "ase", ("X",)), Sample("r", "green sea", "gsg", ("X",))]
    found = readers(samples, bank, SIGNERS, ORDER)
    assert found[0] == {"nearest_text": [2, 1, 0], "word_counts": [2, 0, 1]}
    assert found[1] == {"nearest_text": ORDER, "word_counts": ORDER}
    assert readers(samples, bank[2:], SIGNERS, ORDER) == [{}, {}]


def test_performed_texts_hold_no_arrays(tiny_run):
    from signer_jax import Signer

    corpus = Signer.load(tiny_run).corpus
    bank, records = performed_texts(corpus), corpus.motions("train")
    assert bank and all(records[k].text == one.text and records[k].pose is not None for k, one in bank.items())
    assert all(one.pose is None and one.video is None and not one.references for one in bank.values())
