"""What a process asks for before JAX is loaded: of its C library and XLA on a CPU, of GPUs their memory, of Python."""

import ctypes
import gc
import importlib.util
import os
import re
import sys
from pathlib import Path

from signer_jax.chips import GPU_SHARE

# <malloc.h> of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_NEW_OBJECTS = 10_000  # between two looks for garbage
_LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")  # "always [madvise] never"


def tune(restart: bool = True) -> None:
    """All that is below, where it is of use. `restart`: whether this is a program that may be started anew."""
    if accelerator_installed():
        share_of_gpus()
    else:
        if not (restart and with_large_pages()):
            keep_freed_memory()
        compile_quickly()
    threads_for_virtual_devices()
    collect_seldom()


def accelerator_installed() -> bool:
    """Whether JAX would find an accelerator's plugin; asked without loading JAX."""
    return any(importlib.util.find_spec(name) is not None for name in ("jax_plugins", "libtpu"))


def share_of_gpus() -> None:
    """Has jax take `GPU_SHARE` of each GPU's memory, in place of its own 75 %, unless the user says another share.

    jaxlib refuses the variable beside the one that it replaced. Others than GPUs read neither. Call it before JAX is
    loaded.
    """
    if not os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION"):
        os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", str(GPU_SHARE))


def with_large_pages() -> bool:
    """Starts this program anew with memory in large pages, where its C library and its system give them on request;
    whether it has them, or a setting of the user's in `GLIBC_TUNABLES` in their place.

    XLA's CPU client allocates the temporary buffers of a program at every call and frees them after it. They are large,
    so glibc maps them anew from the system each time, a page fault for every 4 KiB; of 2 MiB pages there are 500 times
    fewer (`glibc.malloc.hugetlb` in glibc's manual, from 2.35 on). It is read when a program starts, so this one is
    replaced by itself: call it before anything was done.
    """
    given = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc." in given:
        return True
    if not sys.platform.startswith("linux") or _glibc() < (2, 35) or not sys.executable:
        return False
    try:
        pages = _LARGE_PAGES.read_text()
    except OSError:
        return False
    if "[madvise]" not in pages:  # all have them without a request, or none
        return "[always]" in pages
    os.environ["GLIBC_TUNABLES"] = f"{given}:glibc.malloc.hugetlb=1".strip(":")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _glibc() -> tuple[int, ...]:
    """The C library's version; (0,) for another one."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return (0,)
    return tuple(map(int, version.split("."))) if name == "glibc" else (0,)


def keep_freed_memory() -> bool:
    """Lets the process keep freed memory for its next step; whether that could be set (glibc only).

    Second to large pages. A training step of the T5 in `tests/benchmarks/models.py` took 46,000 page faults, a fifth of
    its CPU time; with this it takes none. Memory stays at its peak, which the next step would reach again. What it
    costs: all threads share one heap, and in one that a large compilation has left in pieces each looks for room while
    the others wait. Call it before the first thread starts.
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


def collect_seldom() -> None:
    """Has Python look for garbage in cycles every 10,000 new objects at the most, in place of 700.

    While JAX traces a program it makes objects by the million, nearly all of which stay, and each look goes through the
    new ones for nothing (`tests/benchmarks/tracing.py`). Where a program has switched it off, it stays off.
    """
    first, *older = gc.get_threshold()
    if first:
        gc.set_threshold(max(first, _NEW_OBJECTS), *older)


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
