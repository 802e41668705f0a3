"""The dense layer of all models: a kernel, and the low-rank term of the adapter that may stand beside it.

An adapter (Hu et al. 2021) makes y = x W + α/r · (x A) B. Its A and B are parameters beside the kernel, `lora_a`
[in, r] and `lora_b` [r, out], B times α/r; whoever has them gives them, in training as in signing (`training/lora.py`).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

A, B = "lora_a", "lora_b"


class Dense(nn.Dense):
    """`nn.Dense` of [*b, c], and the term of an adapter where its parameters carry one: [*b, o].

    The term is computed apart from the kernel: added to it, in bfloat16 most of it would be rounded away.
    """

    def __call__(self, inputs: Any) -> jax.Array:
        y = super().__call__(inputs)
        if not self.has_variable("params", A):
            return y
        a, b = (jnp.asarray(self.get_variable("params", name), y.dtype) for name in (A, B))
        return y + inputs.astype(y.dtype) @ a @ b


def is_adapters(path: str) -> bool:
    """Whether a parameter of this path is an adapter's."""
    return path.rpartition("/")[2] in (A, B)
