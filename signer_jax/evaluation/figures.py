"""What an evaluation returns, the means that its figures are, and how sure they are."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from signer_jax.types import Pose


@dataclass
class Evaluation:
    """Figures by flat name, and what a report shows beside them."""

    metrics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    glosses: list[tuple[str, str, str]] = field(default_factory=list)  # text, predicted, true
    joints: str = "full_128"  # the subset that `poses` are on
    poses: list[tuple[str, Pose]] = field(default_factory=list)  # label, pose
    clips: list[dict[str, np.ndarray]] = field(default_factory=list)  # name -> uint8 [t, h, w, 3]
    # Of a figure that is a mean over sentences or clips the values of each, for intervals and differences.
    each: dict[str, list[list[float]]] = field(default_factory=dict)


def means(rows: dict[str, list[float]]) -> dict[str, float]:
    """The mean of each row over what could be scored (is no NaN); `<name>_unscored` says how many could not, if any."""
    found = {}
    for name, values in rows.items():
        scored = np.asarray(values, float)[np.isfinite(values)]
        if len(scored):
            found[name] = float(scored.mean())
        if len(scored) < len(values):
            found[f"{name}_unscored"] = float(len(values) - len(scored))
    return found


def standard_error(groups: Sequence[Sequence[float]]) -> float:
    """That of the mean over all values, when whole groups (sentences, clips) are drawn: values of one group go
    together. NaN for fewer than two groups that have values.
    """
    return ratio_error([sum(group) for group in groups if len(group)], [len(group) for group in groups if len(group)])


def ratio_error(sums: Sequence[float], totals: Sequence[float]) -> float:
    """The standard error of the groups' sums over their totals, all together, when whole groups are drawn.

    Cochran, Sampling Techniques, 3rd ed., 6.4. NaN for fewer than two groups, and where the totals are 0.
    """
    if len(totals) < 2 or not sum(totals):
        return float("nan")
    above, below = np.asarray(sums, float), np.asarray(totals, float)
    left = above - below * above.sum() / below.sum()
    return float(np.sqrt(len(left) / (len(left) - 1) * np.square(left).sum()) / below.sum())


def error_of(name: str, groups: Sequence[Sequence[float]]) -> dict[str, float]:
    """`<name>_error`, over the values that could be scored (are no NaN); nothing where it cannot be said."""
    error = standard_error([[value for value in group if np.isfinite(value)] for group in groups])
    return {f"{name}_error": error} if np.isfinite(error) else {}


def differences(name: str, groups: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> dict[str, float]:
    """How far the mean of the groups' values is from that of others of the same things, pair by pair, and the
    difference's own standard error; nothing where it cannot be said.
    """
    apart = [np.subtract(own, other) for own, other in zip(groups, others, strict=True)]
    apart = [values[np.isfinite(values)] for values in apart]
    if not any(map(len, apart)):
        return {}
    return {name: float(np.concatenate(apart).mean()), **error_of(name, [list(values) for values in apart])}
