"""Scores of pose sequences: distance to the nearest valid variant (by `pose.warping`), hands, joints, motion (numpy).

Distances are in shoulder widths unless said otherwise. What the reference does not show is not scored. What it shows
and the hypothesis lacks costs `MISSING` in a DTW and of the hands, so that leaving out a difficult hand never pays; the
mean joint errors are over what both show, and `lacking` stands beside them.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from signer_jax.errors import SignerError
from signer_jax.metrics.alignment import exact_path
from signer_jax.pose import skeleton
from signer_jax.pose.warping import MISSING, check_joints, dtw_each, frame_cost
from signer_jax.types import Pose

BLINK = 0.2  # seconds


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
    distances = variant_distances([hypothesis], spans, references, weights=weights)[0]
    return np.fmin.reduce(distances, axis=0, initial=np.nan)


def variant_distances(
    hypotheses: Sequence[Pose],
    spans: Int[np.ndarray, "n 2"],
    references: Sequence[tuple[Pose, Int[np.ndarray, "n 2"]]],
    *,
    weights: Float[np.ndarray, " j"] | None = None,
) -> Float[np.ndarray, "h r n"]:
    """The `dtw` of each gloss's frames, of hypotheses on one timeline, to each valid variant.

    `references` are the valid (pose, spans) of the same glosses. A reference whose span is empty does not show that
    gloss: NaN. Raises `SignerError` where a reference has another number of glosses.
    """
    for _, their_spans in references:
        if len(their_spans) != len(spans):
            raise SignerError(
                f"pose scores: the hypothesis has {len(spans)} glosses, a reference {len(their_spans)}; "
                "a variant must sign the same glosses"
            )
    distances = np.full((len(hypotheses), len(references), len(spans)), np.nan)
    for i, (start, end) in enumerate(spans):
        shown = [k for k, (_, theirs) in enumerate(references) if theirs[i][1] > theirs[i][0]]
        if shown:
            variants = [references[k][0].slice(*references[k][1][i]) for k in shown]
            ours = [pose.slice(start, end) for pose in hypotheses]
            distances[:, shown, i] = dtw_each(ours, variants, weights=weights)
    return distances


def _same_length(hypothesis: Pose, reference: Pose) -> None:
    check_joints(hypothesis, reference)
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


def mpjpe(hypothesis: Pose, reference: Pose) -> float:
    """Mean per joint position error: the mean distance, frame by frame, of the joints that both show.

    NaN where they share none. Raises `SignerError` where lengths or joints differ.
    """
    _same_length(hypothesis, reference)
    return mean_error(_joint_errors(hypothesis, reference, *[np.arange(len(reference))] * 2))


def aligned_errors(hypothesis: Pose, reference: Pose) -> Float[np.ndarray, "n j"]:
    """The distances of the joints in each pair of frames that the exact warping by `frame_cost` makes; NaN where one of
    the two does not show the joint. The mean of the others (`mean_error`) is a DTW-MJE that no missing joint rules.

    No pair where a side has no frame. Raises `SignerError` where the joints differ.
    """
    check_joints(hypothesis, reference)
    if not len(hypothesis) or not len(reference):
        return np.zeros((0, reference.confidence.shape[1]))
    cost = frame_cost(
        hypothesis.coordinates, reference.coordinates, hypothesis_confidence=hypothesis.confidence,
        reference_confidence=reference.confidence,
    )  # fmt: skip
    return _joint_errors(hypothesis, reference, *exact_path(cost).T)


def _joint_errors(hypothesis: Pose, reference: Pose, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """`[n, j]`: how far joints in frames `ours` are from those in `theirs`; NaN where one does not show the joint."""
    both = (hypothesis.confidence[ours] > 0) & (reference.confidence[theirs] > 0)
    apart = hypothesis.coordinates[ours].astype(float) - reference.coordinates[theirs]
    return np.where(both, np.linalg.norm(np.where(both[..., None], apart, 0), axis=-1), np.nan)


def mean_error(errors: np.ndarray) -> float:
    """The mean of what could be scored, is no NaN; NaN of nothing."""
    scored = errors[np.isfinite(errors)]
    return float(scored.mean()) if len(scored) else float("nan")


def lacking(hypothesis: Pose, reference: Pose) -> float:
    """Of what the reference shows the share that the hypothesis lacks: joint by joint how much less often it is shown.

    NaN where a side has no frame or the reference shows nothing. Raises `SignerError` where the joints differ.
    """
    check_joints(hypothesis, reference)
    if not len(hypothesis) or not (reference.confidence > 0).any():
        return float("nan")
    ours, theirs = ((pose.confidence > 0).mean(axis=0) for pose in (hypothesis, reference))
    return float(np.maximum(theirs - ours, 0).sum() / theirs.sum())


def without_blinks(pose: Pose, longest: float = BLINK) -> Pose:
    """The pose with every joint that is missing for at most `longest` seconds on the line between the frames around.

    A detector that blinks is no fault of the signing. What is filled has the lower confidence of the two frames; longer
    gaps, and those at the clip's ends, stay missing.
    """
    seen, frame = pose.confidence > 0, np.arange(len(pose), dtype=np.int32)[:, None]
    before = np.maximum.accumulate(np.where(seen, frame, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, frame, len(pose))[::-1], axis=0)[::-1]
    short = after - before - 1 <= longest * pose.fps + 1e-6
    t, joint = np.nonzero(~seen & short & (before >= 0) & (after < len(pose)))
    first, last = before[t, joint], after[t, joint]
    share = ((t - first) / np.maximum(last - first, 1))[:, None]
    coordinates, confidence = pose.coordinates.copy(), pose.confidence.copy()
    coordinates[t, joint] = coordinates[first, joint] * (1 - share) + coordinates[last, joint] * share
    confidence[t, joint] = np.minimum(confidence[first, joint], confidence[last, joint])
    return Pose(coordinates, confidence, pose.fps)


def still(reference: Pose) -> Pose:
    """One frame: each joint at its mean over the frames that show it. Held, it is the average pose of a signer who does
    not sign, and costs as much in a DTW as any number of copies of it up to the reference's.
    """
    shown = (reference.confidence > 0)[..., None]
    count = shown.sum(axis=0, keepdims=True)
    mean = np.where(shown, reference.coordinates, 0).sum(axis=0, keepdims=True) / np.maximum(count, 1)
    return Pose(mean.astype(np.float32), (count[..., 0] > 0).astype(np.float32), reference.fps)


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
