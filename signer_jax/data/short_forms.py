"""Short forms written out before words are looked up: "don't" is "do not", and "geht's" is "geht es".

Left as they are, they are unknown words and would be left out; without "don't" a text says the opposite.
"""

from collections.abc import Collection

from signer_jax.data.records import words_of
from signer_jax.writing import plain

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


def written_out(text: str, spoken: str, known: Collection[str]) -> tuple[str, list[str]]:
    """The `plain` text with its short forms written out, and those in it whose 's means that they own what follows,
    without it: "the mother's house" gives "the mother house" and ["mother"].

    `spoken`: "english" or "german"; texts of other languages stay, and so do words of the training texts (`known`).
    """
    text = plain(text)
    owners: list[str] = []
    for word in reversed(words_of(text)):  # from the end: the places before it stay
        if word.key in known:
            continue
        if spoken == "english":
            longer = _english(word.written)
            if longer is None and word.key.endswith("'s"):
                longer = word.written[:-2]
                owners.insert(0, longer)
        else:
            longer = _german(word.written, known) if spoken == "german" else None
        if longer is not None:
            text = text[: word.start] + longer + text[word.end :]
    return text, owners


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
