"""BPE-dropout: a word's byte pairs merged by chance, so that it is read in other pieces every time.

Rare words share pieces with frequent ones only where those are split too (Provilkov et al. 2020, arXiv 1910.13267).
"""

from collections.abc import Callable, Sequence

import numpy as np


def merged(
    symbols: Sequence[str], rank: Callable[[str], int | None], dropout: float, rng: np.random.Generator
) -> list[str]:
    """`symbols` joined, two neighbours at a time, to pieces. `rank(piece)`: the earlier a piece was learned the lower,
    None where it is none. At each turn every possible join is left out with probability `dropout`, and of the others
    the lowest is made, of equal ones the leftmost; where none is left the word stays as it is. At 0 it is byte-pair
    encoding.
    """
    word = list(symbols)
    while len(word) > 1:
        joins = [(found, i) for i in range(len(word) - 1) if (found := rank(word[i] + word[i + 1])) is not None]
        if dropout:
            kept = rng.random(len(joins)) >= dropout
            joins = [join for join, keep in zip(joins, kept, strict=True) if keep]
        if not joins:
            break
        _, i = min(joins)
        word[i : i + 2] = [word[i] + word[i + 1]]
    return word
