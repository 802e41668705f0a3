"""Dynamic time warping of poses: how far one performance of a sign is from another (numpy).

Distances are in shoulder widths. What the reference does not show does not count; what it shows and the hypothesis
lacks costs `MISSING`.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.types import Pose

MISSING = 1.0  # shoulder widths
_MOST_COSTS = 4_000_000  # held at a time, 32 MB
_FEW_COSTS = 1000
_MANY = 8  # matrices of a stack from which on diagonals are quicker than rows
_CANCELLED = 1e-6
_AT_ONCE = 16  # pairs whose costs stay in a processor's cache
# Beyond so many pairs of frames (two minutes with two, at 25 a second) the path keeps near the straight line from
# corner to corner: two files of 60,000 frames are 3.6 thousand million pairs.
_EXACT = 9_000_000
_BAND = 500  # frames off that line
HAND_WEIGHT = 3.0  # how much more a hand joint counts when performances of a sign are compared


def joint_weights(joints: Sequence[str], hand_weight: float) -> Float[np.ndarray, " j"]:
    """For hand-weighted scores: `hand_weight` for the hand joints among `joints` (names), 1 for the others."""
    weights = np.ones(len(joints))
    weights[hand_index(joints)] = hand_weight
    return weights


def hand_index(joints: Sequence[str]) -> Int[np.ndarray, " hand_joints"]:
    """Where the hand joints (left, then right) stand in `joints`."""
    return skeleton.positions((*skeleton.LEFT_HAND, *skeleton.RIGHT_HAND), joints)


def warp(cost: Float[np.ndarray, "*k t u"]) -> Float[np.ndarray, "*k"]:
    """The least accumulated cost of a warping path from corner to corner; steps (1, 0), (0, 1), (1, 1), all weighted 1.

    Costs must be finite. A stack of matrices `[k, t, u]` is warped at once. Work: t steps of numpy over rows; within a
    row D[j] = min_{i<=j}(enter[i] + cost[i] + … + cost[j]) is a running minimum beside a running sum. Of many matrices
    it is t + u steps over diagonals, whose values wait for each other in no sum.
    """
    if cost.ndim == 3 and len(cost) >= _MANY:
        return _warp_by_diagonals(cost)
    return _warp_on(None, cost)[..., -1]


def _warp_by_diagonals(cost: Float[np.ndarray, "k t u"]) -> Float[np.ndarray, "k"]:
    k, t, u = cost.shape
    padded = np.full((t, u + t, k), np.inf)
    padded[:, :u] = np.moveaxis(cost, 0, -1)
    # Row i moved i columns to the right: what stands below each other in column d is diagonal d. No copy: a row's end
    # is padding, and so is what comes before the next row's beginning.
    down, right, deep = padded.strides
    diagonals = np.lib.stride_tricks.as_strided(padded, (t + u - 1, t, k), (right, down - right, deep), writeable=False)
    # Of three diagonals on end, at i + 1 the value of row i; at 0 there is none.
    before, last, now = (np.full((t + 1, k), np.inf) for _ in range(3))
    last[1] = diagonals[0, 0]
    for d in range(1, t + u - 1):
        low, high = max(0, d - u + 1), min(t, d + 1)
        row = now[low + 1 : high + 1]
        np.minimum(last[low:high], last[low + 1 : high + 1], out=row)
        np.minimum(row, before[low:high], out=row)
        row += diagonals[d, low:high]
        now[low] = np.inf
        before, last, now = last, now, before
    return last[t]


def band(hypothesis: int, reference: int) -> int | None:
    """How many frames of the reference the path may leave the straight line, of so many frames; None: any number."""
    if hypothesis * reference <= _EXACT:
        return None
    return max(_BAND, -(-2 * reference // hypothesis))  # and so many that the bands of two rows overlap


def _warp_on(
    row: np.ndarray | None, cost: Float[np.ndarray, "*k t u"], before: np.ndarray | float = np.inf
) -> Float[np.ndarray, "*k u"]:
    """The last row of accumulated costs, from the row before the first of `cost` (None: there is none).

    `before`: what that row has in the column before its first, where `cost` is a part of a matrix.
    """
    for i in range(cost.shape[-2]):
        sums = np.cumsum(cost[..., i, :], axis=-1)
        if row is None:
            row = sums
            continue
        enter = row.copy()
        if i == 0:
            enter[..., 0] = np.minimum(enter[..., 0], before)
        np.minimum(enter[..., 1:], row[..., :-1], out=enter[..., 1:])
        enter += cost[..., i, :]
        enter -= sums
        np.minimum.accumulate(enter, axis=-1, out=enter)
        row = enter + sums
    return np.asarray(row)


def warp_blocks(
    costs: Callable[[slice], Float[np.ndarray, "*k n u"]], frames: int, values: int
) -> Float[np.ndarray, "*k"]:
    """As `warp`, of `frames` rows of `values` numbers each that `costs(rows)` makes, some at a time."""
    step = max(1, _MOST_COSTS // max(values, 1))
    row = None
    for start in range(0, frames, step):
        row = _warp_on(row, costs(slice(start, start + step)))
    return np.asarray(row)[..., -1]


def dtw_of_frames(
    ours: Float[np.ndarray, "k t d"], theirs: Float[np.ndarray, "k u d"], *, squared: bool
) -> Float[np.ndarray, "k"]:
    """The exact DTW of k pairs of sequences at once, whose frames are plain vectors with nothing missing.

    The accumulated Euclidean distances of whole frames (what the library fastdtw approximates), or, `squared`, the root
    of the accumulated squares (what dtaidistance's `dtw_ndim.distance` is). Float64. Our own scores are `dtw`, which
    knows of missing joints. Raises `SignerError` where the two are not so many sequences of frames of one size, have no
    frames or are not finite.
    """
    if ours.ndim != 3 or theirs.ndim != 3 or len(ours) != len(theirs) or ours.shape[2] != theirs.shape[2]:
        raise SignerError(
            f"pose scores: {list(ours.shape)} against {list(theirs.shape)}; pairs of sequences are [k, frames, values] "
            "each, k and values the same"
        )
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if not (ours.shape[1] and theirs.shape[1] and np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise SignerError("pose scores: sequences without frames or with values that are not finite; leave them out")
    parts = [slice(i, i + _AT_ONCE) for i in range(0, len(ours), _AT_ONCE)]
    first = theirs[:, :1]  # near the origin the products lose the least
    ours, theirs = ours - first, theirs - first
    found = [warp(_distances(ours[part], theirs[part], squared)) for part in parts]
    whole = np.concatenate([np.zeros(0), *found])
    return np.sqrt(whole) if squared else whole


def _distances(
    ours: Float[np.ndarray, "k t d"], theirs: Float[np.ndarray, "k u d"], squared: bool
) -> Float[np.ndarray, "k t u"]:
    # |a - b|² by one matrix product a pair: ten times as quick as difference by difference.
    cost = -2 * ours @ theirs.swapaxes(1, 2)
    cost += np.square(ours).sum(axis=-1)[:, :, None]
    cost += np.square(theirs).sum(axis=-1)[:, None]
    # What is little beside its terms is what their rounding leaves: it is told difference by difference.
    scale = np.square(ours).sum(axis=-1).max(axis=-1, initial=0) + np.square(theirs).sum(axis=-1).max(
        axis=-1, initial=0
    )
    for k, near in enumerate(cost < _CANCELLED * scale[:, None, None]):
        i, j = np.nonzero(near)
        cost[k, i, j] = np.square(ours[k, i] - theirs[k, j]).sum(axis=-1)
    return cost if squared else np.sqrt(cost, out=cost)


def frame_cost(
    hypothesis: Float[np.ndarray, "t j c"],
    reference: Float[np.ndarray, "u j c"],
    *,
    hypothesis_confidence: Float[np.ndarray, "t j"] | None = None,
    reference_confidence: Float[np.ndarray, "u j"] | None = None,
    weights: Float[np.ndarray, "*k j"] | None = None,
) -> Float[np.ndarray, "*k t u"]:
    """Distance of every frame to every frame: the mean joint Euclidean distance over the joints the reference shows.

    `weights` weigh the joints (None: all the same); a stack of them gives a stack of distances. A reference frame that
    shows nothing costs 0.
    """
    joints = reference.shape[1]
    weights = np.ones(joints) if weights is None else np.asarray(weights, float)
    theirs = np.ones(reference.shape[:2]) if reference_confidence is None else (reference_confidence > 0).astype(float)
    ours = np.ones(hypothesis.shape[:2]) if hypothesis_confidence is None else (hypothesis_confidence > 0).astype(float)
    counts = np.flatnonzero((weights != 0).reshape(-1, joints).any(axis=0) & theirs.any(axis=0))
    # Coordinates of missing joints may be anything.
    hypothesis = np.where(ours[..., None] > 0, hypothesis, 0.0).astype(float)
    reference = np.where(theirs[..., None] > 0, reference, 0.0).astype(float)
    cost = np.zeros((*weights.shape[:-1], len(hypothesis), len(reference)))
    if len(hypothesis) * len(reference) <= _FEW_COSTS:  # all joints at once: calls would cost more than the sums
        apart = hypothesis[:, None, counts] - reference[None, :, counts]
        distance = np.sqrt(np.einsum("tujc,tujc->tuj", apart, apart))
        distance = np.where(ours[:, None, counts] > 0, distance, MISSING) * theirs[:, counts]
        cost += np.moveaxis(distance @ weights[..., counts].reshape(-1, len(counts)).T, -1, 0).reshape(cost.shape)
    else:
        distance, weighed = np.empty((2, len(hypothesis), len(reference)))  # written over and over: new ones cost more
        for j in counts:
            cdist(hypothesis[:, j], reference[:, j], out=distance)
            distance[ours[:, j] == 0] = MISSING
            for row, weight in zip(cost.reshape(-1, *distance.shape), weights.reshape(-1, joints)[:, j], strict=True):
                row += np.multiply(distance, weight * theirs[:, j], out=weighed)
    total = np.einsum("uj,...j->...u", theirs, weights)[..., None, :]
    return cost / np.where(total > 0, total, 1.0)


def dtw(hypothesis: Pose, reference: Pose, *, weights: Float[np.ndarray, " j"] | None = None) -> float:
    """Dynamic time warping: accumulated `frame_cost` over the reference's number of frames, in shoulder widths.

    `weights` `[j]`: see `joint_weights`. A hypothesis without frames costs `MISSING`. Long files are warped within a
    `band`. Raises `SignerError` where the joints differ in number or the reference has no frames.
    """
    every = np.ones((1, hypothesis.confidence.shape[1])) if weights is None else np.asarray(weights, float)[None]
    return float(dtw_by_weights(hypothesis, reference, every)[0])


def dtw_by_weights(
    hypothesis: Pose,
    reference: Pose,
    weights: Float[np.ndarray, "k j"],
    *,
    watch: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Float[np.ndarray, "k"]:
    """`dtw` for several weightings of the joints at once. `watch` sees the blocks of frames go by (a progress bar)."""
    check_joints(hypothesis, reference)
    t, u = len(hypothesis), len(reference)
    if u == 0:
        raise SignerError("pose scores: the reference has no frames; leave it out or give the clip's frames")
    if t == 0:
        return np.full(len(weights), MISSING)
    radius = band(t, u)
    # Two long sequences' costs need not fit into memory; in a band, short blocks waste the least.
    step = max(1, _MOST_COSTS // (u * len(weights)) if radius is None else min(radius * t // u, radius) // 4)
    slope = (u - 1) / max(t - 1, 1)
    row: np.ndarray | None = None
    first, before = 0, np.full(len(weights), np.inf)
    for start in watch(range(0, t, step)):
        end = min(start + step, t)
        low = 0 if radius is None else max(0, int(start * slope) - radius)
        high = u if radius is None else min(u, int(np.ceil((end - 1) * slope)) + radius + 1)
        if row is not None:
            before = row[..., low - first - 1] if low > first else np.full(len(weights), np.inf)
            row = row[..., low - first :]
            beyond = np.full((*row.shape[:-1], high - low - row.shape[-1]), np.inf)
            row = np.concatenate([row, beyond], axis=-1)
        part, against = hypothesis.slice(start, end), reference.slice(low, high)
        cost = frame_cost(
            part.coordinates, against.coordinates, hypothesis_confidence=part.confidence,
            reference_confidence=against.confidence, weights=weights,
        )  # fmt: skip
        row, first = _warp_on(row, cost, before), low
    return np.asarray(row)[..., -1] / u


def dtw_each(
    hypotheses: Sequence[Pose], references: Sequence[Pose], *, weights: Float[np.ndarray, " j"] | None = None
) -> Float[np.ndarray, "h r"]:
    """The `dtw` of each hypothesis to each reference: their frames are compared all at once, and all are warped at
    once, but for what is too long to be held so. Raises `SignerError` as it does.
    """
    t, u = (np.array([len(pose) for pose in poses]) for poses in (hypotheses, references))
    if not t.all() or not u.all() or t.sum() * u.sum() > _MOST_COSTS:
        return np.array([[dtw(ours, theirs, weights=weights) for theirs in references] for ours in hypotheses])
    for ours, theirs in ((ours, theirs) for ours in hypotheses for theirs in references):
        check_joints(ours, theirs)
    cost = frame_cost(
        *(np.concatenate([pose.coordinates for pose in poses]) for poses in (hypotheses, references)),
        hypothesis_confidence=np.concatenate([pose.confidence for pose in hypotheses]),
        reference_confidence=np.concatenate([pose.confidence for pose in references]), weights=weights,
    )  # fmt: skip
    costs = np.zeros((len(t), len(u), t.max(), u.max()))  # what is behind an end changes nothing before it
    for h, rows in enumerate(np.split(cost, np.cumsum(t)[:-1])):
        for r, part in enumerate(np.split(rows, np.cumsum(u)[:-1], axis=1)):
            costs[h, r, : t[h], : u[r]] = part
    found, row = np.zeros((len(t), len(u))), None
    for i in range(t.max()):
        row = _warp_on(row, costs[:, :, i : i + 1])
        found[t == i + 1] = row[t == i + 1][:, np.arange(len(u)), u - 1]
    return found / u


def nearest_candidate(
    candidates: Sequence[Pose | None], target: Pose, *, weights: Float[np.ndarray, " j"] | None = None
) -> int:
    """y for data without supervision: the index of the candidate nearest to the ground truth by DTW (PAPER 2.3).

    `weights` from `joint_weights` make it hand-weighted. None stands for a candidate that does not exist; -1 where none
    exists or the target has no frames. Of equals the first.
    """
    distances = [np.inf if pose is None else dtw(pose, target, weights=weights) for pose in candidates if len(target)]
    return int(np.argmin(distances)) if np.isfinite(distances).any() else -1


def check_joints(hypothesis: Pose, reference: Pose) -> None:
    ours, theirs = hypothesis.coordinates.shape[1:], reference.coordinates.shape[1:]
    if ours != theirs:
        raise SignerError(
            f"pose scores: the hypothesis has {ours[0]} joints × {ours[1]} coordinates, the reference {theirs[0]} × "
            f"{theirs[1]}; convert both to the same skeleton"
        )
