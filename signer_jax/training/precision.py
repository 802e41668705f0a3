"""What is encoded to be kept is float32, its products too.

Unless it is told otherwise a TPU takes bfloat16 passes for a product of float32 numbers, an Ampere GPU TF32: eight or
ten bits of the 23, in arrays that say float32.
"""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import jax

from signer_jax.errors import SignerError
from signer_jax.storage import REMAKE

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


def check(directory: Path, noted: str) -> None:
    """Raises `SignerError` where what a cache holds may have been made in lower precision than `exact`.

    `noted`: what the cache says of it; "" of one of before any did, which is taken on a CPU: that computes in no other.
    """
    if noted != PRECISION and (noted or jax.default_backend() != "cpu"):
        raise SignerError(
            f"{directory}: was encoded in products of {noted or 'default'} precision, this run needs {PRECISION}; "
            f"{REMAKE}"
        )
