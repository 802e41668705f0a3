"""The autoencoder chunk by chunk: in memory that does not grow with the video, and equal to the whole pass.

Encoding takes one frame and then `temporal_ratio` at a time, decoding one latent frame at a time, as the original
walks. What a convolution saw last goes from chunk to chunk (`convolution.CHUNK`). The first chunk is a program of its
own, since it skips the resampling in time; all others are one program.

`encode` and `decode` are one compiled scan each. `encoded` and `decoded` hand out what is done while they go on, for
videos that no device holds. `to_latents` and `to_video` are what training and signing call: the scan where the
autoencoder compresses time, as published ones do, and one pass where it does not.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from signer_jax.layout import constrain, ways
from signer_jax.progress import progress
from signer_jax.renderer.convolution import CHUNK
from signer_jax.renderer.exact import exact
from signer_jax.renderer.vae import VideoVAE, spread
from signer_jax.types import Array

_PIXELS = 1 << 24  # of all frames that a device encodes at once, but for a single window that has more
_MOST_ROWS = 8


def rows_at_once(frames: int, height: int, width: int) -> int:
    """How many windows of this size a device encodes at once."""
    return min(_MOST_ROWS, max(1, _PIXELS // (frames * height * width)))


@exact
def to_latents(module: VideoVAE, params: Any, video: Float[Array, "b t h w c"]) -> Float[jax.Array, "b t2 h2 w2 z"]:
    """The posterior's mean, not normalised, to be jitted: in level memory, or in one pass where none is put together in
    time, which is faster for windows of few frames. Of many rows a device takes some at a time (`rows_at_once`). Raises
    `SignerError` as `VideoVAE.encode`.

    In float32, its products too, whatever the module computes in: bfloat16 drifts, and what a step encodes beside
    cached latents must be what the cache would hold.
    """
    module = module.clone(dtype=jnp.float32)

    def some(video: jax.Array) -> jax.Array:
        if module.temporal_ratio > 1:
            return encode(module, params, video)[0]
        mean: Any = module.apply({"params": params}, video, method="encode")[0]
        return mean

    return _some_rows_at_a_time(some, jnp.asarray(video))


def _some_rows_at_a_time(function: Callable[[jax.Array], jax.Array], video: jax.Array) -> jax.Array:
    """`function(video)`, each device's rows one part after the other where they are more than it encodes at once.

    Parts are as large as each other: the last is filled up with its last row, which is dropped again.
    """
    b, whole = len(video), ("batch", *(None,) * (video.ndim - 1))
    devices = ways("batch") if b % ways("batch") == 0 else 1
    most = rows_at_once(*video.shape[1:4])
    if b <= devices * most:
        return function(video)
    each = b // devices
    count = -(-each // most)
    once = -(-each // count)
    # A device's rows lie next to each other: each part is of all devices, and no row goes to another one.
    split = video.reshape(devices, each, *video.shape[1:])
    split = jnp.pad(split, ((0, 0), (0, count * once - each), *((0, 0),) * (video.ndim - 1)), mode="edge")
    split = split.reshape(devices, count, once, *video.shape[1:])
    parts = jnp.moveaxis(split, 1, 0).reshape(-1, devices * once, *video.shape[1:])
    done = jax.lax.map(jax.checkpoint(lambda part: function(constrain(part, *whole))), parts)
    done = jnp.moveaxis(done.reshape(count, devices, once, *done.shape[2:]), 0, 1)
    return done.reshape(devices, count * once, *done.shape[3:])[:, :each].reshape(b, *done.shape[3:])


def to_video(module: VideoVAE, params: Any, latents: Float[Array, "b t2 h2 w2 z"]) -> Float[jax.Array, "b t h w c"]:
    """The video of latents, clipped, to be jitted; see `to_latents`."""
    if module.temporal_ratio > 1:
        return decode(module, params, jnp.asarray(latents))
    video: Any = module.apply({"params": params}, latents, method="decode")
    return video


def encode(
    module: VideoVAE, params: Any, video: Float[jax.Array, "b t h w c"]
) -> tuple[Float[jax.Array, "b t2 h2 w2 z"], Float[jax.Array, "b t2 h2 w2 z"]]:
    """`VideoVAE.encode` in chunks, to be jitted. Raises `SignerError` as it does."""
    module.check(video.shape[1:])
    return _scan(module, params, video, "encode_chunk", module.temporal_ratio)


def decode(module: VideoVAE, params: Any, latents: Float[jax.Array, "b t2 h2 w2 z"]) -> Float[jax.Array, "b t h w c"]:
    """`VideoVAE.decode` in chunks, clipped, to be jitted."""
    return _scan(module, params, latents, "decode", 1)


def encoded(
    module: VideoVAE, params: Any, video: Float[np.ndarray, "b t h w c"], *, shown: bool
) -> Iterator[Float[jax.Array, "b 1 h2 w2 z"]]:
    """The posterior's mean of one latent frame after the other; with a progress bar where `shown`."""
    module.check(video.shape[1:])
    later = range(1, video.shape[1], module.temporal_ratio)
    chunks = (video[:, i : i + module.temporal_ratio] for i in later)
    for mean, _ in _walk(module, params, video[:, :1], chunks, "encode_chunk", 1 + len(later), shown):
        yield mean


def decoded(
    module: VideoVAE, params: Any, latents: Float[np.ndarray, "b t2 h2 w2 z"], *, shown: bool
) -> Iterator[Float[jax.Array, "b t h w c"]]:
    """The frames of one latent frame after the other, clipped: one, then `temporal_ratio` each."""
    frames = latents.shape[1]
    chunks = (latents[:, k : k + 1] for k in range(1, frames))
    yield from _walk(module, params, latents[:, :1], chunks, "decode", frames, shown)


@partial(jax.jit, static_argnums=(0, 4))
def _chunk(module: VideoVAE, params: Any, before: Any, frames: jax.Array, method: str) -> tuple[Any, Any]:
    """One chunk, and what the next one needs of it; `before` is empty for the first."""
    done, kept = module.apply({"params": params, **before}, frames, method=method, mutable=[CHUNK])
    # Left as it is taken: of several devices each further chunk is the program of the one before.
    return done, jax.tree.map(lambda x: spread(x) if x.ndim == 5 else x, kept)


def _walk(
    module: VideoVAE, params: Any, first: Any, later: Iterable[Any], method: str, count: int, shown: bool
) -> Iterator[Any]:
    bar = progress(range(count), "frames decoded" if method == "decode" else "frames encoded", shown=shown)
    done, before = _chunk(module, params, {}, first, method)
    with bar:
        yield done
        bar.update()
        for frames in later:
            done, before = _chunk(module, params, before, frames, method)
            yield done
            bar.update()


def _scan(module: VideoVAE, params: Any, whole: jax.Array, method: str, size: int) -> Any:
    """The first frame, then a scan over chunks of `size`, each written where it belongs in the result.

    Backwards each chunk is computed again from what the one before left it, so that no chunk's insides are kept.
    """
    done, before = _chunk(module, params, {}, whole[:, :1], method)
    count = (whole.shape[1] - 1) // size
    if count == 0:
        return done
    one = jax.eval_shape(lambda: _chunk(module, params, before, whole[:, 1 : 1 + size], method)[0])

    def room(first: jax.Array, chunk: Any) -> jax.Array:
        b, _, *rest = first.shape
        empty = jnp.zeros((b, first.shape[1] + count * chunk.shape[1], *rest), first.dtype)
        return jax.lax.dynamic_update_slice_in_dim(empty, first, 0, axis=1)

    def step(carry: tuple[Any, Any], i: jax.Array) -> tuple[tuple[Any, Any], None]:
        result, before = carry
        frames = jax.lax.dynamic_slice_in_dim(whole, 1 + size * i, size, axis=1)
        done, before = _chunk(module, params, before, frames, method)

        def put(result: jax.Array, done: jax.Array, first: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(result, done, first.shape[1] + i * done.shape[1], axis=1)

        return (jax.tree.map(put, result, done, first), before), None

    first, result = done, jax.tree.map(room, done, one)
    return jax.lax.scan(jax.checkpoint(step, prevent_cse=False), (result, before), jnp.arange(count))[0][0]
