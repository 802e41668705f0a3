"""The shipped pod configs fit what they are for, compiled for it, and compute little more than their models need."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from benchmarks.scaling import PODS
from conftest import ROOT
from test_launchers import overlap

from signer_jax import configuration
from signer_jax.planning import weightless
from signer_jax.settings import Settings

# Wan 1.3B in full and alone, a clip a chip.
SMALL = ("wan_general", "v5p:2x2x4", "renderer", "--config.train.renderer.batch=16")
TOKENS = {"wan_general": 21 * 30 * 52, "pod_joint_wan_1_3b": 21 * 30 * 52, "pod_ti2v_5b": 31 * 15 * 26,
          "pod_wan_14b": 21 * 30 * 52, "pod_wan_14b:720p": 21 * 45 * 80}  # fmt: skip


@pytest.mark.slow
@pytest.mark.libtpu
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("config", "topology", "stage", "override"), [*((*pod, "") for pod in PODS), SMALL])
def test_a_pod_config_fits_its_pod(tmp_path, config, topology, stage, override):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (the `tpu` extra)")
    file = tmp_path / "plan.json"
    command = [
        sys.executable, "-m", "signer_jax", "plan", "--config", config, "--topology", topology, "--stage", stage,
        "--json", str(file), *([override] if override else []),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    check(json.loads(file.read_text())[0], stage, TOKENS.get(config, 0))


def check(found: dict, stage: str, clip: int) -> None:
    """What a plan found, of a stage whose clips have so many tokens."""
    assert found["method"] == "compiled" and found["fits"]
    assert 0.95 < found["ratio"] <= 1.4
    if stage == "slul":
        return
    # Parameters in bfloat16, for the forward pass and again for the backward one, and their gradients once.
    moved, size = found["collective_bytes"], 4 * found["parameters"]
    assert sum(moved.values()) < 4 * size / 2
    # In a ring of 16 the compiler gathers and scatters, in part by permutations beside the product; whole are summed
    # norms, biases, modulations and the control branch. In a torus of 64 it makes even a gather that is asked for by
    # name of a sum, of shards beside zeros.
    if found["mesh"]["fsdp"] == 16:
        assert moved["all-reduce"] < 0.1 * size
    # Nothing that moves has an axis of tokens, of one clip or of the whole batch's, or is the text's states.
    tokens, text = {str(clip), str(found["batch"] * clip)}, {"512", "4096"}
    for arrays in found["collective_arrays"].values():
        for shape in arrays:
            axes = set(shape.partition("[")[2].rstrip("]").split(","))
            assert not tokens & axes and not text <= axes, shape


@pytest.mark.slow
@pytest.mark.libtpu
def test_of_two_slices_gradients_alone_go_from_one_to_the_other(tmp_path):
    """With a copy of the parameters in each."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (the `tpu` extra)")
    file = tmp_path / "plan.json"
    command = [
        sys.executable, "-m", "signer_jax", "plan", "--config", "demo", "--topology", "2xv5e:2x2", "--stage", "slul",
        "--config.mesh.data=2", "--config.mesh.fsdp=4", "--config.train.slul.batch=64", "--json", str(file),
        "--config.train.slul.optimizer=adamw", *(f"--config.loss.{term}=0" for term in ("sagm", "kl", "contrastive")),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and "GB/s between slices, " in run.stdout, run.stdout + run.stderr
    (found,) = json.loads(file.read_text())
    assert found["mesh"] == {"data": 2, "fsdp": 4, "context": 1, "tensor": 1} and found["method"] == "compiled"
    far, moved = found["sent_bytes"] - found["near_bytes"], found["collective_bytes"]
    between = {kind: size for kind, size in moved.items() if kind.endswith("between slices")}
    # A chip's quarter of each gradient, in a ring of two, and whole those that no axis splits; of the batch, its ids.
    quarter, gradients = found["trained_parameters"] * 4 / 4, between.pop("all-reduce between slices")
    assert quarter < gradients <= far < 2 * quarter and sum(between.values()) < quarter / 2


KERNEL = """
import sys
import jax, jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from signer_jax.renderer.splash import splash_attention
topology, dtype, *sizes = sys.argv[1:]
queries, keys, heads = map(int, sizes)
chip = SingleDeviceSharding(topologies.get_topology_desc(topology, "tpu").devices[0])
arrays = [jax.ShapeDtypeStruct((1, n, heads, 128), dtype, sharding=chip) for n in (queries, keys, keys)]
loss = lambda *arrays: jnp.square(splash_attention(*arrays).astype(jnp.float32)).sum()
jax.jit(jax.grad(loss, (0, 1, 2))).lower(*arrays).compile()
"""


@pytest.mark.slow
@pytest.mark.libtpu
@pytest.mark.parametrize(
    ("topology", "dtype", "queries", "keys", "heads"),
    [
        ("v5e:2x2", "bfloat16", 32_760, 32_760, 12), ("v5e:2x2", "float32", 8_190, 8_190, 12),
        ("v5p:2x2x1", "bfloat16", 32_760, 32_760, 40), ("v5p:2x2x1", "bfloat16", 75_600, 75_600, 40),
        ("v5p:2x2x1", "bfloat16", 32_760, 512, 40), ("v6e:2x2", "bfloat16", 27_280, 27_280, 24),
    ],
)  # fmt: skip
def test_the_kernel_of_long_attention_fits_what_a_chip_has_beside_its_products(topology, dtype, queries, keys, heads):
    """Of the published sizes, with its gradient. A mask that is read, of whole blocks, did not on v5p."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (the `tpu` extra)")
    command = [sys.executable, "-c", KERNEL, topology, dtype, *map(str, (queries, keys, heads))]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.libtpu
def test_the_overlap_flags_are_known_to_libtpu():
    """An unknown one ends the process."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (the `tpu` extra)")
    command = [sys.executable, "-m", "signer_jax", "plan", "--config", "demo", "--topology", "v5e:2x2"]
    # A batch that does not divide is refused once the topology has been described.
    command += ["--stage", "slul", "--config.train.slul.batch=3", "--config.mesh.data=4"]
    for more, says in (("", "batch 3 does not divide"), (" --xla_tpu_no_such_flag=true", "xla_tpu_no_such_flag")):
        environment = os.environ | {"LIBTPU_INIT_ARGS": overlap()["LIBTPU_INIT_ARGS"] + more}
        environment.pop("XLA_FLAGS", None)
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert run.returncode != 0 and says in run.stderr


@pytest.mark.parametrize("config", sorted({config for config, _, _ in PODS}))
def test_a_pod_config_goes_together_and_is_of_the_published_size(config):
    settings: Settings = configuration.load_without_weights(config)
    found = weightless.described(settings)
    from signer_jax.planning.steps import numbers

    sizes = {part: numbers(tree) for part, tree in found.params.items()}
    if "renderer" in sizes:
        from signer_jax.renderer.variants import find

        published = find(settings.renderer.variant).sizes.parameters
        transformer = numbers(found.params["renderer"]["transformer"])
        beside = settings.slul.d_model * found.model.renderer.transformer.dim  # what reads SLUL's features
        assert published < transformer < published + 2 * beside + 10**6
        assert sizes["vae"] == pytest.approx({16: 126.9e6, 48: 704.7e6}[found.model.vae.z_dim], rel=0.01)
    else:
        assert sizes["slul"] == pytest.approx(247.6e6, rel=0.01)
