"""All scores of a pair of poses, each with what it depends on, beside those of a signer who stands still."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from signer_jax.metrics import pose as scores
from signer_jax.metrics import published
from signer_jax.metrics.reports import Ratio, Report
from signer_jax.metrics.signatures import signature
from signer_jax.pose import skeleton, warping
from signer_jax.pose.skeleton import on_joints
from signer_jax.types import Pose

MOTION = {"velocity": 1, "acceleration": 2, "jerk": 3}  # which derivative
_HANDS = (*skeleton.LEFT_HAND, *skeleton.RIGHT_HAND)
_NAN = float("nan")
Watch = Callable[[Sequence[int]], Iterable[int]]


def pose_report(
    hypothesis: Pose, reference: Pose, joints: Int[np.ndarray, " j"], watch: Watch = iter, *,
    owed: Int[np.ndarray, " k"] | None = None,
) -> Report:  # fmt: skip
    """By x and y, of two poses on the canonical joints, normalised; `joints` are those that both can show, `owed` those
    that the reference can (`joints`), of which `lacking` is.

    The floor is the reference's mean pose, held (`metrics.pose.still`). What has no value is NaN: scores frame by frame
    of poses of different length, motion of too few frames, and, where there are more pairs of frames than
    `warping.band` lets be compared all, whatever needs all of them. Raises `SignerError` where the reference has no
    frame.
    """
    ours, theirs = (replace(pose, coordinates=pose.coordinates[..., :2]) for pose in (hypothesis, reference))
    found = _warped(ours, theirs, joints, watch) | _frame_by_frame(ours, theirs, joints)
    found |= _motion(ours, theirs, joints)
    owed = joints if owed is None else owed
    found["lacking"] = Ratio(scores.lacking(_on(ours, owed), _on(theirs, owed)))
    rest = scores.still(theirs)
    held = Pose.joined([rest] * len(theirs))
    floor = _warped(rest, theirs, joints, iter) | _frame_by_frame(held, theirs, joints)
    floor["lacking"] = Ratio(scores.lacking(_on(held, owed), _on(theirs, owed)))
    floor |= {name: ratio for name, ratio in _motion(held, theirs, joints).items() if not name.endswith("_reference")}
    return Report(found, floor, signatures(ours, theirs, joints, owed))


def total_distance(values: dict[str, float]) -> dict[str, float]:
    """The mean of both wrists' shares of the references' way, from the report's `total_distance_left` and `…_right`."""
    sides = [values.get(f"total_distance_{side}", _NAN) for side in ("left", "right")]
    return {"total_distance": sum(sides) / 2}


def _warped(ours: Pose, theirs: Pose, joints: np.ndarray, watch: Watch) -> dict[str, Ratio]:
    names = [skeleton.JOINTS[joint] for joint in joints]
    weights = np.stack([warping.joint_weights(names, weight) for weight in (1.0, warping.HAND_WEIGHT)])
    a, b = (_on(scores.without_blinks(pose), joints) for pose in (ours, theirs))
    dtw, weighted = warping.dtw_by_weights(a, b, weights, watch=watch)
    found = {"dtw": Ratio(float(dtw)), "dtw_hand_weighted": Ratio(float(weighted))}
    slrtp = published.slrtp_errors(*(_on(pose, joints) for pose in (ours, theirs)))
    found["dtw_mje_slrtp"] = Ratio(float(slrtp.sum()), len(slrtp))
    names_of_others = ("dtw_mje", "dtw_mje_hands", "dtw_pt", "ndtw_mje", "ndtw_p")
    if warping.band(len(ours), len(theirs)) is not None:
        return found | {name: Ratio(_NAN) for name in names_of_others}
    errors = scores.aligned_errors(a, b)
    upper, hands = _of(skeleton.SUBSETS["upper_50"], joints), _of(_HANDS, joints)
    c, d = (published.about_mean_shoulders(pose) for pose in (ours, theirs))
    values = (
        scores.mean_error(errors),
        scores.mean_error(errors[:, np.isin(joints, hands)]),
        published.progressive_transformers_dtw(_on(ours, upper), _on(theirs, upper)),
        published.ndtw_mje(_on(c, upper), _on(d, upper)),
        published.ndtw_p(_on(published.trimmed(c), hands), _on(published.trimmed(d), hands)),
    )
    return found | {name: Ratio(value) for name, value in zip(names_of_others, values, strict=True)}


def _frame_by_frame(ours: Pose, theirs: Pose, joints: np.ndarray) -> dict[str, Ratio]:
    a, b = (_on(pose, joints) for pose in (ours, theirs))
    found = {"mpjpe": Ratio(_NAN), "hand_error": Ratio(_NAN)}
    if len(ours) == len(theirs):
        hands = np.flatnonzero(np.isin(joints, _of(_HANDS, joints)))
        a, b = scores.without_blinks(a), scores.without_blinks(b)
        found["mpjpe"] = Ratio(scores.mpjpe(a, b))
        found["hand_error"] = Ratio(scores.hand_error(a, b, hands))
    return found


def _motion(ours: Pose, theirs: Pose, joints: np.ndarray) -> dict[str, Ratio]:
    found = {"duration": Ratio(len(ours) / ours.fps / (len(theirs) / theirs.fps))}
    for name, order in MOTION.items():
        found[name] = Ratio(scores.jerk(_on(ours, joints), order=order))
        found[f"{name}_reference"] = Ratio(scores.jerk(_on(theirs, joints), order=order))
    ways = [published.wrist_ways(pose) for pose in (ours, theirs)]
    for side, own, true in zip(("left", "right"), *ways, strict=True):
        found[f"total_distance_{side}"] = Ratio(float(own), float(true))
    return found


def _on(pose: Pose, joints: np.ndarray) -> Pose:
    return on_joints(pose, joints, pose.coordinates.shape[-1])


def _of(names: Sequence[str], joints: np.ndarray) -> Int[np.ndarray, " k"]:
    """Those of the named joints that are among `joints`."""
    return np.array([k for k in skeleton.positions(names, skeleton.JOINTS) if k in joints], np.int32)


def signatures(ours: Pose, theirs: Pose, joints: np.ndarray, owed: np.ndarray) -> dict[str, str]:
    """What each score depends on; velocity and acceleration as `jerk`, each wrist as the mean of both."""
    every, hands = f"{len(joints)}", f"hands-{len(_of(_HANDS, joints))}"
    upper = f"upper-{len(_of(skeleton.SUBSETS['upper_50'], joints))}"
    radius = warping.band(len(ours), len(theirs))
    steps = sorted({published.every(pose.fps) for pose in (ours, theirs)})
    medians, means = ({"dims": "x,y", "norm": f"{kind}-shoulders"} for kind in ("median", "mean"))
    bridged = medians | {"gaps": f"{scores.BLINK:g}s-on-a-line"}
    charged = bridged | {"fill": f"{warping.MISSING:g}-where-only-the-reference-shows-it"}
    warped = charged | {"warp": "exact" if radius is None else f"band-{radius}", "dist": "euclidean", "over": "frames"}
    path = {"fill": "none", "warp": "exact", "over": "path"}
    alone = {"warp": "exact-each-joint", "over": "joints"}
    return {
        "dtw": signature(joints=every, **warped),
        "dtw_hand_weighted": signature(joints=every, hands=f"x{warping.HAND_WEIGHT:g}", **warped),
        "dtw_mje": signature(joints=every, **bridged, **path),
        "dtw_mje_hands": signature(joints=hands, **bridged, **path),
        "dtw_mje_slrtp": signature(
            joints=every,
            **medians,
            fill=0,
            warp="fastdtw-1",
            frames=f"every-{'-and-'.join(map(str, steps))}",
            over="path",
        ),
        "dtw_pt": signature(joints=upper, **medians, fill=0, warp="exact", dist="l1-sum", over="frames"),
        "ndtw_mje": signature(joints=upper, **means, fill="half-the-norm", dist="euclidean", **alone),
        "ndtw_p": signature(joints=hands, **means, trim="yes", fill=10, dist="root-of-squares", **alone),
        "mpjpe": signature(joints=every, **bridged, fill="none", warp="none", over="frames"),
        "hand_error": signature(joints=hands, **charged, warp="none", weights="confidence"),
        "lacking": signature(joints=f"{len(owed)}", of="the-reference", over="joints"),
        "jerk": signature(joints=every, **medians, fill="none", time="seconds"),
        "total_distance": signature(joints="wrists", **medians, fill="none", over="reference"),
    }
