"""Long videos by windows: which frames each window has, and how what they say of the same frames becomes one video.

Two ways. `plan` and `solve` let neighbouring windows share frames and blend their velocities there at every step (as
MultiDiffusion, Bar-Tal et al. 2023, does in space), so that all windows go towards one video and no frame is where one
ends. `chain` goes segment by segment: each begins with the last frames of the one before, as pixels, which Wan-Animate
is trained to go on from. The model sees a fixed number of frames either way; what grows with the video is its latents.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from signer_jax.errors import SignerError
from signer_jax.progress import progress
from signer_jax.renderer import solvers

# ---- Windows that share frames -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Windows over the latent frames of one or several clips that lie end to end; none crosses from one to another.

    A frame's `weights` over the windows that show it add up to 1.
    """

    starts: Int[np.ndarray, "n"]
    clips: Int[np.ndarray, "n"]  # whose each window is
    weights: Float[np.ndarray, "n length"]
    total: int  # latent frames of all clips

    @property
    def length(self) -> int:
        return self.weights.shape[1]


def plan(frames: Sequence[int], length: int, overlap: int) -> Plan:
    """Windows of `length` latent frames over clips of `frames` each, neighbours sharing at least `overlap`.

    A clip's last window ends where it ends, and shares more. From where a window's weight meets a neighbour's it rises,
    frame by frame, from near 0 to 1. Raises `SignerError` unless 0 ≤ overlap ≤ length / 2, where no frame has three
    windows but near an end, or for a clip shorter than a window.
    """
    if not 0 <= 2 * overlap <= length:
        raise SignerError(f"windows: {overlap} of {length} latent frames cannot be shared; share at most {length // 2}")
    starts: list[int] = []
    clips: list[int] = []
    weights: list[np.ndarray] = []
    first = 0
    for clip, count in enumerate(frames):
        if count < length:
            raise SignerError(f"windows: a clip of {count} latent frames is shorter than a window of {length}; pad it")
        own = list(range(0, count - length, length - overlap)) + [count - length]
        share = np.zeros((len(own), count))
        for i, start in enumerate(own):
            before = own[i - 1] + length - start if i else 0
            after = start + length - own[i + 1] if i + 1 < len(own) else 0
            rise, fall = (np.minimum(1.0, _ramp(length, shared)) for shared in (before, after))
            share[i, start : start + length] = rise * fall[::-1]
        share /= share.sum(axis=0)
        starts += [first + start for start in own]
        clips += [clip] * len(own)
        weights += [share[i, start : start + length] for i, start in enumerate(own)]
        first += count
    return Plan(np.array(starts), np.array(clips), np.stack(weights).astype(np.float32), first)


def latent_frames(frames: int, length: int, ratio: int) -> int:
    """Of a clip of so many video frames that windows of `length` latent frames lie over: one window at least."""
    return max(length, 1 + -(-(frames - 1) // ratio))


def _ramp(length: int, shared: int) -> np.ndarray:
    """1 / 2s, 3 / 2s, … over the first s = `shared` frames and above 1 after them; with the fall it adds up to 1."""
    return (np.arange(length) + 0.5) / shared if shared else np.ones(length)


def noise_of(rng: jax.Array, first: int, frames: int, shape: tuple[int, ...]) -> Float[jax.Array, "frames h w c"]:
    """Standard normal noise of the latent frames from `first` on: frame k has its own, whatever else is asked for."""
    keys = jax.vmap(lambda k: jax.random.fold_in(rng, k))(jnp.arange(first, first + frames))
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def solve(
    velocity: Callable[[Float[np.ndarray, "rows length h w c"], Any, Any], jax.Array],
    noise: Float[jax.Array, "total h w c"],
    sigmas: Float[np.ndarray, "steps+1"],
    windows: Plan,
    conditions: Any,
    *,
    solver: solvers.Name,
    rows: int,
    shown: bool,
) -> Float[jax.Array, "total h w c"]:
    """Clean latents of all clips: `sampler.solve` with the windows' velocities blended at every step.

    Args:
      velocity: `velocity(x, sigma, conditions)` of `rows` windows; jitted, it is one program whatever the length.
      conditions: a pytree of arrays in host memory whose first axis is the window, rows of which are handed on.
      rows: windows a call; the last call is filled up.
      shown: whether a progress bar counts the calls.
    """
    method = solvers.solver(solver, sigmas)
    state, n = method.start(jnp.asarray(noise)), len(windows.starts)
    calls = -(-n // rows)
    with progress(range(len(method.table) * calls), "windows rendered", shown=shown) as bar:
        for row in method.table:
            x, blended = np.asarray(state.x), np.zeros(noise.shape, np.float32)
            for i in range(0, n, rows):
                at = np.minimum(np.arange(i, i + rows), n - 1)
                shot = np.stack([x[start : start + windows.length] for start in windows.starts[at]])
                part = jax.tree.map(lambda leaf, at=at: leaf[at], conditions)
                v = np.asarray(velocity(shot, row[0], part), np.float32)
                for k, one in zip(at[: n - i], v, strict=False):
                    start = windows.starts[k]
                    blended[start : start + windows.length] += windows.weights[k][:, None, None, None] * one
                bar.update()
            state = method.advance(state, jnp.asarray(blended), jnp.asarray(row))
    return state.x


# ---- Segments that go on from pixels -----------------------------------------------------------------------------


def chain(
    film: Callable[[int, np.ndarray | None], np.ndarray], total: int, *, length: int, overlap: int, ratio: int,
    shown: bool,
) -> Iterator[Float[np.ndarray, "b t h w c"]]:  # fmt: skip
    """A video of `total` frames, handed out segment by segment.

    Args:
      film: `film(start, before)` gives the `length` frames from `start` on, which may go beyond the total; `before` are
        the last `overlap` frames of what is there, which they begin with, or None for the first segment.
      length, overlap: video frames, each one more than a multiple of `ratio`, since both are encoded (published: 77 and
        1 or 5).

    Raises `SignerError` for other lengths, or an overlap that is not shorter than a segment.
    """
    for name, frames in (("length", length), ("overlap", overlap)):
        if frames < 1 or (frames - 1) % ratio:
            low = max(0, frames - 1) // ratio * ratio + 1
            raise SignerError(
                f"segments: {name} {frames} fills no whole number of latents; give {low} or {low + ratio}"
            )
    if overlap >= length:
        raise SignerError(f"segments: overlap {overlap} must be below the length {length}")
    starts = range(0, max(total - overlap, 1), length - overlap)
    before = None
    for start in progress(starts, "segments rendered", shown=shown):
        segment = film(start, before)
        before = segment[:, -overlap:]
        yield segment[:, overlap if start else 0 : total - start]


def seams(frames: int, length: int, overlap: int, *, ratio: int, goes_on: bool) -> Bool[np.ndarray, " frames-1"]:
    """Which changes from a video frame to the next lie across two windows, all counted in video frames.

    Of windows apart (overlap 0) where the next one begins. Of blended ones (`plan`) all changes from one to the other:
    into the first latent frame that both have a say in, in all that both have, and out of the last. A clip is decoded
    as one, and its latent frame k > 0 is video frames `ratio` (k - 1) + 1 to `ratio` k. Of segments that go on from the
    last frames of the one before (`chain`) behind these.
    """
    change = np.arange(1, frames)  # which frame each leads to
    if goes_on or not overlap:
        return np.isin(change, np.arange(length, frames, length - overlap))
    window = 1 + (length - 1) // ratio
    starts = plan([latent_frames(frames, window, ratio)], window, overlap // ratio).starts
    first, last = (ratio * (latent - 1) + 1 for latent in (starts[1:], starts[:-1] + window))
    return np.asarray(((first[:, None] <= change) & (change <= last[:, None])).any(axis=0))
