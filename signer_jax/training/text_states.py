"""Texts as a published model reads them: the states of its pipeline's text encoder, computed once and kept.

UMT5-XXL's encoder has 5.7 billion parameters, so it is there for as long as it takes to encode some texts, and its
memory is given back. `<workdir>/text_states` holds the states of each training video's text and of the negative prompt
(ArrayRecord, trimmed to the true rows, float32 whatever the run computes in), under the hash of the encoder's files and
what its weights were rounded to; the texts beside them are as many as a corpus has videos, and lie as bytes.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from signer_jax import storage
from signer_jax.arrays import read_npz
from signer_jax.data.shards import BROKEN, Parts, Shard, open_parts, pack, unpack
from signer_jax.errors import SignerError
from signer_jax.interop import prompts, state_dict, t5
from signer_jax.interop.importing import TOKENIZER
from signer_jax.interop.names import FLOAT32, held_as, inside
from signer_jax.json_files import CONFIG, read_json
from signer_jax.progress import progress
from signer_jax.renderer import text_encoder
from signer_jax.renderer.exact import exact
from signer_jax.training import base, begun, encodings, partitioning, precision
from signer_jax.training.published import hash_of, hashed

KIND = "cache of text states"
KEY = "config.renderer.text_encoder"
_DTYPE = "float32"
_BATCH = 8  # prompts
_PART = 128  # groups of texts a part (`begun`): about 1,000 texts, some minutes of an accelerator at most
_SHORTEST = 16  # rows that are encoded at least: few lengths are compiled

States = Float[np.ndarray, "n d"]  # of one text, its end token among the rows


@dataclass(frozen=True)
class TextEncoder:
    """Where a text encoder and its tokenizer lie, and what the video transformer takes of it."""

    encoder: Path
    tokenizer: Path
    width: int
    rows: int
    dtype: str = ""  # that its weights lie in; "": that of its files, which changes nothing

    @classmethod
    def at(cls, path: str, width: int, rows: int, dtype: str = "") -> "TextEncoder":
        """Of a pipeline's folder, or of its `text_encoder/` with `tokenizer/` beside it.

        Raises `SignerError` where one of them is missing, or the encoder's states have another width than `width`.
        Weights are not read.
        """
        encoder = Path(path) / "text_encoder" if (Path(path) / "text_encoder").is_dir() else Path(path)
        tokenizer = encoder.absolute().parent / "tokenizer"
        t5.check_width(encoder, width)
        if not tokenizer.is_dir():
            raise SignerError(
                f"{KEY} {path}: there is no folder {tokenizer}; give a pipeline's folder, or its text_encoder with the "
                "tokenizer beside it"
            )
        return cls(encoder, tokenizer, width, rows, dtype)

    def check(self) -> None:
        """Raises `SignerError` unless both folders are whole; no weights are read."""
        described = t5.describe_encoder(self.encoder, width=self.width)
        described.check()
        prompts.load_tokenizer(self.tokenizer, vocab_size=described.module.vocab_size)

    def kind(self, path: str, stored: np.dtype) -> np.dtype:
        """The type in which a parameter lies (`names.Kind`); float32 is computed in."""
        return held_as(path, np.dtype(self.dtype)) if self.dtype else stored

    def rounded(self) -> str:
        """ "bfloat16" where weights that are stored in float32 are rounded to it, which changes the states; else ""."""
        if self.dtype != "bfloat16":
            return ""
        stored = t5.describe_encoder(self.encoder, width=self.width).stored()
        changed = (self.kind(path, kind) != kind for path, kind in stored.items() if kind == FLOAT32)
        return self.dtype if any(changed) else ""

    def hash(self) -> str:
        """Of the bytes of both folders."""
        return hashed(self.encoder, self.tokenizer)

    def kept_hash(self) -> str:
        """Of the files that a run keeps of both: the same of a pipeline and of the run's copy of it."""
        small = (self.tokenizer / name for name in TOKENIZER)
        return hash_of([*state_dict.files_of(self.encoder), *(file for file in small if file.exists())])

    def files(self) -> list[dict[str, list[int]]]:
        """Of both folders (`base.noted`)."""
        return base.noted(self.encoder, self.tokenizer)

    def is_of(self, states: "TextStates") -> bool:
        """Whether the states are this encoder's; its gigabytes are read where its files are not those of then."""
        return states.width == self.width and base.same(states.files, states.source, self.encoder, self.tokenizer)


class Read(NamedTuple):
    """Texts in pieces, and in which order, and which of them together, they are encoded."""

    pieces: int  # that the tokenizer has
    ids: np.ndarray  # [texts, rows]
    mask: np.ndarray
    lengths: list[int]  # that each is padded to
    groups: list[list[int]]  # places of the texts; short ones come first

    @classmethod
    def of(cls, source: TextEncoder, texts: Sequence[str]) -> "Read":
        tokenizer = prompts.load_tokenizer(source.tokenizer)
        read = tokenizer.batch(texts, source.rows)
        # The length that a text is padded to is its own, so that its states do not depend on what is encoded beside it.
        lengths = [
            min(source.rows, max(_SHORTEST, 1 << (int(count) - 1).bit_length())) for count in read.mask.sum(axis=1)
        ]
        groups: list[list[int]] = []
        for i in sorted(range(len(texts)), key=lambda i: lengths[i]):
            if groups and len(groups[-1]) < _BATCH and lengths[groups[-1][0]] == lengths[i]:
                groups[-1].append(i)
            else:
                groups.append([i])
        return cls(tokenizer.vocab_size, read.ids, read.mask, lengths, groups)


def encode(
    source: TextEncoder, texts: Sequence[str], mesh: Mesh, *, groups: slice = slice(None), read: Read | None = None
) -> Generator[tuple[str, States], None, None]:
    """Each text with its states, float32, as many rows as it has pieces; the encoder is read for this and freed after.

    Short texts come first. `mesh` is this process's own (`partitioning.own_mesh`). A text of more than `source.rows`
    pieces is cut, as published pipelines do. `read`: the texts, where they are read already; of its groups only
    these `groups` are encoded. Raises `SignerError` where the folders do not hold what they should.
    """
    read = read or Read.of(source, texts)
    place = inside(partitioning.placing(mesh), "text_encoder")
    module, params = t5.load_encoder(source.encoder, width=source.width, place=place, kind=source.kind)
    if read.pieces > module.vocab_size:
        partitioning.free(params)
        raise SignerError(
            f"{source.tokenizer}: has {read.pieces} ids, its text encoder {module.vocab_size}; give the "
            "tokenizer and the text_encoder of one pipeline"
        )
    counts = read.mask.sum(axis=1)
    states = jax.jit(exact(partitioning.laid_out(text_encoder.states, mesh)), static_argnums=0)
    try:
        for part in progress(read.groups[groups], "texts encoded", shown=len(read.groups) > 1):
            at = np.array([*part, *part[-1:] * (_BATCH - len(part))])  # the last one fills the batch
            length = read.lengths[part[0]]
            rows = np.asarray(states(module, params, read.ids[at, :length], read.mask[at, :length]))
            yield from ((texts[i], rows[k, : counts[i]].copy()) for k, i in enumerate(part))
    finally:
        partitioning.free(params)


# ---- On disk ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextStates:
    """What `<workdir>/text_states` holds."""

    directory: Path
    source: str  # the hash of the encoder
    rounded: str  # what its weights were rounded to (`TextEncoder.rounded`)
    precision: str  # of the products; "": not noted, of a folder of before
    width: int
    places: dict[str, int]  # text -> its record
    shard: Shard | Parts
    files: Any = None  # of the encoder, as they were then (`base.noted`)

    @classmethod
    def open(cls, directory: Path) -> "TextStates":
        """Raises `SignerError` where the folder is missing, is none of ours, or is damaged."""
        storage.check_folder(directory, KIND, storage.REMAKE, ("about.json", "texts.npz", "states.arrayrecord"))
        try:
            about = read_json(directory / "about.json", CONFIG)
            source, width = str(about["encoder"]), about["width"]
            rounded = str(about["rounded"])
            noted = str(about.get("precision", ""))
            parts = about.get("parts", 1)
            if about["dtype"] != _DTYPE or type(width) is not int:
                raise ValueError("its dtype or width is none")
            if type(parts) is not int or parts < 1:
                raise ValueError("the number of its parts is none")
        except BROKEN as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise SignerError(f"{directory / 'about.json'}: is damaged ({reason}); {storage.REMAKE}") from None
        try:
            texts = _read_texts(directory / "texts.npz")
        except BROKEN as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise SignerError(f"{directory / 'texts.npz'}: is damaged ({reason}); {storage.REMAKE}") from None
        shard = open_parts(directory, "states", parts, lambda record: _decode(record, width), storage.REMAKE)
        if len(shard) != len(texts):
            raise SignerError(
                f"{directory}: the {KIND} is damaged ({len(shard)} records of {len(texts)} texts); {storage.REMAKE}"
            )
        return cls(
            directory,
            source,
            rounded,
            noted,
            width,
            {text: i for i, text in enumerate(texts)},
            shard,
            about.get("files"),
        )

    def of(self, text: str) -> States:
        """Raises `SignerError` for a text that is not there."""
        if text not in self.places:
            raise SignerError(f"{self.directory}: has no states of the text {text[:60]!r}; {storage.REMAKE}")
        return self.shard[self.places[text]]


def _save_texts(file: Path, texts: Sequence[str]) -> None:
    """UTF-8, one after the other, and where each of them ends."""
    data = [text.encode() for text in texts]
    ends = np.cumsum([len(one) for one in data], dtype=np.int64)
    np.savez(file, bytes=np.frombuffer(b"".join(data), np.uint8), ends=ends)


def _read_texts(file: Path) -> list[str]:
    """Raises `ValueError` for what is none."""
    arrays = read_npz(file)
    data, ends = arrays["bytes"], arrays["ends"]
    if data.dtype != np.uint8 or ends.dtype != np.int64 or data.ndim != 1 or ends.ndim != 1:
        raise ValueError("it holds no texts")
    starts = np.concatenate([[0], ends])
    if (np.diff(starts) < 0).any() or starts[-1] != len(data):
        raise ValueError("its texts do not end where they should")
    whole = data.tobytes()
    return [whole[start:end].decode() for start, end in pairwise(starts.tolist())]


def _decode(record: bytes, width: int) -> States:
    states = unpack(record)["states"]
    if not isinstance(states, np.ndarray) or states.dtype != np.float32 or states.ndim != 2:
        raise ValueError("its states are no float32 [n, d]")
    if states.shape[1] != width or not len(states) or not np.isfinite(states).all():
        raise ValueError(f"its states are {list(states.shape)} of width {width}, or not finite")
    return states


def prepare(
    directory: Path, source: TextEncoder, texts: Callable[[], Iterable[str]], mesh: Mesh, shared: str = ""
) -> TextStates:
    """The states of what `texts` gives, each once; a folder that is there is used as it is, and `texts` is not asked.
    After a kill the parts that were done are not encoded again, and several processes share the work (`begun`).

    `shared`: the folder that has them already (`encodings`), "" to encode here. Raises `SignerError` where it was
    encoded by another encoder.
    """
    if begun.there(directory):
        known = TextStates.open(directory)
        check_same(known, source)
        precision.check(directory, known.precision)
        return known
    asked = _asked(directory.name, source, texts)
    noted, digest, rounded, read = asked.files, asked.encoder, asked.rounded, asked.read
    files = encodings.parts(directory, _work(source, asked, mesh), shared)

    def whole() -> None:
        with storage.new_folder(directory, KIND) as partial:
            begun.take(files, partial, "states")
            _save_texts(partial / "texts.npz", [asked.texts[i] for group in read.groups for i in group])
            about = {
                "encoder": digest, "rounded": rounded, "dtype": _DTYPE, "precision": precision.PRECISION,
                "width": source.width, "parts": len(files), "files": noted,
            }  # fmt: skip
            (partial / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    begun.put_together(directory, whole)
    return TextStates.open(directory)


def work(source: TextEncoder, texts: Callable[[], Iterable[str]], mesh: Mesh) -> begun.Work:
    """Encoding what `texts` gives, each once."""
    return _work(source, _asked("text_states", source, texts), mesh)


class _Asked(NamedTuple):
    """What is encoded, and by what."""

    files: list[dict[str, list[int]]]
    encoder: str
    weights: str  # as `encoder`, of the files that a run keeps
    rounded: str
    texts: list[str]
    read: Read


def _asked(name: str, source: TextEncoder, texts: Callable[[], Iterable[str]]) -> _Asked:
    """The first process alone reads the weights for their hash, and the corpus for its texts."""
    files, encoder, weights, rounded, asked = begun.told(
        name, lambda: [source.files(), source.hash(), source.kept_hash(), source.rounded(), sorted(set(texts()))]
    )
    return _Asked(files, encoder, weights, rounded, asked, Read.of(source, asked))


def _work(source: TextEncoder, asked: _Asked, mesh: Mesh) -> begun.Work:
    read = asked.read
    parts = [read.groups[i : i + _PART] for i in range(0, len(read.groups), _PART)]
    counts = [sum(map(len, part)) for part in parts]

    def records(first: int, end: int) -> Generator[bytes, None, None]:
        ends = list(accumulate(counts, initial=0))
        groups = slice(_PART * ends.index(first), _PART * ends.index(end))
        for _, states in encode(source, asked.texts, mesh, groups=groups, read=read):
            yield pack({"states": states})

    key = {
        "encoder": asked.weights, "rounded": asked.rounded, "dtype": _DTYPE, "precision": precision.PRECISION,
        "rows": source.rows, "texts": hashlib.sha256(json.dumps(asked.texts).encode()).hexdigest(),
    }  # fmt: skip
    return begun.Work(key, counts, records, compressed=False)


def check_same(states: TextStates, source: TextEncoder) -> None:
    """Raises `SignerError` where the states are not this encoder's, or its weights were rounded otherwise."""
    if not source.is_of(states):
        raise SignerError(
            f"{states.directory}: was encoded by another text encoder than {KEY} {source.encoder}; {storage.REMAKE}"
        )
    if states.rounded != (rounded := source.rounded()):
        was = f"rounded to {states.rounded}" if states.rounded else "as they are stored"
        now = f"rounds them to {rounded}" if rounded else "rounds none"
        raise SignerError(
            f"{states.directory}: was encoded with weights {was}, and config.renderer.dtype {source.dtype!r} {now}; "
            f"set that back, or {storage.REMAKE}"
        )
