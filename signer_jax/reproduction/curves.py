"""The DTW to the nearest valid pose while a run trains (Figures 4 and 6): a point a quarter of a stage, kept as it is
made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signer_jax import outside, storage
from signer_jax.data.streams import spread
from signer_jax.errors import SignerError
from signer_jax.evaluation.experts import expert_order
from signer_jax.evaluation.poses import scorable
from signer_jax.evaluation.texts import perform_texts, resting
from signer_jax.json_files import CONFIG, read_json
from signer_jax.model import Model
from signer_jax.opened import along
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.skeleton import on_joints
from signer_jax.pose.warping import HAND_WEIGHT, dtw_each, joint_weights
from signer_jax.reproduction import runs, texts
from signer_jax.reproduction.runs import POINTS, Workshop
from signer_jax.training.partitioning import here, on_mesh_of
from signer_jax.training.run import mesh_of
from signer_jax.types import Pose, Sample

SENTENCES = 40  # of dev, at most
_DRAWN = (runs.BASE, runs.SLUL, runs.SAGM, runs.MOE)
DIGITS = 6


@dataclass(frozen=True)
class Point:
    """The mean DTW after a share of a stage's steps, 0 to 1."""

    stage: str
    share: float
    dtw: float


def recording(shop: Workshop) -> runs.Watch:
    """What the runs of texts and poses are watched by: it draws from no generator of the training's."""

    def watch(variant: str, seed: int, stage: str, model: Model, step: int, params: dict[str, Any]) -> None:
        if stage not in ("slul", "pose") or variant not in _DRAWN or "pose" not in shop.settings.stages:
            return
        file, share = path(shop, variant, seed), step / shop.settings.stage(stage).steps
        before = [quarter(one.share) for one in read(file) if one.stage == stage and one.share < share]
        if quarter(share) <= max(before, default=0):
            return
        settings = shop.settings_of(variant, seed)
        own = here(params, mesh_of(settings), along=along(settings))
        if stage == "slul":
            signer = shop.linking({"slul": own["slul"]})
            samples = compared(signer)
            made = texts.by_rule(signer, samples)
        else:
            signer = Signer(settings, shop.workdir(variant, seed), model, own)
            samples = compared(signer)
            with on_mesh_of(own):
                made = perform_texts(signer, samples, np.arange(len(skeleton.JOINTS)), 3)[0]
        keep(file, Point(stage, share, float(np.mean(distances(signer, samples, made)))))

    return watch


def compared(signer: Signer) -> list[Sample]:
    """Dev's sentences with a pose; all are held, without their videos."""
    records = signer.corpus.motions("dev")
    places = scorable(records, signer.settings.evaluate.poses)
    return [records[places[k]] for k in spread(len(places), SENTENCES)]


def distances(signer: Signer, samples: Sequence[Sample], made: Sequence[Pose | None]) -> list[float]:
    """Hand-weighted DTW of each whole pose to the nearest valid one, as `evaluation.texts` has it; what could not be
    signed counts as standing still.
    """
    joints, dims = skeleton.subset(signer.settings.pose.joints), signer.settings.pose.dims
    weights = joint_weights(skeleton.SUBSETS[signer.settings.pose.joints], HAND_WEIGHT)
    order, found = expert_order(signer), []
    for sample, pose in zip(samples, made, strict=True):
        valid = [on_joints(one, joints, dims) for one in (sample.pose, *(r for r, _ in sample.references)) if one]
        ours = resting(signer.retrieval, order, sample.name) if pose is None else pose
        found.append(float(dtw_each([on_joints(ours, joints, dims)], valid, weights=weights).min()))
    return found


# ---- Files -----------------------------------------------------------------------------------------------------------


def quarter(share: float) -> int:
    """The last one that is over, 0 to `POINTS`."""
    return int(share * POINTS + 10**-DIGITS)


def path(shop: Workshop, variant: str, seed: int) -> Path:
    return shop.folder / "curves" / f"{variant}-{seed}.json"


def keep(file: Path, point: Point) -> None:
    """Adds a point, in place of an older one of its stage and quarter."""
    kept = [one for one in read(file) if (one.stage, quarter(one.share)) != (point.stage, quarter(point.share))]
    kept = sorted([*kept, point], key=lambda one: (one.stage != "slul", one.share))
    file.parent.mkdir(parents=True, exist_ok=True)
    storage.write_file(file, storage.to_json([vars(one) for one in kept]))


def read(file: Path) -> list[Point]:
    """None where nothing was recorded. Raises `SignerError` where it is damaged."""
    if not file.exists():
        return []
    try:
        found: Any = read_json(outside.plain_file(file, "remove it"), CONFIG)
        return [Point(str(one["stage"]), float(one["share"]), float(one["dtw"])) for one in found]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise SignerError(
            f"{file}: is damaged ({outside.reason_of(error)}); remove it and its run in runs/, and both are made anew"
        ) from None


def over_seeds(shop: Workshop, variant: str, stage: str) -> Mapping[float, list[float]]:
    """The DTW of each seed at or soon after each quarter of a stage, at the mean share where it was measured."""
    found: dict[int, list[Point]] = {}
    for seed in shop.seeds:
        for point in read(path(shop, variant, seed)):
            if point.stage == stage:
                found.setdefault(quarter(point.share), []).append(point)
    every = [points for _, points in sorted(found.items())]
    return {float(np.mean([one.share for one in points])): [one.dtw for one in points] for points in every}
