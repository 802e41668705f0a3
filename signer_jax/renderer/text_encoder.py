"""Wan's prompts to the states that its cross attention reads: cleaning, UMT5's pieces, the encoder's rows.

Source: Wan 2.1 and 2.2 (`wan/modules/tokenizers.py`, `t5.py`) as diffusers 0.42 runs them (`pipeline_wan.py`:
`prompt_clean`, `_get_t5_prompt_embeds`). `interop.prompts` reads the tokenizer, `interop.t5.load_encoder` the encoder.
"""

import html
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ftfy
import jax
import jax.numpy as jnp
import numpy as np
import sentencepiece
from jaxtyping import Bool, Float, Int

from signer_jax.slul.t5 import T5

ROWS = 512  # what every published Wan was trained on
_WORD_START = "\u2581"
_UNKNOWN_PENALTY = 10.0  # below the lowest score of the vocabulary


def clean(prompt: str) -> str:
    """A prompt as Wan reads it: ftfy's `fix_text` (mojibake, curly quotes, ligatures, widths, NFC), HTML's entities
    undone twice, each run of white space one space.

    Case and language stay. diffusers leaves ftfy out where it is not installed; Wan itself never does.
    """
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(prompt))).split())


class Prompts(NamedTuple):
    ids: Int[np.ndarray, "b s"]  # int32, padded
    mask: Bool[np.ndarray, "b s"]  # where there is text, its end included
    cut: Int[np.ndarray, "b"]  # pieces that found no place


class PromptTokenizer:
    """A T5 vocabulary that reads prompts as its original's fast tokenizer does (the unigram model of `tokenizers`).

    SentencePiece's own search adds scores in float32 over the whole text, the fast one in float64 word by word, so that
    "000" falls apart as 0 + 00 in the one and 00 + 0 in the other; and SentencePiece spells characters that the
    vocabulary lacks in bytes, where the fast one makes one unknown piece of a run. Wan was trained with the fast one.

    `pieces` are the texts and scores by id, `unknown` is the id of the unknown piece. `special` are the texts that
    stand for an id of their own wherever they occur (`</s>`, `<extra_id_0>`). With `bytes_kept`, what the vocabulary
    lacks is spelled in pieces `<0x00>` … all the same. `vocab_size` counts every id that can occur.
    """

    def __init__(
        self, pieces: Sequence[tuple[str, float]], unknown: int, special: Mapping[str, int],
        normaliser: sentencepiece.SentencePieceNormalizer, *, bytes_kept: bool = False,
    ) -> None:  # fmt: skip
        self._pieces = {text: (i, score) for i, (text, score) in enumerate(pieces) if text}
        self._longest = max(map(len, self._pieces))
        self._unknown = unknown
        self._unknown_score = min(score for _, score in pieces) - _UNKNOWN_PENALTY
        self._special = dict(special)
        self._normaliser = normaliser
        self._bytes_kept = bytes_kept
        longest_first = sorted(self._special, key=len, reverse=True)
        self._split = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.pad_id, self.eos_id = self._special["<pad>"], self._special["</s>"]
        self.vocab_size = max(len(pieces), *(i + 1 for i in self._special.values()))

    def encode(self, prompt: str) -> list[int]:
        """The ids of a prompt, cleaned here, and the end's id; as many as there are."""
        ids: list[int] = []
        place, text = 0, clean(prompt)
        for found in self._split.finditer(text):
            ids += [*self._text(text[place : found.start()]), self._special[found[0]]]
            place = found.end()
        return [*ids, *self._text(text[place:]), self.eos_id]

    def batch(self, prompts: Sequence[str], rows: int = ROWS) -> Prompts:
        """The prompts' ids in `rows` places each. One that is longer keeps its first rows - 1 and the end."""
        encoded = [self.encode(prompt) for prompt in prompts]
        ids = np.full((len(encoded), rows), self.pad_id, np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, one in enumerate(encoded):
            kept = one if len(one) <= rows else [*one[: rows - 1], self.eos_id]
            ids[row, : len(kept)], mask[row, : len(kept)] = kept, True
        return Prompts(ids, mask, np.array([max(len(one) - rows, 0) for one in encoded], np.int32))

    def _text(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in self._normaliser.normalize(text).split():
            marked = word if word.startswith(_WORD_START) else _WORD_START + word
            for part in re.findall(f"{_WORD_START}[^{_WORD_START}]*", marked):
                ids += self._word(part)
        return ids

    def _word(self, word: str) -> list[int]:
        """The pieces with the largest sum of scores; of equal sums the one whose last piece is longest."""
        total = [0.0] + [-math.inf] * len(word)  # by place in the word: the best sum of what ends there,
        last: list[tuple[int, int | None]] = [(0, None)] * len(total)  # and its last piece's start and id
        for start in range(len(word)):
            for end in range(start + 1, min(start + self._longest, len(word)) + 1):
                i, score = self._pieces.get(word[start:end], (None, self._unknown_score))
                if (i is not None or end == start + 1) and total[start] + score > total[end]:
                    total[end], last[end] = total[start] + score, (start, i)
        found: list[tuple[int | None, str]] = []
        end = len(word)
        while end:
            start, i = last[end]
            run = i is None and found and found[-1][0] is None
            found[len(found) - bool(run) :] = [(i, word[start:end] + (found[-1][1] if run else ""))]
            end = start
        return [one for i, text in reversed(found) for one in ([i] if i is not None else self._unknown_ids(text))]

    def _unknown_ids(self, text: str) -> list[int]:
        spelled = [self._pieces.get(f"<0x{byte:02X}>", (self._unknown, 0))[0] for byte in text.encode()]
        return spelled if self._bytes_kept and self._unknown not in spelled else [self._unknown]


def states(
    encoder: T5, params: dict, ids: Int[jax.Array, "b s"], mask: Bool[jax.Array, "b s"]
) -> Float[jax.Array, "b s d"]:
    """What the video transformer reads: the encoder's states `[b, s, d]` in its dtype, exact zeros where `mask` is not.

    The transformer attends to all rows, without a mask: it was trained on these zeros.
    """
    H: Any = encoder.apply({"params": params}, ids, mask, method=T5.encode)
    return jnp.where(mask[..., None], H, 0)
