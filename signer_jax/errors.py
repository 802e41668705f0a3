"""The one exception for mistakes that a user can mend: the command line prints it as a single line."""

from collections.abc import Iterable
from difflib import get_close_matches


class SignerError(Exception):
    """Bad input. The message says what is wrong, where, and how to mend it, in one line."""


def closest(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the nearest known name, or an empty string."""
    matches = get_close_matches(name, list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
