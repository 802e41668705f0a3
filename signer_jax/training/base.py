"""Which published weights a checkpoint belongs to: what it holds is a difference to them, or stands beside them.

A checkpoint that does not hold all of a part notes the hash of the folder that the rest comes from, and the sizes and
times of its files. While these are as they were nothing is read again, whatever the weights' size; where they are not,
as after a copy of the run, the bytes decide.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signer_jax.errors import SignerError
from signer_jax.outside import reading
from signer_jax.training.published import GIVE, READ, hashed

Base = dict[str, dict[str, Any]]  # the part's path -> {"hash", "files": {name: [bytes, time]}}


def base_of(folders: Mapping[str, str | Path], known: Base | None = None) -> Base:
    """The weights that lie in these folders, by the paths of the parts; hashed where they are not the `known` ones'
    very files.
    """
    found: Base = {}
    for at, folder in folders.items():
        files, before = _files(Path(folder)), (known or {}).get(at, {})
        same = before.get("files") == files
        found[at] = {"hash": before["hash"] if same else hashed(Path(folder)), "files": files}
    return found


def check(checkpoint: Path, known: Base, folders: Mapping[str, str | Path]) -> None:
    """Raises `SignerError` where a checkpoint that notes its base stands on other weights."""
    now = base_of({at: folder for at, folder in folders.items() if at in known}, known)
    if others := [at for at in sorted(now) if now[at]["hash"] != known[at]["hash"]]:
        raise SignerError(
            f"{checkpoint}: was trained beside other weights of {others[0]} than {folders[others[0]]} holds now; put "
            "those back, or train anew in another --workdir"
        )


def noted(*folders: Path) -> list[dict[str, list[int]]]:
    """The sizes and times of what is read of each folder, to be kept beside a hash of them (`same`)."""
    return [_files(folder) for folder in folders]


def same(files: Any, digest: str, *folders: Path) -> bool:
    """Whether folders hold what has this hash (`hashed`): their files are those that were noted, or else their bytes
    say so.
    """
    return files == noted(*folders) or digest == hashed(*folders)


def is_base(value: Any) -> bool:
    """Whether it is what `base_of` gives, as JSON has it."""
    return isinstance(value, dict) and all(
        isinstance(one, dict) and isinstance(one.get("hash"), str) and isinstance(one.get("files"), dict)
        for one in value.values()
    )


def _files(folder: Path) -> dict[str, list[int]]:
    with reading(folder, GIVE):
        found = {file.name: file.stat() for file in sorted(folder.iterdir()) if file.suffix in READ}
    return {name: [state.st_size, state.st_mtime_ns] for name, state in found.items()}
