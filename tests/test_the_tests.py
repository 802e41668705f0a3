"""What all tests stand on: how they have XLA compile."""

import os

from conftest import QUICK, _known


def test_xla_is_given_the_flags_that_it_knows():
    """One that it has not would end every process."""
    assert "--xla_backend_optimization_level=0" in QUICK.split()
    assert set(QUICK.split()) <= set(os.environ["XLA_FLAGS"].split())
    assert not _known("xla_cpu_" + "no_such")
