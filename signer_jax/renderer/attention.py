"""Attention over long sequences without a mask: the implementation is picked by platform and by shape."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Float

from signer_jax.layout import constrain, on_one_device

# Logits of one head that are held at once (16 MiB in float32). A longer product is computed in blocks of queries.
LOGITS_LIMIT = 2**22
# What the backward pass of a block keeps: its products, for what lies between them is made again in less time than it
# takes to read it back. Where a block is computed again (`remat`) only one array `[b, l, h, d]`, of the attention of
# tokens to each other, which costs as much as all of a block's other matrix products at a video's length.
_policies = jax.checkpoint_policies
attended = _policies.save_only_these_names("attended")
products = _policies.save_from_both_policies(_policies.dots_with_no_batch_dims_saveable, attended)


def attention(
    q: Float[jax.Array, "b l h d"], k: Float[jax.Array, "b m h d"], v: Float[jax.Array, "b m h d"]
) -> Float[jax.Array, "b l h d"]:
    """softmax(q kᵀ / √d) v, the softmax in float32.

    On a GPU, half precision runs cuDNN's flash attention (it takes heads of up to 128 in steps of 8). On a single CPU
    device heads go one after the other (`attention_by_heads`). Everything else is XLA's, in blocks of queries where the
    logits of a head would exceed `LOGITS_LIMIT`. Whether cuDNN is there is the default backend's to say, so a program
    compiled ahead of time for a GPU on a CPU machine does without it.
    """
    q, k, v = (constrain(x, "batch", "length", "heads", None) for x in (q, k, v))
    out = constrain(_attention(q, k, v), "batch", "length", "heads", None)
    return checkpoint_name(out, "attended") if k.shape[1] >= q.shape[1] else out


def _attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    if jax.default_backend() == "gpu" and half and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128:
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")

    def batched(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        if q.shape[1] * k.shape[1] > LOGITS_LIMIT:
            return blocked_attention(q, k, v, block=query_block(k.shape[1], LOGITS_LIMIT))
        return plain_attention(q, k, v)

    # Heads one after the other would bring them all to every device of a mesh.
    if jax.default_backend() == "cpu" and on_one_device():
        return jax.lax.platform_dependent(q, k, v, cpu=attention_by_heads, default=batched)
    return batched(q, k, v)


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


# ---- On a CPU ------------------------------------------------------------------------------------------------------


@jax.custom_vjp
def attention_by_heads(
    q: Float[jax.Array, "b l h d"], k: Float[jax.Array, "b m h d"], v: Float[jax.Array, "b m h d"]
) -> Float[jax.Array, "b l h d"]:
    """The same numbers as `plain_attention`, a head and a block of queries at a time, in float32.

    Plain matrix products of what stays in the cache, and a backward pass that makes the softmax again from its row sums
    (Dao et al. 2022, algorithm 4), by blocks of keys, so that only dq is a product with a transposed factor. Batched
    products over heads took 2.6 times as long on a CPU, and their gradients 2.9 times.
    """
    return _by_heads(q, k, v)[0]


def _by_heads(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, tuple]:
    b, l, h, d = q.shape
    block = _block(l, k.shape[1])

    def head(arrays: tuple) -> tuple[jax.Array, jax.Array]:
        queries, keys, values = arrays

        def rows(queries: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = queries @ keys.T
            largest = logits.max(axis=-1, keepdims=True)
            weights = jnp.exp(logits - largest)
            total = weights.sum(axis=-1, keepdims=True)
            return weights @ values / total, (largest + jnp.log(total))[:, 0]

        return jax.lax.map(rows, queries)

    scaled = _heads_first(q) / np.sqrt(d).astype(np.float32)
    out, sums = jax.lax.map(head, (_in_blocks(scaled, block), _heads_first(k), _heads_first(v)))
    out = _heads_back(out, b, l).astype(q.dtype)
    sums = sums.reshape(b * h, -1)[:, :l]  # the logarithm of each row's sum of exponentials
    out, sums = checkpoint_name(out, "attended"), checkpoint_name(sums, "attended")
    return out, (q, k, v, out, sums)


def _by_heads_transposed(saved: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    q, k, v, out, sums = saved
    (b, l, _, d), m = q.shape, k.shape[1]
    block, scale = _block(m, l), 1 / np.sqrt(d).astype(np.float32)
    inner = (_heads_first(gradient) * _heads_first(out)).sum(axis=-1)

    def head(arrays: tuple) -> tuple[jax.Array, jax.Array, jax.Array]:
        queries, keys, values, gradient, sums, inner = arrays

        def rows(dq: jax.Array, pair: tuple) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            keys, values = pair
            weights = jnp.exp(keys @ queries.T - sums)
            dlogits = weights * (values @ gradient.T - inner)
            return dq + keys.T @ dlogits, (dlogits @ queries, weights @ gradient)

        # dq is made turned round: XLA's product with a long transposed left factor takes three times as long.
        dq, (dk, dv) = jax.lax.scan(rows, jnp.zeros_like(queries.T), (keys, values))
        return dq.T, dk, dv

    # The last block is filled with zero keys: they add nothing to dq, and their rows are cut off.
    keys, values = (_in_blocks(_heads_first(x), block) for x in (k, v))
    arrays = (_heads_first(q) * scale, keys, values, _heads_first(gradient), sums, inner)
    dq, dk, dv = jax.lax.map(head, arrays)
    back = lambda x, rows: _heads_back(x, b, rows).astype(q.dtype)  # noqa: E731
    return back(dq * scale, l), back(dk, m), back(dv, m)


attention_by_heads.defvjp(_by_heads, _by_heads_transposed)


def _block(rows: int, others: int) -> int:
    """How many rows at a time meet all the `others`: parts of one size, at most 512 and `LOGITS_LIMIT` logits."""
    most = min(512, query_block(others, LOGITS_LIMIT))
    return -(-rows // -(-rows // most))


def _heads_first(x: Float[jax.Array, "b l h d"]) -> Float[jax.Array, "n l d"]:
    return jnp.moveaxis(x, 2, 1).reshape(-1, x.shape[1], x.shape[3]).astype(jnp.float32)


def _heads_back(x: jax.Array, b: int, rows: int) -> Float[jax.Array, "b l h d"]:
    """From heads one after the other, in blocks or not, and possibly with rows too many."""
    whole = x.reshape(b, len(x) // b, -1, x.shape[-1])[:, :, :rows]
    return jnp.moveaxis(whole, 1, 2)


def _in_blocks(x: Float[jax.Array, "n l d"], block: int) -> Float[jax.Array, "n k block d"]:
    n, l, d = x.shape
    blocks = -(-l // block)
    return jnp.pad(x, ((0, 0), (0, blocks * block - l), (0, 0))).reshape(n, blocks, block, d)
