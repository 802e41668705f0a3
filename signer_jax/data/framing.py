"""What of a video's picture a model is shown: the rectangle around a signer, or the middle; never stretched."""

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from signer_jax.pose import skeleton


def around_signer(
    frames: Iterable[UInt8[np.ndarray, "y x 3"]], centre: Float[np.ndarray, " c"], scale: float, size: tuple[int, int]
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames seen through the rectangle of `size`'s aspect around a signer: made smaller or larger.

    `centre` (pixels) is the middle between the shoulders, which are `scale` pixels apart; the rectangle is that of
    `skeleton.view`, so that `skeleton.to_pixels` of the normalised pose lands on what is shown.
    """
    side = skeleton.VIEW_SIDE * scale  # of the view's square, which is as large as the rectangle's shorter side
    height, width = (side * (pixels / min(size)) for pixels in size)
    left, top = centre[0] - width / 2, centre[1] - skeleton.VIEW_TOP * scale - (height - side) / 2
    weights: list[np.ndarray] = []
    for frame in frames:
        if not weights:
            weights = [
                area_weights(*span, pixels, there)
                for span, pixels, there in zip(((top, height), (left, width)), size, frame.shape[:2], strict=True)
            ]
            used = [np.flatnonzero(weight.any(0)) for weight in weights]
            rows, columns = (slice(int(index[0]), int(index[-1]) + 1) for index in used)
            by_row, by_column = weights[0][:, rows], weights[1][:, columns]
        part = frame[rows, columns].astype(np.float32)
        small = np.einsum("Xx,Yxc->YXc", by_column, np.tensordot(by_row, part, 1), optimize=True)
        yield np.clip(np.rint(small), 0, 255).astype(np.uint8)


def middle(frames: Iterable[UInt8[np.ndarray, "y x 3"]], size: tuple[int, int]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames resized until they cover `size` (height, width), their middle kept."""
    height, width = size
    for frame in frames:
        if frame.shape[:2] == size:
            yield frame
            continue
        grown = max(height / frame.shape[0], width / frame.shape[1])
        tall, wide = max(round(frame.shape[0] * grown), height), max(round(frame.shape[1] * grown), width)
        resized = np.asarray(Image.fromarray(frame).resize((wide, tall), Image.Resampling.LANCZOS))
        top, left = (tall - height) // 2, (wide - width) // 2
        yield np.ascontiguousarray(resized[top : top + height, left : left + width])


def area_weights(start: float, length: float, size: int, pixels: int) -> Float[np.ndarray, "size pixels"]:
    """How much of each pixel of a line each of `size` equal parts of `[start, start + length]` covers; rows sum to 1.

    What lies before the first or beyond the last pixel counts as that pixel.
    """
    edges = start + length * np.arange(size + 1) / size
    low, high = edges[:-1, None], edges[1:, None]
    first = np.arange(pixels, dtype=np.float64)
    starts, ends = first.copy(), first + 1
    starts[0], ends[-1] = -np.inf, np.inf
    covered = np.clip(np.minimum(high, ends) - np.maximum(low, starts), 0, None)
    return (covered * size / length).astype(np.float32)
