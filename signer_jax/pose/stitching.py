"""From isolated signs to one continuous pose: trimming, resampling, spans on a time line, smooth transitions."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.clean import bridge
from signer_jax.types import Pose

# Heights in shoulder widths above the shoulders: hands rest at -1.1 to -1.6 in real clips.
_REST = -1.3
_SIGNING = -0.85  # a hand that never comes above this rests all the time
_RAISED = 0.5  # share of the way from the rest to a hand's highest place above which it signs
_NEARLY = 0.05  # shoulder widths below that: what measuring again may move a hand by
_TAIL = 5  # frames at a sign's edge from which its velocity and acceleration are measured
# What an edge velocity, kept up, may cover in a transition: times the transition's distance, or shoulder widths where
# it is a human speed. A fifth of it is how far the hand overshoots.
_OVERSHOOT, _HUMAN_OVERSHOOT = 1.5, 1.2
_PEAK_SPEED = 6.0  # shoulder widths a second, about 2 m/s: how fast a hand moves between two signs at most
_PEAK = 1.875  # the peak speed of a minimum-jerk movement over its mean speed (Flash and Hogan 1985)
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


def resample(pose: Pose, frames: int, *, fps: float | None = None) -> Pose:
    """The pose in `frames` frames, first and last kept, linear in between; `fps` (by default its own) is noted.

    A joint that is missing in one of the two frames around stays where the other has it, and goes missing half-way.
    Raises `SignerError` for an empty pose.
    """
    if not len(pose) or frames < 1:
        raise SignerError(f"pose: {len(pose)} frames cannot be resampled to {frames}; both must be at least 1")
    fps = pose.fps if fps is None else fps
    at = np.linspace(0, len(pose) - 1, frames) if frames > 1 else np.array([(len(pose) - 1) / 2])
    before = np.floor(at).astype(int)
    after = np.minimum(before + 1, len(pose) - 1)
    share = np.broadcast_to((at - before).astype(np.float32)[:, None], (frames, pose.confidence.shape[1]))
    c0, c1 = pose.confidence[before], pose.confidence[after]
    weight = np.where(c1 <= 0, 0, np.where(c0 <= 0, 1, share))[..., None].astype(np.float32)
    coordinates = pose.coordinates[before] * (1 - weight) + pose.coordinates[after] * weight
    confidence = np.where((c0 > 0) & (c1 > 0), c0 + share * (c1 - c0), np.where(share < 0.5, c0, c1))
    return Pose(coordinates * (confidence[..., None] > 0), confidence.astype(np.float32), fps)


def transition_seconds(before: Pose, after: Pose, least: float) -> float:
    """How long the hands take from one sign to the next: `least`, or as long as a human needs for the way."""
    way = 0.0
    for side in _SIDES:
        wrist = skeleton.INDEX[f"{side}_wrist"]
        if before.confidence[-1, wrist] > 0 and after.confidence[0, wrist] > 0:
            step = after.coordinates[0, wrist] - before.coordinates[-1, wrist]
            way = max(way, float(np.linalg.norm(step[:2])))  # a detector's z is a guess, several times too deep
    return max(least, _PEAK * way / _PEAK_SPEED)


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
    spans = np.asarray(spans)
    _check_spans(spans, len(segments), total)
    joints, axes = segments[0].coordinates.shape[1:]
    coordinates = np.zeros((total, joints, axes), np.float32)
    confidence = np.zeros((total, joints), np.float32)
    segments = [steady(segment, rest) for segment in segments]
    rest = None if rest is None else steady(rest, None)
    pieces = [
        resample(segment, int(end - start), fps=fps) for segment, (start, end) in zip(segments, spans, strict=True)
    ]
    for piece, (start, end) in zip(pieces, spans, strict=True):
        coordinates[start:end], confidence[start:end] = piece.coordinates, piece.confidence
    for i in range(len(pieces) - 1):
        start, end = spans[i, 1], spans[i + 1, 0]
        coordinates[start:end], confidence[start:end] = _transition(pieces[i], pieces[i + 1], end - start)
    move = 0 if rest is None else round(REST_SECONDS * fps)
    lead, end = int(spans[0, 0]), int(spans[-1, 1])
    before = (rest or pieces[0]).slice(0, 1)
    after = rest.slice(0, 1) if rest else pieces[-1].slice(len(pieces[-1]) - 1, len(pieces[-1]))
    coordinates[:lead], confidence[:lead] = before.coordinates, before.confidence
    coordinates[end:], confidence[end:] = after.coordinates, after.confidence
    # One frame is left for the rest pose itself.
    if (n := min(move, lead - 1)) > 0:
        coordinates[lead - n : lead], confidence[lead - n : lead] = _transition(before, pieces[0], n)
    if (n := min(move, total - end - 1)) > 0:
        coordinates[end : end + n], confidence[end : end + n] = _transition(pieces[-1], after, n)
    return Pose(coordinates * (confidence[..., None] > 0), confidence, fps)


def steady(segment: Pose, rest: Pose | None) -> Pose:
    """A sign in which no arm pops up or vanishes: gaps are bridged, an arm that is missing at an end holds still there,
    and one that is never seen rests, as `rest` shows it or else with the hand low in front of the body.

    A hand whose arm is seen, but which itself is not, stays as it is.
    """
    arms = [joint for arm in _ARM.values() for joint in arm]
    if segment.confidence.shape[1] != len(_ANCHOR) or (segment.confidence[:, arms] > 0).all():
        return segment
    segment = bridge(segment)
    coordinates, confidence = segment.coordinates.copy(), segment.confidence.copy()
    for side in _SIDES:
        arm, shoulder, wrist = _ARM[side], skeleton.INDEX[f"{side}_shoulder"], skeleton.INDEX[f"{side}_wrist"]
        if not (confidence[:, wrist] > 0).any():
            origin = np.where(confidence[:, shoulder, None] > 0, coordinates[:, shoulder], _shoulder(side, coordinates))
            if rest is not None and rest.confidence[0, wrist] > 0 and rest.confidence[0, shoulder] > 0:
                place = rest.coordinates[0, arm] - rest.coordinates[0, shoulder]
                known = rest.confidence[0, arm]
            else:
                place, known = _resting_arm(side, coordinates.shape[-1]), np.full(len(arm), _GUESSED, np.float32)
            coordinates[:, arm], confidence[:, arm] = origin[:, None] + place, known
            continue
        for joint in arm:
            seen = np.flatnonzero(confidence[:, joint] > 0)
            if not len(seen):
                continue
            first, last = seen[0], seen[-1]
            coordinates[:first, joint], confidence[:first, joint] = coordinates[first, joint], confidence[first, joint]
            coordinates[last:, joint], confidence[last:, joint] = coordinates[last, joint], confidence[last, joint]
    return Pose(coordinates, confidence, segment.fps)


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
        return pose.slice(_leading(raised, nearly), len(pose) - _leading(raised[:, ::-1], nearly[:, ::-1]))
    keep = np.flatnonzero(detected)
    return pose.slice(int(keep[0]), int(keep[-1]) + 1) if len(keep) else pose


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


def _edge_motion(pose: Pose, at_end: bool) -> tuple[np.ndarray, np.ndarray]:
    """Velocity a frame and acceleration a frame², `[j, c]` each, at the last or first frame: of the parabola that fits
    the few frames there best; 0 where a joint is not seen in all of them.
    """
    part = pose.slice(max(0, len(pose) - _TAIL), len(pose)) if at_end else pose.slice(0, _TAIL)
    still = np.zeros_like(part.coordinates[0])
    if len(part) < 2:
        return still, still
    fit = np.tensordot(_parabola(len(part), at_end), part.coordinates, 1)
    fit = fit * np.all(part.confidence > 0, axis=0)[:, None]
    return fit[1], 2 * fit[2] if len(fit) > 2 else still


@cache
def _parabola(frames: int, at_end: bool) -> Float[np.ndarray, "k t"]:
    """From values at `frames` times, the last or first of them 0, to the factors of (1, time, time²) that fit best."""
    time = np.arange(frames, dtype=np.float64) - (frames - 1 if at_end else 0)
    return np.linalg.pinv(np.stack([time**k for k in range(min(3, frames))], axis=1))


def _transition(before: Pose, after: Pose, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """`frames` frames between the last of `before` and the first of `after`: coordinates and confidence."""
    p0, p1 = before.coordinates[-1], after.coordinates[0]  # [j, c]
    c0, c1 = before.confidence[-1], after.confidence[0]
    steps = frames + 1
    u = (np.arange(1, steps, dtype=np.float32) / steps)[:, None, None]
    distance = np.linalg.norm((p1 - p0)[:, :2], axis=-1, keepdims=True)
    (v0, a0), (v1, a1) = _edge_motion(before, at_end=True), _edge_motion(after, at_end=False)
    (m0, a0), (m1, a1) = (
        (_clamped(v * steps, reach), _clamped(a * steps**2, 2 * reach))
        for v, a, reach in ((v0, a0, _reach(v0, distance, before.fps)), (v1, a1, _reach(v1, distance, after.fps)))
    )
    # Quintic Hermite: each factor is 1 in one of position, velocity and acceleration at one end and 0 in the others.
    curve = (
        (1 - 10 * u**3 + 15 * u**4 - 6 * u**5) * p0
        + (u - 6 * u**3 + 8 * u**4 - 3 * u**5) * m0
        + (u**2 - 3 * u**3 + 3 * u**4 - u**5) / 2 * a0
        + (u**3 - 2 * u**4 + u**5) / 2 * a1
        + (-4 * u**3 + 7 * u**4 - 3 * u**5) * m1
        + (10 * u**3 - 15 * u**4 + 6 * u**5) * p1
    )
    share = u[..., 0]
    confidence = np.where((c0 > 0) & (c1 > 0), c0 + share * (c1 - c0), 0)
    one_sided = np.flatnonzero((c0 > 0) != (c1 > 0))
    for joint in one_sided if len(c0) == len(_ANCHOR) else ():
        anchor = _ANCHOR[joint]
        if anchor == joint or c0[anchor] <= 0 or c1[anchor] <= 0:
            continue
        point, known, fade = (p0, c0, 1 - 2 * share[:, 0]) if c0[joint] > 0 else (p1, c1, 2 * share[:, 0] - 1)
        curve[:, joint] = curve[:, anchor] + point[joint] - point[anchor]
        confidence[:, joint] = known[joint] * np.maximum(fade, 0)
    return curve.astype(np.float32), confidence.astype(np.float32)


def _reach(velocity: np.ndarray, distance: np.ndarray, fps: float) -> np.ndarray:
    """The longest way `[j, 1]` that `velocity` (a frame) may cover; one that no hand has is the detector's error."""
    human = np.linalg.norm(velocity[:, :2], axis=-1, keepdims=True) * fps <= _PEAK_SPEED
    return np.maximum(distance * _OVERSHOOT, np.where(human, _HUMAN_OVERSHOOT, 0.0))


def _clamped(tangent: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Depth is held by itself: it is no measure of the others."""
    plane, depth = tangent[:, :2], tangent[:, 2:]
    length = np.linalg.norm(plane, axis=-1, keepdims=True)
    plane = plane * np.minimum(1, reach / np.maximum(length, 1e-9))
    return np.concatenate([plane, np.clip(depth, -reach, reach)], axis=1)
