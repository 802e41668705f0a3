"""A corpus by name -> its prepared folder. Done once a run; a folder that is there is used as it is."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from ml_collections import ConfigDict

from signer_jax.data import records
from signer_jax.errors import SignerError, closest
from signer_jax.types import Sample

CORPORA = ("builtin", "phoenix14t", "how2sign_clips")


def prepare(data: ConfigDict, seed: int, directory: Path) -> records.Corpus:
    """The corpus that `config.data` names, prepared under `directory`.

    Raises `SignerError` for an unknown corpus, or where the source lacks what the corpus needs.
    """
    if (directory / "corpus.json").exists():
        return records.Corpus(directory)
    about: dict = {"corpus": data.corpus, "size": data.size}
    splits: dict[str, Callable[[], Iterable[Sample]]]
    if data.corpus == "builtin":
        from signer_jax.data.builtin import corpus as builtin

        def made(split: str) -> Iterator[Sample]:
            look = {"seed": seed, "size": data.size, "fps": data.fps}
            counts = {kind: data[kind][split] for kind in ("sentences", "poses", "videos")}
            guests = 0 if split == "train" else data.guests
            return chain(builtin.samples(split, **counts, **look), builtin.guests(split, count=guests, **look))

        splits = {split: _of(made, split) for split in data.sentences}
        about["languages"] = dict(builtin.LANGUAGES)
    elif data.corpus == "phoenix14t":
        from signer_jax.data.corpora import phoenix14t

        source = _source(data)
        splits = {split: _of(phoenix14t.samples, source, split) for split in ("train", "dev")}
        about["languages"] = {"gsg": "German"}
    elif data.corpus == "how2sign_clips":
        from signer_jax.data.corpora import how2sign_clips

        source, fps = _source(data), data.fps or None
        splits = {
            split: _of(how2sign_clips.samples, source, split, size=data.size, fps=fps)
            for split in how2sign_clips.SPLITS
        }
        about["languages"] = {"ase": "English"}
    else:
        known = ", ".join(CORPORA)
        raise SignerError(
            f"config.data.corpus: unknown corpus {data.corpus!r}{closest(data.corpus, CORPORA)}; known: {known}"
        )
    return records.write(directory, splits, about)


def _source(data: ConfigDict) -> Path:
    if not data.source:
        raise SignerError(f"config.data.source is empty: give the {data.corpus} folder, --config.data.source=FOLDER")
    source = Path(data.source)
    if not source.is_dir():
        raise SignerError(f"config.data.source {source}: no such folder; give the {data.corpus} folder")
    return source


def _of(samples: Callable[..., Iterable[Sample]], *args: object, **options: object) -> Callable[[], Iterable[Sample]]:
    return lambda: samples(*args, **options)
