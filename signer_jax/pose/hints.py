"""Which gloss somebody may have meant."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from signer_jax.errors import closest

_NEAR = 20  # glosses that are compared with an unknown word, letter by letter


class Near:
    """Near glosses of an unknown word: only those that share most pairs of letters with it are compared with it, since
    a comparison with each of ten thousand takes a tenth of a second.
    """

    def __init__(self, glosses: Sequence[str]) -> None:
        self._having: dict[str, list[str]] = defaultdict(list)
        for gloss in glosses:
            for pair in _pairs(gloss):
                self._having[pair].append(gloss)

    def hint(self, word: str) -> str:
        word = word.upper()
        shared: Counter[str] = Counter()
        for pair in _pairs(word):
            shared.update(self._having.get(pair, ()))
        return closest(word, [gloss for gloss, _ in shared.most_common(_NEAR)])


def _pairs(word: str) -> set[str]:
    """Its pairs of neighbouring letters, the ends among them."""
    return {a + b for a, b in pairwise(f"<{word}>")}
