"""SHA-256 of a dataset's files and folders, what `checksum` reads once while it stays as it is."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from signer_jax import outside


def file_sum(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=4096)
def _kept_sum(path: Path, size: int, changed: int) -> str:
    return file_sum(path)


def checksum(path: Path) -> str:
    """SHA-256 of a file; of a folder, of the names and checksums of the files in it."""
    if outside.is_folder(path):
        files = (file for file in sorted(path.iterdir()) if outside.is_file(file) and not is_coming(file))
        rows = (f"{file.name} {checksum(file)}\n" for file in files)
        return hashlib.sha256("".join(rows).encode("utf-8", "surrogateescape")).hexdigest()
    there = os.stat(path)
    return _kept_sum(path, there.st_size, there.st_mtime_ns)


def is_coming(file: Path) -> bool:
    """Whether it is another worker's download out of a bucket into the same folder."""
    return file.name.startswith(".") and file.name.endswith(".partial")
