"""What was scored of a row: sums over its sentences or clips, so that figures, means and intervals all come of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from signer_jax import outside, storage
from signer_jax.errors import SignerError
from signer_jax.evaluation import resampling
from signer_jax.json_files import LISTS, read_json
from signer_jax.metrics.intervals import interval

TEXT = "text"  # the unit of BLEU and ROUGE: what `resampling.text_rows` counts
_OF_TEXT: dict[str, Callable[[np.ndarray], float]] = {
    **{f"bleu{order}": resampling.bleu(order) for order in (1, 2, 3, 4)}, "rouge": resampling.rouge
}  # fmt: skip
_SAMPLES = 1000


@dataclass(frozen=True)
class Scored:
    """A row, of one seed or of none. `units`: "dev/text" -> `[n, k]`, a row a sentence (`resampling.text_rows`), or of
    any other figure its sum and count, a row a sentence or clip; `names`: which one each is. `values`: what is no mean
    over them.
    """

    units: dict[str, Float[np.ndarray, "n k"]] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)

    def joined(self, other: Self) -> Self:
        """Both, of other figures or splits."""
        return type(self)(self.units | other.units, self.names | other.names, self.values | other.values)


def of_texts(split: str, hypotheses: Sequence[str], references: Sequence[str], names: Sequence[str]) -> Scored:
    """What BLEU and ROUGE are made of; `names` are alike where the sentence is the same."""
    unit = f"{split}/{TEXT}"
    return Scored({unit: resampling.text_rows(hypotheses, references)}, {unit: tuple(names)})


def of_means(figures: Mapping[str, Sequence[Sequence[float]]], names: Sequence[str]) -> Scored:
    """Figures that are means over values that come in groups (sentences, clips), in the order of `names`; what is no
    number does not count.
    """
    units = {}
    for figure, groups in figures.items():
        known = [np.asarray(group, float)[np.isfinite(group)] for group in groups]
        units[figure] = np.array([(values.sum(), len(values)) for values in known]).reshape(-1, 2)
    return Scored(units, dict.fromkeys(units, tuple(names)))


def value(one: Scored, figure: str) -> float:
    """A figure, NaN where it was not scored."""
    if figure in one.values:
        return one.values[figure]
    found = _unit(one, figure)
    return float("nan") if found is None else found[2](found[0].sum(axis=0))


def _unit(one: Scored, figure: str) -> tuple[np.ndarray, tuple[str, ...], Callable[[np.ndarray], float]] | None:
    split, _, name = figure.partition("/")
    unit = f"{split}/{TEXT}" if name in _OF_TEXT else figure
    if unit not in one.units or not len(one.units[unit]):
        return None
    return one.units[unit], one.names[unit], _OF_TEXT.get(name, _mean)


def _mean(sums: Float[np.ndarray, " k"]) -> float:
    return float(sums[0] / sums[1]) if sums[1] else float("nan")


# ---- Over seeds ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mean:
    """A figure over seeds: its mean, its standard deviation (NaN of fewer than two), and each seed's."""

    mean: float
    deviation: float
    each: tuple[float, ...]


def over_seeds(rows: Sequence[Scored], figure: str) -> Mean | None:
    """None where no seed has it."""
    each = tuple(value(one, figure) for one in rows)
    known = [v for v in each if np.isfinite(v)]
    if not known:
        return None
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")
    return Mean(float(np.mean(known)), deviation, each)


@dataclass(frozen=True)
class Difference:
    """Of two rows in a figure: each seed's, their mean, and the 95 % interval of that over sentences (NaN: none).

    The interval draws sentences, the same for both rows and all seeds; what another training gives, the seeds say.
    """

    each: tuple[float, ...]
    mean: float
    low: float
    high: float


def difference(first: Sequence[Scored], second: Sequence[Scored], figure: str) -> Difference | None:
    """None where one of them lacks the figure. A row without seeds stands beside each seed of the other."""
    count = max(len(first), len(second))
    if not count or min(len(first), len(second)) not in (1, count):
        return None
    pairs = [(first[k % len(first)], second[k % len(second)]) for k in range(count)]
    each = tuple(value(a, figure) - value(b, figure) for a, b in pairs)
    if not np.isfinite(each).all():
        return None
    drawn = [_drawn(a, b, figure) for a, b in pairs]
    there = [one for one in drawn if one is not None]
    low, high = interval(np.mean(there, axis=0)) if len(there) == count else (np.nan, np.nan)
    return Difference(each, float(np.mean(each)), float(low), float(high))


def _drawn(a: Scored, b: Scored, figure: str) -> Float[np.ndarray, " samples"] | None:
    """The difference on resampled sentences; None where they are not of the same ones."""
    ours, theirs = _unit(a, figure), _unit(b, figure)
    if ours is None or theirs is None or ours[1] != theirs[1]:
        return None
    of = np.unique(ours[1], return_inverse=True)[1]
    drawn = resampling.paired_bootstrap({"a": ours[0], "b": theirs[0]}, ours[2], of=of, samples=_SAMPLES)
    return drawn["a"] - drawn["b"]


# ---- Files -----------------------------------------------------------------------------------------------------------


def write(path: Path, one: Scored, of: str) -> None:
    """`of`: what it was scored of (`fingerprint`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    units = {name: rows.tolist() for name, rows in one.units.items()}
    names = {name: list(each) for name, each in one.names.items()}
    storage.write_file(path, storage.to_json({"of": of, "units": units, "names": names, "values": one.values}))


def read(path: Path, of: str) -> Scored | None:
    """None where there is none, or one of something else. Raises `SignerError` where it is damaged."""
    if not path.exists():
        return None
    try:
        found: Any = read_json(outside.plain_file(path, "remove it"), LISTS)
        if found["of"] != of:
            return None
        units = {name: np.array(rows, float) for name, rows in found["units"].items()}
        names = {name: tuple(map(str, each)) for name, each in found["names"].items()}
        values = {name: float("nan" if v is None else v) for name, v in found["values"].items()}
        if units.keys() != names.keys() or any(r.ndim != 2 or len(r) != len(names[n]) for n, r in units.items()):
            raise ValueError("its rows are not those of its names")
        return Scored(units, names, values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SignerError(f"{path}: is damaged ({outside.reason_of(error)}); remove it to score anew") from None
