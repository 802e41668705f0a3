"""The signers: their bodies, their generations, and how each of them signs a gloss (variants of its citation form).

A signer is young or old, and signs formally or casually. Many signs differ by generation, by register or by both, so
that what a text says of its situation (`situation.py`) decides how its signs are performed.
"""

from dataclasses import dataclass, replace
from functools import cache
from random import Random

from signer_jax.data.builtin.kinematics import Body
from signer_jax.data.builtin.lexicon import draw, form, phonology
from signer_jax.data.builtin.phonology import CHANGES, Phonology
from signer_jax.data.builtin.vocabulary import LETTERS


@dataclass(frozen=True)
class Signer:
    """Who signs. `speed` and `amplitude` are factors on the citation form; `young`, `formal`: generation, register."""

    name: str
    appearance: str
    speed: float
    amplitude: float
    body: Body
    young: bool
    formal: bool


SIGNERS: dict[str, Signer] = {
    signer.name: signer
    for signer in (
        Signer("amira", "teal", 1.0, 1.0, Body(), young=False, formal=False),
        Signer("bruno", "navy", 0.86, 1.12, Body(0.73, 0.65, 1.06, 1.02, 0.32), young=True, formal=True),
        Signer("chen", "rust", 1.18, 0.88, Body(0.67, 0.60, 0.96, 0.98, 0.28), young=True, formal=False),
        Signer("dora", "plum", 0.94, 1.0, Body(0.70, 0.60, 1.0, 1.0, 0.30), young=False, formal=True),
    )
}
VARYING = 0.7  # share of the glosses that are signed differently by some signers (letters never are)
_OPEN_SPACE = ("neutral", "side", "low", "high", "chest", "side_chest")


def signer_of(young: bool, formal: bool) -> Signer:
    """Who is of this generation and register."""
    return next(signer for signer in SIGNERS.values() if (signer.young, signer.formal) == (young, formal))


def _changed(base: Phonology, rng: Random) -> Phonology:
    """The same sign with another location, movement or handshape (or two of these); hands and duration stay."""
    parts = rng.choice((("location",), ("movement",), ("location", "movement"), ("handshape", "location")))
    other = draw(rng)
    while other.hands != base.hands:
        other = draw(rng)
    changed = base
    if "location" in parts and base.hands != "base":
        changed = replace(changed, location=other.location)
    if "movement" in parts or (base.hands == "base" and "location" in parts):
        ends = CHANGES.get(other.movement, (base.handshape, base.handshape))
        changed = replace(changed, movement=other.movement, handshape=ends[0], end_handshape=ends[1])
    if "handshape" in parts and changed.movement not in CHANGES:
        changed = replace(changed, handshape=other.handshape, end_handshape=other.handshape)
    return changed


@cache
def variant(gloss: str, language: str, signer: str) -> Phonology:
    """How `signer` signs `gloss`: the citation form, or for many glosses one of a generation, a register or both."""
    base = phonology(gloss, language)
    rng = Random(f"variants {language} {gloss}")
    if gloss in LETTERS or rng.random() >= VARYING:
        return base
    forms = [base]
    axes = rng.choice((("young",), ("formal",), ("young", "formal")))
    while len(forms) < 2 ** len(axes):
        candidate = _changed(base, rng)
        if form(candidate) not in {form(known) for known in forms}:
            forms.append(candidate)
    rng.shuffle(forms)  # the citation form is anybody's
    return forms[sum(2**i * getattr(SIGNERS[signer], axis) for i, axis in enumerate(axes))]
