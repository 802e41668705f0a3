"""The interval of a resampled figure."""

import numpy as np
from jaxtyping import Float

LEVEL = 0.95


def interval(values: Float[np.ndarray, "k ..."]) -> tuple[np.ndarray, np.ndarray]:
    """The middle 95 % of resampled values, those that are no number left out; NaN of none."""
    known = np.isfinite(values).any(0)
    shown = np.where(known, np.where(np.isfinite(values), values, np.nan), 0.0)
    low, high = np.nanquantile(shown, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)
