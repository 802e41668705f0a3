"""One form of what typography writes in many: quotes, dashes, spaces, letters of other widths, what nobody sees;
and the words of a text in it.
"""

import re
import unicodedata
from dataclasses import dataclass

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


def words_of(text: str) -> list[Word]:
    """The words of the `plain` text: what stands between spaces and punctuation, without quotes and dashes
    around it. "don't" is one word; an emoji or a row of Chinese characters is one too.
    """
    text = plain(text)
    words = []
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        while start < end and unicodedata.category(text[start])[0] in "PC":
            start += 1
        while start < end and unicodedata.category(text[end - 1])[0] in "PC":
            end -= 1
        if start < end:
            words.append(Word(text[start:end], start, end))
    return words
