"""Inception v3 as FID takes it: 2,048 features of a picture, in jax, from the weights that pytorch-fid publishes.

Szegedy et al. 2016 in the form of TensorFlow's 2015 graph, by the facts of pytorch-fid (mseitzer, `inception.py`): a
picture of any size is resized to 299 x 299 (bilinear, corners not aligned), its values are -1 to 1; average pools of
the blocks do not count what lies beyond the edge, and the last block has a maximum there. Layers are called as in
torchvision, `BLOCK.LAYER.conv.weight` beside `….bn.weight`, `.bias`, `.running_mean` and `.running_var`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from signer_jax.metrics.frechet import Features
from signer_jax.types import Array

SIDE, WIDTH = 299, 2048
BATCH = 16  # pictures
_EPSILON = 1e-3
_NORM = ("weight", "bias", "running_mean", "running_var")


class Layer(NamedTuple):
    """A convolution with its norm; `same`: half a kernel of zeros around, so that the size stays."""

    inputs: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    same: bool = True


def _block_a(width: int, pool: int) -> dict[str, Layer]:
    return {
        "branch1x1": Layer(width, 64),
        "branch5x5_1": Layer(width, 48), "branch5x5_2": Layer(48, 64, (5, 5)),
        "branch3x3dbl_1": Layer(width, 64), "branch3x3dbl_2": Layer(64, 96, (3, 3)),
        "branch3x3dbl_3": Layer(96, 96, (3, 3)), "branch_pool": Layer(width, pool),
    }  # fmt: skip


def _block_c(width: int) -> dict[str, Layer]:
    row, column = (1, 7), (7, 1)
    return {
        "branch1x1": Layer(768, 192),
        "branch7x7_1": Layer(768, width), "branch7x7_2": Layer(width, width, row),
        "branch7x7_3": Layer(width, 192, column),
        "branch7x7dbl_1": Layer(768, width), "branch7x7dbl_2": Layer(width, width, column),
        "branch7x7dbl_3": Layer(width, width, row), "branch7x7dbl_4": Layer(width, width, column),
        "branch7x7dbl_5": Layer(width, 192, row), "branch_pool": Layer(768, 192),
    }  # fmt: skip


def _block_e(width: int) -> dict[str, Layer]:
    row, column = (1, 3), (3, 1)
    return {
        "branch1x1": Layer(width, 320),
        "branch3x3_1": Layer(width, 384), "branch3x3_2a": Layer(384, 384, row), "branch3x3_2b": Layer(384, 384, column),
        "branch3x3dbl_1": Layer(width, 448), "branch3x3dbl_2": Layer(448, 384, (3, 3)),
        "branch3x3dbl_3a": Layer(384, 384, row), "branch3x3dbl_3b": Layer(384, 384, column),
        "branch_pool": Layer(width, 192),
    }  # fmt: skip


_STEM = {
    "Conv2d_1a_3x3": Layer(3, 32, (3, 3), 2, False), "Conv2d_2a_3x3": Layer(32, 32, (3, 3), same=False),
    "Conv2d_2b_3x3": Layer(32, 64, (3, 3)), "Conv2d_3b_1x1": Layer(64, 80),
    "Conv2d_4a_3x3": Layer(80, 192, (3, 3), same=False),
}  # fmt: skip
_BLOCKS: dict[str, dict[str, Layer]] = {
    "Mixed_5b": _block_a(192, 32), "Mixed_5c": _block_a(256, 64), "Mixed_5d": _block_a(288, 64),
    "Mixed_6a": {
        "branch3x3": Layer(288, 384, (3, 3), 2, False),
        "branch3x3dbl_1": Layer(288, 64), "branch3x3dbl_2": Layer(64, 96, (3, 3)),
        "branch3x3dbl_3": Layer(96, 96, (3, 3), 2, False),
    },
    **{f"Mixed_6{name}": _block_c(width) for name, width in zip("bcde", (128, 160, 160, 192), strict=True)},
    "Mixed_7a": {
        "branch3x3_1": Layer(768, 192), "branch3x3_2": Layer(192, 320, (3, 3), 2, False),
        "branch7x7x3_1": Layer(768, 192), "branch7x7x3_2": Layer(192, 192, (1, 7)),
        "branch7x7x3_3": Layer(192, 192, (7, 1)), "branch7x7x3_4": Layer(192, 192, (3, 3), 2, False),
    },
    "Mixed_7b": _block_e(1280), "Mixed_7c": _block_e(2048),
}  # fmt: skip
LAYERS: dict[str, Layer] = _STEM | {
    f"{name}.{one}": layer for name, block in _BLOCKS.items() for one, layer in block.items()
}


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every weight that the features need, by its published name. The classifier is not among them."""
    for name, layer in LAYERS.items():
        yield f"{name}.conv.weight", (layer.outputs, layer.inputs, *layer.kernel)
        yield from ((f"{name}.bn.{part}", (layer.outputs,)) for part in _NORM)


def features(weights: Mapping[str, Float[np.ndarray, "..."]]) -> Features:
    """`pictures -> [n, 2048]`, `BATCH` pictures at a time on jax's device; `weights` has what `shapes` lists."""
    params = {name: jnp.asarray(weights[name], jnp.float32) for name, _ in shapes()}
    program = jax.jit(pooled)

    def extract(pictures: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
        found = []
        for start in range(0, len(pictures), BATCH):
            part = pictures[start : start + BATCH]
            whole = np.concatenate([part, np.zeros((BATCH - len(part), *part.shape[1:]), np.uint8)])
            found.append(np.asarray(program(params, whole))[: len(part)])
        return np.concatenate(found) if found else np.zeros((0, WIDTH))

    return extract


def pooled(params: Mapping[str, Array], pictures: Array) -> Float[Array, "n 2048"]:
    """The features of pictures `[n, h, w, 3]` of 0 to 255, by weights of their published names and shapes."""
    n, _, _, channels = pictures.shape
    x = jnp.asarray(pictures, jnp.float32) / 255
    x = jax.image.resize(x, (n, SIDE, SIDE, channels), "bilinear", antialias=False) * 2 - 1

    def layer(name: str, x: jax.Array) -> jax.Array:
        return _convolved(params, name, LAYERS[name], x)

    x = layer("Conv2d_2b_3x3", layer("Conv2d_2a_3x3", layer("Conv2d_1a_3x3", x)))
    x = _most(x, stride=2, same=False)
    x = _most(layer("Conv2d_4a_3x3", layer("Conv2d_3b_1x1", x)), stride=2, same=False)
    for name in _BLOCKS:
        x = _through(x, name, layer)
    return x.mean(axis=(1, 2))


def _through(x: jax.Array, name: str, layer: Callable[[str, jax.Array], jax.Array]) -> jax.Array:
    """A block: its branches beside one another."""

    def chain(*names: str) -> jax.Array:
        out = x
        for one in names:
            out = layer(f"{name}.{one}", out)
        return out

    def forked(*names: str, ends: tuple[str, str]) -> list[jax.Array]:
        out = chain(*names)
        return [layer(f"{name}.{end}", out) for end in ends]

    def numbered(branch: str, count: int) -> list[str]:
        return [f"{branch}_{k}" for k in range(1, count + 1)]

    def pool() -> jax.Array:
        pooled = _most(x, stride=1, same=True) if name == "Mixed_7c" else _mean(x)
        return layer(f"{name}.branch_pool", pooled)

    if name.startswith("Mixed_5"):
        parts = [chain("branch1x1"), chain(*numbered("branch5x5", 2)), chain(*numbered("branch3x3dbl", 3)), pool()]
    elif name == "Mixed_6a":
        parts = [chain("branch3x3"), chain(*numbered("branch3x3dbl", 3)), _most(x, stride=2, same=False)]
    elif name.startswith("Mixed_6"):
        parts = [chain("branch1x1"), chain(*numbered("branch7x7", 3)), chain(*numbered("branch7x7dbl", 5)), pool()]
    elif name == "Mixed_7a":
        parts = [chain(*numbered("branch3x3", 2)), chain(*numbered("branch7x7x3", 4)), _most(x, stride=2, same=False)]
    else:
        parts = [
            chain("branch1x1"),
            *forked("branch3x3_1", ends=("branch3x3_2a", "branch3x3_2b")),
            *forked("branch3x3dbl_1", "branch3x3dbl_2", ends=("branch3x3dbl_3a", "branch3x3dbl_3b")),
            pool(),
        ]
    return jnp.concatenate(parts, axis=-1)


def _convolved(params: Mapping[str, Array], name: str, layer: Layer, x: jax.Array) -> jax.Array:
    scale, shift, mean, variance = (jnp.asarray(params[f"{name}.bn.{part}"]) for part in _NORM)
    padding = [(side // 2, side // 2) if layer.same else (0, 0) for side in layer.kernel]
    x = jax.lax.conv_general_dilated(
        x, jnp.asarray(params[f"{name}.conv.weight"]), (layer.stride, layer.stride), padding,
        dimension_numbers=("NHWC", "OIHW", "NHWC"), precision=jax.lax.Precision.HIGHEST,
    )  # fmt: skip
    return jax.nn.relu((x - mean) * (scale * jax.lax.rsqrt(variance + _EPSILON)) + shift)


def _window(x: jax.Array, start: float, of: Callable, stride: int, same: bool) -> jax.Array:
    edge = (1, 1) if same else (0, 0)
    return jax.lax.reduce_window(x, start, of, (1, 3, 3, 1), (1, stride, stride, 1), ((0, 0), edge, edge, (0, 0)))


def _most(x: jax.Array, *, stride: int, same: bool) -> jax.Array:
    return _window(x, -jnp.inf, jax.lax.max, stride, same)


def _mean(x: jax.Array) -> jax.Array:
    """Over three by three, of what lies within the picture."""
    return _window(x, 0.0, jax.lax.add, 1, True) / _window(jnp.ones_like(x[:1, :, :, :1]), 0.0, jax.lax.add, 1, True)
