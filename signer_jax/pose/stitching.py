"""From isolated signs to one continuous pose: trimming, resampling, spans on a time line, smooth transitions."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.types import Pose

_RAISED = 0.5  # share of the way from a hand's lowest to its highest place above which it signs
_LIFT = 0.4  # shoulder widths: a hand whose height varies by less neither rises nor sinks
_TAIL = 3  # frames over which the velocity at a sign's edge is measured
_OVERSHOOT = 1.5  # an edge velocity may carry the hand at most this many times the transition's distance
REST_SECONDS = 0.4  # how long the hands take from and to the rest pose

_SIDES = ("left", "right")
_HAND = {side: [skeleton.INDEX[name] for name in getattr(skeleton, f"{side.upper()}_HAND")] for side in _SIDES}
# What carries a joint that only one side of a transition knows.
_ANCHOR = np.arange(len(skeleton.JOINTS))
for _side in _SIDES:
    _ANCHOR[_HAND[_side]] = skeleton.INDEX[f"{_side}_wrist"]
_ANCHOR[[skeleton.INDEX[name] for name in skeleton.FACE]] = skeleton.INDEX["nose"]


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


def timeline(segments: Sequence[Pose], gap: float, fps: float) -> tuple[Int[np.ndarray, "n 2"], int]:
    """Where each segment goes at `fps`, one after the other with `gap` seconds in between.

    Returns spans (first frame, last frame excluded) and the total number of frames. A segment keeps its duration.
    """
    spans, at = [], 0
    for segment in segments:
        length = max(1, round(len(segment) / segment.fps * fps))
        spans.append((at, at + length))
        at += length + round(gap * fps)
    return np.array(spans, np.int32).reshape(-1, 2), spans[-1][1] if spans else 0


def stitch(
    segments: Sequence[Pose], spans: Int[np.ndarray, "n 2"], total: int, *, fps: float, rest: Pose | None = None
) -> Pose:
    """One pose of `total` frames at `fps`: each segment resampled into its span, the gaps filled smoothly.

    Transitions are cubic Hermite curves from the pose and velocity at the end of a segment to those at the start of the
    next. A joint that only one side knows is carried along by its wrist (hands) or nose (face) and fades out towards
    the middle of the gap; one that neither knows stays missing. Before the first and after the last segment their edge
    poses are held, or, where `rest` is given (its first frame), the body moves from and to it.
    Raises `SignerError` where spans overlap, leave `0…total` or do not fit the segments.
    """
    spans = np.asarray(spans)
    _check_spans(spans, len(segments), total)
    joints, axes = segments[0].coordinates.shape[1:]
    coordinates = np.zeros((total, joints, axes), np.float32)
    confidence = np.zeros((total, joints), np.float32)
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


def trim(pose: Pose) -> Pose:
    """An isolated sign without the rest, rise and sink around it (a normalised pose on the canonical joints).

    A hand signs while it is above half of the way between its lowest and its highest place; the frames before the first
    and after the last in which any hand signs are cut, and so are frames before the first and after the last detected
    hand. A hand that stays at one height says nothing; a pose in which both do is only cut by detection.
    """
    raised = np.zeros(len(pose), bool)
    rises = False
    for side in _SIDES:
        height, seen = _hand_height(pose, side)
        if not seen.any():
            continue
        low, high = height[seen].min(), height[seen].max()
        if high - low >= _LIFT:
            rises = True
            raised |= seen & (height > low + _RAISED * (high - low))
    hands = (pose.confidence[:, [_HAND[side][0] for side in _SIDES]] > 0).any(1)
    keep = np.flatnonzero(raised if rises else hands)
    return pose.slice(int(keep[0]), int(keep[-1]) + 1) if len(keep) else pose


def _hand_height(pose: Pose, side: str) -> tuple[Float[np.ndarray, " t"], np.ndarray]:
    """Height of a hand's root (of the arm's wrist where the hand is not seen), upwards, and where it is known."""
    hand, wrist = _HAND[side][0], skeleton.INDEX[f"{side}_wrist"]
    by_hand = pose.confidence[:, hand] > 0
    height = -np.where(by_hand, pose.coordinates[:, hand, 1], pose.coordinates[:, wrist, 1])
    return height, by_hand | (pose.confidence[:, wrist] > 0)


def _check_spans(spans: np.ndarray, segments: int, total: int) -> None:
    if not segments:
        raise SignerError("stitching: there is no sign to stitch; give at least one segment")
    if spans.shape != (segments, 2):
        raise SignerError(f"stitching: {segments} segments need spans [{segments}, 2], not {list(spans.shape)}")
    edges = spans.reshape(-1)
    if (np.diff(edges) < 0).any() or (spans[:, 0] >= spans[:, 1]).any() or edges[0] < 0 or edges[-1] > total:
        raise SignerError(f"stitching: spans {spans.tolist()} must be in order, not empty and within 0…{total}")


def _edge_velocity(pose: Pose, at_end: bool) -> np.ndarray:
    """Velocity a frame, `[j, c]`, over the last or first few frames; 0 where a joint is not seen in all of them."""
    part = pose.slice(max(0, len(pose) - _TAIL), len(pose)) if at_end else pose.slice(0, _TAIL)
    if len(part) < 2:
        return np.zeros_like(part.coordinates[0])
    return (
        (part.coordinates[-1] - part.coordinates[0]) / (len(part) - 1) * (part.confidence > 0).all(0, keepdims=True).T
    )


def _transition(before: Pose, after: Pose, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """`frames` frames between the last of `before` and the first of `after`: coordinates and confidence."""
    p0, p1 = before.coordinates[-1], after.coordinates[0]  # [j, c]
    c0, c1 = before.confidence[-1], after.confidence[0]
    steps = frames + 1
    u = (np.arange(1, steps, dtype=np.float32) / steps)[:, None, None]
    reach = np.linalg.norm(p1 - p0, axis=-1, keepdims=True) * _OVERSHOOT
    m0 = _clamped(_edge_velocity(before, at_end=True) * steps, reach)
    m1 = _clamped(_edge_velocity(after, at_end=False) * steps, reach)
    curve = (
        (2 * u**3 - 3 * u**2 + 1) * p0 + (u**3 - 2 * u**2 + u) * m0 + (3 * u**2 - 2 * u**3) * p1 + (u**3 - u**2) * m1
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


def _clamped(tangent: np.ndarray, reach: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(tangent, axis=-1, keepdims=True)
    return tangent * np.minimum(1, reach / np.maximum(length, 1e-9))
