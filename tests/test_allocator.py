"""Freed memory is used again: counted in page faults, in a process of its own."""

import gc
import os
import subprocess
import sys

import pytest

from signer_jax.allocator import (
    _LARGE_PAGES,
    _glibc,
    collect_seldom,
    compile_quickly,
    threads_for_virtual_devices,
    tune,
    with_large_pages,
)
from signer_jax.chips import GPU_SHARE, GiB, topology

PROGRAM = """
import ctypes, resource, sys, threading
from signer_jax.allocator import keep_freed_memory, with_large_pages

if sys.argv[1] == "kept":
    assert keep_freed_memory()
if sys.argv[1] == "large":
    assert with_large_pages()
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


def alone(program: str, *arguments: str, given: str = "", **more: str) -> str:
    """What a program says, without this process's own settings of memory."""
    kept = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"} | more
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=kept, input=given, check=True, capture_output=True, text=True).stdout


def faults(which: str) -> int:
    return int(alone(PROGRAM, which))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own settings")
def test_freed_memory_is_kept():
    assert faults("kept") < 1000
    assert faults("as it is") > 50 * faults("kept")


def gives_large_pages() -> bool:
    return _LARGE_PAGES.exists() and "[madvise]" in _LARGE_PAGES.read_text() and _glibc() >= (2, 35)


@pytest.mark.skipif(not gives_large_pages(), reason="a system that gives large pages on request")
def test_large_pages_take_a_fault_for_many():
    assert faults("as it is") > 50 * faults("large")


STARTED = """
import os, sys
from signer_jax.allocator import with_large_pages
print(os.getpid(), flush=True)
print(with_large_pages(), sys.argv[1:], sys.stdin.read(), os.environ.get("GLIBC_TUNABLES"))
"""


@pytest.mark.skipif(not gives_large_pages(), reason="a system that gives large pages on request")
def test_a_program_that_starts_anew_is_the_same():
    first, second, said = alone(STARTED, "a b", "--c=1", given="said").splitlines()
    assert first == second  # the process that a launcher knows
    assert said == "True ['a b', '--c=1'] said glibc.malloc.hugetlb=1"


def test_what_the_user_asks_of_memory_stands():
    _, said = alone(STARTED, GLIBC_TUNABLES="glibc.malloc.arena_max=2").splitlines()
    assert said.endswith("glibc.malloc.arena_max=2")


def test_without_large_pages_nothing_starts_anew(monkeypatch, tmp_path):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("started anew"))
    never, always = tmp_path / "never", tmp_path / "always"
    never.write_text("always madvise [never]\n")
    always.write_text("[always] madvise never\n")
    for pages, has in ((never, False), (always, sys.platform.startswith("linux") and _glibc() >= (2, 35))):
        monkeypatch.setattr("signer_jax.allocator._LARGE_PAGES", pages)
        assert with_large_pages() == has
    monkeypatch.setattr("signer_jax.allocator._LARGE_PAGES", tmp_path / "none")
    assert not with_large_pages()


def test_programs_are_compiled_quickly_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")
    compile_quickly()
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX2 --xla_backend_optimization_level=1"
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    compile_quickly()
    assert os.environ["XLA_FLAGS"] == "--xla_backend_optimization_level=3"


@pytest.mark.parametrize(("given", "then"), [(700, 10_000), (20_000, 20_000), (0, 0)])
def test_python_looks_for_garbage_seldom_and_never_where_a_program_says_so(given, then):
    before = gc.get_threshold()
    try:
        gc.set_threshold(given, 10, 5)
        collect_seldom()
        assert gc.get_threshold() == (then, 10, 5)
    finally:
        gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("given", "share"),
    [
        ({}, 0.92), ({"XLA_CLIENT_MEM_FRACTION": "0.5"}, 0.5), ({"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.4"}, 0.4),
    ],
)  # fmt: skip
def test_a_run_takes_the_share_of_a_gpu_that_is_planned(monkeypatch, given, share):
    """As jaxlib reads it for a GPU's plugin; what the user says stands."""
    from jaxlib.xla_client import generate_pjrt_gpu_plugin_options

    for name in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.setenv(name, "")  # so that what is set is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("NPROC", "8")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("signer_jax.allocator.accelerator_installed", lambda: True)
    before = gc.get_threshold()
    gc.set_threshold(700, *before[1:])
    tune(restart=False)
    seldom = gc.get_threshold()[0]
    gc.set_threshold(*before)
    assert seldom == 10_000
    assert generate_pjrt_gpu_plugin_options()["memory_fraction"] == share
    assert topology("h100:8").chip.memory == pytest.approx(GPU_SHARE * 79.1 * GiB) and GPU_SHARE == 0.92


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
