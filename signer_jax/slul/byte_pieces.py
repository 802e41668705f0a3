"""ByT5's vocabulary: the bytes of UTF-8 behind three special ids, and 125 sentinels (transformers 5,
`models/byt5/tokenization_byt5.py`). It has no file; a published folder says so in its `tokenizer_config.json`.
"""

from collections.abc import Iterable
from typing import Any

from signer_jax.json_files import CONFIG, parse_json

SENTINELS = 125
_SPECIAL = ("<pad>", "</s>", "<unk>")
_SPACE = "\u2581"  # as SentencePiece writes it


def says_bytes(data: bytes) -> bool:
    """Whether a file is the `tokenizer_config.json` of a ByT5."""
    if data.lstrip()[:1] != b"{":
        return False
    try:
        about = parse_json(data, CONFIG)
    except (ValueError, RecursionError):
        return False
    return isinstance(about, dict) and about.get("tokenizer_class") == "ByT5Tokenizer"


class BytePieces:
    """What `Tokenizer` asks of a SentencePiece model, of bytes: each is a piece, and none is unknown."""

    def get_piece_size(self) -> int:
        return len(_SPECIAL) + 256

    def id_to_piece(self, i: int) -> str:
        if i < len(_SPECIAL):
            return _SPECIAL[i]
        return _SPACE if i == len(_SPECIAL) + ord(" ") else chr(i - len(_SPECIAL))

    def piece_to_id(self, piece: str) -> int:
        return len(_SPECIAL) + (ord(" ") if piece == _SPACE else ord(piece))

    def encode(self, text: str, out_type: type = int) -> list[Any]:
        ids = [byte + len(_SPECIAL) for byte in text.encode()]
        return ids if out_type is int else [self.id_to_piece(i) for i in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Bytes that are no UTF-8 read as U+FFFD."""
        return bytes(i - len(_SPECIAL) for i in ids if i >= len(_SPECIAL)).decode(errors="replace")

    def pad_id(self) -> int:
        return 0

    def eos_id(self) -> int:
        return 1

    def unk_id(self) -> int:
        return 2
