"""Reference frames: for each latent frame, the signer's training frames whose poses are nearest, part by part.

The style comes from frames of the signer, as in every animation model; a bank of them instead of one lets the renderer
compose a frame from pieces that nearly fit, and leaves it the difference to make (retrieval, as SLP-MoE does for
poses). One reference is the nearest in both arms, others are the nearest in one arm alone. The references' own pose is
drawn beside the wanted one, so that the difference can be seen.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from signer_jax.errors import SignerError, closest
from signer_jax.pose import skeleton
from signer_jax.pose.nearest import nearest_frames


@dataclass(frozen=True)
class References:
    """A signer's bank of `m` latent frames with the poses that they show (the joints that the models see)."""

    latents: np.ndarray  # [m, h, w, z], normalised
    pose: np.ndarray  # [m, j, c]
    confidence: np.ndarray  # [m, j]
    motion: np.ndarray  # [m] the clip that each comes from
    parts: tuple[np.ndarray, ...]  # for each of `r` references the positions of the joints that it is chosen by

    def __len__(self) -> int:
        return len(self.latents)

    def nearest(
        self, pose: Float[np.ndarray, "t j c"], confidence: Float[np.ndarray, "t j"], *, exclude: int = -1
    ) -> Int[np.ndarray, "t r"]:
        """The nearest frames for each of `t`, one a part; none from clip `exclude`, unless there is nothing else."""
        allowed = np.flatnonzero(self.motion != exclude)
        if len(allowed) == 0:
            allowed = np.arange(len(self))
        theirs, seen = self.pose[allowed], self.confidence[allowed]
        found = [nearest_frames(pose[:, at], confidence[:, at], theirs[:, at], seen[:, at]) for at in self.parts]
        return allowed[np.stack(found, axis=1)]

    def take(self, index: Int[np.ndarray, "t r"]) -> dict[str, np.ndarray]:
        """`reference [t, h, w, r, z]`, and the pose put together: `reference_pose [t, j, c]`, `…_confidence [t, j]`."""
        pose, confidence = self.pose[index[:, 0]], self.confidence[index[:, 0]]
        for k, at in enumerate(self.parts):
            pose[:, at], confidence[:, at] = self.pose[index[:, k]][:, at], self.confidence[index[:, k]][:, at]
        latents = np.moveaxis(np.asarray(self.latents[index], np.float32), 1, 3)
        return {"reference": latents, "reference_pose": pose, "reference_confidence": confidence}

    def of_picture(self, latents: Float[np.ndarray, "h w z"]) -> "References":
        """A bank of the same make that holds one picture, whose pose is not known."""
        pose, confidence = np.zeros_like(self.pose[:1]), np.zeros_like(self.confidence[:1])
        return References(latents[None], pose, confidence, np.full(1, -1), self.parts)


def part_positions(parts: tuple[str, ...], joints: np.ndarray) -> tuple[np.ndarray, ...]:
    """Where each part's joints stand among `joints` (canonical indices). Raises `SignerError` for unknown parts."""
    names = [skeleton.JOINTS[i] for i in joints]
    for part in parts:
        if part not in skeleton.PARTS:
            raise SignerError(
                f"renderer.reference_parts: unknown part {part!r}{closest(part, skeleton.PARTS)}; "
                f"known: {', '.join(skeleton.PARTS)}"
            )
    return tuple(skeleton.positions(skeleton.PARTS[part], names) for part in parts)


def latent_frame_times(frames: int, ratio: int) -> Int[np.ndarray, " k"]:
    """The video frame in the middle of what each latent frame covers: 0 alone, then `ratio` frames each."""
    return np.concatenate([[0], np.arange(1, frames, ratio) + (ratio - 1) // 2])
