"""DWPose through ONNX Runtime: YOLOX finds people, a SimCC model 133 points of one of them (COCO-WholeBody).

The two graphs are those that DWPose's authors publish (IDEA-Research/DWPose on GitHub, annotator/dwpose). Facts of
them: YOLOX takes blue, green, red from 0 to 255, the picture in the upper left of a square of 114, and gives for each
cell of grids of 8, 16 and 32 pixels the box's middle and size, an objectness and the classes, of which 0 is a person;
boxes that overlap by .45 are one, those of at most .3 none. The pose model takes red, green, blue less ImageNet's mean
over its deviation, of a box grown by 1.25 and to the input's aspect, and gives for each point scores of the bins across
and down, two a pixel (mmpose, RTMPose). A point of less than .3 is not seen.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from signer_jax.errors import SignerError, Trouble
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats import dwpose as format
from signer_jax.pose.formats.clip import Clip, Person

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FILES = ("yolox_l.onnx", "dw-ll_ucoco_384.onnx")
_STRIDES = (8, 16, 32)
_GREY = 114
_LEAST, _OVERLAP = 0.3, 0.45
_GROWN = 1.25
_MEAN, _DEVIATION = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)
_BINS = 2  # a pixel
_SEEN = 0.3
_BATCH = 8  # frames, where the graph does not say how many
_INSTALL = "pip install 'signer-jax[dwpose]'"
_DOWNLOAD = "download DWPose's own files again"

_Frame = UInt8[np.ndarray, "h w 3"]


# ---- Formulas --------------------------------------------------------------------------------------------------------


def letterboxed(frame: _Frame, size: tuple[int, int]) -> tuple[_Frame, float]:
    """The frame in the upper left of a picture of `size` (height, width), and how many times it was made larger."""
    ratio = min(size[0] / frame.shape[0], size[1] / frame.shape[1])
    height, width = max(1, int(frame.shape[0] * ratio)), max(1, int(frame.shape[1] * ratio))
    picture = np.full((*size, 3), _GREY, np.uint8)
    picture[:height, :width] = _part(frame, (0.0, 0.0, float(frame.shape[1]), float(frame.shape[0])), (height, width))
    return picture, ratio


def boxes_of(cells: Float[np.ndarray, "n c"], size: tuple[int, int], ratio: float) -> Float[np.ndarray, "m 5"]:
    """The people that YOLOX's cells show: left, top, right, bottom in the frame's pixels, and the score; best first."""
    grids, strides = [], []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
        grids.append(np.stack([columns.ravel(), rows.ravel()], 1))
        strides.append(np.full((rows.size, 1), stride))
    grid, unit = np.concatenate(grids), np.concatenate(strides)
    score = cells[:, 4] * cells[:, 5]
    likely = score > _LEAST
    middle = (cells[likely, :2] + grid[likely]) * unit[likely]
    sides = np.exp(np.minimum(cells[likely, 2:4], 20.0)) * unit[likely]
    boxes = np.concatenate([middle - sides / 2, middle + sides / 2], 1) / ratio
    found = np.concatenate([boxes, score[likely, None]], 1)
    return _apart(found[np.isfinite(found).all(1)])


def _apart(boxes: Float[np.ndarray, "m 5"]) -> Float[np.ndarray, "k 5"]:
    """The best of each set of boxes that overlap, best first."""
    left = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[1:][clips.overlaps(left[0], left[1:]) <= _OVERLAP]
    return np.array(kept).reshape(-1, 5)


def followed(boxes: Float[np.ndarray, "m 5"], before: Float[np.ndarray, " c"] | None) -> Float[np.ndarray, " c"]:
    """Whom of at least one to take: the person of the frame before; without one the largest, weighed by the score."""
    same = clips.same_person(boxes, before)
    largest = int(((boxes[:, 2:4] - boxes[:, :2]).prod(1) * boxes[:, 4]).argmax())
    return boxes[largest if same is None else same]


def around(box: Float[np.ndarray, " c"], size: tuple[int, int]) -> tuple[float, float, float]:
    """Left and top of what the pose model sees of the frame, and the frame's pixels for one of its input's."""
    width, height = _GROWN * (box[2:4] - box[:2])
    scale = max(width / size[1], height / size[0], 1e-3)
    x, y = (box[:2] + box[2:4]) / 2
    return float(x - scale * size[1] / 2), float(y - scale * size[0] / 2), float(scale)


def cropped(frame: _Frame, seen: tuple[float, float, float], size: tuple[int, int]) -> _Frame:
    """What `around` says, in `size`: pixel i of it shows the frame at `left + i * scale`; black beyond the frame."""
    left, top, scale = seen
    # Pillow's pixels have their middles at halves, those of the model at whole numbers.
    left, top = left + 0.5 - scale / 2, top + 0.5 - scale / 2
    return _part(frame, (left, top, left + scale * size[1], top + scale * size[0]), size)


def _part(frame: _Frame, sides: tuple[float, float, float, float], size: tuple[int, int]) -> _Frame:
    """A rectangle (left, top, right, bottom) of the frame at a size, linear between its pixels, as OpenCV has it."""
    picture = Image.fromarray(frame)
    return np.asarray(picture.transform(size[::-1], Image.Transform.EXTENT, sides, Image.Resampling.BILINEAR))


def points_of(
    across: Float[np.ndarray, "p u"], down: Float[np.ndarray, "p v"], seen: tuple[float, float, float]
) -> tuple[Float[np.ndarray, "p 2"], Float[np.ndarray, " p"]]:
    """Points in the frame's pixels by the best bin across and down, and the lesser of the two bins' scores."""
    left, top, scale = seen
    best = np.stack([across.argmax(1), down.argmax(1)], 1)
    score = np.minimum(across.max(1), down.max(1))
    return np.array([left, top]) + scale * best / _BINS, score


# ---- The two graphs --------------------------------------------------------------------------------------------------


class _Graph:
    """A model with one input of pictures [n, 3, h, w], run by as many at a time as it takes."""

    def __init__(self, file: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise SignerError(f"--poses dwpose needs ONNX Runtime; {_INSTALL}") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # what it warns of is nobody's to mend here
        providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider")
                     if name in onnxruntime.get_available_providers()]  # fmt: skip
        try:
            self._session: InferenceSession = onnxruntime.InferenceSession(str(file), options, providers)
        except Exception as error:  # ONNX Runtime's own kinds have no other class in common
            raise SignerError(f"{file}: is no model that ONNX Runtime reads ({_short(error)}); {_DOWNLOAD}") from None
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] != 3 or "float)" not in inputs[0].type:
            shapes = ", ".join(f"{one.type} {one.shape}" for one in inputs)
            raise SignerError(f"{file}: takes {shapes} in place of pictures [n, 3, h, w]; {_DOWNLOAD}")
        rows, _, height, width = inputs[0].shape
        if type(height) is not int or type(width) is not int:
            raise SignerError(f"{file}: does not say the size of its pictures; {_DOWNLOAD}")
        self.file, self.size, self.rows = file, (height, width), rows if type(rows) is int else 0
        self._input = inputs[0].name

    def __call__(self, pictures: Float[np.ndarray, "n 3 h w"]) -> list[np.ndarray]:
        rows = self.rows or len(pictures)
        parts = []
        for start in range(0, len(pictures), rows):
            part = pictures[start : start + rows]
            filled = np.pad(part, ((0, rows - len(part)), (0, 0), (0, 0), (0, 0)))
            try:
                outputs = self._session.run(None, {self._input: filled})
            except Exception as error:  # see above
                raise Trouble(f"{self.file}: cannot be run ({_short(error)}); give it more memory") from None
            parts.append([np.asarray(output)[: len(part)] for output in outputs])
        return [np.concatenate(one) for one in zip(*parts, strict=True)]

    def check(self, *shapes: tuple[int, ...]) -> None:
        """Raises `SignerError` where one picture does not give these shapes."""
        found = [output.shape for output in self(np.zeros((1, 3, *self.size), np.float32))]
        fits = len(found) == len(shapes) and all(
            len(one) == len(wanted) and all(side in (there, -1) for there, side in zip(one, wanted, strict=True))
            for one, wanted in zip(found, shapes, strict=False)
        )
        if not fits:
            listed = ", ".join(str(list(one)).replace("-1", "n") for one in shapes)
            raise SignerError(f"{self.file}: gives {', '.join(str(list(one)) for one in found)} of a picture, not "
                              f"{listed}; {_DOWNLOAD}")  # fmt: skip


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:150]


def opened(detector: Path, poses: Path) -> Callable[[str, Iterable[_Frame], float], Clip]:
    """`opening.Estimate` of the two files. Raises `SignerError` where they are not DWPose's."""
    find, look = _Graph(detector), _Graph(poses)
    height, width = find.size
    find.check((1, sum((height // stride) * (width // stride) for stride in _STRIDES), -1))
    look.check((1, format.WHOLE_BODY, _BINS * look.size[1]), (1, format.WHOLE_BODY, _BINS * look.size[0]))

    def people_in(frames: Sequence[_Frame]) -> list[Float[np.ndarray, "m 5"]]:
        boxed = [letterboxed(frame, find.size) for frame in frames]
        pictures = np.stack([picture[..., ::-1] for picture, _ in boxed]).transpose(0, 3, 1, 2).astype(np.float32)
        (cells,) = find(pictures)
        return [boxes_of(one, find.size, ratio) for one, (_, ratio) in zip(cells, boxed, strict=True)]

    def persons(frames: Sequence[_Frame], boxes: Sequence[np.ndarray]) -> list[Person]:
        seen = [around(box, look.size) for box in boxes]
        crops = [cropped(frame, one, look.size) for frame, one in zip(frames, seen, strict=True)]
        across, down = look(((np.stack(crops) - _MEAN) / _DEVIATION).transpose(0, 3, 1, 2).astype(np.float32))
        found = (points_of(*scores) for scores in zip(across, down, seen, strict=True))
        return [format.of_whole_body(points, np.where(score < _SEEN, 0, score)) for points, score in found]

    def estimate(name: str, frames: Iterable[_Frame], fps: float) -> Clip:
        found: list[Person] = []
        counts: list[int] = []
        before, size = None, (0, 0)
        for some in _batches(frames, max(_BATCH, find.rows)):
            size = some[0].shape[:2]
            chosen: dict[int, np.ndarray] = {}  # frame -> box
            for i, boxes in enumerate(people_in(some)):
                counts.append(len(boxes))
                if len(boxes):
                    chosen[i] = before = followed(boxes, before)
            shown = [clips.nobody()] * len(some)
            if chosen:
                for i, person in zip(chosen, persons([some[i] for i in chosen], [*chosen.values()]), strict=True):
                    shown[i] = person
            found += shown
        if not found:
            raise clips.NobodySeen(f"{name}: no frame shows anybody; check the video")
        clip = clips.of_frames(Path(name), found, counts, fps, clips.PIXELS)
        return replace(clip, name=name, size=size)

    return estimate


def _batches(frames: Iterable[_Frame], most: int) -> Iterator[list[_Frame]]:
    left = iter(frames)
    while some := list(islice(left, most)):
        yield some
