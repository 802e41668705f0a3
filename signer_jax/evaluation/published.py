"""A run's poses of texts by the scores that others publish, with what each depends on (`metrics.published`)."""

from collections.abc import Mapping

import numpy as np

from signer_jax.evaluation.experts import expert_order
from signer_jax.evaluation.figures import Evaluation
from signer_jax.evaluation.signed_texts import SignedPose
from signer_jax.evaluation.texts import resting
from signer_jax.metrics.pose_scores import pose_report, total_distance
from signer_jax.metrics.reports import joined
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.progress import progress
from signer_jax.types import Pose

SCORES = ("dtw_pt", "dtw_mje_slrtp", "ndtw_mje", "ndtw_p", "dtw_mje", "velocity", "jerk", "duration")
FLOOR = "_still"


def score_published(signer: Signer, signed: Mapping[int, SignedPose], result: Evaluation) -> None:
    """`published/NAME` of the poses that the run made of texts, to the true one, on the joints that its models see;
    `…_still`: the truth's mean pose, held. `published/sentences`: how many there are, `published/failed`: how many of
    them could not be signed, which count as a signer who stands still for as long as the truth signs. The facts say
    each one's signature.
    """
    if not signed:
        return
    joints, order = skeleton.subset(signer.settings.pose.joints), expert_order(signer)
    reports = []
    for one in progress(list(signed.values()), "published scores"):
        assert one.truth.pose is not None  # `scorable`
        ours = one.made or _standing(resting(signer.retrieval, order, one.truth.name), len(one.truth.pose))
        reports.append(pose_report(ours, one.truth.pose, joints))
    result.metrics |= {
        "published/sentences": float(len(reports)),
        "published/failed": float(sum(one.made is None for one in signed.values())),
    }  # fmt: skip
    for ending, rows in (("", [one.scores for one in reports]), (FLOOR, [one.floor for one in reports])):
        values = {name: ratio.value for name, ratio in joined(rows).items()}
        values |= total_distance(values)
        known = {name: values[name] for name in (*SCORES, "total_distance") if np.isfinite(values.get(name, np.nan))}
        result.metrics |= {f"published/{name}{ending}": value for name, value in known.items()}
    signatures = reports[0].signatures
    result.facts |= {f"published/{name}": signatures[name] for name in SCORES if name in signatures}


def _standing(rest: Pose, frames: int) -> Pose:
    """Its first frame, held."""
    coordinates, confidence = (np.repeat(values[:1], frames, axis=0) for values in (rest.coordinates, rest.confidence))
    return Pose(coordinates, confidence, rest.fps)
