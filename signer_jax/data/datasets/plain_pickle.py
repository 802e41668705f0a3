"""Pickles of plain values (dict, list, tuple, str, numbers) as data: nothing that a pickle says is ever executed.

A pickle is a program, and Python's own reader runs it: it may import and call anything. Here its steps are read one by
one, those that build plain values are followed, and any other (an import, a call, an object) refuses the file.
"""

import io
import pickle
import pickletools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from signer_jax import outside
from signer_jax.errors import SignerError

MOST_BYTES = 1 << 26
MOST_STEPS = 10_000_000  # at most about a hundred bytes of memory each
_VALUES = frozenset(
    ["BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE"]
    + ["SHORT_BINUNICODE", "BINUNICODE8", "NONE", "NEWTRUE", "NEWFALSE"]
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


def read(path: Path) -> Any:
    """The value of the file. Raises `SignerError` for what is no whole pickle, has more than plain values, or is more
    than 64 MB or ten million steps.
    """
    path = outside.plain_file(path, "give the folder that holds it")
    with outside.reading(path, "give its text form instead"):
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise SignerError(f"{path}: has more than {MOST_BYTES >> 20} MB; give its text form instead")
        try:
            return _value(data)
        except _Refused as error:
            raise SignerError(f"{path}: is no pickle of plain values ({error}); give its text form instead") from None
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
            reason = outside.reason_of(error)
            raise SignerError(f"{path}: is no whole pickle ({reason}); download it again") from None


class _Refused(Exception):
    pass


def _value(data: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for steps, (step, given, place) in enumerate(pickletools.genops(io.BytesIO(data)), start=1):
        name = step.name
        if steps > MOST_STEPS:
            raise _Refused(f"it has more than {MOST_STEPS} steps")
        if name in _VALUES:
            stack.append(_CONSTANTS.get(name, given))
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[given] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[given])
        elif name == "APPEND":
            value = stack.pop()
            _of(stack, list).append(value)
        elif name == "APPENDS":
            values = _since_mark(stack)
            _of(stack, list).extend(values)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _of(stack, dict).update(_pairs([key, value]))
        elif name == "SETITEMS":
            values = _since_mark(stack)
            _of(stack, dict).update(_pairs(values))
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("TUPLE", "LIST", "DICT"):
            values = _since_mark(stack)
            stack.append(dict(_pairs(values)) if name == "DICT" else values if name == "LIST" else tuple(values))
        elif name == "STOP":
            if len(stack) != 1 or stack[0] is _MARK:
                raise ValueError("it ends in the middle")
            return stack[0]
        elif name not in ("PROTO", "FRAME"):
            raise _Refused(f"it has {name} at byte {place}")
    raise ValueError("it ends in the middle")


def _since_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1
    while stack[place] is not _MARK:
        place -= 1
        if place < 0:
            raise ValueError("a mark is missing")
    values = stack[place + 1 :]
    del stack[place:]
    return values


def _pairs(values: list[Any]) -> Iterable[tuple[str | int, Any]]:
    """Keys are texts and numbers: the hash of a tuple within a tuple, and so on, has no bottom."""
    if not all(isinstance(key, str | int) for key in values[::2]):
        raise ValueError("a key is neither a text nor a number")
    return zip(values[::2], values[1::2], strict=True)


def _of(stack: list[Any], kind: type) -> Any:
    if type(stack[-1]) is not kind:
        raise ValueError(f"a {kind.__name__} is missing")
    return stack[-1]
