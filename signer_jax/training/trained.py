"""What a stage trains: rules on the parameters' paths, and trees that are cut in two by them and joined again.

`config.train.STAGE.trains` is "full" (all of the stage's parts), "branch" (what stands beside the video transformer),
"semantics" (in it what reads SLUL's features beside a published text), "lora" (low-rank adapters, `training.lora`), or
regular expressions over paths such as `renderer/control/.*`; several add up. What trains is what a checkpoint holds,
beside the optimizer's state of it alone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from signer_jax.dense import is_adapters
from signer_jax.errors import SignerError, closest
from signer_jax.training.partitioning import path_name

FULL, BRANCH, SEMANTICS, LORA = ("full",), "branch", "semantics", "lora"
# The control branch, or the stem and head, and whatever else stands beside the transformer; in the transformer the
# projections of further inputs: pose latents, and SLUL's features beside a published text.
_BRANCH = r"^renderer/(?!transformer/)|^renderer/transformer/(.+/)?(control|semantics|pose)"

# A run without SLUL has none: a config that names it beside other rules is for runs of both kinds.
_SEMANTICS = r"^renderer/transformer/(.+/)?semantics"


def paths(params: Mapping, parts: Sequence[str]) -> tuple[str, ...]:
    """The paths of the parts' parameters, in order; without the adapters of earlier stages, which train no further."""
    flat = flatten_dict({part: params[part] for part in parts}, sep="/")
    return tuple(sorted(name for name in flat if not is_adapters(name)))


def chosen(params: Mapping, parts: Sequence[str], trains: Sequence[str], where: str) -> frozenset[str]:
    """The paths among the parts' parameters that `trains` names, adapters aside.

    Raises `SignerError` for a rule that names nothing, with the paths that come closest; `where` is its key.
    """
    known = paths(params, parts)
    names: set[str] = set()
    for rule in trains:
        if rule == LORA:
            continue  # adapters are new parameters: `lora.places`
        if (rule,) == FULL:
            names |= set(known)
            continue
        if rule == SEMANTICS and len(trains) > 1:
            names |= {name for name in known if re.search(_SEMANTICS, name)}
            continue
        names |= matching({BRANCH: _BRANCH, SEMANTICS: _SEMANTICS}.get(rule, rule), known, where, rule)
    return frozenset(names)


# Why a run may lack what these rules name, and what to do then.
_LACKS = {
    BRANCH: (
        "this run has no control branch beside its transformer (config.renderer.control 'none', or the model's own "
        "channels) and no SLUL; set config.renderer.control='branch', or train lora or full"
    ),
    SEMANTICS: (
        "this run has no SLUL whose features a published model could read; add 'slul' to config.stages, or leave "
        "'semantics' out"
    ),
}


def matching(pattern: str, known: Iterable[str], where: str, rule: str | None = None) -> set[str]:
    """The paths that a pattern finds. Raises `SignerError` where there are none."""
    known = tuple(known)
    found = {name for name in known if re.search(pattern, name)}
    if not found and rule in _LACKS:
        raise SignerError(f"{where}: {rule!r} matches no parameter: {_LACKS[rule]}")
    if not found:
        raise SignerError(
            f"{where}: {rule or pattern!r} matches no parameter{_near(pattern, known)}; give regular expressions over "
            "paths"
        )
    return found


def _near(pattern: str, known: tuple[str, ...]) -> str:
    """The path that a pattern may have meant: the closest whole one, else the closest of their beginnings."""
    plain = re.sub(r"[^\w/]", "", pattern)
    folders = sorted({name.rsplit("/", i)[0] for name in known for i in range(name.count("/") + 1)})
    near = closest(plain, known) or closest(plain, folders)
    return near or f" (there are {', '.join(_heads(known))}, …)"


def _heads(known: tuple[str, ...]) -> list[str]:
    return sorted({"/".join(name.split("/")[:2]) for name in known})[:6]


def split(params: Mapping, names: Iterable[str]) -> tuple[dict, dict]:
    """The parameters of these paths, and all others."""
    names, flat = set(names), flatten_dict(dict(params), sep="/")
    inside = {name: value for name, value in flat.items() if name in names}
    outside = {name: value for name, value in flat.items() if name not in names}
    return unflatten_dict(inside, sep="/"), unflatten_dict(outside, sep="/")


def join(base: Mapping, other: Mapping) -> dict:
    """Both trees in one; where both have a parameter, the other's."""
    joined = dict(base)
    for name, value in other.items():
        both = isinstance(value, Mapping) and isinstance(joined.get(name), Mapping)
        joined[name] = join(joined[name], value) if both else value
    return joined


def rate_of(rule: str) -> tuple[str, float]:
    """The pattern and the factor of a `PATTERN=FACTOR`."""
    pattern, _, factor = rule.rpartition("=")
    return pattern, float(factor)


def factors(params: Any, rates: Sequence[str]) -> Any:
    """The learning rate's factor of each parameter: that of the first pattern that its path has, or 1."""
    rules = [rate_of(rule) for rule in rates]

    def one(path: Any, _: Any) -> float:
        name = path_name(path)
        return next((factor for pattern, factor in rules if re.search(pattern, name)), 1.0)

    return jax.tree_util.tree_map_with_path(one, params)


def check_rates(trained: Mapping, rates: Sequence[str], where: str) -> None:
    """Raises `SignerError` for a rate that reaches nothing that trains."""
    known = tuple(sorted(flatten_dict(dict(trained), sep="/")))
    for rule in rates:
        matching(rate_of(rule)[0], known, where, rule)
