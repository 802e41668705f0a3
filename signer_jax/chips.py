"""What accelerators have, in their makers' figures, and how a topology is named: `v5p:4x4x4`, `2xv5p:4x4x4` (two
slices, which the data centre's network joins), `h100:8`, `cpu:8`.
"""

import math
import re
from typing import NamedTuple

from signer_jax.errors import SignerError, closest

GiB = float(1 << 30)
# Of a GPU's memory, what the `signer` program has for arrays (`allocator.share_of_gpus`); jax by itself takes .75. The
# rest is for CUDA's context, the kernels' code and NCCL's buffers.
GPU_SHARE = 0.92


class Chip(NamedTuple):
    """Per chip, in bytes and seconds."""

    memory: float  # that a program may use; 0 where nothing is said
    flops: float = 0.0  # a second, of bfloat16 products; 0 where nothing is said
    bandwidth: float = 0.0  # of its main memory
    link: float = 0.0  # what it sends to other chips, over all of its links, one way
    near: float = 0.0  # the same to those of its node, or slice, where there are others; 0 where all are reached alike


# The compiler's own limits (libtpu 0.0.42: "Used … of 15.75G hbm", 95.74G, 31.25G). All else: cloud.google.com/tpu/docs
# v5e, v5p and v6e, "Key specifications"; the links are given for both ways there, or as gigabits of one (4,800: v5p).
TPUS = {
    "v5e": Chip(15.75 * GiB, 197e12, 819e9, 200e9),
    "v5p": Chip(95.74 * GiB, 459e12, 2765e9, 600e9),
    "v6e": Chip(31.25 * GiB, 918e12, 1638e9, 400e9),
}
# What a chip sends to other slices: the same pages' "Data center network bandwidth", 50 Gbit/s a chip of v5p, and 6.4
# and 25.6 Tbit/s a pod of 256 chips.
_BETWEEN_SLICES = {"v5e": 3.125e9, "v5p": 6.25e9, "v6e": 12.5e9}
# NVIDIA's data sheets (A100 80GB SXM, H100 SXM, H200 SXM): dense bfloat16, NVLink one way, within a node of eight; of
# the memory that CUDA says a run takes `GPU_SHARE`.
GPUS = {
    "a100": Chip(GPU_SHARE * 79.1 * GiB, 312e12, 2039e9, 300e9),
    "h100": Chip(GPU_SHARE * 79.1 * GiB, 989e12, 3350e9, 450e9),
    "h200": Chip(GPU_SHARE * 139.8 * GiB, 989e12, 4800e9, 450e9),
}
# jax's name of a device (`device_kind`) -> its chip. Of those that no topology names only the products are known here
# (cloud.google.com/tpu/docs/v4; NVIDIA's data sheet of the A100 40GB).
DEVICES = {
    "TPU v4": Chip(0.0, 275e12),
    "TPU v5 lite": TPUS["v5e"],
    "TPU v5e": TPUS["v5e"],
    "TPU v5": TPUS["v5p"],
    "TPU v5p": TPUS["v5p"],
    "TPU v6 lite": TPUS["v6e"],
    "TPU v6e": TPUS["v6e"],
    "NVIDIA A100-SXM4-40GB": Chip(0.0, 312e12),
    "NVIDIA A100-SXM4-80GB": GPUS["a100"],
    "NVIDIA H100 80GB HBM3": GPUS["h100"],
    "NVIDIA H200": GPUS["h200"],
}
CPU = "cpu"
NODE = 8  # GPUs that NVLink joins
_BETWEEN = 50e9  # bytes a second that a GPU sends to another node: 400 Gbit/s InfiniBand, one port a GPU
_MOST_VIRTUAL = 512  # devices of a CPU: each has threads of its own
_DIMENSIONS = {"v5e": 2, "v5p": 3, "v6e": 2}


def peak(device_kind: str) -> float | None:
    """FLOP/s of bfloat16 products that the maker of a device of jax's names; None where nobody knows the kind."""
    chip = DEVICES.get(device_kind)
    return chip.flops if chip else None


class Topology(NamedTuple):
    name: str  # as it was given
    kind: str  # of the chips: a key of TPUS or GPUS, or CPU
    size: int  # chips
    slices: int = 1

    @property
    def slice_name(self) -> str:
        """Of a TPU, one of its slices."""
        return self.name.partition("x")[2] if self.slices > 1 else self.name

    @property
    def tpu(self) -> bool:
        return self.kind in TPUS

    @property
    def chip(self) -> Chip:
        if self.kind == CPU:
            return Chip(0.0)
        if self.tpu:
            chip = TPUS[self.kind]
            return chip if self.slices == 1 else chip._replace(link=_BETWEEN_SLICES[self.kind], near=chip.link)
        chip = GPUS[self.kind]
        return chip if self.size <= NODE else chip._replace(link=_BETWEEN, near=chip.link)


def topology(text: str) -> Topology:
    """Raises `SignerError` for a name that is none, with the known ones."""
    several = re.fullmatch(r"([1-9]\d{0,2})x([a-z].*)", text.strip().lower())
    slices = int(several[1]) if several else 1
    one = _slice_of(several[2] if several else text.strip().lower(), text, f"{slices}x" if slices > 1 else "")
    if several is None or slices == 1:
        return one
    if not one.tpu:
        raise SignerError(
            f"--topology {text}: slices are of TPUs (2xv5p:4x4x4); of {one.kind} give the number of all, "
            f"{one.kind}:{slices * one.size}"
        )
    return Topology(several[0], one.kind, slices * one.size, slices)


def _slice_of(name: str, text: str, several: str) -> Topology:
    """One slice of a TPU, or all GPUs. `text` is what was given, `several` what stands before the name of a slice."""
    found = re.fullmatch(r"(\w+):([1-9]\d{0,4}(?:x[1-9]\d{0,4})*)", name)
    kinds = (*TPUS, *GPUS, CPU)
    if slice_ := re.fullmatch(r"(v5e|v5litepod|v5p|v6e)-([1-9]\d{0,4})", name):
        shape = _shape_of(slice_[1], int(slice_[2]), several)
        raise SignerError(f"--topology {text}: give the slice's shape{shape}")
    kind = found[1] if found else name.partition(":")[0]
    if kind not in kinds:
        raise SignerError(
            f"--topology {text}: unknown chip {kind!r}{closest(kind, kinds)}; give a TPU's shape "
            f"({_examples(several)}; of two slices 2xv5p:4x4x4), or GPUs by their number (h100:8; {', '.join(GPUS)})"
        )
    sizes = tuple(map(int, found[2].split("x"))) if found else ()
    if kind in _DIMENSIONS and len(sizes) != _DIMENSIONS[kind]:
        raise SignerError(
            f"--topology {text}: {kind} has a shape of {_DIMENSIONS[kind]} sides; such as {_examples(several)}"
        )
    if kind not in _DIMENSIONS and len(sizes) != 1:
        raise SignerError(f"--topology {text}: give the number of chips, {kind}:8")
    if kind == CPU and sizes[0] > _MOST_VIRTUAL:
        raise SignerError(f"--topology {text}: at most {_MOST_VIRTUAL} virtual devices are made; give fewer")
    return Topology(name, kind, math.prod(sizes))


def _shape_of(kind: str, number: int, several: str) -> str:
    """What Google's name of a slice means, where its chips are a power of two: v5p-128 has 128 cores on 64 chips."""
    kind = "v5e" if kind == "v5litepod" else kind
    chips, sides = number // 2 if kind == "v5p" else number, _DIMENSIONS[kind]
    twos = chips.bit_length() - 1
    if chips < 4 or chips != 1 << twos or (kind == "v5p" and number % 2):
        return f", such as {_examples(several)}"
    lengths = [1 << (twos + side) // sides for side in range(sides)]
    lengths.sort(key=lambda length: (length == 1, length))  # v5p:2x2x1
    return f"; that is {several}{kind}:{'x'.join(map(str, lengths))}"


def _examples(several: str) -> str:
    return ", ".join(several + one for one in ("v5e:4x4", "v6e:8x8", "v5p:4x4x4"))
