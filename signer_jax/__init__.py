"""signer_jax: text or a prompt in, a sign-language video out.

from signer_jax import Signer
Signer.load("runs/demo").sign("tomorrow i will open the door")
"""

from typing import TYPE_CHECKING, Any

from signer_jax.errors import SignerError

if TYPE_CHECKING:
    from signer_jax.pipeline import Signer
    from signer_jax.types import Signed

__all__ = ["Signed", "Signer", "SignerError", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported when asked for: `signer --help` should not wait for jax.
    if name in ("Signed", "Signer"):
        from signer_jax import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'signer_jax' has no attribute {name!r}")
