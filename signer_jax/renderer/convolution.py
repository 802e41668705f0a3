"""3D convolutions over video, in the form that the platform runs fastest.

TPU and GPU have conv3d natively. XLA's CPU backend does not: there a 3D convolution is one 2D convolution that gives
the contributions of all temporal taps as channels, and a sum of shifted frames; its kernel gradient is one matrix
product a spatial tap, frame by frame where the video is large. Measured on two cores at 16 to 96 channels this is 2
to 6 times XLA's conv3d, forward and backward (`tests/benchmarks/conv3d.py`).
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

# The collection of variables that goes from one chunk of a video to the next, where `apply` is given it as mutable.
CHUNK = "chunk"

# Kernel gradients of videos with more pixels than this go frame by frame.
_PIXELS_AT_ONCE = 16384

Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

_AXES_3D = ("NDHWC", "DHWIO", "NDHWC")
_AXES_2D = ("NHWC", "HWIO", "NHWC")


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv3d(
    x: Float[jax.Array, "b t h w c"],
    kernel: Float[jax.Array, "kt kh kw c o"],
    strides: tuple[int, int, int],
    padding: Padding,
) -> Float[jax.Array, "b t2 h2 w2 o"]:
    """Cross-correlation of a video with a kernel; `padding` is (before, after) zeros for t, h and w.

    The platform that the program is compiled for decides the form, so one trace serves CPU and TPU. Differentiable in
    reverse mode, any number of times; not in forward mode. Gives an empty video where too few frames are left.
    """
    if _frames_out(x.shape[1], kernel.shape[0], strides[0], padding[0]) == 0:
        return native_form(x, kernel, strides, padding)  # nothing to compute: every form gives the empty video
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: channel_form(x, kernel, strides, padding),
        default=lambda x, kernel: native_form(x, kernel, strides, padding),
    )


def _conv3d_forward(x, kernel, strides, padding):
    return conv3d(x, kernel, strides, padding), (x, kernel)


def _conv3d_backward(strides, padding, saved, gradient):
    x, kernel = saved
    if gradient.shape[1] == 0:
        return jnp.zeros_like(x), jnp.zeros_like(kernel)
    transpose = channel_form_transpose if strides == (1, 1, 1) else _transpose(channel_form)
    return lax.platform_dependent(
        x,
        kernel,
        gradient,
        cpu=lambda x, kernel, gradient: transpose(x, kernel, gradient, strides, padding),
        default=lambda x, kernel, gradient: _transpose(native_form)(x, kernel, gradient, strides, padding),
    )


conv3d.defvjp(_conv3d_forward, _conv3d_backward)


def _transpose(form):
    """Autodiff's gradients of a form, as `(x, kernel, gradient, strides, padding) -> (dx, dkernel)`."""
    return lambda x, kernel, gradient, strides, padding: jax.vjp(
        lambda x, kernel: form(x, kernel, strides, padding), x, kernel
    )[1](gradient)


def _frames_out(frames: int, taps: int, stride: int, padding: tuple[int, int]) -> int:
    return max(0, (frames + sum(padding) - taps) // stride + 1)


def native_form(x, kernel, strides, padding):
    """The platform's own conv3d."""
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_AXES_3D)


def tap_form(x, kernel, strides, padding):
    """A sum of 2D convolutions, one a temporal tap; kept for the benchmark."""
    x = jnp.pad(x, ((0, 0), padding[0], (0, 0), (0, 0), (0, 0)))
    taps, step = kernel.shape[0], strides[0]
    frames = _frames_out(x.shape[1], taps, step, (0, 0))
    return sum(
        _per_frame(x[:, i : i + step * (frames - 1) + 1 : step], kernel[i], strides[1:], padding[1:])
        for i in range(taps)
    )


def column_form(x, kernel, strides, padding):
    """One matrix product over gathered patches (im2col); kept for the benchmark."""
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    out = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:4], kernel.shape[:3], strides, strict=True)]
    windows = [
        x[(slice(None), *(slice(i, i + s * (n - 1) + 1, s) for i, n, s in zip(tap, out, strides, strict=True)))]
        for tap in np.ndindex(*kernel.shape[:3])
    ]
    return jnp.concatenate(windows, -1) @ kernel.reshape(-1, kernel.shape[-1])


def channel_form(x, kernel, strides, padding):
    """One 2D convolution to (temporal taps x outputs) channels, then a sum of shifted frames."""
    taps, step = kernel.shape[0], strides[0]
    features = kernel.shape[-1]
    y = _per_frame(x, _taps_as_channels(kernel), strides[1:], padding[1:])
    if taps == 1 and step == 1 and padding[0] == (0, 0):
        return y
    y = jnp.pad(y, ((0, 0), padding[0], (0, 0), (0, 0), (0, 0)))
    frames = _frames_out(y.shape[1], taps, step, (0, 0))
    return sum(
        y[:, i : i + step * (frames - 1) + 1 : step, :, :, i * features : (i + 1) * features] for i in range(taps)
    )


def channel_form_transpose(x, kernel, gradient, strides, padding):
    """The gradients of `channel_form` at stride 1: `(dx, dkernel)`.

    dx is the same form with the kernel turned round; dkernel is one matrix product a spatial tap, over all pixels.
    """
    sizes = kernel.shape[:3]
    turned = kernel[::-1, ::-1, ::-1].swapaxes(-1, -2)
    turned_padding = tuple((k - 1 - p[0], k - 1 - p[1]) for k, p in zip(sizes, padding, strict=True))
    if min(min(p) for p in turned_padding) < 0:
        return _transpose(channel_form)(x, kernel, gradient, strides, padding)
    dx = channel_form(gradient, turned, (1, 1, 1), turned_padding)

    # Frame u of x meets the gradient of frame u + padding - i through the temporal tap i.
    padded = jnp.pad(gradient, ((0, 0), turned_padding[0], (0, 0), (0, 0), (0, 0)))
    x = jnp.pad(x, ((0, 0), (0, 0), *padding[1:], (0, 0)))
    products = _tap_products(x, padded, sizes)
    return dx, jnp.moveaxis(products.reshape(*sizes[1:], x.shape[-1], sizes[0], -1), 3, 0)


def _tap_products(x: jax.Array, gradient: jax.Array, sizes: tuple[int, int, int]) -> jax.Array:
    """xᵀ · gradients of every spatial tap, `[kh kw, c, kt o]`; both padded.

    Of large videos frame by frame: the shifted copies of all frames at once are most of a training step's memory.
    """
    (taps, rows, columns), frames = sizes, x.shape[1]
    h, w = gradient.shape[2:4]

    def product(x: jax.Array, gradient: jax.Array) -> jax.Array:
        count, channels = x.shape[1], x.shape[-1]
        shifted = jnp.concatenate([gradient[:, taps - 1 - i : taps - 1 - i + count] for i in range(taps)], -1)
        shifted = shifted.reshape(-1, shifted.shape[-1])
        places = [x[:, :, i : i + h, j : j + w].reshape(-1, channels) for i in range(rows) for j in range(columns)]
        return jnp.stack([place.T @ shifted for place in places])

    if gradient.shape[0] * frames * h * w <= _PIXELS_AT_ONCE:
        return product(x, gradient)

    def add(total: jax.Array, u: jax.Array) -> tuple[jax.Array, None]:
        one = lax.dynamic_slice_in_dim(x, u, 1, axis=1)
        return total + product(one, lax.dynamic_slice_in_dim(gradient, u, taps, axis=1)), None

    shape = (rows * columns, x.shape[-1], taps * gradient.shape[-1])
    return lax.scan(add, jnp.zeros(shape, gradient.dtype), jnp.arange(frames))[0]


def _taps_as_channels(kernel):
    """`[kt, kh, kw, c, o]` -> `[kh, kw, c, kt * o]`."""
    kernel = jnp.moveaxis(kernel, 0, 3)
    return kernel.reshape(*kernel.shape[:3], -1)


def _per_frame(x, kernel, strides, padding):
    """A 2D convolution of every frame; a 1x1 kernel is a plain matrix product."""
    if kernel.shape[:2] == (1, 1) and strides == (1, 1) and not any(map(any, padding)):
        return x @ kernel[0, 0]
    b, t, h, w, c = x.shape
    y = lax.conv_general_dilated(x.reshape(b * t, h, w, c), kernel, strides, padding, dimension_numbers=_AXES_2D)
    return y.reshape(b, t, *y.shape[1:])


def causal_padding(size: tuple[int, int, int]) -> Padding:
    """Zeros that keep the video's size at stride 1 and let no frame see a later one (odd sizes)."""
    t, h, w = size
    return (t - 1, 0), (h // 2, h // 2), (w // 2, w // 2)


def in_chunks(module: nn.Module) -> bool:
    """Whether `module` is given a video chunk by chunk."""
    return module.is_mutable_collection(CHUNK) and not module.is_initializing()


def is_first_chunk(module: nn.Module) -> bool:
    """Whether this is a video's beginning: its first chunk, or all of it. Ask once a call."""
    if not in_chunks(module):
        return True
    first = not module.has_variable(CHUNK, "begun")
    module.variable(CHUNK, "begun", jnp.zeros, ())
    return first


def after_the_chunk_before(module: nn.Module, x: Float[jax.Array, "b t h w c"], frames: int) -> jax.Array:
    """`x` behind the last `frames` frames of the chunk before, zeros before the first; its own last ones are kept."""
    b, _, *rest = x.shape
    kept = module.variable(CHUNK, "frames", jnp.zeros, (b, frames, *rest), x.dtype)
    x = jnp.concatenate([kept.value, x], axis=1)
    kept.value = x[:, -frames:]
    return x


class Convolution(nn.Module):
    """A 3D convolution with bias; `padding=None` pads causally. Kernel `[kt, kh, kw, in, out]`.

    Given a video in chunks, a causal one sees the frames of the chunk before where it would see zeros.
    """

    features: int
    kernel_size: tuple[int, int, int]
    strides: tuple[int, int, int] = (1, 1, 1)
    padding: Padding | None = None
    dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Float[jax.Array, "b t h w c"]) -> Float[jax.Array, "b t2 h2 w2 o"]:
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        padding = causal_padding(self.kernel_size) if self.padding is None else self.padding
        x = x.astype(self.dtype)
        if self.padding is None and self.kernel_size[0] > 1 and in_chunks(self):
            x = after_the_chunk_before(self, x, self.kernel_size[0] - 1)
            padding = ((0, 0), *padding[1:])
        y = conv3d(x, kernel.astype(self.dtype), self.strides, padding)
        return y + bias.astype(self.dtype)
