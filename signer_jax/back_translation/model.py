"""The sign-to-text model: frames -> steps -> H -> glosses (CTC) and text. Its encoder and decoder are SLUL's T5."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from signer_jax.dense import Dense
from signer_jax.pose import skeleton
from signer_jax.settings import BackTranslation
from signer_jax.slul.t5 import T5

DIMS = 2  # x and y: z is a detector's guess, which not every layout has
BLANK = 0  # CTC's class for no gloss; gloss k is class k + 1
_ZOOM = 4.0  # a hand is about a quarter of a shoulder width
_RELATIVE_BUCKETS, _FARTHEST = 32, 128  # of T5's attention, as published models have them


def anchors(joints: tuple[str, ...]) -> Int[np.ndarray, " j"]:
    """From which of the joints each one is measured: a hand's from its wrist, the face's and eyes' from the nose; -1:
    from the middle between the shoulders, as poses are.
    """
    where = {name: i for i, name in enumerate(joints)}

    def anchor(name: str) -> str:
        side, of_hand, part = name.partition("_hand_")
        if of_hand:
            return "" if part == "wrist_root" else f"{side}_hand_wrist_root"
        return "nose" if name in (*skeleton.FACE, *skeleton.BODY[14:]) else ""

    return np.array([where.get(anchor(name), -1) for name in joints], np.int32)


def frame_features(
    coordinates: Float[Array, "*b j c"], confidence: Float[Array, "*b j"], anchor: Int[np.ndarray, " j"]
) -> Float[Array, "*b j*c"]:
    """What the model sees of a frame: each joint from its anchor (`anchors`), those of hands and face four times as
    large; 0 for a joint that is missing or whose anchor is.
    """
    near, from_other = np.maximum(anchor, 0), anchor >= 0
    seen = (confidence > 0) & ((confidence[..., near] > 0) | ~from_other)
    moved = jnp.where(from_other[:, None], _ZOOM * (coordinates - coordinates[..., near, :]), coordinates)
    features = jnp.where(seen[..., None], moved, 0.0)
    return features.reshape(*features.shape[:-2], -1)


class SignTranslator(nn.Module):
    """Pose to H, glosses and text. `t5` gives encoder and decoder: `slul.decoding` searches with it and H."""

    t5: T5
    glosses: int
    languages: int
    kernel: int  # frames around each step
    stride: int  # frames a step
    anchor: tuple[int, ...]

    def setup(self) -> None:
        width, dtype = self.t5.d_model, self.t5.dtype
        side = self.kernel // 2
        self.steps = nn.Conv(width, (self.kernel,), strides=(self.stride,), padding=((side, side),), dtype=dtype)
        self.mix = Dense(width, dtype=dtype)
        # Glosses of one name are other signs in another language: the encoder is told which one it sees.
        self.language_embedding = nn.Embed(self.languages, width, dtype=dtype)
        self.gloss_head = Dense(self.glosses + 1, dtype=dtype)

    def encode(
        self, coordinates: Float[Array, "b t j c"], confidence: Float[Array, "b t j"], valid: Bool[Array, "b t"],
        language: Int[Array, " b"], *, train: bool = False,
    ) -> tuple[Float[Array, "b s d"], Bool[Array, "b s"]]:  # fmt: skip
        """H, a step each `stride` frames, and which steps are of `valid` frames, which come first."""
        features = frame_features(coordinates, confidence, np.array(self.anchor))
        x = self.steps(jnp.where(valid[..., None], features, 0.0))
        x = self.mix(nn.gelu(x)) + self.language_embedding(language)[:, None]
        mask = valid[:, :: self.stride]
        return self.t5.encode_embedded(x, mask, train=train), mask

    def gloss_logits(self, H: Float[Array, "b s d"]) -> Float[Array, "b s n"]:
        """Of the blank and each gloss at each step, float32."""
        return self.gloss_head(H).astype(jnp.float32)

    def __call__(
        self, coordinates: Float[Array, "b t j c"], confidence: Float[Array, "b t j"], valid: Bool[Array, "b t"],
        language: Int[Array, " b"], text_in: Int[Array, "b g"], *, train: bool = False,
    ) -> tuple[Float[Array, "b s n"], Bool[Array, "b s"], Float[Array, "b g v"]]:  # fmt: skip
        """Gloss logits with their mask, and the logits of the piece after each of `text_in` (which starts with 0)."""
        H, mask = self.encode(coordinates, confidence, valid, language, train=train)
        states = self.t5.decode(text_in, H, mask, train=train)
        return self.gloss_logits(H), mask, self.t5.logits(states)


def build(c: BackTranslation, dtype: str, pieces: int, glosses: int, languages: int) -> SignTranslator:
    """The model for so many text pieces, glosses and sign languages.

    The table of pieces is also what says them, by states that are not made smaller as T5's: from so small a table those
    would need thousands of steps.
    """
    t5 = T5(
        vocab_size=pieces, d_model=c.d_model, d_kv=c.d_kv, d_ff=c.d_ff, heads=c.heads, encoder_layers=c.encoder_layers,
        decoder_layers=c.decoder_layers, relative_buckets=_RELATIVE_BUCKETS, relative_max_distance=_FARTHEST,
        activation="gated-gelu", tie_embeddings=True, relative_bias_every_layer=False, dropout=c.dropout,
        dtype=jnp.dtype(dtype), scale_logits=False,
    )  # fmt: skip
    anchor = tuple(anchors(skeleton.SUBSETS[c.joints]).tolist())
    return SignTranslator(t5, glosses, languages, c.kernel, c.stride, anchor)


def example(c: BackTranslation) -> tuple[Any, ...]:
    """Zeros in the shapes that `SignTranslator` takes, one example."""
    joints, frames = len(skeleton.SUBSETS[c.joints]), c.max_frames
    return (
        jnp.zeros((1, frames, joints, DIMS)), jnp.zeros((1, frames, joints)), jnp.ones((1, frames), bool),
        jnp.zeros(1, jnp.int32), jnp.zeros((1, 2), jnp.int32),
    )  # fmt: skip
