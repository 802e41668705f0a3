"""What is read of a published pipeline beside the weights that train: found, and told apart from another one's."""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from signer_jax import outside
from signer_jax.interop.model_config import plain_inside

READ = (".json", ".safetensors", ".model")  # what readers of a pipeline's folders open
GIVE = "give the folder as it was published"


def hashed(*folders: Path) -> str:
    """One hash of the names and bytes of what is read of some folders; streamed, whatever their size.

    A file that has not changed is read once a process: a run asks several times, and encoders have many gigabytes.
    """
    files: list[Path] = []
    for folder in folders:
        with outside.reading(folder, GIVE):
            files += sorted(file for file in folder.iterdir() if file.suffix in READ)
    return hash_of(files)


def hash_of(files: Iterable[Path]) -> str:
    """One hash of the names and bytes of files, as `hashed`."""
    whole = hashlib.sha256()
    for file in files:
        plain_inside(file, GIVE)
        with outside.reading(file, GIVE):
            state = file.stat()
            digest = _digest(file.absolute(), state.st_size, state.st_mtime_ns, state.st_ino)
        whole.update(f"{file.name}\0{digest}\n".encode())
    return whole.hexdigest()


@cache
def _digest(file: Path, *state: int) -> str:
    """Of a file's bytes; `state` is what would be another one, had they changed."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
