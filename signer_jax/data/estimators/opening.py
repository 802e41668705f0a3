"""Pose estimators: a video's frames in, a clip on the canonical joints out; each with weights that are named."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import UInt8

from signer_jax import outside
from signer_jax.data.estimators import dwpose, holistic
from signer_jax.errors import SignerError
from signer_jax.pose.formats.clip import Clip

NAMES = ("dwpose", "mediapipe")
Estimate: TypeAlias = Callable[[str, Iterable[UInt8[np.ndarray, "h w 3"]], float], Clip]


@dataclass(frozen=True)
class Estimator:
    """`estimate(name, frames, fps)` is the clip of evenly timed frames of one size, in pixels: of several people one.

    It raises `SignerError` where no frame shows anybody. `made_by` names the estimator and its weights' checksums.
    """

    made_by: str
    estimate: Estimate


def opened(name: str, weights: Path) -> Estimator:
    """The estimator of `NAMES` with the weights in a folder. Raises `SignerError` for what lacks or does not fit."""
    reader = {"dwpose": dwpose, "mediapipe": holistic}[name]
    if not weights.is_dir():
        raise SignerError(f"--pose-weights {weights}: no such folder; give the one with {' and '.join(reader.FILES)}")
    files = [outside.plain_file(weights / file, f"--poses {name} needs {' and '.join(reader.FILES)}")
             for file in reader.FILES]  # fmt: skip
    sums = []
    for file in files:
        with outside.reading(file, "use a smaller model"), file.open("rb") as data:
            sums.append(f"{file.name} {hashlib.file_digest(data, 'sha256').hexdigest()}")
    return Estimator(f"{name} ({', '.join(sums)})", reader.opened(*files))
