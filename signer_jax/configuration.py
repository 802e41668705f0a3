"""Config files and `--config.key=value` overrides."""

import ast
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from signer_jax.errors import SignerError, closest
from signer_jax.workdir import flatten

SHIPPED = Path(__file__).resolve().parent.parent / "configs"


def load(path: str | Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config that a file's `get_config()` gives, with `--config.key=value` overrides on it.

    A bare name ("demo") is a shipped config. Raises `SignerError` for a missing file, an unknown key or a value of the
    wrong type.
    """
    file = Path(path)
    if not file.exists():
        shipped = SHIPPED / (file.name if file.suffix else f"{file.name}.py")
        if not shipped.exists() or (file.suffix and file.parent.name not in ("", "configs")):
            names = sorted(p.stem for p in SHIPPED.glob("*.py") if p.stem != "__init__")
            raise SignerError(f"--config {path}: no such file{closest(file.stem, names)}; shipped: {', '.join(names)}")
        file = shipped
    namespace = runpy.run_path(str(file))
    if "get_config" not in namespace:
        raise SignerError(f"--config {path}: defines no get_config()")
    config = namespace["get_config"]()
    for override in overrides:
        apply(config, override)
    return config


def apply(config: ConfigDict, override: str) -> None:
    """Sets one `--config.a.b=value`; the value takes the type that stands there."""
    name, equals, text = override.removeprefix("--config.").partition("=")
    if not equals:
        raise SignerError(f"{override}: give a value, --config.{name}=VALUE")
    known = flatten(config)
    if name not in known:
        raise SignerError(f"{override}: the config has no key {name!r}{closest(name, known)}")
    *parents, leaf = name.split(".")
    for parent in parents:
        config = config[parent]
    before = config[leaf]
    try:
        config[leaf] = _parse(text, before)
    except (ValueError, SyntaxError):
        raise SignerError(f"{override}: {name} must be {_kind(before)}, like {before!r}") from None


def _parse(text: str, like: Any) -> Any:
    if isinstance(like, str):
        return text
    if isinstance(like, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if isinstance(like, int):
        return int(text)
    if isinstance(like, float):
        return float(text)
    if isinstance(like, tuple):
        value = ast.literal_eval(text) if text[:1] in "([" else tuple(part for part in text.split(",") if part)
        if like and any(type(item) is not type(like[0]) for item in value):
            raise ValueError(text)
        return tuple(value)
    raise ValueError(text)


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", tuple: "a list"}
    return names.get(type(value), "text")
