"""Harmed files of every kind: each gives what it holds or one clear line; `pytest -m fuzz` is the long run.

`SIGNER_FUZZ` is its number of cases (100,000), `SIGNER_FUZZ_SEED` another seed. Every case follows from the seed, the
reader and its number: `child.py` says how. (A Matroska file holds a random number of its own.)
"""

import os
import time
from pathlib import Path

import pytest

from fuzz import broken, parent
from fuzz.readers import READERS

CASES = 100_000
SHORT = 1_000


def _counts(cases: int, least: int) -> list[int]:
    """For each reader its share, and no fewer than `least` (of large files a tenth of it)."""
    return [max(least // 10 if reader.large else least, round(reader.share * cases / CASES)) for reader in READERS]


def _run(folder: Path, counts: list[int], seed: int) -> str:
    """The table of a run in which every case was read or refused."""
    started = time.monotonic()
    outcomes = parent.run(READERS, counts, folder, seed)
    text = parent.table(READERS, outcomes, time.monotonic() - started)
    failures = [
        f"{reader.name}, case {case}: {why}"
        for reader, outcome in zip(READERS, outcomes, strict=True)
        for case, why in outcome.failures
    ]
    assert not failures, "\n\n".join([text, *failures[:40]])
    for reader, outcome in zip(READERS, outcomes, strict=True):
        assert outcome.read + outcome.refused == outcome.cases, reader.name
        assert outcome.refused or outcome.cases < 20, f"{reader.name}: nothing that was harmed was refused"
    return text


def test_harmed_files_give_what_they_hold_or_one_line(tmp_path):
    _run(tmp_path, _counts(SHORT, least=20), 0)


@pytest.mark.fuzz
def test_many_more_of_them(tmp_path, record_property):
    cases, seed = int(os.environ.get("SIGNER_FUZZ", CASES)), int(os.environ.get("SIGNER_FUZZ_SEED", "1"))
    record_property("table", _run(tmp_path, _counts(cases, least=1), seed))  # shown at the end: tests/conftest.py


def test_a_reader_that_fails_is_seen(tmp_path):
    """Each of these readers fails in its own way at its third case, and reads the others."""
    outcomes = parent.run(broken.READERS, [6] * len(broken.READERS), tmp_path, 0, module="fuzz.broken", hung=8.0)
    for reader, outcome in zip(broken.READERS, outcomes, strict=True):
        assert (outcome.read, outcome.refused) == (5, 0), (reader.name, outcome)
        ((case, why),) = outcome.failures
        assert case == 2 and reader.name in why, (reader.name, why)
