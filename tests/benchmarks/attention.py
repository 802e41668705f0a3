"""Attention on a CPU, forward and with its gradient: this project's forms beside torch's scaled_dot_product_attention.

    python tests/benchmarks/attention.py [--tokens 4096] [--heads 8] [--width 64]

The same random arrays, float32, a batch of one. The forms take turns, so that a machine that others load as well slows
all of them. Printed: the least CPU time of a few runs, all cores together, in milliseconds. Needs the [parity] extra.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

RUNS = 4

Array = np.ndarray


def ours(form: Callable, arrays: tuple[Array, ...]) -> tuple[Callable[[], object], Callable[[], object]]:
    """(forward, gradient), each of which waits for its result."""
    import jax
    import jax.numpy as jnp

    forward = jax.jit(form)
    gradient = jax.jit(jax.grad(lambda *qkv: jnp.square(form(*qkv)).mean(), argnums=(0, 1, 2)))
    return lambda: jax.block_until_ready(forward(*arrays)), lambda: jax.block_until_ready(gradient(*arrays))


def theirs(arrays: tuple[Array, ...]) -> tuple[Callable[[], object], Callable[[], object]]:
    import torch

    qkv = [torch.from_numpy(array).transpose(1, 2).requires_grad_() for array in arrays]
    attend = torch.nn.functional.scaled_dot_product_attention

    def forward() -> None:
        with torch.no_grad():
            attend(*qkv)

    return forward, lambda: torch.autograd.grad(attend(*qkv).square().mean(), qkv)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("tokens", 4096), ("heads", 8), ("width", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    size = parser.parse_args()

    from signer_jax.allocator import tune

    tune()  # as the `signer` program does
    from signer_jax.renderer.attention import LOGITS_LIMIT, attention_by_heads, blocked_attention, query_block

    rng = np.random.default_rng(0)
    shape = (1, size.tokens, size.heads, size.width)
    arrays = tuple(rng.standard_normal(shape, np.float32) for _ in range(3))
    block = query_block(size.tokens, LOGITS_LIMIT)
    programs = {
        "all heads, blocks of queries": ours(lambda *qkv: blocked_attention(*qkv, block=block), arrays),
        "a head after the other": ours(attention_by_heads, arrays),
        "torch": theirs(arrays),
    }
    least = {name: [float("inf")] * 2 for name in programs}
    for run in range(RUNS + 1):  # the first compiles
        for name, pair in programs.items():
            for i, program in enumerate(pair):
                start = time.process_time()
                program()
                if run:
                    least[name][i] = min(least[name][i], 1000 * (time.process_time() - start))
    print(f"{'':32}{'forward':>10}{'gradient':>10}")
    for name, (forward, gradient) in least.items():
        print(f"{name:32}{forward:10.0f}{gradient:10.0f}")


if __name__ == "__main__":
    main()
