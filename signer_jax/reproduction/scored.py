"""What was scored of a row: sums over its sentences or clips, so that figures, means and intervals all come of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import t as student

from signer_jax import outside, storage
from signer_jax.errors import SignerError
from signer_jax.evaluation import resampling
from signer_jax.json_files import LISTS, read_json
from signer_jax.metrics.intervals import LEVEL, interval

TEXT = "text"  # the unit of BLEU and ROUGE: what `resampling.text_rows` counts
_OF_TEXT: dict[str, Callable[[np.ndarray], float]] = {
    **{f"bleu{order}": resampling.bleu(order) for order in (1, 2, 3, 4)}, "rouge": resampling.rouge
}  # fmt: skip
LOST = "lost"  # BLEU-4 that a change of the texts cost: `resampling.text_rows` of the plain and the changed ones
_SAMPLES = 1000
FEW = 40  # sentences or clips: of fewer, no bootstrap


@dataclass(frozen=True)
class Scored:
    """A row, of one seed or of none. `units`: "dev/text" -> `[n, k]`, a row a sentence (`resampling.text_rows`), or of
    any other figure its sum and count, a row a sentence or clip; `names`: which one each is. `values`: what is no mean
    over them. `notes`: what is to be said of a split ("dev": how many there were, what could not be made).
    """

    units: dict[str, Float[np.ndarray, "n k"]] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def joined(self, other: Self) -> Self:
        """Both, of other figures or splits."""
        return type(self)(
            self.units | other.units, self.names | other.names, self.values | other.values, self.notes | other.notes
        )  # fmt: skip


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


_Unit: TypeAlias = tuple[np.ndarray, tuple[str, ...], Callable[[np.ndarray], float]]  # sums, names, the figure of sums


def _unit(one: Scored, figure: str) -> _Unit | None:
    split, _, name = figure.partition("/")
    unit = f"{split}/{TEXT}" if name in _OF_TEXT else figure
    if unit not in one.units or not len(one.units[unit]):
        return None
    return one.units[unit], one.names[unit], _OF_TEXT.get(name, _cost if name == LOST else _mean)


def _mean(sums: Float[np.ndarray, " k"]) -> float:
    return float(sums[0] / sums[1]) if sums[1] else float("nan")


def _cost(sums: Float[np.ndarray, " k"]) -> float:
    plain, changed = np.split(sums, 2)
    return _OF_TEXT["bleu4"](plain) - _OF_TEXT["bleu4"](changed)


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

    The interval is over sentences, the same for both rows and all seeds; what another training gives, the seeds say.
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
    low, high = _interval(pairs, figure)
    return Difference(each, float(np.mean(each)), low, high)


def _interval(pairs: Sequence[tuple[Scored, Scored]], figure: str) -> tuple[float, float]:
    """NaN where a pair is not of the same sentences, or these are fewer than `resampling.FEWEST`.

    From `FEW` sentences on the middle 95 % of the paired bootstrap. That is too narrow of few (of eight it leaves out
    the truth in 13 of 100 draws), so there it is Student's t with the jackknife's standard error (Efron and Tibshirani
    1993, 11.5), which for a mean is the t test of the pairs' differences.
    """
    units = [(_unit(a, figure), _unit(b, figure)) for a, b in pairs]
    both = [(ours, theirs) for ours, theirs in units if ours and theirs and ours[1] == theirs[1]]
    if len(both) < len(pairs) or len({ours[1] for ours, _ in both}) > 1:
        return float("nan"), float("nan")
    _, of = np.unique(both[0][0][1], return_inverse=True)
    count = int(of.max()) + 1
    if count < resampling.FEWEST:
        return float("nan"), float("nan")
    if count < FEW:
        return _student([_left_out(ours, theirs, of) for ours, theirs in both], [_apart(*one) for one in both])
    drawn = []
    for ours, theirs in both:
        found = resampling.paired_bootstrap({"a": ours[0], "b": theirs[0]}, ours[2], of=of, samples=_SAMPLES)
        drawn.append(found["a"] - found["b"])
    low, high = interval(np.mean(drawn, axis=0))
    return float(low), float(high)


def _apart(ours: _Unit, theirs: _Unit) -> float:
    return ours[2](ours[0].sum(axis=0)) - theirs[2](theirs[0].sum(axis=0))


def _left_out(ours: _Unit, theirs: _Unit, of: Int[np.ndarray, " n"]) -> Float[np.ndarray, " k"]:
    """The difference without each sentence."""
    kept = [of != k for k in range(int(of.max()) + 1)]
    return np.array([_apart((ours[0][k], ours[1], ours[2]), (theirs[0][k], theirs[1], theirs[2])) for k in kept])


def _student(left_out: Sequence[Float[np.ndarray, " k"]], whole: Sequence[float]) -> tuple[float, float]:
    """About the mean over seeds; sentences are left out of all seeds at once."""
    each = np.mean(left_out, axis=0)
    error = np.sqrt((len(each) - 1) / len(each) * np.square(each - each.mean()).sum())
    reach = float(student.ppf((1 + LEVEL) / 2, len(each) - 1) * error)
    middle = float(np.mean(whole))
    return middle - reach, middle + reach


# ---- Files -----------------------------------------------------------------------------------------------------------


def write(path: Path, one: Scored, of: str) -> None:
    """`of`: what it was scored of (`fingerprint`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    units = {name: rows.tolist() for name, rows in one.units.items()}
    names = {name: list(each) for name, each in one.names.items()}
    made = {"of": of, "units": units, "names": names, "values": one.values, "notes": one.notes}
    storage.write_file(path, storage.to_json(made))


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
        return Scored(units, names, values, {split: str(said) for split, said in found["notes"].items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SignerError(f"{path}: is damaged ({outside.reason_of(error)}); remove it to score anew") from None
