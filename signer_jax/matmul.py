"""The matrix product of the dense layers, with its gradients written out, and convolutions over time by it.

Automatic differentiation makes a kernel's gradient as (gradientᵀ · x)ᵀ, and XLA's CPU backend turns the left factor of
a product round in memory, element by element. The narrower of the two is the one to turn: the same numbers, at the
models' shapes in .54 to 1.0 of the CPU time (`tests/benchmarks/matmul.py`).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float


@jax.custom_vjp
def matmul(x: Float[jax.Array, "*b c"], kernel: Float[jax.Array, "c o"]) -> Float[jax.Array, "*b o"]:
    """x · kernel. Differentiable in reverse mode, any number of times; not in forward mode."""
    return _product(x, kernel)


def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # The bare product, which a rematerialisation policy sees.
    return _product(x, kernel), (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    leading = tuple(range(x.ndim - 1))
    by_x = lax.dot_general(gradient, kernel, (((x.ndim - 1,), (1,)), ((), ())))
    if x.shape[-1] > gradient.shape[-1]:
        return by_x, lax.dot_general(gradient, x, ((leading, leading), ((), ()))).T
    return by_x, lax.dot_general(x, gradient, ((leading, leading), ((), ())))


matmul.defvjp(_forward, _backward)


def dense_dot(x: jax.Array, kernel: jax.Array, dimensions: Any, precision: Any = None, **_: Any) -> jax.Array:
    """`matmul` as the `dot_general` of `flax.linen.Dense`: the last axis of x and the kernel's first are contracted."""
    assert dimensions == (((x.ndim - 1,), (0,)), ((), ())) and precision is None, (dimensions, precision)
    return matmul(x, kernel)


def conv_over_time(
    x: Float[jax.Array, "b t c"], kernel: Float[jax.Array, "k c o"], strides: Any, padding: Any, **_: Any
) -> Float[jax.Array, "b t-k+1 o"]:
    """Cross-correlation over time without padding, as the `conv_general_dilated` of `flax.linen.Conv`.

    One matrix product over the k frames that each frame sees. XLA's CPU backend makes the kernel's gradient of its own
    form in 20 times the time of all else in the stabiliser's step.
    """
    assert tuple(strides) == (1,) and padding == "VALID", (strides, padding)
    taps, frames = kernel.shape[0], x.shape[1] - kernel.shape[0] + 1
    seen = jnp.concatenate([x[:, i : i + frames] for i in range(taps)], axis=-1)
    return matmul(seen, kernel.reshape(-1, kernel.shape[-1]))
