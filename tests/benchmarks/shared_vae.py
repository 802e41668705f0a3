"""What devices that share a window have of the autoencoder's work: decoding and encoding with Wan 2.1's at full size.

python tests/benchmarks/shared_vae.py [--topology v5e:2x4] [--height 480] [--width 832] [--frames 81]

Compiled for one chip of the topology and for all of it; none need be here, but libtpu must be installed. Prints, a
direction a line, TFLOP as XLA counts them (a loop's once) and GiB of temporary memory: of one chip alone, and of each.
"""

import argparse
import time

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from signer_jax.renderer import vae_chunks
from signer_jax.renderer.vae import VideoVAE
from signer_jax.training import partitioning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--topology", default="v5e:2x4")
    for name, default in (("height", 480), ("width", 832), ("frames", 81)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    vae = VideoVAE(
        96, 96, 16, (1, 2, 4, 4), 2, (False, True, True), 3, 3, None, False, (0.0,) * 16, (1.0,) * 16
    )  # fmt: skip
    params = jax.eval_shape(vae.init, jax.random.key(0), jnp.zeros((1, 1, 16, 16, 3)))["params"]
    chips = list(topologies.get_topology_desc(given.topology, "tpu").devices)
    video = (1, given.frames, given.height, given.width, 3)
    latents = (1, 1 + (given.frames - 1) // 4, given.height // 8, given.width // 8, 16)
    for name, function, shape in (("decode", vae_chunks.to_video, latents), ("encode", vae_chunks.to_latents, video)):
        found = []
        for devices in (chips[:1], chips):
            mesh, start = partitioning.make_mesh({"context": len(devices)}, devices), time.perf_counter()
            whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
            put = lambda leaf, whole=whole: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole)  # noqa: E731
            run = partitioning.laid_out(lambda p, x, function=function: function(vae, p, x), mesh)
            x = put(jax.ShapeDtypeStruct(shape, jnp.float32))
            program = jax.jit(run).lower(jax.tree.map(put, params), x).compile()
            cost, memory = program.cost_analysis()["flops"], program.memory_analysis().temp_size_in_bytes
            found.append(f"{cost / 1e12:8.3f} TFLOP {memory / 2**30:6.2f} GiB")
            took = time.perf_counter() - start
        print(f"{name}: alone {found[0]}, on each of {len(chips)} {found[1]} (compiled in {took:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
