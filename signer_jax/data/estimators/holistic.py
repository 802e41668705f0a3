"""MediaPipe's Holistic landmarks by its Tasks API, with the model file that is named (`holistic_landmarker.task`).

Facts of it (mediapipe/tasks/python/vision/holistic_landmarker.py): one person; x and y are shares of the picture, z is
one of its width; 33 points of the body, 478 or 468 of the face's mesh, 21 of each hand, or none of a part that is not
found; the body's have a visibility, what the others have of it says nothing. The project's one mapping of these points
is that of `.pose` files.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from signer_jax.errors import SignerError
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats import pose_file
from signer_jax.pose.formats.clip import Clip
from signer_jax.types import Pose

FILES = ("holistic_landmarker.task",)
_INSTALL = "pip install 'signer-jax[mediapipe]'"
_PARTS = {"POSE_LANDMARKS": "pose", "FACE_LANDMARKS": "face", "LEFT_HAND_LANDMARKS": "left_hand",
          "RIGHT_HAND_LANDMARKS": "right_hand"}  # fmt: skip


def opened(model: Path) -> Callable[[str, Iterable[UInt8[np.ndarray, "h w 3"]], float], Clip]:
    """`opening.Estimate` of the file. Raises `SignerError` where it is no model of this kind."""
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError:
        raise SignerError(f"--poses mediapipe needs MediaPipe; {_INSTALL}") from None

    def landmarker() -> Any:
        options = vision.HolisticLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)), running_mode=vision.RunningMode.VIDEO
        )
        try:
            return vision.HolisticLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:150]
            raise SignerError(
                f"{model}: is no Holistic model that MediaPipe reads ({reason}); download it again"
            ) from None

    landmarker().close()

    def estimate(name: str, frames: Iterable[UInt8[np.ndarray, "h w 3"]], fps: float) -> Clip:
        found: list[dict[str, np.ndarray]] = []
        size = (0, 0)
        with landmarker() as detector:  # one a clip: it follows a person from frame to frame
            for i, frame in enumerate(frames):
                size = frame.shape[:2]
                image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
                result = detector.detect_for_video(image, round(i * 1000 / fps))
                found.append({part: _values(getattr(result, f"{field}_landmarks"), size, seen=field == "pose")
                              for part, field in _PARTS.items()})  # fmt: skip
        if not found:
            raise clips.NobodySeen(f"{name}: no frame shows anybody; check the video")
        coordinates, confidence = pose_file.of_landmarks(found)
        pose = clips.checked(name, Pose(coordinates, confidence, fps))
        empty = int((confidence.max(1) == 0).sum())
        nobody = clips.Remark(clips.NOBODY, f"{empty} of {len(found)} frames show nobody: confidence 0")
        return Clip(name, pose, clips.PIXELS, size, remarks=(nobody,) if empty else ())

    return estimate


def _values(landmarks: Any, size: tuple[int, int], *, seen: bool) -> np.ndarray:
    """x, y, z in pixels and the confidence of each point of a part, `[p, 4]`; none of a part that was not found.

    The confidence is the points' visibility where they are `seen` or not, else 1.
    """
    height, width = size
    rows = [
        (one.x * width, one.y * height, one.z * width, (one.visibility or 0.0) if seen else 1.0)
        for one in landmarks or ()
    ]
    return np.array(rows, np.float32).reshape(-1, 4)
