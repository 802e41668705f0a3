"""The kernel gradient of a dense layer: automatic differentiation beside the order in `signer_jax/matmul.py`.

    python tests/benchmarks/matmul.py

Inside a scan over four layers, as in the models. Printed: CPU milliseconds a layer (the fastest of the runs, which
alternate; CPU time, so that other programs on the machine count little), and the ratio automatic / ours.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from signer_jax.matmul import matmul

LAYERS, RUNS = 4, 8
SHAPES = ((16, 48, 256, 512), (16, 48, 512, 256), (2, 320, 256, 1024), (2, 320, 1024, 256), (2, 320, 256, 256))


def kernel_gradient(product):
    """`(xs, gradients) -> kernel gradients` of every layer."""

    def layer(carry, inputs):
        x, gradient = inputs
        kernel = jnp.zeros((x.shape[-1], gradient.shape[-1]))
        # Twice the gradient: something for XLA to fuse, as every real gradient is.
        return carry, jax.vjp(lambda kernel: product(x, kernel), kernel)[1](2 * gradient)[0]

    return jax.jit(lambda xs, gradients: jax.lax.scan(layer, None, (xs, gradients))[1])


def main() -> None:
    rng = np.random.default_rng(0)
    forms = (kernel_gradient(jnp.matmul), kernel_gradient(matmul))
    print(f"{'batch, length, in, out':28}{'automatic':>10}{'ours':>10}{'ratio':>8}")
    for batch, length, c, o in SHAPES:
        arrays = [jnp.asarray(rng.standard_normal((LAYERS, batch, length, n), np.float32)) for n in (c, o)]
        best = [np.inf, np.inf]
        for _ in range(RUNS + 1):
            for i, form in enumerate(forms):
                start = time.process_time()
                jax.block_until_ready(form(*arrays))
                best[i] = min(best[i], time.process_time() - start)
        automatic, ours = (1000 * seconds / LAYERS for seconds in best)
        print(f"{(batch, length, c, o)!s:28}{automatic:10.2f}{ours:10.2f}{automatic / ours:8.2f}", flush=True)


if __name__ == "__main__":
    main()
