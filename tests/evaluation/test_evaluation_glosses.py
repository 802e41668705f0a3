"""How often doubt is right, by hand."""

from signer_jax.evaluation.glosses import doubt_figures


def test_doubt_by_hand():
    figures = doubt_figures([True, True, False, False, False], [True, False, True, True, False])
    assert figures == {"gloss/doubted": 0.4, "gloss/doubt_precision": 0.5, "gloss/doubt_recall": 1 / 3}
    assert doubt_figures([False, False], [False, True]) == {"gloss/doubted": 0.0, "gloss/doubt_recall": 0.0}
    assert doubt_figures([True], [False]) == {"gloss/doubted": 1.0, "gloss/doubt_precision": 0.0}
