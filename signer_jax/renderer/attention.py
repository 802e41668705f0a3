"""Attention over long sequences without a mask: the implementation is picked by platform and by shape."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Float

from signer_jax.layout import constrain

# Logits of one head that are held at once (16 MiB in float32). A longer product is computed in blocks of queries.
LOGITS_LIMIT = 2**22
# What the backward pass of a block keeps where it computes the rest again: one array `[b, l, h, d]`, of the attention
# of tokens to each other, which costs as much as all of a block's other matrix products at a video's length.
kept = jax.checkpoint_policies.save_only_these_names("attended")


def attention(
    q: Float[jax.Array, "b l h d"], k: Float[jax.Array, "b m h d"], v: Float[jax.Array, "b m h d"]
) -> Float[jax.Array, "b l h d"]:
    """softmax(q kᵀ / √d) v, the softmax in float32.

    On a GPU, half precision runs cuDNN's flash attention (it takes heads of up to 128 in steps of 8). Everything else
    is XLA's, in blocks of queries where the logits of a head would exceed `LOGITS_LIMIT`. The platform is the default
    backend's, so a program compiled ahead of time for a TPU on a CPU machine gets the form that both share.
    """
    q, k, v = (constrain(x, "batch", "length", "heads", None) for x in (q, k, v))
    attended = constrain(_attention(q, k, v), "batch", "length", "heads", None)
    return checkpoint_name(attended, "attended") if k.shape[1] >= q.shape[1] else attended


def _attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    if jax.default_backend() == "gpu" and half and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128:
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    if q.shape[1] * k.shape[1] > LOGITS_LIMIT:
        return blocked_attention(q, k, v, block=query_block(k.shape[1], LOGITS_LIMIT))
    return plain_attention(q, k, v)


def plain_attention(
    q: Float[jax.Array, "b l h d"], k: Float[jax.Array, "b m h d"], v: Float[jax.Array, "b m h d"]
) -> Float[jax.Array, "b l h d"]:
    """Attention with all logits `[b, h, l, m]` in memory."""
    return jax.nn.dot_product_attention(q, k, v, implementation="xla")


def query_block(keys: int, limit: int) -> int:
    """How many queries see `keys` keys within `limit` logits: a multiple of 128 where that many fit, at least 1."""
    block = max(limit // keys, 1)
    return block // 128 * 128 if block >= 128 else block


def blocked_attention(
    q: Float[jax.Array, "b l h d"], k: Float[jax.Array, "b m h d"], v: Float[jax.Array, "b m h d"], *, block: int
) -> Float[jax.Array, "b l h d"]:
    """The same numbers as `plain_attention`, `block` queries at a time: memory grows with `block`·m instead of l·m.

    The backward pass computes each block's softmax again, so that it holds no more than the forward pass does.
    """
    b, l, h, d = q.shape
    blocks = -(-l // block)
    # The last block is filled with zero queries; their rows are cut off again.
    padded = jnp.pad(q, ((0, 0), (0, blocks * block - l), (0, 0), (0, 0)))
    per_block = jnp.moveaxis(padded.reshape(b, blocks, block, h, d), 1, 0)  # [blocks, b, block, h, d]
    attended = jax.lax.map(jax.checkpoint(lambda queries: plain_attention(queries, k, v)), per_block)
    return jnp.moveaxis(attended, 0, 1).reshape(b, blocks * block, h, d)[:, :l]
