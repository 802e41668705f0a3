"""Attention over long sequences without a mask: the implementation is picked by platform, by shape and by mesh."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh, PartitionSpec
from jaxtyping import Float

from signer_jax.errors import SignerError
from signer_jax.layout import activation_spec, constrain, mesh_in_context, naming_all, on_one_device, platform
from signer_jax.renderer import cudnn, splash
from signer_jax.renderer.ring import Ring, ring_attention

# Logits of one head that are held at once (16 MiB in float32). A longer product is computed in blocks of queries.
LOGITS_LIMIT = 2**22
# The name of what the backward pass needs of the attention of tokens to each other (`renderer/remat.py`).
KEPT = "attended"

Across = Literal["automatic", "ring", "all_to_all"]


def attention(
    q: Float[jax.Array, "b l h d"],
    k: Float[jax.Array, "b m h d"],
    v: Float[jax.Array, "b m h d"],
    *,
    lengths: tuple[str, str] = ("length", "length"),
    keys: int | None = None,
    across: Across = "automatic",
) -> Float[jax.Array, "b l h d"]:
    """softmax(q kᵀ / √d) v, the softmax in float32.

    On a mesh every device computes its own examples, heads and queries (`layout`). With what: half precision on a GPU
    runs cuDNN's flash attention (it takes heads of up to 128 in steps of 8); a long product on a TPU the splash kernel
    (heads in steps of 128); a CPU heads one after the other (`attention_by_heads`). Everything else is XLA's, in blocks
    of queries where the logits of a head would exceed `LOGITS_LIMIT`.

    Args:
      q: of the type of k and v, or in float32, of which it is rounded to that type once (`_as_keys`).
      lengths: the layout's names of the lengths of q and of k. Where the mesh splits the keys' too ("tokens", along
        `context`), they meet the queries of other devices as `across` says.
      keys: how many of the keys count, those in front; all where None.
      across: "all_to_all" gives each device all tokens of a part of its heads, and back: one exchange before and after
        the fastest kernel that there is. "ring" passes keys and values round, in blocks by XLA, whatever the number of
        heads. "automatic" is the former where the heads divide among the devices, else the latter; so is "all_to_all",
        which a run's own mesh is asked for (`check_exchange`) and others, as that of signing, cannot always be.
    """
    keys = k.shape[1] if keys is None else keys
    q, scale = _as_keys(q, k.dtype)
    names = [("batch", length, "heads", None) for length in (lengths[0], lengths[1], lengths[1])]
    q, k, v = (constrain(x, *name) for x, name in zip((q, k, v), names, strict=True))
    mesh, kept = mesh_in_context(), k.shape[1] >= q.shape[1]
    name = KEPT if kept else None
    if mesh is None:
        out, named = _local(q, k[:, :keys], v[:, :keys], scale, name)
    else:
        spec = [activation_spec(name, x.shape, mesh.shape) for x, name in zip((q, k), names, strict=False)]
        if spec[1][1] is None:
            out, named = _on_mesh(mesh, spec, q, k, v, keys, scale, name)
        elif exchanges(across, q.shape[2], mesh.shape):
            out, named = _all_to_all(mesh, spec[0], q, k, v, keys, scale, name)
        else:
            part = k.shape[1] // mesh.shape["context"]
            block = min(part, query_block(part, LOGITS_LIMIT))
            out, named = ring_attention(Ring(mesh, spec[0], keys, block, scale, KEPT), q, k, v), True
    out = constrain(out, *names[0])
    return checkpoint_name(out, KEPT) if kept and not named else out


# The same, by what a config calls them: a module that is made twice has one and the same function both times.
ATTENTIONS = {
    "automatic": attention, "ring": partial(attention, across="ring"),
    "all_to_all": partial(attention, across="all_to_all"),
}  # fmt: skip


def _on_mesh(
    mesh: AbstractMesh, specs: list[PartitionSpec], q: jax.Array, k: jax.Array, v: jax.Array, keys: int,
    scale: float, name: str | None,
) -> tuple[jax.Array, bool]:  # fmt: skip
    """Each device its own queries, and all the keys of its examples and heads."""
    named = []

    def own(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        out, found = _local(q, k[:, :keys], v[:, :keys], scale, name)
        named.append(found)
        return out

    of_q, of_k = (naming_all(spec, mesh.shape) for spec in specs)
    run = jax.shard_map(own, mesh=mesh, in_specs=(of_q, of_k, of_k), out_specs=of_q, check_vma=False)
    return run(q, k, v), named[-1]


def _all_to_all(
    mesh: AbstractMesh, spec: PartitionSpec, q: jax.Array, k: jax.Array, v: jax.Array, keys: int, scale: float,
    name: str | None,
) -> tuple[jax.Array, bool]:  # fmt: skip
    """From a part of the tokens and all of a device's heads to all tokens and a part of them, and back (Ulysses)."""
    axis, named, spec = str(spec[1]), [], naming_all(spec, mesh.shape)

    def own(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        q, k, v = (lax.all_to_all(x, axis, split_axis=2, concat_axis=1, tiled=True) for x in (q, k, v))
        out, found = _local(q, k[:, :keys], v[:, :keys], scale, name)
        named.append(found)
        return lax.all_to_all(out, axis, split_axis=1, concat_axis=2, tiled=True)

    out = jax.shard_map(own, mesh=mesh, in_specs=(spec,) * 3, out_specs=spec, check_vma=False)(q, k, v)
    return out, named[-1]


def exchanges(across: Across, heads: int, mesh: Mapping[str, int]) -> bool:
    """Whether heads are exchanged for tokens (and keys are not passed round) on a mesh of these sizes."""
    return across != "ring" and heads // _ways(heads, mesh) % mesh["context"] == 0


def check_exchange(across: Across, heads: int, mesh: Mapping[str, int]) -> None:
    """Raises `SignerError` where a run's mesh has "all_to_all" asked of it, and the heads do not divide."""
    if across == "all_to_all" and not exchanges(across, heads, mesh):
        tensor = _ways(heads, mesh)
        fits = [n for n in range(1, heads // tensor + 1) if heads // tensor % n == 0]
        raise SignerError(
            f"config.renderer.context_attention 'all_to_all': {heads} heads do not divide among mesh tensor {tensor} x "
            f"context {mesh['context']}; choose 'ring', or a context of {', '.join(map(str, fits))}"
        )


def _ways(heads: int, mesh: Mapping[str, int]) -> int:
    """Among how many devices of `tensor` the heads are split; they are whole on each where they do not divide."""
    return mesh["tensor"] if heads % mesh["tensor"] == 0 else 1


def frame_attention(
    q: Float[jax.Array, "b l h d"], k: Float[jax.Array, "b f n h d"], v: Float[jax.Array, "b f n h d"], *, tokens: int
) -> Float[jax.Array, "b l h d"]:
    """Each frame's queries, `tokens` in a row, attend to the keys of their own frame; q is split along `context`.

    A device's part may begin and end within a frame: it takes the keys of the frames that it touches, and lays its
    queries among theirs. Rows after the last frame are filling.
    """
    mesh = mesh_in_context()
    assert mesh is not None
    q, scale = _as_keys(q, k.dtype)
    spec = naming_all(activation_spec(("batch", "tokens", "heads", None), q.shape, mesh.shape), mesh.shape)
    whole = PartitionSpec(spec[0], None, None, spec[2], None)

    def part(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        b, rows, h, d = q.shape
        first, before = jnp.divmod(lax.axis_index(str(spec[1])) * rows, tokens)
        touched = (rows + tokens - 2) // tokens + 1
        fill = ((0, 0), (0, touched), (0, 0), (0, 0), (0, 0))
        k, v = (lax.dynamic_slice_in_dim(jnp.pad(x, fill), first, touched, 1) for x in (k, v))
        laid = jnp.zeros((b, touched * tokens, h, d), q.dtype)
        laid = lax.dynamic_update_slice_in_dim(laid, q, before, 1)
        each, k, v = (x.reshape(b * touched, -1, h, d) for x in (laid, k, v))
        out, _ = _local(each, k, v, scale, None)
        return lax.dynamic_slice_in_dim(out.reshape(laid.shape), before, rows, 1)

    return jax.shard_map(part, mesh=mesh, in_specs=(spec, whole, whole), out_specs=spec, check_vma=False)(q, k, v)


# ---- On a device -----------------------------------------------------------------------------------------------------


def _as_keys(q: jax.Array, dtype: jnp.dtype) -> tuple[jax.Array, float]:
    """The queries in the keys' type, and by what their logits are still to be multiplied.

    A TPU's kernel knows no scale. Queries that are to be rounded are multiplied first there, so that they are rounded
    once; elsewhere the logits are multiplied, in float32.
    """
    scale = 1 / math.sqrt(q.shape[-1])
    if platform() != "tpu" or q.dtype == dtype:
        return q.astype(dtype), scale
    return _times(q, scale).astype(dtype), 1.0


def _times(q: jax.Array, scale: float) -> jax.Array:
    return q.astype(jnp.float32) * np.float32(scale)


def _local(q: jax.Array, k: jax.Array, v: jax.Array, scale: float, name: str | None) -> tuple[jax.Array, bool]:
    """softmax(scale · q kᵀ) v of arrays that lie on one device, or that the compiler splits.

    Also whether what is to be kept of it bears the name already.
    """
    where = platform()
    if where == "gpu" and cudnn.takes(q):
        return cudnn.cudnn_attention(q, k, v, scale), True  # kept as one operation (`renderer/remat.py`)
    long = q.shape[1] * k.shape[1] > LOGITS_LIMIT
    own = on_one_device() or bool(_manual())
    if where == "tpu" and long and own and splash.takes(q):
        scaled = q if scale == 1 else _times(q, scale).astype(q.dtype)
        return splash.splash_attention(scaled, k, v, name=name), name is not None

    def batched(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        if long:
            return blocked_attention(q, k, v, block=query_block(k.shape[1], LOGITS_LIMIT), scale=scale)
        return plain_attention(q, k, v, scale=scale)

    # Of arrays that the compiler splits, heads one after the other would bring them all to every device.
    if where == "cpu" and own:
        # Each form names what it gives, the first with what its gradient needs beside it.
        others = (lambda *given: checkpoint_name(batched(*given), name)) if name else batched
        return jax.lax.platform_dependent(q, k, v, cpu=attention_by_heads, default=others), True
    return batched(q, k, v), False


def _manual() -> tuple[str, ...]:
    """The axes of a mesh along which a device's own part is traced."""
    return jax.sharding.get_abstract_mesh().manual_axes


def plain_attention(
    q: Float[jax.Array, "b l h d"], k: Float[jax.Array, "b m h d"], v: Float[jax.Array, "b m h d"],
    scale: float | None = None,
) -> Float[jax.Array, "b l h d"]:  # fmt: skip
    """Attention with all logits `[b, h, l, m]` in memory; their scale is 1 / √d where None."""
    return jax.nn.dot_product_attention(q.astype(k.dtype), k, v, scale=scale, implementation="xla")


def query_block(keys: int, limit: int) -> int:
    """How many queries see `keys` keys within `limit` logits: a multiple of 128 where that many fit, at least 1."""
    block = max(limit // keys, 1)
    return block // 128 * 128 if block >= 128 else block


def blocked_attention(
    q: Float[jax.Array, "b l h d"], k: Float[jax.Array, "b m h d"], v: Float[jax.Array, "b m h d"], *, block: int,
    scale: float | None = None,
) -> Float[jax.Array, "b l h d"]:  # fmt: skip
    """The same numbers as `plain_attention`, `block` queries at a time: memory grows with `block`·m instead of l·m.

    The backward pass computes each block's softmax again, so that it holds no more than the forward pass does.
    """
    b, l, h, d = q.shape
    blocks = -(-l // block)
    # The last block is filled with zero queries; their rows are cut off again.
    padded = jnp.pad(q, ((0, 0), (0, blocks * block - l), (0, 0), (0, 0)))
    per_block = jnp.moveaxis(padded.reshape(b, blocks, block, h, d), 1, 0)  # [blocks, b, block, h, d]
    attended = jax.lax.map(jax.checkpoint(lambda queries: plain_attention(queries, k, v, scale)), per_block)
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
    out, sums = checkpoint_name(out, KEPT), checkpoint_name(sums, KEPT)
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
