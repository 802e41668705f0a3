"""From isolated signs to one continuous pose: trimming, resampling, spans on a time line, smooth transitions."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.clean import bridge, seen_around
from signer_jax.pose.curves import PEAK, PEAK_SPEED, TAIL, length, parabola, quintic, tangents
from signer_jax.pose.skeleton import on_joints
from signer_jax.types import Pose

# Heights in shoulder widths above the shoulders: hands rest at -1.1 to -1.6 in real clips.
_REST = -1.3
_SIGNING = -0.85  # a hand that never comes above this rests all the time
_RAISED = 0.5  # share of the way from the rest to a hand's highest place above which it signs
_NEARLY = 0.05  # shoulder widths below that: what measuring again may move a hand by
_GUESSED = 0.5  # confidence of an arm that nobody saw
REST_SECONDS = 0.4  # how long the hands take from and to the rest pose

_SIDES = ("left", "right")
_HAND = {side: [skeleton.INDEX[name] for name in getattr(skeleton, f"{side.upper()}_HAND")] for side in _SIDES}
# What carries a joint that only one side of a transition knows.
_ANCHOR = np.arange(len(skeleton.JOINTS))
for _side in _SIDES:
    _ANCHOR[_HAND[_side]] = skeleton.INDEX[f"{_side}_wrist"]
_ANCHOR[[skeleton.INDEX[name] for name in skeleton.FACE]] = skeleton.INDEX["nose"]
_ARM = {side: [skeleton.INDEX[f"{side}_elbow"], skeleton.INDEX[f"{side}_wrist"], *_HAND[side]] for side in _SIDES}
_ARMS = [joint for arm in _ARM.values() for joint in arm]


def resample(pose: Pose, frames: int, *, fps: float | None = None) -> Pose:
    """The pose in `frames` frames, first and last kept, linear in between; `fps` (by default its own) is noted.

    A joint that is missing in one of the two frames around stays where the other has it, and goes missing half-way.
    Raises `SignerError` for an empty pose.
    """
    if not len(pose) or frames < 1:
        raise SignerError(f"pose: {len(pose)} frames cannot be resampled to {frames}; both must be at least 1")
    fps = pose.fps if fps is None else fps
    return Pose(*_resampled([pose], [frames]), fps)


def _resampled(
    segments: Sequence[Pose], lengths: Sequence[int] | np.ndarray, joints: np.ndarray | None = None, dims: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates and confidence of all segments, each in so many frames, one after the other.

    `joints`: of these alone, in their first `dims` coordinates.
    """
    frames, sizes = np.asarray(lengths), np.array([len(segment) for segment in segments])
    which, nth = _counted(frames)
    ends = sizes - 1
    # As np.linspace counts, for all segments at once: the last frame is met exactly.
    inside = np.where(nth < frames[which] - 1, nth * (ends / np.maximum(frames - 1, 1))[which], ends[which])
    inside = np.where(frames[which] > 1, inside, ends[which] / 2)
    firsts = np.cumsum(sizes) - sizes
    places = firsts[which] + inside
    before = np.floor(places).astype(int)
    after = np.minimum(before + 1, (firsts + ends)[which])
    share = (places - before).astype(np.float32)[:, None]
    pose = Pose.joined(segments) if joints is None else on_joints(Pose.joined(segments), joints, dims)
    coordinates, confidence = pose.coordinates, pose.confidence
    c0, c1 = confidence[before], confidence[after]
    if confidence.min() > 0:  # as below, where nothing is missing
        weight = share[..., None]
        return coordinates[before] * (1 - weight) + coordinates[after] * weight, c0 + share * (c1 - c0)
    weight = np.where(c1 <= 0, 0, np.where(c0 <= 0, 1, share))[..., None].astype(np.float32)
    coordinates = coordinates[before] * (1 - weight) + coordinates[after] * weight
    confidence = np.where((c0 > 0) & (c1 > 0), c0 + share * (c1 - c0), np.where(share < 0.5, c0, c1))
    return coordinates * (confidence[..., None] > 0), confidence.astype(np.float32)


def _counted(lengths: np.ndarray) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " t"]]:
    """Of things of so many frames, one after the other: which of them each frame is of, and its number in it from 0."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    return which, np.arange(len(which)) - (np.cumsum(lengths) - lengths)[which]


def transition_seconds(before: Pose, after: Pose, least: float) -> float:
    """How long the hands take from one sign to the next: `least`, or as long as a human needs for the way."""
    way = 0.0
    for side in _SIDES:
        wrist = skeleton.INDEX[f"{side}_wrist"]
        if before.confidence[-1, wrist] > 0 and after.confidence[0, wrist] > 0:
            step = after.coordinates[0, wrist] - before.coordinates[-1, wrist]
            way = max(way, float(np.linalg.norm(step[:2])))  # a detector's z is a guess, several times too deep
    return max(least, PEAK * way / PEAK_SPEED)


def timeline(segments: Sequence[Pose], gap: float | Sequence[float], fps: float) -> tuple[Int[np.ndarray, "n 2"], int]:
    """Where each segment goes at `fps`, one after the other with `gap` seconds in between (one, or one a gap).

    Returns spans (first frame, last frame excluded) and the total number of frames. A segment keeps its duration.
    """
    spans, at = [], 0
    pauses = [gap] * len(segments) if isinstance(gap, int | float) else [*gap, 0.0]
    for segment, pause in zip(segments, pauses, strict=True):
        length = max(1, round(len(segment) / segment.fps * fps))
        spans.append((at, at + length))
        at += length + round(pause * fps)
    return np.array(spans, np.int32).reshape(-1, 2), spans[-1][1] if spans else 0


def stitch(
    segments: Sequence[Pose], spans: Int[np.ndarray, "n 2"], total: int, *, fps: float, rest: Pose | None = None
) -> Pose:
    """One pose of `total` frames at `fps`: each segment resampled into its span, the gaps filled smoothly.

    Gaps within a segment are bridged, and arms that a segment does not show rest (`steady`). Transitions are quintic
    Hermite curves from the pose, velocity and acceleration at the end of a segment to those at the start of the next;
    where these are 0, the curve is the minimum-jerk movement. A joint that only one side knows is carried along by its
    wrist (hands) or nose (face) and fades out towards the middle of the gap; one that neither knows stays missing.
    Before the first and after the last segment their edge poses are held, or, where `rest` is given (its first frame),
    the body moves from and to it.
    Raises `SignerError` where spans overlap, leave `0…total` or do not fit the segments.
    """
    coordinates, confidence = stitch_each([segments], spans, total, fps=fps, rests=[rest])
    return Pose(coordinates[0], confidence[0], fps)


def stitch_each(
    sequences: Sequence[Sequence[Pose]], spans: Int[np.ndarray, "n 2"], total: int, *, fps: float,
    rests: Sequence[Pose | None], joints: Int[np.ndarray, " j"] | None = None, dims: int = 3,
) -> tuple[Float[np.ndarray, "k t j c"], Float[np.ndarray, "k t j"]]:  # fmt: skip
    """`stitch` of k sequences of n segments on the same spans, each with its rest: coordinates and confidence.

    Of poses on the canonical skeleton, `joints` (indices into it) alone are stitched where they are given; of any the
    first `dims` coordinates. All sequences are stitched at once: a call of numpy costs more than one's few frames.
    Raises `SignerError` as `stitch`, and for `joints` of another skeleton.
    """
    spans = np.asarray(spans)
    for count in {len(sequence) for sequence in sequences}:
        _check_spans(spans, count, total)
    k, n = len(sequences), len(spans)
    segments = steady_all([*chain(*sequences)], [rest for rest in rests for _ in range(n)])
    lengths = np.tile(spans[:, 1] - spans[:, 0], k)
    signs = int(lengths.sum())
    # ---- The signs themselves, and the rest poses behind them ------------------------------------------------------
    resting = [i for i in range(k) if rests[i] is not None]
    segments += [steady(rest, None).slice(0, 1) for rest in rests if rest is not None]
    lengths = np.concatenate([lengths, np.ones(len(resting), int)])
    stitched, anchor = _with_anchors(joints, segments[0].confidence.shape[1])
    pieces, shown = _resampled(segments, lengths, stitched, dims)
    firsts = np.concatenate([[0], np.cumsum(lengths)])
    coordinates = np.zeros((k * total, *pieces.shape[1:]), np.float32)
    confidence = np.zeros(coordinates.shape[:2], np.float32)
    which, nth = _counted(lengths[: k * n])
    signed = (np.arange(k)[:, None] * total + spans[:, 0]).reshape(-1)[which] + nth
    coordinates[signed], confidence[signed] = pieces[:signs], shown[:signs]
    # ---- What is held before and after, and transitions: from which piece to which, and into which frames ----------
    lead, end = int(spans[0, 0]), int(spans[-1, 1])
    move = round(REST_SECONDS * fps)
    # One frame is left for the rest pose itself.
    to, back = min(move, lead - 1), min(move, total - end - 1)
    moves = []
    for i in range(k):
        own, at = i * n, i * total
        moves += [
            (own + s, own + s + 1, at + int(spans[s, 1]), int(spans[s + 1, 0] - spans[s, 1])) for s in range(n - 1)
        ]
        before, after = firsts[own], firsts[own + n] - 1
        if rests[i] is not None:
            rest = k * n + resting.index(i)
            before = after = firsts[rest]
            moves += [(rest, own, at + lead - to, to), (own + n - 1, rest, at + end, back)]
        coordinates[at : at + lead], confidence[at : at + lead] = pieces[before], shown[before]
        coordinates[at + end : at + total], confidence[at + end : at + total] = pieces[after], shown[after]
    moves = [one for one in moves if one[3] > 0]
    if moves:
        left, right, starts, frames = np.array(moves).T
        which, nth = _counted(frames)
        into = starts[which] + nth
        edges = (_edges(pieces, shown, firsts, left, at_end=True), _edges(pieces, shown, firsts, right, at_end=False))
        coordinates[into], confidence[into] = _transitions(*edges, frames, fps, anchor)
    if confidence.min(initial=1) <= 0:
        coordinates *= confidence[..., None] > 0
    asked = slice(None if joints is None else len(joints))  # the anchors stand behind
    return (
        coordinates.reshape(k, total, *pieces.shape[1:])[:, :, asked, :dims],
        confidence.reshape(k, total, -1)[:, :, asked],
    )


def _with_anchors(joints: np.ndarray | None, count: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The joints that are stitched, of poses on so many, and where the one that carries each stands among them."""
    if count != len(_ANCHOR):
        if joints is not None:
            raise SignerError(
                f"stitching: joints can be chosen of poses on the {len(_ANCHOR)} canonical joints alone, these have "
                f"{count}; choose them before (skeleton.on_joints), or stitch all"
            )
        return None, None
    if joints is None:
        return None, _ANCHOR
    where = np.full(count, -1)
    where[joints] = np.arange(len(joints))
    carriers = _ANCHOR[joints]
    stitched = np.concatenate([joints, np.unique(carriers[where[carriers] < 0])])
    where[stitched] = np.arange(len(stitched))
    return stitched, where[_ANCHOR[stitched]]


def steady(segment: Pose, rest: Pose | None) -> Pose:
    """A sign in which no arm pops up or vanishes: gaps are bridged, an arm that is missing at an end holds still there,
    and one that is never seen rests, as `rest` shows it or else with the hand low in front of the body.

    A hand whose arm is seen, but which itself is not, stays as it is.
    """
    return steady_all([segment], [rest])[0]


def steady_all(segments: Sequence[Pose], rests: Sequence[Pose | None]) -> list[Pose]:
    """`steady` of each segment with its rest, at once: a call of numpy costs more than a sign's few frames."""
    if not segments or segments[0].confidence.shape[1] != len(_ANCHOR):
        return [*segments]
    whole = Pose.joined(segments)
    if (whole.confidence[:, _ARMS] > 0).all():
        return [*segments]
    lengths = [len(segment) for segment in segments]
    whole = bridge(whole, lengths)  # a copy, changed below
    coordinates, confidence = whole.coordinates, whole.confidence
    ends = np.cumsum(lengths).tolist()
    parts = [slice(end - frames, end) for end, frames in zip(ends, lengths, strict=True)]
    for side, arm in _ARM.items():
        seen = confidence[:, arm] > 0
        if not seen.all():
            before, after = seen_around(seen, lengths)
            source = np.where(before < 0, after, before)  # what was missing between the two is bridged
            frame, which = np.nonzero(~seen & (source >= 0))
            source, joint = source[frame, which], np.array(arm)[which]
            coordinates[frame, joint], confidence[frame, joint] = coordinates[source, joint], confidence[source, joint]
        wrist = skeleton.INDEX[f"{side}_wrist"]
        for part, rest in zip(parts, rests, strict=True):
            if not (confidence[part, wrist] > 0).any():
                coordinates[part, arm], confidence[part, arm] = _resting(side, whole.slice(part.start, part.stop), rest)
    return [Pose(coordinates[part], confidence[part], one.fps) for part, one in zip(parts, segments, strict=True)]


def _resting(side: str, sign: Pose, rest: Pose | None) -> tuple[np.ndarray, np.ndarray]:
    """Where an arm is in a sign that does not show it, and its confidence."""
    arm, shoulder, wrist = _ARM[side], skeleton.INDEX[f"{side}_shoulder"], skeleton.INDEX[f"{side}_wrist"]
    known = sign.confidence[:, shoulder, None] > 0
    origin = np.where(known, sign.coordinates[:, shoulder], _shoulder(side, sign.coordinates))
    if rest is not None and rest.confidence[0, wrist] > 0 and rest.confidence[0, shoulder] > 0:
        place = rest.coordinates[0, arm] - rest.coordinates[0, shoulder]
        return origin[:, None] + place, rest.confidence[0, arm]
    guessed = np.full(len(arm), _GUESSED, np.float32)
    return origin[:, None] + _resting_arm(side, sign.coordinates.shape[-1]), guessed


def _shoulder(side: str, coordinates: np.ndarray) -> np.ndarray:
    place = np.zeros(coordinates.shape[-1], np.float32)
    place[0] = 0.5 if side == "left" else -0.5
    return place


def _resting_arm(side: str, axes: int) -> Float[np.ndarray, "joints c"]:
    """Elbow, wrist and hand, relative to the shoulder: the forearm low in front of the body, the hand in its line."""
    elbow, wrist = np.array([0.12, 0.8]), np.array([-0.18, 1.25])
    along = (wrist - elbow) / np.linalg.norm(wrist - elbow)
    across = np.array([-along[1], along[0]])
    places = [elbow, wrist, wrist]
    for aside, reach in zip((-0.12, -0.06, -0.02, 0.02, 0.06), (0.26, 0.44, 0.46, 0.44, 0.38), strict=True):
        places += [wrist + across * aside * spread + along * reach * share
                   for spread, share in ((0.8, 0.45), (1.0, 0.65), (1.0, 0.82), (1.0, 1.0))]  # fmt: skip
    arm = np.zeros((len(places), axes), np.float32)
    arm[:, :2] = np.array(places)
    return arm * (1 if side == "left" else np.array([-1] + [1] * (axes - 1), np.float32))


def trim(pose: Pose) -> Pose:
    """An isolated sign without the rest, rise and sink around it (a normalised pose on the canonical joints).

    A hand signs while it is above half of the way between where hands rest and its own highest place; the frames before
    the first and after the last in which any hand signs are cut, unless the hand that signs there is nearly so high in
    all of them: they would be the edge of a sign that was trimmed before, measured or resampled anew. A hand that never
    leaves the rest does not sign; where neither does, frames before the first and after the last detected hand are cut.
    Nothing that decides is cut away, so trimming what is trimmed changes nothing.
    """
    return pose.slice(*sign_span(pose))


def sign_span(pose: Pose) -> tuple[int, int]:
    """The frames (first, past the last) that `trim` keeps."""
    raised, nearly = np.zeros((2, len(_SIDES), len(pose)), bool)
    detected = np.zeros(len(pose), bool)
    for i, side in enumerate(_SIDES):
        hand, wrist = _HAND[side][0], skeleton.INDEX[f"{side}_wrist"]
        # By the hand's root; by the arm's wrist where the hand is never seen.
        joint = hand if (pose.confidence[:, hand] > 0).any() else wrist
        seen = pose.confidence[:, joint] > 0
        detected |= pose.confidence[:, hand] > 0
        height = np.where(seen, -pose.coordinates[:, joint, 1], -np.inf)
        if (high := height.max(initial=-np.inf)) > _SIGNING:
            bound = _REST + _RAISED * (high - _REST)
            raised[i], nearly[i] = height > bound, height > bound - _NEARLY
    if raised.any():
        return _leading(raised, nearly), len(pose) - _leading(raised[:, ::-1], nearly[:, ::-1])
    keep = np.flatnonzero(detected)
    return (int(keep[0]), int(keep[-1]) + 1) if len(keep) else (0, len(pose))


def is_raised(y: float) -> bool:
    """Whether a hand's root at this height (down, shoulder widths below the shoulders) does anything but rest."""
    return -y > _SIGNING


def _leading(raised: Bool[np.ndarray, "2 t"], nearly: Bool[np.ndarray, "2 t"]) -> int:
    """How many frames before the first in which a hand is raised are cut."""
    first = int(raised.any(axis=0).argmax())
    return 0 if nearly[raised[:, first], :first].all(axis=1).any() else first


def _check_spans(spans: np.ndarray, segments: int, total: int) -> None:
    if not segments:
        raise SignerError("stitching: there is no sign to stitch; give at least one segment")
    if spans.shape != (segments, 2):
        raise SignerError(f"stitching: {segments} segments need spans [{segments}, 2], not {list(spans.shape)}")
    edges = spans.reshape(-1)
    if (np.diff(edges) < 0).any() or (spans[:, 0] >= spans[:, 1]).any() or edges[0] < 0 or edges[-1] > total:
        raise SignerError(f"stitching: spans {spans.tolist()} must be in order, not empty and within 0…{total}")


class _Edges(NamedTuple):
    """What `n` pieces are at one end: of each the last or first frame, and how it moves there."""

    place: Float[np.ndarray, "n j c"]
    confidence: Float[np.ndarray, "n j"]
    velocity: Float[np.ndarray, "n j c"]  # a frame
    acceleration: Float[np.ndarray, "n j c"]  # a frame²


def _edges(
    coordinates: np.ndarray, confidence: np.ndarray, firsts: np.ndarray, pieces: np.ndarray, at_end: bool
) -> _Edges:
    """Of the pieces (which of those that begin at `firsts`), one after the other in `coordinates [t, j, c]`.

    Velocity and acceleration are those of the parabola that fits the few frames there best; 0 where a joint is not seen
    in all of them.
    """
    first, last = firsts[pieces], firsts[pieces + 1] - 1
    tails = np.minimum(last - first + 1, TAIL)
    start = last - tails + 1 if at_end else first
    frames = np.minimum(start[:, None] + np.arange(TAIL), last[:, None])  # [n, tail]; what is past a tail weighs 0
    factors = np.stack([parabola(int(tail), at_end) for tail in tails])
    joints, axes = coordinates.shape[1:]
    fit = (factors @ coordinates[frames].reshape(len(pieces), TAIL, -1)).reshape(len(pieces), 2, joints, axes)
    seen = (confidence[frames] > 0).all(axis=1)
    if not seen.all():
        fit *= seen[:, None, :, None]
    edge = last if at_end else first
    return _Edges(coordinates[edge], confidence[edge], fit[:, 0], 2 * fit[:, 1])


def _transitions(
    before: _Edges, after: _Edges, frames: Int[np.ndarray, " n"], fps: float, anchor: np.ndarray | None
) -> tuple[Float[np.ndarray, "t j c"], Float[np.ndarray, "t j"]]:
    """So many frames between each two edges, one transition after the other: coordinates and confidence.

    `anchor`: where among the joints the one stands that carries each; None where nothing is carried.
    """
    steps = (frames + 1).astype(np.float32)[:, None, None]
    distance = length(after.place - before.place)
    (m0, a0), (m1, a1) = (tangents(edge.velocity, edge.acceleration, distance, steps, fps) for edge in (before, after))
    which, nth = _counted(frames)
    share = ((nth + 1).astype(np.float32) / (frames[which] + 1).astype(np.float32))[:, None]
    curve: np.ndarray = np.asarray(
        quintic(
            share[..., None],
            (before.place[which], m0[which], a0[which]),
            (after.place[which], m1[which], a1[which]),
        )
    )
    c0, c1 = before.confidence, after.confidence
    both = (c0 > 0) & (c1 > 0)
    confidence = np.where(both, c0, 0)[which] + share * np.where(both, c1 - c0, 0)[which]
    if anchor is None:
        return curve, confidence
    carried = ((c0 > 0) != (c1 > 0)) & (c0[:, anchor] > 0) & (c1[:, anchor] > 0)
    if carried.any():
        one, joint = np.nonzero(carried[which])
        of, by = which[one], anchor[joint]
        early = c0[of, joint] > 0  # it is the side before that knows it
        apart = [edge.place[of, joint] - edge.place[of, by] for edge in (before, after)]
        curve[one, joint] = curve[one, by] + np.where(early[:, None], *apart)
        fade = np.where(early, 1 - 2 * share[one, 0], 2 * share[one, 0] - 1)
        confidence[one, joint] = np.where(early, c0[of, joint], c1[of, joint]) * np.maximum(fade, 0)
    return curve, confidence
