"""How a word is written with the letters that a language has signs for: letters with marks by their convention."""

import unicodedata
from collections.abc import Callable

_GERMAN = str.maketrans({"Ä": "AE", "Ö": "OE", "Ü": "UE", "ẞ": "SS"})
# Letters that Unicode does not take apart into a plain one and a mark, as passports write them (ICAO 9303-3).
_PASSPORT = str.maketrans({"Ł": "L", "Đ": "D", "Ø": "OE", "Æ": "AE", "Œ": "OE", "Þ": "TH", "Ð": "D", "ẞ": "SS",
                           "Ŋ": "N", "Ħ": "H", "Ŧ": "T", "İ": "I", "Ə": "E"})  # fmt: skip


def spellings(word: str) -> tuple[str, ...]:
    """The ways to write a word's letters and digits, each once, the nearest to the word first: as it stands, Ü as UE,
    and without any mark (É as E, Ł as L). Empty where it has neither letters nor digits.
    """
    composed = unicodedata.normalize("NFC", word).replace("ß", "ẞ")
    upper = "".join(letter for letter in composed.upper() if letter.isalnum())
    german = upper.translate(_GERMAN)
    parts = unicodedata.normalize("NFKD", german.translate(_PASSPORT))
    bare = "".join(letter for letter in parts if letter.isalnum())
    return tuple(dict.fromkeys(form for form in (upper, german, bare) if form))


def unspellable(word: str, has: Callable[[str], bool]) -> tuple[str, ...]:
    """The letters of a word, each once, that are not there (`has`) in any way to write them."""
    letters = dict.fromkeys(spellings(word)[:1] and spellings(word)[0])
    return tuple(letter for letter in letters if not any(all(map(has, form)) for form in spellings(letter)))
