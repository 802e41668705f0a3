"""The published weights that a run starts from, kept in its folder: who moves or deletes the originals breaks no run.

<workdir>/published/ is laid out as a pipeline, with SLUL beside it:

    transformer/ transformer_2/ vae/ text_encoder/ tokenizer/ image_encoder/ image_processor/   as diffusers names them
    slul/          config.json, its weights, spiece.model
    kept.json      the key of the config -> the folder that it named when this was written

Files are hard links where the file system allows them, and take no room then; else copies.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from signer_jax import mirror, object_store, outside, storage
from signer_jax.errors import SignerError
from signer_jax.interop import state_dict, wan
from signer_jax.interop.importing import SETTINGS, SPIECE
from signer_jax.interop.model_config import plain_inside
from signer_jax.json_files import CONFIG, read_json
from signer_jax.progress import progress
from signer_jax.renderer.variants import VARIANTS
from signer_jax.settings import Settings, flatten

NAME, KIND = "published", "copy of the weights that a run starts from"
_NOTE = "kept.json"
# The key of a config, and where what it names lies in `published`; "" is the folder itself, which is a pipeline's.
_PLACES = {
    "slul.init": "slul", "tokenizer.path": f"slul/{SPIECE}", "vae.init": "vae", "renderer.init": "",
    "renderer.text_encoder": "text_encoder", "renderer.image_encoder": "image_encoder",
}  # fmt: skip
_BESIDE = {"text_encoder": ("tokenizer",), "image_encoder": ("image_processor", "feature_extractor")}
_PIECE = 1 << 24  # bytes
_GIVE = "give the file itself"


def local(settings: Settings, workdir: Path) -> Settings:
    """The settings, with the folders of `<workdir>/published` in place of those that it was made from.

    A run of before it was kept, or a key that names another folder now, stays as it is; what lies in a bucket is a copy
    on this machine then. Raises `SignerError` where what is kept is damaged.
    """
    kept, flat = workdir / NAME, flatten(settings)
    storage.recover(kept)
    note = _note(kept) if storage.files_of(kept) else {}  # none, or somebody else's, which no run is claimed over
    given = {key: _at(kept, key) for key in _PLACES if key in note and note[key] == flat.get(key)}
    for key in _PLACES.keys() - given.keys():
        if object_store.in_bucket(value := flat.get(key) or ""):
            given[key] = str(mirror.copied(value, f"config.{key}"))
    changed: dict[str, Any] = {}
    for key, value in given.items():
        section, name = key.split(".")
        changed[section] = replace(changed.get(section, getattr(settings, section)), **{name: value})
    return replace(settings, **changed)


def keep(settings: Settings, workdir: Path) -> str:
    """Writes `<workdir>/published` where there is something to keep and it is not there; what to say of it, or "".

    `settings` as the config has them.
    """
    kept, flat = workdir / NAME, flatten(settings)
    named = {key: flat[key] for key in _PLACES if flat.get(key)}
    storage.recover(kept)
    if not named or (storage.files_of(kept) and {key: _note(kept).get(key) for key in named} == named):
        return ""
    files = dict(_files(named, settings))
    size, linked = sum(source.stat().st_size for source in files.values()), 0
    with storage.new_folder(kept, KIND) as folder:
        with progress((), "published weights kept", total=size, unit="B", unit_scale=True) as bar:
            for name, source in files.items():
                linked += _placed(source, folder / name, bar)
        (folder / _NOTE).write_text(json.dumps(named, indent=1) + "\n", encoding="utf-8")
    copied = size - linked
    how = "linked to their files" if not copied else "copied" if not linked else f"{copied / 1e9:.2f} of them copied"
    return f"{kept}: keeps the published weights that this run starts from ({size / 1e9:.2f} GB, {how})"


def _note(kept: Path) -> dict[str, str]:
    """What is kept, by key. Raises `SignerError` for a folder that is damaged."""
    storage.check_folder(kept, KIND, storage.REMAKE, [_NOTE])
    try:
        note = read_json(kept / _NOTE, CONFIG)
    except (OSError, ValueError, RecursionError):
        note = None
    if not isinstance(note, dict) or not note.keys() <= _PLACES.keys():
        raise SignerError(f"{kept}: the {KIND} is damaged ({_NOTE} names no keys of a config); {storage.REMAKE}")
    return note


def _at(kept: Path, key: str) -> str:
    return str(kept / _PLACES[key])


def _files(named: dict[str, str], settings: Settings) -> Iterator[tuple[str, Path]]:
    """Where each file goes, and where it lies."""
    for key, value in named.items():
        path, place = mirror.copied(value, f"config.{key}"), _PLACES[key]
        if key == "tokenizer.path":
            yield place, outside.plain_file(path, "give a SentencePiece model")
            continue
        folders = {place: path}
        if key == "renderer.init":
            found = wan.folders_of(path, VARIANTS[settings.renderer.variant].experts)
            folders = dict(zip(wan.PIPELINE, found, strict=False))
        elif place in _BESIDE:
            folders = {place: path / place if (path / place).is_dir() else path}
        for name, folder in folders.items():
            for file in state_dict.files_of(folder):
                yield f"{name}/{file.name}", plain_inside(file, _GIVE)
            for beside in _BESIDE.get(name, ()):
                small = [folder.parent / beside / each for each in SETTINGS[beside]]
                yield from ((f"{beside}/{one.name}", plain_inside(one, _GIVE)) for one in small if one.exists())


def _placed(source: Path, target: Path, bar: Any) -> int:
    """Puts a file in its place; the bytes that are linked and not copied."""
    target.parent.mkdir(exist_ok=True)
    size = source.stat().st_size
    try:
        os.link(os.path.realpath(source), target)
        bar.update(size)
        return size
    except OSError:  # another file system, one without links, or a file of somebody else's
        pass
    with outside.reading(source, "give a smaller model"), source.open("rb") as file, target.open("wb") as out:
        while piece := file.read(_PIECE):
            out.write(piece)
            bar.update(len(piece))
    shutil.copymode(source, target)
    return 0
