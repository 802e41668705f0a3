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
    """That of the mean over all values, when whole groups (sentences) are drawn: values of one group go together.

    Of the ratio of the groups' sums to their counts (Cochran, Sampling Techniques, 3rd ed., 6.4). NaN for fewer than
    two groups that have values.
    """
    groups = [group for group in groups if len(group)]
    if len(groups) < 2:
        return float("nan")
    sums, counts = np.array([sum(group) for group in groups], float), np.array([len(group) for group in groups])
    left = sums - counts * sums.sum() / counts.sum()
    return float(np.sqrt(len(groups) / (len(groups) - 1) * np.square(left).sum()) / counts.sum())
