"""The axis legend and the structs that travel between the stations.

Axes, everywhere in this project (einsums and shape comments use these letters):

    b batch · s source tokens · g gloss tokens · n glosses of a sentence · d model · h heads (or height) · e experts
    t frames · j joints · c coordinates or channels · y height · x width · l latent tokens

Pose: `[t, j, c]` float32, origin between the shoulders, shoulder width 1, x to the viewer's right, y down, z away from
the viewer; confidence `[t, j]` in 0…1 (0 = the joint is missing and its coordinates mean nothing); fps beside it.
Video: `[t, h, w, c]`, uint8 at rest, [-1, 1] in models. Latents: `[t, h, w, c]`, channels last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import jax
import numpy as np
from jaxtyping import Float, UInt8

Array: TypeAlias = jax.Array | np.ndarray


@dataclass(frozen=True)
class Pose:
    """A pose sequence on the canonical skeleton (`signer_jax.pose.skeleton.JOINTS`)."""

    coordinates: Float[np.ndarray, "t j c"]
    confidence: Float[np.ndarray, "t j"]
    fps: float

    def __post_init__(self) -> None:
        if self.coordinates.ndim != 3 or self.confidence.shape != self.coordinates.shape[:2]:
            raise ValueError(
                f"Pose: coordinates {self.coordinates.shape} do not fit confidence {self.confidence.shape}"
            )

    def __len__(self) -> int:
        return len(self.coordinates)

    @classmethod
    def joined(cls, poses: "Sequence[Pose]") -> "Pose":
        """One after the other, at the first one's frame rate."""
        return cls(
            np.concatenate([pose.coordinates for pose in poses]),
            np.concatenate([pose.confidence for pose in poses]),
            poses[0].fps,
        )

    def slice(self, start: int, end: int) -> "Pose":
        """Frames `start` (included) to `end` (excluded)."""
        return Pose(self.coordinates[start:end], self.confidence[start:end], self.fps)


@dataclass(frozen=True)
class Sample:
    """One sentence of a corpus: its text, its glosses, and, where the corpus has them, its pose and its video.

    `spans` are the first (included) and last (excluded) frame of each gloss; frames between two spans are transitions.
    `signer` names who signs (and so the appearance in the video). `language` is the IANA code of the sign language.
    """

    name: str
    text: str
    language: str
    glosses: tuple[str, ...] = ()
    signer: str = ""
    pose: Pose | None = None
    spans: np.ndarray | None = None  # [n, 2] int32
    video: UInt8[np.ndarray, "t h w 3"] | None = None
    references: tuple[tuple[Pose, np.ndarray], ...] = field(default=())  # other valid (pose, spans), for evaluation
    glosses_by: str = ""  # human, rules, slul or unknown, of a prepared set


@dataclass(frozen=True)
class Signed:
    """What became of a text: its glosses, who performs them and how, and what could not be done of it."""

    glosses: tuple[str, ...]
    pose: Pose
    video: UInt8[np.ndarray, "t h w 3"] | None  # None where there is no renderer
    fingerspelled: Sequence[str]  # glosses
    skipped: Sequence[str]
    language: str
    signer: str = ""  # who performs: the signer of most of the signs
    look: str = ""  # the training signer whose look the video has
    unknown: Sequence[str] = ()  # words that no training text of the language has, left out
    remarks: Sequence[str] = ()  # what else became of the text, a line each
    found: Sequence[tuple[str, str]] = ()  # of each word looked up without a model: how it was found (`pose/lookup.py`)
