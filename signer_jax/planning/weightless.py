"""A run's modules without its corpus and without published weights: what is not here is taken as it is published."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from signer_jax import model as models
from signer_jax.configuration import UNSET
from signer_jax.data.prepare import trains
from signer_jax.interop import t5 as interop_t5
from signer_jax.interop import wan as interop_wan
from signer_jax.model import Model, Readers
from signer_jax.renderer.vae import VideoVAE
from signer_jax.renderer.variants import find
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.settings import Settings
from signer_jax.slul.t5 import T5
from signer_jax.slul.tokenizer import OWN_MASK, Tokenizer


class Module(NamedTuple):
    """What `interop` gives of a folder, as far as modules are built from it."""

    module: Any


class Described(NamedTuple):
    model: Model
    params: Any  # shapes of all parameters, float32
    assumed: tuple[str, ...]  # what was taken for granted, a line each
    mask_id: int = OWN_MASK  # of the vocabulary


def described(settings: Settings) -> Described:
    """The run's modules and its parameters' shapes. Raises `SignerError` as `model.describe` does."""
    assumed: list[str] = []
    vocab_size, mask_id = _pieces(settings, assumed)
    readers = Readers(
        partial(_t5, settings, vocab_size, assumed),
        partial(_vae, settings, assumed),
        partial(_experts, settings, assumed),
    )
    model, _ = models.describe(settings, vocab_size, readers)
    params = jax.eval_shape(lambda: models.init(model, settings, {}, settings.seed))
    return Described(model, params, tuple(assumed), mask_id)


def is_here(path: str) -> bool:
    return bool(path) and path != UNSET and Path(path).exists()


def _pieces(settings: Settings, assumed: list[str]) -> tuple[int, int]:
    """The size of the vocabulary, which a corpus decides, at most the config's; and its mask."""
    parts = {part for stage in settings.stages for part in models.TRAINED[stage]}
    if not trains(settings.data)["sentences"] or not parts & {"slul", "slp_moe"}:
        return 0, OWN_MASK
    if is_here(settings.tokenizer.path):
        tokenizer = Tokenizer.load(settings.tokenizer.path, mask=settings.tokenizer.mask)
        return tokenizer.vocab_size, tokenizer.mask_id
    if is_here(settings.slul.init):
        return 0, OWN_MASK  # the model's own
    size = settings.tokenizer.vocab_size
    assumed.append(f"a vocabulary of {size} pieces (config.tokenizer.vocab_size; a corpus may need fewer)")
    return size, OWN_MASK


def _t5(settings: Settings, vocab_size: int, assumed: list[str], path: str) -> Any:
    if is_here(path):
        return interop_t5.describe(path)
    c = settings.slul
    assumed.append(f"SLUL of the config's own sizes (config.slul.init {path} is not here)")
    sizes = (
        "d_model", "d_kv", "d_ff", "heads", "encoder_layers", "decoder_layers", "relative_buckets",
        "relative_max_distance", "activation", "tie_embeddings", "relative_bias_every_layer", "dropout",
        "embedding_deviation",
    )  # fmt: skip
    return Module(T5(vocab_size=vocab_size, **{name: getattr(c, name) for name in sizes}))


def _vae(settings: Settings, assumed: list[str], path: str) -> Any:
    if is_here(path):
        return interop_wan.describe_vae(path)
    latents = find(settings.renderer.variant).latent_channels or 16
    which = "2.2" if latents == 48 else "2.1"
    assumed.append(f"the autoencoder of Wan {which} as published (config.vae.init {path} is not here)")
    return Module(models.published_vae(latents))


def _experts(settings: Settings, assumed: list[str], path: str, experts: Sequence[str]) -> dict[str, Any]:
    if is_here(path):
        return dict(interop_wan.describe_experts(path, tuple(experts)))
    c, variant = settings.renderer, find(settings.renderer.variant)
    if variant.sizes is not None:
        assumed.append(f"{c.variant} as published (config.renderer.init {path} is not here)")
        module = models.published_transformer(variant)
    else:  # a run's own, exported
        assumed.append(f"a renderer of the config's own sizes (config.renderer.init {path} is not here)")
        vae: VideoVAE = _vae(settings, [], settings.vae.init).module
        sizes = {name: getattr(c, name) for name in ("dim", "heads", "ffn_dim", "layers", "freq_dim", "patch")}
        module = VideoTransformer(
            in_channels=variant.channels(vae.z_dim, vae.temporal_ratio), out_channels=vae.z_dim,
            text_dim=settings.slul.d_model, image_dim=None, eps=1e-6, **sizes,
        )  # fmt: skip
    return {name: Module(module) for name in experts or ("",)}
