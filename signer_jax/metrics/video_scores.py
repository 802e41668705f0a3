"""All scores of a pair of videos, gathered frame by frame, with what they depend on, beside a still picture's."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, UInt8

from signer_jax.metrics import video as scores
from signer_jax.metrics.reports import Ratio, Report
from signer_jax.metrics.signatures import signature

_NAN = float("nan")
_FLOOR = 4  # frames, of which one is compared with the floor's


@dataclass
class _Sums:
    """Of one side: sums over frames."""

    ssim: list[float] = field(default_factory=list)
    squared_error: float = 0.0
    hands: list[float] = field(default_factory=list)
    change: float = 0.0


class VideoScores:
    """`add` a hypothesis's frame beside the reference's, in turn, then `report`. The frames are not kept.

    The floor is the reference's first frame, held; SSIM, which takes the time, is compared in one of four frames of it.
    """

    def __init__(self, crop: int = 0) -> None:
        self.crop = crop
        self.sides = {"": _Sums(), "floor": _Sums(), "reference": _Sums()}
        self.frames, self.static = 0, 0
        self.first: np.ndarray | None = None
        self.before: dict[str, np.ndarray] = {}

    def add(
        self,
        ours: UInt8[np.ndarray, "h w 3"],
        theirs: UInt8[np.ndarray, "h w 3"],
        hands: tuple[Float[np.ndarray, "2 2"], Bool[np.ndarray, " 2"]] | None = None,
    ) -> None:
        """`hands`: pixel x, y of the middle of each hand in the reference, and whether it is shown.

        Raises `SignerError` as `metrics.video.ssim` does.
        """
        if self.first is None:
            self.first = theirs
        places = 0
        shown = {"": ours, "floor": self.first, "reference": theirs}
        for name, picture in shown.items():
            side = self.sides[name]
            if name != "reference":
                side.squared_error += float(scores.squared_error(picture[None], theirs[None])[0])
            if name == "" or (name == "floor" and self.frames % _FLOOR == _FLOOR // 2):
                side.ssim.append(float(scores.ssim(picture[None], theirs[None])[0]))
                if hands is not None and hands[1].any():
                    found = scores.hand_ssim(picture[None], theirs[None], hands[0][None], hands[1][None], self._side)
                    side.hands += found[np.isfinite(found)].tolist()
            if self.before:
                change, places = scores.static_change((self.before[name], picture), (self.before["reference"], theirs))
                side.change += change
        self.static += places
        self.before, self.frames = shown, self.frames + 1

    @property
    def _side(self) -> int:
        assert self.first is not None
        return self.crop or scores.hand_crop(*self.first.shape[:2])

    def report(self) -> Report:
        """Raises nothing: what has no value is NaN, such as the PSNR of equal videos and scores of no frame."""
        if self.first is None:
            return Report({name: Ratio(_NAN) for name in ("ssim", "psnr", "hand_ssim", "flicker")})
        window: dict[str, str | float] = {"window": "gaussian-11", "sigma": 1.5, "range": 255}
        own, floor = (self._scores(self.sides[name]) for name in ("", "floor"))
        own["flicker_reference"] = Ratio(self.sides["reference"].change, self.static)
        return Report(own, floor, {
            "ssim": signature(**window, over="rgb,pixels,frames"),
            "psnr": signature(range=255, of="the-mean-squared-error", over="rgb,pixels,frames"),
            "hand_ssim": signature(crop=self._side, **window, over="rgb,pixels,hands"),
            "flicker": signature(static=f"changes-up-to-{scores.STATIC_LEVELS}-of-255", over="static-values"),
        })  # fmt: skip

    def _scores(self, side: _Sums) -> dict[str, Ratio]:
        value = scores.psnr(side.squared_error / self.frames)
        return {
            "ssim": Ratio(sum(side.ssim), len(side.ssim)),
            "psnr": Ratio(value if np.isfinite(value) else _NAN),
            "hand_ssim": Ratio(sum(side.hands), len(side.hands)),
            "flicker": Ratio(side.change, self.static),
        }


def hand_distances(
    ours: tuple[Float[np.ndarray, "t k 2"], Float[np.ndarray, "t k"]],
    theirs: tuple[Float[np.ndarray, "t k 2"], Float[np.ndarray, "t k"]],
) -> tuple[Ratio, Ratio]:
    """Hand Pose (SignGAN, Saunders et al. 2020; PAPER, Table 5) of keypoints in pixels and their confidences.

    The mean distance of those that are found in both, and the share of the reference's that the hypothesis lacks.
    """
    seen, found = theirs[1] > 0, (theirs[1] > 0) & (ours[1] > 0)
    distance = np.linalg.norm(np.where(found[..., None], ours[0].astype(float) - theirs[0], 0), axis=-1)
    return Ratio(float(distance.sum()), int(found.sum())), Ratio(float((seen & ~found).sum()), int(seen.sum()))
