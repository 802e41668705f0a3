"""Pickles read as data: nothing that one names is imported, called or made an instance of.

A pickle is a program. Python's own unpickler can be kept from importing, but not from what numpy's `__setstate__` makes
of a forged type, nor from the memory that an index or a length of its asks for. Here its steps are walked through, and
only those that build dicts of names, lists, tuples, texts, bytes, numbers and numpy's arrays of numbers (or of these)
are taken; each is counted against a limit of memory before it is. `torch.save`'s tensors are read in the same way.
"""

import pickletools
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

MOST_STEPS = 1_000_000  # PHOENIX14T's 7,096 training sentences take 300,000
_COST = 100  # bytes that a step may take, beside those of its text or bytes
_DEEPEST = 100  # marks that are open at once
_NUMBERS = re.compile(r"[<>|=]?(?:f[248]|[iu][1248]|b1)")
_STORAGES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8"}
_NAMES = {
    "numpy ndarray", "numpy dtype", "_codecs encode", "collections OrderedDict", "torch._utils _rebuild_tensor_v2",
    *(f"numpy.{core}.multiarray {name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *(f"numpy.{core}.numeric _frombuffer" for core in ("core", "_core")),
    *(f"torch {name}" for name in _STORAGES),
}  # fmt: skip
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "BINUNICODE", "UNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING",
    "STRING", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
Storages: TypeAlias = Mapping[str, bytes]  # torch's: the bytes of a tensor by their key


class Refused(ValueError):
    """What is wrong with a pickle."""


class _Name(str):
    """What a pickle would import."""


class _Type:
    """numpy's type of an array: its letters, and its byte order when it was built."""

    def __init__(self, letters: Any) -> None:
        self.letters = letters if isinstance(letters, str) else ""

    def dtype(self) -> np.dtype:
        if not _NUMBERS.fullmatch(self.letters):
            raise Refused(f"it holds an array of {self.letters[:20]!r}, which are no numbers")
        return np.dtype(self.letters)


class _Empty:
    """An array before its state is set."""

    noted: int | None = None  # where in the memo, the last time


_MARK = object()


def read(data: bytes, most: int, storages: Storages | None = None, *, most_steps: int = MOST_STEPS) -> Any:
    """What a pickle builds, of at most about `most` bytes; `storages` are those of torch's tensors.

    Raises `Refused`, a `ValueError`, where it is none, is cut, or would do anything else than build data.
    """
    walk = _Walk(most, storages or {})
    try:
        for steps, (name, value) in enumerate(_steps(data), start=1):
            if steps > most_steps:
                raise Refused(f"its pickle takes more than {most_steps} steps")
            walk.take(name, value)
    except Refused:
        raise
    except (IndexError, KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise Refused(f"its pickle is damaged ({type(error).__name__})") from None
    if len(walk.stack) != 1 or walk.stack[0] is _MARK or isinstance(walk.stack[0], _Name | _Type | _Empty):
        raise Refused("its pickle is damaged (it builds no data)")
    return walk.stack[0]


def _steps(data: bytes) -> Iterator[tuple[str, Any]]:
    """Each step's name and what stands behind it."""
    try:
        for code, value, _ in pickletools.genops(data):
            yield code.name, value
    except ValueError as error:
        raise Refused(f"its pickle is damaged ({error})") from None


class _Walk:
    def __init__(self, most: int, storages: Storages) -> None:
        self.left, self.most, self.storages = most, most, storages
        self.stack: list[Any] = []
        self.marks = 0
        self.memo: dict[int, Any] = {}

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise Refused(f"its pickle may take more than {self.most >> 20} MB of memory")

    def take(self, name: str, value: Any) -> None:
        stack = self.stack
        self.spend(_COST)
        if name in _VALUES:
            if isinstance(value, str | bytes | bytearray):
                self.spend(len(value) * (4 if isinstance(value, str) else 1))
            elif isinstance(value, int) and not -(2**63) <= value < 2**64:
                raise Refused("its pickle holds a number of more than 64 bits")
            stack.append(value)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("PROTO", "FRAME", "STOP"):
            pass
        elif name == "MARK":
            self.marks += 1
            if self.marks > _DEEPEST:
                raise Refused("its pickle is nested too deeply")
            stack.append(_MARK)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.note(value)
        elif name == "MEMOIZE":
            self.note(len(self.memo))
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[value])
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise IndexError
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS"):
            self.items(name)
        elif name == "APPEND":
            item = stack.pop()
            _list(stack[-1]).append(item)
        elif name == "SETITEM":
            item, key = stack.pop(), stack.pop()
            _put(stack[-1], [key, item])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                second, first = stack.pop(), stack.pop()
                value = f"{first} {second}"
            stack.append(self.known(value))
        elif name == "REDUCE":
            arguments, made = stack.pop(), stack.pop()
            stack.append(self.made(made, arguments))
        elif name == "BUILD":
            state = stack.pop()
            self.build(stack.pop(), state)
        elif name == "BINPERSID":
            stack.append(self.storage(stack.pop()))
        else:
            raise Refused(f"its pickle takes the step {name}, which data does not need")

    def note(self, place: int) -> None:
        self.memo[place] = top = self.stack[-1]
        if isinstance(top, _Empty):
            top.noted = place

    def items(self, name: str) -> None:
        """What stands above the last mark, put together."""
        stack = self.stack
        place = len(stack) - 1
        while stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError
        self.marks -= 1
        items = stack[place + 1 :]
        del stack[place:]
        if name == "TUPLE":
            stack.append(tuple(items))
        elif name == "LIST":
            stack.append(items)
        elif name == "DICT":
            stack.append({})
            _put(stack[-1], items)
        elif name == "APPENDS":
            _list(stack[-1]).extend(items)
        else:
            _put(stack[-1], items)

    @staticmethod
    def known(name: str) -> _Name:
        if name not in _NAMES:
            raise Refused(f"its pickle would run {name[:100]!r}, which is none of what data needs")
        return _Name(name)

    def made(self, name: Any, arguments: Any) -> Any:
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise TypeError
        kind = name.rpartition(" ")[2]
        if kind == "_reconstruct":
            return _Empty()
        if kind == "dtype":
            return _Type(arguments[0])
        if kind == "encode" and isinstance(arguments[0], str) and arguments[1] in ("latin1", "latin-1"):
            return self.encoded(arguments[0])
        if kind == "OrderedDict" and not arguments:
            return {}
        if kind == "scalar":
            return _array((), arguments[0].dtype(), self.encoded(arguments[1]), fortran=False).item()
        if kind == "_frombuffer":
            raw, of, shape, order = arguments
            return _array(shape, of.dtype(), self.encoded(raw), fortran=order == "F")
        if kind == "_rebuild_tensor_v2":
            whole, start, shape, strides = arguments[:4]
            return _tensor(whole, start, shape, strides)
        raise Refused(f"its pickle would run {name[:100]!r} on what it was not made for")

    def encoded(self, raw: Any) -> Any:
        """Bytes that were written as a text: Python 2's, and those of protocols before 3."""
        if not isinstance(raw, str):
            return raw
        self.spend(len(raw))
        return raw.encode("latin-1")

    def build(self, empty: Any, state: Any) -> None:
        if isinstance(empty, _Type):
            if any(part is not None for part in state[2:5]):
                raise Refused("it holds an array of records, which are no numbers")
            if state[1] in ("<", ">") and empty.letters[:1].isalpha():
                empty.letters = state[1] + empty.letters
            self.stack.append(empty)
            return
        if not isinstance(empty, _Empty):
            raise Refused("its pickle sets the state of what has none")
        _, shape, of, fortran, raw = state
        if isinstance(raw, list) and of.letters.lstrip("<>|=") in ("O", "O8"):
            self.spend(8 * len(raw))
            if len(shape) > 1 or (shape and shape[0] != len(raw)) or (not shape and len(raw) != 1):
                raise Refused("it holds an array of objects of another shape than it says")
            array: Any = list(raw) if shape else raw[0]
        else:
            array = _array(shape, of.dtype(), self.encoded(raw), fortran=bool(fortran))
        if empty.noted is not None and self.memo[empty.noted] is empty:  # it was noted before it had its state
            self.memo[empty.noted] = array
        self.stack.append(array)

    def storage(self, about: Any) -> np.ndarray:
        kind, name, key, *_ = about
        if kind != "storage" or not isinstance(name, _Name):
            raise TypeError
        raw = self.storages[key]
        of = np.dtype(_STORAGES[name.rpartition(" ")[2]])
        return np.frombuffer(raw, of, len(raw) // of.itemsize)


def _list(value: Any) -> list:
    if type(value) is not list:
        raise TypeError
    return value


def _put(target: Any, items: list) -> None:
    if type(target) is not dict or len(items) % 2:
        raise TypeError
    for key, item in zip(items[::2], items[1::2], strict=True):
        if type(key) is not str:
            raise Refused("its pickle holds a dict whose keys are no names")
        target[key] = item


def _array(shape: Any, of: np.dtype, raw: Any, *, fortran: bool) -> np.ndarray:
    """Never more than the bytes that are there."""
    sides = _sides(shape)
    if int(np.prod(sides, dtype=object)) * of.itemsize != len(raw):
        raise Refused(f"it holds an array of another size than the {len(raw)} bytes that are there")
    return np.frombuffer(raw, of).reshape(sides, order="F" if fortran else "C")


def _tensor(whole: Any, start: Any, shape: Any, strides: Any) -> np.ndarray:
    sides = _sides(shape)
    count = int(np.prod(sides, dtype=object))
    dense = tuple(int(np.prod(sides[i + 1 :], dtype=object)) for i in range(len(sides)))
    if not isinstance(whole, np.ndarray) or type(start) is not int or _sides(strides) != dense:
        raise Refused("it holds a tensor whose values do not lie one after the other")
    if start < 0 or start + count > whole.size:
        raise Refused("it holds a tensor that is larger than its values")
    return whole[start : start + count].reshape(sides)


def _sides(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(side) is int and side >= 0 for side in shape):
        raise TypeError
    return shape
