"""I3D of Kinetics-400, by whose logits FVD is defined, as an ONNX graph that a user names.

The graph has one input of float32 clips `[n, 3, t, h, w]`: red, green, blue from -1 to 1, 16 frames of 224 x 224 where
it leaves these sides open; and one output, the 400 logits of a clip `[n, 400]`, before any softmax. That is what the
I3D of DeepMind's kinetics-i3d takes and gives; a graph of other sides gives figures that are not named FVD.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from signer_jax import outside
from signer_jax.errors import SignerError, Trouble
from signer_jax.metrics.frechet_clips import LENGTH, ClipFeatures, resized

CLASSES, SIDE = 400, 224
_SUM = 1e-3  # by which 400 float32 probabilities may miss 1
_GIVE = "give I3D of Kinetics-400 as .onnx, float32 clips [n, 3, t, h, w] to logits [n, 400]"


@dataclass(frozen=True)
class I3D:
    """`features`: clips `[n, t, h, w, 3]` of 0 to 255 -> `[n, 400]`, raises `Trouble` where the graph cannot be run;
    `sides`: a clip's frames, height and width as the graph takes it; `digest`: the file's SHA-256.
    """

    features: ClipFeatures
    sides: tuple[int, int, int]
    digest: str

    @property
    def of_fvd(self) -> bool:
        """Whether clips are what FVD is published of."""
        return self.sides == (LENGTH, SIDE, SIDE)


def opened(path: str | Path) -> I3D:
    """Raises `SignerError` for a file that is no such graph, as one run of a black clip shows: its shape, numbers that
    are not finite, and probabilities, whose distance is another.
    """
    file = outside.plain_file(path, _GIVE)
    try:
        import onnxruntime
    except ImportError:
        raise SignerError(f"--i3d {file}: needs ONNX Runtime; pip install 'signer-jax[dwpose]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own kinds have no other class in common
        raise SignerError(f"--i3d {file}: is no model that ONNX Runtime reads ({_short(error)}); {_GIVE}") from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape: list[Any] = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) != 5 or shape[1] != 3 or inputs[0].type != "tensor(float)" or len(outputs) != 1:
        taken = ", ".join(f"{one.type} {one.shape}" for one in inputs)
        raise SignerError(f"--i3d {file}: takes {taken} and gives {len(outputs)} outputs; {_GIVE}")
    frames, height, width = (
        side if type(side) is int and side > 0 else usual
        for side, usual in zip(shape[2:], (LENGTH, SIDE, SIDE), strict=True)
    )
    rows = shape[0] if type(shape[0]) is int and shape[0] > 0 else 1

    def run(clip: Float[np.ndarray, "t h w 3"]) -> np.ndarray:
        batch = np.ascontiguousarray(np.broadcast_to(clip.transpose(3, 0, 1, 2), (rows, 3, *clip.shape[:3])))
        return np.asarray(session.run(None, {inputs[0].name: batch.astype(np.float32)})[0])[:1]

    def features(clips: UInt8[np.ndarray, "n t h w 3"]) -> Float[np.ndarray, "n d"]:
        found = []
        for clip in clips:
            try:
                found.append(run(resized(clip, height, width) / np.float32(127.5) - 1))
            except Exception as error:  # see above
                raise Trouble(f"--i3d {file}: cannot be run ({_short(error)}); give it more memory") from None
        return np.concatenate(found) if found else np.zeros((0, CLASSES), np.float32)

    try:
        given = run(np.full((frames, height, width, 3), -1, np.float32))
    except Exception as error:  # see above
        raise SignerError(f"--i3d {file}: does not take a clip of {frames} frames of {width}x{height} "
                          f"({_short(error)}); {_GIVE}") from None  # fmt: skip
    if given.shape != (1, CLASSES):
        raise SignerError(
            f"--i3d {file}: gives {list(given.shape)} of a clip where I3D's logits are [1, {CLASSES}], so that its "
            f"figures would be no FVD; {_GIVE}"
        )
    if not np.isfinite(given).all():
        raise SignerError(f"--i3d {file}: gives numbers that are not finite of a black clip; {_GIVE}")
    if given.min() >= 0 and abs(float(given.sum(dtype=np.float64)) - 1) < _SUM:
        raise SignerError(
            f"--i3d {file}: gives probabilities (none below 0, of sum 1) where FVD is of logits; export the graph "
            "without its softmax"
        )
    with outside.reading(file, "give the file as it was made"), file.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    return I3D(features, (frames, height, width), digest)


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
