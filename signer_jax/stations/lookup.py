"""Without a model: text -> pose, words straight from a pose database."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby

from signer_jax.errors import SignerError
from signer_jax.language import choose_language
from signer_jax.pose import fluent
from signer_jax.pose.gloss_marks import is_mark
from signer_jax.pose.letters import spell
from signer_jax.pose.lookup import Found, find
from signer_jax.pose.lookup import look_up as look_up_words
from signer_jax.pose.prior import Prior
from signer_jax.pose.stitching import steady_all
from signer_jax.types import Pose, Signed
from signer_jax.writing import plain

_PUNCTUATION = ".,;:!?'\""  # of ASCII's, what is no mark of a gloss
_WORD = re.compile(r"<[^<>\s][^<>]*>|\[[^\[\]]*\]|\{[^{}]*\}|\S+")  # a mark of the face may have spaces: [head nod]


def words_of(text: str) -> tuple[str, ...]:
    """The words and glosses of a text, without the punctuation around them; the brackets of `(2h)HOUSE` stay."""
    return tuple(word for found in _WORD.findall(plain(text)) if (word := _bare(found)))


def _bare(found: str) -> str:
    word = _stripped(found)
    if is_mark(word) and word.strip("()"):
        return word
    if word.count("(") != word.count(")") or re.fullmatch(r"\([^()]*\)", word):
        word = word.strip("()")
    return _stripped(word)


def _stripped(word: str) -> str:
    """Without the punctuation around it, of any script."""
    start, end = 0, len(word)
    while start < end and _is_punctuation(word[start]):
        start += 1
    while start < end and _is_punctuation(word[end - 1]):
        end -= 1
    return word[start:end]


def _is_punctuation(character: str) -> bool:
    return character in _PUNCTUATION or (not character.isascii() and unicodedata.category(character)[0] == "P")


def look_up(text: str, language: str | None, prior: Prior, manner: fluent.Manner) -> Signed:
    """Each word of a text as the database has it, or fingerspelled, joined in a `manner`. No video.

    Raises `SignerError` for an empty text, an ambiguous language, or where nothing could be found.
    """
    words = words_of(text)
    if not words:
        raise SignerError("the text is empty; give at least one word")

    def count(code: str) -> tuple[int, ...]:
        """How many words have signs of the language itself, of one that stands in, and are spelled."""
        counts = [0, 0, 0]
        for found in find(words, code, prior):
            if found.entries:
                own = all(entry.language == code for entry in found.entries)
                counts[2 if found.spelled else int(not own)] += len(found.word.split())
        return tuple(counts)

    known = prior.spoken
    if language is not None:  # one that has no signs of its own, where it is asked for
        known = dict.fromkeys(prior.fallbacks, "") | known
    asked, (language, said) = language, choose_language(language, known, count)
    every = look_up_words(words, language, prior)
    remarks = [line for line in (said, *dict.fromkeys(found.said for found in every)) if line]
    entries = [entry for found in every for entry in found.entries]
    if len(signers := sorted({entry.signer for entry in entries if entry.signer})) > 1:
        remarks.append(f"signed by {len(signers)} signers: {', '.join(signers)}")
    if not entries:
        shown = " ".join(words)[:200]
        where = "" if asked is None else f" for language {language}"
        raise SignerError(f"{shown}: the prior has neither the words nor their letters{where} ({every[0].said})")
    signs, spelled_ones = zip(*_shown(every, prior.poses(entries)), strict=True)
    pose = fluent.sentence(signs, spelled_ones, manner)
    spelled = [found.word for found in every if found.spelled]
    skipped = [found.word for found in every if not (found.entries or found.mark)]
    glosses = tuple(entry.gloss for entry in entries)
    ways = [(found.word, found.how) for found in every]
    return Signed(glosses, pose, None, spelled, skipped, language, remarks=remarks, found=ways)


def _shown(every: Sequence[Found], poses: Sequence[Pose]) -> Iterator[tuple[Pose, bool]]:
    """The signs of all words, and whether each is spelled: the letters that spell a word, or a part of it, are one.
    Each is steadied before, for where a letter begins and ends is told by the hand that is seen throughout.
    """
    signs = iter(steady_all(poses, [None] * len(poses)))
    for found in every:
        for _, places in groupby(range(len(found.entries)), key=found.group):
            own = [next(signs) for _ in places]
            spelled = found.spelled or len(own) > 1
            yield (spell(own)[0] if spelled else own[0], spelled)
