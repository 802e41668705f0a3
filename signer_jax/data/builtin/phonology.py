"""The phonology of a sign: handshape, location, movement, orientation, hands, repetition (Stokoe, HamNoSys).

All vectors are those of the signer's right hand in the project's axes (x to the viewer's right, so ipsi = -x and contra
= +x; y down; z away from the viewer, so "out" = -z). The left hand is the mirror image in x.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

# Per finger (spread, first, second, third joint) in degrees; for the thumb (abduction in the palm's plane, opposition
# out of it, flexion of its two joints).
_THUMBS = {
    "o": (58, 15, 0, 0),  # out
    "a": (14, 25, 0, 0),  # along the palm
    "x": (42, 72, 48, 42),  # across the fingers
    "p": (42, 78, 18, 14),  # opposed to the finger tips
    "c": (52, 62, 8, 10),  # curved, opposed
    "t": (30, 62, 34, 30),  # tucked in
}
_FINGERS = {
    "e": (0, 0, 0),  # extended
    "c": (84, 98, 62),  # closed
    "b": (78, 6, 4),  # bent at the knuckle
    "h": (8, 92, 58),  # hooked
    "o": (42, 44, 28),  # curved
    "f": (66, 28, 14),  # flat, towards the thumb
    "w": (18, 54, 36),  # clawed
    "t": (54, 62, 34),  # its tip on the thumb's
}
# name: thumb, index, middle, ring and little finger, spread between the fingers in degrees
_SHAPES = {
    "A": ("acccc", 0), "S": ("xcccc", 0), "T": ("thccc", 0), "open_A": ("occcc", 0), "B": ("teeee", 0),
    "flat": ("aeeee", 2), "open_B": ("oeeee", 3), "5": ("oeeee", 14), "4": ("teeee", 13), "bent_B": ("abbbb", 0),
    "C": ("coooo", 2), "claw": ("owwww", 12), "O": ("ptttt", 0), "flat_O": ("pffff", 0), "E": ("thhhh", 0),
    "F": ("pteee", 11), "baby_O": ("ptccc", 0), "D": ("pettt", 0), "1": ("xeccc", 0), "L": ("oeccc", 0),
    "G": ("abccc", 0), "hook": ("xhccc", 0), "baby_C": ("coccc", 0), "U": ("xeecc", 0), "H": ("aeecc", 0),
    "V": ("xeecc", 13), "bent_V": ("xhhcc", 11), "R": ("xeecc", -9), "K": ("pebcc", 6), "3": ("oeecc", 13),
    "W": ("xeeec", 12), "6": ("peeet", 11), "8": ("petee", 10), "I": ("xccce", 0), "Y": ("occce", 0),
    "horns": ("xecce", 4), "ILY": ("oecce", 6), "M": ("tbbbc", 0), "N": ("tbbcc", 0), "X": ("ahccc", 0),
    "relaxed": ("aoooo", 2),
}  # fmt: skip
_SPREAD = np.array([1.0, 0.35, -0.35, -1.0])  # of index, middle, ring and little finger


def _angles(code: str, spread: float) -> Float[np.ndarray, "5 4"]:
    fingers = [(spread * s, *_FINGERS[c]) for s, c in zip(_SPREAD, code[1:], strict=True)]
    return np.radians(np.array([_THUMBS[code[0]], *fingers], float))


HANDSHAPES: dict[str, Float[np.ndarray, "5 4"]] = {name: _angles(*shape) for name, shape in _SHAPES.items()}

# Where the hand's reference point is, and how far along the hand it lies from the wrist (0.26 palm, 0.42 tips).
LOCATIONS: dict[str, tuple[tuple[float, float, float], float]] = {
    "forehead": ((-0.10, -0.76, -0.34), 0.40),
    "temple": ((-0.25, -0.68, -0.24), 0.40),
    "eye": ((-0.13, -0.60, -0.38), 0.40),
    "nose": ((-0.03, -0.50, -0.42), 0.42),
    "cheek": ((-0.24, -0.46, -0.28), 0.40),
    "ear": ((-0.33, -0.56, -0.12), 0.36),
    "mouth": ((-0.03, -0.38, -0.40), 0.42),
    "chin": ((-0.02, -0.28, -0.36), 0.40),
    "neck": ((-0.05, -0.12, -0.30), 0.40),
    "shoulder": ((-0.44, -0.02, -0.26), 0.34),
    "other_shoulder": ((0.34, 0.05, -0.30), 0.34),
    "chest": ((-0.06, 0.28, -0.36), 0.32),
    "side_chest": ((-0.34, 0.30, -0.34), 0.32),
    "belly": ((-0.08, 0.72, -0.36), 0.30),
    "upper_arm": ((0.46, 0.42, -0.34), 0.34),
    "high": ((-0.52, -0.34, -0.48), 0.28),
    "neutral": ((-0.26, 0.30, -0.60), 0.26),
    "side": ((-0.66, 0.22, -0.48), 0.26),
    "low": ((-0.36, 0.70, -0.52), 0.26),
    "spelling": ((-0.50, -0.02, -0.46), 0.26),
    "base_hand": ((-0.02, 0.36, -0.62), 0.30),
}
_DIRECTIONS = {
    "up": (0, -1, 0), "down": (0, 1, 0), "out": (0, -0.35, -0.94), "in": (0, 0, 1), "contra": (1, 0, 0),
    "ipsi": (-1, 0, 0), "upcontra": (0.6, -0.8, 0), "outcontra": (0.6, -0.35, -0.72),
}  # fmt: skip
# palm direction, finger direction: the pairs that a right wrist reaches
ORIENTATIONS = (
    ("out", "up"), ("in", "up"), ("contra", "up"), ("out", "upcontra"), ("in", "upcontra"), ("down", "outcontra"),
    ("up", "outcontra"), ("contra", "out"), ("in", "contra"), ("down", "contra"), ("up", "contra"), ("in", "down"),
    ("contra", "upcontra"),
)  # fmt: skip

STROKES: dict[str, tuple[float, float, float]] = {
    "up": (0, -1, 0), "down": (0, 1, 0), "out": (0, -0.25, -1), "in": (0, 0.25, 1), "ipsi": (-1, 0, 0),
    "contra": (1, 0, 0), "up_ipsi": (-0.7, -0.7, 0), "down_contra": (0.7, 0.7, 0),
}  # fmt: skip
MOVEMENTS = (
    *STROKES, "arc_up", "arc_down", "arc_out", "circle", "flat_circle", "zigzag", "tap", "shake", "twist", "nod",
    "wiggle", "open", "close", "hold",
)  # fmt: skip
HANDS = ("one", "symmetric", "alternating", "base")
CHANGES = {"open": ("flat_O", "5"), "close": ("5", "flat_O")}


@dataclass(frozen=True)
class Phonology:
    """One way to sign one gloss. `end_handshape` differs from `handshape` where the hand opens or closes.

    `duration` is in seconds; `mouth` is how far it opens (0…1).
    """

    handshape: str
    end_handshape: str
    location: str
    movement: str
    palm: str
    fingers: str
    hands: str
    repetition: int
    duration: float
    mouth: float


@dataclass(frozen=True)
class Stroke:
    """What a movement does over a sign: displacement of the hand, its turns, finger play and handshape change."""

    displacement: Float[np.ndarray, "t 3"]
    twist: Float[np.ndarray, "t"]  # about the fingers' direction, radians
    nod: Float[np.ndarray, "t"]  # about the hand's thumb side, radians
    wiggle: Float[np.ndarray, "t 4"]  # extra flexion of the four fingers, radians
    change: Float[np.ndarray, "t"]  # 0 first handshape … 1 second


def frame_of(palm: str, fingers: str) -> Float[np.ndarray, "3 3"]:
    """The right hand's rotation matrix; its columns are thumb side, finger direction, palm normal."""
    u = np.array(_DIRECTIONS[fingers], float)
    u /= np.linalg.norm(u)
    n = np.array(_DIRECTIONS[palm], float)
    n -= (n @ u) * u
    n /= np.linalg.norm(n)
    return np.stack([np.cross(u, n), u, n], axis=1)


def stroke(movement: str, repetition: int, frames: int, amplitude: float, shifted: bool = False) -> Stroke:
    """The movement as `frames` steps. `shifted` runs it in the opposite phase (the other hand of an alternating sign).

    Straight movements go there, and between repetitions back, along half cosines, which start and end at rest as
    minimum-jerk strokes do.
    """
    tau = np.linspace(0.0, 1.0, frames)
    move, zero = np.zeros((frames, 3)), np.zeros(frames)
    twist, nod, wiggle, change = zero, zero, np.zeros((frames, 4)), zero
    sign = -1.0 if shifted else 1.0
    there = -0.5 * np.cos(np.pi * (2 * repetition - 1) * tau) * sign
    turn = 2 * np.pi * repetition * tau + (np.pi if shifted else 0.0)
    rest = np.sin(np.pi * tau) ** 0.5  # oscillations start and end at rest
    if movement in STROKES:
        move = there[:, None] * np.array(STROKES[movement]) * 2 * amplitude
    elif movement.startswith("arc"):
        bow = 1 - 4 * there**2
        height = {"arc_up": (0, -0.9, 0), "arc_down": (0, 0.9, 0), "arc_out": (0, -0.3, -0.9)}[movement]
        move = amplitude * (there[:, None] * np.array((-2.0, 0, 0)) + bow[:, None] * np.array(height))
    elif movement == "circle":
        move = 0.75 * amplitude * np.stack([-np.sin(turn), -np.cos(turn), zero], -1)
    elif movement == "flat_circle":
        move = 0.75 * amplitude * np.stack([np.cos(turn), 0.35 * np.sin(turn), np.sin(turn)], -1)
    elif movement == "zigzag":
        swing = np.sin(2 * turn) * rest
        move = amplitude * np.stack([0.55 * swing, -2 * there * -0.8, zero], -1)
    elif movement == "tap":
        depth = np.sin(np.pi * (repetition + 1) * tau) ** 2 * sign
        move = amplitude * depth[:, None] * np.array((-0.35, -0.25, -0.6))
    elif movement == "shake":
        move = 0.5 * amplitude * (np.sin(2 * turn) * rest)[:, None] * np.array((1.0, 0, 0))
    elif movement == "twist":
        twist = 0.9 * np.sin(turn) * rest if repetition > 1 else 1.9 * there
    elif movement == "nod":
        nod = 0.7 * np.sin(turn) * rest if repetition > 1 else 1.4 * there
    elif movement == "wiggle":
        phases = np.arange(4) * 1.3
        wiggle = 0.5 * (1 - np.cos(2 * turn[:, None] + phases)) * rest[:, None]
        move = 0.5 * amplitude * there[:, None] * np.array((-1.0, 0.2, 0))
    elif movement in CHANGES:
        change = 0.5 - 0.5 * np.cos(np.pi * (2 * repetition - 1) * tau)
        move = 0.5 * amplitude * there[:, None] * np.array((-0.2, -0.5, -0.5))
    return Stroke(move, twist, nod, wiggle, change)
