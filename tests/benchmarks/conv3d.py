"""GFLOP/s of every form of the causal 3x3x3 convolution, forward and forward + backward, beside torch's conv3d.

    python tests/benchmarks/conv3d.py                      the shapes of small video autoencoders, float32
    python tests/benchmarks/conv3d.py --shape 4,5,32,32    batch, frames, height = width, channels (may be repeated)

Forward + backward counts three times the forward's operations. The best of many runs is printed; torch is left out
where it is not installed.
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from signer_jax.renderer.convolution import causal_padding, channel_form, column_form, conv3d, native_form, tap_form

SHAPES = ((4, 5, 32, 16), (4, 5, 32, 32), (4, 5, 16, 32), (4, 5, 16, 64), (4, 5, 8, 96))
SIZE, STRIDES = (3, 3, 3), (1, 1, 1)
# "conv3d" is what the project runs: the platform's form with its own backward.
FORMS = {
    "native": native_form,
    "taps": tap_form,
    "columns": column_form,
    "channels": channel_form,
    "conv3d": conv3d,
}


def best_seconds(run: Callable[[], object], at_least: float) -> float:
    """The fastest of the runs that fit into `at_least` seconds, after one to warm up."""
    run()
    best, end = float("inf"), time.perf_counter() + at_least
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def jax_seconds(form: Callable, x: np.ndarray, kernel: np.ndarray, at_least: float) -> tuple[float, float]:
    def apply(x, kernel):
        return form(x, kernel, STRIDES, causal_padding(SIZE))

    forward = jax.jit(apply)
    both = jax.jit(jax.grad(lambda x, kernel: (apply(x, kernel) ** 2).sum(), argnums=(0, 1)))
    arrays = jnp.asarray(x), jnp.asarray(kernel)
    return tuple(best_seconds(lambda f=f: jax.block_until_ready(f(*arrays)), at_least) for f in (forward, both))


def torch_seconds(x: np.ndarray, kernel: np.ndarray, at_least: float) -> tuple[float, float]:
    import torch
    from torch.nn import functional

    video = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_()
    weight = torch.from_numpy(kernel.transpose(4, 3, 0, 1, 2).copy()).requires_grad_()

    def apply():
        return functional.conv3d(functional.pad(video, (1, 1, 1, 1, 2, 0)), weight)

    with torch.no_grad():
        forward = best_seconds(apply, at_least)
    return forward, best_seconds(lambda: apply().pow(2).sum().backward(), at_least)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", help="batch,frames,side,channels")
    parser.add_argument("--seconds", type=float, default=0.4, help="time spent on each figure")
    arguments = parser.parse_args()
    shapes = [tuple(map(int, shape.split(","))) for shape in arguments.shape] if arguments.shape else SHAPES
    print(f"{jax.default_backend()}, float32, GFLOP/s: forward | forward + backward")
    for b, t, side, c in shapes:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(b, t, side, side, c)).astype(np.float32)
        kernel = rng.normal(size=(*SIZE, c, c)).astype(np.float32)
        gflop = 2 * np.prod(SIZE) * c * c * b * t * side**2 / 1e9
        print(f"\n{b} x {t} frames of {side}x{side}, {c} channels")
        runs = {name: jax_seconds(form, x, kernel, arguments.seconds) for name, form in FORMS.items()}
        try:
            runs["torch"] = torch_seconds(x, kernel, arguments.seconds)
        except ImportError:
            print("  (torch is not installed)")
        for name, (forward, both) in runs.items():
            print(f"  {name:10s} {gflop / forward:7.1f} | {3 * gflop / both:7.1f}", flush=True)


if __name__ == "__main__":
    main()
