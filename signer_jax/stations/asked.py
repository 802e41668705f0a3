"""What a prompt asks for: the quoted part of "how do you sign 'Anna'?", what stands behind the colon or "sign"."""

import re

from signer_jax.writing import words_of

_ASKED = re.compile(  # in a `plain` text
    r"(?<!\w)['\"](.+?)['\"](?!\w)|:\s+([^:]+)$"
    r"|\b(?:how (?:do|does|can|would|should) \w+ sign|sign for|please sign|wie gebärde[nt]? \w+|gebärde für"
    r"|bitte gebärden?)\s+(?!['\"])([^:]+)$",
    re.IGNORECASE,
)

# What may stand around it: the words of a prompt, which say nothing of their own.
_AROUND = frozenset({
    "how", "do", "does", "can", "would", "should", "could", "you", "i", "we", "they", "one", "to", "sign", "signs",
    "signed", "what", "is", "the", "a", "an", "for", "please", "show", "me", "tell", "in", "language", "asl", "word",
    "gesture", "and", "or", "wie", "gebärdet", "gebärde", "gebärden", "gebärdest", "man", "du", "ich", "wir", "was",
    "ist", "die", "das", "der", "für", "bitte", "zeig", "zeige", "mir", "dgs", "gebärdensprache", "wort", "heißt",
    "und", "oder",
})  # fmt: skip


def asked(text: str) -> list[tuple[int, int]]:
    """Where what is asked for begins and ends, in a `plain` text; nothing where it is no prompt."""
    return [found.span(found.lastindex or 0) for found in _ASKED.finditer(text)]


def asked_alone(text: str) -> str:
    """What is asked for, where around it are words of a prompt alone; else the whole text."""
    spans = asked(text)
    around = [
        word.key for word in words_of(text) if not any(start <= word.start and word.end <= end for start, end in spans)
    ]
    inside = " ".join(text[start:end] for start, end in spans)
    return inside if words_of(inside) and _AROUND.issuperset(around) else text
