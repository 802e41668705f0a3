"""The batch of a stage as its data stream makes it: names, shapes and types, from the settings alone."""

from pathlib import Path

import jax
import numpy as np

from signer_jax.data import buckets
from signer_jax.data.prepare import trains
from signer_jax.interop import clip
from signer_jax.model import Model
from signer_jax.renderer.render import CLIP_TOKENS
from signer_jax.renderer.text_encoder import ROWS
from signer_jax.settings import Settings
from signer_jax.training import conditions, encoders
from signer_jax.training.input_pipeline import bucket_sizes

Shapes = dict[str, tuple[tuple[int, ...], type]]  # of one example


def batch(stage: str, settings: Settings, model: Model) -> dict[str, jax.ShapeDtypeStruct]:
    """A global batch of the stage; with buckets, of the one that has most pixels."""
    rows = settings.stage(stage).batch
    return {
        name: jax.ShapeDtypeStruct((rows, *shape), np.dtype(dtype))
        for name, (shape, dtype) in _example(stage, settings, model).items()
    }


def largest_bucket(part: str, settings: Settings, model: Model) -> buckets.Bucket | None:
    """The bucket of `config.PART.buckets` that takes most memory; None where there are none."""
    if not getattr(settings, part).buckets:
        return None
    return max(bucket_sizes(part, settings, model)[0], key=lambda bucket: bucket.frames * bucket.height * bucket.width)


def _example(stage: str, settings: Settings, model: Model) -> Shapes:
    texts = _tokens(settings) if trains(settings.data)["sentences"] else {}
    if stage == "slul":
        return texts
    if stage == "vae":
        bucket = largest_bucket("vae", settings, model)
        frames, height, width = bucket or (settings.vae.window, *settings.data.size)
        return {"video": ((frames, height, width, 3), np.float32)}
    if stage == "pose":
        return _window(settings, model, settings.pose.window) | texts | _experts(settings, model, settings.pose.window)
    bucket = largest_bucket("renderer", settings, model)
    length, height, width = bucket or (settings.renderer.window, *settings.data.size)
    length = 1 if stage == "images" else length
    frames = max(length, settings.pose.window) if stage == "joint" else length
    example = _window(settings, model, frames) | texts | _latents(settings, model, length, (height, width))
    if stage == "joint":
        example |= _experts(settings, model, frames)
    return example | ({"view": ((2, 2), np.float32)} if bucket else {})


def _tokens(settings: Settings) -> Shapes:
    """`data.windows.tokens`."""
    c = settings.data
    return {
        "source": ((c.max_source,), np.int32),
        "target": ((c.max_target,), np.int32),
        "target_gloss": ((c.max_target,), np.int32),
    }


def _window(settings: Settings, model: Model, t: int) -> Shapes:
    """`MotionWindows.window` without experts."""
    j = len(model.joints)
    return {
        "pose": ((t, j, settings.pose.dims), np.float32),
        "confidence": ((t, j), np.float32),
        "valid": ((t,), np.bool_),
        "last": ((), np.int32),
    }


def _experts(settings: Settings, model: Model, t: int) -> Shapes:
    """What `slp_moe.retrieval.Experts` holds, and the labels."""
    j, c, e, n = len(model.joints), settings.pose.dims, settings.pose.experts, settings.data.max_glosses
    return {
        "candidates": ((e, t, j, c), np.float32),
        "candidate_confidence": ((e, t, j), np.float32),
        "candidate_features": ((n, e, j * (3 * c + 1)), np.float32),
        "candidate_mask": ((n, e), np.bool_),
        "frame_gloss": ((t, n), np.float32),
        "chosen": ((n,), np.int32),
    }


def _latents(settings: Settings, model: Model, length: int, size: tuple[int, int]) -> Shapes:
    """`training.latents.latent_batches`, and what `training.conditions` puts beside it."""
    vae, c, variant = model.vae, settings.renderer, model.renderer.variant
    k, z = 1 + (length - 1) // vae.temporal_ratio, vae.z_dim
    h, w = (side // vae.spatial_ratio for side in size)
    found: Shapes = {
        "latents": ((k, h, w, z), np.float32),
        "latents_start": ((), np.int32),
        "reference": ((h, w, z), np.float32),
        "noise_factor": ((z, z), np.float32),
    }
    if conditions.corpus_constants(settings, model):
        found["constants"] = ((2, z), np.float32)
    if c.text_encoder:
        width = model.renderer.transformer.text_dim
        found["text_states"] = ((variant.text_rows or ROWS, width), np.float32)
        # The empty prompt is an end token; one that says something has at most as many pieces as letters and an end.
        rows = min(variant.text_rows or ROWS, 1 + len(c.negative_prompt))
        found["text_null"] = ((rows, width), np.float32)
    if not (variant.front or variant.first):
        return found
    if variant.first:
        found["shown"] = ((), np.float32)
    if model.renderer.shows_picture:
        found["picture"] = ((*size, 3), np.uint8)
    if c.image_encoder:
        found["clip"] = ((_clip_tokens(settings), model.renderer.transformer.image_dim or 0), np.float32)
    if variant.front and "image" in variant.streams:
        found["blank"] = ((k, h, w, z), np.float32)
    if (face := model.renderer.transformer.face) is not None and c.dropout_each.face < 1.0:
        found["face"] = ((length, face.size, face.size, 3), np.uint8)
    return found


def _clip_tokens(settings: Settings) -> int:
    """The class token and a square picture's patches."""
    if not Path(settings.renderer.image_encoder).exists():
        return CLIP_TOKENS
    tower = encoders.tower(settings)
    assert tower is not None
    module = clip.describe(tower.folder).module
    return 1 + (module.image_size // module.patch) ** 2
