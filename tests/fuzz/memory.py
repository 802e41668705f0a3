"""How much memory a piece of work takes at most, by the kernel's own count (Linux)."""

import ctypes
import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

_MAPPED_FROM = -3  # mallopt's M_MMAP_THRESHOLD: what is larger goes back to the system as soon as it is freed


def keep_little() -> None:
    """Freed memory leaves the process, so that a later piece of work that takes it again is seen to do so."""
    ctypes.CDLL(None).mallopt(_MAPPED_FROM, 1 << 20)


def settle() -> int:
    """Bytes in use once everything that can be freed is."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _read("VmRSS")


def used() -> int:
    """Bytes in use now; what was freed may be among them."""
    return _read("VmRSS")


def forget_peak() -> None:
    """The most that was in use counts from here on."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def peak() -> int:
    """Bytes that were in use at most since `forget_peak`."""
    return _read("VmHWM")


def grown(work: Callable[[], Any]) -> int:
    """Bytes by which the memory in use grew at most while the work was done."""
    before = settle()
    forget_peak()
    work()
    return peak() - before


def allocated(work: Callable[[], Any]) -> int:
    """Bytes that Python and NumPy held at most while the work was done.

    Whatever ran before, and so how the allocator's free memory lies, does not count, as it does in `grown` (a heap in
    pieces adds a third where lists grow); nor does what libraries take for themselves.
    """
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _read(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(name))
