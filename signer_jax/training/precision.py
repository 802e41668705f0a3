"""In which precision the products of a cache's encoder were (`renderer/exact.py`)."""

from pathlib import Path

import jax

from signer_jax.errors import SignerError
from signer_jax.renderer.exact import PRECISION
from signer_jax.storage import REMAKE


def check(directory: Path, noted: str) -> None:
    """Raises `SignerError` where what a cache holds may have been made in lower precision than that.

    `noted`: what the cache says of it; "" of one of before any did, which is taken on a CPU: that computes in no other.
    """
    if noted != PRECISION and (noted or jax.default_backend() != "cpu"):
        raise SignerError(
            f"{directory}: was encoded in products of {noted or 'default'} precision, this run needs {PRECISION}; "
            f"{REMAKE}"
        )
