"""The signers: their bodies, their habits, and how each of them signs a gloss (variants of its citation form)."""

from dataclasses import dataclass, replace
from functools import cache
from random import Random

from signer_jax.data.builtin.kinematics import Body
from signer_jax.data.builtin.lexicon import draw, form, phonology
from signer_jax.data.builtin.phonology import CHANGES, Phonology
from signer_jax.data.builtin.vocabulary import LETTERS


@dataclass(frozen=True)
class Signer:
    """Who signs. `speed` and `amplitude` are factors on the citation form; `topics` are what they sign most often."""

    name: str
    appearance: str
    speed: float
    amplitude: float
    body: Body
    topics: tuple[str, ...]


SIGNERS: dict[str, Signer] = {
    signer.name: signer
    for signer in (
        Signer("amira", "teal", 1.0, 1.0, Body(), ("home", "weather")),
        Signer("bruno", "navy", 0.86, 1.12, Body(0.73, 0.65, 1.06, 1.02, 0.32), ("work", "travel", "health")),
        Signer("chen", "rust", 1.18, 0.88, Body(0.67, 0.60, 0.96, 0.98, 0.28), ("school", "leisure")),
        Signer("dora", "plum", 0.94, 1.0, Body(0.70, 0.60, 1.0, 1.0, 0.30), ("food", "family", "everyday")),
    )
}
VARYING = 0.7  # share of the glosses that are signed differently by some signers (letters never are)
_OPEN_SPACE = ("neutral", "side", "low", "high", "chest", "side_chest")


def home_signer(topic: str) -> Signer:
    """Who signs most about this topic."""
    return next((signer for signer in SIGNERS.values() if topic in signer.topics), SIGNERS["dora"])


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
    """How `signer` signs `gloss`: the citation form, or for many glosses one of up to two other forms."""
    base = phonology(gloss, language)
    rng = Random(f"variants {language} {gloss}")
    if gloss in LETTERS or rng.random() >= VARYING:
        return base
    forms = [base]
    while len(forms) < 3:
        candidate = _changed(base, rng)
        if form(candidate) not in {form(known) for known in forms}:
            forms.append(candidate)
    # At least two different forms are in use; who uses which is drawn.
    choices = [0, 1, *(rng.randrange(3) for _ in range(len(SIGNERS) - 2))]
    rng.shuffle(choices)
    return forms[choices[list(SIGNERS).index(signer)]]
