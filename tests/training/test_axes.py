"""Every axis of the mesh alone, and every two together, compute the loss and the gradients of one device."""

import json
import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax import configuration
from signer_jax.errors import SignerError
from signer_jax.layout import AXES
from signer_jax.renderer.attention import ATTENTIONS
from signer_jax.renderer.variants import FaceBranch
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.settings import Mesh
from signer_jax.training import partitioning, run
from signer_jax.validation import read

ALONE = [{axis: 4} for axis in AXES]
PAIRS = [{one: 2, other: 2} for one, other in combinations(AXES, 2)]
WITH = [shape for shape in ALONE + PAIRS if "context" in shape]
SHAPES = [(shape, "ring") for shape in ALONE + PAIRS] + [(shape, "all_to_all") for shape in WITH]
# 45 tokens, which neither 2 nor 4 divide: a device's part begins within a frame, and the last one is filled up.
FRAMES, HEIGHT, WIDTH = 3, 6, 10
FACE = FaceBranch(
    channels=(4, 8), style_dim=8, motion_dim=4, motion_blocks=1, motion_out=8, hidden=8, heads=2, every=1, batch=4
)


def everything(kind: str) -> tuple[dict, dict]:
    """Options of a kind of transformer, and arrays for all that it takes, every example its own."""
    options: dict = {"image_dim": None}
    rng = np.random.default_rng(0)
    shapes = {"latents": (4, FRAMES, HEIGHT, WIDTH, 4), "timestep": (4,), "text": (4, 6, 16)}
    if kind == "animate":
        options |= {"face": FACE, "image_dim": 12}
        shapes |= {
            "image": (4, 5, 12), "pose": (4, FRAMES - 1, HEIGHT, WIDTH, 4), "face": (4, 4 * (FRAMES - 2) + 1, 8, 8, 3),
        }  # fmt: skip
    if kind == "all":
        options |= {"semantics_dim": 12, "image_dim": 12}
        shapes |= {
            "image": (4, 5, 12), "semantics": (4, 7, 12), "timestep": (4, FRAMES * HEIGHT * WIDTH // 4),
            "control": (4, FRAMES, HEIGHT // 2, WIDTH // 2, 32), "control_scale": (4,),
        }  # fmt: skip
    return options, {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def module(kind: str, across: str) -> VideoTransformer:
    return VideoTransformer(
        in_channels=4, out_channels=4, dim=32, heads=4, ffn_dim=48, layers=2, text_dim=16, freq_dim=16, patch=(1, 2, 2),
        eps=1e-6, remat="attention", attend=ATTENTIONS[across], **everything(kind)[0],
    )  # fmt: skip


@cache
def parameters(kind: str) -> dict:
    shapes = jax.eval_shape(module(kind, "ring").init, jax.random.key(0), **everything(kind)[1])
    rng = np.random.default_rng(1)  # none zero, as some are at the start
    return jax.tree.map(lambda leaf: (0.2 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


def computed(kind: str, shape: dict[str, int], across: str = "ring", fetch=jax.device_get) -> tuple[float, dict]:
    mesh = partitioning.make_mesh(shape, jax.devices()[: math.prod(shape.values())])
    transformer, params = module(kind, across), parameters(kind)

    def loss(params: dict, batch: dict) -> jax.Array:
        return jnp.mean(jnp.sin(transformer.apply(params, **batch)))

    placed = jax.device_put(params, partitioning.tree_shardings(params, mesh))
    batch = partitioning.put_batch(everything(kind)[1], mesh)
    return fetch(jax.jit(partitioning.laid_out(jax.value_and_grad(loss), mesh))(placed, batch))


@cache
def alone(kind: str) -> tuple[float, dict]:
    return computed(kind, {"data": 1})


def assert_same(found: tuple[float, dict], truth: tuple[float, dict]) -> None:
    assert found[0] == pytest.approx(truth[0], rel=1e-5)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(truth[1]))
    for path, true in jax.tree_util.tree_leaves_with_path(truth[1]):
        ours = found[1]
        for key in path:
            ours = ours[key.key]
        scale = np.abs(true).max()
        assert scale > 0, path
        # Of a key's bias the softmax leaves next to nothing: there the sums' own rounding shows.
        np.testing.assert_allclose(ours, true, atol=2e-5 * scale + 1e-8 * largest, err_msg=str(path))


@pytest.mark.parametrize(("shape", "across"), SHAPES, ids=str)
def test_loss_and_gradients_are_one_devices(shape, across):
    assert_same(computed("plain", shape, across), alone("plain"))


def test_all_that_a_transformer_takes_reaches_its_own_tokens():
    assert_same(computed("all", {"context": 4, "tensor": 2}), alone("all"))


def test_animates_frames_may_be_split_anywhere():
    assert_same(computed("animate", {"context": 4, "tensor": 2}), alone("animate"))


TWO = """
import sys
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
import test_axes
test_axes.print_computed()
"""


def print_computed() -> None:
    """For each way across, the loss and the sum of every gradient's size, of all processes' devices along `context`."""
    for across in ("ring", "all_to_all"):
        loss, gradients = computed("plain", {"context": 4}, across, fetch=lambda tree: tree)
        sizes = jax.jit(lambda tree: jax.tree.map(lambda leaf: jnp.sum(jnp.abs(leaf)), tree))(gradients)
        print(json.dumps({across: [float(loss), *map(float, jax.tree.leaves(sizes))]}), flush=True)


@pytest.mark.slow
def test_a_videos_tokens_may_lie_in_two_processes():
    from conftest import QUICK  # which is not for the processes that read this file

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = f"--xla_force_host_platform_device_count=2 {QUICK}"
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": paths}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, address, str(i)], env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=600) for process in both]
    finally:
        for process in both:
            process.kill()
    loss, gradients = alone("plain")
    truth = [loss, *(np.abs(leaf).sum() for leaf in jax.tree.leaves(gradients))]
    for out, err in said:
        found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]  # gloo speaks too
        assert [list(line) for line in found] == [["ring"], ["all_to_all"]], err[-2000:]
        for line in found:
            np.testing.assert_allclose(*line.values(), truth, rtol=1e-4, atol=1e-7)


def test_heads_that_cannot_be_exchanged_go_round():
    assert_same(computed("plain", {"context": 8}, "automatic"), alone("plain"))


def test_heads_that_cannot_be_exchanged_are_refused_before_a_run_begins(tmp_path):
    settings = read(configuration.load(Path(__file__).parents[1] / "tiny.py"))
    settings = replace(
        settings, mesh=Mesh(data=-1, fsdp=1, context=8, tensor=1),
        renderer=replace(settings.renderer, context_attention="all_to_all"),
    )  # fmt: skip
    with pytest.raises(SignerError, match="4 heads do not divide among mesh tensor 1 x context 8; .*'ring'.* 1, 2, 4$"):
        run.claimed(settings, tmp_path / "w").__enter__()
    assert not (tmp_path / "w").exists()
