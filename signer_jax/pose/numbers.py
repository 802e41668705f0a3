"""A number that has no sign of its own, built of those that there are: 1984 as 1000 9 100 80 4."""

import re
from collections.abc import Callable

_UNITS = (10**9, 10**6, 1000, 100)
_WHOLE = re.compile(r"[1-9]\d{1,11}")  # a leading zero is said digit by digit
# Spoken languages that say ones before tens (four-and-eighty); the sign languages beside them follow where they build
# such numbers of two signs.
_ONES_FIRST = frozenset(("german", "dutch", "danish", "luxembourgish", "afrikaans", "arabic"))


def built(number: str, has: Callable[[str], bool], spoken: str = "") -> list[str] | None:
    """The number signs that make up a number in digits, in their order; None where it is no whole number of two digits
    or more, or a sign is missing (then its digits may be spelled).

    A part below a hundred is one sign where there is one, else tens and ones (in German ones and tens). A unit stands
    alone where it is one of it and the sign of the unit is there (100, 1000): whether one is said before it, lexicons
    do not tell.
    """
    return _built(int(number), has, spoken in _ONES_FIRST) if _WHOLE.fullmatch(number) else None


def _built(number: int, has: Callable[[str], bool], ones_first: bool) -> list[str] | None:
    if has(str(number)):
        return [str(number)]
    for unit in (unit for unit in _UNITS if unit <= number):
        count, left = divmod(number, unit)
        after = _built(left, has, ones_first) if left else []
        if after is not None and has(whole := str(count * unit)):  # three hundred is one sign in German Sign Language
            return [whole, *after]
        if not has(str(unit)):
            return None
        before = [] if count == 1 else _built(count, has, ones_first)
        return None if before is None or after is None else [*before, str(unit), *after]
    tens, ones = str(number // 10 * 10), str(number % 10)
    if number < 20 or ones == "0" or not (has(tens) and has(ones)):
        return None
    return [ones, tens] if ones_first else [tens, ones]
