"""What a video is made from: a small pytree of optional streams. A variant's record says which of them it takes.

Every stream may be absent (None), for all examples alike; one that is there can be dropped for some of them, as
training and guidance need it: its null is what the model takes for nothing said.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from signer_jax.renderer import vae_chunks
from signer_jax.types import Array

# Pictures in [-1, 1] to normalised latents, `[b, t, y, x, 3] -> [b, k, h, w, z]`: the autoencoder, its weights with it.
Encode = Callable[[Array], Array]


def encoder(vae: Any, params: Mapping, normalise: Callable[[Any], Any] | None = None) -> Encode:
    """The autoencoder with its parameters (`params["vae"]`); it is not trained. Latents are normalised as those of the
    videos are (`LatentStore.normalise`), by the autoencoder's own constants where None.
    """
    normal = vae.normalise if normalise is None else normalise

    def encode(video: Array) -> jax.Array:
        return jnp.asarray(normal(vae_chunks.to_latents(vae, jax.lax.stop_gradient(params["vae"]), video)))

    return encode


class Conditions(NamedTuple):
    """Leaves have the batch in front. Latents are normalised; k latent frames, t video frames."""

    reference: Float[Array, "b h w z"] | None = None  # the signer's picture; zeros: none
    clip: Float[Array, "b i c"] | None = None  # CLIP's tokens of it
    image: Float[Array, "b k h w z"] | None = None  # of that picture and grey ones after it, encoded as one video
    blank: Float[Array, "b k h w z"] | None = None  # of a grey video: the image stream behind a reference in front
    before: Float[Array, "b k r"] | None = None  # which of its video frames are given, of a segment that goes on
    picture: Float[Array, "b k y x c"] | None = None  # the drawn pose, for a control branch or a stem
    scale: Float[Array, " b"] | None = None  # how much of the branch is added
    control: Float[Array, "b k h w z"] | None = None  # latents of the drawn pose: Fun-Control's channels
    pose: Float[Array, "b k h w z"] | None = None  # the same as Animate's tokens
    face: Float[Array, "b t y x 3"] | None = None  # Animate's video of the face, [-1, 1]
    text: Float[Array, "b s d"] | None = None  # states of the variant's text encoder, or SLUL's where it has none
    semantics: Float[Array, "b m e"] | None = None  # SLUL's features beside a published text; zeros: none
    text_null: Float[Array, "b s d"] | None = None  # states of the prompt that says nothing; zeros do where it is None


# What can be dropped, each without the others -> the streams that say it. The others say nothing of anybody.
DROPPED: dict[str, tuple[str, ...]] = {
    "text": ("text",),
    "semantics": ("semantics",),
    "pose": ("picture", "scale", "control", "pose"),
    "face": ("face",),
    "reference": ("reference", "clip", "image"),
}


def streams_of(conditions: Conditions, names: Collection[str]) -> frozenset[str]:
    """The streams of these `names` (of `DROPPED`) that are there: what `without` changes."""
    return frozenset(stream for name in names for stream in DROPPED[name] if getattr(conditions, stream) is not None)


def without(conditions: Conditions, names: Collection[str], keep: Float[Array, " b"] | None = None) -> Conditions:
    """The conditions without what `names` (of `DROPPED`) say, but for the examples whose `keep` is 1.

    Zeros mean nothing said: no reference, rows past a text's end, an undrawn pose, a branch that adds nothing. A face
    that says nothing is black (-1), as Animate has it, and a text that says nothing is `text_null` where there is one.
    Raises `ValueError` for an unknown name.
    """
    if unknown := set(names) - DROPPED.keys():
        raise ValueError(f"without: no stream is called {', '.join(sorted(unknown))}; known: {', '.join(DROPPED)}")
    changed = {}
    for stream in (stream for name in DROPPED if name in names for stream in DROPPED[name]):
        value = getattr(conditions, stream)
        if value is None:
            continue
        kept = jnp.zeros(len(value)) if keep is None else keep
        kept = kept.reshape((-1,) + (1,) * (value.ndim - 1))
        if stream == "face":
            changed[stream] = value * kept - (1.0 - kept)
        elif stream == "text" and conditions.text_null is not None:
            changed[stream] = value * kept + conditions.text_null * (1.0 - kept)
        else:
            changed[stream] = value * kept.astype(value.dtype)  # a picture stays in its reader's type
    return conditions._replace(**changed)


def given(shown: Float[Array, "b ..."]) -> Float[jax.Array, " b"]:
    """1 where there is a reference, or frames before; a picture, or its latents, is never zero everywhere."""
    return (jnp.asarray(shown) != 0).any(axis=tuple(range(1, shown.ndim))).astype(jnp.float32)


def in_front(first: Float[Array, "b h w z"], video: Float[Array, "b k h w z"]) -> Float[jax.Array, "b k+1 h w z"]:
    """One more frame before a video's."""
    return jnp.concatenate([jnp.asarray(first)[:, None].astype(video.dtype), video], axis=1)
