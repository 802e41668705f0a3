"""Scores that are handed on together: each as a sum over what it is divided by, so that those of many pairs join."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Ratio(NamedTuple):
    """`above` over `below`; NaN says that it could not be scored."""

    above: float
    below: float = 1.0

    @property
    def value(self) -> float:
        return self.above / self.below if self.below else float("nan")


@dataclass
class Report:
    """Of one pair: its scores; those of the dumbest hypothesis (`floor`); what each score depends on; what else."""

    scores: dict[str, Ratio]
    floor: dict[str, Ratio] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


def joined(rows: Sequence[dict[str, Ratio]]) -> dict[str, Ratio]:
    """The scores of all pairs together, over those that could be scored; NaN where none could."""
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        scored = [row[name] for row in rows if name in row and math.isfinite(row[name].value)]
        found[name] = Ratio(sum(one.above for one in scored), sum(one.below for one in scored))
    return found


def unscored(rows: Sequence[dict[str, Ratio]]) -> dict[str, int]:
    """How many pairs could not be scored, of each score that some lack."""
    names = dict.fromkeys(name for row in rows for name in row)
    counts = {name: sum(name not in row or not math.isfinite(row[name].value) for row in rows) for name in names}
    return {name: count for name, count in counts.items() if count}
