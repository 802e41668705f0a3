"""The 3D upper body: two-bone inverse kinematics of the arms, forward kinematics of the hands, head and face.

Everything is an array over frames. Right-hand side only: the left side is the mirror image in x (`mirror`).
Units: shoulder widths, axes as in `signer_jax.types`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from signer_jax.pose.skeleton import INDEX, JOINTS

# Per finger: where its first joint lies in the hand (along, towards the thumb) and the lengths of its three bones.
_KNUCKLES = np.array([(0.065, 0.075), (0.235, 0.082), (0.245, 0.028), (0.232, -0.026), (0.208, -0.078)])
_BONES = np.array([
    (0.105, 0.085, 0.068), (0.112, 0.072, 0.056), (0.122, 0.078, 0.058), (0.112, 0.073, 0.056), (0.088, 0.056, 0.048),
])  # fmt: skip


_CLEARANCE = 0.16  # of the wrist from the plane of the shoulders


@dataclass(frozen=True)
class Body:
    """The proportions of one signer, in shoulder widths."""

    upper_arm: float = 0.70
    forearm: float = 0.62
    hand: float = 1.0  # scale of the hand
    head: float = 1.0  # scale of the head
    hips: float = 0.30  # half their width


def unit(vector: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)


def mirror(points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """The mirror image in the signer's plane of symmetry."""
    return points * np.array((-1.0, 1.0, 1.0))


def quaternion(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "4"]:
    """The unit quaternion (w, x, y, z) of a rotation matrix: the eigenvector of Bar-Itzhack's symmetric matrix."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    k = np.array([
        (a + e + i, h - f, c - g, d - b), (h - f, a - e - i, b + d, c + g),
        (c - g, b + d, e - a - i, f + h), (d - b, c + g, f + h, i - a - e),
    ])  # fmt: skip
    return np.linalg.eigh(k)[1][:, -1]


def rotations(q: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 3 3"]:
    """Rotation matrices of unit quaternions."""
    w, x, y, z = (q[..., i] for i in range(4))
    matrix = np.empty((*q.shape[:-1], 3, 3))
    matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2] = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    )  # fmt: skip
    matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 1, 2] = (
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    )  # fmt: skip
    matrix[..., 2, 0], matrix[..., 2, 1], matrix[..., 2, 2] = (
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    )  # fmt: skip
    return matrix


def multiply(p: Float[np.ndarray, "*n 4"], q: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """The product of quaternions: first `q`, then `p`."""
    (a, b, c, d), (e, f, g, h) = ([one[..., i] for i in range(4)] for one in (p, q))
    return np.stack([
        a * e - b * f - c * g - d * h, a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f, a * h + b * g - c * f + d * e,
    ], -1)  # fmt: skip


def slerp(
    a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"], share: Float[np.ndarray, "t"]
) -> Float[np.ndarray, "t 4"]:
    """From `a` to `b` along the shorter great circle."""
    dot = float(a @ b)
    a, dot = (-a, -dot) if dot < 0 else (a, dot)
    angle = np.arccos(min(dot, 1.0))
    if angle < 1e-4:
        return np.repeat(b[None], len(share), 0)
    weights = np.stack([np.sin((1 - share) * angle), np.sin(share * angle)], -1) / np.sin(angle)
    return weights @ np.stack([a, b])


def minimum_jerk(frames: int) -> Float[np.ndarray, "t"]:
    """The share of the way at `frames` inner steps between two points (Flash & Hogan 1985): 10s³ - 15s⁴ + 6s⁵."""
    s = np.arange(1, frames + 1) / (frames + 1)
    return s**3 * (10 - 15 * s + 6 * s**2)


def reach(
    wrist: Float[np.ndarray, "t 3"], shoulder: Float[np.ndarray, "3"], body: Body
) -> tuple[Float[np.ndarray, "t 3"], Float[np.ndarray, "t 3"]]:
    """Two-bone inverse kinematics: the elbow, and the wrist moved to where the arm reaches. Bones keep their length.

    The elbow hangs down, outwards and a little back (the swivel a person's arm takes while signing).
    """
    upper, fore = body.upper_arm, body.forearm
    away = wrist - shoulder
    nearest = abs(upper - fore) + 0.3
    # A wrist stays in front of the body, and one too close to the shoulder moves straight forward: pushed away from the
    # shoulder instead, it would jump from one side of it to the other as it passes.
    across = (away[:, :2] ** 2).sum(-1)
    front = np.maximum(np.sqrt(np.maximum(nearest**2 - across, 0.0)), _CLEARANCE)
    away = np.concatenate([away[:, :2], np.minimum(away[:, 2], -front)[:, None]], 1)
    wanted = np.linalg.norm(away, axis=-1, keepdims=True)
    distance = np.minimum(wanted, 0.985 * (upper + fore))
    axis = away / np.maximum(wanted, 1e-6)
    along = (distance**2 + upper**2 - fore**2) / (2 * distance)
    height = np.sqrt(np.maximum(upper**2 - along**2, 0.0))
    pole = np.array((-0.75, 1.0, 0.35))
    side = unit(pole - (axis @ pole)[:, None] * axis)
    return shoulder + axis * along + side * height, shoulder + axis * distance


def hand(
    wrist: Float[np.ndarray, "t 3"], frame: Float[np.ndarray, "t 3 3"], angles: Float[np.ndarray, "t 5 4"], scale: float
) -> Float[np.ndarray, "t 21 3"]:
    """The 21 joints of a right hand. `frame`: columns thumb side, finger direction, palm normal; angles in radians."""
    r, u, n = (frame[:, None, :, i] for i in range(3))  # [t, 1, 3]
    knuckles = wrist[:, None] + scale * (_KNUCKLES[:, :1] * u + _KNUCKLES[:, 1:] * r)
    spread, flexion = angles[:, 1:, :1], np.cumsum(angles[:, 1:, 1:], -1)
    straight = np.cos(spread) * u + np.sin(spread) * r  # [t, 4, 3]
    bent = np.cos(flexion)[..., None] * straight[:, :, None] + np.sin(flexion)[..., None] * n[:, :, None]
    abduction, opposition = angles[:, :1, :1], angles[:, :1, 1:2]
    outward = np.cos(opposition) * r + np.sin(opposition) * n
    base = np.cos(abduction) * u + np.sin(abduction) * outward  # [t, 1, 3]
    across = 0.35 * n - r
    across = unit(across - (across * base).sum(-1, keepdims=True) * base)
    curl = np.cumsum(np.concatenate([np.zeros_like(abduction), angles[:, :1, 2:]], -1), -1)  # [t, 1, 3]
    thumb = np.cos(curl)[..., None] * base[:, :, None] + np.sin(curl)[..., None] * across[:, :, None]
    directions = np.concatenate([thumb, bent], 1)  # [t, 5, 3 bones, 3]
    chain = knuckles[:, :, None] + np.cumsum(scale * _BONES[:, :, None] * directions, 2)
    joints = np.concatenate([knuckles[:, :, None], chain], 2).reshape(len(wrist), 20, 3)
    return np.concatenate([wrist[:, None], joints], 1)


def _face_points() -> Float[np.ndarray, "68 2"]:
    """iBUG-68 on a head of half width 0.22 around its centre (0, 0): x to the viewer's right, y down."""
    a = np.linspace(-1, 1, 17)
    jaw = np.stack([0.215 * np.sin(a * np.pi / 2), -0.03 + 0.325 * np.cos(a * np.pi / 2) ** 0.8], -1)
    b = np.linspace(0, 1, 5)
    brow = np.stack([-0.165 + 0.115 * b, -0.115 - 0.028 * np.sin(np.pi * (0.15 + 0.7 * b))], -1)
    bridge = np.stack([np.zeros(4), np.linspace(-0.05, 0.065, 4)], -1)
    nostrils = np.stack([np.linspace(-0.045, 0.045, 5), 0.088 + 0.012 * np.cos(np.linspace(-1.5, 1.5, 5))], -1)
    eye = np.array(
        [(-0.135, -0.05), (-0.11, -0.066), (-0.08, -0.066), (-0.055, -0.046), (-0.08, -0.036), (-0.11, -0.036)]
    )
    turn = np.linspace(np.pi, 3 * np.pi, 13)[:-1]
    lips = np.stack([0.078 * np.cos(turn), 0.165 + 0.026 * np.sin(turn)], -1)
    turn = np.linspace(np.pi, 3 * np.pi, 9)[:-1]
    inner = np.stack([0.058 * np.cos(turn), 0.165 + 0.006 * np.sin(turn)], -1)
    flip = np.array((-1, 1))
    other_eye = (eye * flip)[[3, 2, 1, 0, 5, 4]]
    return np.concatenate([jaw, brow, (brow * flip)[::-1], bridge, nostrils, eye, other_eye, lips, inner])


FACE = _face_points()
HEAD_CENTRE = np.array((0.0, -0.55, -0.03))
_PIVOT = np.array((0.0, -0.2, 0.05))  # where the head turns
_DEPTH = -0.24 * np.sqrt(np.clip(1 - (FACE[:, 0] / 0.235) ** 2 - (FACE[:, 1] / 0.36) ** 2, 0.03, 1))
_DEPTH[27:31] -= np.linspace(0.01, 0.07, 4)
_DEPTH[31:36] -= 0.03
# nose, right eye, left eye, right ear, left ear in the body's part of the skeleton
_BODY_FACE = ("nose", "right_eye", "left_eye", "right_ear", "left_ear")


def head(
    turns: Float[np.ndarray, "t 3"], brows: Float[np.ndarray, "t"], mouth: Float[np.ndarray, "t"], scale: float
) -> tuple[Float[np.ndarray, "t 68 3"], Float[np.ndarray, "t 5 3"]]:
    """The 68 points of the face, and nose, eyes and ears. `turns`: nod, shake, tilt in radians; mouth open 0…1."""
    t = len(turns)
    points = np.concatenate([FACE, _DEPTH[:, None]], -1)[None].repeat(t, 0)
    points[:, 17:27, 1] -= brows[:, None]
    lower = np.maximum(np.sin(np.linspace(np.pi, 3 * np.pi, 13)[:-1]), 0)
    inner = np.sin(np.linspace(np.pi, 3 * np.pi, 9)[:-1])
    points[:, 48:60, 1] += mouth[:, None] * 0.06 * lower
    points[:, 60:68, 1] += mouth[:, None] * np.where(inner > 0, 0.06, 0.012) * inner
    points[:, 4:13, 1] += 0.03 * mouth[:, None]
    ears = np.array([(-0.232, -0.03, 0.03), (0.232, -0.03, 0.03)])[None].repeat(t, 0)
    eyes = np.stack([points[:, 36:42].mean(1), points[:, 42:48].mean(1)], 1)
    points = np.concatenate([points, points[:, 30:31], eyes, ears], 1) * scale + HEAD_CENTRE
    (ca, sa), (cb, sb), (cc, sc) = ((np.cos(turns[:, i]), np.sin(turns[:, i])) for i in range(3))
    zero, one = np.zeros(t), np.ones(t)
    nod = np.stack([one, zero, zero, zero, ca, -sa, zero, sa, ca], -1).reshape(t, 3, 3)
    shake = np.stack([cb, zero, sb, zero, one, zero, -sb, zero, cb], -1).reshape(t, 3, 3)
    tilt = np.stack([cc, -sc, zero, sc, cc, zero, zero, zero, one], -1).reshape(t, 3, 3)
    turned = np.einsum("tab,tjb->tja", tilt @ shake @ nod, points - _PIVOT) + _PIVOT
    return turned[:, :68], turned[:, 68:]


def assemble(
    arms: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]],
    face: Float[np.ndarray, "t 68 3"], features: Float[np.ndarray, "t 5 3"], body: Body,
) -> tuple[Float[np.ndarray, "t 128 3"], Float[np.ndarray, "128"]]:  # fmt: skip
    """All joints and their confidence. `arms`: elbow, wrist and hand of the right and the (already mirrored) left."""
    t = len(face)
    joints, seen = np.zeros((t, len(JOINTS), 3)), np.ones(len(JOINTS))
    for side, sign, (elbow, wrist, fingers) in (("right", -1, arms[0]), ("left", 1, arms[1])):
        joints[:, INDEX[f"{side}_shoulder"]] = (0.5 * sign, 0, 0)
        joints[:, INDEX[f"{side}_elbow"]], joints[:, INDEX[f"{side}_wrist"]] = elbow, wrist
        joints[:, INDEX[f"{side}_hip"]] = (body.hips * sign, 1.3, 0.05)
        start = INDEX[f"{side}_hand_wrist_root"]
        joints[:, start : start + 21] = fingers
        seen[[INDEX[f"{side}_knee"], INDEX[f"{side}_ankle"]]] = 0
    for i, name in enumerate(_BODY_FACE):
        joints[:, INDEX[name]] = features[:, i]
    joints[:, INDEX["face_0"] : INDEX["face_0"] + 68] = face
    return joints, seen
