"""Texts as people type them in a hurry: words that are left out, swapped with the next or misspelt, by a rule that a
text and a share decide, so that two systems are asked the same.

Each changes `share` of a text's words, rounded, and at least one where there is one to change.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from signer_jax.writing import plain, unspaced, words_of


def dropped(text: str, share: float) -> str:
    """Words left out; the last one stays."""
    words, gaps = _words(text)
    gone = _places(text, len(words), share, most=len(words) - 1)
    return _joined([("" if place in gone else word) for place, word in enumerate(words)], gaps)


def swapped(text: str, share: float) -> str:
    """Words that stand behind the next one; none moves twice."""
    words, gaps = _words(text)
    for place in sorted(_places(text, len(words) // 2, share, most=len(words) // 2)):
        words[2 * place], words[2 * place + 1] = words[2 * place + 1], words[2 * place]
    return _joined(words, gaps)


def misspelt(text: str, share: float) -> str:
    """Words of three letters and more with two neighbouring letters exchanged, one left out or one doubled; of letters
    without spaces a row is one word here.
    """
    words = text.split()
    long = [place for place, word in enumerate(words) if sum(map(str.isalpha, word)) >= 3]
    rng = np.random.default_rng(zlib.crc32(text.encode()))
    for index in sorted(_places(text, len(long), share, most=len(long))):
        words[long[index]] = _misspelt(words[long[index]], rng)
    return " ".join(words)


NOISES: Mapping[str, Callable[[str, float], str]] = {"dropped": dropped, "swapped": swapped, "misspelt": misspelt}


def _words(text: str) -> tuple[list[str], list[str]]:
    """What stands between spaces, of letters without spaces each for itself with the punctuation behind it; and what
    stands before each: a space, or nothing.
    """
    words, gaps = [], []
    for run in text.split():
        starts = [0]
        if any(map(unspaced, run)):
            run = plain(run)
            starts += [word.start for word in words_of(run)[1:]]
        words += [run[start:end] for start, end in zip(starts, [*starts[1:], len(run)], strict=True)]
        gaps += [" ", *[""] * (len(starts) - 1)]
    return words, gaps


def _joined(words: Sequence[str], gaps: Sequence[str]) -> str:
    return " ".join("".join(gap + word for word, gap in zip(words, gaps, strict=True)).split())


def _places(text: str, count: int, share: float, most: int) -> set[int]:
    """Which of `count` places are changed: those of the text's own draw."""
    if share <= 0 or most < 1:
        return set()
    rng = np.random.default_rng(zlib.crc32(text.encode()))
    number = min(max(round(share * count), 1), most)
    return {int(place) for place in rng.permutation(count)[:number]}


def _misspelt(word: str, rng: np.random.Generator) -> str:
    """Of a letter that is not the first; the word's other letters stay, and it does not stay as it is."""
    letters = [i for i, letter in enumerate(word) if letter.isalpha()][1:]
    at = letters[int(rng.integers(len(letters)))]
    kind = int(rng.integers(3))
    if kind == 0 and at + 1 < len(word) and word[at + 1].isalpha() and word[at + 1] != word[at]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    return word[:at] + word[at] + word[at:]
