"""Scores of poses as others define them, to compare with their figures; missing joints are filled as they fill them.

A joint that a detector missed for a moment weighs in these as a joint in a wrong place: at the fill's. For scores that
are not ruled by that see `metrics.pose`. `pose_scores` says what each depends on.
"""

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from signer_jax.metrics.alignment import fast_path
from signer_jax.pose import skeleton
from signer_jax.pose.warping import check_joints, warp_blocks
from signer_jax.types import Pose

SLRTP_RATE = 12.5  # frames a second at which the challenge compares: every second one of its 25
_FILL = 10.0
_MARGIN = 5  # frames


def filled(pose: Pose, value: float = 0.0) -> Float[np.ndarray, "t j c"]:
    """The coordinates in float64, with `value` for those of missing joints."""
    return np.where((pose.confidence > 0)[..., None], pose.coordinates, value).astype(float)


def _nothing(hypothesis: Pose, reference: Pose) -> bool:
    """Whether there is no frame or no joint to compare. Raises `SignerError` where the joints differ."""
    check_joints(hypothesis, reference)
    return not hypothesis.confidence.size or not reference.confidence.size


def progressive_transformers_dtw(hypothesis: Pose, reference: Pose) -> float:
    """The DTW of Progressive Transformers (Saunders et al. 2020; `calculate_dtw` of their public code).

    Sums of absolute differences of a frame's values, accumulated over the exact path, over the reference's number of
    frames; missing joints are 0. In the units of the values: theirs are 150 values a frame, x, y and z of the 50 joints
    of `upper_50`, as their `.skels` files have them, and their code leaves out each sequence's last frame. NaN where a
    side has no frame or no joint. Raises `SignerError` where the joints differ.
    """
    if _nothing(hypothesis, reference):
        return float("nan")
    ours, theirs = (filled(pose).reshape(len(pose), -1) for pose in (hypothesis, reference))
    total = warp_blocks(lambda rows: cdist(ours[rows], theirs, "cityblock"), len(ours), len(theirs))
    return float(total) / len(theirs)


def slrtp_errors(hypothesis: Pose, reference: Pose) -> Float[np.ndarray, " n"]:
    """The errors whose mean is the DTW-MJE of the SLRTP 2025 challenge (`pose_dtw_mje` of its public evaluation).

    The mean joint distance of each pair of frames on the path that the fastdtw library finds (radius 1, Euclidean
    distance of whole frames), at `SLRTP_RATE`; missing joints are 0. The challenge's figure for a set is the mean over
    all pairs of frames of all its sequences; its poses are 178 joints in 3D. None where a side has no frame or no
    joint. Raises `SignerError` where the joints differ.
    """
    if _nothing(hypothesis, reference):
        return np.zeros(0)
    ours, theirs = (filled(pose)[:: every(pose.fps)] for pose in (hypothesis, reference))
    path = fast_path(ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1))
    return np.linalg.norm(ours[path[:, 0]] - theirs[path[:, 1]], axis=-1).mean(axis=1)


def every(fps: float) -> int:
    """Every how-manieth frame is taken, so that the rate is nearest to the challenge's."""
    return max(1, round(fps / SLRTP_RATE))


def ndtw_mje(hypothesis: Pose, reference: Pose) -> float:
    """The nDTW-MJE of Ham2Pose (Shalev-Arkushin et al. 2023; `compare_poses` of its public code with fastdtw).

    For each joint the DTW of its way; the mean over the joints, not over frames. Two points cost their distance, what
    the reference lacks nothing, what the hypothesis lacks half the reference's distance from the origin. Theirs are x
    and y of upper body and hands, moved and scaled by the means of the shoulders (`about_mean_shoulders`). Here the
    path is exact; fastdtw's is an approximation, so that its figure is this one or a little more. NaN as
    `progressive_transformers_dtw`; raises as it does.
    """
    ours, theirs = filled(hypothesis), filled(reference)
    we_show, they_show = hypothesis.confidence > 0, reference.confidence > 0

    def costs(rows: slice) -> Float[np.ndarray, "j n u"]:
        apart = _each_joint(ours[rows], theirs)
        lacking = np.linalg.norm(theirs, axis=-1).T[:, None] / 2
        return np.where(we_show[rows].T[..., None], apart, lacking) * they_show.T[:, None]

    return _mean_over_joints(hypothesis, reference, costs)


def ndtw_p(hypothesis: Pose, reference: Pose, fill: float = _FILL) -> float:
    """The nDTWp of pose-evaluation (Jiang et al. 2025, "Meaningful Pose-Based Sign Language Evaluation").

    For each joint the DTW of its way as dtaidistance computes it: the root of the least sum of squared distances; the
    mean over the joints, not over frames. A missing joint lies at `fill` in x, y and z. Theirs are the 42 joints of the
    hands, `about_mean_shoulders`, `trimmed`; of MediaPipe's poses z is left in shares of the picture there, beside x
    and y in pixels, and so is next to nothing: of poses in two dimensions it is 0 here. NaN and raises as `ndtw_mje`.
    """
    ours, theirs = (_in_space(filled(pose, fill), pose.confidence > 0, fill) for pose in (hypothesis, reference))
    return _mean_over_joints(hypothesis, reference, lambda rows: _each_joint(ours[rows], theirs) ** 2, root=True)


def _in_space(values: Float[np.ndarray, "t j c"], shown: np.ndarray, fill: float) -> Float[np.ndarray, "t j 3"]:
    depth = np.where(shown, 0.0, fill)[..., None]
    return np.concatenate([values, *[depth] * (3 - values.shape[-1])], axis=-1)


def _each_joint(ours: Float[np.ndarray, "n j c"], theirs: Float[np.ndarray, "u j c"]) -> Float[np.ndarray, "j n u"]:
    return np.stack([cdist(ours[:, joint], theirs[:, joint]) for joint in range(ours.shape[1])])


def _mean_over_joints(hypothesis: Pose, reference: Pose, costs, *, root: bool = False) -> float:
    if _nothing(hypothesis, reference):
        return float("nan")
    totals = warp_blocks(costs, len(hypothesis), len(reference) * hypothesis.confidence.shape[1])
    return float(np.mean(np.sqrt(np.maximum(totals, 0)) if root else totals))


def about_mean_shoulders(pose: Pose) -> Pose:
    """On the canonical joints: the mean middle of the shoulders at the origin, their mean distance 1 (`Pose.normalize`
    of pose-format), over the frames that show both. What is missing stays so; as it is where no frame shows both.
    """
    right, left = (pose.coordinates[:, skeleton.INDEX[name]].astype(float) for name in _SHOULDERS)
    seen = (pose.confidence[:, [skeleton.INDEX[name] for name in _SHOULDERS]] > 0).all(axis=1)
    width = np.linalg.norm(right[seen] - left[seen], axis=-1).mean() if seen.any() else 0.0
    if not width > 0:
        return pose
    centre = ((right[seen] + left[seen]) / 2).mean(axis=0)
    return Pose((pose.coordinates - centre) / width, pose.confidence, pose.fps)


_SHOULDERS = ("right_shoulder", "left_shoulder")


def trimmed(pose: Pose) -> Pose:
    """On the canonical joints: without the frames before and after the signing, by the rule of spoken-to-signed's
    `trim_pose`, which pose-evaluation uses.

    For each arm from five frames before the wrist is first above the elbow, but not before it is first seen, to five
    behind the last such frame, but not beyond the last that shows it; the widest of both. All where no wrist ever is.
    """
    starts, ends = [], []
    for side in ("left", "right"):
        wrist, elbow = skeleton.INDEX[f"{side}_wrist"], skeleton.INDEX[f"{side}_elbow"]
        seen = np.flatnonzero(pose.confidence[:, wrist] > 0)
        both = (pose.confidence[:, [wrist, elbow]] > 0).all(axis=1)
        raised = np.flatnonzero(both & (pose.coordinates[:, wrist, 1] < pose.coordinates[:, elbow, 1]))
        if len(raised):
            starts.append(max(seen[0], raised[0] - _MARGIN))
            ends.append(min(seen[-1], raised[-1] + _MARGIN) + 1)
    return pose.slice(int(min(starts)), int(max(ends))) if starts else pose


def wrist_ways(pose: Pose) -> Float[np.ndarray, " c"]:
    """How far the left and the right wrist go, on the canonical joints, in the poses' units: over the frames that show
    them; NaN where fewer than two do. The total distance of the SLRTP 2025 challenge is for each wrist the hypotheses'
    mean over the references', and the mean of both.
    """
    ways = []
    for side in ("left", "right"):
        wrist = skeleton.INDEX[f"{side}_wrist"]
        way = pose.coordinates[pose.confidence[:, wrist] > 0, wrist].astype(float)
        ways.append(np.linalg.norm(np.diff(way, axis=0), axis=-1).sum() if len(way) > 1 else np.nan)
    return np.array(ways)
