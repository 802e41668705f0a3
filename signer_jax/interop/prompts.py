"""The tokenizer folder of a diffusers pipeline (`tokenizer/`: UMT5's vocabulary) as a `PromptTokenizer`.

`tokenizer.json`, which transformers reads first and its release 5 writes alone, holds the vocabulary with its scores,
and the table of its normaliser, which SentencePiece runs. Where it is missing both come from `spiece.model`.

The unknown piece is the file's own (3 in UMT5's vocabulary, where 2 is `<s>`), as Wan was trained with; transformers 5
takes 2 for any T5 tokenizer.
"""

import base64
import math
from pathlib import Path
from typing import Any

import sentencepiece

from signer_jax import outside
from signer_jax.errors import MOST_MARKS, SignerError, piled
from signer_jax.interop import model_config
from signer_jax.json_files import LISTS
from signer_jax.renderer.text_encoder import PromptTokenizer
from signer_jax.slul.tokenizer import proto_fields

_JSON, _MODEL, _SETTINGS = "tokenizer.json", "spiece.model", "tokenizer_config.json"
_FOLDER = "a T5 tokenizer's folder (a diffusers pipeline's tokenizer)"
_AGAIN = "download it again"
_MOST_PIECES = 10_000_000
_MOST_ADDED = 10_000
_LONGEST_PIECE = 128  # characters; SentencePiece trains none beyond 16 unless it is told to
# sentencepiece_model.proto: fields of a model, and of its normaliser.
_TRAINER, _NORMALISER, _CHARSMAP = 2, 3, 2


def load_tokenizer(path: str | Path, *, vocab_size: int | None = None) -> PromptTokenizer:
    """The tokenizer of a folder that a T5 tokenizer's `save_pretrained` wrote.

    `vocab_size` is the number of ids that the encoder has. Raises `SignerError` where the folder holds neither file, a
    damaged one, another kind of tokenizer, or ids that the encoder lacks.
    """
    folder = Path(path)
    with outside.reading(folder, _AGAIN):
        if (folder / _JSON).exists():
            tokenizer = _from_json(folder / _JSON)
        elif (folder / _MODEL).exists():
            tokenizer = _from_model(folder / _MODEL)
        else:
            raise SignerError(f"{folder}: holds neither {_JSON} nor {_MODEL}; give {_FOLDER}")
    if vocab_size is not None and tokenizer.vocab_size > vocab_size:
        raise SignerError(
            f"{folder}: has {tokenizer.vocab_size} ids, its text encoder {vocab_size}; give the tokenizer and the "
            "text_encoder of one pipeline"
        )
    return tokenizer


def _unreadable(file: Path, reason: str) -> SignerError:
    return SignerError(f"{file}: cannot be read ({reason[:120]}); {_AGAIN}")


def _from_model(file: Path) -> PromptTokenizer:
    data = model_config.plain_inside(file, f"give {_FOLDER}").read_bytes()
    try:
        if not proto_fields(data) >= {_TRAINER, _NORMALISER}:
            raise ValueError("its end is missing")
        model = sentencepiece.SentencePieceProcessor(model_proto=data)
        size = model.get_piece_size()
        pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(size)]
    except (RuntimeError, ValueError) as error:  # UTF-8 that is none, among them
        raise _unreadable(file, outside.reason_of(error)) from None
    if not all(_is_text(text) and math.isfinite(score) for text, score in pieces):
        raise _unreadable(file, f"a piece is empty, longer than {_LONGEST_PIECE} characters or piles marks")
    special = {text: i for i, (text, _) in enumerate(pieces) if model.is_control(i) or model.is_unknown(i)}
    # What T5's tokenizer class adds behind the model's pieces.
    beside = file.with_name(_SETTINGS)
    config = model_config.read_json(beside, _FOLDER) if beside.exists() else {}
    extra = config.get("extra_ids", 100)
    if isinstance(extra, bool) or not isinstance(extra, int) or not 0 <= extra <= 10_000:
        raise SignerError(f"{beside}: extra_ids is {str(extra)[:60]}, it must be a whole number; {_AGAIN}")
    special |= {f"<extra_id_{i}>": size + extra - 1 - i for i in range(extra)}
    _check_ends(file, special)
    return PromptTokenizer(pieces, model.unk_id(), special, _normaliser(file, data))


def _from_json(file: Path) -> PromptTokenizer:
    found = model_config.read_json(file, f"give {_FOLDER}", LISTS)
    model = found.get("model")
    if not isinstance(model, dict) or model.get("type", "Unigram") != "Unigram":
        kind = model.get("type") if isinstance(model, dict) else model
        raise SignerError(f"{file}: holds a {str(kind)[:40]} tokenizer, T5's is a Unigram one; give {_FOLDER}")
    vocabulary, unknown = model.get("vocab"), model.get("unk_id")
    if (
        not isinstance(vocabulary, list)
        or not 0 < len(vocabulary) <= _MOST_PIECES
        or not all(map(_is_piece, vocabulary))
    ):
        raise SignerError(f"{file}: its vocabulary is no list of pieces and scores; {_AGAIN}")
    if isinstance(unknown, bool) or not isinstance(unknown, int) or not 0 <= unknown < len(vocabulary):
        raise SignerError(f"{file}: its vocabulary names no unknown piece; {_AGAIN}")
    special: dict[str, int] = {}
    added = found.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > _MOST_ADDED:
        raise SignerError(f"{file}: its added_tokens are no list of at most {_MOST_ADDED}; {_AGAIN}")
    for token in added:
        content, i = (token.get("content"), token.get("id")) if isinstance(token, dict) else (None, None)
        if not isinstance(content, str) or not _is_text(content) or type(i) is not int or not 0 <= i < _MOST_PIECES:
            raise SignerError(f"{file}: has an added token without text or id; {_AGAIN}")
        special[content] = i
    for step in _steps(file, found.get("pre_tokenizer"), "pretokenizers"):
        if step.get("type") not in ("WhitespaceSplit", "Metaspace"):
            raise SignerError(f"{file}: cuts text by {str(step.get('type'))[:40]}, which T5 does not; give {_FOLDER}")
    _check_ends(file, special)
    normaliser = _normaliser(file, _record(_NORMALISER, _record(_CHARSMAP, _charsmap(file, found.get("normalizer")))))
    pieces = [(text, float(score)) for text, score in vocabulary]
    return PromptTokenizer(pieces, unknown, special, normaliser, bytes_kept=bool(model.get("byte_fallback", False)))


def _check_ends(file: Path, special: dict[str, int]) -> None:
    if missing := [name for name in ("<pad>", "</s>") if name not in special]:
        raise SignerError(f"{file}: has no special token {missing[0]}; give {_FOLDER}")


def _is_piece(entry: Any) -> bool:
    return (
        isinstance(entry, list) and len(entry) == 2 and _is_text(entry[0])
        and isinstance(entry[1], int | float) and abs(entry[1]) < 1e30
    )  # fmt: skip


def _is_text(piece: Any) -> bool:
    """Whether it can be a piece's text: the time of a word grows with the longest one."""
    if not isinstance(piece, str) or not 0 < len(piece) <= _LONGEST_PIECE:
        return False
    return len(piece) <= MOST_MARKS or not piled(piece)


def _steps(file: Path, value: Any, name: str) -> list[dict]:
    """A normaliser or a pre-tokenizer as the list of its steps."""
    if value is None:
        return []
    steps = value.get(name) if isinstance(value, dict) and value.get("type") == "Sequence" else [value]
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise _unreadable(file, f"its {name} are no list")
    return steps


def _charsmap(file: Path, normalizer: Any) -> bytes:
    """The normaliser's table. Steps that only tidy spaces are SentencePiece's own habit."""
    table = b""
    for step in _steps(file, normalizer, "normalizers"):
        tidies = step.get("type") == "Replace" and not str(step.get("content")).strip("\u2581 ")
        if step.get("type") == "Precompiled":
            try:
                table = base64.b64decode(str(step.get("precompiled_charsmap")), validate=True)
            except ValueError as error:  # letters that are none, among them
                raise _unreadable(file, f"its normaliser's table is damaged, {error}") from None
        elif step.get("type") != "Strip" and not tidies:
            raise SignerError(f"{file}: normalises by {str(step.get('type'))[:40]}, which T5 does not; give {_FOLDER}")
    return table


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _record(field: int, value: bytes) -> bytes:
    """A field of bytes in protobuf's form."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _normaliser(file: Path, model: bytes) -> sentencepiece.SentencePieceNormalizer:
    try:
        # The tokenizer cuts words itself.
        return sentencepiece.SentencePieceNormalizer(
            model_proto=model, add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False
        )
    except (RuntimeError, ValueError) as error:
        raise _unreadable(file, outside.reason_of(error)) from None
