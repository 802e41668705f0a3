"""Scores of pose sequences: distance to the nearest valid variant (by `pose.warping`), hands, jerk (numpy, offline).

Distances are in shoulder widths unless said otherwise. What the reference does not show is not scored; what it shows
and the hypothesis lacks costs `MISSING`, so that leaving out a difficult hand never pays.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.warping import MISSING, check_joints, dtw_each, warp
from signer_jax.types import Pose


def progressive_transformers_dtw(hypothesis: Float[np.ndarray, "t d"], reference: Float[np.ndarray, "u d"]) -> float:
    """The DTW of Progressive Transformers: L1 over a frame's values, accumulated, over the reference's frames.

    In the units of the values (150 a frame, without the counter); comparable only with figures of the same convention.
    """
    return float(warp(cdist(hypothesis, reference, "cityblock"))) / len(reference)


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
