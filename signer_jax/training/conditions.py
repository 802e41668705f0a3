"""What a published model reads beside the latents and the pose: where its encoders lie, and the share of it that each
training example gets.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from signer_jax.data.records import Corpus
from signer_jax.distributed import first_makes
from signer_jax.interop import state_dict
from signer_jax.renderer.render import Renderer
from signer_jax.renderer.text_encoder import ROWS
from signer_jax.renderer.variants import VARIANTS
from signer_jax.settings import Settings
from signer_jax.training import partitioning, text_states
from signer_jax.training.text_states import TextEncoder, TextStates

# (motion, its first frame, the example's generator) -> arrays of the example.
Beside = Callable[[int, int, np.random.Generator], dict[str, Any]]


def check(settings: Settings) -> None:
    """Raises `SignerError` for an encoder that the video transformer cannot read, before anything long starts."""
    if {"images", "renderer", "joint"} & set(settings.stages):
        text_encoder(settings)


def text_encoder(settings: Settings) -> TextEncoder | None:
    """The text encoder that the settings name, if any. Raises `SignerError` where it does not fit."""
    c = settings.renderer
    if not c.text_encoder:
        return None
    variant = VARIANTS[c.variant]
    return TextEncoder.at(c.text_encoder, _width(settings, "text_dim", variant.text_dim), variant.text_rows or ROWS)


def _width(settings: Settings, key: str, published: int | None) -> int:
    """A width that the video transformer takes: its config's where published weights are named, else the variant's."""
    if settings.renderer.init:
        folder = Path(settings.renderer.init)
        inside = folder / "transformer"
        found = state_dict.read_config(inside if inside.is_dir() and not (folder / "config.json").exists() else folder)
        if type(found.get(key)) is int:
            return found[key]
    return published or 0


def said(settings: Settings) -> list[str]:
    """What is to be known of encoders that are not there, a line each."""
    c = settings.renderer
    if not {"images", "renderer", "joint"} & set(settings.stages) or VARIANTS[c.variant].text == "slul":
        return []
    if c.text_encoder:
        return []
    return [
        f"config.renderer.text_encoder is '': the text says nothing to {c.variant!r}, zeros stand in place of its "
        "encoder's states; give the folder of its pipeline"
    ]


# ---- Training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sources:
    """What training examples take from: None for what a run has not."""

    renderer: Renderer
    corpus: Corpus
    texts: TextStates | None
    negative: str  # the prompt that says nothing

    def beside(self) -> Beside:
        """For a stream of windows: `text_states [rows, d]`, zeros past the end, and `text_null [n, d]`."""
        motions = self.corpus.motions("train")
        text_of = lru_cache(maxsize=None)(lambda motion: motions[motion].text)
        rows = self.renderer.variant.text_rows or ROWS

        def arrays(motion: int, start: int, rng: np.random.Generator) -> dict[str, Any]:
            found: dict[str, Any] = {}
            if self.texts is not None:
                states = self.texts.of(text_of(motion))
                found["text_states"] = np.pad(states, ((0, rows - len(states)), (0, 0)))
                found["text_null"] = self.texts.of(self.negative)
            return found

        return arrays


def prepare(settings: Settings, workdir: Path, corpus: Corpus, renderer: Renderer) -> Sources:
    """Everything that the training videos' examples take, computed where it is not there yet."""
    encoder, texts = text_encoder(settings), None
    negative = settings.renderer.negative_prompt
    if encoder is not None:
        mesh = partitioning.own_mesh(asdict(settings.mesh))
        motions = corpus.motions("train")

        def wanted() -> list[str]:
            return [negative, *(motions[i].text for i, (_, video, _) in enumerate(corpus.listed("train")) if video)]

        texts = first_makes("text states", lambda: text_states.prepare(workdir / "text_states", encoder, wanted, mesh))
        texts.of(negative)  # refused here where it is of another one
    return Sources(renderer, corpus, texts, negative)


# ---- Signing ---------------------------------------------------------------------------------------------------------


class Texts:
    """A trained run's text encoder, for the texts that are signed: read where one is new, and given back at once."""

    def __init__(self, encoder: TextEncoder, known: TextStates, negative: str, mesh: Mesh):
        self._encoder, self._known, self._mesh = encoder, known, mesh
        self._states: dict[str, text_states.States] = {}
        self.null = known.of(negative)

    def of(self, texts: Sequence[str]) -> list[text_states.States]:
        """The states of each text; all that are new are encoded in one go.

        Raises `SignerError` where the encoder is another one than the run was trained with.
        """
        self._states |= {text: self._known.of(text) for text in texts if text in self._known.places}
        if new := [text for text in dict.fromkeys(texts) if text not in self._states]:
            text_states.check_same(self._known, self._encoder)
            self._states |= dict(text_states.encode(self._encoder, new, self._mesh))
        return [self._states[text] for text in texts]


def open_texts(settings: Settings, workdir: Path) -> Texts | None:
    """None where the run names no text encoder. Raises `SignerError` where it, or what training kept, is gone."""
    encoder = text_encoder(settings)
    if encoder is None:
        return None
    known = TextStates.open(workdir / "text_states")
    return Texts(encoder, known, settings.renderer.negative_prompt, partitioning.own_mesh(asdict(settings.mesh)))
