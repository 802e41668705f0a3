"""From a lexicon's signs to signing: each without its way from and to the rest, at a sentence's pace, and joined.

A lexicon shows a sign by itself: the hands come up, take their time, and sink. In a sentence the next sign begins where
the one before ends. `compose` takes all sentences of a batch at once, with no loop over signs or frames, on numpy's
arrays or on JAX's, there inside `jax.jit` too:

    strokes     the rise before the first moment that the higher hand no longer climbs is cut, and the sink after a sign
    paced       a sign that lasts longer than a sentence's do is shown faster, twice at most, and no joint of arms and
                hands faster than a human's
    joined      of the frames around a join those two are taken that lie and move alike
    transitions quintic curves (`curves.py`), in as many frames as a human needs for the way
    wrists      an arm's wrist stands where its hand begins

Faces are shown as they are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.curves import PEAK, PEAK_SPEED, TAIL, length, parabola, quintic, tangents
from signer_jax.types import Array, Pose

_AT_ONCE = 8  # signs of a sentence that are joined at a time
_SHORTEST = 3  # frames that a sign keeps
_JUMPS = 0.1  # of a sign's frames, the fastest, which its pace is not found by
_CLIMB = 0.5  # shoulder widths a second: a hand that goes up or down faster comes from the rest or goes there
_SHOWN = 0.2  # confidence from which on a hand is where it is seen: what is more says nothing of the place
_SIDES = ("left", "right")
_WRISTS = np.array([skeleton.INDEX[f"{side}_wrist"] for side in _SIDES])
_ROOTS = np.array([skeleton.INDEX[f"{side}_hand_wrist_root"] for side in _SIDES])
_ARMS = np.array([skeleton.INDEX[name] for side in _SIDES for name in skeleton.PARTS[f"{side}_arm"]])
# What carries a joint that only one side of a transition knows.
_CARRIER = np.arange(len(skeleton.JOINTS))
for _side in _SIDES:
    _CARRIER[[skeleton.INDEX[n] for n in skeleton.PARTS[f"{_side}_arm"][2:]]] = skeleton.INDEX[f"{_side}_wrist"]
_CARRIER[[skeleton.INDEX[name] for name in skeleton.FACE]] = skeleton.INDEX["nose"]


class Manner(NamedTuple):
    """How signs become a sentence; times in seconds."""

    strokes: bool  # whether a sign's way from and to the rest is cut, where another sign stands there
    longest: float  # that a sign lasts, unless a joint would be faster than a human's
    faster: float  # that a sign is shown at most: movements that repeat would blur
    transition: float  # between two signs at least
    hold: float  # of the first frame and of the last, so that a short sign can be seen
    window: float  # at a sign's edge in which its join is looked for
    share: float  # of a sign that may be cut at each end, by strokes and its join together
    memory: float  # for which a velocity counts: a difference of velocities costs the way that it makes in this time


# Of 26 timed signs of a corpus 23 last at most .4 s, and half of the gaps between them .19 s; a dictionary's signs last
# one to two seconds (docs/prior.md).
FLUENT = Manner(strokes=True, longest=0.4, faster=2.0, transition=0.12, hold=0.12, window=0.3, share=0.3, memory=0.2)
AS_RECORDED = Manner(
    strokes=False, longest=np.inf, faster=1.0, transition=0.25, hold=0.25, window=0.0, share=0.0, memory=0.0
)


class Signs(NamedTuple):
    """The signs of b sentences, padded to n signs of s frames, on the canonical joints, at one frame rate.

    A sign of no frames is none; these stand behind the others. What is `fixed` (a spelled word) is neither cut nor
    paced, nor is a sentence's only sign.
    """

    coordinates: Float[Array, "b n s j c"]
    confidence: Float[Array, "b n s j"]
    frames: Int[Array, "b n"]
    fixed: Bool[Array, "b n"]


class Composed(NamedTuple):
    """`frames` of each sentence are real, and each sign's first frame and the one past its last; the rest is 0."""

    coordinates: Float[Array, "b t j c"]
    confidence: Float[Array, "b t j"]
    spans: Int[Array, "b n 2"]
    frames: Int[Array, " b"]


def padded(sentences: Sequence[Sequence[Pose]], fixed: Sequence[Sequence[bool]] | None = None) -> Signs:
    """The signs of sentences (at least one sign each) as `compose` takes them, in as little room as holds them."""
    n, s = max(map(len, sentences)), max(len(sign) for signs in sentences for sign in signs)
    joints, axes = sentences[0][0].coordinates.shape[1:]
    coordinates = np.zeros((len(sentences), n, s, joints, axes), np.float32)
    confidence, frames = np.zeros(coordinates.shape[:-1], np.float32), np.zeros((len(sentences), n), np.int32)
    for i, signs in enumerate(sentences):
        for k, sign in enumerate(signs):
            coordinates[i, k, : len(sign)], confidence[i, k, : len(sign)] = sign.coordinates, sign.confidence
            frames[i, k] = len(sign)
    kept = np.zeros(frames.shape, bool)
    for i, row in enumerate(fixed or ()):
        kept[i, : len(row)] = row
    return Signs(coordinates, confidence, frames, kept)


def compose(signs: Signs, manner: Manner, fps: float, total: int | None = None) -> Composed:
    """The sentences in `total` frames at `fps` (the signs' own rate); None: as many as the longest has (numpy alone).

    Signs must be steady (`stitching.steady`). What does not fit into `total` is cut off: then `frames` is more. The
    hands come up before the first sign and sink after the last as these have it.
    """
    xp = signs.coordinates.__array_namespace__()
    none, whole = xp.zeros_like(signs.frames), signs.frames
    start, end = none, whole
    if manner.strokes:
        start, end = strokes(signs, manner.share, fps)
    if manner.strokes or manner.faster > 1:
        signs = paced(signs, start, end, manner, fps)
    # What strokes left to be cut, in frames as they are shown now.
    room = xp.stack([manner.share * whole - start, manner.share * whole - (whole - end)], axis=-1)
    room = room * (signs.frames / xp.maximum(end - start, 1))[..., None]
    first, last = joins(signs, xp.floor(room + 1e-4).astype(whole.dtype), manner, fps)
    # ---- The time line ---------------------------------------------------------------------------------------------
    kept = last - first  # b n
    edge = _at(signs.coordinates, first)[:, 1:], _at(signs.coordinates, xp.maximum(last - 1, 0))[:, :-1]
    shown = (_at(signs.confidence, first)[:, 1:] > 0) & (_at(signs.confidence, xp.maximum(last - 1, 0))[:, :-1] > 0)
    way = (length(edge[0] - edge[1])[..., 0] * shown)[..., _WRISTS]
    seconds = xp.maximum(manner.transition, PEAK * way.max(axis=-1) / PEAK_SPEED)
    follows = signs.frames[:, 1:] > 0
    gaps = xp.where(follows, xp.round(seconds * fps).astype(xp.int32), 0)  # b n-1
    ends = xp.cumsum(kept, axis=1) + xp.concatenate([xp.zeros_like(kept[:, :1]), xp.cumsum(gaps, axis=1)], axis=1)
    hold = round(manner.hold * fps)
    ends = ends + hold
    starts = ends - kept
    frames = ends[:, -1] + hold
    total = int(frames.max()) if total is None else total
    time = xp.arange(total)
    latest = (signs.frames > 0).sum(axis=1)[:, None] - 1
    which = xp.clip((starts[:, None] <= time[:, None]).sum(axis=-1) - 1, 0, latest)  # b t
    nth = time - xp.take_along_axis(starts, which, axis=1)
    # ---- In a sign: its own frames ---------------------------------------------------------------------------------
    own = xp.take_along_axis(kept, which, axis=1)
    inside = (nth < own) | (which == latest)
    source = xp.take_along_axis(first, which, axis=1) + xp.clip(nth, 0, own - 1)
    row = xp.arange(len(which))[:, None]
    coordinates, confidence = signs.coordinates[row, which, source], signs.confidence[row, which, source]
    # ---- Between two: a curve --------------------------------------------------------------------------------------
    if signs.frames.shape[1] > 1:
        pair = xp.minimum(which, gaps.shape[1] - 1)
        share = (nth - own + 1) / (xp.take_along_axis(gaps, pair, axis=1) + 1)
        share = xp.clip(share.astype(xp.float32), 0, 1)[..., None]
        # Arrays of JAX have one size whatever is in them: all frames are asked for, of which some are used.
        at = np.nonzero(~inside) if xp is np else (row, time)
        between = transitions(signs, first, last, gaps, at[0], pair[at], share[at], fps)
        if xp is not np:
            between = (
                xp.where(inside[..., None, None], coordinates, between[0]),
                xp.where(inside[..., None], confidence, between[1]),
            )
        coordinates, confidence = _put(coordinates, at, between[0]), _put(confidence, at, between[1])
    confidence = xp.where((time < frames[:, None])[..., None], confidence, 0)
    coordinates = with_wrists(coordinates, confidence)
    return Composed(
        xp.where(confidence[..., None] > 0, coordinates, 0), confidence, xp.stack([starts, ends], axis=-1), frames
    )


def sentence(signs: Sequence[Pose], fixed: Sequence[bool], manner: Manner) -> Pose:
    """One sentence of any number of steady signs at one frame rate, a few signs at a time.

    So its memory does not grow with its signs times the longest one. Two signs before and three behind tell all that
    neighbours do: a sign's climb, pace and join. Raises `SignerError` where there is no sign.
    """
    if not signs:
        raise SignerError("stitching: there is no sign to stitch; give at least one")
    fps, parts = signs[0].fps, []
    for first in range(0, len(signs), _AT_ONCE):
        behind, start = first + _AT_ONCE, max(0, first - 2)
        around = slice(start, behind + 3)
        done = compose(padded([signs[around]], [fixed[around]]), manner, fps)
        begin = int(done.spans[0, first - start, 0]) if first else 0
        end = int(done.spans[0, behind - start, 0] if behind < len(signs) else done.frames[0])
        parts.append(Pose(np.asarray(done.coordinates[0, begin:end]), np.asarray(done.confidence[0, begin:end]), fps))
    return Pose.joined(parts)


def strokes(signs: Signs, share: float, fps: float) -> tuple[Int[Array, "b n"], Int[Array, "b n"]]:
    """The frames of each sign (first, past the last) without the climb at its beginning and the sink at its end.

    Of the hand that comes up higher, for as long as it climbs or sinks at once, but no more than `share` of the sign at
    each end: a sign may itself be a way up. The first sign of a sentence keeps its beginning, the last its end.
    """
    xp = signs.coordinates.__array_namespace__()
    frames, s = signs.frames, signs.coordinates.shape[2]
    seen = (signs.confidence[..., _WRISTS] > 0).any(axis=2)  # b n 2
    height = xp.where(signs.confidence[..., _WRISTS] > 0, -signs.coordinates[..., _WRISTS, 1], -xp.inf)
    side = xp.where(seen, height.max(axis=2), -xp.inf).argmax(axis=-1)  # b n
    y = xp.take_along_axis(signs.coordinates[..., _WRISTS, 1], side[..., None, None], axis=-1)[..., 0]
    known = xp.take_along_axis(signs.confidence[..., _WRISTS], side[..., None, None], axis=-1)[..., 0] > 0
    climb = -_velocity(y[..., None, None], frames, fps)[..., 0, 0]  # b n s
    padding = xp.arange(s) >= frames[..., None]
    up = (climb > _CLIMB) & known
    down = ((climb < -_CLIMB) & known) | padding
    start = xp.cumprod(up, axis=-1).sum(axis=-1)
    after = xp.cumprod(down[..., ::-1], axis=-1).sum(axis=-1) - (s - frames)
    most = xp.floor(share * frames).astype(frames.dtype)
    start, after = xp.minimum(start, most), xp.minimum(after, most)
    place = xp.arange(frames.shape[1])
    start = xp.where((place == 0) | signs.fixed, 0, start)
    after = xp.where((place == (frames > 0).sum(axis=1)[:, None] - 1) | signs.fixed, 0, after)
    enough = frames - start - after >= _SHORTEST
    return xp.where(enough, start, 0), xp.where(enough, frames - after, frames)


def paced(signs: Signs, start: Int[Array, "b n"], end: Int[Array, "b n"], manner: Manner, fps: float) -> Signs:
    """The frames from `start` to `end` of each sign, and all of them in at most `manner.longest` seconds, or as many as
    keep its arms and hands at a human speed, or as show it `manner.faster` times as fast.

    The speed is what the fastest joint surpasses in a tenth of the frames: a detector's one jump is no movement.
    """
    xp = signs.coordinates.__array_namespace__()
    s, now = signs.coordinates.shape[2], end - start
    arms, shown = signs.coordinates[..., _ARMS, :2], signs.confidence[..., _ARMS] > 0
    at = xp.arange(s - 1)
    within = (at >= start[..., None]) & (at < end[..., None] - 1)
    step = length(arms[:, :, 1:] - arms[:, :, :-1])[..., 0] * (shown[:, :, 1:] & shown[:, :, :-1])
    steps = xp.sort(step.max(axis=-1, initial=0) * within, axis=-1)  # b n s-1, those of other frames first
    rank = s - 2 - xp.floor(_JUMPS * now + 1e-4).astype(xp.int32)
    fastest = fps * xp.take_along_axis(steps, xp.maximum(rank, 0)[..., None], axis=-1)[..., 0] if s > 1 else 0 * now
    least = xp.maximum(min(manner.longest * fps, 1e6), xp.ceil(now * fastest / PEAK_SPEED))
    least = xp.maximum(xp.maximum(xp.round(least), xp.ceil(now / manner.faster)), _SHORTEST)
    alone = (signs.frames > 0).sum(axis=1)[:, None] < 2
    frames = xp.where(signs.fixed | alone, now, xp.minimum(now, least).astype(now.dtype))
    s = int(frames.max()) if xp is np else s  # what is behind is padding of JAX's one size
    nth = xp.minimum(xp.arange(s), xp.maximum(frames - 1, 0)[..., None])
    place = start[..., None] + nth * ((now - 1) / xp.maximum(frames - 1, 1))[..., None]
    place = xp.clip(place, 0, xp.maximum(end - 1, 0)[..., None])
    before = xp.floor(place).astype(xp.int32)
    after = xp.minimum(before + 1, xp.maximum(end - 1, 0)[..., None])
    share = (place - before).astype(xp.float32)[..., None]
    (p0, c0), (p1, c1) = ((_at(signs.coordinates, at), _at(signs.confidence, at)) for at in (before, after))
    # A joint that one of the two frames lacks stays where the other has it, and goes missing half-way.
    weight = xp.where(c1 <= 0, 0, xp.where(c0 <= 0, 1, share))
    confidence = xp.where((c0 > 0) & (c1 > 0), c0 + share * (c1 - c0), xp.where(share < 0.5, c0, c1))
    real = (xp.arange(s) < frames[..., None])[..., None]
    confidence = xp.where(real, confidence, 0).astype(xp.float32)
    coordinates = (p0 + weight[..., None] * (p1 - p0)) * (confidence[..., None] > 0)
    return Signs(coordinates.astype(xp.float32), confidence, frames, signs.fixed)


def joins(
    signs: Signs, room: Int[Array, "b n 2"], manner: Manner, fps: float
) -> tuple[Int[Array, "b n"], Int[Array, "b n"]]:
    """The frames of each sign (first, past the last) that is joined to its neighbours.

    Of the last frames of one and the first of the next the two are taken whose arms and hands lie nearest to each other
    and move most alike: by the mean distance of the joints that both show, and of their velocities times `memory`.
    `room`: how many frames may go at each sign's beginning and end.
    """
    xp = signs.coordinates.__array_namespace__()
    frames, none = signs.frames, xp.zeros_like(signs.frames)
    w = min(round(manner.window * fps), signs.coordinates.shape[2])
    if w < 2 or frames.shape[1] < 2:
        return none, frames
    most = xp.where(signs.fixed[..., None], 0, xp.minimum(room, (frames[..., None] - 1) // 2))
    velocity = _velocity(signs.coordinates[..., _ARMS, :2], frames, fps)
    back = xp.maximum(frames[:, :-1, None] - 1 - xp.arange(w), 0)  # b n-1 w
    places = signs.coordinates[..., _ARMS, :2], velocity, signs.confidence[..., _ARMS]
    x0, v0, c0 = (_at(a[:, :-1], back)[:, :, :, None] for a in places)
    x1, v1, c1 = (a[:, 1:, None, :w] for a in places)
    both = c0 * c1  # b n-1 w w j
    apart = (length(x0 - x1) + manner.memory * length(v0 - v1))[..., 0]
    cost = (apart * both).sum(axis=-1) / xp.maximum(both.sum(axis=-1), 1e-6)
    allowed = (xp.arange(w)[:, None] <= most[:, :-1, 1, None, None]) & (xp.arange(w) <= most[:, 1:, 0, None, None])
    cost = xp.where(allowed, xp.where(both.sum(axis=-1) > 0, cost, 1e6), xp.inf)
    best = cost.reshape(*cost.shape[:2], -1).argmin(axis=-1).astype(frames.dtype)
    cut = xp.where(frames[:, 1:] > 0, best // w, 0), xp.where(frames[:, 1:] > 0, best % w, 0)
    return (
        xp.concatenate([none[:, :1], cut[1]], axis=1),
        frames - xp.concatenate([cut[0], none[:, :1]], axis=1),
    )


def transitions(
    signs: Signs, first: Array, last: Array, gaps: Int[Array, "b n-1"], row: Int[Array, "*t"], pair: Int[Array, "*t"],
    share: Float[Array, "*t 1"], fps: float,
) -> tuple[Float[Array, "*t j c"], Float[Array, "*t j"]]:  # fmt: skip
    """Coordinates and confidence at `share` of the transition `pair` (that from sign `pair` to the next) of sentence
    `row`.
    """
    xp = signs.coordinates.__array_namespace__()
    (p0, c0, v0, a0), (p1, c1, v1, a1) = (
        _edge(signs, first[:, part], last[:, part], part, at_end=at_end)
        for part, at_end in ((slice(None, -1), True), (slice(1, None), False))
    )
    steps, distance = (gaps + 1).astype(xp.float32)[..., None, None], length(p1 - p0)
    sides = [(p, *tangents(v, a, distance, steps, fps)) for p, v, a in ((p0, v0, a0), (p1, v1, a1))]
    before, after = ([one[row, pair] for one in side] for side in sides)
    curve = quintic(share[..., None], (before[0], before[1], before[2]), (after[0], after[1], after[2]))
    c0, c1 = c0[row, pair], c1[row, pair]
    both, early = (c0 > 0) & (c1 > 0), c0 > 0
    carried = ((c0 > 0) != (c1 > 0)) & both[..., _CARRIER]
    offset = xp.where(early[..., None], before[0] - before[0][..., _CARRIER, :], after[0] - after[0][..., _CARRIER, :])
    curve = xp.where(carried[..., None], curve[..., _CARRIER, :] + offset, curve)
    fade = xp.maximum(xp.where(early, 1 - 2 * share, 2 * share - 1), 0)
    confidence = xp.where(both, c0 + share * (c1 - c0), xp.where(carried, xp.maximum(c0, c1) * fade, 0))
    return curve, confidence


def with_wrists(coordinates: Float[Array, "*t j c"], confidence: Float[Array, "*t j"]) -> Float[Array, "*t j c"]:
    """Each arm's wrist moved to where its hand begins, in the plane, for detectors see the two apart.

    Depth stays: an arm's and a hand's are told from origins of their own. A hand that fades lets go of the wrist.
    """
    xp = coordinates.__array_namespace__()
    plane = coordinates[..., :2]
    root, wrist = plane[..., _ROOTS, :], plane[..., _WRISTS, :]
    share = xp.where(confidence[..., _WRISTS] > 0, xp.clip(confidence[..., _ROOTS] / _SHOWN, 0, 1), 0)[..., None]
    moved = wrist + share * (root - wrist)
    return _put(coordinates, (..., _WRISTS, slice(2)), moved)


def _edge(signs: Signs, first: Array, last: Array, part: slice, *, at_end: bool) -> tuple[Array, Array, Array, Array]:
    """Place, confidence, velocity and acceleration of each sign's last or first frame: a frame, of the parabola that
    fits the few frames there best; 0 where a joint is not seen in all of them.
    """
    xp = signs.coordinates.__array_namespace__()
    coordinates, confidence = signs.coordinates[:, part], signs.confidence[:, part]
    tail = xp.clip(last - first, 1, TAIL)
    begin = last - tail if at_end else first
    at = xp.clip(begin[..., None] + xp.arange(TAIL), 0, xp.maximum(last - 1, 0)[..., None])  # b n tail
    table = xp.asarray(np.stack([np.zeros((2, TAIL), np.float32), *(parabola(k, at_end) for k in range(1, TAIL + 1))]))
    around = _at(coordinates, at)
    fit = xp.einsum("bnkt,bntjc->bnkjc", table[tail], around)
    seen = xp.all(_at(confidence, at) > 0, axis=2)[..., None]
    edge = xp.maximum(last - 1, 0) if at_end else first
    return _at(coordinates, edge), _at(confidence, edge), fit[:, :, 0] * seen, 2 * fit[:, :, 1] * seen


def _put(values: Array, at: tuple, new: Array) -> Array:
    """The values with others at these places."""
    if not isinstance(values, np.ndarray):
        return values.at[at].set(new)
    values = values.copy()
    values[at] = new
    return values


def _at(values: Float[Array, "b n s *j"], frames: Int[Array, "b n *k"]) -> Float[Array, "b n *j"]:
    """Of each sign the values at one of its frames, or at several. Whole frames are taken, not value by value."""
    xp = values.__array_namespace__()
    more = [1] * (frames.ndim - 2)
    b, n = frames.shape[:2]
    return values[xp.arange(b).reshape(b, 1, *more), xp.arange(n).reshape(n, *more), frames]


def _velocity(values: Float[Array, "b n s j c"], frames: Int[Array, "b n"], fps: float) -> Float[Array, "b n s j c"]:
    """Central differences a second, at a sign's ends from the one neighbour there is."""
    xp = values.__array_namespace__()
    s = values.shape[2]
    at = xp.arange(s)
    real = at < frames[..., None] - 1
    after = xp.concatenate([values[:, :, 1:], values[:, :, -1:]], axis=2)
    after = xp.where(real[..., None, None], after, values)
    before = xp.concatenate([values[:, :, :1], values[:, :, :-1]], axis=2)
    apart = xp.maximum((at > 0).astype(xp.int32) + real, 1)
    return (after - before) * (fps / apart)[..., None, None].astype(values.dtype)
