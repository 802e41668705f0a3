"""From glosses to a moving body: signs one after the other, with transitions, head, brows and mouth."""

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from signer_jax.data.builtin import kinematics as k
from signer_jax.data.builtin.phonology import HANDSHAPES, LOCATIONS, ORIENTATIONS, Phonology, frame_of, stroke
from signer_jax.data.builtin.signers import SIGNERS, Signer, variant
from signer_jax.errors import SignerError, closest
from signer_jax.pose.skeleton import INDEX, JOINTS
from signer_jax.types import Pose

_NEGATIONS = ("NOT", "NEVER", "NICHT", "NIE", "KEIN")
_REST = np.array((-0.24, 0.92, -0.30))
_STROKE = 0.17  # half a straight movement's length at amplitude 1
_TRANSITION = 0.4  # seconds between two signs at most
# The whole hand stays in this box, which lies within the view.
_LOW, _HIGH = np.array((-1.2, -1.0, -1.5)), np.array((1.2, 1.38, 0.3))


@dataclass
class _Tracks:
    """What the two hands do, over frames: hand 0 is the right one, 1 the left, both as right hands."""

    points: Float[np.ndarray, "t 2 3"]
    turns: Float[np.ndarray, "t 2 4"]
    angles: Float[np.ndarray, "t 2 5 4"]
    known: np.ndarray  # [t] bool
    mouth: Float[np.ndarray, "t"]
    head: Float[np.ndarray, "t 3"]

    @classmethod
    def empty(cls, frames: int) -> "_Tracks":
        t = frames
        return cls(
            np.zeros((t, 2, 3)), np.zeros((t, 2, 4)), np.zeros((t, 2, 5, 4)), np.zeros(t, bool), np.zeros(t),
            np.zeros((t, 3)),
        )  # fmt: skip


_FRAMES = {(palm, fingers): k.quaternion(frame_of(palm, fingers)) for palm, fingers in ORIENTATIONS}
_ALONG = {key: k.rotations(turn)[:, 1] for key, turn in _FRAMES.items()}  # where the fingers point


def _rest_turn() -> Float[np.ndarray, "4"]:
    u = k.unit(np.array((0.62, 0.72, -0.2)))
    n = np.array((0.0, 0.25, 1.0))
    n = k.unit(n - (n @ u) * u)
    return k.quaternion(np.stack([np.cross(u, n), u, n], axis=1))


_REST_TURN = _rest_turn()


def _sign(
    tracks: _Tracks, at: slice, gloss: str, language: str, signer: Signer, rng: np.random.Generator, variation: float
) -> None:
    """Writes one sign into its frames."""
    entry, frames = variant(gloss, language, signer.name), at.stop - at.start
    amplitude = _STROKE * signer.amplitude * (1 + 2 * variation * rng.standard_normal())
    point, along = LOCATIONS[entry.location]
    place = np.array(point) + rng.normal(0, variation, 3) * (1, 1, 0.5)
    turn = _FRAMES[entry.palm, entry.fingers]
    finger = _ALONG[entry.palm, entry.fingers]
    first, last = HANDSHAPES[entry.handshape], HANDSHAPES[entry.end_handshape]
    for hand in range(2):
        if hand == 1 and entry.hands in ("one", "base"):
            based = entry.hands == "base"
            tracks.points[at, 1] = (-0.02, 0.36, -0.5) if based else _REST
            tracks.turns[at, 1] = _FRAMES["up", "contra"] if based else _REST_TURN
            tracks.angles[at, 1] = HANDSHAPES["flat" if based else "relaxed"]
            if based:
                tracks.points[at, 1] -= 0.22 * np.array((1.0, 0, 0))
            continue
        target = place.copy()
        if entry.hands in ("symmetric", "alternating"):
            target[0] = min(target[0], -0.2 - (0.1 if entry.fingers in ("contra", "upcontra") else 0.0))
        move = stroke(entry.movement, entry.repetition, frames, amplitude, entry.hands == "alternating" and hand == 1)
        spin = np.zeros((2, frames, 4))
        spin[0, :, 0], spin[0, :, 2] = np.cos(move.twist / 2), np.sin(move.twist / 2)  # about the fingers (local y)
        spin[1, :, 0], spin[1, :, 1] = np.cos(move.nod / 2), np.sin(move.nod / 2)  # about the thumb side (local x)
        tracks.turns[at, hand] = k.multiply(k.multiply(np.broadcast_to(turn, (frames, 4)), spin[0]), spin[1])
        tracks.points[at, hand] = target + move.displacement - finger * along * signer.body.hand
        shape = first + move.change[:, None, None] * (last - first)
        shape[:, 1:, 1] += move.wiggle
        tracks.angles[at, hand] = shape
    tracks.known[at] = True
    beat = np.sin(np.pi * np.linspace(0, 1, frames))
    tracks.mouth[at] = entry.mouth * beat**2
    tracks.head[at, 0] = 0.05 * beat * (1 if entry.mouth > 0.4 else -0.5)
    tracks.head[at, 2] = 0.06 * (entry.mouth - 0.5) * beat
    if gloss in _NEGATIONS:
        tracks.head[at, 1] = 0.22 * np.sin(np.linspace(0, 4 * np.pi, frames))


_REST_PLACES = np.stack([_REST, _REST])


def _places(entry: Phonology) -> Float[np.ndarray, "2 3"]:
    """About where the two wrists (as right wrists) are in a sign."""
    point, along = LOCATIONS[entry.location]
    place = np.array(point) - along * _ALONG[entry.palm, entry.fingers]
    return np.stack([place, _REST if entry.hands == "one" else place])


def _rest(tracks: _Tracks, at: slice) -> None:
    tracks.points[at], tracks.turns[at], tracks.angles[at] = _REST, _REST_TURN, HANDSHAPES["relaxed"]
    tracks.known[at] = True


def _fill(tracks: _Tracks) -> None:
    """Minimum-jerk transitions over the unknown frames, slightly bowed away from the body."""
    edges = np.flatnonzero(np.diff(tracks.known.astype(int)))
    for a, b in zip(edges[::2], edges[1::2] + 1, strict=True):  # last known frame, next known frame
        share = k.minimum_jerk(b - a - 1)
        bow = 0.06 * np.sin(np.pi * share)
        for hand in range(2):
            start, end = tracks.points[a, hand], tracks.points[b, hand]
            distance = np.linalg.norm(end - start)
            tracks.points[a + 1 : b, hand] = start + share[:, None] * (end - start)
            tracks.points[a + 1 : b, hand, 2] -= bow * distance
            tracks.turns[a + 1 : b, hand] = k.slerp(tracks.turns[a, hand], tracks.turns[b, hand], share)
        change = tracks.angles[b] - tracks.angles[a]
        tracks.angles[a + 1 : b] = tracks.angles[a] + share[:, None, None, None] * change


def _arm(tracks: _Tracks, hand: int, signer: Signer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Elbow, wrist and hand of one arm, as a right arm."""
    frame = k.rotations(tracks.turns[:, hand])
    wrist = tracks.points[:, hand].copy()
    wrist[1:-1] = 0.25 * wrist[:-2] + 0.5 * wrist[1:-1] + 0.25 * wrist[2:]
    joints = k.hand(np.zeros_like(wrist), frame, tracks.angles[:, hand], signer.body.hand)
    low, high = (wrist[:, None] + joints).min(1), (wrist[:, None] + joints).max(1)
    wrist += np.maximum(_LOW - low, 0) + np.minimum(_HIGH - high, 0)
    elbow, wrist = k.reach(wrist, np.array((-0.5, 0.0, 0.0)), signer.body)
    return elbow, wrist, wrist[:, None] + joints


def sign_glosses(
    glosses: tuple[str, ...], language: str, signer: str, seed: int, *, fps: float, question: str, variation: float,
    jitter: float,
) -> tuple[Pose, Int[np.ndarray, "n 2"]]:  # fmt: skip
    """A performance of `glosses`: the pose `[t, 128, 3]` and each gloss's first and past-the-last frame.

    `variation` is the standard deviation of the hands' place (shoulder widths; timing and amplitude follow it),
    `jitter` that of the detection-like noise a frame (0 for the true motion). `question` raises or furrows the brows.
    Raises `SignerError` for an unknown signer or gloss.
    """
    if signer not in SIGNERS:
        raise SignerError(
            f"signer {signer!r}: not in the built-in corpus{closest(signer, SIGNERS)}; {', '.join(SIGNERS)}"
        )
    who, rng = SIGNERS[signer], np.random.default_rng([seed, 1])
    spans, now = [], round(0.2 * fps) + 1
    places = [_REST_PLACES, *(_places(variant(gloss, language, signer)) for gloss in glosses), _REST_PLACES]
    ways = [np.linalg.norm(b - a, axis=1).max() for a, b in itertools.pairwise(places)]
    for gloss, way in zip(glosses, ways, strict=False):
        quick = 1 + 2 * variation * rng.standard_normal()
        # A longer way takes longer, though less than in proportion and never longer than a slow transition.
        seconds = (rng.uniform(0.13, 0.16) + 0.13 * way) / who.speed
        now += max(3, round(min(seconds, _TRANSITION) * fps))
        seconds = variant(gloss, language, signer).duration / who.speed * max(quick, 0.5)
        spans.append((now, now + max(4, round(seconds * fps))))
        now = spans[-1][1]
    down = now + max(3, round((0.15 + 0.13 * ways[-1]) / who.speed * fps))
    total = down + round(0.2 * fps)
    tracks = _Tracks.empty(total)
    _rest(tracks, slice(0, round(0.2 * fps) + 1))
    _rest(tracks, slice(down, total))
    for gloss, (start, end) in zip(glosses, spans, strict=True):
        _sign(tracks, slice(start, end), gloss, language, who, rng, variation)
    _fill(tracks)
    time = np.arange(total) / fps
    busy = np.interp(np.arange(total), [0, spans[0][0], spans[-1][1], total - 1], [0, 1, 1, 0]) if spans else 0 * time
    brows = busy * {"yes-no": 0.045, "wh": -0.02}.get(question, 0.0) + 0.006 * np.sin(1.7 * time + rng.uniform(0, 6))
    tracks.head[:, 0] += busy * (0.05 if question == "yes-no" else 0.0) + 0.015 * np.sin(2.1 * time + rng.uniform(0, 6))
    tracks.head[:, 2] += 0.02 * np.sin(1.3 * time + rng.uniform(0, 6))
    face, features = k.head(tracks.head, brows, tracks.mouth, who.body.head)
    right = _arm(tracks, 0, who)
    elbow, wrist, fingers = _arm(tracks, 1, who)
    joints, seen = k.assemble((right, (k.mirror(elbow), k.mirror(wrist), k.mirror(fingers))), face, features, who.body)
    if jitter > 0:
        # A number an axis, though they are the same: numpy is slow over three numbers that one is held against.
        spread = (jitter * _NOISE)[:, None].repeat(3, axis=1)
        joints = joints + np.random.default_rng([seed, 2]).standard_normal(joints.shape) * spread
        for side in ("right", "left"):  # one point of the body under two names stays one point
            joints[:, INDEX[f"{side}_hand_wrist_root"]] = joints[:, INDEX[f"{side}_wrist"]]
    joints = joints * (seen > 0)[:, None].repeat(3, axis=1)
    confidence = np.broadcast_to(seen.astype(np.float32), joints.shape[:2]).copy()
    return Pose(joints.astype(np.float32), confidence, float(fps)), np.array(spans, np.int32).reshape(-1, 2)


# Detection noise by joint: fingers move more than the face and the trunk.
_NOISE = np.array([1.4 if "hand" in name else 0.6 if name.startswith("face") else 1.0 for name in JOINTS])
