"""Tiny videos and poses as files, for tests: what a frame shows says which one it is."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from signer_jax.data import video
from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file
from signer_jax.types import Pose

HEIGHT, WIDTH = 48, 64


def level(picture: np.ndarray) -> float:
    return float(picture[:8, :8].mean())


def film(path: Path, stamps, *, size=(HEIGHT, WIDTH), corner=None) -> Path:
    """An mp4 with frames at these times in milliseconds; frame i has the grey level 6 i in its upper left."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10", "g": "5"})
        stream.height, stream.width, stream.pix_fmt, stream.time_base = *size, "yuv420p", Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, stamp in enumerate(stamps):
            picture = np.full((*size, 3), 128, np.uint8)
            picture[:8, :8] = min(6 * i, 255) if corner is None else corner
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(stamp), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def even(frames: int, fps: float = 25) -> list[float]:
    return [i * 1000 / fps for i in range(frames)]


def posed(path: Path, frames: int, fps: float = 25, seen: bool = True) -> Path:
    """A `.pose` file in pixels: shoulders 12 pixels apart around the middle, a nose that goes down a pixel a frame."""
    coordinates = np.zeros((frames, len(skeleton.JOINTS), 3), np.float32)
    coordinates[..., :2] = (WIDTH / 2, HEIGHT / 2)
    coordinates[:, skeleton.INDEX["right_shoulder"], 0] -= 6
    coordinates[:, skeleton.INDEX["left_shoulder"], 0] += 6
    coordinates[:, skeleton.INDEX["nose"], 1] = np.arange(frames)
    confidence = np.full(coordinates.shape[:2], 1.0 if seen else 0.0, np.float32)
    if not seen:
        confidence[:, skeleton.INDEX["nose"]] = 1
    pose_file.write(path, Pose(coordinates, confidence, fps), size=(WIDTH, HEIGHT))
    return path


def openpose(folder: Path, frames: int, people=lambda frame: 1) -> Path:
    """Two shoulders 12 pixels apart around the middle, and a nose that goes down a pixel a frame."""
    folder.mkdir(parents=True)
    for frame in range(frames):
        body = np.zeros((25, 3))
        body[[0, 1, 2, 5]] = [(32, frame, 1), (32, 24, 1), (26, 24, 1), (38, 24, 1)]
        one = {"pose_keypoints_2d": body.ravel().tolist(), "face_keypoints_2d": [0.0] * 210,
               "hand_left_keypoints_2d": [0.0] * 63, "hand_right_keypoints_2d": [0.0] * 63}  # fmt: skip
        shown = json.dumps({"people": [one] * people(frame)})
        (folder / f"{folder.name}_{frame:012d}_keypoints.json").write_text(shown)
    return folder


def levels(data: bytes) -> list[float]:
    return [level(frame) for _, frame in video.frames_of("x", data)]
