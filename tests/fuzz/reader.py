"""What a reader is to the run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

Changes = dict[str, bytes]  # file -> what stands there instead


@dataclass(frozen=True)
class Reader:
    name: str
    share: int  # of 100,000 cases: more for what is quick, and for what comes from others
    make: Callable[[Path], Any]  # the files that it starts from
    harm: Callable[[Path, int, Random], Changes]  # folder, case
    read: Callable[[Path, Changes], Any]  # raises `SignerError`, or `AssertionError` for what must not be given
    large: bool = False  # files of megabytes, of which a short run has a few cases
