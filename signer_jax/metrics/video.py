"""Scores of videos, and the baselines that any generated video must beat (numpy; PAPER, Tables 5 and 6).

Videos are uint8 `[t, h, w, 3]`. Structural similarity is Wang et al. 2004 with its Gaussian window of 11 pixels.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.ndimage import correlate1d

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.nearest import nearest_frames
from signer_jax.types import Pose, Sample

WINDOW = 11  # pixels: σ = 1.5, cut at 3.5 σ
_TAPS = np.exp(-0.5 * (np.arange(WINDOW) - WINDOW // 2) ** 2 / 1.5**2)
_TAPS /= _TAPS.sum()
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_CHUNK_VALUES = 2**20  # of one temporary array: 8 MiB of float64, of which ten are held

# The paper crops 60 × 60 pixels around each hand in frames of about 256.
HAND_CROP = 60 / 256
# A pixel counts as static where the reference changes by no more than this many of 255 levels from frame to frame.
STATIC_LEVELS = 2


def _check_same(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise SignerError(f"video scores: shapes {a.shape} and {b.shape} differ; give videos of equal length and size")
    if min(a.shape[1:3]) < WINDOW:
        raise SignerError(
            f"video scores: frames of {a.shape[2]} × {a.shape[1]} are smaller than SSIM's window of {WINDOW} pixels; "
            "give larger frames"
        )


def _smooth(x: Float[np.ndarray, "t h w c"]) -> Float[np.ndarray, "t h w c"]:
    return correlate1d(correlate1d(x, _TAPS, axis=1, mode="reflect"), _TAPS, axis=2, mode="reflect")


def ssim(a: UInt8[np.ndarray, "t h w 3"], b: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, " t"]:
    """Structural similarity of each frame, `[t]`, 1 for equal frames.

    Equal to scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=255, channel_axis=-1)`: mean over the channels and over the pixels whose window lies inside the frame.
    Raises `SignerError` where shapes differ or frames are smaller than the window.
    """
    _check_same(a, b)
    t, h, w, c = a.shape
    edge = WINDOW // 2
    chunk = max(1, _CHUNK_VALUES // (h * w * c))
    # Of a frame that is larger than a chunk, a channel and some rows at a time.
    channels = [slice(0, c)] if h * w * c <= _CHUNK_VALUES else [slice(i, i + 1) for i in range(c)]
    band = max(1, _CHUNK_VALUES // (w * len(range(c)[channels[0]])))
    scores = np.zeros(t)
    for start in range(0, t, chunk):
        for top in range(edge, h - edge, band):
            rows = slice(top - edge, min(top + band, h - edge) + edge)
            for channel in channels:
                inside = _similarity(*(v[start : start + chunk, rows, :, channel].astype(float) for v in (a, b)))
                scores[start : start + chunk] += inside[:, edge:-edge, edge : w - edge].sum(axis=(1, 2, 3))
    return scores / ((h - 2 * edge) * (w - 2 * edge) * c)


def _similarity(x: Float[np.ndarray, "t h w c"], y: Float[np.ndarray, "t h w c"]) -> Float[np.ndarray, "t h w c"]:
    """SSIM at each place; within half a window of the edge it is not the frame's."""
    mean_x, mean_y = _smooth(x), _smooth(y)
    mean_xy, square_means = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = _smooth(x * y) - mean_xy
    variances = _smooth(x * x + y * y) - square_means
    return (2 * mean_xy + _C1) * (2 * covariance + _C2) / ((square_means + _C1) * (variances + _C2))


def squared_error(a: UInt8[np.ndarray, "t h w 3"], b: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, " t"]:
    """Mean squared difference of each frame's values, `[t]`, in squared levels of 255.

    Raises `SignerError` where shapes differ.
    """
    if a.shape != b.shape:
        raise SignerError(f"video scores: shapes {a.shape} and {b.shape} differ; give videos of equal length and size")
    return np.array([sum(_squares(x[rows], y[rows]) for rows in _bands(x)) / x.size for x, y in zip(a, b, strict=True)])


def _squares(x: UInt8[np.ndarray, "h w 3"], y: UInt8[np.ndarray, "h w 3"]) -> int:
    return int(np.square(x.astype(np.int32) - y).sum(dtype=np.int64))


def _bands(frame: UInt8[np.ndarray, "h w 3"]) -> list[slice]:
    """Rows of a frame that are taken at a time."""
    rows = max(1, _CHUNK_VALUES // max(1, frame[:1].size))
    return [slice(start, start + rows) for start in range(0, len(frame), rows)]


def psnr(squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error of values up to 255; infinite for none.

    Of a video it is that of the mean squared error over its frames, since one equal frame has none of its own.
    """
    return float("inf") if squared_error == 0 else float(10 * np.log10(255**2 / squared_error))


def hand_centres(
    pose: Pose, joints: Sequence[str], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "t 2 2"], Bool[np.ndarray, "t 2"]]:
    """Pixel x, y of the middle of the left and the right hand in a view of `size` (height, width), and whether shown.

    The middle is that of the box around the hand's joints that are shown.
    """
    return hand_middles(skeleton.to_pixels(pose.coordinates[..., :2], *size), pose.confidence > 0, joints)


def hand_middles(
    pixels: Float[np.ndarray, "t j 2"], seen: Bool[np.ndarray, "t j"], joints: Sequence[str]
) -> tuple[Float[np.ndarray, "t 2 2"], Bool[np.ndarray, "t 2"]]:
    """As `hand_centres`, of joints in pixels of the picture, wherever the signer stands in it."""
    centres, visible = [], []
    for names in (skeleton.LEFT_HAND, skeleton.RIGHT_HAND):
        hand = skeleton.positions(names, joints)
        shown = np.asarray(seen[:, hand])
        low = np.where(shown[..., None], pixels[:, hand], np.inf).min(axis=1, initial=np.inf)
        high = np.where(shown[..., None], pixels[:, hand], -np.inf).max(axis=1, initial=-np.inf)
        found = np.asarray(shown.any(axis=1))
        centres.append((np.where(found[:, None], low, 0.0) + np.where(found[:, None], high, 0.0)) / 2)
        visible.append(found)
    return np.stack(centres, axis=1), np.stack(visible, axis=1)


def hand_crop(height: int, width: int) -> int:
    """Side of the crop around a hand: 60 of 256 pixels of the frame's shorter side, at least SSIM's window."""
    return max(WINDOW, round(min(height, width) * HAND_CROP))


def hand_ssim(
    a: UInt8[np.ndarray, "t h w 3"],
    b: UInt8[np.ndarray, "t h w 3"],
    centres: Float[np.ndarray, "t 2 2"],
    visible: Bool[np.ndarray, "t 2"],
    crop: int,
) -> Float[np.ndarray, "t 2"]:
    """SSIM of the `crop` × `crop` square around each hand, `[t, 2]`; NaN where the hand is not visible.

    `centres` are pixels (x, y), `crop` is usually `hand_crop(h, w)`. A square over the frame's edge is moved inside.
    Raises `SignerError` where shapes differ or the crop does not fit.
    """
    _check_same(a, b)
    t, h, w, _ = a.shape
    if not WINDOW <= crop <= min(h, w):
        raise SignerError(
            f"hand SSIM: crop is {crop} pixels, it must be at least {WINDOW} and fit the frame of {w} × {h}"
        )
    scores = np.full((t, 2), np.nan)
    scores[np.nonzero(visible)] = ssim(*(hand_crops(video, centres, visible, crop) for video in (a, b)))
    return scores


def hand_crops(
    video: UInt8[np.ndarray, "t h w 3"],
    centres: Float[np.ndarray, "t 2 2"],
    visible: Bool[np.ndarray, "t 2"],
    crop: int,
) -> UInt8[np.ndarray, "n crop crop 3"]:
    """The square around each visible hand, in the order of `np.nonzero(visible)`, moved inside the frame."""
    h, w = video.shape[1:3]
    frame, hand = np.nonzero(visible)
    corner = np.round(centres[frame, hand] - crop / 2).astype(int)
    corner = np.clip(corner, 0, np.array([w - crop, h - crop]))
    rows = corner[:, 1, None] + np.arange(crop)
    columns = corner[:, 0, None] + np.arange(crop)
    return video[frame[:, None, None], rows[:, :, None], columns[:, None, :]]


def gradient_energy(pictures: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, " n"]:
    """Mean squared difference of neighbouring pixels, down plus across, in squared levels of 255.

    The ratio to the truth's tells blur (below 1) from sharpness and noise (above it), which SSIM hardly does.
    """
    x = pictures.astype(float)
    return sum(np.square(np.diff(x, axis=axis)).mean(axis=(1, 2, 3)) for axis in (1, 2))


def gradient_correlation(
    pictures: UInt8[np.ndarray, "n h w 3"], reference: UInt8[np.ndarray, "n h w 3"]
) -> Float[np.ndarray, " n"]:
    """Correlation of the differences of neighbouring pixels, down and across: 1 where the reference's edges are in
    their places, about 0 for noise and for edges elsewhere, whatever their energy.

    0 for a picture without an edge; NaN where the reference has none. Raises `SignerError` where shapes differ.
    """
    if pictures.shape != reference.shape:
        raise SignerError(
            f"video scores: shapes {pictures.shape} and {reference.shape} differ; give videos of equal size"
        )
    ours, theirs = (
        np.concatenate([np.diff(x.astype(float), axis=axis).reshape(len(x), -1) for axis in (1, 2)], axis=1)
        for x in (pictures, reference)
    )
    norm = np.sqrt(np.square(ours).sum(axis=1) * np.square(theirs).sum(axis=1))
    value = (ours * theirs).sum(axis=1) / np.where(norm > 0, norm, 1.0)
    return np.where(np.square(theirs).sum(axis=1) > 0, value, np.nan)


def frame_change(video: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, " t-1"]:
    """Mean absolute change of the pixels from each frame to the next, in levels of 255."""
    return np.array([np.abs(b.astype(np.int16) - a).mean() for a, b in pairwise(video)])


def pose_distance(
    pose: Pose, bank: Float[np.ndarray, "m j c"], bank_confidence: Float[np.ndarray, "m j"]
) -> Float[np.ndarray, " t"]:
    """How far each frame's pose is from the nearest of a bank: the root mean square over the joints that it shows.

    In the poses' units, by x and y, which a picture shows. A joint that the nearest frame lacks counts 1, as in
    `nearest_frames`; 0 where nothing shows.
    """
    pose, bank = Pose(pose.coordinates[..., :2], pose.confidence, pose.fps), bank[..., :2]
    index = nearest_frames(pose.coordinates, pose.confidence, bank, bank_confidence)
    square = np.square(pose.coordinates - bank[index]).sum(axis=-1)
    square = np.where(bank_confidence[index] > 0, square, 1.0)
    return np.sqrt((square * pose.confidence).sum(axis=1) / np.maximum(pose.confidence.sum(axis=1), 1e-6))


def flicker(video: UInt8[np.ndarray, "t h w 3"], reference: UInt8[np.ndarray, "t h w 3"]) -> float:
    """Mean absolute change from frame to frame, in levels of 255, where the reference stands still. Lower is better.

    Static: every channel of the pixel changes by at most `STATIC_LEVELS` in the reference between the two frames. NaN
    where nothing is static. Raises `SignerError` where shapes differ.
    """
    if video.shape != reference.shape:
        raise SignerError(f"video scores: shapes {video.shape} and {reference.shape} differ; give videos of equal size")
    total, count = 0.0, 0
    for i in range(1, len(video)):
        change, places = static_change((video[i - 1], video[i]), (reference[i - 1], reference[i]))
        total, count = total + change, count + places
    return total / count if count else float("nan")


def static_change(
    video: Sequence[UInt8[np.ndarray, "h w 3"]], reference: Sequence[UInt8[np.ndarray, "h w 3"]]
) -> tuple[float, int]:
    """Of two frames in turn the sum of the changes where the reference stands still, and of how many values it is."""
    change, places = 0, 0
    for rows in _bands(video[0]):
        static = absolute_change(reference[0][rows], reference[1][rows]).max(axis=-1) <= STATIC_LEVELS
        change += int(absolute_change(video[0][rows], video[1][rows])[static].sum(dtype=np.int64))
        places += 3 * int(static.sum())
    return float(change), places


def absolute_change(
    before: UInt8[np.ndarray, "h w 3"], after: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """How much each value changes, in levels."""
    return np.maximum(before, after) - np.minimum(before, after)


def mean_frame(videos: Iterable[UInt8[np.ndarray, "t h w 3"]]) -> UInt8[np.ndarray, "h w 3"]:
    """The mean of all frames (of one signer): what a renderer that ignores its input would best show.

    Raises `SignerError` where there are no frames.
    """
    total: np.ndarray | None = None
    count = 0
    for video in videos:
        summed = video.sum(axis=0, dtype=np.int64)
        total = summed if total is None else total + summed
        count += len(video)
    if total is None or count == 0:
        raise SignerError("mean frame: the training data has no video of this signer")
    return np.round(total / count).astype(np.uint8)


def nearest_pose_baseline(
    evaluation: Iterable[Sample], training: Iterable[Sample], joints: Int[np.ndarray, " j"]
) -> Iterator[UInt8[np.ndarray, "t h w 3"]]:
    """For each evaluation sample a video of training frames: for every frame the same signer's with the nearest pose.

    A renderer that generalises must beat this copy. `joints` `[j]` are the compared joints (hands and arms) of the
    samples' poses, compared in x and y alone, as a picture shows them and as the renderer looks for its references.
    Raises `SignerError` where a signer has no training sample with pose and video.
    """
    clips: dict[str, list[tuple[Pose, np.ndarray]]] = defaultdict(list)
    for sample in training:
        if sample.pose is not None and sample.video is not None:
            frames = min(len(sample.pose), len(sample.video))
            clips[sample.signer].append((sample.pose.slice(0, frames), sample.video[:frames]))
    banks: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for sample in evaluation:
        if sample.pose is None:
            raise SignerError(f"nearest-pose baseline: sample {sample.name!r} has no pose; leave it out")
        signer = sample.signer
        if signer not in clips:
            raise SignerError(f"nearest-pose baseline: signer {signer!r} has no training sample with pose and video")
        if signer not in banks:
            banks[signer] = (
                np.concatenate([pose.coordinates[:, joints, :2] for pose, _ in clips[signer]]),
                np.concatenate([pose.confidence[:, joints] for pose, _ in clips[signer]]),
            )
        seen = sample.pose.confidence[:, joints]
        index = nearest_frames(sample.pose.coordinates[:, joints, :2], seen, *banks[signer])
        # The clip and the frame in it of each place in the bank; the videos themselves are not copied together.
        ends = np.cumsum([len(video) for _, video in clips[signer]])
        clip = np.searchsorted(ends, index, side="right")
        starts = ends - [len(video) for _, video in clips[signer]]
        yield np.stack([clips[signer][k][1][i - starts[k]] for k, i in zip(clip, index, strict=True)])


def composite_baseline(
    clip: Sample, training: Sequence[Sample], body: UInt8[np.ndarray, "t h w 3"]
) -> UInt8[np.ndarray, "t h w 3"]:
    """`body` (the frames of the nearest pose) with each hand replaced by the signer's training picture of it that is
    most alike: hand shapes are compared about their middles, and the square around the found one (`hand_crop`) is laid
    where the pose has the hand. What cutting and pasting parts comes to without a network.

    Raises `SignerError` where no sample has a pose and a video.
    """
    filmed = [(one.pose, one.video) for one in training if one.pose is not None and one.video is not None]
    if clip.pose is None or not filmed:
        raise SignerError(f"composite baseline: {clip.name!r} or its signer's training samples lack a pose or a video")
    size, side = body.shape[1:3], hand_crop(*body.shape[1:3])
    centres, visible = hand_centres(clip.pose, skeleton.JOINTS, size)
    theirs = [hand_centres(pose.slice(0, len(video)), skeleton.JOINTS, size) for pose, video in filmed]
    place = [(k, i) for k, (pose, video) in enumerate(filmed) for i in range(min(len(pose), len(video)))]
    result = body.copy()
    for hand, names in enumerate((skeleton.LEFT_HAND, skeleton.RIGHT_HAND)):
        joints = skeleton.positions(names, skeleton.JOINTS)
        shapes = [_about_middle(pose, joints) for pose, _ in filmed]
        seen = np.concatenate([visible_there[:, hand] for _, visible_there in theirs])
        if not seen.any():
            continue
        shown = np.flatnonzero(seen)
        bank, sure = (
            np.concatenate([shape[i][: len(video)] for shape, (_, video) in zip(shapes, filmed, strict=True)])[shown]
            for i in (0, 1)
        )
        shape, certain = (a[visible[:, hand]] for a in _about_middle(clip.pose, joints))
        alike = nearest_frames(shape, certain, bank, sure)
        for t, found in zip(np.flatnonzero(visible[:, hand]), alike, strict=True):
            k, i = place[shown[found]]
            source = hand_crops(filmed[k][1][i : i + 1], theirs[k][0][i : i + 1, hand : hand + 1], _ONE, side)[0]
            x, y = np.clip(np.round(centres[t, hand] - side / 2).astype(int), 0, (size[1] - side, size[0] - side))
            result[t, y : y + side, x : x + side] = source
    return result


_ONE = np.ones((1, 1), bool)


def _about_middle(pose: Pose, joints: Int[np.ndarray, " j"]) -> tuple[np.ndarray, np.ndarray]:
    """A hand's joints `[t, j, 2]` about the middle of those that are shown, and their confidence `[t, j]`."""
    place, seen = pose.coordinates[:, joints, :2], pose.confidence[:, joints]
    shown = (seen > 0)[..., None]
    middle = (place * shown).sum(axis=1, keepdims=True) / np.maximum(shown.sum(axis=1, keepdims=True), 1)
    return place - middle, seen
