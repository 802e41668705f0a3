"""Attention over long sequences on a TPU: the splash kernel that comes with jax, forwards and backwards.

It holds no logits outside of the chip's own memory, and takes lengths in whole blocks: rows are added up to them, and a
mask hides the keys among these. Only the last block of keys is masked at all.

The backward pass is one kernel, which makes the logits once more: five products for the seven of two kernels, one for
the queries and one for keys and values. It leaves the queries' gradient in a part for each block of keys that it holds,
to be added up; these blocks are so large that there are at most `_PARTS`.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask
from jaxtyping import Float

_LANES = 128
_PARTS = 20  # of the queries' gradient, each as large as that
_BLOCK = {2: 1024, 4: 512}  # rows at a time, by the bytes of a number: what fits the chip's own memory (v5e, v5p, v6e)


def takes(q: jax.Array) -> bool:
    """Whether the kernel computes in this dtype and with heads of this size."""
    return q.dtype in (jnp.bfloat16, jnp.float32) and q.shape[-1] % _LANES == 0


def splash_attention(
    q: Float[jax.Array, "b l h d"],
    k: Float[jax.Array, "b m h d"],
    v: Float[jax.Array, "b m h d"],
    *,
    name: str | None = None,
    interpret: bool = False,
) -> Float[jax.Array, "b l h d"]:
    """softmax(q kᵀ) v of one device's arrays: the kernel knows no scale, q has it already.

    Args:
      name: of what the backward pass needs (`checkpoint_name`): the result and the logarithms of the softmax's sums.
      interpret: runs the kernel step by step, on any platform.
    """
    l, m, h = q.shape[1], k.shape[1], q.shape[2]
    most = _BLOCK[q.dtype.itemsize]
    rows, columns = (_blocks(length, most, 2 * _LANES) for length in (l, m))
    held = -(-columns[0] // _PARTS)  # blocks of keys
    columns = -(-columns[0] // held) * held, columns[1]
    with jax.ensure_compile_time_eval():  # its tables are constants, the same for every layer and every trace
        kernel = _kernel(h, rows, columns, held, m, name, interpret)
    out = jax.vmap(kernel)(_padded(q, rows), _padded(k, columns), _padded(v, columns))
    return jnp.moveaxis(out, 1, 2)[:, :l]


def _blocks(length: int, most: int, multiple: int = _LANES) -> tuple[int, int]:
    """(how many, of how many rows): parts of one size, a multiple of whole lanes, at most `most`."""
    count = -(-length // most)
    return count, -(-length // count // multiple) * multiple


def _padded(x: Float[jax.Array, "b l h d"], blocks: tuple[int, int]) -> Float[jax.Array, "b h n d"]:
    return jnp.pad(jnp.moveaxis(x, 1, 2), ((0, 0), (0, 0), (0, blocks[0] * blocks[1] - x.shape[1]), (0, 0)))


@cache
def _kernel(
    heads: int, rows: tuple[int, int], columns: tuple[int, int], held: int, keys: int, name: str | None, interpret: bool
) -> Any:
    (_, row), (_, column) = rows, columns
    sizes = splash_attention_kernel.BlockSizes(
        block_q=row, block_kv=column, block_kv_compute=column, block_q_dkv=row // 2, block_kv_dkv=held * column,
        block_kv_dkv_compute=column // 2, use_fused_bwd_kernel=True,  # of its logits v5p has room for so many
    )  # fmt: skip
    mask = _FirstKeys((rows[0] * row, columns[0] * column), keys)
    return splash_attention_kernel.make_splash_mha_single_device(
        mask=splash_attention_mask.MultiHeadMask([mask] * heads), block_sizes=sizes, residual_checkpoint_name=name,
        interpret=interpret,
    )  # fmt: skip


@dataclass(frozen=True)
class _FirstKeys(splash_attention_mask.Mask):
    """All queries see the first `keys` keys.

    The kernel takes `mask_function` by its name, and computes it: a mask that is read takes four bytes a logit of what
    a chip has beside its products, of which v5p has no more.
    """

    size: tuple[int, int]
    keys: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.size

    @property
    def q_sequence(self) -> np.ndarray:
        return np.arange(self.size[0], dtype=np.int32)

    def mask_function(self, rows: Any, columns: Any) -> Any:
        return columns < self.keys

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        rows, columns = (np.arange(size)[part] for size, part in zip(self.size, index, strict=True))
        return np.broadcast_to(columns < self.keys, (len(rows), len(columns)))
