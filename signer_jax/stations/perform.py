"""The second station, glosses -> pose (paper 2.3): retrieval, each sign by the gates' top expert, the stabiliser.

`perform` takes one sentence and `perform_many` a batch, by the same functions: signing and evaluation both come here.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from signer_jax.errors import SignerError
from signer_jax.pose import stitching
from signer_jax.pose.letters import spell
from signer_jax.pose.prior import Entry
from signer_jax.pose.skeleton import on_joints
from signer_jax.slp_moe.retrieval import Retrieval
from signer_jax.slul.linker import gloss_queries
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.types import Array, Pose

_FRAMES = 64  # poses are padded to a multiple of so many frames, so that few lengths are compiled
_ROWS = 8  # poses that are stabilised at a time


@dataclass(frozen=True)
class Sign:
    """One sign to perform: that of a gloss, or a letter of a gloss that is fingerspelled."""

    label: str  # as the database has it
    gloss: int  # the place in the sentence of the gloss that it comes from
    slots: list[Entry | None]  # the entry of each expert


@dataclass(frozen=True)
class Found:
    """What became of each gloss: the signs to perform, and what has to be fingerspelled or left out."""

    signs: tuple[Sign, ...]
    fingerspelled: tuple[str, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Timing:
    """Given times: the span of each gloss (first frame, past the last) on `total` frames at the prior's fps."""

    spans: Int[np.ndarray, "n 2"]
    total: int


@dataclass(frozen=True)
class Performed:
    """What `perform` returns; its lists have one item a sign."""

    pose: Pose  # all 128 joints; those that the models see are stabilised
    stitched: Pose  # before the stabiliser
    spans: Int[np.ndarray, "n 2"]  # frames of each sign: first, past the last; of a letter to the middle of the ways
    signs: tuple[Sign, ...]
    weights: Float[np.ndarray, "n e"]  # the gates'
    entries: tuple[Entry, ...]  # what was performed: the top expert's
    fingerspelled: tuple[str, ...]  # glosses
    skipped: tuple[str, ...]

    @property
    def experts(self) -> tuple[int, ...]:
        """By which expert each sign was performed."""
        return tuple(sign.slots.index(entry) for sign, entry in zip(self.signs, self.entries, strict=True))

    @property
    def signer(self) -> str:
        """Who performs most of the signs (`most_by`)."""
        return most_by(self.entries)


@dataclass(frozen=True)
class Performer:
    """The station's modules and values. `slul`, `tokenizer` and `target` (tokens) make the queries of gates that decide
    once a gloss; `transition` is the seconds between two signs where no timing is given.
    """

    slul: Any
    slp_moe: Any
    stabiliser: Any
    params: dict[str, Any]
    tokenizer: Tokenizer
    retrieval: Retrieval
    target: int
    transition: float


def find(
    glosses: Sequence[str],
    language: str,
    retrieval: Retrieval,
    *,
    frames: Sequence[int] | None = None,
    without: str = "",
) -> Found:
    """Looks every gloss up; one that the database lacks is fingerspelled where it has the letters, else skipped.

    `frames` (where its time is given): what has fewer frames than letters is skipped too. `without`: see
    `Retrieval.slots`.
    """
    signs: list[Sign] = []
    spelled, skipped = [], []
    for i, gloss in enumerate(glosses):
        slots = retrieval.slots(gloss, language, without=without)
        if any(slots):
            signs.append(Sign(gloss, i, slots))
            continue
        letters = retrieval.prior.fingerspell(gloss.lstrip("#"), language) or []
        rows = [retrieval.slots(letter.gloss, language, without=without) for letter in letters]
        if rows and all(map(any, rows)) and (frames is None or frames[i] >= len(rows)):
            spelled.append(gloss)
            signs += [Sign(letter.gloss, i, row) for letter, row in zip(letters, rows, strict=True)]
        else:
            skipped.append(gloss)
    return Found(tuple(signs), tuple(spelled), tuple(skipped))


def spans_of(signs: Sequence[Sign], spans: Int[np.ndarray, "n 2"]) -> Int[np.ndarray, "signs 2"]:
    """Where each sign goes when the glosses' spans are given: the letters of a gloss share its span evenly."""
    count = Counter(sign.gloss for sign in signs)
    seen: Counter[int] = Counter()
    places = []
    for sign in signs:
        start, end = spans[sign.gloss]
        edges = np.linspace(start, end, count[sign.gloss] + 1).round().astype(int)
        places.append(edges[seen[sign.gloss] :][:2])
        seen[sign.gloss] += 1
    return np.array(places, np.int32).reshape(-1, 2)


# ---- The models: each takes a batch ------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=(0, 6))
def _queries(slul: Any, params: Any, target: Any, belongs: Any, H: Any, mask: Any, glosses: int) -> Array:
    return gloss_queries(slul, params, target, belongs, H, mask, glosses)


@partial(jax.jit, static_argnums=0)
def _weigh(slp_moe: Any, params: Any, H: Array, mask: Array, features: Array, exists: Array, query: Any) -> Array:
    return slp_moe.apply({"params": params}, H, mask, features, exists, gloss_query=query, method="weigh")


@partial(jax.jit, static_argnums=0)
def _stabilise(stabiliser: Any, params: Any, pose: Array, confidence: Array, valid: Array) -> Array:
    return stabiliser.apply({"params": params}, pose, confidence, valid)


def weigh(
    glosses: Sequence[Sequence[str]],
    found: Sequence[Found],
    H: Float[Array, "b s d"],
    mask: Bool[Array, "b s"],
    performer: Performer,
) -> list[Float[np.ndarray, "n e"]]:
    """The gates' weights for each sign of each sentence, `[n, e]`; the gates see the whole sentence."""
    c, step = performer, performer.retrieval.glosses
    n = _multiple(max(len(one.signs) for one in found), step)
    offers = [c.retrieval.features([sign.slots for sign in one.signs], n) for one in found]
    features, exists = np.stack([one[0] for one in offers]), np.stack([one[1] for one in offers])
    query = None
    if c.slp_moe.gating == "gloss":
        targets = [c.tokenizer.gloss_target(row, c.target) for row in glosses]
        target, belongs = np.stack([one[0] for one in targets]), np.stack([one[1] for one in targets])
        count = _multiple(max(len(row) for row in glosses), step)
        queries = np.asarray(_queries(c.slul, c.params["slul"], target, belongs, H, mask, count))
        # A sign asks with the query of the gloss that it comes from; a letter with that of its word.
        place = np.zeros((len(found), n), int)
        for i, one in enumerate(found):
            place[i, : len(one.signs)] = [sign.gloss for sign in one.signs]
        query = np.take_along_axis(queries, place[..., None], axis=1)
    weights = np.asarray(_weigh(c.slp_moe, c.params["slp_moe"], H, mask, features, exists, query))
    return [row[: len(one.signs)] for row, one in zip(weights, found, strict=True)]


def stabilise(poses: Sequence[Pose], performer: Performer) -> list[Pose]:
    """Refines poses on the models' joints, some at a time, padded: the last one fills the batch."""
    rows = min(_ROWS, 1 << (len(poses) - 1).bit_length())  # powers of two: few shapes are compiled
    stable: list[Pose] = []
    for i in range(0, len(poses), rows):
        part = [poses[min(k, len(poses) - 1)] for k in range(i, i + rows)]
        total = _multiple(max(map(len, part)), _FRAMES)
        frames = [np.minimum(np.arange(total), len(pose) - 1) for pose in part]
        coordinates = _stabilise(
            performer.stabiliser,
            performer.params["stabiliser"],
            np.stack([pose.coordinates[at] for pose, at in zip(part, frames, strict=True)]),
            np.stack([pose.confidence[at] for pose, at in zip(part, frames, strict=True)]),
            np.stack([np.arange(total) < len(pose) for pose in part]),
        )
        stable += [
            Pose(row[: len(pose)], pose.confidence, pose.fps)
            for row, pose in zip(np.asarray(coordinates), part, strict=True)
        ]
    return stable[: len(poses)]


# ---- The station -------------------------------------------------------------------------------------------------


def perform(
    glosses: Sequence[str],
    H: Float[Array, "1 s d"],
    mask: Bool[Array, "1 s"],
    language: str,
    performer: Performer,
    *,
    timing: Timing | None = None,
    without: str = "",
) -> Performed:
    """One sentence's glosses performed; `H` and `mask` are the text's, from the first station.

    Without `timing` each sign takes its own time, with transitions between, and the whole begins and ends in the rest
    pose. `without` names a sample whose own performances are no candidates (evaluation).
    Raises `SignerError` where the database knows none of the glosses.
    """
    done = perform_many([glosses], H, mask, [language], performer, timings=[timing], without=[without])[0]
    if done is None:
        raise SignerError(
            f"glosses {' '.join(glosses) or '(none)'}: the prior knows none of them for language {language}"
        )
    return done


def perform_many(
    glosses: Sequence[Sequence[str]],
    H: Float[Array, "b s d"],
    mask: Bool[Array, "b s"],
    languages: Sequence[str],
    performer: Performer,
    *,
    timings: Sequence[Timing | None],
    without: Sequence[str],
) -> list[Performed | None]:
    """`perform` for a batch of sentences; None where the database knows none of a sentence's glosses."""
    found = [
        find(
            row, language, performer.retrieval, without=own,
            frames=None if timing is None else np.diff(timing.spans, axis=1)[:, 0].tolist(),
        )
        for row, language, timing, own in zip(glosses, languages, timings, without, strict=True)
    ]  # fmt: skip
    if not any(one.signs for one in found):
        return [None] * len(found)
    prior, joints, dims = performer.retrieval.prior, performer.retrieval.joints, performer.retrieval.dims
    results: list[Performed | None] = [None] * len(found)
    all_weights = weigh(glosses, found, H, mask, performer)
    known = [i for i, one in enumerate(found) if one.signs]
    stitched, spans, entries = [], [], []
    for i in known:
        chosen = [best(sign.slots, row) for sign, row in zip(found[i].signs, all_weights[i], strict=True)]
        segments, timing = [prior.pose(entry) for entry in chosen], timings[i]
        rest = prior.rest(chosen[0].signer, without=without[i])
        if timing is None:
            words = [sign.gloss for sign in found[i].signs]
            pose, places = join(segments, performer.transition, rest, words=words)
        else:
            places = spans_of(found[i].signs, timing.spans)
            pose = stitching.stitch(segments, places, timing.total, fps=prior.fps, rest=rest)
        stitched.append(pose)
        spans.append(places)
        entries.append(tuple(chosen))
    stable = stabilise([on_joints(pose, joints, dims) for pose in stitched], performer)
    for k, i in enumerate(known):
        coordinates = stitched[k].coordinates.copy()
        coordinates[:, joints, :dims] = stable[k].coordinates
        results[i] = Performed(
            Pose(coordinates, stitched[k].confidence, stitched[k].fps), stitched[k], spans[k], found[i].signs,
            all_weights[i], entries[k], found[i].fingerspelled, found[i].skipped,
        )  # fmt: skip
    return results


def best(slots: Sequence[Entry | None], weights: Float[np.ndarray, " e"]) -> Entry:
    """The entry of the expert with the highest weight, among those that have one; of equals the first."""
    entry = slots[int(np.argmax(np.where([entry is not None for entry in slots], weights, -np.inf)))]
    assert entry is not None
    return entry


def most_by(entries: Sequence[Entry]) -> str:
    """Who performs most of the signs; of equals the first to appear. Raises `IndexError` for no sign."""
    return Counter(entry.signer for entry in entries).most_common(1)[0][0]


def join(
    segments: Sequence[Pose], transition: float, rest: Pose | None = None, *, words: Sequence[Hashable] | None = None
) -> tuple[Pose, Int[np.ndarray, "n 2"]]:
    """One pose from signs at their own length, `transition` seconds between two, or more where the way is far; and the
    frames of each sign.

    It begins and ends in the rest pose, or, without one, holds its edges for as long as a transition. Several signs on
    end of one word (`words`: which one, of each sign) are the letters that it is spelled with.
    """
    fps = segments[0].fps
    segments = stitching.steady_all(segments, [rest] * len(segments))
    parts: list[Pose] = []
    letters: list[Int[np.ndarray, "n 2"]] = []  # of each part: the frames of its signs
    for _, group in groupby(range(len(segments)), key=(words or range(len(segments))).__getitem__):
        own = [segments[i] for i in group]
        part, places = spell(own) if len(own) > 1 else (own[0], np.array([[0, len(own[0])]], np.int32))
        parts.append(part)
        letters.append(places)
    gaps = [stitching.transition_seconds(*pair, least=transition) for pair in pairwise(parts)]
    spans, total = stitching.timeline(parts, gaps, fps)
    edge = round(transition * fps) + (0 if rest is None else round(stitching.REST_SECONDS * fps))
    pose = stitching.stitch(parts, spans + edge, total + 2 * edge, fps=fps, rest=rest)
    return pose, np.concatenate([start + edge + places for (start, _), places in zip(spans, letters, strict=True)])


def _multiple(count: int, step: int) -> int:
    """The least multiple of `step` that holds `count`, one `step` at least."""
    return max(1, -(-count // step)) * step
