"""Scores of pose sequences: dynamic time warping, distance to the nearest valid variant, hands, jerk (numpy, offline).

Distances are in shoulder widths unless said otherwise. What the reference does not show is not scored; what it shows
and the hypothesis lacks costs `MISSING`, so that leaving out a difficult hand never pays.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.types import Pose

MISSING = 1.0  # shoulder widths


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
    row D[j] = min_{i<=j}(enter[i] + cost[i] + … + cost[j]) is a running minimum beside a running sum.
    """
    sums = np.cumsum(cost, axis=-1)
    row = sums[..., 0, :]
    for i in range(1, cost.shape[-2]):
        enter = row.copy()
        np.minimum(enter[..., 1:], row[..., :-1], out=enter[..., 1:])
        enter += cost[..., i, :]
        enter -= sums[..., i, :]
        np.minimum.accumulate(enter, axis=-1, out=enter)
        row = enter + sums[..., i, :]
    return row[..., -1]


def frame_cost(
    hypothesis: Float[np.ndarray, "t j c"],
    reference: Float[np.ndarray, "u j c"],
    *,
    hypothesis_confidence: Float[np.ndarray, "t j"] | None = None,
    reference_confidence: Float[np.ndarray, "u j"] | None = None,
    weights: Float[np.ndarray, " j"] | None = None,
) -> Float[np.ndarray, "t u"]:
    """Distance of every frame to every frame: the mean joint Euclidean distance over the joints the reference shows.

    `weights` weigh the joints (None: all the same). A reference frame that shows nothing costs 0.
    """
    joints = reference.shape[1]
    weights = np.ones(joints) if weights is None else np.asarray(weights, float)
    theirs = np.ones(reference.shape[:2]) if reference_confidence is None else (reference_confidence > 0).astype(float)
    ours = np.ones(hypothesis.shape[:2]) if hypothesis_confidence is None else (hypothesis_confidence > 0).astype(float)
    whole = bool(ours.all())
    cost = np.zeros((len(hypothesis), len(reference)))
    for j in range(joints):
        if weights[j] == 0 or not theirs[:, j].any():
            continue
        distance = cdist(_shown(hypothesis[:, j], ours[:, j]), _shown(reference[:, j], theirs[:, j]))
        if not whole:
            distance = np.where(ours[:, j, None] > 0, distance, MISSING)
        cost += distance * (weights[j] * theirs[:, j])
    total = theirs @ weights
    return cost / np.where(total > 0, total, 1.0)


def _shown(coordinates: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Coordinates with those of missing joints (which may be anything) set to 0."""
    return np.where(present[:, None] > 0, coordinates, 0.0).astype(float)


def dtw(hypothesis: Pose, reference: Pose, *, weights: Float[np.ndarray, " j"] | None = None) -> float:
    """Dynamic time warping: accumulated `frame_cost` over the reference's number of frames, in shoulder widths.

    `weights` `[j]`: see `joint_weights`. A hypothesis without frames costs `MISSING`. Raises `SignerError` where the
    joints differ in number or the reference has no frames.
    """
    _check_joints(hypothesis, reference)
    if len(reference) == 0:
        raise SignerError("pose scores: the reference has no frames; leave it out or give the clip's frames")
    if len(hypothesis) == 0:
        return MISSING
    cost = frame_cost(
        hypothesis.coordinates,
        reference.coordinates,
        hypothesis_confidence=hypothesis.confidence,
        reference_confidence=reference.confidence,
        weights=weights,
    )
    return float(warp(cost)) / len(reference)


def progressive_transformers_dtw(hypothesis: Float[np.ndarray, "t d"], reference: Float[np.ndarray, "u d"]) -> float:
    """The DTW of Progressive Transformers: L1 over a frame's values, accumulated, over the reference's frames.

    In the units of the values (150 a frame, without the counter); comparable only with figures of the same convention.
    """
    return float(warp(cdist(hypothesis, reference, "cityblock"))) / len(reference)


def _check_joints(hypothesis: Pose, reference: Pose) -> None:
    ours, theirs = hypothesis.coordinates.shape[1:], reference.coordinates.shape[1:]
    if ours != theirs:
        raise SignerError(
            f"pose scores: the hypothesis has {ours[0]} joints × {ours[1]} coordinates, the reference {theirs[0]} × "
            f"{theirs[1]}; convert both to the same skeleton"
        )


def segment_dtw(
    hypothesis: Pose,
    spans: Int[np.ndarray, "n 2"],
    references: Sequence[tuple[Pose, Int[np.ndarray, "n 2"]]],
    *,
    weights: Float[np.ndarray, " j"] | None = None,
) -> Float[np.ndarray, " n"]:
    """For each gloss the `dtw` of its frames to the nearest valid variant, `[n]` (PAPER 2.3).

    Reproducing any one of the references scores 0, their average does not. NaN where no reference shows the gloss.
    Raises `SignerError` as `variant_distances` does.
    """
    distances = variant_distances(hypothesis, spans, references, weights=weights)
    return np.fmin.reduce(distances, axis=0, initial=np.nan)


def variant_distances(
    hypothesis: Pose,
    spans: Int[np.ndarray, "n 2"],
    references: Sequence[tuple[Pose, Int[np.ndarray, "n 2"]]],
    *,
    weights: Float[np.ndarray, " j"] | None = None,
) -> Float[np.ndarray, "r n"]:
    """The `dtw` of each gloss's frames to each valid variant.

    `references` are the valid (pose, spans) of the same glosses. A reference whose span is empty does not show that
    gloss: NaN. Raises `SignerError` where a reference has another number of glosses.
    """
    distances = np.full((len(references), len(spans)), np.nan)
    for k, (pose, reference_spans) in enumerate(references):
        if len(reference_spans) != len(spans):
            raise SignerError(
                f"pose scores: the hypothesis has {len(spans)} glosses, a reference {len(reference_spans)}; "
                "a variant must sign the same glosses"
            )
        for i, ((start, end), (their_start, their_end)) in enumerate(zip(spans, reference_spans, strict=True)):
            if their_end > their_start:
                theirs = pose.slice(their_start, their_end)
                distances[k, i] = dtw(hypothesis.slice(start, end), theirs, weights=weights)
    return distances


def nearest_candidate(
    candidates: Sequence[Pose | None], target: Pose, *, weights: Float[np.ndarray, " j"] | None = None
) -> int:
    """y for data without supervision: the index of the candidate nearest to the ground truth by DTW (PAPER 2.3).

    `weights` from `joint_weights` make it hand-weighted. None stands for a candidate that does not exist; -1 where none
    exists or the target has no frames. Of equals the first.
    """
    distances = [np.inf if pose is None else dtw(pose, target, weights=weights) for pose in candidates if len(target)]
    return int(np.argmin(distances)) if np.isfinite(distances).any() else -1


def _same_length(hypothesis: Pose, reference: Pose) -> None:
    _check_joints(hypothesis, reference)
    if len(hypothesis) != len(reference):
        raise SignerError(
            f"pose scores: {len(hypothesis)} frames against {len(reference)}; a frame-by-frame score needs the same "
            "number, use dtw for sequences of different length"
        )


def hand_error(hypothesis: Pose, reference: Pose, hands: Int[np.ndarray, " hand_joints"]) -> float:
    """Mean Euclidean distance of the joints `hands` (see `hand_index`), frame by frame, in shoulder widths.

    Weighted by the reference's confidence; NaN where it shows no hand. Raises `SignerError` where lengths differ.
    """
    _same_length(hypothesis, reference)
    weight = reference.confidence[:, hands].astype(float)
    ours = hypothesis.confidence[:, hands] > 0
    difference = np.where((ours & (weight > 0))[..., None], hypothesis.coordinates[:, hands], 0.0)
    difference -= np.where((ours & (weight > 0))[..., None], reference.coordinates[:, hands], 0.0)
    distance = np.where(ours, np.linalg.norm(difference, axis=-1), MISSING)
    return float((distance * weight).sum() / weight.sum()) if weight.sum() > 0 else float("nan")


def hand_pose_error(hypothesis: Pose, reference: Pose, hands: Int[np.ndarray, " hand_joints"], size: int) -> float:
    """`hand_error` of x and y in pixels of a `size`-pixel view ("Hand Pose" of the paper's Table 5; less is better)."""
    ours = Pose(hypothesis.coordinates[..., :2], hypothesis.confidence, hypothesis.fps)
    theirs = Pose(reference.coordinates[..., :2], reference.confidence, reference.fps)
    return hand_error(ours, theirs, hands) * size / skeleton.VIEW_SIDE


def jerk(pose: Pose, *, order: int = 3) -> float:
    """Mean length of the `order`-th derivative over time, shoulder widths / s^order: 3 is jerk, 2 is acceleration.

    Over the joints shown in all order + 1 frames of a difference; NaN where there is none. Lower is smoother; compare
    with the ground truth's, since standing still scores 0.
    """
    shown = pose.confidence > 0
    difference = np.where(shown[..., None], pose.coordinates, 0.0).astype(float)
    for _ in range(order):
        difference = difference[1:] - difference[:-1]
        shown = shown[1:] & shown[:-1]
    if not shown.any():
        return float("nan")
    return float(np.linalg.norm(difference, axis=-1)[shown].mean() * pose.fps**order)
