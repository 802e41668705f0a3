"""What a value may be, in words and as a test."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from signer_jax.errors import closest

_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Range:
    """What a value must be, in words and as a test; `known` are the names among which the nearest is suggested."""

    words: str
    holds: Callable[[Any], bool]
    known: tuple[str, ...] = ()
    read: Callable = lambda value: value  # to the form that the library takes

    def near(self, value: Any) -> str:
        """A suggestion for the first wrong name, or an empty string."""
        wrong = [v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, str)]
        wrong = [v for v in wrong if v not in self.known]
        return closest(wrong[0], self.known) if wrong and self.known else ""


def whole(least: int | None = None, most: int | None = None) -> Range:
    words = "a whole number" if least is None else f"a whole number of at least {least}"
    if most is not None:
        words += f" and at most {most}"
    return Range(words, lambda v: type(v) is int and (least is None or v >= least) and (most is None or v <= most))


def number(least: float = -math.inf, most: float = math.inf, *, above: bool = False) -> Range:
    """A finite number from `least` (or above it) to `most`."""
    low = "" if least == -math.inf else f" {'above' if above else 'of at least'} {least:g}"
    high = "" if most == math.inf else f" and at most {most:g}" if low else f" of at most {most:g}"
    return Range(
        f"a finite number{low}{high}",
        # A whole number that no float holds is not finite either.
        lambda v: type(v) in (int, float) and abs(v) <= _LARGEST and (v > least if above else v >= least) and v <= most,
    )


def one_of(*names: Any) -> Range:
    return Range(
        f"one of {', '.join(map(repr, names))}",
        lambda v: any(type(v) is type(name) and v == name for name in names),
        tuple(name for name in names if isinstance(name, str)),
    )


def each(item: Range, *, least: int = 0, most: int | None = None, exactly: int | None = None) -> Range:
    count = f"a list of {exactly}" if exactly is not None else f"a list of at least {least}" if least else "a list"
    if most is not None:
        count += f" and at most {most}" if least else f" of at most {most}"
    return Range(
        f"{count}, each {item.words}",
        lambda v: (
            isinstance(v, tuple)
            and (len(v) == exactly if exactly is not None else len(v) >= least)
            and (most is None or len(v) <= most)
            and all(item.holds(one) for one in v)
        ),
        item.known,
    )


def range_of(hint: Any) -> Range:
    """What a type admits: the range that it is annotated with, or else all its values (of floats the finite ones)."""
    annotated = getattr(hint, "__metadata__", (None,))[0]
    if isinstance(annotated, Range):
        return annotated
    if get_origin(hint) is Literal:
        return one_of(*get_args(hint))
    return each(range_of(get_args(hint)[0])) if get_origin(hint) is tuple else _PLAIN[hint]  # tuple[T, ...]


_PLAIN = {
    bool: Range("true or false", lambda v: type(v) is bool), int: whole(), float: number(),
    str: Range("text", lambda v: type(v) is str),
}  # fmt: skip


def nearest(value: int, unit: int, more: int = 0) -> str:
    """The positive numbers around `value` that are `more` than a multiple of `unit`, in words."""
    below = (value - more) // unit * unit + more
    return " or ".join(str(one) for one in (below, below + unit) if one > 0)


def finite(value: Any) -> Any:
    """The value. Raises `ValueError` for a number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    return value
