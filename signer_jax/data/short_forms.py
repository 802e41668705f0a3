"""Short forms written out before words are looked up: "don't" is "do not", "geht's" is "geht es", and "3" is "three".

Left as they are, they are unknown words and would be left out; without "don't" a text says the opposite.
"""

import re
from collections.abc import Collection

from signer_jax.data.numbers import number_words
from signer_jax.writing import Word, plain, words_of

_WITH_NOT = frozenset({
    "do", "does", "did", "is", "are", "was", "were", "has", "have", "had", "can", "could", "will", "would",
    "must", "should", "need", "might", "may", "dare", "ought",
})  # fmt: skip
_IRREGULAR = {"can't": "can not", "cant": "can not", "cannot": "can not", "won't": "will not", "wont": "will not",
              "shan't": "shall not", "ain't": "is not", "let's": "let us", "im": "I am", "ive": "I have",
              "youre": "you are", "theyre": "they are"}  # fmt: skip
_ENDINGS = {"m": "am", "re": "are", "ve": "have", "ll": "will", "d": "would"}
_BEFORE_IS = frozenset({
    "it", "he", "she", "that", "this", "there", "here", "what", "who", "where", "when", "why", "how",
    "everything", "everybody",
})  # fmt: skip
# What stands around digits that count something: not 3.5, 10:30, 1/2, -3, #3 nor 5 %.
_BEFORE = re.compile(r"(?:^|[\s(\['\"])$")
_AFTER = re.compile(r"[\])'\"]*[,;:!?.]*[\])'\"]*(?:$|\s)(?!\s*%)")


def written_out(text: str, spoken: str, known: Collection[str]) -> tuple[str, list[str]]:
    """The `plain` text with its short forms written out, and those in it whose 's means that they own what follows,
    without it: "the mother's house" gives "the mother house" and ["mother"].

    `spoken`: "english" or "german"; texts of other languages stay, and so do words of the training texts (`known`).
    A number in digits becomes the word for it where that is known; else it stays, to be spelled.
    """
    text = plain(text)
    owners: list[str] = []
    for word in reversed(words_of(text)):  # from the end: the places before it stay
        if word.key in known:
            continue
        longer: str | None
        if word.written.isdecimal():
            longer = _counted(text, word, spoken, known)
        elif spoken == "english":
            longer = _english(word.written)
            if longer is None and word.key.endswith("'s"):
                longer = word.written[:-2]
                owners.insert(0, longer)
        else:
            longer = _german(word.written, known) if spoken == "german" else None
        if longer is not None:
            text = text[: word.start] + longer + text[word.end :]
    return text, owners


def _counted(text: str, word: Word, spoken: str, known: Collection[str]) -> str | None:
    """The words of a number, None where they are not known, or it may be no count: a part of another number, or, with
    a full stop within the sentence, an ordinal ("am 3. Mai", "1. Open the door").
    """
    before, after = text[: word.start], text[word.end :]
    if len(word.written) > 2 or word.written != str(int(word.written)):  # "07"
        return None
    if not _BEFORE.search(before) or not _AFTER.match(after) or (after.startswith(".") and words_of(after)):
        return None
    candidates = number_words(int(word.written), spoken)
    return next((one for one in candidates if all(part.key in known for part in words_of(one))), None)


def _english(written: str) -> str | None:
    key = written.lower()
    if key in _IRREGULAR:
        return _IRREGULAR[key]
    for ending in ("n't", "nt"):
        if key.endswith(ending) and key[: -len(ending)] in _WITH_NOT:
            return f"{written[: -len(ending)]} not"
    stem, apostrophe, ending = written.rpartition("'")
    if not apostrophe or not stem:
        return None
    if ending.lower() in _ENDINGS:
        return f"{stem} {_ENDINGS[ending.lower()]}"
    return f"{stem} is" if ending.lower() == "s" and stem.lower() in _BEFORE_IS else None


def _german(written: str, known: Collection[str]) -> str | None:
    stem, apostrophe, ending = written.rpartition("'")
    return f"{stem} es" if apostrophe and ending.lower() == "s" and stem.lower() in known else None
