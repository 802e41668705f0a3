"""`signer plan` without a TPU's compiler: a compilation for virtual devices, GPUs by arithmetic, bad input."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import ROOT, TINY

from signer_jax.cli import plan as command
from signer_jax.cli.main import main
from signer_jax.planning import plan as planning

FSDP = ["--config.mesh.data=1", "--config.mesh.fsdp=8"]


def planned(capsys, tmp_path, *arguments: str, code: int = 0) -> tuple[list[dict], str]:
    file = tmp_path / "plan.json"
    assert main(["plan", *arguments, "--json", str(file)]) == code
    return json.loads(file.read_text()), capsys.readouterr().out


def test_a_stage_is_compiled_and_its_bytes_are_the_layouts(capsys, tmp_path):
    (found,), said = planned(
        capsys, tmp_path, "--config", str(TINY), "--topology", "cpu:8", "--stage", "slul", *FSDP
    )  # fmt: skip
    assert found["method"] == "compiled" and found["mesh"]["fsdp"] == 8 and found["batch"] == 8
    assert found["fits"] and "stage slul on cpu:8, fsdp 8, batch 8 (compiled" in said
    memory = found["memory_bytes"]
    # AdamW has two moments. Nothing of what lies on a device is padded there, so the program is given what was planned.
    assert memory["optimizer state"] == pytest.approx(2 * memory["parameters that train"], rel=0.01)
    assert memory["parameters that train"] < 4 * found["trained_parameters"] / 4
    assert memory["batch"] == 4 * (40 + 32 + 32) and memory["temporaries"] > 0
    assert memory.get("padding to tiles", 0) == 0
    assert found["total_bytes"] == sum(memory.values())
    assert 0.99 < found["ratio"] < 1.5 and found["collective_bytes"]["all-gather"] > 0 and found["sent_bytes"] > 0
    assert found["assumed"] == ["a vocabulary of 400 pieces (config.tokenizer.vocab_size; a corpus may need fewer)"]


def test_gpus_are_planned_by_arithmetic(capsys, tmp_path):
    (found,), said = planned(
        capsys, tmp_path, "--config", str(TINY), "--topology", "h100:8", "--stage", "slul", *FSDP
    )  # fmt: skip
    assert found["method"] == "arithmetic" and "not compiled" in said and "989 TFLOP/s" in said
    (compiled,), _ = planned(
        capsys, tmp_path, "--config", str(TINY), "--topology", "cpu:8", "--stage", "slul", *FSDP
    )  # fmt: skip
    for kind in ("parameters that train", "optimizer state", "batch"):
        assert found["memory_bytes"][kind] == compiled["memory_bytes"][kind]
    assert found["model_flops"] == compiled["model_flops"]
    assert found["compiled_flops"] == pytest.approx(compiled["compiled_flops"], rel=0.1)
    assert found["memory_bytes"]["activations"] == pytest.approx(compiled["memory_bytes"]["temporaries"], rel=0.2)
    moved, program = found["collective_bytes"], compiled["collective_bytes"]
    assert moved["all-gather"] == pytest.approx(program["all-gather"], rel=0.1)
    # A CPU's compiler sums a gradient whole and cuts its part, and tables of positions, which are no parameters.
    assert 0.7 < (moved["all-reduce"] + 8 * moved["reduce-scatter"]) / program["all-reduce"] < 1.1
    assert found["near_bytes"] == 0
    estimate = found["estimate"]
    parts = [estimate[f"{part}_seconds"] for part in ("products", "memory", "links")]
    # A bound, and no other side of it: what a step takes was never seen to be below the sum of the three.
    assert estimate["least_seconds"] == max(parts) and not {"most_seconds", "mfu_least"} & estimate.keys()
    assert estimate["mfu_most"] == pytest.approx(found["model_flops"] / 989e12 / max(parts))
    assert "a step, at least" in said and "MFU at most" in said and "a step took 2.04 s, MFU 42%" in said
    assert estimate["products_seconds"] == found["compiled_flops"] / 989e12


def test_what_gpus_of_several_nodes_send_is_told_by_where_it_goes(capsys, tmp_path):
    given = ["--config", str(TINY), "--topology", "h100:16", "--stage", "slul", "--config.train.slul.batch=16"]
    (rows,), said = planned(capsys, tmp_path, *given, "--config.mesh.data=1", "--config.mesh.fsdp=16")
    assert rows["near_bytes"] == 0 and " GB at 50 GB/s\n" in said
    mesh = ("--config.mesh.data=1", "--config.mesh.fsdp=4", "--config.mesh.tensor=4")
    (found,), said = planned(capsys, tmp_path, *given, *mesh)
    assert "no fragments, whole along tensor)" in said
    # What tensor adds up stays in a node; parameters and their gradients do not.
    added = found["near_bytes"] / (2 * 3 / 4)
    assert 0.9 < added / found["collective_bytes"]["all-reduce"] < 1 and " GB at 450 GB/s within nodes" in said
    assert found["estimate"]["links_seconds"] == pytest.approx(
        (found["sent_bytes"] - found["near_bytes"]) / 50e9 + found["near_bytes"] / 450e9
    )


@pytest.mark.parametrize("topology", ["h100:8", "cpu:8"])
def test_an_optimizer_state_in_the_hosts_memory_takes_none_of_a_chips(capsys, tmp_path, topology):
    given = ["--config", str(TINY), "--topology", topology, "--stage", "slul", *FSDP]
    (here,), _ = planned(capsys, tmp_path, *given)
    (there,), said = planned(capsys, tmp_path, *given, "--config.offload_optimizer=true")
    before, after = (found["memory_bytes"]["optimizer state"] for found in (here, there))
    assert here["host_bytes"] == 0 and there["host_bytes"] == before - after and after < 100  # numbers stay
    assert "optimizer state, for each chip" in said
    kinds = here["memory_bytes"].keys() - {"optimizer state", "activations", "temporaries", "results not in place"}
    assert all(there["memory_bytes"].get(kind, 0) == here["memory_bytes"][kind] for kind in kinds)


def test_what_does_not_fit_is_said_and_is_the_exit_code(capsys, tmp_path):
    (found,), said = planned(
        capsys, tmp_path, "--config", "pod_wan_14b", "--topology", "h100:1", "--stage", "renderer",
        "--config.train.renderer.batch=1", code=1,
    )  # fmt: skip
    assert not found["fits"] and found["total_bytes"] > found["limit_bytes"]
    assert "does not fit: " in said and " of 72.8 GiB a chip" in said
    assert found["trained_parameters"] == pytest.approx(14.3e9, rel=0.01)
    assert any(
        "wan2.1-t2v-14b as published (config.renderer.init (not set) is not here)" in line for line in found["assumed"]
    )
    # A frozen transformer has no gradients of its own kernels: the activations' alone, and only behind the branch.
    (frozen,), _ = planned(
        capsys, tmp_path, "--config", "pod_wan_14b", "--topology", "h200:8", "--stage", "renderer",
        "--config.train.renderer.batch=8", "--config.train.renderer.trains=branch",
    )  # fmt: skip
    assert 0.6 < frozen["model_flops"] / found["model_flops"] < 0.95


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--topology", "v9:2x2"], "--topology v9:2x2: unknown chip 'v9'"),
        (["--topology", "v5p:4x4"], "v5p has a shape of 3 sides"),
        (["--topology", "h100:2x4"], "give the number of chips, h100:8"),
        (
            ["--topology", "2xh100:8"],
            "--topology 2xh100:8: slices are of TPUs (2xv5p:4x4x4); of h100 give the number of all, h100:16",
        ),
        (["--topology", "2xv5p:4x4"], "v5p has a shape of 3 sides; such as 2xv5e:4x4, "),
        (["--topology", "2xv5e-16"], "--topology 2xv5e-16: give the slice's shape; that is 2xv5e:4x4"),
        (["--topology", "0xv5p:4x4x4"], "--topology 0xv5p:4x4x4: unknown chip '0xv5p' (did you mean 'v5p'?)"),
        (["--topology", "9xv9:2x2"], "of two slices 2xv5p:4x4x4), or GPUs"),
        (["--topology", "h100"], "give the number of chips, h100:8"),
        (["--topology", "cpu:64"], "this process has 8 virtual devices"),
        (["--topology", "h100:8", "--config.mesh.fsdp=3"], "does not fit 8 devices"),
        (["--topology", "h100:8", "--stage", "joints"], "--stage joints: not a stage of this config (did you mean"),
        (["--topology", "h100:8", "--stage", "slul", "--config.train.slul.batch=6"], "batch 6 does not divide among 8"),
        (["--topology", "h100:8", "--search", "0"], "--search 0: give how many to try"),
        (["--topology", "h100:8", "--config.stages=slul,poses"], "unknown stage 'poses'"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, says):
    assert main(["plan", "--config", str(TINY), *arguments]) == 2
    line = capsys.readouterr().err
    assert says in line and line.count("\n") == 1


def test_what_was_planned_stays_where_a_later_stage_fails(monkeypatch, tmp_path):
    import json
    from types import SimpleNamespace

    from signer_jax.errors import SignerError
    from signer_jax.planning import plan as planning
    from signer_jax.planning import weightless

    def plan(name, *_, **__):
        if name != "slul":
            raise SignerError("no more")
        return SimpleNamespace(figures=lambda: {"stage": name}, fits=True, stage=name)

    monkeypatch.setattr(planning, "plan", plan)
    monkeypatch.setattr(planning, "lines", lambda one: [])
    monkeypatch.setattr(weightless, "described", lambda settings: None)
    file = tmp_path / "plan.json"
    assert main(["plan", "--config", str(TINY), "--topology", "h100:1", "--json", str(file)]) == 2
    assert json.loads(file.read_text()) == [{"stage": "slul"}]


def test_without_libtpu_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert main(["plan", "--config", str(TINY), "--topology", "v5e:4x4"]) == 2
    assert "pip install 'signer-jax[tpu]' in a second environment" in capsys.readouterr().err


def test_a_search_begins_where_the_configs_own_batch_cannot_be(capsys, tmp_path):
    """The demo's renderer has batches of three, which eight chips do not share; larger ones come before other axes."""
    found, said = planned(
        capsys, tmp_path, "--config", "demo", "--topology", "h100:8", "--stage", "renderer", "--search", "6"
    )
    assert len(found) == 6 and "6 of 6 tried fit" in said
    assert [plan["batch"] for plan in found][:4] == [8, 8, 16, 16]  # of the mesh that it has, data 8, and of fsdp 8
    assert all(plan["mesh"]["tensor"] == plan["mesh"]["context"] == 1 for plan in found)


def test_a_search_raises_batches_as_long_as_they_fit_and_ranks(capsys, tmp_path):
    found, said = planned(
        capsys, tmp_path, "--config", str(TINY), "--topology", "h100:4", "--stage", "slul", "--search", "5"
    )  # fmt: skip
    assert len(found) == 5 and found[0]["batch"] == 8 and found[0]["mesh"]["data"] == 4
    assert len({(str(one["mesh"]), one["batch"], one["remat"]) for one in found}) == 5
    assert not any("remat" in line for one in found for line in one["assumed"])
    assert "5 of 5 tried fit" in said and "--config.mesh.data=" in said and "--config.train.slul.batch=" in said
    times = [one["estimate"]["least_seconds"] / one["batch"] for one in found]
    best = found[times.index(min(times))]
    assert f"--config.train.slul.batch={best['batch']} --config.remat={best['remat']}\n" in said


def test_a_search_has_a_copy_of_the_parameters_in_each_slice():
    from signer_jax import chips, configuration
    from signer_jax.planning import search

    settings = configuration.load_without_weights(TINY, ["--config.mesh.data=1", "--config.mesh.fsdp=-1"])
    tried = [mesh for mesh, _, _ in search._candidates("slul", settings, chips.topology("4xv5e:2x2"))]
    assert tried[0]["fsdp"] == 16 and {"data": 4, "fsdp": 4, "context": 1, "tensor": 1} in tried
    assert {"data": 4, "fsdp": 2, "context": 1, "tensor": 2} in tried
    # Once each, the config's own too where it is one of those that are made.
    for mesh in ({"data": 1, "fsdp": 16}, {"data": 4, "fsdp": 4}, {"data": 2, "fsdp": 8}):
        batched, divided = search._meshes(mesh | {"context": 1, "tensor": 1}, 16, 4)
        assert len({tuple(one.values()) for one in batched + divided}) == len(batched + divided)
    assert all(mesh["data"] == 4 for mesh in tried if mesh["tensor"] * mesh["context"] > 1)


def test_it_sets_up_its_virtual_devices_by_itself():
    """In a process of its own, where JAX is not loaded yet."""
    code = (
        "import os; os.environ.pop('XLA_FLAGS', None)\n"
        "from signer_jax.cli import plan\n"
        "plan._quiet(4)\n"
        "import jax\n"
        "print(jax.device_count())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "4"


REFUSED = """RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used \
42.90G of 31.25G hbm. Exceeded hbm capacity by 11.65G.

Total hbm usage >= 43.40G:
    reserved        512.00M
    program          35.00G
    arguments         7.90G

Largest program allocations in hbm:

  1. Size: 7.50G
     Operator: op_name="jit(step)/layers/wi/dot_general" source_file="a.py"
     Shape: bf16[16,33600,8960]{2,1,0:T(8,128)(2,1)}
     Unpadded size: 7.50G
     XLA label: fusion.1 = ...
     Allocation type: HLO temp
     ==========================

  2. Size: 1.25G
     Shape: f32[8,128]{1,0}
     ==========================
"""


def test_a_kernel_without_room_is_no_lack_of_the_chips_large_memory():
    from signer_jax.planning.compiled import kernel_refused

    message = (
        "RESOURCE_EXHAUSTED: E1001: CompileTimeScopedVmemOom:\nRan out of memory in memory space vmem while allocating "
        "on stack for %splash_mha_dkv.1 = (f32[1024,128]{1,0}) custom-call(%copy). Scoped allocation with size 16.42M "
        "and limit 16.00M exceeded scoped vmem limit by 428.0K."
    )
    assert kernel_refused(message).startswith(
        "the kernel splash_mha_dkv.1 needs 16.42MiB of the 16.00MiB of a chip's own"
    )
    assert kernel_refused(REFUSED) == ""


def test_what_the_compiler_says_of_too_little_room_is_read():
    from signer_jax.planning.compiled import refused

    wanted, largest = refused(REFUSED)
    assert wanted == int((42.9 - 7.9) * 2**30)  # without what the program is given, which the plan knows by itself
    other = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (42.75G) exceeds"
    )
    assert refused(other) == (int(42.75 * 2**30), ())
    assert largest == ("7.50GiB bf16[16,33600,8960] of jit(step)/layers/wi/dot_general", "1.25GiB f32[8,128]")


def test_where_the_compiler_found_no_room_the_arrays_that_take_it_are_named(monkeypatch):
    from signer_jax import chips, configuration
    from signer_jax.planning import compiled, steps, weightless
    from signer_jax.training.cost import Cost

    given = compiled.Compiled(7.0, 42 * 2**30, (), 0, 0, 0, 0, Cost(0.0, {}, {}))
    monkeypatch.setattr(compiled, "of", lambda step, topology, **_: given)
    settings = configuration.load_without_weights(TINY, FSDP)
    described, where = weightless.described(settings), chips.topology("v5e:2x4")
    found = planning.plan("slul", settings, where, described, steps.mesh_on(settings, where, None))
    assert not found.fits and found.memory["temporaries"] == 42 * 2**30
    assert found.estimate is None and found.figures()["estimate"] == {}
    said = "\n".join(planning.lines(found))
    assert "does not fit: 42.0 of 15.8 GiB a chip; most of it temporaries, 42.0 GiB" in said
    # A collective along one axis of a torus has not all of a chip's links: the time for them is a bound, too.
    links = "\n".join(planning.lines(replace(found, computed=1e12, touched=1e9, sent=2e9)))
    assert "links              0.01 s one way: 2 GB at 200 GB/s, if all of a chip's links are at work" in links
    slices = replace(found, topology="2xv5e:2x4", chip=chips.topology("2xv5e:2x4").chip, near=1e9)
    links = "\n".join(planning.lines(replace(slices, computed=1e12, touched=1e9, sent=2e9)))
    assert "0.325 s one way: 1 GB at 3.12 GB/s between slices, 1 GB at 200 GB/s within them, if all of" in links
    # The logits are the largest, and it says of which module, a device's share of them.
    assert len(found.largest) == 5 and "float32[16,32,400] / 8 of T5.logits" in found.largest[0]


def test_large_arrays_that_no_axis_splits_are_named():
    from jax.sharding import AbstractMesh, AxisType

    from signer_jax import configuration
    from signer_jax.errors import SignerError
    from signer_jax.layout import AXES
    from signer_jax.planning import steps, weightless

    def whole(fsdp: int, *more: str) -> dict[str, int]:
        given = [f"--config.slul.d_model={width}", "--config.tokenizer.vocab_size=50001", *FSDP, *more]
        settings = configuration.load_without_weights(TINY, given)
        sizes = tuple(fsdp if axis == "fsdp" else 1 for axis in AXES)
        mesh = AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))
        return steps.whole(steps.make("slul", settings, weightless.described(settings), mesh))

    width = 500  # does not divide among eight
    table = "token_embedding/embedding"
    assert whole(1) == {} and whole(4) == {}
    with pytest.raises(SignerError, match=r"500.* fsdp 8 does not divide .*config.allow_whole=true"):
        whole(8)
    found = whole(8, "--config.allow_whole=true")
    assert found[f"params/slul/{table}"] == 4 * 500 * 50001
    assert any(name.startswith("opt_state/") and name.endswith(table) for name in found)


def test_sizes_are_told_in_gib():
    assert planning.gib(61 * 2**30) == "61.0" and planning.gib(2**20) == "0.001"
