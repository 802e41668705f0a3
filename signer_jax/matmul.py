"""The matrix product of the dense layers, with its gradients written out.

Automatic differentiation makes a kernel's gradient as (gradientᵀ · x)ᵀ, and XLA's CPU backend then also turns round
the wide factor in memory. Contracting x with the gradient in the order of the kernel's own axes gives the same numbers;
at the models' shapes in .54 to 1.15 of the CPU time (`tests/benchmarks/matmul.py`).
"""

from typing import Any

import jax
from jax import lax
from jaxtyping import Float


@jax.custom_vjp
def matmul(x: Float[jax.Array, "*b c"], kernel: Float[jax.Array, "c o"]) -> Float[jax.Array, "*b o"]:
    """x · kernel. Differentiable in reverse mode, any number of times; not in forward mode."""
    return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return matmul(x, kernel), (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    leading = tuple(range(x.ndim - 1))
    by_x = lax.dot_general(gradient, kernel, (((x.ndim - 1,), (1,)), ((), ())))
    return by_x, lax.dot_general(x, gradient, ((leading, leading), ((), ())))


matmul.defvjp(_forward, _backward)


def dense_dot(x: jax.Array, kernel: jax.Array, dimensions: Any, precision: Any = None, **_: Any) -> jax.Array:
    """`matmul` as the `dot_general` of `flax.linen.Dense`: the last axis of x and the kernel's first are contracted."""
    assert dimensions == (((x.ndim - 1,), (0,)), ((), ())) and precision is None, (dimensions, precision)
    return matmul(x, kernel)
