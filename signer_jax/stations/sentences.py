"""Where the sentences of a text end: what a model is given at once is one sentence, as it was trained on.

At . ! ? … and their like in other scripts, before ¿ and ¡, and at line breaks. Not within numbers, abbreviations and
ellipses, nor behind what is quoted within a sentence.
"""

import re
from collections.abc import Collection

from signer_jax.writing import words_of

# What stands before something that belongs to it, so that its full stop ends nothing.
TITLES = frozenset({
    "dr", "mr", "mrs", "ms", "mx", "prof", "st", "rev", "hon", "sen", "gov", "gen", "col", "capt", "lt", "sgt",
    "hr", "fr", "dipl", "ing", "med", "rer", "nat", "habil",
})  # fmt: skip
_NEVER = TITLES | frozenset({
    "e.g", "eg", "i.e", "ie", "vs", "cf", "ca", "approx", "z.b", "zb", "d.h", "u.a", "u.u", "v.a", "i.d.r",
    "bzw", "vgl", "sog", "ggf", "evtl", "inkl", "exkl", "geb",
})  # fmt: skip
_BEFORE_A_NUMBER = frozenset({
    "no", "nos", "nr", "p", "pp", "s", "vol", "fig", "abb", "ch", "kap", "bd", "str", "tel", "art", "jan", "feb",
    "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "okt", "nov", "dec", "dez",
})  # fmt: skip
_MAY_END = frozenset({"etc", "usw", "usf", "jr", "sr", "inc", "ltd", "co", "corp", "st", "str", "ave", "al", "s.o"})
_DOTTED = re.compile(r"(?:\w\.)*\w")  # J, U.S, p.m
_ORDINALS_FOLLOW = frozenset({
    "am", "der", "die", "das", "dem", "den", "des", "vom", "zum", "zur", "beim", "im", "bis", "ab", "seit", "jeder",
    "jede", "jedes", "jeden", "mein", "meine", "dein", "deine", "sein", "seine", "ihr", "ihre", "unser", "unsere",
})  # fmt: skip
_MONTHS = frozenset({
    "januar", "jänner", "februar", "märz", "april", "mai", "juni", "juli", "august", "september", "oktober",
    "november", "dezember",
})  # fmt: skip
_WIDE = "。｡！？．؟۔।॥"  # of scripts that put no space behind them, or have marks of their own
_QUOTES = "\"'“”„‟«»‘’‚‹›"
_CLOSERS = _QUOTES + ")]」』）】"
_NEAR = 80  # characters on either side of a mark that say what it means
_LINES = re.compile(r"[\r\n\v\f\x85\u2028\u2029]+")
_END = re.compile(rf"([.!?…‼⁇⁈⁉{_WIDE}]+)([{re.escape(_CLOSERS)}]*)(\s*)")
_OPENS = re.compile(r"(?<=[^\s,;:(\[{«\"'¿¡–—-])\s+(?=[¿¡])")
_LAST_WORD = re.compile(r"(?:(?<!\w)\w\.\s?)*[^\s()\[\]\"“”„«»]+$")  # "z. B" is one
_INITIAL = re.compile(r"\w\.")
_WORD = re.compile(r"\w+")
_QUOTED = re.compile(r"(?<!\w)(['\"“”„«‘‚‹])(.+)(['\"“”«»‘’›])(?!\w)")
_ASKS = re.compile(r"\bsign|gebärde", re.IGNORECASE)
_PAUSE = re.compile(r"(?<=[;…])\s+|(?<=\.\.)\s+")


def sentences(text: str, spoken: str, known: Collection[str]) -> list[str]:
    """The sentences of a text, each with its own punctuation; what has no letter, digit or symbol is none.

    `spoken`: "english" or "german", whose numbers and abbreviations differ, or another. `known`: words of the language
    in lower case; a capital letter on one of them tells that a sentence begins.
    A prompt for several quoted sentences ("how do you sign 'Hello. My name is Bob.'?") asks for each of them.
    """
    asked = _QUOTED.search(text)
    if asked is not None:
        before, after = text[: asked.start(2)], text[asked.end(2) :]
        inner = _split(asked[2], spoken, known)
        if _ASKS.search(before + after) and len(inner) > 1 and len(_split(f"{before}x{after}", spoken, known)) == 1:
            return [f"{before}{one}{after}" for one in inner]
    found = _split(text, spoken, known)
    return [_paired(one) for one in found] if len(found) > 1 else found


def pauses(sentence: str) -> list[str]:
    """The parts of a sentence that is too long for the model: at ; and ellipses."""
    return [part for part in _PAUSE.split(sentence) if words_of(part)]


def _split(text: str, spoken: str, known: Collection[str]) -> list[str]:
    found: list[str] = []
    for line in _LINES.split(text):
        start = 0
        for end in _END.finditer(line):
            before = line[start : end.start()][-_NEAR:]
            if _ends(before, end, line[end.end() : end.end() + _NEAR], spoken, known):
                found.append(line[start : end.end()])
                start = end.end()
        found.append(line[start:])
    parts = [part.strip() for one in found for part in _OPENS.split(one)]
    return [part for part in parts if words_of(part)]


def _ends(before: str, end: re.Match[str], after: str, spoken: str, known: Collection[str]) -> bool:
    """Whether a sentence ends at the marks `end`; `before` and `after` are what stands beside them."""
    marks, closing, space = end.groups()
    following = after.lstrip(_QUOTES + "([¿¡ ")
    if not following or not before.strip() or before.rstrip()[-1] in "([":  # "(?)" is a remark
        return False
    if any(mark in _WIDE for mark in marks):
        return True
    first = following[0]
    goes_on = first.islower() and bool(closing)  # "Where?" she asked; "is it (really?) old"
    if any(mark not in ".…" for mark in marks):
        return not goes_on and (bool(space) or first.isupper() or after[0] in "¿¡")
    if marks != ".":  # an ellipsis
        return first.isalpha() and not first.islower()
    if goes_on:
        return False
    found = _LAST_WORD.search(before)
    word = "".join(found[0].split()).casefold() if found else ""
    next_word = found[0] if (found := _WORD.match(following)) else ""
    begins = first.isupper() and next_word.casefold() in known
    if not space and not closing:  # a space is missing, or it is an address
        return len(word) > 1 and word.isalpha() and before[-1].islower() and first.isupper()
    if word in _NEVER or (word in _BEFORE_A_NUMBER and first.isnumeric()):
        return False
    if word in _MAY_END:
        return first.isupper()
    if _DOTTED.fullmatch(word) and not word.isnumeric():  # initials; "i" is a word too
        return not _INITIAL.match(following) and (begins or word in known)
    if word.isnumeric():
        return not _goes_on_behind_number(before, word, next_word, spoken)
    return True


def _goes_on_behind_number(before: str, number: str, following: str, spoken: str) -> bool:
    """A number in a list ("1. Open the door") or, in German, an ordinal ("am 3. Mai")."""
    if not any(letter.isalnum() for letter in before.rstrip().removesuffix(number)):  # "- 1. Open", "(1. Open"
        return True
    follows = (
        before.split()[-2].casefold() in _ORDINALS_FOLLOW or following.casefold() in _MONTHS or following.islower()
    )
    return spoken == "german" and len(number) < 3 and follows


def _paired(sentence: str) -> str:
    """Without a quotation mark whose other half is in another sentence."""
    for marks in ('"“”„‟«»', "'‘’‚‹›"):
        found = [one.start() for one in re.finditer(rf"(?<!\w)[{marks}]|[{marks}](?!\w)", sentence)]
        if len(found) == 1:
            sentence = sentence[: found[0]] + sentence[found[0] + 1 :]
    return sentence
