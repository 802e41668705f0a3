"""Config files, `--config.key=value` overrides, and what both must satisfy before anything is done with them."""

import ast
import inspect
import re
import runpy
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import tuple_parser

from signer_jax.errors import SignerError, closest
from signer_jax.object_store import in_bucket
from signer_jax.outside import check_local
from signer_jax.ranges import finite
from signer_jax.settings import Settings, Size, flatten, known
from signer_jax.validation import check_keys, read

_PATHS = (".init", "_encoder", ".source", ".encoded", "tokenizer.path")  # ends of the names of values that are paths
UNSET = "(not set)"  # where a config asks for a folder and none is given
# Beside the package in a checkout, inside it once installed (setup.py).
_PLACES = (Path(__file__).resolve().parent / "configs", Path(__file__).resolve().parent.parent / "configs")
SHIPPED = next((place for place in _PLACES if (place / "default.py").is_file()), _PLACES[0])


def load(config: str | Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config that a file's `get_config()` gives, with `--config.key=value` overrides on it, checked.

    A bare name ("demo") is a shipped config, whatever the current folder holds; all else is a path, and
    `configs/demo.py` is the shipped one where there is no such file. "FILE.py:VARIANT" calls `get_config(VARIANT)`.
    Raises `SignerError` for a missing or faulty file, an unknown key, or a value of the wrong type or out of range.
    """
    made = _overridden(config, overrides)
    read(made)
    return made


def load_without_weights(config: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """As `load`, of a config whose folders of published weights need not be named: `UNSET` stands in their place."""
    made = _overridden(config, overrides)
    for name, value in flatten(made).items():
        if value is None and name.endswith((".init", "_encoder")):
            *parents, leaf = name.split(".")
            holder: Any = made
            for part in parents:
                holder = holder[part]
            holder[leaf] = UNSET
    return read(made)


def _overridden(config: str | Path, overrides: Sequence[str]) -> ConfigDict:
    file, variant = _find(str(config))
    made = _run(file, variant, str(config))
    check_keys(made, f"--config {config}")
    for override in overrides:
        apply(made, override)
    for name, value in flatten(made).items():
        if isinstance(value, str) and name.endswith(_PATHS) and not in_bucket(value):
            check_local(value, f"config.{name}")
    return made


def shipped(name: str, variant: str | None = None) -> ConfigDict:
    """A shipped config by its name, for another config to be a diff on: wherever that file and the caller lie."""
    return _run(SHIPPED / f"{name}.py", variant, name)


def shipped_names() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.py") if path.stem != "__init__")


# ---- Files --------------------------------------------------------------------------------------------------------


def _find(config: str) -> tuple[Path, str | None]:
    """The file that `--config` means, and its variant."""
    name, colon, variant = config, "", ""
    if not Path(config).is_file():
        name, colon, variant = config.partition(":")
    path, chosen = Path(name), variant if colon else None
    bare = path.name == name and not path.suffix
    if not bare and path.is_file():
        return path, chosen
    ours = SHIPPED / f"{path.stem}.py"
    if bare or (path.suffix == ".py" and str(path.parent) in (".", "configs")):
        if path.stem in shipped_names():
            return ours, chosen
    elif path.is_dir():
        raise SignerError(f"--config {config}: is a folder; give a config file in it, FOLDER/X.py")
    names = shipped_names()
    raise SignerError(f"--config {config}: no such file{closest(path.stem, names)}; shipped: {', '.join(names)}")


def _run(file: Path, variant: str | None, given: str) -> ConfigDict:
    """What a file's `get_config` returns. Raises `SignerError` with the file's line for whatever goes wrong in it."""
    where = f"--config {given}"
    try:
        get_config = runpy.run_path(str(file)).get("get_config")
        if not callable(get_config):
            raise SignerError(f"{where}: {file} defines no get_config(); it must return a ConfigDict")
        arguments = () if variant is None else (variant,)
        try:
            inspect.signature(get_config).bind(*arguments)
        except TypeError:
            need = "takes no variant; give the file alone" if arguments else "needs a variant; give FILE.py:VARIANT"
            raise SignerError(f"{where}: get_config() in {file} {need}") from None
        config = get_config(*arguments)
    except SignerError:
        raise
    except (Exception, SystemExit) as error:
        raise SignerError(f"{where}: {_place(error, file)}: {_reason(error)}") from None
    if not isinstance(config, ConfigDict):
        raise SignerError(f"{where}: get_config() in {file} returned {type(config).__name__}; return a ConfigDict")
    return config


def _place(error: BaseException, file: Path) -> str:
    """`FILE, line N`: where an error arose in the config file, or in what it imports if it does not parse."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{file}, line {lines[-1]}" if lines else str(file)


def _reason(error: BaseException) -> str:
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    reason = f"{type(error).__name__}: {' '.join(said.split())[:300]}".rstrip(": ")
    if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] == "configs":
        reason += "; take the shipped ones with `from signer_jax.configuration import shipped`, shipped('default')"
    return reason


# ---- Overrides ----------------------------------------------------------------------------------------------------


def apply(config: ConfigDict, override: str) -> None:
    """Sets one `--config.a.b=value`; the value takes the type that stands there.

    A dict sets the keys that it names and leaves the others. Raises `SignerError` where the value does not fit.
    """
    name, equals, text = override.removeprefix("--config.").partition("=")
    if not equals:
        raise SignerError(f"{override}: give a value, --config.{name}=VALUE")
    *parents, leaf = name.split(".")
    holder: Any = config
    for part in parents:
        holder = holder[part] if isinstance(holder, ConfigDict) and part in holder else None
    if not isinstance(holder, ConfigDict) or leaf not in holder:
        raise SignerError(f"{override}: the config has no key {name!r}{closest(name, flatten(config))}")
    before = holder[leaf]
    if known().get(name) == Size and type(before) is int:
        before = (before, before)
    try:
        if isinstance(before, ConfigDict):
            before.update(_fit_dict(_literal(text), before.to_dict()))
        else:
            # A placeholder holds None but knows its type.
            kind = holder.get_type(leaf)
            like = None if kind is object and not isinstance(before, tuple) else before  # of several types
            holder[leaf] = _parse(text, kind() if before is None and kind in (bool, int, float, str, tuple) else like)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise SignerError(f"{override}: {name} must be {_kind(before)}, like {_shown(before)}") from None


def _parse(text: str, like: Any) -> Any:
    """The value that a text on the command line means where `like` stands. Raises `ValueError` where it fits not."""
    if isinstance(like, str):
        return text
    if isinstance(like, bool):
        return flags.BooleanParser().parse(text)
    if isinstance(like, int):
        return flags.IntegerParser().parse(text)
    if isinstance(like, float):
        return finite(flags.FloatParser().parse(text))
    if isinstance(like, tuple | list):
        return _fit(_split(text, like), tuple(like))
    if like is None:
        return _plain(_word(text))
    raise ValueError(text)


def _literal(text: str) -> Any:
    return ast.literal_eval(text)


def _word(text: str) -> Any:
    """A Python literal, the command line's `true` and `false`, or else the text itself."""
    text = text.strip()
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


_COMMA = re.compile(r",(?![^\[\](){}]*[\])}])")  # outside of brackets: patterns have some inside


def _split(text: str, like: Any) -> tuple[Any, ...]:
    """The items of `(1, 2)`, `1,2` or `a,b`, as literals where they are such and names stand no quotes."""
    text = text.strip()
    if not text:
        return ()
    if text[0] in "([":
        return tuple_parser.TupleParser().parse(text)
    items = [part.strip() for part in _COMMA.split(text.removesuffix(","))]
    if like and all(isinstance(item, str) for item in like):
        # `'slul',` with quotes means the same as `slul`; an unquoted 1 is still a text here.
        return tuple(str(_word(item)) if item[:1] in "'\"" else item for item in items)
    if any(item[:1] in "([" for item in items):  # (1,2),(3,4)
        return tuple_parser.TupleParser().parse(text)
    return tuple(_word(item) for item in items)


def _fit(value: Any, like: Any) -> Any:
    """`value` if it is of `like`'s type, all the way down; a whole number may stand for a float. Else `ValueError`."""
    if isinstance(like, tuple):
        if not isinstance(value, tuple | list):
            raise ValueError(value)
        if len({type(item) for item in like}) > 1:  # items of several types: each at its place
            if len(value) != len(like):
                raise ValueError(value)
            return tuple(_fit(item, one) for item, one in zip(value, like, strict=True))
        return tuple(_fit(item, like[0]) if like else _plain(item) for item in value)
    if isinstance(like, dict):
        return _fit_dict(value, like)
    if like is None:
        return _plain(value)
    if isinstance(like, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(like):
        raise ValueError(value)
    return finite(value)


def _fit_dict(value: Any, like: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(value, dict) or not value.keys() <= like.keys():
        raise ValueError(value)
    return {name: _fit(item, like[name]) for name, item in value.items()}


def _plain(value: Any) -> Any:
    """A value for a place whose type is not known: anything that config.json can hold."""
    if isinstance(value, tuple | list):
        return tuple(_plain(item) for item in value)
    if not isinstance(value, str | bool | int | float | None):
        raise ValueError(value)
    return finite(value)


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a finite number", tuple: "a list", str: "text"}
    if isinstance(value, ConfigDict):
        return f"a dict of {', '.join(value)}"
    if isinstance(value, tuple | list) and value:
        kinds = {names.get(type(item), "a value") for item in value}
        return f"a list, each {kinds.pop()}" if len(kinds) == 1 else f"a list of {len(value)}"
    return names.get(type(value), "a plain value")


def _shown(value: Any) -> str:
    return repr(value.to_dict() if isinstance(value, ConfigDict) else value)
