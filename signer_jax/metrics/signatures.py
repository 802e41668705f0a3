"""What a score depends on, in one string: without it, two figures of one name cannot be compared (as with BLEU's)."""

from signer_jax import __version__


def signature(**parts: str | int | float) -> str:
    """`name:value|…|version:…`, in the order given. A value says nothing with | or a line break in it."""
    said = [f"{name}:{value:g}" if isinstance(value, float) else f"{name}:{value}" for name, value in parts.items()]
    return "|".join((*said, f"version:{__version__}"))
