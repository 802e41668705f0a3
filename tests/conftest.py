"""Shared by all tests: eight virtual CPU devices, the tiny config, one tiny run of the whole chain."""

import fcntl
import gc
import importlib.util
import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from signer_jax.allocator import collect_seldom, threads_for_virtual_devices

if TYPE_CHECKING:
    from browser import Browser

os.environ.setdefault("JAX_PLATFORMS", "cpu")


def _known(flag: str) -> bool:
    """Whether this XLA has a flag: one that it has not ends the process that is given it."""
    for library in Path(str(importlib.util.find_spec("jaxlib").origin)).parent.glob("*.so"):
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            # Between zero bytes: a flag that is gone stays as a reserved field's name.
            if content.find(b"\0" + flag.encode() + b"\0") >= 0:
                return True
    return False


# Compiling takes most of the tests' time: less optimised programs are quicker to have, and as exact. The emitters of
# fusions that go through MLIR take more than half of what is left; a program cut into 32 modules for as many threads
# (XLA's default) a third of the rest, since LLVM begins anew with each. XLA ends a process ("Aborted") where one of the
# virtual devices waits 40 seconds for another: here later, and before the tests' own time limit. These are for what
# tests start, too.
QUICK = " ".join(
    f"--{flag}={value}"
    for flag, value in {
        "xla_backend_optimization_level": "0",
        "xla_cpu_use_fusion_emitters": "false",
        "xla_cpu_parallel_codegen_split_count": "1",
        "xla_cpu_collective_call_terminate_timeout_seconds": "300",
    }.items()
    if _known(flag)
)
# `compiler_options` of what is compared to its last digits: those emitters sum in an order that rounds less.
ROUNDS_LESS = {"xla_cpu_use_fusion_emitters": True} if "fusion_emitters" in QUICK else {}
if "PYTEST_XDIST_WORKER" not in os.environ:  # such a one has them of the process that started it
    given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{given} --xla_force_host_platform_device_count=8 {QUICK}".strip()
threads_for_virtual_devices()
collect_seldom()
os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # of the processes that run tests, as of `signer`
# A program is compiled once for all test processes and what they start; the first makes the folder and removes it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="signer_jax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # each process has hundreds of small programs
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests" / "tiny.py"
MOST_RESIDENT = 4 << 30  # bytes of a test process
sys.path.insert(0, str(ROOT / "tests"))
# In front of a command: it hears SIGINT also where the tests are a shell's background job, which ignores it and so does
# what it starts.
HEARING = [
    sys.executable, "-c",
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])",
]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The workdir of the whole chain, trained for a few steps; tests may read it, not change it."""
    from signer_jax import configuration
    from signer_jax.cli.train import finish

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base  # one run for all test processes
    workdir = shared / "tiny"
    with (shared / "tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (workdir / "result.json").exists():
            finish(configuration.load(TINY), workdir)
    return workdir


@pytest.fixture(scope="module", autouse=True)
def programs_are_let_go() -> Iterator[None]:
    """Two processes of tests share one machine's memory: each lets its compiled programs go when they are many."""
    yield
    with open("/proc/self/statm", encoding="ascii") as sizes:
        resident = int(sizes.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if resident > MOST_RESIDENT:
        import jax

        jax.clear_caches()
        gc.collect()


@pytest.fixture
def by_chunks_alone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The autoencoder refuses to take more than a chunk at once; the methods that were traced are noted."""
    from signer_jax.renderer.vae import VideoVAE

    noted: list[str] = []

    def watch(name: str, most) -> None:
        method = getattr(VideoVAE, name)

        def watched(self, x, **options):
            assert x.shape[1] <= most(self), f"{name} of {x.shape[1]} at once"
            noted.append(name)
            return method(self, x, **options)

        monkeypatch.setattr(VideoVAE, name, watched)

    watch("encode_chunk", lambda vae: vae.temporal_ratio)
    watch("decode", lambda vae: 1)
    return noted


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Browser"]:
    """A browser's tab, for all tests of pages. Skips where there is no Chromium."""
    from browser import CHROMIUM, Browser

    if CHROMIUM is None:
        pytest.skip("no Chromium")
    one = Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of real samples. Skips where SIGNER_DATA is unset."""
    folder = os.environ.get("SIGNER_DATA")
    if not folder:
        pytest.skip("SIGNER_DATA is unset: the real samples are not here")
    return Path(folder)


def pytest_configure(config: pytest.Config) -> None:
    """Files are given out in the order of `long_files_first`; xdist would begin with those of the most tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long run over harmed files is left out unless `-m` names it."""
    if "fuzz" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("fuzz")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items[:] = long_files_first(items)


def long_files_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests file by file: those with the most slow ones begin, so that no process has a long one left at the end.

    The second file does without the tiny run, which the process of the first one makes meanwhile.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    slow = {path: sum(item.get_closest_marker("slow") is not None for item in own) for path, own in files.items()}
    order = sorted(files, key=lambda path: (-slow[path], -len(files[path])))
    alone = [path for path in order if not any("tiny_run" in item.fixturenames for item in files[path])]
    if order[:1] != alone[:1] and alone:
        order.remove(alone[0])
        order.insert(1, alone[0])
    return [item for path in order for item in files[path]]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tables that tests recorded, from whatever process ran them."""
    for report in terminalreporter.stats.get("passed", []):
        for name, text in report.user_properties:
            if name == "table":
                terminalreporter.write_line(f"\n{report.nodeid}\n{text}")
