"""Attention whose queries and keys are split among devices: the keys go round and meet every device's queries.

Ring attention (Liu et al. 2023): each device holds a part of the sequence, passes keys and values on to its neighbour
and folds what comes into a running softmax. The backward pass goes round once more: it makes each block's softmax again
from the logarithms of the sums, and the gradients of keys and values travel with them until they are home.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh, PartitionSpec
from jaxtyping import Float

_NONE = -1e30  # the logit of a key that is none; finite, so that a part without any key has no NaN


class Ring(NamedTuple):
    """How the arrays lie, and what of them is computed at once."""

    mesh: AbstractMesh
    spec: PartitionSpec  # of `[b, l, h, d]`
    keys: int  # those of the whole sequence after the first `keys` only fill it up to the number of devices
    block: int  # queries at a time
    scale: float  # of the logits
    name: str  # of what the backward pass needs (`checkpoint_name`)

    @property
    def axis(self) -> str:
        return str(self.spec[1])

    @property
    def ways(self) -> int:
        return self.mesh.shape[self.axis]

    @property
    def rows(self) -> PartitionSpec:
        """Of a number a query and head, `[b, h, l]`."""
        b, l, h, _ = self.spec
        return PartitionSpec(b, h, l)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def ring_attention(
    ring: Ring, q: Float[jax.Array, "b l h d"], k: Float[jax.Array, "b l h d"], v: Float[jax.Array, "b l h d"]
) -> Float[jax.Array, "b l h d"]:
    """softmax(scale · q kᵀ) v of global arrays, the softmax and all sums in float32. Not differentiable twice."""
    return _there(ring, q, k, v)[0]


def _there(ring: Ring, q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, tuple]:
    run = jax.shard_map(
        partial(_forward, ring), mesh=ring.mesh, in_specs=(ring.spec,) * 3, out_specs=(ring.spec, ring.rows),
        check_vma=False,
    )  # fmt: skip
    out, sums = (checkpoint_name(x, ring.name) for x in run(q, k, v))
    return out, (q, k, v, out, sums)


def _back(ring: Ring, saved: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    specs = (ring.spec,) * 4 + (ring.rows, ring.spec)

    def own(*arrays: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return _backward(ring, *arrays)

    run = jax.shard_map(own, mesh=ring.mesh, in_specs=specs, out_specs=(ring.spec,) * 3, check_vma=False)
    return run(*saved, gradient)


ring_attention.defvjp(_there, _back)


# ---- On a device -----------------------------------------------------------------------------------------------------


def _forward(ring: Ring, q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What the device's queries find, and the logarithms of their sums of exponentials `[b, h, l]`."""
    b, l, h, _ = q.shape
    queries = _in_blocks(_heads_first(q), ring.block)
    empty = jnp.zeros(queries.shape, jnp.float32)
    state = (jnp.full(empty.shape[:-1], _NONE), empty[..., 0], empty)

    def met(pair: tuple, turn: jax.Array | int, state: tuple) -> tuple:
        keys, values = (_heads_first(x) for x in pair)
        seen = _seen(ring, turn, l)

        def block(arrays: tuple) -> tuple[jax.Array, jax.Array, jax.Array]:
            queries, largest, total, found = arrays
            logits = jnp.where(seen, _logits(ring, queries, keys), _NONE)
            now = jnp.maximum(largest, logits.max(axis=-1))
            weights = jnp.where(seen, jnp.exp(logits - now[..., None]), 0.0)
            before = jnp.exp(largest - now)
            added = _product("bhlm,bhmd->bhld", weights.astype(values.dtype), values)
            return now, total * before + weights.sum(axis=-1), found * before[..., None] + added

        return lax.map(block, (queries, *state))

    def step(carry: tuple, turn: jax.Array) -> tuple[tuple, None]:
        pair, state = carry
        ahead = _passed(ring, pair)  # on its way while this part is met
        return (ahead, met(pair, turn, state)), None

    last = ring.ways - 1
    (pair, state), _ = lax.scan(step, ((k, v), state), jnp.arange(last))
    largest, total, found = met(pair, last, state)
    out = _from_blocks(found / total[..., None], l)
    sums = jnp.moveaxis(largest + jnp.log(total), 0, 2).reshape(b, h, -1)[..., :l]
    return jnp.moveaxis(out, 1, 2).astype(q.dtype), sums


def _backward(
    ring: Ring, q: jax.Array, k: jax.Array, v: jax.Array, out: jax.Array, sums: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    l, d = q.shape[1], q.shape[3]
    scale = np.float32(ring.scale)
    inner = (gradient.astype(jnp.float32) * out.astype(jnp.float32)).sum(axis=-1)
    inner = jnp.moveaxis(inner, 1, 2)  # [b, h, l]
    # Rows that fill the last block have a gradient of zero, and add nothing.
    whole = tuple(_in_blocks(x, ring.block) for x in (_heads_first(q), _heads_first(gradient)))
    whole += tuple(_in_blocks(x[..., None], ring.block)[..., 0] for x in (sums, inner))

    def met(carry: tuple, turn: jax.Array) -> tuple[tuple, None]:
        pair, (dk, dv), dq = carry
        keys, values = (_heads_first(x) for x in pair)
        seen = _seen(ring, turn, l)

        def block(carry: tuple, arrays: tuple) -> tuple[tuple, jax.Array]:
            dk, dv = carry
            queries, gradient, sums, inner = arrays
            weights = jnp.where(seen, jnp.exp(_logits(ring, queries, keys) - sums[..., None]), 0.0)
            by_weight = _product("bhld,bhmd->bhlm", gradient, values)
            dlogits = (weights * (by_weight - inner[..., None])).astype(q.dtype)
            dv = dv + _product("bhlm,bhld->bhmd", weights.astype(q.dtype), gradient)
            dk = dk + scale * _product("bhlm,bhld->bhmd", dlogits, queries)
            return (dk, dv), _product("bhlm,bhmd->bhld", dlogits, keys)

        (dk, dv), more = lax.scan(block, (dk, dv), whole)
        # A part's gradients go on with it: after the last turn all are home.
        return (_passed(ring, pair), _passed(ring, (dk, dv)), dq + more), None

    none = jnp.zeros((q.shape[0], q.shape[2], l, d), jnp.float32)
    start = ((k, v), (none, none), jnp.zeros(whole[0].shape, jnp.float32))
    (_, (dk, dv), dq), _ = lax.scan(met, start, jnp.arange(ring.ways))
    dq = scale * _from_blocks(dq, l)
    dq, dk, dv = (jnp.moveaxis(x, 1, 2).astype(q.dtype) for x in (dq, dk, dv))
    return dq, dk, dv


def _passed(ring: Ring, arrays: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Each device's arrays, now with its neighbour: after turn t, device i holds those of i + t."""
    return lax.ppermute(arrays, ring.axis, [(i, (i - 1) % ring.ways) for i in range(ring.ways)])


def _seen(ring: Ring, turn: jax.Array | int, length: int) -> jax.Array:
    """Which keys of the part that is here at a turn are keys, and not filling."""
    part = (lax.axis_index(ring.axis) + turn) % ring.ways
    return part * length + jnp.arange(length) < ring.keys


def _product(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32)


def _logits(ring: Ring, queries: jax.Array, keys: jax.Array) -> jax.Array:
    """Scaled as float32 numbers: queries in half precision would be rounded by it once more."""
    return np.float32(ring.scale) * _product("bhld,bhmd->bhlm", queries, keys)


def _heads_first(x: Float[jax.Array, "b l h d"]) -> Float[jax.Array, "b h l d"]:
    return jnp.moveaxis(x, 1, 2)


def _in_blocks(x: Float[jax.Array, "b h l d"], block: int) -> Float[jax.Array, "n b h block d"]:
    b, h, l, d = x.shape
    blocks = -(-l // block)
    filled = jnp.pad(x, ((0, 0), (0, 0), (0, blocks * block - l), (0, 0)))
    return jnp.moveaxis(filled.reshape(b, h, blocks, block, d), 2, 0)


def _from_blocks(x: Float[jax.Array, "n b h block d"], length: int) -> Float[jax.Array, "b h l d"]:
    n, b, h, block, d = x.shape
    return jnp.moveaxis(x, 0, 2).reshape(b, h, n * block, d)[:, :, :length]
