"""The experts' lookup (paper 2.3): which prior entry each expert retrieves, and all of them on one timeline."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from signer_jax.metrics.pose import joint_weights, nearest_candidate
from signer_jax.pose import skeleton, stitching
from signer_jax.pose.prior import REST, Entry, Prior
from signer_jax.types import Pose, Sample

HAND_WEIGHT = 3.0  # how much more a hand joint counts when performances of a sign are compared


def expert_slots(entries: Sequence[Entry], signers: Sequence[str], experts: int) -> list[Entry | None]:
    """Which entry each expert retrieves, `[experts]`.

    An entry of the k-th signer goes to expert k, so that an expert keeps to one signer; whatever has no slot of its own
    fills the free ones in order. Experts beyond the number of variants retrieve nothing.
    """
    slots: list[Entry | None] = [None] * experts
    rest = []
    for entry in entries:
        k = signers.index(entry.signer) if entry.signer in signers else experts
        if k < experts and slots[k] is None:
            slots[k] = entry
        else:
            rest.append(entry)
    for k in range(experts):
        if slots[k] is None and rest:
            slots[k] = rest.pop(0)
    return slots


def frame_gloss(spans: np.ndarray, frames: int, glosses: int) -> np.ndarray:
    """`[t, n]`: how much each frame belongs to each gloss; rows sum to 1, cross-faded between two spans."""
    weights = np.zeros((frames, glosses), np.float32)
    spans = spans[:glosses]
    if len(spans) == 0:
        return weights
    time = np.arange(frames)
    for n, (start, end) in enumerate(spans):
        before = spans[n - 1][1] - 1 if n else start - 1  # last frame of the sign before
        after = spans[n + 1][0] if n + 1 < len(spans) else end
        rise = np.clip((time - before) / max(start - before, 1), 0, 1) if n else np.ones(frames)
        fall = np.clip((after - time) / max(after - (end - 1), 1), 0, 1) if n + 1 < len(spans) else np.ones(frames)
        weights[:, n] = np.minimum(rise, fall)
    return weights / weights.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Experts:
    """What the K experts offer for one sentence, on one timeline: the inputs of SLP-MoE."""

    candidates: np.ndarray  # [e, t, j, c]
    confidence: np.ndarray  # [e, t, j]
    mask: np.ndarray  # [n, e] bool: gloss n has a candidate k
    frame_gloss: np.ndarray  # [t, n]


class Retrieval:
    """The experts' lookup: glosses in, candidate sequences out. `joints` are the canonical indices the models see."""

    def __init__(self, prior: Prior, joints: np.ndarray, dims: int, experts: int, glosses: int):
        self.prior, self.joints, self.dims, self.experts, self.glosses = prior, joints, dims, experts, glosses
        self.signers = sorted({entry.signer for entry in prior.entries})

    def slots(self, gloss: str, language: str) -> list[Entry | None]:
        return expert_slots(self.prior.variants(gloss, language), self.signers, self.experts)

    def on_timeline(self, slots: Sequence[Sequence[Entry | None]], spans: np.ndarray, total: int) -> Experts:
        """Each expert's candidates stretched into `spans [n, 2]` and stitched to `total` frames.

        Where an expert has no candidate for a gloss, another expert's stands in and the mask says so. A sequence begins
        and ends with the rest pose of the signer of its first sign, where the database has one.
        """
        slots, spans = list(slots)[: self.glosses], spans[: self.glosses]
        mask = np.zeros((self.glosses, self.experts), bool)
        for n, row in enumerate(slots):
            mask[n] = [entry is not None for entry in row]
        sequences = []
        for k in range(self.experts):
            segments, places, signers = [], [], []
            for row, span in zip(slots, spans, strict=True):
                entry = row[k] or next((other for other in row if other is not None), None)
                if entry is not None:
                    segments.append(self.prior.pose(entry))
                    places.append(span)
                    signers.append(entry.signer)
            if segments:
                whole = stitching.stitch(
                    segments, np.array(places, np.int32), total, fps=self.prior.fps, rest=self.prior.rest(signers[0])
                )
                sequences.append(reduce(whole, self.joints, self.dims))
            else:
                shape = (total, len(self.joints))
                nothing = np.zeros((*shape, self.dims), np.float32)
                sequences.append(Pose(nothing, np.zeros(shape, np.float32), self.prior.fps))
        return Experts(
            candidates=np.stack([pose.coordinates for pose in sequences]).astype(np.float32),
            confidence=np.stack([pose.confidence for pose in sequences]).astype(np.float32),
            mask=mask,
            frame_gloss=frame_gloss(spans, total, self.glosses),
        )


def reduce(pose: Pose, joints: np.ndarray, dims: int) -> Pose:
    """The pose on a subset of joints and its first `dims` coordinates."""
    return Pose(pose.coordinates[:, joints, :dims], pose.confidence[:, joints], pose.fps)


def chosen_candidates(sample: Sample, slots: Sequence[Sequence[Entry | None]], retrieval: Retrieval) -> np.ndarray:
    """y `[n]` int32: the candidate that the ground truth follows, -1 where unknown (paper 2.3).

    The entry by the sample's own signer where there is one; else the nearest candidate by dynamic time warping.
    """
    chosen = np.full(retrieval.glosses, -1, np.int32)
    if sample.spans is None or sample.pose is None:
        return chosen
    weights = joint_weights(skeleton.JOINTS, HAND_WEIGHT)
    for n, (row, (start, end)) in enumerate(zip(slots, sample.spans, strict=False)):
        if n >= retrieval.glosses:
            break
        same = [k for k, entry in enumerate(row) if entry is not None and entry.signer == sample.signer]
        if same:
            chosen[n] = same[0]
        else:
            candidates = [None if entry is None else retrieval.prior.pose(entry) for entry in row]
            chosen[n] = nearest_candidate(candidates, sample.pose.slice(start, end), weights=weights)
    return chosen


def prior_entries(samples: Iterable[Sample]) -> Iterator[tuple[Entry, Pose]]:
    """The signs of a corpus for its prior database: each signer's first performance of each gloss, and a rest pose.

    A signer rests in the first frame of the first performance that does not begin with a sign.
    """
    seen: set[tuple[str, str, str]] = set()
    for sample in samples:
        if sample.pose is None or sample.spans is None:
            continue
        rest = (REST, "", sample.signer)
        if rest not in seen and len(sample.spans) and sample.spans[0][0] > 0:
            seen.add(rest)
            yield Entry(REST, "", sample.signer, source=sample.name), sample.pose.slice(0, 1)
        for gloss, (start, end) in zip(sample.glosses, sample.spans, strict=True):
            key = (gloss, sample.language, sample.signer)
            if key not in seen:
                seen.add(key)
                entry = Entry(gloss=gloss, language=sample.language, signer=sample.signer, source=sample.name)
                yield entry, sample.pose.slice(start, end)
