"""What a pose database may be made of, told by what lies in the folder: one reader a kind."""

import importlib.util
from collections.abc import Collection, Iterator
from pathlib import Path

from signer_jax.errors import SignerError
from signer_jax.pose.entries import Entry
from signer_jax.pose.sources import BUILTIN, CONTINUOUS, FINGERSPELLING, LEXICON, WLASL
from signer_jax.pose.sources.common import Cut, with_forms
from signer_jax.pose.sources.continuous import pairs, read_continuous
from signer_jax.pose.sources.lexicon import INDEX, read_lexicon
from signer_jax.pose.sources.wlasl import JSON, read_wlasl
from signer_jax.types import Pose


def kind_of(source: str) -> str:
    """The kind of a source: by its name where it names no folder, else by its files. Raises `SignerError`."""
    path = Path(source)
    if not path.exists():
        if source in (BUILTIN, FINGERSPELLING):
            return source
        raise SignerError(f"{source}: there is no such folder; give one, or {BUILTIN} or {FINGERSPELLING}")
    if JSON.fullmatch(path.name) or (path.is_dir() and any(map(JSON.fullmatch, (one.name for one in path.iterdir())))):
        return WLASL
    if (path / INDEX).exists():
        return LEXICON
    if path.is_dir() and any(pose.exists() for _, pose in pairs(path)):
        return CONTINUOUS
    raise SignerError(
        f"{source}: has no {INDEX} (a lexicon), no WLASL_v0.3.json, and no JSON of a sentence beside its pose; give a "
        "folder that docs/prior.md describes"
    )


def read(
    source: str, kind: str, *, language: str = "", poses: Path | None = None, splits: Collection[str] = (),
    trimmed: bool = True, cut: Cut | None = None,
) -> tuple[Iterator[tuple[Entry, Pose]], list[str]]:  # fmt: skip
    """The signs of a source of any kind but the built-in corpus, and the list of what is left out, complete once the
    signs are exhausted. `language` is a continuous corpus's, `poses` and `splits` are WLASL's. Raises `SignerError`.
    """
    folder = fingerspelling_folder() if kind == FINGERSPELLING else Path(source)
    if kind in (LEXICON, FINGERSPELLING):
        signs, problems = read_lexicon(folder, trimmed=trimmed, cut=cut)
    elif kind == WLASL:
        named = sorted(file for file in folder.iterdir() if JSON.fullmatch(file.name)) if folder.is_dir() else [folder]
        if not named:
            raise SignerError(f"{folder}: has no WLASL_v0.3.json; give the folder that holds it")
        folder = named[-1].parent
        signs, problems = read_wlasl(named[-1], poses, splits=splits, trimmed=trimmed, cut=cut)
    elif not language:
        raise SignerError(f"{source}: no file says its sign language; give the code (gsg, ase, …) with --language")
    else:
        signs, problems = read_continuous(folder, language)
    return with_forms(signs, folder, problems), problems


def fingerspelling_folder() -> Path:
    """The lexicon of recorded alphabets in the package spoken-to-signed, which is found and not run.

    Raises `SignerError` where it is not installed.
    """
    found = importlib.util.find_spec("spoken_to_signed")
    for place in found.submodule_search_locations or () if found else ():
        folder = Path(place) / "assets" / "fingerspelling_lexicon"
        if (folder / INDEX).exists():
            return folder
    raise SignerError(
        "fingerspelling: the recorded alphabets are not installed; pip install 'signer-jax[fingerspelling]', or give a "
        "lexicon folder"
    )
