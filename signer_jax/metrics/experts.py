"""Scores of a choice among experts, beside the choices that give it meaning (numpy, offline; PAPER 2.3).

An expert is right where it is the one that the ground truth follows. A distance to the nearest of all valid variants
cannot tell experts apart when each of them is a valid variant; the distance to the followed one can.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int


def first_present(order: Sequence[int], present: Bool[np.ndarray, "n e"]) -> Int[np.ndarray, " n"]:
    """For each gloss the first expert of `order` (all experts, the most frequent first) that has a candidate; -1: none.

    The best that can be done without reading the text.
    """
    ranked = present[:, list(order)]
    return np.where(ranked.any(axis=1), np.asarray(order)[ranked.argmax(axis=1)], -1)


def of_choice(values: Float[np.ndarray, "e n"], choice: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Each gloss's value of the chosen expert; NaN where the choice is -1."""
    taken = np.take_along_axis(values, np.maximum(choice, 0)[None], axis=0)[0]
    return np.where(choice >= 0, taken, np.nan)


def of_random_choice(values: Float[np.ndarray, "e n"], present: Bool[np.ndarray, "n e"]) -> Float[np.ndarray, " n"]:
    """Each gloss's mean over the experts that have a candidate: what a random expert gets; NaN where there is none."""
    count = present.sum(axis=1)
    total = np.where(present.T, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
