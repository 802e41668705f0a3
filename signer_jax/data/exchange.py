"""Words that stand for one another, exchanged in a text and in its glosses: another number, weekday or direction.

Meant to have them read where they stand, not guessed by what is usual there. (Substitution of aligned words as
augmentation: Fadaee et al. 2017; there by a language model, here within kinds of words that somebody lists.)
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from signer_jax.errors import SignerError
from signer_jax.types import Sample


class Kind(NamedTuple):
    """Words that stand for one another."""

    language: str  # of the texts that it is of, "" for all
    glosses: dict[str, tuple[str, ...]]  # of each word, in lower case


def kinds(written: Sequence[str]) -> tuple[Kind, ...]:
    """What stands in `config.data.exchange.words`, a kind a string: "gsg: mai=MAI juni=JUNI", the sign language's code
    first where it is of one alone, several glosses of a word joined by "+".

    Raises:
        SignerError: no word and gloss about an equals sign, a word twice in a kind, or a kind of one word.
    """
    found = []
    for line in written:
        language, colon, entries = line.rpartition(":")
        kind = Kind(language.strip() if colon else "", {})
        for entry in entries.split():
            word, _, gloss = entry.partition("=")
            glosses = tuple(gloss.split("+"))
            if not (re.fullmatch(r"\w+", word) and all(glosses)) or word.lower() in kind.glosses:
                raise SignerError(
                    f"config.data.exchange.words: {entry!r} in {line[:60]!r}: give each word once, with its glosses: "
                    "'gsg: mai=MAI juni=JUNI', 'vier=VIER vierundzwanzig=VIER+ZWANZIG'"
                )
            kind.glosses[word.lower()] = glosses
        if len(kind.glosses) < 2:
            raise SignerError(f"config.data.exchange.words: {line[:60]!r}: a kind has two words or more")
        found.append(kind)
    return tuple(found)


def exchanged(sample: Sample, kinds: Sequence[Kind], share: float, rng: np.random.Generator) -> Sample:
    """`sample` with each word of a kind that text and glosses have equally often replaced with probability `share`, by
    one that neither has; all of the kind that are left are as likely. A first letter stays as large as it was.
    """
    pieces, glosses = re.split(r"(\w+)", sample.text), list(sample.glosses)
    for language, of in kinds:
        said = Counter(piece.lower() for piece in pieces if piece.lower() in of)
        if not said or language not in ("", sample.language):
            continue
        spans = _spans(glosses, of)
        signed = Counter(glosses for _, glosses in spans)
        others = [word for word in of if word not in said and of[word] not in signed]
        alone = Counter(of[word] for word in said)  # of two words with one gloss nothing tells which a gloss is of
        new: dict[str, str] = {}
        for word, count in said.items():
            equal = signed[of[word]] == count and alone[of[word]] == 1
            if equal and others and rng.random() < share:
                new[word] = others.pop(rng.integers(len(others)))
        pieces = [_as_large(new.get(piece.lower(), piece), piece) for piece in pieces]
        becomes = {of[old]: of[word] for old, word in new.items()}
        for start, old in reversed(spans):
            glosses[start : start + len(old)] = becomes.get(old, old)
    return replace(sample, text="".join(pieces), glosses=tuple(glosses))


def _as_large(word: str, old: str) -> str:
    return word[:1].upper() + word[1:] if old[:1].isupper() else word


def _spans(glosses: Sequence[str], glosses_of: Mapping[str, tuple[str, ...]]) -> list[tuple[int, tuple[str, ...]]]:
    """Where glosses of the kind begin, from left to right, the longest that a place has."""
    known, longest = set(glosses_of.values()), max(map(len, glosses_of.values()))
    spans, start = [], 0
    while start < len(glosses):
        here = (tuple(glosses[start : start + n]) for n in range(longest, 0, -1))
        if found := next((some for some in here if some in known), None):
            spans.append((start, found))
        start += len(found or "_")
    return spans
