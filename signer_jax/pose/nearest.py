"""Which frame of a bank shows the nearest pose (numpy): for reference frames, and for the baseline that copies them."""

import numpy as np
from jaxtyping import Float, Int


def nearest_frames(
    query: Float[np.ndarray, "t j c"],
    query_confidence: Float[np.ndarray, "t j"],
    bank: Float[np.ndarray, "m j c"],
    bank_confidence: Float[np.ndarray, "m j"],
    *,
    chunk: int = 4096,
) -> Int[np.ndarray, " t"]:
    """For every query frame the bank's frame with the nearest pose, `[t]`.

    The distance is the mean squared one over the joints, weighted by the query's confidence; a joint that the bank's
    frame lacks counts 1 (squared shoulder width). `chunk` bank frames are compared at once: a few matrix products, and
    `[t, chunk]` of memory. Of equals the first.
    """
    best = np.full(len(query), np.inf)
    index = np.zeros(len(query), int)
    query = np.where(query_confidence[..., None] > 0, query, 0.0).astype(np.float64)
    bank = np.where(bank_confidence[..., None] > 0, bank, 0.0).astype(np.float64)
    weighted = query * query_confidence[..., None]
    query_square = (query * weighted).sum(axis=-1)
    flat = weighted.reshape(len(query), -1)
    for start in range(0, len(bank), chunk):
        theirs, seen = bank[start : start + chunk], (bank_confidence[start : start + chunk] > 0).astype(float)
        distance = query_square @ seen.T
        distance += query_confidence @ ((theirs**2).sum(axis=-1) * seen).T
        distance -= 2 * flat @ (theirs * seen[..., None]).reshape(len(theirs), -1).T
        distance += query_confidence @ (1 - seen).T
        nearest = distance.argmin(axis=1)
        value = distance[np.arange(len(query)), nearest]
        better = value < best
        best[better], index[better] = value[better], start + nearest[better]
    return index
