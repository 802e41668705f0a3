"""How a word is written with the letters that a language has signs for: letters with marks by their convention."""

import unicodedata
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_GERMAN = str.maketrans({"Ä": "AE", "Ö": "OE", "Ü": "UE", "ẞ": "SS"})
# Letters that Unicode does not take apart into a plain one and a mark, as passports write them (ICAO 9303-3).
_PASSPORT = str.maketrans({"Ł": "L", "Đ": "D", "Ø": "OE", "Æ": "AE", "Œ": "OE", "Þ": "TH", "Ð": "D", "ẞ": "SS",
                           "Ŋ": "N", "Ħ": "H", "Ŧ": "T", "İ": "I", "Ə": "E"})  # fmt: skip

# Several letters that an alphabet has one sign for: in those of spoken-to-signed-translation's recordings (19
# languages; of these the German, Swiss, Spanish, Mexican, Czech, Slovak, Croatian and Jordanian). A word of a lexicon
# (IN, OK) is no letter of a longer one. Letters twice on end (Italian: BB) may have a sign too.
_TOGETHER = frozenset(("SCH", "CH", "LL", "RR", "LJ", "NJ", "DŽ", "ال", "لا"))


def letters_of(word: str, sign: Callable[[str], T | None], spoken: str | None = None) -> list[tuple[str, T]] | None:
    """The signs of a word's letters and digits, each with what it stands for, by `sign` of one letter in upper case or
    of several that are signed as one (SCH), of which the longest is taken.

    A letter without a sign is written otherwise by itself (`spellings`: Ü as UE); None where that has no signs either,
    or nothing is to be spelled.
    """
    letters = next(iter(spellings(word, spoken)), "")
    found: list[tuple[str, T]] = []
    i = 0
    while i < len(letters):
        for n in (3, 2):
            several = letters[i : i + n]
            is_one = len(several) == n and (several in _TOGETHER or (n == 2 and several == several[0] * 2))
            if is_one and several.isalpha() and (one := sign(several)) is not None:
                found.append((several, one))
                i += n
                break
        else:
            for form in spellings(letters[i], spoken):
                signs = [(letter, one) for letter in form if (one := sign(letter)) is not None]
                if len(signs) == len(form):
                    found += signs
                    break
            else:
                return None
            i += 1
    return found or None


def are_alike(gloss: str, letters: str, spoken: str | None = None) -> bool:
    """Whether a gloss is written with these letters, in whatever case: ß and SS are not alike."""
    return spellings(gloss, spoken)[:1] == spellings(letters, spoken)[:1]


def spellings(word: str, spoken: str | None = None) -> tuple[str, ...]:
    """The ways to write a word's letters and digits, each once, the nearest to the word first: as it stands, Ü as UE in
    German and where the spoken language is not said, and without any mark (É as E, Ł as L). In Turkish i is İ in upper
    case. Empty where it has neither letters nor digits.
    """
    composed = unicodedata.normalize("NFC", word).replace("ß", "ẞ")
    composed = composed.replace("i", "İ") if spoken == "turkish" else composed
    upper = "".join(letter for letter in composed.upper() if letter.isalnum())
    german = upper.translate(_GERMAN) if spoken in (None, "german") else upper
    parts = unicodedata.normalize("NFKD", german.translate(_PASSPORT))
    bare = "".join(letter for letter in parts if letter.isalnum())
    return tuple(dict.fromkeys(form for form in (upper, german, bare) if form))


def unspellable(word: str, has: Callable[[str], bool], spoken: str | None = None) -> tuple[str, ...]:
    """The letters of a word, each once, that are not there (`has`) in any way to write them."""
    letters = dict.fromkeys(next(iter(spellings(word, spoken)), ""))
    return tuple(letter for letter in letters if not any(all(map(has, form)) for form in spellings(letter, spoken)))
