"""What is encoded is float32, its products too: what is kept in caches, and what a step or signing encodes beside them.

Unless it is told otherwise a TPU takes bfloat16 passes for a product of float32 numbers, an Ampere GPU TF32: eight or
ten bits of the 23, in arrays that say float32.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

PRECISION = "highest"

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")


def exact(function: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """The function, to be jitted: all products that it traces are in full precision, where it does not say another."""

    @wraps(function)
    def traced(*args: Inputs.args, **options: Inputs.kwargs) -> Output:
        with jax.default_matmul_precision(PRECISION):
            return function(*args, **options)

    return traced
