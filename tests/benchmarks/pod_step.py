"""A training step of a published size, compiled for a TPU pod on a machine without one: what it computes and moves.

python tests/benchmarks/pod_step.py --topology v5p:2x2x4 --fsdp 16 --size 1.3B

Needs libtpu (the `tpu` extra). The step is the train loop's own, on the video transformer and a control branch:
bfloat16 compute, float32 parameters, blocks computed again in the backward pass, AdamW, one clip of 81 frames of
480×832 for each device that shares the batch. Nothing is allocated. A loop's body is compiled once whatever its length,
so `--layers` changes the figures and not the time.
"""

import argparse
import json
import os
import time
from dataclasses import replace
from typing import Any

os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from signer_jax import configuration
from signer_jax.renderer.control import ControlBranch
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.training import cost, partitioning
from signer_jax.training.loop import Stage, TrainState, make_step
from signer_jax.training.optimizer import optimizer
from signer_jax.validation import read

SIZES = {"1.3B": (12, 8960, 30), "14B": (40, 13824, 40)}  # heads, hidden units, layers
FRAMES, HEIGHT, WIDTH = 21, 60, 104  # latents
ROWS = 512  # of text
PICTURE = 4 * 3  # channels of the control pictures that a latent frame covers


def modules(size: str, layers: int) -> tuple[Any, Any]:
    heads, ffn, _ = SIZES[size]
    transformer = VideoTransformer(
        in_channels=32, out_channels=16, dim=128 * heads, heads=heads, ffn_dim=ffn, layers=layers, text_dim=4096,
        freq_dim=256, patch=(1, 2, 2), image_dim=None, eps=1e-6, dtype=jnp.bfloat16, remat=True,
    )  # fmt: skip
    control = ControlBranch(
        channels=(64, 128, 256), strides=(2, 2, 2), dim=128 * heads, groups=8, freq_dim=128, time_dim=256,
        dtype=jnp.bfloat16,
    )  # fmt: skip
    return transformer, control


def batch_of(b: int) -> dict[str, jax.ShapeDtypeStruct]:
    shapes = {
        "latents": (FRAMES, HEIGHT, WIDTH, 32), "target": (FRAMES, HEIGHT, WIDTH, 16), "step": (),
        "text": (ROWS, 4096), "picture": (FRAMES, 4 * HEIGHT, 4 * WIDTH, PICTURE),
    }  # fmt: skip
    return {name: jax.ShapeDtypeStruct((b, *shape), jnp.float32) for name, shape in shapes.items()}


def measure(topology: str, fsdp: int, context: int, tensor: int, size: str, layers: int) -> dict:
    transformer, control = modules(size, layers)

    def init(key: jax.Array) -> dict:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch_of(1))
        features, branch = control.init_with_output(key, zeros["picture"], zeros["step"])
        inputs = (zeros["latents"], zeros["step"], zeros["text"])
        params = transformer.init(key, *inputs, control=features)["params"]
        return {"renderer": {"transformer": params, "control": branch["params"]}}

    def objective(params: Any, batch: dict, rng: Any) -> tuple[jax.Array, dict]:
        params = params["renderer"]
        features = control.apply({"params": params["control"]}, batch["picture"], batch["step"])
        inputs = (batch["latents"], batch["step"], batch["text"])
        velocity = transformer.apply({"params": params["transformer"]}, *inputs, control=features)
        return jnp.mean((velocity - batch["target"]) ** 2), {}

    c = read(configuration.load("default"))
    training = replace(c.train.renderer, optimizer="adamw")
    stage = Stage("renderer", objective, ("renderer",), training, c.optimizers, c.lora, c.nonfinite_steps)
    tx = optimizer(training, c.optimizers)

    def initial(key: jax.Array) -> TrainState:
        params = init(key)
        none = jnp.zeros((), jnp.int32)
        return TrainState(none, params, {}, tx.init(params), key, none, none)

    devices = topologies.get_topology_desc(topology, "tpu").devices
    mesh = partitioning.make_mesh({"data": -1, "fsdp": fsdp, "context": context, "tensor": tensor}, devices)
    state = jax.eval_shape(initial, jax.random.key(0))
    shardings = partitioning.tree_shardings(state, mesh)
    b = partitioning.batch_ways(mesh)
    batch = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=partitioning.batch_sharding(mesh))
        for name, x in batch_of(b).items()
    }
    # What the model needs, whoever computes it: three times the forward pass, nothing computed twice.
    model = (
        3 * cost.model_flops(lambda *inputs: objective(*inputs)[0], state.params, batch_of(1), None) / tensor / context
    )

    started = time.perf_counter()
    step = jax.jit(partitioning.laid_out(make_step(stage, tx), mesh), donate_argnums=0, out_shardings=(shardings, None))
    traced = step.trace(partitioning.abstract(state, shardings), {}, batch)
    compiled = traced.lower(lowering_platforms=("tpu",)).compile()
    found, memory = cost.read(compiled.as_text()), compiled.memory_analysis()
    return {
        "topology": topology, "mesh": dict(mesh.shape), "size": size, "layers": layers,
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
        "model_flops": model, "compiled_flops": found.flops, "ratio": found.flops / model,
        "bytes": found.bytes, "arrays": found.arrays, "state_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes, "compile_seconds": time.perf_counter() - started,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="v5p:2x2x4")
    parser.add_argument("--fsdp", type=int, default=16)
    parser.add_argument("--context", type=int, default=1)
    parser.add_argument("--tensor", type=int, default=1)
    parser.add_argument("--size", choices=SIZES, default="1.3B")
    parser.add_argument("--layers", type=int, help="fewer than the model's")
    given = parser.parse_args()
    layers = given.layers or SIZES[given.size][2]
    print(json.dumps(measure(given.topology, given.fsdp, given.context, given.tensor, given.size, layers)))
