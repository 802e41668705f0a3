"""Reference pictures: one frame of the signer, which gives a video its style, as in every animation model.

In training it is any frame of the signer's other clips, so that the renderer learns to read the style off whatever
picture it is given; never one of what it is to show, which would give the answer away. A small share of the
examples has no picture, for the signers of whom there is no other clip, and has them in training as in signing.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from signer_jax.pose.nearest import nearest_frames


@dataclass(frozen=True)
class ReferenceBank:
    """A signer's bank of `m` latent frames with the poses that they show (the joints that the models see)."""

    latents: np.ndarray  # [m, h, w, z], normalised
    pose: np.ndarray  # [m, j, c]
    confidence: np.ndarray  # [m, j]
    motion: np.ndarray  # [m] the clip that each comes from
    pictures: np.ndarray | None = None  # [m, y, x, 3] uint8, of published models: each frame's latents are its own
    clip: np.ndarray | None = None  # [m, i, c] CLIP's tokens of them
    own: bool = False  # clips may be shown with a frame of their own in training
    frame: np.ndarray | None = None  # [m] which of the clip's each is, where they are pictures

    def __len__(self) -> int:
        return len(self.latents)

    def of(self, kept: np.ndarray | slice) -> "ReferenceBank":
        """Some of the frames, by a mask or by their places."""
        pictures, clip, frame = (None if one is None else one[kept] for one in (self.pictures, self.clip, self.frame))
        return ReferenceBank(
            self.latents[kept],
            self.pose[kept],
            self.confidence[kept],
            self.motion[kept],
            pictures,
            clip,
            self.own,
            frame,
        )

    def any_but(self, motion: int, rng: np.random.Generator, *, dropout: float) -> Float[np.ndarray, "h w z"]:
        """A random frame from another clip than `motion`; zeros, no picture at all, for a share `dropout` of the draws
        and where the signer has no other clip.
        """
        return self.shown(self.place_but(motion, rng, dropout=dropout))

    def place_but(
        self, motion: int, rng: np.random.Generator, *, dropout: float, window: tuple[int, int] | None = None
    ) -> int | None:
        """`any_but`'s place in the bank; None for no picture.

        With a `window` of the clip (first frame, frames) a signer without another clip is shown with the frame of this
        one that is farthest from it, of a bank that knows frames; with none where all of them lie in the window.
        """
        others = np.flatnonzero(self.motion != motion)
        if rng.random() < dropout:
            return None
        if len(others):
            return int(rng.choice(others))
        if window is None or self.frame is None:
            return None
        start, length = window
        away = np.maximum(start - self.frame, self.frame - (start + length - 1))  # frames; none of the window's own
        return int(away.argmax()) if away.max() > 0 else None

    def shown(self, place: int | None) -> Float[np.ndarray, "h w z"]:
        """The latents of a place."""
        return self._nothing() if place is None else np.asarray(self.latents[place], np.float32)

    def typical(self) -> Float[np.ndarray, "h w z"]:
        """The frame whose pose is nearest to the median of the bank's poses: what stands for the signer. Zeros for a
        signer with a single clip, who was never shown with a picture in training.
        """
        return self.shown(self.typical_place())

    def typical_place(self) -> int | None:
        """`typical`'s place in the bank; None for no picture."""
        if len(np.unique(self.motion)) == 1 and not self.own:
            return None
        seen = self.confidence > 0
        middle = np.nanmedian(np.where(seen[..., None], self.pose, np.nan)[:, seen.any(axis=0)], axis=0)
        pose = np.zeros_like(self.pose[:1])
        pose[0, seen.any(axis=0)] = middle
        confidence = np.median(self.confidence, axis=0, keepdims=True)
        return int(nearest_frames(pose, confidence, self.pose, self.confidence)[0])

    def _nothing(self) -> Float[np.ndarray, "h w z"]:
        return np.zeros(self.latents.shape[1:], np.float32)


def latent_frame_times(frames: int, ratio: int) -> Int[np.ndarray, " k"]:
    """The video frame in the middle of what each latent frame covers: 0 alone, then `ratio` frames each."""
    return np.concatenate([[0], np.arange(1, frames, ratio) + (ratio - 1) // 2])
