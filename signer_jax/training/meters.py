"""How fast a stage trains and what that takes: time by kind, rates, FLOP/s beside the devices' peak, memory."""

import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from signer_jax.chips import peak

Batch = Mapping[str, Any]
Shapes = tuple[tuple[str, tuple[int, ...], str], ...]  # of a batch: name, shape, type of each array

_GB = 1e9


class Meter:
    """Counts a stage's steps between two lines of its log.

    The first step of each shape, which compiles, is left out, and what was counted before it since the last line: its
    end is where counting begins anew. The time that the loop waits for a batch and for a checkpoint is taken by the
    host's clock; the rest is `compute`. Samples and looks are apart: their time is in no rate. What is read while the
    devices work is no less read: `data` is what would be won at most if batches cost nothing.
    """

    def __init__(
        self, devices: list[jax.Device], flops: Callable[[Shapes], float], tokens: Callable[[Batch], int] | None = None
    ):
        """`flops` of a step are asked for once a shape, and on the first process alone; `tokens` are of a batch."""
        self._devices, self._flops, self._tokens = devices, flops, tokens
        self._known: dict[Shapes, float] = {}
        self._begun: set[Shapes] = set()
        self._anew()

    def _anew(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._shapes: Counter[Shapes] = Counter()
        self._counted = 0  # tokens
        self._started = time.perf_counter()

    @contextmanager
    def spent(self, what: str) -> Iterator[None]:
        """Adds a block's time to `data`, `checkpoint` or `samples`."""
        started = time.perf_counter()
        yield
        self._seconds[what] += time.perf_counter() - started

    def step(self, batch: Batch, made: Any) -> None:
        """A step was begun with a (global) batch; `made` is what it gives."""
        shapes = tuple((name, x.shape, str(x.dtype)) for name, x in sorted(batch.items()))
        if shapes not in self._begun:
            jax.block_until_ready(made)
            self._begun.add(shapes)
            self._anew()
            return
        self._shapes[shapes] += 1
        self._counted += self._tokens(batch) if self._tokens else 0

    def read(self) -> dict[str, float]:
        """The figures since the last reading (`docs/training.md` says what each is); none where no step was counted.

        What was begun must be over, or its time is the next reading's.
        """
        steps, seconds = sum(self._shapes.values()), time.perf_counter() - self._started
        values = _memory(self._devices)
        if steps and jax.process_index() == 0:
            samples = self._seconds["samples"]
            seconds -= samples
            examples = sum(count * shapes[0][1][0] for shapes, count in self._shapes.items())
            values |= {
                "speed/steps_per_second": steps / seconds,
                "speed/examples_per_second": examples / seconds,
                "speed/data_seconds": self._seconds["data"] / steps,
                "speed/checkpoint_seconds": self._seconds["checkpoint"] / steps,
                "speed/compute_seconds": (seconds - self._seconds["data"] - self._seconds["checkpoint"]) / steps,
                "speed/samples_seconds": samples / steps,
            }
            if self._tokens:
                values["speed/tokens_per_second"] = self._counted / seconds
            for shapes in self._shapes.keys() - self._known.keys():
                self._known[shapes] = self._flops(shapes)
            done = sum(count * self._known[shapes] for shapes, count in self._shapes.items())
            values["speed/model_tflops"] = done / seconds / 1e12
            if most := peak_of(self._devices):
                values["speed/mfu"] = done / seconds / most
        self._anew()
        return values


def peak_of(devices: list[jax.Device]) -> float | None:
    """FLOP/s that the devices' maker names for all of them together; None where a kind is not known."""
    peaks = [peak(device.device_kind) for device in devices]
    return None if None in peaks else sum(each for each in peaks if each is not None)


def abstract(shapes: Shapes, sharding: Any = None) -> dict[str, jax.ShapeDtypeStruct]:
    """The batch of these shapes, without its numbers."""
    return {name: jax.ShapeDtypeStruct(shape, np.dtype(kind), sharding=sharding) for name, shape, kind in shapes}


def _memory(devices: list[jax.Device]) -> dict[str, float]:
    """In gigabytes: of this process's fullest device, where the platform says it, and of the process at its peak."""
    stats = [device.memory_stats() or {} for device in devices if device.process_index == jax.process_index()]
    found = {
        f"memory/{name}_gb": max(one[key] for one in stats) / _GB
        for name, key in (("device", "bytes_in_use"), ("device_peak", "peak_bytes_in_use"))
        if stats and all(key in one for one in stats)
    }
    unit = 1 if sys.platform == "darwin" else 1024
    return found | {"memory/host_peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GB}
