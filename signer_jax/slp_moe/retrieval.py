"""The experts' lookup (paper 2.3): which prior entry each expert retrieves, and all of them on one timeline."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int

from signer_jax.pose import skeleton, stitching
from signer_jax.pose.prior import REST, Entry, Prior
from signer_jax.pose.skeleton import on_joints
from signer_jax.pose.warping import HAND_WEIGHT, joint_weights, nearest_candidate
from signer_jax.slp_moe.experts import candidate_features
from signer_jax.types import Pose, Sample

PERFORMANCES = 2  # of each gloss, and rest poses, by each signer: where one is the answer, the other is offered


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
    """`[t, n]`: how much each frame belongs to each gloss; rows sum to 1, cross-faded between two spans.

    Where there are more than n spans, frames from the first one beyond on belong to no gloss: their rows are 0.
    """
    weights = np.zeros((frames, glosses), np.float32)
    beyond = frames if len(spans) <= glosses else int(spans[glosses][0])
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
    return weights / weights.sum(axis=1, keepdims=True) * (time < beyond)[:, None]


@dataclass(frozen=True)
class Experts:
    """What the K experts offer for one sentence, on one timeline: the inputs of SLP-MoE, by their names there."""

    candidates: Float[np.ndarray, "e t j c"]
    candidate_confidence: Float[np.ndarray, "e t j"]
    candidate_features: Float[np.ndarray, "n e f"]  # of each candidate by itself, see `experts.candidate_features`
    candidate_mask: Bool[np.ndarray, "n e"]  # gloss n has a candidate k
    frame_gloss: Float[np.ndarray, "t n"]


def at_frames(experts: Experts, frames: Int[np.ndarray, " t"]) -> Experts:
    """The experts at these frames of their timeline: a window of it, or all of it and padding.

    A frame past the end repeats the last one, belongs to no gloss, and shows no joint.
    """
    inside = np.minimum(frames, experts.candidates.shape[1] - 1)
    exists = (frames == inside).astype(np.float32)
    return replace(
        experts,
        candidates=experts.candidates[:, inside],
        candidate_confidence=experts.candidate_confidence[:, inside] * exists[:, None],
        frame_gloss=experts.frame_gloss[inside] * exists[:, None],
    )


class Retrieval:
    """The experts' lookup: glosses in, candidates out. `joints` are the canonical indices the models see, `glosses` how
    many of a sentence's signs `on_timeline` holds.
    """

    def __init__(self, prior: Prior, joints: np.ndarray, dims: int, experts: int, glosses: int):
        self.prior, self.joints, self.dims, self.experts, self.glosses = prior, joints, dims, experts, glosses
        self.signers = list(prior.signers)
        self.features_of = lru_cache(maxsize=None)(self._features_of)

    def _features_of(self, entry: Entry) -> Float[np.ndarray, " f"]:
        return candidate_features(on_joints(self.prior.pose(entry), self.joints, self.dims))

    def slots(self, gloss: str, language: str, *, without: str = "") -> list[Entry | None]:
        """The entry of each expert, `[experts]`. Entries whose `source` is `without` are left out.

        A signer's further performances of one way to sign a gloss wait for that: they stand in for one left out.
        """
        entries: dict[tuple[str, int], Entry] = {}
        for entry in self.prior.variants(gloss, language):
            if not without or entry.source != without:
                entries.setdefault((entry.signer, entry.variant), entry)
        return expert_slots(list(entries.values()), self.signers, self.experts)

    def shows(self, gloss: str, language: str) -> bool:
        """Whether a gloss can be shown: signed by some expert, or fingerspelled."""
        return any(self.slots(gloss, language)) or self.spells(gloss.lstrip("#"), language)

    def spells(self, word: str, language: str) -> bool:
        return bool(self.prior.fingerspell(word, language))

    def features(
        self, slots: Sequence[Sequence[Entry | None]], glosses: int
    ) -> tuple[Float[np.ndarray, "n e f"], Bool[np.ndarray, "n e"]]:
        """Each candidate's features and which candidates exist, padded to n = `glosses`: all that the gates look at."""
        size = len(self.joints) * (3 * self.dims + 1)
        features = np.zeros((glosses, self.experts, size), np.float32)
        mask = np.zeros((glosses, self.experts), bool)
        for n, row in enumerate(slots):
            for k, entry in enumerate(row):
                if entry is not None:
                    features[n, k], mask[n, k] = self.features_of(entry), True
        return features, mask

    def on_timeline(
        self, slots: Sequence[Sequence[Entry | None]], spans: np.ndarray, total: int, *, without: str = ""
    ) -> Experts:
        """Each expert's candidates stretched into `spans [n, 2]` and stitched to `total` frames.

        Where an expert has no candidate for a gloss, another expert's stands in and the mask says so. A sequence begins
        and ends with the rest pose of the signer of its first sign, where the database has one from another sample than
        `without`: the rest poses are the first frames of performances, and so the answer for these.
        """
        belongs = frame_gloss(spans, total, self.glosses)
        slots, spans = list(slots)[: self.glosses], spans[: self.glosses]
        features, mask = self.features(slots, self.glosses)
        shown = [(row, span) for row, span in zip(slots, spans, strict=True) if any(row)]
        chosen = [[row[k] or next(filter(None, row)) for row, _ in shown] for k in range(self.experts)]
        if shown:
            once = list(dict.fromkeys(entry for entries in chosen for entry in entries))
            poses = dict(zip(once, self.prior.poses(once), strict=True))
            candidates, confidence = stitching.stitch_each(
                [[poses[entry] for entry in entries] for entries in chosen],
                np.array([span for _, span in shown], np.int32), total, fps=self.prior.fps,
                rests=[self.prior.rest(entries[0].signer, without=without) for entries in chosen],
                joints=self.joints, dims=self.dims,
            )  # fmt: skip
        else:
            confidence = np.zeros((self.experts, total, len(self.joints)), np.float32)
            candidates = np.zeros((*confidence.shape, self.dims), np.float32)
        return Experts(
            candidates=candidates,
            candidate_confidence=confidence,
            candidate_features=features,
            candidate_mask=mask,
            frame_gloss=belongs,
        )


def chosen_candidates(
    sample: Sample, slots: Sequence[Sequence[Entry | None]], retrieval: Retrieval, gating: str
) -> np.ndarray:
    """y `[n]` int32: the candidate that the ground truth follows, -1 where there is none (paper 2.3).

    Another performance by the sample's own signer where there is one; else, for a signer whom the database does not
    have, the nearest candidate by dynamic time warping. Of a signer whom it has, a gloss without another performance
    is labelled so with gates that decide for each gloss alone (`gating` "gloss") and not with those that choose one
    expert for a whole sentence: the nearest other signer contradicts the labels of the sentence's other glosses. The
    sample's own performance is no candidate: `slots` must come without it.
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
        elif gating == "gloss" or sample.signer not in retrieval.signers:
            candidates = [None if entry is None else retrieval.prior.pose(entry) for entry in row]
            chosen[n] = nearest_candidate(candidates, sample.pose.slice(start, end), weights=weights)
    return chosen


def prior_entries(samples: Iterable[Sample]) -> Iterator[tuple[Entry, Pose]]:
    """The signs of a corpus for its prior database: of each signer the first rest poses, and of each gloss the first
    performances, from `PERFORMANCES` samples.

    A signer rests in the first frame of a performance that does not begin with a sign.
    """
    rested: Counter[str] = Counter()
    counts: Counter[tuple[str, str, str]] = Counter()
    for sample in samples:
        if sample.pose is None or sample.spans is None:
            continue
        if rested[sample.signer] < PERFORMANCES and len(sample.spans) and sample.spans[0][0] > 0:
            entry = Entry(REST, "", sample.signer, source=sample.name, priority=rested[sample.signer])
            rested[sample.signer] += 1
            yield entry, sample.pose.slice(0, 1)
        taken: set[str] = set()  # a gloss signed twice in one sample is one performance: it would be left out whole
        for gloss, (start, end) in zip(sample.glosses, sample.spans, strict=True):
            key = (gloss, sample.language, sample.signer)
            if gloss not in taken and counts[key] < PERFORMANCES:
                taken.add(gloss)
                entry = Entry(gloss, sample.language, sample.signer, source=sample.name, priority=counts[key])
                counts[key] += 1
                yield entry, sample.pose.slice(start, end)
