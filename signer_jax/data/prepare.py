"""A corpus by name -> its prepared folder. Done once a run; a folder that is there is used as it is."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from signer_jax import mirror, object_store, storage
from signer_jax.data import records
from signer_jax.data.prepared import reading
from signer_jax.errors import SignerError, closest
from signer_jax.settings import CORPORA, Data
from signer_jax.types import Sample

_LARGE = {"how2sign_clips": "how2sign", "openvid": "openvid"}  # corpora of videos -> what `signer prepare` calls them
_Splits = dict[str, Callable[[], Iterable[Sample]]]
_Read = tuple[_Splits, dict[str, Any]]


def check(data: Data, directory: Path, *, anew: bool = False) -> None:
    """Raises `SignerError` where `prepare` would find no corpus of this name, or no source, to prepare from.

    `anew`: whether a folder that is there will have been removed by then.
    """
    if data.corpus not in CORPORA:
        raise SignerError(
            f"config.data.corpus: unknown corpus {data.corpus!r}{closest(data.corpus, CORPORA)}; "
            f"known: {', '.join(CORPORA)}"
        )
    if data.other_sizes and data.corpus != "openvid":
        raise SignerError(
            f"config.data.other_sizes {','.join(data.other_sizes)}: the videos of {data.corpus} all have "
            "config.data.size; leave it ()"
        )
    if data.weights and data.corpus != reading.NAME:
        raise SignerError(f"config.data.weights: are of prepared sets, and {data.corpus} is one corpus; leave it ()")
    if data.encoded and mirror.empty(mirror.set_of(data.encoded, "config.data.encoded")):
        lacks = "nothing is there" if object_store.in_bucket(data.encoded) else "no such folder on this machine"
        raise SignerError(
            f"config.data.encoded {data.encoded}: {lacks}; make it with `signer encode`, or leave it empty to encode "
            "in the run"
        )
    if data.corpus == "builtin":
        if data.source:
            raise SignerError(
                f"config.data.source {data.source}: the built-in corpus reads no folder; name the folder's corpus, "
                "--config.data.corpus=phoenix14t, how2sign_clips, openvid or prepared, or start from its config"
            )
    elif data.corpus == reading.NAME:
        sets = reading.sets_of(data.source)
        for one in sets:
            _check_outside(data.source, one.directory, directory)
        if data.weights and len(data.weights) != len(sets):
            raise SignerError(
                f"config.data.weights: gives {len(data.weights)} weights for the {len(sets)} sets of "
                "config.data.source; give each one, in their order"
            )
    elif anew or not _prepared(directory):
        _source(data, directory, copy=False)
        if data.corpus == "openvid" and not data.fps:
            raise SignerError(
                "config.data.fps 0: videos of openvid have rates of their own; name one that all are brought to, such "
                "as the 16 of published models"
            )


def advice(data: Data, directory: Path, processes: int) -> str:
    """What is said before the first of several processes prepares a corpus of videos alone; "" where none does."""
    dataset = _LARGE.get(data.corpus)
    if processes == 1 or dataset is None or _prepared(directory):
        return ""
    return (
        f"config.data.corpus {data.corpus!r}: the first of {processes} processes prepares it alone and the others wait;"
        f" of a large one make a set before, on any number of machines (`signer prepare {dataset} --source … --out DIR "
        "--shard I/N`), and give --config.data.corpus=prepared --config.data.source=DIR"
    )


def trains(data: Data) -> dict[str, bool]:
    """Whether the training split has `sentences`, `poses`, `videos`, as far as the settings say it: a stage needs some.

    Poses of real clips have no sentences, so that they are of no use to SLP-MoE.
    """
    if data.corpus == "builtin":
        sentences = data.sentences.train > 0
        poses = sentences and data.poses.train > 0
        return {"sentences": sentences, "poses": poses, "videos": poses and data.videos.train > 0}
    if data.corpus == reading.NAME and data.source:
        return reading.trains(data.source, data.glosses_by)
    filmed = data.corpus in ("how2sign_clips", "openvid", reading.NAME)
    return {"sentences": data.corpus == "phoenix14t", "poses": False, "videos": filmed}


def why_none(data: Data, kind: str) -> str:
    """What is known of why a training split has none of a kind (`trains`); "" where nothing is."""
    prepared = data.corpus == reading.NAME and data.source
    return reading.untaught(data.source, data.glosses_by) if prepared and kind == "sentences" else ""


def posed(data: Data) -> bool:
    """Whether the corpus's videos have poses beside them."""
    if data.corpus == reading.NAME and data.source:
        return reading.posed(data.source)
    return data.corpus != "openvid"


def video_sizes(data: Data) -> list[tuple[int, int]]:
    """The heights and widths that the corpus's videos may have, `data.size` first."""
    others = (tuple(map(int, text.split("x"))) for text in data.other_sizes)
    return list(dict.fromkeys((data.size, *((height, width) for height, width in others))))


def _prepared(directory: Path) -> bool:
    storage.recover(directory)
    return directory.exists() and any(directory.iterdir())


def prepare(data: Data, seed: int, directory: Path) -> records.Corpus:
    """The corpus that `config.data` names, prepared under `directory`.

    Raises `SignerError` for an unknown corpus, or where the source lacks what the corpus needs.
    """
    check(data, directory)
    if _prepared(directory):
        return reading.opened(directory, data.decode_processes)
    if data.corpus == reading.NAME:
        reading.write(directory, data.source, fps=data.fps, size=data.size, glosses_by=data.glosses_by)
        return reading.opened(directory, data.decode_processes)
    splits, about = _READERS[data.corpus](data, seed, directory)
    return records.write(directory, splits, {"corpus": data.corpus, "size": data.size, **about})


# ---- What each corpus reads, and what is said of it ------------------------------------------------------------------


def _builtin(data: Data, seed: int, directory: Path) -> _Read:
    from signer_jax.data.builtin import corpus as builtin

    wanted = {"sentences": vars(data.sentences), "poses": vars(data.poses), "videos": vars(data.videos)}

    def made(split: str) -> Iterator[Sample]:
        look: dict[str, Any] = {"seed": seed, "size": data.size, "fps": data.fps or builtin.FPS}
        counts = {kind: numbers[split] for kind, numbers in wanted.items()}
        guests = 0 if split == "train" else data.guests
        return chain(builtin.samples(split, **counts, **look), builtin.guests(split, count=guests, **look))

    return {split: _of(made, split) for split in wanted["sentences"]}, {"languages": dict(builtin.LANGUAGES)}


def _phoenix14t(data: Data, seed: int, directory: Path) -> _Read:
    from signer_jax.data.corpora import phoenix14t

    source = _source(data, directory)
    splits = {split: _of(phoenix14t.samples, source, split) for split in phoenix14t.splits(source)}
    return splits, {"languages": {"gsg": "German"}}


def _openvid(data: Data, seed: int, directory: Path) -> _Read:
    from signer_jax.data.corpora import openvid

    sizes = video_sizes(data)
    how = {"sizes": sizes, "fps": data.fps, "crop": data.crop, "enlarge": data.enlarge}
    several = {"sizes": sizes} if len(sizes) > 1 else {}
    splits: _Splits = {"train": _of(openvid.samples, _source(data, directory), **how), "dev": list, "test": list}
    return splits, {"languages": {}, "fps": data.fps, **several}


def _how2sign_clips(data: Data, seed: int, directory: Path) -> _Read:
    from signer_jax.data.corpora import how2sign_clips

    source, how = _source(data, directory), {"size": data.size, "fps": data.fps or None}
    splits = {split: _of(how2sign_clips.samples, source, split, **how) for split in how2sign_clips.SPLITS}
    return splits, {"languages": {"ase": "English"}}


_READERS: dict[str, Callable[[Data, int, Path], _Read]] = {
    "builtin": _builtin, "phoenix14t": _phoenix14t, "openvid": _openvid, "how2sign_clips": _how2sign_clips,
}  # fmt: skip


def _source(data: Data, directory: Path, *, copy: bool = True) -> Path:
    """The source's folder, of one in a bucket a copy; without `copy` it is only looked whether there is something."""
    if not data.source:
        raise SignerError(f"config.data.source is empty: give the {data.corpus} folder, --config.data.source=FOLDER")
    run = mirror.place_of(directory.parent)
    inside = run is not None and f"{data.source}/".startswith(f"{run.object()}/")
    if object_store.in_bucket(data.source) and not (copy or inside):
        object_store.look(data.source, "config.data.source")
        return Path()
    source = Path() if inside else mirror.copied(data.source, "config.data.source")
    if not source.is_dir():
        raise SignerError(f"config.data.source {source}: no such folder; give the {data.corpus} folder")
    _check_outside(data.source, source, directory, inside=inside)
    return source


def _check_outside(named: str, source: Path, directory: Path, *, inside: bool = False) -> None:
    lies, run = mirror.place_of(source), mirror.place_of(directory.parent)
    inside = inside or bool(lies and run and f"{lies.object()}/".startswith(f"{run.object()}/"))
    if inside or source.resolve().is_relative_to(directory.parent.resolve()):
        raise SignerError(
            f"config.data.source {named}: lies inside --workdir {directory.parent}, which the run writes; "
            "choose a --workdir outside of it"
        )


def _of(samples: Callable[..., Iterable[Sample]], *args: object, **options: object) -> Callable[[], Iterable[Sample]]:
    return lambda: samples(*args, **options)
