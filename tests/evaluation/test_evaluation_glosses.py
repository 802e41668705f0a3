"""How often doubt is right, by hand; the nearest training text."""

from signer_jax.evaluation.glosses import doubt_figures, nearest_training
from signer_jax.types import Sample


def test_doubt_by_hand():
    figures = doubt_figures([True, True, False, False, False], [True, False, True, True, False])
    assert figures == {"gloss/doubted": 0.4, "gloss/doubt_precision": 0.5, "gloss/doubt_recall": 1 / 3}
    assert doubt_figures([False, False], [False, True]) == {"gloss/doubted": 0.0, "gloss/doubt_recall": 0.0}
    assert doubt_figures([True], [False]) == {"gloss/doubted": 1.0, "gloss/doubt_precision": 0.0}


def test_the_nearest_text_is_of_the_language_and_not_its_own_record():
    bank = [Sample("1", "the house is old", "ase"), Sample("2", "the old house", "ase"), Sample("3", "haus", "gsg")]
    assert nearest_training([Sample("9", "the house is old", "ase")], bank) == [0]
    asked = [bank[0], Sample("3", "haus", "gsg"), Sample("4", "ein haus", "gsg"), Sample("5", "maison", "fsl")]
    assert nearest_training(asked, bank) == [1, None, 2, None]
