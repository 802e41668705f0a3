"""The canonical skeleton: 128 named joints in DWPose order (body 18, face 68, left hand 21, right hand 21).

Order: DWPose (OpenPose COCO-18 body, iBUG-68 face, OpenPose hands). "left" and "right" are the signer's.
A config selects a subset by name (`SUBSETS`); limbs and drawing groups are given in joint names and resolved for it.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from signer_jax.errors import SignerError, closest
from signer_jax.types import Pose

BODY = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
FACE = tuple(f"face_{i}" for i in range(68))
FINGERS = ("thumb", "index", "middle", "ring", "pinky")
HAND = ("wrist_root", *(f"{finger}_{i}" for finger in FINGERS for i in range(1, 5)))
LEFT_HAND = tuple(f"left_hand_{name}" for name in HAND)
RIGHT_HAND = tuple(f"right_hand_{name}" for name in HAND)
JOINTS: tuple[str, ...] = (*BODY, *FACE, *LEFT_HAND, *RIGHT_HAND)
INDEX = {name: i for i, name in enumerate(JOINTS)}
# What poses of a signer are compared by.
PARTS: dict[str, tuple[str, ...]] = {
    "arms": (*BODY[2:8], *LEFT_HAND, *RIGHT_HAND),
    "right_arm": ("right_elbow", "right_wrist", *RIGHT_HAND),
    "left_arm": ("left_elbow", "left_wrist", *LEFT_HAND),
}

# iBUG-68 points kept in the "signing_74" subset: jaw (seven), right and left brow (three each), outer lips (four),
# nose tip, one upper lid of each eye.
_FACE_20 = tuple(f"face_{i}" for i in (0, 3, 6, 8, 10, 13, 16, 17, 19, 21, 22, 24, 26, 48, 51, 54, 57, 30, 37, 44))
_JAW, _RIGHT_BROW, _LEFT_BROW, _LIPS = _FACE_20[:7], _FACE_20[7:10], _FACE_20[10:13], _FACE_20[13:17]

SUBSETS: dict[str, tuple[str, ...]] = {
    "full_128": JOINTS,
    "upper_50": (*BODY[:8], *LEFT_HAND, *RIGHT_HAND),  # nose, neck, arms, hands
    "signing_74": (*BODY[:8], *BODY[14:], *_FACE_20, *LEFT_HAND, *RIGHT_HAND),
}


def subset(name: str) -> np.ndarray:
    """Indices into `JOINTS` of the named subset, `[j]` int32. Raises `SignerError` for an unknown name."""
    if name not in SUBSETS:
        raise SignerError(f"pose.joints: unknown subset {name!r}{closest(name, SUBSETS)}; known: {', '.join(SUBSETS)}")
    return np.array([INDEX[joint] for joint in SUBSETS[name]], np.int32)


def positions(joints: Sequence[str], among: Sequence[str]) -> np.ndarray:
    """Where each of `joints` stands in `among`, `[len(joints)]` int32; joints that `among` lacks are left out."""
    where = {name: i for i, name in enumerate(among)}
    return np.array([where[name] for name in joints if name in where], np.int32)


def on_joints(pose: Pose, joints: np.ndarray, dims: int) -> Pose:
    """The pose on some joints (indices into `JOINTS`) and its first `dims` coordinates: a copy."""
    frames, count, axes = pose.coordinates.shape
    kept = min(dims, axes)
    # Column by column: numpy takes ten times as long for joints and a slice of the axes behind them.
    columns = (joints[:, None] * axes + np.arange(kept)).reshape(-1)
    coordinates = pose.coordinates.reshape(frames, count * axes).take(columns, axis=1)
    return Pose(coordinates.reshape(frames, len(joints), kept), pose.confidence.take(joints, axis=1), pose.fps)


def fault(pose: Pose) -> str:
    """What no normalised pose that was read from a file can be, in words; empty where nothing is wrong."""
    values, seen = pose.coordinates, pose.confidence
    if values.dtype != np.float32 or seen.dtype != np.float32 or values.shape[1] != len(JOINTS) or not len(pose):
        return f"{values.dtype} {list(values.shape)} is no pose on {len(JOINTS)} joints"
    if values.shape[2] not in (2, 3) or not 1 <= pose.fps <= 1000:
        return f"{values.shape[2]} axes at {pose.fps:g} frames a second"
    # Comparisons with a NaN are false.
    if not -_OUTLYING < float(values.min()) <= float(values.max()) < _OUTLYING:
        return f"a coordinate lies beyond {_OUTLYING} shoulder widths, or is no number"
    if not 0 <= float(seen.min()) <= float(seen.max()) <= 1:
        return "a confidence is not within 0 to 1"
    return ""


def _hand_limbs(side: str, fingers: Sequence[str]) -> list[tuple[str, str]]:
    limbs = []
    for finger in fingers:
        chain = [f"{side}_hand_wrist_root", *(f"{side}_hand_{finger}_{i}" for i in range(1, 5))]
        limbs += list(pairwise(chain))
    return limbs


def _ring(names: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(names, [*names[1:], names[0]], strict=True))


def _palm(side: str) -> list[tuple[str, str]]:
    return _ring([f"{side}_hand_wrist_root", *(f"{side}_hand_{finger}_1" for finger in FINGERS)])


def _arm(side: str) -> list[tuple[str, str]]:
    return [(f"{side}_shoulder", f"{side}_elbow"), (f"{side}_elbow", f"{side}_wrist")]


# What the control picture shows, one channel a group: (name, limbs, half width in shoulder widths). The groups
# follow the measurement in the design notes: arms, finger groups, palms and face each in a channel of their own.
LIMB_GROUPS: tuple[tuple[str, list[tuple[str, str]], float], ...] = (
    ("torso", [("left_shoulder", "right_shoulder"), ("neck", "nose")], 0.06),
    ("right_arm", _arm("right"), 0.06),
    ("left_arm", _arm("left"), 0.06),
    ("head", [("nose", "right_eye"), ("nose", "left_eye"), ("right_eye", "right_ear"), ("left_eye", "left_ear")], 0.04),
    ("jaw", list(pairwise(_JAW)), 0.03),
    ("face", [*pairwise(_RIGHT_BROW), *pairwise(_LEFT_BROW), *_ring(_LIPS)], 0.02),
    ("right_palm", _palm("right"), 0.05),
    ("right_thumb_index", _hand_limbs("right", FINGERS[:2]), 0.025),
    ("right_fingers", _hand_limbs("right", FINGERS[2:]), 0.025),
    ("left_palm", _palm("left"), 0.05),
    ("left_thumb_index", _hand_limbs("left", FINGERS[:2]), 0.025),
    ("left_fingers", _hand_limbs("left", FINGERS[2:]), 0.025),
)  # fmt: skip


def limb_groups(joints: Sequence[str]) -> list[tuple[str, np.ndarray, float]]:
    """`LIMB_GROUPS` resolved for a subset: (name, `[limbs, 2]` positions in `joints`, half width)."""
    where = {name: i for i, name in enumerate(joints)}
    groups = []
    for name, limbs, width in LIMB_GROUPS:
        pairs = [(where[a], where[b]) for a, b in limbs if a in where and b in where]
        groups.append((name, np.array(pairs, np.int32).reshape(-1, 2), width))
    return groups


_FACE_AREA = tuple(("face_30", name) for name in (*FACE[:27], "nose", "right_eye", "left_eye"))  # jaw and brows
_FACE_WIDTH = 0.06  # half width in shoulder widths: neighbouring limbs of the fan meet at the jaw


def face_area(joints: Sequence[str]) -> tuple[np.ndarray, float]:
    """Limbs that together cover the face, a fan from the tip of the nose: `[limbs, 2]` positions in `joints`, and their
    half width in shoulder widths; none of joints without a face.
    """
    where = {name: i for i, name in enumerate(joints)}
    pairs = [(where[a], where[b]) for a, b in _FACE_AREA if a in where and b in where]
    return np.array(pairs, np.int32).reshape(-1, 2), _FACE_WIDTH


_FARTHEST = 1000  # shoulder widths: the 75 real files at hand stay below 4
_ROUNDING = 1e-5  # shoulder widths
_OUTLYING = 10 * _FARTHEST  # what cleaning may make of it
# The view: a square of VIEW_SIDE shoulder widths around the signer whose top lies VIEW_TOP above the origin. A
# rectangle shows more: the square is as large as its shorter side, and stands in the middle of the longer.
VIEW_SIDE = 2.6
VIEW_TOP = 1.1


def view(height: int, width: int) -> tuple[float, float, float]:
    """Pixels a shoulder width, and x and y of the origin, in a picture of this size: one scale for both axes."""
    side = min(height, width)
    scale = side / VIEW_SIDE
    return scale, width / 2, VIEW_TOP * scale + (height - side) / 2


def to_pixels(coordinates, height: int, width: int = 0):
    """Normalised x, y (`[..., 2]`, numpy or jax) to pixels of the view; pixel centres at +0.5.

    The width is the height where it is 0.
    """
    scale, x, y = view(height, width or height)
    return coordinates * scale + np.array([x, y], np.float32)


def normalise(pose: Pose) -> tuple[Pose, np.ndarray, float]:
    """Moves a pose in any units to the origin between its shoulders and shoulder width 1.

    One centre and one scale for the whole clip (medians over the frames where both shoulders are seen), so that the
    pixels of the clip and its pose stay aligned. A pose that is normalised, but for rounding, stays as it is. Returns
    the pose, the centre `[c]` and the scale, in the input's units. Raises `SignerError` where no frame has both
    shoulders, or they are so near that the rest is beyond reason.
    """
    right, left = INDEX["right_shoulder"], INDEX["left_shoulder"]
    seen = (pose.confidence[:, right] > 0) & (pose.confidence[:, left] > 0)
    if not seen.any():
        raise SignerError("pose: no frame shows both shoulders, so it cannot be normalised; check the detector")
    a, b = pose.coordinates[seen, right], pose.coordinates[seen, left]
    centre = np.median((a + b) / 2, axis=0)
    scale = float(np.median(np.linalg.norm((a - b)[:, :2], axis=-1)))
    reach = float(np.abs((pose.coordinates - centre) * (pose.confidence[..., None] > 0)).max(initial=0))
    if not scale > 0 or not reach < _FARTHEST * scale:
        raise SignerError("pose: both shoulders lie on one point, so it cannot be normalised; check the detector")
    if np.abs(centre).max() < _ROUNDING and abs(scale - 1) < _ROUNDING:
        centre, scale = np.zeros_like(centre), 1.0
    moved: Float[np.ndarray, "t j c"] = (pose.coordinates - centre) / scale * (pose.confidence[..., None] > 0)
    return Pose(moved.astype(np.float32), pose.confidence, pose.fps), centre, scale
