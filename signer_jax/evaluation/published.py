"""A run's poses of texts by the scores that others publish, with what each depends on (`metrics.published`)."""

import numpy as np

from signer_jax.evaluation.figures import Evaluation
from signer_jax.evaluation.poses import scorable
from signer_jax.evaluation.texts import perform_texts
from signer_jax.metrics.pose_scores import pose_report, total_distance
from signer_jax.metrics.reports import joined
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.progress import progress
from signer_jax.training.partitioning import on_mesh_of

SCORES = ("dtw_pt", "dtw_mje_slrtp", "ndtw_mje", "ndtw_p", "dtw_mje", "velocity", "jerk", "duration")
FLOOR = "_still"


def evaluate_published(signer: Signer, split: str, limit: int, result: Evaluation) -> None:
    """`published/NAME` of the poses that the run makes of at most `limit` texts, to the true one, on the joints that
    its models see; `…_still`: the truth's mean pose, held. `published/sentences`: how many were scored,
    `published/failed`: how many could not be signed, which no score counts. The facts say each one's signature.
    """
    records = signer.corpus.motions(split)
    samples = [records[i] for i in scorable(records, limit)]
    if not samples:
        return
    with on_mesh_of(signer.params):
        signed, _ = perform_texts(signer, samples, np.arange(len(skeleton.JOINTS)), 3)
    joints = skeleton.subset(signer.settings.pose.joints)
    pairs = [(pose, sample.pose) for pose, sample in zip(signed, samples, strict=True) if pose and sample.pose]
    reports = [pose_report(ours, theirs, joints) for ours, theirs in progress(pairs, "published scores")]
    result.metrics |= {
        "published/sentences": float(len(reports)), "published/failed": float(len(samples) - len(reports)),
    }  # fmt: skip
    if not reports:
        return
    for ending, rows in (("", [one.scores for one in reports]), (FLOOR, [one.floor for one in reports])):
        values = {name: ratio.value for name, ratio in joined(rows).items()}
        values |= total_distance(values)
        known = {name: values[name] for name in (*SCORES, "total_distance") if np.isfinite(values.get(name, np.nan))}
        result.metrics |= {f"published/{name}{ending}": value for name, value in known.items()}
    signatures = reports[0].signatures
    result.facts |= {f"published/{name}": signatures[name] for name in SCORES if name in signatures}
