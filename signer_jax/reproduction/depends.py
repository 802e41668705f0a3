"""What each figure of pose and video in a table depends on, as BLEU says it of itself; FID and Hand Pose have none."""

from collections.abc import Iterable

from signer_jax.metrics import video
from signer_jax.metrics.signatures import signature
from signer_jax.pose import skeleton, warping
from signer_jax.reproduction.paper import TITLES
from signer_jax.settings import Settings


def signatures(figures: Iterable[str], settings: Settings, *, whole: bool = False) -> dict[str, str]:
    """Of the figures of a table ("dev/ssim"), each once, by its title: its signature. `whole`: poses are compared
    whole, not gloss by gloss.
    """
    known = _known(settings, "sentences" if whole else "glosses")
    names = dict.fromkeys(figure.partition("/")[2] for figure in figures)
    return {f"{TITLES[name]} signature": known[name] for name in names if name in known}


def _known(settings: Settings, over: str) -> dict[str, str]:
    joints = skeleton.SUBSETS[settings.pose.joints]
    window: dict[str, str | int | float] = {"window": f"gaussian-{video.WINDOW}", "sigma": 1.5, "range": 255}
    crop = video.hand_crop(*settings.data.size)
    warped: dict[str, str | int] = {
        "joints": len(joints), "dims": f"{settings.pose.dims}", "hands": f"x{warping.HAND_WEIGHT:g}",
        "norm": "median-shoulders", "fill": f"{warping.MISSING:g}-where-only-the-reference-shows-it", "warp": "exact",
        "over": over,
    }  # fmt: skip
    own = {"features": "own-cells-4x4-colours-and-edges-112", "weights": "none", "of": "all-frames"}
    paired = {"pairs": "dtw-of-the-poses"}
    return {
        "ssim": signature(**window, over="rgb,pixels,frames"),
        "hand_ssim": signature(crop=crop, **window, over="rgb,pixels,hands"),
        "frechet_cells": signature(**own),
        "text_ssim": signature(**window, **paired, over="rgb,pixels,frames"),
        "text_hand_ssim": signature(crop=crop, **window, **paired, over="rgb,pixels,hands"),
        "text_psnr": signature(range=255, of="a-clip's-mean-squared-error", **paired, over="clips"),
        "dtw": signature(**warped, to="the-truth"),
        "dtw_to_nearest": signature(**warped, to="the-nearest-valid-variant"),
        "expert_accuracy": signature(of="the-signer-that-the-truth-follows", over="glosses-with-a-choice"),
    }
