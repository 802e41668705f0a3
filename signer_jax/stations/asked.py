"""What a prompt asks for: the quoted part of "how do you sign 'Anna'?", what stands behind the colon or "sign"."""

import re
from collections.abc import Collection

from signer_jax.writing import words_of

_ASKED = re.compile(  # in a `plain` text
    r"(?<!\w)['\"](.+?)['\"](?!\w)|:\s+([^:]+)$"
    r"|\b(?:how (?:do|does|can|would|should) \w+ sign|sign for|please sign|wie gebärde[nt]? \w+|gebärde für"
    r"|bitte gebärden?)\s+(?!['\"])([^:]+)$",
    re.IGNORECASE,
)


def asked(text: str) -> list[tuple[int, int]]:
    """Where what is asked for begins and ends, in a `plain` text; nothing where it is no prompt."""
    return [found.span(found.lastindex or 0) for found in _ASKED.finditer(text)]


def asked_alone(text: str, telling: Collection[str]) -> str:
    """What is asked for, where no word around it is a `telling` one; else the whole text."""
    spans = asked(text)
    around = [
        word.key for word in words_of(text) if not any(start <= word.start and word.end <= end for start, end in spans)
    ]
    inside = " ".join(text[start:end] for start, end in spans)
    return inside if words_of(inside) and not any(word in telling for word in around) else text
