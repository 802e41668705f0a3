"""Where a bucket's files lie on this machine: the cache's folders, and what a path in one stands for (`mirror`)."""

import hashlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from signer_jax.object_store import cache_folder
from signer_jax.outside import reason_of, told

BUCKET, RUN, OBJECTS = ".signer_jax.bucket", "run", "objects"


@dataclass(frozen=True)
class Place:
    """A path of a mirror."""

    home: Path
    url: str  # of the whole run
    name: str  # of the path in it, "" for the run itself

    def object(self, inside: str = "") -> str:
        return "/".join(part for part in (self.url, self.name, inside) if part)

    def path(self, inside: str = "") -> Path:
        return self.home / RUN / self.name / inside

    def note(self, inside: str = "") -> Path:
        """The file that says which object lies at the path."""
        whole = "/".join(part for part in (self.name, inside) if part)
        return self.home / OBJECTS / hashlib.sha256(whole.encode()).hexdigest()[:32]


def home_of(url: str, stands_for: str) -> Path:
    """A place in the cache for a URL, of which a part may stand for another."""
    key = hashlib.sha256(f"{url} {stands_for}".encode()).hexdigest()[:16]
    home = cache_folder() / f"{url.rpartition('/')[2][:40]}-{key}"
    try:
        (home / RUN).mkdir(parents=True, exist_ok=True)
        (home / OBJECTS).mkdir(exist_ok=True)
        replace(home / BUCKET, stands_for.encode())
    except OSError as error:
        raise told(
            error, f"SIGNER_CACHE {home}: cannot be written ({reason_of(error)}); name another folder by SIGNER_CACHE"
        ) from None
    return home


def place_of(path: str | Path) -> Place | None:
    """Where in a mirror a path lies; None for any other, and for what is being made there."""
    whole = Path(os.path.abspath(path))
    for folder in (whole, *whole.parents):
        if folder.name == RUN and (folder.parent / BUCKET).is_file():
            inside = whole.relative_to(folder)
            if any(part.endswith(".partial") for part in inside.parts):
                return None
            name = inside.as_posix() if inside.parts else ""
            return Place(folder.parent, (folder.parent / BUCKET).read_text(encoding="utf-8"), name)
    return None


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder of the same bucket; False for what lies here."""
    ours, theirs = place_of(path), place_of(folder)
    return bool(ours and theirs and f"{ours.object()}/".startswith(f"{theirs.object()}/"))


def shown(text: str) -> str:
    """A message with the bucket's URL in place of the mirror's path."""

    def url(found: re.Match) -> str:
        place = place_of(found[0])
        return place.object() if place else found[0]

    return re.sub(rf"{re.escape(str(cache_folder()))}/[^/\s]+/{RUN}\b", url, text) if "/" in text else text


def replace(file: Path, data: bytes) -> None:
    """Writes a file, whole or not at all."""
    partial = file.with_name(f".{uuid.uuid4().hex}.partial")
    partial.write_bytes(data)
    os.replace(partial, file)
