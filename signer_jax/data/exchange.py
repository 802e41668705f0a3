"""Words that stand for one another, exchanged in a text and in its glosses: another number, weekday or direction.

A model that has seen "bis dreißig grad" a few times guesses the number by what is usual; one that has seen every number
in its place reads it. (Substitution of aligned words as augmentation: Fadaee et al. 2017; there by a language model,
here within kinds of words that somebody lists.)
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from signer_jax.errors import SignerError
from signer_jax.types import Sample

Kind = dict[str, tuple[str, ...]]  # a word in lower case -> its glosses


def kinds(written: Sequence[str]) -> tuple[Kind, ...]:
    """What stands in `config.data.exchange.words`, a kind a string: "mai=MAI juni=JUNI", glosses joined by "+".

    Raises:
        SignerError: no word and gloss about an equals sign, a word twice in a kind, or a kind of one word.
    """
    found = []
    for line in written:
        kind: Kind = {}
        for entry in line.split():
            word, _, gloss = entry.partition("=")
            glosses = tuple(gloss.split("+"))
            if not (re.fullmatch(r"\w+", word) and all(glosses)) or word.lower() in kind:
                raise SignerError(
                    f"config.data.exchange.words: {entry!r} in {line[:60]!r}: give each word once, with its glosses: "
                    "'mai=MAI juni=JUNI', 'vier=VIER vierundzwanzig=VIER+ZWANZIG'"
                )
            kind[word.lower()] = glosses
        if len(kind) < 2:
            raise SignerError(f"config.data.exchange.words: {line[:60]!r}: a kind has two words or more")
        found.append(kind)
    return tuple(found)


def exchanged(sample: Sample, kinds: Sequence[Kind], share: float, rng: np.random.Generator) -> Sample:
    """`sample` with each word of a kind that text and glosses have equally often replaced with probability `share`, by
    one that neither has; all of the kind that are left are as likely.
    """
    pieces, glosses = re.split(r"(\w+)", sample.text), list(sample.glosses)
    for kind in kinds:
        said = Counter(piece.lower() for piece in pieces if piece.lower() in kind)
        if not said:
            continue
        spans = _spans(glosses, kind)
        signed = Counter(glosses for _, glosses in spans)
        others = [word for word in kind if word not in said and kind[word] not in signed]
        alone = Counter(kind[word] for word in said)  # of two words with one gloss nothing tells which a gloss is of
        new: dict[str, str] = {}
        for word, count in said.items():
            equal = signed[kind[word]] == count and alone[kind[word]] == 1
            if equal and others and rng.random() < share:
                new[word] = others.pop(rng.integers(len(others)))
        pieces = [new.get(piece.lower(), piece) for piece in pieces]
        becomes = {kind[old]: kind[word] for old, word in new.items()}
        for start, old in reversed(spans):
            glosses[start : start + len(old)] = becomes.get(old, old)
    return replace(sample, text="".join(pieces), glosses=tuple(glosses))


def _spans(glosses: Sequence[str], kind: Kind) -> list[tuple[int, tuple[str, ...]]]:
    """Where glosses of the kind begin, from left to right, the longest that a place has."""
    known, longest = set(kind.values()), max(map(len, kind.values()))
    spans, start = [], 0
    while start < len(glosses):
        here = (tuple(glosses[start : start + n]) for n in range(longest, 0, -1))
        if found := next((some for some in here if some in known), None):
            spans.append((start, found))
        start += len(found or "_")
    return spans
