"""Freed memory is used again: counted in page faults, in a process of its own."""

import os
import subprocess
import sys

import pytest

from signer_jax.allocator import compile_quickly, threads_for_virtual_devices

PROGRAM = """
import ctypes, resource, sys, threading
from signer_jax.allocator import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes, libc.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]

def use(size=200 * 2**20):
    memory = libc.malloc(size)
    libc.memset(memory, 1, size)
    libc.free(memory)

def twice():  # on a thread, as XLA's
    use()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=twice)
thread.start()
thread.join()
"""


def faults(which: str) -> int:
    run = subprocess.run([sys.executable, "-c", PROGRAM, which], check=True, capture_output=True, text=True)
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own settings")
def test_freed_memory_is_kept():
    assert faults("kept") < 1000
    assert faults("as it is") > 50 * faults("kept")


def test_programs_are_compiled_quickly_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")
    compile_quickly()
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX2 --xla_backend_optimization_level=1"
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    compile_quickly()
    assert os.environ["XLA_FLAGS"] == "--xla_backend_optimization_level=3"


THREADS = """
import os
from signer_jax.allocator import threads_for_virtual_devices
threads_for_virtual_devices()
import jax
jax.jit(lambda x: x @ x)(jax.numpy.ones((512, 512))).block_until_ready()
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print(sum("XLAEigen" in name for name in names))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted under /proc")
def test_virtual_devices_have_threads_to_wait_in():
    def threads(**environment: str) -> int:
        kept = {name: value for name, value in os.environ.items() if name not in ("NPROC", "XLA_FLAGS")}
        run = subprocess.run(
            [sys.executable, "-c", THREADS], env=kept | environment, check=True, capture_output=True, text=True
        )
        return int(run.stdout)

    eight = "--xla_force_host_platform_device_count=8"
    assert threads(XLA_FLAGS=eight) >= 32
    assert threads(JAX_NUM_CPU_DEVICES="8") >= 32
    assert threads(XLA_FLAGS=eight, NPROC="16") == 16


def test_one_device_has_the_threads_it_has(monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")
    threads_for_virtual_devices()
    assert "NPROC" not in os.environ
