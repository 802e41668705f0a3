"""The mixture of pose experts: candidate features, the Pose Chosen Network, and the blend of candidates (PAPER 2.3).

Expert k holds candidate k of every gloss of the sentence, already resampled to the gloss's span and stitched, so its
sequence lies on the sentence's time line and blending needs no further alignment. `frame_gloss` `[b, t, n]` says how
much of each gloss a frame shows: rows sum to 1 (cross-faded in transitions) and are zero on padding frames. The gates
never look at that time line, only at `candidate_features`: they decide for the sentence, whatever part of it is shown.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from signer_jax.dense import Dense
from signer_jax.slp_moe.gates import Gates, Pool, combine, sentence_scores
from signer_jax.types import Array, Pose

# How sharply the "start" and "end" features look at the two ends of a sign; 4 puts 97 % of the weight on one half.
_END_SHARPNESS = 4


def candidate_features(pose: Pose) -> Float[np.ndarray, " f"]:
    """What a candidate looks like, f = 3·j·c + j, float32, in shoulder widths (numpy: nothing in it is trained).

    Per joint: its mean position, its position at the start and at the end (means weighted by (1-u)⁴ and u⁴, u the share
    of the sign that has passed), and its mean speed (shoulder widths a frame). A joint's missing frames (confidence 0)
    are left out; one that is missing throughout gives zeros. A candidate's features are those of its own frames, at its
    own length: they are the same wherever and in whatever window the sign is performed.
    """
    seen = pose.confidence > 0
    place = np.asarray(pose.coordinates, np.float32)
    if not seen.all():
        place = np.where(seen[..., None], place, np.float32(0))
    passed = (np.arange(len(pose), dtype=np.float32) + 0.5) / len(pose)
    parts = np.stack([np.ones_like(passed), (1 - passed) ** _END_SHARPNESS, passed**_END_SHARPNESS])  # 3 t
    weight = parts @ seen
    position = np.einsum("wt,tjc->wjc", parts, place) / np.maximum(weight, 1e-6)[..., None]
    both = seen[1:] & seen[:-1]
    way = np.moveaxis(np.square(place[1:] - place[:-1]), -1, 0)  # added axis by axis: numpy sums two numbers slowly
    speed = (np.sqrt(np.add.reduce([*way])) * both).sum(0) / np.maximum(both.sum(0), 1)
    # f = (w j c) then j
    features = np.concatenate([position.reshape(-1), speed])
    return features.astype(np.float32)


class PoseChosenNetwork(nn.Module):
    """The MLP of Figure 2b: scores a candidate from [q; its features] -> `[b, n, e]` float32.

    The first layer is split by input, which is the same map as one layer over the concatenation and spares copying q to
    every candidate. `layers` counts the hidden layers.
    """

    hidden: int
    layers: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, query: Float[Array, "b *n d"], features: Float[Array, "b n e f"]) -> Float[Array, "b n e"]:
        query = query[:, None] if query.ndim == 2 else query
        from_query = Dense(self.hidden, dtype=self.dtype, name="query")(query)
        from_features = Dense(self.hidden, use_bias=False, dtype=self.dtype, name="features")(features)
        states = from_query[:, :, None] + from_features
        for i in range(self.layers - 1):
            states = Dense(self.hidden, dtype=self.dtype, name=f"hidden_{i}")(nn.gelu(states))
        # No bias: a constant added to every candidate's score changes no weight.
        out = Dense(
            1, use_bias=False, dtype=jnp.float32, kernel_init=nn.initializers.normal(0.02), name="out"
        )(nn.gelu(states).astype(jnp.float32))  # fmt: skip
        return out[..., 0]


def blend(
    weights: Float[Array, "b n e"],
    frame_gloss: Float[Array, "b t n"],
    candidates: Float[Array, "b e t j c"],
    confidence: Float[Array, "b e t j"],
) -> tuple[Float[Array, "b t j c"], Float[Array, "b t j"]]:
    """P_pose = Σ_k w_k ε_k, and its confidence Σ_k w_k conf_k; float32, differentiable in `weights`.

    Coordinates of a missing joint (confidence 0) mean nothing, so there the position is the mean of the experts that
    show the joint; its confidence keeps only their share, which makes hard weights the limit of soft ones. A joint that
    no weighted expert shows is missing: coordinates and confidence 0. Frames of no gloss (padding) are missing as a
    whole.
    """
    frame_weights = jnp.einsum("btn,bne->bet", frame_gloss.astype(jnp.float32), weights.astype(jnp.float32))
    confidence = confidence.astype(jnp.float32)
    share = frame_weights[..., None] * (confidence > 0)
    total = share.sum(axis=1)
    place = jnp.where(confidence[..., None] > 0, candidates.astype(jnp.float32), 0.0)
    position = jnp.einsum("betj,betjc->btjc", share, place)
    shown = total > 0
    position = jnp.where(shown[..., None], position / jnp.where(shown, total, 1.0)[..., None], 0.0)
    return position, (share * confidence).sum(axis=1)


def top(weights: Float[Array, "b n e"]) -> Float[Array, "b n e"]:
    """One-hot of each gloss's highest gate; a gloss without candidates stays a row of zeros."""
    one_hot = jax.nn.one_hot(jnp.argmax(weights, axis=-1), weights.shape[-1], dtype=jnp.float32)
    return one_hot * (weights.max(axis=-1, keepdims=True) > 0)


class SLPMoE(nn.Module):
    """SLP-MoE: semantic features and candidates in, the blended pose and the gates' weights out.

    `gating` is "sentence" (the paper: q = Pool(H), the network's scores averaged over the sentence's glosses, the same
    weights for all of them) or "gloss" (q = `gloss_query` `[b, n, d]`, weights of its own for each gloss).
    `pool_hidden`: see `gates.Pool`; of no effect with "gloss".
    """

    experts: int
    gating: Literal["sentence", "gloss"]
    hidden: int
    layers: int
    dtype: jnp.dtype = jnp.float32
    pool_hidden: int = 0

    def setup(self) -> None:
        if self.gating not in ("sentence", "gloss"):
            raise ValueError(f"SLPMoE: gating is {self.gating!r}, it must be 'sentence' or 'gloss'")
        self.pool = Pool(self.pool_hidden, self.dtype)
        self.gates = Gates(self.experts)
        self.chosen = PoseChosenNetwork(self.hidden, self.layers, self.dtype)

    def weigh(
        self,
        H: Float[Array, "b s d"],
        source_mask: Bool[Array, "b s"],
        candidate_features: Float[Array, "b n e f"],
        candidate_mask: Bool[Array, "b n e"],
        *,
        gloss_query: Float[Array, "b n d"] | None = None,
    ) -> Float[Array, "b n e"]:
        """The weights alone (for `top`). Rows sum to 1, or to 0 where a gloss has no candidate."""
        if self.gating == "sentence":
            query = self.pool(H, source_mask)
            scores = sentence_scores(self.chosen(query, candidate_features), candidate_mask)
            return combine(self.gates(query)[:, None], scores, candidate_mask)
        if gloss_query is None:
            raise ValueError("SLPMoE: gating 'gloss' needs gloss_query [b, n, d]")
        return combine(self.gates(gloss_query), self.chosen(gloss_query, candidate_features), candidate_mask)

    def __call__(
        self,
        H: Float[Array, "b s d"],
        source_mask: Bool[Array, "b s"],
        candidates: Float[Array, "b e t j c"],
        candidate_confidence: Float[Array, "b e t j"],
        candidate_features: Float[Array, "b n e f"],
        candidate_mask: Bool[Array, "b n e"],
        frame_gloss: Float[Array, "b t n"],
        *,
        gloss_query: Float[Array, "b n d"] | None = None,
    ) -> tuple[Float[Array, "b t j c"], Float[Array, "b t j"], Float[Array, "b n e"]]:
        """Training: the soft blend. Returns pose `[b, t, j, c]`, confidence `[b, t, j]`, weights `[b, n, e]`."""
        weights = self.weigh(H, source_mask, candidate_features, candidate_mask, gloss_query=gloss_query)
        pose, confidence = blend(weights, frame_gloss, candidates, candidate_confidence)
        return pose, confidence, weights
