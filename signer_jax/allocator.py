"""What a process asks of its C library and of XLA before JAX is loaded, where it computes on a CPU."""

import ctypes
import importlib.util
import os
import re
import sys

# <malloc.h> of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def accelerator_installed() -> bool:
    """Whether JAX would find an accelerator's plugin; asked without loading JAX."""
    return any(importlib.util.find_spec(name) is not None for name in ("jax_plugins", "libtpu"))


def keep_freed_memory() -> bool:
    """Lets the process keep freed memory for its next step; whether that could be set (glibc only).

    XLA's CPU client allocates the temporary buffers of a program at every call and frees them after it. They are large,
    so glibc maps them anew from the system each time: a training step of the T5 in `tests/benchmarks/models.py` took
    46,000 page faults, a fifth of its CPU time; with this it takes none. Memory stays at its peak, which the next step
    would reach again. Call it before the first thread starts. It is of no use where an accelerator holds the arrays.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False  # another C library: it has its own ways
    # One arena, since those of threads cannot grow over 64 MiB and map every larger buffer.
    settings = {_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: 2**30, _M_TRIM_THRESHOLD: 2**31 - 1}
    return all(mallopt(name, value) for name, value in settings.items())


def compile_quickly() -> None:
    """Lets LLVM optimise XLA's CPU programs once instead of thoroughly, unless `XLA_FLAGS` says otherwise.

    Products and convolutions are library code, and what XLA has fused leaves LLVM little to find: the renderer's
    programs compile in .7 to .8 of the time and run as fast. Call it before JAX is loaded.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_backend_optimization_level" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=1".strip()


def threads_for_virtual_devices() -> None:
    """Gives each virtual device of a CPU (`XLA_FLAGS` or JAX_NUM_CPU_DEVICES) four threads, unless NPROC is set.

    By itself XLA starts as many threads as there are devices. A device whose program has two collectives to run holds
    two of them, each waits for the other devices, and once none is left for those, all wait without end: on two cores
    one training step in some hundreds over eight devices. XLA's CPU client takes NPROC for the number of cores
    (`DefaultThreadPoolSize` in openxla's pjrt/utils.cc). Call it before JAX is loaded.
    """
    flag = re.search(r"--xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    devices = flag.group(1) if flag else os.environ.get("JAX_NUM_CPU_DEVICES", "")
    if devices.isdecimal() and int(devices) > 1:
        os.environ.setdefault("NPROC", str(max(os.cpu_count() or 1, 4 * int(devices))))
