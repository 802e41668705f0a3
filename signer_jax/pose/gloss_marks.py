"""What corpora write around a gloss's name, and how to take it off.

The conventions are those of the DGS Corpus (Konrad et al. 2022: `$GEST`, `$ALPHA1:A-D-A`, `PIZZA1A^`, `NEIN1B*`; of
numbers the class says what the digit counts: `$NUM-ZEHNER1:2` is twenty, `$NUM-TEEN1:9` nineteen), of
ASLLRP (Neidle 2002: `(2h)HOUSE`, `fs-JOHN`, `#JOB`, `IX-3p:i`, `MOTHER+FATHER`, `HOUSE++`, `||`), of RWTH-PHOENIX
(`loc-NORD`, `neg-VIEL`, `__EMOTION__`), and the numbers that signbanks give variants: `GEHEN_2`, `GEHEN-2`, `GEHEN#2`.
"""

import re
from collections.abc import Iterator

_PERSON = r"(?:IX|INDEX|POSS|PRO|PRON|SELF|REFL)"  # signs whose number says a person, not a variant
_BEHIND = r"(?<=\w)[\^*~+]+$"
_AFTER = re.compile(_BEHIND)
# Each with what is left of it, the outermost first.
_MARKS = tuple(
    (re.compile(pattern), left)
    for pattern, left in (
        (r"^\(\w{1,4}\)(?=.)", ""),  # (2h)HOUSE
        (r"(?<=.)\(\w{1,4}\)$", ""),  # HOUSE(2)
        (_BEHIND, ""),  # HOUSE*, HOUSE++
        (r"^\$(?=\w)(?!(?:ALPHA|NUM)[^:]*:)", ""),
        (r"^(?!\$)([^\W\d].*?):.*$", r"\1"),  # IX-3p:i, not 12:30, nor $ALPHA1:L, which without its letter is no sign
        (r"^(?:loc|cl|poss|neg|lh|rh|ns)-(?=[^\W\d_])", ""),  # in lower case: POSS-1 is a sign
        (r"^(?:#|(?i:fs)[-_:])(?=\w{2})", ""),  # #A is a letter
        (rf"(?i)^({_PERSON}-?\d)p[ld]?$", r"\1"),
    )
)
_MOST_MARKS = 8  # of a gloss: each less is a name of its own, and a row of thousands would take gigabytes
_VARIANT = re.compile(r"(?<=[^\W\d_])[_#-]?\d+[A-Za-z]?$")
_NUMBERED_PERSON = re.compile(rf"(?i){_PERSON}[_-]?\d[A-Za-z]*")
_PRONOUN = re.compile(rf"(?i){_PERSON}(?![^\W\d_])")
_SPELLED = re.compile(r"(?i:fs[-_:]|#|\$ALPHA\d*:)(?=\w)|(?i:fs)(?=\()")
_LETTER = re.compile(r"\$ALPHA\d*:(\w)")
# By the class of a number's sign, what stands before its digit and behind. The d behind it: signed with both hands.
_NUMBER = re.compile(r"\$NUM-(EINER|TEEN|ZEHNER|HUNDERTER)\d*[A-Z]?:(\d)d?")
_CLASSES = {"EINER": ("", ""), "TEEN": ("1", ""), "ZEHNER": ("", "0"), "HUNDERTER": ("", "00")}
_OF_A_CLASS = re.compile(r"\$(?:ALPHA|NUM)[^:]*:")
_ASCII_MARKS = r"[!-/:-@\[-`{-~]+"
_NO_SIGN = re.compile(r"__\w+__|<[^<>]*>|\[[^\[\]]*\]|\{[^{}]*\}|\(\d?[hH]\)|" + _ASCII_MARKS)
_POINTS = {"ix": "INDEX", "index": "IX"}  # two names of pointing


def is_mark(word: str) -> bool:
    """Whether a word is a mark of prosody or of the face, no sign: `||`, `__EMOTION__`, `<neg>`, `(2h)`."""
    return _NO_SIGN.fullmatch(word) is not None


def spelled(gloss: str) -> str:
    """What a gloss that is marked as fingerspelled spells (`fs-ADA`, `#ADA`, `$ALPHA1:A-D-A`); "" for another."""
    match = _SPELLED.match(gloss)
    return gloss[match.end() :].strip("()") if match else ""


def shown(gloss: str) -> str:
    """The letter or the number that a gloss of the DGS Corpus is a sign of: L of `$ALPHA1:L`, 40 of `$NUM-ZEHNER1:4`;
    "" for another, as for a class of numbers that is not one of ones, teens, tens and hundreds.
    """
    gloss = _AFTER.sub("", gloss)
    if match := _LETTER.fullmatch(gloss):
        return match[1]
    match = _NUMBER.fullmatch(gloss)
    if not match or (match[2] == "0" and match[1] != "EINER"):
        return ""
    before, behind = _CLASSES[match[1]]
    return before + match[2] + behind


def is_letter_or_number(gloss: str) -> bool:
    """Whether a gloss is of those of the DGS Corpus that say behind a colon which letters or number they show."""
    return _OF_A_CLASS.match(gloss) is not None


def names(gloss: str) -> Iterator[str]:
    """A gloss with a mark less each time, down to the name of its sign. What is negated, or names another person, is
    no other sign's variant.
    """
    for _ in range(_MOST_MARKS):
        if gloss.startswith("neg-") or _NUMBERED_PERSON.fullmatch(gloss):
            break
        if (less := _peeled(gloss)) == gloss:
            less = _VARIANT.sub("", gloss)
        if less == gloss:
            return
        yield (gloss := less)
    if (less := _peeled(gloss)) != gloss and not gloss.startswith("neg-"):
        yield less


def bases(gloss: str) -> Iterator[str]:
    """The glosses to look for in a gloss's place, the nearest first: with a mark less each time."""
    while (less := _peeled(gloss)) != gloss:
        yield (gloss := less)
    # Of two letters at least: A4 is no A.
    if len(less := _VARIANT.sub("", gloss)) > 1 and less != gloss:
        yield (gloss := less)
    if (other := shown(gloss)) or (other := _POINTS.get(gloss.lower(), "")):
        yield other


def is_pronoun(gloss: str) -> bool:
    """Whether a gloss is a name of pointing (IX, POSS-3p), which nobody spells."""
    return _PRONOUN.match(gloss) is not None


def alternatives(gloss: str) -> list[str]:
    """The glosses of `house/home`; empty for another."""
    parts = gloss.split("/")
    return parts if len(parts) > 1 and all(any(map(str.isalpha, part)) for part in parts) else []


def parts(gloss: str) -> list[str]:
    """What a compound is made of: parted at `+` and `^`, or else at `-` and `_`; empty for another."""
    for between in (r"[+^]+",) if is_letter_or_number(gloss) else (r"[+^]+", r"[-_]+"):
        found = [part for part in re.split(between, gloss) if part]
        if len(found) > 1:
            return found
    return []


def lost(gloss: str) -> str:
    """What a sign of the base lacks of a marked gloss's meaning, as a reader must know; mostly ""."""
    return ", WITHOUT ITS NEGATION" if re.match(r"(?:\(\w+\))?neg-", gloss) else ""


def _peeled(gloss: str) -> str:
    for mark, left in _MARKS:
        if (less := mark.sub(left, gloss)) != gloss:
            return less
    return gloss
