"""What each of several devices that share a window has of the autoencoder's work on it.

python tests/benchmarks/shared_vae.py [--height 32] [--width 128] [--frames 13]

On 1, 2, 4 and 8 virtual CPU devices, with a small autoencoder in Wan 2.1's layout. Prints, a direction and a number of
devices a line: millions of FLOPs and KiB of temporary memory a device, as XLA plans them, and how far the result is
from one device's (norm of the difference, over its own).
"""

import argparse
import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from signer_jax.renderer import vae_chunks
from signer_jax.renderer.vae import VideoVAE
from signer_jax.training import partitioning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("height", 32), ("width", 128), ("frames", 13)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    vae = VideoVAE(
        16, 16, 4, (1, 2, 4, 4), 1, (False, True, True), 3, 3, None, False, (0.0,) * 4, (1.0,) * 4
    )  # fmt: skip
    rng, shapes = np.random.default_rng(0), jax.eval_shape(vae.init, jax.random.key(0), jnp.zeros((1, 1, 8, 8, 3)))
    params = jax.tree.map(
        lambda leaf: rng.normal(0, min(0.5, np.prod(leaf.shape[:-1]) ** -0.5), leaf.shape).astype(np.float32),
        shapes["params"],
    )
    video = rng.uniform(-1, 1, (1, given.frames, given.height, given.width, 3)).astype(np.float32)
    latents = rng.normal(size=(1, 1 + (given.frames - 1) // 4, given.height // 8, given.width // 8, 4))
    for name, of, x in (
        ("decode", vae_chunks.to_video, latents.astype(np.float32)), ("encode", vae_chunks.to_latents, video),
    ):  # fmt: skip
        alone = None
        for ways in (1, 2, 4, 8):
            mesh = partitioning.make_mesh({"context": ways}, jax.devices()[:ways])
            held = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
            run = jax.jit(partitioning.laid_out(lambda params, x, of=of: of(vae, params, x), mesh))
            program = run.lower(held, x).compile()
            made = np.asarray(program(held, x))
            alone = made if alone is None else alone
            apart = np.linalg.norm(made - alone) / np.linalg.norm(alone)
            flops, memory = program.cost_analysis()["flops"] / 1e6, program.memory_analysis().temp_size_in_bytes >> 10
            print(f"{name} on {ways}: {flops:8,.1f} MFLOP {memory:8,} KiB {apart:.1e} apart", flush=True)


if __name__ == "__main__":
    main()
