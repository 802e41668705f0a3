"""How long a training step is traced and lowered where Python looks for garbage every 700 new objects, its own habit,
and every 10,000, as `signer` has it (`allocator.collect_seldom`). Seconds of the processor, in turns, medians.

    python tests/benchmarks/tracing.py [--rounds 7]
"""

import argparse
import gc
import time

import jax
import jax.numpy as jnp
import numpy as np

from signer_jax.slul.t5 import T5

PYTHONS, OURS = 700, 10_000


def lowered(seldom: int) -> float:
    """The gradient of T5-small's loss, layers unrolled."""
    model = T5(
        vocab_size=32_128, d_model=512, d_kv=64, d_ff=1024, heads=6, encoder_layers=8, decoder_layers=8,
        relative_buckets=32, relative_max_distance=128, activation="gated-gelu", tie_embeddings=False,
        relative_bias_every_layer=False, dropout=0.0, scan_unroll=8,
    )  # fmt: skip
    ids = jnp.ones((2, 16), jnp.int32)
    gc.set_threshold(seldom, *gc.get_threshold()[1:])
    shapes = jax.eval_shape(model.init, jax.random.key(0), ids, ids)
    jax.clear_caches()
    start = time.process_time()
    jax.jit(jax.grad(lambda params: model.apply(params, ids, ids).sum())).lower(shapes)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    taken: dict[int, list[float]] = {PYTHONS: [], OURS: []}
    for _ in range(parser.parse_args().rounds + 1):
        for seldom, seconds in taken.items():
            seconds.append(lowered(seldom))
    medians = {seldom: float(np.median(seconds[1:])) for seldom, seconds in taken.items()}
    print(f"every {PYTHONS}: {medians[PYTHONS]:.2f} s, every {OURS}: {medians[OURS]:.2f} s, ratio "
          f"{medians[OURS] / medians[PYTHONS]:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
