"""One validated reading of a published model's `config.json`: every key's kind and range, before anything is built.

A number of layers in the billions, a list where a number belongs or a NaN would otherwise surface as a loop without end
or a trace from deep inside a model.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signer_jax import outside
from signer_jax.errors import SignerError
from signer_jax.json_files import CONFIG, parse_json

_AGAIN = "download it again"


@dataclass(frozen=True)
class Kind:
    """What a value may be. `least` and `most` are of numbers, and of the items of a list; `choices` of text."""

    type: type  # of the value, or of a list's items
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()
    items: tuple[int, int] | None = None  # a list of so many items
    optional: bool = False  # may be null or absent

    def describe(self) -> str:
        if self.choices:
            return " or ".join(self.choices)
        name = {int: "whole number", float: "number", bool: "true or false", str: "text"}[self.type]
        within = f" within {self.least:g} to {self.most:g}" if self.type in (int, float) else ""
        if self.items is None:
            return f"a {name}{within}"
        low, high = self.items
        return f"a list of {low if low == high else f'{low} to {high}'} items, each a {name}{within}"

    def fits(self, value: Any) -> bool:
        if self.items is not None:
            if not isinstance(value, list) or not self.items[0] <= len(value) <= self.items[1]:
                return False
            return all(self._item(item) for item in value)
        return self._item(value)

    def _item(self, value: Any) -> bool:
        if self.type in (bool, str):
            return isinstance(value, self.type) and (not self.choices or value in self.choices)
        if isinstance(value, bool) or not isinstance(value, int if self.type is int else (int, float)):
            return False
        return self.least <= value <= self.most


def whole(most: int, *, least: int = 1, optional: bool = False) -> Kind:
    return Kind(int, least, most, optional=optional)


def text(*choices: str) -> Kind:
    return Kind(str, choices=choices)


def flag(*, optional: bool = True) -> Kind:
    return Kind(bool, optional=optional)


def number(least: float, most: float, *, optional: bool = False) -> Kind:
    return Kind(float, least, most, optional=optional)


def several(kind: type, low: int, high: int, least: float = -math.inf, most: float = math.inf) -> Kind:
    return Kind(kind, least, most, items=(low, high))


def plain_inside(file: Path, give: str) -> Path:
    """A file of a published folder. Raises `SignerError` where it is no plain file, or a link to one that lies neither
    in the folder nor in the store that Hugging Face's cache links it from: it would have other files read than those
    that were given.
    """
    file = outside.plain_file(file, give)
    there, home = file.resolve(), file.parent.resolve()
    caches = [parent.parent / "blobs" for parent in home.parents if parent.name == "snapshots"]
    if there.parent not in (home, *caches):
        raise SignerError(f"{file}: is a link out of its folder; copy the file itself there")
    return file


def read_json(file: Path, give: str, most: int = CONFIG) -> dict:
    """A file's JSON object. Raises `SignerError` where it is missing, a link out of its folder, no UTF-8 JSON, no
    object, or far too large.
    """
    file = plain_inside(file, give)
    try:
        if (size := file.stat().st_size) > most:
            raise SignerError(f"{file}: has {size} bytes, which is no description of a model; {give}")
        value = parse_json(file.read_bytes(), most, constants=_no_number)
    except OSError as error:
        raise outside.told(error, f"{file}: cannot be read ({outside.reason_of(error)}); check the file") from None
    except MemoryError:
        raise SignerError(f"{file}: takes more memory than there is; {give}") from None
    except (ValueError, RecursionError) as error:  # both of UTF-8 and of JSON
        reason = "nested too deeply" if isinstance(error, RecursionError) else outside.reason_of(error)
        raise SignerError(f"{file}: not valid JSON ({reason[:200]}); {_AGAIN}") from None
    if not isinstance(value, dict):
        raise SignerError(f"{file}: holds a {type(value).__name__}, not the names and values of a model; {_AGAIN}")
    return value


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def check(path: str | Path, config: Mapping, table: Mapping[str, Kind], model: str) -> dict:
    """The values of `table`'s keys, null or absent ones left out. Raises `SignerError` for the first that does not fit.

    `model` says what the folder should hold ("a T5 model").
    """
    file = Path(path) / "config.json"
    values = {}
    for key, kind in table.items():
        value = config.get(key)
        if value is None:
            if not kind.optional:
                raise SignerError(f"{file}: lacks {key!r}; give the folder of {model}")
            continue
        if not kind.fits(value):
            found = repr(value)
            shown = found if len(found) <= 60 else f"{found[:60]}…"
            raise SignerError(f"{file}: {key} is {shown}, it must be {kind.describe()}; give the folder of {model}")
        values[key] = value
    return values


def shapes(path: str | Path, function: Callable[[], Any]) -> Any:
    """What `function`, of `names.shapes_of`, returns. Raises `SignerError` where the config's values do not fit."""
    try:
        return function()
    except (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, OverflowError, AssertionError) as error:
        reason = outside.reason_of(error)
    except Exception as error:  # flax has exceptions of its own for shapes that do not fit
        if not type(error).__module__.startswith("flax"):
            raise
        reason = outside.reason_of(error)
    raise SignerError(f"{Path(path) / 'config.json'}: its values do not go together ({reason[:160]}); {_AGAIN}")
