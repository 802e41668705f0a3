"""What an evaluation returns, and the mean that its figures are."""

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
