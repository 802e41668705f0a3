"""What signing reads of a trained run beside its weights: its texts' states, and its pictures as CLIP sees them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from jax.sharding import Mesh

from signer_jax.renderer.variants import VARIANTS
from signer_jax.settings import Settings
from signer_jax.training import partitioning, pictures, text_states
from signer_jax.training.encoders import text_encoder, tower
from signer_jax.training.pictures import Pictures, Tower
from signer_jax.training.text_states import TextEncoder, TextStates

_KEPT = 32  # texts whose states a signer holds: up to 8 MB each


class Texts:
    """A trained run's text encoder, for the texts that are signed: read where one is new, and given back at once.

    The states of the last texts are kept.
    """

    def __init__(self, encoder: TextEncoder, known: TextStates, negative: str, mesh: Mesh):
        self._encoder, self._known, self._mesh = encoder, known, mesh
        self._states: dict[str, text_states.States] = {}
        self.null = known.of(negative)

    def of(self, texts: Sequence[str]) -> list[text_states.States]:
        """The states of each text; all that are new are encoded in one go.

        Raises `SignerError` where the encoder is another one than the run was trained with.
        """
        asked = list(dict.fromkeys(texts))
        states = {text: self._states[text] for text in asked if text in self._states}
        states |= {text: self._known.of(text) for text in asked if text not in states and text in self._known.places}
        if new := [text for text in asked if text not in states]:
            text_states.check_same(self._known, self._encoder)
            states |= dict(text_states.encode(self._encoder, new, self._mesh))
        before = {text: one for text, one in self._states.items() if text not in states}
        self._states = dict(list({**before, **states}.items())[-_KEPT:])
        return [states[text] for text in texts]


def open_texts(settings: Settings, workdir: Path) -> Texts | None:
    """None where the run names no text encoder. Raises `SignerError` where it, or what training kept, is gone."""
    encoder = text_encoder(settings)
    if encoder is None:
        return None
    known = TextStates.open(workdir / "text_states")
    return Texts(encoder, known, settings.renderer.negative_prompt, partitioning.own_mesh(asdict(settings.mesh)))


class Looks:
    """A trained run's reference pictures, and CLIP for a picture that is none of them: read where one is given."""

    def __init__(self, known: Pictures, seer: Tower | None):
        self.banks = known.banks
        self._known, self._tower = known, seer
        self._seer: pictures.Seer | None = None

    def tokens(self, picture: pictures.Picture) -> pictures.Tokens | None:
        """CLIP's tokens, None where the run has no tower. Raises `SignerError` where it is another than in training."""
        if self._tower is None:
            return None
        if self._seer is None:
            pictures.check_same(self._known, self._tower)
            self._seer = pictures.Seer(self._tower)
        return self._seer([picture])[0]


def open_looks(settings: Settings, workdir: Path) -> Looks | None:
    """None for a variant whose reference is no picture of its own. Raises `SignerError` as `Pictures.open`."""
    variant = VARIANTS[settings.renderer.variant]
    if not (variant.front or variant.first):
        return None
    return Looks(Pictures.open(workdir / "pictures"), tower(settings))
