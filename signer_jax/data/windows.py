"""From a sample to the arrays that the models train on: tokens, and pose windows with the experts beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from signer_jax.data.records import Records
from signer_jax.pose.skeleton import on_joints
from signer_jax.slp_moe.retrieval import Experts, Retrieval, at_frames, chosen_candidates
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.types import Sample

_DRAWS = 4  # of a text's pieces, until one is short enough
EXPERTS = tuple(field.name for field in fields(Experts))


@dataclass(frozen=True)
class Limits:
    """Static lengths: source tokens s, gloss tokens g, glosses n."""

    source: int
    target: int
    glosses: int


def pad(ids: Sequence[int], length: int) -> np.ndarray:
    """`[length]` int32: ids, cut or filled up with 0."""
    row = np.zeros(length, np.int32)
    row[: min(len(ids), length)] = ids[:length]
    return row


def tokens(
    sample: Sample, tokenizer: Tokenizer, limits: Limits, dropout: float = 0.0, rng: np.random.Generator | None = None
) -> dict[str, np.ndarray]:
    """`source [s]` and `target [g]` int32, and `target_gloss [g]`: the gloss that each target token belongs to.

    `dropout`, `rng`: as in `Tokenizer.encode_source`, drawn again where the pieces are more than there is room for; a
    text that has no other reading of that length is read whole.
    """
    source = tokenizer.encode_source(sample.text, sample.language) if sample.text else []
    if dropout and source and len(source) <= limits.source:
        draws = (tokenizer.encode_source(sample.text, sample.language, dropout, rng) for _ in range(_DRAWS))
        source = next((drawn for drawn in draws if len(drawn) <= limits.source), source)
    target, target_gloss = tokenizer.gloss_target(sample.glosses, limits.target)
    source = tokenizer.cut(source, limits.source)
    return {"source": pad(source, limits.source), "target": target, "target_gloss": target_gloss}


def token_counts(records: Records, tokenizer: Tokenizer) -> Int[np.ndarray, "n 3"]:
    """Of each sentence its source tokens, gloss tokens and glosses, before anything is cut."""
    rows = []
    for i in range(len(records)):
        sample = records[i]
        source = len(tokenizer.encode_source(sample.text, sample.language))
        target = len(tokenizer.encode_gloss(sample.glosses)) if sample.glosses else 0
        rows.append((source, target, len(sample.glosses)))
    return np.array(rows, np.int64).reshape(-1, 3)


def too_long(counts: Int[np.ndarray, "n 3"], limits: Limits, *, frames: bool) -> list[str]:
    """How many sentences (`token_counts`) are longer than what a model is given of them: a line each for texts, gloss
    tokens and, where it is given `frames`, glosses; none where all fit.
    """
    sides = {"source": counts[:, 0], "target": counts[:, 1]}
    signs = counts[:, 2]
    what = {"source": "texts", "target": "gloss sequences"}
    unit = {"source": "word", "target": "gloss"}
    lines = [
        f"{sum(lengths > limit)} of {len(lengths)} training {what[side]} are longer than data.max_{side} = "
        f"{limit} tokens (the longest has {max(lengths)}); what is longer is cut behind a whole {unit[side]}"
        for (side, lengths), limit in zip(sides.items(), (limits.source, limits.target), strict=True)
        if max(lengths, default=0) > limit
    ]
    if frames and max(signs, default=0) > limits.glosses:
        lines.append(
            f"{sum(signs > limits.glosses)} of {len(signs)} training gloss sequences have more than data.max_glosses = "
            f"{limits.glosses} glosses (the longest has {max(signs)}); frames of those beyond belong to no gloss"
        )
    return lines


class MotionWindows:
    """Windows of a split's motions: ground truth and, where there is a prior, the experts' sequences beside it.

    `gating` (`pose.gating`) decides which labels the gates are given (`chosen_candidates`).
    Whole sentences are put on their timeline once and kept (`cache` of them), since neighbouring windows share them.
    """

    def __init__(
        self,
        records: Records,
        joints: np.ndarray,
        dims: int,
        limits: Limits,
        tokenizer: Tokenizer | None = None,
        retrieval: Retrieval | None = None,
        gating: str = "sentence",
        cache: int = 1024,
    ):
        self.records, self.joints, self.dims, self.limits = records, joints, dims, limits
        self.tokenizer, self.retrieval, self.gating = tokenizer, retrieval, gating
        self.sentence = lru_cache(maxsize=cache)(self._sentence)

    def _sentence(self, index: int) -> dict[str, np.ndarray]:
        sample = self.records[index]
        pose = on_joints(self.records.posed(sample, index), self.joints, self.dims)
        arrays = {"pose": pose.coordinates, "confidence": pose.confidence}
        if self.tokenizer is not None:
            arrays |= tokens(sample, self.tokenizer, self.limits)
        if self.retrieval is not None and sample.spans is not None:
            # Without what the database has from this very performance: at inference nobody has the answer beforehand.
            slots = [self.retrieval.slots(gloss, sample.language, without=sample.name) for gloss in sample.glosses]
            experts = self.retrieval.on_timeline(slots, sample.spans, len(pose), without=sample.name)
            # Signs past the last kept gloss have no expert: nothing is to be learned from their frames.
            dropped = sample.spans[self.limits.glosses :]
            arrays["signed"] = np.array(dropped[0][0] if len(dropped) else len(pose))
            arrays |= vars(experts) | {"chosen": chosen_candidates(sample, slots, self.retrieval, self.gating)}
        return arrays

    def window(self, index: int, start: int, length: int) -> dict[str, np.ndarray]:
        """`length` frames of motion `index` from `start`; frames past the end repeat the last and are not `valid`;
        `last` is the place of the last frame that is none of those.

        What the gates look at (`candidate_features`, `candidate_mask`) is the whole sentence's, whatever the window.
        """
        whole = self.sentence(index)
        frames = np.arange(start, start + length)
        inside = np.minimum(frames, len(whole["pose"]) - 1)
        window = whole | {name: whole[name][inside] for name in ("pose", "confidence")}
        if "candidates" in whole:
            window |= vars(at_frames(Experts(**{name: whole[name] for name in EXPERTS}), frames))
        window["valid"] = frames < window.pop("signed", len(whole["pose"]))
        window["last"] = np.array(inside[-1] - start, np.int32)
        return window
