"""Which encoders of a published model a run names: found, checked before anything long starts, said where missing."""

from signer_jax.data.prepare import posed
from signer_jax.errors import SignerError
from signer_jax.interop import wan, wan_original
from signer_jax.renderer.text_encoder import ROWS
from signer_jax.renderer.variants import VARIANTS
from signer_jax.settings import Settings
from signer_jax.training.pictures import Tower
from signer_jax.training.text_states import TextEncoder

STAGES = frozenset({"images", "renderer", "joint"})  # that train the renderer


def check(settings: Settings) -> None:
    """Raises `SignerError` for an encoder that the video transformer cannot read, or that is not whole, and for a
    control that nothing would teach, before anything long starts.
    """
    if not STAGES & set(settings.stages):
        return
    for reads in (text_encoder(settings), tower(settings)):
        if reads is not None:
            reads.check()
    c = settings.renderer
    if not posed(settings.data) and c.control != "none" and not c.stem_features:
        raise SignerError(
            f"config.renderer.control {c.control!r}: the videos of {settings.data.corpus} have no poses to learn it "
            "from; set config.renderer.control=none, and begin the control with the next run, on sign video"
        )


def text_encoder(settings: Settings) -> TextEncoder | None:
    """The text encoder that the settings name, if any. Raises `SignerError` where it does not fit."""
    c = settings.renderer
    if not c.text_encoder:
        return None
    variant = VARIANTS[c.variant]
    width = _width(settings, "text_dim", variant.text_dim)
    return TextEncoder.at(c.text_encoder, width, variant.text_rows or ROWS, c.dtype)


def tower(settings: Settings) -> Tower | None:
    """CLIP's tower that the settings name, if any. Raises `SignerError` where it does not fit."""
    c = settings.renderer
    if not c.image_encoder:
        return None
    return Tower.at(c.image_encoder, _width(settings, "image_dim", VARIANTS[c.variant].clip_dim))


def _width(settings: Settings, key: str, published: int | None) -> int:
    """A width that the video transformer takes: its config's where published weights are named, else the variant's."""
    if init := settings.renderer.init:
        found = wan.describe_experts(init, VARIANTS[settings.renderer.variant].experts)
        return getattr(next(iter(found.values())).module, key) or published or 0
    return published or 0


def said(settings: Settings) -> list[str]:
    """What is to be known of encoders that are not there, and of published weights that are not read, a line each."""
    c = settings.renderer
    variant = VARIANTS[c.variant]
    if not STAGES & set(settings.stages) or variant.text == "slul":
        return []
    lines = []
    if c.init:
        found = wan.describe_experts(c.init, variant.experts).values()
        notes = dict.fromkeys(wan_original.left_out(described.tensors) for described in found)
        lines += [f"config.renderer.init {c.init!r}: {note}" for note in notes if note]
    if not c.text_encoder:
        lines.append(
            f"config.renderer.text_encoder is '': the text says nothing to {c.variant!r}, zeros stand in place of its "
            "encoder's states; give the folder of its pipeline"
        )
    if variant.clip_dim is not None and not c.image_encoder:
        lines.append(
            f"config.renderer.image_encoder is '': zeros stand in place of CLIP's tokens of the reference, which "
            f"{c.variant!r} was trained with; give the folder of its pipeline"
        )
    return lines
