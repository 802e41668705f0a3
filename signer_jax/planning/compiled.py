"""A step compiled ahead of time: how much memory it takes, what it computes, reads, writes and sends."""

import re
import time
from dataclasses import replace
from typing import NamedTuple

import jax

from signer_jax.chips import CPU, GiB, Topology
from signer_jax.errors import SignerError
from signer_jax.planning.steps import Step
from signer_jax.training import compiled_step, cost, flops

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Compiled(NamedTuple):
    """Of one device. `temporaries` and what follows is 0 where the compiler found no room (`too_large`)."""

    seconds: float  # that tracing and compiling took
    too_large: int  # bytes of temporaries that the compiler wanted, where it gave up; else 0
    largest: tuple[str, ...]  # what took most there, a line each
    padding: int  # bytes of arguments beyond their numbers: tiles
    temporaries: int
    results: int  # that are not in the state's place
    code: int
    cost: cost.Cost
    saved: compiled_step.Saved | None = None  # where it was asked for


def of(step: Step, topology: Topology, *, keep: bool = False) -> Compiled:
    """`keep`: the program too, for a file. Raises what the compiler raises, but for too little memory; `SignerError`
    where it is a kernel's own.
    """
    started = time.perf_counter()
    platform = "cpu" if topology.kind == CPU else "tpu"
    traced = step.program.trace(step.batch)
    lowered = traced.lower(lowering_platforms=(platform,))
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        if line := kernel_refused(str(error)):
            raise SignerError(line) from None
        wanted, largest = refused(str(error))
        seconds = time.perf_counter() - started
        return Compiled(seconds, wanted, largest, 0, 0, 0, 0, cost.Cost(0.0, {}, {}))
    seconds = time.perf_counter() - started
    text, memory = program.as_text() or "", program.memory_analysis()
    assert memory is not None
    used, found = cost.arguments(text), cost.read(text, slices=topology.slices)
    found = replace(found, flops=found.flops + flops.kernels(traced.jaxpr.jaxpr))
    return Compiled(
        seconds, 0, (), max(0, int(memory.argument_size_in_bytes - used)), int(memory.temp_size_in_bytes),
        max(0, int(memory.output_size_in_bytes - memory.alias_size_in_bytes)),
        int(memory.generated_code_size_in_bytes), found,
        compiled_step.saved(step.program, lowered, program, step.batch) if keep else None,
    )  # fmt: skip


def kernel_refused(message: str) -> str:
    """What is said where a kernel, and not the program, found no room: in the memory beside a chip's products ("")."""
    if "memory space vmem" not in message:
        return ""
    kernel = re.search(r"for %?([\w.-]+)", message)
    sizes = re.search(r"size ([\d.]+[KMG]) and limit ([\d.]+[KMG])", message)
    wants = f"{sizes[1]}iB of the {sizes[2]}iB of" if sizes else "more than there is of"
    return (
        f"the kernel {kernel[1] if kernel else ''} needs {wants} a chip's own memory (vmem), whatever its large one "
        "has; this is a fault of signer_jax for this topology: report it with the config"
    )


def refused(message: str) -> tuple[int, tuple[str, ...]]:
    """How many bytes the compiler wanted beside what the program is given, and what took most of them.

    It says "Used 42.9G of 31.25G hbm" of all, with the arguments' share, or "the total memory required for HLO
    temporaries (42.75G)".
    """
    used = re.search(r"HLO temporaries \(([\d.]+)([KMG])\)", message)
    used = used or re.search(r"Used ([\d.]+)([KMG]) of", message)
    wanted = float(used[1]) * _UNITS[used[2]] if used else GiB
    if "HLO temporaries" not in message and (given := re.search(r"arguments\s+([\d.]+)([KMG])", message)):
        wanted -= float(given[1]) * _UNITS[given[2]]
    largest = []
    for part in re.split(r"\n\s*\d+\. Size: ", message)[1:]:
        size = re.match(r"([\d.]+[KMG])", part)
        shape, name = (
            re.search(r"Shape: ([a-z]+\d*\[[\d,]*\])", part),
            re.search(r"Operator: (?:op_name=)?\"?([^\"\n]*)", part),
        )
        if size and shape:
            largest.append(f"{size[1]}iB {shape[1]}{f' of {name[1].strip()}' if name else ''}")
    return max(1, int(wanted)), tuple(largest[:5])
