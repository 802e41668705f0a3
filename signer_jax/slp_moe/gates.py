"""Gates over the pose experts: w = softmax(qᵀW + scores) over the candidates that exist (PAPER 2.3).

The paper gates once a sentence, q = Pool(H), which it says no more of. Gating once a gloss takes one query a gloss
instead. In both the Pose Chosen Network's scores (`experts.py`) are added to the gate's logits, so the two decide
together.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from signer_jax.dense import Dense
from signer_jax.masked import masked_mean
from signer_jax.types import Array


def gate_logits(query: Float[Array, "*n d"], weight: Float[Array, "d e"]) -> Float[Array, "*n e"]:
    """qᵀW, accumulated in float32. `query` is `[b, d]` (a sentence) or `[b, n, d]` (a gloss)."""
    return jnp.einsum("...d,de->...e", query, weight, preferred_element_type=jnp.float32)


def sentence_scores(scores: Float[Array, "b n e"], mask: Bool[Array, "b n e"]) -> Float[Array, "b 1 e"]:
    """The score of each expert for the whole sentence: its mean over the glosses that have its candidate, else 0."""
    return masked_mean(scores, mask, axis=1)[:, None]


def combine(
    logits: Float[Array, "b g e"], scores: Float[Array, "b g e"], mask: Bool[Array, "b n e"]
) -> Float[Array, "b n e"]:
    """w = softmax over the experts of `logits + scores`, in float32, over the candidates that exist.

    `logits` and `scores` have n rows, or 1 for all glosses of the sentence (then the weights differ between glosses
    only where a gloss lacks a candidate, whose share goes to the others). Where a gloss has no candidate (or is
    padding) its row is zero, and so is its gradient.
    """
    joint = logits.astype(jnp.float32) + scores.astype(jnp.float32)
    joint = jnp.broadcast_to(joint, mask.shape)
    any_candidate = mask.any(axis=-1, keepdims=True)
    # A row of nothing but -inf would make the softmax NaN, in the gradient too: it is evened before and zeroed after.
    safe = jnp.where(any_candidate, jnp.where(mask, joint, -jnp.inf), 0.0)
    return jnp.where(any_candidate, jax.nn.softmax(safe, axis=-1), 0.0)


class Pool(nn.Module):
    """q = Pool(H): the mean over the tokens, `[b, s, d]` -> `[b, d]`, of H, or with `hidden` of a layer over each one.

    SLUL keeps of a text what its glosses ask for. What else tells who would sign it (a greeting, "please", of whom it
    speaks) is still in its tokens but hardly in the line through their mean, which has no room for each word: with 128
    features the best linear gates on the plain mean find 64 of 100 signers in the texts that they were fitted to
    (docs/performance.md). `hidden`: 0, or that layer's width, which is then q's.
    """

    hidden: int = 0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, H: Float[Array, "b s d"], mask: Bool[Array, "b s"]) -> Float[Array, "b q"]:
        if self.hidden:
            H = nn.gelu(Dense(self.hidden, dtype=self.dtype, name="token")(H))
        return masked_mean(H, mask[..., None], axis=1)


class Gates(nn.Module):
    """One linear gate, W `[d, e]` without a bias: `query` `[b, d]` or `[b, n, d]` -> logits `[b, e]` or `[b, n, e]`.

    W starts small, so that training starts from nearly even gates and still passes a gradient to the query.
    """

    experts: int

    @nn.compact
    def __call__(self, query: Float[Array, "*n d"]) -> Float[Array, "*n e"]:
        kernel = self.param("kernel", nn.initializers.normal(0.02), (query.shape[-1], self.experts), jnp.float32)
        return gate_logits(query.astype(jnp.float32), kernel)
