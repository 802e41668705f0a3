"""What all tests stand on: in which order their files are given out, and how they have XLA compile."""

import os
from pathlib import Path
from types import SimpleNamespace

from conftest import QUICK, _known, long_files_first


def item(file: str, *, slow: bool = False, tiny: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        path=Path(file), fixturenames=["tiny_run"] if tiny else [],
        get_closest_marker=lambda name: name if slow and name == "slow" else None,
    )  # fmt: skip


def order(*items: SimpleNamespace) -> list[str]:
    found = long_files_first(list(items))
    assert len(found) == len(items)
    return list(dict.fromkeys(one.path.name for one in found))


def test_long_files_begin_and_the_second_does_not_wait_for_the_tiny_run():
    short = [item("many") for _ in range(9)]
    slow = [item("last", slow=True)]
    tiny = [item("first", slow=True, tiny=True), item("first", slow=True), item("first")]
    waiting = [item("next", slow=True, tiny=True), item("next", slow=True)]
    assert order(*short, *slow, *waiting, *tiny) == ["first", "last", "next", "many"]
    assert order(*short, *slow) == ["last", "many"] and order(*waiting) == ["next"] and order() == []
    mixed = [slow[0], short[0], item("last")]
    assert [one.path.name for one in long_files_first(mixed)] == ["last", "last", "many"]


def test_xla_is_given_the_flags_that_it_knows():
    """One that it has not would end every process."""
    assert "--xla_backend_optimization_level=0" in QUICK.split()
    assert "--xla_cpu_parallel_codegen_split_count=1" in QUICK.split()
    assert "--xla_cpu_collective_call_terminate_timeout_seconds" in [flag.split("=")[0] for flag in QUICK.split()]
    assert set(QUICK.split()) <= set(os.environ["XLA_FLAGS"].split())
    assert not _known("xla_cpu_" + "no_such")
