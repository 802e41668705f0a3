"""One form of what typography writes in many: quotes, dashes, spaces, letters of other widths, what nobody sees;
and the words of a text in it.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

# Before NFKC, which makes a space and a combining mark of an acute accent that somebody wrote for an apostrophe.
_ONE_FORM = str.maketrans(
    dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u2036\u301d\u301e\u301f", '"')
    | dict.fromkeys("\u2018\u2019\u201a\u201b\u2039\u203a\u2032\u2035\u00b4\u02b9\u02bb\u02bc\u055a`", "'")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u203e\ufe58\ufe63\uff0d", "-")
    | {"\u2017": "_"}
    # Of no width: a soft hyphen, joiners, marks of direction, a byte order mark within a text.
    | dict.fromkeys("\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff", "")
)


def plain(text: str) -> str:
    """NFKC, with one form of the quotes (\" and ') and dashes (-), without characters of no width."""
    return unicodedata.normalize("NFKC", text.translate(_ONE_FORM))


# Unified ideographs, their extensions and those of compatibility (Unicode 16, blocks of the script Han).
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def han_apart(text: str) -> str:
    """Each Han character as a word of its own, single spaces between words: Chinese is written without any."""
    return " ".join(_HAN.sub(r" \g<0> ", text).split())


def has_han(text: str) -> bool:
    return _HAN.search(text) is not None


_TOKEN = re.compile(r"[^\s.,;:!?\"()]+")


@dataclass(frozen=True)
class Word:
    """A word of a text: as it is written there, and its place in the `plain` text."""

    written: str
    start: int
    end: int

    @property
    def key(self) -> str:
        """What words are compared by."""
        return self.written.lower()


# How Unicode names the letters of scripts that are written without spaces between the words: its scripts Han, Hiragana,
# Katakana, Thai, Lao, Khmer and Myanmar (Unicode Standard Annex 29: words there take a dictionary).
_UNSPACED = (
    "CJK ", "IDEOGRAPHIC ", "HIRAGANA ", "KATAKANA ", "KATAKANA-HIRAGANA ", "THAI ", "LAO ", "KHMER ", "MYANMAR ",
)  # fmt: skip


@lru_cache(maxsize=1 << 15)
def unspaced(letter: str) -> bool:
    """Whether it is a letter of a script without spaces. Numerals that are letters there (四) are, digits are not."""
    return unicodedata.category(letter) in ("Lo", "Lm", "Nl") and unicodedata.name(letter, "").startswith(_UNSPACED)


def words_of(text: str) -> list[Word]:
    """The words of the `plain` text: what stands between spaces and punctuation, without quotes and dashes
    around it. "don't" is one word, an emoji is one too; in a script without spaces each letter is one, with its marks.
    """
    return [
        word
        for run in runs_of(text)
        for start, end in _apart(run.written)
        for word in _stripped(run.written[start:end], run.start + start)
    ]


def runs_of(text: str) -> list[Word]:
    """As `words_of`, but a whole row of letters without spaces is one word."""
    return [word for match in _TOKEN.finditer(plain(text)) for word in _stripped(match[0], match.start())]


def known_words(listed: Iterable[str]) -> frozenset[str]:
    """What words are compared by, of a corpus's list of them. One of before has typographic apostrophes, and whole rows
    of letters without spaces.
    """
    return frozenset(word.key for one in listed for word in words_of(one))


def as_written(words: Iterable[Word]) -> list[str]:
    """The words as they are written in their text: letters that stand beside each other without a space in one."""
    found: list[str] = []
    end = -1
    for word in words:
        if word.start == end:
            found[-1] += word.written
        else:
            found.append(word.written)
        end = word.end
    return found


def _apart(run: str) -> list[tuple[int, int]]:
    """The letters without spaces of a run, each with the marks on it, and what stands between them."""
    starts, alone = [0], False
    for place, letter in enumerate(run):
        begins = unspaced(letter)
        if place and (begins or (alone and unicodedata.category(letter)[0] != "M")):
            starts.append(place)
            alone = False
        alone = alone or begins
    return list(zip(starts, [*starts[1:], len(run)], strict=True))


def _stripped(part: str, start: int) -> list[Word]:
    """It without quotes and dashes around it; nothing where it is nothing else."""
    first, end = 0, len(part)
    while first < end and unicodedata.category(part[first])[0] in "PC":
        first += 1
    while first < end and unicodedata.category(part[end - 1])[0] in "PC":
        end -= 1
    return [Word(part[first:end], start + first, start + end)] if first < end else []
