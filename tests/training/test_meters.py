"""Rates by a clock that stands still but where it is moved, FLOPs of what was really run, and memory."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks import runs

from signer_jax.chips import DEVICES, GPUS, TPUS, peak, topology
from signer_jax.errors import SignerError
from signer_jax.training import meters
from signer_jax.training.meters import Meter, peak_of


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


def device(kind="TPU v5p", **stats):
    return SimpleNamespace(device_kind=kind, process_index=0, memory_stats=lambda: stats or None)


def batch(rows: int, width: int = 4) -> dict:
    return {"x": np.zeros((rows, width), np.float32)}


def test_time_is_split_and_counted_by_what_was_run(monkeypatch):
    clock, asked = Clock(monkeypatch), []

    def flops(shapes):
        asked.append(shapes)
        (_, shape, kind), *_ = shapes
        assert kind == "float32"
        return 1e12 * shape[1]

    meter = Meter([device()] * 2, flops, lambda batch: batch["x"].size)
    clock.now += 50  # compiles
    meter.step(batch(8), None)
    assert "speed/steps_per_second" not in meter.read()
    clock.now += 50  # and so does another shape, after a step that was measured
    meter.step(batch(8), None)
    meter.step(batch(8, 2), None)
    for width in (4, 4, 2):
        with meter.spent("data"):
            clock.now += 0.25
        meter.step(batch(8, width), None)
        clock.now += 1.0
    with meter.spent("checkpoint"):
        clock.now += 0.75
    with meter.spent("samples"):  # which is in no rate
        clock.now += 30.0
    found = meter.read()
    assert found["speed/steps_per_second"] == pytest.approx(3 / 4.5)
    assert found["speed/examples_per_second"] == pytest.approx(24 / 4.5)
    assert found["speed/tokens_per_second"] == pytest.approx(8 * 10 / 4.5)
    assert (found["speed/data_seconds"], found["speed/compute_seconds"], found["speed/checkpoint_seconds"]) == (
        pytest.approx(0.25), pytest.approx(1.0), pytest.approx(0.25)
    )  # fmt: skip
    assert found["speed/samples_seconds"] == pytest.approx(10.0)
    assert found["speed/model_tflops"] == pytest.approx(10 / 4.5)
    assert found["speed/mfu"] == pytest.approx(10e12 / 4.5 / (2 * 459e12))
    # Nothing of that is in the next reading, and a known shape is not asked for again.
    meter.step(batch(8), None)
    clock.now += 2.0
    assert meter.read()["speed/steps_per_second"] == pytest.approx(0.5)
    assert len(asked) == 2


def test_a_device_that_nobody_knows_has_no_mfu(monkeypatch):
    clock = Clock(monkeypatch)
    meter = Meter([device(), device("TPU v99")], lambda shapes: 1.0)
    for _ in range(2):  # the first one compiles
        meter.step(batch(8), None)
        clock.now += 1.0
    found = meter.read()
    assert "speed/model_tflops" in found and "speed/mfu" not in found and "speed/tokens_per_second" not in found
    assert peak_of([device()] * 3) == 3 * 459e12


def test_a_run_and_a_plan_take_the_same_figure_for_a_chip():
    assert peak("TPU v6 lite") == topology("v6e:4x4").chip.flops == 918e12
    assert peak("NVIDIA H100 80GB HBM3") == topology("h100:8").chip.flops == 989e12
    assert {*TPUS.values(), *GPUS.values()} <= set(DEVICES.values())
    assert peak("cpu") is None


def test_the_fullest_device_and_the_process_at_its_peak():
    full = device(bytes_in_use=3e9, peak_bytes_in_use=5e9)
    found = Meter([device(bytes_in_use=1e9, peak_bytes_in_use=6e9), full], lambda shapes: 1.0).read()
    assert (found["memory/device_gb"], found["memory/device_peak_gb"]) == (3.0, 6.0)
    peak = found["memory/host_peak_gb"]
    assert 0.05 < peak < 100
    assert set(Meter([device()], lambda shapes: 1.0).read()) == {"memory/host_peak_gb"}  # a platform that says nothing
    grown = np.ones(300_000_000, np.uint8)
    assert Meter([], lambda shapes: 1.0).read()["memory/host_peak_gb"] >= peak and grown[-1]


def test_shapes_come_back_as_a_batch():
    shapes = (("x", (8, 4), "float32"), ("y", (8,), "int32"))
    found = meters.abstract(shapes)
    assert {name: (one.shape, str(one.dtype)) for name, one in found.items()} == {
        "x": ((8, 4), "float32"), "y": ((8,), "int32")
    }  # fmt: skip


def test_tokens_are_what_a_transformer_reads():
    from signer_jax.training.run import tokens_of

    transformer = SimpleNamespace(patch=(1, 2, 2))
    model = SimpleNamespace(renderer=SimpleNamespace(transformer=transformer))
    settings = SimpleNamespace(renderer=SimpleNamespace(stem_features=(8, 16, 32)))
    latents = {"latents": np.zeros((8, 3, 32, 16, 4)), "source": np.zeros((8, 10)), "target": np.zeros((8, 6))}
    for stage in ("images", "renderer", "joint"):  # the stem halves both sides twice, patches once more
        assert tokens_of(stage, model, settings)(latents) == 8 * 3 * 4 * 2
    settings.renderer.stem_features = ()
    assert tokens_of("renderer", model, settings)(latents) == 8 * 3 * 16 * 8
    assert tokens_of("slul", model, settings)(latents) == 8 * 16
    assert tokens_of("pose", model, settings) is None and tokens_of("vae", model, settings) is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cpu:513", "at most 512 virtual devices"),
        ("v5p-128", "that is v5p:4x4x4$"),
        ("v5p-8", "that is v5p:2x2x1$"),
        ("v5litepod-16", "that is v5e:4x4$"),
        ("v6e-8", "that is v6e:2x4$"),
        ("v5p-6", "give the slice's shape, such as v5e:4x4"),
    ],
)
def test_topologies_that_are_refused(name, says):
    with pytest.raises(SignerError, match=says):
        topology(name)


def test_the_benchmarks_stall_is_the_step_after_a_save_beside_the_others():
    """Saves after steps 15, 20 and 25 of steps of a second: the first compiles, the others take 2 and 4 seconds."""
    longer = {15: 30.0, 20: 2.0, 25: 4.0}
    times = [100.0]  # step 11 is over
    for step in range(12, 31):
        times.append(times[-1] + 1.0 + longer.get(step - 1, 0.0))
    assert runs.stall(times, 10, 5) == pytest.approx(3.0)
    assert runs.stall([at + 7 for at in times], 10, 5) == pytest.approx(3.0)
