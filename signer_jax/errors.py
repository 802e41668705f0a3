"""What the command line prints as a single line: a mistake that a user can mend, and a run that was asked to stop."""

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

RESTART = 75  # exit code of a run that was told to make room and goes on when it is started again: EX_TEMPFAIL
LOST = 69  # exit code where another process of the run is gone or hangs: EX_UNAVAILABLE; launchers count these starts
_NAME = 200  # characters of a name that others are compared with
_LONGEST = 1000  # characters of a message
MOST_MARKS = 30  # combining marks that follow one another: the bound of Unicode's Stream-Safe Text Format
# Characters that end a line, move a terminal's cursor, or turn the direction of what follows.
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


class SignerError(Exception):
    """Bad input. The message says what is wrong, where, and how to mend it, in one line.

    Messages quote names and values out of files, so that whatever is no plain text in them is shown by its number.
    """

    def __init__(self, message: object) -> None:
        text = one_line(str(message))
        half = _LONGEST // 2
        super().__init__(text if len(text) <= _LONGEST else f"{text[: half - 1]}…{text[-half:]}")


class Trouble(SignerError):
    """Nothing is wrong with the input: a disk, a network or another process was in the way, and the same command may do
    next time. Its exit code is 1, on which launchers start again.
    """


class Absent(Trouble):
    """Another process of the run did not come to where all meet: the run may go on when all are started again. Its exit
    code is `LOST`: what was saved is saved, but a machine that fails each time is not started on for ever.
    """


class Preempted(Exception):
    """A run was asked to stop and is saved. The message says where, and how it goes on, in one line."""


def one_line(text: str) -> str:
    """A text as it may be printed: line ends, control characters, lone surrogates and marks beyond the 30th of a letter
    as `\\x1b`, all else as it is.
    """
    if (marks := _marks(text)) and (piles := _piles(marks)).search(text):
        text = piles.sub(lambda pile: pile[0][:MOST_MARKS] + "".join(map(_escaped, pile[0][MOST_MARKS:])), text)
    if text.isprintable():
        return text
    return "".join(_escaped(c) if _acts(c) else c for c in text)


def _acts(character: str) -> bool:
    return character in _DIRECTIONS or unicodedata.category(character) in _CONTROLS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def piled(text: str) -> bool:
    """Whether more than 30 combining marks follow one another, the bound of Unicode's Stream-Safe Text Format.

    No writing has them, they cover the lines above and below, and the time that normalising takes grows with the square
    of their number.
    """
    marks = _marks(text)
    return bool(marks) and _piles(marks).search(text) is not None


def _marks(text: str) -> str:
    """The marks that occur in a text, those too that stand around a letter or are not reordered by normalisation."""
    return "" if text.isascii() else "".join(c for c in set(text) if unicodedata.category(c)[0] == "M")


def _piles(marks: str) -> re.Pattern[str]:
    return re.compile(f"[{re.escape(marks)}]{{{MOST_MARKS + 1},}}")


def closest(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the nearest known name, or an empty string."""
    matches = get_close_matches(name[:_NAME], list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
