"""Which frames of two sequences a warping pairs: the exact path, and that of the fastdtw library (numpy)."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int


def exact_path(cost: Float[np.ndarray, "t u"]) -> Int[np.ndarray, "n 2"]:
    """The pairs of frames of the cheapest path from corner to corner, steps (1, 0), (0, 1), (1, 1); of equally cheap
    ones that with the most diagonal steps towards the end. Costs must be finite; none may be empty.
    """
    t, u = cost.shape
    total = np.full((t + 1, u + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(t):
        # Within a row D[j] = min over i <= j of (enter[i] + cost[i] + … + cost[j]).
        sums = np.cumsum(cost[i])
        enter = np.minimum(total[i, 1:], total[i, :-1]) + cost[i] - sums
        total[i + 1, 1:] = np.minimum.accumulate(enter) + sums
    i, j, path = t, u, []
    while i > 0 and j > 0:
        path.append((i - 1, j - 1))
        step = int(np.argmin((total[i - 1, j - 1], total[i - 1, j], total[i, j - 1])))
        i, j = i - (step != 2), j - (step != 1)
    return np.array(path[::-1], np.int64)


def fast_path(
    hypothesis: Float[np.ndarray, "t d"], reference: Float[np.ndarray, "u d"], radius: int = 1
) -> Int[np.ndarray, "n 2"]:
    """The path of FastDTW (Salvador and Chan 2007) by Euclidean distances of frames, as the fastdtw library takes it.

    Both sequences are halved, the path of the halves is found in the same way, and the cheapest path that stays within
    `radius` of it is taken: an approximation, in time and memory along the sequences' length. Which of equally cheap
    steps is taken is the library's choice: down, across, diagonal.
    """
    t, u = len(hypothesis), len(reference)
    if min(t, u) < radius + 2:
        return _path_within(hypothesis, reference, ((i, range(u)) for i in range(t)))
    coarse = fast_path(_halved(hypothesis), _halved(reference), radius)
    return _path_within(hypothesis, reference, _window(coarse, t, u, radius))


def _halved(sequence: Float[np.ndarray, "t d"]) -> Float[np.ndarray, "u d"]:
    half = len(sequence) // 2
    return sequence[: 2 * half].reshape(half, 2, -1).mean(axis=1)


def _window(coarse: Int[np.ndarray, "n 2"], t: int, u: int, radius: int) -> Iterable[tuple[int, range]]:
    """For each row the columns within `radius` of the halves' path."""
    low = np.full(t // 2 + radius + 1, u)
    high = np.full(t // 2 + radius + 1, -1)
    for i, j in coarse:
        rows = slice(max(i - radius, 0), i + radius + 1)
        low[rows] = np.minimum(low[rows], 2 * max(j - radius, 0))
        high[rows] = np.maximum(high[rows], 2 * (j + radius) + 1)
    for i in range(t):
        yield i, range(low[i // 2], min(high[i // 2] + 1, u))


def _path_within(
    hypothesis: np.ndarray, reference: np.ndarray, window: Iterable[tuple[int, range]]
) -> Int[np.ndarray, "n 2"]:
    inf = float("inf")
    total: dict[tuple[int, int], float] = {(-1, -1): 0.0}
    came: dict[tuple[int, int], tuple[int, int]] = {}
    for i, columns in window:
        costs = np.linalg.norm(reference[columns.start : columns.stop] - hypothesis[i], axis=-1).tolist()
        for j, cost in zip(columns, costs, strict=True):
            before = ((i - 1, j), (i, j - 1), (i - 1, j - 1))
            found = [total.get(place, inf) + cost for place in before]
            best = found.index(min(found))
            total[i, j], came[i, j] = found[best], before[best]
    path, place = [], (len(hypothesis) - 1, len(reference) - 1)
    while place != (-1, -1):
        path.append(place)
        place = came[place]
    return np.array(path[::-1], np.int64)
