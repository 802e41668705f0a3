"""cuDNN's flash attention on a GPU; where there is none, its shapes, for plans of a GPU made on another machine.

jax gives the operation for no machine without cuDNN, not even to trace it. The one that stands for it there has its
name, inputs and results, and what it keeps for its gradient, so that policies of `remat`, counts of FLOPs and of memory
see one and the same program. It cannot be run.
"""

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jaxtyping import Float

# jax's names of the operation and of its gradient in a program, and of what their lowering makes of them.
FORWARD = ("dot_product_attention_fwd_wrapper", "dot_product_attention_fwd")
BACKWARD = ("dot_product_attention_bwd_wrapper", "dot_product_attention_bwd")


def takes(q: jax.Array) -> bool:
    """Whether it takes queries of this type and size."""
    return q.dtype in (jnp.bfloat16, jnp.float16) and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128


def cudnn_attention(
    q: Float[jax.Array, "b l h d"], k: Float[jax.Array, "b m h d"], v: Float[jax.Array, "b m h d"], scale: float
) -> Float[jax.Array, "b l h d"]:
    """softmax(scale · q kᵀ) v by cuDNN, in half precision.

    jax takes no gradient of odd lengths (CLIP has 257 tokens): such ones get a row more, which nobody sees.
    """
    rows, keys = q.shape[1], k.shape[1]
    q, k, v = (jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v))
    if jax.default_backend() != "gpu":
        return _described(q, k, v)[:, :rows]
    seen = jnp.full(len(k), keys, jnp.int32) if keys % 2 else None
    return jax.nn.dot_product_attention(
        q, k, v, scale=scale, key_value_seq_lengths=seen, implementation="cudnn"
    )[:, :rows]  # fmt: skip


# ---- Its shapes ------------------------------------------------------------------------------------------------------


def _operation(name: str) -> Primitive:
    found = Primitive(name)
    found.multiple_results = True
    return found


_forward, _backward = _operation(FORWARD[0]), _operation(BACKWARD[0])


@_forward.def_abstract_eval
def _results(q: ShapedArray, k: ShapedArray, v: ShapedArray, *, is_training: bool) -> tuple[ShapedArray, ...]:
    b, l, h, _ = q.shape
    sums = ShapedArray((b, h, l), jnp.dtype(jnp.float32))  # the logarithm of each row's sum of exponentials
    return (_alike(q), sums) if is_training else (_alike(q),)


@_backward.def_abstract_eval
def _gradients(q: ShapedArray, k: ShapedArray, v: ShapedArray, *_: ShapedArray) -> tuple[ShapedArray, ...]:
    return _alike(q), _alike(k), _alike(v)


def _alike(aval: ShapedArray) -> ShapedArray:
    return ShapedArray(aval.shape, aval.dtype)


@jax.custom_vjp
def _described(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return _forward.bind(q, k, v, is_training=False)[0]


def _kept(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    out, sums = _forward.bind(q, k, v, is_training=True)
    return out, (q, k, v, sums, out)


_described.defvjp(_kept, lambda kept, gradient: tuple(_backward.bind(*kept, gradient)))
