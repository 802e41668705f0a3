"""Long videos by windows: which frames each window has, and how what they say of the same frames becomes one video.

Two ways. `plan` and `solve` let neighbouring windows share frames and blend their velocities there at every step (as
MultiDiffusion, Bar-Tal et al. 2023, does in space), so that all windows go towards one video and no frame is where one
ends. `chain` goes segment by segment: each begins with the last frames of the one before, as pixels, which Wan-Animate
is trained to go on from. The model sees a fixed number of frames either way; what grows with the video is its latents.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from signer_jax.errors import SignerError
from signer_jax.progress import progress
from signer_jax.renderer import solvers
from signer_jax.renderer.sampler import in_turn

Who = TypeVar("Who")

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


class Laid(NamedTuple):
    """A plan for a program: so many rows a call, the calls filled up to a power of two.

    So clips of any length share few programs; a program makes as many calls as it is told.
    """

    at: Int[np.ndarray, "calls rows"]  # which window each row is
    starts: Int[np.ndarray, "calls rows"]
    weights: Float[np.ndarray, "calls rows length"]  # 0 of what fills up

    @property
    def frames(self) -> int:
        """Latent frames of the program, the plan's own first."""
        return self.weights.size


class Blend(NamedTuple):
    """Where the solver stands, and what the windows have said since its last step."""

    state: solvers.State
    said: Float[jax.Array, "frames h w c"]


def laid(windows: Plan, rows: int) -> tuple[Laid, int]:
    """The plan in calls of `rows` windows, and how many of them there are to make."""
    n = len(windows.starts)
    calls = -(-n // rows)
    places = np.arange(doubled(calls) * rows).reshape(-1, rows)
    at = np.minimum(places, n - 1)
    weights = np.where((places < n)[..., None], windows.weights[at], np.float32(0))
    return Laid(at, windows.starts[at].astype(np.int32), weights), calls


def doubled(count: int) -> int:
    """The power of two that is not below a count."""
    return 1 << (count - 1).bit_length()


def blended(
    velocity: Callable[[Float[jax.Array, "rows length h w c"], Any, Any], jax.Array], method: solvers.Solver,
    blend: Blend, windows: Laid, calls: int | Int[jax.Array, ""], first: int | Int[jax.Array, ""],
    last: int | Int[jax.Array, ""],
) -> Blend:  # fmt: skip
    """The calls from `first` up to `last`, of which every step has `calls`; all three may be traced (`sampler.steps`).

    `velocity(x, sigma, k)` of the windows of the k-th call.
    """
    starts, weights, table = jnp.asarray(windows.starts), jnp.asarray(windows.weights), jnp.asarray(method.table)
    rows, length = weights.shape[1:]

    def call(i: jax.Array, blend: Blend) -> Blend:
        (state, said), k, row = blend, i % calls, table[i // calls]
        cut = partial(jax.lax.dynamic_slice_in_dim, slice_size=length)
        v = velocity(jnp.stack([cut(state.x, starts[k, r]) for r in range(rows)]), row[0], k).astype(said.dtype)
        said = jnp.where(k == 0, jnp.zeros_like(said), said)
        for r in range(rows):
            share = cut(said, starts[k, r]) + weights[k, r][:, None, None, None] * v[r]
            said = jax.lax.dynamic_update_slice_in_dim(said, share, starts[k, r], axis=0)
        state = jax.lax.cond(k == calls - 1, lambda: method.advance(state, said, row), lambda: state)
        return Blend(state, said)

    return jax.lax.fori_loop(first, last, call, blend)


def start(method: solvers.Solver, noise: Float[jax.Array, "total h w c"], windows: Laid) -> Blend:
    """Where the windows begin, filled up to the program's frames."""
    x = jnp.pad(noise, ((0, windows.frames - len(noise)), (0, 0), (0, 0), (0, 0)))
    return Blend(method.start(x), jnp.zeros_like(x))


def solve(
    run: Callable[[Who, Blend, Any, Any], Blend], blend: Blend, parts: Iterable[tuple[Who, slice]], calls: int, *,
    shown: bool,
) -> Float[jax.Array, "frames h w c"]:  # fmt: skip
    """Clean latents of all clips: `sampler.solve` with the windows' velocities blended at every step.

    Args:
      run: `run(who, blend, first, last)`: `blended` by one of the models, jitted.
      parts: which model takes which steps (`sampler.by_expert`).
      calls: of a step, see `laid`.
      shown: whether a progress bar counts the calls.
    """
    counted = [(who, slice(calls * steps.start, calls * steps.stop)) for who, steps in parts]
    with progress(range(counted[-1][1].stop), "windows rendered", shown=shown) as bar:
        return in_turn(run, blend, counted, bar).state.x


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
