"""SentencePiece, or ByT5's bytes, around text and glosses: one vocabulary for both sides of SLUL.

Text is NFKC-normalised and lower-cased before it is encoded, glosses ("IX-1", "#A", "ES-BEDEUTET") are left as they
are, so upper case separates glosses from words inside one vocabulary. Quotes and dashes have one form each (`plain`),
and of punctuation only what the vocabulary has is read.
"""

import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from signer_jax import outside, storage
from signer_jax.errors import SignerError, closest, piled
from signer_jax.slul.byte_pieces import SENTINELS, BytePieces, says_bytes
from signer_jax.slul.merges import merged
from signer_jax.writing import plain

# T5's convention, which every published T5 vocabulary follows; the decoder starts with PAD.
PAD, EOS, UNKNOWN = 0, 1, 2
MASK = "<mask>"
OWN_MASK = 3  # its id in a vocabulary that `train` makes: the first symbol after these
_WORD_START = "\u2581"  # how SentencePiece writes the space in front of a word
_UNKNOWN_SURFACE = "\u2047"
_TAG = re.compile(r"\[([A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*)\]")
_SENTINEL = re.compile(r"<extra_id_(\d+)>")
_TRAINER, _NORMALISER = 2, 3  # what follows the pieces in a model file
_MOST_FINE = 1 << 14  # letters
_SENTINELS = 100  # T5 appends <extra_id_99> … <extra_id_0> to the vocabulary that its SentencePiece file holds


def normalise(text: str) -> str:
    """`plain`, lower case, single spaces: what `encode_source` encodes."""
    return " ".join(plain(text).lower().split())


_PUNCTUATION = re.compile(r"[.,;:!?\u00bf\u00a1\"()]|(?<!\w)['-]|['-](?!\w)")
_OTHER_QUOTE = {"'": '"', '"': "'"}


def spaced(text: str) -> str:
    """Punctuation as words of its own, so that "house" and "house?" share their pieces; "don't" stays one word."""
    return " ".join(_PUNCTUATION.sub(r" \g<0> ", text).split())


# Unicode's blocks of ideographs.
_HAN = "[\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\U00020000-\\U0003ffff]"
_AROUND_HAN = re.compile(rf"(?={_HAN})|(?<={_HAN})(?=\S)")
_BETWEEN = "\x1f"  # pieces are learned on either side of it, never across; it is in none


def _han_apart(text: str) -> str:
    """Each ideograph between marks, from the space in front of it too: one piece, the same in texts and in glosses."""
    return _AROUND_HAN.sub(_BETWEEN, text)


def proto_fields(model: bytes) -> set[int]:
    """The numbers of a SentencePiece model's fields (protobuf; all are messages). Raises `ValueError` if it is none.

    The library reads a file that ends between two pieces as a smaller vocabulary.
    """
    place, found = 0, set()

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while place < len(model) and shift < 64:
            byte, place = model[place], place + 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
        raise ValueError("it is cut short")

    while place < len(model):
        key, length = varint(), varint()
        if key & 7 != 2 or length > len(model) - place:
            raise ValueError("it is cut short or of another kind")
        found.add(key >> 3)
        place += length
    return found


def _untrained(reason: str, vocab_size: int, whole: int) -> SignerError:
    """SentencePiece's reason, which names places in its source, in words of a config."""
    if needs := re.search(r"smaller than required_chars\. \d+ vs (\d+)", reason):
        glosses = f", {whole} of them whole glosses (config.tokenizer.whole_glosses)" if whole else ""
        return SignerError(
            f"config.tokenizer.vocab_size {vocab_size}: the characters of the training texts and the marks alone are "
            f"{needs[1]} pieces{glosses}; give at least that, and some hundreds more for whole words"
        )
    if "sentences_.empty()" in reason:
        return SignerError("tokenizer: the training texts hold no word; give a corpus with texts and glosses")
    reason = re.sub(r"^[A-Z_]+: |\S+\.cc\(\d+\) |\[[^]]*\] ?", "", reason)[:200].rstrip(". ")
    return SignerError(
        f"tokenizer: no vocabulary of config.tokenizer.vocab_size {vocab_size} can be made ({reason}); check the "
        "training texts, or change that size"
    )


class Tokenizer:
    """Text and glosses to ids and back. `vocab_size` counts every id that can occur (T5's sentinels included)."""

    def __init__(self, model: bytes, mask: str = MASK) -> None:
        self._bytes = says_bytes(model)
        self._pieces: Any = BytePieces() if self._bytes else sentencepiece.SentencePieceProcessor(model_proto=model)
        size = self._pieces.get_piece_size()
        names = [self._pieces.id_to_piece(i) for i in range(size)]
        if any(map(piled, names)):
            raise SignerError("tokenizer: a piece piles more than 30 marks on a letter; give another vocabulary")
        ids = {name: i for i, name in enumerate(names)}
        self.vocab_size = size
        if mask in ids or _WORD_START + mask in ids:
            self.mask_id = ids.get(mask, ids.get(_WORD_START + mask, UNKNOWN))
        elif self._bytes and (sentinel := _SENTINEL.fullmatch(mask)) and int(sentinel[1]) < SENTINELS:
            self.vocab_size = size + SENTINELS
            self.mask_id = size + int(sentinel[1])  # they go up, where T5's go down
        elif not self._bytes and (sentinel := _SENTINEL.fullmatch(mask)) and int(sentinel[1]) < _SENTINELS:
            self.vocab_size = size + _SENTINELS
            self.mask_id = self.vocab_size - 1 - int(sentinel[1])
        else:
            raise SignerError(f"tokenizer: the vocabulary has no piece {mask!r}; give mask='<extra_id_0>' for a T5 one")
        # Only a vocabulary of our own has tags as single pieces; a published one spells them out.
        own = MASK in ids
        self._tags = {match[1]: i for name, i in ids.items() if own and (match := _TAG.fullmatch(name))}
        self._own = own
        self._fine = set[str]()  # letters that `_legible` found it could leave
        self._hidden = {PAD, EOS, self.mask_id, *self._tags.values()}
        self._starts = {i for i, name in enumerate(names) if name.startswith(_WORD_START)}
        first = self._first_learned() if own else 0
        self._learned = {name: i for name, i in ids.items() if own and i >= first}  # joins and letters, in their order

    def _first_learned(self) -> int:
        """Of a vocabulary of our own the id of the first join: the last of score 0, which the pieces that we named have
        too.
        """
        return max(i for i in range(self._pieces.get_piece_size()) if not self._pieces.get_score(i))

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        path: str | Path,
        vocab_size: int,
        languages: Sequence[str],
        *,
        glosses: Iterable[Sequence[str]],
        whole: int = 0,
    ) -> "Tokenizer":
        """Trains a byte-pair vocabulary on `texts` (normalised here) and `glosses` (as they are); writes it to `path`.

        The same input gives the same bytes (one thread, no sampling). `vocab_size` is an upper limit: a small corpus
        gives fewer pieces. `languages` are IANA codes; each becomes the single piece `[code]`. An ideograph is a piece
        of its own, as in BERT (Devlin et al. 2019): texts that are written without spaces and their glosses would else
        be joined to different pieces. With `whole`, a gloss
        that occurs at least so often is one piece, if it has a capital, which no text has.
        Raises `SignerError` where there is no text, or `vocab_size` is too small for the corpus' characters.
        """
        rows = [" ".join(row) for row in glosses]
        often = Counter(gloss for row in rows for gloss in row.split()) if whole else {}
        pieces = sorted(g for g, count in often.items() if count >= whole and g != g.lower())
        if whole and not pieces:
            raise SignerError(
                f"config.tokenizer.whole_glosses {whole}: no gloss with a capital occurs so often in training; lower "
                "it, or set it to 0"
            )

        def sentences() -> Iterator[str]:
            yield from filter(None, (_han_apart(spaced(normalise(text))) for text in texts))
            yield from filter(None, map(_han_apart, rows))

        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=sentences(),
                model_writer=model,
                # Byte pairs: on a small corpus they end in whole words, where the unigram model keeps splitting them.
                model_type="bpe",
                vocab_size=vocab_size,
                hard_vocab_limit=False,
                character_coverage=1.0,
                normalization_rule_name="identity",
                # A gloss such as "IX-1" or "#A" may be one piece: shorter targets.
                split_by_unicode_script=False,
                split_by_number=False,
                pad_id=PAD,
                eos_id=EOS,
                unk_id=UNKNOWN,
                bos_id=-1,
                unk_surface=_UNKNOWN_SURFACE,
                pretokenization_delimiter=_BETWEEN,
                user_defined_symbols=[
                    MASK,
                    *(f"[{code}]" for code in languages),
                    *(_WORD_START + gloss for gloss in pieces),
                ],
                required_chars="".join(sorted(set("".join(pieces)))),  # of other glosses that have them
                max_sentence_length=1 << 16,
                num_threads=1,
                minloglevel=3,
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise _untrained(" ".join(str(error).split()), vocab_size, len(pieces)) from None
        tokenizer = cls(model.getvalue())
        storage.write_file(path, model.getvalue())
        return tokenizer

    @classmethod
    def load(cls, path: str | Path, mask: str = MASK) -> "Tokenizer":
        """Reads a SentencePiece model, or the `tokenizer_config.json` of a ByT5. `mask` names the piece that serves as
        SAGM's mask.

        Published T5 vocabularies have no `<mask>`: give `"<extra_id_0>"`. It is looked up in the file and, where the
        file lacks it, counted as T5 does: the last of 100 ids behind the file's pieces.
        Raises `SignerError` where the file is missing, is no SentencePiece model, has no such piece, or another
        convention than T5's for padding, end and unknown.
        """
        path = outside.plain_file(path, "give the SentencePiece .model file")
        with outside.reading(path, "give the whole .model file"):
            data = path.read_bytes()
            try:
                if not says_bytes(data) and not proto_fields(data) >= {_TRAINER, _NORMALISER}:
                    raise ValueError("its end is missing")
                tokenizer = cls(data, mask)
            except SignerError as error:
                raise SignerError(f"{path}: {error}") from None
            except (RuntimeError, ValueError, IndexError) as error:
                reason = outside.reason_of(error)[:120]
                raise SignerError(f"{path}: not a SentencePiece model ({reason}); give the whole .model file") from None
        pieces = tokenizer._pieces
        if (pieces.pad_id(), pieces.eos_id(), pieces.unk_id()) != (PAD, EOS, UNKNOWN):
            raise SignerError(f"{path}: its padding, end and unknown pieces are not 0, 1 and 2; give a T5 vocabulary")
        return tokenizer

    @property
    def languages(self) -> tuple[str, ...]:
        """The sign languages that have a tag of their own; empty for published vocabularies, which spell tags out."""
        return tuple(self._tags)

    @property
    def eos_id(self) -> int:
        return EOS

    @property
    def pad_id(self) -> int:
        return PAD

    @property
    def gloss_ids(self) -> list[bool]:
        """Which of the `vocab_size` ids may stand in a gloss sequence: all but pad, unknown, mask, tags, sentinels.

        Eos is among them. As an array, this is the `allowed` of `signer_jax.slul.decoding`.
        """
        size = self._pieces.get_piece_size()
        barred = (self._hidden - {EOS}) | {UNKNOWN}
        return [i < size and i not in barred for i in range(self.vocab_size)]

    def encode_source(
        self, text: str, language: str, dropout: float = 0.0, rng: np.random.Generator | None = None
    ) -> list[int]:
        """`[language] text` and eos (PAPER 2.2). Raises `SignerError` for a language without a tag.

        With `dropout` and `rng` a vocabulary of our own reads it with `merges.merged`, in other pieces every time.
        """
        if language in self._tags:
            legible = self._legible(spaced(normalise(text)))
            ids = self._encode(legible) if rng is None or not dropout else self._split(legible, dropout, rng)
            return [self._tags[language], *ids, EOS]
        if self._own:
            known = ", ".join(self._tags)
            raise SignerError(f"language: {language!r} has no tag{closest(language, self._tags)}; known: {known}")
        return [*self._encode(f"[{language}] {self._legible(normalise(text))}"), EOS]

    def cut(self, ids: Sequence[int], length: int) -> list[int]:
        """`encode_source`'s or `encode_gloss`'s ids, where they are more than `length` cut behind a whole word or
        gloss, the eos kept: a model that is taught sequences without an end would not end its own.

        A first word that is longer than all of it is cut inside.
        """
        if len(ids) <= length:
            return list(ids)
        # The word that does not fit begins at the last start among the ids up to the one in eos's place.
        first = 2 if ids[0] in self._hidden else 1  # a tag is no word
        ends = [i for i in range(first, length) if ids[i] in self._starts]
        return [*ids[: ends[-1] if ends else length - 1], EOS]

    def encode_gloss(self, glosses: Sequence[str]) -> list[int]:
        """The glosses, separated by spaces, and eos. Raises `SignerError` for a gloss that is empty or has a space."""
        for gloss in glosses:
            if gloss.split() != [gloss]:
                raise SignerError(f"gloss {gloss!r}: empty or with a space inside; join its words with '-'")
        # Each gloss begins with its space, the first too, as SentencePiece has it by itself: what follows a gloss
        # does not depend on where it stands.
        text = " ".join(glosses)
        return [*self._encode(f" {text}" if self._bytes and text else text), EOS]

    def decode_gloss(self, ids: Iterable[int]) -> tuple[str, ...]:
        """The glosses up to the first eos; pad, mask and tags are dropped, an unknown character reads "⁇"."""
        kept: list[int] = []
        for i in map(int, ids):
            if i == EOS:
                break
            if i not in self._hidden and i < self._pieces.get_piece_size():
                kept.append(i)
        return tuple(self._pieces.decode(kept).split())

    def gloss_index(self, ids: Iterable[int]) -> list[int]:
        """For each id, which gloss of `decode_gloss(ids)` it belongs to; -1 for eos, pad and whatever follows eos."""
        index, current, ended = [], -1, False
        for i in map(int, ids):
            ended = ended or i == EOS
            if ended or i in self._hidden:
                index.append(-1)
                continue
            # A sequence that a model made up may begin in the middle of a word.
            current += i in self._starts or current < 0
            index.append(current)
        return index

    def gloss_target(self, glosses: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """The decoder's target `[length]` int32, `cut` or padded, and the gloss that each of its tokens belongs to (-1:
        none).
        """
        target, belongs = np.zeros(length, np.int32), np.full(length, -1, np.int32)
        ids = self.cut(self.encode_gloss(glosses), length) if glosses else []
        target[: len(ids)], belongs[: len(ids)] = ids, self.gloss_index(ids)
        return target, belongs

    def unknown_fraction(self, text: str) -> float:
        """The share of `text`'s characters (spaces aside) that the vocabulary does not know, 0 … 1."""
        pieces = self._pieces.encode(spaced(normalise(text)), out_type=str)
        lengths = [(len(piece.replace(_WORD_START, "")), self._pieces.piece_to_id(piece)) for piece in pieces]
        total = sum(length for length, _ in lengths)
        return sum(length for length, i in lengths if i == UNKNOWN) / total if total else 0.0

    def _legible(self, text: str) -> str:
        """The text with a quote that the vocabulary lacks written as the other one, without other marks that it lacks:
        an unknown piece around a known word would make the model read something else.
        """
        for mark in set(text) - self._fine:
            if unicodedata.category(mark)[0] != "P" or self._knows(mark):
                if len(self._fine) < _MOST_FINE:
                    self._fine.add(mark)
                continue
            other = _OTHER_QUOTE.get(mark, " ")
            text = text.replace(mark, other if self._knows(other) else " ")
        return " ".join(text.split())

    def _knows(self, letter: str) -> bool:
        return UNKNOWN not in self._encode(letter)

    def _split(self, text: str, dropout: float, rng: np.random.Generator) -> list[int]:
        words = (merged(_WORD_START + word, self._learned.get, dropout, rng) for word in text.split())
        return [self._learned.get(piece, UNKNOWN) for word in words for piece in word]

    def _encode(self, text: str) -> list[int]:
        return self._pieces.encode(text) if text else []
